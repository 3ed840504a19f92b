"""What speaks for `sent` stands on the row, for every kind of sign-in; the truth is counted at the stand-in."""

import asyncio
from pathlib import Path

import pytest

from mailerd.config import Settings
from mailerd.core.states import Transition
from mailerd.sandbox.google import COMPOSE, METADATA, SEND, FakeGoogle, Fault, RunningServer
from mailerd.store.db.database import Database
from mailerd.store.queue.recovery import settle
from mailerd.store.read.audit import audit, proofs
from tests.support.daemon import running, settings, sign_in, sweep
from tests.support.heard import PATIENCE, Heard
from tests.support.rows import post, query, states

DRAFTS, LOOKS, DIRECT, BLIND = (
    "drafts@example.com", "looks@example.com", "direct@example.com", "blind@example.com",
)  # fmt: skip
SCOPES = {DRAFTS: (COMPOSE,), LOOKS: (COMPOSE, METADATA), DIRECT: (SEND, METADATA), BLIND: (SEND,)}


@pytest.fixture
def known(database_url: str, served: RunningServer, credentials: Path, google: FakeGoogle) -> Settings:
    """A request without an answer is settled after a second; all four kinds of sign-in are there."""
    for sender, scopes in SCOPES.items():
        sign_in(google, credentials, sender, scopes=scopes)
    return settings(
        database_url,
        served,
        credentials,
        gmail={"request_timeout": 0.5},
        inbox={"enabled": False},  # its calls would take the faults that are meant for the looks
        runner={"lease": 4, "poll_interval": 0.1, "concurrency": 20, "sweep_interval": 600.0},
    )


def patient(known: Settings) -> Settings:
    """For what waits for no answer that never comes: on a slow machine half a second is short for one that does."""
    gmail = known.gmail.model_copy(update={"request_timeout": 3.0})
    return known.model_copy(update={"gmail": gmail, "runner": known.runner.model_copy(update={"lease": 10.0})})


def call(sender: str) -> str:
    return "drafts.send" if COMPOSE in SCOPES[sender] else "messages.send"


async def proven(database: Database, job: str) -> set[tuple[str, str | None]]:
    return set(await query(database, "SELECT status, proof FROM job_recipients WHERE job_id = %s", job))


def see_nothing(google: FakeGoogle, sender: str, *, looks: int = 1) -> None:
    """The next looks into the sent mail are answered by a replica that lags."""
    if sender == LOOKS:
        google.fault(Fault(kind="not_found", method="threads.get", count=looks))
    google.fault(Fault(kind="status", status=200, body="{}", method="messages.list", count=looks))


async def look_now(database: Database) -> None:
    """Somebody looks for what is in doubt, at once."""
    await query(
        database,
        "UPDATE job_recipients SET lease_until = UTC_TIMESTAMP(6) - INTERVAL 1 SECOND WHERE status = 'unsure'",
    )


def assert_the_truth(google: FakeGoogle, job: str, sent: int) -> None:
    """So many messages of the job, none of them twice."""
    assert google.duplicates() == {}
    assert len([message for message in google.sent if message.key.startswith(job)]) == sent


@pytest.mark.parametrize("sender", SCOPES)
async def test_an_answer_is_a_proof(
    known: Settings, database: Database, google: FakeGoogle, heard: Heard, sender: str
) -> None:
    job = await post(database, sender=sender, recipients=2)
    async with running(known, heard):
        await heard.wait_for("job_finished")
    assert await proven(database, job) == {("sent", "answered")}
    assert_the_truth(google, job, 2)
    assert await proofs(database) == {"answered": 2}
    assert await audit(database) == (1, [])


