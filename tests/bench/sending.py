"""Measures of sending: messages per second beside a bare client, the first message, several daemons, pace, memory."""

import http.client
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Final

from mailerd.core.rate_limit import DRAFT_PAIR_UNITS
from tests.bench import message
from tests.bench.place import Daemon, Place, Usage, place
from tests.bench.result import Result

_REQUEST_S = 30.0
PROJECT_UNITS_PER_MINUTE = 1_200_000
UNITS_PER_MINUTE = 6000
"""What Google lets a mailbox of a new project use: https://developers.google.com/workspace/gmail/api/reference/quota"""


BUSY: Final = "while True: pass"
"""What a busy neighbour does, on each core."""
COMMIT_S: Final = 0.02
"""Seconds that are added to each commit where the disk is slow."""


def of_bare(*, messages: int, direct: bool = False, busy: bool = False, slow_commits: bool = False) -> Result:
    """Messages per second, HTTP intake to durable outcome, of a bare client's: 50 ms latency, concurrency 20.

    `busy`: both beside a loop that computes on each core. `slow_commits`: 20 ms are added to each commit.
    """
    with ExitStack() as stack, place(senders=20, latency_ms=50.0, direct=direct) as it:
        if slow_commits:
            it.environment["DATABASE_URL"] = _slowly(stack, it)
        daemon = it.daemon(runner__concurrency=20)
        sent(it, [daemon], messages=400)
        if busy:
            for _ in range(os.cpu_count() or 1):
                stack.callback(subprocess.Popen([sys.executable, "-c", BUSY]).kill)
        bare = _bare(it, direct=direct, messages=messages, concurrency=20)
        rate, cpu, _ = sent(it, [daemon], messages=messages)
        it.audit()
    beside = f"{', a busy loop beside it a core' if busy else ''}{', 20 ms more a commit' if slow_commits else ''}"
    return Result(
        f"50 ms, concurrency 20, {'direct' if direct else 'draft'}{beside}", rate / bare,
        0.85 if beside else 0.93 if direct else 0.95, "at least", "of a bare client",
        {"messages_per_s": rate, "bare_per_s": bare, "daemon_cpu_us_per_message": cpu * 1e6},
    )  # fmt: skip


def _slowly(stack: ExitStack, it: Place) -> str:
    """The URL of the database over a way on which each commit takes longer."""
    command = [sys.executable, "-m", "tests.bench.slow_commits", str(it.database.port), str(COMMIT_S)]
    proxy = subprocess.Popen(command, stdout=subprocess.PIPE)
    stack.callback(proxy.kill)
    assert proxy.stdout is not None
    return it.database.url.replace(f":{it.database.port}/", f":{int(proxy.stdout.readline())}/")


def cpu(*, messages: int) -> Result:
    """The daemon's CPU a message at no latency, in multiples of the stand-in's, which no change of mailerd touches."""
    with place(senders=200) as it:
        daemon = it.daemon(runner__concurrency=100)
        sent(it, [daemon], messages=1000)
        beside = {"database": it.database.pid, "google": it.google_pid}
        before = {part: Usage.of(pid).cpu_s for part, pid in beside.items()}
        rate, used, _ = sent(it, [daemon], messages=messages)
        others = {part: (Usage.of(pid).cpu_s - before[part]) / messages for part, pid in beside.items()}
        it.audit()
    detail = {"messages_per_s": rate, "daemon_cpu_us_per_message": used * 1e6}
    detail |= {f"{part}_cpu_us_per_message": seconds * 1e6 for part, seconds in others.items()}
    return Result(
        "CPU a message, renderer included", used / others["google"], 2.4, "at most", "of the stand-in", detail
    )


def statements(*, messages: int) -> Result:
    """The statements that a message costs, BEGIN and COMMIT among them: one sender, 50 ms latency, concurrency 20."""
    with place(senders=1, latency_ms=50.0) as it:
        daemon = it.daemon(runner__concurrency=20)
        sent(it, [daemon], messages=200)
        before, redo, sent_before = questions(it), _status(it, "Innodb_os_log_written"), _google_sent(it)
        it.post(daemon.port, message.job(it.senders[0], recipients=messages))
        while _google_sent(it) < sent_before + messages:  # the database is not asked meanwhile
            time.sleep(0.2)
        time.sleep(1.0)
        asked, redo = questions(it) - before, _status(it, "Innodb_os_log_written") - redo
        it.audit()
    detail = {"redo_bytes_per_message": redo / messages}
    return Result("statements a message, one sender", asked / messages, 1.2, "at most", "", detail)


