"""`GET /api/jobs/{id}/events`: a job's progress as server-sent events; a client may reconnect and misses nothing."""

import asyncio
from hashlib import sha256
from typing import Final

from aiohttp import web

from mailerd.clock import Clock
from mailerd.core.states import OPEN
from mailerd.errors import DatabaseError
from mailerd.intake.auth import ApiKeyAuth
from mailerd.intake.event_stream import EventStreams
from mailerd.intake.http_responses import in_language, to_json
from mailerd.intake.query_params import job_of
from mailerd.intake.response_models import JobOut
from mailerd.store.api_keys import ApiKey, Permission
from mailerd.store.jobs import Job, Jobs

POLL_INTERVAL: Final = 1.0
"""Seconds between two queries for a job, however many clients watch it; twice that for a job of 50,000 letters."""
LETTERS_PER_INTERVAL: Final = 50_000


class JobEventsEndpoint:
    """The endpoint.

    Every event holds the whole job, and its id is made of what it shows. So a client that reconnects with the
    Last-Event-ID that it saw gets the current state at once if anything has changed, and nothing twice.
    """

    def __init__(self, *, auth: ApiKeyAuth, jobs: Jobs, streams: EventStreams, clock: Clock) -> None:
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
        if is_over(job) and last == event_id(job):
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
            if event_id(job) != last:
                last = event_id(job)
                kind = "finished" if is_over(job) else "progress"
                await stream.send(kind, id_=last, data=in_language(to_json(JobOut.of(job))))
            if is_over(job):
                break
            await stream.rest(POLL_INTERVAL * (1 + job.total / LETTERS_PER_INTERVAL))
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
    """Whether a job is finished, its last letter included."""
    return job.finished_at is not None and not any(job.counts[state] for state in OPEN)


def event_id(job: Job) -> str:
    """A short form of what an event shows; the end differs from the event before it, also where no count does.

    What changes by itself, which is the rate, is no part of it.
    """
    end = "-end" if is_over(job) else ""
    cause = JobOut.of(job).cause_of_wait
    waits = f"-{sha256(cause.encode()).hexdigest()[:8]}" if cause else ""
    counts = ".".join(str(number) for number in (*job.counts.values(), job.bounced, job.replied))
    return f"{job.status.value}-{job.priority}-{counts}{waits}{end}"
