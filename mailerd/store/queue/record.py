"""Records outcomes: many letters in one commit, each row fenced by its id, its token and its state.

What is written of a letter are values, never differences, so that repeating it is harmless. The refund is a difference:
it is made only for rows that take their record in the same commit.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from pymysql.err import OperationalError

from mailerd.clock import new_id
from mailerd.core.decisions import Pause
from mailerd.core.models import Handover, Mode, Outcome, Record, WriteResult, mode_of
from mailerd.core.pauses import with_remedy
from mailerd.core.rate_limit import concurrency
from mailerd.core.states import REFUNDED, UNSENT, State, Transition, after
from mailerd.core.verdicts import PauseCause
from mailerd.core.webhooks import EventType
from mailerd.store.db.connection import Cursor, Statement
from mailerd.store.db.database import Database
from mailerd.store.db.times import micros, naive, rfc3339, utc
from mailerd.store.event_feed import NewEvent, insert_events
from mailerd.store.queue.attempt_log import (
    NONE_UNRESOLVED,
    NOT_SENT,
    AttemptRow,
    InDoubtRetry,
    insert_attempts,
    mark_unsure_before,
    mark_unsure_late,
    may_be_carried_out,
    resolve_late,
    resolve_sent_before,
    was_applied,
)
from mailerd.store.queue.rate_limits import in_flight_by_sender, record_latency
from mailerd.store.queue.reschedule import CompletedJob, complete, count_ended, reschedule, short, was_completed
from mailerd.store.queue.suppressed import NOT_SUPPRESSED, suppressed_now
from mailerd.store.stats import Change, count_changes

# The events of what the queue changes: letters that have failed, stuck jobs, and pauses of senders.

_PAUSE_BEFORE: Final = """
SELECT pause_cause, UTC_TIMESTAMP(6) FROM senders FORCE INDEX (PRIMARY) WHERE email = %s FOR UPDATE"""


def failed_events(outcomes: Iterable[Outcome]) -> list[NewEvent]:
    """The events of those letters that have failed."""
    return [
        failed_event(
            it.letter.id, job=it.letter.job_id, seq=it.letter.seq, sender=it.letter.sender, to=it.letter.to_email,
            attempts=it.attempt, token=it.letter.token, error=it.decision.error,
        )
        for it in outcomes
        if it.decision.transition is Transition.FAILED
    ]  # fmt: skip


def failed_event(
    recipient: int, *, job: str, seq: int, sender: str, to: str, attempts: int, token: str, error: str | None
) -> NewEvent:
    """The event of a letter that failed under the claim `token`."""
    data = {
        "recipient_id": recipient, "job_id": job, "seq": seq, "email": to, "sender_email": sender,
        "attempts": attempts, "reason": error,
    }  # fmt: skip
    return NewEvent(EventType.RECIPIENT_FAILED, f"{recipient}:{token}", data, job, sender)


async def write_stuck(cursor: Cursor, jobs: Collection[str]) -> None:
    """Write the events of jobs that were stuck and are rescheduled in this transaction."""
    await cursor.execute("SELECT id, sender_email, reference FROM jobs WHERE id IN %s", (tuple(jobs),))
    events = [
        NewEvent(
            EventType.JOB_STUCK, new_id(), {"job_id": job, "sender_email": sender, "reference": reference}, job, sender
        )
        for job, sender, reference in await cursor.fetchall()
    ]  # fmt: skip
    await cursor.execute(*insert_events(events))


async def last_pause(cursor: Cursor, email: str) -> tuple[str | None, datetime | None]:
    """The cause of a sender's pause, None where it has none, and the time of this answer; the row is locked."""
    await cursor.execute(_PAUSE_BEFORE, (email,))
    cause, now = await cursor.fetchone() or (None, None)
    return cause, utc(now)


async def write_paused(cursor: Cursor, email: str, *, cause: str, reason: str, until: datetime | None) -> None:
    """Write the event of a pause; `until` None: until it is resumed."""
    reason = with_remedy(reason, cause, sender=email)
    data = {"sender_email": email, "cause": cause, "reason": reason, "until": until and rfc3339(until)}
    await _write(cursor, EventType.SENDER_PAUSED, email, data)


