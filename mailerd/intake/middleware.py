"""The middleware around every endpoint, and how answers are written: every failure becomes a status in one place."""

import asyncio
import json
from collections.abc import Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Final

from aiohttp import web
from aiohttp.typedefs import Handler

from mailerd.clock import Clock, new_id
from mailerd.errors import DatabaseAwayError, DatabaseError
from mailerd.events.intake import IntakeEvents
from mailerd.intake.auth import CALLER, spelled
from mailerd.intake.client_address import ClientAddress
from mailerd.intake.errors import (
    MAX_DETAILS,
    MAX_FIELD_PATH,
    NOTHING_CHANGED,
    NOTHING_STORED,
    RETRY_AFTER,
    ApiError,
    away,
    too_large,
)
from mailerd.intake.stranger_log import StrangerLog
from mailerd.mail.errors import RendererError
from mailerd.store.db import error_codes

REQUEST_ID: Final = "X-Request-Id"
REQUEST: Final = ContextVar[str]("request")
"""The id of the request that is being answered."""
WRITE_TIMEOUT: Final = 60.0
"""Seconds for a client to read its answer."""
_BEGUN: Final = ContextVar[web.StreamResponse | None]("begun")
"""The answer to this request whose head is written, or being written; None before that."""
PROBES: Final = ("/health/", "/metrics")
"""Paths that are asked for every few seconds: told at the level debug."""
MAX_MESSAGE: Final = 1_000
"""Characters of an error's message; each of its details has its own bound."""
_PACKET: Final = 1153
_SCHEMA: Final = frozenset({1146, 1054})  # no such table, no such column


class UnreadError(ConnectionError):
    """A client does not read its answer."""


_ENCODE: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def encoded(body: Mapping[str, Any]) -> str:
    """An answer's JSON."""
    return _ENCODE(body)


def json_size(value: object) -> int:
    """Bytes that a value takes in an answer."""
    return len(_ENCODE(value).encode("utf-8", "surrogatepass"))


