"""The site of the documents in a real browser: at both widths, dark and Chinese; its policy, and what axe says."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from playwright.async_api import Browser, expect

from mailerd.cli.manual import markdown
from tests.intake.site import Build, Site
from tests.web.browser import VIEWS, bring_axe, chromium, page_of, violations

PAGES = [
    "/docs", "/docs/how-to/troubleshooting", "/docs/reference/events", "/docs/reference/commands",
    "/docs/reference/configuration", "/docs/internals/architecture",
    "/docs/api", "/docs/api/jobs", "/docs/api/webhooks",
    "/docs/search?q=backup", "/docs/search?q=",
]  # fmt: skip


@pytest_asyncio.fixture
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as it:
        yield it


@pytest.fixture
async def site(build: Build) -> Site:
    return await build(commands=markdown)


@pytest.mark.parametrize("view", ["desktop", "phone, dark, Chinese"])
async def test_every_page_fits_its_window_keeps_nobody_out_and_violates_no_policy(
    site: Site, browser: Browser, view: str
) -> None:
    context = await browser.new_context(**VIEWS[view])
    await bring_axe(context)
    found = list[str]()
    async with page_of(context) as page:
        for path in PAGES:
            answer = await page.goto(f"{site.url}{path}")
            assert answer is not None
            assert (path, answer.status) == (path, 200)
            width = await page.evaluate("document.documentElement.scrollWidth")
            assert (path, width) == (path, VIEWS[view]["viewport"]["width"])
            found += await violations(page)
    assert found == []
    await context.close()


async def test_an_example_is_copied_by_its_button(site: Site, browser: Browser) -> None:
    context = await browser.new_context(permissions=["clipboard-read", "clipboard-write"], locale="en")
    async with page_of(context) as page:
        await page.goto(f"{site.url}/docs/api/templates")
        await page.get_by_role("button", name="Copy").first.click()
        await expect(page.get_by_role("button", name="Copied")).to_be_visible()
        copied = await page.evaluate("navigator.clipboard.readText()")
    assert copied == f'curl -H "X-API-Key: $KEY" "{site.url}/api/templates"'
    await context.close()


async def test_without_scripts_one_searches_and_opens_what_was_found(site: Site, browser: Browser) -> None:
    context = await browser.new_context(**VIEWS["without scripts"])
    async with page_of(context) as page:
        await page.goto(f"{site.url}/docs")
        await page.get_by_role("searchbox").fill("restore")
        await page.get_by_role("searchbox").press("Enter")
        await page.locator(".hits a").first.click()
        assert "/docs/how-to/" in page.url
        assert await page.get_by_role("button", name="Copy").count() == 0
    await context.close()


async def test_the_language_switches_each_time_and_holds_on_the_page_before(site: Site, browser: Browser) -> None:
    context = await browser.new_context(locale="en")
    async with page_of(context) as page:
        for path in ("/docs", "/docs/how-to/backup"):
            await page.goto(f"{site.url}{path}")
        for code, other in (("zh-CN", "中文"), ("en", "English")) * 2:
            await page.get_by_role("link", name=other, exact=True).first.click()
            for path in ("/docs", "/docs/how-to/backup"):
                await page.goto(f"{site.url}{path}")
                await expect(page.locator("html")).to_have_attribute("lang", code)
    await context.close()
