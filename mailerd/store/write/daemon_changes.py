"""Every change of a row of `daemons`: no other file writes that table, but for what is deleted by
age.
"""

from datetime import datetime
from typing import Final

from mailerd.store.db.connection import Cursor
from mailerd.store.db.database import Database

# No other daemon counts in this row.
_BEFORE_BEAT: Final = """
SELECT UTC_TIMESTAMP(6), (SELECT MAX(heartbeat_at) FROM daemons), (SELECT heartbeats FROM daemons WHERE id = %s)"""
_BEAT: Final = """
INSERT INTO daemons (id, host, pid, version, started_at, heartbeat_at, heartbeats)
VALUES (%s, %s, %s, %s, UTC_TIMESTAMP(6), UTC_TIMESTAMP(6), 1)
    ON DUPLICATE KEY UPDATE heartbeat_at = UTC_TIMESTAMP(6), heartbeats = heartbeats + 1, host = %s, pid = %s,
       version = %s"""
# It is a heartbeat too: while failovers follow one another, the heartbeats themselves may fail.
_RECORD_REPLAY: Final = """
INSERT INTO daemons (id, host, pid, version, started_at, heartbeat_at, replayed_to)
VALUES (%s, '', 0, '', UTC_TIMESTAMP(6), UTC_TIMESTAMP(6), %s)
    ON DUPLICATE KEY UPDATE replayed_to = %s, heartbeat_at = UTC_TIMESTAMP(6)"""
_SET_STOPPED: Final = (
    "UPDATE daemons SET stopped_at = UTC_TIMESTAMP(6), replayed_to = NULL WHERE id = %s"
)
_CLOCK_WENT_BACK: Final = (
    "UPDATE daemons SET heartbeat_at = UTC_TIMESTAMP(6) WHERE heartbeat_at > UTC_TIMESTAMP(6)",
)


async def follow_clock(database: Database) -> None:
    """Bring back the moments that a clock that was ahead has left."""
    for statement in _CLOCK_WENT_BACK:
        await database.execute(statement, what="clock.follow")


async def write_heartbeat(
    cursor: Cursor, daemon: str, *, process: tuple[str, int, str]
) -> tuple[int, datetime, datetime | None]:
    """Note that a daemon lives; how often it has, the time of now, and the latest heartbeat before
    of any daemon.

    `process`: its host, its process id and its version.
    """
    await cursor.execute(_BEFORE_BEAT, (daemon,))
    now, last, before = await cursor.fetchone()
    await cursor.execute(_BEAT, (daemon, *process, *process))
    return (before or 0) + 1, now, last


async def record_replay(cursor: Cursor, daemon: str, *, server: str) -> None:
    """Note that a daemon has replayed its sends to a server."""
    await cursor.execute(_RECORD_REPLAY, (daemon, server, server))


async def set_stopped(cursor: Cursor, daemon: str) -> None:
    """Note that a daemon stops in order."""
    await cursor.execute(_SET_STOPPED, (daemon,))
