"""Makes jobs claimable again, and ends them: a job into which a letter comes back must never get stuck."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from mailerd.core.states import OPEN, JobStatus, State, Transition, after
from mailerd.core.webhooks import EventType
from mailerd.store.db.connection import Cursor
from mailerd.store.event_feed import NewEvent, insert_events

# No letter that comes back ends a brake (store/inbox/brake.py).
_RESCHEDULE_JOB: Final = """
UPDATE jobs FORCE INDEX (PRIMARY)
   SET next_claim_at = GREATEST(
         LEAST(COALESCE(next_claim_at, '9999-12-31'), UTC_TIMESTAMP(6) + INTERVAL %s MICROSECOND),
         COALESCE(braked_until, '1970-01-01'))
 WHERE id = %s AND status IN ('queued', 'sending')"""
_LOCK_JOB: Final = "SELECT status FROM jobs FORCE INDEX (PRIMARY) WHERE id = %s FOR UPDATE"
# A letter that comes back into a cancelled job has nothing to wait for. Only what came back in this transaction:
# its rows are locked, and to wait here for those of another, which waits for our job, would be a deadlock.
_CANCEL_RETURNED: Final = """
UPDATE job_recipients FORCE INDEX (PRIMARY)
   SET status = %s, updated_at = UTC_TIMESTAMP(6), error = CONCAT('the job was cancelled by ', COALESCE(
         (SELECT actor FROM job_actions WHERE job_id = %s AND action = 'cancel' ORDER BY id DESC LIMIT 1),
         'an unknown user'))
 WHERE id IN %s AND job_id = %s AND status = 'waiting'"""
_RESCHEDULE_SENDER: Final = """
UPDATE senders FORCE INDEX (PRIMARY)
   SET next_claim_at = LEAST(COALESCE(next_claim_at, '9999-12-31'), UTC_TIMESTAMP(6) + INTERVAL %s MICROSECOND)
 WHERE email = %s"""

NOT_FORGOTTEN: Final = "to_email <> CONCAT('forgotten-', id, '@example.invalid')"
"""The statement of docs/privacy.md has not taken the row's person out. What it leaves as an address gets no letter."""

NEVER_HANDED_OVER: Final = """due_at = UTC_TIMESTAMP(6), updated_at = UTC_TIMESTAMP(6), mode = NULL,
       draft_id = NULL, thread_id = NULL, message_id = NULL, proof = NULL, sent_at = NULL, handed_over_at = NULL,
       unanswered = 0, discarding = 0, checks = 0, crashes = 0, nothing_found_at = NULL, fate = NULL, fate_kind = NULL,
       fate_code = NULL, fate_reason = NULL, fate_at = NULL, came_back = 1"""
"""What is set where a letter that came back waits again, as if Google had never been asked to send it."""

MAX_FOUND: Final = 200
"""The most stuck or unfinished jobs of one search; usually there are none."""
# The audit's two cases: a job with waiting letters has no next claim, or its sender has none. LIMIT 1 keeps
# MariaDB from reading all recipients, which it does for an EXISTS beside an OR.
STUCK_JOBS: Final = """
SELECT j.id, j.sender_email FROM jobs j FORCE INDEX (by_status)
 WHERE j.status IN ('queued', 'sending')
   AND ((j.next_claim_at IS NULL
         AND (SELECT 1 FROM job_recipients r WHERE r.job_id = j.id AND r.status = 'waiting' LIMIT 1) = 1)
     OR (j.next_claim_at IS NOT NULL
         AND (SELECT s.next_claim_at FROM senders s WHERE s.email = j.sender_email) IS NULL))
 LIMIT %s"""


async def reschedule(
    cursor: Cursor, *, jobs: dict[str, int], senders: dict[str, int], back: Iterable[int] = ()
) -> set[str]:
    """Make these claimable in so many microseconds at the latest; always jobs first, then senders.

    Returns the cancelled jobs: the letters that came `back` into them are now cancelled too.
    """
    ids = tuple(sorted(back))
    cancelled: set[str] = set()
    for job, wait in sorted(jobs.items()):
        await cursor.execute(_RESCHEDULE_JOB, (wait, job))
        if cursor.rowcount == 0 and await _is_stopped(cursor, job, wait, ids):
            cancelled.add(job)
    for sender, wait in sorted(senders.items()):
        await cursor.execute(_RESCHEDULE_SENDER, (wait, sender))
    return cancelled


async def lock_job(cursor: Cursor, job: str) -> JobStatus | None:
    """The status of a job, locked; None: there is none."""
    await cursor.execute(_LOCK_JOB, (job,))
    row = await cursor.fetchone()
    return JobStatus(row[0]) if row else None


async def _is_stopped(cursor: Cursor, job: str, wait: int, back: tuple[int, ...]) -> bool:
    """Whether a job that was not rescheduled is cancelled; it is locked until our COMMIT, and a resume waits.

    An update that matches nothing keeps no lock: resumed in that gap, the job would look for its next letter before
    ours can be seen, find none, and never be claimed again.
    """
    match await lock_job(cursor, job):
        case JobStatus.CANCELLED:
            if back:
                await cursor.execute(
                    _CANCEL_RETURNED, (after(State.WAITING, Transition.CANCELLED).value, job, back, job)
                )
            return True
        case JobStatus.QUEUED | JobStatus.SENDING:  # resumed between the two statements
            await cursor.execute(_RESCHEDULE_JOB, (wait, job))
        case _:
            pass
    return False


async def stuck_jobs(cursor: Cursor) -> dict[str, str]:
    """Jobs that no claim would ever find though something of them waits, and the sender of each.

    One statement sees one moment, and all that lets a letter wait reschedules its job in the same commit: what is found
    here is the result of a fault.
    """
    await cursor.execute(STUCK_JOBS, (MAX_FOUND,))
    return dict(await cursor.fetchall())


def short(text: str | None, limit: int = 1000) -> str | None:
    """What fits into a column of so many characters."""
    return text if text is None or len(text) <= limit else text[: limit - 1] + "…"


# Jobs that have ended: completes them when nothing of them is open, and counts what has ended in the others.

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
