"""The connections to Google: bodies arrive whole, nothing is sent twice, nothing given up arrives."""

import asyncio
import os
import signal
import socket
import ssl
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path

import pytest
import uvloop

from mailerd.config import GmailSettings
from mailerd.core.replies import Call, NoResponse, NotSent
from mailerd.events.worker import GmailEvents
from mailerd.gmail.session import Answer, GmailRequest, GmailSession
from tests.gmail.raw import Raw, http, listening
from tests.support.certificates import authority_and_server
from tests.support.heard import PATIENCE

OK = http(b"{}")


@pytest.fixture
async def session(events: GmailEvents) -> AsyncIterator[GmailSession]:
    async with GmailSession(GmailSettings(request_timeout=5), events=events, limit=2) as it:
        yield it


async def send(
    session: GmailSession, port: int, *, method: str = "POST", body: bytes | None = b"{}", within: float = 10.0
) -> Answer | NotSent | NoResponse:
    request = GmailRequest(
        Call.DRAFTS_SEND, sender="me", method=method, url=f"http://127.0.0.1:{port}/upload?x=1#here", body=body
    )
    return await session.request(request, deadline=asyncio.get_running_loop().time() + within)


async def status(session: GmailSession, port: int, *, method: str = "POST", body: bytes | None = b"{}") -> int:
    answer = await send(session, port, method=method, body=body)
    assert isinstance(answer, Answer), answer
    return answer.status


