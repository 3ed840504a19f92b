"""The unsubscribe page in a real browser: one that only looks, as scanners of mail do, and one whose person presses."""

import os
from pathlib import Path

import pytest
from playwright.async_api import Page, expect

from tests.intake.test_unsubscribe_site import Public, public
from tests.web.browser import VIEWS, chromium, page_of

__all__ = ["public"]
LOOKS = int(os.environ.get("SCANS", "50")) // 50
PICTURES = os.environ.get("PICTURES")
"""A folder for pictures of the pages."""


async def test_a_browser_that_runs_scripts_and_waits_unsubscribes_nobody(public: Public) -> None:
    url = f"{public.url}/u/{public.token()}"
    async with chromium() as browser:
        context = await browser.new_context()
        for _ in range(LOOKS):
            async with page_of(context) as page:
                await page.goto(url, wait_until="networkidle")
                await page.mouse.move(200, 200)
                await page.keyboard.press("Tab")
    assert not await public.opted_out()


@pytest.mark.parametrize("view", VIEWS)
async def test_a_person_leaves_and_comes_back_by_the_buttons(public: Public, view: str) -> None:
    async with chromium() as browser:
        context = await browser.new_context(**VIEWS[view])
        async with page_of(context) as page:
            await page.goto(f"{public.url}/u/{public.token()}")
            for number, opted_out in enumerate((True, False, True)):
                await _picture(page, view, number)
                heading = await page.locator("h1").inner_text()
                await page.get_by_role("button").click()
                await expect(page.locator("h1")).not_to_have_text(heading)
                assert await public.opted_out() is opted_out
            width = await page.evaluate("document.documentElement.scrollWidth") if view != "without scripts" else 0
            assert width <= VIEWS[view]["viewport"]["width"]


async def _picture(page: Page, view: str, number: int) -> None:
    if PICTURES:
        path = Path(PICTURES) / f"unsubscribe-{view.replace(', ', '-')}-{number}.png"
        await page.screenshot(path=path)
