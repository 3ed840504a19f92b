"""Several hosts in database.url: the one that takes writes is found and followed."""

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
            assert own_time() - began < CONNECT


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


async def test_what_waits_for_a_frozen_primary_is_let_go_once_another_is_used(cluster: SemiSynchronous) -> None:
    async with opened(cluster.url, Heard()) as database:
        await write(database, 1)
        cluster.primary.freeze()
        waiting = asyncio.create_task(database.read(lambda cursor: cursor.execute("SELECT 1"), what="look", bound=60))
        await asyncio.to_thread(cluster.fail_over)
        assert await until_written(database, 2) == cluster.primary.port
        began = own_time()
        with pytest.raises(DatabaseAwayError):
            await waiting
        assert own_time() - began < CONNECT


async def test_a_connection_that_is_left_in_the_midst_of_its_use_ends_as_one_that_was_lost(
    cluster: SemiSynchronous,
) -> None:
    """Only its transport is cut: the driver, if it is closed while somebody reads, raises what nobody expects."""
    async with opened(cluster.url, Heard()) as database:

        async def work(cursor: Cursor) -> None:
            await cursor.execute("SELECT 1")
            await asyncio.to_thread(cluster.switch_over)
            assert await until_written(database, 1) == cluster.primary.port
            await cursor.execute("SELECT 2")

        with pytest.raises(DatabaseAwayError) as caught:
            await database.transaction(work, what="read", bound=PATIENCE)
        assert caught.value.errno in {2006, 2013}


async def test_the_host_in_use_goes_on_though_one_before_it_takes_writes_too(cluster: SemiSynchronous) -> None:
    """What comes back writable, first in the list, is not turned to: its cluster says which one is right."""
    await asyncio.to_thread(cluster.switch_over)
    heard = Heard()
    async with opened(cluster.url, heard) as database:
        await write(database, 1)
        as_admin(cluster.nodes[0], "SET GLOBAL read_only = OFF")
        await asyncio.gather(*(write(database, number) for number in range(2, 6)))
        assert await write(database, 6) == cluster.primary.port
        await database.pool.close()
        assert await write(database, 7) == cluster.primary.port
        assert heard.of("writer_changed") == []


async def test_a_primary_whose_commits_get_no_answer_is_left_for_the_new_one(cluster: SemiSynchronous) -> None:
    heard = Heard()
    async with opened(cluster.url, heard) as database:
        old = cluster.primary
        await asyncio.gather(*(write(database, number) for number in range(3)))
        await asyncio.to_thread(
            cluster.fail_over
        )  # nobody has told the old one, which waits for replicas that are gone
        with pytest.raises(DatabaseAwayError) as caught:
            await write(database, 3)
        assert caught.value.in_doubt
        assert await write(database, 4) == cluster.primary.port != old.port
        assert heard.of("writer_changed")[0]["cause"] == "no response to a COMMIT"
        assert as_admin(cluster.primary, "SELECT id FROM mailerd.t WHERE id > 2") == [(4,)]


async def test_a_primary_that_waits_for_its_replicas_is_used_again_where_no_other_takes_writes(
    cluster: SemiSynchronous,
) -> None:
    heard = Heard()
    async with opened(cluster.url, heard) as database:
        await write(database, 1)
        for replica in cluster.replicas:
            as_admin(replica, "STOP SLAVE IO_THREAD")
        with pytest.raises(DatabaseAwayError):
            await write(database, 2)
        for replica in cluster.replicas:
            as_admin(replica, "START SLAVE IO_THREAD")
        assert await until_written(database, 3) == cluster.primary.port
        assert heard.of("writer_changed") == []


async def test_who_only_reads_leaves_a_demoted_server_too(
    cluster: SemiSynchronous, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mailerd.store.db.writer.ASK_AFTER", 0.0)
    async with opened(cluster.url, Heard()) as database:
        assert await database.read_rows("SELECT @@port", what="read") == ((cluster.primary.port,),)
        await asyncio.to_thread(cluster.switch_over)
        assert await database.read_rows("SELECT @@port", what="read") == ((cluster.primary.port,),)


async def test_a_single_host_is_never_asked(cluster: SemiSynchronous, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mailerd.store.db.writer.read_only", None)
    monkeypatch.setattr("mailerd.store.db.writer.ASK_AFTER", 0.0)
    async with opened(cluster.replicas[0].url, Heard()) as database:
        for _ in range(2):
            assert await database.read_rows("SELECT 1", what="read") == ((1,),)


async def test_who_comes_while_the_hosts_are_tried_in_vain_does_not_try_them_again(cluster: SemiSynchronous) -> None:
    cluster.primary.freeze()
    async with opened(cluster.url, Heard()) as database:
        began = own_time()
        failed = await asyncio.gather(*(write(database, number) for number in range(4)), return_exceptions=True)
        assert own_time() - began < CONNECT
        assert all(isinstance(it, DatabaseAwayError) and "no response within 1 s" in str(it) for it in failed), failed
    cluster.primary.thaw()


async def test_a_demoted_server_is_left_by_every_connection(cluster: SemiSynchronous) -> None:
    async with opened(cluster.url, Heard()) as database:
        await asyncio.gather(*(write(database, n) for n in range(4)))
        await asyncio.to_thread(cluster.switch_over)
        assert await until_written(database, 10) == cluster.primary.port
        assert database.pool.servers == {one for one in database.pool.servers if f":{cluster.primary.port}:" in one}


async def accept(database: Database, number: int) -> int:
    """The same as `write`, for a caller that waits."""
    return await database.request(inserting(number), what="jobs.accept", bound=CONNECT)


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
        await heard.wait_for("database_unavailable")
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
