"""Tallies: how many messages came to what, by minute and sender, written beside the outcomes: no
query counts messages.

Each daemon has a row of its own for each minute and sender, so that no two of them wait for one
row. After a day the minutes of an hour become one row of `tally_hours`. Tallies are for charts, and
say how much a sender has sent of late; the messages' own rows are what counts.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final

from mailerd.core.states import Tally
from mailerd.store.db.connection import Cursor, Statement, naive

MINUTES_KEPT: Final = timedelta(hours=25)
"""How long a row for each minute is kept; then there is one for each hour."""


_TALLIES: Final = ", ".join(Tally)


TALLY_SUMS: Final = ", ".join(f"SUM({column})" for column in Tally)
"""The sums of each column."""


# The minute is the database's, or an earlier one; a row is met again by its own daemon only.
_ADD_TALLIES: Final = f"""
INSERT INTO tallies (minute, sender_email, daemon, {_TALLIES})
VALUES {{rows}} ON DUPLICATE KEY UPDATE {", ".join(f"{name} = {name} + VALUES({name})" for name in Tally)}"""


_MINUTE: Final = "UTC_TIMESTAMP() - INTERVAL SECOND(UTC_TIMESTAMP()) SECOND"


_ROW: Final = f"(LEAST({_MINUTE}, COALESCE(%s, {_MINUTE})), %s, %s{', %s' * len(Tally)})"


_OLDEST_MINUTE: Final = """
SELECT MIN(minute) FROM tallies WHERE minute < UTC_TIMESTAMP() - INTERVAL %s HOUR"""


_LOCK_HOUR: Final = """
SELECT COUNT(*) FROM tallies FORCE INDEX (PRIMARY) WHERE minute >= %s AND minute < %s + INTERVAL 1 HOUR FOR UPDATE"""


_MERGE_INTO_HOUR: Final = f"""
INSERT INTO tally_hours (hour, sender_email, {_TALLIES})
SELECT %s, sender_email, {TALLY_SUMS} FROM tallies FORCE INDEX (PRIMARY)
 WHERE minute >= %s AND minute < %s + INTERVAL 1 HOUR GROUP BY sender_email
    ON DUPLICATE KEY UPDATE {", ".join(f"{it} = tally_hours.{it} + VALUES({it})" for it in Tally)}"""


_DELETE_MINUTES: Final = "DELETE FROM tallies WHERE minute >= %s AND minute < %s + INTERVAL 1 HOUR"


def count_tallies(
    daemon_id: str, counts: Mapping[tuple[str, datetime | None, Tally], int]
) -> Statement | None:
    """The statement that counts messages of senders, or None; for the transaction that changes
    them, and once.

    The time: when it happened; None: now.
    """
    sums = dict[tuple[str, datetime | None], dict[Tally, int]]()
    for (sender, at, tally), number in counts.items():
        minute = naive(at.replace(second=0, microsecond=0)) if at else None
        of_minute = sums.setdefault((sender, minute), dict.fromkeys(Tally, 0))
        of_minute[tally] += number
    if not sums:
        return None
    rows = sorted(sums.items(), key=lambda it: (it[0][0], str(it[0][1])))
    values = [
        value
        for (sender, minute), its in rows
        for value in (minute, sender, daemon_id, *its.values())
    ]
    return _ADD_TALLIES.format(rows=", ".join([_ROW] * len(rows))), values


async def merge_oldest_hour(cursor: Cursor) -> bool:
    """Make one row of the oldest hour that is over for a day; False: there is none
    (store/write/retention.py).
    """
    age = MINUTES_KEPT.total_seconds() // 3600 + 1
    oldest: datetime | None = await cursor.fetch_value(_OLDEST_MINUTE, (age,))
    if oldest is None:
        return False
    hour = oldest.replace(minute=0)
    # another daemon that does the same finds nothing afterwards
    if await cursor.fetch_value(_LOCK_HOUR, (hour, hour)):
        await cursor.execute(_MERGE_INTO_HOUR, (hour, hour, hour))
        await cursor.execute(_DELETE_MINUTES, (hour, hour))
    return True
