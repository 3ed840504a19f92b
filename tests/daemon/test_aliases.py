"""Send-as aliases: From says the alias; credentials, pace and pauses are those of the mailbox behind it."""

from email import message_from_bytes
from email.policy import default
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from mailerd.config import Settings
from mailerd.sandbox.google import COMPOSE, FakeGoogle
from mailerd.store.db.database import Database
from mailerd.store.write.api_keys import ApiKeys
from tests.support.daemon import running, sign_in
from tests.support.heard import Heard
from tests.support.rows import query

ME, SALES = "me@example.com", "sales@example.com"


@pytest.fixture
def known(known: Settings) -> Settings:
    gmail = known.gmail.model_copy(update={"aliases": {SALES: ME, "lost@example.com": "gone@example.com"}})
    return known.model_copy(update={"gmail": gmail})


async def post(heard: Heard, key: str, sender: str) -> tuple[int, Any]:
    (where,) = heard.of("intake_listening")
    body = {
        "sender_email": sender,
        "template": {"subject": "Hello", "text": "Dear {{ name }}"},
        "recipients": [{"email": "ada@example.org", "name": "Ada"}],
    }
    async with (
        aiohttp.ClientSession(headers={"X-API-Key": key}) as client,
        client.post(f"{where['where']}/api/jobs/send_template_emails", json=body) as answer,
    ):
        return answer.status, await answer.json()


async def listed(heard: Heard, key: str, **only: str) -> list[Any]:
    (where,) = heard.of("intake_listening")
    async with (
        aiohttp.ClientSession(headers={"X-API-Key": key}) as client,
        client.get(f"{where['where']}/api/jobs", params=only) as answer,
    ):
        return list((await answer.json())["jobs"])


async def test_an_aliass_messages_come_from_the_alias_and_count_for_its_mailbox(
    known: Settings, database: Database, google: FakeGoogle, heard: Heard
) -> None:
    google.mailbox(ME).aliases = frozenset({SALES})
    key = await ApiKeys(database, timeout=5).create("shop", senders=[SALES])
    async with running(known, heard):
        status, answer = await post(heard, key, SALES)
        assert status == 200, answer
        await heard.wait_for("job_finished")
        refused, _ = await post(heard, key, ME)
        jobs = await listed(heard, key)
        theirs = [await listed(heard, key, sender_email=each) for each in (SALES, ME)]
    assert theirs == [jobs, []]
    (message,) = google.sent
    parsed = message_from_bytes(message.raw, policy=default)
    assert parsed["From"].addresses[0].addr_spec == SALES
    assert message.sender == ME
    assert refused == 403
    assert [(job["job_id"], job["sender_email"]) for job in jobs] == [(answer["job_id"], SALES)]
    assert await query(database, "SELECT email FROM senders") == [(ME,)]
    assert await query(database, "SELECT sender_email, from_email FROM jobs") == [(ME, SALES)]


@pytest.mark.parametrize(
    "sender, words",
    [
        ("stranger@example.com", "is neither a mailbox authorized here nor an alias of one"),
        (
            "lost@example.com",
            "is an alias of gone@example.com (gmail.aliases), and that mailbox is not authorized here",
        ),
    ],
)
async def test_a_sender_behind_whom_there_is_no_mailbox_is_refused_by_name(
    known: Settings, database: Database, heard: Heard, sender: str, words: str
) -> None:
    key = await ApiKeys(database, timeout=5).create("shop")
    async with running(known, heard):
        status, answer = await post(heard, key, sender)
    (detail,) = answer["error"]["details"]
    assert (status, detail["field"]) == (422, "sender_email")
    assert words in detail["message"]
    assert await query(database, "SELECT COUNT(*) FROM jobs") == [(0,)]


async def test_a_mailbox_that_is_signed_in_later_needs_no_restart(
    known: Settings, database: Database, google: FakeGoogle, credentials: Path, heard: Heard
) -> None:
    key = await ApiKeys(database, timeout=5).create("shop")
    async with running(known, heard):
        assert (await post(heard, key, "new@example.com"))[0] == 422
        sign_in(google, credentials, "new@example.com", scopes=(COMPOSE,))
        assert (await post(heard, key, "new@example.com"))[0] == 200
        await heard.wait_for("job_finished")
    assert [message.sender for message in google.sent] == ["new@example.com"]


async def test_a_credential_file_that_is_replaced_is_used_at_once(
    known: Settings, database: Database, google: FakeGoogle, credentials: Path, heard: Heard
) -> None:
    key = await ApiKeys(database, timeout=5).create("shop")
    async with running(known, heard):
        await post(heard, key, ME)
        await heard.wait_for("job_finished")
        sign_in(google, credentials, ME)  # the stand-in ends the former sign-in with it
        await post(heard, key, ME)
        await heard.wait_for("job_finished", times=2)
    assert heard.of("sender_paused") == []
    assert len(google.sent) == 2


async def test_no_secret_reaches_the_database_or_the_log_when_a_sign_in_dies(
    known: Settings, database: Database, google: FakeGoogle, heard: Heard
) -> None:
    (credential,) = google.accounts.of(ME)
    secrets = [google.accounts.client_secret, credential.blob["refresh_token"]]
    google.revoke(ME)
    key = await ApiKeys(database, timeout=5).create("shop")
    async with running(known, heard):
        await post(heard, key, ME)
        await heard.wait_for("sender_paused")
    tables = [row[0] for row in await query(database, "SHOW TABLES")]
    stored = repr([await query(database, f"SELECT * FROM {table}") for table in tables])
    told = repr(heard.events)
    assert [secret for secret in secrets if secret in stored + told] == []
