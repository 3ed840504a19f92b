"""Takes back letters that Google accepted and did not send, since the mailbox had reached its limit.

Google answers 200 to them, and minutes later writes a notice into the thread of each. The letter waits again, as if it
had never been handed over, and its sender rests, since by Google's own word its day is full.
"""

from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from mailerd.clock import new_id
from mailerd.core import rate_limit
from mailerd.core.event_types import EventType
from mailerd.core.fates import Fate
from mailerd.core.findings import Finding, SentLetter, UndoneByLimit
from mailerd.core.states import State, Transition, after
from mailerd.core.verdicts import PauseCause
from mailerd.store.db.cursor import Cursor
from mailerd.store.outbox import NewEvent, insert_events
from mailerd.store.queue.attempt_log import AttemptRow, log_attempt
from mailerd.store.queue.late_answers import GIVEN_BACK
from mailerd.store.queue.rate_limits import DefaultLimits, add_elsewhere, lock_sender, sent_by_hour
from mailerd.store.queue.reschedule import NEVER_HANDED_OVER, NOT_FORGOTTEN, reschedule
from mailerd.store.queue.side_effects import pause_sender
from mailerd.store.queue.undo_sent import reopen

_READ_ROW: Final = "SELECT attempts, draft_id, message_id, fate FROM job_recipients FORCE INDEX (PRIMARY) WHERE id = %s"
# As if it had never been handed over: the message that Google did not send stays in its sent mail, and neither that nor
# its draft says anything about the letter any more. The thread goes too, so that no second notice in it undoes more.
# One that waits with that draft was sent by a daemon that was taken for dead: its next hand-over would find the draft
# gone, and call it sent.
_LET_WAIT_AGAIN: Final = f"""
UPDATE job_recipients FORCE INDEX (PRIMARY)
   SET status = %s, attempts = GREATEST(attempts, 1) - 1, error = %s, given_back = 1, {NEVER_HANDED_OVER}
 WHERE id = %s AND job_id = %s AND status IN ('sent', 'waiting') AND thread_id = %s
   AND given_back = 0 AND (message_id = %s OR %s IS NULL) AND {NOT_FORGOTTEN}"""
# Every hand-over asks this log whether Google has the letter; it has not. The log keeps the message as `undone`.
_FORGET_MESSAGE_ID: Final = "UPDATE attempts SET message_id = NULL WHERE recipient_id = %s AND event = 'sent'"


async def undo_letters(cursor: Cursor, notices: Sequence[Finding], *, by: str) -> list[tuple[SentLetter, Fate | None]]:
    """Let these letters wait again, whose rows are locked; those that did, each with the fate that it had.

    Fenced by the state, the thread and the message of the notice's letter: a notice undoes once, and nothing else. And
    by the row: no letter is given back twice, whatever notices say. A message that was not known when the notice was
    read may be known by now; then the thread alone tells.
    """
    undone = list[tuple[SentLetter, Fate | None]]()
    for it in notices:
        if (letter := it.letter) is None:
            continue
        await cursor.execute(_READ_ROW, (letter.id,))
        if (found := await cursor.fetchone()) is None:
            continue
        attempts, draft, message, fate = found
        status = after(State.SENT, Transition.UNDONE).value
        row = (letter.id, letter.job_id, it.thread_id, letter.message_id, letter.message_id)
        await cursor.execute(_LET_WAIT_AGAIN, (status, GIVEN_BACK, *row))
        if cursor.rowcount != 1:
            continue
        token, event = new_id(), Transition.UNDONE.value
        await cursor.execute(_FORGET_MESSAGE_ID, (letter.id,))
        entry = AttemptRow(letter.id, attempts, token, by, event, draft_id=draft, message_id=message, error=GIVEN_BACK)
        await log_attempt(cursor, entry)
        data = {
            "recipient_id": letter.id, "job_id": letter.job_id, "seq": letter.seq, "email": letter.to_email,
            "sender_email": letter.sender, "reason": GIVEN_BACK,
        }  # fmt: skip
        what = NewEvent(EventType.RECIPIENT_SENT_UNDONE, f"{letter.id}:{token}", data, letter.job_id, letter.sender)
        await cursor.execute(*insert_events([what]))
        undone.append((letter, Fate(fate) if fate else None))
    return undone


async def requeue(cursor: Cursor, letters: Sequence[SentLetter], sender: str) -> list[UndoneByLimit]:
    """Let the jobs of letters that wait again go on; those of a cancelled job are cancelled."""
    jobs = sorted({it.job_id for it in letters})
    for job in jobs:
        await reopen(cursor, job)
    back = [it.id for it in letters]
    cancelled = await reschedule(cursor, jobs=dict.fromkeys(jobs, 0), senders={sender: 0}, back=back)
    return [UndoneByLimit(it, cancelled=it.job_id in cancelled) for it in letters]


async def rest_sender(
    cursor: Cursor, sender: str, defaults: DefaultLimits, *, at_least: timedelta, reason: str, full: bool
) -> timedelta | None:
    """Pause a sender that has reached its limit, and set its day to full; how long, or None where it rests longer.

    `full`: Google said so. Then letters that our counts lack were sent by a person or by another program, at an
    unknown time: they count from now.
    """
    if (it := await lock_sender(cursor, sender, defaults)) is None:
        return None
    hours = (await sent_by_hour(cursor, [sender], now=it.now))[sender]
    wait = at_least
    if limit := it.limits.per_day:
        missing = limit - sum(hours.values())
        if full and missing > 0:
            await add_elsewhere(cursor, sender, at=it.now, letters=missing)
            hours = (await sent_by_hour(cursor, [sender], now=it.now))[sender]
        free_at = rate_limit.day(it.allowance, hours=hours, now=it.now).next_at
        wait = max(wait, free_at - it.now) if free_at else wait
    paused = await pause_sender(
        cursor, sender, cause=PauseCause.DAILY_LIMIT.value, reason=reason, wait=wait, pauses=it.pauses
    )
    return wait if paused else None
