"""The console's pages of suppressions and lists, as keys of some senders see and use them."""

import re

import aiohttp
import pytest

from mailerd.core.suppression import EVERYTHING, Channel, Reason
from mailerd.store.write.api_keys import Permission
from mailerd.store.write.suppressions import NewSuppression, Suppressions
from tests.support.rows import post, query
from tests.web.conftest import ConsoleSite
from tests.web.test_new_message import WRITTEN, ask, begun

ALICE, BORIS = "alice@shop.example", "boris@shop.example"
LIMITED = (Permission.SEND, Permission.READ, Permission.SUPPRESS)
STILL = "Suppression ended. Another one still keeps these messages from the address."
PAGES = ("/suppressions", "/suppressions.csv", "/people?email=ada@example.com", "/suppressions?email=ada@example.com")


async def get(browser: aiohttp.ClientSession, path: str, *, status: int = 200) -> str:
    async with browser.get(path) as answer:
        assert answer.status == status, await answer.text()
        return await answer.text()


async def do(browser: aiohttp.ClientSession, path: str = "/suppressions", *, status: int = 200, **form: str) -> str:
    async with browser.post(path, data={"email": "ada@example.com", **form}) as answer:
        text = await answer.text()
        assert answer.status == status, text
        return text


async def import_(browser: aiohttp.ClientSession, table: bytes, *, status: int, name: str = "") -> str:
    form = aiohttp.FormData({"action": "import", "list": name})
    form.add_field("table", table, filename="out.csv", content_type="text/csv")
    async with browser.post("/suppressions", data=form) as answer:
        text = await answer.text()
        assert answer.status == status, text
        return text


@pytest.fixture
async def browsers(site: ConsoleSite) -> tuple[aiohttp.ClientSession, ...]:
    """Of Alice, of Boris, and of somebody with a key without limits; ada has had a message of each of the two."""
    for sender in (ALICE, BORIS):
        await post(site.database, sender=sender, recipients=["ada@example.com"])
    alice, boris = [await site.signed_in(it, senders=[it], permissions=LIMITED) for it in (ALICE, BORIS)]
    return alice, boris, await site.signed_in()


async def bounced(site: ConsoleSite, *origins: str, reason: Reason = Reason.HARD_BOUNCE) -> None:
    store = await Suppressions.open(site.database, timeout=5)
    digest = store.digest("ada@example.com")
    await store.add([
        NewSuppression(digest, EVERYTHING, reason, Channel.NOTICE, "ada@example.com", detail=f"to {it}", origin=it)
        for it in origins
    ])  # fmt: skip


async def test_each_page_shows_what_is_the_keys_own(
    site: ConsoleSite, browsers: tuple[aiohttp.ClientSession, ...]
) -> None:
    alice, boris, all_ = browsers
    await bounced(site, ALICE, BORIS)
    await do(all_, "/lists", list="all")
    await do(alice, "/lists", list="of-alice", title="Of Alice")
    for browser in browsers:
        await do(browser, action="add", list="all")
    actors = {browser: f"key:{name} via console" for browser, name in ((alice, ALICE), (boris, BORIS), (all_, "shop"))}
    for path in PAGES:
        its = {browser: await get(browser, path) for browser in browsers}
        for browser, other, sender, others in ((alice, boris, ALICE, BORIS), (boris, alice, BORIS, ALICE)):
            assert sender in its[browser]
            assert f"to {others}" not in its[browser]
            if path != "/suppressions.csv":
                assert [text in its[browser] for text in (actors[browser], actors[other], actors[all_])] == [
                    True, False, False
                ]  # fmt: skip
        assert all(sender in its[all_] for sender in (ALICE, BORIS))
    for path in ("/lists", "/people?email=ada@example.com", "/suppressions"):
        shown = [re.search(r"\bof-alice\b", await get(browser, path)) is not None for browser in browsers]
        assert shown == [True, False, True], path
    assert f"Belongs to {ALICE}" in await get(all_, "/lists")
    assert "No list of this name" in await get(boris, "/suppressions?list=of-alice")
    await get(boris, "/suppressions.csv?list=of-alice", status=404)


