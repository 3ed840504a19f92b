"""The audit finds each kind of contradiction, and nothing in books that balance."""

import asyncio

import pytest

from mailerd.config import DatabaseSettings
from mailerd.core.claims import Outcome
from mailerd.core.decisions import Decision
from mailerd.core.states import Proof, Transition
from mailerd.events.process import StoreEvents
from mailerd.events.webhooks import WebhookEvents
from mailerd.store.db.database import Database
from mailerd.store.queue.record import RecordWriter
from mailerd.store.read import audit as module
from mailerd.store.read.audit import audit, proofs
from mailerd.store.write.event_feed import EventFeed
from mailerd.store.write.retention import OldEvents
from tests.store.queue.test_claim import claims
from tests.store.queue.test_record import LOST, SENT, write
from tests.support.dialect import is_mariadb, statement_limit
from tests.support.heard import Heard
from tests.support.holding import holding
from tests.support.rows import post, query


async def three_jobs(database: Database) -> None:
    """One completed, one in the middle, one untouched."""
    done = await post(database, recipients=2)
    for message, message_id in zip((await claims(database).claim(2)).messages, ("m1", "m2"), strict=True):
        await write(database, Outcome(message, Decision(Transition.SENT, message_id=message_id)))
    await RecordWriter(database, "D1").complete_jobs([done])
    await post(database, recipients=4, sender="b@example.com")
    first, second, third = (await claims(database).claim(3)).messages
    await write(database, Outcome(first, Decision(Transition.FAILED, error="no")))
    await query(database, "UPDATE job_recipients SET draft_id = 'd1', mode = 'draft' WHERE id = %s", second.id)
    await write(database, Outcome(second, LOST))
    assert third.attempt == 1
    await post(database, recipients=1, sender="c@example.com")


async def test_books_that_balance_have_no_findings(database: Database) -> None:
    await three_jobs(database)
    assert await audit(database) == (3, [])


@pytest.mark.parametrize(
    "kind, damage",
    [
        ("counts", "DELETE FROM job_recipients WHERE status = 'sent' LIMIT 1"),
        ("counts", "UPDATE jobs SET bounced = 1"),
        ("counts", "UPDATE jobs SET sent = sent + 1 WHERE status = 'completed'"),
        ("counts", "UPDATE job_recipients SET result = 'other_replied' WHERE status = 'sent'"),
        ("counts", "UPDATE jobs SET attachments = 2"),
        ("no job", "DELETE FROM jobs WHERE status = 'queued'"),
        ("feed is stuck", "DELETE FROM event_positions"),
        ("feed is stuck", "UPDATE events SET position = id"),
        ("completed too early", "UPDATE jobs SET status = 'completed', finished_at = UTC_TIMESTAMP(6)"),
        ("times of a job", "UPDATE jobs SET finished_at = NULL WHERE status = 'completed'"),
        ("forgotten", "UPDATE jobs SET next_claim_at = NULL"),
        ("forgotten", "UPDATE senders SET next_claim_at = NULL"),
        (
            "forgotten",
            "UPDATE jobs, job_recipients SET next_claim_at = '2099-01-01', due_at = '2020-01-01' WHERE claimable = 1",
        ),
        ("token without lease", "UPDATE job_recipients SET lease_until = NULL WHERE status = 'sending'"),
        ("token without lease", "UPDATE job_recipients SET claim_token = 'x' WHERE status = 'sent'"),
        ("lease long over", "UPDATE job_recipients SET lease_until = '2020-01-01' WHERE status = 'unsure'"),
        ("times of a recipient", "UPDATE job_recipients SET sent_at = NULL WHERE status = 'sent'"),
        ("sent without proof", "UPDATE job_recipients SET proof = NULL WHERE status = 'sent'"),
        ("proof of nothing", "UPDATE job_recipients SET proof = 'person' WHERE status = 'failed'"),
        ("no reason", "UPDATE job_recipients SET error = NULL WHERE status = 'failed'"),
        ("no reason", "UPDATE job_recipients SET status = 'cancelled', error = NULL WHERE status = 'failed'"),
        ("nothing to look for", "UPDATE job_recipients SET draft_id = NULL WHERE status = 'unsure'"),
        ("one message, two recipients", "UPDATE job_recipients SET message_id = 'm1' WHERE status = 'sent'"),
        (
            "sent twice",
            "INSERT INTO attempts SELECT NULL, recipient_id, attempt, 'other', daemon_id, event, NULL, 'm9', "
            "NULL, NULL, NULL, at FROM attempts WHERE message_id = 'm1'",
        ),
        ("sent after all", "UPDATE job_recipients SET status = 'failed', error = 'x' WHERE message_id = 'm1'"),
        ("finished without an event", "UPDATE events SET cause = 'x' WHERE type = 'job.finished'"),
        ("finished without an event", "UPDATE jobs SET finished_at = '2020-01-01' WHERE status = 'completed'"),
        ("failed without an event", "DELETE FROM events WHERE type = 'recipient.failed'"),
        (
            "never completed",
            "UPDATE jobs SET status = 'sending', finished_at = NULL WHERE status = 'completed'",
        ),
    ],
)
async def test_damage_is_found(database: Database, kind: str, damage: str) -> None:
    await three_jobs(database)
    await query(database, "UPDATE job_recipients SET updated_at = '2020-01-01'")
    await query(database, damage)
    _, findings = await audit(database)
    assert kind in {finding.kind for finding in findings}


