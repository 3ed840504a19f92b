"""A form that comes after its session has ended: shown to its key after the sign-in, and sent by its person only."""

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from mailerd.web.frame import held_forms
from mailerd.web.frame.guards import COOKIE
from tests.support.eventually import eventually
from tests.support.rows import post, query
from tests.web.conftest import ConsoleSite
from tests.web.test_actions import ask

NOTE = "<b>back on Monday</b>\nuntil 9"


async def expire(site: ConsoleSite) -> None:
    await query(site.database, "UPDATE sessions SET seen_at = UTC_TIMESTAMP(6) - INTERVAL 13 HOUR")


async def sign_in(browser: aiohttp.ClientSession, secret: str, path: str = "/login") -> tuple[str, str]:
    """The page that one comes to, and its text."""
    async with browser.post(path, data={"key": secret}) as answer:
        return answer.url.path_qs, await answer.text()


def fields_of(page: str) -> list[tuple[str, str]]:
    return re.findall(r'<input type="hidden" name="([^"]*)" value="([^"]*)">', page)


async def test_a_form_after_the_session_is_shown_again_after_the_sign_in_and_does_nothing_before_it_is_pressed(
    site: ConsoleSite,
) -> None:
    job, secret = await post(site.database), await site.keys.create("shop")
    browser, page = await site.sign_in(secret), f"/jobs/{job}"
    await expire(site)
    async with browser.post(page, data={"action": "priority", "priority": "7", "note": NOTE}) as answer:
        assert answer.url.path_qs == f"/login?next=/jobs/{job}"
        assert "Your session has ended." in await answer.text()
    path, text = await sign_in(browser, secret, f"/login?next={page}")
    assert path == "/again"
    assert "Form not sent" in text
    assert f'<form class="panel" method="post" action="{page}"' in text
    shown = [("action", "priority"), ("priority", "7"), ("note", NOTE.replace("<", "&lt;").replace(">", "&gt;"))]
    assert fields_of(text) == shown
    assert await query(site.database, "SELECT priority FROM jobs") == [(0,)]
    async with browser.get("/again") as answer:  # a reload loses nothing
        assert fields_of(await answer.text()) == shown
    await ask(browser, page, action="priority", priority="7", note=NOTE)
    assert await query(site.database, "SELECT priority FROM jobs") == [(7,)]
    async with browser.get("/again") as answer:  # what was sent is not offered once more
        assert answer.url.path == "/"
    await expire(site)
    large = {"kind": "write", "body": "x" * 300_000, "table": b"email\na@b.example\n"}
    form = aiohttp.FormData(quote_fields=False)
    for name, value in large.items():
        form.add_field(name, value, filename="people.csv" if name == "table" else None)
    async with browser.post("/send", data=form, headers={"HX-Request": "true"}) as answer:
        assert (answer.status, answer.headers["HX-Redirect"]) == (401, "/login?next=%2Fsend")
    path, text = await sign_in(browser, secret)
    assert path == "/again"
    assert fields_of(text) == [("kind", "write"), ("body", "x" * 300_000)]
    assert "Files are not kept." in text


async def test_nothing_of_a_form_is_shown_to_another_key_or_kept_of_a_stranger(
    site: ConsoleSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, secret = await post(site.database), await site.keys.create("shop")
    other, held = await site.keys.create("other"), site.daemon.console._sign_in.held
    browser, form = await site.sign_in(secret), {"action": "cancel", "note": NOTE}

    async def lose(cookie: str | None = None, **more: Any) -> int:
        """A form of a session that has ended; how many are held then."""
        more = {"data": form} | more
        cookies = {COOKIE: cookie} if cookie else None
        async with browser.post(f"/jobs/{job}", cookies=cookies, allow_redirects=False, **more) as answer:
            assert answer.status in {303, 403}
        return len(held._forms)

    await expire(site)
    foreign = {"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"}
    assert [await lose(headers=foreign), await lose(headers={"Sec-Fetch-Site": "same-site"})] == [0, 0]
    assert await lose(data=b"\xff=%ff", headers={"Content-Type": "application/x-www-form-urlencoded"}) == 0
    assert await lose(cookie="x" * 43) == 0
    assert await lose() == 1
    path, text = await sign_in(browser, other, "/login?next=//evil.example/")
    assert (path, "back on Monday" in text) == ("/", False)
    async with browser.get("/again") as answer:
        assert (answer.url.path, "back on Monday" in await answer.text()) == ("/", False)
    assert len(held._forms) == 0
    browser = await site.sign_in(secret)
    await expire(site)
    monkeypatch.setattr(held_forms, "MAX_HELD_FORM", 1000)
    assert await lose(data=aiohttp.FormData({"note": "x" * 2000})) == 0
    path, text = await sign_in(browser, secret, f"/login?next=/jobs/{job}")
    assert (path, "What you entered was not saved" in text) == (f"/jobs/{job}", True)
    monkeypatch.setattr(held_forms, "HELD_FOR", -1.0)
    await expire(site)
    assert await lose() == 1
    assert (await sign_in(browser, secret))[0] == "/"  # it came too long ago
    monkeypatch.setattr(held_forms, "HELD_FOR", 900.0)
    monkeypatch.setattr(held_forms, "MAX_OF_KEY", 2)
    for _ in range(3):
        browser = await site.sign_in(secret)
        await expire(site)
        await lose()
    assert len(held._forms) == 2
    async with browser.post("/logout"):
        pass
    assert await query(site.database, "SELECT status FROM jobs") == [("queued",)]


async def test_forms_that_come_slowly_cost_no_other_key_its_own(site: ConsoleSite) -> None:
    evil, good, held = await site.signed_in("evil"), await site.signed_in("good"), site.daemon.console._sign_in.held
    job = await post(site.database)
    await expire(site)

    async def for_ever() -> AsyncIterator[bytes]:
        yield b"a=1"
        await asyncio.Event().wait()

    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    slow = [asyncio.ensure_future(evil.post("/send", data=for_ever(), headers=kind)) for _ in range(6)]
    await eventually(lambda: asyncio.sleep(0, held._reading.total() == held_forms.MAX_OF_KEY))
    async with good.post(f"/jobs/{job}", data={"action": "cancel", "note": NOTE}, allow_redirects=False) as answer:
        assert answer.status == 303
    assert len(held._forms) == 1
    for each in slow:
        each.cancel()
    for ended in await asyncio.gather(*slow, return_exceptions=True):
        if isinstance(ended, aiohttp.ClientResponse):
            ended.close()