def questions(it: Place) -> int:
    """Statements that the server was asked, BEGIN and COMMIT among them."""
    return _status(it, "Questions")


def _status(it: Place, name: str) -> int:
    return int(it.query("SHOW GLOBAL STATUS LIKE %s", name)[0][1])


def latency(*, messages: int, latency_ms: float = 100.0, concurrency: int = 100) -> Result:
    """Messages per second at a real latency, beside what concurrency and latency allow: two calls a message."""
    with place(senders=200, latency_ms=latency_ms) as it:
        daemon = it.daemon(runner__concurrency=concurrency)
        rate, cpu, steady = sent(it, [daemon], messages=messages)
        it.audit()
    most = concurrency / (2 * latency_ms / 1000)
    detail = {
        "messages_per_s": rate,
        "steady_per_s": steady,
        "limit_per_s": most,
        "daemon_cpu_us_per_message": cpu * 1e6,
    }
    return Result(
        f"{latency_ms:g} ms latency, concurrency {concurrency}", rate / most, 0.93, "at least", "of the limit", detail
    )


def daemons(number: int, *, messages: int) -> Result:
    """Several daemons on one database, beside one, in turn against the same server."""
    with place(senders=200) as it:
        before = _deadlocks(it)
        one = it.daemon(runner__concurrency=100)
        alone, _, _ = sent(it, [one], messages=messages)
        others = [it.daemon(runner__concurrency=100) for _ in range(number - 1)]
        together, _, _ = sent(it, [one, *others], messages=messages)
        deadlocks = _deadlocks(it) - before
        it.audit()
    detail = {"together_per_s": together, "alone_per_s": alone, "deadlocks": deadlocks}
    return Result(f"{number} daemons", together / alone, 0.95, "at least", "of one daemon", detail)


def first_message(*, times: int = 100) -> Sequence[Result]:
    """From the POST's last byte to Google's first request, the daemon idle and its token fresh."""
    with place(senders=1) as it:
        daemon = it.daemon()
        it.post(daemon.port, message.job(it.senders[0], recipients=1))
        it.wait_for_jobs(1)
        took: list[float] = []
        cursor = "0"
        connection = http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=_REQUEST_S)
        for number in range(times):
            time.sleep(0.15)
            body = message.job(it.senders[0], recipients=1, first=number)
            connection.request(
                "POST",
                "/api/jobs/send_template_emails",
                body,
                {"X-API-Key": it.key, "Content-Type": "application/json"},
            )
            posted = time.time()
            job = json.loads(connection.getresponse().read())["job_id"]
            it.wait_for_jobs(number + 2)
            said = it.google(f"log?method=drafts.create&cursor={cursor}")
            cursor = said["next_cursor"]
            took.extend((e["at"] - posted) * 1000 for e in said["log"] if e["key"] == f"{job}-0")
        connection.close()
    took.sort()
    detail = {"times": times, "best_ms": took[0]}
    return (
        Result("first message, median", statistics.median(took), 20, "at most", "ms", detail),
        Result("first message, p99", took[int(len(took) * 0.99) - 1], 50, "at most", "ms", detail),
    )


