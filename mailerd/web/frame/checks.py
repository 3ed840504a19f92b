"""Runs on demand what `mailerd check` finds out without a shell, once at a time, and keeps what was
found.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol

from mailerd.clock import Clock
from mailerd.ops.daemon_thread import in_thread

REST: Final = 10.0
"""Seconds after a run within which another one would find the same."""


class CheckFinding(Protocol):
    """One thing that was examined."""

    @property
    def level(self) -> str: ...
    @property
    def check(self) -> str: ...
    @property
    def what(self) -> str: ...
    @property
    def remedy(self) -> str: ...


@dataclass
class ChecksOnDemand:
    """The checks of one daemon.

    They send nothing and change nothing, and end within their own bound of time.
    """

    clock: Clock
    examine: Callable[[], Sequence[CheckFinding]] | None = None
    """Runs them, in a thread; None: this daemon was not given any."""
    found: Sequence[CheckFinding] = ()
    at: datetime | None = None
    """When they were found; None: not yet."""
    _running: asyncio.Task[None] | None = None
    _again_at: float = 0.0

    @property
    def is_running(self) -> bool:
        """Whether a request waits for them."""
        return self._running is not None and not self._running.done()

    async def run(self) -> None:
        """Run them, or wait for the run that is under way; it goes on where the one who asked
        leaves.
        """
        if not self.is_running and self.clock.monotonic() >= self._again_at:
            self._running = asyncio.create_task(self._run(), name="checks")
        if self._running is not None:
            await asyncio.shield(self._running)

    async def _run(self) -> None:
        if self.examine is not None:
            self.found = await in_thread(self.examine)
            self.at, self._again_at = self.clock.now(), self.clock.monotonic() + REST
