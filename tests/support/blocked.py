"""Runs mailerd with a bug that blocks the event loop for good, shortly after its start: `-m tests.support.blocked run`.

A watchdog of three seconds is set, as systemd would set one, so that a blocked loop is told of after one.
"""

import asyncio
import importlib
import os
import time
from typing import Final

from mailerd.ops.watchdog import Watchdog

WATCHDOG: Final = 3.0


def somebody_blocks_the_loop() -> None:
    """The bug: it never comes back to the loop."""
    time.sleep(3600)


def break_it() -> None:
    """Let the loop be blocked once the daemon is up."""
    prepared = Watchdog.prepared

    def and_then(self: Watchdog) -> None:
        prepared(self)
        asyncio.get_running_loop().call_later(0.2, somebody_blocks_the_loop)

    Watchdog.prepared = and_then  # type: ignore[method-assign]  # it is the fault that is wanted


if __name__ == "__main__":
    os.environ["WATCHDOG_USEC"] = str(int(WATCHDOG * 1e6))
    break_it()
    importlib.import_module("mailerd.cli").main()
