"""Runs mailerd with a wall clock that is off: `-m tests.chaos.shifted SECONDS run …`.

Not by libfaketime: a daemon under it kept a core busy (futex), and answered seconds late. This turns every reading of
the wall clock in Python: `time.time`, `time.time_ns` (and so the log's) and `mailerd.clock`'s datetime.
"""

import importlib
import sys
import time
from datetime import datetime, timedelta, tzinfo
from typing import Self


def shift(seconds: float) -> None:
    """Put the clock of this process ahead, or back with a negative number; the monotonic clock stays."""
    seconds_now, nanoseconds_now = time.time, time.time_ns

    class Shifted(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Self:
            return super().now(tz) + timedelta(seconds=seconds)

    time.time = lambda: seconds_now() + seconds
    time.time_ns = lambda: nanoseconds_now() + int(seconds * 1e9)
    vars(importlib.import_module("mailerd.clock"))["datetime"] = Shifted


if __name__ == "__main__":
    shift(float(sys.argv.pop(1)))
    importlib.import_module("mailerd.cli").main()
