"""A private database server for tests and the sandbox: loopback only, gone with the process that started it.

A throw-away server (the default) is a copy of a template that is made once, so it is up within a fifth of a second.
With `data` the directory stays, and the next start finds what the last one left, however that ended.
"""

import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Self

import pymysql

from mailerd.sandbox import mariadb_files as files
from mailerd.sandbox import mysqld
from mailerd.sandbox.child_process import spawn
from mailerd.sandbox.mysqld import ServerError

__all__ = ["Server", "ServerError"]

_PROTOCOL_10 = 0x0A  # the fifth byte of a greeting; an error packet has 0xff there (MySQL protocol, HandshakeV10)
_START_LIMIT_S = 60.0
_STOP_LIMIT_S = 30.0
_FREEZE_LIMIT_S = 5.0
_PORT_ATTEMPTS = 3
_TAIL = 2000

# It runs before the server greets any client, so a greeting means that the accounts are there. Both dialects take these
# statements, and each start may repeat them. `admin` is for tests that make databases, kill connections, set globals.
# They are no part of the binary log: each server of a cluster makes its own, and a log of its own would keep it out.
_ACCOUNTS = """\
SET SESSION sql_log_bin = 0;
ALTER USER IF EXISTS 'root'@'localhost' IDENTIFIED BY '{password}';
CREATE DATABASE IF NOT EXISTS mailerd CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
CREATE USER IF NOT EXISTS 'mailerd'@'127.0.0.1' IDENTIFIED BY '{password}';
ALTER USER 'mailerd'@'127.0.0.1' IDENTIFIED BY '{password}';
GRANT ALL PRIVILEGES ON mailerd.* TO 'mailerd'@'127.0.0.1';
GRANT ALL PRIVILEGES ON `mailerd\\_%`.* TO 'mailerd'@'127.0.0.1';
CREATE USER IF NOT EXISTS 'admin'@'127.0.0.1' IDENTIFIED BY '{password}';
ALTER USER 'admin'@'127.0.0.1' IDENTIFIED BY '{password}';
GRANT ALL PRIVILEGES ON *.* TO 'admin'@'127.0.0.1' WITH GRANT OPTION;
"""


