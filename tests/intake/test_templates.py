"""`/api/templates`: versions that never change, published by compare-and-set, checked where they are stored."""

import asyncio
import base64
import io
import json
from pathlib import Path
from typing import Any

import pytest

from mailerd.config import DatabaseSettings, IntakeSettings
from mailerd.events.process import StoreEvents
from mailerd.store.db.database import Database
from mailerd.store.write import templates as store
from mailerd.store.write.api_keys import Permission
from tests.intake.site import Build, Site, job

PIXEL = base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"\0" * 40).decode()
GOOD: dict[str, Any] = {"subject": "Order {{ order }}", "html": "<p>{{ order }}</p>", "variables": {"order": 17}}
NAMED = {"template": None, "template_name": "order", "variables": {"order": 4}}


async def ask(site: Site, method: str, path: str, body: Any = None, key: str = "") -> tuple[int, Any]:
    sent = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    given: dict[str, Any] = {"data": io.BytesIO(sent)}
    headers = {"X-API-Key": key or site.key}
    async with site.client.request(method, f"{site.url}/api/templates{path}", headers=headers, **given) as response:
        return response.status, await response.json()


async def put(site: Site, name: str = "order", **changes: Any) -> str:
    """The version of a good template, with changes."""
    status, answer = await ask(site, "PUT", f"/{name}", {**GOOD, **changes})
    assert status == 200, answer
    return str(answer["version"])


async def publish(site: Site, version: str, expect: str | None, name: str = "order") -> tuple[int, Any]:
    return await ask(site, "POST", f"/{name}/publish", {"version": version, "expect": expect})


def fields(answer: Any) -> dict[str, str]:
    return {it["field"]: it["message"] for it in answer["error"]["details"]}


async def test_equal_contents_are_one_version_and_a_repetition_changes_nothing(site: Site) -> None:
    body = {**GOOD, "languages": {"zh": {"subject": "订单 {{ order }}", "text": "{{ order }}"}}, "comment": "first"}
    body["images"] = [{"filename": "logo.png", "content": PIXEL}]
    status, first = await ask(site, "PUT", "/order", body)
    assert (status, first["created"], first["published"]) == (200, True, None)
    assert await ask(site, "PUT", "/order", body | {"comment": "again"}) == (200, {**first, "created": False})
    other = await put(site)
    assert other != first["version"]
    assert (await publish(site, first["version"], None))[0] == 200
    _, found = await ask(site, "GET", "/order/versions")
    assert [(it["version"], it["published"], it["comment"]) for it in found["versions"]] == [
        (other, False, None), (first["version"], True, "first"),
    ]  # fmt: skip
    status, content = await ask(site, "GET", f"/order/versions/{first['version']}")
    assert (status, content["subject"], content["html"], content["text"]) == (200, GOOD["subject"], GOOD["html"], None)
    assert content["languages"]["zh"] == {
        "subject": "订单 {{ order }}", "html": None, "text": "{{ order }}", "markdown": None,
    }  # fmt: skip
    assert content["images"] == [{"filename": "logo.png", "content_type": "image/png", "bytes": 48}]
    assert content["variables"] == {"order": 17}


async def test_the_version_is_the_digest_of_a_folder_of_the_same_files(site: Site) -> None:
    version = await put(site, languages={"zh": {"subject": "x", "text": "y"}})
    files = await store.TemplateStore(site.database, 20).files("order", version)
    assert files is not None
    assert [*files] == ["body.html", "subject.txt", "template.json", "zh/body.txt", "zh/subject.txt"]


async def test_a_job_takes_the_published_version_and_keeps_it(site: Site) -> None:
    status, answer = await site.post(job(**NAMED))
    assert (status, [*fields(answer)]) == (422, ["template_name"])
    first = await put(site)
    assert (await site.post(job(**NAMED)))[0] == 422, "a draft is no template yet"
    pinned = await site.posted(**NAMED, template_version=first)
    await publish(site, first, None)
    before = await site.posted(**NAMED)
    second = await put(site, subject="Your order {{ order }}")
    assert await publish(site, second, first) == (200, {"changed": True, "published": second})
    after = await site.posted(**NAMED)
    used = {id_: (await site.get(f"/api/jobs/{id_}"))[1]["template"] for id_ in (pinned, before, after)}
    assert [it["version"] for it in used.values()] == [first, first, second]
    subjects = dict(await site.rows("SELECT id, subject FROM jobs"))
    assert [subjects[id_] for id_ in (pinned, before, after)] == [
        "Order {{ order }}", "Order {{ order }}", "Your order {{ order }}",
    ]  # fmt: skip
    status, answer = await site.post(job(**NAMED, template_version="0" * 16))
    assert (status, [*fields(answer)]) == (422, ["template_version"])
    status, answer = await site.post(job(template_version=first))
    assert (status, fields(answer)) == (422, {"template_version": "needs template_name"})


