"""Four states of the tables, and what each surface says of them, over real HTTP and by commands: one cause on all."""

import json
import re
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.support.heard import PATIENCE
from tests.support.prepared import PreparedProcess, prepared_for_commands
from tests.support.rows import post, query
from tests.web.conftest import ConsoleSite

ME = "me@example.com"
FAIL = (
    "INSERT INTO attempts (recipient_id, attempt, claim_token, daemon_id, event, error, at) SELECT id, 1, LPAD(id, 26, "
    "'0'), 'd', 'deferred', 'Google responded 503', UTC_TIMESTAMP(6) - INTERVAL id SECOND FROM job_recipients"
)
FULL = (
    "UPDATE senders SET per_day = 10",
    "INSERT INTO sender_hours (sender_email, hour, messages) SELECT email, "
    "DATE_FORMAT(UTC_TIMESTAMP(), '%Y-%m-%d %H:00:00'), 9 FROM senders",
    "UPDATE job_recipients SET copies = 2",
)
BRAKE = (
    "UPDATE jobs SET next_claim_at = UTC_TIMESTAMP(6) + INTERVAL 10 MINUTE, braked_until = next_claim_at, "
    "status = 'sending'",
)
STATES = {
    "failing": ((FAIL,), "deferred", "amber", "all attempts fail: Google responded 503", "deferred"),
    "no room": (FULL, "day_full", "blue", "the next message counts as 3 because of its copies; 9 of 10", "limit"),
    "braked": (BRAKE, "braked", "blue", "many messages bounced; their notices are read first", "braked"),
    "no credentials": ((), "no_credentials", "red", "is paused until a usable credential file exists", "sender_paused"),
}
WORDS = {
    "deferred": "Deferred", "limit": "Limit reached", "braked": "Bounces are read first",
    "sender_paused": "Sender paused",
}  # fmt: skip


@pytest.fixture(scope="session")
def prepared(for_children: PreparedProcess) -> Iterator[PreparedProcess]:
    with prepared_for_commands(for_children) as process:
        yield process


@pytest.mark.parametrize("state", STATES)
async def test_every_surface_names_the_same_cause(
    site: ConsoleSite, database_url: str, tmp_path: Path, prepared: PreparedProcess, state: str
) -> None:
    statements, code, severity, why, word = STATES[state]
    job = await post(site.database, recipients=5)
    for statement in statements:
        await query(site.database, statement)
    if state != "no credentials":
        (tmp_path / "@example.com.json").touch(0o600)
    site.daemon.service.stats.take(await site.daemon.service.stats.read())
    browser, key = await site.signed_in(), await site.keys.create("api")
    config = tmp_path / "config.toml"
    config.write_text(f'[database]\nurl = "{database_url}"\n[gmail]\ncredentials_dir = "."\n[intake]\nport = 1\n')
    config.chmod(0o600)

    async def api(path: str) -> Any:
        async with browser.get(path, headers={"X-API-Key": key}) as answer:
            return await answer.json()

    async def page(path: str) -> str:
        async with browser.get(path) as answer:
            return re.sub(r"\s+", " ", unescape(await answer.text()))

    async def say(*words: str) -> str:
        _, out = await prepared.mailerd(*words, "--config", str(config), cwd=tmp_path, given=b"", within=PATIENCE)
        return out.decode()

    # Of the sender: the finding, on each surface.
    (listed,), shown = (await api("/api/senders"))["senders"], await api(f"/api/senders/{ME}")
    assert listed["finding"] == shown["finding"]
    assert (shown["finding"]["code"], shown["finding"]["severity"]) == (code, severity)
    assert shown["state"] in {"paused", "idle"}
    (by_command,) = json.loads(await say("senders", "list", "--json"))["senders"]
    assert (by_command["finding"], by_command["state"]) == (shown["finding"], shown["state"])
    text = shown["finding"]["text"]
    for path in ("/", "/status", "/senders", f"/senders/{ME}"):
        assert text in await page(path), path
    await site.daemon.daemons.heartbeat()
    top = json.loads(await say("top", "--once", "--json"))
    assert text in {it["text"] for it in top["findings"]}
    assert text.rstrip(".") in await say("check") or code == "no_credentials"
    # Of its job: why it waits.
    (in_list,), alone = (await api("/api/jobs"))["jobs"], await api(f"/api/jobs/{job}")
    causes = [in_list["cause_of_wait"], alone["cause_of_wait"], alone["forecast"]["cause_of_wait"]]
    causes.append((await first_event(site.url, job, key))["cause_of_wait"])
    assert [why in it for it in causes] == [True] * 4, causes
    for path in ("/", "/jobs", f"/jobs/{job}"):
        assert re.search(rf'class="badge b-\w+">{WORDS[word]}<', await page(path)), path
    assert why in await page(f"/jobs/{job}")
    await site.daemon.daemons.heartbeat()
    assert json.loads(await say("jobs", "list", "--json"))["jobs"][0]["waits_for"] == word
    assert top["jobs"][0]["waits_for"] == word
    assert f"  {WORDS[word].lower()}  " in await say("jobs", "list")
    for command in (("explain", job), ("explain", "1"), ("jobs", "show", job)):
        assert why in await say(*command), command


async def first_event(url: str, job: str, key: str) -> Any:
    async with aiohttp.ClientSession() as client, client.get(
        f"{url}/api/jobs/{job}/events", headers={"X-API-Key": key}
    ) as answer:  # fmt: skip
        async for line in answer.content:
            if line.startswith(b"data: "):
                return json.loads(line.removeprefix(b"data: "))
    raise AssertionError("no event")
