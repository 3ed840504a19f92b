"""MySQL's Group Replication: the primary is found and followed, and what it cannot commit is not believed."""

import asyncio
from collections.abc import Iterator
from contextlib import suppress

import pytest

from mailerd.config import DatabaseSettings
from mailerd.errors import DatabaseAwayError
from mailerd.events.process import StoreEvents
from mailerd.store.db.connection import Cursor
from mailerd.store.db.database import Database
from tests.conftest import CACHE
from tests.support.eventually import eventually
from tests.support.group import Group, mysql_server
from tests.support.heard import Heard
from tests.support.replicated import as_admin

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(mysql_server() is None, reason="there is no MySQL server; tools/mysql-server unpacks one"),
]


@pytest.fixture
def group() -> Iterator[Group]:
    group = Group(CACHE)
    try:
        group.start()
        group.form({})
        as_admin(group.primary, "CREATE TABLE mailerd.t (id INT PRIMARY KEY)")
        group.until_equal()
        yield group
    finally:
        group.stop()


async def port(cursor: Cursor) -> int:
    await cursor.execute("SELECT @@port")
    return int((await cursor.fetchone())[0])


async def test_a_primary_that_is_frozen_is_left_for_the_one_that_the_group_elects(group: Group) -> None:
    """By their variables alone: the user of database.url may not see the tables of the group."""
    settings = DatabaseSettings(url=group.url, connect_timeout=4, statement_timeout=8, connect_attempts=1)
    database, old = Database(settings, events=StoreEvents(Heard())), group.primary
    try:
        assert await database.transaction(port, what="ask") == old.port
        old.freeze()
        await asyncio.to_thread(group.fail_over)

        async def is_used() -> bool:
            with suppress(DatabaseAwayError):
                return await database.transaction(port, what="ask") == group.primary.port
            return False

        await eventually(is_used)
        old.thaw()
        await database.pool.close()
        assert await database.transaction(port, what="ask") == group.primary.port != old.port
    finally:
        await database.close()


async def test_what_a_primary_without_its_group_accepts_is_not_believed(group: Group) -> None:
    settings = DatabaseSettings(url=group.url, connect_timeout=4, statement_timeout=3, connect_attempts=1)
    database = Database(settings, events=StoreEvents(Heard()))
    try:
        assert await database.transaction(port, what="ask") == group.primary.port
        for node in group.replicas:
            node.kill()

        async def is_refused() -> bool:
            try:
                await database.execute("REPLACE INTO t VALUES (1)", what="write")
            except DatabaseAwayError as error:
                return error.in_doubt
            return False

        await eventually(is_refused)
        assert as_admin(group.primary, "SELECT @@super_read_only") == [(0,)]  # by its variables it takes writes
    finally:
        await database.close()
