"""What a page of the console costs over a large database, and what ten viewers cost."""

import http.client
import re
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final
from urllib.parse import urlencode

from mailerd.web.frame.live import TICK_INTERVAL, TICK_PER_VIEWER
from tests.bench.place import Daemon, Place, Usage, place
from tests.bench.result import Result
from tests.bench.sending import sent

JOBS: Final = 10_000
MESSAGES: Final = 1_000_000
BIG: Final = 300_000
"""Messages of two jobs: one is completed, and of its messages FAILED failed, for as many reasons as there are
addresses; those of the other one wait."""
FAILED: Final = 40_000
NOTICES: Final = 50_000
SENDERS: Final = 50
_TIMES: Final = 20
_P95: Final = 18
"""Of so many, in order: the 19th."""
_GOAL_MS: Final = 150.0
_WATCHED_S: Final = 30.0
_REFRESH_S: Final = TICK_INTERVAL + 10 * TICK_PER_VIEWER
"""A page that is watched by ten fetches itself anew that often at most."""
_TURNS: Final = 3
_SENT: Final = 8_000
"""Messages of one turn."""
BIG_JOB: Final = f"{JOBS:026}"
_OPEN_JOB: Final = f"{JOBS - 1:026}"
_QUEUED_JOB: Final = f"{JOBS + 1:026}"
_HOOK: Final = f"{7:026}"
_SENDER: Final = "c1@example.com"

type Ask = Callable[[str], float]


def console(*, messages: int = MESSAGES) -> Sequence[Result]:
    """Each page, asked one after the other, cold and warm; the goal is for each of them. And what viewers cost."""
    with filled(messages) as (it, daemon, cookie):
        shown = _timed(it, daemon, cookie)
        shown += _viewers(daemon, cookie, _pages(it))
    return [*shown, lost_by_viewers()]


def pages(*, messages: int = MESSAGES) -> Sequence[Result]:
    """Only what each page takes: the 95th percentile of twenty, which is what the goal is for."""
    with filled(messages) as (it, daemon, cookie):
        return _timed(it, daemon, cookie)


@contextmanager
def filled(messages: int) -> Iterator[tuple[Place, Daemon, str]]:
    """A large installation whose database has just started, its daemon, and the cookie of a session."""
    with place(senders=1) as it:
        fill(it, messages=messages)
        it.database.kill()  # a server that ends in order keeps what it had in memory
        it.database.restart()
        daemon = it.daemon()
        yield it, daemon, _signed_in(it, daemon)


def _timed(it: Place, daemon: Daemon, cookie: str) -> list[Result]:
    asked = [*_pages(it), *draft(it, daemon, cookie)]
    first = {path: _ask(daemon.port, path, cookie) for path in asked}
    took = {path: sorted(_ask(daemon.port, path, cookie) for _ in range(_TIMES)) for path in asked}
    shown = [
        Result(
            f"console: {_short(path)}", times[_P95], _GOAL_MS, "at most", "ms p95",
            {"p50_ms": statistics.median(times), "worst_ms": times[-1], "first_ms": first[path]},
        )
        for path, times in took.items()
    ]  # fmt: skip
    slowest = max(first.values())
    return [*shown, Result("console: the slowest first view", slowest, _GOAL_MS, "at most", "ms")]


def fill(it: Place, *, messages: int) -> None:
    """Rows made by the server itself, of its sequence engine: MariaDB only. Nothing of it is due before tomorrow."""
    for statement in (*_messages(messages), *_what_came(), *_around()):
        it.query(statement)


_NOW: Final = "UTC_TIMESTAMP(6)"
_MAILBOX: Final = f"CONCAT('c', MOD(seq, {SENDERS}), '@example.com')"
_JOB: Final = f"LPAD(MOD(seq, {JOBS}), 26, '0')"


