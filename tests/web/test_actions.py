"""Every action of every page by plain forms, as a browser without scripts sends them, and what the rows say then."""

import re
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from mailerd.clock import Clock
from mailerd.core.copies import Copy, to_json
from mailerd.core.extras import Extras
from mailerd.core.suppression import DEAD_TOKEN
from mailerd.sandbox.google import FakeGoogle
from mailerd.store.write.api_keys import Permission
from mailerd.store.write.suppressions import Suppressions
from mailerd.store.write.webhooks import NewEndpoint, Webhooks
from mailerd.worker.message_builder import MessageBuilder, UnsubscribeLinks
from tests.support.daemon import sign_in
from tests.support.rows import post, query, states
from tests.web.conftest import ConsoleSite

ACTOR = "key:shop via console"
SHOWN = "key shop in the console"


async def ask(browser: aiohttp.ClientSession, path: str, **form: Any) -> str:
    async with browser.post(path, data=form) as answer:
        text = await answer.text()
        assert answer.status == 200, text
        return text


async def test_a_job_is_paused_resumed_moved_and_cancelled_and_the_log_says_by_whom(site: ConsoleSite) -> None:
    job, browser = await post(site.database), await site.signed_in()
    page = f"/jobs/{job}"
    for form, status in (
        ({"action": "pause"}, "paused"), ({"action": "resume"}, "queued"),
        ({"action": "priority", "priority": "7"}, "queued"), ({"action": "cancel"}, "cancelled"),
    ):  # fmt: skip
        await ask(browser, page, **form)
        assert await query(site.database, "SELECT status FROM jobs") == [(status,)]
    assert await states(site.database, job) == {"cancelled": 3}
    log = await query(site.database, "SELECT action, actor FROM job_actions ORDER BY id")
    assert log == [(action, ACTOR) for action in ("pause", "resume", "priority", "cancel")]
    assert "Nothing was changed. Job status: Cancelled." in await ask(browser, page, action="resume")
    assert "Enter a priority from -100 to 100." in await ask(browser, page, action="priority", priority="high")
    async with browser.get("/activity") as answer:
        assert SHOWN in await answer.text()


async def test_several_jobs_are_paused_at_once(site: ConsoleSite) -> None:
    jobs, browser = [await post(site.database) for _ in range(3)], await site.signed_in()
    said = await ask(browser, "/jobs", action="pause", job=jobs[0]) + await ask(browser, "/jobs", action="pause")
    assert "1 job changed." in said
    assert "Nothing was changed. Select at least one job." in said
    form = aiohttp.FormData([("action", "pause"), *(("job", job) for job in jobs)])
    async with browser.post("/jobs", data=form) as answer:
        assert "2 jobs changed." in await answer.text()
    assert await query(site.database, "SELECT DISTINCT status FROM jobs") == [("paused",)]


async def test_failures_are_grouped_by_cause_and_one_cause_is_retried(site: ConsoleSite) -> None:
    job, browser = await post(site.database, recipients=5), await site.signed_in()
    await query(
        site.database,
        "UPDATE job_recipients SET status = 'failed', attempts = 1, "
        "error = IF(seq < 2, CONCAT('no ', to_email), 'other')",
    )
    async with browser.get(f"/jobs/{job}") as answer:
        text = await answer.text()
    assert len(re.findall(r"Retry \d messages", text)) == 2
    first = text.split('name="cause" value="')[1].split('"')[0]
    assert "3 messages requeued." in await ask(browser, f"/jobs/{job}", action="retry-cause", cause=first)
    assert await states(site.database, job) == {"waiting": 3, "failed": 2}
    await ask(browser, f"/jobs/{job}", action="retry")
    assert await states(site.database, job) == {"waiting": 5}


async def test_jobs_of_which_messages_failed_are_found_among_all(site: ConsoleSite) -> None:
    failed, _, retried = [await post(site.database) for _ in range(3)]
    for job in (failed, retried):
        await query(
            site.database,
            "INSERT INTO events (uid, type, cause, job_id, data, at) SELECT id, 'recipient.failed', id, job_id, '{}', "
            "UTC_TIMESTAMP(6) FROM job_recipients WHERE job_id = %s",
            job,
        )
    await query(site.database, "UPDATE job_recipients SET status = 'failed', error = 'no' WHERE job_id = %s", failed)
    browser, other = await site.signed_in(), await site.signed_in("other", senders=["you@example.com"])
    async with browser.get("/jobs?status=failures") as answer:
        text = await answer.text()
    assert [job in text for job in (failed, retried)] == [True, False]
    assert text.count('type="checkbox" name="job"') == 1
    async with other.get("/jobs?status=failures") as answer:
        assert failed not in await answer.text()


