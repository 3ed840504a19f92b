"""What the daemons' own logs say: how long each was silent, which call outlived its bound, what was told too often."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from tests.chaos.child import Child, Run
from tests.chaos.place import REQUEST_TIMEOUT

_AFTER_A_STOP: Final = 2.0
"""Seconds after SIGCONT in which a call that was under way may still be told as over its bound."""


@dataclass(frozen=True)
class Heard:
    """The summary of all lives of all daemons."""

    silence: float
    """The longest time, in seconds, in which a daemon that was alive and not stopped wrote no line."""
    over: float
    """The most seconds by which a call to Google outlived its bound; negative when none did."""
    events: Counter[str]
    deadlocks: int
    bugs: list[str]
    """Lines that only a bug can cause."""


def hear(children: Sequence[Child], *, until: float) -> Heard:
    """Read all logs; nothing after `until` (epoch seconds, when the last message was settled) counts as silence."""
    silence, over, deadlocks = 0.0, -REQUEST_TIMEOUT, 0
    events: Counter[str] = Counter()
    bugs: list[str] = []
    for child in children:
        for run in child.runs:
            lines, foreign = _lines(run)
            bugs += [f"{child.name}: {line}" for line in foreign]
            silence = max(silence, _silence(run, [at for at, _ in lines], until=until))
            for at, line in lines:
                events[line["event"]] += 1
                if line["event"] == "google_call_failed" and not _stopped(run, at, line["seconds"]):
                    over = max(over, line["seconds"] - REQUEST_TIMEOUT)
                deadlocks += line["event"] == "transaction_repeated" and "1213" in line["cause"]
                if line["event"] in {"message_crashed", "process_died", "google_call_crashed", "request_failed"}:
                    bugs.append(f"{child.name}: {line['message']}\n{line.get('stack', '')}")
    return Heard(silence, over, events, deadlocks, bugs)


def _lines(run: Run) -> tuple[list[tuple[float, dict[str, Any]]], list[str]]:
    """The lines with their times by the suite's clock, and what was written that is no line of the journal."""
    told: list[tuple[float, dict[str, Any]]] = []
    foreign: list[str] = []
    with run.log.open(encoding="utf-8", errors="replace") as file:
        for text in file:
            if text.endswith("\n"):  # SIGKILL may cut the last line
                try:
                    line = json.loads(text)
                    told.append((datetime.fromisoformat(line["at"]).timestamp() - run.shift, line))
                except (ValueError, KeyError, TypeError):
                    foreign.append(text.rstrip())
    return told, foreign


def _silence(run: Run, times: Sequence[float], *, until: float) -> float:
    end = min(until, run.ended or until)
    marks = [at for at in times if at <= end]
    if not marks:
        return 0.0  # it had not begun to speak: imports
    pairs = zip(marks, [*marks[1:], end], strict=True)
    return max(last - first - _within(run.stops, first, last) for first, last in pairs)


def _within(stops: Iterable[tuple[float, float]], first: float, last: float) -> float:
    return sum(max(0.0, min(last, end) - max(first, begin)) for begin, end in stops)


def _stopped(run: Run, at: float, seconds: float) -> bool:
    return any(begin <= at and at - seconds <= end + _AFTER_A_STOP for begin, end in run.stops)
