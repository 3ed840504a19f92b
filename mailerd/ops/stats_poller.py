"""Reads the counts of the tables now and then, for metrics, the status line and alerts."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from mailerd.clock import Clock
from mailerd.core.pauses import MANUAL, until
from mailerd.core.stats import QueueStats, RecentAction
from mailerd.core.suppression import EVERYTHING_NAME
from mailerd.errors import DatabaseAwayError, DatabaseError
from mailerd.events.base import Event
from mailerd.events.intake import SuppressionEvents
from mailerd.events.process import ProcessEvents
from mailerd.heartbeat import Heartbeats
from mailerd.ops.metrics import Metrics

_COMMAND = "command, "
"""The beginning of `actor` where a command asked (`asked_by` of `cli/common.py`)."""


class ManualChanges:
    """What was reported already, and the difference that a new look makes."""

    def __init__(self, events: ProcessEvents) -> None:
        self._events = events
        self._paused: dict[str, tuple[str, str]] = {}
        """The pauses that were logged, by sender: until when it is paused, and why."""
        self._asked: dict[int, int] | None = None
        """The actions that the last read showed, by id: how many letters or suppressions each had changed by then."""
        self._suppression_events = SuppressionEvents(events.sink)

    def compare(self, stats: QueueStats) -> None:
        """Log what is new since the last read; a pause that stands at the first one is logged as well."""
        now = {
            sender.email: (until(sender.paused_until), sender.pause_reason)
            for sender in stats.paused
            if sender.paused_until and sender.pause_cause == MANUAL
        }
        for sender, (end, reason) in now.items():
            if self._paused.get(sender) != (end, reason):
                self._events.sender_paused_manually(sender=sender, until=end, reason=reason)
        for sender in self._paused.keys() - now.keys():
            self._events.sender_resumed_manually(sender=sender)
        self._paused = now
        told = self._asked
        self._asked = {one.id: one.letters for one in stats.asked}
        if told is None:
            return
        oldest = min(told, default=0)  # of two at once the later one may be committed first
        for one in reversed(stats.asked):
            new = one.id > oldest and one.id not in told
            if one.actor.startswith(_COMMAND) and (new or one.letters > told.get(one.id, one.letters)):
                self._log_action(one, one.letters - told.get(one.id, 0))

    def _log_action(self, one: RecentAction, changed: int) -> None:
        events, mailing_list = self._suppression_events, one.detail or EVERYTHING_NAME
        if one.job is not None:
            self._events.job_action_by_command(job=one.job, action=one.action, actor=one.actor, letters=changed)
        elif one.sender is not None:
            self._events.sender_action_by_command(sender=one.sender, action=one.action, actor=one.actor)
        elif one.action == "suppress":
            events.suppressions_added_by_command(added=changed, mailing_list=mailing_list, actor=one.actor)
        else:
            events.suppression_removed_by_command(mailing_list=mailing_list, actor=one.actor)


STATS_INTERVAL: Final = 10.0
"""Seconds between two reads; a read that takes long is repeated less often."""
MIN_STATS_INTERVAL: Final = 1.0
"""Seconds between two reads where something has changed meanwhile."""
_STATS_SHARE: Final = 20
"""Reading may take one twentieth of the time, by the faster one of two reads in a row."""
_STATS_TIMEOUT: Final = 10.0
_CLOCKS_DIFFER: Final = 5.0
"""Seconds that this machine's clock may differ from the database's without a warning."""
_CLOCK_WARNING_INTERVAL: Final = 600.0
_CHANGES: Final = frozenset({
    "database_back", "job_accepted", "job_found", "job_asked", "job_finished", "sender_paused", "project_paused",
    "sender_resumed",
})  # fmt: skip
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
    clock: Clock = field(default_factory=Clock)
    latest: QueueStats | None = None
    """What was read last; None while the tables cannot be read."""
    _manual_changes: ManualChanges = field(init=False)
    _clock_warned_at: float = -_CLOCK_WARNING_INTERVAL

    def __post_init__(self) -> None:
        """Make the part that logs what people changed by hand."""
        self._manual_changes = ManualChanges(self.events)

    def current(self) -> QueueStats | None:
        """What was read last; None while the tables cannot be read."""
        return self.latest

    async def run(self) -> None:
        """Read, until cancelled."""
        heartbeat, took = self.heartbeats.register("stats"), 0.0
        while True:
            heartbeat.working("reading the tables")
            started = time.monotonic()
            was_read = await self._read()
            # A stream of changes costs no more than its share of the time. What had no answer cost nothing. One slow
            # read may have met a frozen database or a daemon that was stopped; two in a row are of large tables.
            before, took = took, time.monotonic() - started if was_read else 0.0
            least = max(MIN_STATS_INTERVAL, _STATS_SHARE * min(before, took))
            rest = max(STATS_INTERVAL, least)
            heartbeat.waiting("the next read of the tables", at_most=rest)
            await asyncio.sleep(least)
            await self.changes.wait(timeout=rest - least)

    async def _read(self) -> bool:
        """Whether the tables could be read."""
        try:
            async with asyncio.timeout(_STATS_TIMEOUT + 1):
                self.take(await self.read())
        except DatabaseAwayError:
            self.latest = None
        except (DatabaseError, TimeoutError) as error:
            self.latest = None
            self.events.stats_failed(cause=str(error) or "no answer within the time-out")
        except Exception as error:  # noqa: BLE001 - a row that a person wrote by hand, say, and that stays as it is
            self.latest = None
            self.events.stats_crashed(error=error)
        return self.latest is not None

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
