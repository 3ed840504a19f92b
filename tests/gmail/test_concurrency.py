"""The semaphore of messages: so many at Google and no more, a share for each sender, no slot idle during a record."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from mailerd.core.claims import ClaimedRecipient
from mailerd.gmail.client import MAX_SLOW, MessageSemaphore
from tests.worker.test_in_flight import message

SLOW = 0.05
"""Seconds."""


def messages(number: int, *, sender: str = "a", first: int = 0) -> list[ClaimedRecipient]:
    return [replace(message(first + n), sender=sender, token=sender) for n in range(number)]


class Stays:
    """Messages that stay in their slots until the test lets them go."""

    def __init__(self, semaphore: MessageSemaphore) -> None:
        self.semaphore = semaphore
        self.entered = asyncio.Semaphore(0)
        self.inside: Counter[str] = Counter()
        self.most = 0
        self.tasks: dict[ClaimedRecipient, asyncio.Task[None]] = {}
        self.leave: dict[ClaimedRecipient, asyncio.Event] = {}

    async def start(self, these: list[ClaimedRecipient]) -> None:
        """Claim them and let them go as far as they get."""
        self.semaphore.add(these)
        for one in these:
            self.leave[one] = asyncio.Event()
            self.tasks[one] = asyncio.create_task(self._stay(one))
        await turn()

    async def _stay(self, one: ClaimedRecipient) -> None:
        async with self.semaphore.slot(one):
            self.inside[one.sender] += 1
            self.most = max(self.most, self.inside.total())
            self.entered.release()
            try:
                await self.leave[one].wait()
            finally:
                self.inside[one.sender] -= 1

    async def end(self, one: ClaimedRecipient) -> None:
        """Its last answer has come."""
        self.leave[one].set()
        await self.tasks[one]
        await turn()


async def turn() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


@pytest.fixture
async def stays() -> AsyncIterator[Stays]:
    it = Stays(MessageSemaphore(4, slow_after=SLOW))
    yield it
    for task in it.tasks.values():
        task.cancel()
    await asyncio.gather(*it.tasks.values(), return_exceptions=True)


@pytest.fixture
async def patient() -> AsyncIterator[Stays]:
    """With messages that never count as slow."""
    it = Stays(MessageSemaphore(4, slow_after=1000.0))
    yield it
    for task in it.tasks.values():
        task.cancel()
    await asyncio.gather(*it.tasks.values(), return_exceptions=True)


async def test_no_more_are_inside_than_there_are_slots(patient: Stays) -> None:
    those = messages(6)
    await patient.start(those)
    assert patient.semaphore.capacity == 0
    assert patient.inside.total() == 4
    for one in those:
        await patient.end(one)
    assert patient.most == 4


async def test_a_message_that_waits_for_its_record_leaves_its_slot_to_another() -> None:
    semaphore = MessageSemaphore(2)
    semaphore.add(two := messages(2))
    assert semaphore.capacity == 1, "half as many again as there are slots may be claimed"
    async with semaphore.slot(two[0]):
        pass
    assert semaphore.capacity == 2
    semaphore.remove(two[0])
    assert semaphore.capacity == 2


async def test_no_more_wait_for_their_record_than_there_are_slots() -> None:
    semaphore = MessageSemaphore(2)
    for one in (four := messages(4)):
        semaphore.add([one])
        async with semaphore.slot(one):
            pass
    assert semaphore.capacity == 0
    waiting = asyncio.ensure_future(semaphore.wait_for_capacity(1))
    await asyncio.sleep(0)
    assert not waiting.done()
    semaphore.remove(four[0])
    async with asyncio.timeout(60):
        await waiting
    assert semaphore.capacity == 1


async def test_what_is_sent_in_a_quarter_of_a_second_is_claimed_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where Google is quick, a claim takes as many as there are slots; where it is slow, none waits for long."""
    now = 0.0
    monkeypatch.setattr("mailerd.gmail.client._now", lambda: now)
    semaphore = MessageSemaphore(20, slow_after=1000.0)

    async def answered(*, each: float) -> int:
        nonlocal now
        for one in messages(100):
            semaphore.add([one])
            now += each
            async with semaphore.slot(one):
                pass
            semaphore.remove(one)
        return semaphore.capacity

    assert semaphore.capacity == 20 + 10
    assert [await answered(each=it) for it in (0.005, 0.01, 0.1, 2.0)] == [20 + 30, 20 + 25, 20 + 10, 20 + 10]


