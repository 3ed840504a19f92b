"""Statements that share a round trip: in their order, whole or not at all, and each wait is what it was for."""

from collections.abc import AsyncIterator
from typing import Any

import aiomysql
import pytest
from pymysql.err import DataError

from mailerd.config import DatabaseSettings
from mailerd.core.decisions import Decision
from mailerd.core.models import Outcome
from mailerd.core.states import Transition
from mailerd.errors import DatabaseError
from mailerd.events.store import StoreEvents
from mailerd.sandbox.mariadb import Server
from mailerd.store.db.cursor import Cursor, insert_many
from mailerd.store.db.database import Database
from mailerd.store.db.pool import Pool
from tests.store.db.test_pool_bounds import BOUND, CONNECT, failure, pooled
from tests.store.queue.test_claim import claims
from tests.store.queue.test_record import SENT, write
from tests.support.heard import Heard
from tests.support.proxy import Proxy
from tests.support.rows import post, states

ADD = "INSERT INTO t VALUES (%s)"


@pytest.fixture
async def pool(database_url: str, heard: Heard) -> AsyncIterator[Pool]:
    async with pooled(database_url, heard) as pool:
        await pool.transaction(lambda c: c.execute("CREATE TABLE t (id INT PRIMARY KEY) ENGINE=InnoDB"), what="make")
        yield pool


async def ids(pool: Pool) -> list[int]:
    async def work(cursor: Cursor) -> list[int]:
        await cursor.execute("SELECT id FROM t ORDER BY id")
        return [row[0] for row in await cursor.fetchall()]

    return await pool.transaction(work, what="read")


