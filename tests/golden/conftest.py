"""The site of console and API, behind a proxy that can take the database away; time stands still."""

from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import Self, override

import pytest
from yarl import URL

from mailerd.clock import Clock
from mailerd.sandbox.google import FakeGoogle, FakeLimits
from mailerd.sandbox.mariadb import Server
from mailerd.web.frame import html
from tests.golden.scene import HELD, ME, NOW, YOU
from tests.support.daemon import sign_in
from tests.support.proxy import Proxy
from tests.support.replicated import as_admin
from tests.web.conftest import ConsoleSite, _children, console_site

__all__ = ["_children"]
SENDERS = ME, YOU, HELD


class _Still(datetime):
    """For the pages."""

    @classmethod
    @override
    def now(cls, tz: tzinfo | None = None) -> Self:
        return cls.fromtimestamp(NOW.timestamp(), tz)


@pytest.fixture
def still_url(mariadb: Server, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a database for whose every session, and for this process, it is the moment `NOW`."""
    monkeypatch.setattr(Clock, "now", lambda _: NOW)
    monkeypatch.setattr(html, "datetime", _Still)
    as_admin(mariadb, f"SET GLOBAL init_connect = 'SET timestamp = {NOW.astimezone(UTC).timestamp()}'")
    yield database_url
    as_admin(mariadb, "SET GLOBAL init_connect = ''")


@pytest.fixture
async def proxy(still_url: str) -> AsyncIterator[Proxy]:
    async with Proxy(URL(still_url).port or 0) as it:
        yield it


@pytest.fixture
async def site(still_url: str, proxy: Proxy, tmp_path: Path) -> AsyncIterator[ConsoleSite]:
    google = FakeGoogle(FakeLimits())
    for sender in SENDERS:
        sign_in(google, tmp_path, sender)  # no token is asked for
    async with console_site(str(URL(still_url).with_port(proxy.port)), tmp_path) as it:
        yield it
