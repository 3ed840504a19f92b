"""The deliveries that are due: made from the feed, taken by one daemon at a time, and recorded under its token."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from mailerd.clock import new_id
from mailerd.core.webhooks import (
    RESTS_FROM,
    DeliveryStatus,
    EndpointHealth,
    EndpointState,
    PauseReason,
    WebhookAttempt,
    WebhookOutcome,
)
from mailerd.store.db.connection import Cursor
from mailerd.store.db.database import Database, read, transaction
from mailerd.store.db.times import micros, naive, utc
from mailerd.store.webhooks import wanted

BATCH: Final = 1000
"""Events of the feed from which one transaction makes deliveries."""

_READ_OWNERS: Final = "SELECT DISTINCT owner FROM webhooks WHERE state = 'on'"
_SELECT_BEHIND: Final = """
SELECT w.id, w.owner FROM webhooks w JOIN event_positions p ON p.id = 1 WHERE w.state = 'on' AND w.position < p.last"""
_SELECT_READY: Final = """
SELECT w.id, w.owner FROM webhooks w
 WHERE w.state = 'on' AND (w.retry_at IS NULL OR w.retry_at <= UTC_TIMESTAMP(6))
   AND (EXISTS (SELECT 1 FROM webhook_deliveries d FORCE INDEX (due)
                 WHERE d.webhook_id = w.id AND d.status = 'waiting' AND d.due_at <= UTC_TIMESTAMP(6))
     OR EXISTS (SELECT 1 FROM webhook_deliveries d FORCE INDEX (due)
                 WHERE d.webhook_id = w.id AND d.status = 'sending' AND d.lease_until <= UTC_TIMESTAMP(6)))"""
# The endpoint's row is locked first by everybody. A daemon that has it, or that was stopped with it, is not waited for.
_LOCK: Final = "SELECT position, types, senders FROM webhooks WHERE id = %s AND state = 'on' FOR UPDATE SKIP LOCKED"
_READ_NEXT: Final = """
SELECT last, (SELECT e.position FROM events e FORCE INDEX (position)
               WHERE e.position > %s ORDER BY e.position LIMIT 1 OFFSET %s)
  FROM event_positions WHERE id = 1"""
_FAN_OUT: Final = """
INSERT IGNORE INTO webhook_deliveries (webhook_id, position, status, attempts, created_at, due_at)
SELECT %s, e.position, 'waiting', 0, UTC_TIMESTAMP(6), UTC_TIMESTAMP(6) FROM events e FORCE INDEX (position)
 WHERE e.position > %s AND e.position <= %s{wanted}"""
_SET_POSITION: Final = "UPDATE webhooks SET position = %s WHERE id = %s AND position = %s"

_LOCK_TO_CLAIM: Final = """
SELECT name, url, secret, IF(old_until > UTC_TIMESTAMP(6), old_secret, NULL), failures FROM webhooks
 WHERE id = %s AND state = 'on' AND (retry_at IS NULL OR retry_at <= UTC_TIMESTAMP(6)) FOR UPDATE SKIP LOCKED"""
# A daemon that died in the midst of an attempt: whether the endpoint got it is not known, so it gets it again.
_FREE_EXPIRED: Final = """
UPDATE webhook_deliveries FORCE INDEX (due) SET status = 'waiting', token = NULL, lease_until = NULL
 WHERE webhook_id = %s AND status = 'sending' AND lease_until <= UTC_TIMESTAMP(6)"""
_COUNT_UNDER_WAY: Final = "SELECT COUNT(*) FROM webhook_deliveries WHERE webhook_id = %s AND status = 'sending'"
_SELECT_DUE: Final = """
SELECT d.position, d.attempts, d.tried_at FROM webhook_deliveries d FORCE INDEX (due)
 WHERE d.webhook_id = %s AND d.status = 'waiting' AND d.due_at <= UTC_TIMESTAMP(6)
 ORDER BY d.due_at, d.position LIMIT %s FOR UPDATE SKIP LOCKED"""
_TAKE_DUE: Final = """
UPDATE webhook_deliveries FORCE INDEX (PRIMARY)
   SET status = 'sending', token = %s, lease_until = UTC_TIMESTAMP(6) + INTERVAL %s MICROSECOND, attempts = attempts + 1
 WHERE webhook_id = %s AND position IN %s"""
_DELETE_WITHOUT_EVENT: Final = "DELETE FROM webhook_deliveries WHERE webhook_id = %s AND position IN %s"
_READ_EVENTS: Final = "SELECT position, uid, type, at, data FROM events FORCE INDEX (position) WHERE position IN %s"

_LOCK_HEALTH: Final = "SELECT failures, failing_since, UTC_TIMESTAMP(6), url FROM webhooks WHERE id = %s FOR UPDATE"
_RECORD_ATTEMPT: Final = """
UPDATE webhook_deliveries FORCE INDEX (PRIMARY)
   SET status = %s, due_at = UTC_TIMESTAMP(6) + INTERVAL %s MICROSECOND, token = NULL, lease_until = NULL, http = %s,
       error = %s, took_ms = %s, tried_at = UTC_TIMESTAMP(6)
 WHERE webhook_id = %s AND position = %s AND token = %s AND status = 'sending'"""
_UPDATE_ENDPOINT: Final = """
UPDATE webhooks SET failures = %s, failing_since = %s, retry_at = UTC_TIMESTAMP(6) + INTERVAL %s MICROSECOND,
       pause_cause = IF(%s <> 'on' AND state = 'on', %s, pause_cause), state = IF(state = 'on', %s, state)
 WHERE id = %s"""


@dataclass(frozen=True)
class Work:
    """What the sender of webhooks has to do."""

    owners: int
    """How many owners have an endpoint that is on."""
    behind: dict[str, int]
    """Endpoints that lack deliveries of events in the feed, with their owners."""
    ready: dict[str, int]
    """Endpoints with deliveries that are due, with their owners."""


@dataclass(frozen=True)
class ClaimedEvent:
    """An event that this daemon is to post to an endpoint."""

    webhook: str
    name: str
    url: str
    secrets: tuple[bytes, ...]
    position: int
    token: str
    number: int
    """The number of this attempt, from 1."""
    tried_at: datetime | None
    """When the last attempt was recorded, if there was one."""
    uid: str
    type: str
    at: datetime
    data: str
    """The data of the event, as JSON."""


@dataclass(frozen=True)
class RecordedAttempt:
    """What became of an attempt."""

    step: WebhookOutcome
    failures: int
    """How many attempts in a row had failed before."""
    failing: timedelta
    """How long the endpoint had failed before."""


class WebhookQueue:
    """The queue of one daemon. `lease`: for how long a claim holds, more than an attempt and its record take."""

    def __init__(self, database: Database, *, lease: timedelta) -> None:
        self.database = database
        self._lease = lease

    @read("look for webhooks to deliver")
    async def read_work(self, cursor: Cursor) -> Work:
        """What there is to do; where no endpoint is on, the server is not asked for their deliveries."""
        await cursor.execute(_READ_OWNERS)
        if not (live := await cursor.fetchall()):
            return Work(0, {}, {})
        behind, ready = await cursor.fetch_batch([(_SELECT_BEHIND, ()), (_SELECT_READY, ())])
        return Work(len(live), dict(behind), dict(ready))

    @transaction("queue events for a webhook")
    async def fan_out(self, cursor: Cursor, id_: str) -> bool:
        """Make an endpoint's deliveries of the next events; whether there are more."""
        await cursor.execute(_LOCK, (id_,))
        if (row := await cursor.fetchone()) is None:
            return False
        position, types, senders = row
        await cursor.execute(_READ_NEXT, (position, BATCH - 1))
        last, full = await cursor.fetchone()
        up_to = full or last
        condition, values = wanted(types, senders)
        await cursor.execute(_FAN_OUT.format(wanted=condition), (id_, position, up_to, *values))
        await cursor.execute(_SET_POSITION, (up_to, id_, position))
        return bool(up_to < last)

    @transaction("take events for a webhook")
    async def claim(self, cursor: Cursor, id_: str, *, most: int, at_once: int) -> list[ClaimedEvent]:
        """Take up to `most` events of an endpoint that are due; no more than `at_once` are under way in all daemons.

        An endpoint that rests gets one.

        Raises:
            DatabaseError: nothing is known to be taken; what was is free again when its lease is over.
        """
        await cursor.execute(_LOCK_TO_CLAIM, (id_,))
        if (endpoint := await cursor.fetchone()) is None:
            return []
        await cursor.execute(_FREE_EXPIRED, (id_,))
        await cursor.execute(_COUNT_UNDER_WAY, (id_,))
        (under_way,) = await cursor.fetchone()
        free = (1 if endpoint[4] >= RESTS_FROM else at_once) - under_way
        if (number := min(free, most)) <= 0:
            return []
        await cursor.execute(_SELECT_DUE, (id_, number))
        if not (rows := await cursor.fetchall()):
            return []
        return await self._take(cursor, id_, endpoint, rows)

    async def _take(
        self, cursor: Cursor, id_: str, endpoint: tuple[Any, ...], rows: Sequence[tuple[Any, ...]]
    ) -> list[ClaimedEvent]:
        name, url, secret, old_secret, _ = endpoint
        token, places = new_id(), tuple(position for position, *_ in rows)
        await cursor.execute(_TAKE_DUE, (token, micros(self._lease), id_, places))
        await cursor.execute(_READ_EVENTS, (places,))
        events = {position: event for position, *event in await cursor.fetchall()}
        if without := tuple(place for place in places if place not in events):  # deleted by hand
            await cursor.execute(_DELETE_WITHOUT_EVENT, (id_, without))
        keys = tuple(bytes(each) for each in (secret, old_secret) if each is not None)
        return [
            ClaimedEvent(
                webhook=id_, name=name, url=url, secrets=keys, position=position, token=token, number=attempts + 1,
                tried_at=utc(tried_at), uid=events[position][0], type=events[position][1],
                at=utc(events[position][2]), data=events[position][3],
            )
            for position, attempts, tried_at in rows
            if position in events
        ]  # fmt: skip

    @transaction("record an attempt of a webhook")
    async def record(
        self,
        cursor: Cursor,
        it: ClaimedEvent,
        attempt: WebhookAttempt,
        decided: Callable[[EndpointHealth, datetime], WebhookOutcome],
    ) -> RecordedAttempt | None:
        """Record an attempt; None: the claim is not this one's any more, and nothing was written.

        `decided`: what it means for an endpoint that stands so, at this time of the database. Repeated, it writes
        nothing the second time.

        Raises:
            DatabaseError: it is not known to be recorded.
        """
        await cursor.execute(_LOCK_HEALTH, (it.webhook,))
        if (row := await cursor.fetchone()) is None:
            return None
        failures, since, now, url = row[0], utc(row[1]), utc(row[2]), row[3]
        step = decided(EndpointHealth(failures, since), now)
        moved = url != it.url and step.status is not DeliveryStatus.DELIVERED
        if moved:  # its old address has failed: that says nothing of the new one, which gets the event at once
            step = WebhookOutcome(DeliveryStatus.WAITING, timedelta(), EndpointState.ON, failures, since, None)
        await cursor.execute(
            _RECORD_ATTEMPT,
            (step.status.value, micros(step.wait), attempt.http, attempt.error and attempt.error[:300],
             attempt.took // timedelta(milliseconds=1), it.webhook, it.position, it.token),
        )  # fmt: skip
        if cursor.rowcount != 1:
            return None
        if not moved and (step.status is not DeliveryStatus.DELIVERED or failures or since):
            rest = None if step.rest is None else micros(step.rest)
            cause = PauseReason.FAILING.value if step.state is EndpointState.PAUSED else None
            await cursor.execute(
                _UPDATE_ENDPOINT,
                (step.failures, naive(step.failing_since), rest, step.state.value, cause, step.state.value,
                 it.webhook),
            )  # fmt: skip
        return RecordedAttempt(step, failures, now - since if since else timedelta())
