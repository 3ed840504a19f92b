"""An earlier job as the source of a new message: its people, those of one outcome, or the whole of it once more."""

import asyncio
import json
import tracemalloc
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import aiohttp
import pytest
from playwright.async_api import expect

from mailerd.core.results import MessageOutcome
from mailerd.core.suppression import Channel, Reason
from mailerd.mail.spreadsheet import Sheet
from mailerd.store.read.earlier_jobs import PAGE, EarlierJobs, Person
from mailerd.store.read.jobs import Jobs
from mailerd.store.write.api_keys import MAX_SENT_TABLES, Permission
from mailerd.store.write.drafts import PEOPLE, Draft, Drafts
from mailerd.store.write.suppressions import NewSuppression, Suppressions
from tests.support.rows import post, query
from tests.web.browser import VIEWS, chromium, page_of, sign_in
from tests.web.conftest import ConsoleSite
from tests.web.test_job_report import EACH, fill
from tests.web.test_new_message import TABLE, WRITTEN, ask, begun, reviewed

TYPED = {"order": 17, "weight": 1.5, "note": None, "items": ["tea"], "paid": True, "language": "de", "first-name": "A"}


async def draft_of(site: ConsoleSite, path: str) -> Draft:
    """The draft that a page is about."""
    id_ = path.split("/")[2]
    ((key,),) = await query(site.database, "SELECT api_key_id FROM job_drafts WHERE id = %s AND part = 0", id_)
    draft = await Drafts(site.database, 5, timedelta(days=1)).find(key, id_)
    assert draft
    return draft


async def sheet_of(site: ConsoleSite, draft: Draft) -> Sheet:
    return Sheet.unpack(await Drafts(site.database, 5, timedelta(days=1)).read(draft, PEOPLE))


async def people_of(site: ConsoleSite, path: str) -> list[str]:
    """Whom the table of a draft names."""
    return [row[0] for row in (await sheet_of(site, await draft_of(site, path))).rows[1:]]


async def api_job(site: ConsoleSite, **fields: Any) -> str:
    """A job that an application has posted; its id."""
    key, browser = await site.keys.create(f"app{len(site.sessions)}"), site.visitor()
    body = {"sender_email": "me@example.com", "template": {"subject": "Hi {{ name }}", "html": "<p>{{ name }}</p>"}}
    body = {name: value for name, value in (body | fields).items() if value is not None}
    async with browser.post("/api/jobs/send_template_emails", json=body, headers={"X-API-Key": key}) as answer:
        assert answer.status == 200, await answer.text()
        return str((await answer.json())["job_id"])


async def texts_of(browser: aiohttp.ClientSession, path: str) -> str:
    async with browser.get(path) as answer:
        assert answer.status == 200
        return await answer.text()


async def test_each_part_of_a_job_becomes_a_table_of_its_people_alone_and_nothing_is_sent(site: ConsoleSite) -> None:
    job, browser = await fill(site), await site.signed_in()
    await query(site.database, "UPDATE job_recipients SET to_email = CONCAT('forgotten-', id, '@example.invalid') "
                               "WHERE seq = 0")  # fmt: skip
    text = await texts_of(browser, "/send")
    assert f'<option value="{job}">' in text
    for who in ("all", "no_reply", "bounced_soft", "failed"):
        expected = [f"p{n}@example.org" for n, it in enumerate(EACH) if n and who in {"all", it.value}]
        path, text = await ask(browser, "/send", job=job, who=who)
        assert (who, await people_of(site, path)) == (who, expected)
        assert "Not taken over" not in text
    pressed = await asyncio.gather(*(ask(browser, "/send", job=job, who="no_reply") for _ in range(3)))
    assert len({path for path, _ in pressed}) == 3
    assert await query(site.database, "SELECT COUNT(*) FROM jobs") == [(1,)]
    await query(site.database, "UPDATE job_recipients SET status = 'sent', result = NULL WHERE status = 'failed'")
    _, text = await ask(browser, "/send", 422, job=job, who="failed")
    assert "This job has no such people. Nothing was changed." in text


