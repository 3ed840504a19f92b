"""How the endpoints of webhooks stand, for metrics, alerts, `mailerd top` and `mailerd check`; it locks nothing."""

from typing import Any, Final

from mailerd.core.stats import WebhookStats
from mailerd.core.webhook_retries import EndpointState, PauseReason
from mailerd.store.db.cursor import Cursor
from mailerd.store.webhooks import standing

MAX_COUNTED: Final = 10_000
"""Events that are counted for one endpoint: nothing here may take longer the more there are."""

_ENDPOINTS: Final = """
SELECT w.id, w.name, w.state, w.pause_cause,
       TIMESTAMPDIFF(MICROSECOND, w.failing_since, UTC_TIMESTAMP(6)),
       (SELECT TIMESTAMPDIFF(MICROSECOND, e.at, UTC_TIMESTAMP(6)) FROM events e
         WHERE e.position = (SELECT MIN(d.position) FROM webhook_deliveries d FORCE INDEX (undelivered)
                              WHERE d.webhook_id = w.id AND d.status = 'waiting'))
  FROM webhooks w ORDER BY w.name"""
_WAITING: Final = """
SELECT COUNT(*) FROM (SELECT 1 FROM webhook_deliveries FORCE INDEX (undelivered)
                       WHERE webhook_id = %s AND status = 'waiting' LIMIT %s) counted"""


async def read_webhooks(cursor: Cursor) -> tuple[WebhookStats, ...]:
    """Every endpoint, by name."""
    await cursor.execute(_ENDPOINTS)
    if not (rows := await cursor.fetchall()):
        return ()
    counts = await cursor.fetch_batch([(_WAITING, (row[0], MAX_COUNTED)) for row in rows])
    return tuple(_stats(row, int(count[0][0])) for row, count in zip(rows, counts, strict=True))


def _stats(row: tuple[Any, ...], undelivered: int) -> WebhookStats:
    _, name, state, cause, failing, oldest = row
    how = standing(EndpointState(state), PauseReason(cause) if cause else None, is_failing=failing is not None)
    return WebhookStats(name, how, (failing or 0) / 1e6, undelivered, (oldest or 0) / 1e6)
