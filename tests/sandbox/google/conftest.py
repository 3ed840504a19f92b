"""What the tests of the sandbox Google share: a running one with a mailbox, and a client that is signed in."""

import base64
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import pytest

from mailerd.sandbox.google import COMPOSE, FULL, FakeGoogle, RunningServer, serve

Compose = Callable[..., dict[str, Any]]
Client = Callable[..., aiohttp.ClientSession]
ME = "me@example.com"


@pytest.fixture
def google() -> FakeGoogle:
    started = time.time()
    google = FakeGoogle(now=lambda: started)
    google.add_mailbox(ME, scopes=(COMPOSE, FULL), aliases=("alias@example.com",))
    return google


@pytest.fixture
async def running(google: FakeGoogle) -> AsyncIterator[RunningServer]:
    async with serve(google) as running:
        yield running


@pytest.fixture
async def client(google: FakeGoogle, running: RunningServer) -> AsyncIterator[Client]:
    """Signed-in sessions: `client(email, scopes=...)`."""
    sessions: list[aiohttp.ClientSession] = []

    def sign_in(email: str = ME, scopes: tuple[str, ...] = ()) -> aiohttp.ClientSession:
        credential = google.accounts.of(email)[0]
        token = google.accounts.grant(
            email,
            credential=credential,
            scopes=frozenset(scopes) or credential.scopes,
            expires_at=google.now() + 3_600,
        )
        headers = {"Authorization": f"Bearer {token}"}
        session = aiohttp.ClientSession(running.url, headers=headers, timeout=aiohttp.ClientTimeout(total=60))
        sessions.append(session)
        return session

    yield sign_in
    for session in sessions:
        await session.close()


@pytest.fixture
async def session(client: Client) -> aiohttp.ClientSession:
    return client()


@pytest.fixture
def compose() -> Compose:
    """A resource as a client writes it; `raw` replaces the whole message."""

    def write(*, to: str = "ada@example.org", key: str = "k1", sender: str = ME, raw: bytes = b"") -> dict[str, Any]:
        message = (
            raw
            or (
                f"From: {sender}\r\nTo: {to}\r\nSubject: Hello\r\nX-Mailerd-Key: {key}\r\n"
                f"Message-ID: <mine@example.com>\r\n\r\nDear Ada\r\n"
            ).encode()
        )
        return {"raw": base64.urlsafe_b64encode(message).decode("ascii")}

    return write
