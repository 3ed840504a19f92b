"""The templates of the console: written, refused, published, compared and restored, by what the API does."""

import asyncio
import io
import json
import re
from typing import Any

import aiohttp
import pytest
from markupsafe import escape

from mailerd.store.write.api_keys import Permission
from mailerd.web.templates.template_diff import MAX_COMPARED, changed_lines
from tests.support.rows import query
from tests.web.conftest import ConsoleSite

FIELDS = {"name": "order", "subject": "Order {{ order }}", "body": "# Order\n\n**{{ order }}**", "order": "17"}


def form(**changes: str) -> aiohttp.FormData:
    """The form of a good template in Markdown, with changes; `zh`: the subject of a further language."""
    given = {**FIELDS, "action": "save", "kind": "markdown", "text": "", **changes}
    made = aiohttp.FormData()
    tags = [("", ""), ("zh", "zh_")] if any(each.startswith("zh_") for each in given) else [("", "")]
    for tag, prefix in tags:
        fields = {each: given.get(prefix + each, "") for each in ("subject", "kind", "body", "text")}
        for name, value in {"tag": tag, **fields}.items():
            made.add_field(name, value)
    for name in ("order", "extra"):
        made.add_field("variable", name if name in given else "")
        made.add_field("example", given.get(name, ""))
    for name in ("name", "action", "origin", "base", "expect", "comment", "description", "language", "new_language",
                 "tab"):  # fmt: skip
        made.add_field(name, given.get(name, ""))
    made.add_field("inline_css", "1")
    made._is_multipart = True
    return made


async def sent(browser: aiohttp.ClientSession, path: str = "/new-template", **changes: str) -> tuple[int, str, str]:
    """The status, the page and its address, after a form."""
    async with browser.post(path, data=form(**changes)) as answer:
        return answer.status, await answer.text(), str(answer.url.relative())


async def got(browser: aiohttp.ClientSession, path: str) -> tuple[int, str]:
    async with browser.get(path) as answer:
        return answer.status, await answer.text()


async def versions(site: ConsoleSite) -> list[str]:
    """Oldest first."""
    return [it for (it,) in await query(site.database, "SELECT version FROM template_versions ORDER BY created_at")]


async def published(site: ConsoleSite) -> str | None:
    ((version,),) = await query(site.database, "SELECT published FROM templates")
    return version and str(version)


async def api(site: ConsoleSite, key: str, method: str, path: str, body: Any = None) -> Any:
    data = io.BytesIO(b"" if body is None else json.dumps(body).encode())
    async with site.visitor().request(method, f"/api/templates{path}", headers={"X-API-Key": key}, data=data) as answer:
        return await answer.json()


async def test_what_is_written_is_what_the_api_stores_and_jobs_get_once_it_is_published(site: ConsoleSite) -> None:
    key = await site.keys.create("shop")
    browser = await site.sign_in(key)
    status, page, url = await sent(
        browser, comment="first", zh_subject="订单", zh_kind="html", zh_body="<b>{{ order }}</b>"
    )
    assert (status, url.split("?")[0], "Saved as a draft" in page) == (200, "/templates/order", True), page
    (version,) = await versions(site)
    found = await api(site, key, "GET", f"/order/versions/{version}")
    assert (found["markdown"], found["html"]) == (
        FIELDS["body"],
        "<h1>Order</h1>\n<p><strong>{{ order }}</strong></p>\n",
    )
    assert (found["variables"], found["languages"]["zh"]["html"]) == ({"order": 17}, "<b>{{ order }}</b>")
    said = await query(site.database, "SELECT comment, created_by FROM template_versions")
    assert said == [("first", "key:shop via console")]
    assert await published(site) is None
    _, index = await got(browser, "/templates")
    assert "Not published yet" in index
    async with browser.post("/templates/order", data={"action": "publish", "version": version, "expect": ""}) as answer:
        assert "Jobs that are posted from now on" in await answer.text()
    assert await published(site) == version
    (event,) = site.heard.of("template_action")[1:]
    assert (event["action"], event["actor"]) == ("publish_template", "key:shop via console")
    assert (await query(site.database, "SELECT action, actor, detail FROM job_actions"))[1:] == [
        ("publish_template", "key:shop via console", f"order {version}")
    ]
    status, page = await got(browser, "/templates/order/html?in=zh")
    assert (status, page) == (200, "<b>17</b>")


