"""How long a command takes to start, and to answer."""

import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Final

from tests.bench.place import Place, place
from tests.bench.result import Result

_TIMES: Final = 9
_GOALS: Final = {"--help": 0.15, "version": 0.15, "jobs list": 0.30}
"""Seconds, warm."""


def commands() -> Sequence[Result]:
    """The seconds from the start of a command to its end, the median of nine, after one that nobody counts."""
    with place(senders=1) as it:
        it.daemon()
        return [
            Result(f"mailerd {words}", _seconds(it, words.split()), goal, "at most", "s")
            for words, goal in _GOALS.items()
        ]


def _seconds(it: Place, words: Sequence[str]) -> float:
    took = []
    # An installed mailerd has its bytecode: the run that nobody counts writes it.
    environment = {name: value for name, value in it.environment.items() if name != "PYTHONDONTWRITEBYTECODE"}
    for _ in range(_TIMES + 1):
        started = time.monotonic()
        subprocess.run([sys.executable, "-m", "mailerd", *words], env=environment, check=True, capture_output=True)
        took.append(time.monotonic() - started)
    return statistics.median(took[1:])
