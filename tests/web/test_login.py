"""What somebody without a key may send to the sign-in, over bare sockets: little, and for a short time."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from mailerd.http.auth import MAX_FAILURES_PER_MINUTE
from mailerd.web.frame import forms
from mailerd.web.frame.forms import MAX_LOGIN, MAX_LOGIN_FIELDS
from mailerd.web.frame.guards import COOKIE
from tests.support.eventually import eventually
from tests.support.heard import PATIENCE
from tests.web.conftest import ConsoleSite

FORM = "Content-Type: application/x-www-form-urlencoded\r\n"
POST = "/api/jobs/send_template_emails"
Opened = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def begin(site: ConsoleSite, body: bytes, head: str = "", *, path: str = "/login") -> Opened:
    """A POST whose body may go on."""
    host, _, port = site.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    head = f"POST {path} HTTP/1.1\r\nHost: {host}\r\nSec-Fetch-Site: same-origin\r\n{head or FORM}\r\n"
    writer.write(head.encode() + body)
    return reader, writer


async def status(opened: Opened) -> int:
    """Of the answer, which comes within the bounds."""
    return int((await asyncio.wait_for(opened[0].readline(), PATIENCE)).split()[1])


async def eventually_reading(site: ConsoleSite, number: int = 1) -> None:
    """Until so many forms are being read."""
    served = site.daemon.intake._slow_clients._being_served

    async def reads() -> bool:
        return len(served) >= number

    await eventually(reads)


@pytest.fixture
async def cut() -> AsyncIterator[list[Opened]]:
    """Connections that end with the test."""
    opened = list[Opened]()
    yield opened
    for _, writer in opened:
        writer.transport.abort()


HUGE = {
    "a body that says its length": (FORM + f"Content-Length: {MAX_LOGIN + 1}\r\n", b""),
    "a gigabyte that is only said": (FORM + "Content-Length: 1000000000\r\n", b""),
    "a body in chunks": (FORM + "Transfer-Encoding: chunked\r\n", b"1000\r\n" + b"x" * 4096 + b"\r\n1\r\nx\r\n"),
}


@pytest.mark.parametrize("name", HUGE)
async def test_a_large_form_is_refused_before_it_has_come(site: ConsoleSite, cut: list[Opened], name: str) -> None:
    head, body = HUGE[name]
    cut.append(await begin(site, body, head))
    assert await status(cut[0]) == 413


UNREADABLE = {
    "many fields": "&".join(f"f{n}=" for n in range(MAX_LOGIN_FIELDS + 1)).encode(),
    "no text": b"key=\xff\xfe",
}


@pytest.mark.parametrize("name", UNREADABLE)
async def test_a_form_of_many_fields_or_no_text_is_refused(site: ConsoleSite, cut: list[Opened], name: str) -> None:
    body = UNREADABLE[name]
    cut.append(await begin(site, body, FORM + f"Content-Length: {len(body)}\r\n"))
    assert await status(cut[0]) == 400
    assert not site.heard.of("request_failed")


async def test_a_form_that_comes_slowly_is_given_up(
    site: ConsoleSite, cut: list[Opened], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert forms.LOGIN_TIMEOUT == 5.0
    monkeypatch.setattr(forms, "LOGIN_TIMEOUT", 0.3)
    cut.append(await begin(site, b"key=", FORM + "Content-Length: 60\r\n"))
    assert await status(cut[0]) == 408


@pytest.mark.parametrize("head, body", [
    (FORM + "Content-Length: 60\r\n", b"key=sk_"),
    (FORM + "Transfer-Encoding: chunked\r\n", b"5\r\nkey=s"),
    ("Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 900\r\n", b"--b\r\n"),
])  # fmt: skip
async def test_a_form_that_breaks_off_is_one_line_and_no_bug(site: ConsoleSite, head: str, body: bytes) -> None:
    _, writer = await begin(site, body, head)
    await eventually_reading(site)
    writer.transport.abort()
    assert (await site.heard.wait_for("request_answered"))["status"] == 400
    told = [name for name, fields in site.heard.events if name.startswith("request_") or "error" in fields]
    assert told == ["request_answered"]


async def test_chunks_that_are_none_are_no_bug(
    site: ConsoleSite, cut: list[Opened], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forms, "LOGIN_TIMEOUT", 1.0)
    cut.append(await begin(site, b"", FORM + "Transfer-Encoding: chunked\r\n"))
    await eventually_reading(site)
    cut[0][1].write(b"ZZZ\r\n")
    assert (await site.heard.wait_for("request_answered"))["status"] in {400, 408}
    assert not site.heard.of("request_failed")


async def test_a_form_of_a_page_that_breaks_off_is_no_bug_either(site: ConsoleSite) -> None:
    browser = await site.signed_in()
    cookie = next(each for each in browser.cookie_jar if each.key == COOKIE)
    before = len(site.heard.of("request_answered"))
    head = FORM + f"Cookie: {COOKIE}={cookie.value}\r\nContent-Length: 60\r\n"
    _, writer = await begin(site, b"action=", head, path="/jobs")
    await eventually_reading(site)
    writer.transport.abort()

    async def answered() -> bool:
        return len(site.heard.of("request_answered")) > before

    await eventually(answered)
    assert site.heard.of("request_answered")[-1]["status"] == 400
    assert not site.heard.of("request_failed")


async def test_an_address_has_few_forms_under_way_and_others_sign_in_beside_three_hundred(
    site: ConsoleSite, cut: list[Opened], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forms, "LOGIN_TIMEOUT", 60.0)
    cut += [await begin(site, b"key=", FORM + "Content-Length: 60\r\n") for _ in range(300)]
    began = time.monotonic()
    assert {await status(each) for each in cut[:200]} == {429}, "the oldest make way"
    await site.signed_in()  # at once, not when the time for their forms is over
    assert time.monotonic() - began < forms.LOGIN_TIMEOUT
    assert not site.heard.of("request_failed")
    assert not site.heard.of("connection_failed")


async def test_requests_of_a_stranger_that_wait_for_no_answer_are_few_and_those_of_a_key_are_not(
    site: ConsoleSite,
) -> None:
    host, _, port = site.url.removeprefix("http://").partition(":")

    async def answered(path: str, head: str) -> int:
        reader, writer = await asyncio.open_connection(host, int(port))
        each = f"GET {path} HTTP/1.1\r\nHost: {host}\r\n{head}"
        writer.write(f"{each}\r\n".encode() * 199 + f"{each}Connection: close\r\n\r\n".encode())
        try:
            return (await asyncio.wait_for(reader.read(), PATIENCE)).count(b"HTTP/1.1 200 ")
        finally:
            writer.transport.abort()

    key = await site.keys.create("many")
    assert await answered("/api/jobs", f"X-API-Key: {key}\r\n") == 200
    assert 0 < await answered("/login", "") < 100


@pytest.fixture
def few_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the site: it reads the bound once."""
    monkeypatch.setattr("mailerd.http.server.MAX_CONNECTIONS", 6)


