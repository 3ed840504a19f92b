"""The server around every endpoint: who has a port, slow clients, its log, how it runs and ends,
ids and failures.
"""

import asyncio
import errno
import logging
import os
import re
import resource
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, nullcontext
from contextvars import Context, ContextVar
from typing import Final, Literal, override

from aiohttp import web
from aiohttp.http import HttpProcessingError
from aiohttp.typedefs import Handler

from mailerd.clock import Clock, new_id
from mailerd.core.i18n import Text, t
from mailerd.core.reading import outage_reason
from mailerd.errors import DatabaseAwayError, DatabaseError, ListenError, LostKeysError
from mailerd.events.intake import IntakeEvents
from mailerd.heartbeat import every
from mailerd.http.auth import CALLER, ApiKeyAuth, KeyHandler, KeyShare, StrangerLog, raw_path
from mailerd.http.errors import NOTHING_CHANGED, NOTHING_STORED, ApiError, unstored
from mailerd.http.requests import asked_language, check_media_type, refuse_parameters, wants_page
from mailerd.http.responses import (
    RATE_LIMIT,
    REQUEST,
    UnreadError,
    away,
    cannot_render,
    error_response,
    too_large,
    with_headers,
    write_whole,
)
from mailerd.locale import speak
from mailerd.mail.templates import RendererError
from mailerd.store.db import error_codes
from mailerd.store.write.api_keys import Permission

# Why a port cannot be had: the setting that names it, who has it, and what to do.

ANSWER_TIMEOUT: Final = 2.0
"""Seconds for the program that has the port to answer."""
SOCKET_UMASK: Final = 0o117
"""Owner and group may use the socket file, others may not."""


type Owner = Literal["mailerd", "other", "silent"]
"""Who listens; `silent`: it answers nothing."""


async def port_owner(host: str, port: int) -> Owner:
    """Who listens on a port that is in use."""
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - it is compared, nothing binds to it
    try:
        async with asyncio.timeout(ANSWER_TIMEOUT):
            return await _ask(*await asyncio.open_connection(reachable, port))
    except (OSError, TimeoutError):
        return "silent"


async def socket_owner(path: str) -> Owner | None:
    """Who listens on a socket file; None: no program, and what may lie there was left behind."""
    try:
        async with asyncio.timeout(ANSWER_TIMEOUT):
            streams = await asyncio.open_unix_connection(path)
            try:
                return await _ask(*streams)
            except OSError:
                return "silent"
    except TimeoutError:
        return "silent"
    except OSError:
        return None


async def _ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Owner:
    try:
        writer.write(b"GET /health/live HTTP/1.0\r\nHost: localhost\r\n\r\n")
        answer = await reader.read(4096)
    finally:
        writer.transport.abort()
    if not answer:
        return "silent"
    # others say that they are alive, too
    return "mailerd" if b"\r\nServer: mailerd\r\n" in answer else "other"


async def listen(
    runner: web.AppRunner, *, part: str, section: str, host: str, port: int, path: str = ""
) -> None:
    """Let `part` of the daemon listen on host and port of that section of the settings; the intake
    on a socket file.

    Raises:
        ListenError: it cannot.
    """
    # to listen there would take the file away, and that program not notice
    if path and await socket_owner(path):
        raise ListenError(
            t(
                "cannot listen on {path} (intake.unix_socket): another program is listening there, such as "
                "another mailerd; use that one, stop it, or choose another intake.unix_socket",
                path=path,
            )
        )
    before = os.umask(SOCKET_UMASK) if path else None
    try:
        await (web.UnixSite(runner, path) if path else web.TCPSite(runner, host, port)).start()
    except OSError as error:
        if path:
            why = error.strerror or error
            raise ListenError(
                t("cannot listen on {path}: {why}; change intake.unix_socket", path=path, why=why)
            ) from error
        raise await cannot_listen(
            error, part=part, section=section, host=host, port=port
        ) from error
    finally:
        if before is not None:
            os.umask(before)


