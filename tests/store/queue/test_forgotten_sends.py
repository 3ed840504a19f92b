"""A message that may have been sent is looked for before it is handed over again, whatever the database forgets."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from mailerd.core.claims import ClaimedRecipient, Outcome, Resolution, WriteResult
from mailerd.core.decisions import Decision
from mailerd.core.states import Transition
from mailerd.store.db.database import Database
from tests.store.queue.test_claim import claims
from tests.store.queue.test_failover import Daemon, one
from tests.store.queue.test_record import FENCED_OFF, FORGOTTEN_CLAIM, LOST, SENT, TAKEN, one_message, row, write
from tests.store.queue.test_recovery import lapses, rescues
from tests.support.handover import handover
from tests.support.rows import post, query

__all__ = ["one"]
DRAFT: dict[str, Any] = {"draft_id": "d1", "thread_id": "t1"}
FOR_A_LOOK = ("status", "mode", "draft_id", "thread_id", "unanswered", "discarding", "claim_token")
AS_DRAFT = ("unsure", "draft", "d1", "t1", 1, 0, None)
AS_DIRECT = ("unsure", "direct", None, None, 1, 0, None)
HAND_OVER_FORGOTTEN = "mode = NULL, draft_id = NULL, thread_id = NULL, unanswered = 0"


async def look_again_now(database: Database) -> None:
    await query(database, "UPDATE job_recipients SET lease_until = UTC_TIMESTAMP(6) - INTERVAL 1 SECOND")


async def forget(database: Database, *, claim: bool) -> None:
    """Everything since the message was accepted, or since it was claimed."""
    if claim:
        await query(database, f"{FORGOTTEN_CLAIM}, job_recipients.{HAND_OVER_FORGOTTEN}")
    await query(database, f"UPDATE job_recipients SET {HAND_OVER_FORGOTTEN}")
    await query(database, "DELETE FROM attempts")


@pytest.mark.parametrize("draft, found", [(DRAFT, AS_DRAFT), ({}, AS_DIRECT)], ids=["draft", "direct"])
@pytest.mark.parametrize("claim", ["claim", "hand-over"])
async def test_a_doubt_that_was_forgotten_is_told_again(
    database: Database, one: Daemon, draft: dict[str, Any], found: tuple[object, ...], claim: str
) -> None:
    await post(database, recipients=2)
    (message,) = await one.ready(1)
    lost = Outcome(replace(message, **draft), LOST)
    one.replay_log.remember(handover(lost.message, **draft))
    one.replay_log.remember(lost)
    assert await write(database, lost) == [TAKEN]
    one.replay_log.acknowledge(lost, TAKEN)
    await query(
        database,
        "UPDATE job_recipients SET status = 'sending', claim_token = %s WHERE id = %s",
        message.token,
        message.id,
    )
    await forget(database, claim=claim == "claim")
    one.meets_another()
    for again in await one.ready(2):
        assert again.id != message.id
    assert await row(database, message, *FOR_A_LOOK) == found
    assert await query(database, "SELECT event, draft_id FROM attempts") == [("lost", draft.get("draft_id"))]
    assert await row(database, message, "error", "attempts") == ("no answer", 1)


async def test_a_doubt_that_somebody_has_looked_into_is_not_told_again(database: Database, one: Daemon) -> None:
    await post(database, recipients=1)
    (message,) = await one.ready(1)
    lost = Outcome(message, LOST)
    one.replay_log.remember(lost)
    one.replay_log.acknowledge(lost, (await write(database, lost))[0])
    await look_again_now(database)
    (doubt,) = await rescues(database).take_unresolved()
    await rescues(database).resolve(Resolution(doubt, Transition.MISSING, forgets=True))
    one.meets_another()
    (again,) = await one.ready(1)
    assert again.id == message.id
    assert await write(database, handover(again)) == [TAKEN]


async def test_a_doubt_is_not_told_once_its_message_was_refused_by_a_later_attempt(
    database: Database, one: Daemon
) -> None:
    """Its draft may be deleted since; a draft that is gone would look like sent."""
    await post(database, recipients=1)
    (message,) = await one.ready(1)
    one.replay_log.remember(Outcome(message, LOST))
    one.replay_log.remember(
        Outcome(replace(message, token="2" * 26), Decision(Transition.DEFERRED, error="busy", forgets=True))
    )
    await forget(database, claim=True)
    one.meets_another()
    assert [again.id for again in await one.ready(1)] == [message.id]


async def test_of_a_message_that_is_in_hand_again_the_former_doubt_is_not_told(database: Database, one: Daemon) -> None:
    await post(database, recipients=1)
    (message,) = await one.ready(1)
    one.replay_log.remember(Outcome(replace(message, **DRAFT), LOST))
    later = replace(message, token="2" * 26, attempt=2, draft_id="d2", thread_id="t2")
    one.replay_log.remember(handover(later, "d2", "t2", unanswered=True))
    await forget(database, claim=True)
    one.meets_another()
    assert await one.ready(1) == ()
    assert await row(database, message, *FOR_A_LOOK) == ("sending", "draft", "d2", "t2", 1, 0, later.token)


async def test_a_doubt_that_the_history_told_before_its_own_record_came_is_told_as_unsure(
    database: Database, one: Daemon
) -> None:
    await post(database, recipients=1)
    (message,) = await one.ready(1)
    lost = Outcome(replace(message, **DRAFT), LOST)
    one.replay_log.remember(lost)
    await forget(database, claim=True)
    one.meets_another()
    assert await one.ready(1) == ()
    assert await row(database, message, *FOR_A_LOOK) == AS_DRAFT
    assert await write(database, lost) == [TAKEN]


async def test_a_message_that_the_history_told_before_its_own_record_came_is_told_as_sent(
    database: Database, one: Daemon
) -> None:
    """The row says that it was sent; a log line that its claim had ended would contradict it."""
    await post(database, recipients=1)
    (message,) = await one.ready(1)
    sent = Outcome(replace(message, **DRAFT), SENT)
    one.replay_log.remember(sent)
    await forget(database, claim=True)
    one.meets_another()
    assert await one.ready(1) == ()
    assert await row(database, message, "status", "message_id", "proof") == ("sent", "m1", "answered")
    assert await write(database, sent) == [TAKEN]
    assert await query(database, "SELECT event FROM attempts") == [("sent",)]


async def test_who_was_stopped_before_its_hand_over_does_not_take_back_a_row_that_a_doubt_has_taken(
    database: Database, one: Daemon
) -> None:
    """Its draft is deleted as an orphan meanwhile: were it on the row again, that it is gone would look like a send."""
    former = await one_message(database)
    await query(database, FORGOTTEN_CLAIM)
    (message,) = await one.ready(1)
    one.replay_log.remember(handover(message, "d2", "t2"))  # stopped: it is never written
    assert await write(database, Outcome(former, LOST)) == [TAKEN]
    await look_again_now(database)
    ((doubt, *_),) = await query(database, "SELECT id FROM job_recipients WHERE status = 'unsure'")
    assert doubt == message.id
    await query(
        database, "UPDATE job_recipients SET status = 'waiting', lease_until = NULL, draft_id = NULL, mode = NULL"
    )
    one.meets_another()
    await one.ready(1)
    assert (await row(database, message, "draft_id")) == (None,)
    assert message.token not in await row(database, message, "claim_token")


@pytest.mark.parametrize("now", ["waits", "is claimed again"])
async def test_a_doubt_comes_to_a_row_that_has_forgotten_its_claim(database: Database, now: str) -> None:
    former = await one_message(database)
    await query(database, FORGOTTEN_CLAIM)
    again = (await claims(database).claim(1)).messages if now == "is claimed again" else ()
    assert await write(database, Outcome(replace(former, **DRAFT), LOST)) == [TAKEN]
    assert await row(database, former, *FOR_A_LOOK) == AS_DRAFT
    for message in again:
        assert await write(database, handover(message, "d2", "t2")) == [FENCED_OFF]
    assert (await claims(database).claim(1)).messages == ()
    ended = [("lapsed",) for _ in again]
    assert sorted(await query(database, "SELECT event FROM attempts")) == [*ended, ("lost",)]


async def test_a_doubt_of_a_claim_that_was_forgotten_is_searched_for_since_its_job_was_made(database: Database) -> None:
    """The row knows when another claim handed the message over, which is later."""
    former = await one_message(database)
    await query(database, FORGOTTEN_CLAIM)
    await query(database, "UPDATE job_recipients SET handed_over_at = UTC_TIMESTAMP(6)")
    assert await write(database, Outcome(former, LOST)) == [TAKEN]
    assert await row(database, former, "status", "handed_over_at") == ("unsure", None)


async def test_a_doubt_whose_draft_google_refused_since_is_not_settled_by_its_being_gone(database: Database) -> None:
    former = replace(await one_message(database), **DRAFT)
    await query(database, FORGOTTEN_CLAIM)
    (message,) = (await claims(database).claim(1)).messages
    refused = Decision(Transition.DEFERRED, error="busy", wait=timedelta(0), forgets=True)
    await write(database, Outcome(replace(message, **DRAFT), refused))
    assert await write(database, Outcome(former, LOST)) == [TAKEN]
    assert await row(database, former, *FOR_A_LOOK) == ("unsure", "draft", "d1", "t1", 1, 1, None)


async def doubted(database: Database) -> ClaimedRecipient:
    """A message that is claimed, and of which a former claim does not know whether it was sent."""
    former = await one_message(database)
    await write(database, Outcome(replace(former, **DRAFT), LOST))
    await query(database, f"{FORGOTTEN_CLAIM}, job_recipients.{HAND_OVER_FORGOTTEN}")
    (message,) = (await claims(database).claim(1)).messages
    return message


async def test_a_message_of_which_the_log_knows_a_doubt_is_not_handed_over(database: Database) -> None:
    message = await doubted(database)
    hand_over = handover(message, "d2", "t2")
    assert await write(database, hand_over) == [WriteResult.IN_DOUBT]
    assert await row(database, message, *FOR_A_LOOK) == ("unsure", "draft", "d1", None, 1, 0, None)
    assert await write(database, hand_over) == [WriteResult.IN_DOUBT], "as after a COMMIT without an answer"


async def test_it_is_handed_over_once_somebody_has_looked(database: Database) -> None:
    message = await doubted(database)
    await query(
        database,
        "INSERT INTO attempts (recipient_id, attempt, claim_token, daemon_id, event, at) "
        "VALUES (%s, 1, 'look', 'D1', 'missing', UTC_TIMESTAMP(6))", message.id,
    )  # fmt: skip
    assert await write(database, handover(message, "d2", "t2")) == [TAKEN]


@pytest.mark.parametrize("draft, found", [(DRAFT, AS_DRAFT), ({}, AS_DIRECT)], ids=["draft", "direct"])
async def test_a_doubt_says_itself_what_is_to_be_looked_for(
    database: Database, draft: dict[str, Any], found: tuple[object, ...]
) -> None:
    """The database may have forgotten the hand-over and kept the claim."""
    message = replace(await one_message(database), **draft)
    assert await write(database, Outcome(message, LOST)) == [WriteResult.APPLIED]
    assert await row(database, message, *FOR_A_LOOK) == found


@pytest.mark.parametrize("known", ["sent", "lost", "in hand"])
async def test_a_message_that_is_claimed_again_shows_that_the_database_has_forgotten(
    database: Database, one: Daemon, known: str
) -> None:
    """A backup was restored in place: the server is the same, and no beat has noticed."""
    await post(database, recipients=1)
    (message,) = await one.ready(1)
    if known == "in hand":
        one.replay_log.remember(handover(message))
    else:
        one.replay_log.remember(record := Outcome(message, SENT if known == "sent" else LOST))
        one.replay_log.acknowledge(record, (await write(database, record))[0])
    await query(database, "UPDATE job_recipients SET message_id = NULL, proof = NULL")
    await forget(database, claim=True)
    assert await one.ready(1) == ()
    ((status,),) = await query(database, "SELECT status FROM job_recipients")
    assert status == {"sent": "sent", "lost": "unsure", "in hand": "sending"}[known]
    assert await one.messages(1) == ()
    assert one.replay_log._servers


async def test_a_message_whose_claim_has_lapsed_is_claimed_again(database: Database, one: Daemon) -> None:
    await post(database, recipients=1)
    (message,) = await one.ready(1)
    handed = handover(message)
    one.replay_log.remember(handed)
    await write(database, handed)
    await look_again_now(database)
    await lapses(database).recover()
    await look_again_now(database)
    (doubt,) = await rescues(database).take_unresolved()
    await rescues(database).resolve(Resolution(doubt, Transition.MISSING, forgets=True))
    assert [again.id for again in await one.messages(1)] == [message.id]


async def test_a_message_that_waits_for_other_reasons_holds_up_no_claim_for_ever(
    database: Database, one: Daemon
) -> None:
    """The database has forgotten the doubt, and knows another draft: to tell it changes nothing."""
    await post(database, recipients=1)
    (message,) = await one.ready(1)
    one.replay_log.remember(lost := Outcome(replace(message, **DRAFT), LOST))
    one.replay_log.acknowledge(lost, TAKEN)
    await query(database, f"{FORGOTTEN_CLAIM}, job_recipients.mode = 'draft', draft_id = 'd2'")
    assert [again.id for again in await one.ready(1)] == [message.id]


@pytest.mark.parametrize("what", [WriteResult.STALE, WriteResult.RESOLVED])
@pytest.mark.parametrize("took, forgot", [(1.0, True), (61.0, False)], ids=["early", "after its lease"])
async def test_a_claim_that_is_over_before_its_lease_shows_that_the_database_has_forgotten(
    database: Database, one: Daemon, what: WriteResult, took: float, *, forgot: bool
) -> None:
    await post(database, recipients=1)
    (message,) = await one.ready(1)
    one.replay_log.remember(sent := Outcome(message, SENT, took=took))
    one.replay_log.acknowledge(sent, what)
    assert (not one.replay_log._servers) is forgot
