"""What goes to the server: one statement at a time, no more of them than there are questions."""

import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

import aiomysql
import pytest
from pymysql.err import DataError

from mailerd.core.claims import Outcome
from mailerd.core.decisions import Decision
from mailerd.core.states import Transition
from mailerd.errors import DatabaseError
from mailerd.sandbox.mariadb import Server
from mailerd.store.db.connection import Cursor, insert_many
from mailerd.store.db.database import Database
from mailerd.store.db.pool import Pool
from tests.store.db.test_pool_bounds import BOUND, CONNECT, failure, pooled
from tests.store.queue.test_claim import claims
from tests.store.queue.test_record import SENT, write
from tests.support.dialect import is_mariadb
from tests.support.heard import Heard
from tests.support.rows import post, query, states

ADD = "INSERT INTO t VALUES (%s)"
WARNED = """
import asyncio, sys
from yarl import URL
from mailerd.store.db.connection import connect

async def main():
    connection = await connect(URL(sys.argv[1]))
    cursor, warned = await connection.cursor(), 0
    for statement in ("DROP TABLE IF EXISTS never", "SELECT 1 / 0"):
        await cursor.execute(statement)
        await cursor.execute("SELECT @@warning_count")
        warned += (await cursor.fetchone())[0]
    print(warned, "warnings")
    connection.abort()

asyncio.run(main())
"""


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


async def test_each_statement_of_a_transaction_goes_to_the_server_by_itself(pool: Pool, trips: list[bytes]) -> None:
    async def work(cursor: Cursor) -> int:
        await cursor.execute(*insert_many("INSERT INTO t VALUES %s", [(1,), (2,)]))
        assert cursor.rowcount == 2
        return await cursor.execute("SELECT id FROM t WHERE id > %s", (1,))

    trips.clear()
    assert await pool.transaction(work, what="test") == 1
    assert trips == [b"BEGIN", b"INSERT INTO t VALUES (1), (2)", b"SELECT id FROM t WHERE id > 1", b"COMMIT"]
    assert await ids(pool) == [1, 2]


async def test_a_second_statement_in_one_text_is_refused_by_the_server(pool: Pool) -> None:
    """So a value that were not escaped could change its statement, and add none."""
    await pool.transaction(lambda c: c.execute(ADD, (1,)), what="test")
    for run in (pool.transaction, pool.read):
        with pytest.raises(DatabaseError) as refused:
            await run(lambda c: c.execute("SELECT 1; DELETE FROM t"), what="test")
        assert refused.value.errno == 1064
    assert await ids(pool) == [1]


def test_what_the_server_warns_of_is_said_to_nobody(database_url: str) -> None:
    """In a process of its own, since pytest has filters of its own."""
    done = subprocess.run(
        [sys.executable, "-W", "always", "-c", WARNED, database_url], capture_output=True, text=True, check=True
    )
    assert (done.stdout, done.stderr) == ("2 warnings\n", "")


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


async def test_a_statement_that_is_refused_for_its_size_costs_nothing_else(pool: Pool, trips: list[bytes]) -> None:
    async def work(cursor: Cursor) -> None:
        await cursor.execute(ADD, (1,))
        with pytest.raises(DataError) as refused:
            await cursor.execute("SELECT %s", ("x" * cursor.connection.packet,))
        assert refused.value.args[0] == 1153
        await cursor.execute(ADD, (2,))

    trips.clear()
    await pool.transaction(work, what="test")
    assert len(trips) == 4
    assert await ids(pool) == [1, 2]


async def test_the_claim_of_a_job_s_last_message_sees_that_no_job_follows(
    database: Database, trips: list[bytes]
) -> None:
    """By one statement, and no further turn: the message of a small job waits for these round trips."""
    await post(database, recipients=1)
    claiming = claims(database)
    await claiming.claim(0)
    trips.clear()
    assert len((await claiming.claim(30)).messages) == 1
    assert len([it for it in trips if it != b"SHOW WARNINGS"]) == 14, trips
    assert await query(database, "SELECT next_claim_at FROM senders") == [(None,)]
    later, _ = await post(database, recipients=1), await post(database, recipients=1)
    for table, key in (("jobs", "id"), ("job_recipients", "job_id")):
        column = "due_at" if table == "job_recipients" else "next_claim_at"
        await query(database, f"UPDATE {table} SET {column} = NOW() + INTERVAL 1 HOUR WHERE {key} = %s", later)
    assert len((await claiming.claim(30)).messages) == 1
    due = "SELECT s.next_claim_at = j.next_claim_at FROM senders s JOIN jobs j ON j.next_claim_at IS NOT NULL"
    assert await query(database, due) == [(1,)]


async def test_a_claim_takes_eleven_round_trips(database: Database, trips: list[bytes]) -> None:
    """And on MySQL two more: it warns of VALUES(column), and the driver asks of what (dependencies.md)."""
    jobs = [await post(database, sender=f"s{number}@example.com", recipients=20) for number in range(3)]
    claiming = claims(database)
    await claiming.claim(0)  # the first claim of a daemon reads the key of the addresses
    trips.clear()
    claim = await claiming.claim(30)
    assert len(claim.messages) == 30
    asked = trips.count(b"SHOW WARNINGS")
    assert asked == (0 if is_mariadb() else 2)
    assert len(trips) - asked <= 11, trips
    assert [await states(database, job) for job in jobs] == [{"sending": 10, "waiting": 10}] * 3


async def test_a_record_of_sent_messages_writes_no_event_and_one_statement_writes_those_of_all_that_failed(
    database: Database, trips: list[bytes]
) -> None:
    await post(database, recipients=20)
    messages = (await claims(database).claim(20)).messages
    trips.clear()
    await write(database, *[Outcome(message, SENT) for message in messages[:10]])
    sent, asked = len(trips), b"".join(trips)
    assert b"events" not in asked
    trips.clear()
    await write(database, *[Outcome(message, Decision(Transition.FAILED, error="x")) for message in messages[10:]])
    asked = b"".join(trips)
    assert (asked.count(b"INSERT INTO events"), asked.count(b"UPDATE sender_hours")) == (1, 1)
    assert asked.count(b"UPDATE senders") == 1
    # These four: the sender's row is locked, its day gets back what was not sent, once for all, and it may go on.
    assert len(trips) == sent + 4
