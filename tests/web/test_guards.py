"""What strangers get of the console: nothing."""

import asyncio
import io
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import aiohttp
import pytest
from yarl import URL

from mailerd.config import IntakeSettings
from mailerd.http.auth import PER_MINUTE
from mailerd.store.write.api_keys import Permission
from mailerd.web.frame import forms, live
from mailerd.web.frame.guards import COOKIE
from tests.support.heard import PATIENCE
from tests.support.rows import post, query, states
from tests.web.conftest import ConsoleSite

PLACES = [
    "/",
    "/jobs",
    "/senders",
    "/doubts",
    "/inbox",
    "/people",
    "/suppressions",
    "/templates",
    "/new-template",
    "/send",
    "/keys",
]


@pytest.mark.parametrize("path", PLACES)
async def test_who_is_not_signed_in_is_led_to_the_login(site: ConsoleSite, path: str) -> None:
    async with site.visitor().get(path, allow_redirects=False) as answer:
        assert (answer.status, answer.headers["Location"]) == (
            303, "/login" if path == "/" else f"/login?next=%2F{path[1:]}"
        )  # fmt: skip
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]


async def test_a_key_signs_in_and_signing_out_ends_the_session_at_the_server(site: ConsoleSite) -> None:
    browser = await site.signed_in()
    cookie = next(each for each in browser.cookie_jar if each.key == COOKIE)
    assert (cookie["httponly"], cookie["samesite"]) == (True, "Strict")
    async with browser.post("/logout") as answer:
        assert answer.url.path == "/login"
    async with site.visitor().get("/", cookies={COOKIE: cookie.value}, allow_redirects=False) as answer:
        assert answer.status == 303
    assert await query(site.database, "SELECT COUNT(*) FROM sessions") == [(0,)]


async def test_a_bad_key_is_refused_and_who_guesses_is_slowed_down(site: ConsoleSite) -> None:
    browser, seen, text = site.visitor(), list[tuple[int, str | None]](), list[str]()
    began = time.monotonic()
    while (429, "10") not in seen:
        async with browser.post("/login", data={"key": "sk_live_wrong"}) as answer:
            seen.append((answer.status, answer.headers.get("Retry-After")))
            text.append(await answer.text())
    assert seen[:-1] == [(401, None)] * (len(seen) - 1)
    assert 60 <= len(seen) - 1 <= 60 + time.monotonic() - began, "60 a minute, which is one more each second"
    assert "unknown or revoked" in text[0]
    assert "too many invalid API keys" in text[-1]


@pytest.mark.parametrize("host, headers, warned", [
    ("mail.example.com", {}, True), ("mail.example.com", {"Sec-Fetch-Site": "none"}, False), ("127.0.0.1", {}, False),
])  # fmt: skip
async def test_only_who_comes_over_plain_http_is_told_that_no_session_is_kept(
    site: ConsoleSite, host: str, headers: dict[str, str], *, warned: bool
) -> None:
    given = {"Host": host} | headers
    async with aiohttp.ClientSession() as browser, browser.get(f"{site.url}/login", headers=given) as answer:
        assert (
            "keep a session over plain HTTP. Use https, or http://127.0.0.1 on this machine." in await answer.text()
        ) is warned


async def test_a_session_that_a_stranger_has_set_is_not_taken_over(site: ConsoleSite) -> None:
    browser = site.visitor()
    fixed = "x" * 43
    browser.cookie_jar.update_cookies({COOKIE: fixed}, URL(site.url))
    async with browser.post("/login", data={"key": await site.keys.create("shop")}) as answer:
        assert answer.status == 200
    assert next(each for each in browser.cookie_jar if each.key == COOKIE).value != fixed
    async with site.visitor().get("/", cookies={COOKIE: fixed}, allow_redirects=False) as answer:
        assert answer.status == 303


async def test_a_revoked_key_ends_its_sessions_at_once(site: ConsoleSite) -> None:
    browser = await site.signed_in()
    await site.keys.revoke("shop")
    async with browser.get("/jobs", allow_redirects=False) as answer:
        assert answer.status == 303


