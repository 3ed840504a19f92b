"""`python -m tests.bench.scale`: plays the claim for many daemons, on a real database and, beyond that, by simulation.

The real part: 1 to 64 claimers with connections of their own share one durable MariaDB and 400 senders at Google's
pace. What a look and a claim cost the server is measured, and the second part reckons with it: a queue before the
server's cores, and daemons that look, claim and rest as `worker/runner.py` does.
"""

import asyncio
import heapq
import json
import random
import statistics
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from datetime import timedelta

import uvloop

from mailerd.cli.common import no_log
from mailerd.config import DatabaseSettings, Live
from mailerd.core.rate_limit import SenderLimits, rate
from mailerd.errors import DatabaseError
from mailerd.events.process import StoreEvents
from mailerd.store.db.database import Database
from mailerd.store.queue.claim import Claims
from mailerd.store.queue.rate_limits import DefaultLimits
from mailerd.worker.runner import poll_delay
from tests.bench.place import Place, Usage, place
from tests.bench.storing import fill
from tests.support.replayed import replayed

SENDERS = 400
PACE = SenderLimits(units_per_minute=6000, per_minute=0, per_day=0)
POLL = 2.0
AT_MOST = 100
"""Messages of one claim, as of the runner."""
_STREAM = rate(PACE)
assert _STREAM is not None
INTERVAL, LATE = _STREAM.interval.total_seconds(), _STREAM.tolerance.total_seconds()
"""Seconds from one message of a sender to its next, and how much earlier than that it may be claimed."""
_PROCESSES = 2


@dataclass
class Tally:
    """What the claimers met."""

    messages: int = 0
    claims: int = 0
    empty: int = 0
    looks: int = 0
    failed: int = 0
    took: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Costs:
    """What the server's processors have to do, in seconds, as the real part shows it; four cores are assumed."""

    claim: float = 0.0015
    message: float = 0.00015
    look: float = 0.00015
    cores: int = 4


async def claimers(url: str, number: int, seconds: float) -> Tally:
    """So many claimers, each as a runner with permits to spare would ask."""
    tally, end = Tally(), time.monotonic() + seconds

    async def one() -> None:
        database = Database(DatabaseSettings(url=url), events=StoreEvents(no_log))
        claims = Claims(database, "0" * 26, timedelta(seconds=60), Live(DefaultLimits(PACE)), replayed(database))
        idle, beaten = False, 0
        await asyncio.sleep(random.uniform(0, poll_delay(lost_races=0)))  # so that they do not march in step
        while time.monotonic() < end:
            if idle:
                tally.looks += 1
                if due_in := await claims.due_in():
                    await asyncio.sleep(min(POLL, max(due_in, poll_delay(lost_races=beaten))))
                    continue
            started = time.monotonic()
            try:
                claim = await claims.claim(AT_MOST)
            except DatabaseError:
                tally.failed += 1
                continue
            tally.took.append(time.monotonic() - started)
            tally.claims += 1
            tally.messages += len(claim.messages)
            idle = not claim.messages
            tally.empty += idle
            if len(claim.messages) == AT_MOST:
                continue
            beaten = beaten + 1 if idle and claim.next_in == 0 else 0
            await asyncio.sleep(
                min(POLL, max(poll_delay(lost_races=beaten), POLL if claim.next_in is None else claim.next_in))
            )
        await database.close()

    await asyncio.gather(*(one() for _ in range(number)))
    return tally


