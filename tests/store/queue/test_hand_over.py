"""New messages are handed over in one statement, which is fenced as the move is, and all of them or none are told."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest

from mailerd.core.claims import ClaimedRecipient, Handover, WriteResult
from mailerd.core.suppression import EVERYTHING, Channel, Reason
from mailerd.store.db.database import Database
from mailerd.store.queue.record import RecordWriter, is_plain_handover
from mailerd.store.write.suppressions import NewSuppression, Suppressions
from tests.store.queue.test_claim import claims
from tests.store.queue.test_record import write
from tests.support.handover import handover
from tests.support.heard import Heard
from tests.support.holding import holding
from tests.support.recording import new_recorder, recording
from tests.support.rows import post, query

EVERY_COLUMN = "SELECT * FROM job_recipients ORDER BY id"
OTHER = "2" * 26


async def claimed(database: Database, number: int, *, mode: str = "draft") -> Sequence[ClaimedRecipient]:
    """New messages of a sender whose row says how it sends."""
    await post(database, recipients=number)
    await query(database, "UPDATE senders SET mode = %s, project = 'p'", mode)
    return (await claims(database).claim(number)).messages


def plain(*messages: ClaimedRecipient) -> list[Handover]:
    found = [handover(it, f"d{it.seq}", f"t{it.seq}", project="p") for it in messages]
    assert all(map(is_plain_handover, found))
    return found


async def hand_over(database: Database, *records: Handover) -> bool:
    return await RecordWriter(database, "D1").hand_over(records)


async def opt_out(database: Database, message: ClaimedRecipient) -> None:
    people = await Suppressions.open(database, timeout=20)
    digest = people.digest(message.to_email)
    await people.add([NewSuppression(digest, EVERYTHING, Reason.UNSUBSCRIBED, Channel.ONE_CLICK, message.to_email)])


async def drafts(database: Database) -> list[str | None]:
    return [draft for (draft,) in await query(database, "SELECT draft_id FROM job_recipients ORDER BY id")]


@pytest.mark.parametrize("mode", ["draft", "direct"])
async def test_the_rows_are_as_the_move_would_have_them(database: Database, mode: str) -> None:
    messages = await claimed(database, 3, mode=mode)
    records = [handover(it, f"d{it.seq}" if mode == "draft" else None, project="p") for it in messages]
    await query(database, "UPDATE job_recipients SET crashes = 1")
    before = await query(database, EVERY_COLUMN)
    assert await hand_over(database, *records)
    by_statement = await query(database, EVERY_COLUMN)
    assert by_statement != before
    await query(
        database, "UPDATE job_recipients SET mode = NULL, draft_id = NULL, handed_over_at = NULL, crashes = 1",
    )  # fmt: skip
    assert await write(database, *records) == [WriteResult.APPLIED] * 3
    (columns,) = [[name for name, *_ in await query(database, "SHOW COLUMNS FROM job_recipients")]]
    for first, second in zip(by_statement, await query(database, EVERY_COLUMN), strict=True):
        differs = {name for name, one, other in zip(columns, first, second, strict=True) if one != other}
        assert differs <= {"handed_over_at", "updated_at"}


async def test_it_may_be_done_again(database: Database) -> None:
    records = plain(*await claimed(database, 2))
    assert await hand_over(database, *records)
    first = await query(database, "SELECT id, draft_id, handed_over_at FROM job_recipients")
    assert await hand_over(database, *records)
    assert await query(database, "SELECT id, draft_id, handed_over_at FROM job_recipients") == first


@pytest.mark.parametrize(
    "stop, stops",
    [
        ("UPDATE jobs SET status = 'cancelled'", True),
        ("UPDATE jobs SET status = 'paused'", True),
        ("UPDATE senders SET pause_cause = 'manual', paused_until = '9999-12-31'", True),
        ("UPDATE senders SET pause_cause = 'manual', paused_until = '2020-01-01'", False),
        ("UPDATE senders SET pause_cause = 'rate_limited', paused_until = '9999-12-31'", False),
    ],
)
async def test_none_is_handed_over_of_a_job_or_sender_that_a_person_has_stopped(
    database: Database, stop: str, *, stops: bool
) -> None:
    records = plain(*await claimed(database, 2))
    await query(database, stop)
    assert await hand_over(database, *records) is not stops
    assert await write(database, *records) == [WriteResult.STOPPED if stops else WriteResult.APPLIED] * 2
    assert await drafts(database) == [None, None] if stops else ["d0", "d1"]


async def test_one_that_arrives_late_keeps_that_the_draft_is_being_deleted(database: Database) -> None:
    """Its client had given it up and repeated it, and Google has refused the message meanwhile."""
    (record,) = plain(*await claimed(database, 1))
    assert await hand_over(database, record)
    assert await write(database, replace(record, discarding=True)) == [WriteResult.APPLIED]
    assert await hand_over(database, record)
    assert await query(database, "SELECT discarding FROM job_recipients") == [(1,)]


@pytest.mark.parametrize(
    "change",
    [
        f"claim_token = '{OTHER}'",  # another daemon has it by now
        "status = 'unsure'",  # its lease has run out
        "message_id = 'm1'",  # a former worker says that Google has it
    ],
)
async def test_what_another_has_or_google_has_is_not_handed_over(database: Database, change: str) -> None:
    records = plain(*await claimed(database, 2))
    await query(database, f"UPDATE job_recipients SET {change} WHERE seq = 1")
    assert not await hand_over(database, *records)
    assert (await drafts(database))[1] is None


async def test_where_one_has_opted_out_none_is_handed_over(database: Database) -> None:
    messages = await claimed(database, 2)
    await opt_out(database, messages[0])
    assert not await hand_over(database, *plain(*messages))
    assert await drafts(database) == [None, None]


async def test_the_others_are_handed_over_when_each_is_looked_at(database: Database, heard: Heard) -> None:
    messages = await claimed(database, 3)
    await opt_out(database, messages[1])
    async with recording(new_recorder(RecordWriter(database, "D1"), heard)) as recorder:
        records = plain(*messages)
        told = [await recorder.record(it) for it in records]
    assert told == [WriteResult.APPLIED, WriteResult.SUPPRESSED, WriteResult.APPLIED]
    assert await drafts(database) == ["d0", None, "d2"]


async def test_only_a_message_of_which_the_log_has_nothing_is_new(database: Database) -> None:
    await claimed(database, 2)
    await query(
        database,
        "INSERT INTO attempts (recipient_id, attempt, claim_token, daemon_id, event, at) "
        f"SELECT id, 1, '{OTHER}', 'D9', 'unanswered', UTC_TIMESTAMP(6) FROM job_recipients WHERE seq = 0",
    )
    await query(database, "UPDATE job_recipients SET status = 'waiting', claim_token = NULL")
    await query(database, "UPDATE jobs SET next_claim_at = UTC_TIMESTAMP(6)")
    await query(database, "UPDATE senders SET next_claim_at = UTC_TIMESTAMP(6)")
    again = (await claims(database).claim(2)).messages
    assert {it.seq: it.is_new for it in again} == {0: False, 1: True}


async def test_a_message_that_is_not_new_or_tells_more_is_recorded_as_any_other(database: Database) -> None:
    (message,) = await claimed(database, 1)
    (record,) = plain(message)
    assert not is_plain_handover(replace(record, message=replace(record.message, is_new=False)))
    assert not is_plain_handover(replace(record, discarding=True))
    assert not is_plain_handover(replace(record, project="another"))


async def test_a_row_that_is_locked_holds_up_the_others_once(
    database: Database, database_url: str, heard: Heard
) -> None:
    """As the statement waits for it; then each is recorded by itself, and the locked one when it is free."""
    first, second = await claimed(database, 2)
    async with recording(new_recorder(RecordWriter(database, "D1"), heard)) as recorder:
        async with holding(database_url, f"SELECT 1 FROM job_recipients WHERE id = {first.id} FOR UPDATE"):
            waiting = [asyncio.create_task(recorder.record(it)) for it in plain(first, second)]
            assert await waiting[1] is WriteResult.APPLIED
            assert not waiting[0].done()
        assert await waiting[0] is WriteResult.APPLIED
    assert await drafts(database) == ["d0", "d1"]
