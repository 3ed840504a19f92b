"""A whole installation for one measure, every part a process of its own: database, sandbox Google, daemons."""

import http.client
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pymysql

from mailerd.sandbox.google import COMPOSE, SEND
from mailerd.sandbox.mariadb import Server, child_process

CACHE = Path(__file__).parents[2] / ".cache"
_START_S = 30.0
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass
class Usage:
    """What a process has used up to now."""

    cpu_s: float
    rss_mb: float
    peak_mb: float
    switches: int
    """Times that it went to sleep of its own accord: its wake-ups."""

    @classmethod
    def of(cls, pid: int) -> "Usage":
        """Read /proc; Linux only."""
        stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        status = Path(f"/proc/{pid}/status").read_text()

        def number(name: str) -> int:
            return int(re.findall(rf"^{name}:\s+(\d+)", status, re.MULTILINE)[0])

        return cls(
            cpu_s=(int(stat[11]) + int(stat[12])) / _TICKS,
            rss_mb=number("VmRSS") / 1024,
            peak_mb=number("VmHWM") / 1024,
            switches=number("voluntary_ctxt_switches"),
        )


@dataclass
class Daemon:
    """One `mailerd run`."""

    process: "subprocess.Popen[bytes]"
    log: Path
    port: int

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    @property
    def children(self) -> list[int]:
        """The process ids of its renderers."""
        return [int(pid) for pid in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()]

    @property
    def cpu_s(self) -> float:
        """CPU seconds of all its processes that run now."""
        return sum(Usage.of(pid).cpu_s for pid in (self.pid, *self.children))

    @property
    def memory_mb(self) -> float:
        """Memory of all its processes, what they share counted once: proportional set sizes."""
        return sum(_proportional_mb(pid) for pid in (self.pid, *self.children))


@dataclass
class Place:
    """Everything that a measure needs; `daemon` starts one more of them."""

    folder: Path
    database: Server
    google_url: str
    google_pid: int
    senders: Sequence[str]
    key: str = ""
    _stack: ExitStack = field(default_factory=ExitStack)
    environment: dict[str, str] = field(default_factory=dict)
    """Of its processes."""

    def daemon(self, **settings: object) -> Daemon:
        """Start a daemon and wait until its runner polls; `settings` are `section__key=value`."""
        log = self.folder / f"log-{time.monotonic_ns()}"
        extra = {f"MAILERD_{name.upper()}": str(value) for name, value in settings.items()}
        with log.open("w") as out:
            process = subprocess.Popen(
                child_process([sys.executable, "-m", "mailerd", "run"]), env={**self.environment, **extra}, stderr=out
            )
        self._stack.callback(_end, process)
        _until(lambda: "runner started" in log.read_text(), process)
        port = int(re.findall(r"listening on http://[\d.]+:(\d+)", log.read_text())[0])
        return Daemon(process, log, port)

    def command(self, *words: str) -> str:
        """Run a command of mailerd's; what it printed."""
        return subprocess.run(
            [sys.executable, "-m", "mailerd", *words], env=self.environment, check=True, capture_output=True, text=True
        ).stdout

    def query(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """Rows, from a connection of our own."""
        with self.connection() as connection, connection.cursor() as cursor:
            cursor.execute(statement, values or None)
            return list(cursor.fetchall())

    def connection(self) -> Any:
        """A connection as the user `admin`."""
        return pymysql.connect(
            host="127.0.0.1", port=self.database.port, user="admin", password=self.database.password,
            database="mailerd", autocommit=True, client_flag=pymysql.constants.CLIENT.MULTI_STATEMENTS,
        )  # fmt: skip

    def post(self, port: int, body: bytes) -> dict[str, Any]:
        """POST a job."""
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        headers = {"X-API-Key": self.key, "Content-Type": "application/json"}
        connection.request("POST", "/api/jobs/send_template_emails", body, headers)
        answer = connection.getresponse()
        said = json.loads(answer.read())
        connection.close()
        if answer.status != 200:
            raise RuntimeError(f"{answer.status}: {said}")
        assert isinstance(said, dict)
        return said

    def google(self, path: str) -> dict[str, Any]:
        """What the sandbox Google says of itself."""
        parts = urlsplit(self.google_url)
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)
        connection.request("GET", f"/sandbox/{path}")
        said = json.loads(connection.getresponse().read())
        connection.close()
        assert isinstance(said, dict)
        return said

    def wait_for_jobs(self, number: int, *, within_s: float = 600.0) -> float:
        """Wait until so many jobs are completed; the time (monotonic)."""
        end = time.monotonic() + within_s
        with self.connection() as connection, connection.cursor() as cursor:
            while time.monotonic() < end:
                cursor.execute("SELECT COUNT(*) FROM jobs WHERE status = 'completed'")
                if cursor.fetchone()[0] >= number:
                    return time.monotonic()
                time.sleep(0.05)
        raise RuntimeError(f"not {number} jobs were completed within {within_s:g} s")

    def wait_for_messages(self, number: int, *, within_s: float = 600.0) -> None:
        """Wait until so many messages are sent or failed."""
        end = time.monotonic() + within_s
        while self.query("SELECT COUNT(*) FROM job_recipients WHERE status IN ('sent', 'failed')")[0][0] < number:
            if time.monotonic() > end:
                raise RuntimeError(f"not {number} messages came to an end within {within_s:g} s")
            time.sleep(0.2)

    def audit(self) -> None:
        """The books must balance and nothing may have been sent twice, or the measure counts for nothing."""
        self.command("audit")
        usage = self.google("usage")
        if usage.get("duplicates"):
            raise RuntimeError(f"sent twice: {usage}")


