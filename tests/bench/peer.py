"""The quickest Python queue that was tried, saq, at the same work: each message a job, rendered, sent, and recorded.

It keeps its jobs in Redis with a flush to the disk each second, as its documents have it, and writes each outcome into
a row of MariaDB. It knows no limits, no drafts that make a send safe to repeat, and loses what a kill interrupts.
"""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from tests.bench import message
from tests.bench.place import CACHE, Place, place
from tests.bench.result import Result
from tests.bench.sending import sent

_PACKAGES: Final = (
    "saq==0.26.4",
    "redis",
    "typing-extensions",
    "jinja2",
    "aiohttp",
    "aiomysql==0.3.2",
    "pymysql==1.1.3",
    "uvloop",
)
_WORKER: Final = Path(__file__).with_name("peer_worker.py")
_REDIS: Final = 26379
_START_S: Final = 30.0


def peer(*, messages: int) -> Result:
    """mailerd's messages per second beside saq's, against the same server and database.

    Raises:
        RuntimeError: redis-server is not installed.
    """
    if shutil.which("redis-server") is None:
        raise RuntimeError("the peer keeps its jobs in Redis: apt-get install redis-server")
    with place(senders=200) as it:
        daemon = it.daemon(runner__concurrency=100)
        ours, _, _ = sent(it, [daemon], messages=messages)
        it.audit()
        theirs = _theirs(it, messages)
    return Result(
        "messages/s beside the quickest peer, saq", ours / theirs, 4, "at least", "of it",
        {"messages_per_s": ours, "peer_per_s": theirs},
    )  # fmt: skip


def _theirs(it: Place, messages: int) -> float:
    python = _environment()
    redis = subprocess.Popen(
        ["redis-server", "--port", str(_REDIS), "--bind", "127.0.0.1", "--dir", str(it.folder), "--appendonly", "yes"],
        stdout=subprocess.DEVNULL,
    )
    try:
        it.query("CREATE TABLE peer (id INT PRIMARY KEY, status VARCHAR(9), message_id VARCHAR(64))")
        it.query("INSERT INTO peer SELECT seq, 'waiting', NULL FROM seq_0_to_%s", messages - 1)
        about = {
            "google": it.google_url,
            "redis": f"redis://127.0.0.1:{_REDIS}",
            "database": {
                "host": "127.0.0.1",
                "port": it.database.port,
                "user": "admin",
                "password": it.database.password,
                "db": "mailerd",
            },
            "credentials": str(it.folder / "credentials"),
            "messages": messages,
            "template": [message.SUBJECT, message.HTML, message.TEXT],
        }
        with _side("work", python, about) as worker, _side("enqueue", python, about) as client:
            return _rate(it, messages, worker, client)
    finally:
        redis.terminate()
        redis.wait()


@contextmanager
def _side(side: str, python: str, about: Mapping[str, Any]) -> Iterator["subprocess.Popen[bytes]"]:
    """One of the two processes, once it is ready."""
    command = [python, str(_WORKER), json.dumps(about), side]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert process.stdin is not None
        assert process.stdout is not None
        if process.stdout.readline() != b"ready\n":
            raise RuntimeError(f"the peer did not start: {side}")
        yield process
    finally:
        process.kill()
        process.wait()


def _rate(it: Place, messages: int, worker: "subprocess.Popen[bytes]", client: "subprocess.Popen[bytes]") -> float:
    """From the first message that is enqueued to the last that is recorded, as ours is from the first POST."""
    assert client.stdin is not None
    started, end = time.monotonic(), time.monotonic() + messages / 20 + _START_S
    client.stdin.write(b"go\n")
    client.stdin.flush()
    while time.monotonic() < end and worker.poll() is None:
        ((done,),) = it.query("SELECT COUNT(*) FROM peer WHERE status = 'sent'")
        if done >= messages:
            return messages / (time.monotonic() - started)
        time.sleep(0.05)
    raise RuntimeError("the peer did not send all messages")


def _environment() -> str:
    folder = CACHE / "peer"
    python = folder / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *_PACKAGES], check=True)
    return str(python)
