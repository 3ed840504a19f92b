"""The light of the page Health: what is wrong by what the rows say, its cause and its remedy, in both languages."""

import re
import time
from pathlib import Path

import aiohttp
import pytest

from mailerd.core.reasons import in_row, reason
from tests.support.rows import post, query
from tests.web.conftest import ConsoleSite

SILENT = reason("google_silent", cause="no response within 5 s")
UNREACHABLE = reason("google_unreachable", cause="refused")


@pytest.fixture(autouse=True)
def _authorized(tmp_path: Path) -> None:
    """Each sender is; no token is asked for."""
    (tmp_path / "@example.com.json").touch(0o600)


async def tried(site: ConsoleSite, event: str, why: str | None, *, ago: int, job: str, times: int) -> None:
    """Let so many messages of a job have had an attempt so many seconds ago."""
    await query(
        site.database,
        "INSERT INTO attempts (recipient_id, attempt, claim_token, daemon_id, event, error, error_code, error_args, at)"
        " SELECT id, 1, UUID_SHORT(), '', %s, %s, %s, %s, UTC_TIMESTAMP(6) - INTERVAL %s SECOND "
        "FROM job_recipients WHERE job_id = %s ORDER BY id LIMIT %s",
        event, *in_row(why), ago, job, times,
    )  # fmt: skip


async def look(
    site: ConsoleSite,
    browser: aiohttp.ClientSession,
    language: str = "en",
    *,
    alive: bool = True,
    path: str = "/status",
) -> str:
    """The page Health as it is now."""
    site.daemon.console.services.shared._kept.clear()
    if alive:
        await site.daemon.daemons.heartbeat()
    site.daemon.service.stats.take(await site.daemon.service.stats.read())
    async with browser.get(f"{path}?lang={language}") as answer:
        assert answer.status == 200
        return await answer.text()


def says(text: str, *parts: str) -> bool:
    return all(part in text for part in parts) and "Everything is working" not in text


async def test_a_sign_in_that_is_refused_is_named_with_the_command_that_renews_it(site: ConsoleSite) -> None:
    await post(site.database)
    browser = await site.signed_in()
    assert "Everything is working" in await look(site, browser)
    await query(
        site.database,
        "UPDATE senders SET paused_until = UTC_TIMESTAMP(6) + INTERVAL 1 HOUR, pause_cause = 'token_refused', "
        "pause_reason = 'invalid_grant'",
    )
    for language, said in (("en", "cannot send. Action needed: invalid_grant"), ("zh", "无法发送")):
        assert says(await look(site, browser, language), said, "mailerd auth login --sender me@example.com")
    await query(site.database, "UPDATE senders SET pause_cause = 'throttled', pause_reason = 'slower'")
    assert re.search("me@example.com 已暂停（至 [0-9:]{5} UTC）：slower", await look(site, browser, "zh"))


async def test_a_mailbox_that_rests_for_a_bad_list_says_what_mends_that(site: ConsoleSite) -> None:
    await post(site.database)
    browser = await site.signed_in()
    await query(
        site.database,
        "UPDATE senders SET paused_until = UTC_TIMESTAMP(6) + INTERVAL 1 DAY, pause_cause = 'bounces', "
        "pause_reason = '20 of the last 80 messages'",
    )
    for language, said in (("en", "it is paused for a day"), ("zh", "地址中不存在的过多")):
        pages = [await look(site, browser, language)]
        async with browser.get(f"/senders/me@example.com?lang={language}") as answer:
            pages.append(await answer.text())
        for page in pages:
            assert says(page, said, "mailerd bounces --sender me@example.com", "mailerd senders resume me@example.com")
            assert "Google does not take" not in page
            assert "暂不接受" not in page


