"""Three MariaDB servers with semi-synchronous replication, and whoever promotes them; each may be killed or cut off.

It is what an orchestrator does: the replica that has most takes over, the old primary is fenced before it comes back.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import pymysql
import pytest

from mailerd.sandbox import mariadb
from mailerd.sandbox.mariadb import Server
from tests.support.dialect import is_mariadb
from tests.support.ports import free_port
from tests.support.replicated import as_admin

_WITHIN: Final = 60.0
_OPTIONS: Final = (
    "--log-bin=bin", "--binlog-format=ROW", "--log-slave-updates=ON", "--gtid-strict-mode=ON",
    "--read-only=ON",  # whoever comes back is a replica until it is promoted
    "--rpl-semi-sync-slave-enabled=ON", "--rpl-semi-sync-master-wait-point=AFTER_SYNC",
    "--rpl-semi-sync-master-timeout=4294967295", "--slave-net-timeout=4",
    "--init-rpl-role=SLAVE",  # a crashed primary throws away what no replica has acknowledged
)  # fmt: skip


def _is_here() -> bool:
    with suppress(mariadb.ServerError):
        return mariadb.find("mariadbd").is_mariadb and is_mariadb()
    return False


needs_mariadb = pytest.mark.skipif(
    not _is_here(), reason="three MariaDB servers: there is no MariaDB, or MYSQLD names another server"
)
"""For tests of `SemiSynchronous`, which is MariaDB's whatever the suite runs on: a run on MySQL would repeat them."""


class Cluster:
    """Servers of which one takes the writes; `url` names them all."""

    def __init__(self, nodes: Sequence[Server]) -> None:
        self.nodes = list(nodes)
        for node in nodes:
            node.password = nodes[0].password
        self.primary = nodes[0]

    @property
    def url(self) -> str:
        """As database.url would name them."""
        hosts = ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)
        return f"mysql://mailerd:{self.primary.password}@{hosts}/mailerd"

    @property
    def replicas(self) -> list[Server]:
        """All but the primary."""
        return [node for node in self.nodes if node is not self.primary]

    def start(self) -> None:
        """Start all of them, each alone."""
        for node in self.nodes:
            node.start()

    def form(self, roads: Mapping[int, int]) -> None:
        """Make a cluster of them. `roads`: for a server's port, the one by which other servers reach it."""
        raise NotImplementedError

    def fail_over(self) -> None:
        """Return when another server is the primary, now that the one before does not answer."""
        raise NotImplementedError

    def switch_over(self) -> None:
        """Make another server the primary in good order."""
        raise NotImplementedError

    def rejoin(self, node: Server) -> None:
        """Take a server that was started anew into the cluster."""
        raise NotImplementedError

    def readmit(self, node: Server) -> None:
        """Take an old primary back that was frozen or cut off, and believes that it still is the primary."""
        node.restart()  # an orchestrator fences it: it is ended, and comes back as a replica
        self.rejoin(node)

    def positions(self, nodes: Sequence[Server]) -> list[str]:
        """What each of these servers has."""
        raise NotImplementedError

    def until_equal(self) -> None:
        """Until all servers have the same."""
        self.until_equal_but(None)

    def until_equal_but(self, away: Server | None) -> None:
        """Until all servers have the same, but for one that is away."""
        nodes = [node for node in self.nodes if node is not away]
        end = time.monotonic() + _WITHIN
        while len(set(self.positions(nodes))) > 1:
            if time.monotonic() > end:
                raise TimeoutError(f"the servers differ: {self.positions(nodes)}")
            time.sleep(0.05)

    def checksums(self) -> list[tuple[Any, ...]]:
        """Of each server, what its tables hold."""
        tables = ", ".join(f"mailerd.{name}" for name in ("jobs", "job_recipients", "attempts"))
        return [tuple(row[1] for row in as_admin(node, f"CHECKSUM TABLE {tables}")) for node in self.nodes]

    def stop(self) -> None:
        """End all."""
        for node in self.nodes:
            node.stop()


