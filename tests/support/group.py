"""Three MySQL servers in Group Replication, which choose their primary themselves."""

import os
import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import pymysql

from mailerd.sandbox import mariadb
from mailerd.sandbox.mariadb import Server
from tests.support.cluster import Cluster
from tests.support.ports import free_port
from tests.support.replicated import as_admin

_WITHIN: Final = 60.0
_SUSPICION: Final = 7.0
"""Seconds after which a group has noticed whatever is wrong with a member; a second failure before that ends it."""
_CACHE: Final = Path(__file__).parents[2] / ".cache"
_GRANTS: Final = (
    "SET sql_log_bin = 0",
    "CREATE USER IF NOT EXISTS 'follower'@'127.0.0.1' IDENTIFIED BY 'follower'",
    "GRANT REPLICATION SLAVE, CONNECTION_ADMIN, GROUP_REPLICATION_STREAM ON *.* TO 'follower'@'127.0.0.1'",
)
_RECOVERY: Final = (
    "CHANGE REPLICATION SOURCE TO SOURCE_USER = 'follower', SOURCE_PASSWORD = 'follower' "
    "FOR CHANNEL 'group_replication_recovery'"
)
_PRIMARY: Final = """
SELECT MEMBER_ID = @@server_uuid AND @@super_read_only = 0 FROM performance_schema.replication_group_members
 WHERE MEMBER_ROLE = 'PRIMARY' AND MEMBER_STATE = 'ONLINE'"""
_SEEN: Final = """
SELECT MEMBER_PORT FROM performance_schema.replication_group_members WHERE MEMBER_STATE = 'ONLINE'"""
_VIEW: Final = """
SELECT MEMBER_PORT, MEMBER_STATE, MEMBER_ROLE, @@super_read_only FROM performance_schema.replication_group_members"""
_STATE: Final = """
SELECT COALESCE(MAX(MEMBER_STATE), 'OFFLINE') FROM performance_schema.replication_group_members
 WHERE MEMBER_ID = @@server_uuid"""


def mysql_server() -> str | None:
    """A MySQL server: what MYSQLD names, what `tools/mysql-server` unpacked, or the system's; None: there is none."""
    for program in (os.environ.get("MYSQLD", ""), str(_CACHE / "mysql" / "mysqld"), "mysqld"):
        with suppress(mariadb.ServerError):
            if program and not (found := mariadb.find(program)).is_mariadb:
                return found.path
    return None


class Group(Cluster):
    """A group in single-primary mode, which waits for no member that is silent for 5 s."""

    def __init__(self, cache: Path) -> None:
        name, ports = uuid.uuid4(), [free_port() for _ in range(3)]
        seeds = ",".join(f"127.0.0.1:{port}" for port in ports)
        super().__init__(
            [
                Server(
                    cache=cache,
                    program=mysql_server() or "",
                    port=free_port(),
                    extra=(*_options(str(name), seeds), f"--server-id={n}", _local(port)),
                )
                for n, port in enumerate(ports, start=1)
            ]
        )

    def form(self, roads: Mapping[int, int]) -> None:
        del roads  # a member is reached by the address that it listens on: nothing fits in between
        for node in self.nodes:
            as_admin(node, *_GRANTS, _RECOVERY)
        as_admin(
            self.primary,
            "SET GLOBAL group_replication_bootstrap_group = ON",
            "START GROUP_REPLICATION",
            "SET GLOBAL group_replication_bootstrap_group = OFF",
        )
        self._until_primary()
        for node in self.replicas:
            self.rejoin(node)

    def fail_over(self) -> None:
        before = self.primary
        self._until_primary(but=before)

    def switch_over(self) -> None:
        target = self.replicas[0]
        name = as_admin(target, "SELECT @@server_uuid")[0][0]
        as_admin(self.primary, f"SELECT group_replication_set_as_primary('{name}')")
        self._until_primary()

    def rejoin(self, node: Server) -> None:
        """Until every member has said the same for longer than a suspicion takes; whoever was expelled joins again."""
        end, since = time.monotonic() + _WITHIN, time.monotonic()
        running = [each for each in self.nodes if each.running]
        members = {each.port for each in running if each is node or self._state(each) != "OFFLINE"}
        while time.monotonic() - since < _SUSPICION:
            if time.monotonic() > end:
                raise RuntimeError(f"the member does not join: {self._views()}")
            if any(self._seen_by(each) != members for each in self.nodes if each.port in members):
                since = time.monotonic()
                self._join_again([each for each in self.nodes if each.port in members])
            time.sleep(0.3)

    def _join_again(self, nodes: Sequence[Server]) -> None:
        for node in nodes:
            with suppress(pymysql.err.MySQLError):  # the group may still have its old self
                if (state := self._state(node)) == "ERROR":
                    as_admin(node, "STOP GROUP_REPLICATION")
                if state in {"ERROR", "OFFLINE"}:
                    as_admin(node, "START GROUP_REPLICATION")

    def _state(self, node: Server) -> str:
        return str(as_admin(node, _STATE)[0][0])

    def _seen_by(self, node: Server) -> set[int]:
        return {int(port) for (port,) in as_admin(node, _SEEN)}

    def readmit(self, node: Server) -> None:
        self.rejoin(node)  # the group has expelled it, and it learns so by itself

    def positions(self, nodes: Sequence[Server]) -> list[str]:
        return [str(as_admin(node, "SELECT @@GLOBAL.gtid_executed")[0][0]) for node in nodes]

    def _until_primary(self, *, but: Server | None = None) -> None:
        end = time.monotonic() + _WITHIN
        while time.monotonic() < end:
            for node in self.nodes:
                with suppress(pymysql.err.MySQLError, OSError):
                    if node is not but and any(row[0] for row in as_admin(node, _PRIMARY)):
                        self.primary = node
                        return
            time.sleep(0.05)
        raise RuntimeError(f"the group has no primary: {self._views()}")

    def _views(self) -> list[object]:
        """What each member says of the group, for whoever looks why it stands still."""
        views: list[object] = []
        for node in self.nodes:
            try:
                views.append((node.port, as_admin(node, _VIEW)))
            except (pymysql.err.MySQLError, OSError) as error:
                views.append((node.port, str(error)))
        return views


def _options(name: str, seeds: str) -> tuple[str, ...]:
    return (
        "--log-bin=bin", "--gtid-mode=ON", "--enforce-gtid-consistency=ON", "--performance-schema=ON",
        "--report-host=127.0.0.1", "--plugin-load-add=group_replication.so",
        f"--loose-group-replication-group-name={name}", "--loose-group-replication-start-on-boot=OFF",
        f"--loose-group-replication-group-seeds={seeds}", "--loose-group-replication-ip-allowlist=127.0.0.1",
        "--loose-group-replication-recovery-get-public-key=ON",
        # By default a member that is silent for 5 s is waited for 5 s more: a failover then took 21 s here.
        "--loose-group-replication-member-expel-timeout=0",
    )  # fmt: skip


def _local(port: int) -> str:
    return f"--loose-group-replication-local-address=127.0.0.1:{port}"


if __name__ == "__main__":  # for scripts
    sys.stdout.write(f"{mysql_server() or ''}\n")
