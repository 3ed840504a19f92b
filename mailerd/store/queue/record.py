"""Records what became of messages in flight: many in one commit, each fenced by its id, its token
and its state.

No record waits for a row that another transaction has locked: a daemon that stopped in the midst of
one holds its rows until the server ends its session. Such a record is left out, and comes again.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, NamedTuple

from mailerd.core import moves
from mailerd.core.claims import Handover, Outcome, Record, WriteResult
from mailerd.core.decisions import Pause
from mailerd.core.moves import AttemptLog, Move, Row
from mailerd.core.states import UNSENT, State, Transition
from mailerd.core.verdicts import PauseCause
from mailerd.store.db.connection import Cursor
from mailerd.store.db.database import Database
from mailerd.store.db.error_codes import LOCKED
from mailerd.store.queue.rate_limits import lock_projects
from mailerd.store.write import job_changes, messages, sender_changes
from mailerd.store.write.job_changes import CompletedJob
from mailerd.store.write.messages import Locked

_READ_MESSAGES: Final = "SELECT id FROM job_recipients FORCE INDEX (PRIMARY) WHERE id IN %s"
_READ_JOBS: Final = "SELECT id FROM jobs FORCE INDEX (PRIMARY) WHERE id IN %s"
_READ_PROJECTS: Final = "SELECT name FROM projects FORCE INDEX (PRIMARY) WHERE name IN %s"
_READ_SENDERS: Final = "SELECT email FROM senders FORCE INDEX (PRIMARY) WHERE email IN %s"


def is_requeued(record: Record) -> bool:
    """Whether the message goes back to those that wait."""
    return isinstance(record, Outcome) and record.decision.transition in {
        Transition.DEFERRED,
        Transition.RELEASED,
    }


def was_slow(it: Outcome) -> bool:
    """Whether the message may have reached Google later than its sender's row allows for: with an
    answer or without.
    """
    reached = it.decision.transition is not Transition.RELEASED or it.message.draft_id is not None
    return reached and it.took > it.message.latency_threshold


def updates_sender(record: Record) -> bool:
    """Whether the sender's row or its day changes: with most messages neither does."""
    if isinstance(record, Handover):
        return record.pause is not None or (record.mode, record.project) != (
            record.message.sender_mode,
            record.message.sender_project,
        )
    return (
        recovers(record)
        or was_slow(record)
        or record.decision.transition in UNSENT
        or record.decision.pause is not None
    )


def is_plain_handover(record: Record) -> bool:
    """Whether a hand-over changes nothing but the row of its message, which is new: most do."""
    return (
        isinstance(record, Handover)
        and record.message.is_new
        and not record.discarding
        and not updates_sender(record)
    )


def pause_of(record: Record) -> Pause | None:
    """How long the message's sender has to rest, and why."""
    return record.decision.pause if isinstance(record, Outcome) else record.pause


def pauses_project(record: Record) -> bool:
    """Whether it pauses every sender of its sender's project."""
    pause = pause_of(record)
    return pause is not None and pause.of_project


def recovers(record: Record) -> bool:
    """Whether a message of a sender that was paused has gone well."""
    return (
        isinstance(record, Outcome)
        and record.decision.transition is Transition.SENT
        and record.message.probing
    )


class _Judged(NamedTuple):
    """What the row makes of a record."""

    result: WriteResult
    move: Move | None = None
    own: bool = False
    """Whether the record's own claim held the row: only then its sender learns of it."""


