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
        yield from _writer(one) if one in writers else _other(one)
        if one.group_hidden:
            yield warn(
                _SERVERS,
                f"{one.where} hides its group: whether it is cut off is not known",
                remedy="GRANT SELECT ON performance_schema.replication_group_members TO the user of database.url, and "
                "ON performance_schema.replication_group_member_stats",
            )


def _writer(it: ServerRole) -> Iterator[CheckResult]:
    if it.replicas == 0:
        yield warn(
            _FAILOVER,
            f"no semi-synchronous replica is connected to {it.where}: a COMMIT hangs, or no replica has it",
            remedy="start the replicas, with rpl_semi_sync_replica_enabled = ON (MariaDB: rpl_semi_sync_slave_enabled)",
        )


def _other(it: ServerRole) -> Iterator[CheckResult]:
    """What is wrong with a server that is not in use, and would be once it has taken over."""
    if not it.answered:
        yield warn(_SERVERS, f"{it.where}: {it.trouble}", remedy="start it: while it is away it cannot take over")
    if it.former:
        yield warn(
            _SERVERS,
            f"{it.where} takes writes, but is a former primary: mailerd does not use it",
            remedy="SET GLOBAL read_only = ON there, and let it follow the primary; docs/ha.md",
        )
    logs = _is_on(it.durability, "log_bin")
    for name in ("innodb_flush_log_at_trx_commit", *(["sync_binlog"] if logs else [])):
        if (value := it.durability.get(name, "1")) != "1":
            yield warn(
                _FAILOVER,
                f"{it.where} has {name} = {value}: once it has taken over, a power cut takes commits",
                remedy=f"set {name} = 1 there too",
            )


def failover(variables: Mapping[str, str], *, several: bool) -> Iterator[CheckResult]:
    """What a failover may forget. `several`: database.url names several hosts."""
    if _is_on(variables, "log_bin") and variables.get("sync_binlog", "1") != "1":
        yield warn(
            _FAILOVER,
            f"sync_binlog is {variables['sync_binlog']}: after a power cut the primary and its replicas differ",
            remedy="set sync_binlog = 1 in the server's configuration",
        )
    replicated = several or _is_on(variables, f"{_semi_sync(variables)}_enabled")  # behind a router, say
    if variables.get("group_replication_group_name"):
        yield from _in_group(variables)
    elif replicated and not variables.get("aurora_version") and not _is_on(variables, "wsrep_on"):
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
    prefix = _semi_sync(variables)
    if not _is_on(variables, f"{prefix}_enabled"):
        yield warn(
            _FAILOVER,
            "replication is asynchronous: a failover forgets the last commits, accepted jobs among them",
            remedy=f"{prefix}_enabled = ON with {prefix}_timeout = 4294967295, on every server; docs/ha.md",
        )
        return
    yield from list(_gives_up(variables, prefix)) or [ok(_FAILOVER, "a COMMIT is answered when a replica has it")]


def _gives_up(variables: Mapping[str, str], prefix: str) -> Iterator[CheckResult]:
    """Under which settings a primary does not wait for its replicas."""
    timeout, point = float(variables.get(f"{prefix}_timeout", "0")), variables.get(f"{prefix}_wait_point", "")
    if timeout < PATIENCE:
        yield warn(
            _FAILOVER,
            f"{prefix}_timeout is {timeout / 1000:g} s: after that the primary answers COMMITs that no replica has",
            remedy=f"{prefix}_timeout = 4294967295: then it waits, and a failover forgets nothing",
        )
    wait = f"{prefix}_wait_no_{'replica' if prefix.endswith('source') else 'slave'}"
    if not _is_on(variables, wait, default="ON"):
        yield warn(
            _FAILOVER,
            f"{wait} is OFF: once it has no replica, the primary answers COMMITs that none has",
            remedy=f"{wait} = ON: then it waits, and a failover forgets nothing",
        )
    if point.upper() == "AFTER_COMMIT":
        yield warn(
            _FAILOVER,
            f"{prefix}_wait_point is AFTER_COMMIT: others see a commit before any replica has it",
            remedy=f"{prefix}_wait_point = AFTER_SYNC",
        )


def _semi_sync(variables: Mapping[str, str]) -> str:
    return f"rpl_semi_sync_{'source' if 'rpl_semi_sync_source_enabled' in variables else 'master'}"


def _is_on(variables: Mapping[str, str], name: str, *, default: str = "OFF") -> bool:
    return variables.get(name, default).upper() not in {"OFF", "0", ""}