async def serve_once_per_connection(raw: Raw, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer the first request of each connection, and none after it: what an idle connection's end looks like."""
    if len(raw.heads) == 1:
        writer.write(OK)
        await writer.drain()
    elif len(raw.heads) == 2:
        writer.close()
    else:
        writer.write(OK)


async def test_a_look_over_a_connection_that_has_died_is_made_again_once(session: GmailSession) -> None:
    raw = Raw()
    raw.script = serve_once_per_connection
    async with listening(raw) as port:
        assert await status(session, port, method="GET", body=None) == 200
        assert await status(session, port, method="GET", body=None) == 200
    assert len(raw.heads) == 3


@pytest.mark.parametrize("method", ["POST", "DELETE"])
async def test_what_may_change_something_is_never_sent_again(session: GmailSession, method: str) -> None:
    raw = Raw()
    raw.script = serve_once_per_connection
    async with listening(raw) as port:
        assert await status(session, port, method="GET", body=None) == 200
        assert isinstance(await send(session, port, method=method), NoResponse)
    assert len(raw.heads) == 2


async def test_a_large_body_arrives_whole(session: GmailSession) -> None:
    came = []

    async def read(_: Raw, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        came.append(await reader.readexactly(3_000_001))
        writer.write(http(str(len(came)).encode()))

    raw = Raw()
    raw.script = read
    sent = bytes(range(256)) * 11_718 + b"0123456789" * 19 + b"end"
    sent = (sent + b"x" * 3_000_001)[:3_000_001]
    async with listening(raw) as port:
        assert await status(session, port, body=sent) == 200
        assert await status(session, port, body=sent) == 200
    assert came == [sent, sent]


async def test_a_large_body_may_be_refused_half_way(session: GmailSession) -> None:
    async def refuse(raw: Raw, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(http(b"{}", status="413 Too Large"))
        await raw.let_go.wait()

    raw = Raw()
    raw.script = refuse
    async with listening(raw) as port:
        assert await status(session, port, body=b"x" * 30_000_000) == 413
        raw.let_go.set()


@pytest.mark.parametrize("value", ["a\r\nX-Evil: 1", "a\nb", "a\rb", "a\0b"])
async def test_a_header_with_a_line_break_is_refused_before_anything_is_sent(session: GmailSession, value: str) -> None:
    raw = Raw()
    raw.script = raw.says(OK)
    async with listening(raw) as port:
        request = GmailRequest(Call.DRAFTS_SEND, sender="me", method="GET", url=f"http://127.0.0.1:{port}/")
        request.headers["Authorization"] = value
        answer = await session.request(request, deadline=asyncio.get_running_loop().time() + 2)
        assert not isinstance(answer, Answer)
        assert "control character" in answer.cause
    assert not raw.heads


async def test_the_request_names_its_host_and_the_length_of_its_body(session: GmailSession) -> None:
    raw = Raw()
    raw.script = raw.says(OK)
    async with listening(raw) as port:
        assert await status(session, port, body=b"") == 200
        assert raw.heads[0].startswith(f"POST /upload?x=1 HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n".encode())
        assert b"\r\nContent-Length: 0\r\n" in raw.heads[0]


@pytest.mark.parametrize(
    "stray",
    [http(b"stray"), http(b"stray", status="408 Request Timeout"), http(b"stray")[:-5], b"\0"],
    ids=["whole", "408", "head", "garbage"],
)
async def test_what_comes_unasked_before_a_draft_is_sent_answers_nothing(session: GmailSession, stray: bytes) -> None:
    async def say_more(raw: Raw, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(http(str(len(raw.heads)).encode()))
        await writer.drain()
        await asyncio.sleep(0.05)
        writer.write(stray)
        raw.asked.set()

    raw = Raw()
    raw.script = say_more
    async with listening(raw) as port:
        url, deadline = f"http://127.0.0.1:{port}/", asyncio.get_running_loop().time() + 10
        making = GmailRequest(Call.DRAFTS_CREATE, sender="me", method="POST", url=url, body=b"")
        assert isinstance(await session.request(making, deadline=deadline), Answer)
        session.keep(making, "r1")
        raw.asked.clear()
        await asyncio.wait_for(raw.asked.wait(), PATIENCE)
        await asyncio.sleep(0.05)
        sending = GmailRequest(Call.DRAFTS_SEND, sender="me", method="POST", url=url, body=b"", draft_id="r1")
        answer = await session.request(sending, deadline=deadline)
    assert isinstance(answer, Answer)
    assert answer.body == b"2"
    assert raw.connections == 2


def congested() -> socket.socket:
    """A server behind a road that takes a little and then nothing, until somebody reads."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    listener.settimeout(60)
    return listener


def arrives(accepted: socket.socket) -> tuple[int, bool]:
    """How many bytes come after all, and whether the connection was reset."""
    accepted.settimeout(60)
    came = 0
    try:
        while piece := accepted.recv(65536):
            came += len(piece)
    except ConnectionResetError:
        return came, True
    return came, False


LARGE = b"x" * 4_000_000


async def give_up(port: int) -> None:
    async with GmailSession(GmailSettings(request_timeout=5), events=GmailEvents(lambda *_: None), limit=2) as session:
        assert isinstance(await send(session, port, body=LARGE, within=1.0), NoResponse)
        await asyncio.sleep(0)  # the transport closes in the loop's next turn


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_what_is_given_up_does_not_arrive_later(run: Callable[[Coroutine[None, None, None]], None]) -> None:
    """Closed in the ordinary way, the kernel would go on bringing it, minutes after anybody has looked for it."""
    with congested() as listener:
        run(give_up(listener.getsockname()[1]))
        accepted, _ = listener.accept()
        with accepted:
            came, reset = arrives(accepted)
    assert reset
    assert came < len(LARGE)


_GIVES_UP_OVER_TLS = """
import asyncio, sys, uvloop
from mailerd.config import GmailSettings
from mailerd.core.replies import Call
from mailerd.events.worker import GmailEvents
from mailerd.gmail.session import GmailRequest, GmailSession
async def main():
    url, loop = f"https://127.0.0.1:{sys.argv[1]}/", asyncio.get_running_loop()
    async with GmailSession(GmailSettings(request_timeout=5), events=GmailEvents(lambda *_: None), limit=2) as session:
        request = GmailRequest(Call.DRAFTS_SEND, sender="me", method="POST", url=url, body=b"x" * 4_000_000)
        answer = await session.request(request, deadline=loop.time() + 5)
        print(type(answer).__name__, flush=True)
        await asyncio.sleep(60)
{"asyncio": asyncio, "uvloop": uvloop}[sys.argv[2]].run(main())
"""


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
async def test_what_is_given_up_over_tls_does_not_arrive_later_either(tmp_path: Path, loop: str) -> None:
    authority, certificate, key = authority_and_server(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with congested() as listener:
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-c", _GIVES_UP_OVER_TLS, str(listener.getsockname()[1]), loop,
            stdout=asyncio.subprocess.PIPE, env={**os.environ, "SSL_CERT_FILE": str(authority)},
        )  # fmt: skip
        try:
            accepted, _ = await asyncio.to_thread(listener.accept)
            shaken = await asyncio.to_thread(context.wrap_socket, accepted, server_side=True)
            assert child.stdout is not None
            assert await asyncio.wait_for(child.stdout.readline(), PATIENCE) == b"NoResponse\n"
            with socket.socket(fileno=shaken.detach()) as below:
                came, reset = await asyncio.to_thread(arrives, below)
        finally:
            child.kill()
            await child.wait()
    assert reset
    assert came < len(LARGE)


_DIES = """
import asyncio, sys
from mailerd.config import GmailSettings
from mailerd.core.replies import Call
from mailerd.events.worker import GmailEvents
from mailerd.gmail.session import GmailRequest, GmailSession
async def main():
    url, loop = f"http://127.0.0.1:{sys.argv[1]}/", asyncio.get_running_loop()
    async with GmailSession(GmailSettings(request_timeout=5), events=GmailEvents(lambda *_: None), limit=2) as session:
        request = GmailRequest(Call.DRAFTS_SEND, sender="me", method="POST", url=url, body=b"x" * 200_000)
        sending = asyncio.ensure_future(session.request(request, deadline=loop.time() + 20))
        while not request.maybe_sent:
            await asyncio.sleep(0.01)
        print("now", flush=True)
        await sending
asyncio.run(main())
"""


async def test_what_a_killed_daemon_had_on_its_way_does_not_arrive_later() -> None:
    with congested() as listener:
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-c", _DIES, str(listener.getsockname()[1]), stdout=asyncio.subprocess.PIPE
        )
        assert child.stdout is not None
        await asyncio.wait_for(child.stdout.readline(), PATIENCE)
        accepted, _ = await asyncio.to_thread(listener.accept)
        await asyncio.sleep(0.05)  # into the kernel's buffer
        os.kill(child.pid, signal.SIGKILL)
        await child.wait()
        with accepted:
            came, reset = await asyncio.to_thread(arrives, accepted)
    assert reset
    assert came < 200_000
