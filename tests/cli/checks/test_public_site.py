"""Whether `public.base_url` leads to our page: told from what answers there, and from what does not."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from mailerd.cli.checks import CheckResult, Level, machine
from mailerd.cli.checks.machine import evaluate
from mailerd.config import DatabaseSettings, PublicSettings
from mailerd.events.intake import SuppressionEvents
from mailerd.events.process import StoreEvents
from mailerd.intake.unsubscribe_site import UnsubscribeSite
from mailerd.store.db.database import Database
from mailerd.store.db.migrate import migrate
from tests.support.certificates import authority_and_server
from tests.support.heard import Heard
from tests.support.ports import free_port
from tests.support.rows import query

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def served(handler: Handler, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    application = web.Application()
    application.router.add_get("/{path:.*}", handler)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
    yield runner.addresses[0][1]
    await runner.cleanup()


async def examined(base_url: str, *, port: int = 0) -> CheckResult:
    (found,) = await machine.examine(PublicSettings(port=port, base_url=base_url))
    assert found.check == "public: base_url"
    return found


async def test_our_own_site_passes_and_nothing_is_changed(database_url: str) -> None:
    heard = Heard()
    database = Database(DatabaseSettings(url=database_url, connect_timeout=1), events=StoreEvents(heard))
    await migrate(database, events=StoreEvents(heard))
    site = UnsubscribeSite(PublicSettings(), database=database, timeout=1, events=SuppressionEvents(heard))
    async with site.serve() as (_, port):
        found = await examined(f"http://127.0.0.1:{port}", port=port)
        assert found.level is Level.PASS
        assert f"http://127.0.0.1:{port} serves the unsubscribe page" in found.what
        assert await query(database, "SELECT COUNT(*) FROM suppressions") == [(0,)]
    await database.close()


async def test_our_own_site_without_its_database_is_a_warning() -> None:
    heard = Heard()
    away = Database(
        DatabaseSettings(url="mysql://u:p@127.0.0.1:9/mailerd", connect_timeout=0.5), events=StoreEvents(heard)
    )
    site = UnsubscribeSite(PublicSettings(), database=away, timeout=0.5, events=SuppressionEvents(heard))
    async with site.serve() as (_, port):
        found = await examined(f"http://127.0.0.1:{port}", port=port)
    assert found.level is Level.WARN
    assert "cannot reach its database" in found.what
    await away.close()


async def test_nothing_is_asked_where_there_are_no_links() -> None:
    assert await machine.examine(PublicSettings(port=5080)) == []


async def test_a_redirect_fails_and_is_not_followed() -> None:
    came = list[str]()

    async def redirect(request: web.Request) -> web.StreamResponse:
        came.append(request.path)
        return web.Response(status=301, headers={"Location": "/elsewhere"})

    async with served(redirect) as port:
        found = await examined(f"http://127.0.0.1:{port}/mail", port=port)
    assert found.level is Level.FAIL
    assert "redirects to /elsewhere" in found.what
    assert len(came) == 1
    assert came[0].startswith("/mail/u/")


@pytest.mark.parametrize("status", [200, 404, 502])
async def test_the_page_of_another_program_fails(status: int) -> None:
    async def other(_: web.Request) -> web.StreamResponse:
        return web.Response(status=status, text="welcome to nginx")

    async with served(other) as port:
        found = await examined(f"http://127.0.0.1:{port}", port=5080)
    assert found.level is Level.FAIL
    assert f"responds with {status} and a page that is not mailerd's" in found.what
    assert "to 127.0.0.1:5080" in found.remedy


async def test_silence_fails_within_its_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "ANSWER_TIMEOUT", 0.2)

    over = asyncio.Event()

    async def silent(_: web.Request) -> web.StreamResponse:
        await over.wait()
        return web.Response()

    async with served(silent) as port:
        async with asyncio.timeout(60):
            found = await examined(f"http://127.0.0.1:{port}", port=port)
        over.set()
    assert found.level is Level.FAIL
    assert "no response within 0.2 s" in found.what


async def test_an_endless_answer_is_not_read_to_its_end() -> None:
    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b"x" * 65_536)

    async with served(endless) as port, asyncio.timeout(60):
        found = await examined(f"http://127.0.0.1:{port}", port=port)
    assert "not mailerd's" in found.what


async def test_where_no_daemon_listens_yet_it_is_a_warning() -> None:
    port = free_port()
    found = await examined(f"http://127.0.0.1:{port}", port=port)
    assert found.level is Level.WARN
    assert f"nothing listens on 127.0.0.1:{port}" in found.what
    assert "mailerd run" in found.remedy


async def test_where_another_machine_serves_the_links_silence_fails() -> None:
    found = await examined(f"http://127.0.0.1:{free_port()}", port=0)
    assert found.level is Level.FAIL
    assert "DNS" in found.remedy


async def test_a_certificate_that_is_not_trusted_fails(tmp_path: Path) -> None:
    async def hello(_: web.Request) -> web.StreamResponse:
        return web.Response(text="hello")

    _, certificate, key = authority_and_server(tmp_path)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate, key)
    async with served(hello, tls=tls) as port:
        found = await examined(f"https://127.0.0.1:{port}", port=port)
    assert found.level is Level.FAIL
    assert "certificate" in found.what


def test_a_page_of_ours_passes_in_whatever_language_and_state() -> None:
    settings = PublicSettings(base_url="https://mail.example.com")
    assert evaluate(settings, status=404, ours=True).level is Level.PASS
    assert evaluate(settings, status=503, ours=True).level is Level.WARN
    assert evaluate(settings, status=503, ours=False).level is Level.FAIL
