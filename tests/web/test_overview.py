"""The first page, the page Health and the log of actions: what is wrong, what is done, and who did it."""

import csv
import io
import re
from datetime import UTC, datetime
from pathlib import Path

from tests.support.rows import post, query
from tests.web.conftest import ConsoleSite
from tests.web.test_layout import text_of

ACTION = (
    "INSERT INTO job_actions (job_id, sender, action, actor, detail, changed, messages, at) "
    "VALUES (%s, %s, %s, %s, NULL, 1, 3, UTC_TIMESTAMP(6) - INTERVAL %s DAY)"
)


async def look(site: ConsoleSite) -> None:
    site.daemon.console.services.shared._kept.clear()
    await site.daemon.daemons.heartbeat()
    site.daemon.service.stats.take(await site.daemon.service.stats.read())


def tiles(page: str) -> list[tuple[str, str, str, str]]:
    """Link, name, number and words of each."""
    tile = r'<a href="([^"]+)"><span>([^<]*)</span><b>([^<]*)</b><span>([^<]*)</span></a>'
    return re.findall(tile, page.partition('<div class="tiles"')[2].partition('<div class="panel">')[0])


async def test_before_the_first_job_the_page_is_three_steps_with_ticks(site: ConsoleSite) -> None:
    browser = await site.signed_in()
    await look(site)
    page = await text_of(browser, "/")
    assert re.findall(r"<li( class=\"done\")?><b>", page) == ["", ' class="done"', ""]
    assert "mailerd auth login" in page
    assert tiles(page) == []
    site.daemon.console.services.credential_owners = lambda: ["me@example.com"]
    assert page.count("Done") + 1 == (await text_of(browser, "/")).count("Done")
    await post(site.database)
    assert len(tiles(await text_of(browser, "/"))) == 4


async def test_the_four_numbers_are_of_today_in_the_zone_of_the_reader_and_of_the_key(site: ConsoleSite) -> None:
    job = await post(site.database, recipients=4)
    await query(
        site.database,
        "INSERT INTO tally_hours (hour, sender_email, sent, bounced, replied) VALUES "
        "(DATE_FORMAT(UTC_TIMESTAMP(), '%Y-%m-%d %H:00:00'), 'me@example.com', 50, 2, 2), "
        "(DATE_FORMAT(UTC_TIMESTAMP() - INTERVAL 24 HOUR, '%Y-%m-%d %H:00:00'), 'me@example.com', 7, 1, 2)",
    )
    await query(
        site.database,
        "INSERT INTO notices (mailbox, gmail_id, thread_id, believed, kind, at, job_id, recipient_id, email) SELECT "
        "'me@example.com', id, 't', 1, 'reply', UTC_TIMESTAMP(6) - INTERVAL (seq > 1) DAY, job_id, id, to_email "
        "FROM job_recipients WHERE job_id = %s",
        job,
    )
    await query(site.database, "UPDATE job_recipients SET to_name = IF(seq = 3, 'Ada Lovelace', NULL)")
    browser, other = await site.signed_in(), await site.signed_in("other", senders=["other@example.com"])
    await look(site)
    expected = [
        ("/jobs", "Sent today", "50", "Yesterday: 7"), ("/jobs?status=sending", "Waiting", "4", "in 1 job"),
        ("/inbox", "Bounced", "2", "Yesterday: 1"), ("/inbox?show=other", "Replied", "2", "Yesterday: 2"),
    ]  # fmt: skip
    page = ""
    for zone in ("", "Asia%2FShanghai", "Pacific%2FKiritimati", "no%2Fzone", "..%2F..%2Fetc%2Fpasswd", "%00"):
        browser.cookie_jar.update_cookies({"mailerd-zone": zone})
        page = await text_of(browser, "/")
        assert (zone, tiles(page)) == (zone, expected)
    assert ">Ada Lovelace</a>" in page
    assert page.index("Ada Lovelace") < page.index("r2@example.org") < page.index("r0@example.org")
    await post(site.database, sender="other@example.com", recipients=1)
    await look(site)
    page = await text_of(other, "/")
    assert [number for _, _, number, _ in tiles(page)] == ["0", "1", "0", "0"]
    assert "Ada Lovelace" not in page