@pytest.fixture
def trips(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What goes to the server, packet by packet."""
    sent: list[bytes] = []
    execute = aiomysql.Connection._execute_command

    async def noting(self: Any, command: int, sql: str | bytes) -> None:
        sent.append(sql.encode() if isinstance(sql, str) else sql)
        await execute(self, command, sql)

    monkeypatch.setattr(aiomysql.Connection, "_execute_command", noting)
    return sent


async def test_a_transaction_begins_with_its_first_statement_and_the_waiting_ones_go_with_the_next(
    pool: Pool, trips: list[bytes]
) -> None:
    async def work(cursor: Cursor) -> int:
        await cursor.execute(ADD, (1,))
        assert cursor.rowcount == 1
        cursor.pipeline((ADD, (2,)))
        cursor.pipeline(insert_many("INSERT INTO t VALUES %s", [(3,), (4,)]))
        await cursor.execute("SELECT COUNT(*) FROM t")
        seen = int((await cursor.fetchone())[0])
        cursor.pipeline((ADD, (5,)))
        return seen

    trips.clear()
    assert await pool.transaction(work, what="test") == 4
    assert trips == [
        b"BEGIN; INSERT INTO t VALUES (1)",
        b"INSERT INTO t VALUES (2); INSERT INTO t VALUES (3), (4); SELECT COUNT(*) FROM t",
        b"INSERT INTO t VALUES (5); COMMIT",
    ]
    assert await ids(pool) == [1, 2, 3, 4, 5]


async def test_a_transaction_without_a_statement_asks_the_server_all_the_same(pool: Pool, trips: list[bytes]) -> None:
    async def nothing(_: Cursor) -> None: ...

    trips.clear()
    await pool.transaction(nothing, what="test")
    assert trips == [b"BEGIN; COMMIT"]


async def test_what_is_refused_beside_the_commit_takes_the_whole_transaction_with_it_and_leaves_no_doubt(
    pool: Pool,
) -> None:
    async def work(cursor: Cursor) -> None:
        await cursor.execute(ADD, (1,))
        cursor.pipeline((ADD, (2,)))
        cursor.pipeline((ADD, (1,)))

    error, _ = await failure(pool, work)
    assert (error.errno, error.phase, error.in_doubt) == (1062, "commit", False)
    assert await ids(pool) == []


async def test_what_waits_for_the_next_statement_is_dropped_with_the_transaction(pool: Pool) -> None:
    async def work(cursor: Cursor) -> None:
        await cursor.execute(ADD, (1,))
        cursor.pipeline((ADD, (2,)))
        raise DatabaseError("test", phase="work", cause=ValueError(), errno=0, retry=False, in_doubt=False)

    with pytest.raises(DatabaseError):
        await pool.transaction(work, what="test")
    assert await ids(pool) == []


async def test_a_lost_answer_to_statements_and_commit_is_in_doubt_and_all_of_them_are_done(
    mariadb: Server, database_url: str, heard: Heard, pool: Pool
) -> None:
    async with Proxy(mariadb.port) as proxy:
        url = database_url.replace(f":{mariadb.port}/", f":{proxy.port}/")
        async with pooled(url, heard) as far:

            async def work(cursor: Cursor) -> None:
                await cursor.execute(ADD, (1,))
                cursor.pipeline((ADD, (2,)))
                proxy.cut_after(0)

            error, _ = await failure(far, work)
    assert (error.phase, error.in_doubt) == ("commit", True)
    assert await ids(pool) == [1, 2]


async def test_the_first_statement_may_take_longer_than_a_frozen_server_is_waited_for(pool: Pool) -> None:
    async def slow(cursor: Cursor) -> None:
        await cursor.execute("SELECT SLEEP(%s)", ((CONNECT + BOUND) / 2,))

    await pool.transaction(slow, what="test")


async def test_a_server_that_freezes_before_the_first_statement_is_given_up_as_soon_as_one_that_does_not_connect(
    mariadb: Server, pool: Pool
) -> None:
    mariadb.freeze()
    try:
        error, seconds = await failure(pool)
    finally:
        mariadb.thaw()
    assert error.phase == "begin"
    assert seconds < BOUND


async def test_a_statement_with_what_waits_for_it_is_never_above_the_servers_packet(database_url: str) -> None:
    pool = Pool(DatabaseSettings(url=database_url), events=StoreEvents(Heard()))

    async def work(cursor: Cursor) -> None:
        await cursor.execute("SELECT 1")
        half = cursor.connection.mailerd_packet // 2
        cursor.pipeline(("SELECT %s", ("x" * half,)))
        await cursor.execute("SELECT %s", ("y" * half,))

    error, _ = await failure(pool, work)
    assert error.errno == 1153
    await pool.close()


async def test_a_statement_that_is_refused_for_its_size_leaves_the_transaction_to_begin_with_the_next(
    pool: Pool, trips: list[bytes]
) -> None:
    async def work(cursor: Cursor) -> None:
        cursor.pipeline((ADD, (1,)))
        with pytest.raises(DataError):
            await cursor.execute("SELECT %s", ("x" * cursor.connection.mailerd_packet,))
        await cursor.execute(ADD, (2,))

    trips.clear()
    await pool.transaction(work, what="test")
    assert trips[0] == b"BEGIN; INSERT INTO t VALUES (1); INSERT INTO t VALUES (2)"
    assert await ids(pool) == [1, 2]


async def test_a_claim_takes_six_round_trips(database: Database, trips: list[bytes]) -> None:
    jobs = [await post(database, sender=f"s{number}@example.com", recipients=20) for number in range(3)]
    claiming = claims(database)
    await claiming.claim(0)  # the first claim of a daemon reads the key of the addresses
    trips.clear()
    claim = await claiming.claim(30)
    assert len(claim.letters) == 30
    assert len(trips) <= 6, trips
    assert [await states(database, job) for job in jobs] == [{"sending": 10, "waiting": 10}] * 3


async def test_a_record_of_sent_letters_asks_nothing_of_the_events_and_one_that_failed_costs_no_round_trip(
    database: Database, trips: list[bytes]
) -> None:
    await post(database, recipients=20)
    letters = (await claims(database).claim(20)).letters
    trips.clear()
    await write(database, *[Outcome(letter, SENT) for letter in letters[:10]])
    sent, asked = len(trips), b"".join(trips)
    assert b"events" not in asked
    trips.clear()
    await write(database, *[Outcome(letter, Decision(Transition.FAILED, error="x")) for letter in letters[10:]])
    assert (len(trips), b"".join(trips).count(b"INSERT INTO events")) == (sent, 1)
