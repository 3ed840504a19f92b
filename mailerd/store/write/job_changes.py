"""Every change of a row of `jobs`: no other file writes that table.

A job into which a message comes back must never get stuck, and a job ends when nothing of it is
open any more.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from mailerd.clock import new_id
from mailerd.core.bounce_rule import BRAKE, BRAKES_COUNT_FOR, MAX_BRAKES
from mailerd.core.reasons import in_row
from mailerd.core.states import OPEN, JobChange, JobStatus, job_after
from mailerd.core.webhooks import EventType
from mailerd.events.worker import RunnerEvents
from mailerd.store.db.connection import Cursor, insert_many, micros, naive, utc
from mailerd.store.db.database import Database
from mailerd.store.write.event_feed import NewEvent, insert_events

# Messages that come back, and their turns.

_LOCK_JOBS: Final = """
SELECT id, status, next_claim_at, braked_until, finished_at, UTC_TIMESTAMP(6) FROM jobs FORCE INDEX (PRIMARY)
 WHERE id IN %s ORDER BY id FOR UPDATE"""
_WHO_CANCELLED: Final = """
SELECT actor FROM job_actions WHERE job_id = %s AND action = 'cancel' ORDER BY id DESC LIMIT 1"""
_SET_NEXT_CLAIM: Final = "UPDATE jobs FORCE INDEX (PRIMARY) SET next_claim_at = %s WHERE id = %s"
_REOPEN: Final = """
UPDATE jobs FORCE INDEX (PRIMARY) SET status = %s, finished_at = NULL, next_claim_at = %s WHERE id = %s"""
_NOT_FINISHED: Final = "UPDATE jobs FORCE INDEX (PRIMARY) SET finished_at = NULL WHERE id = %s"
_COUNT_RESULTS: Final = """
UPDATE jobs FORCE INDEX (PRIMARY)
   SET bounced = GREATEST(bounced + %s, %s) - %s, replied = GREATEST(replied + %s, %s) - %s WHERE id = %s"""
_SUBTRACT_BOUNCED: Final = """
UPDATE jobs FORCE INDEX (PRIMARY) SET bounced = bounced - LEAST(bounced, %s) WHERE id = %s"""
_END_TURNS: Final = """
UPDATE jobs FORCE INDEX (PRIMARY)
   SET status = IF(id IN %s, %s, status), started_at = IF(id IN %s, COALESCE(started_at, UTC_TIMESTAMP(6)), started_at),
       next_claim_at = CASE id {whens} END
 WHERE id IN %s"""


@dataclass(frozen=True)
class LockedJob:
    """A job under its lock, as of `now` by the database's clock."""

    id: str
    status: JobStatus
    next_claim_at: datetime | None
    braked_until: datetime | None
    finished_at: datetime | None
    now: datetime

    @property
    def is_cancelled(self) -> bool:
        """Whether what comes back into it is cancelled."""
        return self.status is JobStatus.CANCELLED


async def lock_jobs(
    cursor: Cursor, ids: Collection[str], *, wait: bool = True
) -> dict[str, LockedJob]:
    """Lock these jobs, in the order of their ids; unless it may `wait`, those that another
    transaction holds are left.

    A resume waits for it: between an UPDATE that finds a paused job and the COMMIT, a job that is
    resumed would look for its next message before ours can be seen, find none, and never be claimed
    again.
    """
    if not ids:
        return {}
    await cursor.execute(_LOCK_JOBS if wait else f"{_LOCK_JOBS} SKIP LOCKED", (tuple(sorted(ids)),))
    return {
        id_: LockedJob(id_, JobStatus(status), utc(next_at), utc(braked), utc(finished), utc(now))
        for id_, status, next_at, braked, finished, now in await cursor.fetchall()
    }


async def who_cancelled(cursor: Cursor, job: str) -> str:
    """Who has cancelled a job, for people."""
    return await cursor.fetch_value(_WHO_CANCELLED, (job,)) or "an unknown user"


