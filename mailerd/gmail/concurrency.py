"""The semaphore that limits the letters at Google, and each sender's share of it.

A letter holds a slot while Google has it to answer; its records need none. One sender cannot hold up the others:

* A free slot goes to the sender that has the fewest. So all have the same share while they want it, and one that is
  alone has all of them.
* A letter that is slow no longer counts for the others, whatever it waits for; it still counts for its own sender.
  One that waits behind slow templates counts for its sender alone from the first moment (`set_aside`).
* A sender has no more letters in flight than its limit. Each call without an answer halves the limit, and each answer
  raises it by one. A letter that waits behind slow templates halves it too.
"""

import asyncio
import math
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

from mailerd.core.models import ClaimedRecipient

SLOW_AFTER: Final = 1 / 6
"""Part of a call's time-out after which a letter is slow: by default 5 s, several times what Google takes for most."""
MAX_SLOW: Final = 2
"""So many times the number of slots may be slow at once; what is slow beyond that counts for the others again."""

Key = tuple[int, str]
"""A letter's id and its claim's token."""


@dataclass(eq=False, slots=True)
class _LetterInFlight:
    """Claimed, and without Google's last answer."""

    sender: "_SenderSlots"
    slow_at: float
    """When it becomes slow, by the event loop's clock."""
    slow: bool = False
    aside: bool = False
    """It waits behind slow templates."""
    at_google: bool = False


@dataclass(eq=False, slots=True)
class _SenderSlots:
    """A sender's share of the slots."""

    email: str
    limit: int
    """The most letters in flight, beside those that wait for a slot."""
    in_flight: int = 0
    """Claimed, and without Google's last answer."""
    at_google: int = 0
    waiting: "deque[_Waiting]" = field(default_factory=deque)

    @property
    def capacity(self) -> int:
        """Letters that may be claimed: half as many again as may be at Google, since some wait for their slot."""
        return self.limit + self.limit // 2 - self.in_flight


_Waiting = tuple[_LetterInFlight, "asyncio.Future[None]"]


