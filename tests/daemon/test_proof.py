"""What speaks for `sent` stands on the row, for every kind of sign-in; the truth is counted at the stand-in."""

from pathlib import Path

import pytest

from mailerd.config import Settings
from mailerd.sandbox.google import COMPOSE, METADATA, SEND, Fault, Google, Running
from mailerd.store.audit import audit, proofs
from mailerd.store.database import Database
from tests.support.daemon import running, settings, sign_in
from tests.support.heard import Heard
from tests.support.rows import post, query

DRAFTS, LOOKS, DIRECT, BLIND = (
    "drafts@example.com", "looks@example.com", "direct@example.com", "blind@example.com",
)  # fmt: skip
SCOPES = {DRAFTS: (COMPOSE,), LOOKS: (COMPOSE, METADATA), DIRECT: (SEND, METADATA), BLIND: (SEND,)}


@pytest.fixture
def known(database_url: str, served: Running, credentials: Path, google: Google) -> Settings:
    """A request without an answer is settled after a second; all four kinds of sign-in are there."""
    for sender, scopes in SCOPES.items():
        sign_in(google, credentials, sender, scopes=scopes)
    return settings(
        database_url,
        served,
        credentials,
        gmail={"request_timeout": 0.5},
        runner={"lease": 4, "poll_interval": 0.1, "concurrency": 20, "sweep_interval": 0.5},
    )


def call(sender: str) -> str:
    return "drafts.send" if COMPOSE in SCOPES[sender] else "messages.send"


async def proven(database: Database, job: str) -> set[tuple[str, str | None]]:
    return set(await query(database, "SELECT status, proof FROM job_recipients WHERE job_id = %s", job))


def assert_the_truth(google: Google, job: str, sent: int) -> None:
    """So many letters of the job, none of them twice."""
    assert google.duplicates() == {}
    assert len([letter for letter in google.sent if letter.key.startswith(job)]) == sent


@pytest.mark.parametrize("sender", SCOPES)
async def test_an_answer_is_a_proof(
    known: Settings, database: Database, google: Google, heard: Heard, sender: str
) -> None:
    job = await post(database, sender=sender, recipients=2)
    async with running(known, heard):
        await heard.wait_for("job_finished", within=20)
    assert await proven(database, job) == {("sent", "answered")}
    assert_the_truth(google, job, 2)
    assert await proofs(database) == {"answered": 2}
    assert await audit(database) == (1, [])


@pytest.mark.parametrize(
    "sender, proof", [(DRAFTS, "draft gone"), (LOOKS, "seen in SENT"), (DIRECT, "seen in SENT"), (BLIND, None)]
)
async def test_what_was_sent_without_an_answer_says_how_that_is_known(
    known: Settings, database: Database, google: Google, heard: Heard, sender: str, proof: str | None
) -> None:
    google.fault(Fault(kind="reset_after", method=call(sender)))
    job = await post(database, sender=sender, recipients=1)
    async with running(known, heard):
        await heard.wait_for("letter_found" if proof else "letter_needs_a_person", within=20)
    assert await proven(database, job) == {("sent", proof) if proof else ("unsure", None)}
    assert_the_truth(google, job, 1)
