"""A test of a job on its way to Google's stand-in, and messages as `GET /api/recipients/{id}/message` shows them."""

import json
from base64 import b64encode
from email import message_from_bytes, policy
from email.message import EmailMessage
from hashlib import sha256
from typing import Any

import aiohttp
import pytest

from mailerd.config import Settings
from mailerd.core.suppression import DEAD_TOKEN
from mailerd.sandbox.google import FakeGoogle
from mailerd.store.db.database import Database
from mailerd.store.write.api_keys import ApiKeys
from tests.support.daemon import running
from tests.support.heard import Heard
from tests.support.rows import query

TEXT = "Dear {{ name }} of {{ email }}, leave: {{ unsubscribe_url }}"
JOB = {
    "sender_email": "me@example.com", "template": {"subject": "Hello {{ name }}", "text": TEXT}, "list": "news",
    "cc": [{"email": "desk@example.com"}], "headers": {"X-Order": "Grüße 17"}, "reply_to": "desk@example.com",
    "attachments": [{"filename": "a.txt", "content": b64encode(b"file").decode()}],
    "recipients": [{"email": "ada@example.org", "name": "Ada"}],
}  # fmt: skip
REAL = {name: it for name, it in JOB.items() if name != "cc"}  # copies and a list exclude one another


@pytest.fixture
def reachable(known: Settings) -> Settings:
    return known.model_copy(update={"public": known.public.model_copy(update={"base_url": "https://m.example.com"})})


class Caller:
    """Asks a daemon's API, with a key."""

    def __init__(self, heard: Heard, key: str) -> None:
        self.url = heard.of("intake_listening")[-1]["where"]
        self.headers = {"X-API-Key": key}

    async def ask(self, method: str, path: str, **given: Any) -> tuple[int, Any]:
        async with (
            aiohttp.ClientSession(headers=self.headers) as client,
            client.request(method, f"{self.url}{path}", **given) as response,
        ):
            return response.status, await response.json()


def sent(google: FakeGoogle) -> EmailMessage:
    (message,) = google.sent
    return message_from_bytes(message.raw, policy=policy.default)


def body_of(message: EmailMessage) -> str:
    found = message.get_body()
    assert found is not None
    return str(found.get_content())


async def test_a_test_is_sent_once_marked_and_inert_and_counts_in_the_day_alone(
    reachable: Settings, database: Database, google: FakeGoogle, heard: Heard
) -> None:
    async with running(reachable, heard):
        caller = Caller(heard, await ApiKeys(database, timeout=20).create("test"))
        body = {"job": JOB, "to": ["me@example.com"]}
        status, answer = await caller.ask("POST", "/api/jobs/send_template_emails/test", json=body)
        assert status == 200, answer
        await heard.wait_for("message_sent")
        ((id_,),) = await query(database, "SELECT id FROM job_recipients")
        status, shown = await caller.ask("GET", f"/api/recipients/{id_}/message")
    message, link = sent(google), f"https://m.example.com/u/{DEAD_TOKEN}"
    assert (message["Subject"], message["To"], message["Cc"]) == ("[Test] Hello Ada", "Ada <me@example.com>", None)
    text = body_of(message)
    assert text.strip() == f"Dear Ada of ada@example.org, leave: {link}"
    assert link in message["List-Unsubscribe"]
    assert await query(database, "SELECT SUM(messages) FROM sender_hours") == [(1,)]
    assert await query(database, "SELECT COUNT(*) FROM tallies") == [(0,)]
    assert await query(database, "SELECT type, status, sent FROM jobs") == [("test", "completed", 1)]
    assert (status, shown["subject"], shown["text"].strip()) == (200, message["Subject"], text.strip())


async def test_what_is_shown_of_a_message_is_what_was_sent_but_its_link(
    reachable: Settings, database: Database, google: FakeGoogle, heard: Heard
) -> None:
    async with running(reachable, heard):
        caller = Caller(heard, await ApiKeys(database, timeout=20).create("test"))
        status, answer = await caller.ask("POST", "/api/jobs/send_template_emails", json=REAL)
        assert status == 200, answer
        await heard.wait_for("message_sent")
        before = len(google.sent)
        ((id_,),) = await query(database, "SELECT id FROM job_recipients")
        _, shown = await caller.ask("GET", f"/api/recipients/{id_}/message")
        assert len(google.sent) == before == 1
    message = sent(google)
    token = message["List-Unsubscribe"].partition("/u/")[2].partition(">")[0]
    assert token != DEAD_TOKEN
    inert = json.loads(json.dumps({name: str(value) for name, value in message.items()}).replace(token, DEAD_TOKEN))
    for made_anew in ("Subject", "Date", "Message-ID", "MIME-Version", "Content-Type", "X-Mailerd-Proof"):
        del inert[made_anew]
    assert shown["headers"] == inert
    assert shown["headers"]["X-Order"] == "Grüße 17"
    body = body_of(message)
    assert (shown["subject"], shown["text"].strip()) == (message["Subject"], body.strip().replace(token, DEAD_TOKEN))
    assert (shown["html"], shown["made"], shown["job_id"]) == (None, "again", answer["job_id"])
    assert shown["sent_at"]
    assert shown["attachments"] == [
        {"filename": "a.txt", "content_type": "text/plain", "content_id": None, "size": 4,
         "sha256": sha256(b"file").hexdigest()},
    ]  # fmt: skip
