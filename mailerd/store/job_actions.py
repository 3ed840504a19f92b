"""What people ask of jobs: cancel, pause, resume, retry, another priority; each in one transaction, each noted.

A job's row is locked first, so whatever a claim or a record does to it comes wholly before or wholly after.
"""

from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final

from mailerd.clock import new_id
from mailerd.core.pauses import MANUAL
from mailerd.core.states import JobChange, JobStatus, State, Transition, after, job_after
from mailerd.core.webhooks import EventType
from mailerd.store.action_log import note_action
from mailerd.store.db.connection import Cursor
from mailerd.store.db.database import Database
from mailerd.store.db.migrate import without_limit
from mailerd.store.db.times import micros, utc
from mailerd.store.event_feed import NewEvent, insert_events
from mailerd.store.queue.reschedule import COUNTS, NEVER_HANDED_OVER, NOT_FORGOTTEN, write_finished

LETTERS_PER_SECOND: Final = 5_000
"""How many letters the slowest acceptable database changes in a second; it gives a big job its time."""

_LOCK_JOB: Final = "SELECT status, sender_email, started_at, priority, reference FROM jobs WHERE id = %s FOR UPDATE"
_CANCEL_WAITING: Final = """
UPDATE job_recipients FORCE INDEX (claim) SET status = %s, error = %s, updated_at = UTC_TIMESTAMP(6)
 WHERE job_id = %s AND status = 'waiting'"""
_COUNT_IN_FLIGHT: Final = "SELECT COUNT(*) FROM job_recipients WHERE job_id = %s AND status IN ('sending', 'unsure')"
_SET_CANCELLED: Final = """
UPDATE jobs SET status = %s, next_claim_at = NULL, finished_at = IF(%s, NULL, UTC_TIMESTAMP(6)), pause_cause = NULL,
       pause_reason = NULL, bounce_warning = NULL WHERE id = %s"""
_SET_PAUSED: Final = "UPDATE jobs SET status = %s, next_claim_at = NULL, pause_cause = %s WHERE id = %s"

_NEXT_DUE: Final = "SELECT MIN(due_at) FROM job_recipients FORCE INDEX (claim) WHERE job_id = %s AND status = 'waiting'"
# A brake (store/inbox/brake.py) goes on.
_SET_RUNNING: Final = """
UPDATE jobs SET status = %s, finished_at = NULL,
       next_claim_at = GREATEST(CAST(%s AS DATETIME(6)), COALESCE(braked_until, '1970-01-01')) WHERE id = %s"""
# What came back before has been seen by who resumes a job that was paused for it: it pauses the job no more
# (core/bounce_rule.py). After any other pause it counts on: a program that pauses and resumes has seen nothing.
_END_PAUSE: Final = """
UPDATE jobs SET bounces_seen = UTC_TIMESTAMP(6), bounce_warning = NULL, braked_until = NULL, brakes = 0
 WHERE id = %s AND pause_cause = 'bounces'"""
_FORGET_PAUSE: Final = "UPDATE jobs SET pause_cause = NULL, pause_reason = NULL WHERE id = %s"
# Never before now: from its turn on a letter counts as late.
_RESCHEDULE_SENDER: Final = """
UPDATE senders FORCE INDEX (PRIMARY)
   SET next_claim_at = LEAST(COALESCE(next_claim_at, '9999-12-31'),
                             GREATEST(CAST(%s AS DATETIME(6)), UTC_TIMESTAMP(6))) WHERE email = %s"""

# What was refused at the intake has no attempt behind it: it has no address, or is a duplicate, and stays failed. So
# does what a worker reported as sent after it had been given up: Google has it.
_WHERE_FAILED: Final = (
    f"job_id = %s AND status = 'failed' AND attempts > 0 AND message_id IS NULL AND {NOT_FORGOTTEN} AND NOT EXISTS "
    "(SELECT 1 FROM attempts a "
    "WHERE a.recipient_id = job_recipients.id AND a.event = 'sent' AND a.message_id IS NOT NULL)"
)
_AND_ERROR: Final = " AND COALESCE(error, '') IN %s"
_LOG_RETRIED: Final = f"""
INSERT INTO attempts (recipient_id, attempt, claim_token, daemon_id, event, applied, error, at)
SELECT id, attempts, %s, %s, 'retried', 1, error, UTC_TIMESTAMP(6) FROM job_recipients FORCE INDEX (claim)
 WHERE {_WHERE_FAILED}"""
