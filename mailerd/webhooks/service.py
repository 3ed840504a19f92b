"""Delivers events: joins what the sender needs, with connections of its own."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from mailerd.clock import Clock
from mailerd.config import Settings
from mailerd.events.base import Event, EventSink
from mailerd.events.process import StoreEvents
from mailerd.events.webhooks import WebhookEvents
from mailerd.heartbeat import Heartbeats
from mailerd.ops.outbound_http import OutboundHttp
from mailerd.store.db.database import Database, TransactionMeter
from mailerd.store.write.event_feed import EventFeed
from mailerd.store.write.webhooks import WebhookQueue
from mailerd.webhooks.sender import RECORD_MARGIN, WebhookSender

_CONNECTIONS: Final = 2
"""The connections to the database for webhooks; those of the messages are never used for this."""
_TOLD_ALREADY: Final = frozenset(
    {
        "connection_cut",
        "database_unavailable",
        "database_back",
        "database_still_unavailable",
        "writer_changed",
        "database_crowded",
    }
)
"""The events that the messages' connections report as well, unless they have all that the server
allows.
"""


@dataclass(frozen=True)
class WebhookService:
    """Everything about webhooks that runs in a daemon."""

    sender: WebhookSender
    database: Database

    async def run(self) -> None:
        """Run until cancelled."""
        try:
            async with asyncio.TaskGroup() as parts:
                parts.create_task(self.sender.run(), name="webhooks")
        finally:
            await self.database.close()


def build(
    settings: Settings, sink: EventSink, *, heartbeats: Heartbeats, meter: TransactionMeter
) -> WebhookService:
    """Join the sender, with a database pool of its own."""

    def quiet(event: Event, fields: Mapping[str, object], /) -> None:
        if event.name not in _TOLD_ALREADY or database.outage == "connections":
            sink(event, fields)

    it, clock, events = settings.webhooks, Clock(), WebhookEvents(sink)
    bound = min(settings.database.statement_timeout, RECORD_MARGIN)
    own = settings.database.model_copy(
        update={"pool_size": _CONNECTIONS, "statement_timeout": bound}
    )
    database = Database(own, events=StoreEvents(quiet), meter=meter)
    sender = WebhookSender(
        queue=WebhookQueue(database, lease=timedelta(seconds=it.timeout + RECORD_MARGIN)),
        feed=EventFeed(database, timeout=settings.database.connect_timeout),
        http=OutboundHttp(it.network_rules),
        rules=it.retry_rules,
        clock=clock,
        events=events,
        heartbeats=heartbeats,
        timeout=it.timeout,
        concurrency=it.concurrency,
        per_endpoint=it.per_endpoint,
    )
    return WebhookService(sender, database)
