"""What reading costs of a sender's units: Google's real limits, a daemon that is killed, and a history that is lost.

`python -m tests.inbox.paced [MESSAGES]` runs it in real time, 54 messages a minute, and prints what was seen.
"""

import asyncio
import json
import sys
import tempfile
import time
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from mailerd.sandbox.google import COMPOSE
from mailerd.sandbox.google.fake_limits import READONLY
from tests.chaos.place import SENDER, Place, Setting, place
from tests.inbox.place import TRUTH

UNITS: Final = 6000
READS: Final = frozenset({"history.list", "messages.list", "messages.get", "getProfile"})
_SHAPES: Final = ("hard", "reply", "postfix", "soft", "delayed", "exim", "blocked", "qmail", "exchange", "auto_reply")


@dataclass
class Costs:
    """What a run has shown; shares are of UNITS."""

    messages: int = 0
    seconds: float = 0.0
    worst_minute_while_messages_wait: float = 0.0
    worst_minute: float = 0.0
    """At any time, also while none waits."""
    of_all_minutes: float = 0.0
    """Of all units from the first message to the last read."""
    by_method: dict[str, int] = field(default_factory=dict)
    others: dict[str, int] = field(default_factory=dict)
    """Requests of any other kind."""
    throttled: dict[str, int] = field(default_factory=dict)
    """What the stand-in turned away, by limit."""
    results: dict[str, int] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    """What came, and the wrong result that its message has."""
    caught_up_after: float = 0.0
    """Seconds from the last message until the inbox was read to its end."""


def worst(entries: Iterable[dict[str, Any]], *, since: float = 0.0, until: float = float("inf")) -> int:
    """The most units of any 60 s between two moments."""
    window, held, most = deque[tuple[float, int]](), 0, 0
    for entry in entries:
        if not since <= entry["at"] <= until:
            continue
        window.append((entry["at"], entry["units"]))
        held += entry["units"]
        while window[0][0] <= entry["at"] - 60:
            held -= window.popleft()[1]
        most = max(most, held)
    return most


async def run(messages: int, *, folder: Path, interval: float = 5.0, every: int = 8) -> Costs:
    """Send `messages`, let something come back of each `every`th, and read to the end.

    At a quarter of them the daemon is killed, at the half the history is lost.
    """
    sections: dict[str, dict[str, object]] = {
        "inbox": {"interval": interval, "limit_pause": 0.0}, "pace": {"units_per_minute": UNITS, "per_day": 0},
        "runner": {"lease": 120.0}, "safety": {"job_bounces": 0},  # no message waits for what came back
    }  # fmt: skip
    known = Setting(daemons=1, latency=0.05, senders={SENDER: (COMPOSE, READONLY)}, sections=sections)
    async with place(folder, known, seed=3) as it:
        await it.google.change_rules(units_per_minute=UNITS)
        it.daemons[0].start()
        began, truth = time.time(), dict[str, str]()
        await it.post(messages)
        await _sent(it, messages // 4, truth, every)
        it.daemons[0].kill()
        it.daemons[0].start()
        await _sent(it, messages // 2, truth, every)
        await it.google.forget_history()
        for _ in range(3):
            await it.google.send_manually(SENDER)
        await _sent(it, messages, truth, every)
        last = time.time()
        await _read(it)
        return await _costs(it, truth, began=began, last=last, ended=time.time())


async def _sent(it: Place, number: int, truth: dict[str, str], every: int) -> None:
    """Until so many messages are sent; a message in turn of each shape comes about each `every`th of them."""
    while True:
        sent = await it.google.accepted()
        for at in range(every * len(truth), len(sent), every):
            shape = truth[sent[at]["key"]] = _SHAPES[len(truth) % len(_SHAPES)]
            await it.google.notify(sent[at]["key"], shape)
        if len(sent) >= number:
            return
        await asyncio.sleep(0.5)


async def _read(it: Place) -> None:
    """Until the inbox was read to its end."""
    ((since,),) = await it.rows("SELECT UTC_TIMESTAMP(6)")
    statement = "SELECT 1 FROM mailboxes WHERE state = 'read' AND read_at > %s"
    async with asyncio.timeout(3600):
        while not await it.rows(statement, since):  # noqa: ASYNC110 - another process reads
            await asyncio.sleep(0.5)


async def _costs(it: Place, truth: dict[str, str], *, began: float, last: float, ended: float) -> Costs:
    log = await it.google.log()
    reads = [entry for entry in log if entry["method"] in READS]
    spent: Counter[str] = Counter()
    for entry in reads:
        spent[entry["method"]] += entry["units"]
    results = dict(await it.rows("SELECT CONCAT(job_id, '-', seq), COALESCE(result, 'none') FROM job_recipients"))
    usage = (await it.google.usage())["users"][SENDER]
    return Costs(
        messages=len(results),
        seconds=ended - began,
        worst_minute_while_messages_wait=worst(reads, until=last) / UNITS,
        worst_minute=worst(reads) / UNITS,
        of_all_minutes=sum(spent.values()) / (UNITS * (ended - began) / 60),
        by_method=dict(spent),
        others=dict(Counter(e["method"] for e in log if e["method"] not in READS)),
        throttled=usage["throttled"],
        results=dict(Counter(results.values())),
        wrong=sorted(f"{it} {results[key]}" for key, it in truth.items() if results[key] != (TRUTH[it][0] or "none")),
        caught_up_after=ended - last,
    )


async def main() -> None:
    """Run it and print what was seen."""
    messages = int(sys.argv[1]) if len(sys.argv) > 1 else 270
    seen = await run(messages, folder=Path(tempfile.mkdtemp(prefix="mailerd-paced-")))
    sys.stdout.write(json.dumps(vars(seen), indent=1) + "\n")


if __name__ == "__main__":
    asyncio.run(main())