async def wake_job(cursor: Cursor, job: LockedJob, wait: timedelta | None) -> None:
    """Let a locked job be claimed in so long at the latest; None: none of its messages waits again.

    A completed one goes on. A cancelled one is finished once more, with other counts: the recovery
    does that, with an event. No message that comes back ends a brake.
    """
    if wait is None:
        return
    match job.status:
        case JobStatus.QUEUED | JobStatus.SENDING:
            at = (
                job.now + wait
                if job.next_claim_at is None
                else min(job.next_claim_at, job.now + wait)
            )
            at = at if job.braked_until is None else max(at, job.braked_until)
            if at != job.next_claim_at:
                await cursor.execute(_SET_NEXT_CLAIM, (naive(at), job.id))
        case JobStatus.COMPLETED:
            at = (
                job.now + wait
                if job.braked_until is None
                else max(job.now + wait, job.braked_until)
            )
            await cursor.execute(
                _REOPEN, (job_after(job.status, JobChange.RETRY).value, naive(at), job.id)
            )
        case JobStatus.CANCELLED if job.finished_at is not None:
            await cursor.execute(_NOT_FINISHED, (job.id,))
        case _:
            pass


async def count_results(cursor: Cursor, job: str, more: Mapping[str, int] | None) -> None:
    """Count how many more messages of a locked job have come back (`bounced`) or were answered
    (`replied`).
    """
    if more:
        bounced, replied = more.get("bounced", 0), more.get("replied", 0)
        less_bounced, less_replied = max(-bounced, 0), max(-replied, 0)
        values = (
            max(bounced, 0),
            less_bounced,
            less_bounced,
            max(replied, 0),
            less_replied,
            less_replied,
        )
        await cursor.execute(_COUNT_RESULTS, (*values, job))


async def subtract_bounced(cursor: Cursor, job: str, messages: int) -> None:
    """Count so many messages of a locked job no longer as come back: they are sent again."""
    await cursor.execute(_SUBTRACT_BOUNCED, (messages, job))


async def end_turns(
    cursor: Cursor, turns: Mapping[str, datetime | None], *, began: Collection[str]
) -> None:
    """Set the next turn of locked jobs; `began`: those of which messages were claimed."""
    began = tuple(began) or ("",)
    whens = [value for job, at in sorted(turns.items()) for value in (job, naive(at))]
    statement = _END_TURNS.format(whens=" ".join(["WHEN %s THEN %s"] * len(turns)))
    await cursor.execute(
        statement, (began, JobStatus.SENDING.value, began, *whens, tuple(sorted(turns)))
    )


# The audit's two cases: a job with waiting messages has no next claim, or its sender has none.
# LIMIT 1 keeps MariaDB from reading all recipients, which it does for an EXISTS beside an OR.
STUCK_JOBS: Final = """
SELECT j.id, j.sender_email FROM jobs j FORCE INDEX (by_status)
 WHERE j.status IN ('queued', 'sending')
   AND ((j.next_claim_at IS NULL
         AND (SELECT 1 FROM job_recipients r WHERE r.job_id = j.id AND r.status = 'waiting' LIMIT 1) = 1)
     OR (j.next_claim_at IS NOT NULL
         AND (SELECT s.next_claim_at FROM senders s WHERE s.email = j.sender_email) IS NULL))
 LIMIT %s"""
MAX_FOUND: Final = 200
"""The most stuck or unfinished jobs of one search; usually there are none."""


async def stuck_jobs(cursor: Cursor) -> dict[str, str]:
    """Jobs that no claim would ever find though something of them waits, and the sender of each.

    One statement sees one moment, and all that lets a message wait wakes its job in the same
    commit: what is found here is the result of a fault.
    """
    await cursor.execute(STUCK_JOBS, (MAX_FOUND,))
    return dict(await cursor.fetchall())


async def write_stuck(cursor: Cursor, jobs: Collection[str]) -> None:
    """Write the events of jobs that were stuck and are woken in this transaction."""
    await cursor.execute(
        "SELECT id, sender_email, reference FROM jobs WHERE id IN %s", (tuple(jobs),)
    )
    events = [
        NewEvent(
            EventType.JOB_STUCK,
            new_id(),
            {"job_id": job, "sender_email": sender, "reference": reference},
            job,
            sender,
        )
        for job, sender, reference in await cursor.fetchall()
    ]
    await cursor.execute(*insert_events(events))


# The end of a job.

