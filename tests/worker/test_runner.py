"""The runner's room: an idle one claims for all of it; with messages in hand, a claim waits a moment for company."""

import asyncio
import math
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any, cast

import pytest

from mailerd.clock import Clock
from mailerd.core.claims import Claim, ClaimedJob, ClaimedRecipient
from mailerd.errors import DatabaseError
from mailerd.events.worker import RunnerEvents
from mailerd.gmail import MessageSemaphore
from mailerd.heartbeat import Heartbeats
from mailerd.store.queue.recovery import RecoveryQueries
from mailerd.worker.delivery_log import JobProgress
from mailerd.worker.in_flight import CircuitBreaker, InFlight
from mailerd.worker.runner import Runner
from tests.support.heard import Heard
from tests.worker.test_in_flight import Store, message

CONCURRENCY = 20
AHEAD = 10
"""Messages that are claimed before there is a slot for them."""


class Place:
    """A runner whose messages end when the test says so."""

    def __init__(self) -> None:
        self.wants: asyncio.Queue[int] = asyncio.Queue()
        self.ends: list[asyncio.Event] = []
        self.start = asyncio.Semaphore(0)
        self.seen = 0
        self.record = asyncio.Event()
        self.record.set()
        self.over = False
        self.heard = Heard()
        self.changed: list[str] = []
        clock, events = Clock(), RunnerEvents(self.heard)
        self.in_flight = InFlight(
            cast("RecoveryQueries", Store()), lease=timedelta(seconds=100), clock=clock, events=events,
            heartbeats=Heartbeats(),
        )  # fmt: skip
        # No message is slow here: a stall of the machine must not make room for more claims.
        self.semaphore = MessageSemaphore(CONCURRENCY, slow_after=600.0)
        it: Any = self
        self.runner = Runner(
            claims=it, counts=it, delivery=it, in_flight=self.in_flight,
            breaker=CircuitBreaker(clock=clock, events=events),
            progress=JobProgress(), clock=clock, events=events, daemon_id="D", poll_interval=60.0,
            semaphore=self.semaphore, job_changed=self.changed.append, heartbeats=Heartbeats(),
        )  # fmt: skip
        self.messages = iter(message(n) for n in range(10_000))

    async def started(self, number: int) -> None:
        """Wait until so many messages are on their way."""
        while self.seen < number:
            await self.start.acquire()
            self.seen += 1

    async def finish(self) -> None:
        """Let every message come to its end, those too that are yet to start."""
        self.over = True
        for end in self.ends:
            end.set()

    async def claim(self, want: int, **_: object) -> Claim:
        await asyncio.sleep(0.001)
        self.wants.put_nowait(want)
        return Claim("T", tuple(next(self.messages) for _ in range(want)), ())

    async def deliver(self, it: ClaimedRecipient) -> None:
        async with self.semaphore.slot(it):
            end = asyncio.Event()
            self.ends.append(end)
            self.start.release()
            if not self.over:
                await end.wait()
        await self.record.wait()
        self.in_flight.remove(it)


async def wants_after(ended: int) -> tuple[int, int, float]:
    """What the first claim asks for, and the second, when so many messages end one after another; their seconds."""
    place = Place()
    async with asyncio.timeout(60), asyncio.TaskGroup() as messages:
        running = messages.create_task(place.runner.run(messages))
        first = await place.wants.get()
        await place.started(CONCURRENCY)
        began = time.monotonic()
        for end in place.ends[:ended]:
            end.set()
            await asyncio.sleep(0)
        took = time.monotonic() - began
        second = await place.wants.get()
        running.cancel()
        await place.finish()
    return first, second, took


async def test_an_idle_runner_asks_for_all_that_it_may_have() -> None:
    first, _, _ = await wants_after(1)
    assert first == CONCURRENCY + AHEAD


async def test_messages_that_end_together_are_replaced_by_one_claim() -> None:
    second = 0
    for _ in range(100):
        _, second, took = await wants_after(4)
        if took < 0.01:  # else other processes had the processor meanwhile
            break
    assert second == 4


async def test_a_single_end_is_replaced_after_a_moment_without_company() -> None:
    _, second, _ = await wants_after(1)
    assert second == 1


