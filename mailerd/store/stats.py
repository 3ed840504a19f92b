"""Reads the counts for metrics, the status line, alerts and `mailerd top`; keeps the tallies of charts."""

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from mailerd.core.pauses import repair
from mailerd.core.states import JobStatus, State, Tally
from mailerd.core.stats import QueueStats, RecentAction, SenderStats, WebhookStats
from mailerd.core.webhooks import EndpointState, PauseReason
from mailerd.store.db.connection import Cursor, Statement, utc
from mailerd.store.db.database import Database, request
from mailerd.store.job_changes import UNFINISHED
from mailerd.store.queue import rate_limits
from mailerd.store.queue.rate_limits import COLUMNS, USED_TODAY, DefaultLimits
from mailerd.store.sender_changes import MINUTES_KEPT, TALLY_SUMS
from mailerd.store.suppressions import MAX_LISTS
from mailerd.store.webhooks import standing

# The tallies (store/sender_changes.py) as charts show them.

_READ_MINUTES: Final = f"""
SELECT minute, {TALLY_SUMS} FROM tallies FORCE INDEX (PRIMARY) WHERE minute >= %s {{senders}} GROUP BY minute"""
_READ_HOURS: Final = f"""
SELECT hour, {TALLY_SUMS} FROM tally_hours FORCE INDEX (PRIMARY) WHERE hour >= %s {{senders}} GROUP BY hour"""


@dataclass(frozen=True)
class TallyPoint:
    """The letters of one minute, or of one hour."""

    at: datetime
    counts: dict[Tally, int]


@dataclass(frozen=True)
class Tallies:
    """Reads the tallies. `timeout`: seconds that a chart is waited for."""

    database: Database
    timeout: float = 2.0

    async def minutes(self, span: timedelta, *, senders: Collection[str] | None = None) -> list[TallyPoint]:
        """The minutes of the last while in which something happened; `senders` None: of all."""
        return await self._read(_READ_MINUTES, span, senders)

    async def hours(self, span: timedelta, *, senders: Collection[str] | None = None) -> list[TallyPoint]:
        """The hours of the last while in which something happened, those of the kept minutes included."""
        sums: dict[datetime, Counter[Tally]] = {}
        points = await self._read(_READ_HOURS, span, senders)
        for point in [*points, *await self._read(_READ_MINUTES, MINUTES_KEPT + timedelta(hours=2), senders)]:
            sums.setdefault(point.at.replace(minute=0), Counter()).update(point.counts)
        return [TallyPoint(at, dict(counts)) for at, counts in sorted(sums.items())]

    @request("read a chart", read_only=True)
    async def _read(
        self, cursor: Cursor, statement: str, span: timedelta, senders: Collection[str] | None
    ) -> list[TallyPoint]:
        await cursor.execute("SELECT UTC_TIMESTAMP()")
        since = (await cursor.fetchone())[0] - span
        await cursor.execute(*points_statement(statement, since, senders))
        return [_point(row) for row in await cursor.fetchall()]


def points_statement(statement: str, since: datetime, senders: Collection[str] | None) -> Statement:
    """What a chart asks; a test has it explained."""
    if senders is None:
        return statement.format(senders=""), (since,)
    return statement.format(senders="AND sender_email IN %s"), (since, tuple(senders) or ("",))


def _point(row: tuple[Any, ...]) -> TallyPoint:
    at, *sums = row
    return TallyPoint(utc(at), {tally: int(number) for tally, number in zip(Tally, sums, strict=True)})


MAX_SENDERS: Final = 200
"""The most senders that are read, busy and paused ones first: a label of a metric must not grow without bound."""

_COUNT_JOBS: Final = "SELECT status, COUNT(*) FROM jobs GROUP BY status"
# All letters of a job are due at once, and go as their sender's turns come: a letter is late only from its turn on.
# A sender without a next claim whose letters are due would never be claimed: that counts as well.
_CLAIMABLE_SINCE: Final = (
    "GREATEST(r.due_at, COALESCE(j.braked_until, r.due_at), COALESCE(s.next_claim_at, r.due_at), "
    "COALESCE(s.paused_until, r.due_at))"
)
_COUNT_RECIPIENTS: Final = f"""
SELECT r.status, COUNT(*), MIN(IF(r.status = 'waiting' AND j.status <> 'paused', {_CLAIMABLE_SINCE}, NULL))
  FROM jobs j LEFT JOIN senders s ON s.email = j.sender_email JOIN job_recipients r ON r.job_id = j.id
 WHERE {UNFINISHED} GROUP BY r.status"""
_OLDEST_UNSURE: Final = f"""
SELECT MIN(r.updated_at) FROM jobs j JOIN job_recipients r ON r.job_id = j.id AND r.status = 'unsure'
 WHERE {UNFINISHED}"""
_READ_SENDERS: Final = f"""
SELECT {COLUMNS}, {USED_TODAY} FROM senders s ORDER BY next_claim_at IS NULL, paused_until DESC, email LIMIT %s"""
# As many as there may be lists: an import counts on in the row of each of them, and a script asks many times in a look.
_READ_ACTIONS: Final = f"""
SELECT id, job_id, action, actor, letters, detail, sender FROM job_actions
 WHERE changed = 1 ORDER BY id DESC LIMIT {MAX_LISTS}"""
