"""That a send got no answer may be told late: then it says nothing of the next sending of a message that came back."""

from dataclasses import replace
from datetime import timedelta

import pytest

from mailerd.core.claims import ClaimedRecipient, Outcome, Resolution
from mailerd.core.states import JobChange, Proof, Transition
from mailerd.store.db.database import Database
from mailerd.store.read.audit import audit
from mailerd.store.write.job_actions import JobActions
from tests.store.queue.test_claim import claims
from tests.store.queue.test_failover import Daemon, one
from tests.store.queue.test_given_back import PROOFS, come_back, settled
from tests.store.queue.test_record import FENCED_OFF, LOST, SENT, TAKEN, write
from tests.store.queue.test_recovery import LAPSE, due, rescues
from tests.support.handover import handover
from tests.support.rows import post, query

__all__ = ["one"]
HOW = pytest.mark.parametrize("how", ["bounce", "limit notice"])


async def found_directly(database: Database) -> Outcome:
    """A message that went out without a draft and was found; and the doubt that its stopped worker has not written."""
    await post(database, recipients=1)
    (message,) = (await claims(database).claim(1)).messages
    await write(database, handover(message, None, None))
    await query(database, LAPSE)
    await due(rescues(database))
    await query(database, LAPSE)
    (_, (doubt,)) = await due(rescues(database))
    await rescues(database).resolve(Resolution(doubt, Transition.FOUND, message_id="m1", proof=Proof.SEEN))
    await query(database, "UPDATE job_recipients SET thread_id = 't1'")  # the reader of the inbox has learnt it
    return Outcome(message, LOST)


async def goes_out_anew(database: Database, again: ClaimedRecipient) -> None:
    assert again.draft_id is None
    assert await write(database, handover(again, "d2", "t2")) == [TAKEN]
    assert await write(database, Outcome(again, replace(SENT, message_id="m2"))) == [TAKEN]
    assert await query(database, "SELECT status, message_id FROM job_recipients") == [("sent", "m2")]
    assert (await audit(database))[1] == []


@PROOFS
@HOW
@pytest.mark.parametrize("when", ["before it came back", "while it waits", "when it is claimed"])
async def test_a_late_doubt_of_the_draft_that_came_back(
    database: Database, proof: Proof, message_id: str | None, how: str, when: str
) -> None:
    """What is looked for then is the sending that came back: it is found, and no recipient gets the message."""
    doubt = replace(await settled(database, Transition.FOUND, proof, message_id), decision=LOST)
    if when == "before it came back":
        assert await write(database, doubt) == [FENCED_OFF]
    await come_back(database, how)
    if when == "while it waits":
        assert await write(database, doubt) == [FENCED_OFF]
        assert await query(database, "SELECT status FROM job_recipients") == [("waiting",)]
    (again,) = (await claims(database).claim(1)).messages
    if when == "when it is claimed":
        assert await write(database, doubt) == [FENCED_OFF]
    await goes_out_anew(database, again)


@HOW
@pytest.mark.parametrize("when", ["before it came back", "while it waits"])
async def test_a_late_doubt_of_what_was_sent_directly_and_came_back(database: Database, how: str, when: str) -> None:
    doubt = await found_directly(database)
    if when == "before it came back":
        await write(database, doubt)
    await come_back(database, how)
    if when == "while it waits":
        assert await write(database, doubt) == [FENCED_OFF]
    (again,) = (await claims(database).claim(1)).messages
    await goes_out_anew(database, again)


@HOW
async def test_a_doubt_that_is_replayed_says_nothing_either(database: Database, one: Daemon, how: str) -> None:
    doubt = replace(await settled(database, Transition.FOUND, Proof.GONE), decision=LOST)
    await come_back(database, how)
    await query(database, "DELETE FROM attempts WHERE event = 'lapsed'")
    one.replay_log.remember(doubt)
    one.meets_another()
    assert await one.ready(1) == ()
    (again,) = await one.messages(1)
    await goes_out_anew(database, again)


async def test_a_doubt_of_another_draft_than_came_back_is_looked_for(database: Database) -> None:
    doubt = replace(await settled(database, Transition.FOUND, Proof.GONE), decision=LOST)
    other = replace(doubt, message=replace(doubt.message, draft_id="d0", thread_id="t0"))
    await come_back(database, "bounce")
    assert await write(database, other) == [TAKEN]
    assert await query(database, "SELECT status, draft_id FROM job_recipients") == [("unsure", "d0")]


async def test_a_direct_doubt_of_a_claim_that_went_on_when_it_came_back_is_looked_for(database: Database) -> None:
    doubt = await found_directly(database)
    await come_back(database, "bounce")
    other = replace(doubt, message=replace(doubt.message, token="9" * 26))
    assert await write(database, other) == [TAKEN]
    assert await query(database, "SELECT status, mode FROM job_recipients") == [("unsure", "direct")]


async def test_a_doubt_of_a_message_that_failed_and_is_retried_is_looked_for(database: Database) -> None:
    doubt = replace(await settled(database, Transition.MISSING), decision=LOST)
    await query(database, "UPDATE job_recipients SET status = 'failed', error = 'no such address', attempts = 1")
    actions = JobActions(database, timeout=5, late_arrival=timedelta(0))
    await actions.apply(doubt.message.job_id, JobChange.RETRY, actor="ada")
    assert await write(database, doubt) == [TAKEN]
    assert await query(database, "SELECT status, draft_id FROM job_recipients") == [("unsure", "d1")]