@pytest.mark.parametrize(
    "sender, proof", [(DRAFTS, "draft gone"), (LOOKS, "seen in SENT"), (DIRECT, "seen in SENT"), (BLIND, None)]
)
async def test_what_was_sent_without_an_answer_says_how_that_is_known(
    known: Settings, database: Database, google: FakeGoogle, heard: Heard, sender: str, proof: str | None
) -> None:
    google.fault(Fault(kind="reset_after", method=call(sender)))
    job = await post(database, sender=sender, recipients=1)
    async with running(known, heard):
        await heard.wait_for("message_found" if proof else "message_unresolved")
    assert await proven(database, job) == {("sent", proof) if proof else ("unsure", None)}
    assert_the_truth(google, job, 1)


async def unpause(database: Database) -> None:
    # Jobs first, as everywhere: a claim in between would find the sender due and no job of it.
    await query(database, "UPDATE jobs SET next_claim_at = UTC_TIMESTAMP(6) WHERE status IN ('queued', 'sending')")
    await query(
        database,
        "UPDATE senders SET paused_until = NULL, pause_cause = NULL, concurrency = NULL, "
        "next_claim_at = UTC_TIMESTAMP(6)",
    )


def delete_by_hand(google: FakeGoogle, sender: str) -> None:
    """The owner deletes every draft that lies about."""
    for draft in list(google.mailbox(sender).drafts):
        google.mailbox(sender).delete_draft(draft)


@pytest.mark.parametrize("sender", [DRAFTS, LOOKS])
async def test_a_draft_that_its_owner_deletes_after_a_refusal_is_not_taken_for_sent(
    known: Settings, database: Database, google: FakeGoogle, heard: Heard, sender: str
) -> None:
    google.fault(Fault(kind="user_rate_limit", method="drafts.send", count=3))
    job = await post(database, sender=sender, recipients=3)
    async with running(known, heard):
        await heard.wait_for("message_released", times=3)
        assert len(google.drafts(sender)) == 3, "a pause of seconds leaves them where they are"
        delete_by_hand(google, sender)
        await unpause(database)
        if sender == DRAFTS:
            await heard.wait_for("message_unresolved", times=3)
            assert await proven(database, job) == {("unsure", None)}
            assert_the_truth(google, job, 0)
            for (recipient,) in await query(database, "SELECT id FROM job_recipients"):
                await settle(database, recipient, change=Transition.MISSING, actor="T")
        await heard.wait_for("job_finished")
    assert await proven(database, job) == {("sent", "answered")}
    assert_the_truth(google, job, 3)


@pytest.mark.parametrize("sender, proof, sent", [(DRAFTS, "draft gone", 0), (LOOKS, "answered", 1)])
async def test_a_draft_that_its_owner_deletes_while_it_is_in_doubt(
    known: Settings, database: Database, google: FakeGoogle, heard: Heard, sender: str, proof: str, sent: int
) -> None:
    google.fault(Fault(kind="reset_before", method="drafts.send"))
    job = await post(database, sender=sender, recipients=1)
    async with running(known, heard):
        await heard.wait_for("message_unsure")
        delete_by_hand(google, sender)
        await heard.wait_for("job_finished")
    assert await proven(database, job) == {("sent", proof)}
    assert_the_truth(google, job, sent)


async def test_sent_mail_that_cannot_be_read_decides_nothing(
    known: Settings, database: Database, google: FakeGoogle, heard: Heard
) -> None:
    google.fault(Fault(kind="reset_after", method="drafts.send"))
    google.fault(Fault(kind="backend_error", method="threads.get", count=2))
    job = await post(database, sender=LOOKS, recipients=1)
    async with running(known, heard):
        for look in (1, 2):
            await heard.wait_for("message_still_unsure", times=look)
            assert await proven(database, job) == {("unsure", None)}
            await query(database, "UPDATE job_recipients SET lease_until = UTC_TIMESTAMP(6) - INTERVAL 1 SECOND")
        await heard.wait_for("job_finished")
    assert await proven(database, job) == {("sent", "seen in SENT")}
    assert_the_truth(google, job, 1)


