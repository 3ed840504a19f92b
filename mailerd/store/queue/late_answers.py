"""What Google answered to a worker whose claim had ended: it settles the row and keeps it from being sent again."""

from typing import Final

from mailerd.core.models import ClaimedRecipient, Outcome
from mailerd.core.states import State, Transition, after
from mailerd.store.db.cursor import Cursor
from mailerd.store.queue.attempt_log import AttemptRow, log_attempt
from mailerd.store.tallies import Change

NOT_SENT: Final = """r.message_id IS NULL AND NOT EXISTS (
    SELECT 1 FROM attempts a WHERE a.recipient_id = r.id AND a.event = 'sent' AND a.message_id IS NOT NULL)"""
"""Google has never said that it has row `r`: by the row itself, and by the log of attempts. A check that found a
draft gone (`found`) may have been wrong."""

GIVEN_BACK: Final = "Google gave it back: the mailbox had reached its limit for sending mail"
"""The note of a letter that a limit notice has undone (store/inbox/undo_limit.py), in its row and in its log."""

CAME_BACK: Final = f"(b.event = 'retried' OR (b.event = 'undone' AND b.error = '{GIVEN_BACK}'))"
"""A sending has come back: row `b` of the log of attempts says so, and names its draft, and its message if it is known.
By the note, since a draft that is found again is logged as `undone` too."""

# The message may not be known: its draft was gone, and that was all. Then the draft tells, which is sent once at most.
_HAS_COME_BACK: Final = f"""
SELECT 1 FROM attempts b
 WHERE b.recipient_id = %s AND {CAME_BACK} AND (b.message_id = %s OR b.draft_id = %s) LIMIT 1"""
_FORGET_MESSAGE_ID: Final = """
UPDATE attempts SET message_id = NULL WHERE recipient_id = %s AND claim_token = %s AND event = 'sent'"""

# A worker whose lease has gone still knows what Google answered: that is used, never overwritten. A row that waits is
# one whose claim the database has forgotten. By the job too: a database that has forgotten a whole job gives its rows'
# numbers to the next one. The draft that was sent stays on the row, so that any other is found to be an orphan.
_RESOLVE_LATE: Final = """
UPDATE job_recipients FORCE INDEX (PRIMARY)
   SET status = %s, message_id = %s, thread_id = COALESCE(%s, thread_id), draft_id = COALESCE(%s, draft_id),
       attempts = GREATEST(attempts, %s), error = NULL, proof = 'answered', claim_token = NULL, lease_until = NULL,
       sent_at = UTC_TIMESTAMP(6), updated_at = UTC_TIMESTAMP(6)
 WHERE id = %s AND job_id = %s AND status IN ('waiting', 'unsure')"""
# A row that belongs to another claim, or has ended, keeps at least the message: a hand-over reads it there too, so that
# nothing depends on how long the log of attempts is kept. And it is a better proof.
_KEEP_MESSAGE_ID: Final = """
UPDATE job_recipients FORCE INDEX (PRIMARY)
   SET message_id = %s, thread_id = COALESCE(%s, thread_id), proof = IF(status = 'sent', 'answered', proof)
 WHERE id = %s AND job_id = %s AND message_id IS NULL"""
_READ_LOGGED_ANSWER: Final = """
SELECT draft_id, message_id FROM attempts
 WHERE recipient_id = %s AND event = 'sent' AND message_id IS NOT NULL ORDER BY id LIMIT 1"""
_READ_KEPT_ANSWER: Final = "SELECT draft_id, message_id FROM job_recipients WHERE id = %s AND message_id IS NOT NULL"
_RESOLVE_SENT_BEFORE: Final = """
UPDATE job_recipients FORCE INDEX (PRIMARY)
   SET status = %s, message_id = %s, draft_id = COALESCE(%s, draft_id), error = NULL, claim_token = NULL,
       lease_until = NULL, proof = 'answered', sent_at = UTC_TIMESTAMP(6), updated_at = UTC_TIMESTAMP(6)
 WHERE id = %s AND claim_token = %s AND status = 'sending'"""
_IS_RESOLVED: Final = "SELECT 1 FROM job_recipients WHERE id = %s AND status = %s AND message_id = %s"


async def log_sent(cursor: Cursor, it: Outcome, *, by: str, applied: bool) -> None:
    """Log, unless it is logged, that Google has accepted a letter."""
    letter = it.letter
    event, message = Transition.SENT.value, it.decision.message_id
    row = AttemptRow(letter.id, letter.attempt, letter.token, by, event, applied, letter.draft_id, message)
    await log_attempt(cursor, row)


async def has_come_back(cursor: Cursor, it: Outcome) -> bool:
    """Whether what this answer says was accepted came back since, by a limit notice or as a bounce that is retried.

    Then the log keeps no message of it: the next hand-over would take the letter for sent.
    """
    letter = it.letter
    await cursor.execute(_HAS_COME_BACK, (letter.id, it.decision.message_id, letter.draft_id))
    if await cursor.fetchone() is None:
        return False
    await cursor.execute(_FORGET_MESSAGE_ID, (letter.id, letter.token))
    return True


async def resolve_late(cursor: Cursor, it: Outcome, *, repeated: bool, changes: list[Change]) -> bool:
    """Resolve a row by Google's answer to a worker that has lost its claim; whether the row has changed.

    `repeated`: an earlier try may have been committed. `changes` gets what the tallies have to count, once.
    """
    letter, message, thread = it.letter, it.decision.message_id, it.decision.thread_id
    found, row = after(State.UNSURE, Transition.FOUND).value, (letter.id, letter.job_id)
    if await has_come_back(cursor, it):
        return False
    await cursor.execute(_RESOLVE_LATE, (found, message, thread, letter.draft_id, letter.attempt, *row))
    if cursor.rowcount == 1:
        changes.append((letter.sender, Transition.FOUND))
        return True
    if repeated and await _is_resolved(cursor, letter.id, found, message):
        return True
    await cursor.execute(_KEEP_MESSAGE_ID, (message, thread, *row))
    return False


async def resolve_sent_before(
    cursor: Cursor, letter: ClaimedRecipient, *, repeated: bool, changes: list[Change]
) -> bool:
    """Resolve a claimed letter if Google has accepted it from another worker; whether the row has changed."""
    await cursor.execute(_READ_LOGGED_ANSWER, (letter.id,))
    if (row := await cursor.fetchone()) is None:
        await cursor.execute(_READ_KEPT_ANSWER, (letter.id,))
        if (row := await cursor.fetchone()) is None:
            return False
    draft, message = row
    sent = after(State.SENDING, Transition.SENT).value
    await cursor.execute(_RESOLVE_SENT_BEFORE, (sent, message, draft, letter.id, letter.token))
    if cursor.rowcount == 1:
        changes.append((letter.sender, Transition.SENT))
        return True
    return repeated and await _is_resolved(cursor, letter.id, sent, message)


async def _is_resolved(cursor: Cursor, recipient: int, status: str, message: str | None) -> bool:
    await cursor.execute(_IS_RESOLVED, (recipient, status, message))
    return bool(await cursor.fetchall())
