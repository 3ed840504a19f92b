"""A record that needs a row which somebody holds waits for that row by itself: the others are written meanwhile."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from mailerd.config import DatabaseSettings
from mailerd.core.claims import ClaimedRecipient, Outcome, Record, WriteResult
from mailerd.core.decisions import Decision
from mailerd.core.states import Transition
from mailerd.events.process import StoreEvents
from mailerd.store.db.database import Database
from mailerd.store.db.migrate import migrate
from mailerd.store.queue.record import RecordWriter
from mailerd.worker import recorder as recorder_module
from mailerd.worker.recorder import Recorder
from tests.store.queue.test_claim import claims
from tests.support.handover import handover
from tests.support.heard import PATIENCE, Heard
from tests.support.holding import holding
from tests.support.recording import new_recorder, recording
from tests.support.rows import post, query

SENT = Decision(Transition.SENT, message_id="m")
BACK = Decision(Transition.RELEASED, error="slow down", wait=timedelta(0))
SENDER_OF_A = "SELECT email FROM senders WHERE email = 'a@example.com' FOR UPDATE"


@pytest.fixture
def heard() -> Heard:
    return Heard()


class Outcomes:
    """How transactions have ended."""

    def __init__(self) -> None:
        self.seen: set[str] = set()

    def database_call(self, *, outcome: str, seconds: float) -> None:
        del seconds
        self.seen.add(outcome)


@pytest.fixture
def outcomes() -> Outcomes:
    return Outcomes()


@pytest.fixture
async def database(database_url: str, heard: Heard, outcomes: Outcomes) -> AsyncIterator[Database]:
    events = StoreEvents(heard)
    settings = DatabaseSettings(url=database_url, statement_timeout=4)  # a lock is waited for 1 s
    database = Database(settings, events=events, meter=outcomes)
    await migrate(database, events=events)
    yield database
    await database.close()


@pytest.fixture
async def recorder(database: Database, heard: Heard) -> AsyncIterator[Recorder]:
    async with recording(new_recorder(RecordWriter(database, "D1"), heard)) as recorder:
        yield recorder


async def messages(database: Database) -> list[ClaimedRecipient]:
    """Two messages of a@example.com, and two of b@example.com."""
    for sender in "ab":
        await post(database, sender=f"{sender}@example.com", recipients=2)
    return sorted((await claims(database).claim(4)).messages, key=lambda it: (it.sender, it.seq))


async def soon(recorder: Recorder, *records: Record) -> list[WriteResult]:
    """They are written although somebody stands still."""
    async with asyncio.timeout(60):
        return list(await asyncio.gather(*(recorder.record(record) for record in records)))


async def test_a_sender_that_somebody_holds_holds_up_no_record_of_another(
    database: Database, database_url: str, recorder: Recorder, outcomes: Outcomes
) -> None:
    one, two, other, last = await messages(database)
    async with holding(database_url, SENDER_OF_A):
        back = asyncio.create_task(recorder.record(Outcome(one, BACK)))
        assert await soon(recorder, handover(other, "d", "t")) == [WriteResult.APPLIED]
        again = asyncio.create_task(recorder.record(Outcome(two, BACK)))
        records = [Outcome(other, SENT), Outcome(last, BACK)]
        assert await soon(recorder, *records) == [WriteResult.APPLIED] * 2
        assert not back.done()
        assert not again.done()
        assert outcomes.seen == {"ok"}  # nobody has waited for the lock, and been refused it
    assert [await asyncio.wait_for(one, PATIENCE) for one in (back, again)] == [WriteResult.APPLIED] * 2
    rows = await query(database, "SELECT status, attempts FROM job_recipients ORDER BY id")
    assert rows == [("waiting", 0), ("waiting", 0), ("sent", 1), ("waiting", 0)]
    assert await query(database, "SELECT COUNT(*) FROM attempts") == [(4,)]


async def test_a_message_of_a_sender_that_somebody_holds_is_recorded_if_it_does_not_touch_the_sender(
    database: Database, database_url: str, recorder: Recorder
) -> None:
    one, *_ = await messages(database)
    async with holding(database_url, SENDER_OF_A):
        assert await soon(recorder, Outcome(one, SENT)) == [WriteResult.APPLIED]


async def test_a_lock_that_no_look_finds_holds_up_its_own_record_alone(
    database: Database, database_url: str, recorder: Recorder
) -> None:
    one, two, other, last = await messages(database)
    async with holding(database_url, f"SELECT id FROM job_recipients WHERE id = {one.id} FOR UPDATE"):
        held = asyncio.create_task(recorder.record(Outcome(one, SENT)))
        assert await soon(recorder, Outcome(two, SENT), Outcome(other, SENT)) == [WriteResult.APPLIED] * 2
        assert await soon(recorder, Outcome(last, BACK)) == [WriteResult.APPLIED]
        assert not held.done()
    assert await asyncio.wait_for(held, PATIENCE) is WriteResult.APPLIED
    assert await query(database, "SELECT COUNT(*) FROM attempts") == [(4,)]


async def test_a_record_that_is_held_up_for_long_is_told(
    database: Database, database_url: str, recorder: Recorder, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder_module, "_FIRST_NOTICE_AFTER", 0.1)
    one, *_ = await messages(database)
    async with holding(database_url, SENDER_OF_A):
        back = asyncio.create_task(recorder.record(Outcome(one, BACK)))
        told = await heard.wait_for("transaction_repeated")
        assert told["what"] == f"messages.record job={one.job_id} recipient={one.id}"
        assert "a@example.com" in told["cause"]
    assert await asyncio.wait_for(back, PATIENCE) is WriteResult.APPLIED


async def test_a_stop_does_not_wait_for_what_is_held_up(database: Database, database_url: str, heard: Heard) -> None:
    recorder = new_recorder(RecordWriter(database, "D1"), heard)
    running = asyncio.create_task(recorder.run())
    one, _, other, _ = await messages(database)
    async with holding(database_url, SENDER_OF_A):
        back = asyncio.create_task(recorder.record(Outcome(one, BACK)))
        await soon(recorder, Outcome(other, SENT))  # the batch of the first one is over
        running.cancel()
        await asyncio.wait([running], timeout=5)
        assert running.cancelled()
        back.cancel()
