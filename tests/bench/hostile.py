"""Hostile templates of one key against a daemon that sends another key's messages: what they cost the neighbours."""

import http.client
import json
import re
import statistics
import threading
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

from tests.bench import message
from tests.bench.place import Daemon, Place, Usage, place
from tests.bench.result import Result
from tests.mail.test_bounds import BOMBS, ESCAPES

_POST: Final = "/api/jobs/send_template_emails"
_NESTED: Final = "<style>div{color:red}</style>" + "<div>" * 10_100 + "x" + "</div>" * 10_100
_SLOW: Final = "{% for a in range(90000) %}{% if a is divisibleby 7 %}x{% endif %}{{ a }}{% endfor %}"
_GREEDY: Final = "{% set m = {'a': x} %}" + "{% set m = [m, m] %}" * 60 + "{{ m.b }}"
_TEMPLATES: Final = (*ESCAPES, *BOMBS, _NESTED, _SLOW, _GREEDY)
_MESSAGES: Final = 20_000
_FAILED: Final = """
SELECT COUNT(*) FROM job_recipients r JOIN jobs j ON j.id = r.job_id
 WHERE j.sender_email IN %s AND r.status = 'failed'"""
_CLIENTS: Final = 4
"""Connections over which the hostile key posts, one template after another."""


def hostile(*, seconds: float = 90.0) -> Sequence[Result]:
    """The neighbour's live checks, its messages, and the memory, while every hostile template goes round."""
    with place(senders=4) as it:
        key = it.command("keys", "create", "hostile").strip().splitlines()[-1]
        daemon = it.daemon()
        idle = daemon.memory_mb
        per_sender = _MESSAGES // 2
        for sender in it.senders[:2]:
            it.post(daemon.port, message.job(sender, recipients=per_sender))
        stop, waits, statuses, peak = threading.Event(), list[float](), Counter[Any](), [0.0]
        working = [threading.Thread(target=_look, args=(daemon, stop, waits, peak))]
        working += [
            threading.Thread(target=_attack, args=(it, daemon, key, n, stop, statuses)) for n in range(_CLIENTS)
        ]
        for each in working:
            each.start()
        time.sleep(seconds)
        stop.set()
        for each in working:
            each.join()
        it.wait_for_messages(_MESSAGES)
        failed = it.query(_FAILED, tuple(it.senders[:2]))[0][0]
        ends = _ended(daemon)
        alive = daemon.process.poll() is None
        it.audit()
    waits.sort()
    told = {
        "posts": sum(statuses.values()), "stored": statuses[200], "refused": statuses[422], "too_many": statuses[429],
        "no_answer": statuses[0], "children_ended": ends, "templates": len(_TEMPLATES),
    }  # fmt: skip
    return (
        Result("hostile templates: p99 of /health/live", waits[int(len(waits) * 0.99)] * 1000, 100, "at most", "ms",
               {"asked": len(waits), "median_ms": statistics.median(waits) * 1000, "worst_ms": waits[-1] * 1000}),
        Result("hostile templates: neighbours' messages failed", failed, 0, "at most", "messages", told),
        Result("hostile templates: memory of all processes above idle", peak[0] - idle, 900, "at most", "MB",
               {"daemon_peak_mb": peak[1] if len(peak) > 1 else 0, "idle_mb": idle, "alive": alive}),
    )  # fmt: skip


def _attack(it: Place, daemon: Daemon, key: str, number: int, stop: threading.Event, statuses: Counter[Any]) -> None:
    at = number * len(_TEMPLATES) // _CLIENTS
    while not stop.is_set():
        source, at = _TEMPLATES[at % len(_TEMPLATES)], at + 1
        body = {
            "sender_email": it.senders[2 + number % 2],
            "template": {"subject": "x", "html": source, "inline_css": True},
            "recipients": [{"email": f"r{n}@example.com", "variables": {"x": {"a": n}}} for n in range(5)],
            "dry_run": at % 2 == 0,
        }
        connection = http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=60)
        try:
            connection.request("POST", _POST, json.dumps(body), {"X-API-Key": key, "Content-Type": "application/json"})
            statuses[connection.getresponse().status] += 1
        except (OSError, http.client.HTTPException):
            statuses[0] += 1
        finally:
            connection.close()


def _look(daemon: Daemon, stop: threading.Event, waits: list[float], peak: list[float]) -> None:
    """Ask the live check each 10 ms, and the memory now and then."""
    peak.append(0.0)
    while not stop.is_set():
        started = time.monotonic()
        connection = http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=60)
        connection.request("GET", "/health/live")
        connection.getresponse().read()
        connection.close()
        waits.append(time.monotonic() - started)
        if len(waits) % 20 == 0:
            try:
                peak[0] = max(peak[0], daemon.memory_mb)
            except (OSError, ValueError):  # a child ended at this moment
                continue
            peak[1] = max(peak[1], Usage.of(daemon.pid).rss_mb)
        time.sleep(0.01)


def _ended(daemon: Daemon) -> int:
    return len(re.findall(r"renderer.*ended", daemon.log.read_text()))
