"""How many letters came to what, by minute and sender: written beside the outcomes, so that no query counts letters.

Each daemon has a row of its own for each minute and sender, so that no two of them wait for one row. After a day the
minutes of an hour become one row of `tally_hours`. Tallies are for charts, and say how much a sender has sent of late
(inbox/bounce_counts.py); the letters' own rows are what counts.
"""

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from mailerd.core.states import Transition
from mailerd.store.db.cursor import Cursor, Statement
from mailerd.store.db.database import Database
from mailerd.store.db.times import utc

MINUTES_KEPT: Final = timedelta(hours=25)
"""How long a row for each minute is kept; then there is one for each hour."""
HOURS_KEPT: Final = timedelta(days=400)
"""How long the rows of the hours are kept."""
READ_TIMEOUT: Final = 2.0
"""Seconds that a chart may take to be read."""


class Tally(StrEnum):
    """What is counted: the columns of the tables."""

    SENT = "sent"
    FAILED = "failed"
    PUT_OFF = "put_off"
    """It was tried, and waits again."""
    UNSURE = "unsure"
    BOUNCED = "bounced"


_TALLY_OF: Final = {
    Transition.SENT: Tally.SENT,
    Transition.FOUND: Tally.SENT,
    Transition.FAILED: Tally.FAILED,
    Transition.DEFERRED: Tally.PUT_OFF,
    Transition.RELEASED: Tally.PUT_OFF,
    Transition.LOST: Tally.UNSURE,
}
Change = tuple[str, Transition]
"""A sender, and what happened to one of its letters."""
_COLUMNS: Final = ", ".join(Tally)
_SUMS: Final = ", ".join(f"SUM({column})" for column in Tally)
# The minute is the database's; a row is met again within its minute and by its own daemon only.
_ADD: Final = f"""
INSERT INTO tallies (minute, sender_email, daemon, {_COLUMNS})
VALUES {{rows}} ON DUPLICATE KEY UPDATE {", ".join(f"{name} = {name} + VALUES({name})" for name in Tally)}"""
_ROW: Final = "(UTC_TIMESTAMP() - INTERVAL SECOND(UTC_TIMESTAMP()) SECOND, %s, %s, %s, %s, %s, %s, %s)"
_OLDEST_MINUTE: Final = """
SELECT MIN(minute) FROM tallies WHERE minute < UTC_TIMESTAMP() - INTERVAL %s HOUR"""
_LOCK_HOUR: Final = """
SELECT COUNT(*) FROM tallies FORCE INDEX (PRIMARY) WHERE minute >= %s AND minute < %s + INTERVAL 1 HOUR FOR UPDATE"""
_MERGE_INTO_HOUR: Final = f"""
INSERT INTO tally_hours (hour, sender_email, {_COLUMNS})
SELECT %s, sender_email, {_SUMS} FROM tallies FORCE INDEX (PRIMARY)
 WHERE minute >= %s AND minute < %s + INTERVAL 1 HOUR GROUP BY sender_email
    ON DUPLICATE KEY UPDATE {", ".join(f"{it} = tally_hours.{it} + VALUES({it})" for it in Tally)}"""
_DELETE_MINUTES: Final = "DELETE FROM tallies WHERE minute >= %s AND minute < %s + INTERVAL 1 HOUR"
_DELETE_OLD_HOURS: Final = "DELETE FROM tally_hours WHERE hour < UTC_TIMESTAMP() - INTERVAL %s DAY LIMIT 1000"
_READ_MINUTES: Final = f"""
SELECT minute, {_SUMS} FROM tallies FORCE INDEX (PRIMARY) WHERE minute >= %s {{senders}} GROUP BY minute"""
_READ_HOURS: Final = f"""
SELECT hour, {_SUMS} FROM tally_hours FORCE INDEX (PRIMARY) WHERE hour >= %s {{senders}} GROUP BY hour"""


@dataclass(frozen=True)
class TallyPoint:
    """The letters of one minute, or of one hour."""

    at: datetime
    counts: dict[Tally, int]


def count_changes(daemon_id: str, changes: Iterable[Change]) -> Statement | None:
    """The statement that counts changes of senders' letters, or None; for the transaction that makes them, and once."""
    counts = Counter((sender, tally) for sender, change in changes if (tally := _TALLY_OF.get(change)))
    senders = sorted({sender for sender, _ in counts})
    if not senders:
        return None
    values = [value for it in senders for value in (it, daemon_id, *(counts[it, tally] for tally in Tally))]
    return _ADD.format(rows=", ".join([_ROW] * len(senders))), values


def count_bounced(daemon_id: str, sender: str, letters: int) -> Statement:
    """The statement that counts letters of a sender that came back."""
    counts = {Tally.BOUNCED: letters}
    return _ADD.format(rows=_ROW), [sender, daemon_id, *(counts.get(tally, 0) for tally in Tally)]


@dataclass(frozen=True)
class Tallies:
    """Reads and prunes the tallies."""

    database: Database

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

    async def _read(self, statement: str, span: timedelta, senders: Collection[str] | None) -> list[TallyPoint]:
        async def work(cursor: Cursor) -> list[TallyPoint]:
            await cursor.execute("SELECT UTC_TIMESTAMP()")
            since = (await cursor.fetchone())[0] - span
            await cursor.execute(*points_statement(statement, since, senders))
            return [_point(row) for row in await cursor.fetchall()]

        return await self.database.request(work, what="read a chart", bound=READ_TIMEOUT, read_only=True)

    async def prune(self) -> bool:
        """Make one row of each hour that is over for a day; whether there may be more to do.

        Raises:
            DatabaseError: it was not done, and is done by the next call.
        """
        return await self.database.transaction(self._prune, what="prune tallies")

    async def _prune(self, cursor: Cursor) -> bool:
        await cursor.execute(_DELETE_OLD_HOURS, (HOURS_KEPT.days,))
        await cursor.execute(_OLDEST_MINUTE, (MINUTES_KEPT.total_seconds() // 3600 + 1,))
        oldest: datetime | None = (await cursor.fetchone())[0]
        if oldest is None:
            return False
        hour = oldest.replace(minute=0)
        await cursor.execute(_LOCK_HOUR, (hour, hour))  # another daemon that does the same finds nothing afterwards
        if (await cursor.fetchone())[0]:
            await cursor.execute(_MERGE_INTO_HOUR, (hour, hour, hour))
            await cursor.execute(_DELETE_MINUTES, (hour, hour))
        return True


def points_statement(statement: str, since: datetime, senders: Collection[str] | None) -> Statement:
    """What a chart asks; a test has it explained."""
    if senders is None:
        return statement.format(senders=""), (since,)
    return statement.format(senders="AND sender_email IN %s"), (since, tuple(senders) or ("",))


def _point(row: tuple[Any, ...]) -> TallyPoint:
    at, *sums = row
    return TallyPoint(utc(at), {tally: int(number) for tally, number in zip(Tally, sums, strict=True)})
