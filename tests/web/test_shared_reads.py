"""What is read once for all who look."""

import asyncio
from contextlib import suppress

import pytest

from mailerd.clock import Clock
from mailerd.web.frame.shared_reads import SharedReads


async def test_of_those_who_ask_at_once_one_reads_and_a_failure_is_not_kept() -> None:
    it, reads = SharedReads(Clock()), list[int]()

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


async def test_a_read_that_fails_after_its_viewer_has_gone_is_not_shared() -> None:
    shared, may_end = SharedReads(Clock()), asyncio.Event()

    async def fails() -> int:
        await may_end.wait()
        raise ZeroDivisionError

    async def works() -> int:
        return 1

    viewer = asyncio.create_task(shared.get("page", 60, fails))
    await asyncio.sleep(0)
    waiting = asyncio.create_task(shared.get("page", 60, works))
    await asyncio.sleep(0)
    viewer.cancel()
    with suppress(asyncio.CancelledError):
        await viewer
    may_end.set()
    with pytest.raises(ZeroDivisionError):
        await waiting
    assert await shared.get("page", 60, works) == 1
