"""Reports to systemd: readiness, a status line, and to its watchdog that every loop makes progress."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from mailerd.core.quantities import counted
from mailerd.core.stats import QueueStats, words
from mailerd.events.process import ProcessEvents
from mailerd.ops.event_loop_monitor import EventLoopMonitor, dump_tasks
from mailerd.ops.heartbeat import Heartbeats
from mailerd.ops.metrics import Metrics
from mailerd.ops.systemd import Systemd

TICK_INTERVAL: Final = 0.5
"""Seconds between two checks of the loops."""
FLUSH_INTERVAL: Final = 0.01
"""Seconds between two pushes at a log that has records left: 8 MiB of them are gone within seconds."""
_FLUSH_TIMEOUT: Final = 2.0
"""Seconds at the end for a journald that has not yet taken everything."""


@dataclass
class Watchdog:
    """What systemd hears of one daemon."""

    systemd: Systemd
    heartbeats: Heartbeats
    monitor: EventLoopMonitor
    events: ProcessEvents
    metrics: Metrics
    stats: Callable[[], QueueStats | None]
    """What the tables showed last; None while they cannot be read."""
    database_status: Callable[[], str]
    """How the database is away, in a word; empty: it is there."""
    flush: Callable[[], bool]
    """Push on what the log could not get rid of; whether more is left."""
    _listening: bool = False
    _prepared: bool = False
    _ready: bool = False
    _note: str = ""
    _notified_at: float = 0.0
    _told: set[str] = field(default_factory=set)

    def listening(self) -> None:
        """The intake takes requests."""
        self._listening = True
        self._say_ready()

    def prepared(self) -> None:
        """The database is there and its schema is right."""
        self._prepared = True
        self._say_ready()

    def stopping(self, *, in_flight: int, within: float) -> None:
        """Draining has begun and may take `within` seconds."""
        self._note = f"draining: {counted(in_flight, 'letter')} in flight"
        self.systemd.stopping(self._note)
        self.systemd.extend_timeout(within)

    def reloading(self) -> None:
        """Settings are being read again."""
        self.systemd.reloading()

    def reloaded(self, trouble: str = "") -> None:
        """They were read, or refused for `trouble`; either way the service goes on."""
        self._note = trouble
        self.systemd.ready(self._status())

    async def loop(self) -> None:
        """Tick, until cancelled."""
        with self.monitor.watching(asyncio.get_running_loop()):
            while True:
                before = time.monotonic()
                await self._push(within=TICK_INTERVAL - FLUSH_INTERVAL)
                await asyncio.sleep(max(0.0, before + TICK_INTERVAL - time.monotonic()))
                self.metrics.lag(max(0.0, time.monotonic() - before - TICK_INTERVAL))
                self.tick()

    async def flush_on_exit(self) -> None:
        """At the end: give the log a moment to get rid of what it kept."""
        await self._push(within=_FLUSH_TIMEOUT)

    async def _push(self, *, within: float) -> None:
        end = time.monotonic() + within
        while self.flush() and time.monotonic() < end:  # noqa: ASYNC110 - journald does not say that it reads again
            await asyncio.sleep(FLUSH_INTERVAL)

    def tick(self) -> None:
        """Check the loops once and report to systemd."""
        self.monitor.beat()
        self.flush()
        self.metrics.set_heartbeats({heartbeat.loop: heartbeat.age for heartbeat in self.heartbeats.all()})
        if self._stalled():
            return
        now = time.monotonic()
        if self.systemd.watchdog and now - self._notified_at >= self.systemd.watchdog / 4:
            self._notified_at = now
            self.systemd.notify_watchdog()
        self._say_ready()
        if self._ready:
            self.systemd.status(self._status())

    def _stalled(self) -> bool:
        stalled = self.heartbeats.stalled()
        for heartbeat in stalled:
            if heartbeat.loop not in self._told:
                self._told.add(heartbeat.loop)
                self.events.loop_stalled(
                    loop=heartbeat.loop,
                    doing=heartbeat.doing,
                    seconds=heartbeat.age,
                    stacks=dump_tasks(asyncio.get_running_loop()),
                )
                self.flush()
                self.systemd.trigger_watchdog()
        self._told &= {heartbeat.loop for heartbeat in stalled}
        return bool(stalled)

    def _say_ready(self) -> None:
        # With the database away the daemon is up all the same: it answers 503, says why, and goes on trying.
        if not self._ready and self._listening and (self._prepared or self.database_status()):
            self._ready = True
            self.systemd.ready(self._status())

    def _status(self) -> str:
        if away := self.database_status():
            said = f"the database is {away}: nothing is claimed, new jobs are answered 503"
        elif (stats := self.stats()) is None:
            said = "running"
        else:
            said = words(stats)
        return f"{self._note}; {said}" if self._note else said
