"""Whoever has opted out gets nothing more, wherever the message stands at that moment."""

import asyncio
from pathlib import Path

import pytest

from mailerd.clock import new_id
from mailerd.config import Settings
from mailerd.core.claims import Handover, Outcome, WriteResult
from mailerd.core.suppression import EVERYTHING, Channel, Reason
from mailerd.sandbox.google import SEND, FakeGoogle, Fault
from mailerd.store.db.database import Database
from mailerd.store.queue.recovery import RecoveryQueries
from mailerd.store.write.new_jobs import NewJob, NewJobs, NewRecipient
from mailerd.store.write.secrets import Secrets
from mailerd.store.write.suppressions import NewSuppression, Suppressions
from mailerd.worker.recorder import Recorder
from tests.support.daemon import running, sign_in
from tests.support.heard import Heard
from tests.support.rows import post, query, states

ADA, BOB = "ada@example.org", "bob@example.org"


async def suppress(
    database: Database, address: str, list_id: int = EVERYTHING, reason: Reason = Reason.UNSUBSCRIBED
) -> None:
    keys = await Secrets(database, timeout=5).keys()
    suppressions = Suppressions(database, key=keys.address, timeout=5)
    await suppressions.add([NewSuppression(suppressions.digest(address), list_id, reason, Channel.ONE_CLICK)])


async def row(database: Database, address: str) -> tuple[object, ...]:
    ((*found,),) = await query(
        database, "SELECT status, attempts, error, draft_id FROM job_recipients WHERE to_email = %s", address
    )
    return tuple(found)


def received(google: FakeGoogle) -> set[str]:
    return {message.to for message in google.sent}


async def test_one_that_waits_is_cancelled_at_no_cost_and_its_job_ends(
    known: Settings, database: Database, google: FakeGoogle, heard: Heard
) -> None:
    job = await post(database, recipients=[ADA, BOB])
    await suppress(database, "ADA@Example.org")
    limited = known.model_copy(update={"pace": known.pace.model_copy(update={"per_day": 100})})
    async with running(limited, heard):
        await heard.wait_for("job_finished")
    assert await states(database, job) == {"cancelled": 1, "sent": 1}
    assert await row(database, ADA) == ("cancelled", 0, "the address is suppressed: unsubscribed", None)
    assert received(google) == {BOB}
    assert google.drafts() == []
    assert await query(database, "SELECT SUM(messages) FROM sender_hours") == [(1,)]
    assert len(heard.of("message_suppressed")) == 1


