"""The pool: sessions are as promised, what was cut off is never used again, and nothing is leaked."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from yarl import URL

from mailerd.config import DatabaseSettings
from mailerd.errors import DatabaseError
from mailerd.events.process import StoreEvents
from mailerd.sandbox.mariadb import Server
from mailerd.store.db import pool as pool_module
from mailerd.store.db.connection import Cursor
from mailerd.store.db.pool import Pool
from tests.support.dialect import is_mariadb
from tests.support.eventually import eventually
from tests.support.heard import PATIENCE, Heard
from tests.support.own_time import own_time
from tests.support.proxy import Proxy
from tests.support.read_only import as_admin

BUSY = "SELECT BENCHMARK(4000000000, SHA2('x', 512))"
"""A statement that does not notice that its client has gone, unlike SLEEP; max_statement_time would end it."""


def running(*statements: str) -> Callable[[Cursor], Awaitable[list[tuple[Any, ...]]]]:
    """Work that runs these statements and returns the rows of the last."""

    async def work(cursor: Cursor) -> list[tuple[Any, ...]]:
        for statement in statements:
            await cursor.execute(statement)
        return list(await cursor.fetchall())

    return work


async def rows(pool: Pool, *statements: str, bound: float | None = None) -> list[tuple[Any, ...]]:
    return await pool.transaction(running(*statements), what="test", bound=bound)


async def until(pool: Pool, *, shows: str, threads: int = 1) -> None:
    """Until the server runs so many statements that begin so."""
    look = f"SELECT COUNT(*) FROM information_schema.processlist WHERE db = DATABASE() AND info LIKE '{shows}%'"

    async def shown() -> bool:
        return bool((await rows(pool, look))[0][0] == threads)

    await eventually(shown)


async def threads(pool: Pool) -> set[int]:
    """The ids of the server's connections to this test's database."""
    return {i for (i,) in await rows(pool, "SELECT id FROM information_schema.processlist WHERE db = DATABASE()")}


async def test_every_connection_has_the_session_that_the_sql_relies_on(pool: Pool) -> None:
    together = asyncio.Barrier(4)
    mariadb = "@@session.max_statement_time, @@session.idle_transaction_timeout"
    limits = mariadb if is_mariadb() else "@@session.max_execution_time / 1000, 10"
    isolation = "tx_isolation" if is_mariadb() else "transaction_isolation"  # MariaDB 10.6 has no other name for it

    async def work(cursor: Cursor) -> tuple[Any, ...]:
        await together.wait()
        await cursor.execute(
            f"SELECT @@session.{isolation}, @@session.time_zone, @@session.innodb_lock_wait_timeout, "
            "@@session.lock_wait_timeout, @@session.wait_timeout, @@session.net_write_timeout, "
            f"{limits}, @@session.sql_mode, "
            "@@session.character_set_client, CONNECTION_ID()"
        )
        seen: tuple[Any, ...] = await cursor.fetchone()
        return seen

    seen = await asyncio.gather(*(pool.transaction(work, what="test") for _ in range(4)))
    mode = "STRICT_TRANS_TABLES,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION"
    idle = 600 if is_mariadb() else 20  # on MySQL it bounds a transaction that stands still, too
    expected = ("READ-COMMITTED", "+00:00", 2, 4, idle, 10, 8.0, 10, mode, "utf8mb4")
    assert {session[:-1] for session in seen} == {expected}
    assert len({session[-1] for session in seen}) == 4


async def test_limits_that_the_server_sets_for_its_users_neither_refuse_a_statement_nor_leave_out_rows(
    database_url: str, heard: Heard, mariadb: Server
) -> None:
    given = {"sql_big_selects": (0, 1), "max_join_size": (2, (1 << 64) - 1), "sql_select_limit": (2, (1 << 64) - 1),
             "sql_safe_updates": (1, 0)}  # fmt: skip
    for name, (limit, _) in given.items():
        as_admin(mariadb, f"SET GLOBAL {name} = {limit}")
    pool = Pool(DatabaseSettings(url=database_url), events=StoreEvents(heard))
    try:
        create = "CREATE TABLE many (id INT PRIMARY KEY, v INT NOT NULL) ENGINE=InnoDB"
        await rows(pool, create, "INSERT INTO many VALUES (1, 0), (2, 0), (3, 0)", "UPDATE many SET v = 1")
        assert await rows(pool, "SELECT id FROM many WHERE v = 1") == [(1,), (2,), (3,)]
    finally:
        await pool.close()
        for name, (_, default) in given.items():
            as_admin(mariadb, f"SET GLOBAL {name} = {default}")


async def test_the_language_of_the_servers_dates_fails_no_statement(
    database_url: str, heard: Heard, mariadb: Server
) -> None:
    """A server that is set up for China has zh_CN; MariaDB then refused what `mailerd audit` asks."""
    as_admin(mariadb, "SET GLOBAL lc_time_names = 'zh_CN'")
    pool = Pool(DatabaseSettings(url=database_url), events=StoreEvents(heard))
    try:
        create = "CREATE TABLE dated (id CHAR(3) CHARACTER SET ascii COLLATE ascii_bin, at DATETIME(6)) ENGINE=InnoDB"
        ask = "SELECT CONCAT(id, ':', DATE_FORMAT(at, '%Y')) FROM dated"
        assert await rows(pool, create, "INSERT INTO dated VALUES ('one', '2026-11-28')", ask) == [("one:2026",)]
    finally:
        await pool.close()
        as_admin(mariadb, "SET GLOBAL lc_time_names = 'en_US'")


async def test_a_row_that_matched_counts_though_nothing_in_it_changed(pool: Pool) -> None:
    async def work(cursor: Cursor) -> int:
        await cursor.execute("UPDATE t SET v = v WHERE id = 1")
        return int(cursor.rowcount)

    assert await pool.transaction(work, what="test") == 1


async def test_a_healthy_connection_is_used_again(pool: Pool) -> None:
    ids = {(await rows(pool, "SELECT CONNECTION_ID()"))[0] for _ in range(5)}
    assert len(ids) == 1
    assert pool.connections == 1


@pytest.mark.parametrize("cut", ["cancelled", "timed out"])
async def test_a_call_that_was_cut_off_is_killed_its_locks_are_free_and_its_connection_is_never_used_again(
    pool: Pool, cut: str
) -> None:
    cut_off = asyncio.create_task(
        rows(pool, "UPDATE t SET v = 9 WHERE id = 1", BUSY, bound=1.0 if cut == "timed out" else None)
    )
    await until(pool, shows="SELECT BENCHMARK")
    before = await threads(pool)
    if cut == "cancelled":
        cut_off.cancel()
    with pytest.raises(asyncio.CancelledError if cut == "cancelled" else DatabaseError):
        await cut_off
    start = own_time()
    assert await rows(pool, "UPDATE t SET v = v + 1 WHERE id = 1", "SELECT v FROM t WHERE id = 1") == [(1,)]
    assert own_time() - start < 1.8  # a lock is waited for 2 s
    assert pool.connections == 1

    async def only_the_watcher_is_left() -> bool:
        return len(before & await threads(pool)) == 1

    await eventually(only_the_watcher_is_left)


async def test_a_cancelled_write_that_waited_for_a_lock_never_happens(pool: Pool) -> None:
    held, let_go = asyncio.Event(), asyncio.Event()

    async def hold(cursor: Cursor) -> None:
        await cursor.execute("UPDATE t SET v = 5 WHERE id = 1")
        held.set()
        await let_go.wait()

    holder = asyncio.create_task(pool.transaction(hold, what="hold"))
    await held.wait()
    ghost = asyncio.create_task(rows(pool, "UPDATE t SET v = 77 WHERE id = 1"))
    await until(pool, shows="UPDATE t SET v = 77")
    ghost.cancel()
    await asyncio.wait([ghost])
    await until(pool, shows="UPDATE t SET v = 77", threads=0)
    let_go.set()
    await holder
    assert await rows(pool, "SELECT v FROM t WHERE id = 1 FOR UPDATE") == [(5,)]


async def test_an_exception_of_the_work_itself_passes_through_and_rolls_back(pool: Pool) -> None:
    async def work(cursor: Cursor) -> None:
        await cursor.execute("UPDATE t SET v = 9")
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        await pool.transaction(work, what="test")
    start = own_time()
    assert await rows(pool, "SELECT v FROM t FOR UPDATE") == [(0,), (0,)]
    assert own_time() - start < 1.8  # a lock is waited for 2 s
    assert pool.connections == 1


async def test_idle_connections_that_the_network_has_reset_are_replaced_without_a_word(
    mariadb: Server, database_url: str, heard: Heard
) -> None:
    async with Proxy(mariadb.port) as proxy:
        url = str(URL(database_url).with_port(proxy.port))
        pool = Pool(DatabaseSettings(url=url, pool_size=2), events=StoreEvents(heard))
        first = await rows(pool, "SELECT CONNECTION_ID()")
        await proxy.reset_all()

        async def noticed() -> bool:
            return not proxy.open

        await eventually(noticed)
        assert await rows(pool, "SELECT CONNECTION_ID()") != first
        assert pool.connections == 1
        await pool.close()


async def test_connections_that_the_server_has_closed_are_replaced_without_a_word(pool: Pool, mariadb: Server) -> None:
    await asyncio.gather(*(rows(pool, "SELECT SLEEP(0.05)") for _ in range(4)))
    await asyncio.to_thread(mariadb.restart)
    assert await rows(pool, "SELECT v FROM t") == [(0,), (0,)]


async def test_a_connection_that_the_server_has_closed_for_its_idleness_is_replaced_without_a_word(
    pool: Pool, heard: Heard, database_url: str
) -> None:
    ((first,),) = await rows(pool, "SET SESSION wait_timeout = 1", "SELECT CONNECTION_ID()")
    other = Pool(DatabaseSettings(url=database_url, pool_size=2), events=StoreEvents(heard))

    async def closed() -> bool:
        return first not in await threads(other)

    await eventually(closed)
    await other.close()
    assert await rows(pool, "SELECT CONNECTION_ID()") != [(first,)]
    assert pool.connections == 1
    assert heard.names() == []


async def test_a_transaction_that_stands_still_is_ended_by_the_server_and_its_locks_are_free(
    pool: Pool, database_url: str, heard: Heard
) -> None:
    what = "idle_transaction_timeout" if is_mariadb() else "wait_timeout"
    frozen = Pool(DatabaseSettings(url=database_url, pool_size=2), events=StoreEvents(heard))
    held, thawed = asyncio.Event(), asyncio.Event()

    async def hold(cursor: Cursor) -> None:
        await cursor.execute(f"SET SESSION {what} = 1")
        await cursor.execute("UPDATE t SET v = 5 WHERE id = 1")
        held.set()
        await thawed.wait()
        await cursor.execute("SELECT 1")

    holder = asyncio.create_task(frozen.transaction(hold, what="hold"))
    await held.wait()

    async def free() -> bool:
        return len(await rows(pool, "SELECT id FROM t WHERE id = 1 FOR UPDATE SKIP LOCKED")) == 1

    await eventually(free)
    thawed.set()
    with pytest.raises(DatabaseError):
        await holder
    assert await rows(pool, "SELECT v FROM t WHERE id = 1") == [(0,)]
    await frozen.close()


async def test_a_connection_that_was_idle_for_long_is_tried_before_it_is_used(
    mariadb: Server, database_url: str, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool_module, "PING_AFTER", 0.0)
    async with Proxy(mariadb.port) as proxy:
        url = str(URL(database_url).with_port(proxy.port))
        settings = DatabaseSettings(url=url, connect_timeout=2, pool_size=2)
        pool = Pool(settings, events=StoreEvents(heard))
        await rows(pool, "SELECT 1")
        await proxy.forsake()
        assert await rows(pool, "SELECT 1") == [(1,)]
        await pool.close()


async def test_an_old_connection_is_replaced(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    first = await rows(pool, "SELECT CONNECTION_ID()")
    monkeypatch.setattr(pool_module, "MAX_AGE", 0.0)
    assert await rows(pool, "SELECT CONNECTION_ID()") != first
    assert pool.connections == 1


async def test_forty_callers_share_four_connections_and_all_are_served(pool: Pool) -> None:
    inside, most = 0, 0

    async def work(cursor: Cursor) -> None:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        await cursor.execute("UPDATE t SET v = v + 1 WHERE id = 1")
        inside -= 1

    await asyncio.gather(*(pool.transaction(work, what="test") for _ in range(40)))
    assert 1 < most <= 4
    assert await rows(pool, "SELECT v FROM t WHERE id = 1") == [(40,)]
    assert pool.connections == len(await threads(pool)) == 4


async def test_two_hundred_random_cancellations_leak_nothing(pool: Pool) -> None:
    rng = random.Random(20261124)
    began = time.monotonic()
    await asyncio.gather(*(rows(pool, "UPDATE t SET v = v WHERE id = 1", "SELECT 1") for _ in range(10)))
    usual = time.monotonic() - began

    async def one() -> bool:
        call = asyncio.create_task(rows(pool, "UPDATE t SET v = v + 1 WHERE id = 1", "SELECT 1"))
        asyncio.get_running_loop().call_later(rng.uniform(0, 2 * usual), call.cancel)
        await asyncio.wait([call])
        return not call.cancelled()

    done = sum([sum(await asyncio.gather(*(one() for _ in range(10)))) for _ in range(20)])
    await asyncio.gather(*pool._kills)
    (value,) = (await rows(pool, "SELECT v FROM t WHERE id = 1"))[0]
    assert value >= done  # what was acknowledged is there; what was cancelled in its commit may be
    assert 0 < done < 200

    async def nothing_is_left_over() -> bool:
        return len(await threads(pool)) == pool.connections

    await eventually(nothing_is_left_over)
    assert pool.connections <= 4
    assert pool._slots._value == 4
    await asyncio.gather(*(rows(pool, "SELECT SLEEP(0.05)") for _ in range(4)))


async def test_a_cancel_of_a_caller_is_never_lost(pool: Pool) -> None:
    # asyncio.wait_for of Python 3.11 lost a third of those that met an answer (CPython gh-86296): 3.12 is needed.
    rng, never = random.Random(7), asyncio.Event()

    async def caller() -> None:
        while True:
            await rows(pool, "SELECT 1")
            if asyncio.current_task().cancelling():  # type: ignore[union-attr]  # a coroutine that runs has a task
                await never.wait()  # a cancel that was swallowed: it stands here for ever

    for _ in range(300):
        task = asyncio.create_task(caller())
        asyncio.get_running_loop().call_later(rng.uniform(0.0005, 0.004), task.cancel)
        _, left = await asyncio.wait([task], timeout=PATIENCE)
        assert not left, "a cancel was swallowed"
        assert task.cancelled()


async def test_a_cancel_that_meets_the_end_of_the_pool_is_not_lost_either(pool: Pool) -> None:
    task = asyncio.create_task(pool.close())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()


async def test_closing_fails_what_is_in_use_at_once_and_leaves_nothing(pool: Pool, mariadb: Server) -> None:
    watch = Pool(pool._settings, events=pool._events)
    busy = asyncio.create_task(rows(pool, "SELECT SLEEP(30)"))
    await until(watch, shows="SELECT SLEEP")
    start = own_time()
    await pool.close()
    with pytest.raises(DatabaseError):
        await busy
    assert own_time() - start < 5
    assert pool.connections == 0
    await watch.close()
    assert mariadb.running
