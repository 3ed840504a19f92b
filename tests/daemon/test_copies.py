"""A message and its copies are one draft: who has opted out stands in none that is sent, whatever moment that was."""

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest

from mailerd.config import Settings
from mailerd.core.claims import Handover, Outcome, WriteResult
from mailerd.core.copies import Copy
from mailerd.core.suppression import Reason
from mailerd.sandbox.google import SEND, FakeGoogle, Fault
from mailerd.store.db.database import Database
from mailerd.worker.recorder import Recorder
from tests.daemon.test_suppression import ADA, BOB, row, suppress
from tests.support.copies import BCC, BOTH, CC, addressed, post_copied
from tests.support.daemon import running, sign_in
from tests.support.heard import Heard
from tests.support.rows import query, states

WITHOUT_CC = {"to": [ADA], "cc": [], "bcc": [BCC]}


async def test_a_draft_names_those_of_the_recipient_or_else_of_the_job(
    known: Settings, database: Database, google: FakeGoogle, heard: Heard
) -> None:
    own = [Copy("cc", "boss@example.org", "Böss, the"), Copy("cc", "second@example.org")]
    await post_copied(database, (ADA, None), (BOB, own), ("none@example.org", []), shared=BOTH)
    async with running(known, heard):
        await heard.wait_for("job_finished")
    assert sorted(map(str, map(addressed, google.sent))) == sorted(map(str, [
        {"to": [ADA], "cc": [CC], "bcc": [BCC]},
        {"to": [BOB], "cc": ["boss@example.org", "second@example.org"], "bcc": []},
        {"to": ["none@example.org"], "cc": [], "bcc": []},
    ]))  # fmt: skip
    assert await query(database, "SELECT SUM(messages), SUM(copies) FROM sender_hours") == [(3, 4)]


async def test_a_copy_that_has_opted_out_since_the_post_is_left_out_and_the_message_goes(
    known: Settings, database: Database, google: FakeGoogle, heard: Heard
) -> None:
    job = await post_copied(database, (ADA, BOTH), (BOB, BOTH[1:]))
    await suppress(database, CC.upper())
    async with running(known, heard):
        await heard.wait_for("job_finished")
    assert await states(database, job) == {"sent": 2}
    assert [addressed(it) for it in google.sent if it.to.startswith(ADA)] == [WITHOUT_CC]
    assert heard.of("message_released") == []


@pytest.mark.parametrize("mode", ["draft", "direct"])
async def test_a_copy_that_opts_out_while_the_message_is_on_its_way_gets_none(
    known: Settings, database: Database, google: FakeGoogle, credentials: Path, heard: Heard, mode: str
) -> None:
    if mode == "direct":
        sign_in(google, credentials, scopes=(SEND,))
    google.fault(Fault(kind="latency", method="drafts.create" if mode == "draft" else "token", seconds=2.0, count=1))
    job = await post_copied(database, (ADA, BOTH))
    limited = known.model_copy(update={"pace": known.pace.model_copy(update={"per_day": 100})})
    async with running(limited, heard):
        await heard.wait_for("claimed")
        await suppress(database, CC)
        await heard.wait_for("job_finished")
    assert await states(database, job) == {"sent": 1}
    assert [addressed(it) for it in google.sent] == [WITHOUT_CC]
    assert google.drafts() == []
    assert await row(database, ADA) == ("sent", 1, None, google.sent[0].draft_id or None), "the attempt is refunded"
    assert len(heard.of("message_released")) == 1
    assert await query(database, "SELECT messages, copies FROM sender_hours") == [(1, 2)], "so is the day"


async def test_the_draft_of_a_message_that_was_throttled_is_made_again_without_the_copy(
    known: Settings, database: Database, google: FakeGoogle, heard: Heard
) -> None:
    google.fault(Fault(kind="user_rate_limit", method="drafts.send", count=1))
    await post_copied(database, (ADA, None), shared=BOTH)
    async with running(known, heard):
        await heard.wait_for("message_released")
        assert len(google.drafts()) == 1
        await suppress(database, CC)
        await query(database, "UPDATE job_recipients SET due_at = UTC_TIMESTAMP(6)")
        await query(database, "UPDATE jobs SET next_claim_at = UTC_TIMESTAMP(6)")
        await query(database, "UPDATE senders SET next_claim_at = UTC_TIMESTAMP(6), paused_until = NULL")
        await heard.wait_for("job_finished")
    assert [addressed(it) for it in google.sent] == [WITHOUT_CC]
    assert google.drafts() == []
    assert (await row(database, ADA))[1] == 1


