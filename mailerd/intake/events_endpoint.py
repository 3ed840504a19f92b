"""`GET /api/events`: what happened, page by page or as server-sent events, for applications that have no server."""

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from mailerd.core.event_types import EventType
from mailerd.errors import DatabaseError
from mailerd.intake.auth import ApiKeyAuth
from mailerd.intake.errors import ApiError
from mailerd.intake.event_stream import EventStreams
from mailerd.intake.http_responses import in_language, json_response, to_json
from mailerd.intake.key_shares import KeyShare
from mailerd.intake.query_params import Query
from mailerd.intake.response_models import FeedEventOut, FeedOut
from mailerd.store.api_keys import ApiKey, Permission
from mailerd.store.event_feed import (
    MAX_PAGE,
    EventFeed,
    EventPage,
    PrunedPositionError,
    UnknownPositionError,
)

DEFAULT_LIMIT: Final = 100
POLL_INTERVAL: Final = 1.0
"""Seconds between two queries of a stream that has nothing to say."""
_POSITION: Final = re.compile(r"[0-9]{1,18}", re.ASCII)


@dataclass
class _FeedQuery:
    """What a client asks for, and how far it is."""

    after: int
    limit: int
    types: Collection[EventType]


class EventFeedEndpoint:
    """The endpoint."""

    def __init__(self, *, auth: ApiKeyAuth, feed: EventFeed, streams: EventStreams, reads: KeyShare) -> None:
        self._auth = auth
        self._feed = feed
        self._streams = streams
        self._reads = reads

    async def events(self, request: web.Request, key: ApiKey) -> web.StreamResponse:
        """A page, or a stream where the client accepts one."""
        with Query(request, allowed=("after", "types", "limit")) as given:
            reader = _FeedQuery(
                given.read("after", _position) or 0,
                given.limit(default=DEFAULT_LIMIT, most=MAX_PAGE),
                given.read("types", _types) or set(),
            )
        if "text/event-stream" not in request.headers.get("Accept", ""):
            async with self._reads.place(key):
                page = await self._page(reader, key)
                return json_response(
                    FeedOut(events=[FeedEventOut.of(it) for it in page.events], next_after=page.next_after)
                )
        if _POSITION.fullmatch(last := request.headers.get("Last-Event-ID", "")):
            reader.after = int(last)
        async with self._streams.places.place(key):
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
        stream = await self._streams.begin(request)
        while not stream.over:
            for it in page.events:
                await stream.send(it.type.value, id_=it.position, data=in_language(to_json(FeedEventOut.of(it))))
            reader.after = page.next_after
            await stream.rest(0.0 if page.more else POLL_INTERVAL)
            if stream.over or (found := await self._next(request, reader)) is None:
                break
            page = found
        return stream.response

    async def _next(self, request: web.Request, reader: _FeedQuery) -> EventPage | None:
        """The next page; None: the key is no longer good, or the database has forgotten what the client has seen."""
        try:
            key = await self._auth.key_now(request, Permission.READ)
            return await self._page(reader, key) if key else None
        except DatabaseError:  # the store has logged it; the stream goes on when the database is back
            return EventPage([], reader.after)
        except ApiError:  # the client comes again, and gets it as an answer
            return None


def _position(text: str) -> int:
    if not _POSITION.fullmatch(text):
        raise ValueError("must be the id of an event, or 0")
    return int(text)


def _types(text: str) -> Collection[EventType]:
    names = {it.strip() for it in text.split(",") if it.strip()}
    if unknown := names - set(EventType):
        raise ValueError(f"{', '.join(sorted(unknown)):.100}: unknown; there are {', '.join(EventType)}")
    return {EventType(it) for it in names}
