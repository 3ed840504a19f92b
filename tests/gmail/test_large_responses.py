"""An answer that is too large, or never ends, costs neither memory nor time, and is a fact like any other."""

import asyncio
import gzip
import json
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import cache
from pathlib import Path

import pytest

from mailerd.config import GmailSettings
from mailerd.core.replies import Accepted, Call, MalformedResponse, NoResponse, NotSent, Refused, Reply, TokenRefused
from mailerd.core.verdicts import Disposition, judge
from mailerd.events.worker import GmailEvents
from mailerd.gmail import Gmail
from mailerd.gmail.session import MAX_BODY
from tests.gmail.raw import Raw, Script, http
from tests.support.heard import PATIENCE
from tests.support.own_time import own_time

ME = "me@example.com"
MB = 1_000_000
BOUND = 2.0
GZIP = "Content-Encoding: gzip\r\n"


@cache
def bomb() -> bytes:
    """It takes most of a second: not whenever tests are collected."""
    return gzip.compress(b" " * (200 * MB), compresslevel=9)


@pytest.fixture
async def gmail(raw: Raw, port: int, tmp_path: Path, events: GmailEvents) -> AsyncIterator[Gmail]:
    async with opened(port, tmp_path, events) as it:
        raw.script = raw.says(http(b'{"id":"m"}'))
        assert isinstance(await it.send_draft(ME, draft_id="r0"), Accepted)  # signed in, connected
        yield it


def opened(port: int, folder: Path, events: GmailEvents, *, token: str = "token") -> Gmail:
    person = {"type": "authorized_user", "client_id": "id", "client_secret": "s", "refresh_token": "r"}
    path = folder / f"{ME}.json"
    path.touch(mode=0o600)
    path.write_text(json.dumps(person))
    base = f"http://127.0.0.1:{port}/"
    known = {"api_root": base, "token_uri": base + token, "request_timeout": BOUND, "credentials_dir": folder}
    return Gmail(GmailSettings.model_validate(known), events=events, concurrency=10)


async def bounded(call: Awaitable[Reply]) -> Reply:
    """The reply, which must come in time and in little memory."""
    started = own_time()
    tracemalloc.start()
    try:
        reply = await asyncio.wait_for(call, PATIENCE)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 12 * MB
    assert own_time() - started < BOUND + 1.5
    return reply


