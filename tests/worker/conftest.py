"""A migrated database for the rescue's tests."""

from collections.abc import AsyncIterator

import pytest

from mailerd.config import DatabaseSettings
from mailerd.events.store import StoreEvents
from mailerd.store.db.database import Database
from mailerd.store.db.migrate import migrate
from tests.support.heard import Heard


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    events = StoreEvents(Heard())
    database = Database(DatabaseSettings(url=database_url, connect_timeout=20, statement_timeout=20), events=events)
    await migrate(database, events=events)
    yield database
    await database.close()
