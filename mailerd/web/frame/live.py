"""One stream for all who watch: it says that something has changed, and pages then fetch themselves
anew.
"""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Final

from aiohttp import web

from mailerd.errors import DatabaseError, MailerdError
from mailerd.events.base import Event, FanOut
from mailerd.web.frame.guards import session_of
from mailerd.web.frame.services import ConsoleRequest

TICK_INTERVAL: Final = 3.0
TICK_PER_VIEWER: Final = 0.5
LONGEST_TICK: Final = 15.0
"""Seconds between two signals at least, however much happens: the more watch, the longer, so that
all of them together fetch two pages a second at most.
"""
QUIET_INTERVAL: Final = 10.0
"""Seconds between two signals where this daemon does nothing: another one may."""
GONE_INTERVAL: Final = 0.5
"""Seconds between two looks whether the browser has gone: who leaves a page holds its place no
longer than that.
"""
MAX_VIEWERS: Final = 100
_LATER: Final = {"Retry-After": "30"}
_QUIET: Final = frozenset(
    {"request_answered", "probe_answered", "anonymous_answered", "console_signed_in"}
)
"""Events that change no page; were a viewer's own requests among them, they would call for the next
ones.
"""
PAGE_SHARED: Final = 2.0
"""Seconds for which a page that fetches itself anew is shared by those who watch it with one key in
one language.
"""


class LiveUpdates:
    """Tells every open page when to look again; while one is open it hears the events of `sink`."""

    def __init__(self, sink: FanOut, load_pages: Callable[[], None]) -> None:
        self._sink = sink
        self._load_pages = load_pages
        self._changed = asyncio.Event()
        self._viewers = set[asyncio.Event]()
        """Of each open page what is set when it has to look again."""
        self._stopping = False
        self.count = 0

    def on_event(self, event: Event, fields: Mapping[str, object], /) -> None:
        """Something happened in this daemon."""
        del fields
        if event.name not in _QUIET:
            self._changed.set()

    async def run(self) -> None:
        """Signal, until cancelled; then every stream ends.

        It waits for events, so it is no `every()`.
        """
        try:
            # beside the start, or the first viewer would wait for it
            await asyncio.to_thread(self._load_pages)
            while True:
                with suppress(TimeoutError):
                    async with asyncio.timeout(QUIET_INTERVAL):
                        await self._changed.wait()
                self._changed.clear()
                self._signal()
                await asyncio.sleep(
                    min(LONGEST_TICK, TICK_INTERVAL + TICK_PER_VIEWER * len(self._viewers))
                )
        finally:
            await self.stop()

    async def stop(self) -> None:
        """End every stream, so that a daemon that stops waits for no open page."""
        self._stopping = True
        self._signal()

    def _signal(self) -> None:
        self.count += 1
        for viewer in self._viewers:
            viewer.set()

    async def stream(self, it: ConsoleRequest) -> web.StreamResponse:
        """The signals as server-sent events, until the session ends or the browser goes."""
        if len(self._viewers) >= MAX_VIEWERS:
            return web.Response(status=503, headers=_LATER)
        try:
            async with it.services.shares.streams.place(it.key):
                return await self._stream(it)
        except MailerdError:
            return web.Response(status=429, headers=_LATER)

    async def _stream(self, it: ConsoleRequest) -> web.StreamResponse:
        headers = {
            "Content-Type": "text/event-stream",
            "Cache-Control": "no-store",
            "X-Accel-Buffering": "no",
        }
        response = web.StreamResponse(headers=headers)
        await response.prepare(it.http)
        if not self._viewers:
            self._sink.listeners.append(self.on_event)
        self._viewers.add(told := asyncio.Event())
        try:
            await response.write(b"retry: 5000\n\n")
            while (
                not self._stopping
                and it.http.transport is not None
                and not it.http.transport.is_closing()
            ):
                with suppress(TimeoutError):
                    async with asyncio.timeout(GONE_INTERVAL):
                        await told.wait()
                if not told.is_set():
                    continue
                told.clear()
                # while it is away the signals go on, and the page says so
                with suppress(DatabaseError):
                    if not await it.services.sessions.is_open(session_of(it.http)):
                        break
                async with asyncio.timeout(QUIET_INTERVAL):
                    await response.write(b"event: changed\ndata: %d\n\n" % self.count)
        except (ConnectionError, TimeoutError):
            pass  # the browser has gone, or asks again in a moment
        finally:
            self._viewers.remove(told)
            if not self._viewers:
                self._sink.listeners.remove(self.on_event)
        return response
