"""A message that may have been sent is not given up without a proof, however Google's replicas lag."""

import asyncio
import json
from itertools import pairwise
from pathlib import Path

import pytest

from mailerd.config import Settings
from mailerd.sandbox.google import COMPOSE, METADATA, FakeGoogle, Fault, RunningServer
from mailerd.store.db.database import Database
from tests.support.daemon import running, settings, sign_in, sweep
from tests.support.heard import PATIENCE, Heard
from tests.support.rows import post, query, states

DRAFTS, LOOKS = "drafts@example.com", "looks@example.com"
PROVEN = [(DRAFTS, "draft gone"), (LOOKS, "seen in SENT")]


@pytest.fixture
def known(database_url: str, served: RunningServer, credentials: Path, google: FakeGoogle) -> Settings:
    """A request without an answer is settled after a second; one sign-in may look into the sent mail, one may not."""
    sign_in(google, credentials, DRAFTS, scopes=(COMPOSE,))
    sign_in(google, credentials, LOOKS, scopes=(COMPOSE, METADATA))
    return settings(
        database_url,
        served,
        credentials,
        gmail={"request_timeout": 0.5},
        runner={"lease": 4, "poll_interval": 0.1, "concurrency": 20, "sweep_interval": 600.0},
    )


async def proven(database: Database, job: str) -> set[tuple[str, str | None]]:
    return set(await query(database, "SELECT status, proof FROM job_recipients WHERE job_id = %s", job))


def assert_the_truth(google: FakeGoogle, job: str, sent: int) -> None:
    """So many messages of the job, none of them twice."""
    assert google.duplicates() == {}
    assert len([message for message in google.sent if message.key.startswith(job)]) == sent


def say_it_is_there(google: FakeGoogle, *, looks: int) -> None:
    """A replica that lags shows a draft that was sent."""
    body = '{"id":"{id}","message":{"id":"lagging","threadId":"lagging"}}'
    google.fault(Fault(kind="status", status=200, body=body, method="drafts.get", count=looks))


def impatient(known: Settings, attempts: int) -> Settings:
    return known.model_copy(update={"retry": known.retry.model_copy(update={"max_attempts": attempts})})


@pytest.mark.parametrize("sender, proof", PROVEN)
async def test_a_draft_that_is_shown_and_cannot_be_sent_costs_no_attempt(
    known: Settings, database: Database, google: FakeGoogle, heard: Heard, sender: str, proof: str
) -> None:
    google.fault(Fault(kind="reset_after", method="drafts.send"))
    say_it_is_there(google, looks=2)
    job = await post(database, sender=sender, recipients=1)
    async with running(impatient(known, 2), heard):
        await heard.wait_for("job_finished")
    assert await proven(database, job) == {("sent", proof)}
    assert await query(database, "SELECT attempts FROM job_recipients") == [(1,)]
    assert_the_truth(google, job, 1)
    rests = [told["look_in"] for told in heard.of("message_unsure")]
    assert len(rests) == (3 if sender == DRAFTS else 2)
    assert all(later >= 2 * rest for rest, later in pairwise(rests)), rests


@pytest.mark.parametrize("sender, proof", PROVEN)
async def test_a_message_that_may_have_been_sent_is_not_given_up_unless_its_draft_can_be_deleted(
    known: Settings, database: Database, google: FakeGoogle, heard: Heard, sender: str, proof: str
) -> None:
    google.fault(Fault(kind="reset_after", method="drafts.send"))
    say_it_is_there(google, looks=1)
    job = await post(database, sender=sender, recipients=1)
    async with running(impatient(known, 1), heard):
        await heard.wait_for("job_finished")
    assert await proven(database, job) == {("sent", proof)}
    assert_the_truth(google, job, 1)


@pytest.mark.parametrize("deletion", [None, "reset_before", "reset_after", "user_rate_limit"])
async def test_a_message_that_was_not_sent_is_given_up_with_its_draft(
    known: Settings, database: Database, google: FakeGoogle, heard: Heard, deletion: str | None
) -> None:
    google.fault(Fault(kind="reset_before", method="drafts.send", count=-1))
    if deletion:
        google.fault(Fault(kind=deletion, method="drafts.delete"))
    job = await post(database, sender=LOOKS, recipients=1)
    async with running(impatient(known, 1), heard) as daemon:
        await heard.wait_for("job_finished")
        async with asyncio.timeout(PATIENCE):
            while google.drafts():
                await sweep(daemon)
    assert await states(database, job) == {"failed": 1}
    assert "gave up after attempt 1; last error: no response from Google: " in heard.of("message_failed")[0]["cause"]
    assert await query(database, "SELECT attempts FROM job_recipients") == [(1,)]
    assert await query(database, "SELECT attempt FROM attempts WHERE event = 'failed'") == [(1,)]
    (said,) = await query(database, "SELECT data FROM events WHERE type = 'recipient.failed'")
    assert json.loads(said[0])["attempts"] == 1
    assert_the_truth(google, job, 0)


async def test_a_send_that_its_thread_does_not_show_is_looked_for_in_the_sent_mail_and_not_made_again(
    known: Settings, database: Database, google: FakeGoogle, heard: Heard
) -> None:
    google.fault(Fault(kind="reset_after", method="drafts.send"))
    google.fault(Fault(kind="not_found", method="threads.get", count=-1))
    job = await post(database, sender=LOOKS, recipients=1)
    async with running(known, heard):
        await heard.wait_for("job_finished")
    assert await proven(database, job) == {("sent", "seen in SENT")}
    assert_the_truth(google, job, 1)