async def write_resumed(cursor: Cursor, email: str, *, cause: str | None) -> None:
    """Write the event of the end of a pause; `cause` None: there was none."""
    if cause is not None:
        await _write(cursor, EventType.SENDER_RESUMED, email, {"sender_email": email, "cause": cause})


async def _write(cursor: Cursor, type_: EventType, email: str, data: Mapping[str, object]) -> None:
    """Write the event of a sender whose row is locked, so that each change has one."""
    await cursor.execute(*insert_events([NewEvent(type_, new_id(), data, sender=email)]))


# What a record changes beside the letter's own row: its job, its sender, or all senders of a project.
#
# `find_locked` names the records that would have to wait for such a row: a daemon that has stopped in the midst of a
# transaction holds its rows until the server ends its session.
#
# A project is what the sign-in's client id says; a sender joins it before its first letter.
_SET_FORGOTTEN_MODE: Final = "UPDATE senders FORCE INDEX (PRIMARY) SET mode = %s WHERE email = %s AND mode IS NULL"
_JOIN_PROJECT: Final = "UPDATE senders FORCE INDEX (PRIMARY) SET project = %s, mode = %s WHERE email = %s"
_SELECT_PROJECT_LIMIT: Final = """
SELECT pause_reason, TIMESTAMPDIFF(MICROSECOND, UTC_TIMESTAMP(6), paused_until) FROM senders FORCE INDEX (project)
 WHERE project = %s AND pause_cause = %s AND paused_until > UTC_TIMESTAMP(6) ORDER BY paused_until DESC LIMIT 1"""
_SELECT_PROJECT_SENDERS: Final = """
SELECT o.email FROM senders s JOIN senders o ON o.project = s.project WHERE s.email IN %s"""


def is_requeued(record: Record) -> bool:
    """Whether the letter goes back to those that wait."""
    return isinstance(record, Outcome) and record.decision.transition in {Transition.DEFERRED, Transition.RELEASED}


def was_slow(it: Outcome) -> bool:
    """Whether the letter may have reached Google later than its sender's row allows for: with an answer or without."""
    reached = it.decision.transition is not Transition.RELEASED or it.letter.draft_id is not None
    return reached and it.took > it.letter.latency_threshold


def updates_sender(record: Record) -> bool:
    """Whether the sender's row or its day changes: with most letters neither does."""
    if isinstance(record, Handover):
        return record.pause is not None or (record.mode, record.project) != (
            record.letter.sender_mode,
            record.letter.sender_project,
        )
    recovered = record.decision.transition is Transition.SENT and record.letter.probing
    return recovered or was_slow(record) or record.decision.transition in UNSENT or record.decision.pause is not None


def pause_of(record: Record) -> Pause | None:
    """How long the letter's sender has to rest, and why."""
    return record.decision.pause if isinstance(record, Outcome) else record.pause


def pauses_project(record: Record) -> bool:
    """Whether it pauses every sender of its sender's project."""
    pause = pause_of(record)
    return pause is not None and pause.cause is PauseCause.PROJECT_LIMIT


async def project_senders(cursor: Cursor, senders: Iterable[str]) -> set[str]:
    """The senders of the same projects, these included."""
    await cursor.execute(_SELECT_PROJECT_SENDERS, (tuple(senders),))
    return {email for (email,) in await cursor.fetchall()}


def learnt_mode(sender: str, mode: Mode) -> tuple[str, tuple[object, ...]]:
    """The statement that notes how a sender sends, where its row has forgotten it: else its inbox is not read."""
    return _SET_FORGOTTEN_MODE, (mode, sender)


async def join_project(database: Database, sender: str, project: str, mode: Mode) -> Pause | None:
    """Note the sender's project and mode before its first letter goes to Google; the project's pause, if any."""

    async def work(cursor: Cursor) -> Pause | None:
        await cursor.execute(_JOIN_PROJECT, (project, mode, sender))
        await cursor.execute(_SELECT_PROJECT_LIMIT, (project, PauseCause.PROJECT_LIMIT.value))
        return next(
            (Pause(PauseCause.PROJECT_LIMIT, reason or "", timedelta(microseconds=wait))
             for reason, wait in await cursor.fetchall()), None
        )  # fmt: skip

    return await database.transaction(work, what="note a sender's project")