UNFINISHED: Final = "j.finished_at IS NULL"
"""A job `j` that has not ended.

A cancelled job ends when its last message is no longer in flight.
"""
# LIMIT keeps MariaDB from making one list of all open messages of all jobs out of three NOT EXISTS.
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
       j.pause_reason = NULL, j.bounce_warning = NULL, j.status = IF(j.status = 'cancelled', j.status, %s),
       j.sent = %s, j.failed = %s
 WHERE j.id = %s AND {UNFINISHED} AND j.total = %s"""
_COUNT_ENDED: Final = """
SELECT job_id, COUNT(*) FROM job_recipients
 WHERE job_id IN %s AND status IN ('sent', 'failed', 'cancelled') GROUP BY job_id"""
_READ_DURATION: Final = """
SELECT TIMESTAMPDIFF(MICROSECOND, COALESCE(started_at, created_at), finished_at) FROM jobs
WHERE id = %s
"""
_READ_FINISHED_JOB: Final = (
    "SELECT sender_email, reference, status, total, finished_at FROM jobs WHERE id = %s"
)


@dataclass(frozen=True)
class CompletedJob:
    """A job that has ended."""

    job: str
    sent: int
    failed: int
    cancelled: int
    seconds: float


async def complete(cursor: Cursor, ids: Sequence[str]) -> list[CompletedJob]:
    """Complete those of the jobs in which nothing is open and whose counts add up, in the caller's
    transaction.
    """
    await cursor.execute(_SELECT_FINISHED, (tuple(ids),))
    done = []
    for job in sorted(job for (job,) in await cursor.fetchall()):
        await lock_jobs(cursor, [job])  # a retry that reopens a row waits, or was seen here
        await cursor.execute(COUNTS, (job,))
        counts = dict(await cursor.fetchall())
        if OPEN & counts.keys():
            continue
        ended = counts.get("sent", 0), counts.get("failed", 0)
        await cursor.execute(
            _FINISH, (JobStatus.COMPLETED.value, *ended, job, sum(counts.values()))
        )
        if cursor.rowcount == 1:
            await write_finished(cursor, job, counts)
            done.append(
                CompletedJob(
                    job=job,
                    sent=counts.get("sent", 0),
                    failed=counts.get("failed", 0),
                    cancelled=counts.get("cancelled", 0),
                    seconds=await _took(cursor, job),
                )
            )
    return done


def say_finished(events: RunnerEvents, jobs: Iterable[CompletedJob]) -> None:
    """Log that these jobs have ended."""
    for it in jobs:
        events.job_finished(
            job=it.job, sent=it.sent, failed=it.failed, cancelled=it.cancelled, seconds=it.seconds
        )


async def was_completed(cursor: Cursor, done: Sequence[CompletedJob]) -> bool:
    """Whether this transaction completed the jobs: another daemon's would have ended at another
    microsecond.
    """
    if not done:
        return False
    await lock_jobs(cursor, [done[0].job])  # a commit that is under way comes first
    return await _took(cursor, done[0].job) == done[0].seconds


async def write_finished(cursor: Cursor, job: str, counts: Mapping[str, int]) -> None:
    """Write the event of a job that has just finished, in the same transaction; `counts`: its
    recipients by status.
    """
    await cursor.execute(_READ_FINISHED_JOB, (job,))
    sender, reference, status, total, at = await cursor.fetchone()
    ended = {name: counts.get(name, 0) for name in ("sent", "failed", "cancelled")}
    data = {
        "job_id": job,
        "sender_email": sender,
        "reference": reference,
        "status": status,
        "total": total,
        **ended,
    }
    cause = f"{job}:{at.isoformat(timespec='microseconds')}"
    await cursor.execute(
        *insert_events([NewEvent(EventType.JOB_FINISHED, cause, data, job, sender)])
    )


async def count_ended(cursor: Cursor, jobs: Sequence[str]) -> dict[str, int]:
    """How many recipients of each job have ended; nothing for a job in which none has."""
    await cursor.execute(_COUNT_ENDED, (tuple(jobs),))
    return dict(await cursor.fetchall())


async def _took(cursor: Cursor, job: str) -> float:
    return float(await cursor.fetch_value(_READ_DURATION, (job,)) or 0) / 1e6


# What a person, a client or a rule asks of a job whose row is locked.

_SET_CANCELLED: Final = """
UPDATE jobs FORCE INDEX (PRIMARY)
   SET status = %s, next_claim_at = NULL, finished_at = NULL, pause_cause = NULL, pause_reason = NULL,
       bounce_warning = NULL
 WHERE id = %s"""
_SET_PAUSED: Final = """
UPDATE jobs FORCE INDEX (PRIMARY)
   SET status = %s, next_claim_at = NULL, pause_cause = %s WHERE id = %s"""
_SET_REASON: Final = """
UPDATE jobs FORCE INDEX (PRIMARY)
   SET pause_reason = %s, pause_reason_code = %s, pause_reason_args = %s, bounce_warning = NULL WHERE id = %s"""
# A brake (store/inbox/mailboxes.py) goes on.
_SET_RUNNING: Final = """
UPDATE jobs FORCE INDEX (PRIMARY)
   SET status = %s, finished_at = NULL,
       next_claim_at = GREATEST(CAST(%s AS DATETIME(6)), COALESCE(braked_until, '1970-01-01')) WHERE id = %s"""
# What came back before has been seen by who resumes a job that was paused for it: it pauses the job
# no more (core/bounce_rule.py). After any other pause it counts on: a program that pauses and
# resumes has seen nothing.
_HAS_SEEN_BOUNCES: Final = """
UPDATE jobs FORCE INDEX (PRIMARY)
   SET bounces_seen = UTC_TIMESTAMP(6), bounce_warning = NULL, braked_until = NULL, brakes = 0
 WHERE id = %s AND pause_cause = 'bounces'"""
_FORGET_PAUSE: Final = """
UPDATE jobs FORCE INDEX (PRIMARY) SET pause_cause = NULL, pause_reason = NULL WHERE id = %s"""
_KEEP_MARKDOWN: Final = "UPDATE jobs FORCE INDEX (PRIMARY) SET markdown = %s WHERE id = %s"
_SET_PRIORITY: Final = "UPDATE jobs FORCE INDEX (PRIMARY) SET priority = %s WHERE id = %s"
_SET_REFERENCE: Final = "UPDATE jobs FORCE INDEX (PRIMARY) SET reference = %s WHERE id = %s"
_SET_METADATA: Final = "UPDATE jobs FORCE INDEX (PRIMARY) SET metadata = %s WHERE id = %s"
_SET_SEND_AT: Final = "UPDATE jobs FORCE INDEX (PRIMARY) SET send_at = %s WHERE id = %s"
_SET_WARNING: Final = """
UPDATE jobs FORCE INDEX (PRIMARY)
   SET bounce_warning = %s, bounce_warning_code = %s, bounce_warning_args = %s WHERE id = %s"""
# From left to right: the count is that before this time.
_BRAKE: Final = """
UPDATE jobs FORCE INDEX (PRIMARY)
   SET brakes = IF(braked_until > UTC_TIMESTAMP(6) - INTERVAL %s MICROSECOND, brakes + 1, 1),
       braked_until = UTC_TIMESTAMP(6) + INTERVAL %s MICROSECOND,
       next_claim_at = GREATEST(next_claim_at, braked_until)
 WHERE id = %s AND status = 'sending' AND next_claim_at IS NOT NULL
   AND (braked_until IS NULL OR braked_until <= UTC_TIMESTAMP(6) - INTERVAL %s MICROSECOND
        OR (braked_until <= UTC_TIMESTAMP(6) AND brakes < %s))"""


async def set_cancelled(cursor: Cursor, job: str, status: JobStatus) -> None:
    """Cancel a job; it ends by `complete`, once none of its messages is in flight."""
    await cursor.execute(_SET_CANCELLED, (status.value, job))


async def set_paused(
    cursor: Cursor, job: str, status: JobStatus, *, cause: str, reason: str | None = None
) -> None:
    """Pause a job; with a `reason`, what was a warning has come true."""
    await cursor.execute(_SET_PAUSED, (status.value, cause, job))
    if reason is not None:
        await cursor.execute(_SET_REASON, (*in_row(reason, 500), job))


async def set_running(
    cursor: Cursor, job: str, status: JobStatus, *, next_at: datetime | None
) -> None:
    """Let a job be claimed from, or completed; `next_at`: when its first message is due, as the
    database has it.
    """
    await cursor.execute(_SET_RUNNING, (status.value, next_at, job))


async def end_pause(cursor: Cursor, job: str) -> None:
    """Forget why a job was paused."""
    await cursor.execute(_HAS_SEEN_BOUNCES, (job,))
    await cursor.execute(_FORGET_PAUSE, (job,))


async def set_priority(cursor: Cursor, job: str, priority: int) -> None:
    """Give a job another place among those of its sender."""
    await cursor.execute(_SET_PRIORITY, (priority, job))


async def set_reference(cursor: Cursor, job: str, reference: str | None) -> None:
    """Give a job another reference."""
    await cursor.execute(_SET_REFERENCE, (reference, job))


async def set_metadata(cursor: Cursor, job: str, metadata: str | None) -> None:
    """Give a job other metadata, as JSON."""
    await cursor.execute(_SET_METADATA, (metadata, job))


async def set_send_at(cursor: Cursor, job: str, at: datetime) -> None:
    """Give a job that has not begun another time; its turn and its messages are the caller's."""
    await cursor.execute(_SET_SEND_AT, (naive(at), job))


