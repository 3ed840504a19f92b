"""What was red in the last days: since when, until when and why; each daemon notes it where it
changes, and only then.

A cause is open in one row at most, since `until` belongs to the key; a daemon that opens or closes
it locks that row first. What begins within a minute of its own end goes on, so that daemons which
see a change at different times make one row of it.
"""

import json
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final, NoReturn

from mailerd.clock import Clock
from mailerd.core.reading import Condition, Severity
from mailerd.core.reasons import from_json, to_json
from mailerd.core.situation import Facts, situation
from mailerd.events.worker import RunnerEvents
from mailerd.heartbeat import Heartbeats, every
from mailerd.store.db.connection import Cursor, naive, utc
from mailerd.store.db.database import Database

KEPT: Final = timedelta(days=7)
SETTLED: Final = timedelta(seconds=30)
"""For so long a cause must be away until it is over."""
_SAME: Final = timedelta(minutes=1)
"""A cause that begins so soon after its end had not ended."""
_INTERVAL: Final = 5.0
_LOOP: Final = "troubles.note"
_COMPARE_INTERVAL: Final = 60.0
"""Seconds between two looks for what a daemon that has died left open."""
_MAX_AT_ONCE: Final = 50
"""Changes that one transaction writes."""
_MAX_SHOWN: Final = 50
_OPEN: Final = "'9999-12-31'"
_OPEN_IT: Final = f"""
INSERT INTO troubles (about, code, until, since, text) VALUES (%s, %s, {_OPEN}, %s, %s)
    ON DUPLICATE KEY UPDATE since = LEAST(since, VALUES(since)), text = VALUES(text)"""
_ENDED_JUST_NOW: Final = f"about = %s AND code = %s AND until >= %s AND until < {_OPEN}"
_READ_BEGIN: Final = (
    f"SELECT MIN(since) FROM troubles FORCE INDEX (PRIMARY) WHERE {_ENDED_JUST_NOW}"
)
_DELETE_ENDED: Final = f"DELETE FROM troubles WHERE {_ENDED_JUST_NOW}"
_GO_ON: Final = f"""
UPDATE troubles SET since = LEAST(since, %s) WHERE about = %s AND code = %s AND until = {_OPEN}
"""
_CLOSE: Final = f"""
UPDATE troubles SET until = GREATEST(since, %s), text = %s WHERE about = %s AND code = %s AND until = {_OPEN}"""
_READ_OPEN: Final = f"SELECT about, code FROM troubles FORCE INDEX (until) WHERE until = {_OPEN}"
# The daemon that opened it saw it until its last heartbeat.
_CLOSE_LEFT: Final = f"""
UPDATE troubles SET until = GREATEST(since, COALESCE(
         (SELECT MAX(heartbeat_at) FROM daemons WHERE id <> %s AND started_at <= troubles.since), UTC_TIMESTAMP(6)))
 WHERE about = %s AND code = %s AND until = {_OPEN}"""
READ_PAST: Final = f"""
SELECT about, code, since, until, text FROM troubles FORCE INDEX (until)
 WHERE until > UTC_TIMESTAMP(6) - INTERVAL 7 DAY AND until < {_OPEN} {{mine}}
 ORDER BY until DESC LIMIT {_MAX_SHOWN}"""


_OF_SENDERS: Final = "AND LEFT(about, 7) = 'sender '"


@dataclass(frozen=True)
class PastTrouble:
    """A cause that is over."""

    code: str
    since: datetime
    until: datetime
    text: str


@dataclass(frozen=True)
class _CurrentTrouble:
    """A cause that this daemon sees, or saw just now."""

    since: datetime
    seen: datetime
    text: str
    is_open: bool = False
    """The table has it."""


def is_kept(it: Condition) -> bool:
    """Whether it is noted: nothing is sent, or Google takes nothing of a mailbox for now."""
    return it.severity is Severity.RED or it.code == "deferred"