async def test_a_draft_that_google_does_not_delete_is_not_sent_and_is_tried_again_until_it_is_gone(
    known: Settings, database: Database, google: FakeGoogle, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mailerd.worker.delivery._MADE_ANEW_AFTER", timedelta(0))
    google.fault(Fault(kind="latency", method="drafts.create", seconds=2.0, count=1))
    google.fault(Fault(kind="backend_error", method="drafts.delete", count=3))
    await post_copied(database, (ADA, BOTH))
    async with running(known, heard):
        await heard.wait_for("claimed")
        await suppress(database, CC)
        await heard.wait_for("job_finished")
    assert [addressed(it) for it in google.sent] == [WITHOUT_CC]
    assert google.drafts() == []
    assert (await row(database, ADA))[1] == 1


@pytest.mark.parametrize("reason,cc", [(Reason.UNSUBSCRIBED, [CC]), (Reason.HARD_BOUNCE, [])])
async def test_an_override_holds_for_copies_too_and_never_lifts_a_bounce(
    known: Settings, database: Database, google: FakeGoogle, heard: Heard, reason: Reason, cc: list[str]
) -> None:
    job = await post_copied(database, (ADA, BOTH))
    await suppress(database, CC, reason=reason)
    await query(database, "UPDATE jobs SET override_suppression = 1 WHERE id = %s", job)
    async with running(known, heard):
        await heard.wait_for("job_finished")
    assert [addressed(it)["cc"] for it in google.sent] == [cc]


@pytest.mark.parametrize("mode", ["draft", "direct"])
async def test_a_send_whose_hand_over_took_long_looks_again_for_the_copies(
    known: Settings,
    database: Database,
    google: FakeGoogle,
    credentials: Path,
    heard: Heard,
    monkeypatch: pytest.MonkeyPatch,
    mode: str,
) -> None:
    if mode == "direct":
        sign_in(google, credentials, scopes=(SEND,))
    record = Recorder.record

    async def slow_record(self: Recorder, it: Handover | Outcome) -> WriteResult:
        result = await record(self, it)
        if isinstance(it, Handover) and not it.discarding:  # its COMMIT is done, and its answer is long on the way
            await suppress(database, CC)
            await asyncio.sleep(0.3)
        return result

    monkeypatch.setattr("mailerd.worker.delivery.MAX_LOOKUP_AGE", 0.2)
    monkeypatch.setattr(Recorder, "record", slow_record)
    await post_copied(database, (ADA, BOTH))
    async with running(known, heard):
        await heard.wait_for("job_finished")
    assert [addressed(it) for it in google.sent] == [WITHOUT_CC]
    assert google.drafts() == []


async def test_a_message_in_doubt_is_looked_for_and_not_made_again_though_a_copy_opts_out(
    known: Settings, database: Database, google: FakeGoogle, heard: Heard
) -> None:
    google.fault(Fault(kind="reset_after", method="drafts.send", count=1))
    job = await post_copied(database, (ADA, BOTH))
    async with running(known, heard):
        await heard.wait_for("message_unsure")
        await suppress(database, CC)
        await query(database, "UPDATE job_recipients SET lease_until = UTC_TIMESTAMP(6)")
        await heard.wait_for("message_found")
    assert len(google.sent) == 1
    assert await states(database, job) == {"sent": 1}


async def test_a_message_whose_draft_is_still_there_after_a_lost_answer_is_made_again_without_the_copy(
    known: Settings, database: Database, google: FakeGoogle, heard: Heard
) -> None:
    google.fault(Fault(kind="reset_before", method="drafts.send", count=1))
    job = await post_copied(database, (ADA, BOTH))
    async with running(known, heard):
        await heard.wait_for("message_unsure")
        await suppress(database, CC)
        await query(database, "UPDATE job_recipients SET lease_until = UTC_TIMESTAMP(6)")
        await heard.wait_for("job_finished")
    assert [addressed(it) for it in google.sent] == [WITHOUT_CC]
    assert google.drafts() == []
    assert await states(database, job) == {"sent": 1}
