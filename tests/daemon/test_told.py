"""What a daemon tells of a message is what its row says, also where somebody else had a hand in it."""

from mailerd.config import Settings
from mailerd.core.states import JobChange
from mailerd.sandbox.google import FakeGoogle, Fault
from mailerd.store.db.database import Database
from tests.store.queue.test_stuck_jobs import ask
from tests.support.daemon import running
from tests.support.eventually import eventually
from tests.support.heard import Heard
from tests.support.rows import post, query, states


async def on_the_wire(database: Database) -> bool:
    """Whether a draft is recorded, and Google is being asked to send it."""
    return await query(database, "SELECT draft_id IS NOT NULL FROM job_recipients") == [(1,)]


async def test_a_late_answer_that_settles_a_doubt_is_told_as_found(
    known: Settings, database: Database, google: FakeGoogle, heard: Heard
) -> None:
    google.change_rules(latency_s=1.0)
    job = await post(database, recipients=1)
    async with running(known, heard):
        await eventually(lambda: on_the_wire(database))
        await query(  # the lease has lapsed, by another daemon's rescue
            database,
            "UPDATE job_recipients SET status = 'unsure', claim_token = NULL, "
            "lease_until = UTC_TIMESTAMP(6) + INTERVAL 1 HOUR",
        )
        await heard.wait_for("job_finished")
    assert await states(database, job) == {"sent": 1}
    (found,) = heard.of("message_found")
    assert google.sent[0].id in found["proof"]
    assert not {"message_claim_lost", "message_sent"} & set(heard.names())


async def test_a_message_that_comes_back_into_a_cancelled_job_is_told_as_cancelled(
    known: Settings, database: Database, google: FakeGoogle, heard: Heard
) -> None:
    google.change_rules(latency_s=1.0)
    google.fault(Fault(kind="rate_limit", method="drafts.send"))
    job = await post(database, recipients=1)
    async with running(known, heard):
        await eventually(lambda: on_the_wire(database))
        await ask(database, job, JobChange.CANCEL)
        await heard.wait_for("message_cancelled")
        await heard.wait_for("sender_paused")
    assert await states(database, job) == {"cancelled": 1}
    assert "message_released" not in heard.names()


async def test_a_stored_template_that_this_version_refuses_fails_its_messages_with_that_cause(
    known: Settings, database: Database, heard: Heard
) -> None:
    job = await post(database, recipients=2, text="{% include 'footer' %}")
    async with running(known, heard):
        await heard.wait_for("job_finished")
    assert await states(database, job) == {"failed": 2}
    assert len(heard.of("message_failed")) == 2
    assert "refuses the template" in heard.of("message_failed")[0]["cause"]
    assert "text, line 1" in heard.of("message_failed")[0]["cause"]
    assert "message_crashed" not in heard.names()


async def test_a_hand_over_that_is_refused_because_of_a_doubt_is_told_as_that_doubt(
    known: Settings, database: Database, heard: Heard
) -> None:
    await post(database, recipients=1)
    await query(
        database,
        "INSERT INTO attempts (recipient_id, attempt, claim_token, daemon_id, event, error, at) "
        "SELECT id, 1, 'forgotten', 'D1', 'lost', 'no answer', UTC_TIMESTAMP(6) FROM job_recipients",
    )
    async with running(known, heard):
        told = await heard.wait_for("message_unsure")
    assert "an earlier claim" in told["cause"]
    assert not heard.of("message_claim_lost")
