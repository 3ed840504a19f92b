"""`GET /api/search`: jobs and people by a part of what a person remembers of them."""

from typing import Any

import pytest

from mailerd.store.read import lookup
from tests.intake.site import Site


async def find(site: Site, text: str, **options: Any) -> Any:
    params = {"q": text, **options.pop("params", {})}
    status, answer = await site.get("/api/search", params=params, **options)
    assert status == 200, answer
    return answer


def person(email: str, name: str | None = None) -> dict[str, Any]:
    return {"email": email, "variables": {"name": "x"}, **({"name": name} if name else {})}


async def test_a_job_is_found_by_its_id_its_reference_and_a_part_of_its_subject(site: Site) -> None:
    id_ = await site.posted(reference="order-17_a", template={"subject": "Über 100% Rabatt", "text": "Hi"})
    other = await site.posted(reference="order-17xa", template={"subject": "Etwas", "text": "Hi"})
    for text in (id_, id_.lower(), "order-17_", "über 100% r", "100%"):
        found = await find(site, text)
        assert [it["job_id"] for it in found["jobs"]["items"]] == [id_], text
    both = await find(site, "order-17")
    assert [it["job_id"] for it in both["jobs"]["items"]] == [other, id_]
    assert both["jobs"]["complete"] is True
    assert both["jobs"]["back_to"] is None
    assert both["jobs"]["items"][1]["subject"] == "Über 100% Rabatt"


async def test_a_person_is_found_by_the_beginning_of_the_address_a_name_or_a_messages_id(site: Site) -> None:
    await site.posted(person("a.da@gmail.com", "Ada Lovelace"), person("bob@example.com", "李白"))
    newest = await site.posted(person("ADA@googlemail.com", "Ada L."))
    ((message,),) = await site.rows("SELECT id FROM job_recipients WHERE to_email = 'bob@example.com'")
    for text in ("ada", "a.da@gmail.com", "Ada@GoogleMail.com"):
        found = await find(site, text)
        assert [(it["email"], it["job_id"]) for it in found["people"]["items"]] == [("ADA@googlemail.com", newest)]
    for text in ("bob@ex", "李白", "李", str(message)):
        found = await find(site, text)
        assert [it["email"] for it in found["people"]["items"]] == ["bob@example.com"], text


async def test_a_key_for_certain_senders_finds_only_theirs(site: Site) -> None:
    mine = await site.posted(person("ada@example.com", "Ada"), sender_email="me@example.com", reference="order-1")
    theirs = await site.posted(person("ada.b@example.com", "Ada"), sender_email="you@example.com", reference="order-2")
    key = await site.keys.create("mine", senders=["me@example.com"])
    as_mine = {"headers": {"X-API-Key": key}}
    for text in ("order-", "Hello", mine, theirs):
        found = await find(site, text, **as_mine)
        assert theirs not in {it["job_id"] for it in found["jobs"]["items"]}, text
    assert [it["job_id"] for it in (await find(site, "order-", **as_mine))["jobs"]["items"]] == [mine]
    for text in ("ada", "Ada"):
        found = await find(site, text, **as_mine)
        assert [it["email"] for it in found["people"]["items"]] == ["ada@example.com"]
    ((hidden,),) = await site.rows("SELECT id FROM job_recipients WHERE job_id = %s", theirs)
    assert (await find(site, str(hidden), **as_mine))["people"]["items"] == []


async def test_what_was_not_looked_at_is_said(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_BY_SUBJECT", "_OLDEST_JOB", "_BY_NAME", "_OLDEST_NAME"):
        statement = getattr(lookup, name)
        for most in (lookup.MAX_JOBS, lookup.MAX_NAMES):
            statement = statement.replace(str(most), "1")
        monkeypatch.setattr(lookup, name, statement)
    old = await site.posted(person("ada@example.com", "Grace"), template={"subject": "Alpha", "text": "Hi"})
    await site.posted(person("bob@example.com", "Bob"), template={"subject": "Beta", "text": "Hi"})
    _, told = await site.get(f"/api/jobs/{old}")
    found = await find(site, "Alpha")
    assert (found["jobs"]["items"], found["jobs"]["complete"]) == ([], False)
    assert found["jobs"]["back_to"] == told["created_at"]
    found = await find(site, "Grace")
    assert (found["people"]["items"], found["people"]["complete"]) == ([], False)
    assert found["people"]["back_to"] == told["created_at"]


async def test_what_another_tenant_fills_the_beginning_with_is_said(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("_BY_ADDRESS", "_BY_REFERENCE", "_MORE_ADDRESSES", "_MORE_REFERENCES"):
        monkeypatch.setattr(lookup, name, getattr(lookup, name).replace(str(lookup.MAX_PREFIX), "2"))
    for number in range(3):
        await site.posted(person(f"user{number}@example.com"), sender_email="you@example.com", reference=f"r-x{number}")
    await site.posted(person("userz@example.com"), reference="r-xz")
    key = await site.keys.create("mine", senders=["me@example.com"])
    for text, group in (("user", "people"), ("r-x", "jobs")):
        found = await find(site, text, headers={"X-API-Key": key})
        assert (found[group]["items"], found[group]["complete"]) == ([], False)
        longer = await find(site, f"{text}z", headers={"X-API-Key": key})
        assert (len(longer[group]["items"]), longer[group]["complete"]) == (1, True)


async def test_more_than_the_limit_is_not_complete(site: Site) -> None:
    for number in range(3):
        await site.posted(reference=f"order-{number}")
    found = await find(site, "order-", params={"limit": "2"})
    assert (len(found["jobs"]["items"]), found["jobs"]["complete"]) == (2, False)


@pytest.mark.parametrize("text", ["", "ab", "  ", "x" * 101])
async def test_a_text_that_is_no_search_is_refused(site: Site, text: str) -> None:
    status, answer = await site.get("/api/search", params={"q": text})
    assert (status, [it["field"] for it in answer["error"]["details"]]) == (422, ["q"])


async def test_signs_of_patterns_are_signs(site: Site) -> None:
    await site.posted(reference="plain")
    for text in ("%%%", "___", "|||", "\\\\\\", "pl%in"):
        assert (await find(site, text))["jobs"]["items"] == [], text
