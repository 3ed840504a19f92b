"""Settling by hand: only what is unsure, and the books know that a person did it."""

import pytest

from mailerd.core.claims import Outcome
from mailerd.core.states import State, Transition
from mailerd.store.db.database import Database
from mailerd.store.queue.recovery import NotUnsureError, settle
from tests.store.queue.test_claim import claims
from tests.store.queue.test_record import LOST, one_message, row, write
from tests.store.queue.test_recovery import rescues
from tests.support.handover import handover
from tests.support.rows import query


async def doubt(database: Database) -> int:
    message = await one_message(database)
    await write(database, handover(message))
    await write(database, Outcome(message, LOST))
    return message.id


async def test_a_message_that_was_sent_ends_its_job(database: Database) -> None:
    id_ = await doubt(database)
    settled = await settle(database, id_, change=Transition.FOUND, actor="T", message_id="m5")
    assert await query(database, "SELECT status, message_id, lease_until FROM job_recipients") == [("sent", "m5", None)]
    assert [it.job for it in settled.finished] == [settled.job_id]
    assert await query(database, "SELECT status, sent, failed FROM jobs") == [("completed", 1, 0)]


async def test_the_draft_of_a_message_that_a_person_calls_sent_lies_about_no_longer(database: Database) -> None:
    message = await one_message(database)
    await write(database, handover(message, "d1", "t1"))
    await write(database, Outcome(message, LOST))
    assert await rescues(database).is_orphan(job=message.job_id, seq=message.seq, draft="d1") is False
    await settle(database, message.id, change=Transition.FOUND, actor="T")
    assert await rescues(database).is_orphan(job=message.job_id, seq=message.seq, draft="d1") is True


async def test_a_message_that_was_not_sent_is_claimed_again(database: Database) -> None:
    id_ = await doubt(database)
    await settle(database, id_, change=Transition.MISSING, actor="T")
    (again,) = (await claims(database).claim(1)).messages
    assert again.id == id_
    assert await row(database, again, "mode") == (None,)
    assert await query(database, "SELECT event, error FROM attempts WHERE event = 'missing'") == [
        ("missing", "confirmed as not sent by T")
    ]


async def test_a_message_that_was_not_sent_goes_out_by_a_new_draft(database: Database) -> None:
    message = await one_message(database)
    await write(database, handover(message, "d1", "t1"))
    await write(database, Outcome(message, LOST))
    await settle(database, message.id, change=Transition.MISSING, actor="T")
    (again,) = (await claims(database).claim(1)).messages
    assert (again.id, again.draft_id, again.thread_id, again.unanswered) == (message.id, None, None, False)


@pytest.mark.parametrize("result, counts", [("bounced", (0, 2)), ("other_replied", (2, 0)), ("auto_replied", (2, 2))])
async def test_what_came_back_is_no_result_of_the_next_sending(
    database: Database, result: str, counts: tuple[int, int]
) -> None:
    id_ = await doubt(database)
    await query(database, "UPDATE job_recipients SET result = %s, result_kind = 'soft', result_reason = 'full'", result)
    before = [int(number) + 1 if number == 0 else int(number) for number in counts]
    await query(database, "UPDATE jobs SET bounced = %s, replied = %s", *before)
    await settle(database, id_, change=Transition.MISSING, actor="T")
    assert await query(database, "SELECT result, result_kind, result_reason, result_at FROM job_recipients") == [
        (None,) * 4
    ]
    assert await query(database, "SELECT bounced, replied FROM jobs") == [counts]


async def test_a_message_that_was_sent_keeps_its_result(database: Database) -> None:
    id_ = await doubt(database)
    await query(database, "UPDATE job_recipients SET result = 'bounced', result_kind = 'soft'")
    await query(database, "UPDATE jobs SET bounced = 1")
    await settle(database, id_, change=Transition.FOUND, actor="T")
    assert await query(database, "SELECT result, result_kind FROM job_recipients") == [("bounced", "soft")]
    assert await query(database, "SELECT bounced FROM jobs") == [(1,)]


async def test_a_message_of_a_cancelled_job_that_was_not_sent_is_told_as_cancelled(database: Database) -> None:
    id_ = await doubt(database)
    await query(database, "UPDATE jobs SET status = 'cancelled', next_claim_at = NULL")
    settled = await settle(database, id_, change=Transition.MISSING, actor="T")
    assert settled.status is State.CANCELLED
    assert await query(database, "SELECT status FROM job_recipients") == [("cancelled",)]


async def test_what_is_certain_is_not_settled(database: Database) -> None:
    message = await one_message(database)
    with pytest.raises(NotUnsureError, match="is sending"):
        await settle(database, message.id, change=Transition.FOUND, actor="T")
    with pytest.raises(NotUnsureError, match="recipient 999 not found"):
        await settle(database, 999, change=Transition.FOUND, actor="T")
