"""Heartbeats: a loop that says nothing for too long has stalled, one that waits for something with a name has not."""

from mailerd.ops.heartbeat import Heartbeats


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
    heartbeat.waiting("something to record", at_most=None)
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
