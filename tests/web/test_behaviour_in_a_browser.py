"""What holds for every page, in a real browser: one time zone, where the focus is, and what it says while it waits."""

import asyncio
from dataclasses import replace

import pytest
from playwright.async_api import Browser, Route, expect

from mailerd.sandbox.mariadb import Server
from tests.support.rows import post, query
from tests.web.browser import VIEWS, one_browser, page_of, sign_in, site_beside_it
from tests.web.conftest import ConsoleSite
from tests.web.test_browser import fill, places, watching

pytestmark = pytest.mark.asyncio(loop_scope="module")
browser, site = one_browser, site_beside_it
TABLE = "email,name\nada@example.com,Ada\n"
ZONES = """() => { for (const it of document.querySelectorAll("details")) it.open = true;
    return [document.body.innerText, ...[...document.querySelectorAll("[title], svg title")]
        .map(it => it.getAttribute("title") || it.textContent)].filter(text => text.includes("UTC")); }"""
BAR = """it => { const bar = getComputedStyle(it, "::before"); return [bar.content, bar.position, bar.opacity]; }"""


async def test_no_page_has_a_second_time_zone(site: ConsoleSite, browser: Browser) -> None:
    paths, later, found = places(await fill(site)), await post(site.database), list[str]()
    await query(site.database, "UPDATE jobs SET send_at = UTC_TIMESTAMP(6) + INTERVAL 3 DAY WHERE id = %s", later)
    context = await browser.new_context(**VIEWS["desktop"], timezone_id="Asia/Shanghai")
    async with page_of(context) as page:
        await sign_in(page, site.url, await site.keys.create("shop"))
        for path in (*paths, f"/jobs/{later}"):
            await page.goto(f"{site.url}{path}")
            found += [f"{path}: {text}" for text in await page.evaluate(ZONES)]
            assert "Asia/Shanghai" in await page.locator("#zone").inner_text()
    await context.close()
    assert found == []


async def test_the_focus_goes_to_the_error_or_the_heading_and_what_takes_long_is_seen(
    site: ConsoleSite, browser: Browser
) -> None:
    await fill(site)
    context, go_on = await browser.new_context(**VIEWS["desktop"]), asyncio.Event()

    async def later(route: Route) -> None:
        await go_on.wait()
        await route.continue_()

    async with page_of(context) as page:
        await sign_in(page, site.url, await site.keys.create("shop"))
        await page.goto(f"{site.url}/send")
        assert await page.evaluate("document.activeElement.tagName") == "BODY"
        await page.locator("details:has(#pasted) summary").click()
        await page.fill("#pasted", TABLE)
        await page.click("main form button.primary")
        await page.wait_for_url("**/people")
        await expect(page.locator("h1")).to_be_focused()
        await page.click('button[value="next"]')
        await page.wait_for_url("**/message")
        await expect(page.locator("h1")).to_be_focused()
        form = page.locator("form#message")
        assert await form.evaluate(BAR) == ["none", "static", "1"]
        await page.route("**/message", later)
        await page.fill("#reference", "Autumn")
        await expect(form).to_have_class("panel htmx-request")
        await page.wait_for_function(
            "() => getComputedStyle(document.getElementById('message'), '::before').opacity == 1"
        )
        assert await form.evaluate(BAR) == ['""', "fixed", "1"]
        go_on.set()
        await expect(form).to_have_class("panel")
        await page.unroute("**/message")
    await context.close()
    context = await browser.new_context(**VIEWS["desktop"], reduced_motion="reduce", forced_colors="active")
    page = await context.new_page()  # a status of 422 is a complaint of the browser
    await sign_in(page, site.url, await site.keys.create("office"))
    await page.goto(f"{site.url}/send")
    await page.locator("details:has(#pasted) summary").click()
    await page.fill("#pasted", "no table")
    await page.click("main form button.primary")
    await expect(page.locator("main [role=alert]").first).to_be_focused()
    await page.goto(f"{site.url}/jobs")
    assert await page.evaluate("document.getAnimations().length") == 0
    edges = "it => [getComputedStyle(it).borderTopStyle, getComputedStyle(it).borderTopWidth]"
    assert await page.locator(".badge").first.evaluate(edges) == ["solid", "1px"]
    await context.close()


async def test_while_the_database_is_frozen_the_last_page_stays_grey_and_says_of_when_it_is(
    site: ConsoleSite, browser: Browser, mariadb: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, services = await post(site.database), site.daemon.console.services
    services.sessions = replace(services.sessions, timeout=1)
    async with watching(site, browser, monkeypatch) as page:
        await page.goto(f"{site.url}/jobs")
        await expect(page.locator(f"#job-{job}")).to_be_visible()
        mariadb.freeze()
        try:
            await expect(page.locator("#stale")).to_contain_text("As of ")
            await expect(page.locator(f"#job-{job}")).to_be_visible()
            assert "grayscale(1)" in await page.locator("main").evaluate("it => getComputedStyle(it).filter")
        finally:
            mariadb.thaw()
        await query(site.database, "SELECT 1")  # as a loop of the daemon does
        await expect(page.locator("#stale")).to_be_hidden()
