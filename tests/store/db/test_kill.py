"""KILL of what was cut off: on the server that it ran on and on no other, and whatever goes wrong with it is told."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pymysql
import pytest
from yarl import URL

from mailerd.config import DatabaseSettings
from mailerd.errors import DatabaseError
from mailerd.events.process import StoreEvents
from mailerd.sandbox.mariadb import Server
from mailerd.store.db.connection import Cursor
from mailerd.store.db.pool import Pool
from tests.conftest import CACHE
from tests.store.db.test_pool import BUSY, rows
from tests.support.heard import Heard
from tests.support.proxy import Proxy


async def test_the_connection_number_of_a_restarted_server_is_somebody_elses_and_is_not_killed(
    mariadb: Server, database_url: str, heard: Heard
) -> None:
    mariadb.restart()  # connections are numbered from the beginning
    async with Proxy(mariadb.port) as proxy:
        url = str(URL(database_url).with_port(proxy.port))
        settings = DatabaseSettings(url=url, connect_timeout=2, statement_timeout=5, pool_size=2)
        pool = Pool(settings, events=StoreEvents(heard))

        async def work(cursor: Cursor) -> None:
            await cursor.execute("SELECT 1")
            thread = cursor.connection.driver.thread_id()
            cursor.connection.born -= 60
            await proxy.forsake()  # the old server's power has gone: nobody says so
            mariadb.restart()
            while True:
                innocents.append(pymysql.connect(host="127.0.0.1", port=mariadb.port, user=URL(url).user,
                                                 password=URL(url).password or ""))  # fmt: skip
                if innocents[-1].thread_id() >= thread:
                    break
            await cursor.execute("SELECT 1")

        innocents: list[Any] = []
        with pytest.raises(DatabaseError) as caught:
            await pool.transaction(work, what="test", bound=1.0)
        assert caught.value.phase == "work"
        await asyncio.gather(*pool._kills)
        for innocent in innocents:
            innocent.ping(reconnect=False)
            innocent.close()
        await pool.close()


async def test_the_connection_number_of_another_server_is_somebody_elses_and_is_not_killed(
    mariadb: Server, database_url: str, heard: Heard
) -> None:
    """A router has switched to another server, which has been up for as long: its connections have the same numbers."""
    with Server(cache=CACHE) as other:
        async with Proxy(mariadb.port) as proxy:
            url = URL(database_url).with_port(proxy.port)
            where = {"host": "127.0.0.1", "port": other.port, "user": "admin", "password": other.password}
            with pymysql.connect(**where, autocommit=True) as admin, admin.cursor() as setting:
                setting.execute("ALTER USER 'mailerd'@'127.0.0.1' IDENTIFIED BY %s", (url.password,))
                setting.execute(f"CREATE DATABASE IF NOT EXISTS {url.path[1:]}")
                setting.execute(f"GRANT ALL ON {url.path[1:]}.* TO 'mailerd'@'127.0.0.1'")
                ahead = admin.thread_id()
            number = 0
            while number <= ahead:  # so that the other server has yet to reach our number
                with pymysql.connect(
                    host="127.0.0.1", port=mariadb.port, user="mailerd", password=url.password or ""
                ) as one:
                    number = one.thread_id()
            settings = DatabaseSettings(url=str(url), connect_timeout=2, statement_timeout=5, pool_size=2)
            pool = Pool(settings, events=StoreEvents(heard))
            innocents: list[Any] = []

            async def work(cursor: Cursor) -> None:
                await cursor.execute("SELECT 1")
                thread = cursor.connection.driver.thread_id()
                proxy.lead_to(other.port)
                while True:
                    innocents.append(pymysql.connect(**where | {"user": "mailerd", "password": url.password}))
                    if innocents[-1].thread_id() >= thread:
                        break
                await cursor.execute(BUSY)

            with pytest.raises(DatabaseError):
                await pool.transaction(work, what="test", bound=2.0)
            await asyncio.gather(*pool._kills)
            for innocent in innocents:
                innocent.ping(reconnect=False)
                innocent.close()
            await pool.close()


async def test_a_kill_that_fails_is_told_and_takes_nothing_with_it(
    mariadb: Server, database_url: str, heard: Heard
) -> None:
    async with Proxy(mariadb.port) as proxy:
        url = str(URL(database_url).with_port(proxy.port))
        settings = DatabaseSettings(url=url, connect_timeout=1.5, statement_timeout=5, pool_size=2)
        pool = Pool(settings, events=StoreEvents(heard))
        user, password = URL(url).user, URL(url).password or ""
        where = {"host": "127.0.0.1", "port": proxy.port}
        (await asyncio.to_thread(pymysql.connect, user=user, password=password, **where)).close()
        log_in = proxy.passed["down"]

        def meeting(fault: Callable[[], Awaitable[None]]) -> Callable[[Cursor], Awaitable[None]]:
            async def work(cursor: Cursor) -> None:
                await proxy.forsake()
                await fault()
                await cursor.execute("SELECT 1")

            return work

        async def cut_after_log_in() -> None:
            proxy.cut_after(log_in)

        for fault in (cut_after_log_in, proxy.black_hole, proxy.refuse):
            with pytest.raises(DatabaseError):
                await pool.transaction(meeting(fault), what="test", bound=1.0)
            await asyncio.gather(*pool._kills)
            await proxy.heal()
        assert len(heard.of("kill_failed")) == 3
        assert await rows(pool, "SELECT 1") == [(1,)]
        await pool.close()
