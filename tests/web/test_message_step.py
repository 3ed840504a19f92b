"""A new message, its second step: attachments, whose message is shown, a test, lists, and two tabs of one draft."""

import asyncio
import io
import json
import re
from hashlib import sha256
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from playwright.async_api import FilePayload, Page, expect

from mailerd.config import IntakeSettings
from mailerd.mail.mime import MAX_ATTACHMENTS
from mailerd.store.write.api_keys import Permission
from mailerd.store.write.drafts import Draft, DraftFile, Drafts
from mailerd.web.frame import forms
from mailerd.web.frame.forms import Form
from mailerd.web.send import send_message_page
from tests.support.rows import query
from tests.web.browser import SOON, Complaints, bring_axe, chromium, sign_in, violations
from tests.web.conftest import ConsoleSite
from tests.web.test_new_message import MESSAGE, WRITTEN, ask, begun, reviewed, seen
from tests.web.visitor import DROPPED

HX = {"HX-Request": "true"}
LIMIT = "the files may total about 25 MB"
TABLE = (
    "email,name,product,language\nada@example.com,Ada,Tea,en\nlibai@example.org,李白,茶,zh\n"
    "bob@example.com,Bob Longlonglonglong,,\ncy@example.com,Cy,,\n"
)


async def upload(
    browser: aiohttp.ClientSession, draft: str, *files: tuple[str, bytes], status: Any = 200, **fields: Any
) -> str:
    """The page after an upload, as a browser without scripts sends it."""
    form = aiohttp.FormData(fields, quote_fields=False)
    for name, content in files:
        form.add_field("attachments", io.BytesIO(content), filename=name)
    form.add_field("action", "attach")
    async with browser.post(f"{draft}/message", data=form) as answer:
        text = await answer.text()
        assert answer.status == status, text
        return text


async def stored(site: ConsoleSite) -> list[str]:
    """The names of what is attached to drafts."""
    rows = await query(
        site.database, "SELECT JSON_VALUE(mapping, '$.name') FROM job_drafts WHERE part >= 10 AND seq = 0 ORDER BY part"
    )
    return [name for (name,) in rows]


def hidden(text: str) -> dict[str, str]:
    """The fields by which a page says which tab it is in."""
    return {name: text.split(f'name="{name}" value="')[1].split('"', maxsplit=1)[0] for name in ("tab", "was")}


async def page(browser: aiohttp.ClientSession, path: str) -> str:
    async with browser.get(path) as answer:
        assert answer.status == 200
        return await answer.text()


async def test_attachments_are_kept_named_tested_and_sent_and_the_button_is_about_them(site: ConsoleSite) -> None:
    browser = await site.signed_in()
    draft, large = await begun(browser), bytes(range(256)) * 12_000
    text = await upload(browser, draft, ("plan 计划.pdf", large), ("a.txt", b"a"), **WRITTEN)
    for words in ("plan 计划.pdf", "3,072 kB", "a.txt", "1 kB", "Your **{{ product }}**"):
        assert words in text
    await upload(browser, draft, ("b.txt", b"b"))
    await ask(browser, f"{draft}/message", remove="11-a.txt")
    await ask(browser, f"{draft}/message", action="test", shown="1", test_to="me@example.com", **WRITTEN)
    button = await reviewed(browser, draft, **WRITTEN)
    await upload(browser, draft, ("late.txt", b"late"))
    _, text = await ask(browser, f"{draft}/review", 409, **button)
    assert "This has changed since the page was loaded." in text
    assert all(f"{name} <" in text for name in ("plan 计划.pdf", "b.txt", "late.txt"))
    await ask(browser, f"{draft}/review", **(button | {"seen": seen(text)}))
    rows = await query(
        site.database,
        "SELECT type, filename, content_type, LOWER(HEX(a.digest)) FROM jobs j "
        "JOIN job_attachments a ON a.job_id = j.id",
    )
    names = {
        "plan 计划.pdf": ("application/pdf", large),
        "b.txt": ("text/plain", b"b"),
        "late.txt": ("text/plain", b"late"),
    }
    whole = {name: (name, kind, sha256(content).hexdigest()) for name, (kind, content) in names.items()}
    tested = [("test", *whole[name]) for name in ("plan 计划.pdf", "b.txt")]
    assert sorted(rows) == sorted([*tested, *(("template", *each) for each in whole.values())])