def _messages(messages: int) -> tuple[str, ...]:
    """Senders, jobs and messages."""
    each = messages // JOBS
    state = f"CASE WHEN MOD(seq, {JOBS}) > {JOBS - 100} THEN IF(seq < {JOBS}, 'unsure', 'waiting') ELSE 'sent' END"
    failed = f"seq < {FAILED}"
    name = "CONCAT(ELT(1 + MOD(seq, 5), 'Ada', 'Grace', '李', 'Alan', 'Edsger'), ' ', seq)"
    error = "CONCAT('550 no such user r', seq, '@example.org, ', ELT(1 + MOD(seq, 5), 'a', 'b', 'c', 'd', 'e'))"
    columns = "job_id, seq, to_email, to_name, variables, status, attempts, error, proof, due_at, updated_at"
    return (
        f"INSERT INTO senders (email, created_at) SELECT {_MAILBOX}, {_NOW} FROM seq_0_to_{SENDERS - 1}",
        "INSERT INTO jobs (id, type, sender_email, subject, text, variables, reference, status, total, bounced,"
        f" send_at, created_at, started_at, finished_at) SELECT {_JOB}, 'template', {_MAILBOX}, 'Hello', 'Hi', '{{}}',"
        f" CONCAT('ref ', seq), IF(seq > {JOBS - 100}, 'queued', 'completed'), {each}, 5, {_NOW} + INTERVAL 1 DAY,"
        f" {_NOW}, {_NOW}, IF(seq > {JOBS - 100}, NULL, {_NOW}) FROM seq_0_to_{JOBS - 1}",
        "INSERT INTO jobs (id, type, sender_email, subject, text, variables, status, total, bounced, send_at,"
        f" created_at, started_at, finished_at) VALUES ('{BIG_JOB}', 'template', '{_SENDER}', 'Hello', 'Hi', '{{}}',"
        f" 'completed', {BIG}, {NOTICES // 5 * 4}, {_NOW}, {_NOW}, {_NOW}, {_NOW})",
        f"INSERT INTO job_recipients ({columns}) SELECT {_JOB}, seq, CONCAT('r', seq, '@example.org'), {name}, '{{}}',"
        f" {state}, 1, NULL, 'answered', {_NOW} + INTERVAL 1 DAY, {_NOW} FROM seq_0_to_{messages - 2 * BIG - 1}",
        "INSERT INTO jobs (id, type, sender_email, subject, text, variables, status, total, send_at, created_at)"
        f" VALUES ('{_QUEUED_JOB}', 'template', '{_SENDER}', 'Hello', 'Hi', '{{}}', 'queued', {BIG},"
        f" {_NOW} + INTERVAL 1 DAY, {_NOW})",
        f"INSERT INTO job_recipients ({columns}) SELECT '{_QUEUED_JOB}', seq, CONCAT('q', seq, '@example.org'), {name},"
        f" '{{}}', 'waiting', 0, NULL, NULL, {_NOW} + INTERVAL 1 DAY, {_NOW} FROM seq_0_to_{BIG - 1}",
        f"INSERT INTO job_recipients ({columns}) SELECT '{BIG_JOB}', seq, CONCAT('r', seq, '@example.org'), {name},"
        f" '{{}}', IF({failed}, 'failed', 'sent'), 1, IF({failed}, {error}, NULL), IF({failed}, NULL, 'answered'),"
        f" {_NOW}, {_NOW} FROM seq_0_to_{BIG - 1}",
        f"UPDATE job_recipients SET result = IF(MOD(seq, 5) = 4, 'replied', 'bounced'),"
        f" result_kind = IF(MOD(seq, 5) = 4, NULL, 'soft'), result_reason = 'full', result_at = {_NOW}"
        f" WHERE job_id = '{BIG_JOB}' AND seq >= {BIG - NOTICES}",
    )


