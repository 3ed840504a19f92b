"""The way to the database: TLS that was asked for is there or nothing is sent, and a socket file serves as well."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pymysql
import pytest
from yarl import URL

from mailerd.config import DatabaseSettings
from mailerd.errors import DatabaseAwayError
from mailerd.events.process import StoreEvents
from mailerd.sandbox.mariadb import Server
from mailerd.store.db.database import Database
from tests.conftest import CACHE
from tests.support.certificates import authority_and_server
from tests.support.dialect import known_by_its_digest, without_tls
from tests.support.heard import Heard


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    return authority_and_server(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def with_tls(certificates: tuple[Path, Path, Path]) -> Iterator[Server]:
    _, certificate, key = certificates
    with Server(cache=CACHE, extra=(f"--ssl-cert={certificate}", f"--ssl-key={key}")) as server:
        yield server


@pytest.fixture(scope="module")
def in_clear() -> Iterator[Server]:
    with Server(cache=CACHE, extra=(without_tls(),)) as server:
        yield server


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """Certificates of a server that is not named as it is reached, as MySQL makes them for itself."""
    return authority_and_server(tmp_path_factory.mktemp("elsewhere"), host="192.0.2.1")


async def cipher(url: str) -> str:
    """What the connection is encrypted with; empty: it is not."""
    database = Database(DatabaseSettings(url=url, connect_attempts=1, connect_timeout=5), events=StoreEvents(Heard()))

    async def ask(cursor: Any) -> str:
        await cursor.execute("SHOW STATUS LIKE 'Ssl_cipher'")
        return str((await cursor.fetchone())[1])

    try:
        return await database.transaction(ask, what="look")
    finally:
        await database.close()


async def test_a_server_that_the_authority_has_signed_is_trusted(
    with_tls: Server, certificates: tuple[Path, Path, Path]
) -> None:
    assert (await cipher(f"{with_tls.url}?ssl_ca={certificates[0]}")).startswith("TLS_")
    assert (await cipher(f"{with_tls.url}?ssl=unverified")).startswith("TLS_")
    assert await cipher(with_tls.url) == ""


async def test_one_that_nobody_vouches_for_is_not_and_the_log_says_why(with_tls: Server) -> None:
    heard = Heard()
    settings = DatabaseSettings(url=f"{with_tls.url}?ssl=true", connect_attempts=1, connect_timeout=5)
    database = Database(settings, events=StoreEvents(heard))
    with pytest.raises(DatabaseAwayError):
        await database.open()
    (told,) = heard.of("database_unreachable")
    assert told["cause"].startswith("the server's certificate is rejected: ")
    assert "ssl_ca=…" in told["remedy"]


@pytest.mark.parametrize(
    "password", ["p\u00e4sswort", "\u5bc6\u7801", "\u043f\u0430\u0440\u043e\u043b\u044c", "a@:/ ?#%25"]
)
async def test_a_password_may_have_any_characters(mariadb: Server, database_url: str, password: str) -> None:
    """The server has it from clients that speak UTF-8; the driver writes Latin-1."""
    url = URL(database_url).with_user(URL(database_url).path.strip("/")).with_password(password)
    with (
        pymysql.connect(host="127.0.0.1", port=mariadb.port, user="admin", password=mariadb.password) as admin,
        admin.cursor() as cursor,
    ):
        cursor.execute(f"CREATE USER '{url.user}'@'127.0.0.1' IDENTIFIED BY %s", (password,))
        cursor.execute(f"GRANT ALL PRIVILEGES ON {url.user}.* TO '{url.user}'@'127.0.0.1'")
    await asyncio.to_thread(known_by_its_digest, str(url))
    assert isinstance(await cipher(str(url)), str)


@pytest.mark.parametrize("query", ["ssl=true", "ssl=unverified", "ssl_ca={ca}"])
async def test_a_server_without_tls_is_not_spoken_to_in_clear(
    in_clear: Server, certificates: tuple[Path, Path, Path], query: str
) -> None:
    """The driver goes on in clear: somebody in between need only strike out the server's offer."""
    with pytest.raises(DatabaseAwayError, match="the server does not offer TLS"):
        await cipher(f"{in_clear.url}?{query.format(ca=certificates[0])}")
    assert await cipher(in_clear.url) == ""


async def test_a_certificate_of_another_name_is_taken_where_only_its_authority_is_asked_for(
    elsewhere: tuple[Path, Path, Path], certificates: tuple[Path, Path, Path]
) -> None:
    authority, certificate, key = elsewhere
    with Server(cache=CACHE, extra=(f"--ssl-cert={certificate}", f"--ssl-key={key}")) as server:
        assert (await cipher(f"{server.url}?ssl=verify_ca&ssl_ca={authority}")).startswith("TLS_")
        with pytest.raises(DatabaseAwayError, match="certificate is rejected: IP address mismatch"):
            await cipher(f"{server.url}?ssl_ca={authority}")
        with pytest.raises(DatabaseAwayError, match=r"certificate is rejected: .*issuer"):
            await cipher(f"{server.url}?ssl=verify_ca&ssl_ca={certificates[0]}")
