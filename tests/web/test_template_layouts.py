"""Layouts, defaults, pictures and uses of templates in the console, by what the API does."""

import io
import re
from base64 import b64decode
from typing import Any

import aiohttp

from mailerd.store.write.api_keys import Permission
from mailerd.store.write.templates import TemplateStore
from tests.intake.test_templates import PIXEL
from tests.support.rows import query
from tests.web.conftest import ConsoleSite
from tests.web.test_new_message import ask, begun, reviewed, seen
from tests.web.test_templates import api, form, got, sent

HOUSE = {"kind": "html", "subject": "", "body": "<b>{{ company }}</b>{{ content }}<i>Bye</i>"}
FIELDS = "subject, html, text, variables, defaults, inline_css, template_name, template_version"


def filled(*more: tuple[Any, ...], **fields: str) -> aiohttp.FormData:
    """The form of a template; files are given as (field, name, content)."""
    made = form(**fields)
    made._quote_fields = False  # as a browser
    for name, value, *content in more:
        if content:
            made.add_field(name, content[0], filename=value)
        else:
            made.add_field(name, value)
    return made


async def save(browser: aiohttp.ClientSession, path: str, data: aiohttp.FormData, status: int = 200) -> str:
    async with browser.post(path, data=data) as answer:
        page = await answer.text()
        assert answer.status == status, page
        return page


async def house(browser: aiohttp.ClientSession, **changes: str) -> None:
    """A published layout whose variable has a default."""
    more = [("is_layout", "1"), ("variable", "company"), ("example", ""), ("default", ""), ("default", ""),
            ("default", "Acme & Co")]  # fmt: skip
    await save(browser, "/new-template", filled(*more, **{"name": "house", "action": "publish"} | HOUSE | changes))


async def order(browser: aiohttp.ClientSession, **changes: str) -> None:
    fields = {"action": "publish", "body": "Dear **{{ name }}**: {{ order }}", **changes}
    await save(browser, "/new-template", filled(("layout", "house"), **fields))


async def test_a_job_of_the_console_and_one_of_the_api_are_the_same_bytes(site: ConsoleSite) -> None:
    key = await site.keys.create("shop")
    browser = await site.sign_in(key)
    await house(browser)
    await order(browser)
    table = "email,name,order\nada@example.com,Ada,4\n"
    message = {"kind": "template", "template": "order", "sender": "me@example.com"}
    draft = await begun(browser, table)
    names = re.findall(r"<option>?([a-z]+)", (await got(browser, f"{draft}/message"))[1])
    assert ("order" in names, "house" in names) == (True, False), "no job can name a layout"
    button = await reviewed(browser, draft, **message)

    body = {
        "sender_email": "me@example.com", "template_name": "order",
        "recipients": [{"email": "ada@example.com", "name": "Ada", "variables": {"order": "4"}}],
    }  # fmt: skip
    url = "/api/jobs/send_template_emails"
    async with site.visitor().post(url, json=body, headers={"X-API-Key": key}) as answer:
        assert answer.status == 200, await answer.text()
    store = TemplateStore(site.database, 20)
    state = await store.state("house")
    assert state is not None
    other = await api(site, key, "PUT", "/house", {"is_layout": True, "html": "{{ content }}NEW"})
    await store.publish("house", other["version"], expect=state.published, actor="colleague")
    _, text = await ask(browser, f"{draft}/review", 409, **button)
    assert "This has changed since the page was loaded." in text
    await store.publish("house", state.published or "", expect=other["version"], actor="colleague")
    await ask(browser, f"{draft}/review", **button | {"seen": seen((await got(browser, f"{draft}/review"))[1])})
    jobs = await query(site.database, f"SELECT {FIELDS} FROM jobs")
    assert (len(jobs), jobs[0] == jobs[1]) == (2, True), jobs
    assert jobs[0][1] == "<b>{{ company }}</b><p>Dear <strong>{{ name }}</strong>: {{ order }}</p>\n<i>Bye</i>"
    rows = "SELECT to_email, to_name, variables FROM job_recipients"
    assert len({*await query(site.database, rows)}) == 1

    await store.publish("house", other["version"], expect=state.published, actor="colleague")
    assert await query(site.database, f"SELECT {FIELDS} FROM jobs") == jobs
    ids = [str(id_) for (id_,) in await query(site.database, "SELECT id FROM job_recipients")]
    pages = [(await got(browser, f"/messages/{id_}/html"))[1] for id_ in ids]
    assert pages == ["<b>Acme &amp; Co</b><p>Dear <strong>Ada</strong>: 4</p>\n<i>Bye</i>"] * 2