async def test_half_as_many_again_as_there_are_slots_are_claimed_and_no_more() -> None:
    place = Place()
    async with asyncio.timeout(60), asyncio.TaskGroup() as messages:
        running = messages.create_task(place.runner.run(messages))
        await place.wants.get()
        await place.started(CONCURRENCY)
        for end in place.ends[:6]:
            end.set()
        await place.started(CONCURRENCY + 6)
        assert await place.wants.get() == 6, "those that waited for a slot took what was free"
        await asyncio.sleep(0.05)
        assert place.wants.empty()
        assert len(place.ends) == CONCURRENCY + 6
        assert len(place.in_flight) == CONCURRENCY + AHEAD
        running.cancel()
        await place.finish()


async def test_messages_are_not_claimed_while_too_many_wait_for_their_record() -> None:
    place = Place()
    place.record.clear()
    place.over = True
    async with asyncio.timeout(60), asyncio.TaskGroup() as messages:
        running = messages.create_task(place.runner.run(messages))
        claimed = 0
        while claimed < 2 * CONCURRENCY:  # each that has its answer makes room for another
            claimed += await place.wants.get()
        await asyncio.sleep(0.05)
        assert place.wants.empty()
        assert len(place.in_flight) == claimed == 2 * CONCURRENCY
        place.record.set()
        await place.wants.get()
        running.cancel()


class Resuming(Place):
    """A runner that meets a job which another daemon had begun, and whose count does not come."""

    def __init__(self, *, begun: bool) -> None:
        super().__init__()
        self.job = ClaimedJob("J", "template", "me@example.com", total=1000, begun=begun)
        self.asked: list[Sequence[str]] = []
        self.answer = asyncio.Event()

    async def claim(self, want: int, **_: object) -> Claim:
        return replace(await super().claim(want), jobs=(self.job,))

    async def count_ended(self, jobs: Sequence[str]) -> dict[str, int]:
        self.asked.append(jobs)
        await self.answer.wait()
        return {"J": 400}


@pytest.mark.parametrize("begun", [True, False])
async def test_no_message_waits_for_the_count_of_a_job_that_was_begun_before(*, begun: bool) -> None:
    place = Resuming(begun=begun)
    async with asyncio.timeout(60), asyncio.TaskGroup() as messages:
        running = messages.create_task(place.runner.run(messages))
        await place.wants.get()
        await place.started(CONCURRENCY)
        assert place.asked == ([["J"]] if begun else [])
        assert place.runner.progress.advance("J", 1) == (1, 1000)
        place.answer.set()
        for _ in range(20):
            await asyncio.sleep(0)
        assert place.runner.progress.advance("J", 1) == (401 if begun else 2, 1000)
        running.cancel()
        await place.finish()


async def test_messages_that_are_claimed_again_are_not_counted_as_finished_before_they_are() -> None:
    """A limit notice gave them back, or a person retried them: `[1000/1000]` would stand at each of them."""
    place = Resuming(begun=False)
    progress = place.runner.progress
    progress.add("J", total=1000)
    progress.set_done("J", ended=1000)
    async with asyncio.timeout(60), asyncio.TaskGroup() as messages:
        running = messages.create_task(place.runner.run(messages))
        claimed = await place.wants.get()
        await place.started(CONCURRENCY)
        assert [progress.advance("J", 1)[0] for _ in range(claimed)] == [*range(1001 - claimed, 1001)]
        running.cancel()
        await place.finish()


class Failing(Place):
    """A runner whose claims are refused."""

    def __init__(self) -> None:
        super().__init__()
        self.rests: list[float] = []
        self.enough = asyncio.Event()
        self.runner._wait = self.wait  # type: ignore[method-assign]

    async def claim(self, want: int, **_: object) -> Claim:
        await asyncio.sleep(0.001)
        self.wants.put_nowait(want)
        raise DatabaseError("claim", phase="work", cause=OSError("no"), errno=1054, retry=False, in_doubt=False)

    async def wait(self, seconds: float) -> None:
        self.rests.append(seconds)
        if len(self.rests) == 6:
            self.enough.set()
            await asyncio.Event().wait()


async def test_a_claim_that_failed_is_told_with_the_time_that_is_really_waited() -> None:
    place = Failing()
    async with asyncio.timeout(60), asyncio.TaskGroup() as messages:
        running = messages.create_task(place.runner.run(messages))
        await place.enough.wait()
        running.cancel()
    told = place.heard.of("step_failed")
    assert [each["again_in"] for each in told] == place.rests == [0.5, 1.0, 2.0, 4.0, 5.0, 5.0]
    assert {each["what"] for each in told} == {"claims.take"}


