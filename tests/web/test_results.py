"""What became of messages after they were sent: beside their states, by domain, what was undone; and retrying it."""

import json

from tests.support.rows import post, query, states
from tests.web.conftest import ConsoleSite
from tests.web.test_actions import ask

ADDRESSES = ["a@x.example", "b@x.example", "c@y.example", "d@y.example", "e@y.example"]
RESULTS = (("bounced", "hard"), ("bounced", "soft"), ("bounced", "soft"), ("replied", None))


async def fill(site: ConsoleSite) -> str:
    """A job whose messages are sent: one bounced hard, two softly, one was answered, of one nothing is known."""
    job = await post(site.database, recipients=ADDRESSES)
    await query(site.database, "UPDATE job_recipients SET status = 'sent', attempts = 1, proof = 'answered'")
    for seq, (result, kind) in enumerate(RESULTS):
        reason = f"told {kind} of {ADDRESSES[seq]}"
        await query(
            site.database,
            "UPDATE job_recipients SET result = %s, result_kind = %s, result_code = '4.2.2', result_reason = %s, "
            "result_at = UTC_TIMESTAMP(6) WHERE seq = %s",
            result, kind, reason, seq,
        )  # fmt: skip
        await query(
            site.database,
            "INSERT INTO notices (mailbox, gmail_id, thread_id, recipient_id, job_id, email, kind, detail, believed, "
            "at) VALUES ('me@example.com', %s, 't', (SELECT id FROM job_recipients WHERE seq = %s), %s, %s, %s, %s, "
            "1, UTC_TIMESTAMP(6))",
            f"g{seq}", seq, job, ADDRESSES[seq], kind or "reply", reason,
        )  # fmt: skip
    await query(site.database, "UPDATE notices SET sender_email = mailbox")
    await query(
        site.database,
        "UPDATE jobs SET status = 'completed', finished_at = UTC_TIMESTAMP(6), bounced = 3, replied = 1",
    )
    return job


async def test_results_stand_beside_states_and_what_bounced_softly_is_sent_again(site: ConsoleSite) -> None:
    job, browser = await fill(site), await site.signed_in()
    shown = {"bounced": ADDRESSES[:3], "replied": ADDRESSES[3:4], "sent": ADDRESSES, "no such tab": ADDRESSES}
    for tab, addresses in shown.items():
        async with browser.get(f"/jobs/{job}?tab={tab}") as answer:
            rows = (await answer.text()).partition('id="people"')[2]
            assert [each for each in ADDRESSES if f">{each}</a>" in rows] == addresses, tab
    async with browser.get(f"/jobs/{job}") as answer:
        text = await answer.text()
        assert text.count('class="badge b-bounced"') == 3
        assert "told hard of a@x.example" in text
    async with browser.get("/people?email=b@x.example") as answer:
        assert 'class="badge b-bounced"' in await answer.text()
    assert "2 messages requeued." in await ask(browser, f"/jobs/{job}", action="retry-soft")
    assert await states(site.database, job) == {"sent": 3, "waiting": 2}
    assert await query(site.database, "SELECT bounced FROM jobs") == [(1,)]
    assert await query(site.database, "SELECT action, actor, detail, messages FROM job_actions") == [
        ("retry", "key:shop via console", "bounced: soft", 2)
    ]


async def test_a_sender_shows_its_bounces_by_domain(site: ConsoleSite) -> None:
    await fill(site)
    browser = await site.signed_in()
    for path in ("/senders/me@example.com", "/inbox"):
        async with browser.get(path) as answer:
            rows = (await answer.text()).partition(">Domain<")[2]
            assert rows.index(">x.example<") < rows.index(">y.example<"), path


async def test_bounces_are_counted_by_sender(site: ConsoleSite) -> None:
    await fill(site)
    for limits, shown in (({}, True), ({"senders": ["you@example.com"]}, False)):
        browser = await site.signed_in(f"by sender {shown}", **limits)
        async with browser.get("/inbox") as answer:
            rows = (await answer.text()).partition("Bounces by sender (14 days)</h2>")[2].partition("</table>")[0]
            assert ('<a href="/senders/me%40example.com">' in rows) is shown
            assert [it.partition("<")[0] for it in rows.split('<td class="n">')[1:]] == (
                ["0", "1", "2", "0"] if shown else []
            )


async def test_what_was_undone_is_told_to_its_own_tenant(site: ConsoleSite) -> None:
    job = await post(site.database, recipients=ADDRESSES)
    for number in range(60):
        data = {"recipient_id": 1 + number % 5, "job_id": job, "email": f"u{number}@x.example",
                "sender_email": "me@example.com", "reason": "Google <b>gave</b> it back"}  # fmt: skip
        await query(
            site.database,
            "INSERT INTO events (uid, type, cause, job_id, sender_email, data, at) VALUES "
            "(%s, 'recipient.sent_undone', %s, %s, 'me@example.com', %s, UTC_TIMESTAMP(6))",
            f"evt_{number:026}", f"{number}:x", job, json.dumps(data),
        )  # fmt: skip
    browser, other = await site.signed_in(), await site.signed_in("other", senders=["you@example.com"])
    async with browser.get("/inbox?show=undone") as answer:
        text = await answer.text()
    assert text.count("Google &lt;b&gt;gave&lt;/b&gt; it back") == 50
    assert text.count('class="badge b-waiting"') == 50
    assert text.index("u59@x.example") < text.index("u10@x.example")
    older = text.partition('rel="next" href="')[2].partition('"')[0].replace("&amp;", "&")
    async with browser.get(older) as answer:
        text = await answer.text()
        assert (text.count("gave&lt;/b&gt;"), "u9@x.example" in text) == (10, True)
    async with other.get("/inbox?show=undone") as answer:
        assert "No returned messages" in await answer.text()


async def test_a_job_that_was_paused_for_its_list_is_told_on_the_first_page_and_its_own(site: ConsoleSite) -> None:
    job = await post(site.database, recipients=ADDRESSES)
    paused = "status = 'paused', pause_cause = 'bounces', pause_reason = 'it is bad'"
    await query(site.database, f"UPDATE jobs SET {paused}")
    site.daemon.service.stats.take(await site.daemon.service.stats.read())
    browser = await site.signed_in()
    for path, said in (("/", f"Job {job} is paused: it is bad."), (f"/jobs/{job}", "the job is paused: it is bad")):
        async with browser.get(path) as answer:
            assert said in await answer.text(), path
    await query(
        site.database, "UPDATE jobs SET status = 'queued', pause_reason = NULL, bounce_warning = 'it may be bad'"
    )
    async with browser.get(f"/jobs/{job}") as answer:
        assert "Warning: it may be bad." in await answer.text()
