"""What the API's and the public site's listeners have in common: how they run and end, who has a port, slow clients."""

import asyncio
import errno
import os
import resource
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from contextvars import Context
from typing import Final, Literal

from aiohttp import web
from aiohttp.typedefs import Handler

from mailerd.clock import Clock
from mailerd.errors import ListenError
from mailerd.heartbeat import every
from mailerd.intake.auth import CALLER
from mailerd.intake.client_address import StrangerLog, server_log

# Why a port cannot be had: the setting that names it, who has it, and what to do.

ANSWER_TIMEOUT: Final = 2.0
"""Seconds for the program that has the port to answer."""


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
    return "mailerd" if b"\r\nServer: mailerd\r\n" in answer else "other"  # others say that they are alive, too


async def refuse_taken_socket(path: str) -> None:
    """See to it that no program listens on a socket file: to listen there takes the file away, and no program notices.

    Raises:
        ListenError: one does.
    """
    if await socket_owner(path):
        raise ListenError(
            f"the intake cannot listen on {path} (intake.unix_socket): another program listens there, such as another "
            "mailerd; use that one, end it, or choose another intake.unix_socket"
        )


async def cannot_listen(error: OSError, *, part: str, section: str, host: str, port: int) -> ListenError:
    """What to raise where `part` of the daemon cannot listen on host and port of that section of the settings."""
    beginning = f"{part} cannot listen on {host}:{port} ({section}.port)"
    if error.errno != errno.EADDRINUSE:
        why = os.strerror(error.errno) if error.errno else error
        return ListenError(f"{beginning}: {why}; correct {section}.host and {section}.port")
    if await port_owner(host, port) == "mailerd":
        return ListenError(
            f"{beginning}: another mailerd listens there; use that one, end it, or choose another {section}.port"
        )
    return ListenError(
        f"{beginning}: another program listens there; see which (`ss -ltnp sport = :{port}`), and end it or choose "
        f"another {section}.port"
    )


# Closes connections that do not send a whole first request in time, or are too many; aiohttp bounds neither.

FIRST_REQUEST_TIMEOUT: Final = 20.0
"""Seconds from the connection to the end of its first request's headers. Later requests: the keep-alive timeout."""

MAX_CONNECTIONS: Final = 1_000
"""Connections of one listener, or an eighth of the open files that the system allows, if it is less: the daemon needs
its files for Google. Beyond that, those of strangers are closed that ask nothing, or whose bodies have not come; then
those that ask nothing and have shown a valid key or session before. Requests under way may be twice as many."""
STRANGER_REQUESTS: Final = 20
"""Requests that a stranger's connection may make between two looks at it; then it is closed. A browser waits for
answers; who sends hundreds of requests without waiting would keep everybody else waiting."""
_INTERVAL: Final = 0.5
"""The most seconds between two looks at the connections; some thousands can come meanwhile."""

_Connection = web.RequestHandler


class SlowClientReaper:
    """Closes connections without a first request in time, and idle ones beyond `MAX_CONNECTIONS`."""

    def __init__(self, *, strangers: StrangerLog, clock: Clock) -> None:
        self._strangers = strangers
        self._clock = clock
        self._first_seen: dict[_Connection, float] = {}
        self._have_asked: set[_Connection] = set()
        self._being_served: dict[_Connection, tuple[web.Request, Context]] = {}
        """By the connection: the request under way, and the context that says whose it is once its key is checked."""
        self._answered: Counter[_Connection] = Counter()
        """Requests of strangers since the last look, by their connection."""
        self._known: set[_Connection] = set()
        """Connections over which a valid key or session has come."""

    @web.middleware
    async def note_request(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Middleware: this connection has sent the headers of a request.

        It also gives other connections their turn: aiohttp would answer thousands of pipelined requests in one go.
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
        most = MAX_CONNECTIONS if files == resource.RLIM_INFINITY else min(MAX_CONNECTIONS, files // 8)

        async def check_all() -> None:
            there = connections()
            self._answered.clear()
            self._have_asked.intersection_update(there)
            self._known.intersection_update(there)
            silent = [each for each in there if each not in self._have_asked]
            now = self._clock.monotonic()
            self._first_seen = {each: self._first_seen.get(each, now) for each in silent}
            for each in silent:
                if now - self._first_seen[each] > FIRST_REQUEST_TIMEOUT - interval:
                    self._close(each, f"no whole request came within {FIRST_REQUEST_TIMEOUT:g} s")
            idle = [each for each in there if each in self._have_asked and each not in self._being_served]
            served = sorted((each for each in there if each in self._being_served), key=self._is_known)
            waiting = [each for each in served if not self._is_known(each) and not self._has_body(each)]
            strangers = [*silent, *(each for each in idle if not self._is_known(each)), *waiting]
            beyond = [*strangers, *filter(self._is_known, idle)][: max(len(there) - most, 0)]  # the oldest first
            for each in beyond:
                asked = "its request has not come whole" if each in self._being_served else "it asked nothing"
                self._close(each, f"there are more than {most:,} connections, and {asked}")
            left = [each for each in served if each not in beyond]
            for each in left[: max(len(left) - 2 * most, 0)]:
                self._close(each, f"there are more than {2 * most:,} requests under way")

        await every(interval, check_all, first_after=interval)

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
            if self._strangers.logs(address):
                self._strangers.events.connection_too_slow(address=address, reason=reason)
            connection.transport.abort()


KEEPALIVE_TIMEOUT: Final = 75.0
"""Seconds that an idle connection stays open: longer than the usual proxy keeps its end of it (60 s)."""
GRACE: Final = 10.0
"""Seconds that requests under way get at a stop."""
_LINGER_SECONDS: Final = 0.3
"""Seconds between the end of listening and the closing of connections."""


@asynccontextmanager
async def running(
    application: web.Application, *, name: str, strangers: StrangerLog, reaper: SlowClientReaper
) -> AsyncIterator[web.AppRunner]:
    """A runner of the application, which listens nowhere yet; `name` is that of its log.

    At the end no new connection is accepted, and requests under way get GRACE seconds.
    """
    with server_log(strangers, name=name) as logger:
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
            reaper.run(lambda: runner.server.connections if runner.server else []), name=f"close slow clients of {name}"
        )
        try:
            yield runner
        finally:
            reaping.cancel()
            for site in list(runner.sites):
                await site.stop()
            await asyncio.sleep(_LINGER_SECONDS)  # at once it would reset what the kernel has accepted a moment ago
            await runner.cleanup()
