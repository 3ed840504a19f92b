"""A server that answers all but COMMIT, as a primary without its replicas does, is told once until it is over."""

import asyncio
import time

import pytest

from mailerd.config import DatabaseSettings
from mailerd.errors import DatabaseAwayError
from mailerd.events.process import StoreEvents
from mailerd.store.db.connection import Cursor
from mailerd.store.db.database import Database
from mailerd.store.db.migrate import check_writable, migrate
from tests.conftest import CACHE
from tests.support.eventually import eventually
from tests.support.heard import Heard
from tests.support.replicated import as_admin, replicated


async def test_a_commit_that_hangs_is_told_once_until_one_is_answered() -> None:
    heard = Heard()
    with replicated(CACHE, semi_synchronous=True) as pair:
        as_admin(pair.primary, "CREATE TABLE mailerd.t (id INT PRIMARY KEY)")
        database = Database(DatabaseSettings(url=pair.primary.url, connect_timeout=2), events=StoreEvents(heard))
        numbers = iter(range(1000))

        async def insert(cursor: Cursor) -> None:
            await cursor.execute("INSERT INTO t VALUES (%s)", (next(numbers),))

        async def look(cursor: Cursor) -> None:
            await cursor.execute("SELECT COUNT(*) FROM t")

        async def is_written() -> bool:
            try:
                await database.transaction(insert, what="jobs.accept", bound=1)
            except DatabaseAwayError:
                return False
            return True

        try:
            await migrate(database, events=StoreEvents(Heard()))
            await database.transaction(insert, what="jobs.accept")
            await check_writable(database)
            pair.replica.kill()
            for _ in range(3):
                with pytest.raises(DatabaseAwayError) as caught:
                    await database.transaction(insert, what="jobs.accept", bound=0.5)
                assert caught.value.in_doubt
                await database.read(look, what="jobs.read")
                await database.transaction(look, what="claims.take")  # it finds nothing: it only reads
                assert database.outage == "away"
                with pytest.raises(DatabaseAwayError, match="does not respond to COMMIT"):
                    await check_writable(database)
            assert heard.names() == ["database_unavailable"]
            began = time.monotonic()
            await asyncio.to_thread(pair.replica.start)
            await asyncio.to_thread(pair.follow_again)
            await eventually(is_written)
            assert heard.names() == ["database_unavailable", "database_back"]
            assert 0 < heard.of("database_back")[0]["seconds"] < time.monotonic() - began + 10
            assert database.outage == ""
            await check_writable(database)
        finally:
            await database.close()
