"""The demonstration's job, by mailerd's own client: wait until the daemon is ready, post it, follow it to its end."""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

from mailerd.client import ApiError, AsyncClient, NewJob, NoAnswerError
from mailerd.sandbox.demo_processes import ProcessError

JOBS = "/api/jobs/send_template_emails"
REQUEST_LIMIT_S = 15.0
_READY_LIMIT_S = 60.0
_STALL_LIMIT_S = 120.0
_POLL_S = 0.2
_ENDED = frozenset({"completed", "cancelled"})


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


async def wait_until_ready(client: AsyncClient) -> None:
    """Wait until the daemon answers calls. The client has no patience: each call is made once.

    Raises:
        ProcessError: it does not; the text is for people.
    """
    end, said = time.monotonic() + _READY_LIMIT_S, "nothing"
    while time.monotonic() < end:
        try:
            await client.templates()
        except (NoAnswerError, ApiError) as error:
            said = str(error)
        else:
            return
        await asyncio.sleep(_POLL_S)
    raise ProcessError(f"the daemon was not ready within {_READY_LIMIT_S:g} s; its last word: {said}")


async def post(client: AsyncClient, job: Mapping[str, Any]) -> Job:
    """Post a job; how it stands.

    Raises:
        ProcessError: it was not accepted.
    """
    try:
        answer = await client.create_job(cast("NewJob", job))
    except (NoAnswerError, ApiError) as error:
        raise ProcessError(str(error)) from error
    return Job(
        id=answer["job_id"], total=answer["total"], status=answer["status"], counts={}, elapsed_s=0.0,
        opted_out=answer["suppressed_total"],
    )  # fmt: skip


async def follow(client: AsyncClient, job: Job, show: Callable[[Job], None]) -> Job:
    """Show a job's progress until it has ended; how it ended.

    Raises:
        ProcessError: the daemon refuses to tell, or the job does not move.
    """
    began = moved = time.monotonic()
    while job.status not in _ENDED:
        await asyncio.sleep(_POLL_S)
        before = job.counts
        try:
            now = await client.get_job(job.id)
        except (NoAnswerError, ApiError) as error:  # asking again is harmless; where the daemon died, its watch says so
            if not error.retry:
                raise ProcessError(str(error)) from error
        else:
            job = replace(
                job, status=now["status"], counts=now["counts"], elapsed_s=time.monotonic() - began,
                cause_of_wait=now["cause_of_wait"] or "",
            )  # fmt: skip
            show(job)
        if job.counts != before:
            moved = time.monotonic()
        elif time.monotonic() - moved > _STALL_LIMIT_S:
            raise ProcessError(f"job {job.id} has not moved for {_STALL_LIMIT_S:g} s; it stands at {job}")
    return job
