"""Writes records of messages, many in one commit, and repeats until they are written; a send is
never repeated.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

from mailerd.clock import Clock
from mailerd.core.claims import ClaimedRecipient, Handover, Mode, Outcome, Record, WriteResult
from mailerd.core.decisions import Pause
from mailerd.core.i18n import t
from mailerd.core.states import REFUNDED, Transition
from mailerd.errors import DatabaseAwayError, DatabaseError
from mailerd.events.worker import RunnerEvents
from mailerd.gmail import MessageSemaphore
from mailerd.heartbeat import Heartbeats, beat, detach
from mailerd.store.db.connection import Cursor
from mailerd.store.db.error_codes import LOCKED
from mailerd.store.queue.failover import ReplayLog
from mailerd.store.queue.record import RecordWriter, is_plain_handover, updates_sender
from mailerd.store.write.job_changes import say_finished
from mailerd.store.write.messages import suppressed
from mailerd.store.write.sender_changes import join_project

_MAX_BATCH: Final = 100
"""Records of one commit at most."""
_GATHER_TIME: Final = 0.015
"""Seconds that a record waits for others where some were written just now and no slot waits for it:
one commit for six messages costs half of what two for three do. It never holds up the first message
after a rest.
"""
_GATHER_SENT: Final = 0.1
"""Seconds that it waits if it says that a draft was sent: no slot waits for it, and if the process
dies meanwhile, a question to Google about the draft tells.
"""
_LONGEST_BETWEEN: Final = 1.0
"""Seconds between two checks of a job that has not ended as far as this daemon knows."""
_COMPLETION_INTERVAL: Final = 0.05
"""Seconds between two checks for completed jobs: under load one check then serves a hundred
messages.
"""
_STOP_TIMEOUT: Final = 5.0
"""Seconds that completing the last jobs may take at a stop."""
_LOCKED_RETRY_DELAYS: Final = (0.05, 1.0)
"""The first and the longest delay, in seconds, of a record whose row another transaction has
locked.
"""
_FIRST_NOTICE_AFTER: Final = 3.0
"""The seconds that such a record waits before the log says so."""
_NOTICE_INTERVAL: Final = 30.0
_MAY_END_A_JOB: Final = frozenset(
    {Transition.SENT, Transition.FAILED, Transition.DEFERRED, *REFUNDED}
)
"""DEFERRED and REFUNDED as well: a message that comes back into a cancelled job is cancelled, and
may be its last.
"""


@dataclass
class _Entry:
    """A record, and the future that its caller awaits."""

    record: Record
    future: "asyncio.Future[WriteResult]"
    since: float | None = None
    """When the record first met a lock, in monotonic seconds."""
    told: float = 0.0
    """How many seconds it had waited when this was last logged."""
    rest: float = _LOCKED_RETRY_DELAYS[0]
    """The seconds until its next try."""


def _can_wait(record: Record) -> bool:
    """Whether it says that a draft was sent, and nothing else: see `_GATHER_SENT`."""
    return (
        isinstance(record, Outcome)
        and record.decision.transition is Transition.SENT
        and record.message.draft_id is not None
        and not updates_sender(record)
    )


def _with_others(first: _Entry, queue: "asyncio.Queue[_Entry]") -> list[_Entry]:
    batch = [first]
    while len(batch) < _MAX_BATCH and not queue.empty():
        batch.append(queue.get_nowait())
    return batch


class Recorder:
    """One writer for all messages in flight: a caller waits for the commit that has its record.

    A record whose row another transaction has locked (a daemon that stopped in the middle of a
    claim, say) is written alone, when the row is free: it delays no other record.
    """

    def __init__(
        self,
        rows: RecordWriter,
        semaphore: MessageSemaphore,
        *,
        clock: Clock,
        events: RunnerEvents,
        memory: ReplayLog,
        heartbeats: Heartbeats,
        may_be_over: Callable[[str], bool] = lambda _: True,
    ) -> None:
        """`may_be_over`: whether a job has ended as far as this daemon knows.

        `memory` gets every record before it is written, and its result before the COMMIT and after
        it.
        """
        self._rows = rows
        self._semaphore = semaphore
        self._heartbeats = heartbeats
        self._memory = memory
        self._clock = clock
        self._events = events
        self._queue: asyncio.Queue[_Entry] = asyncio.Queue()
        self._handovers: asyncio.Queue[_Entry] = asyncio.Queue()
        """The plain ones; see `is_plain_handover`."""
        self._hurry = asyncio.Event()
        """Something is in the queue that says more than that a draft was sent."""
        self._apart = asyncio.Lock()
        """It lets one record wait for a row at a time: a transaction that waits keeps one of the
        pool's connections.
        """
        self._may_be_over = may_be_over
        self._touched: dict[str, float] = {}
        """Jobs of which messages were finished since they were looked at last, and since when, in
        monotonic seconds.
        """
        self._joins: dict[str, tuple[tuple[str, str, Mode], asyncio.Future[Pause | None]]] = {}
        """The last claim in which a sender joined its project, what was noted, and what that
        found.
        """
        self._completing = asyncio.Lock()
        self._ended = asyncio.Event()

    async def record(self, record: Handover | Outcome) -> WriteResult:
        """Write a record, and return the result once it is durable; waits while the database is
        away.

        Raises:
            DatabaseError: the database refused this record for a reason that no repetition can
            cure.
        """
        future: asyncio.Future[WriteResult] = asyncio.get_running_loop().create_future()
        self._memory.remember(record)
        self._enter(_Entry(record, future))
        return await future

    def _enter(self, one: _Entry) -> None:
        if is_plain_handover(one.record):
            self._handovers.put_nowait(one)
        else:
            self._put(one)

    def _put(self, one: _Entry) -> None:
        if not _can_wait(one.record):
            self._hurry.set()
        self._queue.put_nowait(one)

    async def run(self) -> None:
        """Write, in one commit, the records that arrived while the last commit was under way, or
        are gathered.
        """
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._hand_over())
            await self._write_records(tasks)

    async def _hand_over(self) -> None:
        """Write plain hand-overs, and leave to the others what was not all written at once."""
        heartbeat, written_at = self._heartbeats.register("handovers"), -math.inf
        while True:
            heartbeat.waiting("handovers", at_most=None)
            first = await self._handovers.get()
            heartbeat.working("messages.hand_over")
            await self._gather(first.record, written_at)
            batch = _with_others(first, self._handovers)
            try:
                written = await self._rows.hand_over(
                    [it.record for it in batch if isinstance(it.record, Handover)]
                )
            except DatabaseError:  # which of them it is shows when each is recorded
                written = False
            for it in batch:
                if written:
                    self._answer(it.record, it.future, WriteResult.APPLIED)
                else:
                    self._put(it)
            written_at = self._clock.monotonic()

    async def _write_records(self, apart: asyncio.TaskGroup) -> None:
        heartbeat, written_at = self._heartbeats.register("recorder"), -math.inf
        while True:
            heartbeat.waiting("records", at_most=None)
            first = await self._queue.get()
            heartbeat.working("messages.record")
            await self._gather(first.record, written_at)
            self._hurry.clear()
            await self._write(_with_others(first, self._queue), apart)
            written_at = self._clock.monotonic()

    async def _gather(self, first: Record, written_at: float) -> None:
        """Wait for others if some were written just now; for long only while nothing else is
        there.
        """
        began, longest = self._clock.monotonic(), _GATHER_SENT if _can_wait(first) else _GATHER_TIME
        # that of a draft has released it
        holds_slot = isinstance(first, Handover) and first.message.draft_id is None
        if began - written_at >= 2 * longest or (holds_slot and self._semaphore.are_wanted):
            return
        await self._clock.sleep(_GATHER_TIME)
        while self._clock.monotonic() - began < longest and not self._hurry.is_set():
            await self._clock.sleep(_GATHER_TIME)

    async def _write(self, batch: Sequence[_Entry], apart: asyncio.TaskGroup) -> None:
        """Write; a record that meets a lock is written later, `apart`, and delays no other one."""
        records = [one.record for one in batch]
        what = f"messages.record {len(records)}"
        try:
            written = await self._rows.database.retry_until_committed(
                self._work(records), what=what, raise_on=LOCKED
            )
        except DatabaseError as error:
            beat()
            # one of them is refused or meets a lock: find it, and write the others
            if len(batch) > 1:
                for one in batch:
                    await self._write([one], apart)
            elif error.errno in LOCKED:
                apart.create_task(self._write_alone(batch[0], apart))
            elif not batch[0].future.done():
                batch[0].future.set_exception(error)
            return
        for one, taken in zip(batch, written, strict=True):
            if taken is WriteResult.LOCKED:
                apart.create_task(self._requeue(one))
            else:
                self._answer(one.record, one.future, taken)

    async def _requeue(self, one: _Entry) -> None:
        """Put the record back into the queue after a delay."""
        await self._rest(one)
        self._put(one)

    async def _write_alone(self, one: _Entry, apart: asyncio.TaskGroup) -> None:
        """Try again by itself: this lock is one that a record waits for, as that of an hour's
        row.
        """
        detach()
        await self._rest(one)
        async with self._apart:
            await self._write([one], apart)

    async def _rest(self, one: _Entry) -> None:
        now = self._clock.monotonic()
        if one.since is None:
            one.since = now
        waited = now - one.since
        if waited >= (one.told + _NOTICE_INTERVAL if one.told else _FIRST_NOTICE_AFTER):
            one.told = waited
            self._say_it_waits(one.record.message, waited, again_in=one.rest)
        rest, one.rest = one.rest, min(2 * one.rest, _LOCKED_RETRY_DELAYS[1])
        await self._clock.sleep(rest)

    def _say_it_waits(self, message: ClaimedRecipient, waited: float, *, again_in: float) -> None:
        what = f"messages.record job={message.job_id} recipient={message.id}"
        cause = t(
            "another transaction has locked rows of sender {sender} for {waited:.0f} s; other records continue",
            sender=message.sender,
            waited=waited,
        )
        self._rows.database.log_retry(what=what, again_in=again_in, cause=cause)

    def _answer(
        self, record: Record, future: "asyncio.Future[WriteResult]", what: WriteResult
    ) -> None:
        self._memory.acknowledge(record, what)
        ends = isinstance(record, Outcome) and record.decision.transition in _MAY_END_A_JOB
        if ends or what is WriteResult.RESOLVED:
            self.job_changed(record.message.job_id)
        if not future.done():
            future.set_result(what)

    def _work(self, records: Sequence[Record]) -> Callable[[Cursor], Awaitable[list[WriteResult]]]:
        async def work(cursor: Cursor) -> list[WriteResult]:
            written = await self._rows.record(cursor, records)
            for record, what in zip(records, written, strict=True):
                self._memory.before_commit(record, what)
            return written

        return work

    async def suppression(self, message: ClaimedRecipient) -> ClaimedRecipient:
        """The message with why its address gets no messages by now, and with the copies that must
        not be sent.
        """
        return await suppressed(self._rows.database, message)

    async def join_project(
        self, message: ClaimedRecipient, project: str, mode: Mode
    ) -> Pause | None:
        """Note project and mode of a sender without a project, once for all messages of a claim;
        the project's pause.

        Raises:
            DatabaseError: it could not be noted.
        """
        noted, joining = self._joins.get(message.sender, (None, None))
        if joining is None or noted != (message.token, project, mode):
            joining = asyncio.ensure_future(
                join_project(self._rows.database, message.sender, project, mode)
            )
            self._joins[message.sender] = (message.token, project, mode), joining
        return await asyncio.shield(joining)

    def job_changed(self, job: str) -> None:
        """A message of this job was finished elsewhere: check whether the job is complete."""
        self._touched.setdefault(job, self._clock.monotonic())
        self._ended.set()

    async def complete_jobs_loop(self) -> None:
        """Complete jobs when their last messages are finished.

        It runs when it is woken, so it is no `every()`.
        """
        heartbeat = self._heartbeats.register("jobs.complete")
        while True:
            heartbeat.waiting("ended_messages", at_most=None)
            await self._ended.wait()
            heartbeat.working("jobs.complete")
            try:
                await self._complete_touched()
            except DatabaseError as error:
                # the store logs that, and when it is back
                if not isinstance(error, DatabaseAwayError):
                    self._events.step_failed(what="jobs.complete", again_in=1.0, error=error)
                await self._clock.sleep(1.0)
                self._ended.set()
                continue
            await self._clock.sleep(_COMPLETION_INTERVAL)

    async def complete_last_jobs(self) -> None:
        """Complete the jobs that ended while this daemon drained; what fails is left to the daemon
        that runs next.
        """
        try:
            async with asyncio.timeout(_STOP_TIMEOUT):
                await self._complete_touched(whole=True)
        except (DatabaseError, TimeoutError) as error:
            self._events.jobs_left_open(
                cause=str(error) or t("no response within {bound:g} s", bound=_STOP_TIMEOUT)
            )

    def _due(self) -> dict[str, float]:
        """The jobs that may have ended, and those not looked at for long: another daemon may send
        them too.
        """
        long_ago = self._clock.monotonic() - _LONGEST_BETWEEN
        return {
            job: since
            for job, since in self._touched.items()
            if since <= long_ago or self._may_be_over(job)
        }

    async def _complete_touched(self, *, whole: bool = False) -> None:
        """Complete what has ended of the jobs that are due, or of the `whole`."""
        async with self._completing:
            self._ended.clear()
            jobs = self._touched if whole else self._due()
            self._touched = {job: since for job, since in self._touched.items() if job not in jobs}
            if self._touched:
                self._ended.set()
            if not jobs:
                return
            try:
                finished = await self._rows.complete_jobs(jobs)
            except DatabaseError:
                self._touched = {**self._touched, **jobs}
                raise
            say_finished(self._events, finished)
