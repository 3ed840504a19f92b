"""A clock that stands still while other processes have all the processors, and bounds for the speed of this machine."""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

_THREADS: Final = Path("/proc/self/task")
_USUAL: Final = 0.035
"""Seconds of CPU that a million additions take where the bounds were set, or less: there the bounds are what they say.

It was 0.09 on a day when the bare client of the bench had a quarter of its usual speed.
"""
_SLOWEST: Final = 20.0
"""No bound grows further, so that it stays one: a machine five times slower, and others on its processors."""


def own_time() -> float:
    """Seconds. Computing, sleeping and waiting for an answer count; on a busy machine the wait for a turn does not.

    The turns of all threads are taken: one that waits for a turn may have what another waits for.
    """
    return time.monotonic() - _waited()


def _waited() -> float:
    """Seconds of waiting for a processor, as Linux counts them; elsewhere none, which leaves wall time."""
    waited = 0
    for account in _THREADS.glob("*/schedstat"):
        with suppress(OSError):  # that thread has ended
            waited += int(account.read_text("ascii").split()[1])
    return waited / 1e9


async def longest_stall(seconds: float) -> float:
    """The longest time for which the loop stood still within so many seconds."""
    worst, until = 0.0, time.monotonic() + seconds
    while time.monotonic() < until:
        before = own_time()
        await asyncio.sleep(0.005)
        worst = max(worst, own_time() - before)
    return worst


def at_this_speed(seconds: float) -> float:
    """A bound on computing, longer on a machine that computes more slowly now than those that bounds are set on.

    A virtual machine may get a fraction of its processors, which no figure inside it tells.
    """
    return seconds * min(_SLOWEST, max(1.0, min(_computed() for _ in range(3)) / _USUAL))


def slowness() -> float:
    """How many times longer than usual computing takes now by the clock on the wall, with all that runs beside it."""
    return min(_SLOWEST, max(1.0, _computed(time.monotonic) / _USUAL))


def _computed(clock: Callable[[], float] = time.thread_time) -> float:
    """Seconds for a million additions, of CPU if no other clock is given."""
    began, total = clock(), 0
    for number in range(1_000_000):
        total += number
    return clock() - began
