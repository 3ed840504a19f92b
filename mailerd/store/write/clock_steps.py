"""Puts right what a database's clock that was ahead has left behind, once it has gone back.

Turns, pace and leases are moments of the database's clock. What was written while it was ahead (a
machine that starts with a wrong clock, a failover to a server whose clock is behind) would hold up
senders until that moment comes. So each such moment is brought back to where it may lie at most;
the next claim sets it anew. To do it twice changes nothing.
"""

from mailerd.store.db.database import Database
from mailerd.store.inbox import mailboxes
from mailerd.store.write import daemon_changes, job_changes, messages, sender_changes, webhooks


async def repair(database: Database) -> None:
    """Bring back all moments that only a clock that was ahead can have written.

    Raises:
        DatabaseError: not all were brought back: do it again.
    """
    # The messages first: a job whose turn finds none of them due waits until they are.
    for job, send_at in await job_changes.sent_at_once(database):
        await messages.bring_forward(database, job, send_at)
        await job_changes.send_now(database, job)
    for table in (job_changes, sender_changes, mailboxes, webhooks, messages, daemon_changes):
        await table.follow_clock(database)
    await database.request(sender_changes.move_hours_back, what="clock.follow")
