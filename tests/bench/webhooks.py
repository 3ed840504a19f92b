"""Measures what webhooks cost the messages: with a dead endpoint and 100,000 events that wait for it, and without."""

import socket
import statistics
from collections import defaultdict
from collections.abc import Sequence

from tests.bench.place import Place, Usage, place
from tests.bench.result import Result
from tests.bench.sending import sent

WAITING = 100_000
"""Events that the dead endpoint has not got."""
_Found = defaultdict[str, list[float]]
_ID = "01KB0000000000000000000000"
_DEEP = "SET SESSION max_recursive_iterations = 1000000"  # of MariaDB, which `place` starts
_EVENTS = """
INSERT INTO events (uid, type, cause, data, at, position)
WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < {many})
SELECT CONCAT('evt_', LPAD(n, 26, '0')), 'job.paused', CONCAT('bench ', n), '{{"reason":"bench"}}', UTC_TIMESTAMP(6), n
  FROM n"""
_DELIVERIES = """
INSERT INTO webhook_deliveries (webhook_id, position, status, attempts, created_at, due_at)
SELECT '{id}', position, 'waiting', 0, at, at FROM events WHERE position <= {many}"""
_ENDPOINT = """
INSERT INTO webhooks (id, name, url, secret, state, position, created_at)
VALUES ('{id}', 'dead', '{url}', REPEAT('x', 32), 'paused', {many}, UTC_TIMESTAMP(6))"""


def dead_endpoint(*, messages: int, rounds: int = 8) -> Sequence[Result]:
    """Messages with the endpoint on and paused in turn, so that what else the machine does falls on both alike.

    The CPU time of the daemon and of the database for each message is the measure: the messages a second of a machine
    that others use too differ by more than two hundredths from one round to the next.
    """
    with place(senders=50) as it, socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/"
        taken.close()  # nobody listens: the connection is refused
        fill(it, url)
        daemon = it.daemon(
            runner__concurrency=100, webhooks__allow_http="true", webhooks__ports="",
            webhooks__allow_networks="127.0.0.0/8",
        )  # fmt: skip
        it.query("UPDATE webhooks SET state = 'on'")
        sent(
            it, [daemon], messages=messages
        )  # nothing of the start in what is measured, and the endpoint fails already
        rates, daemons, databases = _Found(list), _Found(list), _Found(list)
        for number in range(2 * rounds):
            state = ("on", "paused")[number % 2]
            it.query("UPDATE webhooks SET state = %s", state)
            before = Usage.of(it.database.pid).cpu_s
            rate, cpu, _ = sent(it, [daemon], messages=messages)
            rates[state].append(rate)
            daemons[state].append(cpu)
            databases[state].append((Usage.of(it.database.pid).cpu_s - before) / messages)
        ((waiting, tried),) = it.query(
            "SELECT COUNT(*), SUM(attempts > 0) FROM webhook_deliveries WHERE status IN ('waiting', 'sending')"
        )
        it.audit()
    detail = {"events_waiting": float(waiting), "events_tried": float(tried)}
    return [
        _ratio("daemon CPU a message with a dead endpoint", daemons, detail),
        _ratio("database CPU a message with a dead endpoint", databases, detail),
        _ratio("seconds a message with a dead endpoint", {k: [1 / it for it in v] for k, v in rates.items()}, {}),
    ]


def fill(it: Place, url: str) -> None:
    """The endpoint, the events and what waits."""
    with it.connection() as connection, connection.cursor() as cursor:
        cursor.execute(_DEEP)
        for statement in (_EVENTS, _DELIVERIES, _ENDPOINT):
            cursor.execute(statement.format(id=_ID, many=WAITING, url=url))
        cursor.execute("UPDATE event_positions SET last = %s", (WAITING,))


def _ratio(name: str, found: dict[str, list[float]], detail: dict[str, float]) -> Result:
    on, off = statistics.median(found["on"]), statistics.median(found["paused"])
    return Result(name, on / off, 1.02, "at most", "of that without", {**detail, "with": on, "without": off})
