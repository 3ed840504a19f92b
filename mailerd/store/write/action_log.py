"""The log of what people and programs asked of jobs, senders, webhooks, suppressions, lists, keys:
`job_actions`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from mailerd.store.db.connection import Cursor, Statement

_INSERT_ACTION: Final = """
INSERT INTO job_actions (job_id, sender, webhook, action, actor, detail, changed, messages, at)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, UTC_TIMESTAMP(6))"""
_ADD_MESSAGES: Final = "UPDATE job_actions SET messages = messages + %s WHERE id = %s"
MAX_DETAIL: Final = 100
"""The most characters of a detail, as in the schema."""


def note_action(
    action: str,
    actor: str,
    *,
    job: str | None = None,
    sender: str | None = None,
    webhook: str | None = None,
    detail: str | None = None,
    changed: bool = True,
    messages: int = 0,
) -> Statement:
    """The statement that records one request of a job, a sender or a webhook; `detail` names a list
    or a key.

    `messages`: how many messages, or suppressions, it changed.
    """
    detail = detail[:MAX_DETAIL] if detail else None
    return _INSERT_ACTION, (job, sender, webhook, action, actor, detail, int(changed), messages)


@dataclass
class ListLog:
    """The rows of one act in the log of actions, one for each list; of a command's the daemons log
    what it changed.
    """

    action: Literal["suppress", "unsuppress"]
    actor: str
    lists: Mapping[int, str]
    """The names of the lists by their ids, of all messages EVERYTHING_NAME."""
    rows: dict[int, int] = field(default_factory=dict)
    """The ids of the rows, by list, once a transaction that wrote them is committed."""

    async def count(self, cursor: Cursor, changed: Mapping[int, int]) -> dict[int, int]:
        """Count what this transaction changed, by list: the first call makes a list's row, others
        add to it.
        """
        rows = dict(self.rows)
        for list_id, number in changed.items():
            if list_id in rows:
                await cursor.execute(_ADD_MESSAGES, (number, rows[list_id]))
                continue
            await cursor.execute(
                *note_action(self.action, self.actor, detail=self.lists[list_id], messages=number)
            )
            rows[list_id] = int(await cursor.fetch_value("SELECT LAST_INSERT_ID()"))
        return rows
