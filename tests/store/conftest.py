"""A migrated database for the store's tests, and a pool on a database with nothing but a table `t`."""

from collections.abc import AsyncIterator

import pytest

from mailerd.config import DatabaseSettings
from mailerd.events.store import StoreEvents
from mailerd.store.database import Database
from mailerd.store.migrate import migrate
from mailerd.store.pool import Pool
from tests.store.test_pool import rows
from tests.support.heard import Heard


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
async def database(database_url: str, heard: Heard) -> AsyncIterator[Database]:
    events = StoreEvents(heard)
    database = Database(DatabaseSettings(url=database_url, connect_timeout=2, statement_timeout=5), events=events)
    await migrate(database, events=events)
    yield database
    await database.close()


@pytest.fixture
async def pool(database_url: str, heard: Heard) -> AsyncIterator[Pool]:
    settings = DatabaseSettings(url=database_url, connect_timeout=2, statement_timeout=10, pool_size=4)
    pool = Pool(settings, events=StoreEvents(heard))
    await rows(
        pool, "CREATE TABLE t (id INT PRIMARY KEY, v INT NOT NULL) ENGINE=InnoDB", "INSERT INTO t VALUES (1, 0), (2, 0)"
    )
    yield pool
    await pool.close()
