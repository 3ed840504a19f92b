"""Jobs, a job's report and a message in a real browser: the actions, what is copied, and what axe says."""

from pathlib import Path

import pytest
from playwright.async_api import Browser, expect

from tests.support.rows import query, states
from tests.web.browser import VIEWS, bring_axe, one_browser, page_of, sign_in, site_beside_it, violations
from tests.web.conftest import ConsoleSite
from tests.web.test_job_report import fill

pytestmark = pytest.mark.asyncio(loop_scope="module")
browser, site = one_browser, site_beside_it


@pytest.mark.parametrize("view", VIEWS)
async def test_what_can_be_done_about_each_part_is_done_by_its_button(
    site: ConsoleSite,
    browser: Browser,
    view: str,
    tmp_path: Path,
) -> None:
    job, key = await fill(site), await site.keys.create("shop")
    context, found = await browser.new_context(**VIEWS[view]), list[str]()
    scripts = VIEWS[view].get("java_script_enabled", True)
    if scripts:
        await bring_axe(context)
    async with page_of(context) as page:
        await sign_in(page, site.url, key)
        for path in ("/jobs", "/jobs?tab=attention&q=none", f"/jobs/{job}?tab=failed", "/messages/1", "/messages/12"):
            await page.goto(f"{site.url}{path}")
            await page.screenshot(path=tmp_path / f"{view[:5]}{path.replace('/', '-').partition('?')[0]}.png")
            if scripts:
                width = await page.evaluate("document.documentElement.scrollWidth")
                assert (path, width) == (path, VIEWS[view]["viewport"]["width"])
                found += await violations(page)
        await page.goto(f"{site.url}/jobs/{job}")
        if scripts:
            short = page.locator("main .sub .mono.id")
            await short.click()
            assert await page.evaluate("getSelection().toString()") == job
            assert await short.evaluate("it => it.getBoundingClientRect().width") < 80
        for part, action in (("failed", "retry"), ("bounced_soft", "retry-soft"), ("unsure", "look")):
            await page.click(f"#part-{part} button[value={action}]")
            await expect(page.locator(".said")).to_be_visible()
        await page.click("#part-waiting a")
        await expect(page.locator("#people ~ .table tbody tr")).to_have_count(7)
        await page.fill("#email", "p9@")
        await page.click("form.filter button")
        await expect(page.locator("#people ~ .table tbody tr")).to_have_count(1)
        await page.click("#people ~ .table tbody a")
        await expect(page.locator("h1")).to_have_text("p9@example.org")
        await page.goto(f"{site.url}/messages/12")
        await page.click("details:has(button[value=sent]) summary")
        await page.click("button[value=sent]")
        await expect(page.locator(".said")).to_be_visible()
    await context.close()
    assert found == []
    assert await states(site.database, job) == {
        "sent": 18, "waiting": 7, "unsure": 1, "sending": 2, "cancelled": 2
    }  # fmt: skip
    assert await query(site.database, "SELECT action, messages FROM job_actions ORDER BY id") == [
        ("retry", 2), ("retry", 2), ("retry", 2), ("settle", 1)
    ]  # fmt: skip
