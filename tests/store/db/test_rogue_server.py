"""A server that stands in the database's place gets no password and no file, and the error names what it asked for."""

import asyncio
import threading
import time
from itertools import product
from pathlib import Path

import aiomysql
import pytest
from pymysql.constants import CLIENT
from pymysql.err import MySQLError
from yarl import URL

from mailerd.cli.checks.clocks import Clocks
from mailerd.cli.checks.database import examine
from mailerd.cli.checks.result import Level
from mailerd.clock import Clock
from mailerd.config import DatabaseSettings
from mailerd.config.webhook_settings import WebhookSettings
from mailerd.core.rate_limit import SenderLimits
from mailerd.errors import DatabaseAwayError
from mailerd.events.process import StoreEvents
from mailerd.store.db import error_codes
from mailerd.store.db.connection import address, connect
from mailerd.store.db.database import Database
from mailerd.store.queue.rate_limits import DefaultLimits
from tests.support.certificates import authority_and_server
from tests.support.eventually import eventually
from tests.support.heard import Heard
from tests.support.rogue import ALL, FILE, FULL, KEY, OK, Rogue, switch

PASSWORD = "correct horse battery staple".replace(" ", "-")
BOUND = 5.0
"""Seconds; nothing here waits, so a refusal takes milliseconds."""
PLUGINS = (
    "mysql_native_password", "caching_sha2_password", "sha256_password", "mysql_clear_password", "mysql_old_password",
    "dialog", "client_ed25519", "",
)  # fmt: skip
SWITCHES = (*((switch(plugin),) for plugin in PLUGINS), (b"\xfe",), ())
TAILS = ((FULL, KEY, KEY, OK), (KEY, FULL, OK))
OLDER = (ALL & ~CLIENT.PLUGIN_AUTH_LENENC_CLIENT_DATA, CLIENT.PROTOCOL_41 | CLIENT.PLUGIN_AUTH)
"""What servers said that could do less; the password then stands otherwise in the packet."""
CASES = (*product(PLUGINS, SWITCHES, TAILS, (ALL,)), *product(PLUGINS, ((),), TAILS, OLDER))
IN_CLEAR = ("", "?unix_socket=")
WAYS = (
    *IN_CLEAR, "?ssl=true", "?ssl=true&unix_socket=", "?ssl=unverified", "?ssl_ca={ca}", "?ssl=verify_ca&ssl_ca={ca}",
    "?ssl_ca={ca}&unix_socket=",
)  # fmt: skip


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 whose authority nobody here trusts."""
    return authority_and_server(tmp_path_factory.mktemp("theirs"))[1:]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return authority_and_server(tmp_path_factory.mktemp("ours"))[0]


async def refusal(url: str) -> MySQLError | None:
    """Why there is no connection; None: there is one."""
    try:
        (await asyncio.wait_for(connect(URL(url)), BOUND)).abort()
    except MySQLError as error:
        return error
    return None


@pytest.mark.parametrize("offered", ["", "TLS"])
@pytest.mark.parametrize("way", WAYS)
async def test_no_server_gets_the_password_by_whatever_it_asks(
    way: str, offered: str, theirs: tuple[Path, Path], authority: Path
) -> None:
    unproven = way in {*IN_CLEAR, "?ssl=unverified"}
    for case in CASES if unproven else CASES[:: len(TAILS)]:
        plugin, asks, tail, capabilities = case
        script = (*asks, *tail)
        with Rogue(plugin=plugin, script=script, capabilities=capabilities, tls=theirs if offered else None) as rogue:
            error = await refusal(rogue.url(PASSWORD, way.format(ca=authority)))
        assert not rogue.has(PASSWORD), case
        assert error is None or (error_codes.number(error) and error_codes.words(error)), (case, error)
        assert unproven or error_codes.number(error or Exception()) == 2026, (case, error)


@pytest.mark.parametrize(
    "plugin, script",
    [
        ("mysql_clear_password", (OK,)),
        ("mysql_native_password", (switch("mysql_clear_password"), OK)),
        ("mysql_native_password", (switch("sha256_password"), KEY, OK)),
        ("sha256_password", (KEY, OK)),
        ("caching_sha2_password", (FULL, KEY, OK)),
    ],
)
async def test_the_driver_alone_would_give_it_away(plugin: str, script: tuple[bytes, ...]) -> None:
    """Else the test above would show nothing."""
    with Rogue(plugin=plugin, script=script) as rogue:
        url = URL(rogue.url(PASSWORD))
        assert error_codes.number(await refusal(str(url)) or Exception()) == 2061
        assert not rogue.has(PASSWORD)
        driver = aiomysql.Connection(**address(url))
        await driver.ping()
        driver.close()
        assert rogue.has(PASSWORD)


@pytest.mark.parametrize("way", ["", "?ssl=unverified"])
async def test_a_password_that_is_also_the_name_of_the_user_and_of_the_database_is_refused_for_no_wrong_reason(
    way: str, theirs: tuple[Path, Path]
) -> None:
    for plugin in ("mysql_native_password", "caching_sha2_password", "dialog"):
        with Rogue(plugin=plugin, tls=theirs) as rogue:
            assert await refusal(rogue.url("mailerd", way)) is None


@pytest.mark.parametrize("length", [1, 19, 31, 250, 251, 252])
@pytest.mark.parametrize("capabilities", [ALL, *OLDER])
async def test_a_password_of_any_length_is_kept(length: int, capabilities: int) -> None:
    password = "x" * length
    for plugin, script in (
        ("mysql_clear_password", (OK,)), ("mysql_native_password", (switch("mysql_clear_password"), OK)),
    ):  # fmt: skip
        with Rogue(plugin=plugin, script=script, capabilities=capabilities) as rogue:
            assert await refusal(rogue.url(password, user="me")) is not None
            assert not rogue.has(password)


@pytest.mark.parametrize("way", ["", "?ssl=unverified"])
async def test_a_refused_log_in_leaves_no_connection_even_where_the_server_closes_none(
    way: str, theirs: tuple[Path, Path]
) -> None:
    """TLS waits for 30 s for the other side to close, and a driver closes by it."""
    silent = threading.Event()
    with Rogue(script=(switch("mysql_clear_password"), OK), tls=theirs if way else None, silent=silent) as rogue:
        assert await refusal(rogue.url(PASSWORD, way)) is not None

        async def none_is_left() -> bool:
            return not established(rogue.port)

        await eventually(none_is_left, within=5)
        silent.set()


def established(port: int) -> int:
    """How many connections of this machine lead to a port of it (proc(5), /proc/net/tcp: 01 is TCP_ESTABLISHED)."""
    rows = [line.split()[2:4] for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(state == "01" and int(remote.partition(":")[2], 16) == port for remote, state in rows)


async def test_a_server_that_has_proven_itself_may_ask_for_the_password(tmp_path: Path) -> None:
    """As PAM and LDAP do, and MySQL at the first log-in after its start."""
    authority, *server = authority_and_server(tmp_path)
    for plugin, script in (("mysql_clear_password", (OK,)), ("caching_sha2_password", (FULL, OK))):
        with Rogue(plugin=plugin, script=script, tls=(server[0], server[1])) as rogue:
            assert await refusal(rogue.url(PASSWORD, f"?ssl_ca={authority}")) is None
            assert rogue.has(PASSWORD)


async def test_a_server_that_asks_for_a_file_gets_none_and_the_error_says_so() -> None:
    heard = Heard()
    with Rogue(query=FILE) as rogue:
        settings = DatabaseSettings(url=rogue.url(PASSWORD), connect_attempts=1, connect_timeout=5)
        database = Database(settings, events=StoreEvents(heard))
        with pytest.raises(DatabaseAwayError, match="asked for a file of this machine"):
            await asyncio.wait_for(database.open(), BOUND)
        await database.close()
        assert rogue.queries
    assert rogue.packets[-1][:1] == b"\x03"  # the query was the last that was sent
    assert "asked for a file" in heard.of("database_unreachable")[0]["cause"]


@pytest.mark.parametrize(
    "greeting",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n", b"SSH-2.0-OpenSSH_10.0\r\n", b"\x01\x00\x00\x00\x0a",
        b"\x05\x00\x00\x00\x0aabc\x00",
        b"\x00\x00\x00\x00",
    ],
)  # fmt: skip
async def test_what_is_no_database_is_called_so(greeting: bytes) -> None:
    with Rogue(greeting=greeting) as rogue:
        error = await refusal(rogue.url(PASSWORD))
    assert error is not None
    assert "is not MySQL or MariaDB" in error_codes.words(error)
    assert "host and port" in error_codes.refused(error_codes.number(error))


@pytest.mark.parametrize(
    "way, rogue, said, remedy",
    [
        ("", Rogue(plugin="mysql_clear_password"), "asks for the plain password", "?ssl=verify_ca&ssl_ca=FILE"),
        ("?ssl=true", Rogue(), "does not offer TLS", "remove ssl and ssl_ca"),
        ("", Rogue(script=(switch("dialog"), OK)), "plugin", "with a password"),
        ("", Rogue(query=FILE), "asked for a file", "which server responds"),
        ("", Rogue(greeting=b"HTTP/1.1 400 \r\n"), "not MySQL", "host and port"),
    ],
)
async def test_check_names_what_was_asked_for_and_what_to_do(way: str, rogue: Rogue, said: str, remedy: str) -> None:
    began = time.monotonic()
    with rogue:
        settings = DatabaseSettings(url=rogue.url(PASSWORD, way))
        (found,), *_ = await examine(
            settings,
            clock=Clock(),
            clocks=Clocks(),
            events=StoreEvents(Heard()),
            hooks=WebhookSettings(),
            limits=DefaultLimits(SenderLimits(0, 0, 0)),
        )
    assert found.level is Level.FAIL
    assert said in found.what
    assert remedy in found.remedy
    assert time.monotonic() - began < BOUND


async def test_a_certificate_that_nobody_vouches_for_is_named(theirs: tuple[Path, Path]) -> None:
    with Rogue(tls=theirs) as rogue:
        error = await refusal(rogue.url(PASSWORD, "?ssl=true"))
    assert error is not None
    assert "certificate is rejected: unable to get local issuer" in error_codes.words(error)
    assert "ssl=unverified" in error_codes.refused(error_codes.number(error), error)


async def test_what_a_server_says_of_an_error_is_one_line_that_no_terminal_obeys() -> None:
    said = b"bad\n2026-11-24 16:11:32Z SUCCESS job x finished\x1b]0;x\x07\x1b[2J"
    refused = b"\xff\x15\x04#28000" + said
    for rogue in (Rogue(script=(refused,)), Rogue(query=refused)):
        with rogue:
            settings = DatabaseSettings(url=rogue.url(PASSWORD), connect_attempts=1, connect_timeout=5)
            database = Database(settings, events=StoreEvents(Heard()))
            with pytest.raises(DatabaseAwayError, match=r"bad 2026-11-24.*finished") as caught:
                await asyncio.wait_for(database.open(), BOUND)
            await database.close()
        assert str(caught.value).isprintable()