def _what_came() -> tuple[str, ...]:
    """Of the large job: the log of attempts, notices and events."""
    return (
        "INSERT INTO attempts (recipient_id, attempt, claim_token, daemon_id, event, at)"
        f" SELECT id, 1, LPAD(id, 26, '0'), '', status, {_NOW} - INTERVAL seq SECOND FROM job_recipients"
        f" WHERE job_id = '{BIG_JOB}'",
        "INSERT INTO notices (mailbox, gmail_id, thread_id, recipient_id, job_id, email, kind, detail, believed, at)"
        f" SELECT '{_SENDER}', id, id, id, job_id, CONCAT('r', seq, '@d', MOD(seq, 900), '.example'),"
        f" ELT(1 + MOD(seq, 5), 'hard', 'soft', 'blocked', 'unknown', 'reply'), 'full', 1, {_NOW}"
        f" FROM job_recipients WHERE job_id = '{BIG_JOB}' AND seq >= {BIG - NOTICES}",
        "INSERT INTO events (uid, type, cause, job_id, sender_email, data, at, position)"
        f" SELECT LPAD(id, 30, '0'), ELT(1 + MOD(seq, 4), 'recipient.failed', 'recipient.bounced', 'recipient.replied',"
        f" 'recipient.sent_undone'), id, job_id, '{_SENDER}', CONCAT('{{\"recipient_id\": ', id, ', \"job_id\": \"',"
        f' job_id, \'", "email": "a@b.example", "sender_email": "{_SENDER}"}}\'), {_NOW}, seq + 1'
        f" FROM job_recipients WHERE job_id = '{BIG_JOB}'",
        f"UPDATE event_positions SET last = {BIG}",
    )


def _around() -> tuple[str, ...]:
    """Endpoints and deliveries, actions, tallies, suppressions."""
    return (
        "INSERT INTO webhooks (id, name, url, secret, state, pause_cause, failures, position, created_at) SELECT"
        f" LPAD(seq, 26, '0'), CONCAT('hook ', seq), 'https://shop.example/', 'x', 'paused', 'manual', 9, {BIG}, {_NOW}"
        " FROM seq_1_to_20",
        "INSERT INTO webhook_deliveries (webhook_id, position, status, attempts, created_at, due_at, http, error)"
        f" SELECT '{_HOOK}', position, IF(MOD(position, 9), 'delivered', 'waiting'), 1, {_NOW}, {_NOW}, 500,"
        " 'it answered 500' FROM events",
        "INSERT INTO job_actions (job_id, action, actor, changed, messages, at)"
        f" SELECT {_JOB}, 'pause', 'key:shop via console', 1, 0, {_NOW} FROM seq_0_to_{JOBS - 1}",
        "INSERT INTO tallies (minute, sender_email, daemon, sent, failed) SELECT DATE_FORMAT("
        f"{_NOW} - INTERVAL seq DIV {SENDERS} MINUTE, '%Y-%m-%d %H:%i:00'), {_MAILBOX}, 'D', 50, 1"
        f" FROM seq_0_to_{25 * 60 * SENDERS - 1}",
        "INSERT INTO tally_hours (hour, sender_email, sent, failed) SELECT DATE_FORMAT("
        f"{_NOW} - INTERVAL 25 + seq DIV {SENDERS} HOUR, '%Y-%m-%d %H:00:00'), {_MAILBOX}, 50, 1"
        f" FROM seq_0_to_{60 * 24 * SENDERS - 1}",
        "INSERT IGNORE INTO secrets (name, value, created_at)"
        f" VALUES ('address', REPEAT('a', 32), {_NOW}), ('token:1', REPEAT('t', 32), {_NOW})",
        "INSERT INTO suppressions (digest, list_id, reason, source, address, created_at)"
        f" SELECT UNHEX(MD5(seq)), 0, 'manual', 'api', CONCAT('r', seq, '@example.org'), {_NOW} FROM seq_0_to_99999",
        "ANALYZE TABLE jobs, job_recipients, attempts, notices, events, webhook_deliveries, tallies, tally_hours",
    )


