"""What work inside a transaction may do: several statements in one round trip, and say no."""

import pytest

from mailerd.core.states import ImpossibleRequestError, JobChange, JobStatus
from mailerd.errors import DatabaseError, MailerdError
from mailerd.store.db.cursor import Cursor
from mailerd.store.db.pool import Pool
from tests.store.db.test_pool import rows, threads


async def test_statements_that_go_together_each_tell_their_rows(pool: Pool) -> None:
    async def work(cursor: Cursor) -> list[int]:
        return await cursor.execute_batch(
            [
                ("UPDATE t SET v = %s", (7,)),
                ("UPDATE t SET v = 8 WHERE id = %s", (99,)),
                ("INSERT INTO t VALUES (%s, %s)", (3, 9)),
            ]
        )

    assert await pool.transaction(work, what="test") == [2, 0, 1]
    assert await rows(pool, "SELECT id, v FROM t ORDER BY id") == [(1, 7), (2, 7), (3, 9)]


async def test_when_one_of_the_statements_that_go_together_is_refused_none_counts(pool: Pool) -> None:
    async def work(cursor: Cursor) -> list[int]:
        return await cursor.execute_batch(
            [("UPDATE t SET v = 5", ()), ("INSERT INTO t VALUES (%s, 0)", (1,)), ("UPDATE t SET v = 6", ())]
        )

    with pytest.raises(DatabaseError) as caught:
        await pool.transaction(work, what="test")
    assert (caught.value.errno, caught.value.in_doubt) == (1062, False)
    assert await rows(pool, "SELECT v FROM t") == [(0,), (0,)], "and the connection is in step"


NO = [MailerdError("no"), ImpossibleRequestError(JobStatus.COMPLETED, JobChange.PAUSE)]


@pytest.mark.parametrize("no", NO, ids=["error", "request"])
async def test_work_that_says_no_is_rolled_back_and_costs_no_connection(pool: Pool, no: Exception) -> None:
    async def work(cursor: Cursor) -> None:
        await cursor.execute("UPDATE t SET v = 5")
        raise no

    before = await threads(pool)
    for _ in range(3):
        with pytest.raises(type(no)):
            await pool.transaction(work, what="test")
    assert await threads(pool) == before
    assert await rows(pool, "SELECT v FROM t") == [(0,), (0,)]


async def test_work_that_breaks_may_have_left_a_reply_half_read_and_costs_its_connection(pool: Pool) -> None:
    async def work(cursor: Cursor) -> None:
        await cursor.execute("SELECT 1")
        raise KeyError

    before = await threads(pool)
    with pytest.raises(KeyError):
        await pool.transaction(work, what="test")
    assert not await threads(pool) & before
