"""An office person with a spreadsheet, in a real browser: from the sign-in to a scheduled job, and what that takes."""

import json
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, FilePayload, Page, expect

from mailerd.core.suppression import EVERYTHING, Channel, Reason
from mailerd.store.write.suppressions import NewSuppression, Suppressions
from tests.support.rows import post, query
from tests.support.spreadsheets import xlsx
from tests.web.browser import VIEWS, bring_axe, one_browser, page_of, violations
from tests.web.conftest import ConsoleSite, console_site

pytestmark = pytest.mark.asyncio(loop_scope="module")
KEYS = 120
"""Milliseconds that a key takes."""
HEADERS = {"en": ("Email", "Name", "Product"), "zh": ("电子邮件", "姓名", "产品")}
SUPPRESSED = ("r50@example.com", "r51@example.com")
BAD = {7: "nobody", 8: "a@b@c", 9: "", 10: "who@nowhere"}
EMPTY = (20, 21, 22)


browser = one_browser


@pytest_asyncio.fixture(loop_scope="module")
async def site(database_url: str, tmp_path: Path) -> AsyncIterator[ConsoleSite]:
    """A site whose sender is known and authorized, and two people who want nothing."""
    (tmp_path / "@example.com.json").touch(0o600)
    async with console_site(database_url, tmp_path) as it:
        await post(it.database)
        for table in ("job_recipients", "jobs"):
            await query(it.database, f"DELETE FROM {table}")
        suppressions = await Suppressions.open(it.database, timeout=5)
        await suppressions.add([
            NewSuppression(suppressions.digest(it), EVERYTHING, Reason.MANUAL, Channel.API, it) for it in SUPPRESSED
        ])  # fmt: skip
        yield it


def workbook(language: str) -> FilePayload:
    """60 people: 4 addresses are bad, 3 cells are empty, one address comes twice, and two are suppressed."""
    rows: list[tuple[str, ...]] = [HEADERS[language]]
    for n in range(1, 61):
        email = BAD.get(n, f"r{n}@example.com")
        rows.append(("r5@example.com" if n == 30 else email, f"Person {n}", "" if n in EMPTY else f"Tea {n}"))
    return {"name": "people.xlsx", "mimeType": "application/vnd.ms-excel", "buffer": xlsx({"Sheet1": rows})}


