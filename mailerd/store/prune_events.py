"""Deletes events by age, with their deliveries, and the deliveries of webhooks that were removed.

An endpoint that is on holds up the deletion of what it has not got. One that is paused or gone does not: what it loses
is counted and told. Events are deleted by their places in the feed; where no endpoint is on and no client reads it,
nothing else gives them any.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from mailerd.core.webhooks import EndpointState
from mailerd.store.db.connection import Cursor
from mailerd.store.db.database import Database
from mailerd.store.event_feed import ANY_NEW, number
from mailerd.store.event_feed import BATCH as NUMBERED_AT_ONCE
from mailerd.store.webhooks import wanted

BATCH: Final = 500
"""Events, or deliveries of a webhook that was removed, that one transaction deletes."""

_LOCK: Final = "SELECT pruned FROM event_positions WHERE id = 1 FOR UPDATE"
_LOCK_IF_FREE: Final = f"{_LOCK} SKIP LOCKED"
_READ_HELD_AT: Final = """
SELECT MIN(LEAST(w.position,
         COALESCE((SELECT MIN(d.position) FROM webhook_deliveries d FORCE INDEX (undelivered)
                    WHERE d.webhook_id = w.id AND d.status = 'waiting'), w.position + 1) - 1,
         COALESCE((SELECT MIN(d.position) FROM webhook_deliveries d FORCE INDEX (undelivered)
                    WHERE d.webhook_id = w.id AND d.status = 'sending'), w.position + 1) - 1))
  FROM webhooks w WHERE w.state = 'on'"""
_READ_OLDEST: Final = """
SELECT position, at < UTC_TIMESTAMP(6) - INTERVAL %s SECOND FROM events FORCE INDEX (position)
 WHERE position > %s AND position <= %s ORDER BY position LIMIT %s"""
_LOCK_STOPPED: Final = "SELECT id, name, state, types, senders, position FROM webhooks WHERE state <> 'on' FOR UPDATE"
_COUNT_UNDELIVERED: Final = """
SELECT COUNT(*) FROM webhook_deliveries
 WHERE webhook_id = %s AND position <= %s AND status IN ('waiting', 'sending')"""
_COUNT_NOT_QUEUED: Final = """
SELECT COUNT(*) FROM events e FORCE INDEX (position) WHERE e.position > %s AND e.position <= %s{wanted}"""
_MOVE_ON: Final = "UPDATE webhooks SET position = GREATEST(position, %s) WHERE id = %s"
_DELETE_EVENTS: Final = "DELETE FROM events WHERE position > %s AND position <= %s"
_DELETE_DELIVERIES: Final = "DELETE FROM webhook_deliveries WHERE webhook_id = %s AND position <= %s"
_FIND_REMOVED: Final = """
SELECT d.webhook_id FROM (SELECT DISTINCT webhook_id FROM webhook_deliveries) d
  LEFT JOIN webhooks w ON w.id = d.webhook_id WHERE w.id IS NULL LIMIT 1"""
_DELETE_OF_REMOVED: Final = "DELETE FROM webhook_deliveries WHERE webhook_id = %s LIMIT %s"


@dataclass(frozen=True)
class LostEvents:
    """Events that a stopped endpoint has not got and will not get any more."""

    webhook: str
    events: int


@dataclass(frozen=True)
class Pruned:
    """What one batch deleted."""

    events: int
    lost: tuple[LostEvents, ...]
    more: bool
    """There may be more to do."""


class EventPruner:
    """Deletes. `days`: the age from which on events are deleted; 0: none are."""

    def __init__(self, database: Database, *, days: int) -> None:
        self._database = database
        self.days: Final = days

    async def prune(self) -> Pruned:
        """Give a batch of new events their places; delete a batch of old ones, in their order and without a gap.

        What is in doubt is repeated, so that it is known what endpoints have lost by it.
        """
        if not self.days:
            return Pruned(0, (), more=False)
        more_new = await self._number_some()
        tried: list[tuple[int, Pruned]] = []

        async def work(cursor: Cursor, doubted: bool) -> Pruned:  # noqa: FBT001 - as it is called
            await cursor.execute(_LOCK if doubted else _LOCK_IF_FREE)
            if (row := await cursor.fetchone()) is None:
                return Pruned(0, (), more=False)
            if tried and int(row[0]) >= tried[-1][0]:
                return tried[-1][1]  # it was committed
            up_to, done = await self._prune(cursor, int(row[0]))
            tried.append((up_to, done))
            return done

        done = await self._database.retry_until_committed(work, what="delete old events", only_in_doubt=True)
        return replace(done, more=done.more or more_new)

    async def _number_some(self) -> bool:
        """Give a batch of new events their places; whether there may be more."""
        if not await self._database.read_rows(ANY_NEW, what="look for new events"):
            return False
        return await self._database.transaction(number, what="number events") == NUMBERED_AT_ONCE

    async def _prune(self, cursor: Cursor, pruned: int) -> tuple[int, Pruned]:
        """Delete what stands behind `pruned`; the last position that was deleted, and what was."""
        await cursor.execute(
            _LOCK_STOPPED
        )  # locked first: one that is resumed now waits, and one that was is among the held
        stopped = await cursor.fetchall()
        await cursor.execute(_READ_HELD_AT)
        held = (await cursor.fetchone())[0]
        await cursor.execute(_READ_OLDEST, (self.days * 86_400, pruned, 1 << 62 if held is None else held, BATCH))
        up_to, number = pruned, 0
        for position, old in await cursor.fetchall():
            if not old:
                break
            up_to, number = int(position), number + 1
        if not number:
            return pruned, Pruned(0, (), more=False)
        lost = await _lost(cursor, stopped, up_to)
        await cursor.execute("SELECT id FROM webhooks")
        for (id_,) in await cursor.fetchall():
            await cursor.execute(_DELETE_DELIVERIES, (id_, up_to))
        await cursor.execute(_DELETE_EVENTS, (pruned, up_to))
        await cursor.execute("UPDATE event_positions SET pruned = %s WHERE id = 1", (up_to,))
        return up_to, Pruned(number, tuple(lost), more=number == BATCH)

    async def forget_removed(self) -> bool:
        """Delete a batch of deliveries of a webhook that was removed; whether there may be more."""

        async def work(cursor: Cursor) -> bool:
            await cursor.execute(_FIND_REMOVED)
            if (row := await cursor.fetchone()) is None:
                return False
            await cursor.execute(_DELETE_OF_REMOVED, (row[0], BATCH))
            return True

        return await self._database.transaction(work, what="delete the deliveries of removed webhooks")


async def _lost(cursor: Cursor, stopped: Sequence[tuple[Any, ...]], up_to: int) -> list[LostEvents]:
    """What endpoints that are not on lose, which are moved on."""
    lost = []
    for id_, name, state, types, senders, position in stopped:
        await cursor.execute(_COUNT_UNDELIVERED, (id_, up_to))
        (number,) = await cursor.fetchone()
        if up_to > position:
            condition, values = wanted(types, senders)
            await cursor.execute(_COUNT_NOT_QUEUED.format(wanted=condition), (position, up_to, *values))
            number += (await cursor.fetchone())[0]
            await cursor.execute(_MOVE_ON, (up_to, id_))
        if number and state == EndpointState.PAUSED:
            lost.append(LostEvents(name, number))
    return lost