_PAUSE_SENDER: Final = """
UPDATE senders FORCE INDEX (PRIMARY)
   SET paused_until = UTC_TIMESTAMP(6) + INTERVAL %s MICROSECOND, pause_cause = %s, pause_reason = %s, pauses = %s
 WHERE email = %s AND COALESCE(paused_until, '1970-01-01') < UTC_TIMESTAMP(6) + INTERVAL %s MICROSECOND"""


async def pause_sender(cursor: Cursor, email: str, *, cause: str, reason: str, wait: timedelta, pauses: int) -> bool:
    """Let nothing of the sender be claimed for `wait`; whether that is longer than before.

    Its event is written too, unless a pause of this cause is only prolonged. The cause stays until a letter has gone
    well: a sign-in that is refused at each try is one pause.
    """
    was, now = await last_pause(cursor, email)
    lasts = micros(wait)
    await cursor.execute(_PAUSE_SENDER, (lasts, cause, short(reason, 500), pauses, email, lasts))
    if cursor.rowcount != 1:
        return False
    if was != cause and now is not None:
        await write_paused(cursor, email, cause=cause, reason=reason, until=now + wait)
    return True


_KEY_COLUMNS: Final = {"jobs": "id", "senders": "email", "projects": "name"}
_ROWS: Final = "SELECT {key} FROM {table} FORCE INDEX (PRIMARY) WHERE {key} IN %s"
# Outside any transaction: the locks end with the statement, and block no other session.
_FREE_ROWS: Final = f"{_ROWS} FOR UPDATE SKIP LOCKED"

_Row = tuple[str, str]
"""A table's name and a key."""


async def find_locked(database: Database, records: Sequence[Record]) -> set[int]:
    """The records, by position, that would wait at this moment. Most lock nothing but their own rows."""
    if not any(updates_sender(record) for record in records):
        return set()

    async def work(cursor: Cursor) -> set[int]:
        held = {record.letter.sender for record in records if pauses_project(record)}
        paused = await project_senders(cursor, held) if held else set()
        needs = [_needs(record, paused) for record in records]
        locked = await _locked(cursor, set().union(*needs))
        return {number for number, rows in enumerate(needs) if rows & locked}

    return await database.read(work, what="look for locked rows", bound=database.probe_timeout)


def _needs(record: Record, paused: Iterable[str]) -> set[_Row]:
    """The rows beside its own that a record locks; `paused`: all senders of the projects that are to be paused."""
    if not updates_sender(record):
        return set()
    letter = record.letter
    rows = {("senders", letter.sender)}
    if is_requeued(record):
        rows.add(("jobs", letter.job_id))
    if pauses_project(record):
        rows |= {("senders", email) for email in paused}
    if isinstance(record, Outcome) and was_slow(record) and letter.sender_project:  # that is noted there too
        rows.add(("projects", letter.sender_project))
    return rows


async def _locked(cursor: Cursor, rows: set[_Row]) -> set[_Row]:
    """Those that exist and are locked."""
    tables = sorted({table for table, _ in rows})
    statements: list[Statement] = []
    for table in tables:
        names = tuple(sorted(name for of, name in rows if of == table))
        statements += [(sql.format(key=_KEY_COLUMNS[table], table=table), (names,)) for sql in (_ROWS, _FREE_ROWS)]
    found = [{name for (name,) in answer} for answer in await cursor.fetch_batch(statements)]
    return {
        (table, name)
        for table, there, free in zip(tables, found[::2], found[1::2], strict=True)
        for name in there - free
    }


# The fence: the row is written only while it is in the state and under the token of the worker that writes.
_FENCE: Final = "WHERE r.id = v.id AND r.claim_token = v.token AND r.status = 'sending'"

# First of all, in the order of their ids: a renewal locks the same rows, in that order, and hand-overs and outcomes lie
# in two statements. A time-out does not help here: the server may run a transaction that was cut off long ago. The
# primary key is read in its own order. What is read here stays so until the COMMIT.
_LOCK_RECIPIENTS: Final = """
SELECT id, job_id, claim_token, status FROM job_recipients FORCE INDEX (PRIMARY) WHERE id IN %s FOR UPDATE"""

# After the jobs, and all at once: the steps after it take some of them each, and those of two daemons could cross.
_LOCK_SENDERS: Final = "SELECT COUNT(*) FROM senders FORCE INDEX (PRIMARY) WHERE email IN %s FOR UPDATE"

