"""A recording of what was said, and waiting for it: tests wait for signals, they never sleep."""

import asyncio
from collections.abc import Mapping
from typing import Any, Final

from mailerd.events.base import Event
from mailerd.locale import say

PATIENCE: Final = 300.0
"""Seconds for what comes by itself, however slow the machine is: a wait that is over at once costs none of them."""


class Heard:
    """Takes events like the journal does."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []
        self._more = asyncio.Event()

    def __call__(self, event: Event, fields: Mapping[str, object], /) -> None:
        say(event.words(fields), "zh")  # an event whose words do not fit its fields fails the test that hears it
        self.events.append((event.name, dict(fields)))
        self._more.set()

    def of(self, name: str) -> list[dict[str, Any]]:
        """The fields of every event of that name."""
        return [fields for event, fields in self.events if event == name]

    def names(self) -> list[str]:
        """The story."""
        return [name for name, _ in self.events]

    async def wait_for(self, name: str, *, times: int = 1, within: float = PATIENCE) -> dict[str, Any]:
        """Until it was heard so often; its last fields."""
        try:
            async with asyncio.timeout(within):
                while len(self.of(name)) < times:
                    self._more.clear()
                    await self._more.wait()
        except TimeoutError:
            others = [it for it in self.events if it[0] != "heartbeat"][-20:]
            raise AssertionError(f"{name} x {times} not heard within {within} s, but: {others}") from None
        return self.of(name)[-1]
