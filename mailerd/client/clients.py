"""`Client` and `AsyncClient`: the same calls, over the standard library and over aiohttp."""

import asyncio
import http.client
import threading
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any, Final, Self, override

import aiohttp

from mailerd.client import calls
from mailerd.client.answers import (
    AcceptedJob,
    BounceKind,
    DryRun,
    Event,
    Job,
    JobActionResult,
    NewJob,
    Recipient,
    RetryOnly,
    Templates,
)
from mailerd.client.calls import Answer, Attempts, Call, ClientError, Connection

TIMEOUT: Final = 100.0
"""Seconds for one answer: a post may wait 30 s for its key's share, its check may take 30 s, and a dry run 60 s."""
PATIENCE: Final = 60.0
"""Seconds within which a call is made again after a failure that may pass."""
POLL_INTERVAL: Final = 2.0
"""Seconds between two looks at a job that is waited for."""


class _AsItIs(urllib.request.HTTPErrorProcessor):
    """Hands out every answer. None is followed elsewhere: the key is for the address that was given."""

    @override
    def http_response(self, request: urllib.request.Request, response: Any) -> Any:
        return response

    https_response = http_response


class Client:
    """The client for programs without asyncio. Threads may share one; each call has a connection of its own.

    `timeout`: seconds for which the daemon may say nothing. `patience`: seconds within which a call is made again.
    Each call raises ApiError where it was refused, and NoAnswerError where no answer came.
    """

    def __init__(self, url: str, *, key: str, timeout: float = TIMEOUT, patience: float = PATIENCE) -> None:
        self._connection = Connection(url, key)
        self._timeout = timeout
        self._patience = patience
        self._closed = threading.Event()
        self._opener = urllib.request.build_opener(_AsItIs)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End what waits, in other threads too."""
        self._closed.set()

    def create_job(self, job: NewJob, *, idempotency_key: str | None = None) -> AcceptedJob:
        """Post a job: once, however often the post has to be repeated.

        `idempotency_key`: one of your own, such as an order's number, holds beyond this call; without it one is made.
        """
        return self._send(calls.create_job(job, idempotency_key))

    def dry_run(self, job: NewJob) -> DryRun:
        """What a post would be answered; every letter is rendered, and nothing is stored."""
        return self._send(calls.dry_run(job))

    def get_job(self, job_id: str) -> Job:
        """A job and its counts."""
        return self._send(calls.get_job(job_id))

    def recipients(self, job_id: str, *, status: str | None = None) -> Iterator[Recipient]:
        """A job's recipients in the order of the post, fetched page by page."""
        cursor: str | None = ""
        while cursor is not None:
            page = self._send(calls.recipients(job_id, status, cursor))
            yield from page["recipients"]
            cursor = page["next_cursor"]

    def cancel_job(self, job_id: str) -> JobActionResult:
        """Send nothing more of it, for good."""
        return self._send(calls.change(job_id, "cancel"))

    def pause_job(self, job_id: str) -> JobActionResult:
        """Send nothing more of it until it is resumed."""
        return self._send(calls.change(job_id, "pause"))

    def resume_job(self, job_id: str) -> JobActionResult:
        """Go on with a paused job."""
        return self._send(calls.change(job_id, "resume"))

    def retry_job(self, job_id: str, *, only: RetryOnly = "failed", kind: BounceKind | None = None) -> JobActionResult:
        """Try its failed letters anew, look for its unsure ones now, or send bounced ones of a `kind` again."""
        return self._send(calls.retry(job_id, only, kind))

    def wait_until_finished(self, job_id: str, *, within: float | None = None) -> Job:
        """The job, once nothing of it is open; raises TimeoutError after `within` seconds, RuntimeError once closed."""
        until = None if within is None else time.monotonic() + within
        while not calls.is_finished(job := self.get_job(job_id)):
            if until is not None and time.monotonic() + POLL_INTERVAL > until:
                raise TimeoutError(f"job {job_id} is {job['status']}, and not finished within {within:g} s")
            if self._closed.wait(POLL_INTERVAL):
                raise RuntimeError(f"the client was closed; job {job_id} is {job['status']}, and not finished")
        return job

    def events(self, *, after: int = 0, types: Sequence[str] = (), follow: float | None = None) -> Iterator[Event]:
        """What happened behind the event `after`, the oldest first; keep the `id` of the last one that you handled.

        `follow`: seconds between two looks for more, until the client is closed; None: end with what there is.
        """
        while not self._closed.is_set():
            page = self._send(calls.events(after, types))
            yield from page["events"]
            if page["next_after"] == after:
                if follow is None:
                    return
                self._closed.wait(follow)
            after = page["next_after"]

    def templates(self) -> Templates:
        """The named templates."""
        return self._send(calls.templates())

    def _send[T](self, call: Call[T]) -> T:
        attempts = Attempts(self._patience)
        while True:
            try:
                return calls.result(call, self._exchange(call), repeated=attempts.failed > 0)
            except ClientError as error:
                if self._closed.wait(attempts.wait_after(error)):
                    raise

    def _exchange(self, call: Call[Any]) -> Answer:
        request = urllib.request.Request(  # noqa: S310 - Connection has seen that it is HTTP
            self._connection.address(call), call.body, self._connection.headers(call), method=call.method
        )
        try:
            with self._opener.open(request, timeout=self._timeout) as it:
                retry_after, replayed = it.headers.get("Retry-After", ""), it.headers.get("Idempotency-Replayed", "")
                return Answer(it.status, it.read(), retry_after, replayed)
        except urllib.error.URLError as error:
            raise calls.no_answer(call, error.reason) from error
        except (OSError, http.client.HTTPException) as error:
            raise calls.no_answer(call, error) from error


