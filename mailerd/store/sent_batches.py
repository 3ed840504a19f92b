"""The event `recipients.sent`: letters that were sent, many in one event, and only while an endpoint asks for it.

An event for each sent letter, in the transaction of its outcome, would cost the letters half their speed. So these
events are made afterwards, of the log of attempts, which that transaction writes anyway. The log is read from a
watermark on that lies further back than any transaction can take to commit; what was reported since then stands in
`sent_reported`.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any, Final

from mailerd.clock import new_id
from mailerd.core.webhooks import EventType
from mailerd.store.db.connection import Cursor, insert_many
from mailerd.store.db.database import Database, transaction
from mailerd.store.db.times import micros, rfc3339, utc
from mailerd.store.event_feed import NewEvent, insert_events

BATCH: Final = 150
"""After so many letters an event is made at once …"""
MAX_WAIT: Final = timedelta(seconds=5)
"""… or so long after the first letter."""
MAX_BYTES: Final = 18_000
"""The most bytes of the data of one event: Standard Webhooks 1.0.0 wants bodies below 20 kB."""
_DELETED_AT_ONCE: Final = 5000

_IS_ASKED_FOR: Final = """
SELECT 1 FROM webhooks WHERE state IN ('on', 'paused') AND types LIKE '%%"recipients.sent"%%' LIMIT 1"""
_BEGIN: Final = "INSERT IGNORE INTO sent_batches (id, watermark) VALUES (1, UTC_TIMESTAMP(6))"
_END: Final = "DELETE FROM sent_batches WHERE id = 1"
# Another daemon that makes the events, or that was stopped while it did, is not waited for.
_LOCK: Final = "SELECT watermark, UTC_TIMESTAMP(6) FROM sent_batches WHERE id = 1 FOR UPDATE SKIP LOCKED"
_STANDS: Final = """NOT EXISTS (
    SELECT 1 FROM attempts u FORCE INDEX (event_of_claim)
     WHERE u.recipient_id = {row}.recipient_id AND u.id > {row}.id AND u.event IN ('undone', 'retried'))"""
"""The sending that a row of the log tells of has not come back since."""
# An answer that came after its claim had ended settles the row, though no claim takes it: the event names it once.
_SELECT_NEW: Final = f"""
SELECT a.id, a.at, r.id, r.job_id, r.seq, r.to_email, a.message_id, j.sender_email, j.from_address
  FROM attempts a FORCE INDEX (at) LEFT JOIN sent_reported s ON s.attempt_id = a.id
  JOIN job_recipients r ON r.id = a.recipient_id JOIN jobs j ON j.id = r.job_id
 WHERE a.at > %s AND a.event IN ('sent', 'found', 'answered') AND s.attempt_id IS NULL
   AND (a.event <> 'answered' OR (a.message_id = r.message_id AND NOT EXISTS (
        SELECT 1 FROM attempts b WHERE b.recipient_id = a.recipient_id
           AND b.event IN ('sent', 'found') AND COALESCE(b.message_id, r.message_id) = r.message_id
           AND {_STANDS.format(row="b")})))
   AND {_STANDS.format(row="a")}
 ORDER BY a.at, a.id LIMIT %s"""
_INSERT_REPORTED: Final = "INSERT IGNORE INTO sent_reported (attempt_id, at) VALUES %s"
_MOVE: Final = "UPDATE sent_batches SET watermark = GREATEST(watermark, %s - INTERVAL %s MICROSECOND) WHERE id = 1"
_MOVE_BACK: Final = "UPDATE sent_batches SET watermark = %s - INTERVAL %s MICROSECOND WHERE id = 1"
# What is logged from now on has higher ids than what was logged before the clock went back, the last of which lies
# ahead of it. No transaction lasts for half the margin.
_MARK_EARLIER: Final = """
INSERT IGNORE INTO sent_reported (attempt_id, at)
SELECT a.id, a.at FROM attempts a FORCE INDEX (at)
 WHERE a.at > %s - INTERVAL %s MICROSECOND AND a.at <= %s AND a.event IN ('sent', 'found')
   AND a.id <= (SELECT MAX(b.id) FROM attempts b FORCE INDEX (at) WHERE b.at > %s + INTERVAL %s MICROSECOND)"""
_DELETE_OLD: Final = "DELETE FROM sent_reported WHERE at <= (SELECT watermark FROM sent_batches WHERE id = 1) LIMIT %s"
_DELETE_ALL: Final = "DELETE FROM sent_reported LIMIT %s"


@dataclass(frozen=True)
class SentBatches:
    """Makes the events. `margin`: longer than a transaction may be under way before it is committed or undone."""

    database: Database
    margin: timedelta

    @transaction("make events of sent letters")
    async def make(self, cursor: Cursor) -> bool:
        """Make the events that are due, where an endpoint asks for them; whether there may be more at once.

        Raises:
            DatabaseError: they are not known to be made.
        """
        await cursor.execute(_IS_ASKED_FOR)
        if not await cursor.fetchall():
            return await _end(cursor)
        await begin(cursor)
        await cursor.execute(_LOCK)
        if (row := await cursor.fetchone()) is None:
            return False
        watermark, now = row
        if watermark > now:
            await self._go_back(cursor, watermark, now)
            return True
        await cursor.execute(_SELECT_NEW, (watermark, BATCH))
        found = await cursor.fetchall()
        if len(found) < BATCH and (not found or now - found[0][1] < MAX_WAIT):
            await cursor.execute(_MOVE, (min([now, *(it[1] for it in found)]), micros(self.margin)))
            await cursor.execute(_DELETE_OLD, (_DELETED_AT_ONCE,))
            return False
        await cursor.execute(*insert_events(list(_events(found))))
        await cursor.execute(*insert_many(_INSERT_REPORTED, [(it[0], it[1]) for it in found]))
        return len(found) == BATCH

    async def _go_back(self, cursor: Cursor, watermark: datetime, now: datetime) -> None:
        """The database's clock went back: what is sent from now on lies behind the watermark, and was never told."""
        margin = micros(self.margin)
        await cursor.execute(_MARK_EARLIER, (now, margin, watermark, now, margin // 2))
        await cursor.execute(_MOVE_BACK, (now, margin))


async def _end(cursor: Cursor) -> bool:
    """Forget which letters the events have named, since no endpoint asks; whether there may be more to forget.

    It looks once more under the lock: an endpoint that asks from now on waits for it, and begins anew.
    """
    await cursor.execute(_LOCK)
    if await cursor.fetchone() is None:
        return False
    await cursor.execute(_IS_ASKED_FOR)
    if await cursor.fetchall():
        return True
    await cursor.execute(_DELETE_ALL, (_DELETED_AT_ONCE,))
    if cursor.rowcount == _DELETED_AT_ONCE:
        return True
    await cursor.execute(_END)
    return False


async def begin(cursor: Cursor) -> None:
    """Make events of what is sent from now on, in the caller's transaction, unless that has begun already."""
    await cursor.execute(_BEGIN)


def _events(found: Sequence[tuple[Any, ...]]) -> Iterator[NewEvent]:
    """An event for each sender, or several where one would be too large."""
    by_sender = sorted(found, key=lambda row: row[-1])
    for sender, rows in groupby(by_sender, key=lambda row: row[-1]):
        part, size = list[dict[str, object]](), 0
        for _, at, recipient, job, seq, email, message, mailbox, _ in rows:
            it = {"recipient_id": recipient, "job_id": job, "seq": seq, "email": email, "message_id": message,
                  "sent_at": rfc3339(utc(at))}  # fmt: skip
            more = len(json.dumps(it, ensure_ascii=False).encode())
            if part and size + more > MAX_BYTES:
                yield _event(sender, mailbox, part)
                part, size = [], 0
            part.append(it)
            size += more
        yield _event(sender, mailbox, part)


def _event(sender: str, mailbox: str, recipients: list[dict[str, object]]) -> NewEvent:
    jobs = {it["job_id"] for it in recipients}
    job = str(jobs.pop()) if len(jobs) == 1 else None
    data = {"sender_email": mailbox, "recipients": recipients}
    return NewEvent(EventType.RECIPIENTS_SENT, new_id(), data, job, sender)
