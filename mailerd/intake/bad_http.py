"""What aiohttp answers by itself, before any middleware, is refused in our own shape: bytes that are no HTTP."""

from collections.abc import Awaitable, Callable
from typing import Any, Final, override

from aiohttp import web
from aiohttp.http import HttpProcessingError

from mailerd.clock import new_id
from mailerd.intake.errors import ApiError
from mailerd.intake.middleware import error_response, with_headers
from mailerd.intake.server_log import reason_of

_SERVERS_OWN: Final = 500
_CONTINUE: Final = "100-continue"


class Listener(web.AppRunner):
    """aiohttp's runner of an application, whose connections refuse in our words.

    `on_expect` answers what nobody can do: an `Expect` of anything but 100-continue (RFC 9110, section 10.1.1).
    """

    def __init__(
        self,
        application: web.Application,
        *,
        on_expect: Callable[[web.BaseRequest], web.StreamResponse],
        **options: Any,
    ) -> None:
        super().__init__(application, **options)
        self._on_expect = on_expect

    @override
    async def _make_server(self) -> web.Server:
        made = await super()._make_server()
        handler = self._refusing(made.request_handler)
        return _Server(handler, request_factory=made.request_factory, **self._kwargs)

    def _refusing(self, handler: Callable[[Any], Awaitable[web.StreamResponse]]) -> Any:
        async def handle(request: web.BaseRequest) -> web.StreamResponse:
            # aiohttp's own refusal repeats the header, and breaks where that is no text.
            if request.headers.get("Expect", _CONTINUE).lower() != _CONTINUE:
                return self._on_expect(request)
            return await handler(request)

        return handle


class _Server(web.Server):
    @override
    def __call__(self) -> web.RequestHandler:
        """One connection."""
        return _Connection(self, loop=self._loop, **self._kwargs)


class _Connection(web.RequestHandler):
    __slots__ = ()

    @override
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
            problem = ApiError(status, "internal", "mailerd met a bug; its log tells of it")
        else:
            why = reason_of(exc) if isinstance(exc, HttpProcessingError) else "nobody knows why"
            problem = ApiError(status, "malformed_request", f"this is no HTTP that mailerd reads: {why}")
        response = with_headers(error_response(problem, request_id=request_id), request_id)
        response.force_close()
        return response
