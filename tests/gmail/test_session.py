"""What becomes of a call when the network or the other side misbehaves, byte by byte; every call is bounded."""

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httptools
import pytest
from aiogoogle.client import Aiogoogle

from mailerd.config import GmailSettings
from mailerd.core.replies import (
    Accepted,
    Call,
    MalformedResponse,
    NoResponse,
    NotSent,
    Refused,
    Reply,
    TokenUnavailable,
)
from mailerd.events.worker import GmailEvents
from mailerd.gmail import Gmail, Mailbox
from mailerd.gmail.session import GmailRequest, GmailSession
from tests.gmail.raw import Raw, Script, http
from tests.support.heard import PATIENCE
from tests.support.own_time import own_time
from tests.support.ports import free_port

Told = list[tuple[str, dict[str, object]]]

ME = "me@example.com"
BOUND = 1.0
SECRETS = ("hush-secret", "hush-refresh", "hush-token")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    person = {
        "type": "authorized_user",
        "client_id": "id",
        "client_secret": "hush-secret",
        "refresh_token": "hush-refresh",
    }
    path = tmp_path / f"{ME}.json"
    path.touch(mode=0o600)
    path.write_text(json.dumps(person))
    return tmp_path


@pytest.fixture
def opened(port: int, folder: Path, events: GmailEvents) -> Callable[..., Gmail]:
    def make(**changes: Any) -> Gmail:
        known = {
            "api_root": f"http://127.0.0.1:{port}/",
            "token_uri": f"http://127.0.0.1:{port}/token",
            "request_timeout": BOUND,
            "credentials_dir": folder,
        }
        return Gmail(GmailSettings(**(known | changes)), events=events, concurrency=10)

    return make


async def bounded(call: Awaitable[Reply]) -> Reply:
    """The reply, which must come soon after the time-out at the latest."""
    started = own_time()
    reply = await asyncio.wait_for(call, PATIENCE)
    assert own_time() - started < BOUND + 0.5
    return reply


@pytest.fixture(autouse=True)
def _no_secret_is_ever_told(told: Told) -> Any:
    yield
    text = repr(told) + repr([f"{fields['error']!r}" for _, fields in told if "error" in fields])
    assert not [secret for secret in SECRETS if secret in text]


OK = http(b'{"id":"m","threadId":"t"}')
GZIP = "Content-Encoding: gzip\r\n"


async def test_a_good_answer_is_accepted_and_asked_for_as_google_wants_it(
    raw: Raw, opened: Callable[..., Gmail]
) -> None:
    raw.script = raw.says(OK)
    async with opened() as gmail:
        assert await gmail.send_draft(ME, draft_id="r1") == Accepted(id="m", thread_id="t")
    head = raw.heads[0].decode().lower()
    assert head.startswith("post /gmail/v1/users/me/drafts/send http/1.1")
    for line in ("authorization: bearer hush-token", "content-type: application/json", "(gzip)"):
        assert line in head
    assert "cookie" not in head


async def test_an_answer_in_many_pieces_with_an_empty_reason_is_read(raw: Raw, opened: Callable[..., Gmail]) -> None:
    raw.script = raw.says(*(bytes([b]) for b in OK.replace(b"200 OK", b"200 ")))
    async with opened() as gmail:
        assert await gmail.send_draft(ME, draft_id="r1") == Accepted(id="m", thread_id="t")


@pytest.mark.parametrize(
    "answer, expected",
    [
        (http(b"[]"), MalformedResponse(200, "[]")),
        (http(b'[{"error":{"code":500,"message":"x"}}]', status="500 "), Refused(500, message="x")),
        (http(b'{"error":{"message":"no"}}', status="400 "), Refused(400, message="no")),
        (http(b'{"id":"\xff"}'), MalformedResponse(200, '{"id":"�"}')),
        (http(b'{"error":"\xff\xfe"}', status="503 X"), Refused(503, message='{"error":"��"}')),
        (http(b'{"id":"m"}', kind="text/html; charset=no-such"), Accepted(id="m")),
        (http(b"<b>502</b>", status="502 Bad", kind="text/html"), Refused(502, message="502")),
        (http(b"", status="302 Found", more="Location: http://127.0.0.1:1/\r\n"), Refused(302)),
        (http(b"\x1f\x8b\x08\x00\x00", more=GZIP), MalformedResponse(200, "")),
        (b"HTTP/1.1 204 No Content\r\n\r\n", MalformedResponse(204, "")),
    ],
)
async def test_a_complete_answer_is_a_fact_whatever_stands_in_it(
    raw: Raw, opened: Callable[..., Gmail], told: Told, answer: bytes, expected: Reply
) -> None:
    raw.script = raw.says(answer)
    async with opened() as gmail:
        assert await bounded(gmail.send_draft(ME, draft_id="r1")) == expected
    assert "google_call_crashed" not in [name for name, _ in told]