@dataclass
class TroubleHistory:
    """What one daemon notes, and what the console shows. `timeout`: seconds that a page waits."""

    database: Database
    daemon_id: str
    facts: Callable[[], Facts]
    heartbeats: Heartbeats
    events: RunnerEvents
    clock: Clock = field(default_factory=Clock)
    timeout: float = 2.0
    _standing: dict[tuple[str, str], _CurrentTrouble] = field(default_factory=dict)
    """By what it is about and its code."""
    _compare_at: float = 0.0

    async def run(self) -> NoReturn:
        """Note what changes, until cancelled."""
        heartbeat = self.heartbeats.register(_LOOP)
        self._compare_at = self.clock.monotonic() + SETTLED.total_seconds()
        await every(
            _INTERVAL,
            self.note,
            name=_LOOP,
            first_after=_INTERVAL,
            heartbeat=heartbeat,
            on_error=lambda error: self.events.step_failed(
                what=_LOOP, again_in=_INTERVAL, error=error
            ),
        )

    async def note(self) -> bool:
        """Note what has changed since the last time; whether there is more to write."""
        facts, now = self.facts(), self.clock.now()
        for it in filter(is_kept, situation(facts)):
            since = it.since or now - timedelta(seconds=it.lasts)
            known = self._standing.get((it.about, it.code)) or _CurrentTrouble(since, now, it.text)
            self._standing[it.about, it.code] = replace(known, seen=now, text=it.text)
        if facts.outage or facts.stats is None or facts.unknown_for:
            return False  # it is kept until it can be written, and until it is known what is over
        over = {key: it for key, it in self._standing.items() if now - it.seen >= SETTLED}
        changes = [
            (key, it) for key, it in sorted(self._standing.items()) if not it.is_open or key in over
        ]
        if changes:
            await self.database.transaction(
                lambda cursor: _write(cursor, changes[:_MAX_AT_ONCE], over), what="troubles.note"
            )
        for key, standing in changes[:_MAX_AT_ONCE]:
            if key in over:
                del self._standing[key]
            else:
                self._standing[key] = replace(standing, is_open=True)
        if self.clock.monotonic() >= self._compare_at:
            await self._close_left()
            self._compare_at = self.clock.monotonic() + _COMPARE_INTERVAL
        return len(changes) > _MAX_AT_ONCE

    async def _close_left(self) -> None:
        """Close what stands open and is over: the daemon that opened it died."""
        found = await self.database.read_rows(_READ_OPEN, what="troubles.find_open")
        if left := sorted({*found} - self._standing.keys()):

            async def work(cursor: Cursor) -> None:
                for key in left:
                    await cursor.execute(_CLOSE_LEFT, (self.daemon_id, *key))

            await self.database.transaction(work, what="troubles.close_left")

    async def past(self, *, is_admin: bool, senders: Collection[str] | None) -> list[PastTrouble]:
        """What is over, the newest end first: of everything, or of senders; `senders` None: of
        all.
        """
        statement, values = past_statement(is_admin=is_admin, senders=senders)
        rows = await self.database.request_rows(
            statement, values, what="troubles.list", bound=self.timeout
        )
        return [
            PastTrouble(code, utc(since), utc(until), _text(text) or about)
            for about, code, since, until, text in rows
        ]


def past_statement(
    *, is_admin: bool, senders: Collection[str] | None
) -> tuple[str, tuple[object, ...]]:
    """What is asked for causes that are over; a test has it explained."""
    if senders is not None:
        return READ_PAST.format(mine=f"{_OF_SENDERS} AND SUBSTRING(about, 8) IN %s"), (
            tuple(senders) or ("",),
        )
    return READ_PAST.format(mine="" if is_admin else _OF_SENDERS), ()


async def _write(
    cursor: Cursor,
    changes: list[tuple[tuple[str, str], _CurrentTrouble]],
    over: Collection[tuple[str, str]],
) -> None:
    for key, it in changes:
        text = json.dumps(to_json(it.text), ensure_ascii=False)
        if not it.is_open:
            await cursor.execute(_OPEN_IT, (*key, naive(it.since), text))
            before = (*key, naive(it.since - _SAME))
            if begin := await cursor.fetch_value(_READ_BEGIN, before):
                await cursor.execute(_DELETE_ENDED, before)
                await cursor.execute(_GO_ON, (begin, *key))
        if key in over:
            await cursor.execute(_CLOSE, (naive(it.seen), text, *key))


def _text(text: str) -> str:
    """What it said; "" where another version, or a person, has written that."""
    with suppress(ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return str(from_json(json.loads(text)))
    return ""