class SemiSynchronous(Cluster):
    """A COMMIT is answered when a replica has it; without one the primary waits, and answers nothing."""

    def __init__(self, cache: Path) -> None:
        super().__init__(
            [
                Server(cache=cache, program="mariadbd", port=free_port(), extra=(*_OPTIONS, f"--server-id={n}"))
                for n in (1, 2, 3)
            ]
        )
        self._roads: Mapping[int, int] = {}

    def form(self, roads: Mapping[int, int]) -> None:
        self._roads = roads
        for node in self.nodes:
            as_admin(
                node,
                "SET sql_log_bin = 0",
                "CREATE USER IF NOT EXISTS 'follower'@'127.0.0.1' IDENTIFIED BY 'follower'",
                "GRANT REPLICATION SLAVE ON *.* TO 'follower'@'127.0.0.1'",
                "SET GLOBAL slave_run_triggers_for_rbr = NO",
            )
        for node in self.replicas:
            self._follow(node)
        self._take_writes()

    def fail_over(self) -> None:
        candidates = self.replicas
        with ThreadPoolExecutor() as pool:  # a replica asks its primary to let it go, and waits for one that is frozen
            list(pool.map(self._let_go, candidates))
        self._promote(max(candidates, key=_sequence), [node for node in candidates if node.running])

    def switch_over(self) -> None:
        old = self.primary
        as_admin(old, "SET GLOBAL read_only = ON")  # waits for what is being committed
        self.until_equal()
        self._promote(self.replicas[0], self.nodes)
        as_admin(old, "SET GLOBAL rpl_semi_sync_master_enabled = OFF")

    def rejoin(self, node: Server) -> None:
        """Until the primary counts it: if the other replica went before that, no COMMIT would get an answer."""
        self._follow(node)
        end = time.monotonic() + _WITHIN
        while _replicas_of(self.primary) < sum(each.running for each in self.replicas):
            if time.monotonic() > end:
                raise TimeoutError(f"the replica does not connect: {node.log_tail()}")
            time.sleep(0.02)

    def positions(self, nodes: Sequence[Server]) -> list[str]:
        return [str(as_admin(node, "SELECT @@gtid_binlog_pos")[0][0]) for node in nodes]

    def _promote(self, node: Server, others: Sequence[Server]) -> None:
        as_admin(node, "STOP SLAVE", "RESET SLAVE ALL")
        self.primary = node
        for other in others:
            if other is not node:
                self._follow(other)
        self._take_writes()

    def _take_writes(self) -> None:
        as_admin(self.primary, "SET GLOBAL rpl_semi_sync_master_enabled = ON", "SET GLOBAL read_only = OFF")

    def _follow(self, node: Server) -> None:
        with suppress(pymysql.err.MySQLError):
            as_admin(node, "STOP SLAVE")
        as_admin(
            node,
            "SET GLOBAL gtid_slave_pos = @@gtid_binlog_pos",
            f"CHANGE MASTER TO MASTER_HOST = '127.0.0.1', MASTER_PORT = {self._roads[self.primary.port]}, "
            "MASTER_USER = 'follower', MASTER_PASSWORD = 'follower', MASTER_USE_GTID = slave_pos, MASTER_SSL = 0, "
            "MASTER_CONNECT_RETRY = 1, MASTER_HEARTBEAT_PERIOD = 1",
            "START SLAVE",
        )

    def _let_go(self, node: Server) -> None:
        as_admin(node, "STOP SLAVE IO_THREAD")
        self._until_applied(node)

    def _until_applied(self, node: Server) -> None:
        end = time.monotonic() + _WITHIN
        while time.monotonic() < end:
            where = {"host": "127.0.0.1", "port": node.port, "user": "admin", "password": node.password}
            with pymysql.connect(**where) as it, it.cursor(pymysql.cursors.DictCursor) as cursor:
                cursor.execute("SHOW SLAVE STATUS")
                rows = cursor.fetchall()
            if not rows or rows[0]["Slave_SQL_Running"] != "Yes":
                return
            if rows[0]["Read_Master_Log_Pos"] == rows[0]["Exec_Master_Log_Pos"]:
                return
            time.sleep(0.02)


def _replicas_of(node: Server) -> int:
    return int(as_admin(node, "SHOW GLOBAL STATUS LIKE 'Rpl_semi_sync_master_clients'")[0][1])


def _sequence(node: Server) -> int:
    position = str(as_admin(node, "SELECT @@gtid_binlog_pos")[0][0])
    return int(position.rpartition("-")[2] or 0)


@contextmanager
def semi_synchronous(cache: Path) -> Iterator[SemiSynchronous]:
    """Three servers that are there meanwhile."""
    cluster = SemiSynchronous(cache)
    try:
        cluster.start()
        cluster.form({node.port: node.port for node in cluster.nodes})
        yield cluster
    finally:
        cluster.stop()