# It forgets its draft: one that is gone would look like sent.
_RETRY_FAILED: Final = f"""
UPDATE job_recipients FORCE INDEX (claim)
   SET status = %s, attempts = 0, checks = 0, crashes = 0, error = NULL, mode = NULL, draft_id = NULL, thread_id = NULL,
       due_at = UTC_TIMESTAMP(6), updated_at = UTC_TIMESTAMP(6)
 WHERE {_WHERE_FAILED}"""
# What has bounced, of these kinds.
_WHERE_BOUNCED: Final = f"job_id = %s AND status = 'sent' AND fate = 'bounced' AND fate_kind IN %s AND {NOT_FORGOTTEN}"
_LOG_RETRIED_BOUNCED: Final = f"""
INSERT INTO attempts (recipient_id, attempt, claim_token, daemon_id, event, applied, draft_id, message_id, error, at)
SELECT id, attempts, %s, %s, 'retried', 1, draft_id, message_id, CONCAT('bounced: ', COALESCE(fate_reason, fate_kind)),
       UTC_TIMESTAMP(6) FROM job_recipients FORCE INDEX (claim) WHERE {_WHERE_BOUNCED} FOR UPDATE"""
# Every hand-over asks the log whether Google has the letter. It had, and it came back. A join: before MariaDB 11.1 and
# MySQL 8.0.21 an UPDATE with IN (SELECT …) reads the whole log.
_FORGET_MESSAGE_IDS: Final = f"""
UPDATE (SELECT id AS recipient FROM job_recipients FORCE INDEX (claim) WHERE {_WHERE_BOUNCED}) r
  STRAIGHT_JOIN attempts a FORCE INDEX (event_of_claim) ON a.recipient_id = r.recipient
   SET a.message_id = NULL WHERE a.event = 'sent'"""
_RETRY_BOUNCED: Final = f"""
UPDATE job_recipients FORCE INDEX (claim)
   SET status = %s, attempts = 0, error = NULL, {NEVER_HANDED_OVER}
 WHERE {_WHERE_BOUNCED}"""
_SUBTRACT_BOUNCED: Final = "UPDATE jobs SET bounced = bounced - LEAST(bounced, %s) WHERE id = %s"
# Checked now, but never before a request without an answer can no longer arrive. It stays unsure until it is found
# or missing; a letter that is being checked (it has a token) is left alone.
_CHECK_NOW: Final = """
UPDATE job_recipients FORCE INDEX (claim)
   SET checks = 0, lease_until = LEAST(COALESCE(lease_until, '9999-12-31'),
                                      GREATEST(UTC_TIMESTAMP(6), updated_at + INTERVAL %s MICROSECOND))
 WHERE job_id = %s AND status = 'unsure' AND claim_token IS NULL"""
_SET_PRIORITY: Final = "UPDATE jobs SET priority = %s WHERE id = %s"


@dataclass(frozen=True)
class ActionResult:
    """What a request has changed."""

    changed: bool
    letters: int
    status: JobStatus


@dataclass(frozen=True)
class RecordedAction:
    """A request as it was noted."""

    action: str
    actor: str
    detail: str | None
    changed: bool
    letters: int
    at: datetime


@dataclass(frozen=True)
class _Found:
    """A job whose row is locked."""

    id: str
    status: JobStatus
    sender: str
    reference: str | None
    started: bool
    priority: int


