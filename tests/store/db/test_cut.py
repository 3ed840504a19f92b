"""A connection that is cut is not the database: a new one is tried before anybody is told that it is away."""

import asyncio

import pytest

from mailerd.errors import DatabaseAwayError
from mailerd.store.db.connection import Cursor
from mailerd.store.db.database import Database
from tests.store.db.test_database import reading
from tests.support.heard import Heard
from tests.support.own_time import own_time
from tests.support.proxy import Proxy


class Cut:
    """Work whose connections are all cut in its midst, the first so many times."""

    def __init__(self, proxy: Proxy, times: int) -> None:
        self.calls = 0
        self._proxy = proxy
        self._times = times

    async def __call__(self, cursor: Cursor) -> int:
        self.calls += 1
        await cursor.execute("INSERT INTO t VALUES (%s)", (self.calls,))
        if self.calls <= self._times:
            await self._proxy.reset_all()
        await cursor.execute("SELECT COUNT(*) FROM t")
        return int((await cursor.fetchone())[0])


async def test_whoever_asks_over_a_connection_that_is_cut_is_answered_over_a_new_one(
    proxy: Proxy, far: Database, heard: Heard
) -> None:
    work = Cut(proxy, 1)
    assert await far.request(work, what="jobs.accept") == 1
    assert work.calls == 2
    assert not far.unavailable
    assert heard.names() == ["connection_cut"]


async def test_a_connection_that_is_cut_is_no_absence_to_those_who_ask(
    proxy: Proxy, far: Database, heard: Heard
) -> None:
    with pytest.raises(DatabaseAwayError):
        await far.transaction(Cut(proxy, 1), what="claims.take")
    assert not far.unavailable
    assert await far.request(reading(), what="jobs.accept") == 1
    assert heard.names() == ["connection_cut"]


async def test_an_answer_that_is_late_for_one_is_no_absence_to_others(far: Database, heard: Heard) -> None:
    with pytest.raises(DatabaseAwayError, match="no response within the time-out"):
        await far.request_rows("SELECT SLEEP(5)", what="unconfirmed.list", bound=0.3)
    assert not far.unavailable
    assert await far.request(reading(), what="jobs.accept") == 1
    assert heard.names() == ["connection_cut"]


async def test_a_server_that_answers_no_other_question_either_is_away(
    proxy: Proxy, far: Database, heard: Heard
) -> None:
    async def freeze(cursor: Cursor) -> None:
        await cursor.execute("SELECT 1")
        await proxy.black_hole()
        await cursor.execute("SELECT 1")

    with pytest.raises(DatabaseAwayError):
        await far.request(freeze, what="unconfirmed.list", bound=0.3, read_only=True)
    assert far.unavailable
    assert heard.names() == ["database_unavailable"]


async def test_a_server_that_answers_reads_and_no_write_is_away(
    database: Database, far: Database, heard: Heard
) -> None:
    """As while its tables are locked for a backup."""

    async def locked(cursor: Cursor) -> None:
        await cursor.execute("LOCK TABLES t READ")
        with pytest.raises(DatabaseAwayError, match="no response within the time-out"):
            await far.execute("INSERT INTO t VALUES (1)", what="jobs.accept", bound=1.3)

    await database.read(locked, what="lock a table")
    assert far.unavailable
    assert heard.names()[-1] == "database_unavailable"
    assert not heard.of("connection_cut")


async def test_idle_connections_to_the_server_that_has_gone_are_not_tried_after_the_first_was_cut(
    proxy: Proxy, far: Database
) -> None:
    together = asyncio.Barrier(3)

    async def meet(cursor: Cursor) -> None:
        await cursor.execute("SELECT 1")
        await together.wait()

    await asyncio.gather(*(far.transaction(meet, what="meet") for _ in range(3)))
    before = proxy.accepted

    async def forsaken(cursor: Cursor) -> None:
        if proxy.accepted == before:  # its power has gone: only this connection is told, by its keep-alive, say
            await proxy.forsake()
            cursor.connection.transport.abort()
        await cursor.execute("SELECT 1")

    start = own_time()
    await far.request(forsaken, what="jobs.accept")
    assert own_time() - start < 1.3  # each of them would be waited for 1.5 s


async def test_a_database_that_has_gone_is_told_when_the_new_connection_fails_too(
    proxy: Proxy, far: Database, heard: Heard
) -> None:
    async def goes(cursor: Cursor) -> None:
        await proxy.refuse()
        await proxy.reset_all()
        await cursor.execute("SELECT 1")

    with pytest.raises(DatabaseAwayError):
        await far.request(goes, what="jobs.accept")
    assert far.unavailable
    assert heard.names() == ["database_unavailable"]
