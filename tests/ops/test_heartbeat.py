"""Pulses: a loop that says nothing for too long has stalled, one that waits for something with a name has not."""

from mailerd.ops.heartbeat import Pulses


class Hands:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.at = 0.0

    def __call__(self) -> float:
        return self.at


def stalled(pulses: Pulses) -> list[str]:
    return [pulse.loop for pulse in pulses.stalled()]


def test_work_without_a_word_stalls_and_a_word_ends_it() -> None:
    now = Hands()
    pulses = Pulses(now, limit=10)
    pulse = pulses.of("runner")
    pulse.working("claiming")
    now.at = 10
    assert stalled(pulses) == []
    now.at = 10.1
    assert stalled(pulses) == ["runner"]
    assert (pulse.doing, pulse.silence) == ("claiming", 10.1)
    pulse.working("claiming")
    assert stalled(pulses) == []


def test_a_wait_with_a_bound_may_last_so_long_and_then_as_long_as_work() -> None:
    now = Hands()
    pulses = Pulses(now, limit=10)
    pulses.of("beat").waiting("the next beat", at_most=100)
    now.at = 110
    assert stalled(pulses) == []
    now.at = 111
    assert stalled(pulses) == ["beat"]


def test_a_wait_for_somebody_else_never_stalls() -> None:
    now = Hands()
    pulses = Pulses(now, limit=10)
    pulse = pulses.of("recorder")
    pulse.waiting("something to record", at_most=None)
    now.at = 1e9
    assert stalled(pulses) == []
    assert pulse.silence == 0.0


def test_a_loop_that_has_ended_is_not_missed() -> None:
    now = Hands()
    pulses = Pulses(now, limit=10)
    pulses.of("runner").working("claiming")
    pulses.end("runner")
    now.at = 1000
    assert stalled(pulses) == []