def pace(*, senders: int = 200, daemons: int = 1, seconds: float = 180.0) -> Sequence[Result]:
    """Senders at Google's pace with the quota enforced: how much of the allowance is used, and what was turned away."""
    limits = ("--units-per-minute", str(UNITS_PER_MINUTE), "--project-units-per-minute", str(PROJECT_UNITS_PER_MINUTE))
    with place(senders=senders, google=limits) as it:
        running = [it.daemon(pace__units_per_minute=UNITS_PER_MINUTE, runner__concurrency=100) for _ in range(daemons)]
        per_sender = int(UNITS_PER_MINUTE / DRAFT_PAIR_UNITS * (seconds / 60 + 1)) + 60
        for number, sender in enumerate(it.senders):
            it.post(running[number % daemons].port, message.job(sender, recipients=per_sender))
        time.sleep(5)  # the first burst is over; what is measured is the pace
        asked, before, cpu, started = (
            questions(it),
            _google_sent(it),
            sum(one.cpu_s for one in running),
            time.monotonic(),
        )
        time.sleep(seconds)
        elapsed = time.monotonic() - started
        sent, asked = _google_sent(it) - before, questions(it) - asked
        share = (sum(one.cpu_s for one in running) - cpu) / elapsed
        throttled = it.google("usage")["throttled"]
        it.audit()
    allowed = senders * UNITS_PER_MINUTE / DRAFT_PAIR_UNITS * elapsed / 60
    name = f"pace of {senders} senders, {daemons} daemon{'s' if daemons > 1 else ''}"
    detail = {"messages": sent, "allowed": allowed, "seconds": elapsed}
    return (
        Result(f"{name}: allowance used", sent / allowed, 0.975, "at least", "of the allowance", detail),
        Result(f"{name}: throttled", throttled, 0, "at most", "requests", detail),
        Result(f"{name}: one core", share, 0.25, "at most", "of a core", detail),
        Result(f"{name}: statements a message", asked / sent, 2, "at most", "", detail),
    )


def memory(*, messages: int) -> Result:
    """The most memory while many messages are sent, looked at ten times, beside that after the first 10,000."""
    with place(senders=200) as it:
        daemon = it.daemon(runner__concurrency=100)
        sent(it, [daemon], messages=10_000)
        first = Usage.of(daemon.pid).rss_mb
        later = []
        for _ in range(10):
            sent(it, [daemon], messages=(messages - 10_000) // 10)
            later.append(Usage.of(daemon.pid).rss_mb)
            sys.stderr.write(f"memory: {later[-1]:.1f} MB, {first:.1f} MB after the first 10,000\n")
        it.audit()
    detail = {"messages": messages, "first_mb": first, "most_mb": max(later), "last_mb": later[-1]}
    return Result("memory over many messages", max(later) / first, 1.1, "at most", "of that after 10,000", detail)


def _bare(it: Place, *, direct: bool, messages: int, concurrency: int) -> float:
    mode = "direct" if direct else "draft"
    command = [sys.executable, "-m", "tests.bench.bare", it.google_url, mode, str(messages), str(concurrency)]
    said = subprocess.run([*command, str(it.folder / "credentials")], check=True, capture_output=True, text=True)
    return float(said.stdout)


def sent(
    it: Place, daemons: Sequence[Daemon], *, messages: int, mailing_list: str | None = None
) -> tuple[float, float, float]:
    """Post the jobs and wait for the last outcome.

    The messages per second from the first byte, CPU seconds a message, and the messages per second of the middle half.
    """
    each = max(1, messages // len(it.senders))
    bodies = [message.job(sender, recipients=each, mailing_list=mailing_list) for sender in it.senders]
    known = it.query("SELECT COALESCE(SUM(status = 'completed'), 0), COALESCE(SUM(total), 0) FROM jobs")[0]
    cpu = sum(one.cpu_s for one in daemons)
    started = time.monotonic()
    posting = threading.Thread(
        target=lambda: [it.post(daemons[n % len(daemons)].port, b) for n, b in enumerate(bodies)]
    )
    posting.start()
    ended = it.wait_for_jobs(int(known[0]) + len(bodies), within_s=max(600.0, each * len(bodies) / 100))
    posting.join()
    total = each * len(bodies)
    cpu = sum(one.cpu_s for one in daemons) - cpu
    steady = it.query(
        "SELECT COUNT(*), TIMESTAMPDIFF(MICROSECOND, MIN(sent_at), MAX(sent_at)) / 1e6 FROM (SELECT sent_at, "
        "NTILE(4) OVER (ORDER BY sent_at) AS quarter FROM job_recipients WHERE id > %s) t WHERE quarter IN (2, 3)",
        known[1],
    )[0]
    return total / (ended - started), cpu / total, steady[0] / float(steady[1] or 1)


def _deadlocks(it: Place) -> int:
    return int(it.query("SHOW GLOBAL STATUS LIKE 'Innodb_deadlocks'")[0][1])


def _google_sent(it: Place) -> int:
    return int(it.google("usage")["sent"])
