"""The example receiver, run by Flask as its first lines say, takes what a daemon posts."""

import asyncio
import os
import sqlite3
import sys
from collections.abc import AsyncIterator
from contextlib import closing, suppress
from datetime import timedelta
from pathlib import Path

import pytest

from mailerd.store.db.database import Database
from mailerd.store.write.webhooks import NewEndpoint, Webhooks
from tests.house.source import ROOT
from tests.support.eventually import eventually
from tests.support.ports import free_port
from tests.support.rows import query
from tests.webhooks.conftest import Deliver, Happen
from tests.webhooks.test_delivering import delivered, running


@pytest.fixture
async def example(database: Database, tmp_path: Path) -> AsyncIterator[str]:
    port = free_port()
    url = f"http://127.0.0.1:{port}/mailerd"
    _, secret = await Webhooks(database, timeout=5).create(NewEndpoint("example", url), actor="test")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "flask", "--app", str(ROOT / "examples" / "webhook_receiver.py"), "run",
        "--port", str(port),
        env={**os.environ, "WEBHOOK_SECRET": secret, "WEBHOOK_DATABASE": str(tmp_path / "events")},
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip

    async def listens() -> bool:
        with suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            return True
        return False

    await eventually(listens)
    yield url
    process.terminate()
    await process.wait()


async def test_it_takes_what_is_signed_once_and_nothing_else(
    database: Database, example: str, deliver: Deliver, happen: Happen, tmp_path: Path
) -> None:
    assert example
    uids = await happen(10)
    async with running(deliver(timeout=10)):
        await delivered(database, 10)
        await query(database, "UPDATE webhook_deliveries SET status = 'waiting', attempts = 0")
        await delivered(database, 10)
    with closing(sqlite3.connect(tmp_path / "events")) as connection:
        assert sorted(uid for (uid,) in connection.execute("SELECT id FROM events")) == sorted(uids)
    await Webhooks(database, timeout=5).rotate(
        (await Webhooks(database, timeout=5).find("example")).id, overlap=timedelta(), actor="test"
    )
    (refused,) = await happen(1)
    async with running(deliver(timeout=10)):

        async def is_refused() -> bool:
            rows = await query(database, "SELECT error FROM webhook_deliveries WHERE http = 400")
            return rows[:1] == [("it responded 400: the signature is not good",)]

        await eventually(is_refused)
    with closing(sqlite3.connect(tmp_path / "events")) as connection:
        assert connection.execute("SELECT 1 FROM events WHERE id = ?", (refused,)).fetchall() == []