@pytest.mark.parametrize("why, level, remedy", [
    (UNREACHABLE, "bad", "getent hosts gmail.googleapis.com"),
    (SILENT, "bad", "a firewall blocks the way"),
    (reason("no_access_token", cause="connection reset"), "bad", "curl -v https://oauth2.googleapis.com/"),
    (reason("google_error", said="500 backendError: Backend Error"), "warning",
     "https://www.google.com/appsstatus/dashboard/"),
])  # fmt: skip
async def test_while_google_does_not_answer_the_light_is_not_green(
    site: ConsoleSite, why: str, level: str, remedy: str
) -> None:
    job, browser = await post(site.database, recipients=8), await site.signed_in()
    await tried(site, "released", "429 of an hour ago", ago=300, job=job, times=8)
    await tried(site, "released", why, ago=100, job=job, times=2)
    text = await look(site, browser)
    assert says(text, f"the last 10 attempts failed: {why}", f'class="light {level}"', remedy)
    assert "429 of an hour ago" not in text, "the newest cause wins over the most frequent"
    assert "@MAILERD_" not in text
    await tried(site, "sent", None, ago=50, job=job, times=1)
    assert "Everything is working" in await look(site, browser)
    await tried(site, "deferred", why, ago=5, job=job, times=2)
    assert says(await look(site, browser), f"the last 2 attempts failed: {why}")
    await query(site.database, "UPDATE job_recipients SET status = 'failed'")
    assert "attempts failed" not in await look(site, browser), "nothing waits for another attempt"


@pytest.mark.parametrize(
    "why, en, zh",
    [
        (UNREACHABLE, "attempts are not counted", "不计尝试次数"),
        (SILENT, "each attempt counts", "每次尝试都计入次数"),
    ],
)
async def test_the_light_says_whether_attempts_are_used_up(site: ConsoleSite, why: str, en: str, zh: str) -> None:
    job, browser = await post(site.database, recipients=8), await site.signed_in()
    await tried(site, "released", why, ago=0, job=job, times=2)
    for language, meaning in (("en", en), ("zh", zh)):
        assert says(await look(site, browser, language), meaning)


async def test_what_holds_up_another_tenant_is_not_told(site: ConsoleSite) -> None:
    job = await post(site.database, recipients=8, sender="other@example.com")
    await tried(site, "released", reason("google_unreachable", cause="secret.example"), ago=0, job=job, times=8)
    browser = await site.signed_in("mine", senders=["me@example.com"])
    assert "Everything is working" in await look(site, browser)


async def test_a_key_for_certain_senders_is_told_of_all_its_senders_and_of_its_doubts(site: ConsoleSite) -> None:
    mine = [f"m{number:02}@example.com" for number in range(25)]
    for sender in mine:
        await post(site.database, sender=sender, recipients=1)
    other = await post(site.database, sender="other@example.com")
    browser = await site.signed_in("mine", senders=mine)
    await query(
        site.database, "UPDATE senders SET next_claim_at = NULL, paused_until = UTC_TIMESTAMP(6) + INTERVAL 1 HOUR, "
        "pause_cause = 'token_refused', pause_reason = 'invalid_grant' WHERE email = %s", mine[24],
    )  # fmt: skip
    assert says(await look(site, browser), f"{mine[24]} cannot send. Action needed")
    await query(site.database, "UPDATE senders SET paused_until = NULL")
    await query(site.database, "UPDATE job_recipients SET status = 'unsure' WHERE job_id = %s", other)
    assert "Everything is working" in await look(site, browser)
    await query(site.database, "UPDATE job_recipients SET status = 'unsure' WHERE job_id <> %s LIMIT 1", other)
    assert says(await look(site, browser), "1 message is unconfirmed, for")
    await query(site.database, "UPDATE job_recipients SET updated_at = UTC_TIMESTAMP(6) - INTERVAL 1 HOUR")
    assert says(await look(site, browser), "1 message is unconfirmed, for 60 min.")


async def test_what_a_pause_says_is_not_said_twice(site: ConsoleSite) -> None:
    job, browser = await post(site.database, recipients=8), await site.signed_in()
    await tried(site, "released", "429 rateLimitExceeded", ago=0, job=job, times=8)
    await query(
        site.database,
        "UPDATE senders SET paused_until = UTC_TIMESTAMP(6) + INTERVAL 60 SECOND, pause_cause = 'throttled', "
        "pause_reason = '429 rateLimitExceeded'",
    )
    text = await look(site, browser)
    assert says(text, "is paused until")
    assert "attempts failed" not in text


async def test_a_mailbox_whose_day_is_full_is_named_with_its_limit(site: ConsoleSite) -> None:
    await post(site.database)
    await query(site.database, "UPDATE senders SET per_day = 30")
    await query(
        site.database,
        "INSERT INTO sender_hours (sender_email, hour, messages) SELECT email, DATE_FORMAT(UTC_TIMESTAMP(), "
        "'%%Y-%%m-%%d %%H:00:00'), 30 FROM senders WHERE email = %s",
        "me@example.com",
    )
    browser = await site.signed_in()
    command = "mailerd senders set me@example.com --per-day 2000"
    assert says(await look(site, browser), "has reached its limit of 24 hours, 30 of 30 messages", command)
    assert says(await look(site, browser, "zh"), "已达 24 小时上限（30 / 30 封）", command)
    async with browser.get("/senders?lang=en") as answer:
        page = await answer.text()
    assert says(page, "has reached its limit of 24 hours")
    assert ">Ready<" not in page


