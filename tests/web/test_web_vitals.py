"""No page moves under its reader's eyes, and each is light; how long it takes is measured by tests/bench/vitals.py."""

import gzip
import re

import pytest
from playwright.async_api import Browser, Response

from tests.support.rows import post, query
from tests.web.browser import VIEWS, one_browser, page_of, sign_in, site_beside_it
from tests.web.conftest import ConsoleSite
from tests.web.test_browser import fill
from tests.web.vitals import slow_down, vitals_of

pytestmark = pytest.mark.asyncio(loop_scope="module")
browser, site = one_browser, site_beside_it
TABLE = "email,name,product\n" + "".join(f"r{n}@example.com,Ada,Tea\n" for n in range(60))
PAGE_BYTES = 14_000
"""Of each page, packed."""
ALL_BYTES = 45_000
"""Of the largest with scripts and style, which come packed over the line."""


@pytest.mark.parametrize("view", ["desktop", "phone, dark, Chinese"])
async def test_no_page_moves_while_it_loads_and_each_is_light(site: ConsoleSite, browser: Browser, view: str) -> None:
    job, found, heavy, files = await fill(site), dict[str, list[str]](), dict[str, int](), dict[str, int]()
    await query(site.database, "UPDATE senders SET paused_until = NULL")
    for _ in range(20):
        await post(site.database)
    context = await browser.new_context(**VIEWS[view], timezone_id="Asia/Shanghai")

    async def weigh(response: Response) -> None:
        path = response.url.removeprefix(site.url)
        assert path != response.url  # nothing comes from another host
        if path.startswith("/static/"):
            files[path] = int(response.headers["content-length"])

    async with page_of(context) as page:
        page.on("response", weigh)
        await sign_in(page, site.url, await site.keys.create("shop"))
        await page.goto(f"{site.url}/send")
        await page.locator("details:has(#pasted) summary").click()
        await page.fill("#pasted", TABLE)
        await page.click("main form button.primary")
        await page.wait_for_url("**/people")
        draft = page.url.removesuffix("/people").removeprefix(site.url)
        await page.goto(f"{site.url}{draft}/message")
        await page.select_option("#template", "welcome")
        await page.click('button[value="next"]')
        await page.wait_for_url("**/review")
        await slow_down(page, cpu=1)
        steps = [f"{draft}/{step}" for step in ("people", "message", "review")]
        for path in ("/", "/jobs", f"/jobs/{job}", "/people", "/people?q=r0", "/templates", *steps):
            vitals = await vitals_of(page, f"{site.url}{path}")
            if round(vitals.cls, 2):  # as Lighthouse rounds it
                found[path] = [str(vitals.cls), *vitals.moved]
            answer = await context.request.get(f"{site.url}{path}")
            heavy[path] = len(gzip.compress(await answer.body()))
        await page.wait_for_load_state("networkidle")
    await context.close()
    assert found == {}, "\n".join(f"{path}: {each}" for path, all_ in found.items() for each in all_)
    assert {path: size for path, size in heavy.items() if size > PAGE_BYTES} == {}
    assert len(heavy) == 9
    assert max(heavy.values()) + sum(files.values()) <= ALL_BYTES, files


async def test_what_is_new_is_told_as_the_script_tells_it(site: ConsoleSite, browser: Browser) -> None:
    context = await browser.new_context(**VIEWS["without scripts"])
    async with page_of(context) as page:
        await sign_in(page, site.url, await site.keys.create("shop"))
        await post(site.database)
        await page.goto(f"{site.url}/jobs")
        assert re.search(r"^\d+ (s|min) ago$", await page.locator("main td.t time").first.inner_text())
    await context.close()
