"""`GET /api/events`: what happened, page by page or as server-sent events, for applications that have no server."""

import asyncio
import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from mailerd.clock import Clock
from mailerd.core.event_types import EventType
from mailerd.errors import DatabaseError
from mailerd.intake.auth import ApiKeyAuth
from mailerd.intake.errors import RETRY_AFTER, ApiError, FieldError, invalid
from mailerd.intake.http_responses import json_response, to_json, write
from mailerd.intake.key_shares import KeyShare
from mailerd.intake.query_params import limit, query, text
from mailerd.intake.response_models import FeedEventOut, FeedOut
from mailerd.store.api_keys import ApiKey, Permission
from mailerd.store.event_feed import (
    MAX_PAGE,
    EventFeed,
    EventPage,
    FeedEvent,
    PrunedPositionError,
    UnknownPositionError,
)

DEFAULT_LIMIT: Final = 100
POLL_INTERVAL: Final = 1.0
"""Seconds between two queries of a stream that has nothing to say."""
COMMENT_INTERVAL: Final = 15.0
"""Seconds without an event until a comment is sent, so that proxies keep the connection and a dead one is noticed."""
MAX_STREAM_SECONDS: Final = 3600.0
"""Seconds of one stream; then the client reconnects."""
WRITE_TIMEOUT: Final = 10.0
"""Seconds for a client to read an event."""
_POSITION: Final = re.compile(r"[0-9]{1,18}", re.ASCII)


@dataclass
class _FeedQuery:
    """What a client asks for, and how far it is."""

    after: int
    limit: int
    types: Collection[EventType]


class EventFeedEndpoint:
    """The endpoint."""

    def __init__(self, *, auth: ApiKeyAuth, feed: EventFeed, streams: KeyShare, clock: Clock) -> None:
        self._auth = auth
        self._feed = feed
        self._streams = streams
        self._clock = clock
        self._stopping = asyncio.Event()

    async def stop(self, _: web.Application) -> None:
        """End every stream, so that the stop does not wait for them."""
        self._stopping.set()

    async def events(self, request: web.Request) -> web.StreamResponse:
        """A page, or a stream where the client accepts one."""
        key = await self._auth.authenticate(request, Permission.READ)
        given = query(request, allowed=("after", "types", "limit"))
        reader = _FeedQuery(_after(given), limit(given, default=DEFAULT_LIMIT, most=MAX_PAGE), _types(given))
        if "text/event-stream" not in request.headers.get("Accept", ""):
            page = await self._page(reader, key)
            return json_response(
                FeedOut(events=[FeedEventOut.of(it) for it in page.events], next_after=page.next_after)
            )
        if _POSITION.fullmatch(last := request.headers.get("Last-Event-ID", "")):
            reader.after = int(last)
        async with self._streams.place(key):
            return await self._stream(request, reader, await self._page(reader, key))

    async def _page(self, reader: _FeedQuery, key: ApiKey) -> EventPage:
        try:
            return await self._feed.page(
                after=reader.after, limit=reader.limit, types=reader.types, senders=key.senders
            )
        except UnknownPositionError as error:
            raise ApiError(409, "unknown_position", str(error)) from None
        except PrunedPositionError as error:
            raise ApiError(410, "events_deleted", str(error)) from None

    async def _stream(self, request: web.Request, reader: _FeedQuery, page: EventPage) -> web.StreamResponse:
        response = web.StreamResponse(headers={"X-Accel-Buffering": "no"})
        response.content_type = "text/event-stream"
        await response.prepare(request)
        if request.method == "HEAD":
            return response
        await write(response, f"retry: {int(RETRY_AFTER * 1000)}\n\n".encode(), timeout=WRITE_TIMEOUT)
        until = self._clock.monotonic() + MAX_STREAM_SECONDS
        spoken = self._clock.monotonic()
        while True:
            for it in page.events:
                await write(response, _block(it), timeout=WRITE_TIMEOUT)
            if page.events:
                spoken = self._clock.monotonic()
            elif self._clock.monotonic() - spoken >= COMMENT_INTERVAL:
                await write(response, b": no news\n\n", timeout=WRITE_TIMEOUT)
                spoken = self._clock.monotonic()
            more, reader.after = len(page.events) == reader.limit, page.next_after
            if self._clock.monotonic() >= until or await self._wait(0.0 if more else POLL_INTERVAL):
                return response
            if (found := await self._next(request, reader)) is None:
                return response
            page = found

    async def _next(self, request: web.Request, reader: _FeedQuery) -> EventPage | None:
        """The next page; None: the key is no longer good, or the database has forgotten what the client has seen."""
        try:
            key = await self._auth.key_now(request, Permission.READ)
            return await self._page(reader, key) if key else None
        except DatabaseError:  # the store has logged it; the stream goes on when the database is back
            return EventPage([], reader.after)
        except ApiError:  # the client comes again, and gets it as an answer
            return None

    async def _wait(self, seconds: float) -> bool:
        """Wait until the next query; returns whether the daemon stops."""
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            return False
        return True


def _block(it: FeedEvent) -> bytes:
    return f"event: {it.type.value}\nid: {it.position}\ndata: {to_json(FeedEventOut.of(it))}\n\n".encode()


def _after(given: dict[str, str]) -> int:
    found = given.get("after", "0")
    if not _POSITION.fullmatch(found):
        raise invalid([FieldError("after", "must be the id of an event, or 0")])
    return int(found)


def _types(given: dict[str, str]) -> Collection[EventType]:
    names = {it.strip() for it in (text(given, "types") or "").split(",") if it.strip()}
    if unknown := names - set(EventType):
        words = f"{', '.join(sorted(unknown))}: unknown; there are {', '.join(EventType)}"
        raise invalid([FieldError("types", words)])
    return {EventType(it) for it in names}