async def test_a_variable_with_a_default_needs_no_column_and_a_required_one_does(site: ConsoleSite) -> None:
    browser = await site.signed_in()
    more = [("default", ""), ("default", "5 %"), ("required", "0")]
    body = "{{ order | default('') }} {{ extra }}"
    await save(browser, "/new-template", filled(*more, action="publish", body=body, extra="3 %"))
    _, page = await got(browser, "/templates/order/edit")
    assert re.search(r'value="extra"[^>]*><input[^>]*value="3 %"[^>]*><input[^>]*value="5 %"', page)
    assert re.search(
        r'value="order"[^>]*>(<input[^>]*>){2}<label><input type="checkbox" name="required" value="1" checked', page
    )
    message = {"kind": "template", "template": "order", "sender": "me@example.com"}
    draft = await begun(browser, "email\nada@example.com\n")
    _, page = await ask(browser, f"{draft}/message", 422, action="next", **message)
    assert "No column for: order" in page
    draft = await begun(browser, "email,order\nada@example.com,4\n")
    path, page = await ask(browser, f"{draft}/message", action="next", **message)
    assert (path, "Send to 1 person now" in page) == (f"{draft}/review", True)
    _, page = await got(browser, f"{draft}/html?person=1")
    assert "4 5 %" in page


async def test_a_layout_in_use_stays_and_the_page_says_whose_it_is(site: ConsoleSite) -> None:
    browser = await site.signed_in()
    await house(browser)
    await order(browser)
    async with browser.post("/templates/house", data={"action": "archive"}) as answer:
        assert "it is the layout of order; nothing was changed" in await answer.text()
    _, page = await got(browser, "/templates/house/html")
    assert page == "<b>Acme &amp; Co</b><p>CONTENT</p><i>Bye</i>"
    _, page = await got(browser, "/templates/order")
    assert ('<a href="/templates/house">house</a>' in page, "Acme &amp; Co" in page) == (True, True)
    for path, status in (("/new-template?layout", 200), ("/templates/house/edit", 200)):
        assert (await got(browser, path))[0] == status
    page = await save(
        browser, "/new-template", filled(("is_layout", "1"), name="two", body="\n{{content}}{{content}}"), 422
    )
    assert ("contains &#39;{{ content }}&#39; again" in page, 'href="#body-0"' in page) == (True, True)
    page = await save(browser, "/new-template", filled(("layout", "none"), name="lost"), 422)
    assert ("&#39;none&#39; is not a published layout" in page, 'href="#layout"' in page) == (True, True)
    async with browser.post("/templates/order", data={"action": "archive"}) as answer:
        assert "Template archived" in await answer.text()
    async with browser.post("/templates/house", data={"action": "archive"}) as answer:
        assert "Template archived" in await answer.text()


