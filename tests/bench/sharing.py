"""One key that uses up each of its shares at the intake, beside the small posts of another key."""

import http.client
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Final

from tests.bench.place import Daemon, Place, Usage, place
from tests.bench.result import Result

_WITHIN_S: Final = 120.0
_POST: Final = "/api/jobs/send_template_emails"
_COSTLY: Final = "{% for i in range(300) %}{{ i }} {{ name }}{% endfor %}"
_STREAMS: Final = 100


def shares(*, seconds: float = 20.0) -> Sequence[Result]:
    """The p99 of a small post while another key does its worst, and the memory that this takes."""
    with place(senders=2) as it:
        other = it.command("keys", "create", "hog").strip().splitlines()[-1]
        return [_beside(it, other, name, hog, seconds) for name, hog in _HOGS.items()]


def _beside(it: Place, other: str, name: str, hog: "_Hog", seconds: float) -> Result:
    daemon = it.daemon()
    try:
        idle = Usage.of(daemon.pid).rss_mb
        with hog(daemon, other, it.senders[1]) as statuses:
            time.sleep(1.0)
            waits, refused = _small_posts(daemon, it.key, it.senders[0], seconds)
        peak = Usage.of(daemon.pid).peak_mb
    finally:
        daemon.process.terminate()
        daemon.process.wait(timeout=60)
    waits.sort()
    details = {
        "posts": float(len(waits)), "median_ms": waits[len(waits) // 2] * 1000, "worst_ms": waits[-1] * 1000,
        "refused": float(refused), "hogs_200": float(statuses[200]), "hogs_429": float(statuses[429]),
        "hogs_422": float(statuses[422]), "hogs_503": float(statuses[503]), "idle_mb": idle, "peak_mb": peak,
    }  # fmt: skip
    p99 = waits[min(len(waits) - 1, int(len(waits) * 0.99))] * 1000
    return Result(f"small posts beside {name}: p99", p99, 500, "at most", "ms", details)


def _small_posts(daemon: Daemon, key: str, sender: str, seconds: float) -> tuple[list[float], int]:
    waits, refused, end = list[float](), 0, time.monotonic() + seconds
    while time.monotonic() < end or not waits:
        started = time.monotonic()
        status = _ask(daemon, key, _job(sender, [{"email": "a@example.com", "name": "A"}]))
        waits.append(time.monotonic() - started)
        refused += status != 200
        time.sleep(0.02)
    return waits, refused


def _ask(daemon: Daemon, key: str, body: bytes) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=_WITHIN_S)
    try:
        connection.request("POST", _POST, body, {"X-API-Key": key, "Content-Type": "application/json"})
        answer = connection.getresponse()
        answer.read()
    except (OSError, http.client.HTTPException):
        return 0
    else:
        return answer.status
    finally:
        connection.close()


def _job(sender: str, recipients: list[dict[str, Any]], *, text: str = "Hello {{ name }}", **fields: Any) -> bytes:
    template = {"subject": "Hello", "text": text}
    # Far ahead, so that the measure is of the intake and not of the sending.
    later = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 86_400))
    job = {"sender_email": sender, "template": template, "send_at": later, "recipients": recipients, **fields}
    return json.dumps(job).encode()


def _people(number: int, **fields: Any) -> list[dict[str, Any]]:
    return [{"email": f"reader{n}@example.com", "name": f"Reader {n}", **fields} for n in range(number)]


_Hog = Callable[[Daemon, str, str], Any]


def _posting(threads: int, body: Callable[[str], bytes]) -> _Hog:
    """Whoever posts the same body again and again, by so many connections at once."""

    @contextmanager
    def hog(daemon: Daemon, key: str, sender: str) -> Iterator[Counter[Any]]:
        stop, statuses, sent = threading.Event(), Counter[Any](), body(sender)

        def work() -> None:
            while not stop.is_set():
                status = _ask(daemon, key, sent)
                statuses[status] += 1
                if status != 200:
                    stop.wait(0.2)

        working = [threading.Thread(target=work, daemon=True) for _ in range(threads)]
        for each in working:
            each.start()
        yield statuses
        stop.set()

    return hog


@contextmanager
def _streams(daemon: Daemon, key: str, sender: str) -> Iterator[Counter[Any]]:
    """Whoever opens as many event streams as it gets."""
    statuses = Counter[Any]()
    with ExitStack() as stack:
        connection = http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=_WITHIN_S)
        connection.request("POST", _POST, _job(sender, _people(1)), {"X-API-Key": key})
        path = f"/api/jobs/{json.loads(connection.getresponse().read())['job_id']}/events"
        for _ in range(_STREAMS):
            stream = http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=_WITHIN_S)
            stack.callback(stream.close)
            stream.request("GET", path, headers={"X-API-Key": key})
            statuses[stream.getresponse().status] += 1
        yield statuses


def _reading(threads: int, path: str, *, language: str = "en") -> _Hog:
    """Whoever reads the 100,000 recipients of one job again and again, by so many connections at once."""

    @contextmanager
    def hog(daemon: Daemon, key: str, sender: str) -> Iterator[Counter[Any]]:
        stop, statuses, headers = threading.Event(), Counter[Any](), {"X-API-Key": key, "Accept-Language": language}
        connection = http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=_WITHIN_S)
        connection.request("POST", _POST, _job(sender, _people(100_000)), headers)
        job_id = json.loads(connection.getresponse().read())["job_id"]

        def work() -> None:
            reading, cursor = http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=_WITHIN_S), 0
            while not stop.is_set():
                reading.request("GET", path.format(job=job_id, cursor=cursor), headers=headers)
                answer = reading.getresponse()
                while answer.read(65_536) and not stop.is_set():
                    pass
                statuses[answer.status] += 1
                cursor = (cursor + 1000) % 100_000

        working = [threading.Thread(target=work, daemon=True) for _ in range(threads)]
        for each in working:
            each.start()
        yield statuses
        stop.set()

    return hog


_PAGES: Final = "/api/jobs/{job}/recipients?limit=1000&cursor={cursor}"
_CSV: Final = "/api/jobs/{job}/results.csv"


def _faults(sender: str) -> bytes:
    """5 MB of nothing but faults, deep down."""
    deep = b"[" * 900 + b'"\\u0000",' * 500_000 + b'""' + b"]" * 900
    return _job(sender, _people(1), variables={"x": "X"}).replace(b'"X"', deep)


_HOGS: Final[dict[str, _Hog]] = {
    "nobody": _posting(0, lambda _: b""),
    "dry runs": _posting(5, lambda sender: _job(sender, _people(5_000), text=_COSTLY, dry_run=True)),
    "checks": _posting(50, lambda sender: _job(sender, _people(1_000), text=_COSTLY)),
    "large bodies": _posting(5, lambda sender: _job(sender, _people(50_000, variables={"a": "x" * 200}))),
    "faults": _posting(5, _faults),
    "small objects": _posting(
        3,
        lambda sender: _job(sender, _people(1), variables={"x": "X"}).replace(
            b'"X"', b"[{}" + b",{}" * 5_000_000 + b"]"
        ),
    ),
    "streams": _streams,
    "pages of recipients": _reading(1, _PAGES),
    "pages of recipients by six at once": _reading(6, _PAGES),
    "pages in Chinese by six at once": _reading(6, _PAGES, language="zh"),
    "downloads of CSV by four at once": _reading(4, _CSV),
}