@pytest.mark.parametrize("column, ago", [("seen_at", "13 HOUR"), ("created_at", "8 DAY")])
async def test_a_session_ends_when_it_is_idle_or_old(site: ConsoleSite, column: str, ago: str) -> None:
    browser = await site.signed_in()
    await query(site.database, f"UPDATE sessions SET {column} = UTC_TIMESTAMP(6) - INTERVAL {ago}")
    async with browser.get("/jobs", allow_redirects=False) as answer:
        assert answer.status == 303


async def test_a_link_signs_in_once_and_only_by_its_button(site: ConsoleSite) -> None:
    await site.keys.create("shop")
    sessions = site.daemon.console.services.sessions
    link = await sessions.create_link(1)
    async with site.visitor().get(f"/login/{link}") as answer:  # what looks at links beforehand does not use it up
        assert answer.status == 200
    assert link not in str(site.heard.events), "who reads the log could press its button"
    browser = site.visitor()
    async with browser.post(f"/login/{link}") as answer:
        assert (answer.status, answer.url.path) == (200, "/")
    async with site.visitor().post(f"/login/{link}") as answer:
        assert answer.status == 401
    old = await sessions.create_link(1)
    await query(site.database, "UPDATE sessions SET created_at = UTC_TIMESTAMP(6) - INTERVAL 11 MINUTE WHERE is_link")
    async with site.visitor().post(f"/login/{old}") as answer:
        assert answer.status == 401


@pytest.mark.parametrize("host, status", [
    ("evil.example", 421), ("mail.example.com.evil.example", 421), ("mail.example.com", 303), ("127.0.0.1", 303),
    ("[::1]:5000", 303), ("localhost:5000", 303), ("", 421),
])  # fmt: skip
async def test_a_name_that_is_not_ours_is_refused_since_it_may_be_rebound(
    site: ConsoleSite, host: str, status: int
) -> None:
    async with site.visitor().get("/jobs", headers={"Host": host}, allow_redirects=False) as answer:
        assert answer.status == status


