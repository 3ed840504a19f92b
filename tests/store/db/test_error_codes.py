"""Error numbers: each one, in a real error packet, means for call and connection what the table of facts says."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import contextmanager
from typing import Any

import pymysql
import pytest
from pymysql.err import MySQLError
from yarl import URL

from mailerd.config import DatabaseSettings
from mailerd.errors import DatabaseAwayError, DatabaseError
from mailerd.events.process import StoreEvents
from mailerd.sandbox.mariadb import Server
from mailerd.store.db import error_codes
from mailerd.store.db.connection import Cursor
from mailerd.store.db.pool import Pool
from tests.support.dialect import is_mariadb, known_by_its_digest
from tests.support.eventually import eventually
from tests.support.heard import Heard

BUSY = (
    "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000) "
    "SELECT COUNT(*) FROM n a, n b, n c WHERE a.i * b.i * c.i = 0"
)
"""A statement of many minutes that notices when it shall end, on both servers."""

# The table of facts, written out again: number -> (again?, is the database away?, is the connection kept?).
AGAIN, NEVER = True, False
AWAY, HERE = True, False
KEEP, DROP = True, False
TABLE = {
    **dict.fromkeys((1213, 3101, 1020), (AGAIN, HERE, KEEP)),
    **dict.fromkeys((1205, 1969, 3024, 3572, 1317, 1614), (AGAIN, HERE, KEEP)),
    **dict.fromkeys((1927, 3169, 4031, 1053), (AGAIN, AWAY, DROP)),
    **dict.fromkeys((1040, 1203, 1226), (AGAIN, AWAY, KEEP)),  # they come before there is a connection to drop
    **dict.fromkeys((1290, 1015, 1036, 1792, 1836, 3032, 3989, 6400), (AGAIN, AWAY, DROP)),
    **dict.fromkeys((1598, 3100, 3781, 3782, 3783, 3796, 3797, 3798, 3799), (AGAIN, AWAY, DROP)),
    **dict.fromkeys((1142, 1143), (AGAIN, AWAY, DROP)),
    **dict.fromkeys((1180, 1665), (AGAIN, HERE, DROP)),
    9001: (AGAIN, AWAY, KEEP),
    1105: (AGAIN, HERE, KEEP),
    **dict.fromkeys((1021, 1037, 1041, 1114), (AGAIN, AWAY, KEEP)),
    1637: (AGAIN, HERE, KEEP),  # too many transactions at once
    **dict.fromkeys((1156, 1158, 1159, 1160, 1161, 1835), (AGAIN, HERE, DROP)),
    **dict.fromkeys((1062, 1153, 1054, 1064, 1265, 1298, 3819, 4025, 1366, 1406), (NEVER, HERE, KEEP)),
    **dict.fromkeys((1044, 1045, 1049, 1146), (NEVER, AWAY, KEEP)),
}
DOUBTFUL = {1021, 1053, 1105, 1180, 1317, 1598, 1927, 3169, 9001}
"""As an answer to COMMIT these leave it open whether it was done."""


@pytest.fixture
async def pool(database_url: str, heard: Heard) -> AsyncIterator[Pool]:
    settings = DatabaseSettings(url=database_url, connect_timeout=20, statement_timeout=4, pool_size=3)
    pool = Pool(settings, events=StoreEvents(heard))
    yield pool
    await pool.close()


def signal(errno: int) -> str:
    return f"SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = {errno}, MESSAGE_TEXT = 'as if'"


async def run(pool: Pool, *statements: str) -> list[tuple[Any, ...]]:
    async def work(cursor: Cursor) -> list[tuple[Any, ...]]:
        for statement in statements:
            await cursor.execute(statement)
        return list(await cursor.fetchall())

    return await pool.transaction(work, what="test")


async def refusal(pool: Pool, *statements: str) -> DatabaseError:
    with pytest.raises(DatabaseError) as caught:
        await run(pool, *statements)
    return caught.value


async def me(pool: Pool) -> int:
    return int((await run(pool, "SELECT CONNECTION_ID()"))[0][0])


@contextmanager
def admin(server: Server) -> Any:
    connection = pymysql.connect(
        host="127.0.0.1", port=server.port, user="admin", password=server.password, autocommit=True
    )
    with connection, connection.cursor() as cursor:
        yield cursor


def test_every_number_in_the_code_is_in_the_table_of_facts() -> None:
    from_the_driver = {2002, 2003, 2006, 2013, 2055}
    assert {n for n, row in TABLE.items() if row[0]} | from_the_driver == error_codes.RETRY
    assert {n for n, row in TABLE.items() if row[1]} | from_the_driver == error_codes.AWAY
    assert {n for n, row in TABLE.items() if not row[2]} == error_codes.DROP
    assert error_codes.DOUBT == DOUBTFUL


@pytest.mark.parametrize("errno", sorted(TABLE))
async def test_a_number_means_what_the_table_says(pool: Pool, errno: int) -> None:
    again, away, keep = TABLE[errno]
    before = await me(pool)
    error = await refusal(pool, signal(errno))
    assert error.errno == errno
    assert error.phase == "work"
    assert error.retry is again
    assert isinstance(error, DatabaseAwayError) is away
    assert not error.in_doubt
    assert (await me(pool) == before) is keep


@pytest.mark.parametrize("errno", sorted(TABLE))
async def test_a_number_in_answer_to_commit_is_in_doubt_only_where_the_table_says(pool: Pool, errno: int) -> None:
    async def work(cursor: Cursor) -> None:
        async def commit() -> None:
            await cursor.execute(signal(errno))

        await cursor.execute("SELECT 1")
        cursor.connection.driver.commit = commit

    with pytest.raises(DatabaseError) as caught:
        await pool.transaction(work, what="test")
    assert (caught.value.errno, caught.value.phase) == (errno, "commit")
    assert caught.value.in_doubt is (errno in DOUBTFUL)


async def test_a_refusal_that_no_event_has_explained_says_so(pool: Pool) -> None:
    assert not (await refusal(pool, signal(1062))).explained


async def two_rows(pool: Pool) -> None:
    await run(pool, "CREATE TABLE t (id INT PRIMARY KEY, v INT NOT NULL) ENGINE=InnoDB",
              "INSERT INTO t VALUES (1, 0), (2, 0)")  # fmt: skip


async def test_a_true_deadlock_costs_one_of_two_its_try(pool: Pool) -> None:
    await two_rows(pool)
    both = asyncio.Barrier(2)

    def crossing(first: int, second: int) -> Callable[[Cursor], Any]:
        async def work(cursor: Cursor) -> None:
            await cursor.execute("UPDATE t SET v = v + 1 WHERE id = %s", (first,))
            await both.wait()
            await cursor.execute("UPDATE t SET v = v + 1 WHERE id = %s", (second,))

        return work

    ended = await asyncio.gather(
        *(pool.transaction(crossing(a, 3 - a), what="test") for a in (1, 2)), return_exceptions=True
    )
    (error,) = [end for end in ended if end is not None]
    assert isinstance(error, DatabaseError)
    assert (error.errno, error.retry, type(error)) == (1213, True, DatabaseError)
    assert await run(pool, "SELECT v FROM t") == [(1,), (1,)]


async def test_a_true_lock_wait_gives_up_before_the_caller_does_and_keeps_no_lock(pool: Pool) -> None:
    await two_rows(pool)
    held, let_go = asyncio.Event(), asyncio.Event()

    async def hold(cursor: Cursor) -> None:
        await cursor.execute("UPDATE t SET v = 5 WHERE id = 1")
        held.set()
        await let_go.wait()

    holder = asyncio.create_task(pool.transaction(hold, what="hold"))
    await held.wait()
    error = await refusal(pool, "UPDATE t SET v = 7 WHERE id = 2", "UPDATE t SET v = 7 WHERE id = 1")
    assert (error.errno, error.retry, type(error)) == (1205, True, DatabaseError)
    assert pool.connections == 2
    assert await run(pool, "SELECT v FROM t WHERE id = 2 FOR UPDATE") == [(0,)]  # 1205 alone would have kept this lock
    let_go.set()
    await holder


async def test_a_true_statement_time_out_gives_up_before_the_caller_does(database_url: str, heard: Heard) -> None:
    pool = Pool(DatabaseSettings(url=database_url, statement_timeout=1, pool_size=2), events=StoreEvents(heard))
    before = await me(pool)
    error = await refusal(pool, BUSY)
    assert (error.errno, error.retry, type(error)) == (1969 if is_mariadb() else 3024, True, DatabaseError)
    assert await me(pool) == before
    await pool.close()


async def test_a_true_duplicate_is_no_reason_to_try_again(pool: Pool) -> None:
    await two_rows(pool)
    error = await refusal(pool, "UPDATE t SET v = 3", "INSERT INTO t VALUES (1, 0)")
    assert (error.errno, error.retry, type(error)) == (1062, False, DatabaseError)
    assert await run(pool, "SELECT v FROM t") == [(0,), (0,)]
    assert pool.connections == 1


async def test_a_server_that_has_become_read_only_is_left_for_another(pool: Pool, mariadb: Server) -> None:
    await two_rows(pool)
    before = await me(pool)
    with admin(mariadb) as cursor:
        cursor.execute("SET GLOBAL read_only = ON")
        try:
            error = await refusal(pool, "UPDATE t SET v = 3")
        finally:
            cursor.execute("SET GLOBAL read_only = OFF")
    assert (error.errno, error.retry, type(error)) == (1290, True, DatabaseAwayError)
    assert await me(pool) != before


@pytest.mark.parametrize("what, gone", [("CONNECTION", True), ("QUERY", False)])
async def test_a_true_kill_by_somebody_else(pool: Pool, mariadb: Server, what: str, *, gone: bool) -> None:
    before = await me(pool)
    busy = asyncio.create_task(refusal(pool, BUSY))
    with admin(mariadb) as cursor:

        async def sleeps() -> bool:
            look = f"SELECT 1 FROM information_schema.processlist WHERE id = {before} AND info LIKE 'WITH RECURSIVE%'"
            return bool(cursor.execute(look))

        await eventually(sleeps)
        cursor.execute(f"KILL {what} {before}")
    error = await busy
    assert error.retry
    assert error.errno in ({1927, 2013} if gone else {1317})
    assert isinstance(error, DatabaseAwayError) is gone
    assert (await me(pool) != before) is gone


@pytest.mark.parametrize("character", ["x", "邮"])
async def test_a_statement_that_is_too_large_is_refused_as_such_and_not_as_an_absent_server(
    pool: Pool, character: str
) -> None:
    before = await me(pool)
    ((most,),) = await run(pool, "SELECT @@max_allowed_packet")
    size = most // len(character.encode())
    error = await refusal(pool, f"SELECT LENGTH('{character * size}')")
    assert (error.errno, error.retry, error.in_doubt, type(error)) == (1153, False, False, DatabaseError)
    assert await me(pool) == before


async def test_a_value_that_sql_cannot_say_is_a_bug_and_not_an_absent_server(pool: Pool) -> None:
    async def work(cursor: Cursor) -> None:
        await cursor.execute("SELECT %s", (float("nan"),))

    before = await me(pool)
    with pytest.raises(DatabaseError, match="nan can not be used with MySQL") as caught:
        await pool.transaction(work, what="test")
    assert (caught.value.retry, type(caught.value)) == (False, DatabaseError)
    assert await me(pool) == before


@pytest.mark.parametrize(
    "numbers, remedy", [((1040, 1203, 1226), "raise max_connections"), ((1130,), "create the user for the host")]
)
def test_a_server_that_answers_and_takes_no_more_has_a_remedy_of_its_own(numbers: tuple[int, ...], remedy: str) -> None:
    """Every command says it: neither a firewall nor host and port of database.url are the cause."""
    assert all(remedy in error_codes.refused(number) for number in numbers)


def test_a_number_is_found_only_where_the_driver_puts_it() -> None:
    assert error_codes.number(MySQLError(1213, "Deadlock")) == 1213
    assert error_codes.number(MySQLError("Packet sequence number wrong")) == 0
    assert error_codes.number(MySQLError()) == 0


async def test_a_privilege_that_is_given_back_counts_at_once(mariadb: Server, database_url: str, heard: Heard) -> None:
    """A session keeps those that it began with, and a connection lives for a quarter of an hour."""
    name = URL(database_url).path.strip("/")
    with admin(mariadb) as cursor:
        cursor.execute(f"CREATE USER '{name}'@'127.0.0.1' IDENTIFIED BY '{mariadb.password}'")
        cursor.execute(f"GRANT CREATE, SELECT ON {name}.* TO '{name}'@'127.0.0.1'")
        await asyncio.to_thread(known_by_its_digest, str(URL(database_url).with_user(name)))
        pool = Pool(DatabaseSettings(url=str(URL(database_url).with_user(name))), events=StoreEvents(heard))
        try:
            await run(pool, "CREATE TABLE given (id INT PRIMARY KEY) ENGINE=InnoDB")
            error = await refusal(pool, "INSERT INTO given VALUES (1)")
            assert (error.errno, error.retry) == (1142, True)
            cursor.execute(f"GRANT INSERT ON {name}.* TO '{name}'@'127.0.0.1'")
            await run(pool, "INSERT INTO given VALUES (1)")
        finally:
            await pool.close()
            cursor.execute(f"DROP USER '{name}'@'127.0.0.1'")
