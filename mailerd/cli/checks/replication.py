"""Examines what a failover would cost: which servers there are, whether one can take over, and what it may not have.

The settings are MySQL's and MariaDB's own (their manuals, "Replication and Binary Logging Options", "Semisynchronous
Replication", "Group Replication System Variables"). A server without a replica needs none of them.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from mailerd.cli.checks.result import CheckResult, fail, ok, warn
from mailerd.store.db.server_role import ServerRole, choose

_SERVERS: Final = "database: servers"
_FAILOVER: Final = "database: failover"
PATIENCE: Final = 60_000
"""Milliseconds: a primary that waits less for its replicas goes on without them in an ordinary hiccup."""


def servers(roles: Sequence[ServerRole]) -> Iterator[CheckResult]:
    """What the servers of database.url said, one line for all of them, and one for each that does not answer."""
    writers = choose(roles)
    said = "; ".join(f"{one.where} {'takes writes' if one.writes else 'is ' + one.trouble}" for one in roles)
    if len(writers) > 1:
        yield fail(_SERVERS, f"several take writes: {said}", remedy="SET GLOBAL read_only = ON on all but the primary")
    elif not writers:
        yield fail(_SERVERS, f"none takes writes: {said}", remedy="promote one, or correct the hosts in database.url")
    else:
        yield ok(_SERVERS, said)
    for one in roles:
        if not one.answered:
            yield warn(_SERVERS, f"{one.where}: {one.trouble}", remedy="start it: while it is away it cannot take over")
        if one.former:
            yield warn(
                _SERVERS,
                f"{one.where} takes writes, but is a former primary: mailerd does not use it",
                remedy="SET GLOBAL read_only = ON there, and let it follow the primary; docs/ha.md",
            )
        if one.group_hidden:
            yield warn(
                _SERVERS,
                f"{one.where} hides its group: whether it is cut off is not known",
                remedy="GRANT SELECT ON performance_schema.replication_group_members TO the user of database.url, and "
                "ON performance_schema.replication_group_member_stats",
            )


def failover(variables: Mapping[str, str], *, several: bool) -> Iterator[CheckResult]:
    """What a failover may forget. `several`: database.url names several hosts."""
    if _is_on(variables, "log_bin") and variables.get("sync_binlog", "1") != "1":
        yield warn(
            _FAILOVER,
            f"sync_binlog is {variables['sync_binlog']}: after a power cut the primary and its replicas differ",
            remedy="set sync_binlog = 1 in the server's configuration",
        )
    if variables.get("group_replication_group_name"):
        yield from _in_group(variables)
    elif several and not variables.get("aurora_version") and not _is_on(variables, "wsrep_on"):
        yield from _semi_synchronous(variables)


def _in_group(variables: Mapping[str, str]) -> Iterator[CheckResult]:
    if not _is_on(variables, "group_replication_single_primary_mode"):
        yield warn(
            _FAILOVER,
            "every member of the group takes writes (multi-primary mode)",
            remedy="SELECT group_replication_switch_to_single_primary_mode()",
        )
    if variables.get("group_replication_consistency", "").upper() == "EVENTUAL":
        yield warn(
            _FAILOVER,
            "group_replication_consistency is EVENTUAL: a new primary answers before it has applied all",
            remedy="SET PERSIST group_replication_consistency = 'BEFORE_ON_PRIMARY_FAILOVER', on every member",
        )
    else:
        yield ok(_FAILOVER, f"the group gives {variables.get('group_replication_consistency', '?')}")


def _semi_synchronous(variables: Mapping[str, str]) -> Iterator[CheckResult]:
    side = "source" if "rpl_semi_sync_source_enabled" in variables else "master"
    prefix = f"rpl_semi_sync_{side}"
    if not _is_on(variables, f"{prefix}_enabled"):
        yield warn(
            _FAILOVER,
            "replication is asynchronous: a failover forgets the last commits, accepted jobs among them",
            remedy=f"{prefix}_enabled = ON with {prefix}_timeout = 4294967295, on every server; docs/ha.md",
        )
        return
    timeout, point = float(variables.get(f"{prefix}_timeout", "0")), variables.get(f"{prefix}_wait_point", "")
    if timeout < PATIENCE:
        yield warn(
            _FAILOVER,
            f"{prefix}_timeout is {timeout / 1000:g} s: after that the primary answers COMMITs that no replica has",
            remedy=f"{prefix}_timeout = 4294967295: then it waits, and a failover forgets nothing",
        )
    if point.upper() == "AFTER_COMMIT":
        yield warn(
            _FAILOVER,
            f"{prefix}_wait_point is AFTER_COMMIT: others see a commit before any replica has it",
            remedy=f"{prefix}_wait_point = AFTER_SYNC",
        )
    if timeout >= PATIENCE and point.upper() != "AFTER_COMMIT":
        yield ok(_FAILOVER, "a COMMIT is answered when a replica has it")


def _is_on(variables: Mapping[str, str], name: str) -> bool:
    return variables.get(name, "OFF").upper() not in {"OFF", "0", ""}