async def test_one_that_is_cut_off_while_it_waits_for_a_slot_is_not_waited_for() -> None:
    semaphore = MessageSemaphore(1)
    stays = Stays(semaphore)
    semaphore.add(first := messages(1))
    async with semaphore.slot(first[0]):
        await stays.start(second := messages(1, first=1))
        stays.tasks[second[0]].cancel()
        with pytest.raises(asyncio.CancelledError):
            await stays.tasks[second[0]]
    semaphore.remove(first[0])
    semaphore.remove(second[0])
    assert semaphore.capacity == 1
    await stays.start(third := messages(1, first=2))
    assert stays.inside["a"] == 1
    await stays.end(third[0])


async def test_one_that_is_cut_off_in_the_moment_in_which_it_is_let_in_leaves_its_slot(patient: Stays) -> None:
    await patient.start(inside := messages(4))
    await patient.start(waiting := messages(2, first=4))
    patient.leave[inside[0]].set()
    await patient.tasks[inside[0]]  # the slot is granted, and the message has not run yet
    patient.tasks[waiting[0]].cancel()
    await turn()
    assert patient.inside.total() == 4, "the slot went to the next one"


async def test_one_that_never_comes_by_a_slot_is_not_waited_for() -> None:
    semaphore = MessageSemaphore(2)
    semaphore.add(two := messages(2))
    assert semaphore.capacity == 1
    semaphore.remove(two[0])
    assert semaphore.capacity == 2


async def test_a_sender_that_is_alone_has_all_slots(patient: Stays) -> None:
    await patient.start(messages(5))
    assert patient.inside == {"a": 4}


async def test_a_slot_that_comes_free_goes_to_the_sender_with_the_fewest(patient: Stays) -> None:
    await patient.start(those := messages(8))
    await patient.start(messages(2, sender="b"))
    await patient.start(messages(1, sender="c"))
    for one in those[:2]:
        await patient.end(one)
    assert patient.inside == {"a": 2, "b": 1, "c": 1}, "one each, though four more of its messages came before"
    await patient.end(those[2])
    await patient.end(those[3])
    assert patient.inside == {"a": 1, "b": 2, "c": 1}, "turn about between those that have the same"


async def test_a_message_that_has_become_slow_leaves_its_slot_to_the_others(stays: Stays) -> None:
    await stays.start(messages(6, sender="hangs"))
    await stays.start(messages(2, sender="b"))
    assert stays.inside == {"hangs": 4}
    async with asyncio.timeout(60):
        for _ in range(4 + 2):
            await stays.entered.acquire()
    assert stays.inside == {"hangs": 4, "b": 2}, "its own messages wait on: it has as many as it may have"


async def test_room_for_a_claim_is_not_used_up_by_slow_messages(stays: Stays) -> None:
    await stays.start(messages(6, sender="hangs"))
    assert stays.semaphore.capacity == 0
    async with asyncio.timeout(60):
        await stays.semaphore.wait_for_capacity(4)
    assert stays.semaphore.capacity_by_sender() == {"hangs": 0}, "what is slow counts for its own sender all the same"


async def test_slow_messages_have_a_bound_too(stays: Stays) -> None:
    for number in range(MAX_SLOW + 3):
        await stays.start(messages(4, sender=f"hangs{number}"))
    async with asyncio.timeout(60):
        while stays.inside.total() < (MAX_SLOW + 1) * 4:
            await stays.entered.acquire()
    await asyncio.sleep(2 * SLOW)
    assert stays.most == (MAX_SLOW + 1) * 4
    assert stays.semaphore.capacity <= 0


async def test_a_call_without_an_answer_halves_what_a_sender_may_have_and_an_answer_adds_one(patient: Stays) -> None:
    semaphore = patient.semaphore
    semaphore.shrink("a")
    assert semaphore.capacity_by_sender() == {"a": 3}
    await patient.start(those := messages(6))
    await patient.start(messages(1, sender="b"))
    assert patient.inside == {"a": 2, "b": 1}, "two slots are free, and not for it"
    for _ in range(9):
        semaphore.shrink("a")
    await patient.end(those[0])
    assert patient.inside["a"] == 1
    await patient.end(those[1])
    assert patient.inside["a"] == 1, "it is tried by one"
    for _ in range(9):
        semaphore.grow("a")
    await patient.end(those[2])
    assert patient.inside == {"a": 3, "b": 1}, "it has recovered: all that wait, as many as there are slots"


async def test_who_was_full_is_told_when_there_is_room_again(patient: Stays) -> None:
    told = []
    patient.semaphore.on_capacity = lambda: told.append(1)
    for _ in range(3):
        patient.semaphore.shrink("a")
    await patient.start(those := messages(1))
    await patient.start(others := messages(1, sender="b"))
    assert patient.semaphore.capacity_by_sender() == {"a": 0, "b": 5}
    await patient.end(others[0])
    assert told == []
    await patient.end(those[0])
    assert told == [1]
    assert patient.semaphore.capacity_by_sender() == {"a": 1}, "of a sender that is like any other nothing is kept"