async def test_a_draft_that_google_shows_in_its_thread_is_not_gone(
    known: Settings, database: Database, google: FakeGoogle, heard: Heard
) -> None:
    google.fault(Fault(kind="reset_before", method="drafts.send"))
    google.fault(Fault(kind="not_found", method="drafts.get"))
    job = await post(database, sender=LOOKS, recipients=1)
    async with running(known, heard):
        await heard.wait_for("message_still_unsure")
        assert await proven(database, job) == {("unsure", None)}
        await query(database, "UPDATE job_recipients SET lease_until = UTC_TIMESTAMP(6) - INTERVAL 1 SECOND")
        await heard.wait_for("job_finished")
    assert await proven(database, job) == {("sent", "answered")}
    assert_the_truth(google, job, 1)


@pytest.mark.parametrize("sender", [LOOKS, DIRECT])
async def test_a_message_is_not_sent_again_before_two_looks_into_the_sent_mail_have_found_nothing(
    known: Settings, database: Database, google: FakeGoogle, heard: Heard, sender: str
) -> None:
    """What was sent is seen late: by a replica that lags."""
    google.fault(Fault(kind="reset_after", method=call(sender)))
    see_nothing(google, sender)
    job = await post(database, sender=sender, recipients=1)
    async with running(known, heard):
        await heard.wait_for("job_finished")
    assert await proven(database, job) == {("sent", "seen in SENT")}
    assert_the_truth(google, job, 1)


@pytest.mark.parametrize("sender", [LOOKS, DIRECT])
async def test_a_look_that_failed_is_not_one_of_the_two_that_found_nothing(
    known: Settings, database: Database, google: FakeGoogle, heard: Heard, sender: str
) -> None:
    google.fault(Fault(kind="reset_after", method=call(sender)))
    google.fault(Fault(kind="backend_error", method="drafts.get" if sender == LOOKS else "messages.list"))
    see_nothing(google, sender)
    job = await post(database, sender=sender, recipients=1)
    async with running(known, heard):
        await heard.wait_for("message_still_unsure")
        await look_now(database)
        await heard.wait_for("job_finished")
    assert len(heard.of("message_still_unsure")) == 2
    assert await proven(database, job) == {("sent", "seen in SENT")}
    assert_the_truth(google, job, 1)


@pytest.mark.parametrize("sender", [LOOKS, DIRECT])
async def test_two_looks_that_found_nothing_lie_a_rest_apart(
    known: Settings, database: Database, google: FakeGoogle, heard: Heard, sender: str
) -> None:
    """Somebody asks for the second one at once: it does not count, whatever it finds."""
    known = patient(known)
    google.fault(Fault(kind="reset_after", method=call(sender)))
    see_nothing(google, sender, looks=2)
    job = await post(database, sender=sender, recipients=1)
    async with running(known, heard):
        await heard.wait_for("message_unsure")
        for look in (1, 2):
            await look_now(database)
            await heard.wait_for("message_still_unsure", times=look)
        await look_now(database)
        await heard.wait_for("job_finished")
    assert await proven(database, job) == {("sent", "seen in SENT")}
    assert_the_truth(google, job, 1)


LONG_REFUSALS = (
    "user_rate_limit_retry_after", "user_rate_limit_retry_after_403", "mail_sending_retry_after", "daily_limit",
    "quota_exceeded",
)  # fmt: skip


@pytest.mark.parametrize("sender", [DRAFTS, LOOKS])
@pytest.mark.parametrize("kind", LONG_REFUSALS)
async def test_no_draft_lies_about_while_its_message_waits_for_long(
    known: Settings, database: Database, google: FakeGoogle, heard: Heard, sender: str, kind: str
) -> None:
    google.fault(Fault(kind=kind, method="drafts.send", count=5))
    job = await post(database, sender=sender, recipients=5)
    async with running(patient(known), heard):
        await heard.wait_for("message_released", times=5)
        assert google.drafts(sender) == []
        assert await query(
            database,
            "SELECT DISTINCT status, attempts, mode, draft_id, thread_id, unanswered, discarding FROM job_recipients",
        ) == [("waiting", 0, None, None, None, 0, 0)]
        assert await query(database, "SELECT COUNT(*) FROM senders WHERE paused_until > UTC_TIMESTAMP(6)") == [(1,)]
        await unpause(database)
        await heard.wait_for("job_finished")
    assert await proven(database, job) == {("sent", "answered")}
    assert_the_truth(google, job, 5)
    assert google.drafts() == []