async def test_other_files_than_the_button_was_about_are_not_sent(
    site: ConsoleSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser, contents = await site.signed_in(), Drafts.contents
    draft = await begun(browser)
    await upload(browser, draft, ("a.txt", b"a"), ("b.txt", b"b"))
    button = await reviewed(browser, draft, **WRITTEN)

    async def changed(self: Drafts, it: Draft) -> list[tuple[DraftFile, bytes]]:
        return (await contents(self, it))[1:]

    with monkeypatch.context() as another_tab:
        another_tab.setattr(Drafts, "contents", changed)
        _, text = await ask(browser, f"{draft}/review", 409, **button)
    assert "The attachments have changed since the page was loaded." in text
    assert await query(site.database, "SELECT COUNT(*) FROM jobs") == [(0,)]
    path, _ = await ask(browser, f"{draft}/review", **button)
    assert path.startswith("/jobs/")


@pytest.mark.parametrize("files, why", [
    ([("large.pdf", bytes(26 << 20))], LIMIT),
    ([("half.pdf", bytes(13 << 20)), ("another.pdf", bytes(13 << 20))], LIMIT),
    ([("good.txt", b"a"), ("virus.exe", b"MZ")], "virus.exe ends in .exe, which Gmail rejects"),
    ([("good.txt", b"a"), ("empty.txt", b"")], "empty.txt is empty"),
    ([("../../etc/passwd", b"a")], "is a path; give only the file name"),
    ([("a\x85b.txt", b"a")], "contains the control character U+0085"),
    ([(f"{n}.txt", b"a") for n in range(MAX_ATTACHMENTS + 1)], "are more than 50"),
])  # fmt: skip
async def test_files_that_cannot_be_sent_are_refused_in_words_and_none_is_stored_but_the_text_is(
    site: ConsoleSite, files: list[tuple[str, bytes]], why: str
) -> None:
    browser = await site.signed_in()
    draft = await begun(browser)
    text = await upload(browser, draft, *files, status=422, **WRITTEN)
    assert (why in text, "Nothing was attached." in text, 'href="#attachments"' in text) == (True, True, True), text
    assert await stored(site) == []
    assert WRITTEN["body"] in await page(browser, f"{draft}/message")


async def test_what_is_attached_bit_by_bit_has_the_same_bound_and_a_huge_form_is_a_page_too(site: ConsoleSite) -> None:
    browser = await site.signed_in()
    draft = await begun(browser)
    await upload(browser, draft, ("half.pdf", bytes(13 << 20)))
    assert LIMIT in await upload(browser, draft, ("another.pdf", bytes(13 << 20)), status=422)
    assert "The form is larger than" in await upload(browser, draft, ("huge.pdf", bytes(30 << 20)), status=413)
    assert "The text is too long." in await upload(
        browser, draft, ("a.txt", b"a"), status=413, body="x" * 600_000, subject="y" * 600_000
    )
    assert await stored(site) == ["half.pdf"]


async def test_a_name_is_shown_and_sent_as_text_whatever_it_has(site: ConsoleSite) -> None:
    browser, name = await site.signed_in(), "a'b;<script>{{ 7*7 }}-1\".txt"
    draft, headers = await begun(browser), {"Content-Type": "multipart/form-data; boundary=x"}

    async def attached(given: str, status: int) -> str:
        written = given.replace('"', "%22").replace("\r\n", "%0D%0A").encode()  # as browsers write it
        body = (
            b'--x\r\nContent-Disposition: form-data; name="attachments"; filename="'
            + written
            + (b'"\r\n\r\na\r\n--x\r\nContent-Disposition: form-data; name="action"\r\n\r\nattach\r\n--x--\r\n')
        )
        async with browser.post(f"{draft}/message", data=io.BytesIO(body), headers=headers) as answer:
            text = await answer.text()
            assert (answer.status, "<script>{{" in text) == (status, False), text
            return text

    assert "Nothing was attached" in await attached(f"{name}\r\nBcc: eve@example.com", 422)
    await attached(name, 200)
    ((shown),) = await stored(site)
    assert shown == name
    await ask(browser, f"{draft}/message", remove=f"10-{shown}")
    assert await stored(site) == []


async def test_a_job_too_large_for_the_configuration_says_which_limit(site: ConsoleSite) -> None:
    browser, services = await site.signed_in(), site.daemon.console.services
    draft = await begun(browser)
    await upload(browser, draft, ("a.pdf", bytes(2_500_000)), **WRITTEN)
    small = IntakeSettings(port=0, max_body=3_000_000)
    services.settings = services.settings.model_copy(update={"intake": small})
    text = await upload(browser, draft, ("b.pdf", b"b"), status=422)
    assert "make the job larger than 3,000,000 bytes, the limit of intake.max_body" in text
    _, text = await ask(browser, f"{draft}/message", 413, action="next", **WRITTEN)
    assert "the limit of intake.max_body. Split the table, or attach less." in text
    _, text = await ask(browser, f"{draft}/message", 422, action="test", test_to="me@example.com", **WRITTEN)
    assert "Split the table, or attach less." in text


async def test_a_large_upload_waits_for_its_place_as_any_large_body_and_a_text_needs_none(site: ConsoleSite) -> None:
    secret = await site.keys.create("shop")
    browser, places = await site.sign_in(secret), site.daemon.console.services.shares.large_bodies
    draft, key = await begun(browser), (await site.keys.all())[0]
    places.within = 0
    async with places.place(key):
        await upload(browser, draft, ("a.pdf", bytes(2_000_000)), status=429)
        await ask(browser, f"{draft}/message", action="save", **WRITTEN)
    assert await stored(site) == []
    await upload(browser, draft, ("a.pdf", bytes(2_000_000)))
    async with places.place(key):
        _, text = await ask(browser, f"{draft}/review", 429, action="save")
    assert 'value="send"' not in text
    assert await stored(site) == ["a.pdf"]


async def test_nothing_is_attached_to_or_removed_from_the_draft_of_another_key(site: ConsoleSite) -> None:
    browser, other = await site.signed_in(), await site.signed_in("other")
    draft = await begun(browser)
    await upload(browser, draft, ("mine.txt", b"a"))
    await upload(other, draft, ("theirs.txt", b"b"), status=404)
    await ask(other, f"{draft}/message", 404, remove="10-mine.txt")
    assert await stored(site) == ["mine.txt"]


async def test_two_tabs_lose_no_file_and_no_text_silently(site: ConsoleSite) -> None:
    browser = await site.signed_in()
    draft = await begun(browser)
    first, second = [hidden(await page(browser, f"{draft}/message")) for _ in range(2)]
    await asyncio.gather(*(upload(browser, draft, (f"{n}.txt", b"a")) for n in range(6)))
    assert sorted(await stored(site)) == [f"{n}.txt" for n in range(6)]
    ((name, *_),) = [await stored(site)]
    await ask(browser, f"{draft}/message", remove=f"10-{name}")
    await upload(browser, draft, ("new.txt", b"a"))  # it takes the place of that one
    await ask(browser, f"{draft}/message", remove=f"10-{name}")
    assert "new.txt" in await stored(site)

    for body in ("one", "two"):  # a tab saves as often as it likes
        await ask(browser, f"{draft}/message", action="save", **(WRITTEN | first | {"body": body}))
    typed = WRITTEN | second | {"body": "of the second"}
    async with browser.post(f"{draft}/message", data=typed, headers=HX) as answer:
        assert (answer.status, "Another tab or window has changed" in await answer.text()) == (200, True)
    path, text = await ask(browser, f"{draft}/message", 409, action="next", **typed)
    assert ("of the second" in text, "Another tab or window has changed" in text) == (True, True)
    assert ">\ntwo</textarea>" in await page(browser, f"{draft}/message")
    path, _ = await ask(browser, f"{draft}/message", action="next", **(typed | hidden(text)))
    assert path == f"{draft}/review"
    assert ">\nof the second</textarea>" in await page(browser, f"{draft}/message")


async def test_a_text_that_was_saved_while_a_file_was_on_its_way_stays(
    site: ConsoleSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser, read_form = await site.signed_in(), forms.read_form
    draft, began, came = await begun(browser), asyncio.Event(), asyncio.Event()

    async def reads(request: web.Request, **bounds: Any) -> Form:
        if request.content_length is None:
            began.set()
        return await read_form(request, **bounds)

    monkeypatch.setattr(send_message_page, "read_form", reads)

    async def slow() -> Any:
        yield b'--x\r\nContent-Disposition: form-data; name="attachments"; filename="a.txt"\r\n\r\na'
        await came.wait()
        yield b"\r\n--x--\r\n"

    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    upload = asyncio.create_task(browser.post(f"{draft}/message", data=slow(), headers=headers))
    await began.wait()
    await ask(browser, f"{draft}/message", action="save", **WRITTEN)
    came.set()
    async with await upload as answer:
        assert (answer.status, WRITTEN["body"] in await answer.text()) == (200, True)
    assert await stored(site) == ["a.txt"]


async def test_what_is_saved_while_it_is_typed_presses_no_button_that_has_the_focus(site: ConsoleSite) -> None:
    browser = await site.signed_in()
    draft = await begun(browser)
    await upload(browser, draft, ("a.txt", b"a"))
    pressed = [{"remove": "10-a.txt"}, {"action": "test", "test_to": "me@example.com"}, {"action": "next"}]
    for button in (*pressed, {"action": "new-list", "new_list": "news"}):
        async with browser.post(f"{draft}/message", data=WRITTEN | button, headers=HX) as answer:
            assert (answer.status, answer.url.path, 'id="preview"' in await answer.text()) == (
                200,
                f"{draft}/message",
                True,
            )
    button = await reviewed(browser, draft, **WRITTEN)
    async with browser.post(f"{draft}/review", data=button, headers=HX) as answer:
        assert answer.url.path == f"{draft}/review"
    assert await stored(site) == ["a.txt"]
    assert await query(site.database, "SELECT (SELECT COUNT(*) FROM jobs) + (SELECT COUNT(*) FROM lists)") == [(0,)]


async def test_a_person_is_found_by_text_by_length_and_by_what_is_empty(site: ConsoleSite) -> None:
    browser = await site.signed_in()
    draft = await begun(browser, TABLE)
    await ask(browser, f"{draft}/people", decided="1", action="save", **{"empty-product": "accept"})
    for asked, number in (
        ({"action": "find", "find": "EXAMPLE.COM", "shown": "1"}, 3),
        ({"action": "find", "find": "李", "shown": "4"}, 2),
        ({"action": "find", "find": "ada", "shown": "1"}, 1), ({"person": "longest", "shown": "2"}, 3),
        ({"person": "empty", "shown": "1"}, 3), ({"person": "empty", "shown": "3"}, 4),
        ({"person": "empty", "shown": "4"}, 3), ({"action": "save", "find": "cy@", "shown": "2"}, 2),
    ):  # fmt: skip
        _, text = await ask(browser, f"{draft}/message", **(WRITTEN | asked))
        assert f"{number} of 4" in text, asked
    _, text = await ask(browser, f"{draft}/message", **WRITTEN, action="find", find="<nobody>", shown="2")
    assert ("No person was found." in text, "2 of 4" in text, 'value="&lt;nobody&gt;"' in text) == (True, True, True)
    _, text = await ask(browser, f"{draft}/message", action="save", **(WRITTEN | {"body": "No variable"}))
    assert 'value="empty"' not in text, "no cell that the message uses is empty"


async def test_another_language_is_shown_and_tested_as_it_is_shown(site: ConsoleSite) -> None:
    browser = await site.signed_in()
    draft = await begun(browser, TABLE.replace(",,", ",x,"))
    _, text = await ask(browser, f"{draft}/message", action="save", shown="2", **MESSAGE)
    subject = re.findall("<p><strong>(.*)</strong></p>", text)
    assert re.search(r"libai@example.org · row 3 · zh\b", text)
    _, text = await ask(browser, f"{draft}/message", action="save", shown="1", **MESSAGE, **{"in": "zh"})
    assert re.findall("<p><strong>(.*)</strong></p>", text)[0].replace("Ada", "李白").replace("Tea", "茶") == subject[0]
    assert '<option value="zh" selected>' in text
    async with browser.get(f"{draft}/html?person=1&in=zh") as answer, browser.get(f"{draft}/html?person=1") as own:
        assert await answer.text() != await own.text()
    form = MESSAGE | {"in": "zh", "shown": "1", "test_to": "me@example.com"}
    await ask(browser, f"{draft}/message", action="test", **form)
    ((variables,),) = await query(site.database, "SELECT variables FROM job_recipients")
    assert json.loads(variables)["language"] == "zh"
    _, text = await ask(browser, f"{draft}/message", action="save", **WRITTEN)
    assert 'name="in"' not in text, "what is written here has one language"


async def test_the_address_of_a_test_is_offered_again_to_the_same_key_alone(site: ConsoleSite) -> None:
    secret = await site.keys.create("shop")
    browser = await site.sign_in(secret)
    draft, form = await begun(browser), WRITTEN | {"action": "test", "shown": "1", "test_to": "me+it@example.com"}
    async with browser.post(f"{draft}/message", data=form) as answer:
        (cookie,) = [each for each in answer.headers.getall("Set-Cookie") if each.startswith("mailerd-test")]
        assert ("HttpOnly" in cookie, "SameSite=Strict" in cookie, "Path=/send" in cookie) == (True, True, True)
    await ask(browser, f"{draft}/message", 422, **(form | {"test_to": "who@elsewhere.example"}))
    again = await begun(browser)
    _, text = await ask(browser, f"{again}/message", action="save", **WRITTEN)
    assert 'name="test_to" type="email" value="me+it@example.com"' in text
    await browser.post("/logout")
    async with browser.post("/login", data={"key": await site.keys.create("other")}) as answer:
        assert answer.status == 200
    _, text = await ask(browser, f"{await begun(browser)}/message", action="save", **WRITTEN)
    assert "me+it@example.com" not in text


async def test_all_that_is_missing_is_said_at_once_with_links_and_what_was_typed_stays(site: ConsoleSite) -> None:
    browser = await site.signed_in()
    draft = await begun(browser)
    form = {"kind": "write", "subject": "", "body": "Your {{ nothing }}", "reply_to": "desk@example.com"}
    _, text = await ask(browser, f"{draft}/message", 422, action="next", **form)
    summary = text.split('role="alert" tabindex="-1" autofocus')[1].split("</div>")[0]
    assert re.findall('href="#([a-z]+)"', summary) == ["sender", "subject", "body"]
    for field in ("sender", "subject", "body"):
        assert re.search(f'id="{field}"[^>]* aria-invalid="true"', text), field
    assert ("Your {{ nothing }}" in text, "desk@example.com" in text) == (True, True)
    _, text = await ask(browser, f"{draft}/message", 422, action="test", test_to="x", **(WRITTEN | {"subject": "{{"}))
    assert re.search('id="preview".*role="alert" tabindex="-1" autofocus>Subject', text, re.DOTALL), "beside the test"


async def test_a_list_is_made_and_chosen_by_a_key_that_may(site: ConsoleSite) -> None:
    browser = await site.signed_in()
    sender = await site.signed_in("sender", permissions=[Permission.READ, Permission.SEND])
    draft, theirs = await begun(browser), await begun(sender)
    form = WRITTEN | {"action": "new-list", "new_list": "Autumn News", "new_title": "News"}
    _, text = await ask(browser, f"{draft}/message", 422, **form)
    assert ('href="#new_list"' in text, 'value="Autumn News"' in text, "<details open>" in text) == (True, True, True)
    _, text = await ask(browser, f"{draft}/message", **(form | {"new_list": "autumn"}))
    assert 'name="list" list="lists" value="autumn"' in text
    assert 'name="new_list"' not in await page(sender, f"{theirs}/message")
    await ask(sender, f"{theirs}/message", 403, **(form | {"new_list": "winter"}))
    assert await query(site.database, "SELECT name, title FROM lists") == [("autumn", "News")]


async def test_a_paused_sender_cannot_be_chosen_and_says_why(site: ConsoleSite) -> None:
    browser = await site.signed_in()
    draft = await begun(browser)
    await query(
        site.database,
        "INSERT INTO senders (email, per_day, created_at, paused_until, pause_cause) VALUES "
        "('a@example.com', 1760, UTC_TIMESTAMP(6), NULL, NULL), "
        "('b@example.com', 9, UTC_TIMESTAMP(6), UTC_TIMESTAMP(6) + INTERVAL 1 HOUR, 'manual')",
    )
    text = await page(browser, f"{draft}/message")
    assert re.search(r'<option value="a@example.com">a@example.com · 1,760 left today</option>', text), text
    assert re.search(r'<option value="b@example.com" disabled>b@example.com · paused: [^<]+</option>', text), text


async def writes_by_the_toolbar(page: Page) -> None:
    """What a tool does is undone by the browser's own keys."""
    body, tools = page.locator("#body"), page.locator(".tools")
    await body.evaluate("it => it.setSelectionRange(4, 7)")
    for number, tool in enumerate(("Bold", "Italic"), 1):  # by keys alone, and what was chosen stays so
        await tools.get_by_role("button", name=tool).focus()
        await page.keyboard.press("Enter")
        await expect(body).to_have_value("one\n" + ("**two**" if number == 1 else "***two***"))
    await page.keyboard.press("Control+z")
    await expect(body).to_have_value("one\n**two**")
    await page.keyboard.press("Control+z")
    await expect(body).to_have_value("one\ntwo")
    await body.evaluate("it => it.setSelectionRange(0, 7)")
    await tools.get_by_role("button", name="List").click()
    await expect(body).to_have_value("- one\n- two")
    await tools.get_by_text("Insert variable").click()
    await tools.get_by_role("button", name="product", exact=True).click()
    await expect(body).to_have_value("- one\n- two{{ product }}")
    await expect(page.locator("#preview strong").first).to_have_text("Hello Ada")


async def attaches(page: Page) -> None:
    """Files that are chosen, dropped and removed; the text stays."""
    body = page.locator("#body")
    file: FilePayload = {"name": 'pl"an.pdf', "mimeType": "application/pdf", "buffer": bytes(2_000_000)}
    await page.set_input_files(
        "#attachments", files=[file, FilePayload(name="b.pdf", mimeType="application/pdf", buffer=b"b")]
    )
    await expect(page.locator("[data-drop] li")).to_have_count(2)
    dropped = await page.evaluate_handle(DROPPED, "x")
    await page.dispatch_event("[data-drop]", "drop", {"dataTransfer": dropped})
    await expect(page.locator("[data-drop] li")).to_have_count(3)
    await page.get_by_role("button", name="Remove b.pdf").click()
    await expect(page.locator("[data-drop] li")).to_have_count(2)
    await expect(body).to_have_value("- one\n- two{{ product }}")


async def finds_and_tests(page: Page) -> list[str]:
    """People, a test that is refused and one that is not; what axe finds on the way."""
    found = list[str]()
    await page.fill("[name=find]", "cy@")
    await page.keyboard.press("Enter")
    await expect(page.locator("#preview strong").first).to_have_text("Hello Cy")
    await page.click("button[value=longest]")
    await expect(page.locator("#preview strong").first).to_have_text("Hello Bob Longlonglonglong")
    await page.fill("#test_to", "me@elsewhere.example")
    await page.click("button[value=test]")
    await expect(page.locator("#preview .trouble")).to_be_focused()
    found += await violations(page)
    await page.fill("#test_to", "me@example.com")
    await page.click("button[value=test]")
    await expect(page.locator("#preview .said")).to_be_focused()
    await page.fill("#subject", "")
    await page.click("#message button[value=next]")
    await expect(page.locator("main > .trouble")).to_be_focused()
    found += await violations(page)
    assert await page.evaluate("document.documentElement.scrollWidth") == 390
    await page.fill("#subject", "Hello {{ name }}")
    await page.click("#message button[value=next]")
    return found


async def test_a_phone_writes_by_the_toolbar_attaches_finds_and_sees_no_fault(site: ConsoleSite) -> None:
    key, found = await site.keys.create("office"), list[str]()
    async with chromium() as browser:
        context = await browser.new_context(viewport={"width": 390, "height": 844})
        await bring_axe(context)
        page, complaints = await context.new_page(), Complaints()
        complaints.listen(page)
        context.set_default_timeout(SOON)
        await sign_in(page, site.url, key)
        draft = await begun(await site.sign_in(key), TABLE.replace(",,", ",x,"))
        await page.goto(f"{site.url}{draft}/message")
        await page.check("#writes")
        await page.fill("#sender_other", "me@example.com")
        await page.fill("#subject", "Hello {{ name }}")
        await page.fill("#body", "one\ntwo")
        await writes_by_the_toolbar(page)
        found += await violations(page)
        await attaches(page)
        found += await finds_and_tests(page)
        await page.wait_for_url("**/review*")
        await expect(page.locator("main")).to_contain_text('pl"an.pdf 2,000 kB')
        found += await violations(page)
        await context.close()
    assert found == []
    refused = "the server responded with a status of 422"
    assert [each for each in complaints.found if refused not in each] == []