async def test_a_key_ends_the_one_of_its_row_and_is_told_what_is_left(
    site: ConsoleSite, browsers: tuple[aiohttp.ClientSession, ...]
) -> None:
    alice, boris, all_ = browsers
    await bounced(site, ALICE, BORIS, "")
    assert "Nothing was changed." in await do(alice, action="remove", list="", origin=BORIS)
    assert STILL in await do(alice, action="remove", list="", origin=ALICE)
    assert STILL in await do(all_, action="remove", list="", origin=BORIS), "whoever ends one ends no other"
    assert "Nothing was changed." in await do(boris, action="remove", list="")
    assert await query(site.database, "SELECT origin FROM suppressions") == [("",)]
    page = await do(all_, action="remove", list="", origin="", to="person")
    assert "Suppression ended." in page
    assert STILL not in page
    await bounced(site, ALICE)
    for path in ("/suppressions", "/people?email=ada@example.com"):
        assert re.findall(r'name="origin" value="([^"]*)"', await get(all_, path)) == [ALICE], (
            "as the page's button says"
        )


async def test_what_binds_everybody_is_left_to_a_key_without_limits(
    site: ConsoleSite, browsers: tuple[aiohttp.ClientSession, ...]
) -> None:
    alice, _, all_ = browsers
    await do(all_, "/lists", list="all")
    said = "A key for some senders suppresses an address for a list only"
    assert said.lower() in (await do(alice, action="add", list="", status=403)).lower()
    assert said.lower() in (await import_(alice, b"email,list\nada@example.com,\n", status=403)).lower()
    for path in ("/suppressions", "/people?email=ada@example.com"):
        assert "All lists" not in await get(alice, path)
        assert "All lists" in await get(all_, path)
    assert await query(site.database, "SELECT COUNT(*) FROM suppressions") == [(0,)]
    assert "1 address read, 1 newly suppressed." in await import_(alice, b"ada@example.com\n", name="all", status=200)
    await bounced(site, ALICE, reason=Reason.UNSUBSCRIBED)
    for path in ("/suppressions", "/people?email=ada@example.com"):
        assert (await get(alice, path)).count('value="remove"') == 1, "of the list's, and not of the person's wish"
        assert (await get(all_, path)).count('value="remove"') == 2
    refused = await do(alice, action="remove", list="", origin=ALICE, status=403)
    assert "this person has asked for no messages at all" in refused
    assert "Suppression ended." in await do(all_, action="remove", list="", origin=ALICE)


async def test_another_ones_list_is_neither_made_nor_called_otherwise(
    site: ConsoleSite, browsers: tuple[aiohttp.ClientSession, ...]
) -> None:
    alice, boris, all_ = browsers
    await do(alice, "/lists", list="of-alice")
    await do(all_, "/lists", list="all")
    taken = "the name &#39;of-alice&#39; is taken; choose another."
    assert taken in await do(boris, "/lists", list="of-alice", title="Of Boris", status=422)
    assert taken in await import_(boris, b"ada@example.com\n", name="of-alice", status=422)
    assert "this list does not exist" in await do(boris, action="add", list="of-alice")
    others = "list &#39;all&#39; belongs to other senders, too"
    assert others in await do(boris, "/lists", list="all", title="Of Boris", status=422)
    assert await query(site.database, "SELECT name, title FROM lists ORDER BY name") == [
        ("all", None), ("of-alice", None)
    ]  # fmt: skip
    assert await query(site.database, "SELECT COUNT(*) FROM suppressions") == [(0,)]


async def test_a_new_message_offers_and_takes_no_list_of_another(browsers: tuple[aiohttp.ClientSession, ...]) -> None:
    alice, boris, _ = browsers
    await do(alice, "/lists", list="of-alice")
    await do(alice, action="add", list="of-alice")
    drafts = {browser: await begun(browser, "email,name,product\nada@example.com,Ada,Tea\n") for browser in browsers}
    offered = [
        re.search(r"\bof-alice\b", await get(it, f"{draft}/message")) is not None for it, draft in drafts.items()
    ]
    assert offered == [True, False, True]
    taken = "is taken; choose another"
    form = WRITTEN | {"sender": BORIS, "action": "new-list", "new_list": "of-alice"}
    assert taken in (await ask(boris, f"{drafts[boris]}/message", 422, **form))[1]
    for browser, sender, status in ((alice, ALICE, 200), (boris, BORIS, 422)):
        form = WRITTEN | {"sender": sender, "list": "of-alice", "action": "next"}
        _, review = await ask(browser, f"{drafts[browser]}/message", status, **form)
        assert (taken in review, "1 recipient is suppressed" in review) == (browser is boris, browser is alice)