@pytest.mark.parametrize("sender", [DRAFTS, LOOKS])
async def test_a_draft_that_is_gone_when_it_is_to_be_deleted_is_a_doubt(
    known: Settings, database: Database, google: FakeGoogle, heard: Heard, sender: str
) -> None:
    """Its owner was quicker: deleted it, or sent it by hand."""
    google.fault(Fault(kind="mail_sending_retry_after", method="drafts.send"))
    missing = '{"error":{"code":404,"message":"gone","errors":[{"reason":"notFound"}]}}'
    google.fault(Fault(kind="status", status=404, body=missing, method="drafts.delete", accepts=True))
    job = await post(database, sender=sender, recipients=1)
    async with running(known, heard):
        await heard.wait_for("message_unsure")
        if sender == LOOKS:
            await heard.wait_for("message_missing")
            await unpause(database)
            await heard.wait_for("job_finished")
        else:
            await heard.wait_for("message_unresolved")
    assert await proven(database, job) == {("sent", "answered") if sender == LOOKS else ("unsure", None)}
    assert_the_truth(google, job, int(sender == LOOKS))


@pytest.mark.parametrize("sender", [DRAFTS, LOOKS])
@pytest.mark.parametrize("kind", ["reset_before", "reset_after", "hang_before", "hang_after", "backend_error"])
async def test_no_lost_answer_to_the_deletion_of_a_draft_loses_or_doubles_a_message(
    known: Settings, database: Database, google: FakeGoogle, heard: Heard, sender: str, kind: str
) -> None:
    google.fault(Fault(kind="mail_sending_retry_after", method="drafts.send", count=2))
    google.fault(Fault(kind=kind, method="drafts.delete", seconds=1.0))
    job = await post(database, sender=sender, recipients=2)
    async with running(known, heard):
        await heard.wait_for("message_missing")
        await unpause(database)
        await heard.wait_for("job_finished")
    assert await proven(database, job) == {("sent", "answered")}
    assert_the_truth(google, job, 2)
    assert google.drafts() == []


async def test_a_draft_that_google_does_not_let_us_delete_stays_the_messages_own(
    known: Settings, database: Database, google: FakeGoogle, heard: Heard
) -> None:
    google.fault(Fault(kind="mail_sending_retry_after", method="drafts.send"))
    google.fault(Fault(kind="user_rate_limit", method="drafts.delete"))
    job = await post(database, sender=DRAFTS, recipients=1)
    async with running(known, heard):
        await heard.wait_for("message_released")
        (draft,) = google.drafts(DRAFTS)
        assert await query(database, "SELECT status, draft_id FROM job_recipients") == [("waiting", draft.draft_id)]
        await unpause(database)
        await heard.wait_for("job_finished")
    assert await proven(database, job) == {("sent", "answered")}
    assert google.sent[0].draft_id == draft.draft_id
    assert_the_truth(google, job, 1)


