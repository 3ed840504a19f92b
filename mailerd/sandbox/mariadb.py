"""A private database server for tests and the sandbox: loopback only, gone with the process that
started it.

A throw-away server (the default) is a copy of a template that is made once, so it is up within a
fifth of a second. With `data` the directory stays, and the next start finds what the last one left,
however that ended.
"""

import fcntl
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Self

import pymysql

from mailerd.core.i18n import joined, printed, t

# Start processes that cannot outlive this one. Nothing else in the sandbox starts a process that
# stays.
#
# Linux keeps the promise (PR_SET_PDEATHSIG, prctl(2)): however this process ends, kill -9 included,
# the kernel kills the child.
#
# Runs in the child and then becomes the program. It replaces `preexec_fn`, which may deadlock in a
# process with threads. The parent may die before the request is made, so the child looks who its
# parent is afterwards. Python ignores SIGPIPE and a program inherits that, hence the reset.
_BECOME = """
import ctypes, os, signal, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
if os.getppid() != int(sys.argv[1]):
    sys.exit("the process that started this one has gone")
signal.signal(signal.SIGPIPE, signal.SIG_DFL)
os.execv(sys.argv[2], sys.argv[2:])
"""

# The kernel counts the *thread* that forked as the parent. This one lives as long as the process,
# so a server started from a passing worker thread does not die with that thread.
_LAUNCHER = ThreadPoolExecutor(max_workers=1, thread_name_prefix="tied")


def child_process(command: Sequence[str]) -> list[str]:
    """`command` (its first word an absolute path), wrapped so that it dies with the thread that
    starts it.
    """
    return [sys.executable, "-I", "-S", "-c", _BECOME, str(os.getpid()), *command]


