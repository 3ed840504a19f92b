"""Closes connections that do not send a whole first request in time; aiohttp has no such timeout."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler

from mailerd.clock import Clock
from mailerd.events.intake import IntakeEvents
from mailerd.intake.server_log import StrangerLog
from mailerd.ops.periodic import every

FIRST_REQUEST_TIMEOUT: Final = 20.0
"""Seconds from the connection to the end of its first request's headers. Later requests: the keep-alive timeout."""

_Connection = web.RequestHandler


class SlowClientReaper:
    """Closes connections without a first request after `timeout` seconds."""

    def __init__(self, *, timeout: float, strangers: StrangerLog, events: IntakeEvents, clock: Clock) -> None:
        self._timeout = timeout
        self._strangers = strangers
        self._events = events
        self._clock = clock
        self._first_seen: dict[_Connection, float] = {}
        self._have_asked: set[_Connection] = set()

    @web.middleware
    async def note_request(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Middleware: this connection has sent the headers of a request.

        It also gives other connections their turn: aiohttp would answer thousands of pipelined requests in one go.
        """
        self._have_asked.add(request.protocol)
        await asyncio.sleep(0)
        return await handler(request)

    async def run(self, connections: Callable[[], Sequence[_Connection]]) -> None:
        """Check the connections until cancelled."""
        interval = self._timeout / 4

        async def check_all() -> None:
            there = set(connections())
            self._have_asked &= there
            self._first_seen = {one: at for one, at in self._first_seen.items() if one in there}
            for connection in there - self._have_asked:
                self._check(connection)

        await every(interval, check_all, first_after=interval)

    def _check(self, connection: _Connection) -> None:
        now = self._clock.monotonic()
        if now - self._first_seen.setdefault(connection, now) < self._timeout * 3 / 4:
            return
        if connection.transport is not None:
            peer = connection.transport.get_extra_info("peername")
            address = str(peer[0]) if isinstance(peer, tuple) else "unix"
            if self._strangers.logs(address):
                reason = f"no whole request came within {self._timeout:g} s"
                self._events.connection_too_slow(address=address, reason=reason)
            connection.transport.abort()
