"""Counts of bounces by which an address is suppressed or a sender pauses; each reads few rows by an index."""

from collections.abc import Collection
from datetime import timedelta
from typing import Final

from mailerd.core.bounce_rule import LAST, BounceRule, is_dead
from mailerd.core.fates import (
    BLOCKED_OF_LAST,
    BLOCKED_SHARE,
    MIN_BLOCKED,
    SOFT_IN_A_ROW,
    UNKNOWN_DOMAINS,
    UNKNOWN_MINUTES,
)
from mailerd.core.notice_words import MICROSOFT_DEAD
from mailerd.store.db.cursor import Cursor

# The letters of one person, the newest first. One of which nothing was heard went well, or it is not known yet.
_READ_LAST_FATES: Final = """
SELECT o.fate, o.fate_kind, o.fate_at > UTC_TIMESTAMP(6) - INTERVAL 30 DAY
  FROM job_recipients r FORCE INDEX (PRIMARY) JOIN job_recipients o FORCE INDEX (person) ON o.person = r.person
 WHERE r.id = %s AND o.status = 'sent' ORDER BY o.id DESC LIMIT %s"""
_READ_HOURS: Final = """
SELECT hour, letters FROM sender_hours FORCE INDEX (PRIMARY)
 WHERE sender_email = %s AND hour > UTC_TIMESTAMP() - INTERVAL 5 DAY ORDER BY hour DESC"""
# Letters, not notices: a person who holds one letter can write any number of notices about it.
_COUNT_BLOCKED: Final = """
SELECT COUNT(DISTINCT recipient_id), COUNT(DISTINCT IF(gmail_id IN %s, NULL, recipient_id))
  FROM notices FORCE INDEX (by_kind)
 WHERE mailbox = %s AND kind = 'blocked' AND believed = 1 AND at >= %s"""
# But for those of a job that was paused for them, or that a person has resumed or cancelled since: that is dealt with.
_READ_DEAD: Final = """
SELECT n.recipient_id, n.gmail_id, r.sent_at, n.kind, n.code, n.detail
  FROM notices n FORCE INDEX (by_kind) JOIN job_recipients r FORCE INDEX (PRIMARY) ON r.id = n.recipient_id
  JOIN jobs j ON j.id = r.job_id
 WHERE n.mailbox = %s AND n.kind IN ('hard', 'soft', 'unknown') AND n.at > UTC_TIMESTAMP(6) - INTERVAL 6 HOUR
   AND n.believed = 1 AND (n.kind = 'hard' OR n.code IN %s) AND r.sent_at > COALESCE(j.bounces_seen, '1970-01-01')
   AND COALESCE(j.pause_cause, '') <> 'bounces'"""
# Each minute by its key: the minutes of other senders are not read.
COUNT_SENT: Final = """
SELECT minute, SUM(sent) FROM tallies FORCE INDEX (PRIMARY)
 WHERE minute IN %s AND sender_email = %s GROUP BY minute ORDER BY minute DESC"""
_MINUTES: Final = 180
"""So many minutes are looked at for a sender's last messages; a slower one has fewer than LAST."""
_COUNT_UNKNOWN_DOMAINS: Final = """
SELECT COUNT(DISTINCT SUBSTRING_INDEX(email, '@', -1)) FROM notices FORCE INDEX (by_kind)
 WHERE mailbox = %s AND kind = 'unknown' AND believed = 1 AND at > UTC_TIMESTAMP(6) - INTERVAL %s MINUTE"""


async def is_third_soft(cursor: Cursor, recipient: int) -> bool:
    """Whether the last letters to the person of this letter all bounced softly within 30 days."""
    await cursor.execute(_READ_LAST_FATES, (recipient, SOFT_IN_A_ROW))
    rows = await cursor.fetchall()
    return len(rows) == SOFT_IN_A_ROW and all(row == ("bounced", "soft", 1) for row in rows)


async def count_blocked(cursor: Cursor, sender: str, fresh: Collection[str]) -> int:
    """How many of the sender's last letters were blocked: at the first above the share, and each tenth; else 0.

    `fresh`: the ids of the notices that are new, of which one tenth or several may come at once.
    """
    await cursor.execute(_READ_HOURS, (sender,))
    sent, since = 0, None
    for hour, letters in await cursor.fetchall():
        sent, since = sent + letters, hour
        if sent >= BLOCKED_OF_LAST:
            break
    if since is None:
        return 0
    await cursor.execute(_COUNT_BLOCKED, (tuple(fresh), sender, since))
    blocked, before = map(int, await cursor.fetchone())
    # Then at each tenth, so that a person who has looked and resumes the sender is not overruled by the next one.
    is_next = blocked // MIN_BLOCKED > before // MIN_BLOCKED or before <= BLOCKED_SHARE * sent
    return blocked if is_next and blocked >= MIN_BLOCKED and blocked > BLOCKED_SHARE * sent else 0


async def count_dead(cursor: Cursor, sender: str, fresh: Collection[str], rule: BounceRule) -> tuple[int, int] | None:
    """How many of the sender's last messages have dead addresses, and how many these are, where it has to rest.

    Else None. The last up to the newest dead one, by whole minutes. At the first that breaks the rule, and then each
    `at_least` more: a person's resume is not overruled by the next one. `fresh`: the ids of the notices that are new.
    """
    if not rule.is_on:
        return None
    await cursor.execute(_READ_DEAD, (sender, tuple({code for code, _ in MICROSOFT_DEAD})))
    rows = [row[:3] for row in await cursor.fetchall() if is_dead(*row[3:])]
    if not rows:
        return None
    newest = max(at for _, _, at in rows).replace(second=0, microsecond=0)
    minutes = tuple(newest - timedelta(minutes=n) for n in range(_MINUTES))
    await cursor.execute(COUNT_SENT, (minutes, sender))
    sent, since = 0, newest
    for minute, letters in await cursor.fetchall():
        sent, since = sent + int(letters), minute
        if sent >= LAST:
            break
    dead = len({letter for letter, _, at in rows if at >= since})
    before = len({letter for letter, notice, at in rows if at >= since and notice not in fresh})
    is_next = dead // rule.at_least > before // rule.at_least or not rule.is_broken(before, sent)
    return (dead, sent) if is_next and rule.is_broken(dead, sent) else None


async def count_unknown(cursor: Cursor, sender: str) -> int:
    """At how many domains letters have just failed for an unknown cause; 0 where they are few."""
    await cursor.execute(_COUNT_UNKNOWN_DOMAINS, (sender, UNKNOWN_MINUTES))
    domains = int((await cursor.fetchone())[0])
    return domains if domains >= UNKNOWN_DOMAINS else 0
