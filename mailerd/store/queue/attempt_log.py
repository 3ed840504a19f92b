"""The log of attempts: what happened to a recipient under one claim; answers that come late or were forgotten."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Final, NamedTuple

from mailerd.core.models import ClaimedRecipient, Outcome, Record, mode_of
from mailerd.core.states import State, Transition, after
from mailerd.store.db.connection import NOW, Cursor, Statement, insert_many
from mailerd.store.db.times import micros
from mailerd.store.event_feed import sent_events
from mailerd.store.queue.reschedule import short
from mailerd.store.stats import Change

_INSERT_ATTEMPTS: Final = """
INSERT INTO attempts (recipient_id, attempt, claim_token, daemon_id, event, applied, draft_id, message_id, error, at)
VALUES %s ON DUPLICATE KEY UPDATE {duplicate}"""
_KEEP_OLD_ROW: Final = "recipient_id = attempts.recipient_id"
"""A repeated transaction writes its rows again: those that are there stay as they are."""
_OVERRULE: Final = "applied = 1"
"""A row that is there and says that the change was not applied now says that it was."""


class AttemptRow(NamedTuple):
    """What happened to a recipient under one claim."""

    recipient: int
    attempt: int
    token: str
    daemon: str
    event: str
    applied: bool = True
    """Whether the recipient's row took the change."""
    draft_id: str | None = None
    message_id: str | None = None
    error: str | None = None


def insert_attempts(rows: Sequence[AttemptRow], *, overrule: bool = False) -> Statement:
    """The statement that logs these; `overrule`: see `_OVERRULE`."""
    values = [(*row[:5], int(row.applied), *row[6:]) for row in rows]
    insert = _INSERT_ATTEMPTS.format(duplicate=_OVERRULE if overrule else _KEEP_OLD_ROW)
    return insert_many(insert, values, last=NOW)


async def log_attempt(cursor: Cursor, row: AttemptRow, *, overrule: bool = False) -> None:
    """Log one."""
    await cursor.execute(*insert_attempts([row], overrule=overrule))


# Locking: it waits for a transaction that is still being committed, so that "not there" is a proof too.
_READ_APPLIED: Final = """
SELECT applied FROM attempts
 WHERE recipient_id = %s AND claim_token = %s AND event = %s AND daemon_id = %s FOR UPDATE"""


async def was_applied(cursor: Cursor, recipient: int, *, token: str, event: str, by: str) -> bool:
    """Whether the log of attempts says that the row took this event under this token, and from this daemon."""
    await cursor.execute(_READ_APPLIED, (recipient, token, event, by))
    row = await cursor.fetchone()
    return bool(row and row[0])


class InDoubtRetry[T]:
    """The tries of one transaction: returns what the one did that was committed, whichever it was.

    Once a try without an answer was committed, the rows are as they shall be, so the next one finds nothing to do.
    """

    def __init__(self, proof: Callable[[Cursor, T], Awaitable[bool]]) -> None:
        """`proof`: whether one thing that a try did is there; it waits for a transaction that is being committed."""
        self._proof = proof
        self._done: list[T] = []

    async def done(self, cursor: Cursor, work: Callable[[Cursor], Awaitable[list[T]]]) -> list[T]:
        """What `work` does now, after what an earlier try is proven to have done."""
        proven = [one for one in self._done if await self._proof(cursor, one)]
        self._done = proven + await work(cursor)
        return self._done


# What Google answered to a worker whose claim had ended: it settles the row and keeps it from being sent again.

NOT_SENT: Final = """r.message_id IS NULL AND NOT EXISTS (
    SELECT 1 FROM attempts a WHERE a.recipient_id = r.id AND a.event = 'sent' AND a.message_id IS NOT NULL)"""
"""Google has never said that it has row `r`: by the row itself, and by the log of attempts. A check that found a
draft gone (`found`) may have been wrong."""

GIVEN_BACK: Final = "Google gave it back: the mailbox had reached its limit for sending mail"
"""The note of a letter that a limit notice has undone (store/inbox/record_findings.py), in its row and in its log."""

CAME_BACK: Final = f"(b.event = 'retried' OR (b.event = 'undone' AND b.error = '{GIVEN_BACK}'))"
"""A sending has come back: row `b` of the log of attempts says so, and names its draft, and its message if it is known.
By the note, since a draft that is found again is logged as `undone` too."""

# The message may not be known: its draft was gone, and that was all. Then the draft tells, which is sent once at most.
_ANSWER_HAS_COME_BACK: Final = f"""
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
    await cursor.execute(_ANSWER_HAS_COME_BACK, (letter.id, it.decision.message_id, letter.draft_id))
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
        await sent_events(cursor, [letter.id])
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
        await sent_events(cursor, [letter.id])
        return True
    return repeated and await _is_resolved(cursor, letter.id, sent, message)


async def _is_resolved(cursor: Cursor, recipient: int, status: str, message: str | None) -> bool:
    await cursor.execute(_IS_RESOLVED, (recipient, status, message))
    return bool(await cursor.fetchall())


# Unresolved sends that a row does not show: a letter that Google may have is checked before it is handed over again.
#
# A database that forgets commits forgets with them that a letter was on its way to Google. Its worker still learns that
# no answer comes, and writes so here: into a row that waits again, into one that was claimed since and not handed over,
# or else into the log of attempts, which every hand-over reads.
#
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
