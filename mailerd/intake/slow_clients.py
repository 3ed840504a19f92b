"""Closes connections that do not send a whole first request in time, or are too many; aiohttp bounds neither."""

import asyncio
import resource
from collections.abc import Callable, Sequence
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler

from mailerd.clock import Clock
from mailerd.intake.server_log import StrangerLog
from mailerd.ops.periodic import every

FIRST_REQUEST_TIMEOUT: Final = 20.0
"""Seconds from the connection to the end of its first request's headers. Later requests: the keep-alive timeout."""

MAX_CONNECTIONS: Final = 1_000
"""Connections of one listener, or an eighth of the open files that the system allows, if it is less. Beyond that, those
that ask nothing are closed: the daemon needs its files for Google. Requests under way, whose bodies may never come, may
be twice as many."""
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
        self._being_served: set[_Connection] = set()

    @web.middleware
    async def note_request(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Middleware: this connection has sent the headers of a request.

        It also gives other connections their turn: aiohttp would answer thousands of pipelined requests in one go.
        """
        self._have_asked.add(request.protocol)
        self._being_served.add(request.protocol)
        try:
            await asyncio.sleep(0)
            return await handler(request)
        finally:
            self._being_served.discard(request.protocol)

    async def run(self, connections: Callable[[], Sequence[_Connection]]) -> None:
        """Check the connections until cancelled."""
        interval = min(FIRST_REQUEST_TIMEOUT / 4, _INTERVAL)
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        most = MAX_CONNECTIONS if files == resource.RLIM_INFINITY else min(MAX_CONNECTIONS, files // 8)

        async def check_all() -> None:
            there = connections()
            self._have_asked.intersection_update(there)
            silent = [each for each in there if each not in self._have_asked]
            now = self._clock.monotonic()
            self._first_seen = {each: self._first_seen.get(each, now) for each in silent}
            for each in silent:
                if now - self._first_seen[each] > FIRST_REQUEST_TIMEOUT - interval:
                    self._close(each, f"no whole request came within {FIRST_REQUEST_TIMEOUT:g} s")
            idle = [each for each in there if each in self._have_asked and each not in self._being_served]
            for each in [*silent, *idle][: max(len(there) - most, 0)]:  # the oldest first
                self._close(each, f"there are more than {most:,} connections, and it asked nothing")
            served = [each for each in there if each in self._being_served]
            for each in served[: max(len(served) - 2 * most, 0)]:
                self._close(each, f"there are more than {2 * most:,} requests under way")

        await every(interval, check_all, first_after=interval)

    def _close(self, connection: _Connection, reason: str) -> None:
        if connection.transport is not None:
            peer = connection.transport.get_extra_info("peername")
            address = str(peer[0]) if isinstance(peer, tuple) else "unix"
            if self._strangers.logs(address):
                self._strangers.events.connection_too_slow(address=address, reason=reason)
            connection.transport.abort()
