"""Several hosts in database.url: commands, `/health/ready`, log and metrics follow the server that takes writes."""

import asyncio
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from mailerd.config import DatabaseSettings
from mailerd.events.process import StoreEvents
from mailerd.sandbox.google import FakeGoogle, FakeLimits, serve
from mailerd.store.db.database import Database
from mailerd.store.db.migrate import migrate
from tests.chaos.child import PYTHON
from tests.conftest import CACHE
from tests.support.cluster import SemiSynchronous, needs_mariadb, semi_synchronous
from tests.support.daemon import running, settings, sign_in
from tests.support.eventually import eventually
from tests.support.heard import Heard
from tests.support.replicated import as_admin
from tests.support.rows import post
from tests.support.terminal import terminal

pytestmark = needs_mariadb


@pytest.fixture
def cluster() -> Iterator[SemiSynchronous]:
    with semi_synchronous(CACHE) as cluster:
        yield cluster


async def test_top_and_health_name_the_server_and_when_it_took_over(cluster: SemiSynchronous, tmp_path: Path) -> None:
    """In good order: the old primary answers as before, and is a replica now."""
    google, heard, where = FakeGoogle(FakeLimits()), Heard(), tmp_path / "credentials"
    where.mkdir()
    config = tmp_path / "mailerd.toml"
    config.write_text(f"[database]\nurl = {json.dumps(cluster.url)}\n")
    before = f"127.0.0.1:{cluster.primary.port}"
    command = [PYTHON, "-m", "mailerd", "top", "--every", "0.2", "--config", str(config)]
    async with (
        serve(google) as gmail,
        running(settings(cluster.url, gmail, where), heard),
        terminal(command, columns=100, rows=24, folder=tmp_path) as screen,
        aiohttp.ClientSession() as http,
    ):

        async def ready() -> dict[str, Any]:
            async with http.get(f"{intake}/health/ready") as answer:
                return dict(await answer.json())

        intake = heard.of("intake_listening")[0]["where"]
        await screen.shows(f"writes go to {before}")
        assert await ready() == {"status": "ready", "database_server": before}
        assert "took over" not in screen.text
        began = datetime.now(UTC)
        await asyncio.to_thread(cluster.switch_over)
        after = f"127.0.0.1:{cluster.primary.port}"
        assert after != before
        await screen.shows(f"writes go to {after}, which took over ")

        async def follows() -> bool:
            return (await ready()).get("database_server") == after

        await eventually(follows)
        moved = datetime.fromisoformat((await ready())["database_moved_at"])
        assert began <= moved <= datetime.now(UTC)
        assert heard.of("writer_changed")[0]["where"] == after
        async with http.get(f"{intake}/metrics") as answer:
            page = await answer.text()
        assert f'mailerd_database_server{{server="{after}"}} 1.0' in page
        assert f'mailerd_database_server{{server="{before}"}} 0.0' in page
        assert "mailerd_database_moves_total 1.0" in page


@pytest.mark.parametrize("end", ["the old primary is a replica that is behind", "the old primary is frozen"])
async def test_watch_follows_the_writer(cluster: SemiSynchronous, tmp_path: Path, end: str) -> None:
    google, heard, where = FakeGoogle(FakeLimits(latency_s=0)), Heard(), tmp_path / "credentials"
    sign_in(google, where)
    config = tmp_path / "mailerd.toml"
    config.write_text(f"[database]\nurl = {json.dumps(cluster.url)}\nconnect_timeout = 4\n")
    old = cluster.primary
    known = DatabaseSettings(url=cluster.url, connect_timeout=4)
    database = Database(known, events=StoreEvents(heard))
    await migrate(database, events=StoreEvents(heard))
    job = await post(database, recipients=3)
    await database.close()
    command = [PYTHON, "-m", "mailerd", "jobs", "watch", job, "--config", str(config)]
    async with terminal(command, columns=100, rows=24, folder=tmp_path) as screen, serve(google) as gmail:
        await screen.shows("0/3")
        if "frozen" in end:
            await asyncio.to_thread(cluster.until_equal)
            old.freeze()
            await asyncio.to_thread(cluster.fail_over)
        else:
            await asyncio.to_thread(cluster.switch_over)
            await asyncio.to_thread(as_admin, old, "STOP SLAVE")
        async with running(settings(cluster.url, gmail, where), heard):
            await screen.shows("completed, 3 recipients: 3 sent")
        assert await screen.ends() == 0
    old.thaw()
