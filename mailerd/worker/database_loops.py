"""The loops of a daemon for its database: heartbeat, pruning, and the search for the server that takes writes."""

from collections.abc import Awaitable, Callable
from typing import Final, NoReturn

from mailerd.errors import DatabaseError
from mailerd.events.worker import RunnerEvents
from mailerd.ops.heartbeat import Heartbeat, Heartbeats
from mailerd.ops.periodic import every
from mailerd.store.daemons import Daemons
from mailerd.store.db.database import Database
from mailerd.store.db.writer import WATCH_INTERVAL
from mailerd.store.tallies import Tallies

HEARTBEAT_INTERVAL: Final = 10.0
PRUNE_INTERVAL: Final = 600.0
"""Seconds between two rounds that merge the tallies of old minutes into hours."""


async def heartbeat_loop(daemons: Daemons, heartbeats: Heartbeats, events: RunnerEvents) -> NoReturn:
    """Write the heartbeat of this daemon, until cancelled."""
    heartbeat = heartbeats.register("heartbeat")
    await _every(HEARTBEAT_INTERVAL, daemons.heartbeat, name="beating", heartbeat=heartbeat, events=events)


async def prune_loop(tallies: Tallies, heartbeats: Heartbeats, events: RunnerEvents) -> NoReturn:
    """Merge the tallies of old minutes into hours, until cancelled."""
    heartbeat = heartbeats.register("prune tallies")
    await _every(PRUNE_INTERVAL, tallies.prune, name="pruning tallies", heartbeat=heartbeat, events=events)


async def _every(
    interval: float,
    work: Callable[[], Awaitable[bool | None]],
    *,
    name: str,
    heartbeat: Heartbeat,
    events: RunnerEvents,
) -> NoReturn:
    def failed(error: DatabaseError) -> None:
        events.step_failed(what=name, again_in=interval, error=error)

    await every(interval, work, name=name, first_after=interval, heartbeat=heartbeat, on_error=failed)


async def watch_writer_loop(database: Database, heartbeats: Heartbeats) -> NoReturn:
    """Follow the server that takes the writes, where database.url names several, until cancelled."""
    await every(
        WATCH_INTERVAL, database.pool.writer.watch, name="watching the servers", first_after=WATCH_INTERVAL,
        heartbeat=heartbeats.register("database servers"),
    )  # fmt: skip
