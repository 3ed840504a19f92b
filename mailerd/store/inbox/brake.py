"""Lets a job wait while what came back of it is read, and says which mailboxes are read often."""

from collections.abc import Collection
from typing import Final

from mailerd.core.bounce_rule import (
    BRAKE_SPAN,
    LAST,
    YOUNG_FOR,
    YOUNG_MESSAGES,
    BounceRule,
)
from mailerd.store import job_changes
from mailerd.store.db.connection import Cursor
from mailerd.store.db.database import Database
from mailerd.store.db.times import micros

# Messages that something came back of and of which nothing is known yet: by thread, so nothing is fetched for it.
COUNT_UNREAD: Final = """
SELECT r.job_id, COUNT(*) FROM job_recipients r FORCE INDEX (thread) JOIN jobs j ON j.id = r.job_id
 WHERE r.thread_id IN %s AND r.status = 'sent' AND r.fate IS NULL
   AND r.sent_at > UTC_TIMESTAMP(6) - INTERVAL %s MICROSECOND
   AND j.sender_email = %s AND j.status = 'sending' AND j.next_claim_at IS NOT NULL AND j.on_bounces = 'pause'
 GROUP BY r.job_id"""
COUNT_SENT: Final = """
SELECT COUNT(*) FROM (SELECT 1 FROM job_recipients FORCE INDEX (claim)
                       WHERE job_id = %s AND status = 'sent' LIMIT %s) sent"""
_READ_BRAKED: Final = """
SELECT id FROM jobs FORCE INDEX (next_claim)
 WHERE sender_email = %s AND claimable = 1 AND braked_until > UTC_TIMESTAMP(6)"""
# Of a few jobs at most: those that are claimed next.
HAS_YOUNG_JOB: Final = """
SELECT 1 FROM (SELECT id, status, on_bounces FROM jobs FORCE INDEX (next_claim)
                WHERE sender_email = %s AND claimable = 1 ORDER BY precedence, next_claim_at, id LIMIT 50) j
 WHERE j.status = 'sending' AND j.on_bounces = 'pause'
   AND COALESCE((SELECT r.sent_at FROM job_recipients r FORCE INDEX (claim)
                  WHERE r.job_id = j.id AND r.status = 'sent' ORDER BY r.due_at, r.id LIMIT 1 OFFSET %s),
                UTC_TIMESTAMP(6)) > UTC_TIMESTAMP(6) - INTERVAL %s MICROSECOND LIMIT 1"""


def has_young_job(sender: str) -> tuple[str, tuple[object, ...]]:
    """The statement that finds a row where a job of the sender is young."""
    return HAS_YOUNG_JOB, (sender, YOUNG_MESSAGES - 1, micros(YOUNG_FOR))


async def brake_jobs(
    database: Database, sender: str, threads: Collection[str], rule: BounceRule
) -> tuple[dict[str, int], set[str]]:
    """Let those jobs of a sender wait of which so much came back unread, in these threads, that it may break the rule.

    Returns how many messages came back of each job that waits from now on, and all jobs that wait for this.
    """
    if not rule.is_on:
        return {}, set()
    values = (tuple(threads), micros(BRAKE_SPAN), sender)
    unread = await database.read_rows(COUNT_UNREAD, values, what="count what came back") if threads else ()
    begun: dict[str, int] = {}
    for job, number in sorted(unread):
        if await _is_braked(database, job, int(number), rule):
            begun[job] = int(number)
    braked = await database.read_rows(_READ_BRAKED, (sender,), what="look for jobs that wait for their notices")
    return begun, {job for (job,) in braked}


async def _is_braked(database: Database, job: str, unread: int, rule: BounceRule) -> bool:
    """Whether the job waits from now on."""
    if not rule.is_unread(unread, 0):
        return False  # whatever was sent

    async def work(cursor: Cursor) -> bool:
        await cursor.execute(COUNT_SENT, (job, LAST))
        if not rule.is_unread(unread, (await cursor.fetchone())[0]):
            return False
        return await job_changes.brake(cursor, job)

    return await database.transaction(work, what="let a job wait for its notices")