async def cannot_listen(
    error: OSError, *, part: str, section: str, host: str, port: int
) -> ListenError:
    beginning = t(
        "{part} cannot listen on {host}:{port} ({section}.port)",
        part=part,
        host=host,
        port=port,
        section=section,
    )
    if error.errno != errno.EADDRINUSE:
        why = os.strerror(error.errno) if error.errno else error
        return ListenError(
            t(
                "{beginning}: {why}; correct {section}.host and {section}.port",
                beginning=beginning,
                why=why,
                section=section,
            )
        )
    if await port_owner(host, port) == "mailerd":
        return ListenError(
            t(
                "{beginning}: another mailerd is listening there; use that one, stop it, or choose another "
                "{section}.port",
                beginning=beginning,
                section=section,
            )
        )
    return ListenError(
        t(
            "{beginning}: another program is listening there; find it (`ss -ltnp sport = :{port}`), then stop"
            " it or choose another {section}.port",
            beginning=beginning,
            port=port,
            section=section,
        )
    )


# Closes connections that do not send a whole first request in time, or are too many; aiohttp bounds
# neither.

FIRST_REQUEST_TIMEOUT: Final = 20.0
"""Seconds from the connection to the end of its first request's headers.

Later requests: the keep-alive timeout.
"""

MAX_CONNECTIONS: Final = 1_000
"""Connections of one listener, or an eighth of the open files that the system allows, if it is
less: the daemon needs its files for Google. Beyond that, those of strangers are closed that ask
nothing, or whose bodies have not come: the longest first, and none that has begun since the last
look, since it may show its key in a moment. Then those that ask nothing and have shown a valid key
or session before. At twice as many, a stranger gets no such moment, and requests under way are
closed as well.
"""
STRANGER_REQUESTS: Final = 20
"""Requests that a stranger's connection may make between two looks at it; then it is closed.

A browser waits for answers; who sends hundreds of requests without waiting would keep everybody
else waiting.
"""
_INTERVAL: Final = 0.5
"""The most seconds between two looks at the connections; some thousands can come meanwhile."""

_Connection = web.RequestHandler