async def test_a_template_that_is_not_published_is_not_said_to_be_missing(site: Site) -> None:
    await put(site)
    for said in ("is not published: publish it, or give one of its versions", "was archived: PUT it again, then"):
        status, answer = await ask(site, "POST", "/order/render", {})
        assert (status, answer["error"]["code"]) == (404, "not_found")
        assert f"template 'order' {said}" in answer["error"]["message"]
        status, answer = await site.post(job(**NAMED))
        assert status == 422
        assert f"template 'order' {said}" in fields(answer)["template_name"]
        await ask(site, "DELETE", "/order")
    _, answer = await ask(site, "POST", "/nothing/render", {})
    assert "no template is named 'nothing'" in answer["error"]["message"]


async def test_a_message_and_a_dry_run_take_it_too_with_language_and_image(site: Site) -> None:
    html = '<p>{{ order }} <img src="cid:logo.png"></p>'
    languages = {"zh": {"subject": "订单 {{ order }}", "html": html}}
    version = await put(site, html=html, languages=languages, images=[{"filename": "logo.png", "content": PIXEL}])
    to = {"email": "ada@example.com"}
    body = {"sender_email": "me@example.com", "to": to, "template_name": "order", "template_version": version}
    async with site.client.post(f"{site.url}/api/messages", json=body | {"variables": {"order": 1}}) as response:
        assert response.status == 200, await response.text()
    await publish(site, version, None)
    status, answer = await site.post(job(to | {"language": "zh"}, **NAMED, dry_run=True))
    assert (status, answer["samples"][0]["subject"], answer["samples"][0]["attachments"]) == (
        200, "订单 4", ["logo.png"],
    )  # fmt: skip
    assert answer["template"] == {"name": "order", "version": version}


async def test_of_200_racing_publishes_one_wins_each_round(site: Site, database_url: str) -> None:
    other = Database(DatabaseSettings(url=database_url, connect_timeout=20), events=StoreEvents(site.heard))
    stores = [store.TemplateStore(site.database, 20), store.TemplateStore(other, 20)]
    versions = [await put(site, subject=f"{number} {{{{ order }}}}") for number in range(21)]
    published: str | None = None

    async def race(through: store.TemplateStore, version: str, by: str) -> str | None:
        try:
            return version if await through.publish("order", version, expect=published, actor=by) else "repeated"
        except store.VersionMovedError:
            return None

    for number in range(10):
        racers = [it for it in versions if it != published][:20]
        ran = await asyncio.gather(*(race(stores[n % 2], it, f"{number}") for n, it in enumerate(racers)))
        [won] = [it for it in ran if it]
        assert await site.rows("SELECT published, published_by FROM templates") == [(won, str(number))]
        published = won
    await other.close()


async def test_a_publish_expects_what_is_published_and_its_repetition_is_harmless(site: Site) -> None:
    first, second = await put(site), await put(site, subject="Two {{ order }}")
    assert (await publish(site, first, second))[0] == 409
    assert await publish(site, first, None) == (200, {"changed": True, "published": first})
    assert await publish(site, first, None) == (200, {"changed": False, "published": first})
    status, answer = await publish(site, second, None)
    assert (status, answer["error"]["code"]) == (409, "version_moved")
    assert first in fields(answer)["expect"]
    assert (await publish(site, "0" * 16, first))[0] == 404
    assert (await publish(site, first, None, name="other"))[0] == 404
    status, answer = await ask(site, "POST", "/order/publish", {"version": second})
    assert (status, fields(answer)) == (422, {"expect": "is required"})


