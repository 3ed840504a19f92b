"""A job's report: one bar of what became of everybody, whose parts are the whole job, each with its list and file."""

import csv
import io
import re
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import aiohttp
import pytest

from mailerd.core.results import MessageOutcome
from mailerd.core.suppression import Channel, Reason
from mailerd.store.write.api_keys import Permission
from mailerd.store.write.suppressions import NewSuppression, Suppressions
from tests.support.rows import post, query, states
from tests.web.conftest import ConsoleSite
from tests.web.test_actions import ask

EACH = [*MessageOutcome] * 2 + [MessageOutcome.WAITING, MessageOutcome.NO_REPLY]
"""What became of the messages, by their places."""


async def fill(site: ConsoleSite) -> str:
    """A job with messages of every outcome."""
    job = await post(site.database, recipients=[f"p{n}@example.org" for n in range(len(EACH))])
    for seq, outcome in enumerate(EACH):
        status, result, kind = outcome.meaning
        await query(
            site.database,
            "UPDATE job_recipients SET status = %s, result = %s, result_kind = %s, attempts = 1, "
            "result_at = IF(%s IS NULL, NULL, UTC_TIMESTAMP(6)), error = IF(%s = 'failed', 'no', NULL) WHERE seq = %s",
            status.value, result and result.value, kind, result and result.value, status.value, seq,
        )  # fmt: skip
    await query(
        site.database,
        "INSERT INTO notices (mailbox, gmail_id, thread_id, recipient_id, job_id, email, kind, believed, at) "
        "SELECT 'me@example.com', id, id, id, job_id, to_email, COALESCE(result_kind, CASE result WHEN 'auto_replied' "
        "THEN 'auto_reply' WHEN 'unsubscribed' THEN 'unsubscribe' ELSE 'reply' END), 1, UTC_TIMESTAMP(6) "
        "FROM job_recipients WHERE result IS NOT NULL",
    )
    await query(
        site.database,
        "UPDATE jobs SET bounced = (SELECT SUM(result = 'bounced') FROM job_recipients), "
        "replied = (SELECT SUM(result IN ('replied', 'other_replied')) FROM job_recipients)",
    )
    return job


async def page_of(browser: aiohttp.ClientSession, path: str) -> str:
    async with browser.get(path) as answer:
        assert answer.status == 200
        return await answer.text()


def all_of(page: str) -> str:
    """What "all that match" says."""
    return str(re.findall(r'name="all" value="([^"]*)"', page)[0])


def parts_of(page: str) -> dict[str, int]:
    return {name: int(n) for name, n in re.findall(r'id="part-(\w+)".+?class="n"[^>]*>(\d+)<', page)}


async def test_the_parts_are_the_whole_job_and_each_has_its_people_its_file_and_its_action(site: ConsoleSite) -> None:
    job, browser, key = await fill(site), await site.signed_in(), await site.keys.create("api")
    page = await page_of(browser, f"/jobs/{job}")
    parts = parts_of(page)
    assert parts == {outcome.value: EACH.count(outcome) for outcome in MessageOutcome}
    assert sum(parts.values()) == len(EACH)
    assert len(re.findall('<rect class="o-', page)) == len(parts)
    async with browser.get(f"/api/jobs/{job}", headers={"X-API-Key": key}) as answer:
        assert (await answer.json())["outcomes"] == parts
    for outcome in MessageOutcome:
        expected = [f"p{seq}@example.org" for seq, each in enumerate(EACH) if each is outcome]
        shown = (await page_of(browser, f"/jobs/{job}?tab={outcome.value}")).partition('id="people"')[2]
        assert re.findall(r">(p\d+@example.org)</a>", shown) == expected, outcome
        for path in (f"/jobs/{job}/results.csv?tab=", f"/api/jobs/{job}/results.csv?outcome="):
            async with browser.get(f"{path}{outcome.value}", headers={"X-API-Key": key}) as answer:
                rows = list(csv.DictReader(io.StringIO(await answer.text())))
            assert [row["email"] for row in rows] == expected, (path, outcome)
    actions = dict(re.findall(r'id="part-(\w+)"(?:(?!</tr>).)+?name="action" value="([a-z-]+)"', page))
    assert actions == {"failed": "retry", "bounced_soft": "retry-soft", "unsure": "look"}
    assert "2 messages requeued." in await ask(browser, f"/jobs/{job}", action="retry-soft")
    assert "2 messages requeued." in await ask(browser, f"/jobs/{job}", action="retry")
    parts = parts_of(await page_of(browser, f"/jobs/{job}"))
    assert (parts["waiting"], "failed" in parts, "bounced_soft" in parts) == (7, False, False)
    assert sum(parts.values()) == len(EACH)
    for wrong in ("outcome=bounced", "outcome=failed&status=failed"):
        async with browser.get(f"/api/jobs/{job}/recipients?{wrong}", headers={"X-API-Key": key}) as answer:
            assert (answer.status, '"outcome"' in await answer.text()) == (422, True)


