"""A new message from a table to its job: three pages, a draft behind them, and one job, however often it is asked."""

import asyncio
import io
import json
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import pytest

from mailerd.clock import Clock
from mailerd.mail.template_library import NamedTemplate, TemplateLibrary
from mailerd.store.write.api_keys import Permission
from mailerd.store.write.drafts import PEOPLE, Drafts
from mailerd.store.write.suppressions import Suppressions
from tests.support.own_time import at_this_speed, own_time
from tests.support.rows import query
from tests.web.conftest import ConsoleSite

TABLE = "email,name,product\nada@example.com,Ada,Tea\nlibai@example.org,李白,茶\n"
MESSAGE = {"kind": "template", "template": "welcome", "sender": "me@example.com"}
WRITTEN = {
    "kind": "write", "sender": "me@example.com", "subject": "Hello {{ name }}",
    "body": "Your **{{ product }}**, {{ name }}",
}  # fmt: skip


async def ask(browser: aiohttp.ClientSession, path: str, status: Any = 200, **form: Any) -> tuple[str, str]:
    """The page that a form leads to: its path and its text."""
    async with browser.post(path, data=form) as answer:
        text = await answer.text()
        assert answer.status == status, text
        return answer.url.path, text


async def begun(browser: aiohttp.ClientSession, table: str | bytes = TABLE, name: str = "people.csv") -> str:
    """The address of a new draft, without its last part."""
    form = aiohttp.FormData()
    form.add_field("table", io.BytesIO(table.encode() if isinstance(table, str) else table), filename=name)
    async with browser.post("/send", data=form) as answer:
        assert answer.status == 200, await answer.text()
        return answer.url.path.removesuffix("/people")


async def reviewed(browser: aiohttp.ClientSession, draft: str, **message: str) -> dict[str, str]:
    """What the button of the review sends, after this message."""
    path, text = await ask(browser, f"{draft}/message", action="next", **message)
    assert path == f"{draft}/review", text
    return {"action": "send", "seen": seen(text), "when": "now", "zone": "UTC", "at": ""}


def seen(text: str) -> str:
    return text.split('name="seen" value="')[1].split('"', maxsplit=1)[0]


async def jobs(site: ConsoleSite) -> list[Any]:
    return list(await query(site.database, "SELECT sender_email, template_name, total FROM jobs"))


@pytest.mark.parametrize("ahead", [-90, 0, 90], ids="{} s".format)
async def test_a_table_becomes_a_job_that_waits_for_half_a_minute_and_the_draft_is_gone(
    site: ConsoleSite, monkeypatch: pytest.MonkeyPatch, ahead: int
) -> None:
    """Whatever the clock of the daemon's machine says: the wait is the database's."""
    now = Clock.now
    monkeypatch.setattr(Clock, "now", lambda it: now(it) + timedelta(seconds=ahead))
    browser = await site.signed_in()
    draft = await begun(browser)
    path, text = await ask(browser, f"{draft}/people", action="next")
    assert path == f"{draft}/message"
    button = await reviewed(browser, draft, **MESSAGE)
    path, text = await ask(browser, f"{draft}/review", **button)
    assert path.startswith("/jobs/")
    assert re.search(r"Starts in (2\d|30) s", text), text
    assert await jobs(site) == [("me@example.com", "welcome", 2)]
    ((waits,),) = await query(site.database, "SELECT TIMESTAMPDIFF(SECOND, UTC_TIMESTAMP(6), send_at) FROM jobs")
    assert 15 <= waits <= 30
    async with browser.get("/send") as answer:
        assert draft not in await answer.text()


async def test_a_second_press_a_reload_and_another_tab_lead_to_the_same_job(site: ConsoleSite) -> None:
    browser = await site.signed_in()
    draft = await begun(browser)
    button = await reviewed(browser, draft, **WRITTEN)
    found = await asyncio.gather(*(ask(browser, f"{draft}/review", **button) for _ in range(4)))
    places = {path for path, _ in found}
    assert len(places) == 1
    for step in ("people", "message", "review"):
        async with browser.get(f"{draft}/{step}") as answer:
            assert {answer.url.path} == places
        path, text = await ask(browser, f"{draft}/{step}", action="next")
        assert ({path}, "has become this job" in text) == (places, True)
    assert len(await jobs(site)) == 1