@pytest.mark.parametrize(
    "script",
    [
        Raw.says_nothing,
        Raw.resets,
        Raw.says(then_close=True),
        Raw.says(b"HTTP/1.1 200 OK\r\n"),
        Raw.says(b"HTTP/1.1 100 Continue\r\n\r\n"),
        Raw.says(b"HTTP/1.1 200 OK\r\nContent-Length: 90\r\n\r\n{", then_close=True),
        Raw.says(b"HTTP/1.1 200 OK\r\nContent-Length: 90\r\n\r\n{"),
        Raw.says(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 90\r\n\r\n{", then_close=True),
        Raw.says(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"),
        Raw.says(b"220 smtp.example.com ESMTP ready\r\n", then_close=True),
        Raw.says(b"\x16\x03\x01\x00\xff" * 20, then_close=True),
        Raw.says(b"HTTP/1.1 200 OK\r\nX: " + b"y" * 200_000, then_close=True),
        Raw.says(http(b"this is no gzip", more=GZIP), then_close=True),
    ],
    ids=[
        "silence",
        "reset",
        "close",
        "half a head",
        "100 Continue",
        "cut off",
        "half a body",
        "a refusal cut off",
        "no chunk",
        "SMTP",
        "TLS",
        "a header without end",
        "no gzip",
    ],
)
async def test_once_written_whatever_is_no_whole_answer_is_lost(
    raw: Raw, opened: Callable[..., Gmail], told: Told, script: Script
) -> None:
    raw.script = script
    async with opened() as gmail:
        reply = await bounded(gmail.send_draft(ME, draft_id="r1"))
        assert isinstance(reply, NoResponse)
        assert reply.cause
        assert len(raw.heads) == 1, "a POST is never repeated"
        raw.script = raw.says(OK)
        assert isinstance(await bounded(gmail.send_draft(ME, draft_id="r1")), Accepted)
    assert "google_call_crashed" not in [name for name, _ in told]


async def test_a_trickle_cannot_outlast_the_time_out(raw: Raw, opened: Callable[..., Gmail]) -> None:
    async def trickle(it: Raw, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        while not it.let_go.is_set():
            writer.write(b" ")
            await writer.drain()
            await asyncio.sleep(BOUND / 20)

    raw.script = trickle
    async with opened() as gmail:
        assert isinstance(await bounded(gmail.send_draft(ME, draft_id="r1")), NoResponse)
    raw.let_go.set()


async def test_a_closed_port_is_unreachable(opened: Callable[..., Gmail]) -> None:
    async with opened(api_root=f"http://127.0.0.1:{free_port()}/") as gmail:
        reply = await bounded(gmail.send_draft(ME, draft_id="r1"))
    assert isinstance(reply, NotSent)
    assert "cannot connect to http://127.0.0.1:" in reply.cause


async def test_a_name_that_nobody_knows_is_unreachable(opened: Callable[..., Gmail]) -> None:
    async with opened(api_root="http://gmail.invalid/") as gmail:
        assert isinstance(await bounded(gmail.send_draft(ME, draft_id="r1")), NotSent)


async def test_an_address_that_is_none_is_unreachable(opened: Callable[..., Gmail]) -> None:
    async with opened(api_root="http://[::1/") as gmail:
        assert isinstance(await bounded(gmail.send_draft(ME, draft_id="r1")), NotSent)


async def test_a_server_that_never_greets_in_tls_is_unreachable(
    raw: Raw, opened: Callable[..., Gmail], port: int
) -> None:
    raw.script = raw.says_nothing
    async with opened(api_root=f"https://127.0.0.1:{port}/") as gmail:
        assert isinstance(await bounded(gmail.send_draft(ME, draft_id="r1")), NotSent)


async def test_a_server_that_speaks_no_tls_is_unreachable(opened: Callable[..., Gmail]) -> None:
    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(plain, "127.0.0.1", 0)
    async with server, opened(api_root=f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/") as gmail:
        assert isinstance(await bounded(gmail.send_draft(ME, draft_id="r1")), NotSent)


async def test_a_connection_that_is_never_accepted_is_unreachable(opened: Callable[..., Gmail]) -> None:
    with socket.socket() as listener, socket.socket() as first, socket.socket() as second:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for filler in (first, second):
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        async with opened(api_root=f"http://127.0.0.1:{listener.getsockname()[1]}/") as gmail:
            assert isinstance(await bounded(gmail.send_draft(ME, draft_id="r1")), NotSent)


async def test_waiting_for_a_connection_is_unreachable_and_not_lost(raw: Raw, events: GmailEvents, port: int) -> None:
    raw.script = raw.says_nothing
    loop = asyncio.get_running_loop()

    def request() -> GmailRequest:
        return GmailRequest(Call.DRAFTS_SEND, sender=ME, method="POST", url=f"http://127.0.0.1:{port}/x", body=b"{}")

    async with (
        GmailSession(GmailSettings(request_timeout=5), events=events, limit=1) as session,
        asyncio.TaskGroup() as group,
    ):
        hog = group.create_task(session.request(request(), deadline=loop.time() + 5))
        await raw.asked.wait()
        waits = request()
        assert isinstance(await session.request(waits, deadline=loop.time() + 0.2), NotSent)
        assert not waits.maybe_sent
        hog.cancel()
    assert len(raw.heads) == 1


async def test_a_hung_token_endpoint_is_unreachable_and_nothing_is_asked_of_gmail(
    raw: Raw, opened: Callable[..., Gmail], port: int
) -> None:
    raw.script = raw.says_nothing
    async with opened(token_uri=f"http://127.0.0.1:{port}/hang") as gmail:
        reply = await bounded(gmail.send_draft(ME, draft_id="r1"))
    assert isinstance(reply, TokenUnavailable)
    assert "no response within the time-out" in reply.cause
    assert [head.split()[1] for head in raw.heads] == [b"/hang"]


async def test_cancelling_a_call_passes_through_and_throws_the_connection_away(
    raw: Raw, opened: Callable[..., Gmail]
) -> None:
    raw.script = raw.says_nothing
    async with opened(request_timeout=5) as gmail:
        call = asyncio.create_task(gmail.send_draft(ME, draft_id="r1"))
        await raw.asked.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await asyncio.wait_for(raw.gone.wait(), PATIENCE)
        raw.script = raw.says(OK)
        assert isinstance(await gmail.send_draft(ME, draft_id="r1"), Accepted)


async def test_a_refusal_that_comes_before_the_upload_is_read_counts(raw: Raw, opened: Callable[..., Gmail]) -> None:
    async def early(it: Raw, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(http(b'{"error":{"message":"too large"}}', status="413 Too Large"))
        await it.let_go.wait()

    raw.script = early
    async with opened(request_timeout=20) as gmail:
        reply = await gmail.send_message(ME, raw=b"x" * 30_000_000)
        assert reply == Refused(413, message="too large")
    raw.let_go.set()


async def test_a_large_draft_goes_by_the_upload_address_as_the_bare_message(
    raw: Raw, opened: Callable[..., Gmail]
) -> None:
    raw.script = raw.says(http(b'{"id":"d","message":{"id":"m","threadId":"t"}}'))
    async with opened(request_timeout=20) as gmail:
        assert isinstance(await gmail.create_draft(ME, raw=b"x" * 6_000_000), Accepted)
    head = raw.heads[0].decode()
    assert head.startswith("POST /upload/gmail/v1/users/me/drafts?uploadType=media ")
    assert "Content-Type: message/rfc822" in head


async def test_no_cookie_of_one_request_travels_with_the_next(
    raw: Raw, port: int, opened: Callable[..., Gmail]
) -> None:
    raw.script = raw.gives_ids(more="Set-Cookie: who=me; Path=/\r\n")
    async with opened(api_root=f"http://localhost:{port}/") as gmail:
        for _ in range(2):
            assert isinstance(await gmail.send_draft(ME, draft_id="r1"), Accepted)
    assert b"who=me" not in raw.heads[1]


async def test_a_crash_of_a_library_before_writing_is_unreachable_and_told_with_its_stack(
    opened: Callable[..., Gmail], told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object, **__: object) -> None:
        raise TypeError("can only concatenate str")

    monkeypatch.setattr(Aiogoogle, "as_user", broken)
    async with opened() as gmail:
        assert isinstance(await gmail.send_draft(ME, draft_id="r1"), NotSent)
    (crash,) = [fields for name, fields in told if name == "google_call_crashed"]
    error = crash["error"]
    assert isinstance(error, TypeError)
    assert error.__traceback__ is not None


@pytest.mark.parametrize("error", [AttributeError("'list' has no get"), UnicodeError("bad"), KeyError("scope")])
async def test_a_crash_of_a_library_after_writing_is_lost(
    raw: Raw, opened: Callable[..., Gmail], told: Told, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    raw.script = raw.says(OK)
    async with opened() as gmail:
        assert isinstance(await gmail.authenticate(ME), Mailbox)

        class Broken:
            def __init__(self, _: object) -> None:
                pass

            def feed_data(self, _: bytes) -> None:
                raise error

        monkeypatch.setattr(httptools, "HttpResponseParser", Broken)
        assert isinstance(await gmail.send_draft(ME, draft_id="r1"), NoResponse)
    assert [name for name, _ in told].count("google_call_crashed") == 1


async def test_many_tasks_have_a_few_connections_at_once(raw: Raw, events: GmailEvents, port: int) -> None:
    most = 0

    async def script(it: Raw, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal most
        most = max(most, it.open)
        await asyncio.sleep(0.01)
        writer.write(http(b"{}"))

    raw.script = script
    deadline = asyncio.get_running_loop().time() + 5
    url = f"http://127.0.0.1:{port}/x"
    async with (
        GmailSession(GmailSettings(request_timeout=5), events=events, limit=3) as session,
        asyncio.TaskGroup() as group,
    ):
        for _ in range(40):
            request = GmailRequest(Call.DRAFTS_SEND, sender=ME, method="POST", url=url, body=b"{}")
            group.create_task(session.request(request, deadline=deadline))
    assert len(raw.heads) == raw.connections == 40
    assert 2 <= most <= 4, "one may still be ending"


async def test_outside_of_its_block_the_door_is_a_bug_and_says_so(opened: Callable[..., Gmail]) -> None:
    gmail = opened()
    with pytest.raises(RuntimeError, match="async with"):
        await gmail.send_draft(ME, draft_id="r1")
