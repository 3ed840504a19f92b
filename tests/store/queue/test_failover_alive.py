"""After a failover each daemon tells what it has sent, and waits for all others that live."""

import asyncio
import time
from types import SimpleNamespace

import pytest

from mailerd.core.claims import ClaimedRecipient
from mailerd.errors import DatabaseAwayError, DatabaseError
from mailerd.store.db.database import Database
from mailerd.store.queue import failover
from mailerd.store.read.daemons import Daemons
from mailerd.store.write import clock_steps, daemon_changes
from tests.store.queue.test_failover import Daemon, forget, one, other
from tests.support.rows import post, query, states

__all__ = ["one", "other"]
READ_ONLY = "SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = 1290 -- %s %s %s"


async def waits_until_told(other: Daemon, one: Daemon, message: ClaimedRecipient) -> None:
    """The daemon `other` claims nothing before `one` has told the server of its message, and then what is left."""
    for _ in range(3):
        assert await other.messages(2) == ()
    assert len(await one.ready(0)) == 0
    assert await other.messages(2) == ()
    (left,) = await other.messages(2)
    assert left.id != message.id


@pytest.mark.parametrize("away, forgotten", [(60, 0), (3, 50)], ids=["away for long", "far behind"])
async def test_others_are_waited_for_though_their_heartbeats_are_old(
    database: Database, one: Daemon, other: Daemon, away: int, forgotten: int
) -> None:
    """No heartbeat is written while the database is away, and a replica that was behind lacks the last ones."""
    await post(database, recipients=2)
    (message,) = await one.ready(1)
    assert len(await other.ready(0)) == 0
    await one.sends(message)
    await forget(database)
    await query(database, "UPDATE daemons SET replayed_to = 'another since 1'")
    await query(database, "UPDATE daemons SET heartbeat_at = heartbeat_at - INTERVAL %s SECOND", away + forgotten)
    for daemon in (one, other):
        daemon.replay_log._used_at -= away
        daemon.meets_another()
    await waits_until_told(other, one, message)


async def test_a_daemon_that_claims_nothing_tells_by_its_heartbeat(database: Database, one: Daemon) -> None:
    """It is drained, or has no way to Google: the others wait for it all the same, and not for long."""
    job = await post(database, recipients=2)
    (message,) = await one.ready(1)
    await one.sends(message)
    await forget(database)
    one.meets_another()
    await Daemons(database, one.name, one.replay_log, one.replay_log.events).heartbeat()
    assert await states(database, job) == {"sent": 1, "waiting": 1}
    (left,) = await one.messages(2)  # nothing is left to be told
    assert left.id != message.id


async def test_a_new_server_whose_clock_is_behind_is_told_before_its_moments_are_put_right(
    database: Database, one: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That goes over all tables, and may meet a lock; the others wait for twenty seconds."""

    async def locked(_: Database) -> None:
        raise DatabaseError("follow", phase="work", cause=OSError(), errno=1205, retry=True, in_doubt=False)

    job = await post(database, recipients=2)
    (message,) = await one.ready(1)
    await one.sends(message)
    await forget(database)
    one.meets_another()
    await query(database, "UPDATE daemons SET heartbeat_at = heartbeat_at + INTERVAL 1 HOUR")
    monkeypatch.setattr(clock_steps, "repair", locked)
    with pytest.raises(DatabaseError):
        await Daemons(database, one.name, one.replay_log, one.replay_log.events).heartbeat()
    assert await states(database, job) == {"sent": 1, "waiting": 1}


async def test_others_have_their_time_from_when_a_new_server_takes_writes(
    database: Database, one: Daemon, other: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A replica behind one name is met while it is read-only, and promoted once the primary was given up for long."""
    await post(database, recipients=2)
    (message,) = await one.ready(1)
    assert len(await other.ready(0)) == 0
    await one.sends(message)
    await forget(database)
    await query(database, "UPDATE daemons SET replayed_to = 'another since 1'")
    for daemon in (one, other):
        daemon.meets_another()
    with monkeypatch.context() as read_only:
        read_only.setattr(daemon_changes, "_RECORD_REPLAY", READ_ONLY)
        with pytest.raises(DatabaseAwayError):
            await other.messages(2)
        for it in other.replay_log._unreplayed.values():  # so long ago
            it.at -= 120
        other.replay_log._used_at -= 120
        with pytest.raises(DatabaseAwayError):
            await other.messages(2)
    await query(database, "UPDATE daemons SET heartbeat_at = heartbeat_at - INTERVAL 120 SECOND")
    await waits_until_told(other, one, message)


async def test_others_have_their_time_also_where_the_server_was_met_and_left_before(
    database: Database, one: Daemon, other: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A router that flaps leads to a replica for a moment; the real failover to it comes an hour later."""
    await post(database, recipients=2)
    (message,) = await one.ready(1)
    assert len(await other.ready(0)) == 0
    await query(database, "UPDATE daemons SET replayed_to = 'another since 1'")
    other.meets_another()
    assert await other.messages(2) == ()
    await one.sends(message)
    await forget(database)
    one.meets_another()
    monkeypatch.setattr(failover, "time", SimpleNamespace(monotonic=lambda: time.monotonic() + 3600))
    await waits_until_told(other, one, message)


async def test_a_server_that_was_used_before_another_one_is_told_again(
    database: Database, one: Daemon, other: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The writes move to a replica, back again, and an hour later once more: by then it may lack the last commits."""

    def moved_to(server: str) -> None:
        for connection in database.pool._idle[1:]:
            connection.server = server

    await post(database, recipients=2)
    await asyncio.gather(*(query(database, "SELECT SLEEP(0.1)") for _ in range(3)))  # one of these stays idle, and open
    assert (await one.ready(0), await other.ready(0)) == ((), ())
    (replica,) = one.replay_log._servers
    moved_to("the primary since 1")
    assert (await one.messages(0), await other.messages(0)) == ((), ())
    monkeypatch.setattr(failover, "time", SimpleNamespace(monotonic=lambda: time.monotonic() + 3600))
    assert (await one.messages(0), await other.messages(0)) == ((), ())
    (message,) = await one.messages(1)
    await one.sends(message)
    assert await other.messages(0) == ()
    await forget(database)
    moved_to(replica)
    await waits_until_told(other, one, message)
