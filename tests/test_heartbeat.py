"""Heartbeats: a loop that says nothing for too long has stalled, one that waits for something with a name has not."""

import asyncio

from mailerd.heartbeat import Heartbeats, beat, detach


class Hands:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.at = 0.0

    def __call__(self) -> float:
        return self.at


def stalled(heartbeats: Heartbeats) -> list[str]:
    return [heartbeat.loop for heartbeat in heartbeats.stalled()]


def test_work_without_a_word_stalls_and_a_word_ends_it() -> None:
    now = Hands()
    heartbeats = Heartbeats(now, limit=10)
    heartbeat = heartbeats.register("runner")
    heartbeat.working("claiming")
    now.at = 10
    assert stalled(heartbeats) == []
    now.at = 10.1
    assert stalled(heartbeats) == ["runner"]
    assert (heartbeat.doing, heartbeat.age) == ("claiming", 10.1)
    heartbeat.working("claiming")
    assert stalled(heartbeats) == []


def test_a_wait_with_a_bound_may_last_so_long_and_then_as_long_as_work() -> None:
    now = Hands()
    heartbeats = Heartbeats(now, limit=10)
    heartbeats.register("beat").waiting("the next beat", at_most=100)
    now.at = 110
    assert stalled(heartbeats) == []
    now.at = 111
    assert stalled(heartbeats) == ["beat"]


def test_a_wait_for_somebody_else_never_stalls() -> None:
    now = Hands()
    heartbeats = Heartbeats(now, limit=10)
    heartbeat = heartbeats.register("recorder")
    heartbeat.waiting("records", at_most=None)
    now.at = 1e9
    assert stalled(heartbeats) == []
    assert heartbeat.age == 0.0


def test_a_loop_that_has_ended_is_not_missed() -> None:
    now = Hands()
    heartbeats = Heartbeats(now, limit=10)
    heartbeats.register("runner").working("claiming")
    heartbeats.end("runner")
    now.at = 1000
    assert stalled(heartbeats) == []


async def test_a_beat_is_the_word_of_the_loop_that_the_task_works_for() -> None:
    now = Hands()
    heartbeats = Heartbeats(now, limit=10)
    heartbeats.register("another").working("something else")
    heartbeat = heartbeats.register("reader")
    heartbeat.working("reading")
    now.at = 20.0

    async def detached() -> None:
        detach()
        beat()

    await asyncio.create_task(detached())
    assert stalled(heartbeats) == ["another", "reader"]

    async def part() -> None:
        beat()

    await asyncio.create_task(part())
    assert stalled(heartbeats) == ["another"]
    assert heartbeat.doing == "reading"


def test_a_beat_makes_no_wait_shorter() -> None:
    now = Hands()
    heartbeats = Heartbeats(now, limit=10)
    heartbeats.register("runner").waiting("a message", at_most=None)
    beat()
    now.at = 1000.0
    assert stalled(heartbeats) == []
