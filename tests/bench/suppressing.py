"""What a million suppressions cost: their import, a large intake, and the messages that look them up."""

import csv
import statistics
import time
from collections.abc import Sequence
from typing import Final

from tests.bench import message
from tests.bench.place import Daemon, Place, place
from tests.bench.result import Result
from tests.bench.sending import sent

_TURNS: Final = 5
_MESSAGES: Final = 6_000


def suppressions(*, number: int = 1_000_000, recipients: int = 100_000) -> Sequence[Result]:
    """Two installations take turns, one of which has so many suppressions; all messages are of a list."""
    with place(senders=20) as empty, place(senders=20) as full:
        imported = _import(full, number)
        both = [(it, it.daemon(intake__max_body=64 * 1024 * 1024, runner__concurrency=100)) for it in (empty, full)]
        rates: dict[int, list[float]] = {0: [], 1: []}
        intakes: dict[int, list[float]] = {0: [], 1: []}
        cpu: dict[int, list[float]] = {0: [], 1: []}
        for turn in range(_TURNS):
            for which in (0, 1) if turn % 2 else (1, 0):
                it, daemon = both[which]
                messages_per_s, used = _rate(it, daemon)
                rates[which].append(messages_per_s)
                cpu[which].append(used)
                intakes[which].append(_intake(it, daemon, recipients, first=turn * recipients))
    rate, took, work = ([statistics.median(of[which]) for which in (0, 1)] for of in (rates, intakes, cpu))
    return (
        Result(f"import of {number:,} suppressions", imported, 60, "at most", "s"),
        Result(
            "messages/s beside them", rate[1] / rate[0], 0.95, "at least", "of without",
            {"per_s": rate[1], "without_per_s": rate[0], "cpu_ms": work[1] * 1e3, "without_cpu_ms": work[0] * 1e3},
        ),
        Result(
            f"intake of {recipients:,} beside them", took[1] / took[0], 1.05, "at most", "of without",
            {"seconds": took[1], "without_seconds": took[0]},
        ),
    )  # fmt: skip


def _import(it: Place, number: int) -> float:
    file = it.folder / "suppressed.csv"
    with file.open("w", newline="") as out:
        rows = csv.writer(out)
        rows.writerow(("email", "note"))
        rows.writerows((f"person.{n:x}.{n * 7919 % 1_000_003}@example{n % 500}.com", "left") for n in range(number))
    started = time.monotonic()
    it.command("suppress", "import", str(file))
    return time.monotonic() - started


def _rate(it: Place, daemon: Daemon) -> tuple[float, float]:
    rate, cpu, _ = sent(it, [daemon], messages=_MESSAGES, mailing_list="news")
    return rate, cpu


def _intake(it: Place, daemon: Daemon, recipients: int, *, first: int) -> float:
    """The seconds of one POST, of messages that are not due before tomorrow."""
    body = message.job(it.senders[0], recipients=recipients, first=first, filler=75, mailing_list="news", later=True)
    started = time.monotonic()
    it.post(daemon.port, body)
    return time.monotonic() - started
