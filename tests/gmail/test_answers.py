"""How an answer may be written in HTTP/1.1, where it ends, and when the send of its draft has its connection."""

import asyncio
import gzip
import zlib
from collections.abc import AsyncIterator

import pytest

from mailerd.config import GmailSettings
from mailerd.core.replies import Call, NoResponse, NotSent
from mailerd.events.worker import GmailEvents
from mailerd.gmail import session as module
from mailerd.gmail.session import Answer, GmailRequest, GmailSession
from tests.gmail.raw import Raw, http
from tests.support.heard import PATIENCE

BODY = b'{"id": "m"}'
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.fixture
async def session(events: GmailEvents) -> AsyncIterator[GmailSession]:
    async with GmailSession(GmailSettings(request_timeout=5), events=events, limit=2) as it:
        yield it


async def send(
    session: GmailSession, port: int, *, path: str = "", body: bytes = b"{}"
) -> Answer | NotSent | NoResponse:
    request = GmailRequest(
        Call.DRAFTS_SEND, sender="me", method="POST", url=f"http://127.0.0.1:{port}/{path}", body=body
    )
    return await session.request(request, deadline=asyncio.get_running_loop().time() + 5)


async def make_and_send(session: GmailSession, raw: Raw, port: int, *, body: bytes = b"{}") -> Answer:
    """The answer of what has made a draft, which is sent afterwards."""
    url = f"http://127.0.0.1:{port}/upload"
    request = GmailRequest(Call.DRAFTS_CREATE, sender="me", method="POST", url=url, body=body)
    got = await session.request(request, deadline=asyncio.get_running_loop().time() + 5)
    assert isinstance(got, Answer)
    session.keep(request, "r1")
    raw.script = raw.says(http(b"{}"))
    sending = GmailRequest(Call.DRAFTS_SEND, sender="me", method="POST", url=url, body=b"", draft_id="r1")
    assert isinstance(await session.request(sending, deadline=asyncio.get_running_loop().time() + 5), Answer)
    return got


KEPT = {
    "of a known length": http(BODY),
    "in chunks": CHUNKED + b"4\r\n" + BODY[:4] + b"\r\n7;why=not\r\n" + BODY[4:] + b"\r\n0\r\nX-Trailer: 1\r\n\r\n",
    "after interim answers": b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + http(BODY),
    "after an empty header": http(BODY, more="X-Empty:\r\nX-Blank: \r\n"),
    "compressed by gzip": http(gzip.compress(BODY), more="content-encoding: gzip\r\n"),
    "compressed by deflate": http(zlib.compress(BODY), more="Content-Encoding: deflate\r\n"),
    "in compressed chunks": CHUNKED[:-2] + b"Content-Encoding: gzip\r\n\r\n" + b"".join(
        b"1\r\n" + bytes([byte]) + b"\r\n" for byte in gzip.compress(BODY)
    ) + b"0\r\n\r\n",
}  # fmt: skip


@pytest.mark.parametrize("answer", KEPT.values(), ids=KEPT)
async def test_an_answer_that_tells_its_end_is_read_whole_and_its_connection_is_kept(
    session: GmailSession, raw: Raw, port: int, answer: bytes
) -> None:
    raw.script = raw.says(answer)
    got = await make_and_send(session, raw, port)
    assert (got.status, got.body) == (200, BODY)
    assert raw.connections == 1


@pytest.mark.parametrize("status", [204, 304])
async def test_a_status_without_a_body_ends_with_its_headers(
    session: GmailSession, raw: Raw, port: int, status: int
) -> None:
    raw.script = raw.says(f"HTTP/1.1 {status} X\r\nETag: x\r\n\r\n".encode())
    got = await send(session, port)
    assert isinstance(got, Answer)
    assert (got.status, got.body) == (status, b"")


ENDS = {
    "by its header": (http(BODY, more="Connection: close\r\n"), False),
    "by its version": (http(BODY).replace(b"HTTP/1.1", b"HTTP/1.0"), False),
    "with the body": (b"HTTP/1.1 200 OK\r\n\r\n" + BODY, True),
    "out of step": (http(BODY) + http(b"stray"), False),
    "in garbage": (http(BODY) + b"\0", False),
}


@pytest.mark.parametrize("answer, then_close", ENDS.values(), ids=ENDS)
async def test_an_answer_whose_connection_ends_is_read_whole_and_the_connection_is_not_used_again(
    session: GmailSession, raw: Raw, port: int, answer: bytes, *, then_close: bool
) -> None:
    raw.script = raw.says(answer, then_close=then_close)
    got = await make_and_send(session, raw, port)
    assert (got.status, got.body) == (200, BODY)
    assert raw.connections == 2


CUT = {
    "of a known length": http(BODY)[:-1],
    "in a chunk": CHUNKED + b"4\r\n" + BODY[:3],
    "between chunks": CHUNKED + b"b\r\n" + BODY + b"\r\n",
    "after an interim answer": b"HTTP/1.1 103 Early Hints\r\n\r\n",
    "for another protocol": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
}


@pytest.mark.parametrize("answer", CUT.values(), ids=CUT)
async def test_an_answer_that_is_cut_off_is_none(session: GmailSession, raw: Raw, port: int, answer: bytes) -> None:
    raw.script = raw.says(answer, then_close=True)
    assert isinstance(await send(session, port), NoResponse)


async def test_a_body_that_ends_in_a_reset_is_none(session: GmailSession, raw: Raw, port: int) -> None:
    async def script(it: Raw, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n" + BODY)
        await writer.drain()
        await asyncio.sleep(0.1)
        await it.resets(it, reader, writer)

    raw.script = script
    assert isinstance(await send(session, port), NoResponse)


async def test_a_connection_that_was_answered_before_all_was_sent_is_not_used_again(
    session: GmailSession, raw: Raw, port: int
) -> None:
    async def early(it: Raw, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(http(BODY))
        await it.let_go.wait()

    raw.script = early
    await make_and_send(session, raw, port, body=b"x" * 30_000_000)
    assert raw.connections == 2
    raw.let_go.set()


async def test_a_large_body_lets_other_requests_have_their_turn(session: GmailSession, raw: Raw, port: int) -> None:
    turns = 0

    async def read(_: Raw, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(8_000_000)
        writer.write(http(BODY))

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    raw.script = read
    async with asyncio.TaskGroup() as group:
        counting = group.create_task(count())
        assert isinstance(await send(session, port, path="upload", body=b"x" * 8_000_000), Answer)
        counting.cancel()
    assert turns > 30


async def test_a_connection_whose_draft_is_not_sent_is_ended_after_a_while(
    session: GmailSession, raw: Raw, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def until_it_ends(_: Raw, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(http(BODY))
        await reader.read()

    monkeypatch.setattr(module, "_KEPT_S", 0.5)
    raw.script = until_it_ends
    url = f"http://127.0.0.1:{port}/"
    request = GmailRequest(Call.DRAFTS_CREATE, sender="me", method="POST", url=url, body=b"{}")
    assert isinstance(await session.request(request, deadline=asyncio.get_running_loop().time() + 5), Answer)
    session.keep(request, "r1")
    await asyncio.sleep(0.1)
    assert not raw.gone.is_set()
    await asyncio.wait_for(raw.gone.wait(), PATIENCE)
