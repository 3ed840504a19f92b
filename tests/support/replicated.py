"""Two real database servers, one of which follows the other: what a failover does to whoever wrote to the first."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import pymysql

from mailerd.sandbox.mariadb import Server
from tests.support.dialect import is_mariadb
from tests.support.ports import free_port

_BINLOG: Final = ("--log-bin=bin", "--binlog-format=ROW", "--log-slave-updates=ON")
_FOLLOWED_WITHIN: Final = 60.0


def as_admin(server: Server, *statements: str) -> Sequence[tuple[Any, ...]]:
    """Run statements as the administrator; the rows of the last."""
    where = {"host": "127.0.0.1", "port": server.port, "user": "admin", "password": server.password}
    with pymysql.connect(**where, autocommit=True, connect_timeout=10, read_timeout=30) as it, it.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)
        return list(cursor.fetchall())


class Pair:
    """A primary and its replica. `lag` keeps the replica behind, `fail_over` ends the primary and promotes it."""

    def __init__(self, cache: Path, *, semi_synchronous: bool = False) -> None:
        self.primary = Server(cache=cache, port=free_port(), extra=(*_BINLOG, "--server-id=1"))
        self.replica = Server(cache=cache, port=free_port(), extra=(*_BINLOG, "--server-id=2"))
        self.replica.password = self.primary.password
        self._semi_synchronous = semi_synchronous
        self._words = ("SLAVE", "MASTER") if is_mariadb() else ("REPLICA", "SOURCE")

    def start(self) -> None:
        """Start both, and let the one follow the other."""
        self.primary.start()
        self.replica.start()
        follower, source = self._words
        as_admin(
            self.primary,
            "CREATE USER 'follower'@'127.0.0.1' IDENTIFIED BY 'follower'",
            "GRANT REPLICATION SLAVE ON *.* TO 'follower'@'127.0.0.1'",
        )
        if self._semi_synchronous:
            self._be_semi_synchronous()
        # The last log's end is where it writes: SHOW MASTER STATUS has another name in every few versions.
        *_, (file, position, *_) = as_admin(self.primary, "SHOW BINARY LOGS")
        key = "" if is_mariadb() else ", GET_SOURCE_PUBLIC_KEY = 1"
        change = "CHANGE MASTER TO" if is_mariadb() else "CHANGE REPLICATION SOURCE TO"
        as_admin(
            self.replica,
            f"{change} {source}_HOST = '127.0.0.1', {source}_PORT = {self.primary.port}, {source}_USER = 'follower', "
            f"{source}_PASSWORD = 'follower', {source}_LOG_FILE = '{file}', {source}_LOG_POS = {position}, "
            f"{source}_SSL = 0{key}",
            f"START {follower}",
        )
        self.until_followed()

    def _be_semi_synchronous(self) -> None:
        """A COMMIT is answered when the replica has it; without a replica the primary waits, and answers nothing."""
        if not is_mariadb():
            as_admin(self.primary, "INSTALL PLUGIN rpl_semi_sync_source SONAME 'semisync_source.so'")
            as_admin(self.replica, "INSTALL PLUGIN rpl_semi_sync_replica SONAME 'semisync_replica.so'")
        source, replica = ("master", "slave") if is_mariadb() else ("source", "replica")
        as_admin(
            self.primary,
            f"SET GLOBAL rpl_semi_sync_{source}_wait_point = AFTER_SYNC",
            f"SET GLOBAL rpl_semi_sync_{source}_timeout = 3600000",
            f"SET GLOBAL rpl_semi_sync_{source}_enabled = 1",
        )
        as_admin(self.replica, f"SET GLOBAL rpl_semi_sync_{replica}_enabled = 1")

    def until_followed(self) -> None:
        """Until the replica has everything."""
        mark = f"followed_{time.monotonic_ns()}"
        as_admin(self.primary, f"CREATE DATABASE {mark}")
        end = time.monotonic() + _FOLLOWED_WITHIN
        while not as_admin(self.replica, f"SHOW DATABASES LIKE '{mark}'"):
            if time.monotonic() > end:
                raise TimeoutError(f"the replica does not follow: {self.replica.log_tail()}")
            time.sleep(0.02)

    def lag(self) -> None:
        """From now on the replica gets nothing more."""
        as_admin(self.replica, f"STOP {self._words[0]}")

    def follow_again(self) -> None:
        """The replica was started anew, and goes on from where it was."""
        if self._semi_synchronous:
            side = "slave" if is_mariadb() else "replica"
            as_admin(self.replica, f"SET GLOBAL rpl_semi_sync_{side}_enabled = 1")
        self.connect_again()

    def connect_again(self) -> None:
        """The replica connects to its primary anew."""
        as_admin(self.replica, f"STOP {self._words[0]}", f"START {self._words[0]}")

    def fail_over(self) -> None:
        """The primary is killed, and the replica takes its place with all that it has received."""
        self.primary.kill()
        follower = self._words[0]
        with suppress(pymysql.err.MySQLError):
            as_admin(self.replica, f"STOP {follower} IO_THREAD")
        self._until_applied()
        as_admin(self.replica, f"STOP {follower}", f"RESET {follower} ALL")

    def _until_applied(self) -> None:
        """What was received is applied before anybody writes."""
        end = time.monotonic() + _FOLLOWED_WITHIN
        while time.monotonic() < end:
            with (
                pymysql.connect(
                    host="127.0.0.1", port=self.replica.port, user="admin", password=self.replica.password
                ) as it,
                it.cursor(pymysql.cursors.DictCursor) as cursor,
            ):
                cursor.execute(f"SHOW {self._words[0]} STATUS")
                (state,) = cursor.fetchall()
            follower, source = (word.capitalize() for word in self._words)
            running = state[f"{follower}_SQL_Running"] == "Yes"
            if not running or state[f"Read_{source}_Log_Pos"] == state[f"Exec_{source}_Log_Pos"]:
                return
            time.sleep(0.02)

    def stop(self) -> None:
        """End both."""
        self.primary.stop()
        self.replica.stop()


@contextmanager
def replicated(cache: Path, *, semi_synchronous: bool = False) -> Iterator[Pair]:
    """A pair that is there meanwhile."""
    pair = Pair(cache, semi_synchronous=semi_synchronous)
    try:
        pair.start()
        yield pair
    finally:
        pair.stop()
