"""Messages that were in flight when daemons crashed: no attempt is lost, and only what crashes alone is failed."""

import pytest

from mailerd.core.claims import ALONE_AFTER, FAILED_AFTER_ALONE, Outcome
from mailerd.core.decisions import Decision
from mailerd.core.states import JobChange, State, Transition
from mailerd.store.db.database import Database
from tests.store.queue.test_claim import claims
from tests.store.queue.test_record import write
from tests.store.queue.test_recovery import LAPSE, lapses
from tests.store.queue.test_stuck_jobs import ask
from tests.support.replayed import daemons
from tests.support.rows import post, query, states

SUSPECT = f"UPDATE job_recipients SET crashes = {ALONE_AFTER}"
CRASHED_ALONE = f"UPDATE job_recipients SET crashes = {ALONE_AFTER + FAILED_AFTER_ALONE - 1}"
"""All but the last time that it is tried alone."""


async def crash(database: Database, *, messages: int) -> None:
    """Daemon D1 dies with so many messages in flight, and D2 puts them right."""
    assert len((await claims(database).claim(messages)).messages) == messages
    await query(database, LAPSE)
    assert len(await lapses(database).recover()) == messages


async def test_a_message_that_crashes_alone_is_failed_and_those_that_were_with_it_are_sent(database: Database) -> None:
    job = await post(database, recipients=3)
    for _ in range(ALONE_AFTER):
        await crash(database, messages=3)
    assert await query(database, "SELECT DISTINCT attempts, crashes FROM job_recipients") == [(0, ALONE_AFTER)]
    sent = crashed_alone = 0
    for _ in range(2 + FAILED_AFTER_ALONE):
        claim = await claims(database).claim(10)
        assert claim.messages == (), "nothing that may have crashed several daemons goes with others"
        assert claim.alone is not None
        (message,) = (await claims(database).claim_alone(claim.alone)).messages
        assert (message.id, message.attempt) == (claim.alone, 1)
        if message.seq == 1:
            await query(database, LAPSE)
            (lapsed,) = await lapses(database).recover()
            crashed_alone += 1
            if crashed_alone < FAILED_AFTER_ALONE:
                assert lapsed.status is State.WAITING
                continue
            assert (lapsed.status, lapsed.done, lapsed.total) == (State.FAILED, sent + 1, 3)
            assert "with nothing else in flight (daemon D1)" in lapsed.error
        else:
            await write(database, Outcome(message, Decision(Transition.SENT, message_id=f"m{message.seq}")))
            sent += 1
        await query(database, "UPDATE jobs SET next_claim_at = UTC_TIMESTAMP(6) WHERE next_claim_at IS NOT NULL")
    assert await states(database, job) == {"sent": 2, "failed": 1}
    await ask(database, job, JobChange.RETRY)
    assert len((await claims(database).claim(10)).messages) == 1, "somebody asked for another try: it starts anew"


async def test_messages_that_have_crashed_nobody_go_first_and_the_others_do_not_hide_them(database: Database) -> None:
    await post(database, recipients=30)
    await query(database, f"{SUSPECT} WHERE seq < 20")
    claim = await claims(database).claim(40)
    assert [message.seq for message in claim.messages] == list(range(20, 30))
    assert claim.alone is not None
    again = await claims(database).claim(40)
    assert (again.messages, again.alone) == ((), None), "the job rests for a moment, so that no claim spins on it"


async def test_what_may_have_crashed_daemons_is_claimed_alone_under_every_limit(database: Database) -> None:
    await post(database, recipients=1)
    await query(database, SUSPECT)
    ((recipient,),) = await query(database, "SELECT id FROM job_recipients")
    for hold in (
        "UPDATE senders SET paused_until = UTC_TIMESTAMP(6) + INTERVAL 1 HOUR",
        "UPDATE jobs SET status = 'paused', next_claim_at = NULL",
        "UPDATE job_recipients SET due_at = UTC_TIMESTAMP(6) + INTERVAL 1 HOUR",
    ):
        before = await query(database, "SELECT next_claim_at, tat FROM senders")
        await query(database, hold)
        assert (await claims(database).claim_alone(recipient)).messages == ()
        assert await query(database, "SELECT tat FROM senders") == [(before[0][1],)]
        await query(database, "UPDATE senders SET paused_until = NULL")
        await query(database, "UPDATE jobs SET status = 'queued', next_claim_at = UTC_TIMESTAMP(6)")
    await query(database, "UPDATE job_recipients SET due_at = UTC_TIMESTAMP(6)")
    assert len((await claims(database).claim_alone(recipient)).messages) == 1
    assert (await claims(database).claim_alone(recipient)).messages == (), "it is taken"
    assert await query(database, "SELECT SUM(messages) FROM sender_hours") == [(1,)]


@pytest.mark.parametrize("alive", ["stopped", "heard of", "itself"])
async def test_a_daemon_that_was_stopped_or_lives_has_not_crashed(database: Database, alive: str) -> None:
    job = await post(database, recipients=1)
    await query(database, CRASHED_ALONE)
    ((recipient,),) = await query(database, "SELECT id FROM job_recipients")
    owner = daemons(database, "D1")
    await owner.heartbeat()
    await query(database, "UPDATE daemons SET heartbeat_at = UTC_TIMESTAMP(6) - INTERVAL 1 MINUTE")
    assert len((await claims(database).claim_alone(recipient)).messages) == 1
    await query(database, LAPSE)
    if alive == "stopped":
        await owner.mark_stopped()
    if alive == "heard of":
        await owner.heartbeat()
    (lapsed,) = await lapses(database, by="D1" if alive == "itself" else "D2").recover()
    assert lapsed.status is State.WAITING
    assert await states(database, job) == {"waiting": 1}
    assert await query(database, "SELECT attempts, crashes FROM job_recipients") == [
        (0, ALONE_AFTER + FAILED_AFTER_ALONE - 1)
    ]


async def test_a_message_that_comes_to_an_outcome_is_suspected_no_more(database: Database) -> None:
    await post(database, recipients=1)
    await crash(database, messages=1)
    await crash(database, messages=1)
    (message,) = (await claims(database).claim(1)).messages
    await write(database, Outcome(message, Decision(Transition.DEFERRED, error="503")))
    assert await query(database, "SELECT attempts, crashes FROM job_recipients") == [(1, 0)]


async def test_a_message_that_was_handed_over_is_looked_for_however_many_daemons_died(database: Database) -> None:
    await post(database, recipients=1)
    await query(database, CRASHED_ALONE)
    ((recipient,),) = await query(database, "SELECT id FROM job_recipients")
    assert len((await claims(database).claim_alone(recipient)).messages) == 1
    await query(database, "UPDATE job_recipients SET mode = 'draft', draft_id = 'd1'")
    await query(database, LAPSE)
    (lapsed,) = await lapses(database).recover()
    assert lapsed.status is State.UNSURE
