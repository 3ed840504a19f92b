"""Layouts, defaults and required variables of templates: joined when a job is accepted, for the API as for folders."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from mailerd.store.db.connection import Cursor
from tests.intake.site import Build, Site, job
from tests.intake.test_templates import PIXEL, ask, fields, publish, put
from tests.support.eventually import eventually

LAYOUT: dict[str, Any] = {
    "is_layout": True, "subject": "", "variables": {}, "defaults": {"company": "Acme & Co"},
    "html": "<style>p{color:red}</style>\n<header>{{ company }}</header>\n{{ content }}\n<p>Bye</p>",
    "text": "{{ company }}\n\n{{ content }}\n\nBye", "images": [{"filename": "logo.png", "content": PIXEL}],
    "languages": {"zh": {"html": "<b>{{ company }}</b>{{ content }}<p>再见</p>"}},
}  # fmt: skip
ORDER: dict[str, Any] = {"layout": "house", "html": "<p>{{ order }}</p>", "text": "No. {{ order }}"}
NAMED = {"template": None, "template_name": "order", "variables": {"order": "<4>"}}


async def ready(site: Site, name: str, expect: str | None = None, **changes: Any) -> str:
    """The version of a template that was stored and published."""
    version = await put(site, name, **changes)
    status, answer = await publish(site, version, expect, name)
    assert status == 200, answer
    return version


async def shown(site: Site, job_id: str, seq: int = 0) -> Any:
    """The message of a recipient, made of what its job keeps."""
    ((id_,),) = await site.rows("SELECT id FROM job_recipients WHERE job_id = %s AND seq = %s", job_id, seq)
    return (await site.get(f"/api/recipients/{id_}/message"))[1]


async def test_a_job_gets_its_template_in_the_layout_and_keeps_both_as_they_were(site: Site) -> None:
    layout = await ready(site, "house", **LAYOUT)
    zh = {"subject": "订单", "html": "<i>{{ order }}</i>"}
    order = await ready(site, "order", **ORDER, languages={"zh": zh})
    ada, mei = {"email": "ada@example.com"}, {"email": "mei@example.com", "language": "zh-CN"}
    status, dry = await site.post(job(ada, mei, **NAMED, dry_run=True))
    assert (status, dry["template"]) == (200, {"name": "order", "version": f"{order}+{layout}"}), dry
    before = await site.posted(ada, mei, **NAMED)
    wanted = [await shown(site, before, seq) for seq in (0, 1)]
    red = 'style="color: red;"'
    assert f"<header>Acme &amp; Co</header>\n<p {red}>&lt;4&gt;</p>\n<p {red}>Bye</p>" in wanted[0]["html"]
    assert wanted[0]["text"] == "Acme & Co\n\nNo. <4>\n\nBye"
    assert wanted[0]["attachments"][0]["filename"] == "logo.png"
    assert wanted[1]["html"] == "<b>Acme &amp; Co</b><i>&lt;4&gt;</i><p>再见</p>"
    assert wanted[1]["text"].split() == ["Acme", "&", "Co<4>", "再见"]
    for sample, message in zip(dry["samples"], wanted, strict=True):
        assert (sample["html"], sample["text"]) == (message["html"], message["text"])

    other = await ready(
        site, "house", layout, **LAYOUT | {"html": "{{ content }} NEW", "text": None, "languages": None}
    )
    after = await site.posted(ada, **NAMED)
    pinned = await site.posted(ada, **NAMED, template_version=f"{order}+{layout}")
    for wrong in (f"{order}+{'0' * 16}", f"{layout}+{layout}"):
        status, answer = await site.post(job(ada, **NAMED, template_version=wrong))
        assert (status, "version" in str(answer["error"]["details"])) == (422, True), answer
    status, answer = await site.post(
        job(ada, **NAMED | {"template_name": "house"}, template_version=f"{layout}+{layout}")
    )
    assert (status, "no such version" in str(answer)) == (422, True), answer
    assert [await shown(site, before, seq) for seq in (0, 1)] == wanted
    assert (await shown(site, pinned))["html"] == wanted[0]["html"]
    made = await shown(site, after)
    assert (made["html"], made["text"].split()) == ("<p>&lt;4&gt;</p> NEW", ["<4>", "NEW"])
    _, rendered = await ask(site, "POST", "/order/render", {"variables": {"order": "<4>"}})
    assert (rendered["html"], rendered["version"]) == (made["html"], f"{order}+{other}")
    _, content = await ask(site, "GET", f"/order/versions/{order}")
    assert (content["html"], content["layout"], content["is_layout"]) == (ORDER["html"], "house", False)
    _, alone = await ask(site, "POST", "/house/render", {})
    assert (alone["html"], alone["version"]) == ("<p>CONTENT</p> NEW", other)
    status, answer = await site.post(job(ada, **NAMED | {"template_name": "house"}))
    assert (status, "is a layout" in fields(answer)["template_name"]) == (422, True)


@pytest.mark.parametrize("changes, at, said", [
    ({"html": "<p>x</p>"}, "html", "must contain '{{ content }}' once"),
    ({"html": "a\n{{ content }}\n{{content}}"}, "html", "html, line 3: contains '{{ content }}' again"),
    ({"html": None, "markdown": "a\n\n{{ content }}\n\n{{ company | uper }}"}, "markdown", "markdown, line 5"),
    ({"html": "{{ content | upper }}"}, "html", "must contain"),
    ({"html": "{# {{ content }} #}"}, "html", "does not show '{{ content }}'"),
    ({"html": "{% raw %}{{ content }}{% endraw %}"}, "html", "does not show '{{ content }}'"),
    ({"html": "<!-- {{ content }} -->"}, "html", "does not show '{{ content }}'"),
    ({"text": "x"}, "text", "must contain"),
    ({"languages": {"zh": {"text": "{{ content }}"}}}, "languages.zh.html", "must contain"),
    ({"layout": "house"}, "layout", "a layout cannot have a layout"),
    ({"defaults": {"a": 1}, "required": ["a"]}, "required", "'a' is required and has a default"),
    ({"required": ["x" * 255 + str(n) for n in range(200)]}, "required[0]", "255"),
    ({"required": ["ä" * 250 + str(n) for n in range(200)]}, "required", "exceeds 16,000 bytes"),
    (ORDER | {"is_layout": False, "languages": None}, "layout", "'house' is not a published layout"),
])  # fmt: skip
async def test_what_is_wrong_is_refused_with_part_and_line(
    site: Site, changes: dict[str, Any], at: str, said: str
) -> None:
    status, answer = await ask(site, "PUT", "/letter", LAYOUT | {"subject": "x"} | changes)
    assert (status, said in fields(answer).get(at, "")) == (422, True), answer


async def test_the_lines_of_a_template_are_its_own_and_a_text_that_would_be_lost_is_refused(site: Site) -> None:
    await ready(site, "house", **LAYOUT | {"text": None})
    status, answer = await ask(site, "PUT", "/order", {"subject": "x", "layout": "house", "html": "\n{{ orde }}"})
    assert (status, fields(answer)) == (422, {"variables": "has no example of 'orde', which the template uses"})
    status, answer = await ask(site, "PUT", "/order", {"subject": "x", "layout": "house", "html": "a\nb {{ 1/0 }}"})
    assert (status, fields(answer)["html"][:13]) == (422, "html, line 2:")
    status, answer = await ask(site, "PUT", "/order", {"subject": "x", "layout": "house", "html": "a", "text": "b"})
    assert (status, "the layout 'house' has no text" in fields(answer)["text"]) == (422, True)


async def test_a_layout_in_use_can_neither_go_nor_become_something_else(site: Site) -> None:
    layout = await ready(site, "house", **LAYOUT)
    draft = await put(site, "draft", **ORDER)
    assert (await ask(site, "DELETE", "/house"))[0] == 200, "a draft does not use it yet"
    status, answer = await publish(site, draft, None, "draft")
    assert (status, answer["error"]["message"]) == (
        409, "'house' is not a published layout of all senders of this template; nothing was changed",
    )  # fmt: skip
    status, answer = await site.post(job(**NAMED | {"template_name": "draft"}, template_version=draft))
    assert (status, "'house' is not a published layout" in fields(answer)["template_name"]) == (422, True)
    await ready(site, "house", **LAYOUT)
    await publish(site, draft, None, "draft")
    await ready(site, "order", **ORDER)
    plain = await put(site, "house")
    for status, answer in (await ask(site, "DELETE", "/house"), await publish(site, plain, layout, "house")):
        assert (status, answer["error"]["message"]) == (409, "it is the layout of draft, order; nothing was changed")
    for user in ("draft", "order"):
        await ask(site, "DELETE", f"/{user}")
    assert (await publish(site, plain, layout, "house"))[0] == 200


async def test_of_two_who_publish_a_template_and_archive_its_layout_at_once_one_is_refused(site: Site) -> None:
    await ready(site, "house", **LAYOUT)
    order = await put(site, "order", **ORDER)
    held, go = asyncio.Event(), asyncio.Event()

    async def hold(cursor: Cursor) -> None:
        await cursor.execute("SELECT 1 FROM templates WHERE name = 'order' FOR UPDATE")
        held.set()
        await go.wait()

    async def wait_for_locks(number: int, or_done: asyncio.Task[Any] | None = None) -> bool:
        seen = await site.rows("SELECT info FROM information_schema.processlist WHERE info LIKE '%name IN%FOR UPDATE'")
        return len(seen) == number or bool(or_done and or_done.done())

    holding = asyncio.create_task(site.database.transaction(hold, what="test"))
    await held.wait()
    publishing = asyncio.create_task(publish(site, order, None))  # it locks the layout first, and waits for its own row
    await eventually(lambda: wait_for_locks(1))
    archiving = asyncio.create_task(ask(site, "DELETE", "/house"))
    await eventually(lambda: wait_for_locks(2, or_done=archiving))
    go.set()
    await holding
    assert [(await publishing)[0], (await archiving)[0]] == [200, 409]


async def test_of_layout_and_template_published_at_once_a_job_gets_whole_versions(site: Site) -> None:
    old = [await ready(site, "house", **LAYOUT), await ready(site, "order", **ORDER)]
    new = [
        await put(site, "house", **LAYOUT | {"html": "{{ content }}NEW", "text": None, "languages": None}),
        await put(site, "order", **ORDER | {"html": "<p>New {{ order }}</p>", "text": None}),
    ]
    ((status, _), (other, _), *posted) = await asyncio.gather(
        publish(site, new[0], old[0], "house"), publish(site, new[1], old[1], "order"),
        *(site.post(job(**NAMED)) for _ in range(10)),
    )  # fmt: skip
    assert (status, other, {each for each, _ in posted}) == (200, 200, {200})
    found = await site.rows("SELECT template_version, html FROM jobs")
    for version, html in found:
        own, _, layout = version.partition("+")
        assert (own in {old[1], new[1]}, layout in {old[0], new[0]}) == (True, True)
        assert ("New {{ order }}" in html, "NEW" in html) == (own == new[1], layout == new[0])


async def test_a_default_stands_where_nothing_is_given_and_what_is_required_is_asked_for(site: Site) -> None:
    body: dict[str, Any] = {
        "subject": "{{ company }}", "html": "<p>{{ name }}{% if code is defined %} {{ code }}{% endif %}</p>",
        "variables": {"code": "A1"}, "defaults": {"name": "customer", "company": "Acme"}, "required": ["code"],
    }  # fmt: skip
    version = await ready(site, "order", **body)
    people: list[dict[str, Any]] = [
        {"email": "a@example.com", "variables": {"code": 1}},
        {"email": "b@example.com", "name": "Bo", "variables": {"code": 2}},
        {"email": "c@example.com", "variables": {"code": 3, "name": "", "company": "Own"}},
        {"email": "d@example.com"},
        {"email": "e@example.com", "variables": {"code": None}},
    ]
    status, answer = await site.post(job(*people, **NAMED | {"variables": {}}))
    assert (status, fields(answer)) == (
        422, {f"recipients[{n}].variables": "html, line 1: 'code' is undefined" for n in (3, 4)},
    )  # fmt: skip
    id_ = await site.posted(*people, **NAMED | {"variables": {}}, on_invalid="skip")
    await ready(site, "order", version, **body | {"defaults": {"name": "friend", "company": "New"}})
    made = [await shown(site, id_, seq) for seq in (0, 1, 2)]
    assert [(each["subject"], each["html"]) for each in made] == [
        ("Acme", "<p>customer 1</p>"), ("Acme", "<p>Bo 2</p>"), ("Own", "<p> 3</p>"),
    ]  # fmt: skip
    _, answer = await ask(site, "POST", "/order/render", {"variables": {}})
    assert answer["missing"] == ["code"]


async def test_a_folder_has_layouts_too_and_says_so_in_its_file(build: Build, tmp_path: Path) -> None:
    def write(name: str, about: str, **files: str) -> None:
        (tmp_path / name).mkdir()
        (tmp_path / name / "template.toml").write_text(about)
        for part, text in files.items():
            (tmp_path / name / part.replace("_", ".")).write_text(text)

    write("house", 'is_layout = true\n[defaults]\ncompany = "Acme"', body_html="{{ company }}: {{ content }}")
    write("order", 'layout = "house"\n[variables]\norder = 1', subject_txt="x", body_html="<p>{{ order }}</p>")
    write("lost", 'layout = "none"', subject_txt="x", body_html="y")
    write("bad", 'is_layout = true\nrequired = "x"\nlayout = "house"', body_html="y")
    site = await build(templates=tmp_path)
    assert (await shown(site, await site.posted(**NAMED)))["html"] == "Acme: <p>&lt;4&gt;</p>"
    _, listed = await ask(site, "GET", "")
    assert [(it["name"], it["layout"], it["is_layout"]) for it in listed["templates"]] == [
        ("house", None, True), ("order", "house", False),
    ]  # fmt: skip
    wrong = {it["name"]: it["error"] for it in listed["broken"]}
    assert "'none' is not a published layout" in wrong["lost"]
    for each in ("required must be a list", "cannot have a layout", "must contain '{{ content }}' once"):
        assert each in wrong["bad"], each
    version = await put(site, "letter", **ORDER | {"text": None})
    assert (await publish(site, version, None, "letter"))[0] == 200, "a template of the API may have a folder's layout"
