"""A sign-in that may use drafts no more: what owns a draft holds up nobody, and none of it is lost or sent twice."""

from pathlib import Path

import pytest

from mailerd.config import Settings
from mailerd.sandbox.google import COMPOSE, METADATA, SEND, FakeGoogle, Fault, RunningServer
from mailerd.store.db.database import Database
from tests.support.daemon import running, settings, sign_in
from tests.support.heard import Heard
from tests.support.rows import post, query

SENDER = "reduced@example.com"
REDUCED = [(SEND, METADATA), (SEND,)]


@pytest.fixture
def known(database_url: str, served: RunningServer, credentials: Path, google: FakeGoogle) -> Settings:
    """A request without an answer is settled after a second."""
    sign_in(google, credentials, SENDER, scopes=(COMPOSE, METADATA))
    return settings(
        database_url,
        served,
        credentials,
        gmail={"request_timeout": 0.5},
        runner={"lease": 4, "poll_interval": 0.1, "concurrency": 20, "sweep_interval": 600},
    )


async def unpause(database: Database) -> None:
    # Jobs first, as everywhere: a claim in between would find the sender due and no job of it.
    await query(database, "UPDATE jobs SET next_claim_at = UTC_TIMESTAMP(6) WHERE status IN ('queued', 'sending')")
    await query(
        database,
        "UPDATE senders SET paused_until = NULL, pause_cause = NULL, concurrency = NULL, "
        "next_claim_at = UTC_TIMESTAMP(6)",
    )


async def proven(database: Database, job: str) -> set[tuple[str, str | None]]:
    return set(await query(database, "SELECT status, proof FROM job_recipients WHERE job_id = %s", job))


def assert_the_truth(google: FakeGoogle, job: str, sent: int) -> None:
    """So many messages of the job, none of them twice."""
    assert google.duplicates() == {}
    assert len([message for message in google.sent if message.key.startswith(job)]) == sent


@pytest.mark.parametrize("scopes", REDUCED)
async def test_a_message_whose_draft_was_never_sent_goes_out_directly_and_holds_up_nobody(
    known: Settings, database: Database, google: FakeGoogle, credentials: Path, heard: Heard, scopes: tuple[str, ...]
) -> None:
    google.fault(Fault(kind="user_rate_limit", method="drafts.send", count=3))
    job = await post(database, sender=SENDER, recipients=3)
    async with running(known, heard):
        await heard.wait_for("message_released", times=3)
    sign_in(google, credentials, SENDER, scopes=scopes)
    await unpause(database)
    other = await post(database, sender=SENDER, recipients=2)
    async with running(known, heard):
        await heard.wait_for("job_finished", times=2)
    assert await proven(database, job) == await proven(database, other) == {("sent", "answered")}
    assert await query(database, "SELECT DISTINCT draft_id FROM job_recipients") == [(None,)]
    assert_the_truth(google, job, 3)
    assert_the_truth(google, other, 2)


@pytest.mark.parametrize("scopes", REDUCED)
@pytest.mark.parametrize("kind, sent", [("reset_after", 1), ("reset_before", 0)])
async def test_a_message_whose_draft_may_have_been_sent_is_looked_for_without_drafts(
    known: Settings, database: Database, google: FakeGoogle, credentials: Path, heard: Heard,
    scopes: tuple[str, ...], kind: str, sent: int,
) -> None:  # fmt: skip
    google.fault(Fault(kind=kind, method="drafts.send"))
    job = await post(database, sender=SENDER, recipients=1)
    async with running(known, heard):
        await heard.wait_for("message_unsure")
    sign_in(google, credentials, SENDER, scopes=scopes)
    async with running(known, heard):
        await heard.wait_for("job_finished" if METADATA in scopes else "message_unresolved")
    if METADATA in scopes:
        assert await proven(database, job) == {("sent", "seen in SENT" if sent else "answered")}
        assert_the_truth(google, job, 1)
    else:
        assert await proven(database, job) == {("unsure", None)}
        assert_the_truth(google, job, sent)


@pytest.mark.parametrize("scopes", REDUCED)
async def test_a_message_that_waits_with_a_draft_that_may_have_been_sent_is_not_sent_directly_at_once(
    known: Settings, database: Database, google: FakeGoogle, credentials: Path, heard: Heard, scopes: tuple[str, ...]
) -> None:
    google.fault(Fault(kind="reset_before", method="drafts.send"))
    google.fault(Fault(kind="user_rate_limit", method="drafts.send"))
    job = await post(database, sender=SENDER, recipients=1)
    async with running(known, heard):
        await heard.wait_for("message_released")
    sign_in(google, credentials, SENDER, scopes=scopes)
    await unpause(database)
    async with running(known, heard):
        await heard.wait_for("message_unsure", times=2)
        await heard.wait_for("job_finished" if METADATA in scopes else "message_unresolved")
    assert await proven(database, job) == {("sent", "answered") if METADATA in scopes else ("unsure", None)}
    assert_the_truth(google, job, int(METADATA in scopes))
