"""`--json`: each command that shows something prints one object with it, and ends as it does without it."""

import json
from collections.abc import Mapping
from typing import Any, Final

import pytest
from pydantic import BaseModel

from mailerd import __version__
from mailerd.cli.manual import commands
from mailerd.intake.openapi import document
from mailerd.intake.read_jobs import PersonOut
from mailerd.intake.response_models import TemplatesOut
from mailerd.intake.suppressions import ListsOut, SuppressionsOut
from mailerd.model import webhooks
from tests.cli.conftest import ME, Shop
from tests.support.rows import post, query

ACTS: Final = {
    "run": "is the daemon; its log is JSON with log.format",
    "migrate": "changes the schema, and logs each step",
    "auth login": "authorizes a mailbox, with a person at a browser",
    "console login": "makes a link for a person",
    "keys create": "makes a key; --quiet prints it alone",
    "keys rotate": "makes a key",
    "keys revoke": "revokes a key",
    "senders set": "changes limits; `senders list` shows them",
    "senders pause": "pauses",
    "senders resume": "resumes",
    "suppress add": "suppresses",
    "suppress remove": "removes a suppression",
    "suppress import": "suppresses",
    "suppress export": "writes CSV, for `suppress import` and for spreadsheets",
    "suppress rotate-key": "makes a key",
    "webhooks pause": "pauses",
    "webhooks resume": "resumes",
    "webhooks rotate": "makes a secret",
    "webhooks replay": "queues events",
    "webhooks remove": "removes an endpoint",
    "send": "posts a table, for people; a program posts to the API, which has a dry run too",
    "jobs cancel": "cancels",
    "jobs pause": "pauses",
    "jobs resume": "resumes",
    "jobs retry": "retries",
    "jobs priority": "changes a priority",
    "settle": "confirms a message",
    "sandbox": "is the sandbox",
    "sandbox fault": "sets a fault; `sandbox faults` shows them",
    "sandbox notice": "makes a notice",
    "sandbox mailbox": "revokes or restores an authorization",
    "install-files": "copies files",
}
"""The commands that only act, each with the reason why it prints no JSON."""

SHOWS: Final = {
    "config": [""],
    "check": [""],
    "auth list": [""],
    "keys list": [""],
    "senders list": [""],
    "suppress why": ["ada@example.org", "nobody@example.org"],
    "suppress list": [""],
    "suppress lists": [""],
    "webhooks add": ["shop-{n} https://shop.example/hook"],
    "webhooks list": [""],
    "webhooks show": ["first"],
    "webhooks test": ["first"],
    "templates list": [""],
    "templates check": [""],
    "templates preview": ["welcome"],
    "jobs list": [""],
    "jobs show": ["{job}", "--last", "00000000000000000000000000"],
    "jobs watch": ["{ended}", "{job} --once", "00000000000000000000000000"],
    "explain": ["{job}", "{recipient}", "r0@example.org", "nobody@example.org"],
    "recipients": ["r0@example.org", "nobody@example.org"],
    "bounces": ["", "--domains"],
    "top": ["", "--once"],
    "after-restore": [""],
    "audit": [""],
    "sandbox faults": ["", "--kinds"],
    "version": [""],
}
"""The commands that show something, each with the arguments that it is given."""

MODELS: Final[dict[str, type[BaseModel]]] = {
    "recipients": PersonOut, "suppress list": SuppressionsOut, "suppress why": SuppressionsOut,
    "suppress lists": ListsOut, "templates check": TemplatesOut, "templates list": TemplatesOut,
    "webhooks add": webhooks.NewWebhook, "webhooks list": webhooks.WebhookList, "webhooks test": webhooks.TestedWebhook,
}  # fmt: skip
"""The models of the API that commands print as they are."""


def test_every_command_prints_json_or_only_acts() -> None:
    takes_it = {words: any("--json" in option.opts for option in command.params) for words, command in commands()}
    assert {words for words, takes in takes_it.items() if takes} == set(SHOWS)
    assert {words for words, takes in takes_it.items() if not takes} == set(ACTS)


@pytest.mark.slow
async def test_with_json_a_command_prints_one_object_and_ends_as_without_it(shop: Shop) -> None:
    given = await filled(shop)
    wrong = list[str]()
    for words, cases in SHOWS.items():
        for case in cases:
            command = [*words.split(), *case.format(n="{n}", **given).split()]
            plain, _ = await ran(shop, *(word.format(n=1) for word in command))
            code, out = await ran(shop, *(word.format(n=2) for word in command), "--json")
            if code != plain:
                wrong.append(f"{command}: ends with {code}, and with {plain} without --json")
            elif out or code == 0:
                wrong += [f"{command}: {why}" for why in faults_of(out, words)]
    assert wrong == []


