"""The console in a real browser: at both widths, dark, Chinese and without scripts; its policy, and what axe says."""

import asyncio
from pathlib import Path

import pytest
from playwright.async_api import BrowserContext, Page, expect

from tests.support.rows import post, query, states
from tests.web.browser import VIEWS, chromium, page_of, sign_in
from tests.web.conftest import ConsoleSite

AXE = Path(__file__).parent / "vendor" / "axe.min.js"
SERIOUS = {"serious", "critical"}


HOOK = "1" * 26


LETTERS = (
    (0, "failed", "400 Invalid To header"), (1, "failed", "no value for b@c.example"), (2, "unsure", "no answer"),
    (3, "sent", None), (4, "failed", "no value for d@e.example"),
)  # fmt: skip


async def fill(site: ConsoleSite) -> str:
    """A job with a letter in each state, and a sender that cannot send."""
    job = await post(site.database, recipients=12)
    for seq, status, error in LETTERS:
        proof = "answered" if status == "sent" else None
        await query(
            site.database,
            "UPDATE job_recipients SET status = %s, attempts = 1, error = %s, proof = %s WHERE seq = %s",
            status, error, proof, seq,
        )  # fmt: skip
    await query(
        site.database,
        "UPDATE senders SET paused_until = UTC_TIMESTAMP(6) + INTERVAL 60 SECOND, pause_cause = 'token_refused', "
        "pause_reason = 'invalid_grant'",
    )
    await query(
        site.database,
        "INSERT INTO tallies (minute, sender_email, daemon, sent, failed) "
        "SELECT UTC_TIMESTAMP() - INTERVAL seq MINUTE, 'me@example.com', 'D', 9 + seq, 1 FROM job_recipients",
    )
    await query(
        site.database,
        "INSERT INTO webhooks (id, name, url, secret, state, failures, failing_since, position, created_at) SELECT "
        "%s, 'shop', 'https://127.0.0.1/hook', 'x', 'on', 12, now - INTERVAL 1 HOUR, 9, now "
        "FROM (SELECT UTC_TIMESTAMP(6) now) n",
        HOOK,
    )
    await query(
        site.database,
        "INSERT INTO events (uid, type, cause, data, at, position) VALUES "
        "('e', 'recipient.failed', 'c', '{}', UTC_TIMESTAMP(6), 9)",
    )
    await query(site.database, "UPDATE event_positions SET last = 9")
    await query(
        site.database,
        "INSERT INTO webhook_deliveries (webhook_id, position, status, attempts, created_at, due_at, http, error, "
        "took_ms) VALUES (%s, 9, 'waiting', 3, UTC_TIMESTAMP(6), UTC_TIMESTAMP(6), 502, 'it answered 502', 31)",
        HOOK,
    )
    site.daemon.service.stats.take(await site.daemon.service.stats.read())
    return job


def places(job: str) -> list[str]:
    return [
        "/", "/jobs", f"/jobs/{job}?tab=failed", "/letters/3", "/letters/4",
        "/doubts", "/inbox", "/senders", "/senders/me@example.com", "/people?email=r0@example.org", "/suppressions",
        "/templates",
        "/templates/welcome", "/send", "/webhooks", f"/webhooks/{HOOK}", "/inbox?show=undone", "/keys",
    ]  # fmt: skip


async def serious(page: Page) -> list[str]:
    """What axe-core finds that keeps people out."""
    await page.evaluate(AXE.read_text("utf-8"))
    found = await page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [
        f"{page.url}: {each['id']}: {each['nodes'][0]['html'][:160]}"
        for each in found["violations"]
        if each["impact"] in SERIOUS
    ]


@pytest.mark.parametrize("view", ["desktop", "phone, dark, Chinese"])
async def test_every_page_fits_its_window_and_keeps_nobody_out(site: ConsoleSite, view: str) -> None:
    job, key = await fill(site), await site.keys.create("shop")
    async with chromium() as browser:
        # axe is injected by the test, which no page of ours could be: the policy is looked at in the other tests.
        context = await browser.new_context(**VIEWS[view], bypass_csp=True)
        page = await context.new_page()
        await page.goto(f"{site.url}/login")
        found = await serious(page)
        await sign_in(page, site.url, key)
        for path in places(job):
            answer = await page.goto(f"{site.url}{path}")
            assert answer is not None
            assert (path, answer.status) == (path, 200)
            width = await page.evaluate("document.documentElement.scrollWidth")
            assert (path, width) == (path, VIEWS[view]["viewport"]["width"])
            found += await serious(page)
        assert found == []


async def press(page: Page, value: str) -> None:
    """The first button of this value, whatever it is called; what it is folded into is opened."""
    button = page.locator(f'button[name="action"][value="{value}"]')
    closed = page.locator("main details:not([open])", has=button)
    if await closed.count():
        await closed.first.locator("summary").first.click()
    await button.first.click()
    await page.wait_for_load_state()


