"""Room for letters at Google: a letter takes a slot until Google's last answer, and its record needs none."""

import asyncio
from types import TracebackType
from typing import Final


class Slots:
    """So many letters of this daemon may be at Google at once; `async with` takes a slot, and waits for it.

    A letter counts from its claim on (`claimed`), so that no more are claimed than there is room for. Letters that have
    their answer and wait for their record need no slot, or Google would idle for the length of a commit; but never more
    of them than there are slots, since each would be a doubt if the process died now.
    """

    def __init__(self, number: int) -> None:
        self.number: Final = number
        self.through = 0
        """Letters that have left their slot, since the start."""
        self._slots = asyncio.Semaphore(number)
        self._before_answer = 0
        self._in_hand = 0
        self._changed = asyncio.Event()

    def room(self, *, ahead: int = 0) -> int:
        """Letters that may be claimed now, so many of them ahead of their slots."""
        return min(self.number + ahead - self._before_answer, 2 * self.number - self._in_hand)

    async def wait(self, room: int, *, ahead: int = 0) -> None:
        """Until there is room for at least so many."""
        while self.room(ahead=ahead) < room:
            self._changed.clear()
            await self._changed.wait()

    def claimed(self, letters: int) -> None:
        """So many were claimed; each will come by a slot."""
        self._before_answer += letters
        self._in_hand += letters

    async def __aenter__(self) -> None:
        try:
            await self._slots.acquire()
        except BaseException:
            self._leave()
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, stack: TracebackType | None
    ) -> None:
        self._slots.release()
        self._leave()

    def _leave(self) -> None:
        self.through += 1
        self._before_answer -= 1
        self._changed.set()

    def recorded(self) -> None:
        """One of them is recorded, or given up."""
        self._in_hand -= 1
        self._changed.set()
