"""Pages of suppressions: their order, a place in it as a text, and the statement that reads one page."""

import re
from datetime import UTC, datetime, timedelta
from typing import Final

from mailerd.core.suppression import Reason
from mailerd.store.db.cursor import Statement
from mailerd.store.db.times import naive

Place = tuple[datetime, bytes, int]
"""Where a suppression stands in the order of all: when it was made, its digest and its list."""
CURSOR: Final = re.compile(r"([0-9]{1,17})-([0-9a-f]{32})-([0-9]{1,10})")
"""What a place looks like as a text."""
COLUMNS: Final = (
    "s.digest, s.list_id, l.name, s.reason, s.source, s.address, s.recipient_id, s.detail, s.actor, s.created_at"
)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def cursor_of(place: Place) -> str:
    """A place as a text."""
    at, digest, list_id = place
    return f"{(at - _EPOCH) // timedelta(microseconds=1)}-{digest.hex()}-{list_id}"


def place_of(cursor: str) -> Place | None:
    """The place that a text names; None: it names none."""
    found = CURSOR.fullmatch(cursor)
    if found is None:
        return None
    return _EPOCH + timedelta(microseconds=int(found[1])), bytes.fromhex(found[2]), int(found[3])


def page_statement(*, list_id: int | None, reason: Reason | None, after: Place | None, limit: int) -> Statement:
    """One page of suppressions, as `Suppressions.page` describes it."""
    wanted: dict[str, object] = {"s.list_id = %s": list_id, "s.reason = %s": reason and reason.value}
    where = [condition for condition, value in wanted.items() if value is not None]
    values: list[object] = [value for value in wanted.values() if value is not None]
    if after is not None:
        where.append("(s.created_at, s.digest, s.list_id) > (%s, %s, %s) AND s.created_at >= %s")
        at, digest, its_list = after
        values += [moment := naive(at), digest, its_list, moment]
    condition = f"WHERE {' AND '.join(where)}" if where else ""
    # MySQL sorts the whole table where it is small enough to seem worth it.
    index = "by_list" if list_id is not None else "by_reason" if reason is not None else "age"
    return (
        f"SELECT {COLUMNS} FROM suppressions s FORCE INDEX ({index}) LEFT JOIN lists l ON l.id = s.list_id {condition}"
        " ORDER BY s.created_at, s.digest, s.list_id LIMIT %s"
    ), [*values, limit]