class JobActions:
    """Applies what is asked of jobs.

    `timeout`: seconds for an answer; `late_arrival`: for how long a send without an answer may still reach Google.
    """

    def __init__(self, database: Database, *, timeout: float, late_arrival: timedelta) -> None:
        self._database = database
        self._timeout = timeout
        self._late_arrival = late_arrival

    async def apply(
        self,
        job_id: str,
        change: JobChange,
        *,
        actor: str,
        letters: int = 0,
        priority: int = 0,
        unsure: bool = False,
        bounced: Sequence[str] = (),
        errors: Collection[str] | None = None,
    ) -> ActionResult:
        """Do what is asked and record it. `letters`: the job's size.

        `unsure`: retry means to check the unsure letters; `bounced`: to send those again that bounced, of these kinds.

        `errors`: retry only the letters that failed with one of these reasons.

        Raises:
            ImpossibleRequestError: the job's status does not allow it; nothing was changed or noted.
            DatabaseError: nothing was changed; where `in_doubt` is set, asking again is the way to know.
        """

        async def work(cursor: Cursor) -> ActionResult:
            job = await _lock(cursor, job_id)
            status = job_after(job.status, change)
            if change is JobChange.RETRY and bounced:
                done = await _retry_bounced(cursor, job, status, bounced)
            elif errors is not None and change is JobChange.RETRY and not unsure:
                done = await _retry(cursor, job, status, errors=errors)
            else:
                done = await self._do(cursor, job, change, status=status, priority=priority, unsure=unsure, actor=actor)
            retried = f"bounced: {', '.join(bounced)}" if bounced else "unsure" if unsure else "failed"
            detail = {JobChange.PRIORITY: str(priority), JobChange.RETRY: retried}.get(change)
            note = note_action(
                change.value, actor, job=job_id, detail=detail, changed=done.changed, letters=done.letters
            )
            await cursor.execute(*note)
            return done

        bound = self._timeout + letters / LETTERS_PER_SECOND
        act = partial(_unlimited, work) if letters > LETTERS_PER_SECOND else work
        return await self._database.request(act, what=f"{change} a job", bound=bound)

    async def _do(
        self,
        cursor: Cursor,
        job: _Found,
        change: JobChange,
        *,
        status: JobStatus,
        priority: int,
        unsure: bool,
        actor: str,
    ) -> ActionResult:
        match change:
            case JobChange.CANCEL:
                return await _cancel(cursor, job, status, actor)
            case JobChange.PAUSE:
                if status is not job.status:  # a pause for another cause stays that
                    await cursor.execute(_SET_PAUSED, (status.value, MANUAL, job.id))
                    await _write_event(cursor, EventType.JOB_PAUSED, job, actor)
                return ActionResult(status is not job.status, 0, status)
            case JobChange.RESUME:
                return await _resume(cursor, job, status)
            case JobChange.RETRY if unsure:
                await cursor.execute(_CHECK_NOW, (micros(self._late_arrival), job.id))
                return ActionResult(cursor.rowcount > 0, cursor.rowcount, job.status)
            case JobChange.RETRY:
                return await _retry(cursor, job, status)
            case JobChange.PRIORITY:
                await cursor.execute(_SET_PRIORITY, (priority, job.id))
                return ActionResult(priority != job.priority, 0, job.status)

    async def actions(self, job_id: str, *, within: float | None = None) -> list[RecordedAction]:
        """What was asked of a job, the last hundred requests, the newest first. `within`: seconds, if not the usual."""
        rows = await self._database.request_rows(
            "SELECT action, actor, detail, changed, letters, at FROM job_actions WHERE job_id = %s "
            "ORDER BY id DESC LIMIT 100",
            (job_id,),
            what="read what was asked of a job",
            bound=within or self._timeout,
        )
        return [_action(row) for row in rows]


async def _unlimited(work: Callable[[Cursor], Awaitable[ActionResult]], cursor: Cursor) -> ActionResult:
    """Do it without the limit of one statement: one changes all letters, and the caller's bound ends it."""
    limit = await without_limit(cursor)
    try:
        return await work(cursor)
    finally:
        if not cursor.connection.closed:
            await cursor.execute(limit)


def _action(row: tuple[Any, ...]) -> RecordedAction:
    action, actor, detail, changed, letters, at = row
    return RecordedAction(action, actor, detail, changed=bool(changed), letters=letters, at=utc(at))


