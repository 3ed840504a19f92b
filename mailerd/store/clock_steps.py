"""Puts right what a database's clock that was ahead has left behind, once it has gone back.

Turns, pace and leases are moments of the database's clock. What was written while it was ahead (a machine that starts
with a wrong clock, a failover to a server whose clock is behind) would hold up senders until that moment comes. So each
such moment is brought back to where it may lie at most; the next claim sets it anew. To do it twice changes nothing.
"""

from typing import Final

from mailerd.store.db.connection import Cursor
from mailerd.store.db.database import Database

# Jobs that were posted by the clock that was ahead, to be sent at once.
_SENT_AT_ONCE: Final = """
SELECT id, send_at FROM jobs FORCE INDEX (by_status)
 WHERE status IN ('queued', 'sending', 'paused') AND created_at > UTC_TIMESTAMP(6) AND send_at <= created_at"""
# A letter that waits for a later try keeps its time, and so does one for whose time a client has asked.
_LETTERS: Final = """
UPDATE job_recipients FORCE INDEX (claim) SET due_at = UTC_TIMESTAMP(6)
 WHERE job_id = %s AND status = 'waiting' AND due_at = %s AND due_at > UTC_TIMESTAMP(6)"""
_JOB: Final = """
UPDATE jobs FORCE INDEX (PRIMARY) SET send_at = UTC_TIMESTAMP(6) WHERE id = %s AND send_at > UTC_TIMESTAMP(6)"""
_REPAIRS: Final = (
    """
UPDATE jobs FORCE INDEX (by_status) SET next_claim_at = UTC_TIMESTAMP(6), braked_until = NULL
 WHERE status IN ('queued', 'sending') AND next_claim_at > UTC_TIMESTAMP(6)""",
    # What is sent from now on counts: it would not, until then.
    """
UPDATE jobs FORCE INDEX (by_status)
   SET bounces_seen = LEAST(bounces_seen, UTC_TIMESTAMP(6)), braked_until = LEAST(braked_until, UTC_TIMESTAMP(6))
 WHERE status IN ('queued', 'sending', 'paused')
   AND (bounces_seen > UTC_TIMESTAMP(6) OR braked_until > UTC_TIMESTAMP(6))""",
    # No arrival time lies much more than a minute ahead.
    """
UPDATE senders
   SET next_claim_at = LEAST(next_claim_at, UTC_TIMESTAMP(6)), tat = LEAST(tat, UTC_TIMESTAMP(6) + INTERVAL 1 MINUTE),
       gap_until = LEAST(gap_until, UTC_TIMESTAMP(6) + INTERVAL 1 MINUTE),
       other_calls_at = LEAST(other_calls_at, UTC_TIMESTAMP(6)), latency_at = LEAST(latency_at, UTC_TIMESTAMP(6)),
       concurrency_at = LEAST(concurrency_at, UTC_TIMESTAMP(6)),
       bounces_seen = LEAST(bounces_seen, UTC_TIMESTAMP(6))""",
    """
UPDATE projects
   SET tat = LEAST(tat, UTC_TIMESTAMP(6) + INTERVAL 1 MINUTE), latency_at = LEAST(latency_at, UTC_TIMESTAMP(6))""",
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
    # No check of a letter in doubt is put off for more than an hour.
    """
UPDATE job_recipients FORCE INDEX (lease) SET lease_until = UTC_TIMESTAMP(6) + INTERVAL 1 HOUR
 WHERE lease_until > UTC_TIMESTAMP(6) + INTERVAL 1 HOUR AND status = 'unsure'""",
    "UPDATE daemons SET heartbeat_at = UTC_TIMESTAMP(6) WHERE heartbeat_at > UTC_TIMESTAMP(6)",
)
# Another daemon that sees the step waits here and finds nothing more to move: MySQL reads for an INSERT without a lock.
_LOCK_HOURS: Final = "SELECT COUNT(*) FROM sender_hours WHERE hour > UTC_TIMESTAMP() FOR UPDATE"
_ADD_HOURS: Final = """
INSERT INTO sender_hours (sender_email, hour, letters, elsewhere)
SELECT h.sender_email, DATE_FORMAT(UTC_TIMESTAMP(), '%Y-%m-%d %H:00:00'), h.letters, h.elsewhere
  FROM (SELECT * FROM sender_hours WHERE hour > UTC_TIMESTAMP()) h
    ON DUPLICATE KEY UPDATE letters = sender_hours.letters + VALUES(letters),
                            elsewhere = sender_hours.elsewhere + VALUES(elsewhere)"""
_DELETE_HOURS: Final = "DELETE FROM sender_hours WHERE hour > UTC_TIMESTAMP()"


async def repair(database: Database) -> None:
    """Bring back all moments that only a clock that was ahead can have written.

    Raises:
        DatabaseError: not all were brought back: do it again.
    """
    # The letters first: a job whose turn finds none of them due waits until they are.
    for job, send_at in await database.read_rows(_SENT_AT_ONCE, what="follow the database's clock"):
        await database.execute(_LETTERS, (job, send_at), what="follow the database's clock")
        await database.execute(_JOB, (job,), what="follow the database's clock")
    for statement in _REPAIRS:
        await database.execute(statement, what="follow the database's clock")
    await database.request(_move_hours, what="follow the database's clock")


async def _move_hours(cursor: Cursor) -> None:
    """Count what was sent in hours that are still to come in the present hour: Google did so too."""
    await cursor.execute(_LOCK_HOURS)
    await cursor.fetchone()
    await cursor.execute(_ADD_HOURS)
    await cursor.execute(_DELETE_HOURS)