class AsyncClient:
    """The client for programs with asyncio, over one pool of connections; use it with `async with`.

    `timeout`: seconds for one answer. `patience`: seconds within which a call is made again. Each method does what
    that of `Client` does which has its name.
    """

    def __init__(self, url: str, *, key: str, timeout: float = TIMEOUT, patience: float = PATIENCE) -> None:
        self._connection = Connection(url, key)
        self._timeout = aiohttp.ClientTimeout(total=timeout)
        self._patience = patience
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()

    async def create_job(self, job: NewJob, *, idempotency_key: str | None = None) -> AcceptedJob:
        """Post a job, once."""
        return await self._send(calls.create_job(job, idempotency_key))

    async def dry_run(self, job: NewJob) -> DryRun:
        """What a post would be answered."""
        return await self._send(calls.dry_run(job))

    async def get_job(self, job_id: str) -> Job:
        """A job and its counts."""
        return await self._send(calls.get_job(job_id))

    async def recipients(self, job_id: str, *, status: str | None = None) -> AsyncIterator[Recipient]:
        """A job's recipients in the order of the post, fetched page by page."""
        cursor: str | None = ""
        while cursor is not None:
            page = await self._send(calls.recipients(job_id, status, cursor))
            for each in page["recipients"]:
                yield each
            cursor = page["next_cursor"]

    async def cancel_job(self, job_id: str) -> JobActionResult:
        """Send nothing more of it, for good."""
        return await self._send(calls.change(job_id, "cancel"))

    async def pause_job(self, job_id: str) -> JobActionResult:
        """Send nothing more of it until it is resumed."""
        return await self._send(calls.change(job_id, "pause"))

    async def resume_job(self, job_id: str) -> JobActionResult:
        """Go on with a paused job."""
        return await self._send(calls.change(job_id, "resume"))

    async def retry_job(
        self, job_id: str, *, only: RetryOnly = "failed", kind: BounceKind | None = None
    ) -> JobActionResult:
        """Try its failed letters anew, look for its unsure ones now, or send bounced ones of a `kind` again."""
        return await self._send(calls.retry(job_id, only, kind))

    async def wait_until_finished(self, job_id: str, *, within: float | None = None) -> Job:
        """The job, once nothing of it is open; raises TimeoutError after `within` seconds."""
        async with asyncio.timeout(within):
            while True:
                if calls.is_finished(job := await self.get_job(job_id)):
                    return job
                await asyncio.sleep(POLL_INTERVAL)

    async def events(
        self, *, after: int = 0, types: Sequence[str] = (), follow: float | None = None
    ) -> AsyncIterator[Event]:
        """What happened behind the event `after`, the oldest first."""
        while True:
            page = await self._send(calls.events(after, types))
            for each in page["events"]:
                yield each
            if page["next_after"] == after:
                if follow is None:
                    return
                await asyncio.sleep(follow)
            after = page["next_after"]

    async def templates(self) -> Templates:
        """The named templates."""
        return await self._send(calls.templates())

    async def _send[T](self, call: Call[T]) -> T:
        attempts = Attempts(self._patience)
        while True:
            try:
                return calls.result(call, await self._exchange(call), repeated=attempts.failed > 0)
            except ClientError as error:
                await asyncio.sleep(attempts.wait_after(error))

    async def _exchange(self, call: Call[Any]) -> Answer:
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=self._timeout, trust_env=True)
        address, headers = self._connection.address(call), self._connection.headers(call)
        try:
            async with self._session.request(
                call.method, address, data=call.body, headers=headers, allow_redirects=False
            ) as it:
                retry_after, replayed = it.headers.get("Retry-After", ""), it.headers.get("Idempotency-Replayed", "")
                return Answer(it.status, await it.read(), retry_after, replayed)
        except (aiohttp.ClientError, OSError) as error:
            raise calls.no_answer(call, error) from error