class Person:
    """Somebody who clicks, types and chooses, and counts it."""

    def __init__(self, page: Page, site: ConsoleSite, *, scripts: bool) -> None:
        self.page, self.site, self.scripts, self.actions = page, site, scripts, 0
        self.found = list[str]()
        """What axe complains of."""

    async def click(self, what: str) -> None:
        self.actions += 1
        await self.page.locator(what).first.click()
        await self.page.wait_for_load_state()

    async def type(self, where: str, text: str) -> None:
        self.actions += 1
        await self.page.locator(where).press_sequentially(text, delay=KEYS if self.scripts else 0)

    async def fill(self, where: str, text: str) -> None:
        self.actions += 1
        await self.page.fill(where, text)

    async def look(self) -> None:
        """The page keeps nobody out, and fits its window."""
        if self.scripts:
            self.found += await violations(self.page)
            assert self.page.viewport_size
            width = await self.page.evaluate("document.documentElement.scrollWidth")
            assert (self.page.url, width) == (self.page.url, self.page.viewport_size["width"])

    async def signs_in(self, key: str) -> None:
        await self.page.goto(f"{self.site.url}/login")
        await self.fill("#key", key)
        await self.click("main button")
        self.actions += 1
        await self.page.goto(f"{self.site.url}/send")
        await self.look()

    async def brings_the_people(self, file: FilePayload) -> None:
        self.actions += 1
        await self.page.set_input_files("#table", files=[file])
        if not self.scripts:
            await self.click("main form button.primary")
        await self.page.wait_for_url("**/people")
        await self.look()
        await self.click("input[name=skip_invalid]")
        self.actions += 1
        await self.page.select_option("select[name^=empty-]", "skip")
        await self.click("button[value=next]")
        await self.page.wait_for_url("**/message*")
        await self.look()

    async def writes(self) -> None:
        await self.click("#writes")
        await self.type("#subject", "Hello {{ name }}")
        await self.type("#body", f"Your **{{{{ {await variable(self.site)} }}}}** is here.")
        if not self.scripts:
            await self.click("main button[value=save]:visible")
        await self.sees_the_message_of(1)

    async def sees_the_message_of(self, number: int) -> None:
        await expect(self.page.locator("#preview strong").first).to_have_text(f"Hello Person {number}")

    async def looks_at_the_third_and_tests(self) -> None:
        for number in (2, 3):
            await self.click("#preview button[name=person] >> nth=1")
            await self.sees_the_message_of(number)
        await self.look()
        await self.click("button[value=test]")
        await expect(self.page.locator("#preview .said")).to_be_visible()
        await self.click("#message button[value=next]")
        await self.page.wait_for_url("**/review*")
        await self.look()

    async def schedules(self, at: str) -> None:
        await self.fill("#at", at)
        if self.scripts:
            await self.page.locator("#at").blur()
        else:
            await self.click("input[value=later]")
            await self.fill("#zone_of", "Asia/Shanghai")
            await self.click("main button[value=save]:visible")
        words = f"{at.replace('T', ' ')} (Asia/Shanghai)"
        await expect(self.page.locator("button[value=send]")).to_contain_text(words)
        if self.scripts:  # the forecast, which came with it, is in the same zone
            assert await self.page.locator("#plan dd time").first.inner_text() == at.replace("T", " ")
        await self.look()
        await self.click("button[value=send]")
        await self.page.wait_for_url("**/jobs/*")


@pytest.mark.parametrize("view, language", [
    ("desktop", "en"), ("desktop", "zh"), ("phone, dark, Chinese", "zh"), ("without scripts", "en"),
])  # fmt: skip
async def test_a_person_with_a_spreadsheet_schedules_a_job(
    site: ConsoleSite, browser: Browser, view: str, language: str
) -> None:
    key, scripts = await site.keys.create("office"), view != "without scripts"
    context = await browser.new_context(**VIEWS[view], timezone_id="Asia/Shanghai")
    if scripts:
        await bring_axe(context)
    day, began = (datetime.now(UTC) + timedelta(days=2)).date().isoformat(), time.monotonic()
    async with page_of(context) as page:
        it = Person(page, site, scripts=scripts)
        await it.signs_in(key)
        await it.brings_the_people(workbook(language))
        await it.writes()
        await it.looks_at_the_third_and_tests()
        await it.schedules(f"{day}T09:00")
    await context.close()
    assert it.found == []
    assert it.actions <= (16 if scripts else 22), it.actions
    assert time.monotonic() - began <= 120
    await the_right_people_get_it(site, day)


async def variable(site: ConsoleSite) -> str:
    """What the third column is called in the message."""
    ((mapping,),) = await query(site.database, "SELECT mapping FROM job_drafts WHERE part = 0")
    uses: dict[str, Any] = json.loads(mapping)["uses"]
    assert (uses["0"], uses["1"]) == ("email", "name")
    return str(uses["2"])


async def the_right_people_get_it(site: ConsoleSite, day: str) -> None:
    rows = await query(
        site.database,
        "SELECT r.to_email, r.to_name, j.send_at FROM jobs j JOIN job_recipients r ON r.job_id = j.id "
        "ORDER BY j.id, r.seq",
    )
    tests, people = rows[:1], rows[1:]
    assert [(to, name) for to, name, _ in tests] == [("me@example.com", "Person 3")]
    out = {*BAD, *EMPTY, 30, 50, 51}
    expected = [(f"r{n}@example.com", f"Person {n}") for n in range(1, 61) if n not in out]
    assert [(to, name) for to, name, _ in people] == expected
    assert {at for *_, at in people} == {datetime.fromisoformat(f"{day}T01:00")}