async def test_a_doubt_is_settled_either_way_and_the_row_says_by_whom(site: ConsoleSite) -> None:
    job, browser = await post(site.database, recipients=2), await site.signed_in()
    await query(site.database, "UPDATE job_recipients SET status = 'unsure', error = 'no answer'")
    async with browser.get("/doubts") as answer:
        assert (await answer.text()).count("Confirm manually") == 2
    async with browser.get("/messages/1") as answer:
        text = await answer.text()
        assert "https://mail.google.com/mail/?authuser=me%40example.com#search/in%3Asent" in text
    await ask(browser, "/messages/1", action="sent", attempt="0")
    await ask(browser, "/messages/2", action="not-sent", attempt="0")
    assert await states(site.database, job) == {"sent": 1, "waiting": 1}
    assert await query(site.database, "SELECT proof, error FROM job_recipients WHERE id = 1") == [
        ("person", f"confirmed as sent by {SHOWN}")
    ]
    async with browser.post("/messages/1", data={"action": "sent", "attempt": "0"}) as answer:
        assert answer.status == 409
    noted = await query(site.database, "SELECT job_id, action, actor, detail, messages FROM job_actions ORDER BY id")
    assert noted == [
        (job, "settle", ACTOR, "sent, recipient 1", 1), (job, "settle", ACTOR, "waiting, recipient 2", 1),
    ]  # fmt: skip
    async with browser.get("/activity?lang=zh") as answer:
        text = await answer.text()
        assert "人工确认 (等待中，收件人 ID 2)" in text
        assert "密钥 shop（控制台）" in text


async def test_a_job_whose_last_doubt_is_settled_is_told_as_finished(site: ConsoleSite) -> None:
    jobs, browser = [await post(site.database, recipients=2) for _ in range(2)], await site.signed_in()
    await query(site.database, "UPDATE job_recipients SET status = 'unsure' WHERE id IN (1, 3)")
    await query(site.database, "UPDATE job_recipients SET status = 'failed', error = 'no' WHERE id IN (2, 4)")
    await query(site.database, "UPDATE jobs SET status = 'cancelled' WHERE id = %s", jobs[1])
    await ask(browser, "/messages/1", action="sent", attempt="0")
    await ask(browser, "/messages/3", action="not-sent", attempt="0")

    told = [(it["job"], it["sent"], it["failed"], it["cancelled"]) for it in site.heard.of("job_finished")]
    assert told == [(jobs[0], 1, 1, 0), (jobs[1], 0, 1, 1)]
    ended = await query(site.database, "SELECT status FROM jobs WHERE finished_at IS NOT NULL ORDER BY id")
    assert ended == [("completed",), ("cancelled",)]


async def test_a_page_of_an_earlier_attempt_settles_no_later_doubt(site: ConsoleSite) -> None:
    job, browser = await post(site.database, recipients=1), await site.signed_in()
    await query(site.database, "UPDATE job_recipients SET status = 'unsure', attempts = 1, error = 'no answer'")
    async with browser.get("/messages/1") as answer:
        seen = (await answer.text()).split('name="attempt" value="')[1].split('"')[0]
    await query(site.database, "UPDATE job_recipients SET attempts = 2")  # it was sent again, and no answer came again
    async with browser.post("/messages/1", data={"action": "not-sent", "attempt": seen}) as answer:
        assert (answer.status, "was retried in the meantime" in await answer.text()) == (409, True)
    assert await states(site.database, job) == {"unsure": 1}
    await ask(browser, "/messages/1", action="not-sent", attempt="2")
    assert await states(site.database, job) == {"waiting": 1}


async def test_a_link_of_an_old_alert_leads_to_the_message(site: ConsoleSite) -> None:
    await post(site.database)
    browser = await site.signed_in()
    async with browser.get("/letters/1", allow_redirects=False) as answer:
        assert (answer.status, answer.headers["Location"]) == (301, "/messages/1")
    async with browser.get("/messages/1") as answer:
        assert (answer.status, "<h1>r0@example.org</h1>" in await answer.text()) == (200, True)


