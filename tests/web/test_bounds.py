"""What bounds a key and its values in the API bounds them in the console too."""

import asyncio
import io
import json
import re
import time
from base64 import b64encode

import pytest

from mailerd.mail.mime import MAX_MESSAGE_BYTES
from mailerd.mail.template_library import NamedTemplate, TemplateLibrary
from mailerd.store.write.api_keys import Permission
from mailerd.web.frame.forms import Form
from tests.support.eventually import eventually
from tests.support.own_time import at_this_speed, longest_stall
from tests.support.rows import post, query
from tests.web.conftest import ConsoleSite
from tests.web.test_actions import ask
from tests.web.test_new_message import MESSAGE, begun

HX = {"HX-Request": "true"}


async def test_a_header_spares_a_key_nothing_of_its_rate(site: ConsoleSite) -> None:
    browser = await site.signed_in("slow", per_minute=5)
    posted, seen = list[int](), list[int]()
    for number in range(7):
        async with browser.get(f"/jobs?x={number}", headers=HX) as answer:
            seen.append(answer.status)
    for _ in range(7):
        async with browser.post("/jobs", headers=HX, data={"action": "pause"}, allow_redirects=False) as answer:
            posted.append(answer.status)
    assert seen == [200] * 5 + [429] * 2, "the page's own refreshes are counted by themselves"
    assert set(posted[-3:]) == {429}, "the sign-in counts as well"


async def test_what_was_done_is_told_to_the_session_that_did_it_alone(site: ConsoleSite) -> None:
    secret = await site.keys.create("shop")
    mine, other = await site.sign_in(secret), await site.sign_in(secret)
    async with mine.post("/jobs", data={"action": "pause"}, allow_redirects=False) as answer:
        assert answer.status == 303
    for browser in (mine, other):
        async with browser.get("/jobs", headers=HX) as answer:
            assert "Select at least one job." not in await answer.text()
    for said in (True, False):
        async with mine.get("/jobs") as answer:
            assert ("Select at least one job." in await answer.text()) is said


@pytest.mark.parametrize("given", ["101", "-101", "0000005000", "--5", "0000099999", "5.5", "", "high", "9" * 5000])
async def test_a_priority_has_the_bounds_of_the_api(site: ConsoleSite, given: str) -> None:
    job, browser = await post(site.database), await site.signed_in()
    assert "Nothing was changed. Enter a priority from -100 to 100." in await ask(
        browser, f"/jobs/{job}", action="priority", priority=given
    )
    assert await query(site.database, "SELECT priority FROM jobs") == [(0,)]


@pytest.mark.parametrize("name, given", [
    ("per_day", "0.4"), ("per_day", "-1"), ("per_day", "100000001"), ("per_day", "nan"), ("per_minute", "many"),
    ("reserve", "1e999"), ("min_gap", "86401"), ("min_gap", "nan"), ("warm_up", "10000000"),
])  # fmt: skip
async def test_a_limit_has_the_bounds_of_the_command(site: ConsoleSite, name: str, given: str) -> None:
    await post(site.database)
    await query(site.database, "UPDATE senders SET per_day = 7, per_minute = 8, min_gap = 2")
    browser = await site.signed_in()
    said = await ask(browser, "/senders/me@example.com", action="limits", **{"per_minute": "9", name: given})
    assert "Nothing was changed: " in said
    assert await query(site.database, "SELECT per_day, per_minute, min_gap FROM senders") == [(7, 8, 2.0)]


async def test_a_gap_may_be_a_part_of_a_second_and_a_limit_that_leaves_nothing_is_told(site: ConsoleSite) -> None:
    await post(site.database)
    browser, page = await site.signed_in(), "/senders/me@example.com"
    await ask(browser, page, action="limits", min_gap="0.5")
    assert "leaves nothing of 5 messages per day" in await ask(browser, page, action="limits", per_day="5", reserve="5")
    assert await query(site.database, "SELECT per_day, min_gap FROM senders") == [(None, 0.5)]


async def test_a_key_that_is_used_in_the_console_is_a_key_that_is_used(site: ConsoleSite) -> None:
    writing = asyncio.create_task(site.daemon.intake.auth.write_last_used())
    await site.signed_in()

    async def written() -> bool:
        return await query(site.database, "SELECT last_used_at IS NOT NULL FROM api_keys") == [(1,)]

    try:
        await eventually(written)
    finally:
        writing.cancel()


