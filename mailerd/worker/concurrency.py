"""Room for letters at Google, and each sender's share of it: the one place that limits what is in flight here.

A letter takes a slot until Google's last answer; its record needs none. So that one sender cannot hold up the others:

* a slot that comes free goes to the sender that has the fewest, so all have the same share while they want it, and one
  that is alone has all of them;
* a letter that has been slow gives its slot back to all, and from then on counts for its own sender alone;
* no sender has more in flight than its limit, which every call without an answer halves and every answer raises by one;
  a letter whose template is slow halves it too.
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
"""Of the time-out of a call: then a letter is its own sender's affair. By default 5 s, several times what Google takes
for most letters."""
SLOW_AT_ONCE: Final = 2
"""So many times the number of slots may be slow at once before they count for everybody again: a bound for it all."""

Key = tuple[int, str]
"""A letter's id and its claim's token."""


@dataclass
class _Share:
    """One sender's part."""

    limit: int
    """Letters in flight at most, beside those that wait for a slot ahead."""
    in_flight: int = 0
    """Claimed, and without Google's last answer."""
    at_google: int = 0
    waiting: "deque[tuple[Key, asyncio.Future[None]]]" = field(default_factory=deque)

    @property
    def room(self) -> int:
        """Letters that may be claimed; half as many again as may be at Google, since those ahead wait for a slot."""
        return self.limit + self.limit // 2 - self.in_flight


class _Shared:
    """Letters that take up what all senders share, each until it is slow."""

    def __init__(self, number: int, *, slow_after: float) -> None:
        self._forgiven: Final = SLOW_AT_ONCE * number
        self._slow_after: Final = slow_after
        self._since: OrderedDict[Key, float] = OrderedDict()
        self._slow: set[Key] = set()

    def enter(self, key: Key) -> None:
        self._since[key] = _now()

    def leave(self, key: Key) -> None:
        self._since.pop(key, None)
        self._slow.discard(key)

    def __len__(self) -> int:
        """How many count for everybody."""
        slow_since = _now() - self._slow_after
        while self._since and next(iter(self._since.values())) <= slow_since:
            self._slow.add(self._since.popitem(last=False)[0])
        return len(self._since) + max(0, len(self._slow) - self._forgiven)

    @property
    def next_slow_at(self) -> float:
        """When the next of them is slow, in the loop's time."""
        return next(iter(self._since.values())) + self._slow_after if self._since else math.inf