async def test_a_doubt_is_settled_behind_a_question_and_the_sandbox_shows_its_outbox(
    site: ConsoleSite,
) -> None:
    await post(site.database, recipients=1)
    await query(site.database, "UPDATE job_recipients SET status = 'unsure', error = 'no answer'")
    services, browser = site.daemon.console.services, await site.signed_in()
    settings = services.settings
    there = settings.gmail.model_copy(update={"api_root": "http://127.0.0.1:4400/"})
    services.settings = settings.model_copy(update={"gmail": there})
    async with browser.get("/messages/1") as answer:
        text = await answer.text()
    assert 'href="http://127.0.0.1:4400/?q=' in text
    assert "mail.google.com" not in text
    folded = [each.partition("</details>")[0] for each in text.split('<details class="act">')[1:]]
    assert [('value="sent"' in each, 'value="not-sent"' in each) for each in folded] == [(True, False), (False, True)]
    assert "If Google did send it, r0@example.org receives it twice." in folded[1]


async def test_what_came_back_is_told_by_domain_and_beside_its_message_and_to_its_own_tenant(site: ConsoleSite) -> None:
    job = await post(site.database, recipients=["ada@nowhere.example"])
    await query(
        site.database,
        "INSERT INTO notices (mailbox, gmail_id, thread_id, recipient_id, job_id, email, kind, code, detail, "
        "believed, at) VALUES "
        "('me@example.com', 'g1', 't1', 1, %s, "
        "'ada@nowhere.example', 'hard', '5.1.1', 'no such user', 1, UTC_TIMESTAMP(6))",
        job,
    )
    browser, other = await site.signed_in(), await site.signed_in("other", senders=["you@example.com"])
    for path in ("/inbox", "/messages/1"):
        async with browser.get(path) as answer:
            assert "no such user" in await answer.text()
    async with browser.get("/inbox?kind=replies") as answer:
        assert "No bounces or replies" in await answer.text()
    async with other.get("/inbox") as answer:
        text = await answer.text()
        assert (answer.status, "nowhere.example" in text) == (200, False)


async def test_an_authorized_mailbox_that_was_never_used_is_shown_and_paused_with_the_reason_of_a_command(
    site: ConsoleSite, tmp_path: Path
) -> None:
    sign_in(FakeGoogle(), tmp_path, sender="new@example.com")
    browser, page = await site.signed_in(), "/senders/new@example.com"
    async with browser.get(page) as answer:
        assert (answer.status, "Pause sender" in await answer.text()) == (200, True)
    assert "new@example.com paused." in await ask(browser, page, action="pause", lasts="")
    assert await query(site.database, "SELECT email, pause_reason, pause_reason_code FROM senders") == [
        ("new@example.com", "no reason given", "no_reason_given")
    ]
    assert "changes the writing direction" in await ask(browser, page, action="pause", lasts="", reason="a\u202eb")
    async with browser.post("/senders/none@example.com", data={"action": "pause"}) as answer:
        assert answer.status == 404


async def test_a_sender_is_paused_resumed_and_gets_limits(site: ConsoleSite) -> None:
    await post(site.database)
    browser = await site.signed_in()
    page = "/senders/me@example.com"
    await ask(browser, page, action="pause", lasts="", reason="moving house")
    assert await query(site.database, "SELECT pause_cause, pause_reason FROM senders") == [("manual", "moving house")]
    await ask(browser, page, action="resume")
    assert await query(site.database, "SELECT paused_until FROM senders") == [(None,)]
    assert await query(site.database, "SELECT job_id, sender, action, actor FROM job_actions ORDER BY id") == [
        (None, "me@example.com", action, ACTOR) for action in ("pause", "resume")
    ]
    other = await site.signed_in("other", senders=["you@example.com"])
    for visitor, seen in ((browser, True), (other, False)):
        async with visitor.get("/activity") as answer:
            assert ('<a href="/senders/me@example.com">' in await answer.text()) is seen
    await ask(browser, page, action="limits", per_day="90", reserve="5")
    assert await query(site.database, "SELECT per_day, reserve, per_minute FROM senders") == [(90, 5, None)]
    ((detail, actor),) = await query(
        site.database, "SELECT detail, actor FROM job_actions WHERE action = 'limits' AND changed = 1"
    )
    assert ("per_day 90, reserve 5" in detail, actor) == (True, ACTOR)
    await ask(browser, page, action="limits")
    assert await query(site.database, "SELECT per_day FROM senders") == [(None,)]
    assert "Nothing was changed: Messages per 24 hours: enter a whole number from 0 to " in await ask(
        browser, page, action="limits", per_day="many"
    )
    await query(site.database, "UPDATE senders SET per_day = 50")  # by somebody else, since the page was made
    await ask(browser, page, **{"action": "limits", "per_day": "", "shown-per_day": "", "per_minute": "7"})
    assert await query(site.database, "SELECT per_day, per_minute FROM senders") == [(50, 7)]
    assert [(it["action"], it["actor"], it["via"]) for it in site.heard.of("sender_action")] == [
        (action, ACTOR, "console") for action in ("pause", "resume", "limits", "limits", "limits")
    ]


