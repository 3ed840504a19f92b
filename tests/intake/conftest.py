"""A whole intake on loopback, over a database of its own."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
import pytest

from mailerd.config import DatabaseSettings, IntakeSettings
from mailerd.events.process import StoreEvents
from mailerd.store.db.database import Database
from mailerd.store.write.api_keys import ApiKeys
from tests.intake.site import PATIENCE, Build, Site, Wakeups, new_intake
from tests.support.heard import Heard


@pytest.fixture(autouse=True)
def _children(forked: None) -> None:
    """They are forked; tests/mail starts them by exec, as a daemon does."""


@pytest.fixture
async def build(database_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Build]:
    """Makes the site; a test may give its own settings."""
    closing: list[Callable[[], Awaitable[Any]]] = []

    async def make(*, patience: float = PATIENCE, settings: IntakeSettings | None = None, **options: Any) -> Site:
        heard, wakeups = Heard(), Wakeups()
        database = Database(
            DatabaseSettings(url=database_url, connect_timeout=patience, statement_timeout=max(20.0, patience)),
            events=StoreEvents(heard),
        )
        closing.append(database.close)
        keys = ApiKeys(database, timeout=20)
        intake = new_intake(database, heard, wakeups, settings, patience=patience, **options)
        serving = intake.serve()
        [(host, port)] = await serving.__aenter__()
        closing.append(lambda: serving.__aexit__(None, None, None))
        key = await keys.create("test")
        client = aiohttp.ClientSession(headers={"X-API-Key": key}, timeout=aiohttp.ClientTimeout(total=300))
        closing.append(client.close)
        return Site(f"http://{host}:{port}", key, client, database, keys, wakeups, heard, intake)

    yield make
    monkeypatch.setattr("mailerd.http.server._LINGER_SECONDS", 0.0)  # nobody connects any more
    for close in reversed(closing):
        await close()


@pytest.fixture
async def site(build: Build) -> Site:
    """An intake with the usual settings."""
    return await build()