async def test_the_first_page_says_the_newest_of_the_worst_causes_and_the_one_thing_to_do(
    site: ConsoleSite, tmp_path: Path
) -> None:
    (tmp_path / "me@example.com.json").touch(0o600)
    job, browser = await post(site.database, recipients=8), await site.signed_in()
    await query(
        site.database,
        "INSERT INTO webhooks (id, name, url, secret, state, failures, failing_since, position, created_at) SELECT "
        "REPEAT(n, 26), CONCAT('hook', n), 'https://127.0.0.1/hook', 'x', 'on', 12, UTC_TIMESTAMP(6) - "
        "INTERVAL n HOUR, 9, UTC_TIMESTAMP(6) FROM (SELECT 1 n UNION SELECT 2 UNION SELECT 3) n",
    )
    await look(site)
    page = await text_of(browser, "/")
    said = re.findall(r"The webhook (\w+) has been failing", page)
    assert said == ["hook1", "hook2", "hook3"], "the newest first"
    assert page.index("hook1") < page.index("2 more findings") < page.index("hook2")
    assert '<code>mailerd webhooks test hook1</code><button type="button" class="plain copy"' in page
    await query(
        site.database,
        "UPDATE senders SET paused_until = UTC_TIMESTAMP(6) + INTERVAL 1 HOUR, pause_cause = 'token_refused', "
        "pause_reason = 'invalid_grant'",
    )
    await query(site.database, "UPDATE job_recipients SET status = 'unsure' WHERE seq = 1")
    await look(site)
    page = await text_of(browser, "/")
    assert page.index("cannot send. Action needed: invalid_grant") < page.index("hook1") < page.index("is unconfirmed")
    assert "Everything is working" not in page
    health = await text_of(browser, "/status")
    assert health.index("cannot send") < health.index("hook1") < health.index("hook3") < health.index("is unconfirmed")
    assert health.count("<p>Since <time") == 4
    assert "Longest unconfirmed" in health
    assert job


async def test_the_log_of_actions_is_filtered_by_who_what_and_when_and_comes_as_a_table(site: ConsoleSite) -> None:
    job = await post(site.database)
    for day, (action, actor) in enumerate([("pause", "key:shop"), ("resume", "key:shop"), ("cancel", "cli:root")]):
        await query(site.database, ACTION, job, None, action, actor, 3 - day)
    await query(site.database, ACTION, None, "me@example.com", "limits", "cli:root", 0)
    browser, other = await site.signed_in(), await site.signed_in("other", senders=["other@example.com"])

    async def rows(path: str) -> list[str]:
        page = (await text_of(browser, path)).partition("<tbody>")[2]
        return re.findall(r"<td>(\w+)", page)

    assert await rows("/activity") == ["Limits", "Cancelled", "Resumed", "Paused"]
    assert await rows("/activity?actor=shop") == ["Resumed", "Paused"]
    assert await rows("/activity?actor=root&action=cancel") == ["Cancelled"]
    assert await rows(f"/activity?about={job}&actor=cli") == ["Cancelled"]
    assert await rows("/activity?about=me@example.com") == ["Limits"]
    ((day,),) = await query(site.database, "SELECT DATE_FORMAT(UTC_TIMESTAMP() - INTERVAL 1 DAY, '%Y-%m-%d')")
    assert await rows(f"/activity?from={day}&action=cancel") == ["Cancelled"]
    assert await rows(f"/activity?until={day}&action=cancel") == []
    assert await rows("/activity?from=nonsense&action=nothing%27") == []
    table = list(csv.DictReader(io.StringIO(await text_of(browser, "/activity.csv?actor=root"))))
    assert [(row["action"], row["actor"], row["messages"]) for row in table] == [
        ("limits", "cli:root", "3"), ("cancel", "cli:root", "3"),
    ]  # fmt: skip
    assert (table[0]["sender"], table[1]["job_id"]) == ("me@example.com", job)
    assert "No activity yet" in await text_of(other, "/activity")
    assert (await text_of(other, "/activity.csv")).count("\n") == 1


def zone_at(hour: int) -> str:
    """A zone in which it is now that hour of the day; its name has the sign of POSIX."""
    offset = (hour - datetime.now(UTC).hour + 11) % 24 - 11
    return f"Etc%2FGMT{-offset:+d}"


async def test_where_a_day_begins_is_the_matter_of_the_reader(site: ConsoleSite) -> None:
    await post(site.database)
    await query(
        site.database,
        "INSERT INTO tally_hours (hour, sender_email, sent) VALUES "
        "(DATE_FORMAT(UTC_TIMESTAMP() - INTERVAL 13 HOUR, '%Y-%m-%d %H:00:00'), 'me@example.com', 9)",
    )
    browser = await site.signed_in()
    for hour, today, yesterday in ((20, "9", "Yesterday: 0"), (5, "0", "Yesterday: 9")):
        browser.cookie_jar.update_cookies({"mailerd-zone": zone_at(hour)})
        await look(site)
        assert tiles(await text_of(browser, "/"))[0] == ("/jobs", "Sent today", today, yesterday)
