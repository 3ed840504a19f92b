"""The polling loop: waits for capacity, claims messages, starts their deliveries, and waits for new
work or a poll.
"""

import asyncio
import math
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import ClassVar, Final

from mailerd.clock import Clock
from mailerd.core.claims import ALONE_AFTER, Claim, ClaimedRecipient
from mailerd.errors import DatabaseAwayError, DatabaseError
from mailerd.events.worker import RunnerEvents
from mailerd.gmail import MessageSemaphore
from mailerd.heartbeat import Heartbeat, Heartbeats
from mailerd.store.queue.claim import Claims
from mailerd.store.queue.record import RecordWriter
from mailerd.worker.delivery import Delivery
from mailerd.worker.delivery_log import JobProgress
from mailerd.worker.in_flight import CircuitBreaker, InFlight

_MAX_CLAIM: Final = 100
"""The most messages of one claim."""
_GATHER_TIME: Final = 0.15
"""Seconds at most that a claim waits, while messages are in flight, until it can take as many as
there are slots: a claim costs nearly the same for ten as for fifty, and so many are claimed ahead
where Google is quick (gmail/client.py: `_AHEAD_S`).
"""
_MIN_POLL_DELAY: Final = 0.1
"""Seconds at least between a claim that found less than there was room for and the next, unless it
is woken: where many senders are at Google's pace, one of them is due every few milliseconds, and a
claim costs nearly the same for one as for twenty. The pace loses nothing by it: a message may be
claimed 0.3 s late (core/rate_limit.py: `_BURST_SHARE`).
"""
_MAX_DOUBLINGS: Final = 4
"""The most doublings of that delay: it ends at 1.6 s."""
_HEARTBEAT_POLLS: Final = 10
_ALIVE_INTERVAL: Final = 60.0
"""The longest time in seconds in which nothing is logged at the level info."""
_BACK_OFF: Final = (0.5, 5.0)
"""The first and the longest wait, in seconds, after a claim that failed."""


def poll_delay(*, lost_races: int) -> float:
    """Seconds to rest at least, after so many claims in a row that lost the race: other daemons had
    taken what was due.

    Daemons that share a database all see the same next turn. Without this a hundred of them would
    look some hundred times a second each for what one of them takes.
    """
    return _MIN_POLL_DELAY * 2.0 ** min(lost_races, _MAX_DOUBLINGS)


