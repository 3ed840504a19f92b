"""Reads what a forecast needs: a job, its sender's standing, and what else the sender has in its queue."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC
from typing import Any, Final

from mailerd.core.forecast import Outlook, Queued
from mailerd.core.states import JobStatus, State
from mailerd.store import ledger
from mailerd.store.database import Database
from mailerd.store.ledger import COLUMNS, Terms, utc
from mailerd.store.pool import Cursor

AHEAD_AT_MOST: Final = 100_000
"""Letters of one job that are counted."""
_JOBS_AT_MOST: Final = 200

_JOB: Final = "SELECT sender_email, precedence, send_at, status FROM jobs WHERE id = %s"
_SENDER: Final = f"SELECT {COLUMNS} FROM senders FORCE INDEX (PRIMARY) WHERE email = %s"
_QUEUE: Final = """
SELECT id, precedence, turn_at, status, total FROM jobs FORCE INDEX (turn)
 WHERE sender_email = %s AND claimable = 1 AND precedence <= %s AND id <> %s
 ORDER BY precedence, turn_at, id LIMIT %s"""
_WAITING: Final = """
SELECT COUNT(*) FROM
 (SELECT 1 FROM job_recipients FORCE INDEX (claim) WHERE job_id = %s AND status = %s LIMIT %s) waiting"""


@dataclass(frozen=True)
class Outlooks:
    """The reader; `patience` is what the database gets for an answer, in seconds."""

    database: Database
    terms: Callable[[], Terms]
    """What holds now: a reload may change it."""
    patience: float

    async def read(self, job: str) -> Outlook | None:
        """What is known; None for a job that is not there, is paused or has ended.

        Raises:
            DatabaseError: it cannot be read.
        """
        return await self.database.ask(
            lambda cursor: self._read(cursor, job), what="read an outlook", bound=self.patience
        )

    async def _read(self, cursor: Cursor, job: str) -> Outlook | None:
        await cursor.execute(_JOB, (job,))
        row = await cursor.fetchone()
        if row is None or row[3] not in {JobStatus.QUEUED.value, JobStatus.SENDING.value}:
            return None
        sender, precedence, send_at, _ = row
        await cursor.execute(_SENDER, (sender,))
        it = ledger.standing(await cursor.fetchone(), self.terms())
        letters = await _waiting(cursor, job, AHEAD_AT_MOST)
        await cursor.execute(_QUEUE, (sender, precedence, job, _JOBS_AT_MOST))
        others = await cursor.fetchall()
        queue = [await _queued(cursor, other, precedence=precedence, letters=letters) for other in others]
        return Outlook(
            now=it.now,
            letters=letters,
            due=max(it.now, utc(send_at) or it.now),
            queue=tuple(queue),
            limits=it.limits,
            since=it.since,
            units=it.units,
            tat=it.tat,
            hours=(await ledger.hours(cursor, (sender,), now=it.now))[sender],
            gap_until=it.gap_until,
            paused_until=it.paused_until if it.paused else None,
            pause_cause=it.pause_cause,
            pause_reason=it.pause_reason,
        )


async def _queued(cursor: Cursor, row: Sequence[Any], *, precedence: int, letters: int) -> Queued:
    id_, theirs, due, status, total = row
    first = theirs < precedence
    most = AHEAD_AT_MOST if first else letters  # of a job that takes turns, no more than these count
    number = min(total, most) if status == JobStatus.QUEUED.value else await _waiting(cursor, id_, most)
    return Queued(letters=number, first=first, due=due.replace(tzinfo=UTC))


async def _waiting(cursor: Cursor, job: str, most: int) -> int:
    await cursor.execute(_WAITING, (job, State.WAITING.value, most))
    return int((await cursor.fetchone())[0])