async def test_a_daemon_that_dies_behind_the_commit_makes_no_second_job(
    site: ConsoleSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser = await site.signed_in()
    draft = await begun(browser)
    button = await reviewed(browser, draft, **WRITTEN)
    with monkeypatch.context() as dies:

        async def never(*_: object) -> None:
            raise ConnectionResetError

        dies.setattr(Drafts, "sent", never)
        async with browser.post(f"{draft}/review", data=button) as answer:
            assert answer.status == 500
    async with browser.get(f"{draft}/review") as answer:  # the page of before, loaded again
        button["seen"] = seen(await answer.text())
    path, _ = await ask(browser, f"{draft}/review", **button)
    assert path.startswith("/jobs/")
    assert len(await jobs(site)) == 1


async def test_an_undo_cancels_the_job_unsent_and_the_draft_is_there_again_for_another(site: ConsoleSite) -> None:
    browser = await site.signed_in()
    draft = await begun(browser)
    job, text = await ask(browser, f"{draft}/review", **await reviewed(browser, draft, **WRITTEN))
    hidden = text.split('name="draft" value="')[1].split('"')[0]
    path, text = await ask(browser, job, action="undo", draft=hidden)
    assert (path.endswith("/review"), "Nothing was sent, and the draft is back." in text) == (True, True)
    assert await query(site.database, "SELECT status, COUNT(*) FROM job_recipients GROUP BY status") == [
        ("cancelled", 2)
    ]
    again, _ = await ask(browser, path, action="send", seen=seen(text), when="now")
    assert again not in {job, path}
    assert await query(site.database, "SELECT status FROM jobs ORDER BY id") == [("cancelled",), ("queued",)]


@pytest.mark.parametrize("started", ["UTC_TIMESTAMP(6)", "NULL"])
async def test_what_has_begun_is_not_called_unsent_whatever_the_clock_here_says(
    site: ConsoleSite, started: str
) -> None:
    browser = await site.signed_in()
    draft = await begun(browser)
    job, _ = await ask(browser, f"{draft}/review", **await reviewed(browser, draft, **WRITTEN))
    await query(site.database, f"UPDATE jobs SET started_at = {started}")
    await query(site.database, "UPDATE job_recipients SET status = 'sent', proof = 'answered' WHERE seq = 0")
    _, text = await ask(browser, job, action="undo", draft=draft.removeprefix("/send/"))
    status = "queued" if started != "NULL" else "cancelled"
    assert ("ending ha" in text, "Nothing was sent" in text) == (True, False)
    assert await query(site.database, "SELECT status FROM jobs") == [(status,)]
    async with browser.get("/send") as answer:
        assert draft not in await answer.text()
    await query(site.database, "UPDATE jobs SET started_at = NULL, finished_at = NULL, status = 'completed'")
    _, text = await ask(browser, job, action="undo", draft=draft.removeprefix("/send/"))
    assert "sending has begun" in text
    await query(site.database, "UPDATE jobs SET send_at = UTC_TIMESTAMP(6) - INTERVAL 1 SECOND")
    async with browser.get(f"{job}?draft=x") as answer:
        assert 'value="undo"' not in await answer.text()


async def test_a_step_stores_what_it_changes_alone_so_that_another_tab_loses_nothing(
    site: ConsoleSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser = await site.signed_in()
    draft, gate, save = await begun(browser), asyncio.Event(), Drafts.save
    at = asyncio.Event()
    site.daemon.intake.shares.drafts.per_key = 2  # as if they were two daemons

    async def slowly(self: Drafts, *args: Any, **more: Any) -> bool:
        if not at.is_set():
            at.set()
            await gate.wait()
        return await save(self, *args, **more)

    monkeypatch.setattr(Drafts, "save", slowly)
    slow = asyncio.create_task(ask(browser, f"{draft}/people", decided="1", skip_invalid="1"))
    await at.wait()
    await ask(browser, f"{draft}/message", action="save", tab="2", **MESSAGE)
    gate.set()
    await slow
    rows = await query(site.database, "SELECT message, options FROM job_drafts WHERE part = 0")
    message, options = map(json.loads, rows[0])
    assert (message["template"], options["skip_invalid"]) == ("welcome", True)


async def test_what_stands_before_the_parts_of_a_form_holds_nobody_up(site: ConsoleSite) -> None:
    browser = await site.signed_in()
    body = b"\n" * 2_000_000 + b'--B\r\nContent-Disposition: form-data; name="x"\r\n\r\ny\r\n--B--\r\n'
    headers = {"Content-Type": "multipart/form-data; boundary=B"}
    for path, sent, status in (("/jobs", body, 400), ("/jobs", body[-300:], 400), ("/send", body[:60_000], 400)):
        before = own_time()
        async with browser.post(path, data=io.BytesIO(sent), headers=headers) as answer:
            assert answer.status in {status, 413}, await answer.text()
        assert own_time() - before < at_this_speed(1)


async def test_a_file_without_anything_in_it_is_named_and_changes_nothing(site: ConsoleSite) -> None:
    browser = await site.signed_in()
    draft = await begun(browser)
    for path in ("/send", f"{draft}/people"):
        form = aiohttp.FormData({"pasted": "\n"})
        form.add_field("table", io.BytesIO(b" \n"), filename="empty.csv")
        async with browser.post(path, data=form) as answer:
            assert (answer.status, "empty.csv is empty. Nothing was changed." in await answer.text()) == (422, True)
    assert await query(site.database, "SELECT COUNT(DISTINCT id) FROM job_drafts") == [(1,)]


async def test_a_table_has_no_more_rows_than_a_job_may_have(site: ConsoleSite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mailerd.web.send.send_table._ABOVE", 3 - site.daemon.settings.intake.max_recipients)
    browser = await site.signed_in()
    _, text = await ask(browser, "/send", 422, pasted="email\n" + "a@example.com\n" * 3)
    assert "more than 3 rows" in text
    _, text = await ask(browser, "/send", pasted="email\na@example.com\nb@example.com\n")
    assert "2 people can get the message" in text


async def test_it_is_scheduled_in_the_zone_that_is_chosen_and_the_button_says_so(site: ConsoleSite) -> None:
    browser = await site.signed_in()
    draft = await begun(browser)
    button = await reviewed(browser, draft, **WRITTEN)
    day = (datetime.now(UTC) + timedelta(days=3)).date().isoformat()
    later = {"when": "later", "at": f"{day}T09:00", "zone": "Asia/Shanghai"}
    _, text = await ask(browser, f"{draft}/review", 409, **(button | later))
    assert f"Schedule for 2 people: {day} 09:00 (Asia/Shanghai)" in text, "another time than the button said"
    assert await jobs(site) == []
    _, text = await ask(browser, f"{draft}/review", action="send", seen=seen(text), **later)
    assert 'value="undo"' not in text
    assert await query(site.database, "SELECT send_at FROM jobs") == [(datetime.fromisoformat(f"{day}T01:00"),)]


@pytest.mark.parametrize("later, said", [
    ({"at": "2020-01-01T09:00", "zone": "UTC"}, "This time is past."),
    ({"at": "2030-01-01T09:00", "zone": "Nowhere/At_all"}, "Enter a date, a time and a time zone."),
    ({"at": "2030-01-01T09:00", "zone": "../../etc/passwd"}, "Enter a date, a time and a time zone."),
    ({"at": "9999-12-31T23:59", "zone": "America/New_York"}, "Enter a date, a time and a time zone."),
    ({"at": "", "zone": ""}, "Enter a date, a time and a time zone."),
])  # fmt: skip
async def test_a_time_that_cannot_be_is_refused_in_words(site: ConsoleSite, later: dict[str, str], said: str) -> None:
    browser = await site.signed_in()
    draft = await begun(browser)
    button = await reviewed(browser, draft, **WRITTEN)
    _, text = await ask(browser, f"{draft}/review", 422, **(button | {"when": "later"} | later))
    assert said in text
    assert await jobs(site) == []


async def test_problems_block_until_they_are_decided_and_a_cell_can_be_corrected(site: ConsoleSite) -> None:
    browser = await site.signed_in()
    await (await Suppressions.open(site.database, timeout=5)).make_list("news")
    await ask(browser, "/suppressions", action="add", email="gone@example.com")
    rows = [
        "ada@example.com,Ada,Tea",
        "nobody,Bob,Tea",
        "cy@example.com,Cy,",
        "ada@example.com,Ada,Tea",
        "gone@example.com,Gus,Tea",
    ]
    draft = await begun(browser, "email,name,product\n" + "\n".join(rows) + "\n")
    _, text = await ask(browser, f"{draft}/people", 422, action="next")
    assert "Decide about the problems below." in text
    for words in ("row 2", "suppressed"):
        assert words in text
    decided = {"decided": "1", "skip_invalid": "1", "empty-product": "default", "default-product": "coffee"}
    corrected = {"cell-3-0": "bob@example.com", "was-3-0": "nobody"}
    path, text = await ask(browser, f"{draft}/people", action="next", **decided, **corrected)
    assert path == f"{draft}/message", text
    async with browser.get(f"{draft}/corrected.csv") as answer:
        text = await answer.text(encoding="utf-8-sig")
        assert [line.split(",")[0] for line in text.splitlines()] == [
            "email",
            "ada@example.com",
            "bob@example.com",
            "cy@example.com",
        ]
    async with browser.get(f"{draft}/problems.csv") as answer:
        assert "gone@example.com" in await answer.text(encoding="utf-8-sig")
    button = await reviewed(browser, draft, **WRITTEN)
    await ask(browser, f"{draft}/review", **button)
    sent = await query(site.database, "SELECT to_email, variables FROM job_recipients ORDER BY seq")
    assert [email for email, _ in sent] == ["ada@example.com", "bob@example.com", "cy@example.com"]
    assert json.loads(sent[2][1])["product"] == "coffee"


async def test_the_preview_shows_any_person_and_the_test_has_that_row(site: ConsoleSite) -> None:
    browser = await site.signed_in()
    draft = await begun(browser)
    _, text = await ask(browser, f"{draft}/message", action="save", person="2", **WRITTEN)
    assert "<strong>Hello 李白</strong>" in text
    assert "libai@example.org" in text
    async with browser.get(f"{draft}/html?person=2") as answer:
        assert "<strong>茶</strong>" in await answer.text()
        assert "sandbox" in answer.headers["Content-Security-Policy"]
    _, text = await ask(browser, f"{draft}/message", action="test", shown="2", test_to="me@example.com", **WRITTEN)
    assert "Test message accepted" in text
    ((to, variables),) = await query(site.database, "SELECT to_email, variables FROM job_recipients")
    assert (to, json.loads(variables)["product"]) == ("me@example.com", "茶")
    assert await query(site.database, "SELECT type FROM jobs") == [("test",)]


async def test_a_message_that_cannot_be_made_says_so_with_the_nearest_column(site: ConsoleSite) -> None:
    browser = await site.signed_in()
    draft = await begun(browser)
    written = WRITTEN | {"body": "Your {{ productname }}"}
    _, text = await ask(browser, f"{draft}/message", 422, action="next", **written)
    assert "No column for: productname" in text
    _, text = await ask(browser, f"{draft}/message", 422, action="next", **(WRITTEN | {"body": "a\n\n{{ name"}))
    assert "Message, line 3" in text
    _, text = await ask(browser, f"{draft}/message", 422, action="next", **(WRITTEN | {"body": " "}))
    assert "Choose a template, write a message, or copy a draft." in text


async def test_a_draft_is_its_keys_alone_and_needs_the_permission(site: ConsoleSite) -> None:
    browser, other = await site.signed_in(), await site.signed_in("other")
    draft = await begun(browser)
    reader = await site.signed_in("reader", permissions=[Permission.READ])
    for step in ("people", "message", "review", "html", "problems.csv", "corrected.csv"):
        async with other.get(f"{draft}/{step}") as answer:
            assert (step, answer.status) == (step, 404)
        async with reader.get(f"{draft}/{step}") as answer:
            assert (step, answer.status) == (step, 403)
    async with browser.get("/send") as answer:
        assert draft in await answer.text()
    async with other.get("/send") as answer:
        assert draft not in await answer.text()


async def test_a_file_that_cannot_be_read_is_refused_in_words_and_makes_no_draft(site: ConsoleSite) -> None:
    browser = await site.signed_in()
    for content in (b"", b"PK\x03\x04 no zip"):
        form = aiohttp.FormData()
        form.add_field("table", content, filename="people.xlsx")
        async with browser.post("/send", data=form) as answer:
            assert (answer.status, 'role="alert"' in await answer.text()) == (422, True)
    assert await query(site.database, "SELECT COUNT(*) FROM job_drafts") == [(0,)]


async def test_a_draft_is_deleted_by_its_key_alone(site: ConsoleSite) -> None:
    browser, other = await site.signed_in(), await site.signed_in("other")
    draft = (await begun(browser)).removeprefix("/send/")
    await ask(other, "/send", 422, delete=draft)
    assert await query(site.database, "SELECT COUNT(*) FROM job_drafts WHERE part = 0") == [(1,)]
    _, text = await ask(browser, "/send", delete=draft)
    assert "Draft deleted." in text
    assert await query(site.database, "SELECT COUNT(*) FROM job_drafts") == [(0,)]


async def test_an_undo_gives_back_the_draft_of_its_own_job_alone(site: ConsoleSite) -> None:
    browser, sent = await site.signed_in(), []
    for _ in range(2):
        draft = await begun(browser)
        job, _ = await ask(browser, f"{draft}/review", **await reviewed(browser, draft, **WRITTEN))
        sent.append((job, draft))
    (job, _), (_, other) = sent
    _, text = await ask(browser, job, action="undo", draft=other.removeprefix("/send/"))
    assert "Job cancelled. Nothing was sent.<" in text
    assert await query(site.database, "SELECT COUNT(*) FROM job_drafts WHERE part = 0 AND NOT is_sent") == [(0,)]


async def test_what_is_saved_after_the_send_leaves_the_draft_as_it_was_sent(site: ConsoleSite) -> None:
    browser = await site.signed_in()
    draft = await begun(browser)
    store = Drafts(site.database, 5, timedelta(days=1))
    ((key,),) = await query(site.database, "SELECT DISTINCT api_key_id FROM job_drafts")
    late = await store.find(key, draft.removeprefix("/send/"))
    assert late
    job, _ = await ask(browser, f"{draft}/review", **await reviewed(browser, draft, **WRITTEN))
    assert not await store.save(late, {PEOPLE: b"late"})
    path, text = await ask(browser, job, action="undo", draft=late.id)
    assert path.endswith("/review"), text


async def test_what_a_test_showed_was_not_tested_when_it_is_another_message(site: ConsoleSite) -> None:
    browser, untested = await site.signed_in(), "You have not sent yourself a test of this message."
    draft = await begun(browser)
    _, text = await ask(browser, f"{draft}/message", action="test", shown="1", test_to="me@example.com", **WRITTEN)
    assert re.search("Test message accepted: <time datetime=", text)
    _, text = await ask(browser, f"{draft}/message", action="next", **WRITTEN)
    assert untested not in text
    _, text = await ask(browser, f"{draft}/message", action="next", **(WRITTEN | {"body": "Another"}))
    assert untested in text


async def test_another_version_of_the_template_than_the_review_showed_is_not_sent(
    site: ConsoleSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser = await site.signed_in()
    draft = await begun(browser)
    button = await reviewed(browser, draft, **MESSAGE)
    find = TemplateLibrary.find

    async def found(self: TemplateLibrary, name: str, _: str | None = None) -> NamedTemplate | None:
        named = await find(self, name)
        return named and replace(named, version="0" * 16)

    with monkeypatch.context() as changed:
        changed.setattr(TemplateLibrary, "find", found)
        _, text = await ask(browser, f"{draft}/review", 409, **button)
    assert "This has changed since the page was loaded." in text
    assert await jobs(site) == []
    await ask(browser, f"{draft}/review", **button)
    assert await jobs(site) == [("me@example.com", "welcome", 2)]


async def test_a_mailbox_that_is_authorized_can_be_chosen_before_it_has_sent_anything(site: ConsoleSite) -> None:
    site.daemon.console.services.credential_owners = lambda: ["@example.com", "me@example.com", "you@example.com"]
    for name, senders, shown in (
        ("all", None, ["me@example.com", "you@example.com"]), ("one", ["you@example.com"], ["you@example.com"]),
    ):  # fmt: skip
        browser = await site.signed_in(name, senders=senders)
        _, text = await ask(browser, f"{await begun(browser)}/people", action="next")
        select = text.partition('name="sender"')[2].partition("</select>")[0]
        assert re.findall('<option value="([^"]*)"', select) == shown
