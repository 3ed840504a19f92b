"""Where Google is reached by a proxy alone: every call goes through it, and one that fails costs no message
anything."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import pytest

from mailerd.config import DatabaseSettings, GmailSettings
from mailerd.core.replies import Call, NotSent
from mailerd.events.process import StoreEvents
from mailerd.events.worker import GmailEvents
from mailerd.gmail.session import GmailRequest, GmailSession
from mailerd.sandbox.google import METADATA, SEND, FakeGoogle, FakeLimits, serve
from mailerd.sandbox.google.faults import Fault
from mailerd.store.db.database import Database
from mailerd.store.db.migrate import migrate
from tests.support.daemon import sign_in
from tests.support.eventually import eventually
from tests.support.heard import Heard
from tests.support.ports import free_port
from tests.support.rows import post, query
from tests.support.tunnel import TlsFront, Tunnel, tls_front, tunnel

SECRET = "not-for-the-log"
PASSWORD = f"密码/{SECRET}"
SENT = "SELECT COUNT(*) FROM job_recipients WHERE status = 'sent'"


@dataclass
class Office:
    """A network whose only way out is a proxy; the certificates of what is outside are good."""

    folder: Path
    google: FakeGoogle
    proxy: Tunnel
    outside: TlsFront
    database: Database

    @property
    def way(self) -> str:
        return f"http://mailerd:{quote(PASSWORD, safe='')}@127.0.0.1:{self.proxy.port}"

    async def start(self, *words: str, proxy: str = "") -> asyncio.subprocess.Process:
        """Start a command; what it says goes to a file."""
        environment = {"SSL_CERT_FILE": str(self.outside.authority), "MAILERD_GMAIL__PROXY": proxy or self.way}
        with (self.folder / "said").open("wb") as said:
            return await asyncio.create_subprocess_exec(
                sys.executable, "-m", "mailerd", *words, "--config", str(self.folder / "config.toml"), cwd=self.folder,
                env={**os.environ, **environment}, stdout=said, stderr=asyncio.subprocess.STDOUT,
            )  # fmt: skip

    @property
    def said(self) -> str:
        return (self.folder / "said").read_text("utf-8")

    @asynccontextmanager
    async def sending(self, *, proxy: str = "") -> AsyncIterator[None]:
        """A daemon meanwhile."""
        daemon = await self.start("run", proxy=proxy)
        try:
            yield
        finally:
            daemon.terminate()
            await daemon.wait()

    async def until_sent(self, messages: int = 1) -> None:
        async def sent() -> bool:
            return await query(self.database, SENT) == [(messages,)]

        await eventually(sent)


@pytest.fixture
async def office(database_url: str, tmp_path: Path) -> AsyncIterator[Office]:
    google = FakeGoogle(FakeLimits(units_per_minute=0, project_units_per_minute=0, per_day=0))
    sign_in(google, tmp_path / "credentials")
    database = Database(DatabaseSettings(url=database_url), events=StoreEvents(Heard()))
    await migrate(database, events=StoreEvents(Heard()))
    async with (
        serve(google) as served,
        tls_front(int(served.url.rstrip("/").rpartition(":")[2]), tmp_path) as outside,
        tunnel(password=PASSWORD) as proxy,
    ):
        config = tmp_path / "config.toml"
        config.touch(mode=0o600)
        config.write_text(
            f'[database]\nurl = "{database_url}"\n[intake]\nport = 0\n[runner]\npoll_interval = 0.1\n'
            f'[gmail]\napi_root = "https://127.0.0.1:{outside.port}/"\n'
            f'token_uri = "https://127.0.0.1:{outside.port}/token"\nrequest_timeout = 2\n'
            "[pace]\nunits_per_minute = 0\nper_day = 0\n[retry]\nbase = 0.1\ncap = 0.5\n"
        )
        yield Office(tmp_path, google, proxy, outside, database)
    await database.close()


async def test_every_call_to_google_goes_through_the_proxy(office: Office) -> None:
    await post(office.database, recipients=3)
    async with office.sending():
        await office.until_sent(3)
    assert set(office.proxy.targets) == {f"127.0.0.1:{office.outside.port}"}
    assert len(office.proxy.targets) == office.outside.connections, "none came past the proxy"


async def test_the_check_names_a_proxy_that_refuses_us_and_shows_no_password(office: Office) -> None:
    office.proxy.password = "another"
    await (await office.start("check")).wait()
    assert "407" in office.said
    assert "gmail.proxy" in office.said
    assert SECRET not in office.said


@pytest.mark.parametrize("trouble", ["away", "refusing"])
async def test_a_proxy_that_fails_costs_a_message_no_attempt(office: Office, trouble: str) -> None:
    await post(office.database, recipients=1)
    if trouble == "refusing":
        office.proxy.password = "another"

    async def known() -> bool:
        row = await query(office.database, "SELECT status, attempts FROM job_recipients")
        return "no access token: " in office.said and row == [("waiting", 0)]

    async with office.sending(proxy=f"http://127.0.0.1:{free_port()}" if trouble == "away" else ""):
        await eventually(known)
        if trouble == "refusing":
            office.proxy.password = PASSWORD
            await office.until_sent()
    assert SECRET not in office.said


async def test_a_send_whose_answer_the_proxy_loses_is_looked_for_and_not_sent_again(office: Office) -> None:
    office.google.fault(Fault(kind="hang_after", method="drafts.send"))
    await post(office.database, recipients=1)
    async with office.sending():
        await office.until_sent()
    assert len(office.google.sent) == 1
    assert "confirmed as sent (" in office.said


async def test_a_direct_send_that_the_proxy_keeps_is_not_made_again_before_it_can_have_come(office: Office) -> None:
    """A reset ends our connection to the proxy, and not what the proxy has still to pass on."""
    sign_in(office.google, office.folder / "credentials", scopes=(SEND, METADATA))
    await post(office.database, recipients=1)
    async with office.sending():
        await office.until_sent()  # signed in
        kept = office.proxy.keep()
        await post(office.database, recipients=1)

        async def looked_for_in_vain() -> bool:
            return "still unconfirmed after check" in office.said

        await eventually(looked_for_in_vain)
        await asyncio.sleep(6)
        kept.set()

        async def came() -> bool:
            return len(office.google.sent) == 2

        await eventually(came)
        assert await query(office.database, SENT) == [(1,)], "it is looked for again, and not sent again"


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 302 Found\r\nLocation: http://a/\r\n\r\n",
        b"\x16\x03\xff\r\n\r\n",
        None,
    ],
    ids=["nothing", "a tunnel that ends", "a page to sign in", "no HTTP", "silence"],
)
async def test_of_a_proxy_that_makes_no_tunnel_nothing_reaches_google_and_the_cause_names_it(
    events: GmailEvents, answer: bytes | None
) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        if answer is None:
            await reader.read()
        else:
            writer.write(answer)
        writer.close()

    request = GmailRequest(Call.DRAFTS_SEND, sender="me", method="POST", url="https://gmail.example.com/x", body=b"{}")
    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        proxy = f"http://me:{SECRET}@127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with GmailSession(GmailSettings(request_timeout=1, proxy=proxy), events=events, limit=2) as session:
            outcome = await session.request(request, deadline=asyncio.get_running_loop().time() + 1)
    assert isinstance(outcome, NotSent)
    assert "gmail.proxy" in outcome.cause
    assert SECRET not in outcome.cause


async def test_a_proxy_that_knows_no_users_is_named_none_and_may_answer_in_pieces(events: GmailEvents) -> None:
    asked = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        for piece in (b"HTTP/1.1 200 Connection", b" established\r\nVia: 1.1 x\r\n", b"\r\n"):
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.01)
        asked.append(await reader.readexactly(3))
        writer.close()

    request = GmailRequest(Call.DRAFTS_SEND, sender="me", method="POST", url="https://gmail.example.com/x", body=b"{}")
    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        proxy = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with GmailSession(GmailSettings(request_timeout=5, proxy=proxy), events=events, limit=2) as session:
            outcome = await session.request(request, deadline=asyncio.get_running_loop().time() + 5)
    assert isinstance(outcome, NotSent)
    assert asked == [
        b"CONNECT gmail.example.com:443 HTTP/1.1\r\nHost: gmail.example.com:443\r\n\r\n",
        b"\x16\x03\x01",  # the hello of TLS
    ]