@pytest.mark.parametrize("changes, at, said", [
    ({"body": "a\n\nb {{ order | uper }}"}, "#body-0", r"markdown, line 3: .*uper.* \(column 14\) <code>b"),
    ({"kind": "html", "body": "<p>\n{% if %}"}, "#body-0", r"line 2"),
    ({"subject": ""}, "#subject-0", ""),
    ({"body": "x\n{{ ordr }}"}, "#body-0", r"no example of .*ordr.* \(column 4\)"),
    ({"zh_subject": "x", "zh_kind": "markdown", "zh_body": "\n{{ order / 0 }}"}, "#body-1", "line 2"),
    ({"name": "Order/No"}, "#name", "must match"),
    ({"name": "welcome"}, "#name", "folder"),
    ({"order": "x", "text": "{% endif %}"}, "#text-0", "line 1"),
    ({"body": ""}, "#subject-0", "needs html, markdown or text"),
    ({"language": "Not one"}, "#language", "must be a language"),
    ({"body": "x" * 1_000_001}, "#body-0", "exceeds"),
])  # fmt: skip
async def test_what_is_wrong_is_told_by_line_and_column_and_the_form_is_kept(
    site: ConsoleSite, changes: dict[str, str], at: str, said: str
) -> None:
    browser = await site.signed_in()
    status, page, _ = await sent(browser, description="kept <i>", comment="kept too", **changes)
    faults = page.split('role="alert"')[1].split("</ul>")[0].replace("&#39;", "'")
    assert (status in {409, 422}, f'href="{at}"' in faults, bool(re.search(said, faults))) == (True,) * 3, faults
    for each in ('value="kept &lt;i&gt;"', 'value="kept too"', 'value="17"' if "order" not in changes else 'value="x"'):
        assert each in page, each
    assert f"\n{escape(changes.get('body', FIELDS['body']))}</textarea>" in page
    assert await query(site.database, "SELECT COUNT(*) FROM templates") == [(0,)]


async def test_the_place_of_a_variable_is_found_in_hostile_texts_as_soon_as_in_others(site: ConsoleSite) -> None:
    browser = await site.signed_in()
    body = f"{{#{'{' * 400_000}#}} {'ordr ' * 1000} {{{{ ordr }}}}"
    status, page, _ = await sent(browser, body=body, kind="html")
    assert (status, "no example of" in page) == (422, True)


async def test_a_variable_without_example_becomes_a_row_of_the_form(site: ConsoleSite) -> None:
    browser = await site.signed_in()
    _, page, _ = await sent(browser, body="{{ first_name }}")
    assert 'size="14" value="first_name"' in page


async def test_an_example_is_what_it_was_however_often_it_is_saved(site: ConsoleSite) -> None:
    key = await site.keys.create("shop")
    examples = {
        "a": "17",
        "b": 17,
        "c": "x",
        "d": ["p", {"q": None}],
        "e": "",
        "f": " x ",
        "g": True,
        "j": "1.50",
        "k": "NaN",
        "l": 1.5,
        "m": "1e999",
        "n": ["x", 2],
        "h": "[",
        "i": '"x"',
        "r": "",
    }
    text = "".join(f"{{{{ {name} is defined }}}}" for name in examples)
    more: dict[str, Any] = {"defaults": {"o": "", "b": 1.0, "p": {"q": "1"}}, "required": ["a", "r"]}
    saved = await api(
        site, key, "PUT", "/odd", {"subject": "s", "text": text, "html": "\n\n<p>x</p>\n", "variables": examples} | more
    )
    browser = await site.sign_in(key)
    _, page = await got(browser, "/templates/odd/edit")
    fields = aiohttp.FormData()
    inputs = [it for it in re.findall(r"<input[^>]*>", page) if 'type="checkbox"' not in it or " checked" in it]
    for name, value in re.findall(r'<input[^>]* name="([a-z_]+)"[^>]* value="([^"]*)"', "".join(inputs)):
        fields.add_field(name, value.replace("&#34;", '"').replace("&amp;", "&"))
    fields.add_field("subject", "s")
    for name, value in re.findall(r'<textarea id="[a-z]+-0" name="(\w+)"[^>]*>\n(.*?)</textarea>', page, re.DOTALL):
        fields.add_field(name, value.replace("&lt;", "<").replace("&gt;", ">").replace("\n", "\r\n"))
    fields = aiohttp.FormData(
        [each for each in _pairs(fields) if each[0] != "tab"] + [("kind", "html"), ("action", "save")]
    )
    fields._is_multipart = True
    async with browser.post("/templates/odd/edit", data=fields) as answer:
        assert "this version exists" in await answer.text()
    assert await versions(site) == [saved["version"]]