async def test_an_inbox_that_is_refused_is_named_unless_its_sender_is_paused(site: ConsoleSite) -> None:
    await post(site.database)
    await query(
        site.database,
        "INSERT INTO mailboxes (email, scope, state, detail, next_at) VALUES "
        "('me@example.com', 'full', 'refused', '403 insufficientPermissions', UTC_TIMESTAMP(6))",
    )
    browser, other = await site.signed_in(), await site.signed_in("other", senders=["you@example.com"])
    text = await look(site, browser)
    assert says(text, "The inbox of me@example.com cannot be read", "403 insufficientPermissions")
    assert "Everything is working" in await look(site, other)
    await query(site.database, "UPDATE senders SET paused_until = '9999-12-31', pause_cause = 'token_refused'")
    assert "The inbox of" not in await look(site, browser)


async def test_what_many_senders_have_in_common_is_said_a_few_times_and_then_counted(site: ConsoleSite) -> None:
    for number in range(9):
        await post(site.database, sender=f"s{number}@example.com")
    await query(site.database, "UPDATE senders SET paused_until = '9999-12-31', pause_cause = 'manual'")
    await query(site.database, "UPDATE senders SET pause_cause = 'token_refused' WHERE email = 's8@example.com'")
    await query(
        site.database,
        "UPDATE senders SET paused_until = UTC_TIMESTAMP(6) + INTERVAL 1 MINUTE WHERE email = 's8@example.com'",
    )
    text = await look(site, await site.signed_in())
    assert says(text, "s8@example.com cannot send", "The same holds for 3 more.")
    assert text.count("is paused manually") == 5


async def test_a_daemon_that_fell_silent_is_named_while_another_goes_on(site: ConsoleSite) -> None:
    browser = await site.signed_in()
    await query(
        site.database,
        "INSERT INTO daemons (id, host, pid, version, started_at, heartbeat_at) SELECT REPEAT('1', 26), 'far', 77, 'v',"
        " now, now - INTERVAL 330 SECOND FROM (SELECT UTC_TIMESTAMP(6) now) n",
    )
    assert says(await look(site, browser), "The daemon 77 on far has not responded for 5 min", 'class="light warning"')
    await query(
        site.database, "UPDATE daemons SET heartbeat_at = UTC_TIMESTAMP(6) - INTERVAL 1230 SECOND WHERE pid = 77"
    )
    assert says(await look(site, browser), "has not responded for 20 min", 'class="light note"')
    await query(site.database, "UPDATE daemons SET stopped_at = UTC_TIMESTAMP(6) WHERE pid = 77")
    assert "Everything is working" in await look(site, browser)
    await query(site.database, "UPDATE daemons SET heartbeat_at = UTC_TIMESTAMP(6) - INTERVAL 5 MINUTE")
    assert says(await look(site, browser, alive=False), "No daemon responds", 'class="light warning"')
    await post(site.database)
    assert says(await look(site, browser, alive=False), "No daemon responds", 'class="light bad"'), "messages wait"


async def test_a_daemon_that_was_replaced_on_its_machine_is_no_trouble(site: ConsoleSite) -> None:
    browser = await site.signed_in()
    await query(
        site.database,
        "INSERT INTO daemons (id, host, pid, version, started_at, heartbeat_at) SELECT REPEAT('1', 26), host, 77, 'v', "
        "UTC_TIMESTAMP(6) - INTERVAL 1 DAY, UTC_TIMESTAMP(6) - INTERVAL 1 MINUTE FROM daemons",
    )
    assert "Everything is working" in await look(site, browser)
    await query(site.database, "UPDATE daemons SET started_at = UTC_TIMESTAMP(6) - INTERVAL 2 HOUR WHERE pid <> 77")
    assert says(await look(site, browser), "The daemon 77 on"), "the other one ran beside it"


async def test_what_is_not_known_is_not_green(site: ConsoleSite) -> None:
    browser = await site.signed_in()
    site.daemon.service.stats.latest = None
    site.daemon.service.stats._read_at = time.monotonic() - 12
    async with browser.get("/") as answer:
        text = await answer.text()
        assert says(text, "tables cannot be read", 'class="light warning"')
        assert re.search(r"Not known for 1\d s", text)