@dataclass(frozen=True)
class RecordWriter:
    """Writes the records of one daemon."""

    database: Database
    daemon_id: str

    async def record(self, cursor: Cursor, records: Sequence[Record]) -> list[WriteResult]:
        """Write them all; what became of each.

        To do it again after a COMMIT without an answer is harmless: the log of attempts tells what
        it did.
        """
        locked, free = await self._lock(cursor, records)
        some = [it for it, is_free in zip(records, free, strict=True) if is_free]
        judged = await self._judge_all(cursor, some, locked)
        own = [it for it, (_, _, own) in zip(some, judged, strict=True) if own]
        made = [it.move for it in judged if it.move]
        also = partial(update_senders, cursor, own) if any(map(updates_sender, own)) else None
        done = (
            await messages.move(
                cursor, made, by=self.daemon_id, also=also, asks_for_sent=locked.asks_for_sent
            )
            if made
            else []
        )
        cancelled = {row.id for row in done if row.status == State.CANCELLED}
        results = iter(
            [
                WriteResult.CANCELLED
                if is_requeued(it) and it.message.id in cancelled and what is WriteResult.APPLIED
                else what
                for it, (what, _, _) in zip(some, judged, strict=True)
            ]
        )
        return [next(results) if is_free else WriteResult.LOCKED for is_free in free]

    async def hand_over(self, records: Sequence[Handover]) -> bool:
        """Write plain hand-overs in one statement; False: not all of them were, and each may be
        recorded as any other.

        Raises:
            DatabaseError: they were not written, or a row is locked.
        """
        return await self.database.retry_until_committed(
            lambda cursor: messages.hand_over(cursor, records),
            what=f"messages.hand_over {len(records)}",
            raise_on=LOCKED,
            in_one_statement=True,
        )

    async def _lock(self, cursor: Cursor, records: Sequence[Record]) -> tuple[Locked, list[bool]]:
        """Lock all that the records change, without waiting; whether each has its rows."""
        ids = {it.message.id for it in records}
        locked = await messages.lock(cursor, ids, wait=False)
        held: set[int | str] = await _held(cursor, _READ_MESSAGES, ids, locked.rows)
        if jobs := {it.message.job_id for it in records if is_requeued(it)}:
            held |= await _held(
                cursor, _READ_JOBS, jobs, await job_changes.lock_jobs(cursor, jobs, wait=False)
            )
        senders = {it.message.sender for it in records if updates_sender(it)}
        paused = {it.message.sender for it in records if pauses_project(it) or recovers(it)}
        all_paused = await sender_changes.project_senders(cursor, paused) if paused else set()
        if senders := senders | all_paused:
            held |= await _held(
                cursor, _READ_SENDERS, senders, await sender_changes.lock_senders(cursor, senders)
            )
        slow = [it for it in records if isinstance(it, Outcome) and was_slow(it)]
        # it is noted there too
        if projects := {it.message.sender_project for it in slow if it.message.sender_project}:
            held |= await _held(
                cursor, _READ_PROJECTS, projects, (await lock_projects(cursor, projects))[0]
            )
        needs = [
            {
                it.message.id,
                *({it.message.job_id} if is_requeued(it) else ()),
                *({it.message.sender} if updates_sender(it) else ()),
                *(all_paused if pauses_project(it) or recovers(it) else ()),
                *({it.message.sender_project} if it in slow else ()),
            }
            for it in records
        ]
        return locked, [not (it & held) for it in needs]

    async def _judge_all(
        self, cursor: Cursor, records: Sequence[Record], locked: Locked
    ) -> list[_Judged]:
        rows = dict(locked.rows)
        held = [
            it
            for it in records
            if isinstance(it, Handover) and not it.discarding and it.message.id in rows
        ]
        marked = await messages.mark_suppressed(cursor, [it.message for it in held])
        refused = {
            (it.id, it.token): WriteResult.SUPPRESSED
            if it.suppressed
            else WriteResult.COPY_SUPPRESSED
            for it in marked
            if it.suppressed or it.barred
        }
        stopped = await messages.stopped(cursor, {it.message.id for it in held})
        refused |= {
            (it.message.id, it.message.token): WriteResult.STOPPED
            for it in held
            if it.message.id in stopped
        }
        logs: dict[int, AttemptLog] = {}
        if any(isinstance(it, Handover) or not _holds(rows, it) for it in records):
            logs |= await messages.read_log(cursor, {it.message.id for it in records})
        judged = []
        for it in records:
            row, log = rows.get(it.message.id), logs.get(it.message.id, moves.NO_LOG)
            if row is None or row.job_id != it.message.job_id:
                judged.append(_Judged(WriteResult.STALE))
                continue
            made = (
                _handover(
                    row, log, it, locked, refused=refused.get((it.message.id, it.message.token))
                )
                if isinstance(it, Handover)
                else _outcome(row, log, it, locked)
            )
            judged.append(made)
            # another record of this message, by its former claim or its next one, sees what it
            # became
            if made.move:
                rows[row.id], logs[row.id] = made.move.after, log.with_lines(made.move.lines)
        return judged

    async def complete_jobs(self, jobs: Iterable[str]) -> list[CompletedJob]:
        """Complete those of `jobs` in which nothing is open any more and whose counts add up.

        Its own transaction, after the outcomes were committed: the daemon that reads last sees them
        all.

        Raises:
            DatabaseError: not done; the recovery does it later.
        """
        ids = sorted(set(jobs))
        return await self.database.retry_until_committed(
            lambda cursor: job_changes.complete(cursor, ids),
            what="jobs.complete",
            proof=job_changes.was_completed,
            only_in_doubt=True,
        )

    async def count_ended(self, jobs: Sequence[str]) -> dict[str, int]:
        """How many recipients of each job have ended; nothing for a job in which none has."""
        return await self.database.read(
            lambda cursor: job_changes.count_ended(cursor, jobs), what="jobs.count_ended"
        )