@pytest.mark.parametrize("headers", [
    {"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}, {"Sec-Fetch-Site": "none"},
    {"Origin": "http://evil.example"}, {"Origin": "null"}, {"Origin": "http://["}, {},
])  # fmt: skip
async def test_a_form_of_another_page_changes_nothing(site: ConsoleSite, headers: dict[str, str]) -> None:
    browser, job = await site.signed_in(), await post(site.database)
    cookies = {each.key: each.value for each in browser.cookie_jar}
    async with (
        aiohttp.ClientSession(site.url, cookies=cookies, cookie_jar=aiohttp.CookieJar(unsafe=True)) as stranger,
        stranger.post(f"/jobs/{job}", data={"action": "cancel"}, headers=headers) as answer,
    ):
        assert answer.status == 403
    assert await states(site.database, job) == {"waiting": 3}
    assert site.heard.of("console_refused")
    assert not site.heard.of("request_failed")


@pytest.mark.parametrize("headers", [{"Host": "evil.example"}, {"Sec-Fetch-Site": "cross-site"}])
async def test_whoever_is_refused_often_does_not_fill_the_log(site: ConsoleSite, headers: dict[str, str]) -> None:
    many, stranger = 2 * PER_MINUTE, site.visitor()
    for _ in range(many):
        async with stranger.post("/logout", headers=headers) as answer:
            assert answer.status in {403, 421}
    assert PER_MINUTE <= len(site.heard.of("console_refused")) <= PER_MINUTE + 30
    assert len(site.heard.of("request_answered")) == len(site.heard.of("console_refused"))
    assert len(site.heard.of("anonymous_answered")) == many - len(site.heard.of("request_answered"))


async def test_a_browser_that_says_only_its_origin_may_change_things(site: ConsoleSite) -> None:
    browser, job = await site.signed_in(), await post(site.database)
    cookies = {each.key: each.value for each in browser.cookie_jar}
    async with (
        aiohttp.ClientSession(site.url, cookies=cookies, cookie_jar=aiohttp.CookieJar(unsafe=True)) as older,
        older.post(f"/jobs/{job}", data={"action": "pause"}, headers={"Origin": site.url}) as answer,
    ):
        assert answer.status == 200
    assert await query(site.database, "SELECT status FROM jobs") == [("paused",)]


async def test_the_ids_of_another_tenant_are_as_good_as_none(site: ConsoleSite) -> None:
    job = await post(site.database, sender="other@example.com")
    await query(site.database, "UPDATE job_recipients SET status = 'unsure'")
    ((message,),) = await query(site.database, "SELECT MIN(id) FROM job_recipients")
    browser = await site.signed_in("mine", senders=["me@example.com"])
    for path in (f"/jobs/{job}", f"/jobs/{job}/results.csv", f"/messages/{message}", f"/messages/{message}/html",
                 "/senders/other@example.com"):  # fmt: skip
        async with browser.get(path) as answer:
            assert (path, answer.status) == (path, 404)
    for path, action in ((f"/jobs/{job}", "cancel"), (f"/messages/{message}", "not-sent"),
                         ("/senders/other@example.com", "pause")):  # fmt: skip
        async with browser.post(path, data={"action": action}) as answer:
            assert (path, answer.status) == (path, 404)
    async with browser.post("/jobs", data={"action": "cancel", "job": job}) as answer:
        assert "0 jobs changed." in await answer.text()
    for path in ("/", "/jobs", "/doubts", "/senders", "/keys", "/people?email=r0@example.org"):
        async with browser.get(path) as answer:
            text = await answer.text()
            assert (answer.status, job in text, "other@example.com" in text) == (200, False, False), path
    assert await states(site.database, job) == {"unsure": 3}
    assert await query(site.database, "SELECT status FROM jobs") == [("queued",)]


RIGHTS = [("/jobs/{job}", {"action": "pause"}), ("/senders/me@example.com", {"action": "pause"}),
          ("/senders/me@example.com", {"action": "limits", "per_day": "1"}),
          ("/send", {"pasted": "email\na@b.example"}),
          ("/suppressions", {"action": "add", "email": "a@b.example"}), ("/keys", {"action": "create", "name": "x"}),
          ("/templates/welcome", {"email": "a@b.example", "sender": "me@example.com"})]  # fmt: skip


@pytest.mark.parametrize("path, form", RIGHTS)
async def test_a_key_that_may_only_read_changes_nothing(site: ConsoleSite, path: str, form: dict[str, str]) -> None:
    job = await post(site.database)
    browser = await site.signed_in(permissions=[Permission.READ])
    async with browser.post(path.format(job=job), data=form) as answer:
        assert answer.status == 403
    assert await query(site.database, "SELECT COUNT(*) FROM jobs WHERE status = 'queued'") == [(1,)]
    assert await query(site.database, "SELECT COUNT(*) FROM api_keys") == [(1,)]
    assert await query(site.database, "SELECT COUNT(*) FROM senders WHERE paused_until OR per_day") == [(0,)]


async def test_a_key_for_one_sender_cannot_raise_its_limits(site: ConsoleSite) -> None:
    await post(site.database)
    browser = await site.signed_in(senders=["me@example.com"])
    async with browser.post("/senders/me@example.com", data={"action": "limits", "per_day": "9000"}) as answer:
        assert answer.status == 403
    assert await query(site.database, "SELECT per_day FROM senders") == [(None,)]


async def test_a_key_for_one_sender_that_has_the_permission_by_name_changes_its_limits(site: ConsoleSite) -> None:
    await post(site.database)
    await post(site.database, sender="other@example.com")
    browser = await site.signed_in(senders=["me@example.com"], permissions=[Permission.READ, Permission.SENDERS])
    async with browser.get("/senders/me@example.com") as answer:
        assert 'value="limits"' in await answer.text()
    for sender, status in (("me", 200), ("other", 404)):
        async with browser.post(f"/senders/{sender}@example.com", data={"action": "limits", "per_day": "9"}) as answer:
            assert answer.status == status
    async with browser.post("/senders/me@example.com", data={"action": "pause"}) as answer:
        assert answer.status == 403
    assert await query(site.database, "SELECT per_day, paused_until FROM senders ORDER BY email") == [
        (9, None), (None, None),
    ]  # fmt: skip


EVIL = "<script>alert(1)</script>"


async def test_what_a_client_has_posted_is_text_everywhere(site: ConsoleSite) -> None:
    job = await post(site.database, recipients=["a@example.com"], subject=EVIL, text=f"{EVIL} {{{{ name }}}}")
    await query(site.database, "UPDATE jobs SET reference = %s, sender_name = %s, template_name = %s", EVIL, EVIL, EVIL)
    await query(
        site.database, "UPDATE job_recipients SET to_name = %s, error = %s, status = 'failed', attempts = 1", EVIL, EVIL
    )
    await query(site.database, "UPDATE senders SET paused_until = '9999-12-31', pause_reason = %s", EVIL)
    site.daemon.service.stats.take(await site.daemon.service.stats.read())
    browser = await site.signed_in(f"shop {EVIL}")
    ((message,),) = await query(site.database, "SELECT id FROM job_recipients")
    async with browser.post(f"/jobs/{job}", data={"action": "retry"}) as answer:
        assert answer.status == 200
    await query(site.database, "UPDATE job_recipients SET status = 'failed', attempts = 1, error = %s", EVIL)
    text = ""
    for path in ("/", "/jobs", f"/jobs/{job}", f"/messages/{message}", "/senders", "/senders/me@example.com", "/keys",
                 f"/messages/{message}/html", "/people?email=a@example.com", f"/people?email={EVIL}",
                 f"/jobs?reference={EVIL}", f"/jobs/{job}?email={EVIL}", f"/suppressions?email={EVIL}"):  # fmt: skip
        async with browser.get(path) as answer:
            text = await answer.text()
            assert (path, answer.status) == (path, 200)
            assert EVIL not in text, path
    assert "&lt;script&gt;" in text


async def test_a_message_in_its_frame_has_no_script_no_origin_and_loads_nothing(site: ConsoleSite) -> None:
    await post(site.database, recipients=["a@example.com"])
    await query(site.database, "UPDATE jobs SET html = %s", f'<p>Hi {{{{ name }}}}</p>{EVIL}<img src="cid:logo">')
    browser = await site.signed_in()
    async with browser.get("/messages/1/html") as answer:
        policy = answer.headers["Content-Security-Policy"]
        assert policy.startswith("sandbox; default-src 'none'")
        assert "script-src" not in policy
        text = await answer.text()
        assert "Hi a" in text
        assert "cid:" not in text


async def test_a_stream_says_that_something_has_changed_and_ends_with_the_session(site: ConsoleSite) -> None:
    browser = await site.signed_in()
    live = asyncio.create_task(site.daemon.console.live.run())
    try:
        async with browser.get("/live") as answer:
            assert answer.status == 200
            await answer.content.readline()
            site.daemon.console.services.events.console_changed(actor="a", what="b", change="c")
            lines = [await answer.content.readline() for _ in range(3)]
            assert b"event: changed\n" in lines
    finally:
        live.cancel()
    async with site.visitor().get("/live") as answer:
        assert answer.status == 401


_FORM = "multipart/form-data; boundary=x"
_BODIES = {
    "unknown charset": (_FORM, b'--x\r\nContent-Disposition: form-data; name="key"\r\n'
                               b"Content-Type: text/plain; charset=klingon\r\n\r\nabc\r\n--x--\r\n"),
    "bad UTF-8": (_FORM, b'--x\r\nContent-Disposition: form-data; name="key"\r\n\r\n\xff\xfe\r\n--x--\r\n'),
    "bad base64": (_FORM, b'--x\r\nContent-Disposition: form-data; name="key"\r\n'
                          b"Content-Transfer-Encoding: base64\r\n\r\n!!!\r\n--x--\r\n"),
    "no name": (_FORM, b"--x\r\nContent-Disposition: form-data\r\n\r\nabc\r\n--x--\r\n"),
    "another boundary": (_FORM, b"--y\r\n\r\nabc\r\n--y--\r\n"),
    "cut off": (_FORM, b'--x\r\nContent-Disposition: form-data; name="key"\r\n\r\nab'),
    "no boundary": ("multipart/form-data", b"abc"),
    "charset of a form": ("application/x-www-form-urlencoded; charset=klingon", b"key=abc"),
}  # fmt: skip


@pytest.mark.parametrize("kind", _BODIES)
async def test_a_body_that_is_no_form_is_the_senders_fault(site: ConsoleSite, kind: str) -> None:
    content_type, body = _BODIES[kind]
    async with site.visitor().post("/login", data=body, headers={"Content-Type": content_type}) as answer:
        assert answer.status in {400, 401}
    assert not site.heard.of("request_failed")


async def test_a_form_that_never_ends_or_is_too_large_is_refused(
    site: ConsoleSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forms, "FORM_TIMEOUT", 0.2)

    async def slow() -> AsyncIterator[bytes]:
        yield b"key="
        await asyncio.Event().wait()

    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    async with site.visitor().post("/login", data=slow(), headers=kind) as answer:
        assert answer.status == 408
    async with site.visitor().post("/login", data=b"key=" + b"x" * forms.MAX_FORM, headers=kind) as answer:
        assert answer.status == 413


async def test_a_table_of_some_megabytes_is_read(site: ConsoleSite) -> None:
    browser = await site.signed_in()
    # Few rows that are long: each is checked, and a slow machine would not come to the end of 100,000 in time.
    table = "email,note\n" + "".join(f"r{n}@example.com,{'x' * 400}\n" for n in range(5_000))
    form = aiohttp.FormData()
    form.add_field("table", io.BytesIO(table.encode()), filename="people.csv")
    async with browser.post("/send", data=form) as answer:
        assert answer.status in {200, 422}, "not a 413"


async def test_what_a_key_may_within_a_minute_holds_in_the_console_too(site: ConsoleSite) -> None:
    browser = await site.signed_in("slow", per_minute=5)
    statuses = list[int]()
    for _ in range(8):
        async with browser.get("/jobs") as answer:
            statuses.append(answer.status)
    assert statuses[0] == 200
    assert statuses[-1] == 429


async def test_a_key_reads_a_few_pages_at_once_and_another_key_does_not_wait_for_it(site: ConsoleSite) -> None:
    browser, other, job = await site.signed_in(), await site.signed_in("other"), await post(site.database)
    mine = (await site.keys.all())[0]
    reads = site.daemon.intake.shares.reads
    for path in ("/", "/jobs", f"/jobs/{job}", "/senders", "/people?email=ada@example.com", "/messages/1"):
        async with AsyncExitStack() as held:
            for _ in range(IntakeSettings().reads_per_key):
                await held.enter_async_context(reads.place(mine))
            waiting = asyncio.create_task(answered(browser, path))
            assert await answered(other, path) == 200
            await asyncio.sleep(0.3)
            assert not waiting.done()
        assert await waiting == 200
    assert await answered(browser, f"/jobs/{job}/results.csv") == 200


async def answered(browser: aiohttp.ClientSession, path: str) -> int:
    async with browser.get(path) as answer:
        await answer.read()
        return answer.status


async def test_a_key_has_a_share_of_the_streams_and_a_stream_ends_with_its_key(
    site: ConsoleSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "QUIET_INTERVAL", 0.1)
    monkeypatch.setattr(live, "TICK_INTERVAL", 0.05)
    ticking = asyncio.create_task(site.daemon.console.live.run())
    browser, share = await site.signed_in(), site.daemon.intake.shares.streams
    async with AsyncExitStack() as stack:
        streams = [await stack.enter_async_context(browser.get("/live")) for _ in range(share.places // 5 + 1)]
        assert [each.status for each in streams] == [200] * (share.places // 5) + [429]
        other = await site.signed_in("other")
        async with other.get("/live") as answer:
            assert answer.status == 200
        await site.keys.revoke("shop")
        async with asyncio.timeout(PATIENCE):
            while await streams[0].content.readany():
                pass
    ticking.cancel()


async def test_a_stream_goes_on_while_the_database_is_away_and_still_ends_with_its_key(
    site: ConsoleSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "QUIET_INTERVAL", 0.1)
    monkeypatch.setattr(live, "TICK_INTERVAL", 0.05)
    monkeypatch.setattr(live, "TICK_PER_VIEWER", 0.0)
    ticking = asyncio.create_task(site.daemon.console.live.run())
    browser = await site.signed_in()
    async with browser.get("/live") as stream, asyncio.timeout(PATIENCE):
        site.lose_database()
        begun = site.daemon.console.live.count
        told = b""
        while told.count(b"event: changed") < 3 or site.daemon.console.live.count < begun + 3:
            more = await stream.content.readany()
            assert more, "it was ended"
            told += more
        site.find_database()
        await site.keys.revoke("shop")
        while await stream.content.readany():
            pass
    ticking.cancel()


async def test_a_message_keeps_its_cage_however_it_is_asked_for(site: ConsoleSite) -> None:
    browser = await site.signed_in()
    await post(site.database)
    for headers in ({}, {"HX-Request": "true"}):
        async with browser.get("/messages/1/html", headers=headers) as answer:
            assert "sandbox" in answer.headers["Content-Security-Policy"]
