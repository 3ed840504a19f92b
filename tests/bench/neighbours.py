"""Measures of what one sender's trouble costs the others: their messages a second beside it, and without it."""

import base64
import http.client
import json
import os
import time
from collections.abc import Callable, Sequence
from urllib.parse import urlsplit

from tests.bench import message
from tests.bench.place import Daemon, Place, place
from tests.bench.result import Result

_OTHERS = 4
_MESSAGES = 20_000
"""More than all of them send in the whole measure."""
_LATENCY_MS = 50.0
_ATTACHED = 5_000_000
"""Bytes of the attachment."""


def hanging(*, daemons: int = 1, seconds: float = 40.0) -> Result:
    """Beside a mailbox whose every call to Google hangs; it begins alone, when all slots are its own."""
    return _beside("a mailbox whose calls hang", _hang("drafts.create"), daemons=daemons, seconds=seconds)


def attached(*, daemons: int = 1, seconds: float = 40.0) -> Result:
    """Beside a sender whose messages carry 5 MB each."""
    return _beside("a sender with large messages", _large, daemons=daemons, seconds=seconds)


def no_token(*, daemons: int = 1, seconds: float = 40.0) -> Result:
    """Beside a mailbox whose token never comes."""
    return _beside("a mailbox without a token", _hang("token"), daemons=daemons, seconds=seconds)


def _beside(
    what: str, trouble: Callable[[Place, Sequence[Daemon], str], None], *, daemons: int, seconds: float
) -> Result:
    with place(senders=_OTHERS + 1, latency_ms=_LATENCY_MS) as it:
        running = [it.daemon() for _ in range(daemons)]
        neighbour, *others = it.senders
        for number, sender in enumerate(others):
            it.post(running[number % daemons].port, message.job(sender, recipients=_MESSAGES))
        time.sleep(3)
        alone = _rate(it, others, seconds=seconds / 2)
        trouble(it, running, neighbour)
        beside = _rate(it, others, seconds=seconds)
        slowest = min(_rate(it, others, seconds=5.0) for _ in range(4))
    detail = {"alone_per_s": alone, "beside_per_s": beside, "slowest_5_s_per_s": slowest}
    name = f"beside {what}, {daemons} daemon{'s' if daemons > 1 else ''}"
    return Result(name, beside / alone, 0.6, "at least", "of the rate without it", detail)


def _rate(it: Place, senders: Sequence[str], *, seconds: float) -> float:
    """Messages a second that these senders have sent."""
    marks = ", ".join(["%s"] * len(senders))
    count = (
        "SELECT COUNT(*) FROM job_recipients r JOIN jobs j ON j.id = r.job_id "
        f"WHERE r.status = 'sent' AND j.sender_email IN ({marks})"
    )
    before, began = it.query(count, *senders)[0][0], time.monotonic()
    time.sleep(seconds)
    return float((it.query(count, *senders)[0][0] - before) / (time.monotonic() - began))


def _hang(method: str) -> Callable[[Place, Sequence[Daemon], str], None]:
    def trouble(it: Place, running: Sequence[Daemon], sender: str) -> None:
        _fault(it, kind="hang_before", method=method, sender=sender, count=-1, seconds=600)
        for daemon in running:
            it.post(daemon.port, message.job(sender, recipients=1000))

    return trouble


def _large(it: Place, running: Sequence[Daemon], sender: str) -> None:
    body = json.loads(message.job(sender, recipients=300))
    content = base64.b64encode(os.urandom(_ATTACHED)).decode()
    body["attachments"] = [{"filename": "a.bin", "content_type": "application/octet-stream", "content": content}]
    for daemon in running:
        it.post(daemon.port, json.dumps(body).encode())


def _fault(it: Place, **fault: object) -> None:
    parts = urlsplit(it.google_url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)
    connection.request("POST", "/sandbox/faults", json.dumps(fault), {"Content-Type": "application/json"})
    assert connection.getresponse().status < 300
    connection.close()