async def test_pictures_are_added_removed_and_kept_by_everything_else(site: ConsoleSite) -> None:
    browser = await site.signed_in()
    key = await site.keys.create("reads")
    content = b64decode(PIXEL)
    files = [("image", "Acme Logo.PNG", content), ("image", "图片.png", content + b"2")]
    await save(browser, "/new-template", filled(*files, action="publish"))
    _, page = await got(browser, "/templates/order/edit")
    assert re.findall(r"<code>cid:([^<]+)", page) == ["Acme-Logo.png", "picture.png"]

    async def pictures() -> dict[str, int]:
        state = await api(site, key, "GET", "/order")
        found = await api(site, key, "GET", f"/order/versions/{state['published']}")
        return {each["filename"]: each["bytes"] for each in found["images"]}

    assert await pictures() == {"Acme-Logo.png": 48, "picture.png": 49}
    base: dict[str, str] = dict(re.findall(r'name="(origin|base|expect)" value="([^"]*)"', page))
    more: list[tuple[Any, ...]] = [
        ("drop", "picture.png"),
        ("image", "Acme Logo.PNG", content + b"new"),
        ("image", ""),
    ]
    await save(browser, "/templates/order/edit", filled(*more, action="publish", body="new", **base))
    assert await pictures() == {"Acme-Logo.png": 51}
    page = await save(browser, "/new-template", filled(("image", "a.txt", b"x"), name="other"), 422)
    assert ("is not an image" in page, "Choose the pictures again" in page, 'href="#images"' in page) == (True,) * 3
    await save(browser, "/new-template", filled(("image", "a.png", io.BytesIO(b"x" * 9_000_000)), name="other"), 413)


async def test_the_library_says_when_it_was_used_and_an_editor_sees_it_for_a_recipient(site: ConsoleSite) -> None:
    key = await site.keys.create("shop")
    browser = await site.sign_in(key)
    await order_alone(browser)
    mine = await site.signed_in("mine", senders=["me@example.com"])
    people = [{"email": f"p{n}@example.com", "name": f"P{n} <b>", "variables": {"extra": f"<{n}>"}} for n in range(5)]
    for sender in ("me@example.com", "you@example.com"):
        body = {"sender_email": sender, "template_name": "order", "variables": {"order": sender}, "recipients": people}
        async with site.visitor().post(
            "/api/jobs/send_template_emails", json=body, headers={"X-API-Key": key}
        ) as answer:
            assert answer.status == 200, await answer.text()
    await query(site.database, "UPDATE jobs SET sent = IF(sender_email = 'me@example.com', 1200, 34)")
    for who, number in ((browser, "1,234"), (mine, "1,200")):
        _, page = await got(who, "/templates")
        row = page.split('<a href="/templates/order">')[1].split("</tr>")[0]
        assert (f">{number}</td>" in row, "<time" in row) == (True, True), row
        assert "–" in page.split('<a href="/templates/welcome">')[1].split("</tr>")[0]

    _, page = await got(browser, "/templates/order/edit")
    found = re.findall(r'<option value="(\d+)">([^<]*)</option>', page)
    assert [text.split(",")[0] for _, text in found] == [
        f"P{n} &lt;b&gt; &lt;p{n}@example.com&gt;" for n in (0, 1, 2)
    ] * 2
    async with mine.post("/new-template/html", data=form()) as answer:
        assert answer.status == 403
    show = {"body": "{{ order }} {{ extra }} {{ name }}", "order": "17", "extra": "x"}
    person = found[4][0]
    async with browser.post("/new-template/html", data=filled(("person", person), **show)) as answer:
        assert await answer.text() == "<p>me@example.com &lt;1&gt; P1 &lt;b&gt;</p>"
    for number in ("999999", "x"):
        async with browser.post("/new-template/html", data=filled(("person", number), **show)) as answer:
            assert answer.status == 404
    some = await site.signed_in(
        "some", senders=["you@example.com"], permissions=[Permission.TEMPLATES, Permission.READ]
    )
    async with some.post("/new-template/html", data=filled(("person", person), **show)) as answer:
        assert answer.status == 404, "it is a message of another sender"
    await query(
        site.database,
        "UPDATE job_recipients SET to_email = CONCAT('forgotten-', id, '@example.invalid') WHERE id = %s",
        person,
    )
    _, page = await got(browser, "/templates/order/edit")
    assert len(re.findall(r'<option value="\d+">', page)) == 5
    async with browser.post("/new-template/html", data=filled(("person", person), **show)) as answer:
        assert "the person was forgotten" in await answer.text()


async def order_alone(browser: aiohttp.ClientSession) -> None:
    await sent(browser, action="publish", body="{{ order }}", extra="x")