async def test_a_job_whose_people_have_all_opted_out_ends_at_the_next_claim(
    known: Settings, database: Database, google: FakeGoogle, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def none(_: RecoveryQueries) -> list[str]:  # the search every 30 s, which finds what a death has left
        return []

    monkeypatch.setattr(RecoveryQueries, "unfinished_jobs", none)
    out = NewRecipient(ADA, None, None, "the address is suppressed: unsubscribed", suppressed=True)
    job = NewJob(id=new_id(), sender_email="me@example.com", subject="Hello", text="Dear", recipients=[out])
    async with running(known, heard):
        await NewJobs(database, timeout=5).accept(job)
        finished = await heard.wait_for("job_finished")
    assert (finished["job"], finished["cancelled"]) == (job.id, 1)
    assert await query(database, "SELECT status FROM jobs") == [("completed",)]
    assert google.sent == []


@pytest.mark.parametrize("reason", [Reason.UNSUBSCRIBED, Reason.HARD_BOUNCE])
@pytest.mark.parametrize("mode", ["draft", "direct"])
async def test_one_that_opts_out_while_its_message_is_on_its_way_gets_none(
    known: Settings, database: Database, google: FakeGoogle, credentials: Path, heard: Heard, mode: str, reason: Reason
) -> None:
    if mode == "direct":
        sign_in(google, credentials, scopes=(SEND,))
    # After the claim: what holds it up is the draft or, where there is none, the token.
    google.fault(Fault(kind="latency", method="drafts.create" if mode == "draft" else "token", seconds=2.0))
    job = await post(database, recipients=[ADA, BOB])
    async with running(known, heard):
        await heard.wait_for("claimed")
        await suppress(database, ADA, reason=reason)
        await heard.wait_for("job_finished")
    assert await states(database, job) == {"cancelled": 1, "sent": 1}
    assert await row(database, ADA) == ("cancelled", 0, f"the address is suppressed: {reason}", None)
    assert received(google) == {BOB}
    assert google.drafts() == []


async def test_the_draft_of_one_that_was_throttled_is_deleted_and_never_sent(
    known: Settings, database: Database, google: FakeGoogle, heard: Heard
) -> None:
    google.fault(Fault(kind="user_rate_limit", method="drafts.send", count=1))
    await post(database, recipients=[ADA])
    async with running(known, heard):
        await heard.wait_for("message_released")
        assert len(google.drafts()) == 1
        await suppress(database, ADA)
        await query(database, "UPDATE job_recipients SET due_at = UTC_TIMESTAMP(6)")
        await query(database, "UPDATE jobs SET next_claim_at = UTC_TIMESTAMP(6)")
        await query(database, "UPDATE senders SET next_claim_at = UTC_TIMESTAMP(6), paused_until = NULL")
        await heard.wait_for("job_finished")
    assert (await row(database, ADA))[0] == "cancelled"
    assert google.sent == []
    assert google.drafts() == []


async def test_a_list_binds_its_own_jobs_alone(
    known: Settings, database: Database, google: FakeGoogle, heard: Heard
) -> None:
    await suppress(database, ADA, list_id=7)
    plain = await post(database, recipients=[ADA])
    other = await post(database, recipients=[ADA])
    mine = await post(database, recipients=[ADA])
    await query(database, "UPDATE jobs SET list_id = 8 WHERE id = %s", other)
    await query(database, "UPDATE jobs SET list_id = 7 WHERE id = %s", mine)
    async with running(known, heard):
        await heard.wait_for("job_finished", times=3)
    assert await states(database, plain) == await states(database, other) == {"sent": 1}
    assert await states(database, mine) == {"cancelled": 1}
    assert len(google.sent) == 2


@pytest.mark.parametrize("reason,status", [(Reason.UNSUBSCRIBED, "sent"), (Reason.HARD_BOUNCE, "cancelled")])
async def test_an_override_lifts_what_a_person_asked_for_and_never_a_bounce(
    known: Settings, database: Database, heard: Heard, reason: Reason, status: str
) -> None:
    await suppress(database, ADA, reason=reason)
    job = await post(database, recipients=[ADA])
    await query(database, "UPDATE jobs SET override_suppression = 1 WHERE id = %s", job)
    async with running(known, heard):
        await heard.wait_for("job_finished")
    assert await states(database, job) == {status: 1}


async def test_one_whose_message_may_have_been_sent_is_looked_for_and_not_called_cancelled(
    known: Settings, database: Database, google: FakeGoogle, heard: Heard
) -> None:
    google.fault(Fault(kind="reset_after", method="drafts.send", count=1))
    job = await post(database, recipients=[ADA])
    async with running(known, heard):
        await heard.wait_for("message_unsure")
        await suppress(database, ADA)
        await query(database, "UPDATE job_recipients SET lease_until = UTC_TIMESTAMP(6)")
        await heard.wait_for("message_found")
    assert received(google) == {ADA}
    assert await states(database, job) == {"sent": 1}


@pytest.mark.parametrize("mode", ["draft", "direct"])
async def test_a_send_whose_hand_over_took_long_looks_again(
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
            await suppress(database, ADA)
            await asyncio.sleep(0.3)
        return result

    monkeypatch.setattr("mailerd.worker.delivery.MAX_LOOKUP_AGE", 0.2)
    monkeypatch.setattr(Recorder, "record", slow_record)
    await post(database, recipients=[ADA])
    async with running(known, heard):
        await heard.wait_for("job_finished")
    assert (await row(database, ADA))[0] == "cancelled"
    assert google.sent == []
    assert google.drafts() == []


@pytest.mark.parametrize("mode", ["draft", "direct"])
async def test_a_send_that_waits_for_a_token_looks_again(
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
    method = "drafts.send" if mode == "draft" else "messages.send"
    google.fault(Fault(kind="auth_error", method=method, count=1))
    google.fault(Fault(kind="latency", method="token", skip=1, seconds=0.6))
    record = Recorder.record

    async def record_then_suppress(self: Recorder, it: Handover | Outcome) -> WriteResult:
        result = await record(self, it)
        if isinstance(it, Handover) and not it.discarding:
            await suppress(database, ADA)
        return result

    monkeypatch.setattr("mailerd.worker.delivery.MAX_LOOKUP_AGE", 0.3)
    monkeypatch.setattr(Recorder, "record", record_then_suppress)
    await post(database, recipients=[ADA])
    async with running(known, heard):
        await heard.wait_for("job_finished")
    assert (await row(database, ADA))[0] == "cancelled"
    assert google.sent == []
    assert google.drafts() == []
