"""The letters' side of a claim: a job of each sender, the letters of each job, and the statement that takes them.

What has to be found for each sender or each job apart is one UNION ALL of SELECTs that each read their index from one
end and stop: as exact as one by one, in one round trip. Each locks the rows that it returns and no others.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from mailerd.core.models import ALONE_AFTER, ClaimedJob, ClaimedRecipient, letter_key
from mailerd.core.states import JobStatus, State, Transition, after
from mailerd.core.suppression import EVERYTHING
from mailerd.store.db.connection import Cursor
from mailerd.store.db.times import micros, naive, utc
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

_MOST_ATTEMPTS: Final = 65_535
"""What the column holds at most; one more would fail the claim of every letter beside it."""

# Correctness comes from `AND status = …` and the token; SKIP LOCKED only brings speed.
_TAKE_LETTERS: Final = f"""
UPDATE job_recipients FORCE INDEX (PRIMARY)
   SET status = %s, attempts = LEAST(attempts + 1, {_MOST_ATTEMPTS}), claim_token = %s, daemon_id = %s,
       lease_until = UTC_TIMESTAMP(6) + INTERVAL %s MICROSECOND, updated_at = UTC_TIMESTAMP(6)
 WHERE id IN %s AND status = %s"""
_TAKEN: Final = "SELECT id, attempts FROM job_recipients FORCE INDEX (PRIMARY) WHERE id IN %s AND claim_token = %s"

_END_JOB_TURNS: Final = """
UPDATE jobs FORCE INDEX (PRIMARY)
   SET status = IF(id IN %s, %s, status), started_at = IF(id IN %s, COALESCE(started_at, UTC_TIMESTAMP(6)), started_at),
       next_claim_at = CASE id {whens} END
 WHERE id IN %s"""

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
    attempts = await _mark(cursor, {row[1]: row[6] for row in rows}, owner)
    found: dict[str, int] = {selection.job.id: 0 for selection in selections}
    by_job = {selection.job.id: selection for selection in selections}
    for row in rows:
        found[row[0]] += 1
        if row[1] in attempts:
            by_job[row[0]].letters.append(_letter(row, by_job[row[0]], owner, attempt=attempts[row[1]]))
    for selection in selections:
        selection.short = found[selection.job.id] < selection.turn.share
    await _end_jobs(cursor, selections, short=[selection.job.id for selection in selections if selection.short])


async def _mark(cursor: Cursor, attempts: Mapping[int, int], owner: ClaimOwner) -> dict[int, int]:
    """Make the rows ours, given their attempts until now by id; the attempts, this one included, of those that are."""
    if not attempts:
        return {}
    ids, lease = tuple(attempts), micros(owner.lease)
    taken = after(State.WAITING, Transition.CLAIMED).value
    await cursor.execute(_TAKE_LETTERS, (taken, owner.token, owner.daemon_id, lease, ids, State.WAITING.value))
    if cursor.rowcount == len(ids):
        return {id_: min(number + 1, _MOST_ATTEMPTS) for id_, number in attempts.items()}
    # Only where SKIP LOCKED is not what it says (TiDB, Galera): keep what the condition let through.
    await cursor.execute(_TAKEN, (ids, owner.token))
    return dict(await cursor.fetchall())


async def _end_jobs(cursor: Cursor, selections: Sequence[JobSelection], *, short: Sequence[str]) -> None:
    """Set the next turn of each job: now, or, for a job that gave fewer than it might, when its next letter is due."""
    next_at: dict[str, datetime | None] = {selection.job.id: naive(selection.turn.now) for selection in selections}
    if short:
        asked = [value for job in short for value in (job, State.WAITING.value)]
        await cursor.execute(union_all(NEXT_ROW, len(short)), asked)
        next_at |= dict.fromkeys(short)
        by_job = {selection.job.id: selection for selection in selections}
        for job, due_at, id_, crashes in await cursor.fetchall():
            next_at[job] = due_at
            now = naive(by_job[job].turn.now)
            if crashes >= ALONE_AFTER and due_at <= now:
                by_job[job].alone = id_
                next_at[job] = now + _ALONE_DELAY
    for selection in selections:
        selection.exhausted = next_at[selection.job.id] is None and not selection.letters
    began = tuple(selection.job.id for selection in selections if selection.letters) or ("",)
    whens = [value for job_and_turn in sorted(next_at.items()) for value in job_and_turn]
    statement = _END_JOB_TURNS.format(whens=" ".join(["WHEN %s THEN %s"] * len(next_at)))
    await cursor.execute(statement, (began, JobStatus.SENDING.value, began, *whens, tuple(sorted(next_at))))


def _letter(row: Sequence[Any], selection: JobSelection, owner: ClaimOwner, *, attempt: int) -> ClaimedRecipient:
    turn = selection.turn
    job, id_, seq, to, name, variables, _, draft, thread, unanswered, checks, error = row
    return ClaimedRecipient(
        id=id_, job_id=job, seq=seq, sender=turn.sender.email, to_email=to, to_name=name, variables=variables,
        attempt=attempt, token=owner.token, draft_id=draft, thread_id=thread, unanswered=bool(unanswered),
        checks=checks, error=error, pauses=turn.sender.pauses, probing=turn.probing, sender_mode=turn.sender.mode,
        sender_project=turn.sender.project, latency_threshold=turn.sender.latency_threshold, hour=turn.hour,
        digest=owner.digest(to), proof=owner.proof(letter_key(job, seq)), list_id=selection.job.list_id,
        overrides=selection.job.overrides,
    )  # fmt: skip


def union_all(select: str, number: int) -> str:
    """So many of one SELECT, which stands in brackets, as one statement."""
    return " UNION ALL ".join([select] * number)
