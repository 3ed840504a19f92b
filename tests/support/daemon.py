"""A whole daemon in the test's own loop, in front of a stand-in for Google and a real database."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from mailerd.app import Daemon, build
from mailerd.config import Settings
from mailerd.sandbox.google import COMPOSE, FakeGoogle, RunningServer
from tests.support.heard import Heard


def settings(database_url: str, google: RunningServer, credentials: Path, **sections: dict[str, Any]) -> Settings:
    """Settings for a quick test: it polls often, tries again soon and has no pace; what is merely slow has its time."""
    given: dict[str, dict[str, Any]] = {
        "database": {"url": database_url, "connect_timeout": 10, "statement_timeout": 20},
        "intake": {"port": 0},
        "runner": {"poll_interval": 0.2, "lease": 20, "drain_timeout": 30},
        "gmail": {
            "api_root": google.url,
            "token_uri": google.token_uri,
            "request_timeout": 5.0,
            "credentials_dir": credentials,
        },
        "pace": {"units_per_minute": 0, "per_day": 0},
        "retry": {"base": 0.1, "cap": 0.5},
    }
    for name, keys in sections.items():
        given[name] = {**given.get(name, {}), **keys}
    return Settings.model_validate(given)


def sign_in(
    google: FakeGoogle, credentials: Path, sender: str = "me@example.com", scopes: tuple[str, ...] = (COMPOSE,)
) -> None:
    """Give the stand-in a mailbox and the daemon its credential file."""
    credential = google.add_mailbox(sender, scopes=scopes)
    credentials.mkdir(exist_ok=True)
    file = credentials / f"{sender}.json"
    descriptor = os.open(file, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as opened:
        json.dump(credential, opened)


@asynccontextmanager
async def running(known: Settings, heard: Heard) -> AsyncIterator[Daemon]:
    """A daemon that runs meanwhile and is drained at the end; its death is the test's."""
    stop = asyncio.Event()
    daemon = build(known, heard)
    task = asyncio.create_task(daemon.run(stop))
    try:
        await _until_started(task, heard)
        yield daemon
    finally:
        stop.set()
        with patch("mailerd.http.server._LINGER_SECONDS", 0.0):  # no test connects to a daemon that it ends
            await task


async def sweep(daemon: Daemon) -> None:
    """Let it search for orphan drafts now, once."""
    await daemon.recovery.sweep()


async def _until_started(task: "asyncio.Task[None]", heard: Heard) -> None:
    started = asyncio.create_task(heard.wait_for("runner_started"))
    await asyncio.wait({task, started}, return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        started.cancel()
        await task
    await started
