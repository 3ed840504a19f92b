"""A database that answers and cannot store is unavailable, with its cause, until the same can be stored again."""

import math
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from mailerd.config import DatabaseSettings
from mailerd.errors import DatabaseAwayError, DatabaseError
from mailerd.events.process import StoreEvents
from mailerd.sandbox.mariadb import Server
from mailerd.store.db import database as module
from mailerd.store.db.connection import Cursor
from mailerd.store.db.database import Database
from mailerd.store.db.migrate import check_writable, migrate
from tests.conftest import CACHE
from tests.store.db.test_database import reading, said
from tests.support.eventually import eventually
from tests.support.heard import Heard
from tests.support.ports import free_port
from tests.support.read_only import as_admin
from tests.support.rows import query

AS_IF = "SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = {}, MESSAGE_TEXT = '{}'"


async def _insert(cursor: Cursor) -> None:
    await cursor.execute("INSERT INTO t VALUES (NULL)")


async def _change(cursor: Cursor) -> None:
    assert await cursor.execute("UPDATE other SET id = 1 - id") == 1


@pytest.fixture
async def table(database: Database, heard: Heard) -> Database:
    await query(database, "CREATE TABLE t (id INT AUTO_INCREMENT PRIMARY KEY) ENGINE=InnoDB")
    await query(database, "CREATE TABLE other (id INT PRIMARY KEY) ENGINE=InnoDB")
    await query(database, "INSERT INTO other VALUES (1)")
    heard.events.clear()
    return database


@pytest.mark.parametrize(
    "errno, text",
    [
        (1021, "Disk full"), (1114, "The table is full"), (1026, "Error writing file (Errcode: 28)"),
        (1030, "Got error 28 from storage engine"), (3, 'Error writing file (Errcode: 28 "No space left on device")'),
    ],
)  # fmt: skip
async def test_a_full_disk_is_told_once_with_its_remedy_until_the_same_can_be_stored(
    table: Database, heard: Heard, errno: int, text: str
) -> None:
    for _ in range(2):
        with pytest.raises(DatabaseAwayError):
            await table.transaction(reading(AS_IF.format(errno, text)), what="record 12 messages")
        # An old row is changed, and a new one is added elsewhere: neither shows that this can be stored.
        await table.transaction(_change, what="daemons.beat")
        assert await table.read(reading(), what="stats.read") == 1
        assert (table.outage, table.unavailable) == ("full", True)
    assert heard.names() == ["database_full"]
    assert "free disk space" in getattr(table.trouble, "remedy", "")
    await table.transaction(_insert, what="record 3 messages")
    assert (heard.names(), table.outage, table.trouble) == (["database_full", "database_back"], "", None)


async def test_a_refusal_that_nobody_tries_again_is_forgotten_after_a_minute(
    table: Database, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DatabaseAwayError):
        await table.transaction(reading(AS_IF.format(1114, "full")), what="jobs.accept")
    monkeypatch.setattr(module, "REFUSAL_COUNTS", 0.0)
    await table.read(reading(), what="stats.read")
    assert heard.names() == ["database_full", "database_back"]


async def test_a_missing_privilege_is_told_by_its_name_and_ends_with_the_grant(mariadb: Server, heard: Heard) -> None:
    as_admin(mariadb, "CREATE DATABASE IF NOT EXISTS denied")
    as_admin(mariadb, "CREATE OR REPLACE TABLE denied.t (id INT AUTO_INCREMENT PRIMARY KEY)")
    as_admin(mariadb, "GRANT SELECT ON denied.* TO 'mailerd'@'127.0.0.1'")
    database = Database(DatabaseSettings(url=mariadb.url_of("denied")), events=StoreEvents(heard))
    try:
        for _ in range(2):
            with pytest.raises(DatabaseAwayError):
                await database.request(_insert, what="jobs.accept")
            await database.read(reading(), what="stats.read")
            assert database.outage == "denied"
        assert heard.names() == ["database_unavailable"]
        assert "GRANT ALL PRIVILEGES" in said(heard)[0]
        as_admin(mariadb, "GRANT ALL PRIVILEGES ON denied.* TO 'mailerd'@'127.0.0.1'")

        async def is_stored() -> bool:  # a session keeps the privileges that it began with
            with suppress(DatabaseAwayError):
                await database.request(_insert, what="jobs.accept")
            return not database.outage

        await eventually(is_stored)
        assert heard.names() == ["database_unavailable", "database_back"]
    finally:
        await database.close()
        as_admin(mariadb, "DROP DATABASE denied")
        as_admin(mariadb, "REVOKE ALL PRIVILEGES ON denied.* FROM 'mailerd'@'127.0.0.1'")


