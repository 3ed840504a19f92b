"""Methods that are a transaction: their callers pass no cursor, and each keeps the promises of its kind."""

from dataclasses import dataclass

import pytest

from mailerd.errors import DatabaseError
from mailerd.store.db.connection import Cursor
from mailerd.store.db.database import Database, read, request, transaction, until_committed
from tests.store.db.test_database import DEADLOCK
from tests.support.proxy import Proxy
from tests.support.rows import query


@dataclass
class Numbers:
    """What has a database, and callers that wait for so long."""

    database: Database
    timeout: float | None = None
    tries: int = 0

    @transaction("add a number")
    async def add(self, cursor: Cursor, number: int, *, then: str = "SELECT 1") -> int:
        """Add it."""
        await cursor.execute("INSERT INTO t VALUES (%s)", (number,))
        return await cursor.execute(then)

    @read("count numbers")
    async def number(self, cursor: Cursor) -> int:
        await cursor.execute("SELECT COUNT(*), @@in_transaction FROM t")
        number, in_transaction = await cursor.fetchone()
        assert not in_transaction
        return int(number)

    @request("count numbers slowly", read_only=True)
    async def slowly(self, cursor: Cursor, seconds: float) -> None:
        await cursor.execute("SELECT SLEEP(%s)", (seconds,))

    @request("add a number for a caller")
    async def ask(self, cursor: Cursor, number: int) -> None:
        self.tries += 1
        await cursor.execute("INSERT INTO t VALUES (%s)", (number,))
        if self.tries == 1:
            await cursor.execute(DEADLOCK)

    @until_committed("add a number for good")
    async def insist(self, cursor: Cursor, proxy: Proxy) -> None:
        self.tries += 1
        await cursor.execute("INSERT IGNORE INTO t VALUES (1)")
        if self.tries == 1:
            proxy.cut_after(0)


async def test_what_a_method_does_is_committed_whole_or_not_at_all(far: Database) -> None:
    numbers = Numbers(far)
    await numbers.add(1)
    with pytest.raises(DatabaseError, match="add a number"):
        await numbers.add(2, then="SELECT nothing")
    assert await query(far, "SELECT id FROM t") == [(1,)]
    assert await numbers.number() == 1
    assert Numbers.add.__doc__ == "Add it."


async def test_a_caller_that_waits_does_so_for_the_time_of_its_object(far: Database) -> None:
    await Numbers(far).slowly(1)
    with pytest.raises(DatabaseError, match="count numbers slowly"):
        await Numbers(far, timeout=0.2).slowly(1)


async def test_a_deadlock_is_tried_again_for_a_caller_that_waits(far: Database) -> None:
    numbers = Numbers(far)
    await numbers.ask(1)
    assert numbers.tries == 2
    assert await query(far, "SELECT id FROM t") == [(1,)]


async def test_a_method_that_is_repeated_until_committed_is_done_again_where_that_is_in_doubt(
    proxy: Proxy, far: Database
) -> None:
    numbers = Numbers(far)
    await numbers.insist(proxy)
    assert numbers.tries == 2
    assert await query(far, "SELECT id FROM t") == [(1,)]
