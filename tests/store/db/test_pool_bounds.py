"""Nothing hangs: whatever the server or the network does, a call ends within its bound and says what it knows."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pymysql
import pytest
from yarl import URL

from mailerd.config import DatabaseSettings
from mailerd.errors import DatabaseAwayError, DatabaseError
from mailerd.events.process import StoreEvents
from mailerd.sandbox.mariadb import Server
from mailerd.store.db.connection import Cursor
from mailerd.store.db.pool import Pool
from tests.support.dialect import is_mariadb, known_by_its_digest
from tests.support.heard import Heard
from tests.support.own_time import own_time
from tests.support.ports import free_port
from tests.support.proxy import Proxy

BOUND, CONNECT = 3.0, 1.5
GRACE = 1.3
"""Less than any bound, so that it is seen which of them was waited for."""


@pytest.fixture
def url(database_url: str, proxy: Proxy) -> str:
    return str(URL(database_url).with_port(proxy.port))


@asynccontextmanager
async def pooled(url: str, heard: Heard, *, size: int = 2) -> AsyncIterator[Pool]:
    settings = DatabaseSettings(url=url, connect_timeout=CONNECT, statement_timeout=BOUND, pool_size=size)
    pool = Pool(settings, events=StoreEvents(heard))
    yield pool
    await asyncio.gather(*pool._kills)
    await pool.close()


async def one(cursor: Cursor) -> int:
    await cursor.execute("SELECT 1")
    return int((await cursor.fetchone())[0])


async def failure(
    pool: Pool, work: Callable[[Cursor], Awaitable[Any]] = one, **how: Any
) -> tuple[DatabaseError, float]:
    """What a transaction fails with, and after how many seconds."""
    start = own_time()
    with pytest.raises(DatabaseError) as caught:
        await pool.transaction(work, what="test", **how)
    return caught.value, own_time() - start


def meeting(fault: Callable[[], Awaitable[None]]) -> Callable[[Cursor], Awaitable[None]]:
    """Work whose second statement meets a fault in mid-query."""

    async def work(cursor: Cursor) -> None:
        await cursor.execute("SELECT 1")
        query = asyncio.ensure_future(cursor.execute("SELECT SLEEP(2.0)"))
        try:
            async with asyncio.timeout(0.05):
                await asyncio.shield(query)
        except TimeoutError:
            await fault()
        await query

    return work


async def test_a_server_that_freezes_in_mid_query(mariadb: Server, url: str, heard: Heard) -> None:
    async with pooled(url, heard) as pool:
        try:
            error, seconds = await failure(pool, meeting(lambda: asyncio.to_thread(mariadb.freeze)))
            assert (type(error), error.phase, error.retry) == (DatabaseAwayError, "work", True)
            assert seconds < BOUND + GRACE
            error, seconds = await failure(pool)  # a new connection: accepted by the kernel, greeted by nobody
            assert (type(error), error.phase, error.retry) == (DatabaseAwayError, "connect", True)
            assert seconds < CONNECT + GRACE
        finally:
            mariadb.thaw()
        assert await pool.transaction(one, what="test") == 1


async def test_an_idle_connection_to_a_frozen_server(mariadb: Server, url: str, heard: Heard) -> None:
    async with pooled(url, heard) as pool:
        await pool.transaction(one, what="test")
        mariadb.freeze()
        try:
            error, seconds = await failure(pool)
        finally:
            mariadb.thaw()
        assert (type(error), error.phase) == (DatabaseAwayError, "begin")
        assert seconds < CONNECT + GRACE


async def test_kill_9_in_mid_query_and_then_nobody_there(mariadb: Server, url: str, heard: Heard) -> None:
    async with pooled(url, heard) as pool:
        error, seconds = await failure(pool, meeting(lambda: asyncio.to_thread(mariadb.kill)))
        assert (type(error), error.phase, error.errno, error.retry) == (DatabaseAwayError, "work", 2013, True)
        assert seconds < GRACE
        error, seconds = await failure(pool)
        assert (type(error), error.phase, error.retry) == (DatabaseAwayError, "connect", True)
        assert seconds < GRACE
        assert heard.names() == []  # what the server itself has ended is not hunted on a server that is gone


async def test_a_restart_in_mid_query_costs_that_call_and_no_other(mariadb: Server, url: str, heard: Heard) -> None:
    async with pooled(url, heard) as pool:
        error, seconds = await failure(pool, meeting(lambda: asyncio.to_thread(mariadb.kill)))
        assert (type(error), error.errno, error.retry, error.in_doubt) == (DatabaseAwayError, 2013, True, False)
        assert seconds < BOUND + GRACE
        await asyncio.to_thread(mariadb.start)  # MariaDB is back within the bound, MySQL is not
        assert await pool.transaction(one, what="test") == 1


@pytest.mark.parametrize("ways", [("up",), ("down",), ("up", "down")], ids="+".join)
async def test_a_black_hole_in_mid_query(proxy: Proxy, url: str, heard: Heard, ways: tuple[Any, ...]) -> None:
    async with pooled(url, heard) as pool:
        began = time.monotonic()
        error, seconds = await failure(pool, meeting(lambda: proxy.black_hole("down", *ways)))
        assert (type(error), error.phase, error.retry) == (DatabaseAwayError, "work", True)
        assert time.monotonic() - began > BOUND - 0.1
        assert seconds < BOUND + GRACE
        error, seconds = await failure(pool)
        assert (type(error), error.phase) == (DatabaseAwayError, "connect")
        assert seconds < CONNECT + GRACE
        await proxy.heal()
        assert await pool.transaction(one, what="test") == 1


async def test_a_port_that_accepts_and_never_greets(proxy: Proxy, url: str, heard: Heard) -> None:
    proxy.mute()
    async with pooled(url, heard) as pool:
        error, seconds = await failure(pool)
        assert (type(error), error.phase, error.retry) == (DatabaseAwayError, "connect", True)
        assert "no response within the time-out" in str(error)
        assert seconds < CONNECT + GRACE


async def test_a_port_that_refuses(proxy: Proxy, url: str, heard: Heard) -> None:
    await proxy.refuse()
    async with pooled(url, heard) as pool:
        error, seconds = await failure(pool)
        assert (type(error), error.phase, error.errno, error.retry) == (DatabaseAwayError, "connect", 2003, True)
        assert seconds < GRACE


async def test_a_reset_in_mid_query(proxy: Proxy, url: str, heard: Heard) -> None:
    async with pooled(url, heard) as pool:
        error, seconds = await failure(pool, meeting(proxy.reset_all))
        assert (type(error), error.phase, error.errno, error.retry) == (DatabaseAwayError, "work", 2013, True)
        assert seconds < GRACE
        assert await pool.transaction(one, what="test") == 1


async def test_an_answer_that_is_cut_in_the_middle(proxy: Proxy, url: str, heard: Heard) -> None:
    async def work(cursor: Cursor) -> None:
        proxy.cut_after(2000)
        await cursor.execute("SELECT REPEAT('x', 100000)")

    async with pooled(url, heard) as pool:
        error, _ = await failure(pool, work)
        assert (type(error), error.errno, error.retry) == (DatabaseAwayError, 2013, True)
        assert await pool.transaction(one, what="test") == 1


async def test_a_slow_network_is_only_slow(proxy: Proxy, url: str, heard: Heard) -> None:
    proxy.delay(0.03)
    async with pooled(url, heard) as pool:
        assert await pool.transaction(one, what="test") == 1


async def test_all_connections_in_use_is_not_an_absent_database(url: str, heard: Heard) -> None:
    all_in_use, enough = asyncio.Barrier(3), asyncio.Event()

    async def hold(cursor: Cursor) -> None:
        await cursor.execute("SELECT 1")
        await all_in_use.wait()
        await enough.wait()

    async with pooled(url, heard) as pool:
        holders = [asyncio.create_task(pool.transaction(hold, what="hold", bound=10)) for _ in range(2)]
        await all_in_use.wait()
        error, seconds = await failure(pool, bound=0.3)
        assert (type(error), error.phase, error.retry, error.in_doubt) == (DatabaseError, "queue", True, False)
        assert seconds < 0.3 + GRACE
        enough.set()
        await asyncio.gather(*holders)
        assert await pool.transaction(one, what="test") == 1


async def test_a_server_with_too_many_connections(mariadb: Server, database_url: str, heard: Heard) -> None:
    address: dict[str, Any] = {"host": "127.0.0.1", "port": mariadb.port, "password": mariadb.password}
    admin = pymysql.connect(user="admin", autocommit=True, **address)
    others: list[Any] = []

    def fill() -> None:
        while len(others) < 20:
            others.append(pymysql.connect(user="mailerd", **address))

    with admin, admin.cursor() as cursor:
        cursor.execute("SELECT @@max_connections")
        (before,) = cursor.fetchone() or (150,)
        cursor.execute("SET GLOBAL max_connections = 10")
        with pytest.raises(pymysql.err.OperationalError, match="1040"):
            fill()
        async with pooled(database_url, heard) as pool:
            error, seconds = await failure(pool)
            assert (type(error), error.errno, error.phase, error.retry) == (DatabaseAwayError, 1040, "connect", True)
            assert seconds < GRACE
            cursor.execute(f"SET GLOBAL max_connections = {before}")
            for other in others:
                other.close()
            assert await pool.transaction(one, what="test") == 1


@pytest.mark.parametrize("others_named", [False, True], ids=["one host", "several hosts"])
async def test_a_server_that_allows_no_further_connection_is_worked_with_by_those_that_there_are(
    mariadb: Server, database_url: str, heard: Heard, *, others_named: bool
) -> None:
    host = f"127.0.0.1:{mariadb.port}"
    url = database_url.replace(host, f"{host},127.0.0.1:{free_port()}") if others_named else database_url
    address: dict[str, Any] = {"host": "127.0.0.1", "port": mariadb.port, "password": mariadb.password}
    others: list[Any] = []
    with pymysql.connect(user="admin", autocommit=True, **address) as admin, admin.cursor() as cursor:
        cursor.execute("SELECT @@max_connections")
        (before,) = cursor.fetchone() or (150,)
        async with pooled(url, heard) as pool:
            assert await pool.transaction(one, what="test") == 1
            cursor.execute("SET GLOBAL max_connections = 10")
            with suppress(pymysql.err.OperationalError):
                while len(others) < 20:
                    others.append(pymysql.connect(user="mailerd", **address))
            try:
                done = await asyncio.gather(*(pool.transaction(napping, what="test") for _ in range(8)))
                assert (done, pool.connections, pool.is_crowded) == ([1] * 8, 1, True)
                assert heard.names() == ["database_crowded"], "once, and no outage"
                cursor.execute(f"SET GLOBAL max_connections = {before}")
                while pool.is_crowded:  # it is asked for another every second
                    await asyncio.gather(*(pool.transaction(napping, what="test") for _ in range(8)))
                assert pool.connections > 1
            finally:
                cursor.execute(f"SET GLOBAL max_connections = {before}")
                for other in others:
                    other.close()


async def test_a_connection_that_is_put_back_while_another_is_refused_is_taken_at_once(
    database_url: str, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, refuse, release = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def refused() -> None:
        asked.set()
        await refuse.wait()
        raise pymysql.err.OperationalError(1040, "Too many connections")

    async def held(cursor: Cursor) -> int:
        await release.wait()
        return await one(cursor)

    async with pooled(database_url, heard) as pool:
        await pool.transaction(one, what="test")
        monkeypatch.setattr(pool, "_connect", refused)
        first = asyncio.create_task(pool.transaction(held, what="test"))
        await asyncio.sleep(0)
        second = asyncio.create_task(pool.transaction(one, what="test"))
        await asked.wait()
        release.set()
        assert await first == 1
        refuse.set()
        assert await asyncio.wait_for(second, 1.0) == 1, "nothing else would wake it"


async def napping(cursor: Cursor) -> int:
    """A transaction beside which others want a connection."""
    await cursor.execute("DO SLEEP(0.05)")
    return await one(cursor)


@pytest.mark.parametrize(
    "part, value, errno", [("password", "wrong", 1045), ("path", "/mailerd_nowhere", 1049), ("path", "/other", 1044)]
)
async def test_a_refused_log_in_is_loud_and_not_repeated(
    url: str, heard: Heard, part: str, value: str, errno: int
) -> None:
    wrong = str(getattr(URL(url), f"with_{part}")(value))
    async with pooled(wrong, heard) as pool:
        error, seconds = await failure(pool)
        asked = errno == 1045 and not is_mariadb()  # MySQL asks for the plain password, where its digest is wrong
        expected = (DatabaseAwayError, 2061 if asked else errno, asked, False)
        assert (type(error), error.errno, error.retry, error.in_doubt) == expected
        assert seconds < GRACE
        assert pool.connections == 0


async def test_a_user_that_is_locked_out_has_no_database_until_it_is_let_in_again(
    mariadb: Server, database_url: str, heard: Heard
) -> None:
    """Other numbers than a wrong password's: what waits to be recorded must not be dropped for them."""
    name = URL(database_url).path.strip("/")
    address: dict[str, Any] = {"host": "127.0.0.1", "port": mariadb.port, "password": mariadb.password}
    admin = pymysql.connect(user="admin", autocommit=True, **address)
    with admin, admin.cursor() as cursor:
        cursor.execute(f"CREATE USER '{name}'@'127.0.0.1' IDENTIFIED BY '{mariadb.password}' ACCOUNT LOCK")
        try:
            cursor.execute(f"GRANT ALL PRIVILEGES ON {name}.* TO '{name}'@'127.0.0.1'")
            async with pooled(str(URL(database_url).with_user(name)), heard) as pool:
                error, _ = await failure(pool)
                assert (type(error), error.phase, error.in_doubt) == (DatabaseAwayError, "connect", False)
                assert not is_mariadb() or "locked" in str(error)
                cursor.execute(f"ALTER USER '{name}'@'127.0.0.1' ACCOUNT UNLOCK")
                known_by_its_digest(str(URL(database_url).with_user(name)))
                assert await pool.transaction(one, what="test") == 1
        finally:
            cursor.execute(f"DROP USER '{name}'@'127.0.0.1'")