async def test_values_are_as_they_were_given_and_what_no_cell_can_hold_is_named(site: ConsoleSite) -> None:
    ada = {"email": "ada@example.com", "name": "Ada", "variables": TYPED, "cc": [{"email": "boss@example.com"}]}
    bob = {
        "email": "bob@example.com",
        "name": "Bob",
        "variables": {"mail": " as it was ", "cc": "no copy", "weight": [1]},
    }
    job, browser = await api_job(site, recipients=[ada, bob]), await site.signed_in()
    path, text = await ask(browser, "/send", job=job, who="all")
    assert "Not taken over: cc, first-name, items, paid, weight<" in text
    draft = await draft_of(site, path)
    sheet, uses = await sheet_of(site, draft), draft.mapping["uses"]
    assert sheet.rows[0] == ["email", "name", "order", "weight", "note", "language", "mail"]
    assert sheet.rows[1:] == [
        ["ada@example.com", "Ada", "17", "1.5", "", "de"],
        ["bob@example.com", "Bob", "", "", "", "", " as it was "],
    ]
    assert [*uses.values()] == ["email", "name", "order", "", "note", "language", "mail"]
    assert "boss@example.com" not in text
    assert draft.message == {"sender": "me@example.com"}


async def test_who_has_left_the_list_of_the_job_gets_no_second_message(site: ConsoleSite) -> None:
    store = await Suppressions.open(site.database, timeout=5)
    news = await store.make_list("news")
    job = await post(site.database, recipients=["ada@example.com", "bob@example.com"], list_id=news.id)
    await query(site.database, "UPDATE job_recipients SET status = 'sent', proof = 'answered'")
    ((id_,),) = await query(site.database, "SELECT id FROM job_recipients WHERE seq = 0")
    left = store.digest("ada@example.com")
    await store.add([NewSuppression(left, news.id, Reason.UNSUBSCRIBED, Channel.ONE_CLICK, "ada@example.com", id_)])
    browser = await site.signed_in()
    path, text = await ask(browser, "/send", job=job, who="no_reply")
    assert "1 person can get the message" in text
    button = await reviewed(browser, path.removesuffix("/people"), kind="write", subject="Well?", body="And?")
    path, _ = await ask(browser, path.replace("/people", "/review"), **button)
    sent = "SELECT r.to_email, j.list_id FROM job_recipients r JOIN jobs j ON j.id = r.job_id WHERE j.id = %s"
    assert await query(site.database, sent, path.split("/")[2]) == [("bob@example.com", news.id)]


@pytest.mark.parametrize(
    "heard, result, words",
    [
        (["reply"], "replied", "1 recipient has replied since"),
        (["reply"], "other_replied", "1 recipient has replied since"),
        (["soft", "reply"], "bounced", "1 recipient has replied since"),
        (["reply", "unsubscribe"], "unsubscribed", "1 recipient has replied since"),
        (["unsubscribe"], "unsubscribed", "1 recipient has unsubscribed"),
    ],
)
async def test_who_replies_while_the_reminder_is_written_gets_none(
    site: ConsoleSite, monkeypatch: pytest.MonkeyPatch, heard: list[str], result: str, words: str
) -> None:
    """A bounce takes the place of a reply in the message's row: its notices tell."""
    monkeypatch.setattr("mailerd.store.read.earlier_jobs.PAGE", 1)
    job = await post(site.database, recipients=["ada@example.com", "bob@example.com", "Cy.D@gmail.com"])
    await query(site.database, "UPDATE job_recipients SET status = 'sent', proof = 'answered'")
    browser = await site.signed_in()
    path, text = await ask(browser, "/send", job=job, who="no_reply")
    assert "3 people can get the message" in text
    button = await reviewed(browser, path.removesuffix("/people"), kind="write", subject="Well?", body="And?")
    await query(site.database, "UPDATE job_recipients SET result = %s WHERE seq = 2", result)
    for number, kind in enumerate(heard):
        await note(site, kind, number, seq=2)
    await note(site, "reply", 8, seq=0, believed=0)
    await note(site, "auto_reply", 9, seq=1)
    _, text = await ask(browser, path.replace("/people", "/review"), 409, **button)
    assert "This has changed since the page was loaded" in text
    text = await texts_of(browser, path)
    assert "2 people can get the message" in text
    assert words in text
    button = await reviewed(browser, path.removesuffix("/people"), kind="write", subject="Well?", body="And?")
    path, _ = await ask(browser, path.replace("/people", "/review"), **button)
    assert await query(
        site.database, "SELECT to_email FROM job_recipients WHERE job_id = %s ORDER BY seq", path.split("/")[2]
    ) == [("ada@example.com",), ("bob@example.com",)]


