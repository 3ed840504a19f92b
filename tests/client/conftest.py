"""A whole daemon, and both clients in front of it."""

import asyncio
import inspect
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from mailerd.client import AsyncClient, Client
from mailerd.client import calls as under_test
from mailerd.config import DatabaseSettings
from mailerd.events.process import StoreEvents
from mailerd.sandbox.google import FakeGoogle, FakeLimits, serve
from mailerd.store.db.database import Database
from mailerd.store.write.api_keys import ApiKeys
from tests.support.daemon import running, settings, sign_in
from tests.support.heard import Heard
from tests.support.rows import query


@dataclass
class Place:
    """A daemon that runs."""

    url: str
    key: str
    keys: ApiKeys
    database: Database
    heard: Heard
    google: FakeGoogle

    @property
    def port(self) -> int:
        return urlsplit(self.url).port or 0

    async def jobs(self) -> int:
        return int((await query(self.database, "SELECT COUNT(*) FROM jobs"))[0][0])


@pytest.fixture(autouse=True)
def _children(forked: None) -> None:
    """They are forked; tests/mail starts them by exec, as a daemon does."""


@pytest.fixture
async def place(database_url: str, tmp_path: Path) -> AsyncIterator[Place]:
    google, heard = FakeGoogle(FakeLimits(units_per_minute=0, project_units_per_minute=0, per_day=0)), Heard()
    sign_in(google, tmp_path / "credentials")
    events = StoreEvents(Heard())
    database = Database(DatabaseSettings(url=database_url), events=events)
    keys = ApiKeys(database, timeout=10)
    templates = str(Path(__file__).parents[2] / "examples" / "templates")
    async with serve(google) as served:
        known = settings(
            database_url, served, tmp_path / "credentials", templates={"folder": templates},
            webhooks={"allow_http": True, "ports": [], "allow_networks": "127.0.0.0/8"},
        )  # fmt: skip
        async with running(known, heard):
            url = (await heard.wait_for("intake_listening"))["where"]
            yield Place(url, await keys.create("shop"), keys, database, heard, google)
    await database.close()


@pytest.fixture(params=[Client, AsyncClient])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Each of the clients in turn, made quick."""
    monkeypatch.setattr(under_test, "POLL_INTERVAL", 0.05)
    return request.param


async def ask(client: Client | AsyncClient, name: str, *values: Any, **options: Any) -> Any:
    """What a method says; that of the client without asyncio runs in a thread, and an iterator becomes a list."""
    method = getattr(client, name)
    if isinstance(client, Client):

        def call() -> Any:
            found = method(*values, **options)
            return list(found) if inspect.isgenerator(found) else found

        return await asyncio.to_thread(call)
    found = method(*values, **options)
    return [each async for each in found] if inspect.isasyncgen(found) else await found


def a_job(*emails: str, **fields: Any) -> Any:
    """A job that is good."""
    return {
        "sender_email": "me@example.com",
        "template": {"subject": "Hello {{ name }}", "text": "Thank you, {{ name }}."},
        "recipients": [{"email": each, "name": "Ada"} for each in emails or ("ada@example.org",)],
        **fields,
    }