class SlowClientReaper:
    """Closes connections without a first request in time, and idle ones beyond
    `MAX_CONNECTIONS`.
    """

    def __init__(self, *, strangers: StrangerLog, clock: Clock) -> None:
        self.strangers: Final = strangers
        self._clock = clock
        self._since: dict[_Connection, tuple[web.Request | None, float]] = {}
        """Of strangers: the request under way, if there is one, and the look at which that was
        first seen.
        """
        self._have_asked: set[_Connection] = set()
        self._being_served: dict[_Connection, tuple[web.Request, Context]] = {}
        """By the connection: the request under way, and the context that says whose it is once its
        key is checked.
        """
        self._answered: Counter[_Connection] = Counter()
        """Requests of strangers since the last look, by their connection."""
        self._known: set[_Connection] = set()
        """Connections over which a valid key or session has come."""

    @web.middleware
    async def note_request(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Middleware: this connection has sent the headers of a request.

        It also gives other connections their turn: aiohttp would answer thousands of pipelined
        requests in one go.
        """
        self._have_asked.add(request.protocol)
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine runs in one
        self._being_served[request.protocol] = request, task.get_context()
        try:
            await asyncio.sleep(0)
            return await handler(request)
        finally:
            self._being_served.pop(request.protocol, None)
            if CALLER.get():
                self._known.add(request.protocol)

    async def on_prepare(self, request: web.Request, response: web.StreamResponse) -> None:
        """Called by aiohttp before the headers of an answer are written."""
        if not self._is_known(request.protocol):
            self._answered[request.protocol] += 1
            if self._answered[request.protocol] >= STRANGER_REQUESTS:
                response.force_close()
                response.headers["Connection"] = "close"

    async def run(self, connections: Callable[[], Sequence[_Connection]]) -> None:
        """Check the connections until cancelled."""
        interval = min(FIRST_REQUEST_TIMEOUT / 4, _INTERVAL)
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        most = (
            MAX_CONNECTIONS if files == resource.RLIM_INFINITY else min(MAX_CONNECTIONS, files // 8)
        )

        async def check_all() -> None:
            there = connections()
            self._answered.clear()
            self._have_asked.intersection_update(there)
            self._known.intersection_update(there)
            now = self._clock.monotonic()
            self._since = {
                each: self._seen(each, now) for each in there if not self._is_known(each)
            }
            for each in there:
                is_late = (
                    each in self._since
                    and now - self._since[each][1] > FIRST_REQUEST_TIMEOUT - interval
                )
                if is_late and each not in self._have_asked:
                    self._close(
                        each,
                        t(
                            "no complete request within {first_request_timeout:g} s",
                            first_request_timeout=FIRST_REQUEST_TIMEOUT,
                        ),
                    )
            served = sorted(
                (each for each in there if each in self._being_served), key=self._is_known
            )
            beyond = self._beyond(there, most, now)
            for each in beyond:
                asked = (
                    t("its request is incomplete")
                    if each in self._being_served
                    else t("it sent no request")
                )
                self._close(
                    each, t("more than {most:,} connections, and {asked}", most=most, asked=asked)
                )
            left = [each for each in served if each not in beyond]
            for each in left[: max(len(left) - 2 * most, 0)]:
                self._close(each, t("more than {it:,} requests in progress", it=2 * most))

        await every(interval, check_all, first_after=interval)

    def _seen(self, connection: _Connection, now: float) -> tuple[web.Request | None, float]:
        """What a stranger's connection is at, and since when; another request is another
        beginning.
        """
        request = self._being_served[connection][0] if connection in self._being_served else None
        before = self._since.get(connection)
        return before if before and before[0] is request else (request, now)

    def _beyond(self, there: Sequence[_Connection], most: int, now: float) -> list[_Connection]:
        """The connections that are too many: see MAX_CONNECTIONS."""
        waiting = [
            each
            for each in self._since
            if each not in self._being_served or not self._has_body(each)
        ]
        waiting.sort(key=lambda each: self._since[each][1])
        idle = [
            each for each in there if each not in self._since and each not in self._being_served
        ]
        without_grace = len(there) - 2 * most
        return [
            each
            for place, each in enumerate([*waiting, *idle][: max(len(there) - most, 0)])
            if place < without_grace or each not in self._since or self._since[each][1] < now
        ]

    def _is_known(self, connection: _Connection) -> bool:
        """Whether a valid key or session has come over it, be it with the request under way."""
        if connection in self._known:
            return True
        served = self._being_served.get(connection)
        caller: str | None = served[1].get(CALLER) if served else None
        return bool(caller)

    def _has_body(self, connection: _Connection) -> bool:
        return self._being_served[connection][0].content.is_eof()

    def _close(self, connection: _Connection, reason: str) -> None:
        if connection.transport is not None:
            peer = connection.transport.get_extra_info("peername")
            address = str(peer[0]) if isinstance(peer, tuple) else "unix"
            if self.strangers.logs(address):
                self.strangers.events.connection_too_slow(address=address, reason=reason)
            connection.transport.abort()


_MAX_REASON: Final = 200
_WHAT_WAS_SENT: Final = re.compile(r":?\s*\n|: b'|: bytearray\(")
"""Where aiohttp begins to quote the request, which may hold an API key."""


@contextmanager
def server_log(strangers: StrangerLog, *, name: str) -> Iterator[logging.Logger]:
    """The logger for aiohttp's server; while the context lasts, its records become events.

    `name`: one a listener.

    At the end it is said how many were left out.
    """
    log, logger = _ServerLog(strangers), logging.getLogger(name)
    logger.setLevel(logging.DEBUG)  # aiohttp reports bytes that are no HTTP at this level
    logger.propagate = False
    logger.addHandler(log)
    try:
        yield logger
    finally:
        logger.removeHandler(log)
        strangers.log_summary()


class _ServerLog(logging.Handler):
    def __init__(self, strangers: StrangerLog) -> None:
        super().__init__()
        self._strangers = strangers

    @override
    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, HttpProcessingError):
            address = str(
                (record.args[0] if isinstance(record.args, tuple) and record.args else None)
                or "unix"
            )
            if self._strangers.logs(address):
                self._strangers.events.request_malformed(address=address, reason=_reason(error))
        elif record.levelno >= logging.WARNING:
            what = record.getMessage()
            self._strangers.events.connection_failed(what=what, error=error or RuntimeError(what))


def _reason(error: HttpProcessingError) -> str:
    return (
        _WHAT_WAS_SENT.split(error.message.strip(), maxsplit=1)[0][:_MAX_REASON]
        or type(error).__name__
    )


KEEPALIVE_TIMEOUT: Final = 75.0
"""Seconds that an idle connection stays open: longer than the usual proxy keeps its end of it (60
s).
"""
GRACE: Final = 10.0
"""Seconds that requests under way get at a stop."""
_LINGER_SECONDS: Final = 0.3
"""Seconds between the end of listening and the closing of connections."""


@asynccontextmanager
async def running(
    application: web.Application, *, name: str, reaper: SlowClientReaper
) -> AsyncIterator[web.AppRunner]:
    """A runner of the application, which listens nowhere yet; `name` is that of its log.

    At the end no new connection is accepted, and requests under way get GRACE seconds.
    """
    with server_log(reaper.strangers, name=name) as logger:
        runner = web.AppRunner(
            application,
            handle_signals=False,
            access_log=None,
            logger=logger,
            keepalive_timeout=KEEPALIVE_TIMEOUT,
            shutdown_timeout=GRACE,
            auto_decompress=False,
        )
        await runner.setup()
        reaping = asyncio.create_task(
            reaper.run(lambda: runner.server.connections if runner.server else []),
            name=f"close slow clients of {name}",
        )
        try:
            yield runner
        finally:
            reaping.cancel()
            for site in list(runner.sites):
                await site.stop()
            # at once it would reset what the kernel has accepted a moment ago
            await asyncio.sleep(_LINGER_SECONDS)
            await runner.cleanup()


# The middleware around every endpoint: gives a request its id and its log line, and makes every
# failure an answer.

_BEGUN: Final = ContextVar[web.StreamResponse | None]("begun")
"""The answer to this request, once its headers are being written; None before that."""
PROBES: Final = ("/health/", "/metrics")
"""Paths that are requested every few seconds: logged at the level debug."""
_PACKET: Final = 1153
_NO_SUCH_COLUMN: Final = 1054


def from_database_error(error: DatabaseError) -> ApiError | None:
    """A failure of the database as an answer; None when it is a bug of ours."""
    if error.errno == _PACKET:
        return too_large(
            t("the template or the variables exceed what the database accepts (max_allowed_packet)")
        )
    if error.errno == _NO_SUCH_COLUMN:
        return away(
            t("the database schema does not match this version of mailerd; run `mailerd check`")
        )
    if error.in_doubt:
        return away(
            t(
                "the database connection was lost during COMMIT: the change may have been made; check, or try "
                "again, which is safe"
            )
        )
    if said := error_codes.no_writes(error.errno):
        return away(unstored(t("the database {said}; try again", said=said)))
    if isinstance(error, LostKeysError):
        return away(str(error))
    if isinstance(error, DatabaseAwayError):
        return away(
            unstored(t("{what}; try again", what=outage_reason(error_codes.no_entry(error.errno))))
        )
    if error.retry:
        return away(unstored(t("the database is busy; try again")))
    return None


def for_request(request: web.Request, problem: ApiError) -> ApiError:
    """The error in the words that fit the request: a post has stored nothing, an action has changed
    nothing.

    The code that raises it reads a body or a parameter without knowing the endpoint.
    """
    text = str(problem)
    if isinstance(text, Text) and text.msgid == NOTHING_STORED:
        if request.method in {"GET", "HEAD"}:
            text = text.fields["message"]
        elif request.match_info.keys() & {"id", "email"}:
            text = t(NOTHING_CHANGED, message=text.fields["message"])
    return ApiError(
        problem.status,
        problem.code,
        text,
        errors=problem.errors,
        retry_after=problem.retry_after,
        challenge=problem.challenge,
    )


def _from_http_error(error: web.HTTPException) -> ApiError:
    match error.status:
        case 404:
            return ApiError(404, "not_found", t("nothing exists at this path"))
        case 405:
            return ApiError(
                405,
                "method_not_allowed",
                t("this path accepts only {get}", get=error.headers.get("Allow", "")),
            )
        case _:
            return ApiError(error.status, "bad_request", error.reason)


class ErrorMiddleware:
    """Gives every request an id and a log line, and turns every exception into an answer."""

    def __init__(self, auth: ApiKeyAuth, *, events: IntakeEvents, clock: Clock) -> None:
        self._auth = auth
        self._address = auth.client_address.address
        self._events = events
        self._clock = clock
        self.error_page: Callable[[web.Request, ApiError], web.Response] | None = None
        """Makes the page of an error, for a person with a browser; None: there are no pages."""

    async def on_prepare(self, _: web.Request, response: web.StreamResponse) -> None:
        """Called by aiohttp before the headers of an answer are written; after that there can be no
        other answer.
        """
        _BEGUN.set(with_headers(response))

    @web.middleware
    async def answer(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Log the request, and turn every exception into an answer."""
        started = self._clock.monotonic()
        _begin(request)
        CALLER.set("")
        self._auth.strangers.begin()
        _BEGUN.set(None)
        response = await self._run(request, handler)
        begun = _BEGUN.get()
        if begun is not None and begun is not response:
            # It broke half-way: another head would stand in the middle of its body. So the transfer
            # breaks too.
            response = begun
            _abort(request)
        if not response.prepared:
            await self._write(request, response)
        self._log(request, response, ms=(self._clock.monotonic() - started) * 1000)
        return response

    async def on_expect(self, request: web.Request) -> web.Response | None:
        """Called by aiohttp for a request with `Expect`, before any middleware.

        100-continue is answered later, by whatever reads the body: so a 401 or a 413 comes before
        the body does. Anything else is refused (RFC 9110, section 10.1.1).
        """
        if request.headers.get("Expect", "").lower() == "100-continue":
            return None
        _begin(request)
        problem = ApiError(
            417, "expectation_failed", t("the header Expect accepts only 100-continue")
        )
        if self._auth.strangers.logs(self._address(request)):
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
        """The client has gone in the middle of a long answer, or does not read it: that is its
        right, and no bug.
        """
        begun = _BEGUN.get()
        if begun is None:
            return self._handle_bug(request, error)
        if isinstance(error, UnreadError):
            self._too_slow(request, str(error))
        return begun

    def _too_slow(self, request: web.Request, reason: str) -> None:
        if self._auth.is_logged(request):
            self._events.connection_too_slow(address=self._address(request), reason=reason)
        _abort(request)

    def _log(self, request: web.Request, response: web.StreamResponse, *, ms: float) -> None:
        method, path, status, request_id = (
            request.method,
            raw_path(request),
            response.status,
            REQUEST.get(),
        )
        if path.startswith(PROBES):
            self._events.probe_answered(
                method=method, path=path, status=status, ms=ms, request=request_id
            )
            return
        address = self._address(request)
        if not self._auth.is_logged(request):
            self._events.anonymous_answered(
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
        if self._auth.is_logged(request):
            self._tell_refused(problem)
        return self._error(request, problem)

    def _error(self, request: web.Request, problem: ApiError) -> web.Response:
        return (
            self.error_page(request, problem)
            if self.error_page and wants_page(request)
            else error_response(problem)
        )

    def _tell_refused(self, problem: ApiError) -> None:
        self._events.request_refused(
            request=REQUEST.get(), status=problem.status, code=problem.code, reason=str(problem)
        )

    def _database_failed(self, request: web.Request, error: DatabaseError) -> web.Response:
        problem = from_database_error(error)
        if problem is None:
            return self._handle_bug(request, error)
        if self._auth.is_logged(request):
            self._events.request_unserved(request=REQUEST.get(), cause=str(error))
        return self._error(request, for_request(request, problem))

    def _handle_bug(self, request: web.Request, error: BaseException) -> web.Response:
        self._events.request_failed(
            request=REQUEST.get(), method=request.method, path=raw_path(request), error=error
        )
        problem = ApiError(
            500,
            "internal",
            t("internal error; see request {get} in the log of mailerd", get=REQUEST.get()),
        )
        return self._error(request, problem)


def _begin(request: web.Request) -> None:
    """Give a request its id, and its answer the language that it asks for."""
    REQUEST.set(new_id())
    RATE_LIMIT.set(None)
    speak(asked_language(request))


def _abort(request: web.Request) -> None:
    """End the connection without another byte."""
    if request.transport is not None:
        request.transport.abort()


def behind_key(
    endpoint: KeyHandler,
    auth: ApiKeyAuth,
    call: Permission | None,
    *,
    takes_query: bool,
    takes_body: bool,
    reads: KeyShare | None,
) -> Handler:
    """An endpoint behind the check of the key, of a query where it takes none, and of the type of a
    body.

    `reads`: whose place it holds.
    """

    async def answer(request: web.Request) -> web.StreamResponse:
        key = await auth.authenticate(request, call)
        if not takes_query:
            refuse_parameters(request)
        if takes_body:
            check_media_type(request)
        async with reads.place(key) if reads else nullcontext():
            return await endpoint(request, key)

    return answer
