"""Chromium of the system, and a page that fails its test when the policy is violated or a script breaks."""

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Page, async_playwright, expect

from tests.support.heard import PATIENCE
from tests.web.conftest import ConsoleSite, console_site

AXE = Path(__file__).parent / "vendor" / "axe.min.js"
# All that axe has seen is a tree of 50,000 characters, which takes longer to hand over than to make.
_AUDIT = """async () => {
    const {violations} = await axe.run(document, {resultTypes: ['violations'], iframes: false});
    return violations.map(each => `${each.impact} ${each.id}: ${each.nodes[0].html.slice(0, 160)}`); }"""
FLAGS = ["--no-sandbox", "--disable-background-networking", "--disable-component-update", "--disable-sync"]
SOON = PATIENCE * 1000
"""Milliseconds."""
VIEWS: dict[str, dict[str, Any]] = {
    "desktop": {"viewport": {"width": 1280, "height": 900}},
    "phone, dark, Chinese": {"viewport": {"width": 390, "height": 844}, "color_scheme": "dark", "locale": "zh-CN"},
    "without scripts": {"viewport": {"width": 1280, "height": 900}, "java_script_enabled": False},
}


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """The browser; its absence is an error that says what to install."""
    # Without a window's toolbars, tabs and compositor it takes half of the CPU.
    path = shutil.which("chromium-headless-shell") or shutil.which("chromium") or shutil.which("google-chrome")
    expect.set_options(timeout=SOON)
    assert path, "there is no browser for the console's tests: type apt-get install chromium-headless-shell, as root"
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=FLAGS)
        try:
            yield browser
        finally:
            await browser.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def one_browser() -> AsyncIterator[Browser]:
    """One Chromium for all tests of a module."""
    async with chromium() as it:
        yield it


@pytest_asyncio.fixture(loop_scope="module")
async def site_beside_it(database_url: str, tmp_path: Path) -> AsyncIterator[ConsoleSite]:
    """A site for each test, in the event loop of the browser."""
    async with console_site(database_url, tmp_path) as it:
        yield it


class Complaints:
    """What a browser has said that it should not have to say."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def listen(self, page: Page) -> None:
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.found.append(f"script: {error}"))

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            self.found.append(f"{message.type}: {message.text}")


@asynccontextmanager
async def page_of(context: BrowserContext) -> AsyncIterator[Page]:
    """A page; at its end nothing may have been complained of."""
    complaints = Complaints()
    context.set_default_timeout(SOON)
    page = await context.new_page()
    complaints.listen(page)
    yield page
    await page.close()
    assert complaints.found == [], complaints.found


async def bring_axe(context: BrowserContext) -> None:
    """Have axe-core on every page of a context."""
    await context.add_init_script(AXE.read_text("utf-8"))


async def violations(page: Page) -> list[str]:
    """What axe-core finds, of any impact."""
    return [f"{page.url}: {each}" for each in await page.evaluate(_AUDIT)]


async def sign_in(page: Page, url: str, key: str) -> None:
    """Sign in by the form."""
    await page.goto(f"{url}/login")
    await page.fill("#key", key)
    await page.click("button")
    await page.wait_for_url(f"{url}/")
