"""The events of what the queue changes: letters that have failed, and pauses of senders."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
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


@dataclass(frozen=True)
class SenderPause:
    """The cause of a sender's pause before a change; None where it has none. The row is locked."""

    email: str
    cause: str | None
    now: datetime


def failed_events(outcomes: Iterable[Outcome]) -> list[NewEvent]:
    """The events of those letters that have failed."""
    return [
        failed_event(
            it.letter.id, job=it.letter.job_id, seq=it.letter.seq, sender=it.letter.sender, to=it.letter.to_email,
            attempts=it.letter.attempt, token=it.letter.token, error=it.decision.error,
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


async def sender_pause(cursor: Cursor, email: str) -> SenderPause | None:
    """The pause of a sender as it is now, whose row is locked; None: there is no such sender."""
    await cursor.execute(_PAUSE_BEFORE, (email,))
    row = await cursor.fetchone()
    return SenderPause(email, *row) if row else None


async def write_paused(
    cursor: Cursor, before: SenderPause | None, *, cause: str, reason: str, lasts: timedelta
) -> None:
    """Write the event of a pause, unless the sender has one of this cause, which is only prolonged.

    The cause stays until a letter has gone well: a sign-in that is refused at each try is one pause.
    """
    if before is not None and before.cause != cause:
        reason = with_remedy(reason, cause, sender=before.email)
        data = {"cause": cause, "reason": reason, "until": rfc3339(utc(before.now) + lasts)}
        await cursor.execute(*insert_events([sender_event(EventType.SENDER_PAUSED, before.email, data)]))


async def write_resumed(cursor: Cursor, before: SenderPause | None, *, ended: bool) -> None:
    """Write the event of a pause that has `ended`."""
    if ended and before is not None and before.cause is not None:
        data = {"cause": before.cause}
        await cursor.execute(*insert_events([sender_event(EventType.SENDER_RESUMED, before.email, data)]))


def sender_event(type_: EventType, email: str, data: Mapping[str, object]) -> NewEvent:
    """An event of a sender whose row is locked, so that each change has one."""
    return NewEvent(type_, new_id(), {"sender_email": email, **data}, sender=email)