@pytest.fixture
async def denied(mariadb: Server, heard: Heard) -> AsyncIterator[tuple[Database, str]]:
    """A database of which the user may only read, and the grant that it lacks."""
    as_admin(mariadb, "CREATE DATABASE IF NOT EXISTS denied")
    as_admin(mariadb, "CREATE OR REPLACE TABLE denied.t (id INT AUTO_INCREMENT PRIMARY KEY)")
    as_admin(mariadb, "CREATE OR REPLACE TABLE denied.other (id INT PRIMARY KEY)")
    as_admin(mariadb, "GRANT SELECT ON denied.* TO 'mailerd'@'127.0.0.1'")
    database = Database(DatabaseSettings(url=mariadb.url_of("denied")), events=StoreEvents(heard))
    yield database, "GRANT INSERT, UPDATE ON denied.* TO 'mailerd'@'127.0.0.1'"
    await database.close()
    as_admin(mariadb, "DROP DATABASE denied")
    as_admin(mariadb, "REVOKE ALL PRIVILEGES ON denied.* FROM 'mailerd'@'127.0.0.1'")


async def test_a_privilege_that_is_granted_again_ends_the_outage_though_nobody_needs_it(
    denied: tuple[Database, str], mariadb: Server, heard: Heard
) -> None:
    """What was refused is tried by the daemon itself, and undone; a session keeps the privileges that it began with."""
    database, grant = denied
    for what, statement in (("jobs.accept", _insert), ("daemons.beat", _insert)):
        with pytest.raises(DatabaseAwayError):
            await database.transaction(statement, what=what)
    await database.read(reading(), what="stats.read")  # a session that began before the grant
    await database.retry_refused()
    assert database.outage == "denied"
    as_admin(mariadb, grant)
    for _ in range(2):
        await database.retry_refused()
    assert (database.outage, heard.names()) == ("", ["database_unavailable", "database_back"])
    assert not await database.read_rows("SELECT * FROM t", what="test")


async def test_a_full_disk_that_has_room_again_ends_the_outage_though_nobody_needs_it(
    table: Database, heard: Heard
) -> None:
    await query(table, f"CREATE TRIGGER full BEFORE INSERT ON t FOR EACH ROW {AS_IF.format(1114, 'full')}")
    heard.events.clear()
    with pytest.raises(DatabaseAwayError):
        await table.transaction(_insert, what="jobs.accept")
    await table.retry_refused()
    assert table.outage == "full"
    await query(table, "DROP TRIGGER full")
    await table.retry_refused()
    assert (table.outage, heard.names()) == ("", ["database_full", "database_back"])
    assert not await table.read_rows("SELECT * FROM t", what="test")


async def test_a_refusal_that_stands_does_not_end_by_itself(denied: tuple[Database, str], heard: Heard) -> None:
    database, _ = denied
    with pytest.raises(DatabaseAwayError):
        await database.transaction(_insert, what="jobs.accept")
    database._refused["jobs.accept"] = replace(database._refused["jobs.accept"], at=-math.inf)  # long ago
    await database.retry_refused()
    await database.read(reading(), what="stats.read")
    assert (database.outage, heard.names()) == ("denied", ["database_unavailable"])


async def test_a_server_that_is_gone_is_not_back_because_nothing_was_refused(heard: Heard) -> None:
    database = Database(DatabaseSettings(url=f"mysql://a:b@127.0.0.1:{free_port()}/x"), events=StoreEvents(heard))
    with pytest.raises(DatabaseAwayError):
        await database.read(reading(), what="stats.read")
    await database.retry_refused()
    assert database.outage == "away"


async def test_what_no_rollback_undoes_is_not_tried_again(denied: tuple[Database, str], mariadb: Server) -> None:
    database, _ = denied
    with pytest.raises(DatabaseAwayError):
        await database.transaction(reading("CREATE TABLE new (id INT)"), what="migrate")
    as_admin(mariadb, "GRANT CREATE ON denied.* TO 'mailerd'@'127.0.0.1'")
    for _ in range(2):
        await database.retry_refused()
    assert not await database.read_rows("SHOW TABLES LIKE 'new'", what="test")


async def test_a_job_cannot_be_stored_where_insert_is_denied(database_url: str, mariadb: Server, heard: Heard) -> None:
    """Though every UPDATE succeeds."""
    as_admin(mariadb, "CREATE USER IF NOT EXISTS 'updater'@'127.0.0.1' IDENTIFIED BY 'x'")
    name = database_url.rpartition("/")[2]
    as_admin(mariadb, f"GRANT SELECT, UPDATE, DELETE ON {name}.* TO 'updater'@'127.0.0.1'")
    url = f"mysql://updater:x@127.0.0.1:{mariadb.port}/{name}"
    database = Database(DatabaseSettings(url=url), events=StoreEvents(heard))
    migrated = Database(DatabaseSettings(url=database_url), events=StoreEvents(Heard()))
    try:
        await migrate(migrated, events=StoreEvents(Heard()))
        with pytest.raises(DatabaseAwayError, match="INSERT command denied") as caught:
            await check_writable(database)
        assert "GRANT" in caught.value.said
        as_admin(mariadb, f"GRANT ALL PRIVILEGES ON {name}.* TO 'updater'@'127.0.0.1'")
        await check_writable(database)
        assert database.outage == ""
    finally:
        await database.close()
        await migrated.close()
        as_admin(mariadb, "DROP USER 'updater'@'127.0.0.1'")


