"""The log of attempts: what every worker has seen of a letter. A worker that has lost its claim still writes here."""

from collections.abc import Sequence
from typing import Final, NamedTuple

from mailerd.store.db.cursor import Cursor, Statement

_INSERT: Final = """
INSERT INTO attempts (recipient_id, attempt, claim_token, daemon_id, event, applied, draft_id, message_id, error, at)
VALUES {rows} ON DUPLICATE KEY UPDATE {duplicate}"""
_ROW: Final = "(%s, %s, %s, %s, %s, %s, %s, %s, %s, UTC_TIMESTAMP(6))"
_KEEP: Final = "recipient_id = attempts.recipient_id"
"""A repeated transaction writes its rows again: those that are there stay as they are."""


class AttemptRow(NamedTuple):
    """What happened to a recipient under one claim."""

    recipient: int
    attempt: int
    token: str
    daemon: str
    event: str
    applied: bool = True
    """Whether the recipient's row took the change."""
    draft_id: str | None = None
    message_id: str | None = None
    error: str | None = None


def insert_attempts(rows: Sequence[AttemptRow]) -> Statement:
    """The statement that logs these."""
    sql = _INSERT.format(rows=", ".join([_ROW] * len(rows)), duplicate=_KEEP)
    return sql, [value for row in rows for value in (*row[:5], int(row.applied), *row[6:])]


async def log_attempt(cursor: Cursor, row: AttemptRow, *, overrule: bool = False) -> None:
    """Log one; `overrule`: if the row is there and says that the change was not applied, it now says that it was."""
    sql, values = insert_attempts([row])
    await cursor.execute(sql.replace(_KEEP, "applied = 1") if overrule else sql, values)