class Server:
    """One private server. All calls are synchronous and short; `with Server() as server:` starts and stops it.

    `data`: a directory that is kept (made when missing); None means a throw-away copy.
    `cache`: where the template for throw-away servers lives.
    `durable`: a commit is on the disk when it returns; otherwise it survives kill -9, not a power cut, and is faster.
    `port`: 0 takes a free one and keeps it over restarts.
    `extra`: options that win over ours.
    `program`: the server's executable; empty takes this machine's, see `mysqld.find`.
    """

    def __init__(
        self,
        *,
        data: Path | None = None,
        cache: Path | None = None,
        durable: bool = False,
        max_connections: int = 150,
        port: int = 0,
        extra: Sequence[str] = (),
        program: str = "",
    ) -> None:
        self.port = port
        self.password = secrets.token_hex(16)
        self._kept = data.absolute() if data is not None else None
        self._cache = cache if cache is not None else files.user_cache()
        self._durable = durable
        self._max_connections = max_connections
        self._extra = tuple(extra)
        self._program = program
        self._process: subprocess.Popen[bytes] | None = None
        self._place: Path | None = None  # short-lived and short-named: a socket's path may have 107 bytes at most
        self._locks: list[IO[str]] = []

    @property
    def url(self) -> str:
        """The database `mailerd` as a daemon's own user would reach it."""
        return self.url_of("mailerd")

    def url_of(self, database: str, *, user: str = "mailerd") -> str:
        """The same for another database (named `mailerd_…`), or for the user `admin`, who may do everything."""
        return f"mysql://{user}:{self.password}@127.0.0.1:{self.port}/{database}"

    @property
    def running(self) -> bool:
        """The process exists. A frozen one does."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The server's process id. Raises ServerError when it is not running."""
        return self._alive().pid

    def start(self) -> Self:
        """Start, and return when it has greeted. Raises ServerError with the end of the server's log."""
        if self.running:
            raise ServerError("the private database server is running already")
        chosen = self.port
        for attempt in range(1, _PORT_ATTEMPTS + 1):
            self.port = chosen or _free_port()
            try:
                return self._start()
            except ServerError:
                # Another process may have taken the free port in between; a port that was asked for is not exchanged.
                if chosen or attempt == _PORT_ATTEMPTS or "ddress already in use" not in self.log_tail():
                    self.stop()
                    raise
            except BaseException:
                self.stop()
                raise
        raise AssertionError  # the last attempt returned or raised

    def stop(self) -> None:
        """End it: a kept one in good order, a throw-away one at once and with all its files."""
        if self.running and self._kept is not None:
            self._signal(signal.SIGCONT)
            self._signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                self._alive().wait(_STOP_LIMIT_S)
        self.kill()
        if self._place is not None:
            shutil.rmtree(self._place, ignore_errors=True)  # what is left over, the next start sweeps away
            self._place = None
        while self._locks:
            self._locks.pop().close()

    def kill(self) -> None:
        """End it by kill -9. Its data stay, so `start` brings it back on the same port after recovery."""
        if self.running:
            self._signal(signal.SIGKILL)
        if self._process is not None:
            self._process.wait()

    def restart(self) -> None:
        """End it by kill -9 and start again on the same port."""
        self.kill()
        self.start()

    def freeze(self) -> None:
        """Stop its clock (SIGSTOP): the kernel still accepts connections, but nothing ever answers.

        The signal stops one thread after another, so this waits for the last: one that runs may still answer.
        """
        process = self._alive()
        self._signal(signal.SIGSTOP)
        end = time.monotonic() + _FREEZE_LIMIT_S
        while not _stands_still(process.pid) and time.monotonic() < end:
            with suppress(subprocess.TimeoutExpired):
                process.wait(0.001)

    def thaw(self) -> None:
        """Let a frozen server go on. Harmless for one that is not frozen."""
        self._signal(signal.SIGCONT)

    def log_tail(self) -> str:
        """The end of the server's error log, for a message to people."""
        log = self._log()
        return log.read_text(encoding="utf-8", errors="replace")[-_TAIL:] if log is not None and log.exists() else ""

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _start(self) -> Self:
        program = mysqld.find(self._program)
        place, data = self._prepare(program)
        accounts = place / "accounts.sql"
        accounts.touch(mode=0o600)
        accounts.write_text(_ACCOUNTS.format(password=self.password), encoding="utf-8")
        log = self._log()
        if log is not None:
            log.unlink(missing_ok=True)
        command = [
            *program.command(data, durable=self._durable, max_connections=self._max_connections),
            f"--port={self.port}",
            f"--socket={place / 's'}",
            f"--tmpdir={place}",  # of its own: see Program.initialise
            f"--pid-file={place / 'pid'}",
            f"--log-error={log}",
            f"--init-file={accounts}",
            *self._extra,
        ]
        self._process = spawn(command)
        self._wait_for_greeting(place / "s")
        if not program.is_mariadb:
            self._let_digests_be_known()
        return self

    def _let_digests_be_known(self) -> None:
        """Log each user in once: until then MySQL would ask a daemon for its password, which it keeps from loopback."""
        for user in ("mailerd", "admin"):
            pymysql.connect(host="127.0.0.1", port=self.port, user=user, password=self.password).close()

    def _prepare(self, program: mysqld.Program) -> tuple[Path, Path]:
        """The folder for socket and accounts, and the data directory; both are found again on a restart."""
        if self._place is None:
            self._place, mark = files.new_place(in_memory=self._in_memory(program))
            self._locks.append(mark)
            if self._kept is None:
                shutil.copytree(files.template(program, self._cache), self._place / "data")
            else:
                self._locks.append(files.only_one(self._kept))
                files.once(program, self._kept)
        return self._place, self._kept if self._kept is not None else self._place / "data"

    def _in_memory(self, program: mysqld.Program) -> bool:
        """Whether the data may lie in memory: MySQL is often confined to /tmp by the system (AppArmor)."""
        return self._kept is None and not self._durable and program.is_mariadb

    def _log(self) -> Path | None:
        if self._kept is not None:
            return self._kept.with_name(self._kept.name + ".log").absolute()
        return self._place / "error.log" if self._place is not None else None

    def _wait_for_greeting(self, path: Path) -> None:
        end = time.monotonic() + _START_LIMIT_S
        process = self._process
        while process is not None and self.running and time.monotonic() < end:
            with suppress(OSError), socket.socket(socket.AF_UNIX) as attempt:
                attempt.settimeout(2.0)
                attempt.connect(str(path))
                if attempt.recv(64)[4:5] == bytes([_PROTOCOL_10]):
                    return
            with suppress(subprocess.TimeoutExpired):
                process.wait(0.005)
        state = f"did not greet within {_START_LIMIT_S:g} s" if self.running else "ended at once"
        self.kill()
        again = f"\nTo begin with new data, remove {self._kept}" if self._kept is not None else ""
        raise ServerError(f"the private database server {state}:\n{self.log_tail()}{again}")

    def _alive(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            raise ServerError("the private database server is not running")
        return self._process

    def _signal(self, number: signal.Signals) -> None:
        self._alive().send_signal(number)


def _stands_still(pid: int) -> bool:
    """Whether every thread is stopped, as Linux tells it; elsewhere it cannot be known, and is believed."""
    try:
        threads = [thread.read_text() for thread in Path("/proc", str(pid), "task").glob("*/stat")]
    except OSError:  # one has ended in between
        return False
    return all(thread.rpartition(")")[2].split()[0] == "T" for thread in threads)  # proc_pid_stat(5): the state


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
