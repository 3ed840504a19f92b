"""HTTP/1.1 does not say which request an answer belongs to: one that comes twice is not taken for the next one's."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from mailerd.config import GmailSettings
from mailerd.core.replies import Accepted, Call, MalformedResponse, Reply
from mailerd.core.verdicts import Disposition, judge
from mailerd.events.worker import GmailEvents
from mailerd.gmail import Gmail
from tests.gmail.raw import Raw, http, listening
from tests.support.heard import PATIENCE

ME = "me@example.com"
LARGE = b"Subject: x\r\n\r\n" + b"x" * 6_000_000


@pytest.fixture
async def raw() -> Raw:
    return Raw()


@pytest.fixture
async def gmail(raw: Raw, tmp_path: Path, events: GmailEvents) -> AsyncIterator[Gmail]:
    person = {"type": "authorized_user", "client_id": "id", "client_secret": "s", "refresh_token": "r"}
    path = tmp_path / f"{ME}.json"
    path.touch(mode=0o600)
    path.write_text(json.dumps(person))
    async with listening(raw) as port:
        base = f"http://127.0.0.1:{port}/"
        known = {"api_root": base, "token_uri": base + "token", "request_timeout": 30, "credentials_dir": tmp_path}
        async with Gmail(GmailSettings.model_validate(known), events=events, concurrency=1) as it:
            yield it


def draft(number: int) -> bytes:
    return http(json.dumps({"id": f"r{number}", "message": {"id": f"d{number}", "threadId": f"t{number}"}}).encode())


def message(number: int) -> bytes:
    return http(json.dumps({"id": f"m{number}", "threadId": f"t{number}"}).encode())


@pytest.mark.parametrize("when", ["before the send", "with the send", "after the send", "instead of the send"])
@pytest.mark.parametrize("what", ["the same", "another draft"])
@pytest.mark.parametrize("raw_message", [b"x", LARGE], ids=["small", "uploaded"])
async def test_what_answers_a_request_twice_answers_for_no_other_message(
    raw: Raw, gmail: Gmail, when: str, what: str, raw_message: bytes
) -> None:
    """Every first message's draft is answered once more, as the same or as another draft."""
    late = asyncio.Event()

    async def script(it: Raw, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number, is_send = (len(it.heads) + 1) // 2, b"drafts/send" in it.heads[-1]
        second = draft(number if what == "the same" else number + 100)
        if b"upload" in it.heads[-1]:
            await reader.readexactly(len(LARGE))
        if not is_send:
            writer.write(draft(number))
            if when == "before the send":
                await asyncio.sleep(0.02)
                writer.write(second)
            await writer.drain()
            late.set()
            return
        if when in {"with the send", "instead of the send"}:
            writer.write(second)
        if when != "instead of the send":
            writer.write(message(number))
        if when == "after the send":
            writer.write(second)

    raw.script = script
    found = []
    for number in range(1, 6):
        made = await gmail.create_draft(ME, raw=raw_message)
        assert made == Accepted(id=f"r{number}", thread_id=f"t{number}")
        await asyncio.wait_for(late.wait(), PATIENCE)
        late.clear()
        await asyncio.sleep(0.02)
        found.append(await gmail.send_draft(ME, draft_id=f"r{number}", thread_id=f"t{number}"))
    if when in {"with the send", "instead of the send"}:
        assert {judge(Call.DRAFTS_SEND, it).disposition for it in found} == {Disposition.UNKNOWN}
    else:
        assert found == [Accepted(id=f"m{number}", thread_id=f"t{number}") for number in range(1, 6)]


async def test_a_connection_carries_one_message(raw: Raw, gmail: Gmail) -> None:
    async def script(it: Raw, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(message(1) if b"/send" in it.heads[-1] else draft(1))

    raw.script = script
    assert isinstance(await gmail.create_draft(ME, raw=b"x"), Accepted)  # signs in
    before = raw.connections
    for made, sent in [(1, 1), (2, 1), (2, 2)]:
        for _ in range(made):
            assert isinstance(await gmail.create_draft(ME, raw=b"x"), Accepted)
        for _ in range(sent):
            assert isinstance(await gmail.send_draft(ME, draft_id="r1"), Accepted)
    for _ in range(2):
        assert isinstance(await gmail.send_message(ME, raw=b"x"), Accepted)
    assert raw.connections == before + 1 + 2 + 3 + 2


async def test_a_send_whose_answer_is_about_another_thread_is_in_doubt(raw: Raw, gmail: Gmail) -> None:
    raw.script = raw.says(message(7))
    reply = await gmail.send_draft(ME, draft_id="r8", thread_id="t8")
    assert isinstance(reply, MalformedResponse)
    assert "not t8, which was requested: " in reply.excerpt
    assert judge(Call.DRAFTS_SEND, reply).disposition is Disposition.UNKNOWN


@pytest.mark.parametrize(
    "make",
    [
        lambda it: it.get_draft(ME, draft_id="r1"), lambda it: it.get_draft_headers(ME, draft_id="r1"),
        lambda it: it.get_message(ME, message_id="m1"), lambda it: it.get_headers(ME, message_id="m1"),
        lambda it: it.get_raw(ME, message_id="m1"), lambda it: it.get_thread(ME, thread_id="t1"),
        lambda it: it.list_drafts(ME), lambda it: it.list_sent(ME), lambda it: it.list_history(ME, start=1),
        lambda it: it.delete_draft(ME, draft_id="r1"), lambda it: it.get_profile(ME),
    ],
)  # fmt: skip
async def test_what_decides_a_doubt_is_asked_over_a_connection_of_its_own(
    raw: Raw, gmail: Gmail, make: Callable[[Gmail], Awaitable[Reply]]
) -> None:
    raw.script, raw.mailbox = raw.says(http(b"{}")), ME
    await make(gmail)  # signs in
    before = raw.connections
    for _ in range(3):
        await make(gmail)
    assert raw.connections == before + 3


@pytest.mark.parametrize(
    "make, answer, call",
    [
        (lambda it: it.get_draft(ME, draft_id="r8"), draft(7), Call.DRAFTS_GET),
        (lambda it: it.get_message(ME, message_id="m8"), message(7), Call.MESSAGES_GET),
        (lambda it: it.get_thread(ME, thread_id="t8"), http(b'{"id": "t7", "messages": []}'), Call.THREADS_GET),
    ],
)
async def test_an_answer_about_something_else_decides_nothing(
    raw: Raw, gmail: Gmail, make: Callable[[Gmail], Awaitable[Reply]], answer: bytes, call: Call
) -> None:
    raw.script = raw.says(answer)
    reply = await make(gmail)
    assert isinstance(reply, MalformedResponse)
    assert judge(call, reply).disposition is Disposition.TRANSIENT
