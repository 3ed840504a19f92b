"""What people ask of jobs: cancel, pause, resume, retry, another priority; each in one transaction,
each noted.

A job's row is locked first, so whatever a claim or a record does to it comes wholly before or
wholly after.
"""

import json
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Annotated, Any, Final

from mailerd.clock import new_id
from mailerd.core import moves
from mailerd.core.extras import read_metadata
from mailerd.core.i18n import t, tn
from mailerd.core.labels import coded, said_of_row
from mailerd.core.pauses import MANUAL
from mailerd.core.reasons import reason
from mailerd.core.states import JobChange, JobStatus, State, job_after
from mailerd.core.webhooks import EventType
from mailerd.errors import MailerdError
from mailerd.model.fields import Sql
from mailerd.store.db.connection import Cursor, naive
from mailerd.store.db.database import Database
from mailerd.store.db.migrate import without_limit
from mailerd.store.db.rows import Select
from mailerd.store.write import job_changes, sender_changes
from mailerd.store.write import messages as door
from mailerd.store.write.action_log import note_action
from mailerd.store.write.event_feed import NewEvent, insert_events
from mailerd.store.write.job_changes import CompletedJob
from mailerd.store.write.tags import SELECT_TAGS, read_tags

MAX_ACTIONS: Final = 100
"""The most requests of a job that are shown."""
MESSAGES_PER_SECOND: Final = 5_000
"""How many messages the slowest acceptable database changes in a second; it gives a big job its
time.
"""

_READ_DESCRIPTION: Final = f"SELECT j.metadata, {SELECT_TAGS} FROM jobs j WHERE j.id = %s"
_COUNT_BEGUN: Final = """
SELECT COUNT(*), SUM(status = 'sent') FROM job_recipients FORCE INDEX (claim)
 WHERE job_id = %s AND status IN ('sending', 'unsure', 'sent')"""
_COUNT_OWN_TIMES: Final = """
SELECT COUNT(send_at) AND COUNT(send_at) = COUNT(*), COALESCE(SUM(send_at < %s), 0)
  FROM job_recipients FORCE INDEX (claim) WHERE job_id = %s AND status = 'waiting'"""
_NEXT_DUE: Final = """
SELECT MIN(due_at) FROM job_recipients FORCE INDEX (claim)
WHERE job_id = %s AND status = 'waiting'
"""


@dataclass(frozen=True)
class ActionResult:
    """What a request has changed."""

    changed: bool
    messages: int
    status: JobStatus


class BegunError(MailerdError):
    """A job has begun, or has ended, or times of its messages' own forbid the new one: its time is
    not changed.
    """


class NotWaitingError(MailerdError):
    """A message is not cancelled: it does not wait."""


@dataclass(frozen=True)
class CancelledMessage:
    """A message that was to be cancelled, and is."""

    changed: bool
    """False: it was cancelled before."""
    finished: tuple[CompletedJob, ...] = ()
    """Its job, if nothing is open in it any more."""


@dataclass(frozen=True)
class RecordedAction:
    """A request as it was noted."""

    action: str
    actor: Annotated[str, Sql("actor", read=lambda actor: said_of_row(actor) or "")]
    detail: Annotated[str | None, Sql("detail", read=said_of_row)]
    changed: bool
    messages: int
    at: datetime


_ACTION: Final = Select(RecordedAction, of="job_actions")


@dataclass(frozen=True)
class _Found:
    """A job whose row is locked."""

    id: str
    status: JobStatus
    sender: Annotated[str, Sql("sender_email")]
    reference: str | None
    started: Annotated[bool, Sql("started_at IS NOT NULL")]
    priority: int
    send_at: datetime
    now: Annotated[datetime, Sql("UTC_TIMESTAMP(6)")]


_JOB: Final = Select(_Found, of="jobs")
_LOCK_JOB: Final = f"SELECT {_JOB.columns} FROM jobs WHERE id = %s FOR UPDATE"