async def test_writes_that_hang_while_reads_are_answered_are_no_outage_that_a_read_ends(
    database_url: str, table: Database, heard: Heard
) -> None:
    await query(table, "CREATE TRIGGER slow BEFORE INSERT ON t FOR EACH ROW SET @nothing = SLEEP(20)")
    settings = DatabaseSettings(url=database_url, connect_timeout=5, statement_timeout=6)
    database = Database(settings, events=StoreEvents(heard))
    try:
        with pytest.raises(DatabaseError):  # it may have waited for a lock
            await database.request(_insert, what="jobs.accept", bound=0.5)
        assert not database.unavailable
        for _ in range(2):
            with pytest.raises(DatabaseError):
                await database.request(_insert, what="jobs.accept", bound=1.5)
            await database.read(reading(), what="stats.read")
            assert database.outage == "stuck"
            with pytest.raises(DatabaseAwayError) as caught:
                await check_writable(database)
            assert "is its disk full" in caught.value.said
        assert heard.names() == ["database_unavailable"]
        await query(table, "DROP TRIGGER slow")
        await database.request(_insert, what="jobs.accept")
        assert heard.names() == ["database_unavailable", "database_back"]
    finally:
        await database.close()


async def test_the_servers_own_time_out_of_a_write_is_one_that_hangs(
    database_url: str, table: Database, heard: Heard
) -> None:
    await query(table, "CREATE TRIGGER slow BEFORE INSERT ON t FOR EACH ROW SET @nothing = SLEEP(20)")
    database = Database(DatabaseSettings(url=database_url, statement_timeout=2), events=StoreEvents(heard))
    with pytest.raises(DatabaseError):
        await database.transaction(_insert, what="record 1 messages")
    assert database.outage == "stuck"
    await database.close()


async def test_a_missing_table_is_told_with_what_to_do(table: Database, heard: Heard) -> None:
    await query(table, "RENAME TABLE t TO gone")
    heard.events.clear()
    with pytest.raises(DatabaseAwayError):
        await table.transaction(_insert, what="record 1 messages")
    assert table.outage == "incomplete"
    assert "restore the missing tables" in said(heard)[0]
    await query(table, "RENAME TABLE gone TO t")
    await table.transaction(_insert, what="record 2 messages")
    assert table.outage == ""


async def test_another_cause_in_the_midst_of_an_outage_is_told_at_once(table: Database, heard: Heard) -> None:
    for text in (AS_IF.format(1114, "full"), AS_IF.format(1142, "INSERT command denied")):
        with pytest.raises(DatabaseAwayError):
            await table.transaction(reading(text), what="record 1 messages")
    assert heard.names() == ["database_full", "database_still_unavailable"]
    assert table.outage == "denied"


async def test_a_table_space_that_may_not_grow_is_a_full_disk_and_is_over_when_there_is_room(
    heard: Heard, tmp_path: Path
) -> None:
    """MariaDB's own error, where the tables share one file of a fixed size."""

    def server(most: int) -> Server:
        options = "--innodb-file-per-table=OFF", f"--innodb-data-file-path=ibdata1:12M:autoextend:max:{most}M"
        return Server(data=tmp_path / "data", cache=CACHE, extra=options)

    async def store(cursor: Cursor) -> None:
        await cursor.execute("INSERT INTO t (x) VALUES (REPEAT('x', 900000))")

    with server(20) as small:
        database = Database(DatabaseSettings(url=small.url, connect_timeout=5), events=StoreEvents(heard))
        as_admin(small, "CREATE TABLE mailerd.t (id INT AUTO_INCREMENT PRIMARY KEY, x LONGTEXT) ENGINE=InnoDB")
        while not database.outage:
            with suppress(DatabaseAwayError):
                await database.request(store, what="jobs.accept")
        await database.read(reading(), what="stats.read")
        assert (database.outage, heard.names()) == ("full", ["database_full"])
    larger = server(60)
    larger.port, larger.password = small.port, small.password
    with larger:

        async def is_stored() -> bool:
            with suppress(DatabaseAwayError):
                await database.request(store, what="jobs.accept")
            return not database.outage

        await eventually(is_stored)
        assert (heard.names()[0], heard.names()[-1]) == ("database_full", "database_back")
        await database.close()
