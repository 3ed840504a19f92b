"""Records gather into one commit where that holds up no message, and a claim's messages join their project once."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from mailerd.core.claims import ClaimedRecipient, Outcome, Record, WriteResult
from mailerd.core.decisions import Decision
from mailerd.core.states import Transition
from mailerd.errors import DatabaseError
from mailerd.gmail import MessageSemaphore
from mailerd.store.db.connection import Cursor
from mailerd.store.db.database import Database
from mailerd.store.queue.record import RecordWriter
from mailerd.worker.recorder import Recorder
from tests.store.queue.test_claim import claims
from tests.support.handover import handover
from tests.support.heard import Heard
from tests.support.recording import new_recorder, recording
from tests.support.rows import post, query
from tests.support.ticking import Ticking

SLOTS = 4


class Watched(Database):
    """Counts the senders that join their project, and fails the next ones where it is told to."""

    def __init__(self, database: Database) -> None:
        vars(self).update(vars(database))
        self.joins, self.broken = 0, False

    async def transaction(self, work: Any, **keywords: Any) -> Any:
        if keywords.get("what") == "senders.note_project":
            self.joins += 1
            if self.broken:
                raise DatabaseError("note", phase="work", cause=OSError(), errno=1213, retry=True, in_doubt=False)
        return await super().transaction(work, **keywords)


@dataclass(frozen=True)
class Batches(RecordWriter):
    """Notes the size of each commit."""

    sizes: list[int] = field(default_factory=list)

    async def record(self, cursor: Cursor, records: Sequence[Record]) -> list[WriteResult]:
        self.sizes.append(len(records))
        return await super().record(cursor, records)


@pytest.fixture
def clock() -> Ticking:
    return Ticking()


@pytest.fixture
def semaphore() -> MessageSemaphore:
    return MessageSemaphore(SLOTS)


@pytest.fixture
def watched(database: Database) -> Watched:
    return Watched(database)


@pytest.fixture
def rows(watched: Watched) -> Batches:
    return Batches(watched, "D1")


@pytest.fixture
async def recorder(rows: Batches, semaphore: MessageSemaphore, clock: Ticking, heard: Heard) -> AsyncIterator[Recorder]:
    async with recording(new_recorder(rows, heard, semaphore=semaphore, clock=clock)) as recorder:
        yield recorder


async def messages(database: Database, number: int) -> Sequence[ClaimedRecipient]:
    await post(database, recipients=number)
    return (await claims(database).claim(number)).messages


async def written(recorder: Recorder, *some: ClaimedRecipient) -> None:
    """Their drafts are recorded, though the clock stands still."""
    async with asyncio.timeout(30):
        found = await asyncio.gather(*(recorder.record(handover(one, f"d{one.id}", "t")) for one in some))
    assert set(found) == {WriteResult.APPLIED}


async def test_records_that_follow_closely_share_a_commit(
    database: Database, recorder: Recorder, rows: Batches, clock: Ticking
) -> None:
    first, *others = await messages(database, 4)
    await written(recorder, first)  # nothing was written before it: it waits for no other
    waiting = []
    for one in others:
        waiting.append(asyncio.create_task(written(recorder, one)))
        await asyncio.sleep(0.05)  # the recorder has seen it; by its own clock no time has passed
    assert rows.sizes == [1]
    await clock.move(0.016)
    await asyncio.gather(*waiting)
    assert rows.sizes == [1, 3]


async def test_a_record_after_a_rest_is_written_at_once(
    database: Database, recorder: Recorder, rows: Batches, clock: Ticking
) -> None:
    first, second = await messages(database, 2)
    await written(recorder, first)
    await clock.move(0.04)
    await written(recorder, second)
    assert rows.sizes == [1, 1]


async def test_no_handover_that_holds_a_slot_waits_for_others_while_messages_wait_for_slots(
    database: Database, recorder: Recorder, semaphore: MessageSemaphore
) -> None:
    await written(recorder, *await messages(database, 1))  # from here on its sender's row says how it sends
    first, second, *others = await messages(database, 2 + SLOTS + 1)
    semaphore.add(others)
    slots = AsyncExitStack()
    for other in others[:SLOTS]:
        await slots.enter_async_context(semaphore.slot(other))
    waiting = asyncio.create_task(slots.enter_async_context(semaphore.slot(others[-1])))
    async with asyncio.timeout(30):
        for message in (first, second):
            assert await recorder.record(handover(message)) is WriteResult.APPLIED  # directly
    waiting.cancel()
    await slots.aclose()


async def test_the_handover_of_a_draft_and_an_outcome_wait_for_others_though_messages_wait_for_slots(
    database: Database, recorder: Recorder, rows: Batches, semaphore: MessageSemaphore, clock: Ticking
) -> None:
    first, second, third, *others = await messages(database, 3 + SLOTS)
    semaphore.add(others)
    await written(recorder, first, third)
    for record in (
        handover(second, "d", "t"),
        Outcome(third, Decision(Transition.FAILED, error="refused"), took=1.0),
    ):
        before = len(rows.sizes)
        waiting = asyncio.create_task(recorder.record(record))
        await asyncio.sleep(0.05)
        assert (waiting.done(), len(rows.sizes)) == (False, before)
        await clock.move(0.016)
        assert await waiting is WriteResult.APPLIED


async def test_the_messages_of_a_claim_join_their_project_once(
    database: Database, recorder: Recorder, watched: Watched
) -> None:
    one, two, *_ = await messages(database, 3)
    pauses = await asyncio.gather(*(recorder.join_project(message, "p", "draft") for message in (one, two)))
    assert pauses == [None, None]
    assert await recorder.join_project(one, "p", "draft") is None
    assert watched.joins == 1
    assert await query(database, "SELECT project, mode FROM senders WHERE email = %s", one.sender) == [("p", "draft")]


async def test_a_message_whose_sign_in_was_exchanged_meanwhile_notes_its_own_project(
    database: Database, recorder: Recorder, watched: Watched
) -> None:
    one, two = await messages(database, 2)
    await recorder.join_project(one, "p", "draft")
    await recorder.join_project(two, "q", "direct")
    assert await query(database, "SELECT project, mode FROM senders WHERE email = %s", one.sender) == [("q", "direct")]
    assert watched.joins == 2


async def test_a_later_claim_learns_anew_whether_its_project_rests(
    database: Database, recorder: Recorder, watched: Watched
) -> None:
    await post(database, recipients=2)
    (one,) = (await claims(database).claim(1)).messages
    assert await recorder.join_project(one, "p", "draft") is None
    await query(
        database,
        "INSERT INTO senders (email, project, pause_cause, pause_reason, paused_until, created_at) "
        "VALUES ('other@example.com', 'p', 'project_limit', 'used up', UTC_TIMESTAMP(6) + INTERVAL 1 HOUR, NOW())",
    )
    (two,) = (await claims(database).claim(1)).messages
    pause = await recorder.join_project(two, "p", "draft")
    assert pause is not None
    assert pause.reason == "used up"
    assert watched.joins == 2


async def test_every_message_of_a_claim_hears_that_its_project_could_not_be_noted(
    database: Database, recorder: Recorder, watched: Watched
) -> None:
    one, two = await messages(database, 2)
    watched.broken = True
    for message in (one, two):
        with pytest.raises(DatabaseError):
            await recorder.join_project(message, "p", "draft")


async def test_that_a_draft_was_sent_waits_for_others_but_not_once_something_else_is_said(
    database: Database, recorder: Recorder, rows: Batches, clock: Ticking
) -> None:
    claimed = await messages(database, 6)
    await written(recorder, *claimed)
    sent = Decision(Transition.SENT, message_id="m")
    drafts = [replace(one, draft_id=f"d{one.id}", sender_mode="draft") for one in claimed]
    before = len(rows.sizes)
    waiting = []
    for one in drafts[:5]:
        waiting.append(asyncio.create_task(recorder.record(Outcome(one, sent))))
        await asyncio.sleep(0.02)
        await clock.move(0.016)
    assert len(rows.sizes) == before, "80 ms have passed"
    waiting.append(asyncio.create_task(recorder.record(Outcome(drafts[5], Decision(Transition.FAILED, error="no")))))
    await asyncio.sleep(0.02)
    await clock.move(0.016)
    assert set(await asyncio.gather(*waiting)) == {WriteResult.APPLIED}
    assert rows.sizes[before:] == [6]
