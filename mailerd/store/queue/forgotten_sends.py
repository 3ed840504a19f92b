"""Unresolved sends that a row does not show: a letter that Google may have is checked before it is handed over again.

A database that forgets commits forgets with them that a letter was on its way to Google. Its worker still learns that
no answer comes, and writes so here: into a row that waits again, into one that was claimed since and not handed over,
or else into the log of attempts, which every hand-over reads.
"""

from typing import Final

from mailerd.core.models import ClaimedRecipient, Outcome, Record, mode_of
from mailerd.core.states import State, Transition, after
from mailerd.store.db.cursor import Cursor
from mailerd.store.db.times import micros
from mailerd.store.queue.attempt_log import AttemptRow, log_attempt
from mailerd.store.queue.late_answers import CAME_BACK, NOT_SENT, has_come_back
from mailerd.store.queue.reschedule import short
from mailerd.store.tallies import Change

# The send `l` came back, by a limit notice or as a bounce that is retried, however late its worker says that it got no
# answer: a draft is sent once at most, and what was sent directly by a claim that had ended by then was found. To look
# for it would find what came back: the letter would be `sent`, and no recipient would have it.
_SEND_CAME_BACK: Final = f"""EXISTS (
    SELECT 1 FROM attempts b FORCE INDEX (event_of_claim)
     WHERE b.recipient_id = l.recipient_id
       AND {CAME_BACK} AND (b.draft_id = l.draft_id OR (
            l.draft_id IS NULL AND b.draft_id IS NULL AND b.message_id IS NOT NULL AND EXISTS (
            SELECT 1 FROM attempts e FORCE INDEX (event_of_claim)
             WHERE e.recipient_id = l.recipient_id AND e.claim_token = l.claim_token
               AND e.event IN ('lost', 'lapsed') AND e.id < b.id))))"""
_HAS_COME_BACK: Final = f"SELECT 1 FROM (SELECT %s recipient_id, %s claim_token, %s draft_id) l WHERE {_SEND_CAME_BACK}"
_UNRESOLVED: Final = f"""
 l.event = 'lost' AND NOT EXISTS (
    SELECT 1 FROM attempts s FORCE INDEX (event_of_claim)
     WHERE s.recipient_id = l.recipient_id AND s.id > l.id AND s.applied = 1 AND s.event IN ('missing', 'found'))
   AND NOT {_SEND_CAME_BACK}"""
NONE_UNRESOLVED: Final = f"""
NOT EXISTS (SELECT 1 FROM attempts l FORCE INDEX (event_of_claim) WHERE l.recipient_id = r.id AND {_UNRESOLVED})"""
"""No worker's send of row `r` is without an answer, or the letter was checked since."""

# The draft was refused by Google as well, and we may have deleted it: that it is gone then proves nothing.
_WAS_REFUSED: Final = """EXISTS (
    SELECT 1 FROM attempts a
     WHERE a.recipient_id = %s AND a.draft_id = %s AND a.event IN ('deferred', 'released', 'failed'))"""
# A row that is under another claim is taken from it only before it is handed over: the hand-over is refused then.
_MARK_UNSURE_LATE: Final = f"""
UPDATE job_recipients r FORCE INDEX (PRIMARY)
   SET r.status = %s, r.mode = %s, r.draft_id = %s, r.thread_id = %s, r.unanswered = %s,
       r.discarding = IF({_WAS_REFUSED}, 1, %s), r.attempts = GREATEST(r.attempts, %s), r.error = %s, r.checks = 0,
       r.handed_over_at = NULL, r.crashes = 0, r.claim_token = NULL, r.updated_at = UTC_TIMESTAMP(6),
       r.lease_until = UTC_TIMESTAMP(6) + INTERVAL %s MICROSECOND
 WHERE r.id = %s AND r.job_id = %s
   AND ((r.status = 'waiting' AND (r.draft_id IS NULL OR r.draft_id = %s))
        OR (r.status = 'sending' AND (r.claim_token = %s OR (r.mode IS NULL AND r.draft_id IS NULL))))
   AND {NOT_SENT}"""
_LOCK_OTHER_CLAIM: Final = """
SELECT claim_token, attempts FROM job_recipients FORCE INDEX (PRIMARY)
 WHERE id = %s AND status = 'sending' AND claim_token <> %s FOR UPDATE"""
_TAKEN: Final = "an earlier send of this letter had no answer: it was taken from this claim before its hand-over"
_READ_LOGGED_END: Final = """
SELECT 1 FROM attempts WHERE recipient_id = %s AND claim_token = %s AND event IN ('lost', 'lapsed')"""

