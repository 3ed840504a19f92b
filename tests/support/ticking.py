"""A clock that a test moves by hand."""

import asyncio
from datetime import UTC, datetime, timedelta

from mailerd.clock import Clock


class Ticking(Clock):
    """Stands still until it is moved; whoever sleeps wakes when its time has come."""

    def __init__(self) -> None:
        self._now = 1000.0
        self._sleepers: list[tuple[float, asyncio.Event]] = []

    def monotonic(self) -> float:
        return self._now

    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self._now)

    async def sleep(self, seconds: float) -> None:
        event = asyncio.Event()
        self._sleepers.append((self._now + seconds, event))
        await event.wait()

    async def move(self, seconds: float) -> None:
        """Let so much time pass, and everybody who woke get to their next wait."""
        self._now += seconds
        due = [event for at, event in self._sleepers if at <= self._now]
        self._sleepers = [(at, event) for at, event in self._sleepers if at > self._now]
        for event in due:
            event.set()
        for _ in range(20):
            await asyncio.sleep(0)
