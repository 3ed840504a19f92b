"""A database that has forgotten that a message was not sent is told so: its draft is gone, as if it were sent."""

from dataclasses import replace
from datetime import timedelta

import pytest

from mailerd.core.claims import Outcome, Resolution, WriteResult
from mailerd.core.decisions import Decision
from mailerd.core.states import Transition
from mailerd.store.db.database import Database
from mailerd.store.queue.recovery import RecoveryQueries
from tests.store.queue.test_failover import BUSY, Daemon, one
from tests.store.queue.test_record import row, write
from tests.support.handover import handover
from tests.support.rows import post, query

__all__ = ["one"]
FAILED = Decision(Transition.FAILED, error="400: no such address")
DISCARDED = Decision(Transition.RELEASED, error="429: the day is full", forgets=True, wait=timedelta(hours=1))


@pytest.mark.parametrize("decision, status", [(FAILED, "failed"), (DISCARDED, "waiting")])
async def test_what_was_not_sent_is_told_where_its_row_waits_for_that(
    database: Database, one: Daemon, decision: Decision, status: str
) -> None:
    """Its draft is deleted by now: when the lease is over, a look would find it gone, and call the message sent."""
    await post(database, recipients=1)
    (message,) = await one.ready(1)
    message = replace(message, draft_id="d1")
    for record in (handover(message, "d1", None), Outcome(message, decision)):
        one.replay_log.remember(record)
        for what in await write(database, record):
            one.replay_log.acknowledge(record, what)
    kept = "status", "draft_id", "attempts", "error"
    before = await row(database, message, *kept)
    await query(
        database, "UPDATE job_recipients SET status = 'sending', claim_token = %s, mode = 'draft', draft_id = 'd1', "
        "attempts = 1, error = NULL, lease_until = UTC_TIMESTAMP(6) + INTERVAL 1 MINUTE", message.token,
    )  # fmt: skip
    await query(database, "DELETE FROM attempts")
    await query(database, "DELETE FROM events")
    one.meets_another()
    await one.ready(1)
    assert await row(database, message, *kept) == before == (status, None, int(status == "failed"), decision.error)
    assert await query(database, "SELECT event FROM attempts") == [(decision.transition.value,)]
    assert len(await query(database, "SELECT 1 FROM events WHERE type = 'recipient.failed'")) == (status == "failed")


@pytest.mark.parametrize("decision, draft", [(FAILED, None), (DISCARDED, None), (BUSY, "d1")])
async def test_a_draft_that_was_deleted_is_forgotten_where_the_whole_claim_was(
    database: Database, one: Daemon, decision: Decision, draft: str | None
) -> None:
    """It waited with a draft: a send of it that got no answer would leave a message that looks sent."""
    await post(database, recipients=1)
    waits = "status = 'waiting', claim_token = NULL, mode = 'draft', draft_id = 'd1', thread_id = 't1'"
    await query(database, f"UPDATE job_recipients SET {waits}")
    (message,) = await one.ready(1)
    one.replay_log.remember(Outcome(message, decision))
    (what,) = await write(database, Outcome(message, decision))
    assert what is WriteResult.APPLIED
    await query(database, f"UPDATE job_recipients SET {waits}, due_at = UTC_TIMESTAMP(6) + INTERVAL 1 HOUR")
    one.meets_another()
    assert await one.ready(1) == ()
    assert await row(database, message, "status", "draft_id", "mode") == ("waiting", draft, draft and "draft")


async def test_a_message_that_was_put_off_with_its_draft_is_claimed_again_at_once(
    database: Database, one: Daemon
) -> None:
    """That it waits again is no sign that the database has forgotten something."""
    await post(database, recipients=1)
    (message,) = await one.ready(1)
    message = replace(message, draft_id="d1")
    for record in (handover(message, "d1", None), Outcome(message, BUSY)):
        one.replay_log.remember(record)
        await write(database, record)
    (again,) = await one.messages(1)
    assert (again.id, again.draft_id) == (message.id, "d1")


@pytest.mark.parametrize("decision", [FAILED, DISCARDED])
async def test_a_message_that_waits_with_a_deleted_draft_shows_that_the_database_has_forgotten(
    database: Database, one: Daemon, decision: Decision
) -> None:
    """A backup was restored in place, a moment ago: the send of that draft would leave a message that looks sent."""
    await post(database, recipients=1)
    waits = "status = 'waiting', claim_token = NULL, mode = 'draft', draft_id = 'd1', due_at = UTC_TIMESTAMP(6)"
    await query(database, f"UPDATE job_recipients SET {waits}")
    (message,) = await one.ready(1)
    one.replay_log.remember(Outcome(message, decision))
    await write(database, Outcome(message, decision))
    await query(database, f"UPDATE job_recipients SET {waits}")
    await query(database, "UPDATE jobs SET status = 'sending', finished_at = NULL, next_claim_at = UTC_TIMESTAMP(6)")
    await query(database, "UPDATE senders SET next_claim_at = UTC_TIMESTAMP(6)")
    assert await one.messages(1) == ()
    (again,) = await one.messages(1)
    assert (again.id, again.draft_id) == (message.id, None)


async def test_a_draft_that_was_deleted_since_its_job_is_cancelled_is_not_taken_for_sent(
    database: Database, one: Daemon
) -> None:
    """A check has found that Google does not have the message; the database has forgotten that, and what followed."""
    job = await post(database, recipients=1)
    await query(
        database, "UPDATE job_recipients SET status = 'unsure', mode = 'draft', draft_id = 'd1', attempts = 1, "
        "unanswered = 1, handed_over_at = UTC_TIMESTAMP(6), lease_until = UTC_TIMESTAMP(6) - INTERVAL 1 SECOND",
    )  # fmt: skip
    kept = await query(database, "SELECT status, draft_id, unanswered FROM job_recipients")
    await query(database, "UPDATE jobs SET status = 'cancelled' WHERE id = %s", job)
    checks = RecoveryQueries(database, "D1", timedelta(minutes=1), one.replay_log)
    (unsure,) = await checks.take_unresolved()
    assert await checks.resolve(Resolution(unsure, Transition.MISSING)) is WriteResult.CANCELLED
    await query(
        database, "UPDATE job_recipients SET status = %s, draft_id = %s, unanswered = %s, error = NULL, "
        "lease_until = UTC_TIMESTAMP(6) - INTERVAL 1 SECOND", *kept[0],
    )  # fmt: skip
    one.meets_another()
    await one.ready(1)
    assert await query(database, "SELECT status, draft_id, discarding FROM job_recipients") == [("unsure", "d1", 1)]


async def test_a_hand_over_that_was_forgotten_is_told_though_the_answer_is_still_to_be_written(
    database: Database, one: Daemon
) -> None:
    """Or the message would go out again, if the daemon died before it has written the answer."""
    await post(database, recipients=1)
    (message,) = await one.ready(1)
    sent = Outcome(message, Decision(Transition.SENT, message_id="m1"))
    one.replay_log.remember(sent)
    one.meets_another()
    await one.ready(1)
    assert await row(database, message, "status", "mode", "claim_token") == ("sending", "direct", message.token)
    assert await write(database, sent) == [WriteResult.APPLIED]
    assert await row(database, message, "status", "message_id") == ("sent", "m1")
