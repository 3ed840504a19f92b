"""The service's own loop: says ready, feeds the watchdog while every loop makes progress, and keeps the status line."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, Protocol

from mailerd.clock import Clock, SystemClock
from mailerd.core.stats import QueueStats, words
from mailerd.errors import DatabaseAwayError, DatabaseError
from mailerd.events.base import Event
from mailerd.events.process import ProcessEvents
from mailerd.ops import stack_dump
from mailerd.ops.event_loop_monitor import EventLoopMonitor
from mailerd.ops.heartbeat import Heartbeats
from mailerd.ops.manual_changes import ManualChanges
from mailerd.ops.systemd import Systemd

TICK_INTERVAL: Final = 0.5
"""Seconds between two looks at the loops."""
FLUSH_INTERVAL: Final = 0.01
"""Seconds between two pushes at a log that has records left: 8 MiB of them are gone within seconds."""
_FLUSH_TIMEOUT: Final = 2.0
"""Seconds that a journald gets at the end which has not yet taken everything."""
STATS_INTERVAL: Final = 10.0
"""Seconds between two looks at the tables; a look that takes long is repeated less often."""
MIN_STATS_INTERVAL: Final = 1.0
"""Seconds between two looks where something has changed meanwhile."""
_CHANGES: Final = frozenset(
    {"job_accepted", "job_asked", "job_finished", "sender_paused", "project_paused", "sender_resumed"}
)
_STATS_SHARE: Final = 20
"""A survey may take one twentieth of the time."""
_STATS_TIMEOUT: Final = 10.0
_CLOCKS_DIFFER: Final = 5.0
"""Seconds that this machine's clock may differ from the database's without a word."""
_CLOCK_WARNING_INTERVAL: Final = 600.0


class Meter(Protocol):
    """What is measured here."""

    def lag(self, seconds: float) -> None:
        """The loop came so late."""

    def set_heartbeats(self, loops: Mapping[str, float]) -> None:
        """Since when each loop has been silent."""

    def set_queue(self, stats: QueueStats) -> None:
        """What the tables showed."""


@dataclass
class Watchdog:
    """One daemon's standing as a service."""

    systemd: Systemd
    heartbeats: Heartbeats
    monitor: EventLoopMonitor
    events: ProcessEvents
    meter: Meter
    look: Callable[[], Awaitable[QueueStats]]
    away: Callable[[], str]
    """How the database is known to be away, in a word; empty: it is there."""
    flush: Callable[[], bool]
    """Push on what the log could not get rid of; whether more is left."""
    clock: Clock = field(default_factory=SystemClock)
    stats: QueueStats | None = None
    _listening: bool = False
    _prepared: bool = False
    _ready: bool = False
    _note: str = ""
    _notified_at: float = 0.0
    _told: set[str] = field(default_factory=set)
    _clock_told: float = -_CLOCK_WARNING_INTERVAL
    _soon: asyncio.Event = field(default_factory=asyncio.Event)
    _manual_changes: ManualChanges = field(init=False)

    def __post_init__(self) -> None:
        """Its own part."""
        self._manual_changes = ManualChanges(self.events)

    def listening(self) -> None:
        """The intake takes requests."""
        self._listening = True
        self._say_ready()

    def prepared(self) -> None:
        """The database is there and its schema is right."""
        self._prepared = True
        self._say_ready()

    def stopping(self, *, in_hand: int, within: float) -> None:
        """Draining has begun and may take `within` seconds."""
        self._note = f"draining: {in_hand} letters in hand"
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
        """Look after the loops, until cancelled."""
        with self.monitor.watching(asyncio.get_running_loop()):
            while True:
                before = time.monotonic()
                await self._push(within=TICK_INTERVAL - FLUSH_INTERVAL)
                await asyncio.sleep(max(0.0, before + TICK_INTERVAL - time.monotonic()))
                self.meter.lag(max(0.0, time.monotonic() - before - TICK_INTERVAL))
                self.tick()

    async def flush_on_exit(self) -> None:
        """At the end: give the log a moment to get rid of what it kept."""
        await self._push(within=_FLUSH_TIMEOUT)

    async def _push(self, *, within: float) -> None:
        end = time.monotonic() + within
        while self.flush() and time.monotonic() < end:  # noqa: ASYNC110 - journald tells nobody that it reads again
            await asyncio.sleep(FLUSH_INTERVAL)

    def tick(self) -> None:
        """One look."""
        self.monitor.beat()
        self.flush()
        self.meter.set_heartbeats({heartbeat.loop: heartbeat.age for heartbeat in self.heartbeats.all()})
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
                    stacks=stack_dump.of_tasks(asyncio.get_running_loop()),
                )
                self.flush()
                self.systemd.trigger_watchdog()
        self._told &= {heartbeat.loop for heartbeat in stalled}
        return bool(stalled)

    def _say_ready(self) -> None:
        # With the database away the daemon is up all the same: it answers 503, says why, and goes on trying.
        if not self._ready and self._listening and (self._prepared or self.away()):
            self._ready = True
            self.systemd.ready(self._status())

    def _status(self) -> str:
        if away := self.away():
            said = f"the database is {away}: nothing is claimed, new jobs are answered 503"
        elif self.stats is None:
            said = "running"
        else:
            said = words(self.stats)
        return f"{self._note}; {said}" if self._note else said

    def on_event(self, event: Event, fields: Mapping[str, object], /) -> None:
        """Hear what is told: what changes the counts or a pause is looked at soon, and not at the next turn."""
        del fields
        if event.name in _CHANGES:
            self._soon.set()

    async def stats_loop(self) -> None:
        """Look at the tables, until cancelled."""
        heartbeat = self.heartbeats.register("stats")
        while True:
            heartbeat.working("looking at the tables")
            started = time.monotonic()
            try:
                async with asyncio.timeout(_STATS_TIMEOUT + 1):
                    self._take(await self.look())
            except DatabaseAwayError:
                self.stats = None
            except (DatabaseError, TimeoutError) as error:
                self.stats = None
                self.events.stats_failed(cause=str(error) or "no answer within the time-out")
            least = max(MIN_STATS_INTERVAL, _STATS_SHARE * (time.monotonic() - started))
            rest = max(STATS_INTERVAL, least)
            heartbeat.waiting("the next look at the tables", at_most=rest)
            await asyncio.sleep(least)  # so that a stream of changes costs no more than its share of the time
            with suppress(TimeoutError):
                async with asyncio.timeout(rest - least):
                    await self._soon.wait()
            self._soon.clear()

    def _take(self, stats: QueueStats) -> None:
        self._manual_changes.compare(stats)
        self.stats = stats
        self.meter.set_queue(stats)
        off = (self.clock.now() - stats.at).total_seconds()
        now = time.monotonic()
        if abs(off) > _CLOCKS_DIFFER and now - self._clock_told >= _CLOCK_WARNING_INTERVAL:
            self._clock_told = now
            self.events.clock_off(seconds=abs(off), direction="ahead of" if off > 0 else "behind")
