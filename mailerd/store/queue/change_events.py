"""The events of what the queue changes: letters that have failed, stuck jobs, and pauses of senders."""

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from typing import Final

from mailerd.clock import new_id
from mailerd.core.event_types import EventType
from mailerd.core.models import Outcome
from mailerd.core.pauses import with_remedy
from mailerd.core.states import Transition
from mailerd.store.db.cursor import Cursor
from mailerd.store.db.times import rfc3339, utc
from mailerd.store.outbox import NewEvent, insert_events

_PAUSE_BEFORE: Final = """
SELECT pause_cause, UTC_TIMESTAMP(6) FROM senders FORCE INDEX (PRIMARY) WHERE email = %s FOR UPDATE"""


def failed_events(outcomes: Iterable[Outcome]) -> list[NewEvent]:
    """The events of those letters that have failed."""
    return [
        failed_event(
            it.letter.id, job=it.letter.job_id, seq=it.letter.seq, sender=it.letter.sender, to=it.letter.to_email,
            attempts=it.attempt, token=it.letter.token, error=it.decision.error,
        )
        for it in outcomes
        if it.decision.transition is Transition.FAILED
    ]  # fmt: skip


def failed_event(
    recipient: int, *, job: str, seq: int, sender: str, to: str, attempts: int, token: str, error: str | None
) -> NewEvent:
    """The event of a letter that failed under the claim `token`."""
    data = {
        "recipient_id": recipient, "job_id": job, "seq": seq, "email": to, "sender_email": sender,
        "attempts": attempts, "reason": error,
    }  # fmt: skip
    return NewEvent(EventType.RECIPIENT_FAILED, f"{recipient}:{token}", data, job, sender)


async def write_stuck(cursor: Cursor, jobs: Collection[str]) -> None:
    """Write the events of jobs that were stuck and are rescheduled in this transaction."""
    await cursor.execute("SELECT id, sender_email, reference FROM jobs WHERE id IN %s", (tuple(jobs),))
    events = [
        NewEvent(
            EventType.JOB_STUCK, new_id(), {"job_id": job, "sender_email": sender, "reference": reference}, job, sender
        )
        for job, sender, reference in await cursor.fetchall()
    ]  # fmt: skip
    await cursor.execute(*insert_events(events))


async def last_pause(cursor: Cursor, email: str) -> tuple[str | None, datetime | None]:
    """The cause of a sender's pause, None where it has none, and the time of this answer; the row is locked."""
    await cursor.execute(_PAUSE_BEFORE, (email,))
    cause, now = await cursor.fetchone() or (None, None)
    return cause, utc(now)


async def write_paused(cursor: Cursor, email: str, *, cause: str, reason: str, until: datetime | None) -> None:
    """Write the event of a pause; `until` None: until it is resumed."""
    reason = with_remedy(reason, cause, sender=email)
    data = {"sender_email": email, "cause": cause, "reason": reason, "until": until and rfc3339(until)}
    await _write(cursor, EventType.SENDER_PAUSED, email, data)


async def write_resumed(cursor: Cursor, email: str, *, cause: str | None) -> None:
    """Write the event of the end of a pause; `cause` None: there was none."""
    if cause is not None:
        await _write(cursor, EventType.SENDER_RESUMED, email, {"sender_email": email, "cause": cause})


async def _write(cursor: Cursor, type_: EventType, email: str, data: Mapping[str, object]) -> None:
    """Write the event of a sender whose row is locked, so that each change has one."""
    await cursor.execute(*insert_events([NewEvent(type_, new_id(), data, sender=email)]))
