"""Pauses a sender, for whatever cause but a person's order; a longer pause stays as it is."""

from datetime import timedelta
from typing import Final

from mailerd.store.db.cursor import Cursor
from mailerd.store.db.times import micros
from mailerd.store.queue.change_events import sender_pause, write_paused
from mailerd.store.queue.reschedule import short

_PAUSE: Final = """
UPDATE senders FORCE INDEX (PRIMARY)
   SET paused_until = UTC_TIMESTAMP(6) + INTERVAL %s MICROSECOND, pause_cause = %s, pause_reason = %s, pauses = %s
 WHERE email = %s AND COALESCE(paused_until, '1970-01-01') < UTC_TIMESTAMP(6) + INTERVAL %s MICROSECOND"""


async def pause_sender(cursor: Cursor, email: str, *, cause: str, reason: str, wait: timedelta, pauses: int) -> bool:
    """Let nothing of the sender be claimed for `wait`; whether that is longer than before. The event is written too."""
    was = await sender_pause(cursor, email)
    lasts = micros(wait)
    await cursor.execute(_PAUSE, (lasts, cause, short(reason, 500), pauses, email, lasts))
    if cursor.rowcount != 1:
        return False
    await write_paused(cursor, was, cause=cause, reason=reason, lasts=wait)
    return True