def real(number: int, *, seconds: float) -> None:
    """Measure so many claimers on a database, and print a line."""
    with place(senders=1, extra=("--max-connections=400",)) as it:
        fill(it, jobs=SENDERS, waiting=SENDERS * 100, finished=0, senders=SENDERS)
        deadlocks, cpu = _deadlocks(it), Usage.of(it.database.pid).cpu_s
        shares = [number // _PROCESSES + (n < number % _PROCESSES) for n in range(_PROCESSES)]
        command = [sys.executable, "-m", "tests.bench.scale", it.database.url]
        children = [
            subprocess.Popen([*command, str(share), str(seconds)], stdout=subprocess.PIPE, text=True)
            for share in shares
            if share
        ]
        told = [Tally(**json.loads(child.communicate()[0])) for child in children]
        cores = (Usage.of(it.database.pid).cpu_s - cpu) / seconds
        deadlocks = _deadlocks(it) - deadlocks
    total = {name: sum(getattr(tally, name) for tally in told) for name in ("messages", "claims", "empty", "looks")}
    failed = sum(tally.failed for tally in told)
    took = sorted(1000 * one for tally in told for one in tally.took)
    _row(
        number, f"{total['messages'] * INTERVAL / seconds / SENDERS:.2f}", f"{total['claims'] / seconds:.0f}",
        f"{total['empty'] / max(1, total['claims']):.2f}", f"{total['looks'] / seconds:.0f}",
        f"{statistics.median(took):.1f}", f"{took[int(len(took) * 0.99) - 1]:.0f}", f"{cores:.2f}",
        f"{deadlocks}, {failed}",
    )  # fmt: skip


@dataclass
class Play:
    """60 s of so many daemons and senders, by turns of a heap.

    A question waits for one of the server's cores. What is due when a claim begins is its own; the others pass it by.
    """

    senders: int
    daemons: int
    costs: Costs
    turns: list[tuple[float, int]] = field(default_factory=list)
    tats: dict[int, float] = field(default_factory=dict)
    idle: set[int] = field(default_factory=set)
    beaten: dict[int, int] = field(default_factory=dict)
    tally: Tally = field(default_factory=Tally)
    busy: float = 0.0

    def run(self, *, seconds: float = 60.0) -> None:
        """Play, and print a line."""
        chance = random.Random(1)
        self.turns = [(chance.uniform(0, INTERVAL), n) for n in range(self.senders)]
        asking = [(chance.uniform(0, POLL), n) for n in range(self.daemons)]  # when, who
        free = [0.0] * self.costs.cores
        heapq.heapify(self.turns)
        heapq.heapify(asking)
        while asking[0][0] < seconds:
            now, daemon = heapq.heappop(asking)
            begin = max(now, heapq.heappop(free))
            self.tally.took.append(begin - now)
            end, again = self._ask(begin, daemon)
            self.busy += end - begin
            heapq.heappush(free, end)
            heapq.heappush(asking, (end + again, daemon))
        it, took = self.tally, sorted(self.tally.took)
        _row(
            self.daemons, self.senders, f"{it.messages * INTERVAL / seconds / self.senders:.2f}",
            f"{it.claims / seconds:.0f}", f"{it.empty / max(1, it.claims):.2f}", f"{it.looks / seconds:.0f}",
            f"{1000 * took[int(len(took) * 0.99)]:.0f}", f"{self.busy / seconds / self.costs.cores:.2f}",
        )  # fmt: skip

    def _ask(self, begin: float, daemon: int) -> tuple[float, float]:
        """A look of an idle daemon, and a claim if it sees something due; when it is over, and the rest after it."""
        end = begin
        beaten = self.beaten.get(daemon, 0)
        if daemon in self.idle:
            self.tally.looks += 1
            end += self.costs.look
            if (due_in := self.turns[0][0] - begin) > 0:
                return end, min(POLL, max(due_in, poll_delay(lost_races=beaten)))
        claiming = end + self.costs.claim / 2  # what others commit until then is gone
        taken: list[int] = []
        while self.turns and self.turns[0][0] <= claiming and len(taken) < AT_MOST:
            taken.append(heapq.heappop(self.turns)[1])
        end += self.costs.claim + self.costs.message * len(taken)
        for sender in taken:
            self.tats[sender] = max(self.tats.get(sender, 0.0), begin) + INTERVAL
            heapq.heappush(self.turns, (max(end, self.tats[sender] + INTERVAL - LATE), sender))
        self.tally.claims += 1
        self.tally.messages += len(taken)
        self.tally.empty += not taken
        (self.idle.discard if taken else self.idle.add)(daemon)
        next_in = max(0.0, self.turns[0][0] - end)
        if len(taken) == AT_MOST:
            return end, 0.0
        self.beaten[daemon] = 0 if taken else beaten + 1
        return end, min(POLL, max(next_in, poll_delay(lost_races=self.beaten[daemon])))


def _row(*cells: object) -> None:
    sys.stdout.write("| " + " | ".join(map(str, cells)) + " |\n")
    sys.stdout.flush()


def _head(*cells: str) -> None:
    _row(*cells)
    _row(*["---"] * len(cells))


def _deadlocks(it: Place) -> int:
    return int(it.query("SHOW GLOBAL STATUS LIKE 'Innodb_deadlocks'")[0][1])


def main() -> None:
    """Both parts, as two tables."""
    known = ("of the pace", "claims/s", "empty", "looks/s")
    _head("daemons", *known, "claim ms, median", "99 %", "database's cores", "deadlocks, failures")
    for number in (1, 2, 4, 16, 64):
        real(number, seconds=15.0)
    sys.stdout.write("\n")
    _head("daemons", "senders", *known, "ms of waiting, 99 %", "of the database")
    for senders in (200, 2000, 10_000):
        for daemons in (1, 4, 16, 64, 100, 300, 1000):
            Play(senders, daemons, Costs()).run()


if __name__ == "__main__":
    if len(sys.argv) > 1:
        sys.stdout.write(json.dumps(asdict(uvloop.run(claimers(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))))))
    else:
        main()
