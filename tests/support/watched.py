"""Runs mailerd with a look at its event loop: `-m tests.support.watched run --config FILE`.

A line of the file `loop` beside that is when the loop was back, on the monotonic clock; the milliseconds for which it
was away; and those that its thread computed meanwhile, which a busy machine makes no longer. `stacks` says on what.
"""

import asyncio
import importlib
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any, Final

EVERY: Final = 0.002
LEAST: Final = 0.005
"""Seconds from which an absence is written down."""


LONG: Final = 0.012
"""Seconds of computing from which the stack is written down."""


class Look:
    """A look at the loop of this thread."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._thread = threading.get_ident()
        self._computed = time.thread_time()

    async def look(self) -> None:
        """Write down how long the loop is away, for ever."""
        threading.Thread(target=self._look_from_aside, daemon=True).start()
        with (self._folder / "loop").open("w", buffering=1) as out:
            while True:
                began, self._computed = time.monotonic(), time.thread_time()
                await asyncio.sleep(EVERY)
                now, computed = time.monotonic(), time.thread_time() - self._computed
                if (away := now - began - EVERY) > LEAST:
                    out.write(f"{now:.4f} {away * 1000:.1f} {computed * 1000:.1f}\n")

    def _look_from_aside(self) -> None:
        clock = time.pthread_getcpuclockid(self._thread)
        with (self._folder / "stacks").open("w", buffering=1) as out:
            while True:
                time.sleep(LEAST)
                if (computed := time.clock_gettime(clock) - self._computed) > LONG:
                    stack = traceback.format_stack(sys._current_frames()[self._thread])
                    out.write(f"{time.monotonic():.4f} {computed * 1000:.1f}\n{''.join(stack[-8:])}")


def watch(folder: Path) -> None:
    """Let the daemon of this process be looked at."""
    daemon = vars(importlib.import_module("mailerd.app"))["Daemon"]
    run = daemon.run

    async def watched(*given: Any, **named: Any) -> None:
        looking = asyncio.create_task(Look(folder).look())
        try:
            await run(*given, **named)
        finally:
            looking.cancel()

    daemon.run = watched


if __name__ == "__main__":
    watch(Path(sys.argv[sys.argv.index("--config") + 1]).parent)
    importlib.import_module("mailerd.cli").main()
