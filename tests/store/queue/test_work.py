"""What work inside a transaction may do: say no."""

import pytest

from mailerd.core.states import ImpossibleRequestError, JobChange, JobStatus
from mailerd.errors import MailerdError
from mailerd.store.db.connection import Cursor
from mailerd.store.db.pool import Pool
from tests.store.db.test_pool import rows, threads
from tests.support.eventually import eventually

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

    async def is_gone() -> bool:
        return not await threads(pool) & before

    await eventually(is_gone)  # the server ends it when it reads from it
