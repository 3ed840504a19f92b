"""Reads the counts of the tables now and then, for metrics, the status line and alerts."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from mailerd.clock import Clock, SystemClock
from mailerd.core.stats import QueueStats
from mailerd.errors import DatabaseAwayError, DatabaseError
from mailerd.events.base import Event
from mailerd.events.process import ProcessEvents
from mailerd.ops.heartbeat import Heartbeats
from mailerd.ops.manual_changes import ManualChanges
from mailerd.ops.metrics import Metrics

STATS_INTERVAL: Final = 10.0
"""Seconds between two reads; a read that takes long is repeated less often."""
MIN_STATS_INTERVAL: Final = 1.0
"""Seconds between two reads where something has changed meanwhile."""
_STATS_SHARE: Final = 20
"""Reading may take one twentieth of the time."""
_STATS_TIMEOUT: Final = 10.0
_CLOCKS_DIFFER: Final = 5.0
"""Seconds that this machine's clock may differ from the database's without a warning."""
_CLOCK_WARNING_INTERVAL: Final = 600.0
_CHANGES: Final = frozenset(
    {"job_accepted", "job_asked", "job_finished", "sender_paused", "project_paused", "sender_resumed"}
)
"""Events after which the counts are read soon, and not only at the next interval."""


class QueueChanges:
    """Listens for events that change the counts or a pause."""

    def __init__(self) -> None:
        self._changed = asyncio.Event()

    def on_event(self, event: Event, fields: Mapping[str, object], /) -> None:
        """Remember that something has changed."""
        del fields
        if event.name in _CHANGES:
            self._changed.set()

    async def wait(self, *, timeout: float) -> None:  # noqa: ASYNC109 - the time-out is no failure
        """Wait for a change since the last wait, or for the time-out."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._changed.wait()
        self._changed.clear()


@dataclass
class StatsPoller:
    """The counts of one daemon, as it has read them last."""

    read: Callable[[], Awaitable[QueueStats]]
    changes: QueueChanges
    metrics: Metrics
    events: ProcessEvents
    heartbeats: Heartbeats
    clock: Clock = field(default_factory=SystemClock)
    latest: QueueStats | None = None
    """None while the tables cannot be read."""
    _manual_changes: ManualChanges = field(init=False)
    _clock_warned_at: float = -_CLOCK_WARNING_INTERVAL

    def __post_init__(self) -> None:
        """Its own part."""
        self._manual_changes = ManualChanges(self.events)

    def current(self) -> QueueStats | None:
        """What was read last; None while the tables cannot be read."""
        return self.latest

    async def run(self) -> None:
        """Read, until cancelled."""
        heartbeat = self.heartbeats.register("stats")
        while True:
            heartbeat.working("reading the tables")
            started = time.monotonic()
            await self._read()
            # A stream of changes costs no more than its share of the time.
            least = max(MIN_STATS_INTERVAL, _STATS_SHARE * (time.monotonic() - started))
            rest = max(STATS_INTERVAL, least)
            heartbeat.waiting("the next read of the tables", at_most=rest)
            await asyncio.sleep(least)
            await self.changes.wait(timeout=rest - least)

    async def _read(self) -> None:
        try:
            async with asyncio.timeout(_STATS_TIMEOUT + 1):
                self.take(await self.read())
        except DatabaseAwayError:
            self.latest = None
        except (DatabaseError, TimeoutError) as error:
            self.latest = None
            self.events.stats_failed(cause=str(error) or "no answer within the time-out")

    def take(self, stats: QueueStats) -> None:
        """Take what was read: into the metrics, into the log what people have changed, and a clock that is off."""
        self._manual_changes.compare(stats)
        self.latest = stats
        self.metrics.set_queue(stats)
        off = (self.clock.now() - stats.at).total_seconds()
        now = time.monotonic()
        if abs(off) > _CLOCKS_DIFFER and now - self._clock_warned_at >= _CLOCK_WARNING_INTERVAL:
            self._clock_warned_at = now
            self.events.clock_off(seconds=abs(off), direction="ahead of" if off > 0 else "behind")