async def set_warning(cursor: Cursor, job: str, words: str | None) -> None:
    """Warn that so much came back that a job may be paused; None: no more."""
    await cursor.execute(_SET_WARNING, (*in_row(words, 500), job))


async def brake(cursor: Cursor, job: str) -> bool:
    """Let a job wait while what came back of it is read; whether it waits from now on."""
    long_ago = micros(BRAKES_COUNT_FOR)
    await cursor.execute(_BRAKE, (long_ago, micros(BRAKE), job, long_ago, MAX_BRAKES))
    return cursor.rowcount == 1


# A new row, and what a clock that was ahead has left in old ones.

_ADD_JOB: Final = "INSERT INTO jobs ({columns}) VALUES ({places})"
_ADD_TAGS: Final = "INSERT INTO job_tags (tag, job_id) VALUES %s"
_DELETE_TAGS: Final = "DELETE FROM job_tags WHERE job_id = %s"
_SENT_AT_ONCE: Final = """
SELECT id, send_at FROM jobs FORCE INDEX (by_status)
 WHERE status IN ('queued', 'sending', 'paused') AND created_at > UTC_TIMESTAMP(6) AND send_at = created_at"""
# A time that a client gave is another.
_SEND_NOW: Final = """
UPDATE jobs FORCE INDEX (PRIMARY) SET send_at = UTC_TIMESTAMP(6) WHERE id = %s AND send_at > UTC_TIMESTAMP(6)"""
_CLOCK_WENT_BACK: Final = (
    """
UPDATE jobs FORCE INDEX (by_status) SET next_claim_at = UTC_TIMESTAMP(6), braked_until = NULL
 WHERE status IN ('queued', 'sending') AND next_claim_at > UTC_TIMESTAMP(6)""",
    # What is sent from now on counts: it would not, until then.
    """
UPDATE jobs FORCE INDEX (by_status)
   SET bounces_seen = LEAST(bounces_seen, UTC_TIMESTAMP(6)), braked_until = LEAST(braked_until, UTC_TIMESTAMP(6))
 WHERE status IN ('queued', 'sending', 'paused')
   AND (bounces_seen > UTC_TIMESTAMP(6) OR braked_until > UTC_TIMESTAMP(6))""",
)
"""What brings its moments back."""