@pytest.mark.parametrize(
    "changes, field, said",
    [
        ({"html": "<p>\n{{ order }"}, "html", "line 2"),
        ({"subject": " "}, "subject", "empty"),
        ({"subject": "a\nb"}, "subject", "U+000A"),
        ({"html": None}, "", "needs html, markdown or text"),
        ({"html": "{{ total }}"}, "variables", "'total'"),
        ({"html": "\n{{ order.lines.first }}"}, "html", "line 2"),
        ({"text": "{{ order + 'x' }}"}, "text", "line 1"),
        ({"languages": {"zh": {"subject": "x", "html": "{% if %}"}}}, "languages.zh.html", "line 1"),
        ({"languages": {"zh": {"subject": "{{ order.x }}", "html": "y"}}}, "languages.zh.subject", "line 1"),
        ({"languages": {"ZH": {"subject": "x", "html": "y"}}}, "languages.ZH.[key]", "zh"),
        ({"language": "English"}, "language", "zh"),
        ({"images": [{"filename": "../x.png", "content": PIXEL}]}, "images[0].filename", ""),
        ({"images": [{"filename": "x.txt", "content": PIXEL}]}, "images[0]", "not"),
        ({"images": [{"filename": "x.png", "content": PIXEL}] * 2}, "images[1]", "twice"),
        ({"images": [{"filename": "x.png", "content": "%"}]}, "images[0].content", "base64"),
        ({"variables": {"order": "x" * 16_000}}, "variables", "16,000"),
        ({"extra": 1}, "extra", "unknown"),
        ({"subject": "\ufeff"}, "subject", "empty"),
        ({"html": "\ufeff"}, "html", "neither html nor text"),
        ({"languages": {"zh": {"subject": "\ufeff", "text": "y"}}}, "languages.zh.subject", "empty"),
        ({"languages": {"images": {"subject": "x", "text": "y"}}}, "languages.images.[key]", "zh"),
        ({"language": "zh", "languages": {"zh": {"subject": "x", "text": "y"}}}, "languages.zh", "itself"),
    ],
)
async def test_a_bad_template_is_refused_with_part_and_line(
    site: Site, changes: dict[str, Any], field: str, said: str
) -> None:
    status, answer = await ask(site, "PUT", "/order", {**GOOD, **changes})
    assert status == 422, answer
    assert field in fields(answer), fields(answer)
    assert said in fields(answer)[field]
    assert await site.rows("SELECT COUNT(*) FROM templates") == [(0,)]


@pytest.mark.parametrize(
    "body",
    [
        b'{"subject": ' + b"[" * 200_000,
        b'{"subject": "x", "html": "' + b"{{ 9**999999999 }}" * 10 + b'"}',
        json.dumps(
            {**GOOD, "html": "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"}
        ).encode(),
        json.dumps({**GOOD, "html": "{{ 'x' * 999999999 }}"}).encode(),
        json.dumps({**GOOD, "languages": {f"a{n}": {"subject": "x", "text": "y"} for n in range(3_000)}}).encode(),
        b'{"subject": "a", "subject": "b", "html": "x"}',
        b"\xff\xfe",
    ],
)
async def test_a_hostile_body_is_refused_and_hurts_nobody(site: Site, body: bytes) -> None:
    status, answer = await ask(site, "PUT", "/order", body)
    assert status == 422, answer
    assert await put(site)
    assert (await site.post(job()))[0] == 200


async def test_a_version_of_more_than_20_mb_is_refused_and_one_below_comes_back_whole(site: Site) -> None:
    small = base64.b64encode(bytes(range(256)) * 11_000).decode()
    version = await put(site, images=[{"filename": "a.png", "content": small}])
    files = await store.TemplateStore(site.database, 20).files("order", version)
    assert files is not None
    assert files["images/a.png"] == bytes(range(256)) * 11_000
    large = [{"filename": f"{n}.png", "content": base64.b64encode(b"x" * 7_000_000).decode()} for n in range(3)]
    status, answer = await ask(site, "PUT", "/order", {**GOOD, "images": large})
    assert (status, [*fields(answer)]) == (422, ["images"])


async def test_a_folder_of_the_same_name_wins_and_cannot_be_changed(build: Build, tmp_path: Path) -> None:
    site = await build(templates=tmp_path)
    version = await put(site)
    await publish(site, version, None)
    assert [it["name"] for it in (await ask(site, "GET", ""))[1]["templates"]] == ["order"]
    (tmp_path / "order").mkdir()
    (tmp_path / "order" / "template.toml").write_text("")
    (tmp_path / "order" / "subject.txt").write_text("of the folder")
    (tmp_path / "order" / "body.txt").write_text("of the folder")
    _, shown = await ask(site, "GET", "/order")
    assert (shown["source"], len(shown["published"])) == ("folder", 16)
    assert shown["published"] != version
    assert [it["version"] for it in (await ask(site, "GET", ""))[1]["templates"]] == [shown["published"]]
    for method, path, body in (
        ("PUT", "/order", GOOD), ("DELETE", "/order", None),
        ("POST", "/order/publish", {"version": version, "expect": None}),
    ):  # fmt: skip
        status, answer = await ask(site, method, path, body)
        assert (status, answer["error"]["code"]) == (409, "in_folder"), method
    id_ = await site.posted(**NAMED | {"variables": {}})
    assert (await site.get(f"/api/jobs/{id_}"))[1]["template"]["version"] == shown["published"]
    assert (await site.post(job(**NAMED, template_version=version)))[0] == 422
    assert (await ask(site, "GET", "/order/versions"))[1]["versions"][0]["version"] == shown["published"]
    for method, path, body in (
        ("GET", f"/order/versions/{version}", None), ("POST", "/order/render", {"version": version}),
    ):  # fmt: skip
        status, answer = await ask(site, method, path, body)
        words = f"template order: its folder has version {shown['published']} now"
        assert (status, answer["error"]["code"], answer["error"]["message"]) == (404, "not_found", words), path


