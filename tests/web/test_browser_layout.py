"""The layout in a real browser: keys, the menu of a phone, live updates, and what axe says of every view of it."""

import asyncio

import pytest
from playwright.async_api import Browser, Page, expect

from tests.support.rows import query
from tests.web.browser import SOON, VIEWS, bring_axe, one_browser, page_of, sign_in, site_beside_it, violations
from tests.web.conftest import ConsoleSite
from tests.web.test_browser import fill, watching

pytestmark = pytest.mark.asyncio(loop_scope="module")
OWN = (
    "/",
    "/status",
    "/activity",
    "/activity?action=pause",
    "/keys",
    "/settings",
    "/search?q=r0@",
    "/search",
    "/senders",
)
LOST = ("/nowhere/01M8QEN2AY8CD9D17W80QFNN6D", "/logout")
WIDTHS = (1280, 390)


HEADS = """() => [...document.querySelectorAll('table.stack thead')].map((it) => it.getBoundingClientRect())
    .filter((it) => innerWidth < 700 && it.width > 1 && it.right > 0).map((it) => `${it.width} of ${it.right}`)"""
"""Where a table is a list of cards, its head lies over none of them."""


browser, site = one_browser, site_beside_it


async def test_axe_finds_nothing_on_any_of_these_pages_by_light_width_and_language_and_all_fit(
    site: ConsoleSite, browser: Browser
) -> None:
    key, found = await site.keys.create("shop"), list[str]()
    context = await browser.new_context()
    await bring_axe(context)

    async def look(page: Page, path: str) -> None:
        for theme in ("light", "dark"):
            for language in ("en", "zh"):
                at = f"{path}{'&' if '?' in path else '?'}theme={theme}&lang={language}"
                await page.goto(f"{site.url}{at}")
                for width in WIDTHS:
                    await page.set_viewport_size({"width": width, "height": 844})
                    if await page.evaluate("document.documentElement.scrollWidth") > width:
                        found.append(f"{at} does not fit {width}")
                    found.extend(f"{at} {width}: head {each}" for each in await page.evaluate(HEADS))
                    found.extend(f"{at} {width}: {each}" for each in await violations(page))

    async with page_of(context) as page:
        await look(page, "/login")
        await page.goto(f"{site.url}/login?theme=auto&lang=en")
        await sign_in(page, site.url, key)
        await look(page, "/")  # the three steps
        await fill(site)
        for path in OWN:
            await look(page, path)
    page = await context.new_page()  # a status of 404 is a complaint of the browser
    for path in LOST:
        await look(page, path)
    await context.close()
    assert found == []


async def test_keys_search_begin_a_message_and_go_to_pages_unless_one_types_or_has_them_off(
    site: ConsoleSite, browser: Browser
) -> None:
    await fill(site)
    context = await browser.new_context(**VIEWS["desktop"])
    async with page_of(context) as page:
        await sign_in(page, site.url, await site.keys.create("shop"))
        await page.keyboard.press("g")
        await page.keyboard.press("j")
        await page.wait_for_url("**/jobs")
        await page.keyboard.press("/")
        await expect(page.locator("#search")).to_be_focused()
        await page.keyboard.type("r0@n?gp")
        assert await page.input_value("#search") == "r0@n?gp"
        await page.fill("#search", "r0@")
        await page.keyboard.press("Enter")
        await page.wait_for_url("**/search?q=r0%40")
        await expect(page.locator("main")).to_contain_text("r0@example.org")
        for last, url in (("p", "**/people"), ("o", f"{site.url}/")):
            await page.keyboard.press("g")
            await page.keyboard.press(last)
            await page.wait_for_url(url)
        await page.keyboard.press("?")
        await expect(page.locator("#keys")).to_be_visible()
        await page.uncheck("#keys-on")
        await page.keyboard.press("Escape")
        await page.keyboard.press("n")
        await page.locator("#help").click()
        await page.check("#keys-on")
        await page.locator("#keys button").click()
        await expect(page.locator("#keys")).to_be_hidden()
        assert page.url == f"{site.url}/"
        await page.locator("h1").click()
        await page.keyboard.press("n")
        await page.wait_for_url("**/send**")
    await context.close()


