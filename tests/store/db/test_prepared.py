"""What a statement needs is made in a thread, one ahead of the database and no more."""

import asyncio
import threading
from collections.abc import Iterator

import pytest

from mailerd.store.db.connection import made_ahead
from tests.support.eventually import eventually


class Making:
    """Makes numbers, and notes by which thread."""

    def __init__(self) -> None:
        self.made: list[int] = []
        self.threads: set[int] = set()

    def numbers(self, end: int, *, wrong: int | None = None) -> Iterator[int]:
        for number in range(end):
            if number == wrong:
                raise ValueError(f"{number} cannot be made")
            self.threads.add(threading.get_ident())
            self.made.append(number)
            yield number


async def settled(making: Making, number: int) -> None:
    async def made() -> bool:
        return len(making.made) >= number

    await eventually(made)
    await asyncio.sleep(0.02)  # long enough to make another one, if it would


async def test_each_item_comes_in_order_from_a_thread() -> None:
    making = Making()
    assert [each async for each in made_ahead(making.numbers(1000))] == list(range(1000))
    assert threading.get_ident() not in making.threads
    assert [each async for each in made_ahead(making.numbers(0))] == []


async def test_one_item_is_made_ahead_and_no_more() -> None:
    making = Making()
    async for number in made_ahead(making.numbers(5)):
        await settled(making, min(number + 2, 5))
        assert len(making.made) == min(number + 2, 5)


async def test_an_item_that_cannot_be_made_ends_it_after_those_before_it() -> None:
    got: list[int] = []

    async def consume() -> None:
        async for number in made_ahead(Making().numbers(5, wrong=2)):
            got.append(number)  # noqa: PERF401 - those before the error are what counts

    with pytest.raises(ValueError, match="2 cannot be made"):
        await consume()
    assert got == [0, 1]


async def test_a_caller_that_ends_early_leaves_the_rest_unmade() -> None:
    making = Making()
    async for _ in made_ahead(making.numbers(1000)):
        break
    await settled(making, 2)
    assert len(making.made) == 2