async def _lock(cursor: Cursor, job_id: str) -> _Found:
    await cursor.execute(_LOCK_JOB, (job_id,))
    status, sender, started_at, priority, reference = await cursor.fetchone()
    return _Found(job_id, JobStatus(status), sender, reference, started=started_at is not None, priority=priority)


async def _cancel(cursor: Cursor, job: _Found, status: JobStatus, actor: str) -> ActionResult:
    reason = f"the job was cancelled by {actor}"
    await cursor.execute(_CANCEL_WAITING, (after(State.WAITING, Transition.CANCELLED).value, reason, job.id))
    letters = cursor.rowcount
    if job.status is not status:
        await cursor.execute(_COUNT_IN_FLIGHT, (job.id,))
        in_flight = bool((await cursor.fetchone())[0])
        await cursor.execute(_SET_CANCELLED, (status.value, in_flight, job.id))
        await _write_event(cursor, EventType.JOB_CANCELLED, job, actor)
        if not in_flight:
            await cursor.execute(COUNTS, (job.id,))
            await write_finished(cursor, job.id, dict(await cursor.fetchall()))
    return ActionResult(job.status is not status, letters, status)


async def _write_event(cursor: Cursor, type_: EventType, job: _Found, actor: str) -> None:
    data = {"job_id": job.id, "sender_email": job.sender, "reference": job.reference, "actor": actor}
    if type_ is EventType.JOB_PAUSED:
        data["cause"] = MANUAL
    await cursor.execute(
        *insert_events([NewEvent(type_, new_id(), data, job.id, job.sender)])
    )  # the job's row is locked


async def _resume(cursor: Cursor, job: _Found, status: JobStatus) -> ActionResult:
    if job.status is status:
        return ActionResult(changed=False, letters=0, status=status)
    status = JobStatus.SENDING if job.started else JobStatus.QUEUED
    await cursor.execute(_END_PAUSE, (job.id,))
    await cursor.execute(_FORGET_PAUSE, (job.id,))
    await _run(cursor, job, status)
    return ActionResult(changed=True, letters=0, status=status)


async def _retry(
    cursor: Cursor, job: _Found, status: JobStatus, *, errors: Collection[str] | None = None
) -> ActionResult:
    token = new_id()
    only, reasons = ("", ()) if errors is None else (_AND_ERROR, (tuple(errors) or ("",),))
    await cursor.execute(_LOG_RETRIED + only, (token, token, job.id, *reasons))
    await cursor.execute(_RETRY_FAILED + only, (after(State.FAILED, Transition.RETRIED).value, job.id, *reasons))
    letters = cursor.rowcount
    if not letters:
        return ActionResult(changed=False, letters=0, status=job.status)
    if status is not JobStatus.PAUSED:
        await _run(cursor, job, status)
    return ActionResult(changed=True, letters=letters, status=status)


async def _retry_bounced(cursor: Cursor, job: _Found, status: JobStatus, kinds: Sequence[str]) -> ActionResult:
    token, which = new_id(), (job.id, tuple(kinds))
    await cursor.execute(_LOG_RETRIED_BOUNCED, (token, token, *which))
    await cursor.execute(_FORGET_MESSAGE_IDS, which)
    await cursor.execute(_RETRY_BOUNCED, (after(State.SENT, Transition.RETRIED).value, *which))
    letters = cursor.rowcount
    if not letters:
        return ActionResult(changed=False, letters=0, status=job.status)
    await cursor.execute(_SUBTRACT_BOUNCED, (letters, job.id))
    if status is not JobStatus.PAUSED:
        await _run(cursor, job, status)
    return ActionResult(changed=True, letters=letters, status=status)


async def _run(cursor: Cursor, job: _Found, status: JobStatus) -> None:
    """Let the next claim of its sender find the job."""
    await cursor.execute(_NEXT_DUE, (job.id,))
    next_at = (await cursor.fetchone())[0]
    await cursor.execute(_SET_RUNNING, (status.value, next_at, job.id))
    if next_at is not None:
        await cursor.execute(_RESCHEDULE_SENDER, (next_at, job.sender))
