"""The letters' side of a claim: a job of each sender, the letters of each job, and the statement that takes them.

What has to be found for each sender or each job apart is one UNION ALL of SELECTs that each read their index from one
end and stop: as exact as one by one, in one round trip. Each locks the rows that it returns and no others.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from mailerd.core.models import ALONE_AFTER, ClaimedJob, ClaimedRecipient, letter_key
from mailerd.core.moves import Row, claimed
from mailerd.core.states import State
from mailerd.core.suppression import EVERYTHING
from mailerd.store import job_changes, letters
from mailerd.store.db.connection import Cursor
from mailerd.store.db.times import utc
from mailerd.store.queue.sender_turns import Turn

_JOB_COLUMNS: Final = """sender_email, id, type, total, TIMESTAMPDIFF(MICROSECOND, send_at, UTC_TIMESTAMP(6)),
       started_at IS NOT NULL, list_id, override_suppression"""
_SELECT_LETTERS: Final = """
SELECT job_id, id, seq, to_email, to_name, variables, attempts, draft_id, thread_id, unanswered, checks, error
  FROM job_recipients"""
JOB: Final = f"""
(SELECT {_JOB_COLUMNS} FROM jobs FORCE INDEX (next_claim)
 WHERE sender_email = %s AND claimable = 1 AND next_claim_at <= UTC_TIMESTAMP(6)
 ORDER BY precedence, next_claim_at, id LIMIT 1 FOR UPDATE SKIP LOCKED)"""

ROWS: Final = f"""
({_SELECT_LETTERS} FORCE INDEX (claim)
  WHERE job_id = %s AND status = %s AND due_at <= UTC_TIMESTAMP(6) AND crashes < {ALONE_AFTER}
  ORDER BY due_at, id LIMIT %s FOR UPDATE SKIP LOCKED)"""
# What may have crashed several daemons, and is claimed by itself.
_SELECT_ALONE: Final = f"""{_SELECT_LETTERS} FORCE INDEX (PRIMARY)
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
"""How long a job waits whose due letters must all be sent alone, so that claims do not try it all the time."""


@dataclass(frozen=True)
class ClaimOwner:
    """Who takes letters."""

    token: str
    daemon_id: str
    lease: timedelta
    digest: Callable[[str], bytes]
    """Makes the digest of an address, which stands for it in the table of suppressions."""
    proof: Callable[[str], str]
    """Makes the proof of a letter from its key, by which a returned letter is recognized."""


@dataclass
class JobSelection:
    """The job from which a sender's turn is served, and the letters that it gave."""

    turn: Turn
    job: ClaimedJob
    letters: list[ClaimedRecipient] = field(default_factory=list)
    alone: int | None = None
    """A recipient of this job that is due and was not taken, since it is to be claimed alone."""
    short: bool = False
    """Whether the job gave fewer letters than it might."""
    exhausted: bool = False
    """Whether no letter of this job waits any more, and none was taken."""


async def jobs(cursor: Cursor, senders: Sequence[str]) -> dict[str, ClaimedJob]:
    """For each sender the due job whose turn it is, locked."""
    if not senders:
        return {}
    await cursor.execute(union_all(JOB, len(senders)), senders)
    return {row[0]: _job(row) for row in await cursor.fetchall()}


async def job(cursor: Cursor, id_: str) -> ClaimedJob | None:
    """One job, locked; None if it may not be claimed from, or another transaction holds it."""
    await cursor.execute(_LOCK_JOB, (id_,))
    row = await cursor.fetchone()
    return _job(row) if row else None


def _job(row: Sequence[Any]) -> ClaimedJob:
    sender, id_, type_, total, age, begun, list_id, overrides = row
    return ClaimedJob(
        id=id_, type=type_, sender=sender, total=total, age=age / 1e6, begun=bool(begun),
        list_id=list_id or EVERYTHING, overrides=bool(overrides),
    )  # fmt: skip


async def next_jobs(cursor: Cursor, senders: Sequence[str]) -> dict[str, datetime | None]:
    """When the first job of each sender is due; nothing for those that have none."""
    if not senders:
        return {}
    await cursor.execute(NEXT_JOBS, (tuple(senders),))
    return {sender: utc(due) for sender, due in await cursor.fetchall()}


