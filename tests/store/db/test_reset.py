"""A connection that is reset while it rests counts as lost under uvloop too, whose transports then refuse to write."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
import uvloop
from pymysql.err import OperationalError
from yarl import URL

from mailerd.config import DatabaseSettings
from mailerd.errors import DatabaseAwayError
from mailerd.events.process import StoreEvents
from mailerd.sandbox.mariadb import Server
from mailerd.store.db.connection import Connection, Cursor, connect
from mailerd.store.db.database import Database
from tests.support.heard import Heard
from tests.support.proxy import Proxy


@pytest.fixture(params=[uvloop.new_event_loop, asyncio.new_event_loop], ids=["uvloop", "asyncio"])
def runner(request: pytest.FixtureRequest) -> asyncio.Runner:
    return asyncio.Runner(loop_factory=request.param)


async def reset(proxy: Proxy, connection: Connection) -> None:
    await proxy.reset_all()
    await until_closing(connection)


async def until_closing(connection: Connection) -> None:
    async with asyncio.timeout(60):
        while not connection.transport.is_closing():  # noqa: ASYNC110 - a transport has no event for it
            await asyncio.sleep(0)
    for _ in range(5):  # turns of the loop in which its socket is closed too
        await asyncio.sleep(0)


async def execute(connection: Connection) -> int:
    return await (await connection.cursor()).execute("SELECT 1")


async def begin(connection: Connection) -> None:
    await connection.begin()


@pytest.mark.parametrize("talk", [execute, begin])
def test_what_is_said_over_a_connection_that_was_reset_fails_as_lost(
    mariadb: Server, database_url: str, runner: asyncio.Runner, talk: Callable[[Connection], Awaitable[object]]
) -> None:
    async def main() -> None:
        async with Proxy(mariadb.port) as proxy:
            connection = await connect(URL(database_url).with_port(proxy.port))
            await reset(proxy, connection)
            with pytest.raises(OperationalError) as caught:
                await talk(connection)
            assert caught.value.args[0] in {2006, 2013}
            connection.abort()

    with runner:
        runner.run(main())


@pytest.mark.parametrize("at", ["work", "commit"])
def test_a_transaction_whose_connection_was_reset_fails_as_one_without_database(
    mariadb: Server, database_url: str, runner: asyncio.Runner, at: str
) -> None:
    async def main() -> None:
        async with Proxy(mariadb.port) as proxy:
            settings = DatabaseSettings(url=str(URL(database_url).with_port(proxy.port)), connect_timeout=20)
            database = Database(settings, events=StoreEvents(Heard()))

            async def work(cursor: Cursor) -> None:
                await reset(proxy, cursor.connection)
                if at == "work":
                    await cursor.execute("SELECT 1")

            with pytest.raises(DatabaseAwayError) as caught:
                await database.transaction(work, what="write")
            assert caught.value.phase == at
            assert caught.value.in_doubt == (at == "commit")
            assert await database.read(lambda cursor: cursor.execute("SELECT 1"), what="look") == 1
            await database.close()

    with runner:
        runner.run(main())