async def add_job(cursor: Cursor, values: Mapping[str, object]) -> None:
    """Add a job. `values`: by column."""
    statement = _ADD_JOB.format(columns=", ".join(values), places=", ".join(["%s"] * len(values)))
    await cursor.execute(statement, [*values.values()])


async def add_tags(cursor: Cursor, job: str, tags: Collection[str]) -> None:
    """Give a job tags besides those that it has."""
    if tags:
        await cursor.execute(*insert_many(_ADD_TAGS, [(tag, job) for tag in tags]))


async def set_tags(cursor: Cursor, job: str, tags: Collection[str]) -> None:
    """Give a job these tags instead of those that it has."""
    await cursor.execute(_DELETE_TAGS, (job,))
    await add_tags(cursor, job, tags)


async def keep_markdown(database: Database, job: str, markdown: str, *, bound: float) -> None:
    """Note what the HTML of a job was made of, so that its author can go on with it."""
    await database.execute(_KEEP_MARKDOWN, (markdown, job), what="jobs.keep_markdown", bound=bound)


async def sent_at_once(database: Database) -> list[tuple[str, datetime]]:
    """Jobs that were posted by a clock that was ahead, to be sent at once, with the time that it
    gave them.
    """
    return [(job, at) for job, at in await database.read_rows(_SENT_AT_ONCE, what="clock.follow")]


async def send_now(database: Database, job: str) -> None:
    """Let a job be sent now that a clock that was ahead has put off."""
    await database.execute(_SEND_NOW, (job,), what="clock.follow")


async def follow_clock(database: Database) -> None:
    """Bring back the moments that a clock that was ahead has left."""
    for statement in _CLOCK_WENT_BACK:
        await database.execute(statement, what="clock.follow")
