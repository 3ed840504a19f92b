"""MySQL's Group Replication: a member that its group would not stand behind is not written to, whatever it says."""

import time
from collections.abc import Iterator

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


async def test_the_primary_is_used_and_left_when_it_is_alone(group: Group) -> None:
    settings = DatabaseSettings(url=group.url, connect_timeout=4, statement_timeout=8, connect_attempts=1)
    database = Database(settings, events=StoreEvents(Heard()))
    try:
        assert await database.transaction(port, what="ask") == group.primary.port
        for node in group.replicas:
            node.kill()
        killed = time.monotonic()

        async def refused() -> bool:
            await database.pool.writer.watch()
            return "cut off from its group (sees 1 of 3 members)" in [
                role.trouble for role in database.pool.writer.roles.values()
            ]

        await eventually(refused)
        assert time.monotonic() - killed > 1.0  # until then it was right to use it
        assert as_admin(group.primary, "SELECT @@super_read_only") == [(0,)]  # by its variables it takes writes
        await database.pool.close()
        with pytest.raises(DatabaseAwayError, match="no server takes writes"):
            await database.transaction(port, what="ask")
    finally:
        await database.close()
