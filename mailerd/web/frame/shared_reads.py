"""What several viewers look at is read once: values that are shared for seconds."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Any, Final

from mailerd.clock import Clock

MAX_KEPT: Final = 500
"""Values that are kept; beyond that all are forgotten."""


class SharedReads:
    """Values by a key, each for some seconds; of those who ask at once, one reads."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._kept: dict[Hashable, tuple[float, asyncio.Future[Any]]] = {}

    async def get[T](self, key: Hashable, seconds: float, read: Callable[[], Awaitable[T]]) -> T:
        """The value, read at most so many seconds ago.

        What `read` raises is raised to all who wait, and not kept.
        """
        now = self._clock.monotonic()
        kept = self._kept.get(key)
        if kept is not None and now < kept[0]:
            shared: T = await asyncio.shield(kept[1])
            return shared
        if len(self._kept) >= MAX_KEPT:
            self._kept.clear()
        reading: asyncio.Future[T] = asyncio.ensure_future(read())
        self._kept[key] = now + seconds, reading
        # Not where it is awaited: the viewer who began it may have gone before it failed.
        reading.add_done_callback(lambda _: self._forget_failed(key, reading))
        return await asyncio.shield(reading)

    def _forget_failed(self, key: Hashable, reading: asyncio.Future[Any]) -> None:
        failed = reading.cancelled() or reading.exception() is not None
        if failed and (kept := self._kept.get(key)) is not None and kept[1] is reading:
            del self._kept[key]
