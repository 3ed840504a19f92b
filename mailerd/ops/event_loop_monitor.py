"""Watches from a thread of its own whether the event loop turns, since a loop that is blocked cannot say so itself."""

import asyncio
import faulthandler
import re
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

from mailerd.events.process import ProcessEvents

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
        thread = threading.Thread(target=self._watch, args=(loop,), name="event loop monitor", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._stop.set()

    def _watch(self, loop: asyncio.AbstractEventLoop) -> None:
        while not self._stop.wait(_CHECK_INTERVAL):
            self.sample(loop)

    def sample(self, loop: asyncio.AbstractEventLoop) -> None:
        """Log it when the loop has been blocked for too long."""
        silent = self._now() - self._last
        if silent > self._bound and not self._told:
            self._told = True
            self._events.loop_blocked(seconds=silent, stacks=f"{dump_threads()}\n{dump_tasks(loop)}")


_MAX_TASKS: Final = 100
_MAX_FRAMES: Final = 30


def dump_tasks(loop: asyncio.AbstractEventLoop) -> str:
    """Where every task of a loop stands, as text; the values of variables are left out, they may be secrets."""
    tasks = sorted(asyncio.all_tasks(loop), key=lambda task: task.get_name())
    parts = [f"task {task.get_name()}:\n{_frames(task)}" for task in tasks[:_MAX_TASKS]]
    if len(tasks) > _MAX_TASKS:
        parts.append(f"and {len(tasks) - _MAX_TASKS} more tasks")
    return "\n".join(parts)


def _frames(task: "asyncio.Task[object]") -> str:
    """The whole way down: `Task.get_stack` alone shows the outermost coroutine only."""
    lines: list[str] = []
    it: object = task.get_coro()
    while it is not None and len(lines) < _MAX_FRAMES:
        frame = getattr(it, "cr_frame", None) or getattr(it, "gi_frame", None)
        if not isinstance(frame, FrameType):
            break
        lines.append(f'  File "{frame.f_code.co_filename}", line {frame.f_lineno}, in {frame.f_code.co_name}')
        it = getattr(it, "cr_await", None) or getattr(it, "gi_yieldfrom", None)
    return "\n".join(lines)


def dump_threads() -> str:
    """Where every thread stands, its innermost frame first."""
    try:
        with tempfile.TemporaryFile() as file:  # it wants a real one
            faulthandler.dump_traceback(file=file, all_threads=True)
            file.seek(0)
            stacks = file.read().decode("utf-8", "backslashreplace").rstrip()
    except OSError as error:  # a disk that is full must not hide that the loop stands still
        return f"the stacks of the threads are not known: {error}"
    stacks = re.sub(r"(hread 0x[0-9a-f]+) \[.*\] \(", r"\1 (", stacks)  # Python 3.14 adds the system's name for it
    for thread in threading.enumerate():
        stacks = stacks.replace(f"hread 0x{thread.ident:016x} ", f"hread {thread.name} ")
    return stacks
