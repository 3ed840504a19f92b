"""Delivers events: joins the sender and the loop that deletes old events, with connections of its own."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from mailerd.clock import Clock
from mailerd.config import Settings
from mailerd.errors import DatabaseError
from mailerd.events.base import Event, EventSink
from mailerd.events.process import StoreEvents
from mailerd.events.webhooks import WebhookEvents
from mailerd.heartbeat import Heartbeats, every
from mailerd.ops.outbound_http import OutboundHttp
from mailerd.store.db.database import Database, TransactionMeter
from mailerd.store.event_feed import EventFeed
from mailerd.store.prune_events import EventPruner
from mailerd.store.sent_batches import SentBatches
from mailerd.store.webhook_queue import WebhookQueue
from mailerd.webhooks.sender import RECORD_MARGIN, WebhookSender

PRUNE_INTERVAL: Final = 60.0
"""Seconds between two searches for old events."""
_REST: Final = 0.5
"""Seconds between two batches."""
_LOOP: Final = "deleting old events"


@dataclass(frozen=True)
class EventRetention:
    """The loop of one daemon; of several, one works at a time."""

    pruner: EventPruner
    clock: Clock
    events: WebhookEvents
    heartbeats: Heartbeats

    async def run(self) -> None:
        """Delete, until cancelled."""
        heartbeat = self.heartbeats.register(_LOOP)

        def failed(error: DatabaseError) -> None:
            self.events.webhook_step_failed(what=_LOOP, again_in=PRUNE_INTERVAL, cause=str(error))

        await every(
            PRUNE_INTERVAL, self.step, name=_LOOP, first_after=PRUNE_INTERVAL, heartbeat=heartbeat, on_error=failed,
            sleep=self.clock.sleep,
        )  # fmt: skip

    async def step(self) -> bool:
        """Delete a batch of each; whether there may be more."""
        pruned = await self.pruner.prune()
        for it in pruned.lost:
            self.events.webhook_events_expired(webhook=it.webhook, events=it.events, days=self.pruner.days)
        more = await self.pruner.forget_removed() or pruned.more
        if more:
            await self.clock.sleep(_REST)
        return more


_CONNECTIONS: Final = 2
"""The connections to the database for webhooks; those of the letters are never used for this."""
_MARGIN: Final = 30.0
"""Seconds in which a server notices that a daemon has vanished in the midst of a transaction, beyond its time-outs."""
_TOLD_ALREADY: Final = frozenset(
    {"connection_cut", "database_away", "database_back", "database_still_away", "writer_changed"}
)
"""The events that the letters' connections report as well."""


@dataclass(frozen=True)
class WebhookService:
    """Everything about webhooks that runs in a daemon."""

    sender: WebhookSender
    retention: EventRetention
    database: Database

    async def run(self) -> None:
        """Run until cancelled."""
        try:
            async with asyncio.TaskGroup() as parts:
                parts.create_task(self.sender.run(), name="webhooks")
                parts.create_task(self.retention.run(), name="delete old events")
        finally:
            await self.database.close()


def build(settings: Settings, sink: EventSink, *, heartbeats: Heartbeats, meter: TransactionMeter) -> WebhookService:
    """Join the sender and the retention, with a database pool of their own."""

    def quiet(event: Event, fields: Mapping[str, object], /) -> None:
        if event.name not in _TOLD_ALREADY:
            sink(event, fields)

    it, clock, events = settings.webhooks, Clock(), WebhookEvents(sink)
    bound = min(settings.database.statement_timeout, RECORD_MARGIN)
    own = settings.database.model_copy(update={"pool_size": _CONNECTIONS, "statement_timeout": bound})
    database = Database(own, events=StoreEvents(quiet), meter=meter)
    sender = WebhookSender(
        queue=WebhookQueue(database, lease=timedelta(seconds=it.timeout + RECORD_MARGIN)),
        feed=EventFeed(database, timeout=settings.database.connect_timeout),
        sent=SentBatches(database, margin=timedelta(seconds=2 * settings.database.statement_timeout + _MARGIN)),
        http=OutboundHttp(it.network_rules), rules=it.retry_rules, clock=clock, events=events, heartbeats=heartbeats,
        timeout=it.timeout, concurrency=it.concurrency, per_endpoint=it.per_endpoint,
    )  # fmt: skip
    pruner = EventPruner(database, days=settings.retention.events)
    return WebhookService(sender, EventRetention(pruner, clock, events, heartbeats), database)