async def test_an_address_is_suppressed_and_gets_messages_again(site: ConsoleSite) -> None:
    await post(site.database, recipients=["ada@example.com"])
    browser = await site.signed_in()
    await ask(browser, "/lists", action="list", list="news", title="News")
    await ask(browser, "/suppressions", action="add", email="ada@example.com", list="news")
    assert await query(site.database, "SELECT reason, actor FROM suppressions") == [("manual", ACTOR)]
    async with browser.get("/people?email=ADA@example.com") as answer:
        assert "Suppressed for list news: Manual" in await answer.text()
    async with browser.get("/suppressions?list=news&reason=manual") as answer:
        assert "ada@example.com" in await answer.text()
    for more, seen in (("", True), ("&list=news", True), ("&list=other", False), ("&reason=unsubscribed", False)):
        async with browser.get(f"/suppressions?email=ada@example.com{more}") as answer:
            assert ("End suppression" in await answer.text()) is seen, more
    await ask(browser, "/suppressions", action="remove", email="ada@example.com", list="news")
    said = {"mailing_list": "news", "changed": 1, "actor": ACTOR, "source": "api", "via": "console"}
    assert site.heard.of("suppression_action") == [
        {**said, "action": "suppress", "reason": "manual"}, {**said, "action": "unsuppress", "reason": ""}
    ]  # fmt: skip
    assert await query(site.database, "SELECT COUNT(*) FROM suppressions") == [(0,)]
    for form in ({"email": "no address"}, {"email": "a@b.example", "list": "none"}):
        await ask(browser, "/suppressions", action="add", **form)
    assert await query(site.database, "SELECT COUNT(*) FROM suppressions") == [(0,)]


async def test_a_form_that_does_not_say_what_to_do_changes_nothing(site: ConsoleSite) -> None:
    browser = await site.signed_in()
    for action in ({}, {"action": "send"}):
        assert "Nothing was changed." in await ask(browser, "/suppressions", **action, email="ada@example.com")
    for blank in (" ", "\u3000"):
        form = {"action": "add", "email": "ada@example.com", "list": blank}
        assert "Nothing was changed: this list does not exist." in await ask(browser, "/suppressions", **form)
    assert await query(site.database, "SELECT COUNT(*) FROM suppressions") == [(0,)]


async def test_a_template_is_previewed_and_sent_to_oneself(site: ConsoleSite) -> None:
    browser = await site.signed_in()
    async with browser.get("/templates/welcome?in=zh") as answer:
        assert answer.status == 200
    async with browser.get("/templates/welcome/html") as answer:
        text = await answer.text()
        assert "Welcome" in text
        assert "data:image/png;base64," in text
    await ask(browser, "/templates/welcome", sender="me@example.com", email="me@example.com", **{"in": "zh"})
    await ask(browser, "/templates/welcome", sender="me@example.com", email="me@example.com", **{"in": "zh"})
    assert await query(site.database, "SELECT reference, total FROM jobs") == [("test of welcome", 1)] * 2
    assert await query(site.database, "SELECT type, subject FROM jobs LIMIT 1") == [
        ("test", "Welcome to {{ product }}, {{ name }}")
    ]
    for email, why in ("nobody", "to[0]"), ("ada@example.org", "gets no tests"):
        assert why in await ask(browser, "/templates/welcome", sender="me@example.com", email=email)


async def test_a_message_shows_its_copies_and_that_its_person_was_forgotten(site: ConsoleSite) -> None:
    named = to_json([Copy("cc", "desk@example.com"), Copy("bcc", "audit@example.com")])
    await post(site.database, recipients=["a@example.com"], own=Extras(copy_list=named))
    browser = await site.signed_in()
    async with browser.get("/messages/1") as answer:
        text = await answer.text()
        assert "Cc desk@example.com" in text
        assert "Bcc audit@example.com" in text
    await query(site.database, "UPDATE job_recipients SET to_email = CONCAT('forgotten-', id, '@example.invalid')")
    async with browser.get("/messages/1/html") as answer:
        text = await answer.text()
        assert "was forgotten" in text
        assert "Dear" not in text