async def test_what_has_lost_its_event_by_age_is_no_finding_and_what_came_later_is(database: Database) -> None:
    await three_jobs(database)
    for column in ("events SET at = at", "attempts SET at = at", "jobs SET finished_at = finished_at"):
        await query(database, f"UPDATE {column} - INTERVAL 100 DAY")
    assert (await OldEvents(90, WebhookEvents(Heard())).delete(database)).rows == 2
    assert (await audit(database))[1] == []
    done = await post(database, recipients=1, sender="d@example.com")
    (message,) = [it for it in (await claims(database).claim(9)).messages if it.job_id == done]
    await write(database, Outcome(message, Decision(Transition.FAILED, error="no")))
    await RecordWriter(database, "D1").complete_jobs([done])
    await EventFeed(database, timeout=5).number_new()
    assert (await audit(database))[1] == []
    await query(database, "DELETE FROM events WHERE type = 'job.finished'")
    assert [(it.kind, it.where) for it in (await audit(database))[1]] == [("finished without an event", f"job {done}")]
    await query(database, "DELETE FROM events")
    assert [it.kind for it in (await audit(database))[1]] == ["finished without an event", "failed without an event"]


async def test_a_sent_message_is_not_called_sent_twice_for_being_recorded_twice(database: Database) -> None:
    await post(database, recipients=1)
    (message,) = (await claims(database).claim(1)).messages
    await write(database, Outcome(message, SENT))
    await write(database, Outcome(message, SENT))
    _, findings = await audit(database)
    assert "sent twice" not in {finding.kind for finding in findings}


@pytest.mark.usefixtures("database")
async def test_a_check_may_take_longer_than_any_statement_of_a_daemon(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CHECKS", (("slow", "SELECT 'J', NULL, SLEEP(1.5)"),))
    settings = DatabaseSettings(url=database_url, connect_timeout=1, statement_timeout=1, pool_size=2)
    hasty = Database(settings, events=StoreEvents(Heard()))
    try:
        _, findings = await audit(hasty)
        ((limit,),) = await query(hasty, f"SELECT @@SESSION.{statement_limit()}")
    finally:
        await hasty.close()
    # MariaDB would end it with 1969; on MySQL SLEEP would end by itself, and say 1.
    assert [(finding.kind, finding.what) for finding in findings] == [("slow", "0")]
    assert limit > 0, "whatever else this connection does has its limit again"


async def test_so_may_the_count_by_proof(database: Database, database_url: str) -> None:
    await three_jobs(database)
    settings = DatabaseSettings(url=database_url, connect_timeout=1, statement_timeout=1, pool_size=2)
    hasty = Database(settings, events=StoreEvents(Heard()))
    try:
        async with holding(database_url, "LOCK TABLES job_recipients WRITE"):
            counting = asyncio.create_task(proofs(hasty))
            await asyncio.wait({counting}, timeout=1.5)
        assert await counting == {Proof.ANSWERED: 2}
    finally:
        await hasty.close()


@pytest.mark.usefixtures("database")
async def test_a_limit_of_half_an_hour_is_set_again_with_all_its_digits(database_url: str) -> None:
    settings = DatabaseSettings(url=database_url, connect_timeout=2, statement_timeout=1801.25, pool_size=2)
    patient = Database(settings, events=StoreEvents(Heard()))
    try:
        assert await audit(patient) == (0, [])
        ((limit,),) = await query(patient, f"SELECT @@SESSION.{statement_limit()}")
    finally:
        await patient.close()
    assert limit == (1441 if is_mariadb() else 1_441_000)
