"""Somebody who presses every button of every page, and remembers which."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from playwright.async_api import FilePayload, Locator, Page, expect

HOOK = "1" * 26
"""The id of the endpoint that is changed."""
PAGES = Path(__file__).parents[2] / "mailerd" / "web" / "pages"
FORMS = {
    "jobs": "/jobs", "job": "/jobs/*", "message": "/messages/*", "sender": "/senders/*", "lists": "/lists",
    "suppressions": "/suppressions",
    "send_people": "/send/*", "send_message": "/send/*", "send_review": "/send/*", "gmail_draft": "/send/*",
    "webhooks": "/webhooks", "webhook": "/webhooks/*", "keys": "/keys",
}  # fmt: skip
"""By the template: where its buttons are."""


def buttons() -> set[tuple[str, str]]:
    """Every button that changes something, and where it is."""
    found = {
        (place, value)
        for name, place in FORMS.items()
        for value in re.findall(r'name="action" value="([a-z-]+)"', (PAGES / f"{name}.html").read_text("utf-8"))
    }
    return found | {("/jobs/*", each) for each in ("pause", "resume", "retry", "retry-soft", "look")}


@dataclass
class Visitor:
    """Somebody who presses buttons; which ones is remembered."""

    page: Page
    url: str
    job: str
    pressed: set[tuple[str, str]] = field(default_factory=set)

    async def go(self, path: str) -> None:
        await self.page.goto(f"{self.url}{path}")

    async def press(self, value: str) -> None:
        """The first button of this value, whatever it is called; what it is folded into is opened."""
        button = self.page.locator(f'button[name="action"][value="{value}"]:not([hidden])')
        await self.open(button)
        place = re.sub(r"^(/[a-z]+/).+", r"\1*", urlsplit(self.page.url).path)
        await button.first.click()
        await self.page.wait_for_load_state()
        self.pressed.add((place, value))

    async def open(self, inner: Locator) -> None:
        """Unfold what this is folded into."""
        closed = self.page.locator("main details:not([open])", has=inner)
        if await closed.count():
            await closed.first.locator("summary").first.click()

    async def open_menu(self) -> None:
        """Unfold what is behind the name of the key; on a phone, what is behind "Menu"."""
        await self.page.locator("header .menu > summary").locator("visible=true").click()

    async def fill(self, field: str, text: str) -> None:
        await self.open(self.page.locator(field))
        await self.page.fill(field, text)

    async def on_jobs(self) -> None:
        """Everything that can be done to a job, and to several."""
        await self.go(f"/jobs/{self.job}")
        for action in ("retry-cause", "retry", "retry-soft", "pause", "resume"):
            await self.press(action)
        await self.fill("#at", "2027-01-01T10:00")
        await self.press("reschedule")
        await self.fill("#priority", "5")
        await self.press("priority")
        await self.press("look")
        await self.page.fill("#email", "r3@example.org")
        await self.page.click("form.filter button")
        await expect(self.page.locator("#people ~ .table tbody tr")).to_have_count(1)
        async with self.page.expect_download() as download:
            await self.page.click('a[href$="results.csv"]')
        assert (await download.value).suggested_filename.endswith(".csv")
        for action in ("pause", "resume"):
            await self.go("/jobs?sender=me@example.com")
            await self.page.check(f'input[value="{self.job}"]')
            await self.press(action)

    async def on_messages_and_senders(self) -> None:
        """Everything that can be done to messages, senders and people."""
        for message, answer in ((3, "sent"), (6, "not-sent")):
            await self.go(f"/messages/{message}")
            await self.press(answer)
        await self.go("/senders/me@example.com")
        await self.press("resume")
        await self.fill("#reason", "moving")
        await self.press("pause")
        await self.page.fill("#per_day", "90")
        await self.press("limits")
        await self.go("/lists")
        await self.page.fill("#list-name", "news")
        await self.press("list")
        await self.go("/suppressions")
        file: FilePayload = {"name": "out.csv", "mimeType": "text/csv", "buffer": b"email\nr6@example.org\n"}
        await self.page.set_input_files("#import-file", files=[file])
        await self.press("import")
        await self.page.fill("#add-email", "r5@example.org")
        await self.press("add")
        await self.go("/people")
        await self.page.fill("#q", "R5@example.org")
        await self.page.click("form.filter button")
        await self.page.click('.light a[href^="/suppressions"]')
        await self.press("remove")
        await self.go("/people?q=r6@example.org")
        await self.page.click('.light button[value="remove"]')
        await expect(self.page.locator(".said")).to_be_visible()

    async def on_webhooks(self) -> None:
        """Everything that can be done to an endpoint."""
        await self.go("/webhooks")
        await self.fill("#name", "till")
        await self.page.fill("#url", "https://till.example/hook")
        await self.press("add")
        await expect(self.page.locator(".secret")).to_contain_text("whsec_")
        await self.go(f"/webhooks/{HOOK}")
        for action in ("test", "pause", "resume", "replay"):
            await self.press(action)
        await self.fill("#url", "https://shop.example/new")
        await self.press("change")
        await expect(self.page.locator("main .sub")).to_contain_text("https://shop.example/new")
        await self.press("rotate")
        await expect(self.page.locator(".secret")).to_contain_text("whsec_")
        await self.press("remove")
        await self.page.wait_for_url("**/webhooks")

    async def on_posts(self, *, scripts: bool) -> None:
        """A test of a template, and tables: pasted, chosen and dropped."""
        await self.go("/templates/welcome?in=zh")
        await self.page.fill("#email", "me@example.com")
        await self.page.locator("main form button").last.click()
        await self.page.wait_for_url("**/jobs/*")
        await self.go("/send")
        await self.page.locator("details:has(#pasted) summary").click()
        await self.page.fill("#pasted", "email,name,product\nada@example.com,Ada,Tea\n")
        await self.page.click("main form button.primary")
        await self.page.wait_for_url("**/people")
        for _ in range(2):
            await self.open(self.page.locator("#pasted"))
        await self.page.fill("#pasted", "email,name,product\nbob@example.com,Bob,Tea\n")
        for action in ("upload", "save", "next"):
            await self.press(action)
        await self.fill("#sender_other", "me@example.com")
        await self.page.check("#copies")
        await self.press("drafts")
        await self.page.check('input[name="kind"][value="template"]')
        await self.page.select_option("#template", "welcome")
        await self.fill("#sender_other", "me@example.com")  # it is paused, and cannot be chosen
        await self.fill("#new_list", "news")
        await self.press("new-list")
        await self.page.fill("#list", "")
        for action in ("attach", "find", "save", "test", "next"):
            await self.press(action)
        for action in ("save", "send"):
            await self.press(action)
        await self.page.wait_for_url("**/jobs/*")
        await self.press("undo")
        await self.page.wait_for_url("**/review*")
        await self.go(f"/jobs/{self.job}")
        await self.page.click('button[value="duplicate"]')
        await self.page.wait_for_url("**/people")
        await self.page.click('a[href$="/message"]')
        await self.press("drop-variables")
        await expect(self.page.locator('button[value="drop-variables"]')).to_have_count(0)
        await self.go("/send")
        table = "email,name,product\nlibai@example.org,李白,茶\n"
        if scripts:
            dropped = await self.page.evaluate_handle(DROPPED, table)
            await self.page.dispatch_event("[data-drop]", "drop", {"dataTransfer": dropped})
        else:
            file: FilePayload = {"name": "people.csv", "mimeType": "text/csv", "buffer": table.encode()}
            await self.page.set_input_files("#table", files=[file])
            await self.page.click("main form button.primary")
        await self.page.wait_for_url("**/people")

    async def on_keys(self) -> None:
        """Keys, a bulk cancel, the other language, and an end to it all."""
        await self.go("/keys")
        await self.fill("#name", "second")
        await self.page.check('input[name="all_senders"]')
        await self.page.check('input[value="all"][name="permission"]')
        await self.press("create")
        await expect(self.page.locator(".secret")).to_contain_text("sk_live_")
        await self.go("/keys")
        row = self.page.locator('tr:has(input[name="name"][value="2"])')
        for action in ("rotate", "revoke"):
            button = row.locator(f'button[value="{action}"]')
            folded = self.page.locator("details", has=self.page.locator(f'button[value="{action}"]'))
            await row.locator(folded).locator("summary").click()
            await button.click()
            self.pressed.add(("/keys", action))
            await self.go("/keys")
        await self.go("/jobs")
        await self.page.check(f'input[value="{self.job}"]')
        await self.press("cancel")
        await self.press_cancel_of_the_second()
        before = await self.page.locator("html").get_attribute("lang")
        await self.open_menu()
        await self.page.click(".menu[open] a[lang]")
        await expect(self.page.locator("html")).not_to_have_attribute("lang", before or "")
        await self.open_menu()
        await self.page.click('.menu[open] form[action="/logout"] button')
        await self.page.wait_for_url("**/login")

    async def press_cancel_of_the_second(self) -> None:
        await self.page.click('main tbody tr:not(:has(.b-cancelled)) a[href^="/jobs/"]')  # the newest was undone
        await self.press("cancel")


DROPPED = """text => { const it = new DataTransfer(); it.items.add(new File([text], "people.csv")); return it; }"""
