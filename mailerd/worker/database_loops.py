"""What a daemon does for its database now and then: it says that it lives, prunes, looks which server takes writes."""

from typing import Final, NoReturn

from mailerd.errors import DatabaseError
from mailerd.events.worker import RunnerEvents
from mailerd.ops.heartbeat import Heartbeats
from mailerd.ops.periodic import every
from mailerd.store.daemons import Daemons
from mailerd.store.db.database import Database
from mailerd.store.db.writer import WATCH_INTERVAL
from mailerd.store.tallies import Tallies

HEARTBEAT_INTERVAL: Final = 10.0
PRUNE_INTERVAL: Final = 600.0
"""Seconds between two rounds that make hours of old minutes."""


async def heartbeat_loop(daemons: Daemons, heartbeats: Heartbeats, events: RunnerEvents) -> NoReturn:
    """Say that this daemon is there, until cancelled."""

    def failed(error: DatabaseError) -> None:
        events.step_failed(what="beating", again_in=HEARTBEAT_INTERVAL, error=error)

    await every(
        HEARTBEAT_INTERVAL, daemons.heartbeat, name="beating", first_after=HEARTBEAT_INTERVAL,
        heartbeat=heartbeats.register("heartbeat"), on_error=failed,
    )  # fmt: skip


async def prune_loop(tallies: Tallies, heartbeats: Heartbeats, events: RunnerEvents) -> NoReturn:
    """Make hours of the minutes that are old, until cancelled."""

    def failed(error: DatabaseError) -> None:
        events.step_failed(what="pruning tallies", again_in=PRUNE_INTERVAL, error=error)

    await every(
        PRUNE_INTERVAL, tallies.prune, name="pruning tallies", first_after=PRUNE_INTERVAL,
        heartbeat=heartbeats.register("prune tallies"), on_error=failed,
    )  # fmt: skip


async def watch_writer_loop(database: Database, heartbeats: Heartbeats) -> NoReturn:
    """Follow the server that takes the writes, where database.url names several, until cancelled."""
    await every(
        WATCH_INTERVAL, database.pool.writer.watch, name="watching the servers", first_after=WATCH_INTERVAL,
        heartbeat=heartbeats.register("database servers"),
    )  # fmt: skip
