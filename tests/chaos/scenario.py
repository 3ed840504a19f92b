"""What a storm is: its name, how much of it, where it rages, and what it may leave behind."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from tests.chaos.place import Place, Setting


@dataclass(frozen=True)
class Size:
    """How much of it."""

    messages: int
    rounds: int = 1
    """How often whatever is done is done."""
    seconds: float = 0.0
    """How long it lasts, where it lasts."""


Storm = Callable[[Place, Size], Awaitable[int]]
"""Posts the messages, does its worst, returns the number of faults. What is ended in it must be started again."""


@dataclass(frozen=True)
class Scenario:
    """One kind of storm."""

    name: str
    what: str
    storm: Storm
    short: Size
    long: Size
    setting: Setting = field(default_factory=Setting)
    within: float = 120.0
    """Seconds for everything in the long version; a breach when it takes longer."""
    may_be_unsure: frozenset[str] = frozenset()
    """Senders whose doubts only a person can settle."""
    may_fail: frozenset[str] = frozenset()
    """Senders whose messages may end as failed."""
    hits: tuple[str, ...] = ()
    """Events that must be heard in the long version, or the storm has missed what it is about."""