class LetterSemaphore:
    """At most `number` letters are at Google at once; `async with semaphore.slot(letter)` waits for a slot.

    It counts a letter from its claim on (`add`), so that no more are claimed than can be sent soon: half as many again
    as there are slots. Then a slot that comes free has its next letter at once, and need not wait for a claim. Letters
    that have their answer and wait for their record hold no slot, or Google would idle for the length of a commit; but
    there are never more of them than slots, since each would be a doubt if the process died now. Nor does a draft hold
    one whose id is being written (`released`); it costs one question to Google if the process dies.
    """

    def __init__(self, number: int, *, slow_after: float = 5.0) -> None:
        self.number: Final = number
        self.max_at_google: Final = (1 + MAX_SLOW) * number
        """Letters at Google at the very most, the slow ones included."""
        self.on_capacity: Callable[[], None] = lambda: None
        """Called when a sender that `capacity_by_sender` showed as full has room again."""
        self._slow_after: Final = slow_after
        self._letters: dict[Key, _LetterInFlight] = {}
        self._on_time: OrderedDict[Key, _LetterInFlight] = OrderedDict()
        """The letters that are not slow, in the order of their claims."""
        self._aside = 0
        self._at_google = 0
        self._on_time_at_google = 0
        self._unrecorded = 0
        """Letters that have Google's last answer."""
        self._senders: dict[str, _SenderSlots] = {}
        self._queue: OrderedDict[str, _SenderSlots] = OrderedDict()
        """Senders whose letters wait for a slot; the one that was served last stands last."""
        self._full: set[str] = set()
        self._changed = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def capacity(self) -> int:
        """Letters that may be claimed now."""
        slow = len(self._letters) - len(self._on_time) - self._aside
        counted = len(self._on_time) + max(0, slow - MAX_SLOW * self.number)
        return min(self.number + self.number // 2, 2 * self.number - self._unrecorded) - counted

    def capacity_by_sender(self) -> Mapping[str, int]:
        """Letters that may be claimed of each sender; a sender that is not named has nothing in flight."""
        capacity = {email: sender.capacity for email, sender in self._senders.items()}
        self._full = {email for email, number in capacity.items() if number <= 0}
        return capacity

    async def wait_for_capacity(self, number: int) -> None:
        """Wait until so many letters may be claimed."""
        while self.capacity < number:
            self._changed.clear()
            await self._changed.wait()

    async def wait_until_empty(self) -> None:
        """Wait until no letter is in flight, and none waits for its record."""
        while self._letters or self._unrecorded:
            self._changed.clear()
            await self._changed.wait()

    def add(self, letters: Iterable[ClaimedRecipient]) -> None:
        """Add letters that were claimed; each will ask for a slot, or be recorded without one."""
        slow_at = _now() + self._slow_after
        for letter in letters:
            sender = self._sender(letter.sender)
            sender.in_flight += 1
            key = letter.id, letter.token
            self._letters[key] = self._on_time[key] = _LetterInFlight(sender, slow_at)
        self._watch()

    def set_aside(self, letter: ClaimedRecipient) -> None:
        """It waits behind slow templates, maybe for long: until it asks for a slot it counts for its sender alone.

        There are few of them: half as many of its sender may be in flight for each.
        """
        mine = self._letters.get((letter.id, letter.token))
        if mine is None or mine.aside:
            return
        mine.aside = True
        self._aside += 1
        self._on_time.pop((letter.id, letter.token), None)
        self.shrink(letter.sender)
        self._changed.set()

    @asynccontextmanager
    async def slot(self, letter: ClaimedRecipient) -> AsyncIterator[None]:
        """A slot for this letter until Google's last answer."""
        mine = self._letters[letter.id, letter.token]
        if mine.aside:
            mine.aside, mine.slow, mine.slow_at = False, False, _now() + self._slow_after
            self._aside -= 1
            self._on_time[letter.id, letter.token] = mine
            self._watch()
        try:
            await self._wait_for_slot(mine, mine.sender.waiting.append)
            yield
        finally:
            self._answered((letter.id, letter.token))

    @asynccontextmanager
    async def released(self, letter: ClaimedRecipient) -> AsyncIterator[None]:
        """Its slot is free for others meanwhile; then it waits for one again, ahead of its sender's other letters."""
        mine = self._letters[letter.id, letter.token]
        self._release(mine)
        self._grant()
        yield
        await self._wait_for_slot(mine, mine.sender.waiting.appendleft)

    def remove(self, letter: ClaimedRecipient) -> None:
        """Remove a letter that is recorded or given up."""
        self._answered((letter.id, letter.token))
        self._unrecorded -= 1
        self._changed.set()

    def grow(self, email: str) -> None:
        """Google has answered a call of this sender, whatever it said: one more of its letters may be in flight."""
        sender = self._sender(email)
        sender.limit = min(self.number, sender.limit + 1)
        self._forget(sender)

    def shrink(self, email: str) -> None:
        """A call of this sender ended without an answer, or its letter is set aside: half as many may be in flight."""
        sender = self._sender(email)
        sender.limit = max(1, sender.limit // 2)

    def _sender(self, email: str) -> _SenderSlots:
        if (sender := self._senders.get(email)) is None:
            sender = self._senders[email] = _SenderSlots(email, limit=self.number)
        return sender

    def _forget(self, sender: _SenderSlots) -> None:
        """Drop a sender that has nothing in flight and no lowered limit: it is like one that was never met."""
        if not (sender.in_flight or sender.waiting) and sender.limit == self.number:
            self._senders.pop(sender.email, None)

    async def _wait_for_slot(self, letter: _LetterInFlight, enter: "Callable[[_Waiting], None]") -> None:
        free: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        enter((letter, free))
        self._queue.setdefault(letter.sender.email, letter.sender)
        self._grant()
        await free

    def _release(self, letter: _LetterInFlight) -> None:
        if letter.at_google:
            letter.at_google = False
            self._at_google -= 1
            self._on_time_at_google -= not letter.slow
            letter.sender.at_google -= 1

    def _answered(self, key: Key) -> None:
        """Free what the letter holds: it has Google's last answer, or needs none."""
        if (letter := self._letters.pop(key, None)) is None:
            return
        self._on_time.pop(key, None)
        self._aside -= letter.aside
        self._unrecorded += 1
        sender = letter.sender
        sender.in_flight -= 1
        self._release(letter)
        self._grant()
        self._forget(sender)
        self._changed.set()
        if sender.email in self._full and sender.capacity > 0:
            self._full.discard(sender.email)
            self.on_capacity()

    def _grant(self) -> None:
        """Give the free slots to the senders that have the fewest."""
        while self._on_time_at_google < self.number and self._at_google < self.max_at_google:
            if (sender := self._next_sender()) is None:
                return
            letter, free = sender.waiting.popleft()
            self._queue.move_to_end(sender.email)
            if not sender.waiting:
                del self._queue[sender.email]
            if not free.done():  # a letter that was cancelled while it waited needs none
                letter.at_google = True
                sender.at_google += 1
                self._at_google += 1
                self._on_time_at_google += not letter.slow
                free.set_result(None)

    def _next_sender(self) -> _SenderSlots | None:
        """The sender with the fewest slots, of those whose letters wait and that are below their limit."""
        fewest = math.inf
        found = None
        for sender in self._queue.values():
            if sender.at_google < min(sender.limit, fewest):
                found, fewest = sender, sender.at_google
        return found

    def _watch(self) -> None:
        """Call `_on_slow` when the next letter is slow."""
        if self._timer is None and self._on_time:
            next_slow = next(iter(self._on_time.values())).slow_at
            self._timer = asyncio.get_running_loop().call_at(next_slow, self._on_slow)

    def _on_slow(self) -> None:
        """Let the letters that are slow no longer count for the others."""
        self._timer, now = None, _now()
        while self._on_time and next(iter(self._on_time.values())).slow_at <= now:
            _, letter = self._on_time.popitem(last=False)
            letter.slow = True
            self._on_time_at_google -= letter.at_google
        self._grant()
        self._changed.set()
        self._watch()


def _now() -> float:
    return asyncio.get_running_loop().time()
