"""Measures of the database's part: a large intake, a claim among many rows, an idle daemon."""

import http.client
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from itertools import batched
from pathlib import Path

from tests.bench import message
from tests.bench.place import Place, Usage, place
from tests.bench.result import Result
from tests.bench.sending import questions

_DUMPED = "INSERT INTO dumped (job_id, seq, to_email, to_name, variables, status, error, due_at, updated_at) VALUES\n"
_MB = 1e6


def intake(*, recipients: int = 100_000) -> Sequence[Result]:
    """One POST of 100,000 recipients and some 20 MB beside `mariadb < dump` of the same rows, and what it holds up."""
    with place(senders=2) as it:
        daemon = it.daemon(intake__max_body=64 * 1024 * 1024)
        body = message.job(it.senders[0], recipients=recipients, filler=75)
        it.post(daemon.port, message.job(it.senders[1], recipients=20_000))
        time.sleep(2)
        idle, before = Usage.of(daemon.pid).rss_mb, _settled(it)
        time.sleep(3)
        usual = (_settled(it) - before) / 3
        stop, waits = threading.Event(), list[float]()
        asking = threading.Thread(target=_ask, args=(daemon.port, stop, waits))
        asking.start()
        before, started = _settled(it), time.monotonic()
        it.post(daemon.port, body)
        took = time.monotonic() - started
        meanwhile = (_settled(it) - before) / took
        stop.set()
        asking.join()
        peak = Usage.of(daemon.pid).peak_mb
        # The other job goes on; the dump must have the machine in the same state.
        dumped = _dump(it)
    waits.sort()
    p99 = waits[int(len(waits) * 0.99)] * 1000
    whole = {"seconds": took, "dump_seconds": dumped, "body_mb": len(body) / _MB}
    asked = {"asked": len(waits), "median_ms": statistics.median(waits) * 1000}
    rates = {"usual_per_s": usual, "meanwhile_per_s": meanwhile}
    megabytes = {"peak_mb": peak, "idle_mb": idle}
    return (
        Result("intake of 100,000", took / dumped, 3, "at most", "of the dump", whole),
        Result("intake: memory", (peak - idle) * 2**20 / len(body), 8, "at most", "x the body", megabytes),
        Result("intake: others' p99", p99, 50, "at most", "ms", asked),
        Result("intake: sending meanwhile", meanwhile / max(usual, 1), 0.25, "at least", "of before", rates),
    )


def claim(*, finished: int = 1_000_000, waiting: int = 500_000, senders: int = 500, times: int = 200) -> Result:
    """A claim of 20 messages among 1.5 M rows beside the same on a table that holds little."""
    with place(senders=1) as it:
        fill(it, jobs=senders, waiting=senders * 10, finished=0, senders=senders)
        empty = _claims(it, times=times)
        it.query("DELETE FROM job_recipients")
        it.query("DELETE FROM jobs")
        fill(it, jobs=2 * senders, waiting=waiting, finished=finished, senders=senders)
        full = _claims(it, times=times)
    return Result(
        "claim among 1.5 M rows", full / empty, 2, "at most", "of a small table", {"full_ms": full, "small_ms": empty}
    )


def figures(*, jobs: int = 10_000, senders: int = 200) -> Sequence[Result]:
    """What is read for metrics and the page of doubts, of jobs of a hundred messages beside as many jobs of one."""
    with place(senders=1) as it:
        fill(it, jobs=jobs, waiting=jobs, finished=0, senders=senders)
        few = _looks(it)
        it.query("DELETE FROM job_recipients")
        it.query("DELETE FROM jobs")
        fill(it, jobs=jobs, waiting=100 * jobs, finished=0, senders=senders)
        many = _looks(it)
    return [
        Result(f"{name}, 1 M open messages: CPU of the database", many[name][0] / few[name][0], 1.3, "at most",
               "of that with 10,000", {"ms": many[name][0], "rows_read": many[name][1]})
        for name in few
    ]  # fmt: skip


def _looks(it: Place) -> dict[str, tuple[float, float]]:
    """The server's CPU in ms, and the rows it reads, for each thing that is looked at; the first look is left out."""
    code = _LOOKS.format(url=it.database.url)
    with subprocess.Popen([sys.executable, "-c", code], stdin=-1, stdout=-1, text=True, bufsize=1) as child:
        assert child.stdin
        assert child.stdout
        found = {}
        for line in child.stdout:
            name, times = line.split()
            before = Usage.of(it.database.pid).cpu_s, _handler_reads(it)
            child.stdin.write("go\n")
            child.stdout.readline()
            now = Usage.of(it.database.pid).cpu_s, _handler_reads(it)
            found[name] = 1000 * (now[0] - before[0]) / int(times), (now[1] - before[1]) / int(times)
            child.stdin.write("on\n")
    return found


def _handler_reads(it: Place) -> int:
    return sum(int(number) for _, number in it.query("SHOW GLOBAL STATUS LIKE 'Handler_read%'"))


def idle(*, seconds: float = 20.0) -> Sequence[Result]:
    """A daemon with nothing to do, at the default poll."""
    with place(senders=1) as it:
        daemon = it.daemon(runner__poll_interval=2.0)
        time.sleep(5)
        asked, before, cpu = questions(it), Usage.of(daemon.pid), daemon.cpu_s
        time.sleep(seconds)
        after, cpu, memory = Usage.of(daemon.pid), daemon.cpu_s - cpu, daemon.memory_mb
        queries = (questions(it) - asked - 1) / seconds
        wakes = (after.switches - before.switches) / seconds
    return (
        Result("idle: statements", queries, 2, "at most", "a second", {"wake_ups_per_s": wakes}),
        Result("idle: CPU", 100 * cpu / seconds, 0.2, "at most", "% of a core"),
        Result("idle: memory of all processes", memory, 110, "at most", "MB", {"daemon_rss_mb": after.rss_mb}),
    )


