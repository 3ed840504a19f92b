"""A stand-in for Google, a mailbox, a database and the settings of a daemon in front of them."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mailerd.config import Settings
from mailerd.sandbox.google import FakeGoogle, FakeLimits, RunningServer, serve
from tests.support.daemon import settings, sign_in
from tests.support.heard import Heard


@pytest.fixture(autouse=True)
def _children(forked: None) -> None:
    """They are forked; tests/mail starts them by exec, as a daemon does."""


@pytest.fixture(autouse=True)
def _no_sweep_but_at_its_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first one, some seconds after the start, would take a fault that is meant for another call."""
    monkeypatch.setattr("mailerd.worker.recovery._FIRST_SWEEP_AFTER", float("inf"))


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
def google() -> FakeGoogle:
    return FakeGoogle(FakeLimits(units_per_minute=0, project_units_per_minute=0, per_day=0))


@pytest.fixture
async def served(google: FakeGoogle) -> AsyncIterator[RunningServer]:
    async with serve(google) as running:
        yield running


@pytest.fixture
def credentials(google: FakeGoogle, tmp_path: Path) -> Path:
    folder = tmp_path / "credentials"
    sign_in(google, folder)
    return folder


@pytest.fixture
def known(database_url: str, served: RunningServer, credentials: Path) -> Settings:
    return settings(database_url, served, credentials)
