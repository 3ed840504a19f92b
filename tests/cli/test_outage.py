"""While the database takes no writes, every command says so: none calls the daemon dead, or the queue well."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress

import pytest
from aiohttp import web

from mailerd.cli.daemon import ask_ready
from mailerd.config import IntakeSettings
from mailerd.sandbox.mariadb import Server
from tests.cli.conftest import Shop
from tests.support.ports import free_port
from tests.support.read_only import as_admin
from tests.support.rows import post, query

ALIVE = (
    "INSERT INTO daemons (id, host, pid, version, started_at, heartbeat_at) VALUES ('D', %s, %s, '0', "
    "UTC_TIMESTAMP(6) - INTERVAL 1 HOUR, UTC_TIMESTAMP(6) - INTERVAL {} SECOND)"
)


@pytest.fixture
def denied(shop: Shop, mariadb: Server, database_url: str) -> Iterator[Shop]:
    """Commands whose user may insert nothing, as the daemon's may not."""
    name = database_url.rpartition("/")[2]
    as_admin(mariadb, "CREATE USER IF NOT EXISTS 'updater'@'127.0.0.1' IDENTIFIED BY 'x'")
    as_admin(mariadb, f"GRANT SELECT, UPDATE, DELETE ON {name}.* TO 'updater'@'127.0.0.1'")
    url = f"mysql://updater:x@127.0.0.1:{mariadb.port}/{name}"
    shop.config.write_text(shop.config.read_text().replace(database_url, url))
    yield shop
    as_admin(mariadb, "DROP USER 'updater'@'127.0.0.1'")


@pytest.mark.parametrize("silent", [2, 50])
async def test_a_missing_privilege_is_the_one_thing_that_all_commands_say(denied: Shop, silent: int) -> None:
    """Whether the daemon's heartbeat is missed yet or not: it lives, and cannot write one."""
    job = await post(denied.database)
    await query(denied.database, ALIVE.format(silent), socket.gethostname(), os.getpid())
    top, explained, listed, checked = [
        await denied.say(*command, code=code)
        for *command, code in (("top", "--once", 0), ("explain", job, 0), ("jobs", "list", 0), ("check", 1))
    ]  # fmt: skip
    assert "The database denies its user a privilege: nothing is accepted" in top
    assert "Waiting: the database denies its user a privilege." in explained
    assert "Next: nothing is sent until the database can be written to again." in explained
    assert f"{job}  database unavailable  " in listed
    assert "INSERT missing" in checked
    for said in (top, explained, listed, checked):
        assert "daemon responds" not in said
        assert "daemon has been seen" not in said
        assert "Everything is working" not in said


@asynccontextmanager
async def daemon(shop: Shop, status: int, answer: dict[str, object]) -> AsyncIterator[None]:
    """A daemon that is ready, or says why not."""
    app, port = web.Application(), free_port()

    async def ready(_: web.Request) -> web.Response:
        return web.json_response(answer, status=status, headers={"Server": "mailerd"})

    async def live(_: web.Request) -> web.Response:
        return web.json_response({"status": "alive"}, headers={"Server": "mailerd"})

    app.add_routes([web.get("/health/ready", ready), web.get("/health/live", live)])
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    shop.config.write_text(shop.config.read_text().replace("port = 0", f"port = {port}"))
    yield
    await runner.cleanup()


async def test_a_privilege_that_the_daemons_open_connections_still_have_is_missed_by_no_surface_but_the_check(
    denied: Shop,
) -> None:
    """It sends and accepts: a privilege that is revoked ends with the next connection, and `check` names it."""
    job = await post(denied.database)
    await query(denied.database, ALIVE.format(2), socket.gethostname(), os.getpid())
    async with daemon(denied, 200, {"status": "ready"}):
        top, explained, checked = [
            await denied.say(*command, code=code)
            for *command, code in (("top", "--once", 0), ("explain", job, 0), ("check", 1))
        ]
    assert "denies its user" not in top + explained
    assert "INSERT missing" in checked


async def test_a_full_disk_that_only_the_daemon_has_met_is_what_commands_say_too(shop: Shop) -> None:
    job = await post(shop.database)
    await query(shop.database, ALIVE.format(2), socket.gethostname(), os.getpid())
    async with daemon(shop, 503, {"status": "not ready", "reason": "why", "outage": "full"}):
        assert "The database is full: nothing can be stored" in await shop.say("top", "--once")
        assert "Waiting: the database is full." in await shop.say("explain", job)
        assert f"{job}  database unavailable  " in await shop.say("jobs", "list")
        assert "Waiting: the database is full." not in await shop.say("jobs", "list")
        assert "The database is full" in await shop.say("check", code=1)


async def test_a_daemon_that_is_ready_is_not_dead_for_want_of_a_heartbeat(shop: Shop) -> None:
    """As just after an outage of its database."""
    job = await post(shop.database)
    await query(shop.database, ALIVE.format(49), socket.gethostname(), os.getpid())
    async with daemon(shop, 200, {"status": "ready"}):
        said = [
            await shop.say("top", "--once"), await shop.say("explain", job), await shop.say("jobs", "list"),
            await shop.say("check", code=0),
        ]  # fmt: skip
    for each in said:
        assert "No daemon" not in each
        assert "no daemon" not in each
        assert "of another database" not in each


@pytest.mark.parametrize("body", [b"[" * 200_000, b"x" * 10_000_000, b"{}"], ids=["deep", "endless", "stranger"])
async def test_whatever_listens_in_the_daemons_place_is_read_to_a_bound_and_is_no_daemon(body: bytes) -> None:
    sent = 0

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.0 503 no\r\nServer: " + (b"mailerd" if body != b"{}" else b"other") + b"\r\n\r\n")
        with suppress(ConnectionError):
            for begin in range(0, len(body), 65_536):
                writer.write(body[begin : begin + 65_536])
                await writer.drain()
                sent += 65_536
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", port := free_port()):
        with pytest.raises(OSError):  # noqa: PT011 - reset, or said as no response
            await ask_ready(IntakeSettings(port=port))
    assert sent < 8_000_000
