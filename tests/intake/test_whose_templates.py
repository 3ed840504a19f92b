"""A template of the API belongs to the senders of who made it: another key finds none of it, whatever it asks."""

from pathlib import Path
from typing import Any, Final

import pytest

from mailerd.store.write import templates
from mailerd.store.write.api_keys import Permission
from tests.intake.site import Build, Site, job
from tests.intake.test_templates import GOOD, ask

A, B = "a@example.com", "b@example.com"
WHO: Final = {"a": {A}, "b": {B}, "both": {A, B}, "all": None}
LAYOUT: Final = {"subject": "", "html": "<p>{{ content }}</p>", "is_layout": True, "variables": {}}
GIVEN: Final = [Permission.SEND, Permission.READ, Permission.TEMPLATES]


@pytest.fixture
async def keys(site: Site) -> dict[str, str]:
    return {who: await site.keys.create(who, senders=senders, permissions=GIVEN) for who, senders in WHO.items()}


async def made(site: Site, key: str, name: str, **changes: Any) -> str:
    """A published template of a key; its version."""
    status, answer = await ask(site, "PUT", f"/{name}", {**GOOD, **changes}, key)
    assert status == 200, answer
    version = str(answer["version"])
    status, answer = await ask(site, "POST", f"/{name}/publish", {"version": version, "expect": None}, key)
    assert status == 200, answer
    return version


async def names(site: Site, key: str) -> set[str]:
    _, found = await ask(site, "GET", "", key=key)
    return {each["name"] for each in found["templates"]} | set(found["drafts"])


async def posted(site: Site, key: str, sender: str, name: str) -> tuple[int, Any]:
    body = job(sender_email=sender, template=None, template_name=name, variables={"order": 1})
    return await site.post(body, headers={"X-API-Key": key})


@pytest.mark.parametrize("owner, seen_by, changed_by", [
    ("a", {"a", "both", "all"}, {"a", "both", "all"}), ("both", {"a", "b", "both", "all"}, {"both", "all"}),
    ("all", {"a", "b", "both", "all"}, {"all"}),
])  # fmt: skip
async def test_a_key_uses_what_belongs_to_its_senders_or_to_all_and_changes_its_own(
    site: Site, keys: dict[str, str], owner: str, seen_by: set[str], changed_by: set[str]
) -> None:
    version = await made(site, keys[owner], "order")
    for who, key in keys.items():
        sees, sender = who in seen_by, B if who == "b" else A
        assert ("order" in await names(site, key)) is sees, who
        for path in ("/order", "/order/versions", f"/order/versions/{version}"):
            assert (await ask(site, "GET", path, key=key))[0] == (200 if sees else 404), (who, path)
        assert (await ask(site, "POST", "/order/render", {}, key))[0] == (200 if sees else 404), who
        status, answer = await posted(site, key, sender, "order")
        assert status == (200 if sees else 422), (who, answer)
        if not sees:
            assert answer == (await posted(site, key, sender, "order"))[1]
            none = str((await posted(site, key, sender, "none"))[1]["error"]["details"])
            assert none.replace("'none'", "'order'") == str(answer["error"]["details"]), "as if there were none"
        if who not in changed_by:
            refused = 403 if sees else 404
            other = {"version": "0" * 16, "expect": version}
            assert (await ask(site, "PUT", "/order", {**GOOD, "text": "theirs"}, key))[0] == (403 if sees else 409)
            assert (await ask(site, "POST", "/order/publish", {**other, "version": version}, key))[0] == refused
            assert (await ask(site, "POST", "/order/publish", other, key))[0] == 404
            assert (await ask(site, "DELETE", "/order", key=key))[0] == refused, who
    for who in changed_by:
        _, answer = await ask(site, "PUT", "/order", {**GOOD, "text": f"{who} {{{{ order }}}}"}, keys[who])
        given = {"version": answer["version"], "expect": version}
        assert (await ask(site, "POST", "/order/publish", given, keys[who]))[0] == 200
        version = answer["version"]
    _, shown = await ask(site, "GET", "/order", key=keys["a"])
    assert shown["senders"] == (None if owner == "all" else [A]), "of another's sender it says nothing"
    assert len(await site.rows("SELECT version FROM template_versions")) == 1 + len(changed_by)