def _pages(it: Place) -> list[str]:
    failed, sent, unsure, waiting = (
        it.query("SELECT MAX(id) FROM job_recipients WHERE job_id = %s AND status = %s", job, status)[0][0]
        for job, status in (
            (BIG_JOB, "failed"),
            (BIG_JOB, "sent"),
            (_OPEN_JOB, "unsure"),
            (_QUEUED_JOB, "waiting"),
        )
    )
    return [
        "/", "/?span=24h", "/?span=14d", "/?span=90d", "/status", "/settings",
        "/jobs", "/jobs?tab=progress", "/jobs?tab=scheduled", "/jobs?tab=attention", "/jobs?status=completed",
        f"/jobs?sender={_SENDER}", "/jobs?q=ref+77", "/jobs?q=hello", f"/jobs?before={JOBS // 2:026}",
        "/jobs?from=2026-01-01&until=2099-01-01",
        f"/jobs/{BIG_JOB}", f"/jobs/{BIG_JOB}?tab=failed", f"/jobs/{BIG_JOB}?tab=no_reply&after=90000",
        f"/jobs/{BIG_JOB}?tab=bounced_soft", f"/jobs/{BIG_JOB}?tab=bounced_soft&after={BIG - 5000}",
        f"/jobs/{BIG_JOB}?tab=replied", f"/jobs/{BIG_JOB}?email=r70000@example.org", f"/jobs/{BIG_JOB}?email=edsger",
        f"/jobs/{_OPEN_JOB}", f"/jobs/{_QUEUED_JOB}",
        f"/messages/{failed}", f"/messages/{sent}", f"/messages/{unsure}", f"/messages/{waiting}",
        f"/messages/{sent}/html",
        "/people", "/people?q=r7000", "/people?q=r", "/people?q=edsger", "/people?email=r70000@example.org",
        "/search?q=r7000", "/search?q=hello", "/suppressions", "/suppressions?email=r70000@example.org",
        "/suppressions?reason=manual", "/lists",
        "/inbox", "/inbox?kind=soft", "/inbox?kind=replies", f"/inbox?sender={_SENDER}", f"/inbox?job={BIG_JOB}",
        f"/inbox?job={_OPEN_JOB}", "/inbox?kind=auto_reply", "/inbox?show=undone",
        "/senders", f"/senders/{_SENDER}", f"/senders/{_SENDER}?span=90d",
        "/templates", "/new-template", "/send",
        "/activity", "/activity?action=pause", "/activity?actor=nobody", f"/activity?about={_OPEN_JOB}",
        "/webhooks", f"/webhooks/{_HOOK}", f"/webhooks/{_HOOK}?tab=failed", f"/webhooks/{_HOOK}?tab=waiting", "/keys",
    ]  # fmt: skip


def _short(path: str) -> str:
    """A page's name for the table: ids say nothing."""
    path = re.sub("^/send/[^/]+", "/send/draft", path)
    return (
        path.replace(BIG_JOB, "large").replace(_OPEN_JOB, "open").replace(_QUEUED_JOB, "queued").replace(_HOOK, "hook")
    )


def _signed_in(it: Place, daemon: Daemon) -> str:
    """The cookie of a session."""
    connection = http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=30)
    headers = {"Content-Type": "application/x-www-form-urlencoded", "Sec-Fetch-Site": "same-origin"}
    connection.request("POST", "/login", urlencode({"key": it.key}), headers)
    answer = connection.getresponse()
    answer.read()
    cookie, _, _ = str(answer.headers["Set-Cookie"]).partition(";")
    connection.close()
    return cookie


