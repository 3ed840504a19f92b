"""A database that takes no writes is told once, can be read all the while, and is back at a write that succeeded."""

import asyncio

import pytest

from mailerd.config import DatabaseSettings
from mailerd.errors import DatabaseAwayError
from mailerd.events.process import StoreEvents
from mailerd.store.db.connection import Cursor
from mailerd.store.db.database import Database
from tests.store.db.test_database import reading, said
from tests.support.heard import Heard
from tests.support.proxy import Proxy
from tests.support.rows import query

READ_ONLY = "SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = {}, MESSAGE_TEXT = 'as if'"


@pytest.mark.parametrize("errno", [1015, 1036, 1290, 1792, 1836, 3989])
async def test_after_a_refused_write_only_a_write_means_that_the_database_is_back(
    database: Database, heard: Heard, errno: int
) -> None:
    await query(database, "CREATE TABLE t (id INT PRIMARY KEY) ENGINE=InnoDB")
    heard.events.clear()
    with pytest.raises(DatabaseAwayError):
        await database.request(reading(READ_ONLY.format(errno)), what="jobs.accept")
    assert database.outage == "read-only"
    for read_only in (True, False):
        assert await database.request(reading(), what="jobs.read", read_only=read_only) == 1
    assert await query(database, "SELECT id FROM t WHERE id = 1 FOR UPDATE") == []
    assert heard.names() == ["database_unavailable"]
    assert "it accepts no writes: the server is read-only" in said(heard)[0]
    await query(database, "UPDATE t SET id = id WHERE id = 1")
    assert (heard.names(), database.outage) == (["database_unavailable", "database_back"], "")


async def test_a_write_that_began_before_another_was_refused_proves_nothing(database: Database, heard: Heard) -> None:
    began, refused = asyncio.Event(), asyncio.Event()
    await query(database, "CREATE TABLE t (id INT PRIMARY KEY) ENGINE=InnoDB")
    heard.events.clear()

    async def slow(cursor: Cursor) -> None:
        await cursor.execute("INSERT INTO t VALUES (1)")
        began.set()
        await refused.wait()

    writing = asyncio.create_task(database.transaction(slow, what="write"))
    await began.wait()
    with pytest.raises(DatabaseAwayError):
        await database.transaction(reading(READ_ONLY.format(1290)), what="write")
    refused.set()
    await writing
    assert heard.names() == ["database_unavailable"]


async def test_a_refusal_that_is_heard_after_a_later_write_was_taken_is_no_news(
    database: Database, heard: Heard
) -> None:
    refused, taken = asyncio.Event(), asyncio.Event()
    await query(database, "CREATE TABLE t (id INT PRIMARY KEY) ENGINE=InnoDB")
    heard.events.clear()

    async def slow(cursor: Cursor) -> None:
        try:
            await cursor.execute(READ_ONLY.format(1290))
        finally:
            refused.set()
            await taken.wait()

    writing = asyncio.create_task(database.transaction(slow, what="write"))
    await refused.wait()
    with pytest.raises(DatabaseAwayError):
        await database.transaction(reading(READ_ONLY.format(1290)), what="write")
    await query(database, "INSERT INTO t VALUES (1)")
    taken.set()
    with pytest.raises(DatabaseAwayError):
        await writing
    assert (heard.names(), database.outage) == (["database_unavailable", "database_back"], "")
    with pytest.raises(DatabaseAwayError):
        await database.transaction(reading(READ_ONLY.format(1290)), what="write")
    assert heard.names() == ["database_unavailable", "database_back", "database_unavailable"]


async def test_a_database_that_comes_back_without_taking_writes_is_told_at_once(
    proxy: Proxy, far: Database, heard: Heard
) -> None:
    await proxy.refuse()
    await proxy.reset_all()
    with pytest.raises(DatabaseAwayError):
        await far.transaction(reading(), what="look")
    await proxy.heal()
    for _ in range(2):
        with pytest.raises(DatabaseAwayError):
            await far.transaction(reading(READ_ONLY.format(1290)), what="write")
    assert heard.names() == ["database_unavailable", "database_still_unavailable"]
    assert "read-only (read_only)" in said(heard)[1]


async def test_opening_a_database_that_takes_no_writes_says_once_that_it_is_connected(
    database_url: str, heard: Heard
) -> None:
    database = Database(DatabaseSettings(url=database_url), events=StoreEvents(heard))
    for _ in range(3):
        await database.open()
        with pytest.raises(DatabaseAwayError):
            await database.transaction(reading(READ_ONLY.format(1290)), what="migrate")
    assert heard.names() == ["database_connected", "database_unavailable"]
    await database.close()
