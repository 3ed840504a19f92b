"""Every way in which an answer can get lost: the message is sent once, and the row says so in the end."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from mailerd.config import Settings
from mailerd.core.claims import ClaimedRecipient
from mailerd.core.replies import Call, Reply
from mailerd.core.verdicts import Verdict, judge
from mailerd.sandbox.google import METADATA, SEND, FakeGoogle, Fault, RunningServer
from mailerd.store.db.database import Database
from mailerd.worker.message_builder import MessageBuilder
from tests.support.daemon import running, settings, sign_in
from tests.support.heard import PATIENCE, Heard
from tests.support.rows import post, query, states

LOST_ANSWERS = (
    "reset_before",
    "reset_after",
    "hang_before",
    "hang_after",
    "late",
    "garbage",
    "truncated",
    "200_without_id",
    "list_body",
    "bad_utf8",
    "cut_off",
    "backend_error",
    "html_502",
)


@pytest.fixture
def known(database_url: str, served: RunningServer, credentials: Path) -> Settings:
    """A request without an answer is settled after a second."""
    return settings(
        database_url,
        served,
        credentials,
        gmail={"request_timeout": 0.5},
        runner={"lease": 4, "poll_interval": 0.1, "concurrency": 20, "sweep_interval": 1.0},
    )


def arm(google: FakeGoogle, method: str, *kinds: str, seconds: float = 1.0) -> None:
    for kind in kinds:
        google.fault(Fault(kind=kind, method=method, seconds=seconds))


def assert_each_was_sent_once(google: FakeGoogle, messages: int) -> None:
    assert google.duplicates() == {}
    assert len({message.key for message in google.sent}) == messages


async def test_no_lost_answer_to_drafts_send_loses_or_doubles_a_message(
    known: Settings, database: Database, google: FakeGoogle, heard: Heard
) -> None:
    arm(google, "drafts.send", *LOST_ANSWERS, seconds=0.8)  # "late" is accepted after the client has given up
    job = await post(database, recipients=len(LOST_ANSWERS) + 2)
    async with running(known, heard):
        await heard.wait_for("job_finished")
    assert await states(database, job) == {"sent": len(LOST_ANSWERS) + 2}
    assert_each_was_sent_once(google, len(LOST_ANSWERS) + 2)
    assert google.drafts() == []
    assert len(heard.of("message_unsure")) >= len(LOST_ANSWERS)


async def test_no_lost_answer_to_drafts_create_loses_or_doubles_a_message_and_orphans_are_deleted(
    known: Settings, database: Database, google: FakeGoogle, heard: Heard
) -> None:
    arm(google, "drafts.create", *LOST_ANSWERS, seconds=0.8)
    job = await post(database, recipients=len(LOST_ANSWERS))
    async with running(known, heard):
        await heard.wait_for("job_finished")
        async with asyncio.timeout(PATIENCE):
            while google.drafts():
                await heard.wait_for("orphan_deleted", times=len(heard.of("orphan_deleted")) + 1)
    assert await states(database, job) == {"sent": len(LOST_ANSWERS)}
    assert_each_was_sent_once(google, len(LOST_ANSWERS))
    assert heard.of("orphan_deleted")


async def test_a_doubt_is_not_looked_at_while_the_request_may_still_be_on_its_way(
    known: Settings, database: Database, google: FakeGoogle, heard: Heard
) -> None:
    arm(google, "drafts.send", "hang_before")
    await post(database, recipients=1)
    async with running(known, heard):
        await heard.wait_for("job_finished")
    send, *_ = [entry for entry in google.log if entry.method == "drafts.send"]
    look, *_ = [entry for entry in google.log if entry.method == "drafts.get"]
    assert look.at - send.at >= 2 * known.gmail.request_timeout


async def test_a_look_that_fails_decides_nothing(
    known: Settings, database: Database, google: FakeGoogle, heard: Heard
) -> None:
    arm(google, "drafts.send", "reset_after")
    arm(google, "drafts.get", "backend_error")
    job = await post(database, recipients=1)
    runner = known.runner.model_copy(update={"sweep_interval": 600.0})  # a sweep would take the fault of drafts.get
    async with running(known.model_copy(update={"runner": runner}), heard):
        await heard.wait_for("message_still_unsure")
        assert await states(database, job) == {"unsure": 1}
        await query(database, "UPDATE job_recipients SET lease_until = UTC_TIMESTAMP(6) - INTERVAL 1 SECOND")
        await heard.wait_for("job_finished")
    assert await states(database, job) == {"sent": 1}
    assert_each_was_sent_once(google, 1)


async def test_what_is_found_carries_its_message_id_where_the_sign_in_may_look(
    known: Settings, database: Database, google: FakeGoogle, credentials: Path, heard: Heard
) -> None:
    sign_in(google, credentials, "full@example.com", scopes=("https://www.googleapis.com/auth/gmail.compose", METADATA))
    arm(google, "drafts.send", "reset_after")
    await post(database, sender="full@example.com", recipients=1)
    async with running(known, heard):
        await heard.wait_for("message_found")
    (message,) = google.sent
    assert await query(database, "SELECT status, message_id FROM job_recipients") == [("sent", message.id)]


async def test_a_direct_doubt_is_settled_by_the_sent_mail_where_the_sign_in_may_look(
    known: Settings, database: Database, google: FakeGoogle, credentials: Path, heard: Heard
) -> None:
    sign_in(google, credentials, "direct@example.com", scopes=(SEND, METADATA))
    arm(google, "messages.send", "reset_after", "reset_before")
    job = await post(database, sender="direct@example.com", recipients=3)
    async with running(known, heard):
        await heard.wait_for("job_finished")
    assert await states(database, job) == {"sent": 3}
    assert_each_was_sent_once(google, 3)
    assert (len(heard.of("message_found")), len(heard.of("message_missing"))) == (1, 1)


async def test_a_direct_doubt_that_nobody_may_look_at_waits_for_a_person(
    known: Settings, database: Database, google: FakeGoogle, credentials: Path, heard: Heard
) -> None:
    sign_in(google, credentials, "direct@example.com", scopes=(SEND,))
    arm(google, "messages.send", "reset_after", "reset_before")
    job = await post(database, sender="direct@example.com", recipients=3)
    async with running(known, heard):
        await heard.wait_for("message_unresolved", times=2)
    assert await states(database, job) == {"sent": 1, "unsure": 2}
    assert google.duplicates() == {}
    assert await query(database, "SELECT DISTINCT lease_until FROM job_recipients WHERE status = 'unsure'") == [(None,)]


async def test_a_bug_in_one_message_fails_that_message_with_its_stack_and_spares_the_others(
    known: Settings, database: Database, google: FakeGoogle, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = MessageBuilder.build

    async def broken(self: MessageBuilder, message: ClaimedRecipient, **how: Any) -> bytes:
        if message.to_email == "bad@example.org":
            raise KeyError("nobody foresaw this")
        return await build(self, message, **how)

    monkeypatch.setattr(MessageBuilder, "build", broken)
    job = await post(database, recipients=["bad@example.org", "good@example.org"])
    async with running(known, heard) as daemon:
        await heard.wait_for("job_finished")
        page = daemon.service.metrics.page().decode()
    assert await states(database, job) == {"sent": 1, "failed": 1}
    assert 'mailerd_messages_total{outcome="failed",sender="me@example.com"} 1.0' in page, "it is counted once"
    assert 'outcome="failed",sender="other"' not in page
    (told,) = heard.of("message_crashed")
    assert isinstance(told["error"], KeyError)
    assert told["error"].__traceback__ is not None
    assert google.duplicates() == {}


async def test_a_bug_after_the_send_leaves_a_doubt_and_not_a_failure(
    known: Settings, database: Database, google: FakeGoogle, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(call: Call, reply: Reply) -> Verdict:
        if call is Call.DRAFTS_SEND:
            raise ZeroDivisionError
        return judge(call, reply)

    monkeypatch.setattr("mailerd.worker.delivery.judge", broken)
    job = await post(database, recipients=1)
    async with running(known, heard):
        await heard.wait_for("message_crashed")
        await heard.wait_for("job_finished")
    assert await states(database, job) == {"sent": 1}
    assert_each_was_sent_once(google, 1)


async def test_a_failed_message_leaves_no_draft_behind(
    known: Settings, database: Database, google: FakeGoogle, heard: Heard
) -> None:
    google.fault(Fault(kind="invalid_to", method="drafts.send"))
    job = await post(database, recipients=1)
    async with running(known, heard):
        await heard.wait_for("message_failed")
    assert await states(database, job) == {"failed": 1}
    assert google.drafts() == []


async def test_throttling_never_costs_an_attempt(
    known: Settings, database: Database, google: FakeGoogle, heard: Heard
) -> None:
    for kind in ("rate_limit", "too_many_concurrent", "user_rate_limit_retry_after", "mail_sending_retry_after"):
        google.fault(Fault(kind=kind, method="drafts.send"))
        google.fault(Fault(kind=kind, method="drafts.create"))
    job = await post(database, recipients=12)
    async with running(known, heard), asyncio.timeout(PATIENCE):
        while "job_finished" not in heard.names():
            await query(
                database, "UPDATE jobs SET next_claim_at = UTC_TIMESTAMP(6) WHERE status IN ('queued', 'sending')"
            )
            await query(
                database,
                "UPDATE senders SET paused_until = NULL, pause_cause = NULL, concurrency = NULL, "
                "next_claim_at = UTC_TIMESTAMP(6)",
            )
            await asyncio.sleep(0.3)
    assert await states(database, job) == {"sent": 12}
    assert await query(database, "SELECT DISTINCT attempts FROM job_recipients") == [(1,)]
    assert len(heard.of("message_released")) == 8
    assert {told["cause"] for told in heard.of("sender_paused")} >= {"throttled", "daily_limit"}