def _pairs(fields: aiohttp.FormData) -> list[tuple[str, str]]:
    return [(options["name"], value) for options, _, value in fields._fields]


async def test_somebody_who_published_meanwhile_is_told_of_and_nothing_is_lost(site: ConsoleSite) -> None:
    ada, bob = await site.signed_in("ada"), await site.signed_in("bob")
    await sent(ada, action="publish")
    first = await published(site)
    assert first is not None
    path = "/templates/order/edit"
    _, form_of_ada = await got(ada, path)
    assert f'name="expect" value="{first}"' in form_of_ada
    await sent(bob, path, action="publish", expect=first, subject="By Bob {{ order }}")
    second = await published(site)
    status, page, url = await sent(ada, path, action="publish", expect=first, subject="By Ada {{ order }}")
    assert (status, await published(site), "another version was published" in page) == (200, second, True)
    (third,) = set(await versions(site)) - {first, second}
    assert url == f"/templates/order?version={third}"
    assert f"/templates/order/diff?from={second}&amp;to={third}" in page.replace("&to", "&amp;to")
    status, page = await got(ada, f"/templates/order/diff?from={second}&to={third}")
    assert [re.sub("<.*?>", "", each) for each in re.findall(r"<(?:del|ins)>.*?</(?:del|ins)>", page)] == [
        "− By Bob {{ order }}", "+ By Ada {{ order }}",
    ]  # fmt: skip
    async with ada.post("/templates/order", data={"action": "publish", "version": first, "expect": second}) as answer:
        assert "Published." in await answer.text()
    assert await published(site) == first, "restored"


async def test_of_many_who_publish_at_once_one_wins_and_every_text_is_kept(site: ConsoleSite) -> None:
    browser = await site.signed_in()
    await sent(browser, action="publish")
    first = await published(site)
    assert first is not None
    ran = await asyncio.gather(*(
        sent(browser, "/templates/order/edit", action="publish", expect=first, subject=f"{n} {{{{ order }}}}")
        for n in range(4)
    ))  # fmt: skip
    assert sorted("Not published" in page for _, page, _ in ran) == [False, True, True, True]
    assert len(await versions(site)) == 5


async def test_a_preview_shows_the_form_in_the_chosen_language_and_stores_nothing(site: ConsoleSite) -> None:
    browser = await site.signed_in()
    status, page, _ = await sent(
        browser, "/new-template/html", zh_subject="x", zh_kind="html", zh_body="<p>{{ order }}</p>", tab="zh"
    )
    assert (status, page) == (200, "<p>17</p>")
    async with browser.post("/new-template/html", data=form(body="**{{ order }}** <script>1</script>")) as answer:
        assert "<strong>17</strong> &lt;script&gt;" in await answer.text()
        assert answer.headers["Content-Security-Policy"].startswith("sandbox; default-src 'none'")
    status, page, _ = await sent(browser, "/new-template/html", body="a\n{{ oops")
    assert (status, "line 2" in page) == (200, True), page
    assert await query(site.database, "SELECT COUNT(*) FROM templates") == [(0,)]


async def test_a_folder_is_read_only_and_its_duplicate_keeps_its_images_and_languages(site: ConsoleSite) -> None:
    key = await site.keys.create("shop")
    browser = await site.sign_in(key)
    _, index = await got(browser, "/templates?q=welc")
    assert ">file</span>" in index
    async with browser.get("/templates/welcome/edit") as answer:
        assert (answer.url.path, "Duplicate it" in await answer.text()) == ("/templates/welcome", True)
    _, page = await got(browser, "/templates/welcome/duplicate")
    assert 'value="welcome-copy"' in page
    base = re.search(r'name="base" value="(\w{16})"', page)
    assert base is not None
    await sent(
        browser,
        name="welcome-copy",
        origin="welcome",
        base=base[1],
        kind="html",
        body='<img src="cid:logo.png">{{ order }}',
    )
    (version,) = await versions(site)
    found = await api(site, key, "GET", f"/welcome-copy/versions/{version}")
    assert [each["filename"] for each in found["images"]] == ["logo.png"]
    for path in ("/templates/welcome", "/templates/welcome/edit"):
        status, *_ = await sent(browser, path, action="publish" if path.endswith("edit") else "archive")
        assert status == 409
    async with browser.post("/templates/welcome-copy", data={"action": "archive"}) as answer:
        assert (answer.url.path, "archived" in await answer.text()) == ("/templates", True)
    assert (await got(browser, "/templates/welcome-copy"))[0] == 404


