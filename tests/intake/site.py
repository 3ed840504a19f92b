"""The intake under test as a client sees it, and a good job to post."""

import asyncio
import io
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from mailerd.clock import Clock
from mailerd.config import GmailSettings, IntakeSettings, Live
from mailerd.core.rate_limit import SenderLimits
from mailerd.events.intake import IntakeEvents
from mailerd.events.worker import GmailEvents
from mailerd.gmail import Gmail
from mailerd.intake.api import Intake
from mailerd.intake.sender_resolver import SenderResolver
from mailerd.store.db.database import Database
from mailerd.store.queue.rate_limits import DefaultLimits
from mailerd.store.read.forecast_inputs import ForecastReader
from mailerd.store.write.api_keys import ApiKeys
from mailerd.worker.message_builder import MessageBuilder, UnsubscribeLinks
from tests.support.heard import Heard
from tests.support.rows import query

PATIENCE = 100.0
"""Seconds that a request waits for the database, which is slow on a slow machine and never away."""


@dataclass
class Wakeups:
    """Counts how often the runner was to look for work."""

    count: int = 0

    def __call__(self) -> None:
        self.count += 1


def forecasts(database: Database) -> ForecastReader:
    """Forecasts of senders without limits."""
    return ForecastReader(database, Live(DefaultLimits(SenderLimits(0, 0, 0))), PATIENCE)


def with_aliases(folder: Path, aliases: dict[str, str]) -> SenderResolver:
    """Knows these aliases, and takes every other address for a mailbox: none is authorized in the `folder`."""
    known = GmailSettings(credentials_dir=folder, aliases=aliases)
    return SenderResolver(Gmail(known, events=GmailEvents(Heard()), concurrency=1), aliases)


def new_intake(
    database: Database, heard: Heard, wakeups: Wakeups, settings: IntakeSettings | None = None, **options: Any
) -> Intake:
    """An intake that does not serve yet; on any port where its settings are not given."""
    options = {"patience": PATIENCE, "forecasts": forecasts(database), **options}
    made = Intake(
        settings or IntakeSettings(port=0), database=database, wake=wakeups, events=IntakeEvents(heard), **options
    )
    public, clock = options.get("public"), Clock()
    links = UnsubscribeLinks(database, base_url=public.base_url if public else "", clock=clock)
    made.preview = MessageBuilder(database, renderer=made.renderer, clock=clock, links=links).preview
    return made


@dataclass
class Site:
    """The intake under test, and a client that has a key."""

    url: str
    key: str
    client: aiohttp.ClientSession
    database: Database
    keys: ApiKeys
    wakeups: Wakeups
    heard: Heard
    intake: Intake

    async def post(self, body: Any, **options: Any) -> tuple[int, Any]:
        async with self.client.post(f"{self.url}/api/jobs/send_template_emails", json=body, **options) as response:
            return response.status, await response.json()

    async def posted(self, *recipients: Any, **fields: Any) -> str:
        """The id of a good job that is posted, with changes."""
        status, answer = await self.post(job(*recipients, **fields))
        assert status == 200, answer
        return str(answer["job_id"])

    async def post_bytes(self, body: bytes | io.BytesIO, **options: Any) -> tuple[int, Any]:
        async with self.client.post(f"{self.url}/api/jobs/send_template_emails", data=body, **options) as response:
            return response.status, await response.json()

    async def get(self, path: str, **options: Any) -> tuple[int, Any]:
        async with self.client.get(f"{self.url}{path}", **options) as response:
            return response.status, await response.json()

    async def rows(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        return await query(self.database, statement, *values)

    async def stored(self) -> tuple[int, int]:
        """Jobs and recipients in the database."""
        rows = await self.rows("SELECT (SELECT COUNT(*) FROM jobs), (SELECT COUNT(*) FROM job_recipients)")
        return rows[0][0], rows[0][1]


Build = Callable[..., Awaitable[Site]]


async def event(response: aiohttp.ClientResponse) -> dict[str, str]:
    """The next event of a stream that is not a comment."""
    while True:
        block = await asyncio.wait_for(response.content.readuntil(b"\n\n"), PATIENCE)
        found = dict(line.split(": ", 1) for line in block.decode().strip().splitlines())
        if "event" in found:
            return found


def job(*recipients: Any, **fields: Any) -> dict[str, Any]:
    """A good job, with changes."""
    return {
        "sender_email": "me@example.com",
        "template": {"subject": "Hello {{ name }}", "html": "<p>{{ product }} for {{ name }}</p>"},
        "variables": {"product": "X"},
        "recipients": list(recipients) or [{"email": "ada@example.com", "name": "Ada"}],
        **fields,
    }