def _settled(it: Place) -> int:
    return int(it.query("SELECT COUNT(*) FROM attempts WHERE event = 'sent'")[0][0])


def _ask(port: int, stop: threading.Event, waits: list[float]) -> None:
    while not stop.is_set():
        started = time.monotonic()
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        connection.request("GET", "/health/ready")
        connection.getresponse().read()
        connection.close()
        waits.append(time.monotonic() - started)
        time.sleep(0.005)


def _dump(it: Place) -> float:
    """How long the client takes to read the same rows from a file of multi-row INSERTs, in one transaction."""
    it.query("CREATE TABLE dumped LIKE job_recipients")
    dump = Path(it.folder) / "dump.sql"
    job = it.query("SELECT id FROM jobs ORDER BY total DESC LIMIT 1")[0][0]
    columns = "job_id, seq, to_email, to_name, variables, status, error, due_at, updated_at"
    with it.connection() as connection, connection.cursor() as cursor, dump.open("w") as out:
        cursor.execute(f"SELECT {columns} FROM job_recipients WHERE job_id = %s", (job,))
        rows = cursor.fetchall()
        out.write("BEGIN;\n")
        for some in batched(rows, 500):
            values = ",\n".join(cursor.mogrify("(" + ", ".join(["%s"] * 9) + ")", row) for row in some)
            out.write(f"{_DUMPED}{values};\n")
        out.write("COMMIT;\n")
    command = [
        "mariadb",
        "--no-defaults",
        "--skip-ssl",
        "-h",
        "127.0.0.1",
        "-P",
        str(it.database.port),
        "-u",
        "admin",
        "mailerd",
    ]
    environment = {**os.environ, "MYSQL_PWD": it.database.password}
    started = time.monotonic()
    with dump.open() as read:
        subprocess.run(command, stdin=read, check=True, env=environment)
    return time.monotonic() - started


def fill(it: Place, *, jobs: int, waiting: int, finished: int, senders: int) -> None:
    """Rows made by the server itself, of its sequence engine: MariaDB only."""
    now = "UTC_TIMESTAMP(6)"
    mails = f"CONCAT('c', MOD(seq, {senders}), '@example.com')"
    statements = [
        f"INSERT IGNORE INTO senders (email, next_claim_at, created_at) "
        f"SELECT {mails}, {now}, {now} FROM seq_0_to_{senders - 1}",
        f"INSERT INTO jobs (id, type, sender_email, subject, text, variables, status, total, next_claim_at, send_at, "
        f"created_at) SELECT LPAD(seq, 26, '0'), 'template', {mails}, 's', 't', '{{}}', 'sending', {waiting // jobs}, "
        f"{now}, {now}, {now} FROM seq_0_to_{jobs - 1}",
    ]
    for state, number, first in (("sent", finished, 10_000_000), ("waiting", waiting, 0)):
        if number:
            statements.append(
                "INSERT INTO job_recipients (job_id, seq, to_email, variables, status, due_at, updated_at) "
                f"SELECT LPAD(MOD(seq, {jobs}), 26, '0'), seq + {first}, CONCAT('r', seq, '@example.org'), '{{}}', "
                f"'{state}', {now}, {now} FROM seq_0_to_{number - 1}"
            )
    for statement in statements:
        it.query(statement)


def _claims(it: Place, *, times: int) -> float:
    """The median of so many claims of 20 messages, in ms; of the daemon's own code, in a process of its own."""
    code = _CLAIMS.format(url=it.database.url, times=times)
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return float(said.stdout)


_LOOKS = """
import sys
import uvloop
from mailerd.config import DatabaseSettings, Live
from mailerd.core.rate_limit import SenderLimits
from mailerd.events.process import StoreEvents
from mailerd.store.read.console_queries import ConsoleQueries
from mailerd.store.db.database import Database
from mailerd.store.queue.rate_limits import DefaultLimits
from mailerd.store.read.stats import StatsReader

async def main():
    database = Database(DatabaseSettings(url="{url}"), events=StoreEvents(lambda event, fields: None))
    stats = StatsReader(database, Live(DefaultLimits(SenderLimits(0, 0, 0))))
    looks = dict(
        stats=stats.read,
        doubts=lambda: ConsoleQueries(database).doubts(limit=100, senders=None),
    )
    for name, look in looks.items():
        await look()
        print(name, 20, flush=True)
        sys.stdin.readline()
        for _ in range(20):
            await look()
        print("done", flush=True)
        sys.stdin.readline()
    await database.close()

uvloop.run(main())
"""

_CLAIMS = """
import statistics, time
from datetime import timedelta
import uvloop
from mailerd.config import DatabaseSettings, Live
from mailerd.core.rate_limit import SenderLimits
from mailerd.events.process import StoreEvents
from mailerd.store.queue.claim import Claims
from mailerd.store.queue.rate_limits import DefaultLimits
from mailerd.store.db.database import Database
from tests.support.replayed import replayed

async def main():
    database = Database(DatabaseSettings(url="{url}"), events=StoreEvents(lambda event, fields: None))
    limits = Live(DefaultLimits(SenderLimits(0, 0, 0)))
    claims = Claims(database, "0" * 26, timedelta(seconds=60), limits, replayed(database))
    took = []
    for _ in range({times}):
        started = time.monotonic()
        claim = await claims.claim(20)
        took.append((time.monotonic() - started) * 1000)
        assert len(claim.messages) == 20, claim
    await database.close()
    print(statistics.median(took))

uvloop.run(main())
"""