async def steer(page: Page, url: str, job: str) -> None:
    """Every action on a job, a letter, a sender and a person."""
    await page.goto(f"{url}/jobs/{job}")
    await press(page, "retry-cause")
    await press(page, "pause")
    await press(page, "resume")
    await page.goto(f"{url}/jobs/{job}")
    await page.locator("details:has(#priority) summary").click()
    await page.fill("#priority", "5")
    await page.click('button[value="priority"]')
    await press(page, "look")
    await page.goto(f"{url}/letters/3")
    await press(page, "sent")
    await page.goto(f"{url}/senders/me@example.com")
    await press(page, "resume")
    await page.locator("details:has(#reason) > summary").click()
    await page.fill("#reason", "moving")
    await press(page, "pause")
    await page.fill("#per_day", "90")
    await press(page, "limits")
    await page.goto(f"{url}/suppressions")
    await page.fill("#list-name", "news")
    await press(page, "list")
    await page.fill("#add-email", "r5@example.org")
    await press(page, "add")
    await press(page, "remove")


async def hook(page: Page, url: str) -> None:
    """Every action on an endpoint."""
    await page.goto(f"{url}/webhooks")
    if not await page.locator("#url").is_visible():
        await page.locator("details:has(#url) > summary").click()
    await page.fill("#name", "till")
    await page.fill("#url", "https://till.example/hook")
    await press(page, "add")
    await expect(page.locator(".secret")).to_contain_text("whsec_")
    await page.goto(f"{url}/webhooks/{HOOK}")
    for action in ("test", "pause", "resume", "replay"):
        await press(page, action)
    await page.locator("details:has(#url) > summary").click()
    await page.fill("#url", "https://shop.example/new")
    await press(page, "change")
    await expect(page.locator("main .sub")).to_contain_text("https://shop.example/new")
    await press(page, "rotate")
    await expect(page.locator(".secret")).to_contain_text("whsec_")
    await press(page, "remove")
    await page.wait_for_url("**/webhooks")


async def send(page: Page, url: str, job: str) -> None:
    """A test of a template, a table, a key, and an end to it all."""
    await page.goto(f"{url}/templates/welcome")
    await page.fill("#email", "me@example.com")
    await page.locator("main form button").last.click()
    await page.wait_for_url("**/jobs/*")
    await page.goto(f"{url}/send")
    await page.fill("#pasted", "email,name,product\nada@example.com,Ada,Tea\n")
    await press(page, "try")
    await press(page, "post")
    await page.wait_for_url("**/jobs/*")
    await page.goto(f"{url}/keys")
    await page.locator("details:has(#name) > summary").click()
    await page.fill("#name", "second")
    await page.click('button[value="create"]')
    await expect(page.locator(".secret")).to_contain_text("sk_live_")
    await page.goto(f"{url}/jobs")
    await page.check(f'input[value="{job}"]')
    await page.locator("main form details summary").click()
    await page.click('button[value="cancel"]')
    await page.wait_for_load_state()
    await page.click('form[action="/logout"] button')
    await page.wait_for_url("**/login")


@pytest.mark.parametrize("view", VIEWS)
async def test_every_action_works_and_no_policy_is_violated(site: ConsoleSite, view: str) -> None:
    job, key = await fill(site), await site.keys.create("shop")
    async with chromium() as browser:
        context = await browser.new_context(**VIEWS[view])
        context.set_default_timeout(8000)
        async with page_of(context) as page:
            await sign_in(page, site.url, key)
            await steer(page, site.url, job)
            await hook(page, site.url)
            await send(page, site.url, job)
    assert await states(site.database, job) == {"cancelled": 9, "failed": 1, "sent": 2}
    asked = await query(site.database, "SELECT DISTINCT actor FROM job_actions")
    assert asked == [("key:shop via console",)]
    actions = await query(site.database, "SELECT action FROM job_actions WHERE job_id = %s ORDER BY id", job)
    assert [action for (action,) in actions] == ["retry", "pause", "resume", "priority", "retry", "settle", "cancel"]
    assert await query(site.database, "SELECT pause_cause, per_day FROM senders") == [("manual", 90)]
    assert await query(site.database, "SELECT COUNT(*), (SELECT COUNT(*) FROM suppressions) FROM lists") == [(1, 0)]
    assert await query(site.database, "SELECT name, state FROM webhooks") == [("till", "on")]
    assert await query(site.database, "SELECT COUNT(*) FROM jobs WHERE template_name = 'welcome'") == [(2,)]


async def live_page(context: BrowserContext, site: ConsoleSite, key: str, job: str) -> None:
    async with page_of(context) as page:
        await sign_in(page, site.url, key)
        await page.goto(f"{site.url}/jobs/{job}")
        sent = page.locator(".states .e-sent b")
        await expect(sent).to_have_text("1")
        await page.locator("details:has(#priority) summary").click()
        await query(site.database, "UPDATE job_recipients SET status = 'sent', proof = 'answered' WHERE seq > 5")
        site.daemon.console.services.events.console_changed(actor="a", what="b", change="c")
        await expect(sent).to_have_text("7", timeout=15_000)
        assert await page.locator("details:has(#priority)").get_attribute("open") is not None  # what was opened stays
        button = page.locator("#live")
        await button.click()
        await expect(button).to_have_attribute("aria-pressed", "true")


async def test_a_page_that_is_watched_follows_what_happens(site: ConsoleSite) -> None:
    job, key = await fill(site), await site.keys.create("shop")
    live = asyncio.create_task(site.daemon.console.live.run())
    try:
        async with chromium() as browser:
            await live_page(await browser.new_context(), site, key, job)
    finally:
        live.cancel()