@pytest.mark.parametrize("sender", [DRAFTS, LOOKS])
async def test_a_rejection_of_a_draft_that_may_have_been_sent_fails_the_message_only_when_the_draft_can_be_deleted(
    known: Settings, database: Database, google: FakeGoogle, heard: Heard, sender: str
) -> None:
    google.fault(Fault(kind="reset_before", method="drafts.send", count=2))
    google.fault(Fault(kind="invalid_to", method="drafts.send"))
    google.fault(Fault(kind="invalid_to", method="drafts.send", accepts=True))  # the first send arrives after all
    job = await post(database, sender=sender, recipients=2)
    async with running(known, heard):
        await heard.wait_for("job_finished")
    assert await states(database, job) == {"failed": 1, "sent": 1}
    assert_the_truth(google, job, 1)
    (sent,) = google.sent
    assert await query(database, "SELECT status FROM job_recipients WHERE CONCAT(job_id, '-', seq) = %s", sent.key) == [
        ("sent",)
    ]
    assert google.drafts() == []


async def test_a_draft_that_is_found_disproves_that_its_message_was_sent(
    known: Settings, database: Database, google: FakeGoogle, heard: Heard
) -> None:
    """A replica that lags denies a young draft for longer than anybody waits."""
    google.fault(Fault(kind="reset_before", method="drafts.send"))
    google.fault(Fault(kind="not_found", method="drafts.get"))
    job = await post(database, sender=DRAFTS, recipients=1)
    async with running(known, heard) as daemon:
        await heard.wait_for("message_found")
        await sweep(daemon)
        await heard.wait_for("message_undone")
        await heard.wait_for("message_sent")
        async with asyncio.timeout(PATIENCE):  # it may have been completed once before
            while await query(database, "SELECT status FROM jobs") != [("completed",)]:  # noqa: ASYNC110 - no bell
                await asyncio.sleep(0.05)
    assert await proven(database, job) == {("sent", "answered")}
    assert_the_truth(google, job, 1)
    assert len(heard.of("message_undone")) == 1
    assert google.drafts() == []
    assert await audit(database) == (1, [])


async def test_a_message_that_waits_for_a_person_goes_on_by_itself_once_its_draft_is_shown(
    known: Settings, database: Database, google: FakeGoogle, heard: Heard
) -> None:
    """A replica that lags denies a young draft to drafts.send and to the check."""
    google.fault(Fault(kind="not_found", method="drafts.send"))
    google.fault(Fault(kind="not_found", method="drafts.get"))
    job = await post(database, sender=DRAFTS, recipients=1)
    async with running(known, heard) as daemon:
        await heard.wait_for("message_unresolved")
        await sweep(daemon)
        await heard.wait_for("message_missing")
        await heard.wait_for("job_finished")
    assert await proven(database, job) == {("sent", "answered")}
    assert_the_truth(google, job, 1)
    assert google.drafts() == []


FORBIDDEN = '{"error":{"code":403,"message":"No.","errors":[{"reason":"forbidden"}]}}'
PRECONDITION = (
    '{"error":{"code":400,"message":"Precondition check failed.","errors":[{"reason":"failedPrecondition"}]}}'
)


@pytest.mark.parametrize("sender", [DRAFTS, DIRECT])
@pytest.mark.parametrize("status, body", [(403, FORBIDDEN), (400, PRECONDITION)])
async def test_a_message_that_google_refuses_alone_fails_and_pauses_its_sender_once(
    known: Settings, database: Database, google: FakeGoogle, heard: Heard, sender: str, status: int, body: str
) -> None:
    google.fault(Fault(kind="status", status=status, body=body, method=call(sender)))
    job = await post(database, sender=sender, recipients=4)
    async with running(known, heard):
        await heard.wait_for("message_sent", times=3)
        google.fault(Fault(kind="status", status=status, body=body, method=call(sender), count=-1))
        await unpause(database)
        await heard.wait_for("job_finished")
    assert await states(database, job) == {"sent": 3, "failed": 1}
    assert len(heard.of("sender_paused")) == 1
    assert "but accepts others from its mailbox" in heard.of("message_failed")[0]["cause"]
    assert await query(database, "SELECT COUNT(*) FROM senders WHERE paused_until > UTC_TIMESTAMP(6)") == [(0,)]
    assert google.drafts() == []
    assert_the_truth(google, job, 3)
