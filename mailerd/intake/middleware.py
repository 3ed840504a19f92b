"""The middleware around every endpoint: gives a request its id and its log line, and makes every failure an answer."""

from contextvars import ContextVar
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler

from mailerd.clock import Clock, new_id
from mailerd.core.texts import accepted_language
from mailerd.errors import DatabaseAwayError, DatabaseError, LostKeysError
from mailerd.events.intake import IntakeEvents
from mailerd.intake.auth import CALLER, raw_path
from mailerd.intake.client_address import ClientAddress, StrangerLog
from mailerd.intake.http_responses import (
    NOTHING_CHANGED,
    NOTHING_STORED,
    REQUEST,
    ApiError,
    UnreadError,
    away,
    cannot_render,
    error_response,
    too_large,
    with_headers,
    write_whole,
)
from mailerd.mail.templates import RendererError
from mailerd.store.db import error_codes
from mailerd.texts import speak

_BEGUN: Final = ContextVar[web.StreamResponse | None]("begun")
"""The answer to this request, once its headers are being written; None before that."""
PROBES: Final = ("/health/", "/metrics")
"""Paths that are requested every few seconds: logged at the level debug."""
_PACKET: Final = 1153
_FULL: Final = "the database's disk or a table is full: its operator has to free some space; nothing was stored"
_SCHEMA: Final = "the database's schema is not the one that this mailerd needs: run `mailerd migrate`"
_DENIED: Final = (
    "the database refuses it: GRANT ALL PRIVILEGES ON the database.* TO the user of database.url; "
    "nothing was stored, try again"
)
_REMEDIES: Final = {
    1146: _SCHEMA,  # no such table
    1054: _SCHEMA,  # no such column
    1142: _DENIED,  # a privilege on a table is missing
    1143: _DENIED,  # on a column
}


def from_database_error(error: DatabaseError) -> ApiError | None:
    """A failure of the database as an answer; None when it is a bug of ours."""
    if error.errno == _PACKET:
        return too_large("the template or the variables are larger than the database takes (max_allowed_packet)")
    if remedy := _REMEDIES.get(error.errno):
        return away(remedy)
    if error.in_doubt:
        return away(
            "the database went away during COMMIT: it may have been done; ask, or try again, which does no harm"
        )
    if said := error_codes.no_writes(error.errno):
        return away(f"the database {said}; nothing was stored, try again")
    if isinstance(error, LostKeysError):
        return away(str(error))
    if isinstance(error, DatabaseAwayError):
        return away("the database is away; nothing was stored, try again")
    if error.retry:
        return away(_FULL if error.errno in error_codes.FULL else "the database is busy; nothing was stored, try again")
    return None


def for_request(request: web.Request, problem: ApiError) -> ApiError:
    """The error in the words that fit the request: a post has stored nothing, an action has changed nothing.

    The code that raises it reads a body or a parameter without knowing the endpoint.
    """
    said = {"GET": "", "HEAD": ""}.get(
        request.method, NOTHING_CHANGED if "id" in request.match_info else NOTHING_STORED
    )
    text = str(problem).replace(NOTHING_STORED, said)
    return ApiError(problem.status, problem.code, text, errors=problem.errors, retry_after=problem.retry_after)


