"""Which daemons there are: who they are, where they run, when they were last heard of."""

import os
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from mailerd import __version__
from mailerd.errors import DatabaseError
from mailerd.store.db.cursor import Cursor
from mailerd.store.db.database import Database

_SET_STOPPED: Final = "UPDATE daemons SET stopped_at = UTC_TIMESTAMP(6), replayed_to = NULL WHERE id = %s"
_STOP_TIMEOUT: Final = 2.0
"""The most seconds that a stop waits for the database to record it."""


@dataclass
class Daemons:
    """The table of daemons, as one daemon uses it."""

    database: Database
    daemon_id: str
    on_lost_commits: Callable[[], None] = lambda: None
    """Called when the database has forgotten heartbeats that it had acknowledged, and so perhaps other commits."""
    _heartbeats: int = field(default=0, init=False)
    """How many heartbeats the database has acknowledged."""

    async def heartbeat(self) -> None:
        """Write a heartbeat; daemons without one for a week are deleted."""
        heartbeats = await self.database.transaction(self._write_heartbeat, what="beat")
        if heartbeats <= self._heartbeats:
            self.on_lost_commits()
        self._heartbeats = heartbeats

    async def mark_stopped(self) -> None:
        """Record that this daemon stops in order: what it leaves in flight is no crash. A failure is ignored.

        It has nothing to replay any more either, so other daemons need not wait for it.
        """
        with suppress(DatabaseError):
            await self.database.transaction(
                lambda cursor: cursor.execute(_SET_STOPPED, (self.daemon_id,)), what="leave", bound=_STOP_TIMEOUT
            )

    async def _write_heartbeat(self, cursor: Cursor) -> int:
        process = (socket.gethostname(), os.getpid(), __version__)
        await cursor.execute(
            "INSERT INTO daemons (id, host, pid, version, started_at, heartbeat_at, heartbeats) "
            "VALUES (%s, %s, %s, %s, UTC_TIMESTAMP(6), UTC_TIMESTAMP(6), 1) "
            "ON DUPLICATE KEY UPDATE heartbeat_at = UTC_TIMESTAMP(6), heartbeats = heartbeats + 1, "
            "host = %s, pid = %s, version = %s",
            (self.daemon_id, *process, *process),
        )
        await cursor.execute("SELECT heartbeats FROM daemons WHERE id = %s", (self.daemon_id,))
        heartbeats = int((await cursor.fetchone())[0])
        await cursor.execute("SELECT id FROM daemons WHERE heartbeat_at < UTC_TIMESTAMP(6) - INTERVAL 7 DAY LIMIT 100")
        for (silent,) in await cursor.fetchall():
            await cursor.execute("DELETE FROM daemons WHERE id = %s", (silent,))
        return heartbeats