def faults_of(out: str, words: str) -> list[str]:
    try:
        found = json.loads(out)
    except ValueError as error:
        return [f"is no JSON alone ({error}): {out[:300]}"]
    if not isinstance(found, dict):
        return [f"is no object: {out[:300]}"]
    if words in MODELS:
        MODELS[words].model_validate(found)
    return []


async def ran(shop: Shop, *words: str) -> tuple[int, str]:
    """Run a command; its exit code, and its standard output alone."""
    process = await shop.prepared.start(*words, "--config", str(shop.config), cwd=shop.folder)
    out, _ = await process.communicate()
    return await process.wait(), out.decode()


async def filled(shop: Shop) -> Mapping[str, str]:
    """A place in which each command has something to show; the names of what is there."""
    ended, job = await post(shop.database), await post(shop.database)
    await query(shop.database, "UPDATE job_recipients SET status = 'failed', error = 'no' WHERE job_id = %s", ended)
    await query(shop.database, "UPDATE jobs SET status = 'completed', finished_at = created_at WHERE id = %s", ended)
    ((recipient,),) = await query(shop.database, "SELECT id FROM job_recipients WHERE job_id = %s AND seq = 1", job)
    template = shop.folder / "templates" / "welcome"
    template.mkdir(parents=True)
    for name, text in (("template.toml", ""), ("subject.txt", "Hello"), ("body.txt", "Hello {{ name }}")):
        (template / name).write_text(text)
    await shop.say("suppress", "add", "ada@example.org", "--list", "news", "--new-list")
    await shop.say("webhooks", "add", "first", "https://127.0.0.1.example/")
    await shop.say("keys", "create", "shop")
    return {"job": job, "ended": ended, "recipient": str(recipient)}


async def test_a_job_is_shown_as_the_api_shows_it_with_its_story(shop: Shop) -> None:
    job = await post(shop.database)
    await query(shop.database, "UPDATE jobs SET status = 'paused', pause_cause = 'manual' WHERE id = %s", job)
    shown: dict[str, Any] = json.loads(await shop.say("jobs", "show", job, "--json"))
    of_api = document()["components"]["schemas"]["JobOut"]["properties"]
    assert shown.keys() == {*of_api, "waits_for", "story", "actions", "confirmed_by", "failures"}
    assert (shown["job_id"], shown["status"], shown["total"], shown["per_minute"]) == (job, "paused", 3, None)
    assert (shown["created_at"][-1], shown["pause_cause"]) == ("Z", "manual")
    assert shown["forecast"]["text"] == "nothing is sent until the job is resumed"
    assert "Waiting: the job is paused." in shown["story"]
    explained = json.loads(await shop.say("explain", job, "--json"))
    assert (explained["job"]["story"], explained["recipients"]) == (shown["story"], [])


async def test_a_message_is_explained_as_the_api_shows_it_with_its_log(shop: Shop) -> None:
    job = await post(shop.database)
    ((recipient,),) = await query(shop.database, "SELECT id FROM job_recipients WHERE seq = 1")
    await query(
        shop.database,
        "INSERT INTO attempts (recipient_id, attempt, claim_token, daemon_id, event, error, at) "
        "VALUES (%s, 1, REPEAT('0', 26), 'D', 'deferred', 'Google answered 503', UTC_TIMESTAMP(6))", recipient,
    )  # fmt: skip
    first = f"Recipient {recipient}: r1@example.org, no. 2 of job {job}, from {ME}."
    for what in (str(recipient), "R1@example.org"):
        told = json.loads(await shop.say("explain", what, "--json"))
        (message,) = told["recipients"]
        of_api = document()["components"]["schemas"]["PersonsMessageOut"]["properties"]
        assert (told["job"], message.keys()) == (None, {*of_api, "log", "log_left_out", "story"})
        assert (message["id"], message["index"], message["job_id"]) == (recipient, 1, job)
        assert [(it["event"], it["error"]) for it in message["log"]] == [("deferred", "Google answered 503")]
        assert message["story"][0] == first
    assert first in await shop.say("explain", str(recipient))


async def test_what_goes_wrong_is_found_by_programs_too(shop: Shop) -> None:
    job = await post(shop.database)
    await query(shop.database, "UPDATE jobs SET total = 4")
    found = json.loads(await shop.say("audit", "--json", code=1))
    assert (found["ok"], found["jobs"]) == (False, 1)
    assert any(job in it["where"] for it in found["findings"])
    page = json.loads(await shop.say("top", "--json"))
    assert [it["job_id"] for it in page["jobs"]] == [job]
    assert "no_daemon" in {it["code"] for it in page["findings"]}
    assert (page["senders"][0]["email"], len(page["sent_by_minute"])) == (ME, 60)
    assert json.loads(await shop.say("version", "--json")) == {"version": __version__}
    assert json.loads(await shop.say("config", "--json")) == {"valid": True, "file": str(shop.config)}