# A letter that Google has said to have, or may have, is not handed over again, whatever its row forgot.
_WRITE_HANDOVERS: Final = f"""
UPDATE (%s) v STRAIGHT_JOIN job_recipients r FORCE INDEX (PRIMARY) ON r.id = v.id
   SET r.mode = v.mode, r.draft_id = v.draft_id, r.thread_id = v.thread_id, r.unanswered = v.unanswered,
       r.discarding = v.discarding, r.handed_over_at = COALESCE(r.handed_over_at, UTC_TIMESTAMP(6)), r.crashes = 0,
       r.updated_at = UTC_TIMESTAMP(6) {_FENCE}
   AND {NOT_SENT} AND {NONE_UNRESOLVED} AND {NOT_SUPPRESSED}"""
_HANDOVER_COLUMNS: Final = (
    "id", "token", "mode", "draft_id", "thread_id", "unanswered", "discarding", "digest", "list_id", "overrides",
)  # fmt: skip

# A letter that is failed or suppressed (`ends`) forgets its draft, which is deleted: were it tried again, a draft that
# is gone would look like sent. So does one whose draft was deleted before it waits. An unresolved one says itself what
# to check: the row may have forgotten its hand-over. MySQL makes the assignments of a join in any order.
# `wait` is NULL for a letter that has ended. For `unsure` it is the time of the first check (lease_until), else due_at.
_WRITE_OUTCOMES: Final = f"""
UPDATE (%s) v STRAIGHT_JOIN job_recipients r FORCE INDEX (PRIMARY) ON r.id = v.id
   SET r.status = v.status, r.attempts = v.attempts, r.error = v.error, r.claim_token = NULL,
       r.message_id = COALESCE(v.message_id, r.message_id),
       r.thread_id = IF(v.forgets, NULL, COALESCE(v.thread_id, r.thread_id)),
       r.proof = IF(v.status = 'sent', 'answered', NULL), r.sent_at = IF(v.status = 'sent', UTC_TIMESTAMP(6), NULL),
       r.due_at = IF(v.status = 'waiting', UTC_TIMESTAMP(6) + INTERVAL v.wait MICROSECOND, r.due_at),
       r.lease_until = IF(v.status = 'unsure', UTC_TIMESTAMP(6) + INTERVAL v.wait MICROSECOND, NULL),
       r.mode = IF(v.status = 'waiting' AND (r.draft_id IS NULL OR v.forgets), NULL, COALESCE(r.mode, v.mode)),
       r.draft_id = IF(v.ends OR v.forgets, NULL, COALESCE(r.draft_id, v.draft_id)), r.checks = v.checks,
       r.unanswered = IF(v.ends OR v.forgets, 0, IF(v.unanswered, 1, r.unanswered)),
       r.discarding = v.discarding, r.nothing_found_at = NULL, r.crashes = 0,
       r.updated_at = UTC_TIMESTAMP(6) {_FENCE}"""
_OUTCOME_COLUMNS: Final = (
    "id", "token", "status", "attempts", "error", "message_id", "thread_id", "wait", "unanswered", "forgets",
    "discarding", "mode", "draft_id", "checks", "ends",
)  # fmt: skip
# MySQL 8.0 refuses to compare or mix a column of a subquery with one of another character set, whatever is in it.
_ASCII_COLUMNS: Final = {"token", "status", "mode", "draft_id", "thread_id", "message_id"}
_AS_ASCII: Final = "CONVERT(%s USING ascii)"

_END_PAUSE: Final = """
UPDATE senders FORCE INDEX (PRIMARY) SET pauses = 0, pause_cause = NULL, pause_reason = NULL, paused_until = NULL
 WHERE email = %s AND COALESCE(paused_until, '1970-01-01') <= UTC_TIMESTAMP(6)"""
_SET_MODE_AND_PROJECT: Final = "UPDATE senders FORCE INDEX (PRIMARY) SET mode = %s, project = %s WHERE email = %s"
# Half of its letters in flight, once for all that were refused together; rate_limit.concurrency lets it grow again.
_SET_CONCURRENCY: Final = """
UPDATE senders FORCE INDEX (PRIMARY) SET concurrency = %s, concurrency_at = UTC_TIMESTAMP(6)
 WHERE email = %s AND COALESCE(concurrency_at, '1970-01-01') < UTC_TIMESTAMP(6) - INTERVAL 5 SECOND"""
