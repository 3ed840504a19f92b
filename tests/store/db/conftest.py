"""Tests of the connections and of the schema make their own tables, kill servers and leave locks."""

import pytest

from mailerd.events.process import StoreEvents
from mailerd.store.db.database import Database
from mailerd.store.db.migrate import migrate
from tests.support.heard import Heard


@pytest.fixture
def database_url(fresh_database_url: str) -> str:
    return fresh_database_url


@pytest.fixture
async def database(database: Database) -> Database:
    await migrate(database, events=StoreEvents(Heard()))
    return database
