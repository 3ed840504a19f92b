"""Reads back what a transaction did whose COMMIT had no answer, since the caller must report what was done."""

from collections.abc import Awaitable, Callable
from typing import Final

from mailerd.store.db.cursor import Cursor

# Locking: it waits for a transaction that is still being committed, so that "not there" is a proof too.
_APPLIED: Final = """
SELECT applied FROM attempts
 WHERE recipient_id = %s AND claim_token = %s AND event = %s AND daemon_id = %s FOR UPDATE"""


async def was_applied(cursor: Cursor, recipient: int, *, token: str, event: str, by: str) -> bool:
    """Whether the log of attempts says that the row took this event under this token, and from this daemon."""
    await cursor.execute(_APPLIED, (recipient, token, event, by))
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
