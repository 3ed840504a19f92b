"""What is read once for all who look."""

import asyncio

import pytest

from mailerd.clock import SystemClock
from mailerd.web.shared_reads import SharedReads


async def test_of_those_who_ask_at_once_one_reads_and_a_failure_is_not_kept() -> None:
    it, reads = SharedReads(SystemClock()), list[int]()

    async def read() -> int:
        reads.append(1)
        await asyncio.sleep(0)
        return len(reads)

    async def fail() -> int:
        raise ZeroDivisionError

    assert await asyncio.gather(*(it.get("a", 60.0, read) for _ in range(5))) == [1] * 5
    assert await it.get("a", 60.0, read) == 1
    assert await it.get("b", 60.0, read) == 2
    with pytest.raises(ZeroDivisionError):
        await it.get("c", 60.0, fail)
    assert await it.get("c", 0.0, read) == 3
    assert await it.get("c", 60.0, read) == 4  # it was kept for no time