async def note(site: ConsoleSite, kind: str, number: int, *, seq: int, believed: int = 1) -> None:
    """A message that came in about one of the first job."""
    await query(
        site.database,
        "INSERT INTO notices (mailbox, gmail_id, thread_id, recipient_id, job_id, email, kind, believed, at) "
        "SELECT 'me@example.com', %s, %s, id, job_id, to_email, %s, %s, UTC_TIMESTAMP(6) FROM job_recipients "
        "WHERE seq = %s ORDER BY id LIMIT 1",
        number, number, kind, believed, seq,
    )  # fmt: skip


async def test_a_draft_that_takes_a_jobs_people_takes_its_list_too(site: ConsoleSite) -> None:
    news = await (await Suppressions.open(site.database, timeout=5)).make_list("news")
    job, browser = await post(site.database, list_id=news.id), await site.signed_in()
    draft = await begun(browser)
    await ask(browser, f"{draft}/message", action="save", **WRITTEN, list="")
    path, _ = await ask(browser, f"{draft}/people", action="upload", job=job, who="all", pasted="")
    assert (await draft_of(site, path)).message["list"] == "news"


async def test_a_job_that_was_written_here_is_duplicated_with_its_text_and_can_be_changed(site: ConsoleSite) -> None:
    browser = await site.signed_in()
    message = WRITTEN | {"sender_name": "Me", "reply_to": "desk@example.com", "reference": "Autumn"}
    draft = await begun(browser)
    path, _ = await ask(browser, f"{draft}/review", **await reviewed(browser, draft, **message))
    assert 'value="duplicate"' in await texts_of(browser, path)
    copy, text = await ask(browser, "/send", job=path.split("/")[2], who="duplicate")
    assert ("Not taken over" in text, "Autumn: 2 people" in text) == (False, True)
    assert (await draft_of(site, copy)).message == message
    copy = copy.removesuffix("/people")
    await ask(browser, f"{copy}/review", **await reviewed(browser, copy, body="Your {{ product }} again"))
    old, new = await query(
        site.database, "SELECT subject, sender_name, reply_to, reference, html FROM jobs ORDER BY id"
    )
    assert (old[:4], "again" in new[4], "again" in old[4]) == (new[:4], True, False)
    people = "SELECT to_email, to_name, variables FROM job_recipients WHERE job_id = %s ORDER BY seq"
    rows = [await query(site.database, people, id_) for (id_,) in await query(site.database, "SELECT id FROM jobs")]
    assert rows[0] == rows[1]


async def test_the_body_of_another_job_is_sent_as_it_is_and_what_is_lost_is_said(site: ConsoleSite) -> None:
    template = {"subject": "Hi {{ name }}", "html": "<p>{% for one in goods %}{{ one }}{% endfor %}</p>", "text": "t"}
    file = {"filename": "a.txt", "content": "YQ=="}
    job = await api_job(
        site, template=template, variables={"goods": ["tea", "milk"]}, attachments=[file], tags=["t"], priority=3,
        metadata={"a": "b"}, headers={"X-Shop": "1"}, cc=[{"email": "boss@example.com"}],
        recipients=[{"email": "ada@example.com", "name": "Ada"}],
    )  # fmt: skip
    browser = await site.signed_in()
    path, text = await ask(browser, "/send", job=job, who="duplicate")
    assert "Not taken over: attachments, copies (Cc, Bcc), headers, tags, metadata, priority<" in text
    draft = path.removesuffix("/people")
    text = await texts_of(browser, f"{draft}/message")
    assert (f"As in job {job[-6:]}" in text, "teamilk" in text) == (True, True)
    await ask(browser, f"{draft}/review", **await reviewed(browser, draft, kind="job", subject="other", body="other"))
    old, new = await query(site.database, "SELECT subject, html, text, variables FROM jobs ORDER BY id")
    assert old == new
    ada = {"email": "ada@example.com", "name": "Ada"}
    named = await api_job(
        site, template=None, template_name="welcome", recipients=[ada], variables={"product": "tea"}
    )  # fmt: skip
    path, text = await ask(browser, "/send", job=named, who="duplicate")
    assert "Not taken over" not in text, "the pictures of a template come with it"
    made = (await draft_of(site, path)).message
    assert made == {
        "sender": "me@example.com", "kind": "template", "template": "welcome", "variables": {"product": "tea"}
    }  # fmt: skip
    draft = path.removesuffix("/people")
    await reviewed(browser, draft)
    other = await api_job(site, recipients=[ada])
    path, _ = await ask(browser, "/send", job=other, who="duplicate")
    await query(site.database, "DELETE FROM jobs WHERE id = %s", other)
    draft = path.removesuffix("/people")
    _, text = await ask(browser, f"{draft}/message", 422, action="next")
    assert "The job with this text was not found." in text


