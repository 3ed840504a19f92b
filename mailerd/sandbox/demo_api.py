"""The daemon's HTTP interface as a client sees it: wait until it is ready, post a job, follow it to its end."""

import asyncio
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Self

import aiohttp

from mailerd.sandbox.demo_processes import ProcessError

JOBS = "/api/jobs/send_template_emails"

_REQUEST_LIMIT_S = 15.0
_READY_LIMIT_S = 60.0
_STALL_LIMIT_S = 120.0
_POLL_S = 0.2
_OK = 200
_LATER = frozenset({429, 503})
_ENDED = frozenset({"completed", "cancelled"})


class _Later(Exception):  # noqa: N818 # it is no error
    """No answer to a question, or one that says to ask again later."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """How far a job is."""

    id: str
    total: int
    status: str
    counts: Mapping[str, int]
    elapsed_s: float
    """Seconds since it was accepted."""
    opted_out: int = 0
    """Letters that were cancelled at once, since their recipients have opted out."""
    cause_of_wait: str = ""
    """Why its letters wait, where more than the pace holds them."""

    @property
    def sent(self) -> int:
        """Letters that Google has."""
        return self.counts.get("sent", 0)

    @property
    def done(self) -> int:
        """Letters whose story has ended, one way or another."""
        return self.sent + self.counts.get("failed", 0) + self.counts.get("cancelled", 0)

    @property
    def rate(self) -> float:
        """Letters sent per second so far."""
        return self.sent / self.elapsed_s if self.elapsed_s > 0 else 0.0


class Api:
    """A client with one key. Every request is bounded; trouble is a ChildError whose text is for people."""

    def __init__(self, base: str, *, key: str) -> None:
        self._base = base
        self._session = aiohttp.ClientSession(
            headers={"X-API-Key": key}, timeout=aiohttp.ClientTimeout(total=_REQUEST_LIMIT_S)
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self._session.close()

    async def ready(self) -> None:
        """Wait until the daemon says that it can work."""
        said = "nothing"
        end = time.monotonic() + _READY_LIMIT_S
        while time.monotonic() < end:
            try:
                async with self._session.get(f"{self._base}/health/ready") as answer:
                    if answer.status == _OK:
                        return
                    said = f"{answer.status} {await answer.text()}"
            except (aiohttp.ClientError, TimeoutError) as error:
                said = str(error)
            await asyncio.sleep(_POLL_S)
        raise ProcessError(f"the daemon was not ready within {_READY_LIMIT_S:g} s; its last word: {said}")

    async def post(self, job: Mapping[str, Any]) -> Job:
        """Post a job; how it stands."""
        answer = await self._speak("POST", JOBS, body=job)
        return Job(
            id=str(answer["job_id"]), total=int(answer["total"]), status=str(answer["status"]), counts={},
            elapsed_s=0.0, opted_out=int(answer.get("suppressed_total", 0)),
        )  # fmt: skip

    async def follow(self, job: Job, show: Callable[[Job], None]) -> Job:
        """Show a job's progress until it has ended; how it ended."""
        began = moved = time.monotonic()
        while job.status not in _ENDED:
            await asyncio.sleep(_POLL_S)
            before = job.counts
            with suppress(_Later):
                answer = await self._speak("GET", f"/api/jobs/{job.id}")
                counts = {str(state): int(count) for state, count in answer["counts"].items()}
                job = replace(job, status=str(answer["status"]), counts=counts, elapsed_s=time.monotonic() - began)
                job = replace(job, cause_of_wait=str(answer.get("cause_of_wait") or ""))
                show(job)
            if job.counts != before:
                moved = time.monotonic()
            elif time.monotonic() - moved > _STALL_LIMIT_S:
                raise ProcessError(f"job {job.id} has not moved for {_STALL_LIMIT_S:g} s; it stands at {job}")
        return job

    async def _speak(self, method: str, path: str, *, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        try:
            async with self._session.request(method, self._base + path, json=body) as answer:
                if method == "GET" and answer.status in _LATER:
                    raise _Later
                if answer.status != _OK:
                    raise ProcessError(f"{method} {path} was answered {answer.status}: {await answer.text()}")
                said: dict[str, Any] = await answer.json()
                return said
        except (aiohttp.ClientError, TimeoutError) as error:
            if method == "GET":
                # Asking again is harmless; if the daemon has died, the task that watches it says so.
                raise _Later from error
            raise ProcessError(f"{method} {path} was not answered: {type(error).__name__} {error}") from error
