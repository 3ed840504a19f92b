"""Jobs that have ended: completes them when nothing of them is open, and counts what has ended in the others."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from mailerd.core.event_types import EventType
from mailerd.core.states import OPEN, JobStatus
from mailerd.store.db.cursor import Cursor
from mailerd.store.outbox import NewEvent, insert_events
from mailerd.store.queue.reschedule import lock_job

UNFINISHED: Final = "j.finished_at IS NULL"
"""A job `j` that has not ended. A cancelled job ends when its last letter is no longer in flight."""
# LIMIT keeps MariaDB from making one list of all open letters of all jobs out of three NOT EXISTS.
_ANY: Final = "(SELECT 1 FROM job_recipients r FORCE INDEX (claim) WHERE r.job_id = j.id AND r.status = '{}' LIMIT 1)"
_SELECT_FINISHED: Final = f"""
SELECT j.id FROM jobs j FORCE INDEX (PRIMARY)
 WHERE j.id IN %s AND {UNFINISHED}
   AND {" AND ".join(f"{_ANY.format(state.value)} IS NULL" for state in sorted(OPEN))}"""
COUNTS: Final = "SELECT status, COUNT(*) FROM job_recipients WHERE job_id = %s GROUP BY status"
"""How many recipients of a job are in each state."""
_FINISH: Final = f"""
UPDATE jobs j FORCE INDEX (PRIMARY)
   SET j.finished_at = UTC_TIMESTAMP(6), j.next_claim_at = NULL, j.pause_cause = NULL,
       j.pause_reason = NULL, j.bounce_warning = NULL, j.status = IF(j.status = 'cancelled', j.status, %s)
 WHERE j.id = %s AND {UNFINISHED} AND j.total = %s"""
_COUNT_ENDED: Final = """
SELECT job_id, COUNT(*) FROM job_recipients
 WHERE job_id IN %s AND status IN ('sent', 'failed', 'cancelled') GROUP BY job_id"""
_READ_DURATION: Final = (
    "SELECT TIMESTAMPDIFF(MICROSECOND, COALESCE(started_at, created_at), finished_at) FROM jobs WHERE id = %s"
)
_READ_FINISHED_JOB: Final = "SELECT sender_email, reference, status, total, finished_at FROM jobs WHERE id = %s"


@dataclass(frozen=True)
class CompletedJob:
    """A job that has ended."""

    id: str
    sent: int
    failed: int
    cancelled: int
    seconds: float


async def complete(cursor: Cursor, ids: Sequence[str]) -> list[CompletedJob]:
    """Complete those of the jobs in which nothing is open and whose counts add up, in the caller's transaction."""
    await cursor.execute(_SELECT_FINISHED, (tuple(ids),))
    done = []
    for (job,) in await cursor.fetchall():
        await lock_job(cursor, job)  # a retry that reopens a row waits, or was seen here
        await cursor.execute(COUNTS, (job,))
        counts = dict(await cursor.fetchall())
        if OPEN & counts.keys():
            continue
        await cursor.execute(_FINISH, (JobStatus.COMPLETED.value, job, sum(counts.values())))
        if cursor.rowcount == 1:
            await write_finished(cursor, job, counts)
            done.append(
                CompletedJob(
                    id=job, sent=counts.get("sent", 0), failed=counts.get("failed", 0),
                    cancelled=counts.get("cancelled", 0), seconds=await _took(cursor, job),
                )
            )  # fmt: skip
    return done


async def write_finished(cursor: Cursor, job: str, counts: Mapping[str, int]) -> None:
    """Write the event of a job that has just finished, in the same transaction; `counts`: its recipients by status."""
    await cursor.execute(_READ_FINISHED_JOB, (job,))
    sender, reference, status, total, at = await cursor.fetchone()
    ended = {name: counts.get(name, 0) for name in ("sent", "failed", "cancelled")}
    data = {"job_id": job, "sender_email": sender, "reference": reference, "status": status, "total": total, **ended}
    await cursor.execute(
        *insert_events(
            [NewEvent(EventType.JOB_FINISHED, f"{job}:{at.isoformat(timespec='microseconds')}", data, job, sender)]
        )
    )


async def count_ended(cursor: Cursor, jobs: Sequence[str]) -> dict[str, int]:
    """How many recipients of each job have ended; nothing for a job in which none has."""
    await cursor.execute(_COUNT_ENDED, (tuple(jobs),))
    return dict(await cursor.fetchall())


async def _took(cursor: Cursor, job: str) -> float:
    await cursor.execute(_READ_DURATION, (job,))
    row = await cursor.fetchone()
    return float((row and row[0]) or 0) / 1e6


async def was_completed(cursor: Cursor, it: CompletedJob) -> bool:
    """Whether this transaction completed the job: another daemon's would have ended at another microsecond."""
    await lock_job(cursor, it.id)  # a commit that is under way comes first
    return await _took(cursor, it.id) == it.seconds