async def test_a_message_that_waits_behind_slow_templates_takes_no_room_from_others_until_it_asks_for_a_slot() -> None:
    semaphore = MessageSemaphore(4, slow_after=60.0)
    those = messages(3 * 6)
    for first in (0, 6, 12):
        semaphore.add(those[first : first + 6])
        assert semaphore.capacity == 0
        for one in (*those[first : first + 6], those[0]):
            semaphore.set_aside(one)
        assert semaphore.capacity == 6, "however many of them there are"
    assert semaphore.capacity_by_sender()["a"] < 0, "one of them at a time may be claimed by now"
    async with semaphore.slot(those[0]):
        assert semaphore.capacity == 5
    for one in those:
        semaphore.remove(one)
    semaphore.set_aside(those[0])
    assert semaphore.capacity == 6


async def test_a_sender_whose_messages_are_slow_to_make_may_have_half_as_many_in_flight() -> None:
    semaphore = MessageSemaphore(8)
    semaphore.shrink("a")
    semaphore.shrink("a")
    assert semaphore.capacity_by_sender() == {"a": 3}, "two, and half as many again ahead of their slots"
    for _ in range(6):
        semaphore.grow("a")
    assert semaphore.capacity_by_sender() == {}


class Drafts(Stays):
    """Messages whose hand-over is written between two requests; the test says when it is."""

    def __init__(self, semaphore: MessageSemaphore) -> None:
        super().__init__(semaphore)
        self.written: dict[ClaimedRecipient, asyncio.Event] = {}
        self.sending: list[ClaimedRecipient] = []

    async def _stay(self, one: ClaimedRecipient) -> None:
        self.written[one] = asyncio.Event()
        async with self.semaphore.slot(one):
            async with self.semaphore.released(one):
                await self.written[one].wait()
            self.inside[one.sender] += 1
            self.most = max(self.most, self.inside.total())
            self.sending.append(one)
            await self.leave[one].wait()
            self.inside[one.sender] -= 1


async def test_a_draft_whose_id_is_being_written_leaves_its_slot_to_another() -> None:
    semaphore = MessageSemaphore(2, slow_after=1000.0)
    drafts = Drafts(semaphore)
    await drafts.start(those := messages(3))
    assert len(drafts.written) == 3, "all three have created their drafts, by two slots"
    for one in those:
        drafts.written[one].set()
    await turn()
    assert drafts.sending == those[:2]
    await drafts.end(those[0])
    assert drafts.sending == those
    await drafts.end(those[1])
    await drafts.end(those[2])
    assert drafts.most == 2
    for one in those:
        semaphore.remove(one)
    await semaphore.wait_until_empty()


async def test_a_draft_has_its_slot_again_before_the_new_messages_of_its_sender() -> None:
    semaphore = MessageSemaphore(1, slow_after=1000.0)
    drafts, stays = Drafts(semaphore), Stays(semaphore)
    await drafts.start(draft := messages(1))
    await stays.start(inside := messages(1, first=1))
    await stays.start(waiting := messages(1, first=2))
    drafts.written[draft[0]].set()
    await turn()
    assert drafts.sending == [], "there is one slot"
    await stays.end(inside[0])
    assert (drafts.sending, stays.inside["a"]) == (draft, 0)
    await drafts.end(draft[0])
    assert stays.inside["a"] == 1
    await stays.end(waiting[0])


async def test_a_draft_does_not_exceed_the_limit_of_its_sender(patient: Stays) -> None:
    drafts = Drafts(patient.semaphore)
    await drafts.start(draft := messages(1))
    patient.semaphore.shrink("a")
    patient.semaphore.shrink("a")
    await patient.start(inside := messages(1, first=1))
    drafts.written[draft[0]].set()
    await turn()
    assert drafts.sending == [], "its sender may have one message at Google"
    await patient.end(inside[0])
    assert drafts.sending == draft
    await drafts.end(draft[0])


async def test_a_draft_that_is_cut_off_before_it_has_its_slot_again_is_not_waited_for() -> None:
    semaphore = MessageSemaphore(1, slow_after=1000.0)
    drafts, stays = Drafts(semaphore), Stays(semaphore)
    await drafts.start(draft := messages(1))
    await stays.start(inside := messages(1, first=1))
    drafts.written[draft[0]].set()
    await turn()
    drafts.tasks[draft[0]].cancel()
    await asyncio.gather(drafts.tasks[draft[0]], return_exceptions=True)
    await stays.end(inside[0])
    await stays.start(third := messages(1, first=2))
    assert stays.inside["a"] == 1
    await stays.end(third[0])
    for one in (*draft, *inside, *third):
        semaphore.remove(one)
    await semaphore.wait_until_empty()