class Slots:
    """So many letters of this daemon may be at Google at once; `async with slots.of(letter)` waits for a slot.

    A letter counts from its claim on (`claimed`), so that no more are claimed than there is room for. Letters that have
    their answer and wait for their record need no slot, or Google would idle for the length of a commit; but never more
    of them than there are slots, since each would be a doubt if the process died now.
    """

    def __init__(self, number: int, *, slow_after: float = 5.0) -> None:
        self.number: Final = number
        self.most: Final = (1 + SLOW_AT_ONCE) * number
        """Letters at Google at the very most, the slow ones included."""
        self.through = 0
        """Letters that have left their slot, since the start."""
        self.on_room: Callable[[], None] = lambda: None
        """Called when a sender that `full` named has room again."""
        self._before_answer = _Shared(number, slow_after=slow_after)
        self._at_google = _Shared(number, slow_after=slow_after)
        self._unrecorded = 0
        """Letters that have their answer."""
        self._letters: dict[Key, str] = {}
        """Before their answer, and whose they are."""
        self._shares: dict[str, _Share] = {}
        self._queued: OrderedDict[str, None] = OrderedDict()
        """Senders whose letters wait for a slot; who was served last stands last."""
        self._told_full: set[str] = set()
        self._changed = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._waits_for_room = 0

    def room(self, *, ahead: int = 0) -> int:
        """Letters that may be claimed now, so many of them ahead of their slots."""
        claimed = len(self._before_answer)
        return min(self.number + ahead - claimed, 2 * self.number - claimed - self._unrecorded)

    def rooms(self) -> Mapping[str, int]:
        """Letters that may be claimed of each sender; of one that is not named, as many as of nobody's."""
        rooms = {sender: share.room for sender, share in self._shares.items()}
        self._told_full = {sender for sender, room in rooms.items() if room <= 0}
        return rooms

    async def wait(self, room: int, *, ahead: int = 0) -> None:
        """Until there is room for at least so many."""
        self._waits_for_room += 1
        try:
            while self.room(ahead=ahead) < room:
                self._changed.clear()
                self._watch()
                await self._changed.wait()
        finally:
            self._waits_for_room -= 1

    async def empty(self) -> None:
        """Until no letter is in flight, and none waits for its record."""
        while self._letters or self._unrecorded:
            self._changed.clear()
            await self._changed.wait()

    def claimed(self, letters: Iterable[ClaimedRecipient]) -> None:
        """These were claimed; each will come by a slot, or be recorded without."""
        for letter in letters:
            key = letter.id, letter.token
            self._letters[key] = letter.sender
            self._share(letter.sender).in_flight += 1
            self._before_answer.enter(key)

    @asynccontextmanager
    async def of(self, letter: ClaimedRecipient) -> AsyncIterator[None]:
        """A slot for this letter until Google's last answer."""
        key, share = (letter.id, letter.token), self._share(letter.sender)
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        share.waiting.append((key, future))
        self._queued.setdefault(letter.sender)
        self._grant()
        try:
            await future
        except BaseException:
            if future.done() and not future.cancelled():
                self._free(key, share)
            self._answered(key)
            raise
        try:
            yield
        finally:
            self._free(key, share)
            self._answered(key)

    def answered(self, sender: str) -> None:
        """Google has answered a call of this sender, whatever it said: more of its letters may be in flight."""
        share = self._share(sender)
        share.limit = min(self.number, share.limit + 1)
        self._forget(sender)

    def unanswered(self, sender: str) -> None:
        """A call of this sender ended without an answer: half as many of its letters may be in flight."""
        share = self._share(sender)
        share.limit = max(1, share.limit // 2)

    def slow(self, sender: str) -> None:
        """A letter of this sender was slow to make: half as many may be in flight, since they wait for one another."""
        self.unanswered(sender)

    def recorded(self, letter: ClaimedRecipient) -> None:
        """It is recorded, or given up."""
        self._answered((letter.id, letter.token))
        self._unrecorded -= 1
        self._changed.set()

    def _share(self, sender: str) -> _Share:
        if (share := self._shares.get(sender)) is None:
            share = self._shares[sender] = _Share(limit=self.number)
        return share

    def _forget(self, sender: str) -> None:
        """Keep only what differs from a sender that was never met."""
        share = self._shares.get(sender)
        if share and not (share.in_flight or share.at_google or share.waiting) and share.limit == self.number:
            del self._shares[sender]

    def _free(self, key: Key, share: _Share) -> None:
        share.at_google -= 1
        self._at_google.leave(key)
        self._grant()

    def _answered(self, key: Key) -> None:
        """It has Google's last answer, or needs none."""
        if (sender := self._letters.pop(key, None)) is None:
            return
        self.through += 1
        self._unrecorded += 1
        self._before_answer.leave(key)
        share = self._shares[sender]
        share.in_flight -= 1
        self._forget(sender)
        self._changed.set()
        if sender in self._told_full and share.room > 0:
            self._told_full.discard(sender)
            self.on_room()

    def _grant(self) -> None:
        """Give what is free to those who have the fewest."""
        while len(self._at_google) < self.number and (sender := self._neediest()) is not None:
            share = self._shares[sender]
            key, future = share.waiting.popleft()
            self._queued.move_to_end(sender)
            if not share.waiting:
                del self._queued[sender]
            if not future.done():  # whoever was cut off while it waited needs none
                share.at_google += 1
                self._at_google.enter(key)
                future.set_result(None)
        self._watch()

    def _neediest(self) -> str | None:
        """Of those whose letters wait and who are below their limit, the one with the fewest slots."""
        most = math.inf
        found = None
        for sender in self._queued:
            share = self._shares[sender]
            if share.at_google < min(share.limit, most):
                found, most = sender, share.at_google
        return found

    def _watch(self) -> None:
        """See to it that whoever waits is served when a letter turns slow."""
        if self._timer is None and (self._queued or self._waits_for_room):
            at = min(self._at_google.next_slow_at, self._before_answer.next_slow_at)
            if at < math.inf:
                self._timer = asyncio.get_running_loop().call_at(at, self._grown_slow)

    def _grown_slow(self) -> None:
        self._timer = None
        self._changed.set()
        self._grant()


def _now() -> float:
    return asyncio.get_running_loop().time()
