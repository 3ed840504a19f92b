"""Watches from a thread of its own whether the event loop turns, since a loop that is blocked cannot say so itself."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from mailerd.events.process import ProcessEvents
from mailerd.ops import stack_dump

_CHECK_INTERVAL: Final = 1.0


class EventLoopMonitor:
    """`beat` is called by the loop; after `bound` seconds without it, one event is logged, with every stack."""

    def __init__(self, *, events: ProcessEvents, bound: float, now: Callable[[], float] = time.monotonic) -> None:
        self._events = events
        self._bound = bound
        self._now = now
        self._last = now()
        self._told = False
        self._stop = threading.Event()

    def beat(self) -> None:
        """The loop turns."""
        self._last = self._now()
        self._told = False

    @contextmanager
    def watching(self, loop: asyncio.AbstractEventLoop) -> Iterator[None]:
        """Watch meanwhile."""
        thread = threading.Thread(target=self._watch, args=(loop,), name="guard", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._stop.set()

    def _watch(self, loop: asyncio.AbstractEventLoop) -> None:
        while not self._stop.wait(_CHECK_INTERVAL):
            self.look(loop)

    def look(self, loop: asyncio.AbstractEventLoop) -> None:
        """Log it when the loop has been blocked for too long."""
        silent = self._now() - self._last
        if silent > self._bound and not self._told:
            self._told = True
            self._events.loop_blocked(seconds=silent, stacks=f"{stack_dump.of_threads()}\n{stack_dump.of_tasks(loop)}")
