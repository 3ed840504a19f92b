"""After a failover each daemon tells what it has sent, and waits for all others that live."""

import pytest

from mailerd.store.daemons import Daemons
from mailerd.store.db.database import Database
from tests.store.queue.test_failover import Daemon, forget, one, other
from tests.support.rows import post, query, states

__all__ = ["one", "other"]


@pytest.mark.parametrize("away, forgotten", [(60, 0), (3, 50)], ids=["away for long", "far behind"])
async def test_others_are_waited_for_though_their_heartbeats_are_old(
    database: Database, one: Daemon, other: Daemon, away: int, forgotten: int
) -> None:
    """No heartbeat is written while the database is away, and a replica that was behind lacks the last ones."""
    await post(database, recipients=2)
    (letter,) = await one.ready(1)
    assert len(await other.ready(0)) == 0
    await one.sends(letter)
    await forget(database)
    await query(database, "UPDATE daemons SET replayed_to = 'another since 1'")
    await query(database, "UPDATE daemons SET heartbeat_at = heartbeat_at - INTERVAL %s SECOND", away + forgotten)
    for daemon in (one, other):
        daemon.replay_log._used_at -= away
        daemon.meets_another()
    for _ in range(3):
        assert await other.letters(2) == ()
    assert len(await one.ready(0)) == 0
    assert await other.letters(2) == ()
    (left,) = await other.letters(2)
    assert left.id != letter.id


async def test_a_daemon_that_claims_nothing_tells_by_its_heartbeat(database: Database, one: Daemon) -> None:
    """It is drained, or has no way to Google: the others wait for it all the same, and not for long."""
    job = await post(database, recipients=2)
    (letter,) = await one.ready(1)
    await one.sends(letter)
    await forget(database)
    one.meets_another()
    await Daemons(database, one.name, on_server=one.replay_log.meet).heartbeat()
    assert await states(database, job) == {"sent": 1, "waiting": 1}
    (left,) = await one.letters(2)  # nothing is left to be told
    assert left.id != letter.id
