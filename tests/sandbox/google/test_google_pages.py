"""The outbox in a browser: readable, and never run by what it shows."""

import re
from collections.abc import Callable
from typing import Any

import aiohttp

from mailerd import locale
from mailerd.sandbox.google import FakeGoogle, Fault, serve

Compose = Callable[..., dict[str, Any]]
EVIL = (
    b"From: me@example.com\r\nTo: ada@example.org\r\nSubject: <script>alert(1)</script>\r\n"
    b'X-Odd: "><img src=x>\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n'
    b"--b\r\nContent-Type: text/plain\r\n\r\n</pre><script>alert(2)</script>\r\n"
    b"--b\r\nContent-Type: text/html; charset=utf-8\r\n\r\n"
    b'<p>Gr\xc3\xbc\xc3\x9fe</p><script>alert(3)</script><img src="cid:logo">\r\n'
    b"--b\r\nContent-Type: image/png\r\nContent-ID: <logo>\r\nContent-Transfer-Encoding: base64\r\n"
    b'Content-Disposition: attachment; filename="<b>.png"\r\n\r\niVBORw0KGgo=\r\n--b--\r\n'
)


async def _page(session: aiohttp.ClientSession, path: str) -> tuple[aiohttp.ClientResponse, str]:
    async with session.get(path) as answer:
        return answer, await answer.text()


async def test_an_empty_outbox_says_so(session: aiohttp.ClientSession) -> None:
    answer, text = await _page(session, "/")
    assert answer.status == 200
    assert "<strong>SANDBOX</strong> Nothing leaves this machine" in text
    assert "No messages yet. They appear here as soon as mailerd sends them." in text


async def test_messages_are_listed_newest_first_paged_and_searched(
    session: aiohttp.ClientSession, google: FakeGoogle, compose: Compose
) -> None:
    google.change_rules(units_per_minute=0)
    for n in range(51):
        await session.post("gmail/v1/users/me/messages/send", json=compose(to=f"n{n}@example.org", key=str(n)))
    _, first = await _page(session, "/")
    shown = re.findall(r'class="to">(n\d+)@', first)
    assert (shown[0], shown[-1], len(shown)) == ("n50", "n1", 50)
    _, last = await _page(session, "/?page=2")
    assert re.findall(r'class="to">(n\d+)@', last) == ["n0"]
    assert "page 2 of 2" in last
    _, found = await _page(session, "/?q=N7@")
    assert re.findall(r'class="to">(n\d+)@', found) == ["n7"]
    _, nothing = await _page(session, "/?q=%22%3E%3Cscript%3E")
    assert "<script" not in nothing


async def test_what_a_message_says_is_shown_and_never_run(
    session: aiohttp.ClientSession, google: FakeGoogle, compose: Compose
) -> None:
    await session.post("gmail/v1/users/me/messages/send", json=compose(raw=EVIL))
    ident = google.sent[0].id
    for path in ("/", f"/messages/{ident}"):
        answer, text = await _page(session, path)
        assert "<script" not in text
        assert "<img" not in text
        assert "<b>" not in text
        assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
        assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'; style-src 'self'")
    _, text = await _page(session, f"/messages/{ident}")
    assert '<iframe sandbox=""' in text
    assert f'href="/sandbox/outbox/{ident}.eml"' in text
    assert "&lt;/pre&gt;&lt;script&gt;alert(2)" in text
    answer, html = await _page(session, f"/messages/{ident}/html")
    assert answer.headers["Content-Security-Policy"].startswith("sandbox; default-src 'none'")
    assert "Grüße" in html
    assert 'src="data:image/png;base64,iVBORw0KGgo="' in html


async def test_nothing_is_fetched_from_elsewhere(session: aiohttp.ClientSession) -> None:
    for path in ("/", "/style.css"):
        answer, text = await _page(session, path)
        assert answer.status == 200
        assert not re.search(r"https?://|//cdn|@import", text)


async def test_a_message_sent_twice_raises_the_alarm(session: aiohttp.ClientSession, compose: Compose) -> None:
    for _ in range(2):
        await session.post("gmail/v1/users/me/messages/send", json=compose(key="twice"))
    _, text = await _page(session, "/")
    assert "twice (2×)" in text


async def test_a_message_that_is_not_there_is_404(session: aiohttp.ClientSession) -> None:
    for path in ("/messages/none", "/messages/none/html", "/messages/../etc/passwd"):
        assert (await _page(session, path))[0].status == 404


async def test_usage_log_and_faults_are_pages(
    session: aiohttp.ClientSession, google: FakeGoogle, compose: Compose
) -> None:
    google.fault(Fault(kind="daily_limit", method="drafts.send", count=-1))
    await session.post("gmail/v1/users/me/messages/send", json=compose())
    for path, parts in {
        "/usage": ("<td>me@example.com</td>", "Units in the last minute"),
        "/log": ("<td>messages.send</td>", "<td>200</td>"),
        "/faults": ("<td>daily_limit</td>", "<td>until cleared</td>"),
    }.items():
        answer, text = await _page(session, path)
        assert (answer.status, answer.content_type) == (200, "text/html")
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
        for part in (*parts, f'href="/sandbox{path}"'):
            assert part in text
    _, outbox = await _page(session, "/")
    assert 'href="/usage"' in outbox


async def test_the_pages_speak_the_language_that_the_browser_asks_for(
    session: aiohttp.ClientSession, google: FakeGoogle, compose: Compose
) -> None:
    await session.post("gmail/v1/users/me/messages/send", json=compose())
    google.fault(Fault(kind="unavailable", count=-1))
    paths = ("/", "/usage", "/log", "/faults", f"/messages/{google.sent[0].id}", "/messages/none", "/?q=nothing")
    for path in paths:
        async with session.get(path, headers={"Accept-Language": "zh-CN,zh;q=0.9,en;q=0.8"}) as answer:
            chinese = await answer.text()
        _, english = await _page(session, path)
        assert ('lang="zh-CN"' in chinese, 'lang="en"' in english) == (True, True)
        assert "一切都留在本机" in chinese
        assert not re.search("[\u4e00-\u9fff]", english)


async def test_without_a_wish_of_the_browser_the_pages_speak_the_language_of_the_sandbox(google: FakeGoogle) -> None:
    locale.speak("zh")
    async with serve(google) as running, aiohttp.ClientSession(running.url) as browser:
        _, plain = await _page(browser, "/")
        async with browser.get("/", headers={"Accept-Language": "en"}) as answer:
            english = await answer.text()
    locale.speak("en")
    assert 'lang="zh-CN"' in plain
    assert 'lang="en"' in english