def draft(it: Place, daemon: Daemon, cookie: str) -> list[str]:
    """The three pages of a new message to a thousand people."""
    table = "email,name,product\n" + "".join(f"d{n}@example.net,Ada {n},Tea\n" for n in range(1000))
    here = _post(daemon.port, "/send", cookie, pasted=table).rpartition("/")[0]
    text = "Hello {{ name }}, {{ product }}."
    _post(daemon.port, f"{here}/message", cookie, kind="write", subject="Hello", body=text, sender=it.senders[0])
    return [f"{here}/{step}" for step in ("people", "message", "review")]


def _post(port: int, path: str, cookie: str, **fields: str) -> str:
    """Send a form; where it leads."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    headers = {"Content-Type": "application/x-www-form-urlencoded", "Sec-Fetch-Site": "same-origin", "Cookie": cookie}
    connection.request("POST", path, urlencode(fields), headers)
    answer = connection.getresponse()
    said = answer.read()
    connection.close()
    if answer.status != 303:
        raise RuntimeError(f"{path}: {answer.status} {said[:300]!r}")
    return str(answer.headers["Location"])


def _ask(port: int, path: str, cookie: str, *, watches: bool = False) -> float:
    """Fetch a page; milliseconds. `watches`: as a page does that fetches itself anew."""
    started = time.monotonic()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", path, headers={"Cookie": cookie} | ({"HX-Request": "true"} if watches else {}))
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    if answer.status != 200:
        raise RuntimeError(f"{path}: {answer.status} {body[:300]!r}")
    return 1000 * (time.monotonic() - started)


def _viewers(daemon: Daemon, cookie: str, pages: Sequence[str]) -> Sequence[Result]:
    """CPU of the daemon that ten viewers use who each watch a page of their own, at the greatest pace there is."""
    quiet = _cpu(daemon, _WATCHED_S)
    with _watched(daemon, cookie, pages):
        busy = _cpu(daemon, _WATCHED_S)
    return [
        Result(
            "console: CPU of ten viewers",
            100 * (busy - quiet),
            None,
            "at most",
            "% of a core",
            {"without": 100 * quiet},
        )
    ]


@contextmanager
def _watched(daemon: Daemon, cookie: str, pages: Sequence[str]) -> Iterator[None]:
    """Ten viewers watch ten of these pages."""
    stop = threading.Event()

    def watch(path: str) -> None:
        while not stop.is_set():
            _ask(daemon.port, path, cookie, watches=True)
            stop.wait(_REFRESH_S)

    chosen = [path for path in pages if "?" not in path and not path.startswith(("/messages", "/send"))][:10]
    threads = [threading.Thread(target=watch, args=(path,)) for path in chosen]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def lost_by_viewers() -> Result:
    """Messages a second with ten viewers and without, in turn."""
    alone, beside = list[float](), list[float]()
    with place(senders=200) as it:
        daemon = it.daemon(runner__concurrency=100)
        cookie = _signed_in(it, daemon)
        sent(it, [daemon], messages=_SENT)
        ((job,),) = it.query("SELECT MIN(id) FROM jobs")
        pages = ["/", "/jobs", f"/jobs/{job}", "/senders", f"/senders/{it.senders[0]}", "/doubts", "/inbox",
                 "/webhooks", "/keys", "/templates"]  # fmt: skip
        for _ in range(_TURNS):
            alone.append(sent(it, [daemon], messages=_SENT)[0])
            with _watched(daemon, cookie, pages):
                beside.append(sent(it, [daemon], messages=_SENT)[0])
        it.audit()
    without, with_ = statistics.median(alone), statistics.median(beside)
    return Result(
        "console: messages/s that ten viewers cost", 100 * (1 - with_ / without), 1.0, "at most", "%",
        {"without": without, "with": with_, "least_without": min(alone), "most_without": max(alone)},
    )  # fmt: skip


def _cpu(daemon: Daemon, seconds: float) -> float:
    """The share of a core that the daemon uses."""
    before = Usage.of(daemon.pid).cpu_s
    time.sleep(seconds)
    return (Usage.of(daemon.pid).cpu_s - before) / seconds