def forever(*first: bytes, then: bytes) -> Script:
    """Says something, and then the same again and again, until nobody listens."""

    async def script(raw: Raw, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for piece in first:
            writer.write(piece)
        while not raw.let_go.is_set():
            writer.write(then)
            await writer.drain()

    return script


LONG = b"HTTP/1.1 200 OK\r\nContent-Length: 9000000000\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
TOO_MUCH: dict[str, Callable[[], Script]] = {
    "a gzip bomb": lambda: Raw.says(http(bomb(), more=GZIP)),
    "a gzip bomb in chunks": lambda: forever(
        CHUNKED[:-2] + b"Content-Encoding: gzip\r\n\r\n" + b"%x\r\n%s\r\n" % (len(bomb()), bomb()),
        then=b"1\r\n\0\r\n" * 4096,
    ),
    "a large body": lambda: forever(LONG, then=b" " * 65536),
    "a body without end": lambda: forever(CHUNKED, then=b"10000\r\n" + b" " * 0x10000 + b"\r\n"),
    "bytes until the end of the connection": lambda: forever(b"HTTP/1.1 200 OK\r\n\r\n", then=b" " * 65536),
}


@pytest.mark.parametrize("script", TOO_MUCH.values(), ids=TOO_MUCH)
async def test_a_body_that_is_too_large_leaves_a_send_in_doubt(
    raw: Raw, gmail: Gmail, script: Callable[[], Script]
) -> None:
    raw.script = script()
    reply = await bounded(gmail.send_draft(ME, draft_id="r1"))
    assert reply == MalformedResponse(200, f"more than {MAX_BODY:,} bytes, starting with: ")
    assert judge(Call.DRAFTS_SEND, reply).disposition is Disposition.UNKNOWN


async def test_a_refusal_whose_page_is_too_large_is_a_refusal(raw: Raw, gmail: Gmail) -> None:
    raw.script = forever(LONG.replace(b"200 OK", b"413 Too Large"), then=b"<p>too large" * 2_000)
    reply = await bounded(gmail.send_draft(ME, draft_id="r1"))
    assert isinstance(reply, Refused)
    assert (reply.status, reply.message[:9]) == (413, "too large")


async def test_the_largest_answer_that_is_allowed_is_read(raw: Raw, gmail: Gmail) -> None:
    body = b'{"id":"m"}'
    raw.script = raw.says(http(gzip.compress(body + b" " * (MAX_BODY - len(body))), more=GZIP))
    assert isinstance(await gmail.send_draft(ME, draft_id="r1"), Accepted)
    raw.script = raw.says(http(gzip.compress(body + b" " * (MAX_BODY - len(body) + 1)), more=GZIP))
    assert isinstance(await gmail.send_draft(ME, draft_id="r1"), MalformedResponse)


NO_ANSWER: dict[str, Script] = {
    "headers without end": forever(b"HTTP/1.1 200 OK\r\n", then=(b"X-More: " + b"y" * 100 + b"\r\n") * 100),
    "one header without end": forever(b"HTTP/1.1 200 OK\r\nX: ", then=b"y" * 65536),
    "a reason without end": forever(b"HTTP/1.1 200 ", then=b"y" * 65536),
    "interim answers without end": forever(then=b"HTTP/1.1 100 Continue\r\n\r\n" * 1000),
    "interim answers with headers": forever(then=b"HTTP/1.1 103 Early Hints\r\nLink: " + b"x" * 8000 + b"\r\n\r\n"),
    "trailers without end": forever(CHUNKED, b"0\r\n", then=(b"X-More: " + b"y" * 100 + b"\r\n") * 100),
    "a chunk's extension without end": forever(CHUNKED, b"1;", then=b"y" * 65536),
    "a chunk's size without end": forever(CHUNKED, then=b"0" * 65536),
}


@pytest.mark.parametrize("script", NO_ANSWER.values(), ids=NO_ANSWER)
async def test_what_never_becomes_an_answer_is_lost(raw: Raw, gmail: Gmail, script: Script) -> None:
    raw.script = script
    reply = await bounded(gmail.send_draft(ME, draft_id="r1"))
    assert isinstance(reply, NoResponse), reply
    assert judge(Call.DRAFTS_SEND, reply).disposition is Disposition.UNKNOWN
    raw.script = raw.says(http(b'{"id":"m"}'))
    assert isinstance(await gmail.send_draft(ME, draft_id="r1"), Accepted)


async def test_a_bomb_of_a_bomb_is_opened_once_at_most(raw: Raw, gmail: Gmail) -> None:
    raw.script = raw.says(http(gzip.compress(bomb()), more="Content-Encoding: gzip, gzip\r\n"))
    assert isinstance(await bounded(gmail.send_draft(ME, draft_id="r1")), MalformedResponse)


@pytest.mark.parametrize(
    "status, kind", [("200 OK", NotSent), ("400 Bad Request", TokenRefused)], ids=["granted", "refused"]
)
async def test_a_bomb_from_the_token_endpoint_gives_no_token(
    raw: Raw, port: int, tmp_path: Path, events: GmailEvents, status: str, kind: type[Reply]
) -> None:
    raw.script = raw.says(http(bomb(), status=status, more=GZIP))
    async with opened(port, tmp_path, events, token="other") as gmail:
        assert isinstance(await bounded(gmail.send_draft(ME, draft_id="r1")), kind)
    assert [head.split()[1] for head in raw.heads] == [b"/other"]


async def test_single_bytes_without_end_are_too_much_or_too_slow(raw: Raw, gmail: Gmail) -> None:
    raw.script = forever(CHUNKED, then=b"1\r\n \r\n" * 4096)
    reply = await bounded(gmail.send_draft(ME, draft_id="r1"))
    assert isinstance(reply, MalformedResponse | NoResponse)
    assert judge(Call.DRAFTS_SEND, reply).disposition is Disposition.UNKNOWN


async def test_a_drip_that_never_ends_is_over_when_the_time_is_up(raw: Raw, gmail: Gmail) -> None:
    async def drip(it: Raw, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(CHUNKED)
        while not it.let_go.is_set():
            writer.write(b"1\r\n \r\n")
            await writer.drain()
            await asyncio.sleep(0.05)

    raw.script = drip
    assert isinstance(await bounded(gmail.send_draft(ME, draft_id="r1")), NoResponse)
    raw.let_go.set()
