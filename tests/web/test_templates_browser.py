"""A template in a real browser, from its first line to its archive: by keyboard or finger, with and without scripts."""

from base64 import b64decode
from dataclasses import dataclass

import pytest
from playwright.async_api import Browser, FilePayload, Page, expect

from tests.support.rows import query
from tests.web.browser import SOON, VIEWS, Complaints, bring_axe, one_browser, sign_in, site_beside_it, violations
from tests.web.conftest import ConsoleSite

pytestmark = pytest.mark.asyncio(loop_scope="module")


browser, site = one_browser, site_beside_it


PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
LOGO: FilePayload = {"name": "Bild 图.PNG", "mimeType": "image/png", "buffer": b64decode(PIXEL)}
REFUSED = "error: Failed to load resource: the server responded with a status of 422 (Unprocessable Content)"
"""What Chromium says of a form that is refused."""


@dataclass
class Author:
    """Somebody who writes a template; `view`: of what size the window is."""

    page: Page
    url: str
    view: str

    async def press(self, value: str) -> None:
        await self.page.click(f'button[name="action"][value="{value}"]')
        await self.page.wait_for_load_state()

    async def look(self) -> None:
        """Nothing overflows, and axe finds nothing."""
        if self.view != "without scripts":
            width = await self.page.evaluate("document.documentElement.scrollWidth")
            assert (self.page.url, width) == (self.page.url, VIEWS[self.view]["viewport"]["width"])
            assert await violations(self.page) == []

    async def write(self) -> None:
        """A new template, refused twice, seen in both languages, published."""
        page = self.page
        await page.goto(f"{self.url}/templates")
        await self.look()
        await page.click('a[href="/new-template?layout"]')
        await self.look()
        await page.fill("#name", "house")
        await page.fill("#body-0", "Acme\n\n{{ content }}\n\nBye")
        await self.press("publish")
        await page.goto(f"{self.url}/templates")
        await page.click('a[href="/new-template"]')
        await self.look()
        await page.fill("#name", "autumn")
        await page.select_option("#layout", "house")
        await page.set_input_files("#images", LOGO)
        await page.fill("#subject-0", "Hello {{ first_name }}")
        await page.fill("#body-0", "# Hello {{ first_name }}\n\nA **{{ price | uper }}** thing")
        await self.press("publish")
        await expect(page.locator('.trouble a[href="#body-0"]')).to_contain_text("uper")
        await self.look()
        await page.fill("#body-0", "# Hello {{ first_name }}\n\nA **{{ price }}** thing")
        await page.set_input_files("#images", LOGO)
        await self.press("publish")  # it has no examples: each is a row of the form now
        await page.fill('input[value="first_name"] + input', "Ada <3")
        await page.fill('input[value="price"] + input', "*17* EUR")
        await page.fill("#new_language", "zh")
        await self.press("add-language")
        await page.fill("#subject-1", "你好")
        await page.fill("#body-1", "**{{ first_name }}**")
        shown = page.frame_locator('iframe[name="preview"]').locator("strong")
        await page.click("button[formtarget]")
        await expect(shown).to_have_text("Ada <3")
        await page.click('label[for="tab-0"]')
        await page.click("button[formtarget]")
        await expect(shown).to_have_text("*17* EUR")
        await expect(page.frame_locator('iframe[name="preview"]').locator("body")).to_contain_text("Bye")
        await self.look()
        await page.set_input_files("#images", LOGO)
        await self.press("publish")
        await page.wait_for_url("**/templates/autumn?version=*")
        await self.look()

    async def change(self) -> None:
        """A draft, compared, published, and the first version restored."""
        page = self.page
        await page.click('a[href*="/autumn/edit"]')
        await page.fill("#body-0", "# Good day {{ first_name }}\n\nA **{{ price }}** thing")
        await page.fill("#comment", "politer")
        await self.press("save")
        await page.click('.sub a[href*="/diff"]')
        assert await page.locator("del, ins").all_inner_texts() == [
            "− # Hello {{ first_name }}", "+ # Good day {{ first_name }}",
        ]  # fmt: skip
        await self.look()
        await page.go_back()
        head = page.frame_locator("iframe.message").locator("h1")
        for button, shown in (("main h1 + .row button", "Good day Ada <3"), ("tbody button", "Hello Ada <3")):
            await page.locator(f'{button}[value="publish"]').click()
            await page.wait_for_load_state()
            await expect(head).to_have_text(shown)
        await self.look()


@pytest.mark.parametrize("view", VIEWS)
async def test_a_template_is_written_refused_seen_published_compared_restored_and_archived(
    site: ConsoleSite, browser: Browser, view: str
) -> None:
    key, complaints = await site.keys.create("shop"), Complaints()
    context = await browser.new_context(**VIEWS[view])
    context.set_default_timeout(SOON)
    await bring_axe(context)
    page = await context.new_page()
    complaints.listen(page)
    await sign_in(page, site.url, key)
    author = Author(page, site.url, view)
    await author.write()
    await author.change()
    await page.goto(f"{site.url}/templates")
    await author.look()
    await page.goto(f"{site.url}/templates/autumn")
    await page.click("details.act summary")
    await author.press("archive")
    await page.wait_for_url("**/templates")
    await context.close()
    assert complaints.found == [REFUSED] * 2
    found = await query(site.database, "SELECT comment, files FROM template_versions ORDER BY created_at")
    assert [(comment, "images/Bild.png" in files) for comment, files in found] == [
        (None, False), (None, True), ("politer", True),
    ]  # fmt: skip
    assert [each["action"] for each in site.heard.of("template_action")] == [
        *("save_template", "publish_template") * 3, "publish_template", "archive_template",
    ]  # fmt: skip