def spawn(command: Sequence[str]) -> subprocess.Popen[bytes]:
    """Start `command` silently, in a session of its own (Ctrl-C is for us, not for it), tied to
    this process.
    """

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            child_process(command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    return _LAUNCHER.submit(start).result()


# Which database server this machine has, how its data directory is made and with what options it
# runs.
#
# It starts nothing that stays; `mariadb.py` does. MariaDB is preferred, MySQL is taken when it is
# what there is.
#
# Debian keeps the server out of an ordinary user's PATH, Fedora under libexec.
_PLACES = ("/usr/sbin", "/usr/libexec", "/usr/local/sbin", "/usr/local/bin", "/usr/local/mysql/bin")
_INITIALISE_LIMIT_S = 300.0

# A small server: made in half a second instead of five, 27 MB on disk instead of 143 (MariaDB
# 11.8).
_SMALL = ("--innodb-log-file-size=10M", "--innodb-undo-tablespaces=0")
# A commit is in the page cache when it returns: it survives kill -9 of the server (with 0 it would
# not: the log is then written once a second) but not a power cut.
_FAST = (
    "--innodb-flush-log-at-trx-commit=2",
    "--innodb-flush-method=nosync",
    "--skip-innodb-doublewrite",
)
_DURABLE = ("--innodb-flush-log-at-trx-commit=1", "--innodb-flush-method=fsync")
_COMMON = (
    "--bind-address=127.0.0.1",
    "--skip-log-bin",
    "--skip-name-resolve",
    "--performance-schema=OFF",
    "--innodb-buffer-pool-size=64M",
    "--innodb-buffer-pool-dump-at-shutdown=0",
    "--innodb-buffer-pool-load-at-startup=0",
    "--character-set-server=utf8mb4",
    "--default-time-zone=+00:00",
)


class ServerError(Exception):
    """The private database server is missing, or would not start; the text says which and what to
    do.
    """


@dataclass(frozen=True)
class Program:
    """A database server's executable."""

    path: str
    version: str
    """The whole line that `--version` prints."""

    @property
    def is_mariadb(self) -> bool:
        """MariaDB, whatever the file is called: Debian's mysqld is a link to mariadbd."""
        return "mariadb" in self.version.lower()

    def initialise(self, directory: Path) -> None:
        """Make a new data directory. Raises ServerError with what the server's own tool said."""
        if self.is_mariadb:
            beside = shutil.which("mariadb-install-db", path=Path(self.path).parent)
            install = beside or _find("mariadb-install-db") or _find("mysql_install_db")
            if install is None:
                raise ServerError(
                    t(
                        "found {path} but not mariadb-install-db: install mariadb-server",
                        path=self.path,
                    )
                )
            command = [install, "--no-defaults", "--skip-test-db", *_SMALL]
        else:
            command = [self.path, "--no-defaults", "--initialize-insecure"]
        # A starting MariaDB removes what looks like a temporary table of an earlier run from its
        # temporary folder, so no two servers may share one.
        with tempfile.TemporaryDirectory(prefix="mailerd-init-") as temporary:
            made = subprocess.run(
                [*command, f"--datadir={directory}", *_as_root()],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                env={**os.environ, "TMPDIR": temporary},
                timeout=_INITIALISE_LIMIT_S,
                check=False,
            )
        if made.returncode != 0:
            said = (made.stdout + made.stderr)[-2000:]
            raise ServerError(
                t(
                    "{program} could not create {folder}:\n{output}",
                    program=command[0],
                    folder=directory,
                    output=printed(said),
                )
            )
        # MySQL's server_uuid: each copy of the directory makes one of its own at its first start,
        # since a replica does not follow a server of the same name, and two such servers could not
        # be told apart.
        (directory / "auto.cnf").unlink(missing_ok=True)

    def command(self, directory: Path, *, durable: bool, max_connections: int) -> list[str]:
        """The command line for that data directory; what a caller appends to it wins over what is
        in it.
        """
        # MariaDB 11.4 and later make a key pair at every start for TLS, which takes three times as
        # long as the rest. Debian's MySQL wants a folder for LOAD DATA which only the installed
        # service makes, and no other user enters.
        own = (
            ("--skip-ssl", *_SMALL)
            if self.is_mariadb
            else ("--mysqlx=OFF", "--secure-file-priv=NULL")
        )
        return [
            self.path,
            "--no-defaults",
            f"--datadir={directory}",
            *_as_root(),
            *_COMMON,
            *own,
            *(_DURABLE if durable else _FAST),
            f"--max-connections={max_connections}",
        ]


def find(program: str = "") -> Program:
    """That database server, or the one that the variable MYSQLD names, or this machine's.

    Raises:
        ServerError: there is none.
    """
    named = program or os.environ.get("MYSQLD")
    for name in [named] if named else ["mariadbd", "mysqld"]:
        path = _find(name)
        if path is not None:
            said = subprocess.run(
                [path, "--no-defaults", "--version"],
                capture_output=True,
                text=True,
                timeout=60,
                check=True,
            )
            return Program(path=os.path.abspath(path), version=said.stdout.strip())  # noqa: PTH100 # resolve() would follow links
    raise ServerError(
        t(
            "mariadbd and mysqld not found: run `make setup` or `sudo apt-get install mariadb-server`"
        )
    )


def fingerprint(program: Program) -> str:
    """A short name for what a data directory was made with, fit for a file name."""
    return re.sub(r"[^A-Za-z0-9.]+", "-", program.version.partition("Ver ")[2])[:60] or "unknown"


def _find(name: str) -> str | None:
    return shutil.which(name) or shutil.which(name, path=os.pathsep.join(_PLACES))


def _as_root() -> list[str]:
    return ["--user=root"] if os.geteuid() == 0 else []


# Where a private database server keeps its files: templates, kept directories, locks, and what
# killed owners left.

_PREFIX = "mailerd-db-"
_DISK = Path("/tmp")  # noqa: S108 # a folder of our own is made in it
_MEMORY = Path("/dev/shm")  # noqa: S108 # Linux's; a container may have 64 MiB of it
_ROOM = 2 * 1024**3
"""Bytes that must be free in memory: a server takes 30 MiB at its start, and its tests some hundred
at most.
"""


def user_cache() -> Path:
    """Where templates go when no other place is set; a user without a home has them in the working
    folder.
    """
    try:
        home = Path.home()
    except RuntimeError:
        home = Path.cwd()
    return Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache") / "mailerd"


def new_place(*, in_memory: bool) -> tuple[Path, IO[str]]:
    """A folder for one server's socket and throw-away files, and the lock that marks it as in use.

    `in_memory`: on a file system in memory where one has room, since a table is made there 20 times
    as fast.
    """
    _sweep()
    where = _MEMORY if in_memory and _has_room(_MEMORY) else _DISK
    place = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=where))  # mode 0700; TMPDIR may be too long
    return place, _mark(place)


