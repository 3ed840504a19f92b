"""Whatever stands in a text that came from outside, in the words of a server or a client, its page comes."""

import re

import pytest

from mailerd.web.frame.html import line_of_story
from tests.support.rows import query
from tests.web.conftest import ConsoleSite
from tests.web.test_actions import ask
from tests.web.test_browser import fill, places
from tests.web.visitor import HOOK

HOSTILE = [
    "2026-99-99 99:99:99 UTC", "2026-02-30 00:00:00 UTC then 2026-01-02 03:04:05 UTC", "0000-00-00 00:00:00 UTC",
    "9999-12-31 23:59:60 UTC", "{{ 7*7 }}{% raw %}", "%s %d %(x)s {0} {name} {", "<script>alert(1)</script>",
    "\x1b[31m\r\n\x00\x07", "\u202e\ufeff\u2028", "\U0001f389" * 60, "٣" * 20, "nan", "9" * 60, "", " ", "[", '{"a":',
]  # fmt: skip
TEXTS = {
    "job_recipients": ["error", "result_reason", "to_name"],
    "attempts": ["error"],
    "senders": ["pause_reason", "project"],
    "jobs": ["reference", "sender_name", "template_name", "subject", "text"],
    "job_actions": ["actor", "detail"],
    "suppressions": ["detail", "actor"],
    "suppression_log": ["actor"],
    "lists": ["title"],
    "daemons": ["host"],
    "mailboxes": ["detail"],
    "notices": ["detail"],
    "webhooks": ["url"],
    "webhook_deliveries": ["error"],
}
"""The columns of each table whose texts others have written, or whose words mailerd has from elsewhere."""
SEEDS = [
    "INSERT INTO attempts (recipient_id, attempt, claim_token, daemon_id, event, error, at) "
    "SELECT id, 1, '', '', 'failed', 'x', UTC_TIMESTAMP(6) FROM job_recipients",
    "INSERT INTO job_actions (job_id, action, actor, detail, changed, messages, at) "
    "SELECT id, 'pause', 'key:x', 'x', 1, 1, UTC_TIMESTAMP(6) FROM jobs",
    "REPLACE INTO mailboxes (email, next_at, state, detail) "
    "VALUES ('me@example.com', UTC_TIMESTAMP(6), 'failing', 'x')",
    "INSERT INTO notices (mailbox, gmail_id, thread_id, recipient_id, job_id, email, kind, detail, believed, at) "
    "SELECT 'me@example.com', CONCAT('g', id), 't', id, job_id, to_email, 'hard', 'x', 1, UTC_TIMESTAMP(6) "
    "FROM job_recipients",
]


async def test_no_stored_text_makes_a_page_fail(site: ConsoleSite) -> None:
    job, browser = await fill(site), await site.signed_in()
    for seed in SEEDS:
        await query(site.database, seed)
    said = await ask(browser, "/lists", action="list", list="news")
    said += await ask(browser, "/suppressions", action="add", email="r0@example.org")
    tabs = [f"/jobs/{job}?tab={tab}" for tab in ("unsure", "sent", "bounced", "actions")]
    messages = [f"/messages/{number}{way}" for number in (1, 3, 4, 7) for way in ("", "/html")]
    paths = [*places(job), *tabs, *messages, f"/webhooks/{HOOK}?tab=deliveries", "/lists?after=1"]
    wrong = list[tuple[str, str, int]]()
    for number, text in enumerate(HOSTILE):
        for table, columns in TEXTS.items():
            assert (await query(site.database, f"SELECT COUNT(*) > 0 FROM {table}")) == [(1,)], table
            given = ", ".join(f"{column} = %s" for column in columns)
            await query(site.database, f"UPDATE {table} SET {given}", *[text] * len(columns))
        site.daemon.service.stats.take(await site.daemon.service.stats.read())
        for path in paths:
            async with browser.get(path, headers={"Accept-Language": ("en", "zh")[number % 2]}) as answer:
                if answer.status != 200:
                    wrong.append((text, path, answer.status))
                assert "<script>alert" not in await answer.text()
    assert wrong == []
    assert not site.heard.of("request_failed")


@pytest.mark.parametrize("language", ["en", "zh"])
async def test_what_only_looks_like_a_moment_is_shown_as_it_is(site: ConsoleSite, language: str) -> None:
    await fill(site)
    browser = await site.signed_in()
    await query(
        site.database, "UPDATE job_recipients SET error = 'until 2026-99-99 99:99:99 UTC', result_reason = error"
    )
    async with browser.get("/messages/1", headers={"Accept-Language": language}) as answer:
        assert (answer.status, "2026-99-99 99:99:99 UTC" in await answer.text()) == (200, True)


def test_a_forecast_by_the_minute_gets_no_seconds_that_nobody_has_counted() -> None:
    by_the_minute, exact = line_of_story("done about 08:35 UTC"), line_of_story("due at 08:35:22 UTC")
    assert re.fullmatch(
        r'done about <time datetime="[-\d]+T08:35Z" title="[-\d]+ 08:35 UTC">08:35</time>', by_the_minute
    )
    assert re.fullmatch(r'due at <time datetime="[-\d]+T08:35:22Z" title="[-\d]+ 08:35:22 UTC">08:35:22</time>', exact)
