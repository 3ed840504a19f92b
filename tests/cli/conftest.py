"""What commands are run against: a database, a stand-in for Google with one mailbox, and a configuration file."""

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from mailerd.config import DatabaseSettings, Settings, load
from mailerd.events.process import StoreEvents
from mailerd.sandbox.google import FakeGoogle, FakeLimits, serve
from mailerd.store.db.database import Database
from tests.support.daemon import sign_in
from tests.support.heard import Heard
from tests.support.prepared import PreparedProcess, prepared_for_commands

ME = "me@example.com"


@dataclass
class Shop:
    """A place to run commands in."""

    folder: Path
    google: FakeGoogle
    database: Database
    prepared: PreparedProcess

    @property
    def config(self) -> Path:
        return self.folder / "config.toml"

    @property
    def settings(self) -> Settings:
        return load(self.config, environment={})

    async def start(self, *words: str) -> asyncio.subprocess.Process:
        """Start a command; it says everything on standard output."""
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", "mailerd", *words, "--config", str(self.config), cwd=self.folder,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip

    async def say(self, *words: str, code: int = 0, given: str = "", encoding: str = "utf-8") -> str:
        """Run a command to its end as a process of its own; what it printed, both streams."""
        ended, out = await self.prepared.mailerd(
            *words, "--config", str(self.config), cwd=self.folder, given=given.encode(encoding), within=300
        )
        assert ended == code, out.decode()
        return out.decode()


@pytest.fixture(scope="session")
def prepared(for_children: PreparedProcess) -> Iterator[PreparedProcess]:
    with prepared_for_commands(for_children) as process:
        yield process


@pytest.fixture
async def shop(database_url: str, tmp_path: Path, prepared: PreparedProcess) -> AsyncIterator[Shop]:
    google = FakeGoogle(FakeLimits(units_per_minute=0, project_units_per_minute=0, per_day=0, latency_s=0))
    sign_in(google, tmp_path / "credentials", ME)
    async with serve(google) as served:
        (tmp_path / "config.toml").write_text(
            f'[database]\nurl = "{database_url}"\nconnect_timeout = 5\n[intake]\nport = 0\n'
            "[runner]\npoll_interval = 0.1\nlease = 8\n"
            f'[gmail]\napi_root = "{served.url}"\ntoken_uri = "{served.token_uri}"\n'
            'request_timeout = 2\ncredentials_dir = "credentials"\n'
            '[pace]\nunits_per_minute = 0\nper_day = 0\n[templates]\nfolder = "templates"\n'
        )
        (tmp_path / "config.toml").chmod(0o600)
        events = StoreEvents(Heard())
        database = Database(DatabaseSettings(url=database_url), events=events)
        yield Shop(tmp_path, google, database, prepared)
        await database.close()
