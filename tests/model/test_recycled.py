"""The database that tests share: each finds it as a migration leaves it, whatever the one before has done."""

import pymysql
import pytest
from yarl import URL

from mailerd.sandbox.mariadb import Server
from mailerd.store.db.database import Database
from tests.support.recycled import RecycledDatabase
from tests.support.rows import post, query

LEFT = "SELECT (SELECT COUNT(*) FROM jobs), (SELECT COUNT(*) FROM job_recipients), (SELECT last FROM event_positions)"


@pytest.mark.parametrize("again", [1, 2])
async def test_each_finds_no_rows_and_the_first_numbers(database: Database, again: int) -> None:
    assert await query(database, LEFT) == [(0, 0, 0)], again
    await query(database, "UPDATE event_positions SET last = 7")
    await post(database, recipients=2)
    assert await query(database, "SELECT id FROM job_recipients ORDER BY id") == [(1,), (2,)], again


@pytest.mark.parametrize(
    "change",
    [
        "ALTER TABLE senders ADD CONSTRAINT never CHECK (pauses > 5)",
        "ALTER TABLE senders ADD COLUMN more INT",
        "CREATE TABLE more (id INT)",
        "DROP TABLE notices",
        "CREATE TRIGGER more BEFORE INSERT ON jobs FOR EACH ROW SET NEW.priority = 1",
    ],
)
def test_one_that_was_altered_serves_no_other(mariadb: Server, change: str) -> None:
    recycled = RecycledDatabase(mariadb)
    first = recycled.take()
    _run(mariadb, first, change)
    recycled.give_back()
    assert recycled.take() != first


def test_what_still_holds_a_row_is_ended(mariadb: Server) -> None:
    recycled = RecycledDatabase(mariadb)
    first = recycled.take()
    held = _connect(mariadb, first)
    with held.cursor() as cursor:
        cursor.execute("INSERT INTO senders (email, created_at) VALUES ('a@example.com', UTC_TIMESTAMP(6))")
    recycled.give_back()
    assert recycled.take() == first
    assert _run(mariadb, first, "SELECT COUNT(*) FROM senders") == ((0,),)


def test_numbers_of_rows_that_were_rolled_back_are_given_again(mariadb: Server) -> None:
    recycled = RecycledDatabase(mariadb)
    insert = "INSERT INTO api_keys (name, digest, hint, created_at) VALUES ('a', 'b', 'c', UTC_TIMESTAMP(6))"
    for _ in range(2):
        with _connect(mariadb, recycled.take()) as connection, connection.cursor() as cursor:
            cursor.execute(insert)
            assert cursor.lastrowid == 1
            connection.rollback()
        recycled.give_back()


def _connect(server: Server, url: str) -> "pymysql.Connection[pymysql.cursors.Cursor]":
    return pymysql.connect(
        host="127.0.0.1", port=server.port, user="admin", password=server.password, database=URL(url).path[1:]
    )


def _run(server: Server, url: str, statement: str) -> object:
    with _connect(server, url) as connection, connection.cursor() as cursor:
        cursor.execute(statement)
        connection.commit()
        return cursor.fetchall()