_COUNT_LAST_MINUTE: Final = """
SELECT j.sender_email, COUNT(*) FROM attempts a JOIN job_recipients r ON r.id = a.recipient_id
  JOIN jobs j ON j.id = r.job_id WHERE a.at > UTC_TIMESTAMP(6) - INTERVAL 60 SECOND AND a.event = 'sent'
 GROUP BY j.sender_email"""


@dataclass(frozen=True)
class StatsReader:
    """Reads the tables. `defaults`: the limits of a sender that has none of its own."""

    database: Database
    defaults: DefaultLimits

    async def read(self, *, bound: float | None = None) -> QueueStats:
        """Read all counts."""
        return await self.database.read(self._read, what="stats", bound=bound)

    async def _read(self, cursor: Cursor) -> QueueStats:
        await cursor.execute("SELECT UTC_TIMESTAMP(6)")
        now: datetime = (await cursor.fetchone())[0]
        await cursor.execute(_COUNT_JOBS)
        jobs = {JobStatus(status): number for status, number in await cursor.fetchall()}
        await cursor.execute(_COUNT_RECIPIENTS)
        rows = await cursor.fetchall()
        since = min((oldest for *_, oldest in rows if oldest is not None), default=now)
        unsure: datetime | None = None
        if any(status == State.UNSURE.value for status, *_ in rows):
            await cursor.execute(_OLDEST_UNSURE)
            unsure = (await cursor.fetchone())[0]
        await cursor.execute(_COUNT_LAST_MINUTE)
        minute = dict(await cursor.fetchall())
        webhooks = await read_webhooks(cursor)
        await cursor.execute(_READ_ACTIONS)
        asked = tuple(RecentAction(*row) for row in await cursor.fetchall())
        await cursor.execute(_READ_SENDERS, (MAX_SENDERS,))
        return QueueStats(
            at=utc(now),
            jobs=jobs,
            recipients={State(status): number for status, number, _ in rows},
            oldest_claimable=max(0.0, (now - since).total_seconds()),
            oldest_unsure=(now - unsure).total_seconds() if unsure else 0.0,
            senders=tuple(self._sender(row, minute) for row in await cursor.fetchall()),
            webhooks=webhooks,
            asked=asked,
        )

    def _sender(self, row: tuple[Any, ...], minute: dict[str, int]) -> SenderStats:
        *columns, used = row
        it = rate_limits.sender_state(columns, self.defaults)
        allowed = it.allowance  # after reserve and warm-up: what the claims go by
        caps = [cap for cap in (allowed.units_per_minute // it.units, allowed.per_minute) if cap]
        return SenderStats(
            email=it.email,
            per_minute=min(caps, default=0),
            per_day=allowed.per_day,
            used_minute=minute.get(it.email, 0),
            used_day=int(used),
            paused_until=it.paused_until if it.paused else None,
            pause_cause=it.pause_cause or "",
            pause_reason=it.pause_reason or "",
            repair=repair(it.pause_cause, it.paused_until, sender=it.email, now=it.now),
        )


MAX_COUNTED: Final = 10_000
"""Events that are counted for one endpoint: nothing here may take longer the more there are."""

_READ_ENDPOINTS: Final = """
SELECT w.id, w.name, w.state, w.pause_cause,
       TIMESTAMPDIFF(MICROSECOND, w.failing_since, UTC_TIMESTAMP(6)),
       (SELECT TIMESTAMPDIFF(MICROSECOND, e.at, UTC_TIMESTAMP(6)) FROM events e
         WHERE e.position = (SELECT MIN(d.position) FROM webhook_deliveries d FORCE INDEX (undelivered)
                              WHERE d.webhook_id = w.id AND d.status = 'waiting'))
  FROM webhooks w ORDER BY w.name"""
_COUNT_WAITING: Final = """
SELECT COUNT(*) FROM (SELECT 1 FROM webhook_deliveries FORCE INDEX (undelivered)
                       WHERE webhook_id = %s AND status = 'waiting' LIMIT %s) counted"""


async def read_webhooks(cursor: Cursor) -> tuple[WebhookStats, ...]:
    """Every endpoint, by name."""
    await cursor.execute(_READ_ENDPOINTS)
    if not (rows := await cursor.fetchall()):
        return ()
    counts = await cursor.fetch_batch([(_COUNT_WAITING, (row[0], MAX_COUNTED)) for row in rows])
    return tuple(_stats(row, int(count[0][0])) for row, count in zip(rows, counts, strict=True))


def _stats(row: tuple[Any, ...], undelivered: int) -> WebhookStats:
    _, name, state, cause, failing, oldest = row
    how = standing(EndpointState(state), PauseReason(cause) if cause else None, is_failing=failing is not None)
    return WebhookStats(name, how, (failing or 0) / 1e6, undelivered, (oldest or 0) / 1e6)
