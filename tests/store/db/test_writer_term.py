"""A former primary that comes back is not written to, whatever it says: its term is lower than the others'."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager

import pytest

from mailerd.config import DatabaseSettings
from mailerd.errors import DatabaseAwayError
from mailerd.events.process import StoreEvents
from mailerd.sandbox.mariadb import Server
from mailerd.store.db.database import Database
from mailerd.store.db.migrate import migrate
from tests.conftest import CACHE
from tests.store.db.test_writer import until_written, write
from tests.support.cluster import SemiSynchronous, needs_mariadb, semi_synchronous
from tests.support.heard import Heard
from tests.support.replicated import as_admin

pytestmark = needs_mariadb

CONNECT = 4.0
TERM = "SELECT term FROM mailerd.writer_terms"
ASYNCHRONOUS = ("SET GLOBAL rpl_semi_sync_master_enabled = OFF", "SET GLOBAL read_only = OFF")
"""What an old primary has that comes back without its configuration."""


@asynccontextmanager
async def daemon(servers: Sequence[Server], heard: Heard) -> AsyncIterator[Database]:
    """The database as a daemon has it that was started now."""
    hosts = ",".join(f"127.0.0.1:{server.port}" for server in servers)
    url = f"mysql://mailerd:{servers[0].password}@{hosts}/mailerd"
    settings = DatabaseSettings(url=url, connect_timeout=CONNECT, statement_timeout=8, connect_attempts=1)
    database = Database(settings, events=StoreEvents(heard))
    database.pool.writer.sends = True
    try:
        yield database
    finally:
        await database.close()


@pytest.fixture
def cluster() -> Iterator[SemiSynchronous]:
    with semi_synchronous(CACHE) as cluster:
        yield cluster


@pytest.fixture
async def prepared(cluster: SemiSynchronous) -> SemiSynchronous:
    """A daemon has made the tables, and uses the primary: the first term is its."""
    async with daemon(cluster.nodes, Heard()) as database:
        await migrate(database, events=StoreEvents(Heard()))
        await database.pool.writer.watch()
    await asyncio.to_thread(as_admin, cluster.primary, "CREATE TABLE mailerd.t (id INT PRIMARY KEY)")
    await asyncio.to_thread(cluster.until_equal)
    assert as_admin(cluster.primary, TERM) == [(1,)]
    return cluster


async def moved(cluster: SemiSynchronous) -> Server:
    """Another server has taken over, a daemon has written to it, and the old primary is back and takes writes."""
    old = cluster.primary
    old.kill()
    await asyncio.to_thread(cluster.fail_over)
    async with daemon(cluster.nodes, Heard()) as database:
        assert await until_written(database, 1) == cluster.primary.port
    await asyncio.to_thread(cluster.until_equal_but, old)
    await asyncio.to_thread(old.start)
    as_admin(old, *ASYNCHRONOUS)
    return old


async def test_the_term_grows_with_every_move_and_stays_where_a_server_is_restarted(prepared: SemiSynchronous) -> None:
    for number in (2, 3):
        await asyncio.to_thread(prepared.switch_over)
        for row in (number * 10, number * 10 + 1):  # two daemons, one after the other
            async with daemon(prepared.nodes, Heard()) as database:
                assert await until_written(database, row) == prepared.primary.port
        assert as_admin(prepared.primary, TERM) == [(number,)]


async def test_two_daemons_that_come_at_once_raise_it_once(prepared: SemiSynchronous) -> None:
    await asyncio.to_thread(prepared.switch_over)
    async with daemon(prepared.nodes, Heard()) as one, daemon(prepared.nodes, Heard()) as other:
        await asyncio.gather(until_written(one, 1), until_written(other, 2))
    assert as_admin(prepared.primary, TERM) == [(2,)]


async def test_a_daemon_that_starts_while_the_right_primary_is_silent_does_not_use_the_former_one(
    prepared: SemiSynchronous,
) -> None:
    old, heard = await moved(prepared), Heard()
    prepared.primary.freeze()
    async with daemon(prepared.nodes, heard) as database:
        for number in (2, 3):
            with pytest.raises(DatabaseAwayError, match="a former primary: the writes have moved since"):
                await write(database, number)
        assert [each["where"] for each in heard.of("former_primary")] == [f"127.0.0.1:{old.port}"]
        prepared.primary.thaw()
        assert await until_written(database, 4) == prepared.primary.port
    assert as_admin(old, "SELECT id FROM mailerd.t") == []


async def test_a_daemon_that_has_seen_the_move_needs_no_third_server_to_know_it(prepared: SemiSynchronous) -> None:
    async with daemon(prepared.nodes, Heard()) as database:
        await write(database, 9)
        old = await moved(prepared)
        assert await until_written(database, 2) == prepared.primary.port
        for node in prepared.nodes:
            if node is not old:
                node.kill()
        for _ in range(2):
            await database.pool.writer.watch()
            with pytest.raises(DatabaseAwayError, match="a former primary"):
                await write(database, 3)
    assert as_admin(old, "SELECT id FROM mailerd.t WHERE id > 1 AND id < 9") == []


async def test_the_right_primary_goes_on_though_a_former_one_takes_writes_too(prepared: SemiSynchronous) -> None:
    heard = Heard()
    async with daemon(prepared.nodes, heard) as database:
        await write(database, 9)
        old = await moved(prepared)
        for number in (2, 3):
            await database.pool.writer.watch()
            assert await write(database, number) == prepared.primary.port
        assert len(heard.of("former_primary")) == 1
        assert heard.of("several_writers") == []
        as_admin(old, "SET GLOBAL read_only = ON")
        await database.pool.writer.watch()
        as_admin(old, "SET GLOBAL read_only = OFF")
        await database.pool.writer.watch()
        assert len(heard.of("former_primary")) == 2


async def test_a_replica_that_was_behind_may_be_promoted_though_another_one_has_more(
    prepared: SemiSynchronous,
) -> None:
    """What is lost is lost: the term tells who took over, not who has most."""
    behind, ahead = prepared.replicas
    as_admin(behind, "STOP SLAVE")
    async with daemon(prepared.nodes, Heard()) as database:
        await write(database, 1)
        await asyncio.to_thread(prepared.until_equal_but, behind)  # a replica that has it is not yet one that shows it
        prepared.primary.kill()
        as_admin(ahead, "STOP SLAVE")
        as_admin(behind, "RESET SLAVE ALL", *ASYNCHRONOUS)
        prepared.primary = behind
        assert await until_written(database, 2) == behind.port
    assert as_admin(behind, TERM) == [(2,)]
    assert as_admin(ahead, "SELECT id FROM mailerd.t") == [(1,)]


async def test_an_older_backup_in_the_server_in_use_does_not_make_it_a_former_primary(
    prepared: SemiSynchronous,
) -> None:
    async with daemon(prepared.nodes, Heard()) as database:
        await asyncio.to_thread(prepared.switch_over)
        assert await until_written(database, 1) == prepared.primary.port
        as_admin(prepared.primary, "UPDATE mailerd.writer_terms SET term = 0")
        await asyncio.to_thread(prepared.until_equal)
        await database.pool.writer.watch()
        assert await write(database, 2) == prepared.primary.port
    assert as_admin(prepared.primary, TERM) == [(2,)]


async def test_a_daemon_that_starts_takes_no_server_at_its_word_that_is_all_alone(prepared: SemiSynchronous) -> None:
    for node in prepared.replicas:
        node.kill()
    as_admin(prepared.primary, *ASYNCHRONOUS)
    async with daemon(prepared.nodes, Heard()) as database:
        with pytest.raises(DatabaseAwayError, match="it may be a former primary: 1 of 3 servers answer"):
            await write(database, 1)
        await asyncio.to_thread(prepared.replicas[0].start)
        assert await until_written(database, 2) == prepared.primary.port
        prepared.replicas[0].kill()
        await database.pool.writer.watch()
        assert await until_written(database, 3) == prepared.primary.port  # it has used it
    async with daemon([prepared.primary, prepared.replicas[1]], Heard()) as of_two:
        assert await write(of_two, 4) == prepared.primary.port


async def test_whoever_was_stopped_for_long_looks_before_the_next_use(
    prepared: SemiSynchronous, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with daemon(prepared.nodes, Heard()) as database:
        assert await write(database, 1) == prepared.primary.port
        old = prepared.primary
        await asyncio.to_thread(prepared.fail_over)  # and nobody ends the old one: its connection is as good as ever
        as_admin(old, "SET GLOBAL read_only = ON")
        async with daemon(prepared.nodes, Heard()) as other:
            await until_written(other, 2)
        as_admin(old, *ASYNCHRONOUS)
        monkeypatch.setattr("mailerd.store.db.writer.MAX_LOOK_AGE", 0.0)
        assert await until_written(database, 3) == prepared.primary.port
    assert as_admin(old, "SELECT id FROM mailerd.t") == [(1,)]
