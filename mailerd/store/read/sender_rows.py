"""What the rows of senders show of them: the one place that reads these, for whatever is shown of a
sender or a job.
"""

import asyncio
import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Final

from mailerd.core.pauses import repair
from mailerd.core.reading import Authorization
from mailerd.core.reasons import from_row
from mailerd.core.sender_state import SenderState
from mailerd.core.stats import SenderStats
from mailerd.model.fields import Sql
from mailerd.store.db.connection import utc
from mailerd.store.db.rows import Select
from mailerd.store.queue.rate_limits import STATE, DefaultLimits, sender_state

_HOURS: Final = """(
    SELECT JSON_OBJECTAGG(h.hour, h.messages + h.copies + h.elsewhere) FROM sender_hours h
     WHERE h.sender_email = s.email AND h.hour > UTC_TIMESTAMP() - INTERVAL 26 HOUR)"""

# Of the sender's jobs that are due the one that is claimed first.
NEXT_COPIES: Final = """
COALESCE((
  SELECT (SELECT r.copies FROM job_recipients r FORCE INDEX (claim)
           WHERE r.job_id = j.id AND r.status = 'waiting' ORDER BY r.job_id, r.status, r.due_at, r.id LIMIT 1)
    FROM jobs j FORCE INDEX (next_claim)
   WHERE j.sender_email = %s AND j.claimable = 1 AND j.next_claim_at <= UTC_TIMESTAMP(6) AND {mine}
   ORDER BY precedence, next_claim_at, id LIMIT 1), 0)"""
"""What the copies of a sender's next message cost of the day."""


DISK_TIMEOUT: Final = 2.0
"""Seconds that the disk gets to show the credential files."""
Ask = Callable[[str], Authorization] | None
"""Says what is known of the authorization of a mailbox, and asks the disk; None: nothing is."""


async def authorizations(ask: Ask, emails: Collection[str]) -> dict[str, Authorization]:
    """What is known of the authorization of each; the disk is asked in a thread, and not for
    ever.
    """
    if ask is None or not emails:
        return {}
    try:
        async with asyncio.timeout(DISK_TIMEOUT):
            return await asyncio.to_thread(lambda: {email: ask(email) for email in emails})
    except TimeoutError:
        return {}


def _hours(found: str | None) -> dict[datetime, int]:
    hours = json.loads(found) if found else {}
    return {
        datetime.fromisoformat(hour).replace(tzinfo=UTC): int(messages)
        for hour, messages in hours.items()
    }


def _values(*row: Any) -> tuple[Any, ...]:
    return row


@dataclass(frozen=True)
class StoredSender:
    """A row of `senders` with what its day counts."""

    email: Annotated[str, Sql("s.email")]
    hours: Annotated[Mapping[datetime, int], Sql(_HOURS, read=_hours)]
    """By clock hour: messages, by whomever they were sent, and the cost of copies; as far back as a
    day can reach.
    """
    turn: Annotated[datetime | None, Sql("s.next_claim_at")]
    """When the next claim considers it."""
    values: Annotated[tuple[Any, ...], Sql(*STATE, read=_values)]

    def state(self, defaults: DefaultLimits) -> SenderState:
        """Its state; `defaults`: the limits of a sender that has none of its own."""
        return sender_state(self.values, defaults)


SENDER: Final = Select(StoredSender)
"""Of a table `senders s`."""


def _sender(
    email: str,
    turn: datetime | None,
    end: datetime | None,
    cause: str | None,
    now: datetime,
    *reason: str | None,
) -> SenderStats:
    why, until = from_row(*reason), utc(end)
    return SenderStats(
        email=email,
        per_minute=0,
        per_day=0,
        used_minute=0,
        used_day=0,
        paused_until=until if end and end > now else None,
        pause_cause=cause or "",
        pause_reason=why or "",
        repair=repair(cause, until, sender=email, now=utc(now), reason=why),
        turn=utc(turn),
    )


OF_JOB: Final = Sql(
    "j.sender_email",
    "s.next_claim_at",
    "s.paused_until",
    "s.pause_cause",
    "UTC_TIMESTAMP(6)",
    "s.pause_reason",
    "s.pause_reason_code",
    "s.pause_reason_args",
    read=_sender,
)
"""Of a job `j` and its sender `s`: when it is claimed next, and its pause; neither its limits nor
its attempts.
"""
