"""The messages' side of a claim: a job of each sender, the messages of each job, and the statement
that takes them.

What has to be found for each sender or each job apart is one UNION ALL of SELECTs that each read
their index from one end and stop: as exact as one by one, in one round trip. Each locks the rows
that it returns and no others.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Final

from mailerd.core.claims import ALONE_AFTER, ClaimedJob, ClaimedRecipient, message_key
from mailerd.core.copies import Copy
from mailerd.core.copies import from_json as copies_of
from mailerd.core.moves import Row, claimed
from mailerd.core.reasons import from_row
from mailerd.core.states import State
from mailerd.core.suppression import EVERYTHING
from mailerd.store.db.connection import Cursor, utc
from mailerd.store.queue.turns import Turn
from mailerd.store.write import job_changes, messages

_JOB_COLUMNS: Final = """sender_email, id, type, total, TIMESTAMPDIFF(MICROSECOND, send_at, UTC_TIMESTAMP(6)),
       started_at IS NOT NULL, list_id, override_suppression, copy_list"""


_SELECT_MESSAGES: Final = """
SELECT job_id, id, seq, to_email, to_name, variables, headers, copies, copy_list, attempts, draft_id, thread_id,
       unanswered, checks, error, error_code, error_args
  FROM job_recipients"""


JOB: Final = f"""
(SELECT {_JOB_COLUMNS} FROM jobs FORCE INDEX (next_claim)
 WHERE sender_email = %s AND claimable = 1 AND next_claim_at <= UTC_TIMESTAMP(6)
 ORDER BY precedence, next_claim_at, id LIMIT 1 FOR UPDATE SKIP LOCKED)"""


ROWS: Final = f"""
({_SELECT_MESSAGES} FORCE INDEX (claim)
  WHERE job_id = %s AND status = %s AND due_at <= UTC_TIMESTAMP(6) AND crashes < {ALONE_AFTER}
  ORDER BY due_at, id LIMIT %s FOR UPDATE SKIP LOCKED)"""


# What may have crashed several daemons, and is claimed by itself.
_SELECT_ALONE: Final = f"""{_SELECT_MESSAGES} FORCE INDEX (PRIMARY)
 WHERE id = %s AND status = %s AND due_at <= UTC_TIMESTAMP(6) AND crashes >= {ALONE_AFTER} FOR UPDATE SKIP LOCKED"""


_LOCK_JOB: Final = f"""
SELECT {_JOB_COLUMNS} FROM jobs FORCE INDEX (PRIMARY) WHERE id = %s AND claimable = 1 FOR UPDATE SKIP LOCKED"""


NEXT_ROW: Final = """
(SELECT job_id, due_at, id, crashes FROM job_recipients FORCE INDEX (claim)
  WHERE job_id = %s AND status = %s ORDER BY due_at, id LIMIT 1)"""


NEXT_JOBS: Final = """
SELECT sender_email, MIN(next_claim_at) FROM jobs FORCE INDEX (next_claim)
 WHERE sender_email IN %s AND claimable = 1 GROUP BY sender_email"""

_ALONE_DELAY: Final = timedelta(seconds=1)
"""How long a job waits whose due messages must all be sent alone, so that claims do not try it all
the time.
"""


@dataclass(frozen=True)
class ClaimOwner:
    """Who takes messages."""

    token: str
    daemon_id: str
    lease: timedelta
    digest: Callable[[str], bytes]
    """Makes the digest of an address, which stands for it in the table of suppressions."""
    proof: Callable[[str], str]
    """Makes the proof of a message from its key, by which a returned message is recognized."""


@dataclass
class JobSelection:
    """The job from which a sender's turn is served, and the messages that it gave."""

    turn: Turn
    job: ClaimedJob
    messages: list[ClaimedRecipient] = field(default_factory=list)
    alone: int | None = None
    """A recipient of this job that is due and was not taken, since it is to be claimed alone."""
    short: bool = False
    """Whether the job gave fewer messages than it might."""
    exhausted: bool = False
    """Whether no message of this job waits any more, and none was taken."""


async def due_jobs(cursor: Cursor, senders: Sequence[str]) -> dict[str, ClaimedJob]:
    """For each sender the due job whose turn it is, locked."""
    if not senders:
        return {}
    await cursor.execute(union_all(JOB, len(senders)), senders)
    return {job.sender: job for job in map(_job, await cursor.fetchall())}


async def lock_job(cursor: Cursor, id_: str) -> ClaimedJob | None:
    """One job, locked; None if it may not be claimed from, or another transaction holds it."""
    await cursor.execute(_LOCK_JOB, (id_,))
    row = await cursor.fetchone()
    return _job(row) if row else None


def _job(row: Sequence[Any]) -> ClaimedJob:
    sender, id_, type_, total, age, begun, list_id, overrides, copy_list = row
    return ClaimedJob(
        id=id_,
        type=type_,
        sender=sender,
        total=total,
        age=age / 1e6,
        begun=bool(begun),
        list_id=list_id or EVERYTHING,
        overrides=bool(overrides),
        copy_list=copy_list,
    )


async def next_jobs(cursor: Cursor, senders: Sequence[str]) -> dict[str, datetime | None]:
    """When the first job of each sender is due; nothing for those that have none."""
    if not senders:
        return {}
    await cursor.execute(NEXT_JOBS, (tuple(senders),))
    return {sender: utc(due) for sender, due in await cursor.fetchall()}