_READ_UNRESOLVED: Final = f"""
SELECT l.draft_id, l.error FROM attempts l FORCE INDEX (event_of_claim)
 WHERE l.recipient_id = %s AND {_UNRESOLVED} ORDER BY l.id DESC LIMIT 1"""
_MARK_UNSURE_BEFORE: Final = f"""
UPDATE job_recipients FORCE INDEX (PRIMARY)
   SET status = %s, mode = %s, draft_id = %s, thread_id = NULL, unanswered = 1, discarding = {_WAS_REFUSED}, error = %s,
       checks = 0, handed_over_at = NULL, claim_token = NULL, lease_until = UTC_TIMESTAMP(6),
       updated_at = UTC_TIMESTAMP(6)
 WHERE id = %s AND claim_token = %s AND status = 'sending'"""

_IS_MARKED_UNSURE: Final = "SELECT 1 FROM job_recipients WHERE id = %s AND status = 'unsure' AND error = %s"
_KNOWN_TO_LOG: Final = "it may have been sent by a claim that the row knows nothing of, and is looked for first"


def may_be_carried_out(it: Outcome) -> bool:
    """Whether a send of the letter's draft, this one or an earlier one, had no answer."""
    return it.letter.unanswered or not it.decision.refused


async def is_logged(cursor: Cursor, letter: ClaimedRecipient) -> bool:
    """Whether the database knows that this claim ended in doubt, or lapsed; the row was written in the same commit."""
    await cursor.execute(_READ_LOGGED_END, (letter.id, letter.token))
    return bool(await cursor.fetchall())


async def is_explained(cursor: Cursor, one: Record) -> bool:
    """Whether the log says why the letter of a record, though it was handed over, can be claimed again."""
    if isinstance(one, Outcome) and one.decision.transition is Transition.SENT:
        return await has_come_back(cursor, one)
    return await is_logged(cursor, one.letter)


async def mark_unsure_late(cursor: Cursor, it: Outcome, *, by: str, changes: list[Change]) -> bool:
    """Mark a row unsure that has lost this unresolved send, with all that a check needs; whether it has changed.

    `changes` gets what the tallies have to count.
    """
    letter, decision = it.letter, it.decision
    draft, error = letter.draft_id, short(decision.error)
    await cursor.execute(_HAS_COME_BACK, (letter.id, letter.token, draft))
    if await cursor.fetchone() is not None:
        return False
    await cursor.execute(_LOCK_OTHER_CLAIM, (letter.id, letter.token))
    other = await cursor.fetchone()
    await cursor.execute(
        _MARK_UNSURE_LATE,
        (
            after(State.SENDING, Transition.LOST).value, mode_of(draft), draft, letter.thread_id,
            int(may_be_carried_out(it)), letter.id, draft, int(decision.discarding), letter.attempt, error,
            micros(decision.wait), letter.id, letter.job_id, draft, letter.token,
        ),
    )  # fmt: skip
    if cursor.rowcount != 1:
        return False
    changes.append((letter.sender, Transition.LOST))
    row = AttemptRow(letter.id, letter.attempt, letter.token, by, Transition.LOST.value, draft_id=draft, error=error)
    await log_attempt(cursor, row, overrule=True)
    if (
        other is not None
    ):  # or its worker would take the row back, with a draft that is deleted by then (`_restore_claim`)
        token, attempts = other
        await log_attempt(cursor, AttemptRow(letter.id, attempts, token, by, "lapsed", error=_TAKEN))
    return True


async def mark_unsure_before(
    cursor: Cursor, letter: ClaimedRecipient, *, repeated: bool, changes: list[Change]
) -> bool:
    """Mark a claimed letter unsure if the result of a send by a former claim is unknown; whether it has changed.

    `repeated`: an earlier try may have been committed. `changes` gets what the tallies have to count, once.
    """
    await cursor.execute(_READ_UNRESOLVED, (letter.id,))
    if (row := await cursor.fetchone()) is None:
        return False
    draft, why = row
    error = short(f"{_KNOWN_TO_LOG}: {why or ''}")
    await cursor.execute(
        _MARK_UNSURE_BEFORE,
        (
            after(State.SENDING, Transition.LOST).value, mode_of(draft), draft, letter.id, draft, error,
            letter.id, letter.token,
        ),
    )  # fmt: skip
    if cursor.rowcount == 1:
        changes.append((letter.sender, Transition.LOST))
        return True
    if not repeated:
        return False
    await cursor.execute(_IS_MARKED_UNSURE, (letter.id, error))
    return bool(await cursor.fetchall())
