"""What the order of the steps must be for a crash to cost nothing: each test here fails when one step is left out."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from mailerd.config import Settings
from mailerd.core.replies import Call
from mailerd.sandbox.google import METADATA, SEND, FakeGoogle, Fault, RunningServer
from mailerd.store.db.database import Database
from tests.support.daemon import running, settings, sign_in
from tests.support.heard import PATIENCE, Heard
from tests.support.rows import post, query

IN_FLIGHT = timedelta(seconds=1)
WINDOW = 2.0
"""Seconds for which a call lasts while the test looks into the tables."""


@pytest.fixture
def known(database_url: str, served: RunningServer, credentials: Path) -> Settings:
    return settings(
        database_url,
        served,
        credentials,
        gmail={"request_timeout": IN_FLIGHT.total_seconds() / 2},
        runner={"lease": 4, "poll_interval": 0.1},
    )


@pytest.fixture
def patient(database_url: str, served: RunningServer, credentials: Path) -> Settings:
    """A call may last longer than the test looks at it."""
    return settings(database_url, served, credentials, runner={"lease": 60, "poll_interval": 0.1})


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 - the stand-in has no bell
            await asyncio.sleep(0.01)


async def look_now(database: Database, heard: Heard) -> None:
    """Once the answer is lost, somebody looks for the message at once."""
    await heard.wait_for("message_unsure")
    await query(database, "UPDATE job_recipients SET lease_until = UTC_TIMESTAMP(6) WHERE status = 'unsure'")


def requests(google: FakeGoogle, method: str) -> int:
    return sum(entry.method == method for entry in google.log)


async def test_the_drafts_id_is_durable_before_google_is_asked_to_send_it(
    patient: Settings, database: Database, google: FakeGoogle, heard: Heard
) -> None:
    google.fault(Fault(kind="hang_after", method="drafts.send", seconds=WINDOW))
    await post(database, recipients=1)
    async with running(patient, heard):
        await until(lambda: len(google.sent) == 1)
        # What a kill -9 would leave at this moment: Google has the message, and no answer has come.
        row = await query(database, "SELECT status, mode, draft_id FROM job_recipients")
        assert row == [("sending", "draft", google.sent[0].draft_id)]
        await look_now(database, heard)
        await heard.wait_for("job_finished")


async def test_a_direct_send_is_durable_before_google_is_asked(
    patient: Settings, database: Database, google: FakeGoogle, credentials: Path, heard: Heard
) -> None:
    sign_in(google, credentials, "direct@example.com", scopes=(SEND,))
    google.fault(Fault(kind="hang_after", method="messages.send", seconds=WINDOW))
    await post(database, sender="direct@example.com", recipients=1)
    async with running(patient, heard):
        await until(lambda: len(google.sent) == 1)
        assert await query(database, "SELECT status, mode FROM job_recipients") == [("sending", "direct")]
        await look_now(database, heard)
        await heard.wait_for("message_unresolved")


async def test_that_a_draft_is_to_be_deleted_is_durable_before_google_is_asked_to(
    patient: Settings, database: Database, google: FakeGoogle, heard: Heard
) -> None:
    google.fault(Fault(kind="mail_sending_retry_after", method="drafts.send"))
    google.fault(Fault(kind="hang_after", method="drafts.delete", seconds=WINDOW))
    await post(database, recipients=1)
    async with running(patient, heard):
        await until(lambda: requests(google, "drafts.send") == 1 and not google.drafts())
        # What a kill -9 would leave at this moment: the draft is gone, and Google has refused the message.
        row = await query(database, "SELECT status, unanswered, discarding, draft_id IS NOT NULL FROM job_recipients")
        assert row == [("sending", 0, 1, 1)]
        assert await query(database, "SELECT COUNT(*) FROM senders WHERE paused_until > UTC_TIMESTAMP(6)") == [(1,)]
        await look_now(database, heard)
        await heard.wait_for("message_missing")


async def test_a_worker_whose_claim_has_gone_deletes_no_draft(
    patient: Settings, database: Database, google: FakeGoogle, heard: Heard
) -> None:
    # No renewal of the long lease tells it meanwhile: the record is what does.
    google.fault(Fault(kind="mail_sending_retry_after", method="drafts.send"))
    google.change_rules(latency_s=1.0)
    await post(database, recipients=1)
    async with running(patient, heard), asyncio.timeout(PATIENCE):
        while not await query(  # noqa: ASYNC110 - the row has no bell
            database, "SELECT 1 FROM job_recipients WHERE draft_id IS NOT NULL"
        ):
            await asyncio.sleep(0.01)
        await query(database, "UPDATE job_recipients SET claim_token = %s", "0" * 26)  # somebody else holds it now
        await heard.wait_for("message_handover_lost")
    assert requests(google, "drafts.delete") == 0


async def test_a_worker_whose_claim_has_gone_does_not_send(
    patient: Settings, database: Database, google: FakeGoogle, heard: Heard
) -> None:
    google.change_rules(latency_s=1.0)  # the draft is there half-way through
    await post(database, recipients=1)
    async with running(patient, heard):
        await until(lambda: len(google.drafts()) == 1)
        await query(database, "UPDATE job_recipients SET claim_token = %s", "0" * 26)  # somebody else holds it now
        await heard.wait_for("message_handover_lost")
    assert requests(google, "drafts.send") == 0
    assert google.sent == []


async def test_nobody_looks_before_a_lost_request_can_no_longer_arrive(
    known: Settings, database: Database, google: FakeGoogle, heard: Heard
) -> None:
    google.fault(Fault(kind="hang_before", method="drafts.send"))
    await post(database, recipients=1)
    async with running(known, heard):
        await heard.wait_for("message_unsure")
        ((waits,),) = await query(
            database, "SELECT TIMESTAMPDIFF(MICROSECOND, updated_at, lease_until) FROM job_recipients"
        )
        assert timedelta(microseconds=waits) >= IN_FLIGHT
        await heard.wait_for("job_finished")
    assert len(google.sent) == 1


async def test_many_direct_doubts_read_each_sent_message_once(
    known: Settings, database: Database, google: FakeGoogle, credentials: Path, heard: Heard
) -> None:
    sign_in(google, credentials, "direct@example.com", scopes=(SEND, METADATA))
    google.fault(Fault(kind="reset_after", method="messages.send", count=5))
    google.fault(Fault(kind="reset_before", method="messages.send", count=5))
    await post(database, sender="direct@example.com", recipients=30)
    # The inbox reader looks at what it finds in SENT and does not know, once this has taken long.
    inbox = known.inbox.model_copy(update={"enabled": False})
    async with running(known.model_copy(update={"inbox": inbox}), heard):
        await heard.wait_for("job_finished")
    assert google.duplicates() == {}
    assert len(google.sent) == 30
    # A read that got no answer in time is made again, as it should.
    read = [it for it in heard.of("google_call_succeeded") if it["call"] is Call.MESSAGES_GET]
    assert 0 < len(read) <= 30