async def test_a_deleted_template_is_archived_and_a_put_brings_it_back(site: Site) -> None:
    version = await put(site)
    await publish(site, version, None)
    id_ = await site.posted(**NAMED)
    assert await ask(site, "DELETE", "/order") == (200, {"archived": True})
    assert (await ask(site, "DELETE", "/order"))[0] == 404
    for path in ("/order", "/order/versions", f"/order/versions/{version}"):
        assert (await ask(site, "GET", path))[0] == 404, path
    assert (await publish(site, version, None))[0] == 404
    for pinned in ({}, {"template_version": version}):
        assert (await site.post(job(**NAMED, **pinned)))[0] == 422
    assert (await site.get(f"/api/jobs/{id_}"))[1]["template"]["version"] == version
    _, listed = await ask(site, "GET", "")
    assert (listed["templates"], listed["drafts"]) == ([], [])
    assert (await ask(site, "PUT", "/order", GOOD))[1] == {"version": version, "created": False, "published": None}
    assert (await ask(site, "GET", ""))[1]["drafts"] == ["order"]


async def test_the_oldest_unpublished_version_and_archived_name_make_place(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "MAX_VERSIONS", 3)
    monkeypatch.setattr(store, "MAX_NAMES", 2)
    first = await put(site)
    await publish(site, first, None)
    others = [await put(site, subject=f"{number} {{{{ order }}}}") for number in range(4)]
    _, found = await ask(site, "GET", "/order/versions")
    assert [it["version"] for it in found["versions"]] == [others[3], others[2], first]
    assert await site.rows("SELECT COUNT(DISTINCT version) FROM template_chunks") == [(3,)]
    await put(site, "b")
    status, answer = await ask(site, "PUT", "/c", GOOD)
    assert (status, answer["error"]["code"]) == (409, "conflict")
    await ask(site, "DELETE", "/b")
    await put(site, "c")
    assert await site.rows("SELECT name FROM templates ORDER BY name") == [("c",), ("order",)]
    assert await site.rows("SELECT COUNT(*) FROM template_versions WHERE name = 'b'") == [(0,)]


async def test_rendering_shows_the_message_or_what_is_missing(site: Site) -> None:
    version = await put(
        site, html="{{ order }} {{ name }} {{ total }}", variables={"order": 17, "total": 3},
        languages={"zh": {"subject": "订单", "text": "{{ order }}"}},
    )  # fmt: skip
    status, answer = await ask(site, "POST", "/order/render", {})
    assert (status, answer["error"]["code"]) == (404, "not_found"), "only a draft"
    status, answer = await ask(site, "POST", "/order/render", {"version": version})
    assert (status, answer["subject"], answer["html"], answer["missing"]) == (200, "Order 17", "17 Reader 3", [])
    await publish(site, version, None)
    given = {"variables": {"order": 1, "name": "Ada", "total": 2}}
    assert (await ask(site, "POST", "/order/render", given))[1]["html"] == "1 Ada 2"
    _, answer = await ask(site, "POST", "/order/render", {"variables": {"order": 1}})
    assert (answer["subject"], answer["html"], answer["missing"]) == (None, None, ["name", "total"])
    variables = {"order": 17, "total": 3, "lines": [{"price": 2}], "person": {"name": "Ada"}}
    sums = "{{ '%d' | format(total + order) }} {% for it in lines %}{{ it.price * 2 }}{% endfor %}"
    sums += "{{ person.name }} {{ name }}"
    other = await put(site, html=sums, variables=variables)
    _, answer = await ask(site, "POST", "/order/render", {"version": other, "variables": {"person": {}}})
    assert answer["missing"] == ["lines", "name", "order", "person.name", "total"], (
        "although the first ends the rendering"
    )
    _, answer = await ask(site, "POST", "/order/render", given | {"language": "zh-CN"})
    assert (answer["subject"], answer["html"], answer["text"]) == ("订单", None, "1")
    status, answer = await ask(
        site, "POST", "/order/render", {"variables": {"order": 1, "name": [], "total": {}, "x": 1e999}}
    )
    assert status == 422


