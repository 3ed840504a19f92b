"""Idempotency keys and their responses, written in the transaction that stores the job."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from mailerd.core.i18n import t
from mailerd.errors import MailerdError
from mailerd.store.db.connection import Cursor
from mailerd.store.db.database import Database
from mailerd.store.db.rows import Select

# A second request with the key waits here until the first one has committed or rolled back. The
# update is a no-op.
_CLAIM: Final = (
    "INSERT INTO idempotency_responses (api_key_id, idempotency_key, request_digest, job_id, response, created_at) "
    "VALUES (%s, %s, %s, %s, %s, UTC_TIMESTAMP(6)) ON DUPLICATE KEY UPDATE job_id = job_id"
)
_ANSWER: Final = (
    "UPDATE idempotency_responses SET response = %s WHERE api_key_id = %s AND idempotency_key = %s"
)
_EXPIRE: Final = (
    "DELETE FROM idempotency_responses WHERE api_key_id = %s AND idempotency_key = %s "
    "AND created_at < UTC_TIMESTAMP(6) - INTERVAL %s SECOND"
)


@dataclass(frozen=True)
class StoredResponse:
    """What a key was first used for."""

    request_digest: bytes
    """SHA-256 of the request's body."""
    job_id: str
    response: str
    """JSON, as it was sent."""
    created_at: datetime
    final: bool
    """The response is complete: it includes the forecast, which is made after the COMMIT."""


_RESPONSE: Final = Select(StoredResponse, of="idempotency_responses")
_FIND: Final = f"""
SELECT {_RESPONSE.columns} FROM idempotency_responses
WHERE api_key_id = %s AND idempotency_key = %s
"""


@dataclass(frozen=True)
class IdempotencyKey:
    """A key that a job will claim; `make_response` makes the response's JSON.

    It is given the time at which the job is sent, and the id of the recipient of a job that is one
    message.
    """

    api_key_id: int
    key: str
    request_digest: bytes
    keep: timedelta
    make_response: Callable[[datetime, int], str]


class DuplicateKeyError(MailerdError):
    """The key was used before: no job is stored, and `stored` is the response of the first use."""

    def __init__(self, stored: StoredResponse) -> None:
        super().__init__(t("the idempotency key was used for job {job_id}", job_id=stored.job_id))
        self.stored = stored


async def claim_key(
    cursor: Cursor, once: IdempotencyKey, *, job_id: str, send_at: datetime
) -> None:
    """Claim a key inside the transaction that stores `job_id`.

    Raises:
        DuplicateKeyError: another job has it, and that one is committed.
    """
    await cursor.execute(_EXPIRE, (once.api_key_id, once.key, int(once.keep.total_seconds())))
    await cursor.execute(
        _CLAIM,
        (once.api_key_id, once.key, once.request_digest, job_id, once.make_response(send_at, 0)),
    )
    await cursor.execute(_FIND, (once.api_key_id, once.key))
    found = _RESPONSE.row(await cursor.fetchone())
    if found.job_id != job_id:
        raise DuplicateKeyError(found)


async def answer_key(
    cursor: Cursor, once: IdempotencyKey, *, send_at: datetime, recipient: int
) -> None:
    """Put the id of the only recipient into the response, in the transaction that stores the
    job.
    """
    await cursor.execute(
        _ANSWER, (once.make_response(send_at, recipient), once.api_key_id, once.key)
    )


class IdempotencyStore:
    """Queries for stored responses. `timeout`: seconds that the database gets for an answer."""

    def __init__(self, database: Database, *, timeout: float, keep: timedelta) -> None:
        self._database = database
        self._timeout = timeout
        self.keep: Final = keep
        """How long an answer is kept."""

    async def find(self, api_key_id: int, key: str) -> StoredResponse | None:
        """What a key was used for, None when it is free."""
        rows = await self._database.request_rows(
            f"{_FIND} AND created_at >= UTC_TIMESTAMP(6) - INTERVAL %s SECOND",
            (api_key_id, key, int(self.keep.total_seconds())),
            what="idempotency.find",
            bound=self._timeout,
        )
        return next(map(_RESPONSE.row, rows), None)

    async def complete(self, api_key_id: int, key: str, *, answer: str) -> None:
        """Replace the response that has no forecast by the one that is about to be sent."""
        await self._database.execute(
            "UPDATE idempotency_responses SET response = %s, final = 1 WHERE api_key_id = %s AND idempotency_key = %s",
            (answer, api_key_id, key),
            what="idempotency.complete",
            bound=self._timeout,
        )