async def test_a_message_of_a_list_is_shown_with_a_link_that_does_nothing(site: ConsoleSite) -> None:
    text = "{{ 'Leave: ' ~ unsubscribe_url if unsubscribe_url else 'no link' }}"
    services, clock = site.daemon.console.services, Clock()
    links = UnsubscribeLinks(site.database, base_url="https://mail.example.com", clock=clock)
    services.preview = MessageBuilder(site.database, renderer=services.renderer, clock=clock, links=links).preview
    made = await (await Suppressions.open(site.database, timeout=5)).make_list("news")
    for list_id in (made.id, None):
        await post(site.database, recipients=["a@example.com"], text=text, list_id=list_id)
    browser, shown = await site.signed_in(), list[str]()
    for message in (1, 2):
        async with browser.get(f"/messages/{message}/html") as answer:
            shown.append(await answer.text())
    assert f"Leave: https://mail.example.com/u/{DEAD_TOKEN}" in shown[0]
    assert "no link" in shown[1]


async def test_a_key_is_made_shown_once_rotated_and_revoked(site: ConsoleSite) -> None:
    browser = await site.signed_in()
    text = await ask(browser, "/keys", action="create", name="new", senders="me@example.com", permission="read")
    secret = text.split('class="secret">')[1].split("<")[0]
    other = await site.sign_in(secret)
    async with browser.get("/keys") as answer:
        assert secret not in await answer.text()
    assert 'class="secret"' in await ask(browser, "/keys", action="rotate", name="2")
    await Webhooks(site.database, timeout=20).create(
        NewEndpoint("thief", "https://example.com/", owner=2), actor="test"
    )
    assert "Key revoked. Its webhook endpoints stay active: thief" in await ask(
        browser, "/keys", action="revoke", name="2"
    )
    async with other.get("/", allow_redirects=False) as answer:
        assert answer.status == 303
    acts = [(action, "key:shop via console", "new") for action in ("create_key", "rotate_key", "revoke_key")]
    noted = "SELECT action, actor, detail FROM job_actions WHERE action LIKE '%%_key' ORDER BY id"
    assert await query(site.database, noted) == acts
    told = site.heard.of("key_action")
    assert [(it["action"], it["actor"], it["name"], it["via"]) for it in told] == [(*act, "console") for act in acts]
    async with browser.get("/activity") as answer:
        text = await answer.text()
        assert all(said in text for said in ("API key created (new)", "API key revoked (new)", '<a href="/keys">'))


