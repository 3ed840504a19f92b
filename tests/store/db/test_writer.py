"""Several hosts in database.url: the one that takes writes is found and followed, and no two are written to."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager

import pytest

from mailerd.config import DatabaseSettings
from mailerd.errors import DatabaseAwayError
from mailerd.events.process import StoreEvents
from mailerd.store.db.connection import Cursor
from mailerd.store.db.database import SWITCH_PATIENCE, Database
from mailerd.store.db.writer import NoWriterError
from tests.conftest import CACHE
from tests.support.cluster import SemiSynchronous, needs_mariadb, semi_synchronous
from tests.support.heard import PATIENCE, Heard
from tests.support.own_time import own_time
from tests.support.proxy import Proxy
from tests.support.replicated import as_admin

pytestmark = needs_mariadb

CONNECT = 4.0


@pytest.fixture
def cluster() -> Iterator[SemiSynchronous]:
    with semi_synchronous(CACHE) as cluster:
        as_admin(cluster.primary, "CREATE TABLE mailerd.t (id INT PRIMARY KEY)")
        cluster.until_equal()
        yield cluster


@asynccontextmanager
async def opened(url: str, heard: Heard) -> AsyncIterator[Database]:
    settings = DatabaseSettings(url=url, connect_timeout=CONNECT, statement_timeout=8, connect_attempts=1)
    database = Database(settings, events=StoreEvents(heard))
    try:
        yield database
    finally:
        await database.close()


def inserting(number: int) -> Callable[[Cursor], Awaitable[int]]:
    async def work(cursor: Cursor) -> int:
        await cursor.execute("INSERT INTO t VALUES (%s)", (number,))
        await cursor.execute("SELECT @@port")
        return int((await cursor.fetchone())[0])

    return work


async def write(database: Database, number: int) -> int:
    """Write a row; the port of the server that took it."""
    return await database.transaction(inserting(number), what="write")


async def until_written(database: Database, number: int, *, within: float = PATIENCE) -> int:
    async with asyncio.timeout(within):
        while True:
            try:
                return await write(database, number)
            except DatabaseAwayError:
                await asyncio.sleep(0.05)


async def test_the_server_that_takes_writes_is_used_wherever_it_stands_in_the_list(cluster: SemiSynchronous) -> None:
    await asyncio.to_thread(cluster.switch_over)
    heard = Heard()
    async with opened(cluster.url, heard) as database:
        await database.open()
        assert await write(database, 1) == cluster.primary.port
        assert database.where == f"127.0.0.1:{cluster.primary.port}"
        assert heard.of("database_connected")[0]["where"] == database.where
        assert heard.of("writer_changed") == []


@pytest.mark.parametrize("silent", [1, 2])
async def test_a_hung_host_holds_up_nobody(cluster: SemiSynchronous, silent: int) -> None:
    async with Proxy(cluster.primary.port) as proxy:
        await proxy.black_hole()
        hung = ",".join(f"127.0.0.{n + 1}:{proxy.port}" for n in range(silent))
        hosts = f"{hung},127.0.0.1:{cluster.primary.port}"
        async with opened(f"mysql://mailerd:{cluster.primary.password}@{hosts}/mailerd", Heard()) as database:
            began = own_time()
            assert await write(database, 1) == cluster.primary.port
            assert own_time() - began < CONNECT / 2


async def test_after_a_failover_the_new_primary_is_written_to(cluster: SemiSynchronous) -> None:
    heard = Heard()
    async with opened(cluster.url, heard) as database:
        old = cluster.primary
        assert await write(database, 1) == old.port
        old.kill()
        with pytest.raises(DatabaseAwayError):
            await write(database, 2)
        await asyncio.to_thread(cluster.fail_over)
        began = own_time()
        assert await until_written(database, 2) == cluster.primary.port
        assert own_time() - began < CONNECT
        (changed,) = heard.of("writer_changed")
        assert changed["where"] == f"127.0.0.1:{cluster.primary.port}"
        assert changed["before"] == f"127.0.0.1:{old.port}"
        assert database.pool.writer.moved_at is not None
        assert {port for port, used in database.pool.writer.servers.items() if used} == {changed["where"]}


async def test_what_waits_for_a_frozen_primary_is_let_go_when_another_takes_over(cluster: SemiSynchronous) -> None:
    async with opened(cluster.url, Heard()) as database:
        await write(database, 1)
        cluster.primary.freeze()
        waiting = asyncio.create_task(database.read(lambda cursor: cursor.execute("SELECT 1"), what="look", bound=30))
        await asyncio.to_thread(cluster.fail_over)
        began = own_time()
        await database.pool.writer.watch()
        with pytest.raises(DatabaseAwayError):
            await waiting
        assert own_time() - began < CONNECT
        assert await until_written(database, 2) == cluster.primary.port


async def test_a_connection_that_is_left_in_the_midst_of_its_use_ends_as_one_that_was_lost(
    cluster: SemiSynchronous,
) -> None:
    """Only its transport is cut: the driver, if it is closed while somebody reads, raises what nobody expects."""
    async with opened(cluster.url, Heard()) as database:

        async def work(cursor: Cursor) -> None:
            await cursor.execute("SELECT 1")
            await asyncio.to_thread(as_admin, cluster.replicas[0], "SET GLOBAL read_only = OFF")
            await database.pool.writer.watch()
            await cursor.execute("SELECT 2")

        with pytest.raises(DatabaseAwayError) as caught:
            await database.transaction(work, what="read")
        assert caught.value.errno in {2006, 2013}


async def test_while_two_servers_take_writes_neither_is_used(cluster: SemiSynchronous) -> None:
    heard = Heard()
    async with opened(cluster.url, heard) as database:
        await write(database, 1)
        as_admin(cluster.replicas[0], "SET GLOBAL read_only = OFF")
        await database.pool.writer.watch()
        with pytest.raises(DatabaseAwayError, match="take writes at once") as caught:
            await write(database, 2)
        assert isinstance(caught.value.__cause__, NoWriterError)
        assert "all but the primary" in caught.value.__cause__.remedy
        await database.pool.writer.watch()
        assert len(heard.of("several_writers")) == 1
        as_admin(cluster.replicas[0], "SET GLOBAL read_only = ON")
        assert await until_written(database, 2) == cluster.primary.port
        assert heard.of("writer_changed") == []


async def test_of_two_servers_that_took_writes_one_that_falls_silent_has_not_yielded_to_the_stale_one(
    cluster: SemiSynchronous,
) -> None:
    async with opened(cluster.url, Heard()) as database:
        old = cluster.primary
        await write(database, 1)
        old.kill()
        await asyncio.to_thread(cluster.fail_over)
        assert await until_written(database, 2) == cluster.primary.port
        await asyncio.to_thread(old.start)
        as_admin(old, "SET GLOBAL rpl_semi_sync_master_enabled = OFF", "SET GLOBAL read_only = OFF")
        await database.pool.writer.watch()
        cluster.primary.freeze()
        for _ in range(2):
            await database.pool.writer.watch()
            with pytest.raises(DatabaseAwayError, match=f"{cluster.primary.port} has not answered since"):
                await write(database, 3)
        cluster.primary.thaw()
        with pytest.raises(DatabaseAwayError, match="take writes at once"):
            await write(database, 3)
        as_admin(old, "SET GLOBAL read_only = ON")
        assert await until_written(database, 3) == cluster.primary.port
        assert as_admin(old, "SELECT id FROM mailerd.t WHERE id > 1") == []


async def test_of_two_servers_that_took_writes_the_one_in_use_goes_on_when_the_other_is_shut_off(
    cluster: SemiSynchronous,
) -> None:
    async with opened(cluster.url, Heard()) as database:
        await write(database, 1)
        as_admin(cluster.replicas[0], "SET GLOBAL read_only = OFF")
        await database.pool.writer.watch()
        cluster.replicas[0].kill()
        assert await until_written(database, 2) == cluster.primary.port


async def test_a_bug_in_a_look_is_logged_and_the_next_look_follows(
    cluster: SemiSynchronous, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard = Heard()
    async with opened(cluster.url, heard) as database:
        with monkeypatch.context() as broken:
            broken.setattr("mailerd.store.db.writer.choose", lambda _: 1 / 0)
            await database.pool.writer.watch()
        assert isinstance(heard.of("look_failed")[0]["error"], ZeroDivisionError)
        await database.pool.writer.watch()
        assert await write(database, 1) == cluster.primary.port


async def test_an_old_primary_without_replicas_is_left_for_the_new_one_though_both_take_writes(
    cluster: SemiSynchronous,
) -> None:
    async with opened(cluster.url, Heard()) as database:
        old = cluster.primary
        await write(database, 1)
        await asyncio.to_thread(cluster.fail_over)  # nobody has told the old one
        await database.pool.writer.watch()
        # The old one may still count replicas that have just left it: then neither is used, for a moment.
        assert await until_written(database, 2) == cluster.primary.port != old.port
        assert [role.writes for role in database.pool.writer.roles.values()].count(True) == 2


async def test_a_demoted_server_is_left_by_every_connection(cluster: SemiSynchronous) -> None:
    async with opened(cluster.url, Heard()) as database:
        await asyncio.gather(*(write(database, n) for n in range(4)))
        await asyncio.to_thread(cluster.switch_over)
        assert await until_written(database, 10) == cluster.primary.port
        assert database.pool.servers == {one for one in database.pool.servers if f":{cluster.primary.port}:" in one}


async def accept(database: Database, number: int) -> int:
    """The same as `write`, for a caller that waits."""
    return await database.request(inserting(number), what="accept a job", bound=CONNECT)


@pytest.mark.parametrize("known", [False, True])
async def test_a_caller_that_comes_while_the_writes_are_moved_waits_for_it(
    cluster: SemiSynchronous, *, known: bool
) -> None:
    """In good order: the old primary refuses writes by then, and no other server takes them yet."""
    heard = Heard()
    async with opened(cluster.url, heard) as database:
        old = cluster.primary
        await accept(database, 1)
        as_admin(old, "SET GLOBAL read_only = ON")
        if known:
            with pytest.raises(DatabaseAwayError):
                await write(database, 2)
        waiting = [asyncio.create_task(accept(database, number)) for number in (3, 4, 5)]
        await heard.wait_for("database_away")
        await asyncio.to_thread(cluster.switch_over)
        assert await asyncio.gather(*waiting) == [cluster.primary.port] * 3 != [old.port] * 3


async def test_a_caller_waits_for_no_longer_than_a_moment_and_later_ones_not_at_all(cluster: SemiSynchronous) -> None:
    async with opened(cluster.url, Heard()) as database:
        await accept(database, 1)
        as_admin(cluster.primary, "SET GLOBAL read_only = ON")
        began, own = time.monotonic(), own_time()
        with pytest.raises(DatabaseAwayError):
            await accept(database, 2)
        assert time.monotonic() - began >= SWITCH_PATIENCE
        assert own_time() - own < SWITCH_PATIENCE + 1
        began = own_time()
        with pytest.raises(DatabaseAwayError):
            await accept(database, 3)
        assert own_time() - began < SWITCH_PATIENCE / 2


async def test_where_none_takes_writes_each_server_is_named_with_its_reason(cluster: SemiSynchronous) -> None:
    cluster.primary.kill()
    async with opened(cluster.url, Heard()) as database:
        with pytest.raises(DatabaseAwayError) as caught:
            await write(database, 1)
    for node in cluster.replicas:
        assert f"127.0.0.1:{node.port}: read-only (read_only)" in str(caught.value)
    assert f"127.0.0.1:{cluster.primary.port}: " in str(caught.value)
