"""What became of the deliveries of webhooks, and delivering events once more."""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from mailerd.core.event_types import EventType
from mailerd.core.webhook_retries import DeliveryStatus, EndpointState
from mailerd.store.db.cursor import Cursor, Statement
from mailerd.store.db.database import Database
from mailerd.store.db.times import naive, utc
from mailerd.store.webhooks import WebhookEndpoint, senders_json, types_json, wanted

MAX_PAGE: Final = 1000
"""The most deliveries of one page."""
_REPLAYED_AT_ONCE: Final = 1000
"""Places of the feed that one transaction of a replay covers."""

# Of few rows MySQL would sort all that an endpoint has.
_READ_DELIVERIES: Final = """
SELECT d.position, e.uid, e.type, d.status, d.attempts, d.http, d.error, d.took_ms, d.created_at, d.tried_at,
       IF(d.status = 'waiting', d.due_at, NULL)
  FROM webhook_deliveries d FORCE INDEX ({index}) JOIN events e ON e.position = d.position
 WHERE d.webhook_id = %s AND d.position < %s{status} ORDER BY d.position DESC LIMIT %s"""
# The deletion of old events locks this row first. Beside a replay it would leave deliveries without an event, or take
# along those that were just made. While the row is locked no events are deleted: the next round does it.
_LOCK_FEED: Final = "SELECT pruned FROM event_positions WHERE id = 1 FOR UPDATE"
# And who claims or records a delivery locks this one: what ended between the two counts would be subtracted.
_LOCK_ENDPOINT: Final = "SELECT 1 FROM webhooks WHERE id = %s FOR UPDATE"
_FIRST_SINCE: Final = "SELECT MIN(position) FROM events WHERE at >= %s"
_REPLAY: Final = """
INSERT INTO webhook_deliveries (webhook_id, position, status, attempts, created_at, due_at)
SELECT %s, e.position, 'waiting', 0, UTC_TIMESTAMP(6), UTC_TIMESTAMP(6) FROM events e FORCE INDEX (position)
 WHERE e.position >= %s AND e.position < %s AND e.at >= %s{wanted}
    ON DUPLICATE KEY UPDATE
       attempts = IF(status IN ('delivered', 'failed'), 0, attempts),
       created_at = IF(status IN ('delivered', 'failed'), VALUES(created_at), created_at),
       due_at = IF(status IN ('delivered', 'failed'), VALUES(due_at), due_at),
       status = IF(status IN ('delivered', 'failed'), 'waiting', status)"""
_REPLAY_FAILED: Final = """
UPDATE webhook_deliveries d JOIN events e ON e.position = d.position
   SET d.attempts = 0, d.created_at = UTC_TIMESTAMP(6), d.due_at = UTC_TIMESTAMP(6), d.status = 'waiting'
 WHERE d.webhook_id = %s AND d.position >= %s AND d.position < %s AND d.status = 'failed' AND e.at >= %s{wanted}"""
_COUNT_OPEN: Final = """
SELECT COUNT(*) FROM webhook_deliveries
 WHERE webhook_id = %s AND position >= %s AND position < %s AND status IN ('waiting', 'sending')"""


@dataclass(frozen=True)
class WebhookDelivery:
    """What became of one event at one endpoint."""

    position: int
    event: str
    """The `uid` of the event."""
    type: EventType
    status: DeliveryStatus
    attempts: int
    http: int | None
    error: str | None
    took_ms: int | None
    created_at: datetime
    tried_at: datetime | None
    due_at: datetime | None
    """When it is tried again; None while it is not: it has ended, or its endpoint is paused or gone."""


class WebhookDeliveries:
    """Reads deliveries and repeats them. `timeout`: seconds that the database gets for an answer."""

    def __init__(self, database: Database, *, timeout: float) -> None:
        self._database = database
        self._timeout = timeout

    async def page(
        self, it: WebhookEndpoint, *, before: int | None = None, status: DeliveryStatus | None = None, limit: int = 100
    ) -> list[WebhookDelivery]:
        """Deliveries, the newest event first; those before the place `before` of the feed."""
        rows = await self._database.request_rows(
            *deliveries_statement(it.id, before, status, limit), what="list deliveries", bound=self._timeout
        )
        found = [_delivery(row) for row in rows]
        return found if it.state is EndpointState.ON else [replace(each, due_at=None) for each in found]

    async def replay(self, it: WebhookEndpoint, *, since: datetime, only_failed: bool = False) -> int:
        """Deliver the events since then once more, with their old ids; how many.

        `only_failed`: those that were given up. Events from before the endpoint was made are among them; what waits
        already is not doubled. Each thousand is a transaction of its own: one that breaks off has replayed the first
        ones, and may be repeated.

        Raises:
            DatabaseError: it is not known how many.
        """
        moment, total = naive(since), 0
        condition, values = wanted(types_json(it.types), senders_json(it.senders))
        statement = (_REPLAY_FAILED if only_failed else _REPLAY).format(wanted=condition)

        async def work(cursor: Cursor) -> int:
            await cursor.execute(_LOCK_FEED)
            await cursor.execute(_LOCK_ENDPOINT, (it.id,))
            await cursor.execute(_COUNT_OPEN, (it.id, start, end))
            (before,) = await cursor.fetchone()
            await cursor.execute(statement, (it.id, start, end, moment, *values))
            await cursor.execute(_COUNT_OPEN, (it.id, start, end))
            return int((await cursor.fetchone())[0]) - int(before)

        ((start,),) = await self._database.request_rows(
            _FIRST_SINCE, (moment,), what="look for events", bound=self._timeout
        )
        while start is not None and start <= it.position:
            end = min(start + _REPLAYED_AT_ONCE, it.position + 1)
            total += await self._database.request(work, what="replay events", bound=self._timeout)
            start = end
        return total


def deliveries_statement(id_: str, before: int | None, status: DeliveryStatus | None, limit: int) -> Statement:
    """What `page` asks; a test has it explained."""
    values = (id_, before if before is not None else 1 << 62, *([status.value] if status else []), limit)
    one = " AND d.status = %s" if status else ""
    return _READ_DELIVERIES.format(index="undelivered" if status else "PRIMARY", status=one), values


def _delivery(row: tuple[Any, ...]) -> WebhookDelivery:
    position, uid, type_, status, attempts, http, error, took, created, tried, due = row
    return WebhookDelivery(
        position, uid, EventType(type_), DeliveryStatus(status), attempts, http, error, took, utc(created), utc(tried),
        utc(due),
    )  # fmt: skip
