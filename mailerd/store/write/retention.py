"""Deletes what is old: a table of what goes when and why, and one loop over it, in small batches.

Rows are found without a lock and deleted by their primary keys, in the order of these: two daemons
that delete the same rows never hold each other up for good, and nothing that lies between them is
locked. Each is deleted only if it is still old by then.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Final, NoReturn, Protocol

from mailerd.core.rate_limit import counted_for
from mailerd.core.webhooks import EndpointState
from mailerd.errors import DatabaseAwayError, DatabaseError
from mailerd.events.webhooks import WebhookEvents
from mailerd.events.worker import RunnerEvents
from mailerd.heartbeat import Heartbeats, beat, every
from mailerd.store.db.connection import Cursor
from mailerd.store.db.database import Database
from mailerd.store.write import drafts, tallies, trouble_history, webhooks
from mailerd.store.write.api_keys import LONGEST
from mailerd.store.write.event_feed import ANY_NEW, delete_events, number
from mailerd.store.write.event_feed import BATCH as NUMBERED_AT_ONCE
from mailerd.store.write.webhooks import wanted

BATCH: Final = 500
"""The most rows that one transaction deletes."""
INTERVAL: Final = 300.0
"""Seconds between two searches: what goes is hours old at least."""
REST: Final = 0.5
"""Seconds between two batches, which leave the database to the messages."""
_LOOP: Final = "retention.delete"
_DAY: Final = timedelta(days=1)

_FIND: Final = """
SELECT {key} FROM {table} FORCE INDEX ({index}) WHERE {by} < UTC_TIMESTAMP(6) - INTERVAL %s SECOND
 ORDER BY {by} LIMIT %s"""
_DELETE: Final = "DELETE FROM {table} WHERE {this} AND {by} < UTC_TIMESTAMP(6) - INTERVAL %s SECOND"

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
_LOCK_STOPPED: Final = (
    "SELECT id, name, state, types, senders, position FROM webhooks WHERE state <> 'on' FOR UPDATE"
)
_COUNT_UNDELIVERED: Final = """
SELECT COUNT(*) FROM webhook_deliveries
 WHERE webhook_id = %s AND position <= %s AND status IN ('waiting', 'sending')"""
_COUNT_NOT_QUEUED: Final = """
SELECT COUNT(*) FROM events e FORCE INDEX (position) WHERE e.position > %s AND e.position <= %s{wanted}"""
_FIND_REMOVED: Final = """
SELECT d.webhook_id FROM (SELECT DISTINCT webhook_id FROM webhook_deliveries) d
  LEFT JOIN webhooks w ON w.id = d.webhook_id WHERE w.id IS NULL LIMIT 1"""


@dataclass(frozen=True)
class LostEvents:
    """Events that a stopped endpoint has not got and will not get any more."""

    webhook: str
    events: int


@dataclass(frozen=True)
class Deleted:
    """What one batch did."""

    rows: int
    more: bool
    """There may be more to do."""
    lost: tuple[LostEvents, ...] = ()
    """Of events: what stopped endpoints lose."""


class Rule(Protocol):
    """What goes when."""

    async def delete(self, database: Database) -> Deleted:
        """Delete a batch.

        Raises:
            DatabaseError: it was not done, and is done by the next call.
        """


@dataclass(frozen=True)
class ByAge:
    """Rows that go at an age."""

    table: str
    key: tuple[str, ...]
    """The columns of its primary key."""
    by: str
    """The column by which a row ages."""
    index: str
    age: timedelta

    async def delete(self, database: Database) -> Deleted:
        """Delete a batch, the oldest first."""
        age = int(self.age.total_seconds())
        found = await database.read_rows(self.find, (age, BATCH), what="retention.find")
        if not found:
            return Deleted(0, more=False)

        async def work(cursor: Cursor) -> int:
            deleted = 0
            for key in sorted(found):
                await cursor.execute(self.delete_one, (*key, age))
                deleted += cursor.rowcount
            return deleted

        return Deleted(
            await database.transaction(work, what="retention.delete"), more=len(found) == BATCH
        )

    @property
    def find(self) -> str:
        """The statement that finds the keys of old rows, given their age and how many."""
        return _FIND.format(table=self.table, key=", ".join(self.key), by=self.by, index=self.index)

    @property
    def delete_one(self) -> str:
        """The statement that deletes the row of a key if it has this age."""
        this = " AND ".join([f"{column} = %s" for column in self.key])
        return _DELETE.format(table=self.table, this=this, by=self.by)


@dataclass(frozen=True)
class OldMinutes:
    """The tallies of minutes that are over for a day: each hour of them becomes one row, so that
    nothing is lost.
    """

    async def delete(self, database: Database) -> Deleted:
        """Merge the oldest hour."""
        rows = await database.transaction(tallies.merge_oldest_hour, what="retention.merge_tallies")
        return Deleted(rows, more=rows > 0)


@dataclass(frozen=True)
class OldEvents:
    """Events with their deliveries, in the order of their places in the feed and without a gap.

    An endpoint that is on holds up the deletion of what it has not got. One that is paused or gone
    does not: what it loses is counted and told. Where no endpoint is on and no client reads the
    feed, nothing else gives events their places.
    """

    days: int
    """The age from which on they are deleted; 0: they are not."""
    events: WebhookEvents

    async def delete(self, database: Database) -> Deleted:
        """Give a batch of new events their places; delete a batch of old ones.

        What is in doubt is repeated, so that it is known what endpoints have lost by it.
        """
        if not self.days:
            return Deleted(0, more=False)
        more_new = await _number_some(database)
        tried: list[tuple[int, Deleted]] = []

        async def work(cursor: Cursor) -> Deleted:
            if (pruned := await cursor.fetch_value(_LOCK_IF_FREE)) is None:
                return Deleted(0, more=False)
            up_to, done = await self._delete(cursor, int(pruned))
            tried.append((up_to, done))
            return done

        async def was_deleted(cursor: Cursor, _: Deleted) -> bool:
            pruned = await cursor.fetch_value(_LOCK)
            return bool(tried) and pruned is not None and int(pruned) >= tried[-1][0]

        done = await database.retry_until_committed(
            work, what="retention.delete_events", proof=was_deleted, only_in_doubt=True
        )
        for it in done.lost:
            self.events.webhook_events_expired(webhook=it.webhook, events=it.events, days=self.days)
        return replace(done, more=done.more or more_new)

    async def _delete(self, cursor: Cursor, pruned: int) -> tuple[int, Deleted]:
        """Delete what stands behind `pruned`; the last position that was deleted, and what was."""
        # Locked first: one that is resumed now waits, and one that was is among the held.
        await cursor.execute(_LOCK_STOPPED)
        stopped = await cursor.fetchall()
        held = await cursor.fetch_value(_READ_HELD_AT)
        await cursor.execute(
            _READ_OLDEST, (self.days * 86_400, pruned, 1 << 62 if held is None else held, BATCH)
        )
        up_to, rows = pruned, 0
        for position, old in await cursor.fetchall():
            if not old:
                break
            up_to, rows = int(position), rows + 1
        if not rows:
            return pruned, Deleted(0, more=False)
        lost = await _lost(cursor, stopped, up_to)
        await cursor.execute("SELECT id FROM webhooks")
        for (id_,) in await cursor.fetchall():
            await webhooks.delete_deliveries(cursor, id_, up_to)
        await delete_events(cursor, behind=pruned, up_to=up_to)
        return up_to, Deleted(rows, more=rows == BATCH, lost=tuple(lost))


@dataclass(frozen=True)
class DeliveriesOfRemoved:
    """The deliveries of webhooks that were removed, whatever their age."""

    async def delete(self, database: Database) -> Deleted:
        """Delete a batch of those of one webhook."""
        found = await database.read_rows(_FIND_REMOVED, what="retention.find_webhooks")
        if not found:
            return Deleted(0, more=False)
        ((webhook,),) = found
        rows = await database.transaction(
            lambda cursor: webhooks.delete_deliveries_of_removed(cursor, webhook, BATCH),
            what="retention.delete_deliveries",
        )
        return Deleted(rows, more=True)


def rules(*, event_days: int, answers: timedelta, events: WebhookEvents) -> tuple[Rule, ...]:
    """What goes when. `event_days`: retention.events; `answers`: intake.idempotency_keep."""
    return (
        # A post that is repeated gets its first answer for so long. A key that is older may have
        # been used anew since the row was found: that row is young, and stays.
        ByAge(
            "idempotency_responses",
            ("api_key_id", "idempotency_key"),
            by="created_at",
            index="created",
            age=answers,
        ),
        # None lasts longer, however it is used; one-time links end with the minutes.
        ByAge("sessions", ("digest",), by="seen_at", index="seen", age=LONGEST),
        ByAge("job_drafts", ("id", "part", "seq"), by="kept_from", index="kept", age=drafts.AGE),
        # For so long `explain` knows the host of a daemon, and a claim that it left says whether it
        # had crashed.
        ByAge("daemons", ("id",), by="heartbeat_at", index="heartbeat", age=timedelta(days=7)),
        # The units of a round count for a day, and longer where a mailbox may use very few: 1 a
        # minute is the least.
        ByAge(
            "mailbox_units", ("mailbox", "at"), by="at", index="at", age=max(_DAY, counted_for(1))
        ),
        # Charts go back no further.
        ByAge(
            "tally_hours",
            ("hour", "sender_email"),
            by="hour",
            index="PRIMARY",
            age=timedelta(days=400),
        ),
        ByAge(
            "troubles",
            ("about", "code", "until"),
            by="until",
            index="until",
            age=trouble_history.KEPT,
        ),
        OldMinutes(),
        OldEvents(event_days, events),
        DeliveriesOfRemoved(),
    )


@dataclass(frozen=True)
class Retention:
    """The loop of one daemon."""

    database: Database
    rules: Sequence[Rule]
    heartbeats: Heartbeats
    events: RunnerEvents

    async def run(self) -> NoReturn:
        """Delete, until cancelled."""
        heartbeat = self.heartbeats.register(_LOOP)
        await every(INTERVAL, self._step, name=_LOOP, first_after=INTERVAL, heartbeat=heartbeat)

    async def _step(self) -> bool:
        """Delete a batch by each rule; whether there may be more.

        A rule that fails holds up no other.
        """
        more = False
        for rule in self.rules:
            beat()
            try:
                more = (await rule.delete(self.database)).more or more
            except DatabaseAwayError:
                raise
            except DatabaseError as error:
                self.events.step_failed(what=_LOOP, again_in=INTERVAL, error=error)
        if more:
            await asyncio.sleep(REST)
        return more


async def _number_some(database: Database) -> bool:
    """Give a batch of new events their places; whether there may be more."""
    if not await database.read_rows(ANY_NEW, what="events.find_new"):
        return False
    return await database.transaction(number, what="events.number") == NUMBERED_AT_ONCE


async def _lost(cursor: Cursor, stopped: Sequence[tuple[Any, ...]], up_to: int) -> list[LostEvents]:
    """What endpoints that are not on lose, which are moved on."""
    lost = []
    for id_, name, state, types, senders, position in stopped:
        events = await cursor.fetch_value(_COUNT_UNDELIVERED, (id_, up_to))
        if up_to > position:
            condition, values = wanted(types, senders)
            events += await cursor.fetch_value(
                _COUNT_NOT_QUEUED.format(wanted=condition), (position, up_to, *values)
            )
            await webhooks.move_on(cursor, id_, up_to)
        if events and state == EndpointState.PAUSED:
            lost.append(LostEvents(name, events))
    return lost