@pytest.mark.parametrize("scripts", ["with scripts", "without scripts"])
async def test_a_phone_has_the_seven_items_in_a_menu_each_large_enough_for_a_finger(
    site: ConsoleSite, browser: Browser, scripts: str
) -> None:
    context = await browser.new_context(
        viewport={"width": 390, "height": 844}, java_script_enabled=scripts == "with scripts"
    )
    async with page_of(context) as page:
        await sign_in(page, site.url, await site.keys.create("shop"))
        await expect(page.locator("nav.main")).to_be_hidden()
        await page.locator("summary", has_text="Menu").click()
        items = page.locator(".menu.phone nav a")
        await expect(items).to_have_count(7)
        for item in await items.all():
            box = await item.bounding_box()
            assert box
            assert (box["height"] >= 44, box["width"] > 300) == (True, True)
        await expect(page.locator(".menu.phone nav [aria-current]")).to_have_text("Overview")
        await items.nth(6).click()
        await page.wait_for_url("**/settings")
        await page.locator("summary", has_text="Menu").click()
        await page.locator(".menu.phone a", has_text="Dark").click()
        await expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    await context.close()


async def test_what_an_action_said_has_the_focus_and_a_command_is_copied_by_its_button(
    site: ConsoleSite, browser: Browser
) -> None:
    job = await fill(site)
    context = await browser.new_context(permissions=["clipboard-read", "clipboard-write"])
    async with page_of(context) as page:
        await sign_in(page, site.url, await site.keys.create("shop"))
        copy = page.locator("main .copy").first
        await copy.click()
        await expect(copy).to_have_text("Copied")
        assert await page.evaluate("navigator.clipboard.readText()") == "mailerd auth login --sender me@example.com"
        await page.goto(f"{site.url}/jobs/{job}")
        await page.locator("button[value=pause]").click()
        await expect(page.locator(".said")).to_be_focused()
    await context.close()


async def test_an_open_page_fetches_itself_once_a_second_at_most_and_not_while_nobody_sees_it(
    site: ConsoleSite, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(site)
    async with watching(site, browser, monkeypatch) as page:
        fetched = list[float]()
        clock = asyncio.get_running_loop().time

        def count(path: str) -> None:
            if path == f"{site.url}/status":
                fetched.append(clock())

        await page.goto(f"{site.url}/status")
        page.on("request", lambda it: count(it.url))
        began = clock()
        while clock() - began < 5:
            await query(site.database, "UPDATE senders SET pause_reason = %s", str(clock()))
            site.daemon.console.live._changed.set()
            await page.wait_for_timeout(50)
        assert 2 <= len(fetched) <= clock() - began + 1
        await page.evaluate(HIDE, True)
        await page.wait_for_timeout(1200)
        before = len(fetched)
        for _ in range(30):
            site.daemon.console.live._changed.set()
            await page.wait_for_timeout(50)
        assert len(fetched) == before
        await page.evaluate(HIDE, False)
        async with page.expect_request(f"{site.url}/status", timeout=SOON):
            site.daemon.console.live._changed.set()


HIDE = """hidden => { Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
    document.dispatchEvent(new Event("visibilitychange")); }"""


async def test_who_comes_back_after_the_session_ended_signs_in_and_is_where_they_were(
    site: ConsoleSite, browser: Browser
) -> None:
    key = await site.keys.create("shop")
    context = await browser.new_context(**VIEWS["desktop"])
    page = await context.new_page()  # what the page asks for by itself meanwhile is refused, and the browser says so
    page.set_default_timeout(SOON)
    await sign_in(page, site.url, key)
    await context.clear_cookies(name="mailerd")
    await page.goto(f"{site.url}/activity?actor=shop")
    await page.fill("#key", key)
    await page.click("button")
    await page.wait_for_url(f"{site.url}/activity?actor=shop")
    await context.close()
