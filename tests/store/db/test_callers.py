"""Callers that wait, however many there are at once, leave connections to the messages."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any
from unittest.mock import Mock

import pytest

from mailerd.clock import Clock
from mailerd.config import DatabaseSettings
from mailerd.errors import DatabaseAwayError, DatabaseError
from mailerd.events.process import StoreEvents
from mailerd.store.db.database import Database
from mailerd.store.db.migrate import migrate
from mailerd.store.write.secrets import Secrets
from mailerd.worker.message_builder import UnsubscribeLinks
from tests.support.eventually import eventually
from tests.support.heard import Heard
from tests.support.holding import holding
from tests.support.own_time import own_time
from tests.support.rows import query

SLEEP = "SELECT SLEEP(1)"
HELD = "SELECT GET_LOCK('asked for', 20)"
WAIT = "SELECT GET_LOCK('asked for', 20), RELEASE_LOCK('asked for')"
WAITING = "SELECT COUNT(*) FROM information_schema.processlist WHERE state = 'User lock'"


def ask(
    database: Database, number: int, *, what: str = SLEEP, bound: float = 20.0
) -> list[asyncio.Task[Sequence[Any]]]:
    return [asyncio.create_task(database.request_rows(what, what="ask", bound=bound)) for _ in range(number)]


@asynccontextmanager
async def all_asking(database: Database, url: str, *, size: int) -> AsyncIterator[None]:
    """Three times as many ask as there are connections, and none is answered before the end."""

    async def waiting() -> bool:
        return await query(database, WAITING) == [(size - max(1, size // 4),)]

    async with holding(url, HELD):
        asking = ask(database, 3 * size, what=WAIT)
        await eventually(waiting)
        yield
        assert not any(it.done() for it in asking)
    await asyncio.gather(*asking)


@pytest.mark.parametrize("size", [2, 8])
async def test_a_message_does_not_wait_behind_all_who_ask(database_url: str, size: int) -> None:
    database = Database(DatabaseSettings(url=database_url, pool_size=size), events=StoreEvents(Heard()))
    await database.open()
    async with all_asking(database, database_url, size=size):
        await database.read_rows("SELECT 1", what="message")
    await database.close()


async def test_a_message_of_a_list_reads_the_keys_of_its_link_beside_all_who_ask(database_url: str) -> None:
    database, events = Database(DatabaseSettings(url=database_url, pool_size=8), events=StoreEvents(Heard())), Heard()
    await migrate(database, events=StoreEvents(events))
    await Secrets(database, timeout=20).keys()  # the first daemon makes them
    message = Mock(digest=bytes(32), id=1, sender="me@example.com")
    job = Mock(list_id=1, list_name="news", list_title=None, from_email="me@example.com")
    async with all_asking(database, database_url, size=8):
        assert await UnsubscribeLinks(database, base_url="", clock=Clock()).headers(message, job)
    await database.close()


class Outcomes:
    """How calls ended."""

    def __init__(self) -> None:
        self.ended = Counter[str]()

    def database_call(self, *, outcome: str, seconds: float) -> None:
        assert 0 <= seconds < 5
        self.ended[outcome] += 1


async def test_who_finds_no_place_in_time_is_told_and_a_wait_counts(database_url: str) -> None:
    counted = Outcomes()
    database = Database(DatabaseSettings(url=database_url, pool_size=2), events=StoreEvents(Heard()), meter=counted)
    await database.open()
    began = own_time()
    done = await asyncio.gather(*ask(database, 4, bound=2.4), return_exceptions=True)
    assert own_time() - began < 5
    refused = [it for it in done if isinstance(it, DatabaseError)]
    assert len(refused) in {2, 3}
    queued = [it for it in refused if it.phase == "queue"]
    assert queued
    assert counted.ended["refused"] >= len(queued)
    assert all(it.retry and not it.in_doubt and not isinstance(it, DatabaseAwayError) for it in queued)
    await database.close()
