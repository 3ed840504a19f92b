"""Answers that are given once: forgetting the old ones never forgets one that was made meanwhile."""

import asyncio
from datetime import timedelta

from mailerd.store.db.database import Database
from mailerd.store.idempotency import IdempotencyStore
from tests.support.eventually import eventually
from tests.support.holding import holding
from tests.support.rows import query

_FRESH = (
    "DELETE FROM idempotency_responses WHERE api_key_id = 1 AND idempotency_key = 'k'",
    "INSERT INTO idempotency_responses (api_key_id, idempotency_key, request_digest, job_id, response, created_at) "
    "VALUES (1, 'k', REPEAT('b', 32), 'fresh', '{}', UTC_TIMESTAMP(6))",
)


async def test_an_answer_that_is_made_while_old_ones_are_forgotten_stays(database: Database, database_url: str) -> None:
    await query(
        database,
        "INSERT INTO idempotency_responses (api_key_id, idempotency_key, request_digest, job_id, response, created_at) "
        "VALUES (1, 'k', REPEAT('b', 32), 'old', '{}', UTC_TIMESTAMP(6) - INTERVAL 2 HOUR)",
    )
    answers = IdempotencyStore(database, timeout=5.0, keep=timedelta(hours=1))
    async with holding(database_url, *_FRESH):  # a post with the same key, before its COMMIT
        forgetting = asyncio.create_task(answers.purge())

        async def it_waits() -> bool:
            return bool(await query(
                database,
                "SELECT 1 FROM information_schema.processlist WHERE db = DATABASE() AND "
                "info LIKE '%%DELETE FROM idempotency_responses%%' AND id <> CONNECTION_ID()",
            ))  # fmt: skip

        await eventually(it_waits)
    assert await forgetting == 0
    assert await query(database, "SELECT job_id FROM idempotency_responses") == [("fresh",)]
