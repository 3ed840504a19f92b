"""Which database server this machine has, how its data directory is made and with what options it runs.

It starts nothing that stays; `mariadb.py` does. MariaDB is preferred, MySQL is taken when it is what there is.
"""

import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

# Debian keeps the server out of an ordinary user's PATH, Fedora under libexec.
_PLACES = ("/usr/sbin", "/usr/libexec", "/usr/local/sbin", "/usr/local/bin", "/usr/local/mysql/bin")
_INITIALISE_LIMIT_S = 300.0

# A small server: made in half a second instead of five, 27 MB on disk instead of 143 (MariaDB 11.8).
_SMALL = ("--innodb-log-file-size=10M", "--innodb-undo-tablespaces=0")
# A commit is in the page cache when it returns: it survives kill -9 of the server (with 0 it would not: the log is then
# written once a second) but not a power cut.
_FAST = ("--innodb-flush-log-at-trx-commit=2", "--innodb-flush-method=nosync", "--skip-innodb-doublewrite")
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
    """The private database server is missing, or would not start; the text says which and what to do."""


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
                raise ServerError(f"{self.path} is here but mariadb-install-db is not: install mariadb-server")
            command = [install, "--no-defaults", "--skip-test-db", *_SMALL]
        else:
            command = [self.path, "--no-defaults", "--initialize-insecure"]
        # A starting MariaDB removes what looks like a temporary table of an earlier run from its temporary folder, so
        # no two servers may share one.
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
            raise ServerError(f"{command[0]} could not make {directory}:\n{(made.stdout + made.stderr)[-2000:]}")
        # MySQL's server_uuid: each copy of the directory makes one of its own at its first start, since a replica does
        # not follow a server of the same name, and two such servers could not be told apart.
        (directory / "auto.cnf").unlink(missing_ok=True)

    def command(self, directory: Path, *, durable: bool, max_connections: int) -> list[str]:
        """The command line for that data directory; what a caller appends to it wins over what is in it."""
        # MariaDB 11.4 and later make a key pair at every start for TLS, which takes three times as long as the rest.
        # Debian's MySQL wants a folder for LOAD DATA which only the installed service makes, and no other user enters.
        own = ("--skip-ssl", *_SMALL) if self.is_mariadb else ("--mysqlx=OFF", "--secure-file-priv=NULL")
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
                [path, "--no-defaults", "--version"], capture_output=True, text=True, timeout=60, check=True
            )
            return Program(path=os.path.abspath(path), version=said.stdout.strip())  # noqa: PTH100 # resolve() would follow links
    raise ServerError(
        "no mariadbd or mysqld on this machine: `make setup` installs one, or: sudo apt-get install mariadb-server"
    )


def fingerprint(program: Program) -> str:
    """A short name for what a data directory was made with, fit for a file name."""
    return re.sub(r"[^A-Za-z0-9.]+", "-", program.version.partition("Ver ")[2])[:60] or "unknown"


def _find(name: str) -> str | None:
    return shutil.which(name) or shutil.which(name, path=os.pathsep.join(_PLACES))


def _as_root() -> list[str]:
    return ["--user=root"] if os.geteuid() == 0 else []
