"""What aiohttp answers by itself, before any middleware: bytes that are no HTTP are refused in our own shape."""

from typing import Final

from aiohttp import web
from aiohttp.http import HttpProcessingError

from mailerd.clock import new_id
from mailerd.intake.answers import refusal, signed
from mailerd.intake.overheard import reason_of
from mailerd.intake.problems import ProblemError

_SERVERS_OWN: Final = 500


class Listener(web.AppRunner):
    """aiohttp's runner of an application, whose connections refuse in our words."""

    async def _make_server(self) -> web.Server:
        made = await super()._make_server()
        return _Server(made.request_handler, request_factory=made.request_factory, **self._kwargs)


class _Server(web.Server):
    def __call__(self) -> web.RequestHandler:
        """One connection."""
        return _Connection(self, loop=self._loop, **self._kwargs)


class _Connection(web.RequestHandler):
    __slots__ = ()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = _SERVERS_OWN,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Aiohttp's own, which tells of it and raises ConnectionError where an answer has begun; then ours."""
        super().handle_error(request, status, exc, message)
        request_id = new_id()
        if status >= _SERVERS_OWN:
            problem = ProblemError(status, "internal", "mailerd met a bug; its log tells of it")
        else:
            why = reason_of(exc) if isinstance(exc, HttpProcessingError) else "nobody knows why"
            problem = ProblemError(status, "malformed_request", f"this is no HTTP that mailerd reads: {why}")
        response = signed(refusal(problem, request_id=request_id), request_id)
        response.force_close()
        return response