async def test_a_name_that_is_taken_stays_taken_once_its_template_is_archived_and_says_nothing_more(
    site: Site, keys: dict[str, str]
) -> None:
    version = await made(site, keys["b"], "order", text="secret of b")
    for state in ("published", "archived"):
        status, answer = await ask(site, "PUT", "/order", GOOD, keys["a"])
        assert (status, answer["error"]["code"]) == (409, "conflict"), state
        assert answer["error"]["message"] == "the name 'order' is taken; choose another. Nothing was stored"
        assert (await ask(site, "DELETE", "/order", key=keys["b"]))[0] == (200 if state == "published" else 404)
    assert (await ask(site, "PUT", "/order", {**GOOD, "text": "secret of b"}, keys["b"]))[1]["version"] == version
    later = await site.keys.create("later", senders=[B], permissions=GIVEN)  # a key's senders never change
    assert "order" in await names(site, later)


async def test_one_key_uses_up_no_places_of_others_and_ends_nothing_that_they_archived(
    site: Site, keys: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(templates, "MAX_OWN", 2)
    monkeypatch.setattr(templates, "MAX_NAMES", 6)
    await made(site, keys["b"], "kept")
    await ask(site, "DELETE", "/kept", key=keys["b"])
    for name in ("one", "two", "three"):
        status, answer = await ask(site, "PUT", f"/{name}", GOOD, keys["a"])
        assert status == (409 if name == "three" else 200), answer
        if status == 409:
            said = answer["error"]["message"]
            assert said == "the limit of 2 templates of these senders is reached; delete one"
    await ask(site, "DELETE", "/one", key=keys["a"])
    assert (await ask(site, "PUT", "/three", GOOD, keys["a"]))[0] == 200, "its own archived one makes place"
    for who, name, expected in (("b", "four", 200), ("both", "five", 200), ("all", "six", 200), ("both", "seven", 409)):
        assert (await ask(site, "PUT", f"/{name}", GOOD, keys[who]))[0] == expected, name
    assert (await ask(site, "PUT", "/kept", GOOD, keys["b"]))[0] == 200, "nobody else's new one took its place"
    await ask(site, "DELETE", "/kept", key=keys["b"])
    assert (await ask(site, "PUT", "/seven", GOOD, keys["all"]))[0] == 200
    assert ("kept",) not in await site.rows("SELECT name FROM templates")


async def test_a_layout_is_used_by_templates_of_its_own_senders_alone(build: Build, tmp_path: Path) -> None:
    folder = tmp_path / "welcome"
    folder.mkdir()
    (folder / "template.toml").write_text('layout = "frame"')
    (folder / "subject.txt").write_text("Hello")
    (folder / "body.html").write_text("<p>Hello</p>")
    site = await build(templates=tmp_path)
    keys = {who: await site.keys.create(who, senders=senders, permissions=GIVEN) for who, senders in WHO.items()}
    await made(site, keys["a"], "frame", **LAYOUT | {"html": "<p>a's</p>{{ content }}"})
    status, answer = await ask(site, "PUT", "/order", {**GOOD, "layout": "frame"}, keys["b"])
    assert (status, answer["error"]["details"][0]["field"]) == (422, "layout")
    await made(site, keys["a"], "order", layout="frame")
    for who in ("both", "all"):  # others than a@ would use it
        status, answer = await ask(site, "PUT", f"/{who}", {**GOOD, "layout": "frame"}, keys[who])
        given = {"version": answer["version"], "expect": None}
        status, answer = await ask(site, "POST", f"/{who}/publish", given, keys[who])
        assert status == 409, answer
        assert "'frame' is not a published layout of all senders of this template" in answer["error"]["message"]
    for who in ("a", "all"):  # what is everybody's is not put into what a@ alone can change
        status, answer = await posted(site, keys[who], A, "welcome")
        assert (status, "'frame' is not a published layout" in str(answer)) == (422, True), who
    await ask(site, "DELETE", "/order", key=keys["a"])
    assert (await ask(site, "DELETE", "/frame", key=keys["b"]))[0] == 404
    assert (await ask(site, "DELETE", "/frame", key=keys["a"]))[0] == 200
