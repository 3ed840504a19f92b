"""A sandbox Google, a folder of credentials and an open door to it."""

import json
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path

import pytest

from mailerd.config import GmailSettings
from mailerd.events.base import Event
from mailerd.events.worker import GmailEvents
from mailerd.gmail import Gmail
from mailerd.locale import say
from mailerd.sandbox.google import COMPOSE, FakeGoogle, FakeLimits, RunningServer, serve
from tests.gmail.raw import Raw, listening

Told = list[tuple[str, Mapping[str, object]]]


@pytest.fixture
def told() -> Told:
    return []


@pytest.fixture
def events(told: Told) -> GmailEvents:
    def tell(event: Event, fields: Mapping[str, object]) -> None:
        say(event.words(fields), "zh")
        told.append((event.name, fields))

    return GmailEvents(tell)


@pytest.fixture
def google() -> FakeGoogle:
    return FakeGoogle(FakeLimits(units_per_minute=0, per_day=0))


@pytest.fixture
async def running(google: FakeGoogle) -> AsyncIterator[RunningServer]:
    async with serve(google) as it:
        yield it


@pytest.fixture
def settings(running: RunningServer, tmp_path: Path) -> GmailSettings:
    folder = tmp_path / "credentials"
    folder.mkdir()
    return GmailSettings(api_root=running.url, token_uri=running.token_uri, request_timeout=2.0, credentials_dir=folder)


@pytest.fixture
def sign_up(google: FakeGoogle, settings: GmailSettings) -> Callable[..., Path]:
    """Open a mailbox at the sandbox and put its credential file into the folder."""

    def do(email: str, *, scopes: tuple[str, ...] = (COMPOSE,), kind: str = "authorized_user") -> Path:
        blob = google.add_mailbox(email, scopes=scopes, kind=kind)  # type: ignore[arg-type]  # a Literal of two words
        path = settings.credentials_dir / f"{email}.json"
        path.touch(mode=0o600)
        path.write_text(json.dumps(blob))
        return path

    return do


@pytest.fixture
async def gmail(settings: GmailSettings, events: GmailEvents) -> AsyncIterator[Gmail]:
    async with Gmail(settings, events=events, concurrency=20) as door:
        yield door


@pytest.fixture
def raw() -> Raw:
    return Raw()


@pytest.fixture
async def port(raw: Raw) -> AsyncIterator[int]:
    async with listening(raw) as number:
        yield number
