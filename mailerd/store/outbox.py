"""The transactional outbox: an event is written in the transaction that makes the change.

So neither is without the other. It has no place in the feed yet; `event_feed.py` gives it one after the COMMIT.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from mailerd.clock import new_id
from mailerd.core.event_types import EventType
from mailerd.store.db.cursor import NOW, Statement, insert_many

# A repeated transaction writes its events again: those that are there stay as they are.
_INSERT: Final = """
INSERT INTO events (uid, type, cause, job_id, sender_email, data, at)
VALUES %s ON DUPLICATE KEY UPDATE uid = events.uid"""


class NewEvent(NamedTuple):
    """A change that the application hears of."""

    type: EventType
    cause: str
    """What made the change; a second event of the same type and cause is not written."""
    data: Mapping[str, object]
    job: str | None = None
    sender: str | None = None
    """Whose event it is; None: only a key for all senders sees it."""


def insert_events(events: Sequence[NewEvent]) -> Statement:
    """The statement that writes these."""
    rows = []
    for it in events:
        data = json.dumps(it.data, ensure_ascii=False, separators=(",", ":"))
        rows.append((f"evt_{new_id()}", it.type.value, it.cause, it.job, it.sender, data))
    return insert_many(_INSERT, rows, last=NOW)