async def test_the_sender_of_a_job_that_was_posted_for_an_alias_is_its_mailbox(
    site: ConsoleSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(site.daemon.console.services.settings.gmail.aliases, "sales@example.com", "me@example.com")
    job, browser = await post(site.database), await site.signed_in()
    await query(site.database, "UPDATE jobs SET from_email = 'sales@example.com'")
    async with browser.get(f"/jobs/{job}") as answer:
        (link,) = set(re.findall(r'href="(/senders/[^"]+)"', await answer.text()))
    async with browser.get(link) as answer:
        assert (answer.status, "<h1>me@example.com</h1>" in await answer.text()) == (200, True)
    assert "me@example.com paused." in await ask(browser, link, action="pause", lasts="1h")


async def test_a_key_is_made_for_mailboxes_as_they_are_kept_and_for_nothing_else(site: ConsoleSite) -> None:
    browser = await site.signed_in()
    for wrong in ("me", "me@example.com, Ada <ada@example.com>"):
        async with browser.post("/keys", data={"action": "create", "name": "new", "senders": wrong}) as answer:
            text = await answer.text()
            assert (answer.status, 'role="alert"' in text, 'class="secret"' in text) == (422, True, False)
    await ask(
        browser,
        "/keys",
        action="create",
        name="new",
        senders="Me@M\u00fcnchen.example, me@example.com,",
        permission="all",
    )
    kept = await query(site.database, "SELECT senders FROM api_keys WHERE name = 'new'")
    assert kept == [('["me@example.com", "me@xn--mnchen-3ya.example"]',)]


@pytest.mark.parametrize("senders, every, permissions", [
    ("", "", ()), ("", "all", ()), ("", "", ("all",)), ("", "", ("send",)), ("me@example.com", "", ()),
    ("me@example.com", "all", ("read",)), ("me@example.com", "", ("all", "read")), (" , ", "", ("unknown",)),
])  # fmt: skip
async def test_a_key_that_is_allowed_nothing_or_all_and_some_is_not_made_and_the_form_keeps_what_it_had(
    site: ConsoleSite, senders: str, every: str, permissions: tuple[str, ...]
) -> None:
    browser = await site.signed_in()
    form = [("action", "create"), ("name", "new"), ("senders", senders), ("all_senders", every)]
    async with browser.post("/keys", data=[*form, *(("permission", each) for each in permissions)]) as answer:
        text = await answer.text()
    assert (answer.status, 'role="alert"' in text, 'class="secret"' in text) == (422, True, False)
    assert "<details open>" in text
    kept = text.partition("<details open>")[2].partition("</details>")[0]
    assert kept.count(" checked>") == bool(every) + sum(each != "unknown" for each in permissions)
    assert await query(site.database, "SELECT name FROM api_keys") == [("shop",)]


async def test_a_key_for_everything_is_made_where_all_is_chosen(site: ConsoleSite) -> None:
    browser = await site.signed_in()
    await ask(browser, "/keys", action="create", name="new", all_senders="all", permission="all")
    assert await query(site.database, "SELECT senders, permissions FROM api_keys WHERE name = 'new'") == [(None, None)]


async def test_a_page_that_is_older_than_a_rotation_does_not_rotate_again(site: ConsoleSite) -> None:
    used, browser = await site.keys.create("client"), await site.signed_in()
    page = await (await browser.get("/keys")).text()
    form = {"action": "rotate", "name": "1", "hint": page.split('name="hint" value="')[1].split('"')[0]}
    assert 'class="secret"' in await ask(browser, "/keys", **form)
    async with browser.post("/keys", data=form) as again:  # by "reload", or by somebody else's page
        assert (again.status, "received another secret in the meantime" in await again.text()) == (422, True)
    await site.sign_in(used)  # the secret that clients use is good for a day more


async def test_a_job_of_results_is_read_as_csv(site: ConsoleSite) -> None:
    job, browser = await post(site.database), await site.signed_in()
    async with browser.get(f"/jobs/{job}/results.csv") as answer:
        assert (answer.status, len((await answer.text()).splitlines())) == (200, 4)


async def test_activity_shows_suppressions_and_lists_of_console_and_api_to_a_key_for_all_senders(
    site: ConsoleSite,
) -> None:
    browser = await site.signed_in()
    limited = await site.signed_in(
        "other", senders=["you@example.com"], permissions=[Permission.READ, Permission.SUPPRESS]
    )
    await ask(browser, "/lists", action="list", list="news", title="News")
    await ask(browser, "/suppressions", action="add", email="ada@example.com", list="news")
    await ask(browser, "/suppressions", action="remove", email="ada@example.com", list="news")
    form = aiohttp.FormData({"action": "import"})
    form.add_field("table", b"bob@example.com\neve@example.com\n", filename="out.csv", content_type="text/csv")
    await (await browser.post("/suppressions", data=form)).read()
    for visitor, seen in ((browser, True), (limited, False)):
        async with visitor.get("/activity") as answer:
            text = await answer.text()
        shown = [it in text for it in ("List saved (news)", "Suppressed (news)", "Suppression ended (news)",
                                       "Suppressed (all lists)")]  # fmt: skip
        assert shown == [seen] * 4
        assert "example.com" not in text.partition("<tbody>")[2]
    assert await query(site.database, "SELECT actor, messages FROM job_actions ORDER BY id") == [
        (ACTOR, number) for number in (0, 1, 1, 2)
    ]
    assert [(it["changed"], it["source"], it["reason"]) for it in site.heard.of("suppression_action")][-1:] == [
        (2, "import", "imported")
    ]
    assert [it["mailing_list"] for it in site.heard.of("list_action")] == ["news"]


async def test_the_log_of_actions_has_suppressions_of_commands(site: ConsoleSite) -> None:
    await query(
        site.database,
        "INSERT INTO job_actions (action, actor, detail, changed, messages, at) VALUES "
        "('suppress', 'cli:root', 'everything', 1, 3, UTC_TIMESTAMP(6))",
    )
    browser = await site.signed_in()
    for language, said in (("en", "Suppressed (all lists)"), ("zh", "禁发 (所有列表)")):
        async with browser.get(f"/activity?lang={language}") as answer:
            text = await answer.text()
        assert (said in text, "None" in text) == (True, False)
