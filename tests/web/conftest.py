"""A whole daemon with its console on loopback, over a database of its own; Google is a stand-in."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from mailerd.app import Daemon, build
from mailerd.config import (
    DatabaseSettings,
    GmailSettings,
    IntakeSettings,
    RunnerSettings,
    Settings,
    TemplateSettings,
    WebSettings,
)
from mailerd.errors import DatabaseAwayError
from mailerd.store.db.database import Database
from mailerd.store.db.migrate import migrate
from mailerd.store.write.api_keys import ApiKeys
from tests.support.heard import Heard

EXAMPLES = Path(__file__).parents[2] / "examples" / "templates"
SAME = {"Sec-Fetch-Site": "same-origin"}


@dataclass
class ConsoleSite:
    """The console as a browser without scripts sees it."""

    url: str
    daemon: Daemon
    database: Database
    keys: ApiKeys
    heard: Heard
    sessions: list[aiohttp.ClientSession]

    def lose_database(self) -> None:
        """As if the database had not responded when it was last used."""
        cause = TimeoutError("no response within 5 s")
        self.database._mark_down(
            DatabaseAwayError("connect", phase="connect", cause=cause, errno=0, retry=True, in_doubt=False)
        )

    def find_database(self) -> None:
        """As if it had responded again."""
        self.database._unreachable, self.database._away_since = False, None

    def visitor(self) -> aiohttp.ClientSession:
        """A browser that has not signed in."""
        jar = aiohttp.CookieJar(unsafe=True)
        made = aiohttp.ClientSession(self.url, cookie_jar=jar, headers=SAME, timeout=aiohttp.ClientTimeout(total=120))
        self.sessions.append(made)
        return made

    async def signed_in(self, name: str = "shop", **limits: Any) -> aiohttp.ClientSession:
        """A browser that has signed in with a new key."""
        return await self.sign_in(await self.keys.create(name, **limits))

    async def sign_in(self, secret: str) -> aiohttp.ClientSession:
        """A browser that has signed in with this key."""
        browser = self.visitor()
        async with browser.post("/login", data={"key": secret}) as answer:
            assert answer.status == 200, await answer.text()
            assert answer.url.path == "/"
        return browser


@pytest.fixture(autouse=True)
def _children(forked: None) -> None:
    """They are forked; tests/mail starts them by exec, as a daemon does."""


@pytest.fixture
async def site(database_url: str, tmp_path: Path) -> AsyncIterator[ConsoleSite]:
    """The site of a test that runs in an event loop of its own."""
    async with console_site(database_url, tmp_path) as it:
        yield it


@asynccontextmanager
async def console_site(database_url: str, tmp_path: Path) -> AsyncIterator[ConsoleSite]:
    """The site; its daemon sends nothing, since no loop of it runs but the intake."""
    settings = Settings(
        database=DatabaseSettings(url=database_url, connect_timeout=20, statement_timeout=20),
        intake=IntakeSettings(port=0),
        gmail=GmailSettings(credentials_dir=tmp_path),
        runner=RunnerSettings(),
        templates=TemplateSettings(folder=str(EXAMPLES)),
        web=WebSettings(hosts="mail.example.com"),
    )
    heard = Heard()
    daemon = build(settings, heard)
    await migrate(daemon.database, events=daemon.store_events)
    sessions: list[aiohttp.ClientSession] = []
    async with daemon.intake.serve() as addresses:
        host, port = addresses[0]
        await daemon.daemons.heartbeat()
        daemon.service.stats.take(await daemon.service.stats.read())
        yield ConsoleSite(
            f"http://{host}:{port}", daemon, daemon.database, ApiKeys(daemon.database, timeout=5), heard, sessions
        )
        await daemon.console.live.stop()
        for each in sessions:
            await each.close()
    await daemon.database.close()
