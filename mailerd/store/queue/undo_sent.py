"""Takes back a `sent` for which only a missing draft spoke, once that draft is found where it was."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from mailerd.clock import new_id
from mailerd.core.event_types import EventType
from mailerd.core.states import JobChange, JobStatus, State, Transition, after, job_after
from mailerd.store.db.cursor import Cursor
from mailerd.store.db.database import Database
from mailerd.store.outbox import NewEvent, insert_events
from mailerd.store.queue.attempt_log import AttemptRow, InDoubtRetry, log_attempt, was_applied
from mailerd.store.queue.reschedule import NOT_FORGOTTEN, lock_job, reschedule

_READ_LETTER: Final = """
SELECT r.id, r.to_email, r.attempts, j.sender_email FROM job_recipients r JOIN jobs j ON j.id = r.job_id
 WHERE r.job_id = %s AND r.seq = %s"""
# The draft stays the letter's own, so that it can go out once at most, whatever else is still under way. The attempt is
# refunded: nothing was sent by it.
_UNDO: Final = f"""
UPDATE job_recipients FORCE INDEX (PRIMARY)
   SET status = %s, proof = NULL, sent_at = NULL, checks = 0, attempts = GREATEST(attempts, 1) - 1, error = %s,
       due_at = UTC_TIMESTAMP(6), updated_at = UTC_TIMESTAMP(6)
 WHERE id = %s AND status = 'sent' AND proof = 'draft gone' AND draft_id = %s AND {NOT_FORGOTTEN}"""
_REOPEN: Final = "UPDATE jobs SET status = %s, finished_at = NULL, next_claim_at = UTC_TIMESTAMP(6) WHERE id = %s"
# Its letter is cancelled: the recovery finishes the job once more, with an event that has the counts as they are.
_NOT_FINISHED: Final = "UPDATE jobs SET finished_at = NULL WHERE id = %s"
_REASON: Final = "it was recorded as sent because its draft was gone, and the draft is there"


@dataclass(frozen=True)
class UndoneSend:
    """A letter that was not sent after all."""

    recipient: int
    job_id: str
    to_email: str
    sender: str
    token: str
    """The token under which the log of attempts has it."""
    status: State = State.WAITING
    """Its new state: waiting, or cancelled if its job was."""


async def undo(
    database: Database, *, job: str, seq: int, draft: str, by: str, on_retry: Callable[[], None] | None = None
) -> UndoneSend | None:
    """Let the letter wait again if `draft`, which is there, disproves that it was sent; None: it does not.

    Fenced by the state, the proof and the draft: of two who find the draft one does it. What is in doubt is repeated,
    and `on_retry` called after each try.
    """
    retry: InDoubtRetry[UndoneSend] = InDoubtRetry(
        lambda cursor, it: was_applied(cursor, it.recipient, token=it.token, event=Transition.UNDONE.value, by=by)
    )

    async def work(cursor: Cursor, _: bool) -> list[UndoneSend]:  # noqa: FBT001 - as it is called
        return await retry.done(cursor, lambda cursor: _undo(cursor, job, seq, draft, by))

    done = await database.retry_until_committed(
        work, what="take back a sent letter", on_retry=on_retry, only_in_doubt=True
    )
    return done[0] if done else None


async def _undo(cursor: Cursor, job: str, seq: int, draft: str, by: str) -> list[UndoneSend]:
    await cursor.execute(_READ_LETTER, (job, seq))
    if (row := await cursor.fetchone()) is None:
        return []
    id_, to, attempts, sender = row
    await cursor.execute(_UNDO, (after(State.SENT, Transition.UNDONE).value, _REASON, id_, draft))
    if cursor.rowcount != 1:
        return []
    it = UndoneSend(id_, job, to, sender, token=new_id())
    event = Transition.UNDONE.value
    await log_attempt(cursor, AttemptRow(id_, attempts, it.token, by, event, draft_id=draft, error=_REASON))
    undone = {"recipient_id": id_, "job_id": job, "seq": seq, "email": to, "sender_email": sender, "reason": _REASON}
    await cursor.execute(
        *insert_events([NewEvent(EventType.RECIPIENT_SENT_UNDONE, f"{id_}:{it.token}", undone, job, sender)])
    )
    await reopen(cursor, job)
    cancelled = await reschedule(cursor, jobs={job: 0}, senders={sender: 0}, back=[id_])
    return [replace(it, status=State.CANCELLED) if cancelled else it]


async def reopen(cursor: Cursor, job: str) -> None:
    """Let a job go on, or finish once more, into which a letter comes back: it finished with other counts."""
    status = await lock_job(cursor, job)
    if status is JobStatus.COMPLETED:
        await cursor.execute(_REOPEN, (job_after(status, JobChange.RETRY).value, job))
    elif status is JobStatus.CANCELLED:
        await cursor.execute(_NOT_FINISHED, (job,))
