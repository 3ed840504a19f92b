"""`GET /api/jobs/{id}/events`: a job's progress as server-sent events; a client may reconnect and misses nothing."""

import asyncio
from typing import Final

from aiohttp import web

from mailerd.clock import Clock
from mailerd.core.states import OPEN
from mailerd.errors import DatabaseError
from mailerd.intake.auth import ApiKeyAuth
from mailerd.intake.errors import RETRY_AFTER
from mailerd.intake.http_responses import to_json, write
from mailerd.intake.key_shares import KeyShare
from mailerd.intake.query_params import JobLookup, query
from mailerd.intake.response_models import JobOut
from mailerd.store.api_keys import Permission
from mailerd.store.jobs import Job, Jobs

POLL_INTERVAL: Final = 1.0
"""Seconds between two queries for a job, however many clients watch it; twice that for a job of 50,000 letters."""
LETTERS_PER_INTERVAL: Final = 50_000
COMMENT_INTERVAL: Final = 15.0
"""Seconds without an event until a comment is sent, so that proxies keep the connection and a dead one is noticed."""
MAX_STREAM_SECONDS: Final = 3600.0
"""Seconds of one stream; then the client reconnects."""
WRITE_TIMEOUT: Final = 10.0
"""Seconds for a client to read an event."""


class JobEventsEndpoint:
    """The endpoint.

    Every event holds the whole job, and its id is made of what it shows. So a client that reconnects with the
    Last-Event-ID that it saw gets the current state at once if anything has changed, and nothing twice.
    """

    def __init__(self, *, auth: ApiKeyAuth, lookup: JobLookup, jobs: Jobs, streams: KeyShare, clock: Clock) -> None:
        self._auth = auth
        self._lookup = lookup
        self._jobs = jobs
        self._clock = clock
        self._streams = streams
        self._open = 0
        self._seen: dict[str, tuple[Job, float]] = {}
        self._reading = asyncio.Lock()
        self._stopping = asyncio.Event()

    async def stop(self, _: web.Application) -> None:
        """End every stream, so that the stop does not wait for them."""
        self._stopping.set()

    async def events(self, request: web.Request) -> web.StreamResponse:
        """Stream until the job is finished."""
        key, job = await self._lookup.job(request, Permission.READ)
        query(request, allowed=())
        last = request.headers.get("Last-Event-ID", "")
        if is_over(job) and last == event_id(job):
            return web.Response(status=204)  # a browser's EventSource then stops reconnecting
        async with self._streams.place(key):
            self._open += 1
            try:
                return await self._stream(request, job, last)
            finally:
                self._open -= 1
                if not self._open:
                    self._seen.clear()

    async def _stream(self, request: web.Request, job: Job, last: str) -> web.StreamResponse:
        response = web.StreamResponse(headers={"X-Accel-Buffering": "no"})
        response.content_type = "text/event-stream"
        await response.prepare(request)
        if request.method == "HEAD":
            return response
        await _write(response, f"retry: {int(RETRY_AFTER * 1000)}\n\n")
        until = self._clock.monotonic() + MAX_STREAM_SECONDS
        spoken = self._clock.monotonic()
        while True:
            if event_id(job) != last:
                last = event_id(job)
                kind = "finished" if is_over(job) else "progress"
                await _write(response, f"event: {kind}\nid: {last}\ndata: {to_json(JobOut.of(job))}\n\n")
                spoken = self._clock.monotonic()
            elif self._clock.monotonic() - spoken >= COMMENT_INTERVAL:
                await _write(response, ": still here\n\n")
                spoken = self._clock.monotonic()
            if is_over(job) or self._clock.monotonic() >= until or await self._wait(job.total):
                return response
            try:
                if not await self._auth.is_still_valid(request, Permission.READ, sender=job.sender_email):
                    return response
                job = await self._read(job)
            except DatabaseError:
                continue  # the store has logged it; the stream goes on when the database is back

    async def _wait(self, total: int) -> bool:
        """Wait until the next query; returns whether the daemon stops."""
        try:
            async with asyncio.timeout(POLL_INTERVAL * (1 + total / LETTERS_PER_INTERVAL)):
                await self._stopping.wait()
        except TimeoutError:
            return False
        return True

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
    """Whether a job is finished, its last letter included."""
    return job.finished_at is not None and not any(job.counts[state] for state in OPEN)


def event_id(job: Job) -> str:
    """A short form of what an event shows."""
    return f"{job.status.value}-{job.priority}-" + ".".join(str(number) for number in job.counts.values())


async def _write(response: web.StreamResponse, text: str) -> None:
    await write(response, text.encode(), timeout=WRITE_TIMEOUT)
