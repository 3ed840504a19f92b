"""A replay log for tests in which the database has lost nothing: nothing has to be replayed before a claim."""

from collections.abc import Sequence
from datetime import timedelta
from typing import override

from mailerd.core.claims import ClaimedRecipient
from mailerd.events.base import EventSink
from mailerd.events.process import StoreEvents
from mailerd.store.db.connection import Cursor
from mailerd.store.db.database import Database
from mailerd.store.queue.failover import ReplayLog
from mailerd.store.read.daemons import Daemons


class Replayed(ReplayLog):
    """Takes every server for one to which all was replayed."""

    @override
    def is_replayed(self, cursor: Cursor) -> bool:
        return True

    @override
    async def meet(self, server: str) -> None:
        pass

    @override
    async def check_claimed(self, cursor: Cursor, claimed: Sequence[ClaimedRecipient]) -> None:
        pass


def replayed(database: Database, daemon: str = "D1") -> ReplayLog:
    """The log of a daemon whose records are all known to the database."""
    return Replayed(database, daemon, timedelta(seconds=60), StoreEvents(lambda *_: None))


def daemons(database: Database, daemon: str, sink: EventSink = lambda *_: None) -> Daemons:
    """The table of daemons for such a one."""
    return Daemons(database, daemon, replayed(database, daemon), StoreEvents(sink))
