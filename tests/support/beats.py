"""A heartbeat that counts."""

import itertools

from mailerd.heartbeat import Heartbeat, Heartbeats


def counting_beats() -> Heartbeat:
    """The heartbeat of this test from now on: its `since` is how often it was beaten."""
    return Heartbeats(itertools.count().__next__).register("a test")
