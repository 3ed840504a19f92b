"""Slots: so many letters at Google at once and no more, none of them idle while a record is written."""

import asyncio

import pytest

from mailerd.dispatch.slots import Slots


class Stays:
    """Letters that stay in their slots until the test lets them go."""

    def __init__(self, slots: Slots) -> None:
        self.slots = slots
        self.entered = asyncio.Semaphore(0)
        self.leave = asyncio.Event()
        self.inside = self.most = 0

    async def one(self) -> None:
        async with self.slots:
            self.inside += 1
            self.most = max(self.most, self.inside)
            self.entered.release()
            await self.leave.wait()
            self.inside -= 1


async def test_no_more_are_inside_than_there_are_slots() -> None:
    stays = Stays(slots := Slots(3))
    slots.claimed(5)
    assert slots.room() == -2
    async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
        for _ in range(5):
            tasks.create_task(stays.one())
        for _ in range(3):
            await stays.entered.acquire()
        stays.leave.set()
    assert stays.most == 3
    assert slots.through == 5


async def test_a_letter_that_waits_for_its_record_leaves_its_slot_to_another() -> None:
    slots = Slots(2)
    slots.claimed(2)
    async with slots:
        pass
    assert slots.room() == 1
    slots.recorded()
    assert slots.room() == 1


async def test_no_more_wait_for_their_record_than_there_are_slots() -> None:
    slots = Slots(2)
    for _ in range(4):
        slots.claimed(1)
        async with slots:
            pass
    assert slots.room() == 0
    waiting = asyncio.ensure_future(slots.wait(1))
    await asyncio.sleep(0)
    assert not waiting.done()
    slots.recorded()
    async with asyncio.timeout(5):
        await waiting
    assert slots.room() == 1


async def test_one_that_is_cut_off_while_it_waits_for_a_slot_is_not_waited_for() -> None:
    slots = Slots(1)
    slots.claimed(2)
    async with slots:
        second = asyncio.ensure_future(Stays(slots).one())
        await asyncio.sleep(0)
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
    slots.recorded()
    slots.recorded()
    assert slots.room() == 1
