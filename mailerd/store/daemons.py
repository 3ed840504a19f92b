"""Which daemons there are: who they are, where they run, when they were last heard of."""

import os
import socket
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from mailerd import __version__
from mailerd.errors import DatabaseError
from mailerd.store.cursor import Cursor
from mailerd.store.database import Database

_GOODBYE: Final = 2.0
"""Seconds that a stop waits for a database at most to say so."""


@dataclass(frozen=True)
class Daemons:
    """The register, as one daemon uses it."""

    database: Database
    daemon_id: str

    async def beat(self) -> None:
        """Say that this daemon is there; those that were silent for a week are forgotten.

        Raises:
            DatabaseError: it could not be said.
        """
        await self.database.transaction(self._beat, what="beat")

    async def leave(self) -> None:
        """Say that it stops as it was told to: what it leaves in flight is no crash. It may be that nobody hears it."""
        with suppress(DatabaseError):
            await self.database.transaction(self._leave, what="leave", bound=_GOODBYE)

    async def _leave(self, cursor: Cursor) -> None:
        await cursor.execute("UPDATE daemons SET stopped_at = UTC_TIMESTAMP(6) WHERE id = %s", (self.daemon_id,))

    async def _beat(self, cursor: Cursor) -> None:
        await cursor.execute(
            "INSERT INTO daemons (id, host, pid, version, started_at, beat_at) "
            "VALUES (%s, %s, %s, %s, UTC_TIMESTAMP(6), UTC_TIMESTAMP(6)) "
            "ON DUPLICATE KEY UPDATE beat_at = UTC_TIMESTAMP(6)",
            (self.daemon_id, socket.gethostname(), os.getpid(), __version__),
        )
        await cursor.execute("SELECT id FROM daemons WHERE beat_at < UTC_TIMESTAMP(6) - INTERVAL 7 DAY LIMIT 100")
        for (silent,) in await cursor.fetchall():
            await cursor.execute("DELETE FROM daemons WHERE id = %s", (silent,))
