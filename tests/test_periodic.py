"""`every`: when the work runs, what stops it, and what the heartbeat hears."""

import asyncio
from collections.abc import Iterator

import pytest

from mailerd.errors import DatabaseAwayError, DatabaseError
from mailerd.heartbeat import Heartbeats, every
from tests.support.ticking import Ticking


class Work:
    """Runs, and returns or raises what the test says."""

    def __init__(self, *results: bool | Exception) -> None:
        self.results: Iterator[bool | Exception] = iter(results)
        self.runs = 0

    async def __call__(self) -> bool:
        self.runs += 1
        result = next(self.results, False)
        if isinstance(result, Exception):
            raise result
        return result


def refused(kind: type[DatabaseError] = DatabaseError) -> DatabaseError:
    return kind("work", phase="statement", cause=OSError(), errno=1, retry=False, in_doubt=False)


async def test_the_work_runs_at_once_and_then_every_interval_until_it_is_cancelled() -> None:
    clock, work = Ticking(), Work()
    loop = asyncio.create_task(every(10.0, work, sleep=clock.sleep))
    await clock.move(0)
    assert work.runs == 1
    await clock.move(10)
    await clock.move(10)
    assert work.runs == 3
    loop.cancel()
    with pytest.raises(asyncio.CancelledError):
        await loop


async def test_the_first_run_waits_where_it_shall() -> None:
    clock, work = Ticking(), Work()
    loop = asyncio.create_task(every(10.0, work, first_after=3.0, sleep=clock.sleep))
    await clock.move(0)
    await clock.move(2)
    assert work.runs == 0
    await clock.move(1)
    assert work.runs == 1
    loop.cancel()


async def test_it_runs_again_at_once_while_more_is_due() -> None:
    clock, work = Ticking(), Work(True, True)
    loop = asyncio.create_task(every(10.0, work, sleep=clock.sleep))
    await clock.move(0)
    assert work.runs == 3
    loop.cancel()


async def test_errors_of_the_database_end_nothing_and_are_handed_on_unless_it_is_away() -> None:
    clock, error = Ticking(), refused()
    errors: list[DatabaseError] = []
    work = Work(refused(DatabaseAwayError), error)
    loop = asyncio.create_task(every(10.0, work, on_error=errors.append, sleep=clock.sleep))
    await clock.move(0)
    for _ in range(2):
        await clock.move(10)
    assert work.runs == 3
    assert errors == [error]
    loop.cancel()


async def test_a_bug_ends_the_loop() -> None:
    with pytest.raises(KeyError):
        await every(10.0, Work(KeyError("unforeseen")), on_error=lambda _: None)


async def test_the_heartbeat_hears_work_and_rest_and_a_rest_is_no_stall() -> None:
    clock = Ticking()
    heartbeats = Heartbeats(clock.monotonic, limit=5.0)
    heartbeat = heartbeats.register("counting")
    gate = asyncio.Event()

    async def work() -> None:
        await gate.wait()

    loop = asyncio.create_task(every(100.0, work, name="counting", heartbeat=heartbeat, sleep=clock.sleep))
    await clock.move(0)
    assert heartbeat.doing == "counting"
    gate.set()
    await clock.move(0)
    assert heartbeat.doing == "wait.next_round"
    await clock.move(99)
    assert heartbeats.stalled() == []
    loop.cancel()
