"""Whoever clears the log of attempts disarms no guard: what Google has answered stands on the row as well."""

from collections.abc import Awaitable, Callable
from datetime import timedelta

import pytest

from mailerd.core.claims import ClaimedRecipient, Outcome, WriteResult
from mailerd.core.decisions import Decision
from mailerd.core.states import JobChange, Transition
from mailerd.store.db.database import Database
from mailerd.store.write.job_actions import JobActions
from tests.store.queue.test_claim import claims
from tests.store.queue.test_record import LOST, SENT, one_message, row, write
from tests.store.queue.test_recovery import LAPSE, due, rescues
from tests.support.handover import handover
from tests.support.rows import query

PRUNE = "DELETE FROM attempts"


async def late(database: Database, meanwhile: Callable[[ClaimedRecipient], Awaitable[None]]) -> ClaimedRecipient:
    """A message that a worker sent whose claim had ended by then; its answer comes when `meanwhile` has happened."""
    message = await one_message(database)
    await write(database, handover(message, "d1", "t1"))
    await meanwhile(message)
    await write(database, Outcome(message, SENT))
    await query(database, PRUNE)
    return message


@pytest.mark.parametrize("mode", ["draft", "direct"])
async def test_a_message_that_somebody_else_holds_by_then_is_not_handed_over(database: Database, mode: str) -> None:
    taken: list[ClaimedRecipient] = []

    async def forgotten(_: ClaimedRecipient) -> None:
        await query(
            database, "UPDATE job_recipients SET status = 'waiting', claim_token = NULL, draft_id = NULL, mode = NULL"
        )
        await query(database, "UPDATE jobs SET next_claim_at = UTC_TIMESTAMP(6)")
        await query(database, "UPDATE senders SET next_claim_at = UTC_TIMESTAMP(6)")
        taken.extend((await claims(database).claim(1)).messages)

    message = await late(database, forgotten)
    (again,) = taken
    record = handover(again, "d2", "t2") if mode == "draft" else handover(again)
    assert await write(database, record) == [WriteResult.RESOLVED]
    assert await row(database, message, "status", "proof", "message_id") == ("sent", "answered", SENT.message_id)


async def test_a_message_that_had_failed_by_then_is_not_tried_anew(database: Database) -> None:
    async def failed(message: ClaimedRecipient) -> None:
        await write(database, Outcome(message, Decision(Transition.FAILED, error="given up")))

    message = await late(database, failed)
    assert await row(database, message, "status", "message_id", "proof") == ("failed", SENT.message_id, None)
    controls = JobActions(database, timeout=5.0, late_arrival=timedelta(0))
    done = await controls.apply(message.job_id, JobChange.RETRY, actor="me")
    assert (done.changed, done.messages) == (False, 0)


async def test_a_look_knows_it(database: Database) -> None:
    message = await one_message(database)
    await write(database, handover(message))
    await write(database, Outcome(message, LOST))
    await query(database, "UPDATE job_recipients SET message_id = 'm7'")
    await query(database, PRUNE)
    await query(database, LAPSE)
    (_, (doubt,)) = await due(rescues(database))
    assert doubt.known_message_id == "m7"


async def test_a_late_answer_is_a_better_proof_than_a_draft_that_is_gone(database: Database) -> None:
    async def found(_: ClaimedRecipient) -> None:
        await query(
            database,
            "UPDATE job_recipients SET status = 'sent', proof = 'draft gone', claim_token = NULL, lease_until = NULL, "
            "sent_at = UTC_TIMESTAMP(6)",
        )

    message = await late(database, found)
    assert await row(database, message, "status", "proof", "message_id") == ("sent", "answered", SENT.message_id)