async def test_lists_are_shown_a_page_at_a_time_and_one_that_is_not_there_shows_nobody(site: ConsoleSite) -> None:
    await query(
        site.database,
        "INSERT INTO lists (name, created_at) WITH RECURSIVE n (i) AS (SELECT 101 UNION SELECT i + 1 FROM n "
        "WHERE i < 220) SELECT CONCAT('list-', i), UTC_TIMESTAMP(6) FROM n",
    )
    browser = await site.signed_in()
    await ask(browser, "/suppressions", action="add", email="ada@example.com", list="list-200")
    seen, path = list[str](), "/lists"
    while path:
        async with browser.get(path) as answer:
            text = await answer.text()
        shown = re.findall(r'<a href="/suppressions\?list=[^"]+">(list-\d+)</a>', text)
        assert len(shown) <= 50
        seen += shown
        path = next(iter(re.findall(r'rel="next" href="(/lists\?after=[^"]+)"', text)), "")
    assert seen == [f"list-{number}" for number in range(101, 221)]
    for name, found, said in (("list-200", True, False), ("list-201", False, False), ("list-20", False, True)):
        async with browser.get(f"/suppressions?list={name}") as answer:
            text = await answer.text()
        assert ("ada@example.com" in text, "No list of this name" in text) == (found, said), name


async def test_a_key_that_may_not_read_gets_no_session_that_shows_nothing(site: ConsoleSite) -> None:
    secret = await site.keys.create("posts", permissions=[Permission.SEND])
    async with site.visitor().post("/login?lang=zh", data={"key": secret}) as answer:
        assert (answer.status, "此密钥无法打开控制台：缺少 read 权限。" in await answer.text()) == (403, True)
    assert await query(site.database, "SELECT COUNT(*) FROM sessions") == [(0,)]


async def test_a_picture_that_a_message_shows_very_often_takes_no_more_room_than_a_message(site: ConsoleSite) -> None:
    secret, size = await site.keys.create("shop"), 4_000_000
    template = {"subject": "x", "html": '<img src="cid:a">' * 30}
    picture = {"filename": "a.png", "content": b64encode(bytes(size)).decode(), "content_id": "a"}
    job = {"sender_email": "me@example.com", "template": template, "attachments": [picture],
           "recipients": [{"email": "ada@example.com"}]}  # fmt: skip
    async with site.visitor().post(
        "/api/jobs/send_template_emails", data=io.BytesIO(json.dumps(job).encode()), headers={"X-API-Key": secret}
    ) as answer:
        assert answer.status == 200, await answer.text()
    browser = await site.sign_in(secret)
    async with browser.get("/messages/1/html") as answer:
        text = await answer.text()
    assert text.count("<img ") == 30
    assert text.count("data:image/png;base64,AAAA") == MAX_MESSAGE_BYTES // size


async def test_a_subject_of_open_brackets_is_shown_at_once(site: ConsoleSite) -> None:
    job, browser = await post(site.database), await site.signed_in()
    subject = "{% if 0 %}{% raw %}" + "{{" * 4950 + "{% endraw %}{% endif %}Hello"
    await query(site.database, "UPDATE jobs SET reference = NULL, subject = %s", subject)
    began = time.process_time()
    async with browser.get(f"/jobs/{job}") as answer:
        text = await answer.text()
    assert time.process_time() - began < at_this_speed(0.3)
    assert "…Hello</h1>" in text


async def test_templates_whose_files_are_slow_to_read_hold_up_nobody(
    site: ConsoleSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser, find = await site.signed_in(), TemplateLibrary.in_folder

    def slow(self: TemplateLibrary, name: str) -> NamedTemplate | None:
        time.sleep(1.0)
        return find(self, name)

    monkeypatch.setattr(TemplateLibrary, "in_folder", slow)
    stall = asyncio.create_task(longest_stall(2.5))
    for path in ("/templates", "/templates/welcome"):
        async with browser.get(path) as answer:
            assert (answer.status, "welcome" in await answer.text()) == (200, True)
    draft = await begun(browser)
    await ask(browser, f"{draft}/message", **MESSAGE)
    assert await stall < at_this_speed(0.5)


def test_the_fields_of_a_form_are_walked_over_once() -> None:
    form = Form([("a", " first "), ("a", "second"), ("file", b"x"), *((str(n), "") for n in range(20_000))])
    began = time.process_time()
    texts = form.texts()
    assert time.process_time() - began < at_this_speed(1.0)
    assert (texts["a"], len(texts)) == ("first", 20_001)


async def test_a_browser_keeps_no_script_longer_than_its_version(site: ConsoleSite) -> None:
    browser = await site.signed_in()
    async with browser.get("/") as answer:
        found = re.findall(r'(?:href|src)="(/static/[^"]+)"', await answer.text())
    assert len(set(found)) == 5
    for path in found:
        for asked, kept in ((path, "max-age=86400"), (f"{path}0", "no-store"), (path.partition("?")[0], "no-store")):
            async with browser.get(asked) as answer:
                assert (answer.status, answer.headers["Cache-Control"]) == (200, kept)