def shortened(text: str, *, most: int) -> str:
    """A text's beginning that takes so many bytes in an answer at most."""
    text = text[:most]
    while (size := json_size(text)) > most:
        text = text[: len(text) * most // size - 1] if len(text) * most // size > 1 else ""
    return text


def json_response(
    body: Mapping[str, Any], *, status: int = 200, headers: Mapping[str, str] | None = None
) -> web.Response:
    """A JSON answer."""
    return web.Response(text=encoded(body), status=status, headers=headers, content_type="application/json")


async def write(response: web.StreamResponse, data: bytes, *, within: float | None = None) -> None:
    """Write a piece of a long answer within so many seconds (WRITE_TIMEOUT), which aiohttp by itself does not bound.

    Raises:
        UnreadError: the client takes nothing any more.
        ConnectionError: it has gone.
    """
    within = within or WRITE_TIMEOUT
    try:
        async with asyncio.timeout(within):
            await response.write(data)
    except TimeoutError:
        raise UnreadError(f"the answer was not read within {within:g} s") from None


def rfc3339(moment: datetime | None) -> str | None:
    """A time as the API shows it: UTC with a Z, microseconds only where there are any."""
    if moment is None:
        return None
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat() + "Z"


def error_response(problem: ApiError, *, request_id: str) -> web.Response:
    """A problem as an answer."""
    details = [
        {"field": fault.field[:MAX_FIELD_PATH], "message": fault.message} for fault in problem.errors[:MAX_DETAILS]
    ]
    error: dict[str, Any] = {"code": problem.code, "message": str(problem)[:MAX_MESSAGE], "details": details}
    if problem.status >= 500:  # noqa: PLR2004 - the servers' own errors begin there (RFC 9110, section 15.6)
        error["request_id"] = request_id
    headers = {} if problem.retry_after is None else {"Retry-After": str(problem.retry_after)}
    response = json_response({"error": error}, status=problem.status, headers=headers)
    if problem.status == 408:  # noqa: PLR2004 - the rest of the body may still come: nothing can follow it
        response.force_close()
    return response


def of_database(error: DatabaseError) -> ApiError | None:
    """A failure of the database as an answer; None when it is a bug of ours."""
    if error.errno == _PACKET:
        return too_large("the template or the variables are larger than the database takes (max_allowed_packet)")
    if error.errno in _SCHEMA:
        return away("the database's schema is not the one that this mailerd needs: run `mailerd migrate`")
    if error.in_doubt:
        return away(
            "the database went away during COMMIT: it may have been done; ask, or try again, which does no harm"
        )
    if said := error_codes.no_writes(error.errno):
        return away(f"the database {said}; nothing was stored, try again")
    if isinstance(error, DatabaseAwayError):
        return away("the database is away; nothing was stored, try again")
    if error.retry:
        return away("the database is busy; nothing was stored, try again")
    return None


def for_request(request: web.Request, problem: ApiError) -> ApiError:
    """The problem as this request's client understands it: only a post stores anything, a control changes something.

    Whoever reads a body or a parameter does not know what it is for.
    """
    said = {"GET": "", "HEAD": ""}.get(
        request.method, NOTHING_CHANGED if "id" in request.match_info else NOTHING_STORED
    )
    text = str(problem).replace(NOTHING_STORED, said)
    return ApiError(problem.status, problem.code, text, errors=problem.errors, retry_after=problem.retry_after)


def _of_http(error: web.HTTPException) -> ApiError:
    match error.status:
        case 404:
            return ApiError(404, "not_found", "there is nothing at this path")
        case 405:
            return ApiError(405, "method_not_allowed", f"this path takes {error.headers.get('Allow', '')}")
        case _:
            return ApiError(error.status, "bad_request", error.reason)


def with_headers[R: web.StreamResponse](response: R, request_id: str) -> R:
    """The answer with the headers that every answer has."""
    response.headers[REQUEST_ID] = request_id
    response.headers["Server"] = "mailerd"  # aiohttp's own names the versions of Python and of itself
    response.headers.setdefault("Cache-Control", "no-store")
    response.headers.setdefault("X-Content-Type-Options", "nosniff")
    return response


class ErrorMiddleware:
    """Gives every request an id and a log line, and turns every exception into an answer."""

    def __init__(
        self, *, client_address: ClientAddress, strangers: StrangerLog, events: IntakeEvents, clock: Clock
    ) -> None:
        self._client_address = client_address
        self._strangers = strangers
        self._events = events
        self._clock = clock

    async def on_prepare(self, _: web.Request, response: web.StreamResponse) -> None:
        """Called by aiohttp before the headers of an answer are written; after that there can be no other answer."""
        _BEGUN.set(with_headers(response, REQUEST.get()))

    @web.middleware
    async def answer(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Answer, whatever happens."""
        started, request_id = self._clock.monotonic(), new_id()
        REQUEST.set(request_id)
        CALLER.set("")
        self._strangers.begin()
        _BEGUN.set(None)
        response = await self._run(request, handler, request_id)
        begun = _BEGUN.get()
        if begun is not None and begun is not response:
            # It broke half-way: another head would stand in the middle of its body. So the transfer breaks too.
            response = begun
            _abort(request)
        if not response.prepared:
            await self._write(request, response)
        self._tell(request, response, ms=(self._clock.monotonic() - started) * 1000)
        return response

    async def on_expect(self, request: web.Request) -> web.Response | None:
        """Called by aiohttp for a request with `Expect`, before any middleware.

        100-continue is answered later, by whatever reads the body: so a 401 or a 413 comes before the body does.
        Anything else is refused (RFC 9110, section 10.1.1).
        """
        if request.headers.get("Expect", "").lower() == "100-continue":
            return None
        request_id = new_id()
        REQUEST.set(request_id)
        problem = ApiError(417, "expectation_failed", "the header Expect may say 100-continue only")
        if self._strangers.logs(self._client_address.address(request)):
            self._tell_refused(problem, request_id)
        return error_response(problem, request_id=request_id)

    async def _run(self, request: web.Request, handler: Handler, request_id: str) -> web.StreamResponse:
        """What the handler answers, or what its failure is answered with."""
        response: web.StreamResponse
        try:
            response = await handler(request)
        except ConnectionError as error:
            response = self._left(request, error)
        except ApiError as problem:
            response = self._refuse(request, problem, request_id)
        except web.HTTPException as error:
            response = self._refuse(request, _of_http(error), request_id)
            if "Allow" in error.headers:
                response.headers["Allow"] = error.headers["Allow"]
        except DatabaseError as error:
            response = self._unserved(request, error)
        except RendererError as error:
            text = f"{error}{NOTHING_STORED}"
            unavailable = ApiError(503, "renderer_unavailable", text, retry_after=RETRY_AFTER)
            response = self._refuse(request, unavailable, request_id)
        except Exception as error:  # noqa: BLE001 - told with its stack; the answer must not show it
            response = self._failed(request, error)
        return response

    async def _write(self, request: web.Request, response: web.StreamResponse) -> None:
        """Write the answer here, within a bound, which aiohttp by itself does not have."""
        try:
            async with asyncio.timeout(WRITE_TIMEOUT):
                await response.prepare(request)
                await response.write_eof()
        except TimeoutError:
            self._too_slow(request, f"the answer was not read within {WRITE_TIMEOUT:g} s")
        except ConnectionError:
            return  # the client has gone; the request itself was carried out, and is told as such

    def _left(self, request: web.Request, error: ConnectionError) -> web.StreamResponse:
        """The client has gone in the middle of a long answer, or does not read it: that is its right, and no bug."""
        begun = _BEGUN.get()
        if begun is None:
            return self._failed(request, error)
        if isinstance(error, UnreadError):
            self._too_slow(request, str(error))
        return begun

    def _too_slow(self, request: web.Request, reason: str) -> None:
        self._events.connection_too_slow(address=self._client_address.address(request), reason=reason)
        _abort(request)

    def _tell(self, request: web.Request, response: web.StreamResponse, *, ms: float) -> None:
        method, path, status, request_id = request.method, spelled(request), response.status, REQUEST.get()
        if path.startswith(PROBES):
            self._events.probe_answered(method=method, path=path, status=status, ms=ms, request=request_id)
            return
        address = self._client_address.address(request)
        if not self._is_logged(request):
            self._events.stranger_answered(
                method=method, path=path, status=status, ms=ms, address=address, request=request_id
            )
            return
        self._events.request_answered(
            method=method,
            path=path,
            status=status,
            ms=ms,
            size=response.body_length if response.prepared else 0,
            caller=CALLER.get() or "nobody",
            address=address,
            request=request_id,
        )

    def _refuse(self, request: web.Request, problem: ApiError, request_id: str) -> web.Response:
        problem = for_request(request, problem)
        if self._is_logged(request):
            self._tell_refused(problem, request_id)
        return error_response(problem, request_id=request_id)

    def _is_logged(self, request: web.Request) -> bool:
        return bool(CALLER.get()) or self._strangers.logs_request(self._client_address.address(request))

    def _tell_refused(self, problem: ApiError, request_id: str) -> None:
        self._events.request_refused(request=request_id, status=problem.status, code=problem.code, reason=str(problem))

    def _unserved(self, request: web.Request, error: DatabaseError) -> web.Response:
        problem = of_database(error)
        if problem is None:
            return self._failed(request, error)
        if self._is_logged(request):
            self._events.request_unserved(request=REQUEST.get(), cause=str(error))
        return error_response(for_request(request, problem), request_id=REQUEST.get())

    def _failed(self, request: web.Request, error: BaseException) -> web.Response:
        self._events.request_failed(request=REQUEST.get(), method=request.method, path=spelled(request), error=error)
        problem = ApiError(500, "internal", f"mailerd met a bug; its log tells of request {REQUEST.get()}")
        return error_response(problem, request_id=REQUEST.get())


def _abort(request: web.Request) -> None:
    """End the connection without another byte."""
    if request.transport is not None:
        request.transport.abort()