class Quiet(Place):
    """A runner for whom nothing is due until the test says so."""

    def __init__(self, *, poll_interval: float) -> None:
        super().__init__()
        self.runner.poll_interval = poll_interval
        self.due = False
        self.looks: asyncio.Queue[None] = asyncio.Queue()

    async def claim(self, want: int, **_: object) -> Claim:
        await asyncio.sleep(0.001)
        self.wants.put_nowait(want)
        return Claim("T", (next(self.messages),) if self.due else (), ())

    async def due_in(self, **_: object) -> float:
        self.looks.put_nowait(None)
        return 0.0 if self.due else math.inf

    async def count_ended(self, jobs: Sequence[str]) -> dict[str, int]:
        raise NotImplementedError


async def test_a_runner_that_found_nothing_looks_before_it_claims_again() -> None:
    place = Quiet(poll_interval=0.01)
    async with asyncio.timeout(60), asyncio.TaskGroup() as messages:
        running = messages.create_task(place.runner.run(messages))
        await place.wants.get()
        for _ in range(3):
            await place.looks.get()
        assert place.wants.empty()
        place.due = True
        await place.wants.get()
        await place.started(1)
        running.cancel()
        place.ends[0].set()


async def test_a_runner_that_was_rung_claims_without_a_look() -> None:
    place = Quiet(poll_interval=60.0)
    async with asyncio.timeout(60), asyncio.TaskGroup() as messages:
        running = messages.create_task(place.runner.run(messages))
        await place.wants.get()
        place.due = True
        place.runner.wake()
        await place.wants.get()
        await place.started(1)
        assert place.looks.empty()
        running.cancel()
        place.ends[0].set()


class Beaten(Quiet):
    """A runner that sees something due, and finds it taken by others when it claims."""

    def __init__(self) -> None:
        super().__init__(poll_interval=2.0)
        self.rests: list[float] = []
        self.enough = asyncio.Event()
        self.runner._wait = self.wait  # type: ignore[method-assign]

    async def claim(self, want: int, **_: object) -> Claim:
        claim = await super().claim(want)
        return replace(claim, next_in=0.0)

    async def due_in(self, **_: object) -> float:
        return 0.0

    async def wait(self, seconds: float) -> None:
        self.rests.append(seconds)
        if len(self.rests) == 7:
            self.enough.set()
            await asyncio.Event().wait()
        self.due = len(self.rests) == 5
        await asyncio.sleep(0)


async def test_a_runner_that_others_beat_to_it_rests_longer_each_time_until_it_finds_something() -> None:
    place = Beaten()
    async with asyncio.timeout(60), asyncio.TaskGroup() as messages:
        running = messages.create_task(place.runner.run(messages))
        await place.enough.wait()
        running.cancel()
        place.ends[0].set()
    assert place.rests == pytest.approx([0.2, 0.4, 0.8, 1.6, 1.6, 0.1, 0.2])


class Suspicious(Place):
    """A runner whose second claim meets a message that may have crashed several daemons."""

    def __init__(self) -> None:
        super().__init__()
        self.claims = 0
        self.alone: asyncio.Queue[tuple[int, int]] = asyncio.Queue()
        """The recipient, and how many messages are in flight when it is claimed."""

    async def claim(self, want: int, **_: object) -> Claim:
        claim = replace(await super().claim(min(want, 2)), next_in=0.0)
        self.claims += 1
        return replace(claim, alone=77) if self.claims == 2 else claim

    async def claim_alone(self, recipient: int) -> Claim:
        self.alone.put_nowait((recipient, len(self.in_flight)))
        return Claim("A", (replace(message(recipient), token="A"),), (), next_in=0.0)


async def test_a_message_that_may_have_crashed_daemons_is_sent_with_nothing_beside_it() -> None:
    place = Suspicious()
    async with asyncio.timeout(60), asyncio.TaskGroup() as messages:
        running = messages.create_task(place.runner.run(messages))
        await place.started(4)
        await asyncio.sleep(0.1)
        assert place.claims == 2, "nothing more is claimed while the others come to their end"
        assert place.alone.empty()
        for end in place.ends:
            end.set()
        assert await place.alone.get() == (77, 0)
        await place.started(5)
        await asyncio.sleep(0.1)
        assert (place.claims, len(place.in_flight)) == (2, 1), "nothing goes beside it"
        assert [told["recipient"] for told in place.heard.of("message_tried_alone")] == [77]
        place.ends[-1].set()
        await place.started(7)
        running.cancel()
        await place.finish()