async def test_a_new_template_never_takes_the_name_of_another(site: ConsoleSite) -> None:
    browser = await site.signed_in()
    await sent(browser)
    status, page, _ = await sent(browser, body="other {{ order }}")
    assert (status, "is the name of another template" in page, len(await versions(site))) == (422, True, 1)


async def test_a_language_is_added_without_losing_what_was_written(site: ConsoleSite) -> None:
    browser = await site.signed_in()
    status, page, _ = await sent(browser, action="add-language", new_language="ZH-TW", body="not {% finished")
    assert (status, 'id="body-1"' in page, "not {% finished" in page) == (200, True, True)
    status, page, _ = await sent(browser, action="add-language", new_language="no such")
    assert (status, 'href="#new_language"' in page) == (422, True)


async def test_a_key_without_the_permission_reads_and_changes_nothing(site: ConsoleSite) -> None:
    await sent(await site.signed_in("admin"))
    (version,) = await versions(site)
    for name, limits in (("reader", {"permissions": [Permission.READ]}), ("one", {"senders": ["me@example.com"]})):
        browser = await site.signed_in(name, **limits)
        status, page = await got(browser, "/templates/order")
        assert (status, "Edit</a>" in page, "Archive" in page) == (200, False, False)
        for path in ("/new-template", "/templates/order/edit", "/templates/order/duplicate"):
            assert (await got(browser, path))[0] == 403
        for path in ("/new-template", "/templates/order/edit", "/new-template/html"):
            assert (await sent(browser, path, subject="x"))[0] == 403
        for action in ("publish", "archive"):
            async with browser.post("/templates/order", data={"action": action, "version": version}) as answer:
                assert answer.status == 403
    assert (await versions(site), await published(site)) == ([version], None)


async def test_a_test_message_is_of_the_version_that_is_shown(site: ConsoleSite) -> None:
    browser = await site.signed_in()
    await sent(browser)
    (version,) = await versions(site)
    to = {"sender": "me@example.com", "email": "me@example.com"}
    async with browser.post(f"/templates/order?version={version}", data=to) as answer:
        assert answer.url.path.startswith("/jobs/")
    assert await query(site.database, "SELECT template_version FROM jobs") == [(version,)]


def test_what_differs_is_shown_with_two_lines_around_it_and_takes_no_longer_for_hostile_texts() -> None:
    old = "\n".join(str(n) for n in range(20))
    assert [*changed_lines(old, old.replace("\n9\n", "\nnine\n"))] == [
        (" ", "7"), (" ", "8"), ("-", "9"), ("+", "nine"), (" ", "10"), (" ", "11"),
    ]  # fmt: skip
    assert [*changed_lines("", "a")] == [("+", "a")]
    hostile = [*changed_lines("a\nb\n" * 100_000, "b\na\n" * 100_000)]
    assert MAX_COMPARED < len(hostile) <= 2 * MAX_COMPARED + 1


async def test_who_misspells_sees_why_in_the_frame_and_a_name_may_be_typed_as_people_write_it(
    site: ConsoleSite,
) -> None:
    browser = await site.signed_in()
    fields = {
        "name": "Autumn Evening",
        "tag": "",
        "subject": "Hello",
        "kind": "markdown",
        "body": "{{ zzz }}",
        "text": "",
    }
    async with browser.post("/new-template/html", data=fields) as answer:
        assert "frame-ancestors 'self'" in answer.headers["Content-Security-Policy"]
        assert "zzz" in await answer.text()
    async with browser.post("/new-template", data=fields | {"body": "A text", "action": "publish"}) as answer:
        assert (answer.status, answer.url.path) == (200, "/templates/autumn-evening")
    async with browser.get("/templates") as answer:
        assert 'type="search" value=""' in await answer.text()