class JobActions:
    """Applies what is asked of jobs.

    `timeout`: seconds for an answer; `late_arrival`: for how long a send without an answer may
    still reach Google.
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
        messages: int = 0,
        priority: int = 0,
        unsure: bool = False,
        bounced: Sequence[str] = (),
        errors: Collection[str] | None = None,
    ) -> ActionResult:
        """Do what is asked and record it. `messages`: the job's size.

        `unsure`: retry means to check the unsure messages; `bounced`: to send those again that
        bounced, of these kinds.

        `errors`: retry only the messages that failed with one of these reasons.

        Raises:
            ImpossibleRequestError: the job's status does not allow it; nothing was changed or
            noted. DatabaseError: nothing was changed; where `in_doubt` is set, asking again is the
            way to know.
        """

        async def work(cursor: Cursor) -> ActionResult:
            job = await _lock(cursor, job_id)
            status = job_after(job.status, change)
            if change is JobChange.RETRY and bounced:
                done = await _retry_bounced(cursor, job, status, bounced)
            elif errors is not None and change is JobChange.RETRY and not unsure:
                done = await _retry(cursor, job, status, errors=errors)
            else:
                done = await self._do(
                    cursor,
                    job,
                    change,
                    status=status,
                    priority=priority,
                    unsure=unsure,
                    actor=actor,
                )
            retried = (
                f"bounced: {', '.join(bounced)}" if bounced else "unsure" if unsure else "failed"
            )
            detail = {JobChange.PRIORITY: str(priority), JobChange.RETRY: retried}.get(change)
            note = note_action(
                change.value,
                actor,
                job=job_id,
                detail=detail,
                changed=done.changed,
                messages=done.messages,
            )
            await cursor.execute(*note)
            return done

        bound = self._timeout + messages / MESSAGES_PER_SECOND
        act = partial(_unlimited, work) if messages > MESSAGES_PER_SECOND else work
        return await self._database.request(act, what=f"jobs.{change}", bound=bound)

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
                    await job_changes.set_paused(cursor, job.id, status, cause=MANUAL)
                    await _write_event(cursor, EventType.JOB_PAUSED, job, actor)
                return ActionResult(status is not job.status, 0, status)
            case JobChange.RESUME:
                return await _resume(cursor, job, status)
            case JobChange.RETRY if unsure:
                messages = await door.check_job_now(cursor, job.id, late_arrival=self._late_arrival)
                return ActionResult(messages > 0, messages, job.status)
            case JobChange.RETRY:
                return await _retry(cursor, job, status)
            case JobChange.PRIORITY:
                await job_changes.set_priority(cursor, job.id, priority)
                return ActionResult(priority != job.priority, 0, job.status)

    async def change(
        self, job_id: str, fields: Mapping[str, Any], *, actor: str, messages: int = 0
    ) -> ActionResult:
        """Change `reference`, `metadata`, `tags`, `priority` or `send_at` of a job, what is given,
        and record it.

        `send_at`: aware; None or past: now. The messages that have a time of their own keep it.
        `messages`: the job's size.

        Raises:
            BegunError: with `send_at`: a message of it is sent or being sent, or has a time of its
            own before it, or
                all have one, or the job has ended; nothing was changed.
            DatabaseError: nothing was changed; where `in_doubt` is set, asking again is the way to
            know.
        """

        async def work(cursor: Cursor) -> ActionResult:
            job, done, moved = await _lock(cursor, job_id), dict[str, str](), 0
            if "send_at" in fields:
                at = max(job.now, fields["send_at"] or job.now)
                if at != max(job.now, job.send_at):
                    done["send_at"] = f"{at:%Y-%m-%dT%H:%M:%SZ}"
                    moved = await _send_at(cursor, job, at)
            if fields.get("priority", job.priority) != job.priority:
                done["priority"] = str(fields["priority"])
                await job_changes.set_priority(cursor, job_id, fields["priority"])
            if fields.get("reference", job.reference) != job.reference:
                done["reference"] = fields["reference"] or "-"
                await job_changes.set_reference(cursor, job_id, fields["reference"])
            if fields.keys() & {"metadata", "tags"}:
                done |= await _describe(cursor, job_id, fields)
            detail = ", ".join(f"{name} {value}" for name, value in done.items())
            changed = bool(done)
            await cursor.execute(
                *note_action(
                    "change",
                    actor,
                    job=job_id,
                    detail=detail or None,
                    changed=changed,
                    messages=moved,
                )
            )
            return ActionResult(changed, moved, job.status)

        act = partial(_unlimited, work) if messages > MESSAGES_PER_SECOND else work
        bound = self._timeout + messages / MESSAGES_PER_SECOND
        return await self._database.request(act, what="jobs.change", bound=bound)

    async def cancel_message(self, recipient: int, *, actor: str) -> CancelledMessage:
        """Cancel one message that waits, and record it; the others of its job go on.

        Raises:
            NotWaitingError: it is being sent or has ended; nothing was changed or noted.
            DatabaseError: nothing was changed; where `in_doubt` is set, asking again is the way to
            know.
        """

        async def work(cursor: Cursor) -> CancelledMessage:
            locked = await door.lock(cursor, [recipient])
            row = locked.rows.get(recipient)
            if row is not None and row.status is State.CANCELLED:
                return CancelledMessage(changed=False)
            if row is None or row.status is not State.WAITING:
                status = "" if row is None else row.status
                raise NotWaitingError(
                    t(
                        "this message is {status}; only a waiting one can be cancelled",
                        status=status,
                    )
                )
            made = moves.cancelled(
                row, said_of_row(actor) or actor, now=locked.now, code="recipient_cancelled"
            )
            await door.move(cursor, [made], by=new_id())
            detail = t("recipient {recipient}", recipient=recipient)
            await cursor.execute(
                *note_action("cancel", actor, job=row.job_id, detail=detail, messages=1)
            )
            return CancelledMessage(
                changed=True, finished=tuple(await job_changes.complete(cursor, [row.job_id]))
            )

        return await self._database.request(work, what="messages.cancel", bound=self._timeout)


async def activity_of(database: Database, job_id: str, *, bound: float) -> list[RecordedAction]:
    """What was asked of a job, the newest of at most `MAX_ACTIONS` first.

    `bound`: seconds for the answer.
    """
    rows = await database.request_rows(
        f"SELECT {_ACTION.columns} FROM job_actions WHERE job_id = %s ORDER BY id DESC LIMIT %s",
        (job_id, MAX_ACTIONS),
        what="actions.of_job",
        bound=bound,
    )
    return [_ACTION.row(each) for each in rows]


async def _unlimited(
    work: Callable[[Cursor], Awaitable[ActionResult]], cursor: Cursor
) -> ActionResult:
    """Do it without the limit of one statement: one changes all messages, and the caller's bound
    ends it.
    """
    limit = await without_limit(cursor)
    try:
        return await work(cursor)
    finally:
        if not cursor.connection.closed:
            await cursor.execute(limit)


async def _lock(cursor: Cursor, job_id: str) -> _Found:
    await cursor.execute(_LOCK_JOB, (job_id,))
    return _JOB.row(await cursor.fetchone())


async def _describe(cursor: Cursor, job: str, fields: Mapping[str, Any]) -> dict[str, str]:
    """Give a locked job other metadata or tags; what was changed, in words."""
    await cursor.execute(_READ_DESCRIPTION, (job,))
    column, found = await cursor.fetchone()
    done = dict[str, str]()
    if "metadata" in fields and (metadata := fields["metadata"] or {}) != read_metadata(column):
        await job_changes.set_metadata(
            cursor, job, json.dumps(metadata, ensure_ascii=False) if metadata else None
        )
        done["metadata"] = ", ".join(sorted(metadata)) or "-"
    if "tags" in fields and set(tags := fields["tags"] or []) != {*read_tags(found)}:
        await job_changes.set_tags(cursor, job, tags)
        done["tags"] = ", ".join(tags) or "-"
    return done


async def _send_at(cursor: Cursor, job: _Found, at: datetime) -> int:
    """Give a job that has not begun another time; how many messages have it.

    Raises:
        BegunError: it has, or a message would have to be sent before the job's time, or none has
        the job's time.
    """
    await cursor.execute(_COUNT_BEGUN, (job.id,))
    begun, sent = await cursor.fetchone()
    if job.started or begun or job.status not in {JobStatus.QUEUED, JobStatus.PAUSED}:
        raise BegunError(
            t(
                "this job is {status}, {sent:,} of its messages are sent; `send_at` can be changed "
                "before the first one",
                status=coded(job.status),
                sent=int(sent or 0),
            )
        )
    await cursor.execute(_COUNT_OWN_TIMES, (naive(at), job.id))
    all_own, own = await cursor.fetchone()
    if own:
        raise BegunError(
            tn(
                "{n:,} message has a send_at of its own before this time",
                "{n:,} messages have a send_at of their own before this time",
                int(own),
            )
        )
    if all_own:
        raise BegunError(t("every message of this job has a send_at of its own and keeps it"))
    await job_changes.set_send_at(cursor, job.id, at)
    moved = await door.move_due(cursor, job.id, at)
    if job.status is not JobStatus.PAUSED:
        await _run(cursor, job, job.status)
    return moved


async def _cancel(cursor: Cursor, job: _Found, status: JobStatus, actor: str) -> ActionResult:
    messages = await door.cancel_waiting(
        cursor, job.id, reason=reason("job_cancelled", actor=said_of_row(actor) or actor)
    )
    if job.status is not status:
        await job_changes.set_cancelled(cursor, job.id, status)
        await _write_event(cursor, EventType.JOB_CANCELLED, job, actor)
        await job_changes.complete(cursor, [job.id])
    return ActionResult(job.status is not status, messages, status)


async def _write_event(cursor: Cursor, type_: EventType, job: _Found, actor: str) -> None:
    data = {
        "job_id": job.id,
        "sender_email": job.sender,
        "reference": job.reference,
        "actor": actor,
    }
    if type_ is EventType.JOB_PAUSED:
        data["cause"] = MANUAL
    # the job's row is locked
    await cursor.execute(*insert_events([NewEvent(type_, new_id(), data, job.id, job.sender)]))


async def _resume(cursor: Cursor, job: _Found, status: JobStatus) -> ActionResult:
    if job.status is status:
        return ActionResult(changed=False, messages=0, status=status)
    status = JobStatus.SENDING if job.started else JobStatus.QUEUED
    await job_changes.end_pause(cursor, job.id)
    await _run(cursor, job, status)
    return ActionResult(changed=True, messages=0, status=status)


async def _retry(
    cursor: Cursor, job: _Found, status: JobStatus, *, errors: Collection[str] | None = None
) -> ActionResult:
    messages = await door.retry_failed(cursor, job.id, token=new_id(), errors=errors)
    if not messages:
        return ActionResult(changed=False, messages=0, status=job.status)
    if status is not JobStatus.PAUSED:
        await _run(cursor, job, status)
    return ActionResult(changed=True, messages=messages, status=status)


async def _retry_bounced(
    cursor: Cursor, job: _Found, status: JobStatus, kinds: Sequence[str]
) -> ActionResult:
    messages = await door.send_bounced_again(cursor, job.id, token=new_id(), kinds=kinds)
    if not messages:
        return ActionResult(changed=False, messages=0, status=job.status)
    await job_changes.subtract_bounced(cursor, job.id, messages)
    if status is not JobStatus.PAUSED:
        await _run(cursor, job, status)
    return ActionResult(changed=True, messages=messages, status=status)


async def _run(cursor: Cursor, job: _Found, status: JobStatus) -> None:
    """Let the next claim of its sender find the job."""
    next_at = await cursor.fetch_value(_NEXT_DUE, (job.id,))
    await job_changes.set_running(cursor, job.id, status, next_at=next_at)
    if next_at is not None:
        await sender_changes.wake_at(cursor, job.sender, next_at)
