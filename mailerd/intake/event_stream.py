"""Server-sent events: how a stream begins, keeps its connection, and ends. What it says is its endpoint's."""

import asyncio
from typing import Final

from aiohttp import web

from mailerd.clock import Clock
from mailerd.intake.errors import RETRY_AFTER
from mailerd.intake.http_responses import write
from mailerd.intake.key_shares import KeyShare

COMMENT_INTERVAL: Final = 15.0
"""Seconds without an event until a comment is sent, so that proxies keep the connection and a dead one is noticed."""
MAX_STREAM_SECONDS: Final = 3600.0
"""Seconds of one stream; then the client reconnects."""
WRITE_TIMEOUT: Final = 10.0
"""Seconds for a client to read an event."""


class EventStream:
    """One stream. It is `over` at once where only its head was asked for."""

    def __init__(self, request: web.Request, *, clock: Clock, stopping: asyncio.Event) -> None:
        self.response = web.StreamResponse(headers={"X-Accel-Buffering": "no"})
        self.response.content_type = "text/event-stream"
        self.over = request.method == "HEAD"
        self._clock = clock
        self._stopping = stopping
        self._spoken = clock.monotonic()
        self._until = self._spoken + MAX_STREAM_SECONDS

    async def begin(self, request: web.Request) -> None:
        """Write the headers, and when to come again."""
        await self.response.prepare(request)
        if not self.over:
            await self._write(f"retry: {int(RETRY_AFTER * 1000)}\n\n")

    async def send(self, event: str, *, id_: object, data: str) -> None:
        """Write an event."""
        await self._write(f"event: {event}\nid: {id_}\ndata: {data}\n\n")

    async def rest(self, seconds: float) -> None:
        """Wait until the next look, with a comment where nothing was said for long; it may be over then."""
        if self._clock.monotonic() - self._spoken >= COMMENT_INTERVAL:
            await self._write(": still here\n\n")
        self.over = self._clock.monotonic() >= self._until
        if not self.over:
            try:
                async with asyncio.timeout(seconds):
                    self.over = await self._stopping.wait()
            except TimeoutError:
                return

    async def _write(self, text: str) -> None:
        await write(self.response, text.encode(), timeout=WRITE_TIMEOUT)
        self._spoken = self._clock.monotonic()


class EventStreams:
    """All streams of one daemon; `places`: how many each key may hold."""

    def __init__(self, places: KeyShare, clock: Clock) -> None:
        self.places = places
        self._clock = clock
        self._stopping = asyncio.Event()

    async def stop(self, _: web.Application) -> None:
        """End every stream, so that the stop does not wait for them."""
        self._stopping.set()

    async def begin(self, request: web.Request) -> EventStream:
        """A stream whose head is written."""
        stream = EventStream(request, clock=self._clock, stopping=self._stopping)
        await stream.begin(request)
        return stream