async def test_what_is_not_the_keys_is_missing_and_needs_the_permission(
    site: ConsoleSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, mine = await post(site.database), await post(site.database, sender="you@example.com")
    limited = await site.signed_in("limited", senders=["you@example.com"])
    reader = await site.signed_in("reader", permissions=[Permission.READ])
    browser = await site.signed_in()
    text = await texts_of(limited, "/send")
    assert (job in text, mine in text) == (False, True)
    for who in ("all", "no_reply", "duplicate"):
        await ask(limited, "/send", 404, job=job, who=who)
        await ask(reader, "/send", 403, job=job, who=who)
    for hostile in ("x", "0" * 26, "' OR 1=1", "\x00", "É" * 26):
        await ask(browser, "/send", 404, job=hostile, who="all")
    for hostile in ("sent", "unsure", "", "ALL", "no_reply'"):
        await ask(browser, "/send", 404, job=job, who=hostile)
    assert 'value="duplicate"' not in await texts_of(reader, f"/jobs/{job}")
    path, _ = await ask(browser, "/send", job=job, who="duplicate")
    draft = path.removesuffix("/people")
    await query(site.database, "UPDATE job_drafts SET api_key_id = (SELECT id FROM api_keys WHERE name = 'limited')")
    _, text = await ask(limited, f"{draft}/message", 422, action="next")
    assert "The job with this text was not found." in text, "a draft shows no text of a job that its key may not see"
    drafts = await query(site.database, "SELECT COUNT(*) FROM job_drafts")
    read = EarlierJobs.people

    async def vanishing(it: EarlierJobs, id_: str, which: MessageOutcome | None) -> AsyncIterator[list[Person]]:
        async for some in read(it, id_, which):
            yield some
            for table in ("job_recipients", "jobs"):
                await query(
                    site.database, f"DELETE FROM {table} WHERE {'id' if table == 'jobs' else 'job_id'} = %s", id_
                )

    monkeypatch.setattr(EarlierJobs, "people", vanishing)
    await ask(browser, "/send", 404, job=job, who="all")
    assert await query(site.database, "SELECT COUNT(*) FROM job_drafts") == drafts


async def test_many_people_are_read_a_page_at_a_time_and_too_many_are_refused(
    site: ConsoleSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    many, asked, browser, services = 20_000, list[int](), await site.signed_in(), site.daemon.console.services
    job = await post(site.database, recipients=many)
    await query(site.database, "UPDATE job_recipients SET variables = %s", json.dumps({"note": "x" * 100}))
    recipients = Jobs.recipients

    async def counted(it: Jobs, id_: str, **asks: Any) -> Any:
        asked.append(asks["limit"])
        return await recipients(it, id_, **asks)

    monkeypatch.setattr(Jobs, "recipients", counted)
    tracemalloc.start()
    try:
        async with browser.post("/send", data={"job": job, "who": "all"}, allow_redirects=False) as answer:
            path = answer.headers["Location"]
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    text = await texts_of(browser, path)
    assert "20,000 people can get the message" in text
    assert (len(await people_of(site, path)), max(asked), len(asked)) == (many, PAGE, many // PAGE + 1)
    assert peak < 20_000_000, peak
    intake = services.settings.intake.model_copy(update={"max_recipients": 5_000})
    services.settings = services.settings.model_copy(update={"intake": intake})
    asked.clear()
    _, text = await ask(browser, "/send", 422, job=job, who="all")
    assert "The people of this job do not fit into one table" in text
    assert len(asked) < many // PAGE
    assert await query(site.database, "SELECT COUNT(*) FROM job_drafts WHERE part = 0") == [(1,)]


async def test_a_draft_gets_other_people_from_a_job_and_keeps_its_message(site: ConsoleSite) -> None:
    job, browser = await post(site.database, recipients=["new@example.com"]), await site.signed_in()
    draft = await begun(browser)
    written = WRITTEN | {"list": "", "body": "Hello"}
    await ask(browser, f"{draft}/message", action="save", **written)
    path, text = await ask(browser, f"{draft}/people", action="upload", job=job, who="all", pasted="")
    assert (path, "1 person can get the message" in text) == (f"{draft}/people", True)
    assert await people_of(site, path) == ["new@example.com"]
    made = await draft_of(site, path)
    assert made.message == written | {"tab": ""}
    assert await query(site.database, "SELECT COUNT(*) FROM job_drafts WHERE part = 2") == [(0,)]


async def test_a_key_gets_its_own_mapping_for_the_same_header_again_and_no_other_key_does(site: ConsoleSite) -> None:
    table, browser, other = (
        "Mail,Vorname,Ware\nada@example.com,Ada,Tea\n",
        await site.signed_in(),
        await site.signed_in("b"),
    )
    draft = await begun(browser, table)
    uses = {"use-0": "email", "use-1": "name", "use-2": "variable", "name-2": "product"}
    await ask(browser, f"{draft}/people", action="save", **uses)
    await ask(browser, f"{draft}/review", **await reviewed(browser, draft, **WRITTEN))
    again = await begun(browser, "Ware,Mail,Vorname\nTea,bob@example.com,Bob\nTea,cy@example.com,Cy\n")
    assert (await draft_of(site, again)).mapping["uses"] == {"0": "product", "1": "email", "2": "name"}
    assert (await draft_of(site, await begun(other, table))).mapping["uses"] == {}
    assert (await draft_of(site, await begun(browser, TABLE))).mapping["uses"] == {}
    for n in range(MAX_SENT_TABLES + 5):
        await site.keys.note_table(1, {"headers": str(n), "uses": {}, "people": "", "job": str(n)})
    assert [each["job"] for each in await site.keys.sent_tables(1)][-1] == "5"
    assert (await draft_of(site, await begun(browser, table))).mapping["uses"] == {}


async def test_the_review_warns_of_many_without_a_list_and_of_people_who_got_a_message_before(
    site: ConsoleSite,
) -> None:
    browser, before = await site.signed_in(), "The same people were sent a message before:"
    table = "email,name,product\n" + "".join(f"r{n}@example.com,R,Tea\n" for n in range(51))
    draft = await begun(browser, table)
    button = await reviewed(browser, draft, **WRITTEN)
    text = await texts_of(browser, f"{draft}/review")
    assert ("More than 50 people" in text, before in text) == (True, False)
    path, _ = await ask(browser, f"{draft}/review", **button)
    mixed = "email,name,product\n" + "".join(f"R{n}@Example.com,R,Tea\n" for n in reversed(range(51)))
    again = await begun(browser, mixed)
    await (await Suppressions.open(site.database, timeout=5)).make_list("news")
    await reviewed(browser, again, **(WRITTEN | {"list": "news"}))
    text = await texts_of(browser, f"{again}/review")
    assert ("More than 50 people" in text, before in text, path.split("/")[2] in text) == (False, True, True)
    await ask(browser, path, action="undo", draft=draft.removeprefix("/send/"))
    assert before not in await texts_of(browser, f"{again}/review")


async def test_a_person_without_scripts_writes_to_those_without_a_reply_and_nobody_else_gets_it(
    site: ConsoleSite,
) -> None:
    job, key = await fill(site), await site.keys.create("office")
    async with chromium() as browser:
        context = await browser.new_context(**VIEWS["without scripts"])
        async with page_of(context) as page:
            await sign_in(page, site.url, key)
            await page.goto(f"{site.url}/jobs/{job}")
            await page.click("#part-no_reply button")
            await page.wait_for_url("**/people")
            await expect(page.locator("main [role=status]")).to_contain_text("3 people can get the message")
            await page.click("button[value=next]")
            await page.wait_for_url("**/message")
            await expect(page.locator("#sender")).to_have_value("me@example.com")
            await page.check("#writes")
            await page.fill("#subject", "Did you get it, {{ name }}?")
            await page.fill("#body", "Please **answer**.")
            await page.click("#message button[value=next]")
            await page.wait_for_url("**/review")
            await expect(page.locator("button[value=send]")).to_have_text("Send to 3 people now")
            await page.click("button[value=send]")
            await page.wait_for_url("**/jobs/*")
        await context.close()
    rows = await query(site.database, "SELECT to_email FROM job_recipients WHERE job_id <> %s ORDER BY seq", job)
    assert [email for (email,) in rows] == [
        f"p{n}@example.org" for n, it in enumerate(EACH) if it is MessageOutcome.NO_REPLY
    ]
    assert await query(site.database, "SELECT COUNT(*) FROM jobs") == [(2,)]