def _holds(rows: Mapping[int, Row], it: Record) -> bool:
    row = rows.get(it.message.id)
    return row is not None and row.is_held(it.message)


async def _held(
    cursor: Cursor, read: str, wanted: Collection[int | str], ours: Collection[int | str]
) -> set[int | str]:
    """Those that are there and not ours: another transaction holds them."""
    missing = tuple(it for it in wanted if it not in ours)
    if not missing:
        return set()
    await cursor.execute(read, (missing,))
    return {key for (key,) in await cursor.fetchall()}


def _handover(
    row: Row, log: AttemptLog, it: Handover, locked: Locked, *, refused: WriteResult | None
) -> _Judged:
    message, now = it.message, locked.now
    if refused is None and (move := moves.handed_over(row, log, it, now=now)):
        return _Judged(WriteResult.APPLIED, move, own=True)
    if (move := moves.sent_before(row, log, message, now=now)) or log.has(message.token, "found"):
        return _Judged(WriteResult.RESOLVED, move)
    if (move := moves.in_doubt_before(row, log, message, now=now)) or log.has(
        message.token, "lost"
    ):
        return _Judged(WriteResult.IN_DOUBT, move)
    return _Judged(refused or WriteResult.STALE)


def _outcome(row: Row, log: AttemptLog, it: Outcome, locked: Locked) -> _Judged:
    """What an outcome does.

    Its line in the log says that it was written before: by an earlier try, or by a replay.
    """
    token, change, now = it.message.token, it.decision.transition, locked.now
    if move := moves.ended(row, it, now=now):
        return _Judged(WriteResult.APPLIED, move, own=True)
    if log.has(token, change.value):
        cancelled = is_requeued(it) and row.status == State.CANCELLED
        return _Judged(WriteResult.CANCELLED if cancelled else WriteResult.APPLIED)
    if change is Transition.SENT:
        move = moves.late_answer(row, log, it, now=now)
        resolved = move.transition or (log.has(token, "answered") and _is_sent_as(row, it))
        return _Judged(WriteResult.RESOLVED if resolved else WriteResult.STALE, move)
    if change is Transition.LOST and (doubt := moves.late_doubt(row, log, it, now=now)):
        return _Judged(WriteResult.APPLIED, doubt)
    return _Judged(WriteResult.STALE, moves.too_late(row, it))


def _is_sent_as(row: Row, it: Outcome) -> bool:
    return row.status == State.SENT and row.message_id == it.decision.message_id


async def update_senders(cursor: Cursor, written: Sequence[Record]) -> None:
    """What the senders learn of these records; their rows are locked."""
    outcomes = [it for it in written if isinstance(it, Outcome)]
    for sender in sorted({it.message.sender for it in outcomes if recovers(it)}):
        if await sender_changes.end_pause(cursor, sender):
            await sender_changes.end_project_pause(cursor, sender)
    pauses = {
        it.message.sender: (pause, it.message.pauses) for it in written if (pause := pause_of(it))
    }
    for sender, (pause, before) in sorted(pauses.items()):
        await _pause(cursor, sender, pause, before)
    slowest: dict[str, float] = {}
    for one in outcomes:
        if was_slow(one):
            slowest[one.message.sender] = max(one.took, slowest.get(one.message.sender, 0.0))
    await sender_changes.record_latency(cursor, slowest)
    learnt = {
        it.message.sender: it for it in written if isinstance(it, Handover) and updates_sender(it)
    }
    for sender, it in sorted(learnt.items()):
        await sender_changes.set_mode_and_project(cursor, sender, mode=it.mode, project=it.project)


async def _pause(cursor: Cursor, sender: str, pause: Pause, before: int) -> None:
    senders = [sender]
    if pause.of_project:
        senders = sorted(await sender_changes.project_senders(cursor, senders)) or senders
    if pause.cause is PauseCause.TOO_MANY_CONCURRENT:
        await sender_changes.halve_concurrency(cursor, sender)
    pauses = before + 1 if pause.cause is PauseCause.DAILY_LIMIT else before
    for one in senders:
        await sender_changes.pause_sender(
            cursor,
            one,
            cause=pause.cause.value,
            reason=pause.reason,
            wait=pause.wait,
            pauses=pauses,
        )
