"""Deletes what is too old: events with their deliveries, and the deliveries of webhooks that were removed."""

from dataclasses import dataclass
from typing import Final

from mailerd.clock import Clock
from mailerd.errors import DatabaseError
from mailerd.events.webhooks import WebhookEvents
from mailerd.ops.heartbeat import Heartbeats
from mailerd.ops.periodic import every
from mailerd.store.prune_events import EventPruner

INTERVAL: Final = 60.0
"""Seconds between two looks for old events."""
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
            self.events.webhook_step_failed(what=_LOOP, again_in=INTERVAL, cause=str(error))

        await every(
            INTERVAL, self.step, name=_LOOP, first_after=INTERVAL, heartbeat=heartbeat, on_error=failed,
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