@pytest.mark.parametrize(
    "outage, said, remedy",
    [
        ("full", "The database is full", "df -h /var/lib/mysql"),
        ("denied", "The database denies its user a privilege", "GRANT ALL PRIVILEGES on the database"),
        ("login", "The database rejects the login (access denied)", "ALTER USER"),
        ("connections", "too many connections", "max_connections"),
    ],
)
async def test_a_database_that_cannot_be_written_to_is_red_with_its_name_and_remedy(
    site: ConsoleSite, monkeypatch: pytest.MonkeyPatch, outage: str, said: str, remedy: str
) -> None:
    browser = await site.signed_in()
    monkeypatch.setattr(type(site.database), "outage", property(lambda _: outage))
    async with browser.get("/") as answer:
        assert says(await answer.text(), said, remedy, 'class="light bad"')


@pytest.mark.parametrize("path", ["/", "/jobs", "/live", "/webhooks"])
async def test_while_the_database_is_away_every_page_is_the_light_and_tells_no_stranger_where_it_is(
    site: ConsoleSite, path: str
) -> None:
    browser = await site.signed_in()
    where = site.database.where
    await site.database.close()
    site.lose_database()
    try:
        for language, said in (("en", "The database is unavailable: nothing is accepted"), ("zh", "数据库不可用")):
            async with browser.get(f"{path}?lang={language}") as answer:
                text = await answer.text()
                assert (answer.status, says(text, said, "systemctl start mariadb", 'class="light bad"')) == (503, True)
                assert where not in text
                assert answer.headers["Retry-After"] == "5"
        async with site.visitor().get("/") as answer:  # led to the login
            text = await answer.text()
            assert (answer.status, says(text, "The database is unavailable", 'class="light bad"')) == (503, True)
            assert where not in text
        async with site.visitor().post("/login", data={"key": "sk_live_x"}) as answer:
            assert (answer.status, where in await answer.text()) == (503, False)
            assert answer.headers["Retry-After"] == "5"
    finally:
        site.find_database()


async def test_a_key_for_certain_senders_sees_how_late_its_own_messages_are_and_how_many_wait(
    site: ConsoleSite,
) -> None:
    await post(site.database, recipients=5)
    await post(site.database, sender="other@example.com", recipients=2000)
    browser = await site.signed_in("mine", senders=["me@example.com"])
    assert "Everything is working" in (text := await look(site, browser))
    assert "<dt>Messages waiting</dt><dd>5</dd>" in re.sub(r"\s+<", "<", text)
    late = "UPDATE job_recipients r JOIN jobs j ON j.id = r.job_id SET r.due_at = r.due_at - INTERVAL 90 SECOND "
    turn = "UPDATE senders SET next_claim_at = UTC_TIMESTAMP(6) - INTERVAL 90 SECOND WHERE email = %s"
    for sender, is_late in (("other@example.com", False), ("me@example.com", True)):
        await query(site.database, f"{late} WHERE j.sender_email = %s", sender)
        await query(site.database, turn, sender)
        assert ("has been due for 9" in await look(site, browser)) is is_late
    await query(site.database, "UPDATE daemons SET heartbeat_at = UTC_TIMESTAMP(6) - INTERVAL 5 MINUTE")
    assert says(await look(site, browser, alive=False), "mailerd is not running; 5 messages wait.")


async def test_the_key_of_an_alias_sees_how_its_messages_and_their_mailbox_go(site: ConsoleSite) -> None:
    job = await post(site.database)
    await query(site.database, "UPDATE jobs SET from_email = 'sales@example.com' WHERE id = %s", job)
    await query(
        site.database,
        "UPDATE senders SET paused_until = '9999-12-31', pause_cause = 'manual', pause_reason = 'moving house'",
    )
    of_alias = await site.signed_in("alias", senders={"sales@example.com"})
    of_mailbox = await site.signed_in("mailbox", senders={"me@example.com"})
    text = await look(site, of_alias, path="/")
    assert says(text, "sales@example.com is paused manually", "No chart: messages are counted by mailbox")
    assert "No sender yet" not in text
    assert "/senders/me@example.com" not in text
    text = await look(site, of_mailbox, path="/")
    assert says(text, "me@example.com is paused manually", "/senders/me@example.com", "Show as table")
    assert job not in text