@pytest.mark.parametrize("status", ["queued", "paused", "completed", "cancelled"])
async def test_the_sum_is_the_total_whatever_the_state_of_the_job(site: ConsoleSite, status: str) -> None:
    job, browser = await fill(site), await site.signed_in("reader", permissions=[Permission.READ])
    await query(site.database, "UPDATE jobs SET status = %s", status)
    page = await page_of(browser, f"/jobs/{job}")
    assert sum(parts_of(page).values()) == len(EACH)
    assert "<button name" not in page, "this key may read only"
    assert "19 sent, 2 failed, 2 unconfirmed, 2 cancelled of 30" in page


async def test_who_unsubscribed_by_a_message_is_counted_by_its_job(site: ConsoleSite) -> None:
    store = await Suppressions.open(site.database, timeout=5)
    made = await store.make_list("news")
    jobs = [await post(site.database, recipients=["ada@example.com", "bob@example.com"], list_id=made.id) for _ in "12"]
    await query(site.database, "UPDATE job_recipients SET status = 'sent', proof = 'answered'")
    ids = await query(site.database, "SELECT id FROM job_recipients WHERE job_id = %s ORDER BY seq", jobs[0])
    new = [
        NewSuppression(store.digest(email), made.id, Reason.UNSUBSCRIBED, Channel.ONE_CLICK, email, id_)
        for email, (id_,) in zip(("ada@example.com", "bob@example.com"), ids, strict=True)
    ]
    await store.add(new)
    browser = await site.signed_in()
    assert "2 people unsubscribed by a message of this job." in await page_of(browser, f"/jobs/{jobs[0]}")
    assert "unsubscribed by a message" not in await page_of(browser, f"/jobs/{jobs[1]}")


async def test_people_are_found_by_the_beginning_of_an_address_or_a_part_of_a_name(site: ConsoleSite) -> None:
    job = await post(site.database, recipients=["Ada.L@example.com", "bob@example.com", "x@ada.example"])
    await query(site.database, "UPDATE job_recipients SET to_name = 'Bobby Adams' WHERE seq = 1")
    await query(site.database, "UPDATE job_recipients SET to_name = NULL WHERE seq <> 1")
    browser = await site.signed_in()
    for text, found in (
        ("ada", ["Ada.L@example.com", "bob@example.com"]), ("ada.l@example.com", ["Ada.L@example.com"]), ("%", []),
        ("ADAMS", ["bob@example.com"]), ("x@", ["x@ada.example"]),
    ):  # fmt: skip
        shown = (await page_of(browser, f"/jobs/{job}?email={text.replace('%', '%25')}")).partition('id="people"')[2]
        assert re.findall(r">([^<]+@[^<]+)</a>", shown) == found, text


