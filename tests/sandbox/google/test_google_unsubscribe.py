"""The "Unsubscribe" button of the outbox: it posts what Gmail posts, and to this machine alone."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from mailerd.sandbox.google import FakeGoogle

Compose = Callable[..., dict[str, Any]]
POST = "List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n"


@dataclass
class Site:
    """What a message's link leads to; it answers with `answer` and remembers what came."""

    url: str = ""
    answer: Callable[[], web.StreamResponse] = lambda: web.Response(
        text="<head><title>x</title></head><h1>You are <b>out</b></h1>", content_type="text/html"
    )
    came: list[tuple[str, str, str, dict[str, str]]] = field(default_factory=list)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.came.append((request.method, request.path, await request.text(), dict(request.headers)))
        return self.answer()


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    site, application = Site(), web.Application()
    application.router.add_route("*", "/{path:.*}", site.handle)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    site.url = f"http://127.0.0.1:{runner.addresses[0][1]}/u/token"
    yield site
    await runner.cleanup()


async def sent(session: aiohttp.ClientSession, google: FakeGoogle, compose: Compose, headers: str) -> str:
    raw = f"From: me@example.com\r\nTo: ada@example.org\r\nSubject: News\r\n{headers}\r\nHello\r\n".encode()
    async with session.post("gmail/v1/users/me/messages/send", json=compose(raw=raw)) as answer:
        assert answer.status == 200
    return f"/messages/{google.sent[-1].id}"


async def page(session: aiohttp.ClientSession, path: str) -> str:
    async with session.get(path) as answer:
        return await answer.text()


async def press(session: aiohttp.ClientSession, path: str, **options: Any) -> tuple[int, str]:
    async with session.post(f"{path}/unsubscribe", **options) as answer:
        return answer.status, await answer.text()


async def test_the_button_posts_one_click_and_says_what_was_answered(
    session: aiohttp.ClientSession, google: FakeGoogle, compose: Compose, site: Site
) -> None:
    headers = f"List-Unsubscribe: <{site.url}>,\r\n <mailto:me@example.com?subject=u>\r\n{POST}"
    path = await sent(session, google, compose, headers)
    shown = await page(session, path)
    assert f"<dd>&lt;{site.url}&gt;, &lt;mailto:me@example.com?subject=u&gt;</dd>" in shown
    assert "<button>Unsubscribe</button>" in shown
    assert site.came == []

    status, answered = await press(session, path)
    ((method, came_to, body, came_with),) = site.came
    assert (method, came_to, body) == ("POST", "/u/token", "List-Unsubscribe=One-Click")
    assert came_with["Content-Type"] == "application/x-www-form-urlencoded"
    assert not {"Cookie", "Authorization", "Referer", "Origin"} & set(came_with)
    assert status == 200
    assert "<h1>Unsubscribed</h1>" in answered
    assert "200 OK" in answered
    assert "You are\nout" in answered


async def test_it_keeps_no_cookie_and_follows_no_redirect(
    session: aiohttp.ClientSession, google: FakeGoogle, compose: Compose, site: Site
) -> None:
    path = await sent(session, google, compose, f"List-Unsubscribe: <{site.url}>\r\n{POST}")
    site.answer = lambda: web.Response(status=301, headers={"Location": "/elsewhere", "Set-Cookie": "a=b"})
    for _ in range(2):
        _, answered = await press(session, path)
        assert "<h1>Not unsubscribed</h1>" in answered
        assert "301 Moved Permanently: a redirect to /elsewhere, which Gmail does not follow" in answered
    assert [came_to for _, came_to, _, _ in site.came] == ["/u/token", "/u/token"]
    assert not any("Cookie" in headers for *_, headers in site.came)


async def test_a_failure_and_silence_are_shown_as_what_they_are(
    session: aiohttp.ClientSession, google: FakeGoogle, compose: Compose, site: Site
) -> None:
    path = await sent(session, google, compose, f"List-Unsubscribe: <{site.url}>\r\n{POST}")
    site.answer = lambda: web.Response(status=503, text="later")
    _, answered = await press(session, path)
    assert "<h1>Not unsubscribed</h1>" in answered
    assert "503 Service Unavailable" in answered
    gone = await sent(session, google, compose, f"List-Unsubscribe: <http://127.0.0.1:1/u>\r\n{POST}")
    _, answered = await press(session, gone)
    assert "No response: " in answered


@pytest.mark.parametrize(
    "headers,why",
    [
        ("", "it belongs to no list"),
        ("List-Unsubscribe: <{url}>\r\n", "without List-Unsubscribe-Post"),
        (f"List-Unsubscribe: <mailto:me@example.com>\r\n{POST}", "The header has no https address"),
        (f"List-Unsubscribe: <http://mail.example.com/u>, <{{url}}>\r\n{POST}", ""),
        (f"List-Unsubscribe: <https://mail.example.com/u>, <{{url}}>\r\n{POST}", "is not on this machine"),
        (f"List-Unsubscribe: <https://127.0.0.1.example.com/u>\r\n{POST}", "is not on this machine"),
        (f"List-Unsubscribe: <https://[broken/u>\r\n{POST}", "is not on this machine"),
    ],
)
async def test_there_is_a_button_where_gmail_has_one_and_the_address_is_of_this_machine(
    session: aiohttp.ClientSession, google: FakeGoogle, compose: Compose, site: Site, headers: str, why: str
) -> None:
    path = await sent(session, google, compose, headers.replace("{url}", site.url))
    shown = await page(session, path)
    assert ("<button>Unsubscribe</button>" in shown) is not bool(why)
    _, answered = await press(session, path)
    assert (why or "<h1>Unsubscribed</h1>") in answered
    assert len(site.came) == (0 if why else 1)


async def test_the_page_of_another_site_presses_nothing(
    session: aiohttp.ClientSession, google: FakeGoogle, compose: Compose, site: Site
) -> None:
    path = await sent(session, google, compose, f"List-Unsubscribe: <{site.url}>\r\n{POST}")
    assert (await press(session, path, headers={"Origin": "https://evil.example"}))[0] == 404
    assert (await press(session, path, headers={"Origin": "null"}))[0] == 404
    assert (await press(session, "/messages/none"))[0] == 404
    assert site.came == []


async def test_the_answer_is_shown_and_never_run(
    session: aiohttp.ClientSession, google: FakeGoogle, compose: Compose, site: Site
) -> None:
    path = await sent(session, google, compose, f"List-Unsubscribe: <{site.url}>\r\n{POST}")
    site.answer = lambda: web.Response(text="<p>a<p><scr<b>ipt>alert(1)</script>", content_type="text/html")
    _, answered = await press(session, path)
    assert "<script" not in answered
