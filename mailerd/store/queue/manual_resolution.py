"""Manual resolution: a person has checked the mailbox and says what became of a letter."""

from dataclasses import dataclass
from typing import Final

from mailerd.clock import new_id
from mailerd.core.fates import Fate
from mailerd.core.states import Proof, State, Transition, after
from mailerd.errors import MailerdError
from mailerd.store.action_log import note_action
from mailerd.store.db.cursor import Cursor
from mailerd.store.db.database import Database
from mailerd.store.queue.attempt_log import AttemptRow, log_attempt
from mailerd.store.queue.reschedule import reschedule
from mailerd.store.tallies import count_changes

SETTLED: Final = "settled by hand"
"""How the error of a letter begins that a person has resolved."""
# What was not sent goes out by a new draft: the old one may be gone, and if it is not, the sweep deletes it.
_RESOLVE: Final = """
UPDATE job_recipients FORCE INDEX (PRIMARY)
   SET status = %s, claim_token = NULL, lease_until = NULL, error = %s, message_id = COALESCE(%s, message_id),
       proof = %s, mode = IF(%s, NULL, mode), draft_id = IF(%s, NULL, draft_id), thread_id = IF(%s, NULL, thread_id),
       unanswered = IF(%s, 0, unanswered), discarding = 0, nothing_found_at = NULL,
       sent_at = IF(%s = 'sent', UTC_TIMESTAMP(6), NULL), due_at = UTC_TIMESTAMP(6), updated_at = UTC_TIMESTAMP(6)
 WHERE id = %s AND status = 'unsure'"""
# What came back or was answered before is no fate of the next sending: a retry of bounces would send that once more.
_FORGET_FATE: Final = """
UPDATE job_recipients FORCE INDEX (PRIMARY)
   SET fate = NULL, fate_kind = NULL, fate_code = NULL, fate_reason = NULL, fate_at = NULL WHERE id = %s"""
_UNCOUNT_FATE: Final = """
UPDATE jobs FORCE INDEX (PRIMARY)
   SET bounced = bounced - LEAST(bounced, %s), replied = replied - LEAST(replied, %s) WHERE id = %s"""


class NotUnsureError(MailerdError):
    """There is nothing to settle: the recipient is unknown, or its state is certain."""


@dataclass(frozen=True)
class ManualResolution:
    """What a person has resolved."""

    recipient: int
    job_id: str
    to_email: str
    status: State
    """Its new state: sent, waiting, or cancelled if its job was."""


async def settle(
    database: Database,
    recipient: int,
    *,
    change: Transition,
    actor: str,
    message_id: str | None = None,
    attempt: int | None = None,
) -> ManualResolution:
    """Write what a person found out: FOUND or MISSING. `actor`: who says so; `attempt`: of which attempt, None: any.

    Raises:
        NotUnsureError: it is not unsure, or a later attempt is.
        DatabaseError: nothing was written.
    """

    async def work(cursor: Cursor) -> ManualResolution:
        await cursor.execute(
            "SELECT r.job_id, r.to_email, r.status, r.attempts, j.sender_email, r.fate FROM job_recipients r "
            "JOIN jobs j ON j.id = r.job_id WHERE r.id = %s FOR UPDATE",
            (recipient,),
        )
        if (row := await cursor.fetchone()) is None:
            raise NotUnsureError(f"there is no recipient {recipient}")
        job, to, status, attempts, sender, fate = row
        if status != State.UNSURE.value:
            raise NotUnsureError(f"recipient {recipient} ({to}, job {job}) is {status}: only an unsure one is settled")
        if attempt not in {None, attempts}:  # who looked before that knows nothing of it
            raise NotUnsureError(f"recipient {recipient} was tried once more meanwhile: look into the mailbox again")
        new = after(State.UNSURE, change)
        by = f", by {actor}"
        note = f"{SETTLED}: {'sent' if new is State.SENT else 'not sent'}{by}"
        proof = Proof.PERSON.value if new is State.SENT else None
        anew = int(new is State.WAITING)
        await cursor.execute(_RESOLVE, (new.value, note, message_id, proof, *[anew] * 4, new.value, recipient))
        if anew and fate:
            await cursor.execute(_FORGET_FATE, (recipient,))
            came_back, answered = fate == Fate.BOUNCED.value, fate in {Fate.REPLIED.value, Fate.OTHER_REPLIED.value}
            await cursor.execute(_UNCOUNT_FATE, (int(came_back), int(answered), job))
        token = new_id()
        line = AttemptRow(recipient, attempts, token, token, change.value, message_id=message_id, error=note)
        await log_attempt(cursor, line)
        if new is State.WAITING and await reschedule(cursor, jobs={job: 0}, senders={sender: 0}, back=[recipient]):
            new = State.CANCELLED
        detail = f"{new.value}, recipient {recipient}"
        await cursor.execute(*note_action("settle", actor, job=job, detail=detail, letters=1))
        if statement := count_changes(token, [(sender, change)]):
            await cursor.execute(*statement)
        return ManualResolution(recipient=recipient, job_id=job, to_email=to, status=new)

    return await database.transaction(work, what="settle by hand")