@pytest.mark.usefixtures("few_connections")
async def test_of_too_many_connections_those_of_strangers_are_closed_first(
    site: ConsoleSite, cut: list[Opened], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Forms that never came had every connection closed that was kept open by who has a key."""
    monkeypatch.setattr("mailerd.web.frame.sign_in.LOGINS_PER_ADDRESS", 100)
    monkeypatch.setattr(forms, "LOGIN_TIMEOUT", 60.0)
    key = f"X-API-Key: {await site.keys.create('shop')}\r\n"
    kept = [await begin(site, b"{}", key + "Content-Length: 2\r\n", path=POST) for _ in range(2)]
    cut += kept
    for each in kept:
        assert await status(each) == 422
    posting = await begin(site, b"{", key + "Content-Length: 2\r\n", path=POST)
    await eventually_reading(site)
    strangers = [await begin(site, b"key=", FORM + "Content-Length: 60\r\n") for _ in range(9)]
    cut += [posting, *strangers]

    async def six_are_closed() -> bool:
        return len(site.heard.of("connection_too_slow")) >= 6

    await eventually(six_are_closed)
    assert "its request is incomplete" in str(site.heard.of("connection_too_slow"))
    posting[1].write(b"}")
    assert await status(posting) == 422
    for reader, writer in kept:
        writer.write(b"GET /health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert b"HTTP/1.1 200" in await asyncio.wait_for(reader.read(), PATIENCE)


@pytest.mark.usefixtures("few_connections")
async def test_a_connection_that_has_just_come_outlives_forms_that_come_slowly(
    site: ConsoleSite, cut: list[Opened], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It had not shown its key yet, so it was closed before them."""
    monkeypatch.setattr("mailerd.web.frame.sign_in.LOGINS_PER_ADDRESS", 100)
    monkeypatch.setattr(forms, "LOGIN_TIMEOUT", 60.0)
    key, reaper = await site.keys.create("shop"), site.daemon.intake._slow_clients
    cut += [await begin(site, b"key=", FORM + "Content-Length: 60\r\n") for _ in range(9)]

    async def strangers_are_seen() -> bool:
        return sum(request is not None for request, _ in reaper._since.values()) == 9

    async def four_are_closed() -> bool:
        return len(site.heard.of("connection_too_slow")) >= 4

    await eventually(strangers_are_seen)
    host, _, port = site.url.removeprefix("http://").partition(":")
    cut.append(await asyncio.open_connection(host, int(port)))
    await eventually(four_are_closed)
    cut[-1][1].write(f"GET /api/jobs HTTP/1.1\r\nHost: x\r\nX-API-Key: {key}\r\n\r\n".encode())
    assert await status(cut[-1]) == 200
    assert {each["reason"] for each in site.heard.of("connection_too_slow")} == {
        "more than 6 connections, and its request is incomplete"
    }


async def test_many_sessions_of_one_shut_out_no_key_and_no_session_that_is_in_use(
    site: ConsoleSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mailerd.http.auth.MAX_SESSIONS", 3)
    used, key = await site.signed_in(), {"X-API-Key": await site.keys.create("another")}
    async with used.get("/api/jobs", headers=key) as answer:
        assert answer.status == 200
    (someone, *_), sessions = await site.keys.all(), site.daemon.console.services.sessions
    for _ in range(5):
        other = {COOKIE: await sessions.create(someone, ip="127.0.0.1")}
        async with site.visitor().get("/jobs", cookies=other, allow_redirects=False) as answer:
            assert answer.status == 200
        async with used.get("/jobs") as answer:
            assert answer.status == 200
    seen = 0
    while seen != 429:
        async with site.visitor().get("/api/jobs", headers={"X-API-Key": "x"}) as answer:
            seen = answer.status
    async with used.get("/jobs") as answer:
        assert answer.status == 200
    async with used.get("/api/jobs", headers=key) as answer:
        assert answer.status == 200


@pytest.mark.parametrize("way", ["a session", "a link", "a sign-out"])
async def test_made_up_secrets_are_slowed_down_as_bad_keys_are_and_good_ones_are_not(
    site: ConsoleSite, way: str
) -> None:
    good, seen = await site.signed_in(), list[int]()
    link = await site.daemon.console.services.sessions.create_link(1)
    for number in range(10 * MAX_FAILURES_PER_MINUTE):  # one more each second
        stranger = {COOKIE: f"{number:043}"}
        if way == "a session":
            async with site.visitor().get("/jobs", cookies=stranger, allow_redirects=False) as answer:
                seen.append(answer.status)
        elif way == "a link":
            async with site.visitor().post(f"/login/{number:043}", allow_redirects=False) as answer:
                seen.append(answer.status)
        else:
            async with site.visitor().post("/logout", cookies=stranger, allow_redirects=False) as answer:
                seen.append(answer.status)
        if seen[-1] == 429:
            assert answer.headers["Retry-After"] == "10"
            break
    assert seen[-1] == 429
    assert len(seen) > MAX_FAILURES_PER_MINUTE
    async with site.visitor().post("/login", data={"key": "sk_live_wrong"}) as answer:
        assert answer.status == 429, "it is one bucket"
    async with good.get("/jobs") as answer:
        assert answer.status == 200, "who is signed in works on, from the same address"
    async with site.visitor().post(f"/login/{link}", allow_redirects=False) as answer:
        assert answer.status == 429, "a link that is not known waits for its turn"
    assert not site.heard.of("request_failed")
