"""`GET /api/events`, its stream and a job's events: what happened, page by page or as server-sent
events.
"""

import asyncio
import re
from collections.abc import Collection
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from aiohttp import web

from mailerd.clock import Clock
from mailerd.core.i18n import t
from mailerd.core.states import OPEN
from mailerd.core.webhooks import EventType
from mailerd.errors import DatabaseError
from mailerd.http.auth import ApiKeyAuth, KeyShare
from mailerd.http.errors import ApiError
from mailerd.http.requests import Query, job_of
from mailerd.http.responses import RETRY_AFTER, json_response, to_json, write
from mailerd.intake.response_models import FeedEventOut, FeedOut, JobOut, KnownSenders
from mailerd.store.read.jobs import Job, Jobs
from mailerd.store.write.api_keys import ApiKey, Permission
from mailerd.store.write.event_feed import (
    MAX_PAGE,
    EventFeed,
    EventPage,
    PrunedPositionError,
    UnknownPositionError,
)

# Server-sent events: how a stream begins, keeps its connection, and ends. What it says is its
# endpoint's.

COMMENT_INTERVAL: Final = 15.0
"""Seconds without an event until a comment is sent, so that proxies keep the connection and a dead
one is noticed.
"""
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
        """Wait until the next look, with a comment where nothing was said for long; it may be over
        then.
        """
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


# `GET /api/jobs/{id}/events`: a job's progress as server-sent events; a client may reconnect and
# misses nothing.

POLL_INTERVAL: Final = 1.0
"""Seconds between two queries for a job, however many clients watch it; twice that for a job of
50,000 messages.
"""
MESSAGES_PER_INTERVAL: Final = 50_000


class JobEventsEndpoint:
    """The endpoint.

    Every event holds the whole job, and its id is made of what it shows. So a client that
    reconnects with the Last-Event-ID that it saw gets the current state at once if anything has
    changed, and nothing twice.
    """

    def __init__(
        self,
        *,
        auth: ApiKeyAuth,
        jobs: Jobs,
        streams: EventStreams,
        clock: Clock,
        known: KnownSenders,
    ) -> None:
        self._known = known
        self._auth = auth
        self._jobs = jobs
        self._clock = clock
        self._streams = streams
        self._open = 0
        self._seen: dict[str, tuple[Job, float]] = {}
        self._reading = asyncio.Lock()

    async def events(self, request: web.Request, key: ApiKey) -> web.StreamResponse:
        """Stream until the job is finished."""
        job = await job_of(request, key, self._jobs)
        last = request.headers.get("Last-Event-ID", "")
        if is_over(job) and last == event_id(job, JobOut.of(job)):
            return web.Response(status=204)  # a browser's EventSource then stops reconnecting
        async with self._streams.places.place(key):
            self._open += 1
            try:
                return await self._stream(request, job, last)
            finally:
                self._open -= 1
                if not self._open:
                    self._seen.clear()

    async def _stream(self, request: web.Request, job: Job, last: str) -> web.StreamResponse:
        stream = await self._streams.begin(request)
        while not stream.over:
            shown = JobOut.of(job, known=self._known(job.sender.email))
            if event_id(job, shown) != last:
                last = event_id(job, shown)
                kind = "finished" if is_over(job) else "progress"
                await stream.send(kind, id_=last, data=to_json(shown))
            if is_over(job):
                break
            await stream.rest(POLL_INTERVAL * (1 + job.total / MESSAGES_PER_INTERVAL))
            if stream.over:
                break
            try:
                known = await self._auth.key_now(request, Permission.READ)
                if known is None or not known.may_send(job.sender_email):
                    break
                job = await self._read(job)
            except DatabaseError:
                continue  # the store has logged it; the stream goes on when the database is back
        return stream.response

    async def _read(self, job: Job) -> Job:
        """The job as it is now; one query serves all clients that watch it."""
        async with self._reading:
            known, at = self._seen.get(job.id, (job, float("-inf")))
            if self._clock.monotonic() - at < POLL_INTERVAL * 0.9:
                return known
            found = await self._jobs.job(job.id) or job
            self._seen[job.id] = (found, self._clock.monotonic())
            return found


def is_over(job: Job) -> bool:
    """Whether a job is finished, its last message included."""
    return job.finished_at is not None and not any(job.counts[state] for state in OPEN)


def event_id(job: Job, shown: JobOut) -> str:
    """A short form of what an event shows; the end differs from the event before it, also where no
    count does.

    What changes by itself, which is `per_minute`, is no part of it.
    """
    end = "-end" if is_over(job) else ""
    cause = shown.cause_of_wait
    waits = f"-{sha256(cause.encode()).hexdigest()[:8]}" if cause else ""
    counts = ".".join(str(number) for number in (*job.counts.values(), job.bounced, job.replied))
    return f"{job.status.value}-{job.priority}-{counts}{waits}{end}"


DEFAULT_LIMIT: Final = 100
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

    def __init__(
        self, *, auth: ApiKeyAuth, feed: EventFeed, streams: EventStreams, reads: KeyShare
    ) -> None:
        self._auth = auth
        self._feed = feed
        self._streams = streams
        self._reads = reads

    async def events(self, request: web.Request, key: ApiKey) -> web.StreamResponse:
        """A page, or the stream where the client accepts one."""
        if "text/event-stream" in request.headers.get("Accept", ""):
            return await self.stream(request, key)
        reader = _feed_query(request)
        async with self._reads.place(key):
            page = await self._page(reader, key)
            return json_response(
                FeedOut(
                    events=[FeedEventOut.of(it) for it in page.events], next_after=page.next_after
                )
            )

    async def stream(self, request: web.Request, key: ApiKey) -> web.StreamResponse:
        """The stream."""
        reader = _feed_query(request)
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

    async def _stream(
        self, request: web.Request, reader: _FeedQuery, page: EventPage
    ) -> web.StreamResponse:
        stream = await self._streams.begin(request)
        while not stream.over:
            for it in page.events:
                await stream.send(it.type.value, id_=it.position, data=to_json(FeedEventOut.of(it)))
            reader.after = page.next_after
            await stream.rest(0.0 if page.more else POLL_INTERVAL)
            if stream.over or (found := await self._next(request, reader)) is None:
                break
            page = found
        return stream.response

    async def _next(self, request: web.Request, reader: _FeedQuery) -> EventPage | None:
        """The next page; None: the key is no longer good, or the database has forgotten what the
        client has seen.
        """
        try:
            key = await self._auth.key_now(request, Permission.READ)
            return await self._page(reader, key) if key else None
        except DatabaseError:
            # the store has logged it; the stream goes on when the database is back
            return EventPage([], reader.after)
        except ApiError:  # the client comes again, and gets it as an answer
            return None


def _feed_query(request: web.Request) -> _FeedQuery:
    with Query(request, allowed=("after", "types", "limit"), lists=("types",)) as given:
        return _FeedQuery(
            given.read("after", _position) or 0,
            given.limit(default=DEFAULT_LIMIT, most=MAX_PAGE),
            given.read("types", _types) or set(),
        )


def _position(text: str) -> int:
    if not _POSITION.fullmatch(text):
        raise ValueError(t("must be the ID of an event, or 0"))
    return int(text)


def _types(text: str) -> Collection[EventType]:
    names = {it.strip() for it in text.split(",") if it.strip()}
    if unknown := names - set(EventType):
        raise ValueError(
            t(
                "{join:.100}: unknown; valid values: {eventtype}",
                join=", ".join(sorted(unknown)),
                eventtype=", ".join(EventType),
            )
        )
    return {EventType(it) for it in names}
