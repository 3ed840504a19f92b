"""Finds bodies of so many values that reading them would block all other requests, before they are read.

Python's JSON reader holds the interpreter's lock until it comes to the end of an object, and a value takes up to thirty
times as much memory as its text. So what counts is not the bytes of a body: it is its values, and how many of them come
in a row without an object's end among them.
"""

import gc
import threading
from typing import Final

MAX_VALUES: Final = 3_000_000
"""Values of one body: 100,000 recipients with 25 variables each."""
MAX_RUN: Final = 300_000
"""Values in a row: some 20 ms."""
_PIECE: Final = 1 << 20


def too_many_values(raw: bytearray) -> str:
    """What a body has too many of, or "".

    A rough count, texts included, comes first: a millisecond a megabyte. The exact count follows only when the rough
    one is too high.
    """
    return _exactly(raw) if _may_be_too_many(raw) else ""


def _may_be_too_many(raw: bytearray) -> bool:
    """The rough count, in pieces, so that other threads can run."""
    total = run = 0
    for start in range(0, len(raw), _PIECE):
        end = min(start + _PIECE, len(raw))
        here = _values(raw, start, end)
        total += here
        last = raw.rfind(b"}", start, end)
        run = run + here if last < 0 else max(here, run + _values(raw, start, raw.find(b"}", start, end)))
        if run > MAX_RUN or total > MAX_VALUES:
            return True
        if last >= 0:
            run = _values(raw, last, end)
    return False


def _exactly(raw: bytearray) -> str:
    """The exact count, without texts; it ends as soon as there are too many."""
    tally, at = _Tally(), 0
    while not tally.over and (quote := raw.find(b'"', at)) >= 0:
        tally.take(raw, at, quote)
        at = _behind_text(raw, quote)
    if not tally.over:
        tally.take(raw, at, len(raw))
    return tally.over


class _Tally:
    """The number of values, and of those since the last end of an object."""

    def __init__(self) -> None:
        self._total = 0
        self._run = 0
        self.over = ""

    def take(self, raw: bytearray, start: int, end: int) -> None:
        """Count the values in a part that holds no text."""
        while (brace := raw.find(b"}", start, end)) >= 0:
            self._add(_values(raw, start, brace))
            if self.over:
                return
            self._run, start = 0, brace + 1
        self._add(_values(raw, start, end))

    def _add(self, values: int) -> None:
        self._total += values
        self._run += values
        if self._run > MAX_RUN:
            self.over = f"more than {MAX_RUN:,} values in a row, without an object that ends among them"
        elif self._total > MAX_VALUES:
            self.over = f"more than {MAX_VALUES:,} values"


def _behind_text(raw: bytearray, quote: int) -> int:
    """The index after the text that begins at `quote`."""
    end = quote
    while (end := raw.find(b'"', end + 1)) >= 0:
        slashes = end - 1
        while raw[slashes] == ord("\\"):
            slashes -= 1
        if (end - slashes) % 2:
            return end + 1
    return len(raw)


def _values(raw: bytearray, start: int, end: int) -> int:
    return raw.count(b",", start, end) + raw.count(b"[", start, end) + raw.count(b"{", start, end)


class _GcPause:
    """Switches the cyclic garbage collector off while any thread holds it.

    JSON makes no cycles, and each collection would walk the whole growing tree with the interpreter's lock held.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held = 0
        self._was_on = False

    def __enter__(self) -> None:
        with self._lock:
            if not self._held:
                self._was_on = gc.isenabled()
                gc.disable()
            self._held += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._held -= 1
            if not self._held and self._was_on:
                gc.enable()


GC_PAUSED: Final = _GcPause()
