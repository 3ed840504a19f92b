"""Records what was learnt, many letters in one commit, repeated until it is written; the send never is."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol, TypeVar

from mailerd.clock import Clock
from mailerd.core.claims import HandedOver, Outcome, Record, Written
from mailerd.core.states import Change
from mailerd.errors import DatabaseAwayError, DatabaseError
from mailerd.events.runner import RunnerEvents
from mailerd.pulse import Pulse, Pulses
from mailerd.store.cursor import Cursor
from mailerd.store.database import Database
from mailerd.store.records import Finished

T = TypeVar("T")

_BATCH: Final = 100
"""Records in one commit at most."""
_FINISH_EVERY: Final = 0.05
"""Seconds between two looks for finished jobs: under load one look then serves a hundred letters."""
_MAY_END_A_JOB: Final = frozenset({Change.SENT, Change.FAILED, Change.DEFERRED, Change.RELEASED})
"""The last two too: what comes back into a cancelled job is cancelled, and may be its last letter."""


class Writes(Protocol):
    """What this part needs of the store."""

    @property
    def database(self) -> Database:
        """Where it is written."""

    async def record(self, cursor: Cursor, records: Sequence[Record], *, repeated: bool) -> list[Written]:
        """Write; what became of each."""

    async def finish(self, jobs: set[str], *, tried: Callable[[], None]) -> list[Finished]:
        """Complete the jobs in which nothing is open; `tried` is called while it is in doubt."""


class Recorder:
    """One writer for all letters in hand: whoever records waits for the commit that holds it."""

    def __init__(self, writes: Writes, *, clock: Clock, events: RunnerEvents, pulses: Pulses | None = None) -> None:
        self._writes = writes
        self._pulses = pulses or Pulses()
        self._clock = clock
        self._events = events
        self._queue: asyncio.Queue[tuple[Record, asyncio.Future[Written]]] = asyncio.Queue()
        self._touched: set[str] = set()
        self._ended = asyncio.Event()

    async def record(self, record: HandedOver | Outcome) -> Written:
        """What became of the record.

        Returns only when it is durable. A database that is away is waited for.

        Raises:
            DatabaseError: the database refused this very record, for a reason that no repetition cures.
        """
        future: asyncio.Future[Written] = asyncio.get_running_loop().create_future()
        self._queue.put_nowait((record, future))
        return await future

    async def run(self) -> None:
        """Write what gathers while the last commit was on its way."""
        pulse = self._pulses.of("recorder")
        while True:
            pulse.waiting("something to record", at_most=None)
            batch = [await self._queue.get()]
            pulse.working("recording")
            while len(batch) < _BATCH and not self._queue.empty():
                batch.append(self._queue.get_nowait())
            await self._write(batch, pulse)

    async def _write(self, batch: Sequence[tuple[Record, "asyncio.Future[Written]"]], pulse: Pulse) -> None:
        records = [record for record, _ in batch]
        try:
            written = await self._writes.database.insist(
                self._work(records), what=f"record {len(records)} letters", tried=lambda: pulse.working("recording")
            )
        except DatabaseError as error:
            if len(batch) > 1:  # one of them is the poison: find it, and spare the others
                for one in batch:
                    await self._write([one], pulse)
            elif not batch[0][1].done():
                batch[0][1].set_exception(error)
            return
        for (record, future), what in zip(batch, written, strict=True):
            self._answer(record, future, what)

    def _answer(self, record: Record, future: "asyncio.Future[Written]", what: Written) -> None:
        if isinstance(record, Outcome) and record.decision.change in _MAY_END_A_JOB:
            self.touch(record.letter.job_id)
        if not future.done():
            future.set_result(what)

    def _work(self, records: Sequence[Record]) -> Callable[[Cursor, bool], Awaitable[list[Written]]]:
        async def work(cursor: Cursor, repeated: bool) -> list[Written]:  # noqa: FBT001 - `insist` gives it so
            return await self._writes.record(cursor, records, repeated=repeated)

        return work

    def touch(self, job: str) -> None:
        """Something of this job came to its end elsewhere: see whether the job has too."""
        self._touched.add(job)
        self._ended.set()

    async def finish_forever(self) -> None:
        """Complete jobs as their last letters come to their end."""
        pulse = self._pulses.of("finish jobs")
        while True:
            pulse.waiting("a letter to come to its end", at_most=None)
            await self._ended.wait()
            pulse.working("finishing jobs")
            self._ended.clear()
            jobs, self._touched = self._touched, set()
            try:
                finished = await self._writes.finish(jobs, tried=lambda: pulse.working("finishing jobs"))
            except DatabaseError as error:
                self._touched |= jobs
                if not isinstance(error, DatabaseAwayError):  # of that the store tells, and when it is back
                    self._events.step_failed(what="finishing jobs", again_in=1.0, error=error)
                await self._clock.sleep(1.0)
                self._ended.set()
                continue
            for job in finished:
                self._events.job_finished(
                    job=job.id, sent=job.sent, failed=job.failed, cancelled=job.cancelled, seconds=job.seconds
                )
            await self._clock.sleep(_FINISH_EVERY)