def _from_http_error(error: web.HTTPException) -> ApiError:
    match error.status:
        case 404:
            return ApiError(404, "not_found", "there is nothing at this path")
        case 405:
            return ApiError(405, "method_not_allowed", f"this path takes {error.headers.get('Allow', '')}")
        case _:
            return ApiError(error.status, "bad_request", error.reason)


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
        _BEGUN.set(with_headers(response))

    @web.middleware
    async def answer(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Log the request, and turn every exception into an answer."""
        started = self._clock.monotonic()
        _begin(request)
        CALLER.set("")
        self._strangers.begin()
        _BEGUN.set(None)
        response = await self._run(request, handler)
        begun = _BEGUN.get()
        if begun is not None and begun is not response:
            # It broke half-way: another head would stand in the middle of its body. So the transfer breaks too.
            response = begun
            _abort(request)
        if not response.prepared:
            await self._write(request, response)
        self._log(request, response, ms=(self._clock.monotonic() - started) * 1000)
        return response

    async def on_expect(self, request: web.Request) -> web.Response | None:
        """Called by aiohttp for a request with `Expect`, before any middleware.

        100-continue is answered later, by whatever reads the body: so a 401 or a 413 comes before the body does.
        Anything else is refused (RFC 9110, section 10.1.1).
        """
        if request.headers.get("Expect", "").lower() == "100-continue":
            return None
        _begin(request)
        problem = ApiError(417, "expectation_failed", "the header Expect may say 100-continue only")
        if self._strangers.logs(self._client_address.address(request)):
            self._tell_refused(problem)
        return error_response(problem)

    async def _run(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """What the handler answers, or what its failure is answered with."""
        response: web.StreamResponse
        try:
            response = await handler(request)
        except ConnectionError as error:
            response = self._client_gone(request, error)
        except ApiError as problem:
            response = self._refuse(request, problem)
        except web.HTTPException as error:
            response = self._refuse(request, _from_http_error(error))
            if "Allow" in error.headers:
                response.headers["Allow"] = error.headers["Allow"]
        except DatabaseError as error:
            response = self._database_failed(request, error)
        except RendererError as error:
            response = self._refuse(request, cannot_render(error))
        except Exception as error:  # noqa: BLE001 - the log has its stack; the answer must not show it
            response = self._handle_bug(request, error)
        return response

    async def _write(self, request: web.Request, response: web.StreamResponse) -> None:
        try:
            await write_whole(response, request)
        except UnreadError as error:
            self._too_slow(request, str(error))
        except ConnectionError:
            return  # the client has gone; the request itself was carried out, and the log says so

    def _client_gone(self, request: web.Request, error: ConnectionError) -> web.StreamResponse:
        """The client has gone in the middle of a long answer, or does not read it: that is its right, and no bug."""
        begun = _BEGUN.get()
        if begun is None:
            return self._handle_bug(request, error)
        if isinstance(error, UnreadError):
            self._too_slow(request, str(error))
        return begun

    def _too_slow(self, request: web.Request, reason: str) -> None:
        if self._is_logged(request):
            self._events.connection_too_slow(address=self._client_address.address(request), reason=reason)
        _abort(request)

    def _log(self, request: web.Request, response: web.StreamResponse, *, ms: float) -> None:
        method, path, status, request_id = request.method, raw_path(request), response.status, REQUEST.get()
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
            caller=CALLER.get() or "anonymous",
            address=address,
            request=request_id,
        )

    def _refuse(self, request: web.Request, problem: ApiError) -> web.Response:
        problem = for_request(request, problem)
        if self._is_logged(request):
            self._tell_refused(problem)
        return error_response(problem)

    def _is_logged(self, request: web.Request) -> bool:
        return bool(CALLER.get()) or self._strangers.logs_request(self._client_address.address(request))

    def _tell_refused(self, problem: ApiError) -> None:
        self._events.request_refused(
            request=REQUEST.get(), status=problem.status, code=problem.code, reason=str(problem)
        )

    def _database_failed(self, request: web.Request, error: DatabaseError) -> web.Response:
        problem = from_database_error(error)
        if problem is None:
            return self._handle_bug(request, error)
        if self._is_logged(request):
            self._events.request_unserved(request=REQUEST.get(), cause=str(error))
        return error_response(for_request(request, problem))

    def _handle_bug(self, request: web.Request, error: BaseException) -> web.Response:
        self._events.request_failed(request=REQUEST.get(), method=request.method, path=raw_path(request), error=error)
        problem = ApiError(500, "internal", f"mailerd met a bug; its log tells of request {REQUEST.get()}")
        return error_response(problem)


def _begin(request: web.Request) -> None:
    """Give a request its id, and its answer the language that it asks for."""
    REQUEST.set(new_id())
    speak(accepted_language(request.headers.get("Accept-Language", "")))


def _abort(request: web.Request) -> None:
    """End the connection without another byte."""
    if request.transport is not None:
        request.transport.abort()