async def test_a_job_that_has_not_begun_gets_another_time_and_one_that_has_begun_does_not(site: ConsoleSite) -> None:
    job, browser = await post(site.database), await site.signed_in()
    at = (datetime.now(UTC) + timedelta(days=3)).replace(second=0, microsecond=0)
    there = at.astimezone(ZoneInfo("Asia/Shanghai"))
    form = {"action": "reschedule", "at": f"{there:%Y-%m-%dT%H:%M}", "zone": "Asia/Shanghai"}
    shown = f'<time datetime="{at:%Y-%m-%dT%H:%M:%SZ}" title="{at:%Y-%m-%d %H:%M:%S} UTC">{at:%Y-%m-%d %H:%M}</time>'
    assert f"Job rescheduled for {shown}" in await ask(browser, f"/jobs/{job}", **form)
    async with browser.get(f"/jobs/{job}", cookies={"mailerd-zone": "Asia/Shanghai"}) as answer:
        page = await answer.text()
    assert f'value="{there:%Y-%m-%dT%H:%M}"' in page  # what is offered is the same moment, in the reader's zone
    assert 'name="zone" value="Asia/Shanghai"' in page
    assert await query(site.database, "SELECT DISTINCT jobs.send_at, due_at FROM jobs, job_recipients") == [
        (at.replace(tzinfo=None),) * 2
    ]
    assert [(it["action"], it["via"]) for it in site.heard.of("job_action")] == [("change", "console")]
    assert job[-6:] in await page_of(browser, "/jobs?tab=scheduled")
    assert "No jobs found" in await page_of(browser, "/jobs?tab=progress")
    far = f"{at.year + 2}-01-01T00:00"
    for wrong, zone, said in (
        ("soon", "", "Enter a date, a time and a time zone."), (far, "", "more than a year ahead"),
        ("2027-01-01T10:00", "../passwd", "Enter a date"), ("0001-01-01T00:00", "Asia/Shanghai", "Enter a date"),
    ):  # fmt: skip
        assert said in await ask(browser, f"/jobs/{job}", action="reschedule", at=wrong, zone=zone)
    past = await ask(browser, f"/jobs/{job}", action="reschedule", at="2020-01-01T09:00")
    assert re.search(r"2020-01-01 09:00</time> is in the past: the job is sent immediately\.", past)
    await ask(browser, f"/jobs/{job}", **form)
    await query(site.database, "UPDATE job_recipients SET status = 'sent' WHERE seq = 0")
    said = await ask(browser, f"/jobs/{job}", action="reschedule", at=f"{at:%Y-%m-%dT10:00}")
    assert "only before its first message is sent" in said
    assert await query(site.database, "SELECT send_at FROM jobs") == [(at.replace(tzinfo=None),)]


async def test_jobs_are_found_by_tab_and_text_and_all_that_match_are_changed_at_once(site: ConsoleSite) -> None:
    jobs = [await post(site.database, subject=f"Autumn {n % 2}") for n in range(54)]
    unsure, browser = jobs[0], await site.signed_in()
    await query(site.database, "UPDATE job_recipients SET status = 'unsure' WHERE job_id = %s AND seq = 0", unsure)
    page = await page_of(browser, "/jobs?tab=attention")
    assert re.findall(r'href="/jobs/(\w+)"', page) == [unsure]
    assert "Confirm manually" in page
    async with browser.get("/doubts") as answer:
        assert answer.url.path_qs == "/jobs?tab=attention"
    for text in (unsure[-6:].lower(), unsure):
        assert re.findall(r'href="/jobs/(\w+)"', await page_of(browser, f"/jobs?q={text}")) == [unsure]
    page = await page_of(browser, "/jobs")
    assert "All 54 jobs that match" in page
    assert "0 sent of 3" in page
    newest = all_of(page)
    later = await post(site.database, subject="Autumn 1")  # after the page was loaded: nobody has meant it
    said = await ask(browser, "/jobs", action="cancel", all=newest, q="Autumn 1")
    assert "27 jobs changed. 81 messages are not sent." in said
    assert await query(site.database, "SELECT subject, status, COUNT(*) FROM jobs GROUP BY subject, status") == [
        ("Autumn 0", "queued", 27), ("Autumn 1", "cancelled", 27), ("Autumn 1", "queued", 1)
    ]  # fmt: skip
    failed = (await post(site.database), await post(site.database))
    for job in failed:
        await query(site.database, "UPDATE job_recipients SET status = 'failed' WHERE job_id = %s AND seq = 0", job)
        await query(
            site.database,
            "INSERT INTO events (uid, type, cause, job_id, data, at) SELECT id, 'recipient.failed', id, job_id, '{}', "
            "UTC_TIMESTAMP(6) FROM job_recipients WHERE job_id = %s AND seq = 0",
            job,
        )
    newest = all_of(await page_of(browser, "/jobs?tab=attention"))
    await query(site.database, "UPDATE job_recipients SET status = 'sent' WHERE job_id = %s AND seq = 0", failed[0])
    said = await ask(browser, "/jobs", action="pause", all=newest, tab="attention")
    assert "2 jobs changed." in said  # of three that the events name, one was mended, and is not in the list
    rows = await query(site.database, "SELECT id FROM jobs WHERE status = 'paused' ORDER BY id")
    assert rows == [(unsure,), (failed[1],)]
    assert later in await page_of(browser, "/jobs")
    other = await site.signed_in("other", senders=["you@example.com"])
    assert "0 jobs changed." in await ask(other, "/jobs", action="cancel", all=newest)
    assert unsure not in await page_of(other, "/jobs?tab=attention")


