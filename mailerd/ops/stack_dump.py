"""Where every task and every thread stands, as text, for the log of a stalled loop."""

import asyncio
import faulthandler
import tempfile
import threading
from types import FrameType
from typing import Final

_MAX_TASKS: Final = 100
_MAX_FRAMES: Final = 30


def of_tasks(loop: asyncio.AbstractEventLoop) -> str:
    """Every task of a loop; the values of variables are left out, they may be secrets."""
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


def of_threads() -> str:
    """Every thread, its innermost frame first."""
    try:
        with tempfile.TemporaryFile() as file:  # it wants a real one
            faulthandler.dump_traceback(file=file, all_threads=True)
            file.seek(0)
            stacks = file.read().decode("utf-8", "backslashreplace").rstrip()
    except OSError as error:  # a disk that is full must not hide that the loop stands still
        return f"the stacks of the threads are not known: {error}"
    for thread in threading.enumerate():
        stacks = stacks.replace(f"hread 0x{thread.ident:016x} ", f"hread {thread.name} ")
    return stacks