_READ_CONCURRENCY: Final = (
    "SELECT concurrency, concurrency_at, UTC_TIMESTAMP(6) FROM senders FORCE INDEX (PRIMARY) WHERE email = %s"
)
# Off the hour that was debited: off a later one, as many letters that did go then would be forgotten.
_REFUND_HOUR: Final = """
UPDATE sender_hours SET letters = letters - LEAST(letters, %s) WHERE sender_email = %s AND hour = %s"""


@dataclass(frozen=True)
class RecordWriter:
    """Writes the records of one daemon."""

    database: Database
    daemon_id: str

    async def record(self, cursor: Cursor, records: Sequence[Record], *, repeated: bool) -> list[WriteResult]:
        """Write them all; what became of each.

        `repeated`: an earlier try may have been committed, and then its own log of attempts tells what it did.
        """
        fresh, late = await self._write(cursor, records), list[Change]()
        results = [
            WriteResult.APPLIED if took else await self._not_taken(cursor, record, repeated=repeated, changes=late)
            for record, took in zip(records, fresh, strict=True)
        ]
        taken = [one for one, what in zip(records, results, strict=True) if what is WriteResult.APPLIED]
        # To reschedule twice is harmless; what else an earlier try committed had its consequences in the same commit.
        jobs, senders = _to_reschedule(taken)
        back = [one.letter.id for one in taken if is_requeued(one)]
        cancelled = await reschedule(cursor, jobs=jobs, senders={}, back=back)
        touched = {one.letter.sender for one in records if updates_sender(one)}
        if held := {one.letter.sender for one in records if pauses_project(one)}:
            touched |= await project_senders(cursor, held)
        if len(touched) > 1:
            await cursor.execute(_LOCK_SENDERS, (tuple(touched),))
        await reschedule(cursor, jobs={}, senders=senders)
        written = [one for one, took in zip(records, fresh, strict=True) if took]
        await self._update_senders(cursor, written)
        await self._set_mode_and_project(cursor, [one for one in taken if isinstance(one, Handover)])
        # Last of all, so that the rows of the tallies are locked for that moment only.
        changes = [(one.letter.sender, one.decision.transition) for one in written if isinstance(one, Outcome)]
        if statement := count_changes(self.daemon_id, [*changes, *late]):
            await cursor.execute(*statement)
        return [
            WriteResult.CANCELLED
            if what is WriteResult.APPLIED and is_requeued(one) and one.letter.job_id in cancelled
            else what
            for one, what in zip(records, results, strict=True)
        ]

    async def _write(self, cursor: Cursor, records: Sequence[Record]) -> list[bool]:
        """Write the rows, the log of attempts and the events; whether each record's row took it."""
        await cursor.execute(_LOCK_RECIPIENTS, (tuple(record.letter.id for record in records),))
        rows = {id_: (job, token, status) for id_, job, token, status in await cursor.fetchall()}
        fresh = await _record_handovers(cursor, records, _in_force(records, rows))
        outcomes = [
            (one, took)
            for one, took in zip(records, fresh, strict=True)
            if isinstance(one, Outcome) and rows.get(one.letter.id, ("",))[0] == one.letter.job_id
        ]
        if taken := [one for one, took in outcomes if took]:
            await cursor.execute(*_update(_WRITE_OUTCOMES, _OUTCOME_COLUMNS, [_outcome_row(one) for one in taken]))
            if cursor.rowcount != len(taken):  # a server whose locks do not hold
                raise OperationalError(1020, "a letter's row has changed though it is locked")
        if outcomes:
            await cursor.execute(*self._log(outcomes))
        if failed := failed_events(taken):
            await cursor.execute(*insert_events(failed))
        return fresh

    async def _not_taken(self, cursor: Cursor, record: Record, *, repeated: bool, changes: list[Change]) -> WriteResult:
        """What became of a record that its row does not take now."""
        if isinstance(record, Handover):
            if await resolve_sent_before(cursor, record.letter, repeated=repeated, changes=changes):
                return WriteResult.RESOLVED
            if await mark_unsure_before(cursor, record.letter, repeated=repeated, changes=changes):
                return WriteResult.IN_DOUBT
            return WriteResult.SUPPRESSED if await suppressed_now(cursor, record) else WriteResult.STALE
        letter, event = record.letter, record.decision.transition.value
        lost, sent = record.decision.transition is Transition.LOST, record.decision.transition is Transition.SENT
        # The replay may have written either before its own record.
        if (repeated or lost or sent) and await was_applied(
            cursor, letter.id, token=letter.token, event=event, by=self.daemon_id
        ):
            return WriteResult.APPLIED
        if sent and await resolve_late(cursor, record, repeated=repeated, changes=changes):
            return WriteResult.RESOLVED
        if lost and await mark_unsure_late(cursor, record, by=self.daemon_id, changes=changes):
            return WriteResult.APPLIED
        return WriteResult.STALE

    def _log(self, outcomes: Sequence[tuple[Outcome, bool]]) -> Statement:
        return insert_attempts([
            AttemptRow(
                one.letter.id, one.attempt, one.letter.token, self.daemon_id, one.decision.transition.value,
                applied, one.letter.draft_id, one.decision.message_id, short(one.decision.error),
            )
            for one, applied in outcomes
        ])  # fmt: skip

    async def _update_senders(self, cursor: Cursor, written: Sequence[Record]) -> None:
        outcomes = [one for one in written if isinstance(one, Outcome)]
        refunds = Counter(
            (one.letter.sender, naive(one.letter.hour))
            for one in outcomes
            if one.decision.transition in UNSENT and one.letter.hour
        )
        recovered = {o.letter.sender for o in outcomes if o.decision.transition is Transition.SENT and o.letter.probing}
        for sender in sorted(recovered):
            cause, _ = await last_pause(cursor, sender)
            await cursor.execute(_END_PAUSE, (sender,))
            if cursor.rowcount:
                await write_resumed(cursor, sender, cause=cause)
        pauses = {one.letter.sender: (pause, one.letter.pauses) for one in written if (pause := pause_of(one))}
        for sender, (pause, before) in sorted(pauses.items()):
            await self._pause(cursor, sender, pause, before)
        slowest: dict[str, float] = {}
        for one in outcomes:
            if was_slow(one):
                slowest[one.letter.sender] = max(one.took, slowest.get(one.letter.sender, 0.0))
        await record_latency(cursor, slowest)
        for (sender, hour), letters in sorted(refunds.items()):  # after the sender's row, as in a claim
            await cursor.execute(_REFUND_HOUR, (letters, sender, hour))

    async def _pause(self, cursor: Cursor, sender: str, pause: Pause, before: int) -> None:
        senders = [sender]
        if pause.cause is PauseCause.PROJECT_LIMIT:
            senders = sorted(await project_senders(cursor, senders)) or senders
        if pause.cause is PauseCause.TOO_MANY_CONCURRENT:
            await self._halve_concurrency(cursor, sender)
        pauses = before + 1 if pause.cause is PauseCause.DAILY_LIMIT else before
        for one in senders:
            await pause_sender(
                cursor, one, cause=pause.cause.value, reason=pause.reason, wait=pause.wait, pauses=pauses
            )

    async def _halve_concurrency(self, cursor: Cursor, sender: str) -> None:
        await cursor.execute(_READ_CONCURRENCY, (sender,))
        limit, since, now = await cursor.fetchone()
        allowed = concurrency(limit, since=since, now=now)
        in_flight = await in_flight_by_sender(cursor, (sender,))
        before = in_flight[sender] + 1  # the one that was refused is no longer `sending`
        fewer = max(1, min(before, allowed or before) // 2)
        await cursor.execute(_SET_CONCURRENCY, (fewer, sender))

    async def _set_mode_and_project(self, cursor: Cursor, handed: Sequence[Handover]) -> None:
        """Write the sender's mode and project, for the rate limits; last, as senders are locked after jobs."""
        learnt = {one.letter.sender: (one.mode, one.project) for one in handed if updates_sender(one)}
        for sender, (mode, project) in sorted(learnt.items()):
            await cursor.execute(_SET_MODE_AND_PROJECT, (mode, project, sender))

    async def complete_jobs(self, jobs: Iterable[str]) -> list[CompletedJob]:
        """Complete those of `jobs` in which nothing is open any more and whose counts add up.

        Its own transaction, after the outcomes were committed: the daemon that reads last sees them all. One that is
        in doubt is repeated.

        Raises:
            DatabaseError: not done; the recovery does it later.
        """
        ids, retry = sorted(set(jobs)), InDoubtRetry(was_completed)
        return await self.database.retry_until_committed(
            lambda cursor, _: retry.done(cursor, lambda cursor: complete(cursor, ids)), what="finish jobs",
            only_in_doubt=True,
        )  # fmt: skip

    async def count_ended(self, jobs: Sequence[str]) -> dict[str, int]:
        """How many recipients of each job have ended; nothing for a job in which none has."""
        return await self.database.read(lambda cursor: count_ended(cursor, jobs), what="count what has ended")


def _to_reschedule(taken: Iterable[Record]) -> tuple[dict[str, int], dict[str, int]]:
    """The jobs and the senders of requeued letters, and in how many microseconds each is due."""
    jobs: dict[str, int] = {}
    senders: dict[str, int] = {}
    for one in taken:
        if isinstance(one, Outcome) and is_requeued(one):
            wait = micros(one.decision.wait)
            jobs[one.letter.job_id] = min(wait, jobs.get(one.letter.job_id, wait))
            senders[one.letter.sender] = min(wait, senders.get(one.letter.sender, wait))
        elif isinstance(one, Outcome) and one.decision.transition in UNSENT:
            senders[one.letter.sender] = 0  # its place in the day is free again, and another letter may wait for one
    return jobs, senders


def _in_force(records: Sequence[Record], rows: Mapping[int, tuple[str, str, str]]) -> list[bool]:
    """Whether each record's claim holds its row, as `_FENCE` will find; an outcome ends the claim for those after it.

    By position, and never by the row: a row's former claim and its new one may stand in the same batch.
    """
    holder = {id_: token for id_, (_, token, status) in rows.items() if status == State.SENDING.value}
    found = []
    for one in records:
        found.append(holder.get(one.letter.id) == one.letter.token)
        if found[-1] and isinstance(one, Outcome):
            del holder[one.letter.id]
    return found


async def _record_handovers(cursor: Cursor, records: Sequence[Record], in_force: list[bool]) -> list[bool]:
    """Write the hand-overs; which records are still to be taken as written.

    A hand-over leaves the row to its claim, so to repeat it is harmless: where some row did not take its own, each is
    written alone, to learn which.
    """
    handed = {n: one for n, one in enumerate(records) if in_force[n] and isinstance(one, Handover)}
    if not handed:
        return in_force
    await cursor.execute(*_handover_update(list(handed.values())))
    if cursor.rowcount == len(handed):
        return in_force
    taken = list(in_force)
    for number, one in handed.items():
        await cursor.execute(*_handover_update([one]))
        taken[number] = cursor.rowcount == 1
    return taken


def _handover_update(handed: Sequence[Handover]) -> Statement:
    rows = [
        (it.letter.id, it.letter.token, it.mode, it.letter.draft_id, it.letter.thread_id, int(it.letter.unanswered),
         int(it.discarding), None if it.discarding else it.letter.digest, it.letter.list_id, int(it.letter.overrides))
        for it in handed
    ]  # fmt: skip
    return _update(_WRITE_HANDOVERS, _HANDOVER_COLUMNS, rows)


def _update(statement: str, names: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> Statement:
    first = "SELECT " + ", ".join(f"{_AS_ASCII if name in _ASCII_COLUMNS else '%s'} {name}" for name in names)
    rest = "SELECT " + ", ".join(_AS_ASCII if name in _ASCII_COLUMNS else "%s" for name in names)
    values = " UNION ALL ".join([first, *[rest] * (len(rows) - 1)])
    return statement % values, [value for row in rows for value in row]


def _outcome_row(one: Outcome) -> tuple[Any, ...]:
    change, letter, decision = one.decision.transition, one.letter, one.decision
    uncounted = change in REFUNDED or decision.same_doubt
    attempts = letter.attempt - 1 if uncounted else one.attempt
    lost = change is Transition.LOST
    return (
        letter.id,
        letter.token,
        after(State.SENDING, change).value,
        attempts,
        short(decision.error),
        decision.message_id,
        letter.thread_id if lost else decision.thread_id,
        micros(decision.wait),
        int(lost and may_be_carried_out(one)),
        int(decision.forgets),
        int(decision.discarding),
        mode_of(letter.draft_id) if lost else None,
        letter.draft_id if lost else None,
        letter.checks if decision.same_doubt else 0,
        int(change in {Transition.FAILED, Transition.SUPPRESSED}),
    )
