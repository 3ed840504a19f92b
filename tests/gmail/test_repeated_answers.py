"""HTTP/1.1 does not say which request an answer belongs to: one that comes twice is not taken for the next one's."""

import asyncio
import itertools
import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from mailerd.config import GmailSettings
from mailerd.core.replies import Accepted, Call, MalformedResponse, NoResponse, NotSent, Refused, Reply
from mailerd.core.verdicts import Disposition, judge
from mailerd.events.worker import GmailEvents
from mailerd.gmail import Gmail
from mailerd.gmail.session import Answer, GmailRequest, GmailSession
from tests.gmail.raw import Raw, http, listening

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


CALLS: dict[str, tuple[Callable[[Gmail], Awaitable[Reply]], Callable[[int], bytes], Call]] = {
    "drafts.create": (lambda it: it.create_draft(ME, raw=b"x"), draft, Call.DRAFTS_CREATE),
    "drafts.create, uploaded": (lambda it: it.create_draft(ME, raw=LARGE), draft, Call.DRAFTS_CREATE),
    "drafts.send": (lambda it: it.send_draft(ME, draft_id="r"), message, Call.DRAFTS_SEND),
    "messages.send": (lambda it: it.send_message(ME, raw=b"x"), message, Call.MESSAGES_SEND),
}


@pytest.mark.parametrize("name", CALLS)
async def test_an_answer_that_comes_twice_is_not_the_next_ones(raw: Raw, gmail: Gmail, name: str) -> None:
    make, answer, call = CALLS[name]

    async def script(it: Raw, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number = len(it.heads)
        if b"upload" in it.heads[-1]:
            await reader.readexactly(len(LARGE))
        if number == 3:
            writer.write(answer(1))  # of the first: it comes late enough to find a request under way
            await writer.drain()
            await asyncio.sleep(0.05)
        writer.write(answer(number))

    raw.script = script
    replies = [await make(gmail) for _ in range(2)]
    before = raw.connections
    replies += [await make(gmail) for _ in range(3)]
    assert [it.id[1:] if isinstance(it, Accepted) else it for it in replies] == [
        "1", "2", NoResponse("_RepeatedAnswerError: the connection repeated an earlier response"), "4", "5",
    ]  # fmt: skip
    wanted = Disposition.TRANSIENT if call is Call.DRAFTS_CREATE else Disposition.UNKNOWN
    assert judge(call, replies[2]).disposition is wanted
    assert raw.connections == before + 1, "the one that is out of step is not used again"


async def test_a_send_whose_answer_is_about_another_thread_is_in_doubt(raw: Raw, gmail: Gmail) -> None:
    raw.script = raw.says(message(7))
    reply = await gmail.send_draft(ME, draft_id="r8", thread_id="t8")
    assert isinstance(reply, MalformedResponse)
    assert "t8, which was asked for: " in reply.excerpt
    assert judge(Call.DRAFTS_SEND, reply).disposition is Disposition.UNKNOWN
    before = raw.connections
    raw.script = raw.says(message(9))
    assert await gmail.send_draft(ME, draft_id="r9", thread_id="t9") == Accepted(id="m9", thread_id="t9")
    assert raw.connections == before + 1


async def test_a_connection_that_gave_a_refusal_is_not_used_again(raw: Raw, gmail: Gmail) -> None:
    raw.script = raw.says(http(b"{}", status="429 Too Many Requests"))
    assert isinstance(await gmail.send_message(ME, raw=b"x"), Refused)
    before = raw.connections
    raw.script = raw.says(message(1))
    assert isinstance(await gmail.send_message(ME, raw=b"x"), Accepted)
    assert raw.connections == before + 1


async def test_a_refusal_costs_no_other_request_its_connection(events: GmailEvents) -> None:
    """aiohttp gives a connection back once the last byte of an answer has come, which is before that answer is read."""
    chance, numbers = random.Random(1), itertools.count()

    async def in_two_pieces(_: Raw, __: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        body = json.dumps({"id": f"m{(number := next(numbers))}"}).encode()
        whole = http(body, status="200 OK" if number % 2 else "429 Too Many Requests")
        writer.write(whole[: -len(body)])
        await asyncio.sleep(0.001)
        writer.write(body)

    async def thirty(session: GmailSession, url: str) -> list[Answer | NotSent | NoResponse]:
        answers = []
        for _ in range(30):
            request = GmailRequest(Call.DRAFTS_SEND, sender=ME, method="POST", url=url, body=b"{}")
            answers.append(await session.request(request, deadline=asyncio.get_running_loop().time() + 30))
            await asyncio.sleep(chance.random() * 0.003)
        return answers

    raw = Raw()
    raw.script = in_two_pieces
    async with (
        listening(raw) as port,
        GmailSession(GmailSettings(request_timeout=30), events=events, limit=20) as session,
    ):
        url = f"http://127.0.0.1:{port}/x"
        found = await asyncio.gather(*[thirty(session, url) for _ in range(30)])
    assert [it for each in found for it in each if not isinstance(it, Answer)] == []


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
