"""Slow connections: one that does not bring its first request in time is closed, which aiohttp by itself never does."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from aiohttp import web

from mailerd.clock import Clock
from mailerd.events.intake import IntakeEvents

FIRST_REQUEST_WITHIN: Final = 20.0
"""Seconds from the connection to the end of its first request's headers. Later ones are bounded by the keep-alive."""

_Protocol = web.RequestHandler


class SlowClientReaper:
    """Looks after connections that have not said anything yet."""

    def __init__(self, *, within: float, events: IntakeEvents, clock: Clock) -> None:
        self._within = within
        self._events = events
        self._clock = clock
        self._first_seen: dict[_Protocol, float] = {}
        self._have_asked: set[_Protocol] = set()

    def asked(self, request: web.Request) -> None:
        """A request has come whole, its body apart."""
        self._have_asked.add(request.protocol)

    async def walk(self, connections: Callable[[], Sequence[_Protocol]]) -> None:
        """Look at the connections, until cancelled."""
        while True:
            await asyncio.sleep(self._within / 4)
            there = set(connections())
            self._have_asked &= there
            self._first_seen = {one: at for one, at in self._first_seen.items() if one in there}
            for protocol in there - self._have_asked:
                self._look_at(protocol)

    def _look_at(self, protocol: _Protocol) -> None:
        now = self._clock.monotonic()
        if now - self._first_seen.setdefault(protocol, now) < self._within * 3 / 4:
            return
        if protocol.transport is not None:
            peer = protocol.transport.get_extra_info("peername")
            self._events.connection_too_slow(
                address=str(peer[0]) if isinstance(peer, tuple) else "unix",
                reason=f"no whole request came within {self._within:g} s",
            )
            protocol.transport.abort()