@dataclass
class Runner:
    """Claims messages while there is capacity, and starts a delivery for each."""

    claims: Claims
    counts: RecordWriter
    delivery: Delivery
    in_flight: InFlight
    breaker: CircuitBreaker
    progress: JobProgress
    clock: Clock
    events: RunnerEvents
    daemon_id: str
    poll_interval: float
    semaphore: MessageSemaphore
    job_changed: Callable[[str], None]
    """Checks whether a job has ended."""
    heartbeats: Heartbeats
    _wakeup: asyncio.Event = field(default_factory=asyncio.Event)
    _polls: int = 0
    _idle: int = 0
    _lost_races: int = 0
    _last_alive: float = 0.0
    _failures: int = 0

    _running: ClassVar["Runner | None"] = None

    def __post_init__(self) -> None:
        self.semaphore.on_capacity = self.wake

    def wake(self) -> None:
        """Poll now, since there is new work; it does not wait for the next poll."""
        self._wakeup.set()

    async def run(self, messages: asyncio.TaskGroup) -> None:
        """Claim until cancelled; the messages in flight then go on in the task group `messages`."""
        if Runner._running is not None:
            self.events.runner_already_running()
            return
        Runner._running = self
        try:
            self._last_alive = self.clock.monotonic()
            self.events.runner_started(
                poll_interval=self.poll_interval,
                concurrency=self.semaphore.number,
                daemon=self.daemon_id,
            )
            heartbeat = self.heartbeats.register("runner")
            while True:
                await self._poll(messages, heartbeat)
                self._log_alive()
        finally:
            self.heartbeats.end("runner")
            Runner._running = None

    async def _poll(self, messages: asyncio.TaskGroup, heartbeat: Heartbeat) -> None:
        self._polls += 1
        # the last claim found nothing, and no wake-up came since
        if self._idle and not self._wakeup.is_set():
            heartbeat.working("claims.due_in")
            due_in = await self._query("claims.due_in", self.claims.due_in(rooms=self._rooms()))
            if due_in != 0:
                self._idle += due_in is not None
                await self._rest(due_in, heartbeat)
                return
        heartbeat.waiting("free_slot", at_most=None)
        want = await self._capacity()
        heartbeat.working("claims.take")
        self._wakeup.clear()
        claim = await self._claim_shielded(self.claims.claim(want, rooms=self._rooms()), messages)
        if claim is not None and claim.alone is not None:
            await self._try_alone(claim.alone, messages, heartbeat)
        if claim is None:
            await self._rest(None, heartbeat)
            return
        taken = len(claim.messages)
        self._idle = 0 if taken else self._idle + 1
        self._lost_races = 0 if taken or claim.next_in != 0 else self._lost_races + 1
        if taken < want:
            await self._rest(math.inf if claim.next_in is None else claim.next_in, heartbeat)

    async def _rest(self, next_in: float | None, heartbeat: Heartbeat) -> None:
        """Wait for a wake-up, the next poll, or until a message is due in `next_in` seconds; None:
        the query failed.
        """
        heartbeat.waiting("new_work", at_most=self.poll_interval + _BACK_OFF[1])
        if next_in is None:
            await self._wait(self._back_off())
        else:
            blocked = self.breaker.blocked_senders().values()  # of senders that the answer left out
            rests_over = min(blocked, default=math.inf)
            await self._wait(
                min(
                    self.poll_interval,
                    rests_over,
                    max(next_in, poll_delay(lost_races=self._lost_races)),
                )
            )

    async def _try_alone(
        self, recipient: int, messages: asyncio.TaskGroup, heartbeat: Heartbeat
    ) -> None:
        """Send a message that may have crashed several daemons while nothing else is in flight in
        this one.

        A further crash then proves that this message caused it, and no other message suffers.
        """
        heartbeat.waiting("empty_slots", at_most=None)
        await self.semaphore.wait_until_empty()
        heartbeat.working("claims.take_alone")
        claim = await self._claim_shielded(self.claims.claim_alone(recipient), messages)
        if claim is not None and claim.messages:
            self.events.message_tried_alone(
                job=claim.messages[0].job_id,
                recipient=recipient,
                to=claim.messages[0].to_email,
                after=ALONE_AFTER,
            )
            heartbeat.waiting("message_alone", at_most=None)
            await self.semaphore.wait_until_empty()

    async def _claim_shielded(
        self, claiming: Awaitable[Claim], messages: asyncio.TaskGroup
    ) -> Claim | None:
        """Claim, and start the deliveries; a claim whose statement is under way is not
        cancelled.
        """
        taking = asyncio.ensure_future(self._claim_and_start(claiming, messages))
        try:
            return await asyncio.shield(taking)
        except asyncio.CancelledError:
            # The claim may still commit: its messages are sent now, and not when their leases
            # expire.
            await taking
            raise

    async def _claim_and_start(
        self, claiming: Awaitable[Claim], messages: asyncio.TaskGroup
    ) -> Claim | None:
        asked_at = self.clock.monotonic()
        claim = await self._query("claims.take", claiming)
        if claim is not None:
            self.in_flight.add(claim, asked_at=asked_at)
            self.semaphore.add(claim.messages)
            for job in claim.exhausted:
                self.job_changed(job)
            begun = self._announce_jobs(claim)
            for message in claim.messages:
                messages.create_task(self._deliver(message))
            if begun:
                messages.create_task(self._count(begun))
        return claim

    async def _capacity(self) -> int:
        """How many messages to claim, at least one.

        As many as there is capacity for. A single one, and only for a free slot, while Google is
        out of reach.
        """
        if retry_in := self.breaker.retry_in():
            await self.clock.sleep(retry_in)
        if self.breaker.is_open:
            await self.semaphore.wait_for_capacity(self.semaphore.number // 2 + 1)
            return 1
        await self.semaphore.wait_for_capacity(1)
        if len(self.in_flight):
            with suppress(TimeoutError):
                async with asyncio.timeout(_GATHER_TIME):
                    await self.semaphore.wait_for_capacity(self.semaphore.number)
        return min(_MAX_CLAIM, self.semaphore.capacity)

    def _rooms(self) -> Mapping[str, int]:
        """How many messages may be claimed of each sender that has a bound now; 0 where its circuit
        breaker is open.
        """
        return {
            **self.semaphore.capacity_by_sender(),
            **dict.fromkeys(self.breaker.blocked_senders(), 0),
        }

    async def _query[T](self, what: str, question: Awaitable[T]) -> T | None:
        """The answer; None when the query failed, which the store or this has logged."""
        try:
            answer = await question
        except DatabaseError as error:
            self._failures += 1
            if not isinstance(error, DatabaseAwayError):
                self.events.step_failed(what=what, again_in=self._back_off(), error=error)
            return None
        self._failures = 0
        return answer

    def _back_off(self) -> float:
        """Seconds to rest after the last failure: twice as long after each."""
        first, longest = _BACK_OFF
        return min(longest, first * 2.0 ** min(self._failures - 1, 6))

    def _announce_jobs(self, claim: Claim) -> list[str]:
        """Log what was claimed.

        Returns the jobs that are new to this daemon and were begun before.
        """
        begun = []
        for job in claim.jobs:
            if not self.progress.contains(job.id):
                self.events.job_found(
                    job=job.id, type=job.type, sender=job.sender, total=job.total, age=job.age
                )
                self.progress.add(job.id, total=job.total)
                if job.begun:
                    begun.append(job.id)
        for job_id, messages in Counter(message.job_id for message in claim.messages).items():
            self.progress.claimed(job_id, messages=messages)
        if claim.messages:
            self.events.claimed(
                messages=len(claim.messages), jobs=len(claim.jobs), token=claim.token
            )
        return begun

    async def _count(self, jobs: Sequence[str]) -> None:
        """Count how far these jobs are. Only the log uses it, so no message waits for it."""
        try:
            ended = await self.counts.count_ended(jobs)
        except DatabaseError as error:
            self.events.step_failed(what="jobs.count_ended", again_in=0.0, error=error)
            return
        for job, messages in ended.items():
            self.progress.set_done(job, ended=messages)

    async def _deliver(self, message: ClaimedRecipient) -> None:
        try:
            await self.delivery.deliver(message)
        finally:
            self.semaphore.remove(message)

    async def _wait(self, seconds: float) -> None:
        if self._idle and self._idle % _HEARTBEAT_POLLS == 0:
            self.events.heartbeat(polls=self._polls, idle=self._idle, in_flight=len(self.in_flight))
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wakeup.wait()

    def _log_alive(self) -> None:
        if self.clock.monotonic() - self._last_alive >= _ALIVE_INTERVAL:
            self._last_alive = self.clock.monotonic()
            self.events.alive(
                polls=self._polls,
                sent=self.progress.sent,
                failed=self.progress.failed,
                in_flight=len(self.in_flight),
            )
