"""Answers byte by byte, as they come over a connection."""

import asyncio
import json
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from mailerd.sandbox.google import Fault, RunningServer
from tests.support.heard import PATIENCE

Compose = Callable[..., dict[str, Any]]


async def _exchange(
    running: RunningServer, body: bytes, *, version: str = "1.1", connection: str = ""
) -> tuple[list[str], bytes]:
    """Draft a message over a connection of its own: the lines of the answer's head, and its body."""
    address = urlsplit(running.url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    google = running.google
    credential = google.accounts.of("me@example.com")[0]
    token = google.accounts.grant(
        "me@example.com", credential=credential, scopes=credential.scopes, expires_at=google.now() + 3_600
    )
    head = [
        f"POST /gmail/v1/users/me/drafts HTTP/{version}",
        f"Host: {address.netloc}",
        f"Authorization: Bearer {token}",
        f"Content-Length: {len(body)}",
        *([f"Connection: {connection}"] if connection else []),
    ]
    writer.write("\r\n".join((*head, "", "")).encode() + body)
    lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    length = next(int(line.partition(":")[2]) for line in lines if line.startswith("Content-Length:"))
    said = await reader.readexactly(length)
    if connection != "keep-alive" and (connection or version == "1.0"):
        async with asyncio.timeout(PATIENCE):
            assert await reader.read() == b"", "whoever asks for the end gets it"
    writer.close()
    await writer.wait_closed()
    return lines, said


def _body(compose: Compose) -> bytes:
    return json.dumps({"message": compose()}).encode()


async def test_a_success_reads_the_same_whoever_has_written_it(running: RunningServer, compose: Compose) -> None:
    quick, said = await _exchange(running, _body(compose))
    slow, said_slowly = await _exchange(running, _body(compose), connection="close")

    def steady(lines: list[str]) -> list[str]:
        return ["Date" if line.startswith("Date: ") else line for line in lines if line != "Connection: close"]

    assert steady(quick) == steady(slow)
    assert "Connection: close" in slow
    assert json.loads(said).keys() == json.loads(said_slowly).keys()


async def test_a_client_of_http_1_0_is_answered_in_its_own(running: RunningServer, compose: Compose) -> None:
    lines, _ = await _exchange(running, _body(compose), version="1.0")
    assert lines[0] == "HTTP/1.0 200 OK"
    lines, _ = await _exchange(running, _body(compose), version="1.0", connection="keep-alive")
    assert "Connection: keep-alive" in lines


async def test_a_lie_keeps_its_own_content_type(running: RunningServer, compose: Compose) -> None:
    running.google.fault(Fault(kind="garbage", method="drafts.create"))
    lines, _ = await _exchange(running, _body(compose))
    assert lines[0] == "HTTP/1.1 200 OK"
    assert "Content-Type: text/html; charset=UTF-8" in lines
