"""Puts right what a database's clock that was ahead has left behind, once it has gone back.

Turns, pace and leases are moments of the database's clock. What was written while it was ahead (a machine that starts
with a wrong clock, a failover to a server whose clock is behind) would hold up senders until that moment comes. So each
such moment is brought back to where it may lie at most; the next claim sets it anew. To do it twice changes nothing.
"""

from typing import Final

from mailerd.store import daemon_changes, job_changes, messages, sender_changes, webhooks
from mailerd.store.db.database import Database
from mailerd.store.inbox import mailboxes

_REPAIRS: Final = (
    *job_changes.CLOCK_WENT_BACK,
    *sender_changes.CLOCK_WENT_BACK,
    *mailboxes.CLOCK_WENT_BACK,
    *webhooks.CLOCK_WENT_BACK,
    messages.CHECKED_WITHIN_AN_HOUR,
    *daemon_changes.CLOCK_WENT_BACK,
)


async def repair(database: Database) -> None:
    """Bring back all moments that only a clock that was ahead can have written.

    Raises:
        DatabaseError: not all were brought back: do it again.
    """
    # The messages first: a job whose turn finds none of them due waits until they are.
    for job, send_at in await database.read_rows(job_changes.SENT_AT_ONCE, what="clock.follow"):
        await database.execute(messages.DUE_NOW, (job, send_at), what="clock.follow")
        await database.execute(job_changes.SEND_NOW, (job,), what="clock.follow")
    for statement in _REPAIRS:
        await database.execute(statement, what="clock.follow")
    await database.request(sender_changes.move_hours_back, what="clock.follow")
