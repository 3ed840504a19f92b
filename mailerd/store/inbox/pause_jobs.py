"""Pauses a job whose list is bad, in the transaction that writes what came back of it; warns of it before.

A person's resume is not overruled: only messages that were sent since count.
"""

from datetime import datetime
from typing import Final

from mailerd.clock import new_id
from mailerd.core.bounce_rule import BOUNCES, LAST, BounceRule, is_dead, job_reason, job_warning
from mailerd.core.models import BadList
from mailerd.core.notices import MICROSOFT_DEAD
from mailerd.core.states import JobChange, JobStatus, job_after
from mailerd.core.webhooks import EventType
from mailerd.store import job_changes
from mailerd.store.action_log import note_action
from mailerd.store.db.connection import Cursor
from mailerd.store.event_feed import NewEvent, insert_events

ACTOR: Final = "mailerd"
"""Who pauses a job by a rule, in the log of actions and in events."""
# A job of which nothing waits needs no pause.
_LOCK_JOB: Final = """
SELECT status, sender_email, reference, bounce_warning, bounces_seen FROM jobs FORCE INDEX (PRIMARY)
 WHERE id = %s AND status IN ('queued', 'sending') AND next_claim_at IS NOT NULL AND on_bounces = 'pause' FOR UPDATE"""
# The newest in the order of the claim, as below: one that was retried is newer than its number says, and is none until
# it comes back again.
NEWEST_DEAD: Final = """
SELECT r.due_at, r.id
  FROM notices n FORCE INDEX (job) STRAIGHT_JOIN job_recipients r FORCE INDEX (PRIMARY) ON r.id = n.recipient_id
 WHERE n.job_id = %s AND n.believed = 1
   AND (n.kind = 'hard' OR (n.kind IN ('soft', 'unknown') AND n.code IN %s))
   AND r.status = 'sent' AND r.fate = 'bounced'
 ORDER BY r.due_at DESC, r.id DESC LIMIT 1"""
# The order of the claim, backwards.
LAST_SENT: Final = """
SELECT fate, fate_kind, fate_code, fate_reason, sent_at FROM job_recipients FORCE INDEX (claim)
 WHERE job_id = %s AND status = 'sent' AND (due_at < %s OR (due_at = %s AND id <= %s))
 ORDER BY due_at DESC, id DESC LIMIT %s"""


async def dead_of_job(cursor: Cursor, job: str, *, since: datetime | None) -> tuple[int, int]:
    """How many of the last messages of a job have dead addresses, and how many these are; `since`: sent after that.

    The last up to the newest dead one: notices are read more slowly than messages are sent, so of those that were sent
    later nothing is known.
    """
    await cursor.execute(NEWEST_DEAD, (job, tuple({code for code, _ in MICROSOFT_DEAD})))
    if (newest := await cursor.fetchone()) is None:
        return 0, 0
    due_at, id_ = newest
    await cursor.execute(LAST_SENT, (job, due_at, due_at, id_, LAST))
    rows = [row for row in await cursor.fetchall() if since is None or (row[4] is not None and row[4] > since)]
    return sum(fate == "bounced" and is_dead(*bounce) for fate, *bounce, _ in rows), len(rows)


async def judge_job(cursor: Cursor, job: str, rule: BounceRule) -> BadList | None:
    """Pause a job if its list is bad, or warn of it once; its messages are locked, and its row is from here on."""
    if not rule.is_on:
        return None
    await cursor.execute(_LOCK_JOB, (job,))
    if (row := await cursor.fetchone()) is None:
        return None
    status, sender, reference, warned, seen = row
    dead, sent = await dead_of_job(cursor, job, since=seen)
    if not rule.is_broken(dead, sent):
        words = job_warning(job, dead=dead, sent=sent, limit=rule.limit(sent)) if rule.is_near(dead, sent) else None
        if words != warned:
            await job_changes.set_warning(cursor, job, words)
        return BadList(job, sender, words, paused=False) if words and not warned else None
    reason = job_reason(job, dead=dead, sent=sent)
    paused = job_after(JobStatus(status), JobChange.PAUSE)
    await job_changes.set_paused(cursor, job, paused, cause=BOUNCES, reason=reason)
    await cursor.execute(*note_action(JobChange.PAUSE.value, ACTOR, job=job, detail=f"{dead} of {sent} came back"))
    data = {
        "job_id": job, "sender_email": sender, "reference": reference, "actor": ACTOR, "cause": BOUNCES,
        "reason": reason, "bounced": dead, "of": sent,
    }  # fmt: skip
    await cursor.execute(*insert_events([NewEvent(EventType.JOB_PAUSED, new_id(), data, job, sender)]))
    return BadList(job, sender, reason, paused=True)
