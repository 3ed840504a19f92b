"""A mailbox and an alias of it, a key for each: what comes back is shown to whom the message came from, everywhere."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import aiohttp
import pytest

from mailerd.config import Settings
from mailerd.sandbox.google import FakeGoogle, RunningServer
from mailerd.store.db.database import Database
from mailerd.store.write.api_keys import ApiKeys
from tests.inbox.place import ME, arrive, read_up, reading
from tests.support.daemon import running
from tests.support.heard import Heard
from tests.support.rows import query

SALES: Final = "sales@example.com"
READERS: Final = {ME: "mia@mailbox.example", SALES: "alan@alias.example"}


@dataclass
class Tenant:
    """One key, as a program and as a browser."""

    sender: str
    secret: str
    api: aiohttp.ClientSession
    browser: aiohttp.ClientSession
    job: str = ""

    async def page(self, path: str) -> tuple[int, str]:
        async with self.browser.get(path) as answer:
            return answer.status, await answer.text()


@pytest.fixture
async def tenants(
    database_url: str, served: RunningServer, google: FakeGoogle, database: Database, heard: Heard, tmp_path: Path
) -> AsyncIterator[dict[str, Tenant]]:
    """Each has sent one message, which was answered, and one, which bounced."""
    known: Settings = reading(
        database_url, served, google, tmp_path / "c", gmail={"aliases": {SALES: ME}}, web={"enabled": True}
    )
    google.mailbox(ME).aliases = frozenset({SALES})
    found = dict[str, Tenant]()
    async with running(known, heard):
        where = heard.of("intake_listening")[0]["where"]
        for sender in (ME, SALES):
            secret = await ApiKeys(database, timeout=20).create(f"key of {sender}", senders=[sender])
            jar, headers = aiohttp.CookieJar(unsafe=True), {"Sec-Fetch-Site": "same-origin"}
            it = found[sender] = Tenant(
                sender, secret, aiohttp.ClientSession(where, headers={"X-API-Key": secret}),
                aiohttp.ClientSession(where, headers=headers, cookie_jar=jar),
            )  # fmt: skip
            async with it.browser.post("/login", data={"key": secret}) as answer:
                assert answer.status == 200
            name, domain = READERS[sender].split("@")
            body = {
                "sender_email": sender, "template": {"subject": "Hello", "text": "Dear {{ name }}"},
                "recipients": [{"email": f"{name}{n}@{domain}", "name": f"{name}-name"} for n in range(2)],
            }  # fmt: skip
            async with it.api.post("/api/jobs/send_template_emails", json=body) as answer:
                assert answer.status == 200, await answer.text()
                it.job = (await answer.json())["job_id"]
        await heard.wait_for("job_finished", times=2)
        for message in list(google.sent):
            arrive(google, message, "hard" if "0@" in message.to else "reply")
        await read_up(database, google)
        yield found
        for it in found.values():
            await it.api.close()
            await it.browser.close()


async def test_what_comes_back_is_shown_to_the_key_of_its_from_alone(
    tenants: dict[str, Tenant], database: Database
) -> None:
    rows = await query(database, "SELECT mailbox, sender_email, COUNT(*) FROM notices GROUP BY 1, 2 ORDER BY 2")
    assert rows == [(ME, ME, 2), (ME, SALES, 2)]
    for it, other in ((tenants[ME], tenants[SALES]), (tenants[SALES], tenants[ME])):
        (own, own_domain), (name, domain) = (READERS[each.sender].split("@") for each in (it, other))
        for path in ("/", "/inbox", "/inbox.csv", "/inbox?kind=hard", f"/inbox?job={it.job}", f"/search?q={own}"):
            status, text = await it.page(path)
            assert status == 200
            assert own in text, (path, "its own is missing")
            assert {each for each in (name, domain) if each in text} == set(), (path, "another's")
        assert own_domain in (await it.page("/inbox"))[1], "the sums by domain"
        for path in (f"/inbox?sender={other.sender}", f"/inbox.csv?job={other.job}", "/people?q=a", "/status"):
            assert name not in (await it.page(path))[1]


async def test_the_key_of_an_alias_confirms_its_own_message_and_the_one_of_the_mailbox_does_not(
    tenants: dict[str, Tenant], database: Database
) -> None:
    ((id_,),) = await query(database, "SELECT id FROM job_recipients WHERE job_id = %s AND seq = 1", tenants[SALES].job)
    await query(
        database,
        "UPDATE job_recipients SET status = 'unsure', lease_until = NULL, message_id = NULL, proof = NULL, "
        "sent_at = NULL, result = NULL, attempts = 1 WHERE id = %s",
        id_,
    )  # fmt: skip
    for sender, expected in ((ME, 404), (SALES, 200)):
        status, text = await tenants[sender].page(f"/messages/{id_}")
        assert (status, "not-sent" in text) == (expected, expected == 200)
