"""Puts right what a database's clock that was ahead has left behind, once it has gone back.

Turns, pace and leases are moments of the database's clock. What was written while it was ahead (a machine that starts
with a wrong clock, a failover to a server whose clock is behind) would hold up senders until that moment comes. So each
such moment is brought back to where it may lie at most; the next claim sets it anew. To do it twice changes nothing.
"""

from typing import Final

from mailerd.store import job_changes, letters, sender_changes
from mailerd.store.db.database import Database

_REPAIRS: Final = (
    *job_changes.CLOCK_WENT_BACK,
    *sender_changes.CLOCK_WENT_BACK,
    "UPDATE mailboxes SET next_at = UTC_TIMESTAMP(6) WHERE next_at > UTC_TIMESTAMP(6)",
    """
UPDATE mailboxes SET lease_until = UTC_TIMESTAMP(6) + INTERVAL 1 HOUR
 WHERE lease_until > UTC_TIMESTAMP(6) + INTERVAL 1 HOUR""",  # a reader that lives renews it with each commit
    # They would count as used until then, and nothing be read while letters wait.
    "DELETE FROM mailbox_units WHERE at > UTC_TIMESTAMP(6)",
    "UPDATE webhooks SET retry_at = UTC_TIMESTAMP(6) WHERE retry_at > UTC_TIMESTAMP(6)",
    # The first attempt of a delivery is due at once.
    """
UPDATE webhooks w STRAIGHT_JOIN webhook_deliveries d FORCE INDEX (due) ON d.webhook_id = w.id
   SET d.due_at = UTC_TIMESTAMP(6)
 WHERE d.status = 'waiting' AND d.attempts = 0 AND d.due_at > UTC_TIMESTAMP(6)""",
    letters.CHECKED_WITHIN_AN_HOUR,
    "UPDATE daemons SET heartbeat_at = UTC_TIMESTAMP(6) WHERE heartbeat_at > UTC_TIMESTAMP(6)",
)


async def repair(database: Database) -> None:
    """Bring back all moments that only a clock that was ahead can have written.

    Raises:
        DatabaseError: not all were brought back: do it again.
    """
    # The letters first: a job whose turn finds none of them due waits until they are.
    for job, send_at in await database.read_rows(job_changes.SENT_AT_ONCE, what="follow the database's clock"):
        await database.execute(letters.DUE_NOW, (job, send_at), what="follow the database's clock")
        await database.execute(job_changes.SEND_NOW, (job,), what="follow the database's clock")
    for statement in _REPAIRS:
        await database.execute(statement, what="follow the database's clock")
    await database.request(sender_changes.move_hours_back, what="follow the database's clock")
