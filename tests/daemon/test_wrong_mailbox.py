"""A credential file that is exchanged for another mailbox's: nothing goes out from there, and nothing is `sent`."""

from pathlib import Path

import pytest

from mailerd.config import Settings
from mailerd.sandbox.google import COMPOSE, METADATA, SEND, FakeGoogle, Fault, RunningServer
from mailerd.store.db.database import Database
from tests.support.daemon import running, settings, sign_in
from tests.support.heard import Heard
from tests.support.rows import post, query, states

ME, OTHER = "me@example.com", "other@example.com"
MESSAGES = 20


@pytest.fixture
def known(database_url: str, served: RunningServer, credentials: Path) -> Settings:
    """A doubt is looked for after a second."""
    return settings(
        database_url, served, credentials, gmail={"request_timeout": 0.5},
        runner={"lease": 4, "poll_interval": 0.1, "concurrency": 4, "sweep_interval": 1.0},
    )  # fmt: skip


def exchange(credentials: Path, name: str, *, for_file: Path) -> None:
    """Put a file in the place of another at once, as `mv` does."""
    new = credentials / "new"
    new.touch(mode=0o600)
    new.write_text(for_file.read_text())
    new.rename(credentials / f"{name}.json")


@pytest.mark.parametrize("scopes", [(COMPOSE,), (COMPOSE, METADATA), (SEND, METADATA)])
async def test_an_exchanged_file_sends_nothing_settles_nothing_and_the_right_one_goes_on_by_itself(
    known: Settings, database: Database, google: FakeGoogle, credentials: Path, heard: Heard, scopes: tuple[str, ...]
) -> None:
    for sender in (ME, OTHER):
        sign_in(google, credentials, sender, scopes=scopes)
    mine = credentials.parent / "mine"
    mine.write_text((credentials / f"{ME}.json").read_text())
    send = "messages.send" if SEND in scopes else "drafts.send"
    google.change_rules(latency_s=0.1)
    google.fault(Fault(kind="reset_before", method=send, skip=5, count=3))
    job = await post(database, recipients=MESSAGES)
    async with running(known, heard):
        await heard.wait_for("message_unsure")
        exchange(credentials, ME, for_file=credentials / f"{OTHER}.json")
        told = await heard.wait_for("sender_paused")
        assert (told["sender"], told["cause"]) == (ME, "wrong_mailbox")
        assert OTHER in told["reason"]
        assert heard.of("mailbox_wrong")[0]["address"] == OTHER
        await heard.wait_for("message_still_unsure")
        sent = {message.key for message in google.sent}
        rows = await query(database, "SELECT CONCAT(job_id, '-', seq) FROM job_recipients WHERE status = 'sent'")
        assert {key for (key,) in rows} <= sent
        exchange(credentials, ME, for_file=mine)
        await heard.wait_for("sender_resumed", within=30)  # without the file's help it is tried after a minute
        await query(database, "UPDATE job_recipients SET lease_until = UTC_TIMESTAMP(6) WHERE status = 'unsure'")
        await heard.wait_for("job_finished")
    assert await states(database, job) == {"sent": MESSAGES}
    assert google.duplicates() == {}
    assert len({message.key for message in google.sent}) == MESSAGES
    assert {message.sender for message in google.sent} == {ME}


async def test_a_file_that_was_wrong_from_the_start_pauses_its_sender_alone(
    known: Settings, database: Database, google: FakeGoogle, credentials: Path, heard: Heard
) -> None:
    sign_in(google, credentials, OTHER)
    sign_in(google, credentials, "third@example.com")
    exchange(credentials, ME, for_file=credentials / f"{OTHER}.json")
    mine, others = await post(database, recipients=3), await post(database, sender="third@example.com", recipients=3)
    async with running(known, heard):
        await heard.wait_for("sender_paused")
        await heard.wait_for("job_finished")
    assert await states(database, others) == {"sent": 3}
    assert await states(database, mine) == {"waiting": 3}
    assert {message.sender for message in google.sent} == {"third@example.com"}
    assert google.drafts(OTHER) == []


NOT_ENABLED = (
    '{"error":{"code":403,"message":"Gmail API has not been used in project 7 before or it is disabled.",'
    '"errors":[{"reason":"accessNotConfigured"}]}}'
)


@pytest.mark.parametrize("status, body", [(403, NOT_ENABLED), (400, "<h1>Bad Request</h1>")])
async def test_a_mailbox_that_is_refused_at_its_new_sign_in_fails_none_of_its_messages(
    known: Settings, database: Database, google: FakeGoogle, credentials: Path, heard: Heard, status: int, body: str
) -> None:
    """Messages that were taken before the sign-in was exchanged say nothing of the ones after it."""
    sign_in(google, credentials, ME)
    await post(database, recipients=1)
    async with running(known, heard):
        await heard.wait_for("job_finished")
        google.fault(Fault(kind="status", status=status, body=body, method="getProfile", count=-1))
        sign_in(google, credentials, ME)
        job = await post(database, recipients=1)
        for times in (1, 2, 3):
            await heard.wait_for("message_released", times=times)
            assert await states(database, job) == {"waiting": 1}
            await query(database, "UPDATE jobs SET next_claim_at = UTC_TIMESTAMP(6) WHERE next_claim_at IS NOT NULL")
            await query(database, "UPDATE senders SET paused_until = NULL, next_claim_at = UTC_TIMESTAMP(6)")
