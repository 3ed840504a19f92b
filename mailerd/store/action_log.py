"""The log of what people and programs asked of jobs, senders, webhooks and suppressions: the table `job_actions`."""

from dataclasses import dataclass
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
    """The statement that records one request, of a job, a sender or a webhook by its name.

    `messages`: how many messages it changed.
    """
    detail = detail[:MAX_DETAIL] if detail else None
    return _INSERT_ACTION, (job, sender, webhook, action, actor, detail, int(changed), messages)


@dataclass
class CommandLog:
    """The row of one command in the log of actions; the daemons log from it what a command has changed."""

    action: Literal["suppress", "unsuppress"]
    actor: str
    mailing_list: str
    """The name of the list, or EVERYTHING_NAME."""
    row: int | None = None
    """The id of the row, once a transaction that wrote it is committed."""

    async def count(self, cursor: Cursor, changed: int) -> int | None:
        """Count what this transaction changed: the first call makes the row, others add to it. The row's id."""
        if not changed:
            return self.row
        if self.row is not None:
            await cursor.execute(_ADD_MESSAGES, (changed, self.row))
            return self.row
        await cursor.execute(*note_action(self.action, self.actor, detail=self.mailing_list, messages=changed))
        return int(await cursor.fetch_value("SELECT LAST_INSERT_ID()"))