async def take(cursor: Cursor, selections: Sequence[JobSelection], owner: ClaimOwner) -> None:
    """Take of each job as many letters as its sender's turn may have."""
    if not selections:
        return
    asked = [
        value for selection in selections for value in (selection.job.id, State.WAITING.value, selection.turn.share)
    ]
    await cursor.execute(union_all(ROWS, len(selections)), asked)
    await _take(cursor, selections, owner)


async def take_alone(cursor: Cursor, selection: JobSelection, owner: ClaimOwner, *, recipient: int) -> None:
    """Take this letter of the job, and no other."""
    await cursor.execute(_SELECT_ALONE, (recipient, State.WAITING.value))
    await _take(cursor, [selection], owner)


async def _take(cursor: Cursor, selections: Sequence[JobSelection], owner: ClaimOwner) -> None:
    """Take the rows that were found, and end the turns of their jobs."""
    rows = await cursor.fetchall()
    found: dict[str, int] = {selection.job.id: 0 for selection in selections}
    by_job = {selection.job.id: selection for selection in selections}
    made = []
    for job, id_, seq, to, name, variables, attempts, draft, thread, unanswered, checks, error in rows:
        found[job] += 1
        selection = by_job[job]
        row = Row(
            id_, job, seq, to, State.WAITING, attempts=attempts, draft_id=draft, thread_id=thread,
            unanswered=unanswered, checks=checks, error=error,
        )  # fmt: skip
        sender, now = selection.turn.sender.email, selection.turn.now
        move = claimed(row, token=owner.token, daemon=owner.daemon_id, until=now + owner.lease, now=now, sender=sender)
        made.append(move)
        selection.letters.append(_letter(move.after, name, variables, selection, owner))
    await letters.move(cursor, made, by=owner.daemon_id)
    for selection in selections:
        selection.short = found[selection.job.id] < selection.turn.share
    await _end_jobs(cursor, selections, short=[selection.job.id for selection in selections if selection.short])


async def _end_jobs(cursor: Cursor, selections: Sequence[JobSelection], *, short: Sequence[str]) -> None:
    """Set the next turn of each job: now, or, for a job that gave fewer than it might, when its next letter is due."""
    next_at: dict[str, datetime | None] = {selection.job.id: selection.turn.now for selection in selections}
    if short:
        asked = [value for job in short for value in (job, State.WAITING.value)]
        await cursor.execute(union_all(NEXT_ROW, len(short)), asked)
        next_at |= dict.fromkeys(short)
        by_job = {selection.job.id: selection for selection in selections}
        for job, due_at, id_, crashes in await cursor.fetchall():
            next_at[job] = utc(due_at)
            now = by_job[job].turn.now
            if crashes >= ALONE_AFTER and utc(due_at) <= now:
                by_job[job].alone = id_
                next_at[job] = now + _ALONE_DELAY
    for selection in selections:
        selection.exhausted = next_at[selection.job.id] is None and not selection.letters
    began = [selection.job.id for selection in selections if selection.letters]
    await job_changes.end_turns(cursor, next_at, began=began)


def _letter(
    row: Row, name: str | None, variables: str | None, selection: JobSelection, owner: ClaimOwner
) -> ClaimedRecipient:
    turn = selection.turn
    return ClaimedRecipient(
        id=row.id, job_id=row.job_id, seq=row.seq, sender=turn.sender.email, to_email=row.to_email, to_name=name,
        variables=variables, attempt=row.attempts, token=owner.token, draft_id=row.draft_id, thread_id=row.thread_id,
        unanswered=bool(row.unanswered), checks=row.checks, error=row.error, pauses=turn.sender.pauses,
        probing=turn.probing, sender_mode=turn.sender.mode, sender_project=turn.sender.project,
        latency_threshold=turn.sender.latency_threshold, hour=turn.hour, digest=owner.digest(row.to_email),
        proof=owner.proof(letter_key(row.job_id, row.seq)), list_id=selection.job.list_id,
        overrides=selection.job.overrides,
    )  # fmt: skip


def union_all(select: str, number: int) -> str:
    """So many of one SELECT, which stands in brackets, as one statement."""
    return " UNION ALL ".join([select] * number)
