"""The log of attempts: what happened to a recipient under one claim; and what a COMMIT without an answer did."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Final, NamedTuple

from mailerd.store.db.cursor import NOW, Cursor, Statement, insert_many

_INSERT_ATTEMPTS: Final = """
INSERT INTO attempts (recipient_id, attempt, claim_token, daemon_id, event, applied, draft_id, message_id, error, at)
VALUES %s ON DUPLICATE KEY UPDATE {duplicate}"""
_KEEP_OLD_ROW: Final = "recipient_id = attempts.recipient_id"
"""A repeated transaction writes its rows again: those that are there stay as they are."""
_OVERRULE: Final = "applied = 1"
"""A row that is there and says that the change was not applied now says that it was."""


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


def insert_attempts(rows: Sequence[AttemptRow], *, overrule: bool = False) -> Statement:
    """The statement that logs these; `overrule`: see `_OVERRULE`."""
    values = [(*row[:5], int(row.applied), *row[6:]) for row in rows]
    insert = _INSERT_ATTEMPTS.format(duplicate=_OVERRULE if overrule else _KEEP_OLD_ROW)
    return insert_many(insert, values, last=NOW)


async def log_attempt(cursor: Cursor, row: AttemptRow, *, overrule: bool = False) -> None:
    """Log one."""
    await cursor.execute(*insert_attempts([row], overrule=overrule))


# Locking: it waits for a transaction that is still being committed, so that "not there" is a proof too.
_READ_APPLIED: Final = """
SELECT applied FROM attempts
 WHERE recipient_id = %s AND claim_token = %s AND event = %s AND daemon_id = %s FOR UPDATE"""


async def was_applied(cursor: Cursor, recipient: int, *, token: str, event: str, by: str) -> bool:
    """Whether the log of attempts says that the row took this event under this token, and from this daemon."""
    await cursor.execute(_READ_APPLIED, (recipient, token, event, by))
    row = await cursor.fetchone()
    return bool(row and row[0])


class InDoubtRetry[T]:
    """The tries of one transaction: returns what the one did that was committed, whichever it was.

    Once a try without an answer was committed, the rows are as they shall be, so the next one finds nothing to do.
    """

    def __init__(self, proof: Callable[[Cursor, T], Awaitable[bool]]) -> None:
        """`proof`: whether one thing that a try did is there; it waits for a transaction that is being committed."""
        self._proof = proof
        self._done: list[T] = []

    async def done(self, cursor: Cursor, work: Callable[[Cursor], Awaitable[list[T]]]) -> list[T]:
        """What `work` does now, after what an earlier try is proven to have done."""
        proven = [one for one in self._done if await self._proof(cursor, one)]
        self._done = proven + await work(cursor)
        return self._done
