"""The site of the console, which serves the API too, behind a proxy that can take the database away."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from yarl import URL

from tests.support.proxy import Proxy
from tests.web.conftest import ConsoleSite, _children, console_site

__all__ = ["_children"]


@pytest.fixture
async def proxy(database_url: str) -> AsyncIterator[Proxy]:
    async with Proxy(URL(database_url).port or 0) as it:
        yield it


@pytest.fixture
async def site(database_url: str, proxy: Proxy, tmp_path: Path) -> AsyncIterator[ConsoleSite]:
    async with console_site(str(URL(database_url).with_port(proxy.port)), tmp_path) as it:
        yield it