async def take_messages(
    cursor: Cursor, selections: Sequence[JobSelection], owner: ClaimOwner
) -> None:
    """Take of each job as many messages as its sender's turn may have."""
    if not selections:
        return
    asked = [
        value
        for selection in selections
        for value in (selection.job.id, State.WAITING.value, selection.turn.share)
    ]
    await cursor.execute(union_all(ROWS, len(selections)), asked)
    await _take(cursor, selections, owner)


async def take_message(
    cursor: Cursor, selection: JobSelection, owner: ClaimOwner, *, recipient: int
) -> None:
    """Take this message of the job, and no other."""
    await cursor.execute(_SELECT_ALONE, (recipient, State.WAITING.value))
    await _take(cursor, [selection], owner)


async def _take(cursor: Cursor, selections: Sequence[JobSelection], owner: ClaimOwner) -> None:
    """Take the rows that were found, as far as the senders' days have room, and end the turns of
    their jobs.
    """
    rows = await cursor.fetchall()
    found: dict[str, int] = {selection.job.id: 0 for selection in selections}
    by_job = {selection.job.id: selection for selection in selections}
    made = []
    for lock_job, id_, seq, to, name, variables, headers, cost, own, *of_attempts in rows:
        attempts, draft, thread, unanswered, checks, *error = of_attempts
        found[lock_job] += 1
        selection = by_job[lock_job]
        if not selection.turn.take(cost):
            continue
        row = Row(
            id_,
            lock_job,
            seq,
            to,
            State.WAITING,
            attempts=attempts,
            draft_id=draft,
            thread_id=thread,
            unanswered=unanswered,
            checks=checks,
            error=from_row(*error),
            copies=cost,
        )
        sender, now = selection.turn.sender.email, selection.turn.now
        move = claimed(
            row,
            token=owner.token,
            daemon=owner.daemon_id,
            until=now + owner.lease,
            now=now,
            sender=sender,
        )
        made.append(move)
        message = _message(move.after, name, variables, selection, owner)
        if headers:
            message = replace(message, headers=headers)
        if cost or own or selection.job.copy_list:
            message = replace(message, copies=_copies(own, selection.job, owner), copies_cost=cost)
        selection.messages.append(message)
    await messages.move(cursor, made, by=owner.daemon_id)
    for selection in selections:
        selection.short = found[selection.job.id] < selection.turn.share
    await _end_jobs(
        cursor, selections, short=[selection.job.id for selection in selections if selection.short]
    )


async def _end_jobs(
    cursor: Cursor, selections: Sequence[JobSelection], *, short: Sequence[str]
) -> None:
    """Set the next turn of each job: now, or, for a job that gave fewer than it might, when its
    next message is due.
    """
    next_at: dict[str, datetime | None] = {
        selection.job.id: selection.turn.now for selection in selections
    }
    if short:
        asked = [value for lock_job in short for value in (lock_job, State.WAITING.value)]
        await cursor.execute(union_all(NEXT_ROW, len(short)), asked)
        next_at |= dict.fromkeys(short)
        by_job = {selection.job.id: selection for selection in selections}
        for lock_job, due_at, id_, crashes in await cursor.fetchall():
            next_at[lock_job] = utc(due_at)
            now = by_job[lock_job].turn.now
            if crashes >= ALONE_AFTER and utc(due_at) <= now:
                by_job[lock_job].alone = id_
                next_at[lock_job] = now + _ALONE_DELAY
    for selection in selections:
        selection.exhausted = next_at[selection.job.id] is None and not selection.messages
    began = [selection.job.id for selection in selections if selection.messages]
    await job_changes.end_turns(cursor, next_at, began=began)


def _message(
    row: Row, name: str | None, variables: str | None, selection: JobSelection, owner: ClaimOwner
) -> ClaimedRecipient:
    turn = selection.turn
    return ClaimedRecipient(
        id=row.id,
        job_id=row.job_id,
        seq=row.seq,
        sender=turn.sender.email,
        to_email=row.to_email,
        to_name=name,
        variables=variables,
        attempt=row.attempts,
        token=owner.token,
        draft_id=row.draft_id,
        thread_id=row.thread_id,
        unanswered=bool(row.unanswered),
        checks=row.checks,
        error=row.error,
        pauses=turn.sender.pauses,
        probing=turn.probing,
        sender_mode=turn.sender.mode,
        sender_project=turn.sender.project,
        latency_threshold=turn.sender.latency_threshold,
        hour=turn.hour,
        digest=owner.digest(row.to_email),
        proof=owner.proof(message_key(row.job_id, row.seq)),
        list_id=selection.job.list_id,
        overrides=selection.job.overrides,
    )


def _copies(own: str | None, job: ClaimedJob, owner: ClaimOwner) -> tuple[Copy, ...]:
    copies = copies_of(job.copy_list if own is None else own)
    return tuple(it._replace(digest=owner.digest(it.email)) for it in copies)


def union_all(select: str, number: int) -> str:
    """So many of one SELECT, which stands in brackets, as one statement."""
    return " UNION ALL ".join([select] * number)


async def as_allowed(
    cursor: Cursor, claimed_: Sequence[ClaimedRecipient]
) -> list[ClaimedRecipient]:
    """The messages with what their suppressions say; one without a draft is made without the copies
    that may not go.
    """
    marked = await messages.mark_suppressed(cursor, claimed_)
    return [it.without_draft() if it.barred and it.draft_id is None else it for it in marked]