async def test_the_filters_of_a_browser_and_key_are_kept_and_are_said_where_nothing_is_found(site: ConsoleSite) -> None:
    job, browser = await post(site.database, subject="Autumn"), await site.signed_in()
    form = {"q": "Autumn", "sender": "", "status": "", "from": "", "until": ""}
    async with browser.get("/jobs", params=form) as answer:
        assert job in await answer.text()
    async with browser.get("/jobs") as answer:
        assert answer.url.path_qs == "/jobs?q=Autumn"
    async with browser.get("/jobs?status=paused") as answer:  # as a link has it, which keeps nothing
        page = await answer.text()
    assert "No job matches the filters." in page
    assert page.count('<a href="/jobs?all=1">Show all</a>') == 1
    async with browser.get("/jobs", headers={"HX-Request": "true"}) as answer:  # an open page stays what it is
        assert answer.url.path_qs == "/jobs"
    await ask(browser, "/logout")
    async with browser.post("/login", data={"key": await site.keys.create("other")}):
        pass
    async with browser.get("/jobs") as answer:  # another key's words are nobody's business
        assert answer.url.path_qs == "/jobs"
    async with browser.get("/jobs", params=form | {"q": "none", "tab": "progress"}):
        pass
    async with browser.get("/jobs") as answer:
        assert answer.url.path_qs == "/jobs?q=none"
    async with browser.get("/jobs?tab=progress&all=1") as answer:
        assert answer.url.path_qs == "/jobs?tab=progress"
    async with browser.get("/jobs") as answer:
        assert answer.url.path_qs == "/jobs"
    for odd in ("q=" + "x" * 5000, "%", "q%3D%00%ff&status=no", "from%3D0001-01-01%26until%3D9999-12-31"):
        cookies = {"mailerd-jobs-2": odd, "mailerd-zone": "Asia/Shanghai"}
        async with browser.get("/jobs", cookies=cookies) as answer:
            assert answer.status == 200


async def test_a_message_says_once_how_it_stands_and_is_settled_only_for_the_attempt_that_was_seen(
    site: ConsoleSite,
) -> None:
    job, browser = await post(site.database, recipients=2), await site.signed_in()
    await query(
        site.database,
        "UPDATE job_recipients SET status = 'sent', proof = 'answered', attempts = 1, sent_at = UTC_TIMESTAMP(6), "
        "message_id = 'g123' WHERE seq = 0",
    )
    await query(site.database, "UPDATE job_recipients SET status = 'unsure', attempts = 2 WHERE seq = 1")
    text = re.sub("<[^>]+>", " ", (await page_of(browser, "/messages/1")).partition("<main")[2])
    assert len(re.findall(r"\b[Ss]ent\b", text)) == 1
    assert text.count("Google returned the message ID.") == text.count("g123") == 1
    page = await page_of(browser, "/messages/2")
    assert "It is not resent until that is known." in page
    for attempt, status in (("", 200), ("1", 409)):
        async with browser.post("/messages/2", data={"action": "not-sent", "attempt": attempt}) as answer:
            assert answer.status == status
    assert await states(site.database, job) == {"sent": 1, "unsure": 1}
    await ask(browser, "/messages/2", action="not-sent", attempt="2")
    assert await states(site.database, job) == {"sent": 1, "waiting": 1}
