"""The console in a real browser: at both widths, dark, Chinese and without scripts; its policy, and what axe says."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from unittest.mock import AsyncMock

import pytest
from playwright.async_api import Browser, Page, expect

from mailerd.rate_limited_gmail import PersonalDrafts
from mailerd.store.write.api_keys import ApiKeys
from mailerd.web.frame import live
from tests.support.rows import post, query, states
from tests.web.browser import (
    SOON,
    VIEWS,
    Complaints,
    bring_axe,
    one_browser,
    page_of,
    sign_in,
    site_beside_it,
    violations,
)
from tests.web.conftest import ConsoleSite
from tests.web.visitor import HOOK, Visitor, buttons

pytestmark = pytest.mark.asyncio(loop_scope="module")


browser, site = one_browser, site_beside_it


MESSAGES = (
    (0, "failed", "400 Invalid To header"), (1, "failed", "no value for b@c.example"), (2, "unsure", "no answer"),
    (3, "sent", None), (4, "failed", "no value for d@e.example"), (5, "unsure", "no answer"), (6, "sent", None),
    (7, "failed", "the message is too large"),
)  # fmt: skip


async def fill(site: ConsoleSite) -> str:
    """A job with a message in each state, and a sender that cannot send."""
    job = await post(site.database, recipients=12)
    for seq, status, error in MESSAGES:
        proof = "answered" if status == "sent" else None
        await query(
            site.database,
            "UPDATE job_recipients SET status = %s, attempts = 1, error = %s, proof = %s WHERE seq = %s",
            status, error, proof, seq,
        )  # fmt: skip
    await query(
        site.database,
        "UPDATE job_recipients SET result = 'bounced', result_kind = 'soft', result_reason = 'full', "
        "result_at = UTC_TIMESTAMP(6) WHERE seq = 6",
    )
    await query(
        site.database,
        "INSERT INTO notices (mailbox, gmail_id, thread_id, believed, kind, at, job_id, recipient_id) "
        "SELECT 'me@example.com', 'g', 't', 1, 'soft', UTC_TIMESTAMP(6), job_id, id FROM job_recipients WHERE seq = 6",
    )
    await query(site.database, 'UPDATE jobs SET bounced = 1, variables = \'{"due": "May"}\'')
    await query(
        site.database,
        "UPDATE senders SET paused_until = UTC_TIMESTAMP(6) + INTERVAL 1 HOUR, pause_cause = 'token_refused', "
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
        "took_ms) VALUES (%s, 9, 'waiting', 3, UTC_TIMESTAMP(6), UTC_TIMESTAMP(6), 502, 'it responded 502', 31)",
        HOOK,
    )
    site.daemon.service.stats.take(await site.daemon.service.stats.read())
    return job


def places(job: str) -> list[str]:
    return [
        "/", "/jobs", f"/jobs/{job}?tab=failed", "/messages/3", "/messages/4",
        "/jobs?tab=attention", "/inbox", "/senders", "/senders/me@example.com", "/people?email=r0@example.org",
        "/suppressions",
        "/people?q=r0", "/lists", "/inbox?kind=soft",
        "/templates",
        "/templates/welcome", "/new-template", "/templates/welcome/duplicate",
        "/send", "/webhooks", f"/webhooks/{HOOK}", "/inbox?show=undone", "/keys",
        "/settings", "/activity?action=pause", "/status",
        "/search?q=r0@", "/search",
    ]  # fmt: skip


@pytest.mark.parametrize("view", ["desktop", "phone, dark, Chinese"])
async def test_every_page_fits_its_window_keeps_nobody_out_and_violates_no_policy(
    site: ConsoleSite, browser: Browser, view: str
) -> None:
    job, key = await fill(site), await site.keys.create("shop")
    context = await browser.new_context(**VIEWS[view])
    await bring_axe(context)
    async with page_of(context) as page:
        await page.goto(f"{site.url}/login")
        found = await violations(page)
        await sign_in(page, site.url, key)
        for path in places(job):
            answer = await page.goto(f"{site.url}{path}")
            assert answer is not None
            assert (path, answer.status) == (path, 200)
            width = await page.evaluate("document.documentElement.scrollWidth")
            assert (path, width) == (path, VIEWS[view]["viewport"]["width"])
            found += await violations(page)
    page = await context.new_page()
    await page.goto(f"{site.url}/jobs/none")
    found += await violations(page)
    site.lose_database()
    await page.goto(f"{site.url}/")
    found += await violations(page)
    site.find_database()
    await context.close()
    assert found == []


@pytest.mark.slow
@pytest.mark.parametrize("view", VIEWS)
async def test_every_action_of_every_page_works_and_no_policy_is_violated(
    site: ConsoleSite, browser: Browser, monkeypatch: pytest.MonkeyPatch, view: str
) -> None:
    monkeypatch.setattr(PersonalDrafts, "newest", AsyncMock(return_value=[]))  # no Google is there
    job, key = await fill(site), await site.keys.create("shop")
    context = await browser.new_context(**VIEWS[view])
    async with page_of(context) as page:
        await sign_in(page, site.url, key)
        visitor = Visitor(page, site.url, job)
        await visitor.on_jobs()
        await visitor.on_messages_and_senders()
        await visitor.on_webhooks()
        await visitor.on_posts(scripts=view != "without scripts")
        await visitor.on_keys()
    await context.close()
    assert buttons() - visitor.pressed == set()
    assert await states(site.database, job) == {"cancelled": 10, "sent": 2}
    assert await query(site.database, "SELECT DISTINCT actor FROM job_actions") == [("key:shop via console",)]
    actions = await query(site.database, "SELECT action FROM job_actions WHERE job_id = %s ORDER BY id", job)
    assert [action for (action,) in actions] == [
        "retry", "retry", "retry", "pause", "resume", "priority", "retry", "pause", "resume", "settle", "settle",
        "cancel",
    ]  # fmt: skip
    assert await query(site.database, "SELECT pause_cause, per_day FROM senders") == [("manual", 90)]
    assert await query(site.database, "SELECT COUNT(*), (SELECT COUNT(*) FROM suppressions) FROM lists") == [(1, 0)]
    assert await query(site.database, "SELECT name, state FROM webhooks") == [("till", "on")]
    assert await query(site.database, "SELECT COUNT(*) FROM jobs WHERE template_name = 'welcome'") == [(3,)]
    assert await query(site.database, "SELECT COUNT(*) FROM api_keys WHERE revoked_at IS NOT NULL") == [(1,)]


async def test_what_the_policy_forbids_is_a_complaint(site: ConsoleSite, browser: Browser) -> None:
    context = await browser.new_context()
    page, complaints = await context.new_page(), Complaints()
    complaints.listen(page)
    await page.goto(f"{site.url}/login")
    for evil in ("<img src='http://127.0.0.2/x.png'>", "<style>main { color: red }</style>"):
        await page.evaluate("html => document.body.insertAdjacentHTML('beforeend', html)", evil)
    await page.wait_for_function("() => document.images[0].complete")
    await context.close()
    assert [text.count("Content Security Policy") > 0 for text in complaints.found] == [True, True]


async def test_the_keyboard_is_enough_and_the_focus_is_always_seen(site: ConsoleSite, browser: Browser) -> None:
    job, key = await fill(site), await site.keys.create("shop")
    context = await browser.new_context(**VIEWS["desktop"])
    async with page_of(context) as page:
        await sign_in(page, site.url, key)
        await page.goto(f"{site.url}/jobs/{job}")
        seen: list[str] = []
        for _ in range(60):
            await page.keyboard.press("Tab")
            text, outline, shown = await page.evaluate(FOCUS)
            assert (text, outline != "none", shown) == (text, True, True)
            seen.append(text)
            if text == "Pause job":
                break
        assert seen[0] == "Skip to content"
        assert seen.index("Overview") < seen.index("Settings") < seen.index("New message") < seen.index("Pause job")
        await page.keyboard.press("Enter")
        await expect(page.locator(".said")).to_have_text("Job paused.")
        await page.goto(f"{site.url}/jobs/{job}")
        await page.keyboard.press("Tab")
        await page.keyboard.press("Enter")  # skips the menu
        await page.keyboard.press("Tab")
        assert (await page.evaluate(FOCUS))[0] == "Resume job"
    await context.close()
    assert await query(site.database, "SELECT status FROM jobs") == [("paused",)]


FOCUS = """() => { const it = document.activeElement, box = it.getBoundingClientRect();
    return [it.innerText.trim(), getComputedStyle(it).outlineStyle, box.width > 0 && box.left >= 0]; }"""


@asynccontextmanager
async def watching(site: ConsoleSite, browser: Browser, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Page]:
    """A page of somebody who has signed in, while signals come quickly."""
    monkeypatch.setattr(live, "QUIET_INTERVAL", 0.5)
    monkeypatch.setattr(live, "TICK_INTERVAL", 0.1)
    key, ticking = await site.keys.create("shop"), asyncio.create_task(site.daemon.console.live.run())
    context = await browser.new_context()
    context.set_default_timeout(SOON)
    try:
        page = await context.new_page()
        await sign_in(page, site.url, key)
        yield page
    finally:
        await context.close()
        ticking.cancel()


async def test_a_page_that_is_watched_follows_what_happens_and_takes_nothing_from_its_reader(
    site: ConsoleSite, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = await fill(site)
    async with watching(site, browser, monkeypatch) as page:
        await page.goto(f"{site.url}/jobs/{job}")
        sent = page.locator("#part-no_reply td.n").first
        await expect(sent).to_have_text("1")
        await page.locator("details:has(#priority) summary").click()
        await query(site.database, "UPDATE job_recipients SET status = 'sent', proof = 'answered' WHERE seq > 5")
        await expect(sent).to_have_text("6")
        assert await page.locator("details:has(#priority)").get_attribute("open") is not None  # what was opened stays
        await expect(page.locator("#waits")).to_be_hidden()
        await page.fill("#email", "r3@")
        await page.locator("h1").click()  # away from the field
        await query(site.database, "UPDATE job_recipients SET status = 'sent' WHERE seq = 2")
        async with page.expect_event("request", lambda it: it.url.endswith("/live")):
            await page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
            await page.locator("#live").click()
            await page.locator("#live").click()
        assert await page.input_value("#email") == "r3@"
        await expect(page.locator("#waits")).to_be_visible()
        button = page.locator("#live")
        await button.click()
        await expect(button).to_have_attribute("aria-pressed", "true")


async def test_a_tick_stays_with_its_job_when_another_one_comes(
    site: ConsoleSite, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticked = await post(site.database)
    async with watching(site, browser, monkeypatch) as page:
        await page.goto(f"{site.url}/jobs")
        await page.check(f'input[value="{ticked}"]')
        await page.locator("details:has(button[value=cancel]) summary").click()
        later = await post(site.database)
        await expect(page.locator(f'tbody a[href="/jobs/{later}"]')).to_be_visible()
        await expect(page.locator("input[name=job]:checked")).to_have_value(ticked)
        await page.locator("button[value=cancel]").click()
        await expect(page.locator(".said")).to_be_visible()
    rows = await query(site.database, "SELECT id, status FROM jobs")
    assert dict(rows) == {ticked: "cancelled", later: "queued"}


async def test_a_button_that_is_pressed_twice_acts_once(
    site: ConsoleSite, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    create, made = ApiKeys.create, []

    async def slowly(keys: ApiKeys, name: str, **limits: Any) -> str:
        made.append(name)
        await asyncio.sleep(0.5)
        return await create(keys, name, **limits)

    async with watching(site, browser, monkeypatch) as page:
        await page.goto(f"{site.url}/keys")
        await page.locator("details:has(#name) summary").click()
        await page.fill("#name", "client")
        for each in ("all_senders", "permission"):
            await page.locator(f'input[name="{each}"]').first.check()
        box = await page.locator("button[value=create]").bounding_box()
        monkeypatch.setattr(ApiKeys, "create", slowly)
        for _ in range(2):
            assert box
            await page.mouse.click(box["x"] + 5, box["y"] + 5)
            await page.wait_for_timeout(150)
        await expect(page.locator(".secret")).to_contain_text("sk_live_")
        await page.go_back()
        await page.locator("details:has(#name) summary").click()
        await page.fill("#name", "second")
        for each in ("all_senders", "permission"):
            await page.locator(f'input[name="{each}"]').first.check()
        await page.locator("button[value=create]").click()
        await expect(page.locator(".secret")).to_contain_text("sk_live_")
    assert made == ["client", "second"]


async def test_a_page_that_is_watched_is_not_green_while_the_database_or_the_daemon_is_away(
    site: ConsoleSite, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    await post(site.database)
    async with watching(site, browser, monkeypatch) as page:
        await expect(page.locator(".light.good")).to_be_visible()
        site.lose_database()
        await expect(page.locator("#stale")).to_contain_text("As of ")
        assert "grayscale(1)" in await page.locator("main").evaluate("it => getComputedStyle(it).filter")
        site.find_database()
        await expect(page.locator("#stale")).to_be_hidden()
        await page.route("**/*", lambda route: route.abort())
        await expect(page.locator("#stale")).to_be_visible()
        await page.unroute("**/*")
        await expect(page.locator("#stale")).to_be_hidden()
        await page.route(f"{site.url}/", lambda route: route.fulfill(status=429))
        await page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
        await expect(page.locator("#stale")).to_be_visible()
        await page.unroute(f"{site.url}/")
        await expect(page.locator("#stale")).to_be_hidden()