@contextmanager
def place(
    *,
    senders: int,
    latency_ms: float = 0.0,
    direct: bool = False,
    google: Sequence[str] = (),
    extra: Sequence[str] = (),
) -> Iterator[Place]:
    """A fresh installation: durable database (a flush to the disk for each commit), Google without limits."""
    names = [f"s{number}@example.com" for number in range(senders)]
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mailerd-bench-")))
        server = Server(cache=CACHE, durable=True, extra=("--innodb-buffer-pool-size=512M", *extra))
        database = stack.enter_context(server)
        credentials = folder / "credentials"
        unlimited = ("--units-per-minute", "0", "--project-units-per-minute", "0", "--per-day", "0")
        process = subprocess.Popen(
            child_process([
                sys.executable, "-m", "mailerd.sandbox.google", *unlimited, "--latency", str(latency_ms / 1000),
                "--keep-raw", "1", "--credentials-dir", str(credentials), "--scope", SEND if direct else COMPOSE,
                *(word for name in names for word in ("--mailbox", name)), *google,
            ]),
            stdout=subprocess.PIPE,
        )  # fmt: skip
        stack.callback(_end, process)
        assert process.stdout is not None
        url = process.stdout.readline().decode().strip()
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("MAILERD_")},
            "DATABASE_URL": database.url,
            "MAILERD_INTAKE__PORT": "0",
            "MAILERD_GMAIL__API_ROOT": url,
            "MAILERD_GMAIL__TOKEN_URI": url + "token",
            "MAILERD_GMAIL__CREDENTIALS_DIR": str(credentials),
            "MAILERD_PACE__UNITS_PER_MINUTE": "0",
            "MAILERD_PACE__PER_DAY": "0",
        }
        it = Place(folder, database, url, process.pid, names, _stack=stack, environment=environment)
        it.command("migrate")
        it.key = it.command("keys", "create", "bench").strip().splitlines()[-1]
        yield it


def _proportional_mb(pid: int) -> float:
    (pss,) = re.findall(r"^Pss:\s+(\d+)", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
    return int(pss) / 1024


def _until(true: Any, process: "subprocess.Popen[bytes]") -> None:
    end = time.monotonic() + _START_S
    while not true():
        if process.poll() is not None or time.monotonic() > end:
            raise RuntimeError("a process did not start")
        time.sleep(0.02)


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(timeout=30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
