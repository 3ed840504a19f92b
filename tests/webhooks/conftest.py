"""A migrated database, an endpoint, and what delivers to it without a daemon around it."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

import pytest

from mailerd.config import Settings
from mailerd.core.webhooks import EventType
from mailerd.heartbeat import Heartbeats
from mailerd.ops.metrics import Metrics
from mailerd.store.db.connection import Cursor
from mailerd.store.db.database import Database
from mailerd.store.write.event_feed import NewEvent, insert_events
from mailerd.store.write.webhooks import NewEndpoint, Webhooks
from mailerd.webhooks import service
from tests.support.heard import Heard
from tests.webhooks.receiver import Receiver, receiving


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as it:
        yield it


Happen = Callable[..., Awaitable[list[str]]]


@pytest.fixture
def happen(database: Database) -> Happen:
    """Writes so many events; their uids."""
    wrote = 0

    async def write(
        number: int, *, type_: EventType = EventType.JOB_PAUSED, senders: Sequence[str | None] = ("me@example.com",)
    ) -> list[str]:
        nonlocal wrote
        made = [
            NewEvent(
                type_, f"{wrote + n}", {"n": wrote + n, "reason": "größer — 原因"}, sender=senders[n % len(senders)]
            )
            for n in range(number)
        ]
        wrote += number

        async def work(cursor: Cursor) -> list[str]:
            for first in range(0, number, 1000):
                await cursor.execute(*insert_events(made[first : first + 1000]))
            await cursor.execute("SELECT uid FROM events ORDER BY id DESC LIMIT %s", (number,))
            return [uid for (uid,) in await cursor.fetchall()]

        return await database.transaction(work, what="test")

    return write


def settings(database_url: str, **webhooks: object) -> Settings:
    """Settings in which days are tenths of a second, and loopback may be reached."""
    given = {
        "allow_http": True, "ports": [], "allow_networks": "127.0.0.0/8", "timeout": 10.0,
        "retries": [0.05, 0.3, 0.6, 1.2], **webhooks,
    }  # fmt: skip
    return Settings.model_validate({"database": {"url": database_url, "connect_timeout": 20}, "webhooks": given})


Deliver = Callable[..., service.WebhookService]


@pytest.fixture
async def deliver(database_url: str, heard: Heard) -> AsyncIterator[Deliver]:
    """Makes what a daemon delivers with."""
    made = []

    def make(**webhooks: object) -> service.WebhookService:
        known = settings(database_url, **webhooks)
        it = service.build(known, heard, heartbeats=Heartbeats(), meter=Metrics())
        made.append(it)
        return it

    yield make
    for each in made:
        await each.database.close()


async def endpoint(database: Database, receiver: Receiver, name: str = "shop", **given: object) -> str:
    """An endpoint at the receiver; its id."""
    new = NewEndpoint(name, receiver.url, **given)  # type: ignore[arg-type]  # fields of NewEndpoint
    made, receiver.secret = await Webhooks(database, timeout=5).create(new, actor="test")
    return made.id
