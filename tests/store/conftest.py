"""A migrated database for the store's tests, and a pool or a far database with nothing but a table `t`."""

from collections.abc import AsyncIterator

import pytest
from yarl import URL

from mailerd.config import DatabaseSettings
from mailerd.events.process import StoreEvents
from mailerd.sandbox.mariadb import Server
from mailerd.store.db.database import Database
from mailerd.store.db.pool import Pool
from tests.store.db.test_pool import rows
from tests.support.heard import Heard
from tests.support.proxy import Proxy
from tests.support.rows import query


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
async def database(database_url: str, heard: Heard) -> AsyncIterator[Database]:
    events = StoreEvents(heard)
    database = Database(DatabaseSettings(url=database_url, connect_timeout=20, statement_timeout=20), events=events)
    yield database
    await database.close()


@pytest.fixture
async def pool(fresh_database_url: str, heard: Heard) -> AsyncIterator[Pool]:
    settings = DatabaseSettings(url=fresh_database_url, connect_timeout=10, statement_timeout=10, pool_size=4)
    pool = Pool(settings, events=StoreEvents(heard))
    await rows(
        pool, "CREATE TABLE t (id INT PRIMARY KEY, v INT NOT NULL) ENGINE=InnoDB", "INSERT INTO t VALUES (1, 0), (2, 0)"
    )
    yield pool
    await pool.close()


@pytest.fixture
async def proxy(mariadb: Server, fresh_database_url: str) -> AsyncIterator[Proxy]:
    assert fresh_database_url  # it starts a server that the last test has killed
    async with Proxy(mariadb.port) as proxy:
        yield proxy


@pytest.fixture
async def far(proxy: Proxy, fresh_database_url: str, heard: Heard) -> AsyncIterator[Database]:
    """A database behind the proxy, with an empty table `t`."""
    url = str(URL(fresh_database_url).with_port(proxy.port))
    settings = DatabaseSettings(url=url, connect_timeout=1.5, statement_timeout=4, pool_size=3)
    far = Database(settings, events=StoreEvents(heard))
    await query(far, "CREATE TABLE t (id INT PRIMARY KEY) ENGINE=InnoDB")
    yield far
    await far.close()