async def test_only_a_key_that_is_named_for_it_changes_templates(site: Site) -> None:
    mine = await site.keys.create("mine", senders=["me@example.com"])
    reader = await site.keys.create("reader", permissions=[Permission.READ])
    named = await site.keys.create("named", senders=["me@example.com"], permissions=[Permission.TEMPLATES])
    version = await put(site)
    calls = [("PUT", "/order", GOOD), ("POST", "/order/publish", {"version": version, "expect": None}),
             ("POST", "/order/render", {}), ("DELETE", "/order", None)]  # fmt: skip
    for method, path, body in calls:
        for key in (mine, reader):
            status, answer = await ask(site, method, path, body, key)
            assert (status, answer["error"]["code"]) == (403, "call_not_allowed"), (method, path)
    for method, path, body in calls:  # of a template of its own; equal contents are one version
        own = path.replace("order", "own")
        assert (await ask(site, method, own, body, named))[0] == 200, (method, own)
    assert (await ask(site, "GET", "", key=reader))[0] == 200


async def test_a_body_above_the_limit_is_a_413(build: Build) -> None:
    site = await build(settings=IntakeSettings(port=0, max_body=2_000_000))
    status, answer = await ask(site, "PUT", "/order", b" " * 2_000_001)
    assert (status, answer["error"]["code"]) == (413, "too_large")


async def test_markdown_becomes_the_html_and_stays_for_its_author(site: Site) -> None:
    body: dict[str, Any] = {"subject": "Order {{ order }}", "markdown": "# *{{ order }}*\n\n[see]({{ url }})"}
    body |= {"languages": {"zh": {"subject": "订单", "markdown": "**{{ order }}**"}}}
    body["variables"] = {"order": "<17> *", "url": "https://a.example/?a=1&b=2"}
    status, answer = await ask(site, "PUT", "/order", body)
    assert status == 200, answer
    status, content = await ask(site, "GET", f"/order/versions/{answer['version']}")
    assert (content["markdown"], content["html"]) == (
        body["markdown"], '<h1><em>{{ order }}</em></h1>\n<p><a href="{{ url }}">see</a></p>\n',
    )  # fmt: skip
    assert content["languages"]["zh"]["markdown"] == "**{{ order }}**"
    status, made = await ask(site, "POST", "/order/render", {"version": answer["version"]})
    assert made["html"].startswith("<h1><em>&lt;17&gt; *</em></h1>"), made
    assert made["text"] == "<17> *\n\nsee (https://a.example/?a=1&b=2)", made


@pytest.mark.parametrize(
    "changes, field, said",
    [
        ({"markdown": "a\n\n{{ order | uper }}"}, "markdown", "line 3"),
        ({"markdown": "a\nb\n{% if order %}"}, "markdown", "line 3"),
        ({"markdown": "a\n{{ order / 0 }}"}, "markdown", "line 2"),
        ({"markdown": "{{ order }}", "html": "x"}, "", "give one of them"),
        ({"markdown": "{{ order }}", "languages": {"zh": {"subject": "x", "markdown": "\n{{ ordr(1) }}"}}},
         "languages.zh.markdown", "line 2"),
        ({"markdown": " "}, "html", "neither html nor text"),
        ({"text": "{{ order | uper }}", "markdown": "x"}, "text", "line 1"),
    ],
)  # fmt: skip
async def test_what_is_wrong_with_markdown_is_told_by_its_own_lines(
    site: Site, changes: dict[str, Any], field: str, said: str
) -> None:
    status, answer = await ask(site, "PUT", "/order", {**GOOD, "html": None, **changes})
    assert status == 422, answer
    assert said in fields(answer)[field], answer


async def test_hostile_markdown_ends_a_child_and_nothing_else(site: Site) -> None:
    status, answer = await ask(site, "PUT", "/order", {**GOOD, "html": None, "markdown": "![a" * 200_000})
    # A machine without two seconds of CPU within ten cannot say whose fault it is.
    assert (status, answer["error"]["code"]) in {(422, "invalid_json"), (503, "renderer_unavailable")}, answer
    await put(site)


async def test_the_list_shows_the_subjects(site: Site) -> None:
    await publish(site, await put(site, subject=f"Order {{{{ order }}}} {'x' * 300}"), None)
    _, found = await ask(site, "GET", "")
    subjects = {it["name"]: it["subject"] for it in found["templates"]}
    assert subjects["order"] == f"Order {{{{ order }}}} {'x' * 300}"[:255]
