"""Which daemons there are: who they are, where they run, when they were last heard of."""

import os
import socket
import time
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from mailerd import __version__
from mailerd.errors import DatabaseError
from mailerd.events.process import StoreEvents
from mailerd.store.db.connection import Cursor
from mailerd.store.db.database import Database
from mailerd.store.queue.failover import ReplayLog
from mailerd.store.write import clock_steps
from mailerd.store.write.daemon_changes import set_stopped, write_heartbeat

_STOP_TIMEOUT: Final = 2.0
"""The most seconds that a stop waits for the database to record it."""
CLOCK_STEP: Final = timedelta(minutes=1)
"""By how much the database's clock may go back without a word: all that waits comes late by no more
than that.
"""


@dataclass
class Daemons:
    """The table of daemons, as one daemon uses it."""

    database: Database
    daemon_id: str
    replay_log: ReplayLog
    """It meets each server that takes a heartbeat: so a daemon that claims nothing replays its
    sends to a new one.
    """
    events: StoreEvents
    _heartbeats: int = field(default=0, init=False)
    """How many heartbeats the database has acknowledged."""
    _clock: tuple[datetime, float] | None = field(default=None, init=False)
    """The database's time at the last heartbeat, and the monotonic seconds then."""

    async def heartbeat(self) -> None:
        """Write a heartbeat."""
        # a daemon that is stopped after the answer must not take that for a step
        asked_at = time.monotonic()
        heartbeats, now, last, server = await self._write_heartbeat()
        if heartbeats <= self._heartbeats:  # some were forgotten, and so perhaps other commits
            self.replay_log.replay_again()
        self._heartbeats = heartbeats
        # first: others wait for it, and a new server's clock may be an older one
        await self.replay_log.meet(server)
        await self._follow_clock(now, last, asked_at=asked_at)

    async def _follow_clock(self, now: datetime, last: datetime | None, *, asked_at: float) -> None:
        """Put right what waits for a moment of a clock that was ahead.

        `last`: the latest heartbeat of any daemon.
        """
        expected = last
        if self._clock is not None:  # a row may have been written since the clock went back
            before, at = self._clock
            expected = before + timedelta(seconds=asked_at - at)
        back = expected - now if expected is not None else timedelta(0)
        if back >= CLOCK_STEP:
            await clock_steps.repair(self.database)
            self.events.database_clock_back(where=self.database.where, seconds=back.total_seconds())
        self._clock = now, time.monotonic()

    async def mark_stopped(self) -> None:
        """Record that this daemon stops in order: what it leaves in flight is no crash.

        A failure is ignored.

        It has nothing to replay any more either, so other daemons need not wait for it.
        """
        with suppress(DatabaseError):
            await self.database.transaction(
                lambda cursor: set_stopped(cursor, self.daemon_id),
                what="daemons.leave",
                bound=_STOP_TIMEOUT,
            )

    async def _write_heartbeat(self) -> tuple[int, datetime, datetime | None, str]:
        async def work(cursor: Cursor) -> tuple[int, datetime, datetime | None, str]:
            process = (socket.gethostname(), os.getpid(), __version__)
            heartbeats, now, last = await write_heartbeat(cursor, self.daemon_id, process=process)
            return heartbeats, now, last, cursor.server

        # What it reads belongs to this daemon alone, or only grows: it needs no BEGIN.
        return await self.database.transaction(work, what="daemons.beat", in_one_statement=True)