def _has_room(folder: Path) -> bool:
    try:
        return os.access(folder, os.W_OK) and shutil.disk_usage(folder).free >= _ROOM
    except OSError:  # no such folder
        return False


def template(program: Program, cache: Path) -> Path:
    """The data directory to copy, made by the first process that comes; others wait for the
    lock.
    """
    cache.mkdir(parents=True, exist_ok=True)
    template = cache / f"mariadb-{fingerprint(program)}"
    with (cache / "mariadb.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        once(program, template)
    return template


def once(program: Program, directory: Path) -> None:
    """Make a data directory unless it is there; the caller holds a lock.

    It gets its name when it is whole.

    Each attempt has a folder of its own: what made the last one may still be at it for a moment
    after a kill -9.
    """
    if not directory.exists():
        directory.parent.mkdir(parents=True, exist_ok=True)
        for half in directory.parent.glob(f"{directory.name}.new-*"):
            shutil.rmtree(half, ignore_errors=True)
        half = Path(tempfile.mkdtemp(prefix=f"{directory.name}.new-", dir=directory.parent))
        program.initialise(half.absolute())
        half.rename(directory)


def only_one(data: Path) -> IO[str]:
    """Hold the lock of a kept directory. Raises ServerError when another process has it."""
    data.parent.mkdir(parents=True, exist_ok=True)
    lock = data.with_name(data.name + ".lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise ServerError(t("another sandbox is using {folder}", folder=data)) from None
    return lock


def _mark(place: Path) -> IO[str]:
    """Mark a folder as in use by a lock that the kernel drops when we die.

    It gets its name when it is held.
    """
    lock = (place / "lock.new").open("w")
    fcntl.flock(lock, fcntl.LOCK_EX)
    (place / "lock.new").rename(place / "lock")
    return lock


def _sweep() -> None:
    """Remove the folders of throw-away servers whose process was killed before it could."""
    for place in (*_DISK.glob(f"{_PREFIX}*"), *_MEMORY.glob(f"{_PREFIX}*")):
        with suppress(FileNotFoundError):
            if place.stat().st_uid != os.geteuid():
                continue
            with (place / "lock").open("r+") as lock, suppress(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(place, ignore_errors=True)


__all__ = ["Server", "ServerError"]

# the fifth byte of a greeting; an error packet has 0xff there (MySQL protocol, HandshakeV10)
_PROTOCOL_10 = 0x0A
_START_LIMIT_S = 60.0
_STOP_LIMIT_S = 30.0
_FREEZE_LIMIT_S = 5.0
_PORT_ATTEMPTS = 3
_TAIL = 2000

# It runs before the server greets any client, so a greeting means that the accounts are there. Both
# dialects take these statements, and each start may repeat them. `admin` is for tests that make
# databases, kill connections, set globals. They are no part of the binary log: each server of a
# cluster makes its own, and a log of its own would keep it out.
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
    """One private server.

    All calls are synchronous and short; `with Server() as server:` starts and stops it.

    `data`: a directory that is kept (made when missing); None means a throw-away copy. `cache`:
    where the template for throw-away servers lives. `durable`: a commit is on the disk when it
    returns; otherwise it survives kill -9, not a power cut, and is faster. `port`: 0 takes a free
    one and keeps it over restarts. `extra`: options that win over ours. `program`: the server's
    executable; empty takes this machine's, see `mysqld.find`.
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
        self._cache = cache if cache is not None else user_cache()
        self._durable = durable
        self._max_connections = max_connections
        self._extra = tuple(extra)
        self._program = program
        self._process: subprocess.Popen[bytes] | None = None
        self._place: Path | None = (
            None  # short-lived and short-named: a socket's path may have 107 bytes at most
        )
        self._locks: list[IO[str]] = []

    @property
    def url(self) -> str:
        """The database `mailerd` as a daemon's own user would reach it."""
        return self.url_of("mailerd")

    def url_of(self, database: str, *, user: str = "mailerd") -> str:
        """The same for another database (named `mailerd_…`), or for the user `admin`, who may do
        everything.
        """
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
        """Start, and return when it has greeted.

        Raises ServerError with the end of the server's log.
        """
        if self.running:
            raise ServerError(t("the private database server is already running"))
        chosen = self.port
        for attempt in range(1, _PORT_ATTEMPTS + 1):
            self.port = chosen or _free_port()
            try:
                return self._start()
            except ServerError:
                # Another process may have taken the free port in between; a port that was asked for
                # is not exchanged.
                if (
                    chosen
                    or attempt == _PORT_ATTEMPTS
                    or "ddress already in use" not in self.log_tail()
                ):
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
            # what is left over, the next start sweeps away
            shutil.rmtree(self._place, ignore_errors=True)
            self._place = None
        while self._locks:
            self._locks.pop().close()

    def kill(self) -> None:
        """End it by kill -9.

        Its data stay, so `start` brings it back on the same port after recovery.
        """
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

        The signal stops one thread after another, so this waits for the last: one that runs may
        still answer.
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
        return (
            log.read_text(encoding="utf-8", errors="replace")[-_TAIL:]
            if log is not None and log.exists()
            else ""
        )

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _start(self) -> Self:
        program = find(self._program)
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
        """Log each user in once: until then MySQL would ask a daemon for its password, which it
        keeps from loopback.
        """
        for user in ("mailerd", "admin"):
            pymysql.connect(
                host="127.0.0.1", port=self.port, user=user, password=self.password
            ).close()

    def _prepare(self, program: Program) -> tuple[Path, Path]:
        """The folder for socket and accounts, and the data directory; both are found again on a
        restart.
        """
        if self._place is None:
            self._place, mark = new_place(in_memory=self._in_memory(program))
            self._locks.append(mark)
            if self._kept is None:
                shutil.copytree(template(program, self._cache), self._place / "data")
            else:
                self._locks.append(only_one(self._kept))
                once(program, self._kept)
        return self._place, self._kept if self._kept is not None else self._place / "data"

    def _in_memory(self, program: Program) -> bool:
        """Whether the data may lie in memory: MySQL is often confined to /tmp by the system
        (AppArmor).
        """
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
        if self.running:
            what = t(
                "the private database server did not respond within {seconds:g} s:",
                seconds=_START_LIMIT_S,
            )
        else:
            what = t("the private database server stopped during its start:")
        self.kill()
        again = (
            [t("To start with new data, delete {folder}", folder=self._kept)]
            if self._kept is not None
            else []
        )
        raise ServerError(joined([what, printed(self.log_tail()), *again], "\n"))

    def _alive(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            raise ServerError(t("the private database server is not running"))
        return self._process

    def _signal(self, number: signal.Signals) -> None:
        self._alive().send_signal(number)


def _stands_still(pid: int) -> bool:
    """Whether every thread is stopped, as Linux tells it; elsewhere it cannot be known, and is
    believed.
    """
    try:
        threads = [thread.read_text() for thread in Path("/proc", str(pid), "task").glob("*/stat")]
    except OSError:  # one has ended in between
        return False
    # proc_pid_stat(5): the state
    return all(thread.rpartition(")")[2].split()[0] == "T" for thread in threads)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