async def test_a_commit_whose_answer_is_lost_is_in_doubt_and_goes_on(
    proxy: Proxy, url: str, database_url: str, heard: Heard
) -> None:
    async with pooled(url, heard) as pool, pooled(database_url, heard) as other:

        async def make(cursor: Cursor) -> None:
            await cursor.execute("CREATE TABLE t (id INT PRIMARY KEY) ENGINE=InnoDB")

        async def cut(cursor: Cursor) -> None:
            await cursor.execute("INSERT INTO t VALUES (1)")
            proxy.cut_after(0)

        async def stall(cursor: Cursor) -> None:
            await cursor.execute("INSERT INTO t VALUES (2)")
            await proxy.black_hole("down")

        async def read(cursor: Cursor) -> list[Any]:
            await cursor.execute("SELECT id FROM t ORDER BY id")
            return [row[0] for row in await cursor.fetchall()]

        await other.transaction(make, what="make")
        error, seconds = await failure(pool, cut)
        assert (error.phase, error.in_doubt, error.retry) == ("commit", True, True)
        assert seconds < GRACE
        error, seconds = await failure(pool, stall)
        assert (type(error), error.phase, error.in_doubt) == (DatabaseAwayError, "commit", True)
        assert not pool._kills  # a commit that may be under way shall come to its end
        assert seconds < BOUND + GRACE
        await proxy.heal()
        assert await other.transaction(read, what="read") == [1, 2]  # and so it was: nobody killed the commit


async def test_a_lost_answer_to_the_rollback_does_not_hide_what_the_server_had_refused(
    proxy: Proxy, url: str, heard: Heard
) -> None:
    async def work(cursor: Cursor) -> None:
        try:
            await cursor.execute("SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = 1213, MESSAGE_TEXT = 'Deadlock found'")
        finally:
            await proxy.black_hole("down")

    async with pooled(url, heard) as pool:
        error, seconds = await failure(pool, work)
        assert (type(error), error.errno, error.retry) == (DatabaseError, 1213, True)
        assert seconds < BOUND + GRACE
        await proxy.heal()
        assert pool.connections == 0
