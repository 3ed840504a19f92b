"""What one server says of itself: whether it takes writes, and whether its group or its replicas stand behind it.

`server_behind` names it and its start: after a failover, or behind a router, a connection leads to another one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from mailerd.store.db.writer_term import SINCE, WriterTerm, read_term, rows_if_allowed

_READ_ONLY: Final = ("read_only", "super_read_only", "innodb_read_only")
_GROUP_NAME: Final = "group_replication_group_name"
_SEMI_SYNCHRONOUS: Final = ("rpl_semi_sync_master_enabled", "rpl_semi_sync_source_enabled")
"""MariaDB and older MySQL say master, MySQL 8.0.26 and newer say source."""
_DURABILITY: Final = ("innodb_flush_log_at_trx_commit", "log_bin", "sync_binlog")
_VARIABLES: Final = (*_READ_ONLY, _GROUP_NAME, *_SEMI_SYNCHRONOUS, *_DURABILITY, "server_uuid", "version")
_REPLICA_COUNTS: Final = ("Rpl_semi_sync_master_clients", "Rpl_semi_sync_source_clients")
_READ_MEMBERS: Final = """
SELECT m.MEMBER_ID, m.MEMBER_STATE, m.MEMBER_ROLE, s.VIEW_ID
  FROM performance_schema.replication_group_members m
  LEFT JOIN performance_schema.replication_group_member_stats s ON s.MEMBER_ID = m.MEMBER_ID"""


@dataclass(frozen=True)
class GroupMember:
    """A row of performance_schema.replication_group_members, as one member sees the group."""

    id: str
    state: str
    role: str
    view: str = ""
    """Prefix and number: the number grows with every member that comes or goes."""


@dataclass(frozen=True)
class ServerRole:
    """The answers of one server."""

    where: str
    """The host and port of the server."""
    trouble: str = ""
    """Why it must not be written to; empty: it takes writes."""
    answered: bool = True
    server: str = ""
    """Which server it is, see `server_behind`: two addresses may lead to one server."""
    view: tuple[str, int] | None = None
    """The view of its group, if it is in one: of two views with one prefix, the higher number is newer."""
    replicas: int | None = None
    """Semi-synchronous replicas that are connected; None where commits do not wait for any."""
    group_hidden: bool = False
    """Whether it is configured for a group whose tables this user may not read."""
    term: WriterTerm | None = None
    """The writer's term as this server has it; None where that is not known."""
    durability: Mapping[str, str] = field(default_factory=dict)
    """The variables that say whether its commits outlast a power cut."""
    former: bool = False
    """Whether it would take writes, but is a former primary: a higher term than its own is known."""

    @property
    def identity(self) -> str:
        """The server, whenever it was started; empty where that is not known."""
        return self.server.partition(SINCE)[0]

    @property
    def backed(self) -> bool:
        """Whether others stand behind it: its group, or replicas for which its commits wait."""
        return self.view is not None or bool(self.replicas)

    @property
    def writes(self) -> bool:
        """Whether it takes writes."""
        return not self.trouble


async def ask(cursor: Any, where: str) -> ServerRole:
    """Ask a server over an open connection.

    Raises:
        MySQLError: it did not answer.
    """
    await cursor.execute("SHOW GLOBAL VARIABLES WHERE Variable_name IN %s", (_VARIABLES,))
    variables = {str(name).lower(): str(value) for name, value in await cursor.fetchall()}
    members = await _members(cursor) if variables.get(_GROUP_NAME) else ()
    replicas = await _replicas(cursor) if any(_on(variables, name) for name in _SEMI_SYNCHRONOUS) else None
    why = trouble(variables, members)
    # A member without its group may let a question to a table wait.
    asked = not variables.get(_GROUP_NAME) or not why
    return ServerRole(
        where=where,
        trouble=why,
        server=await server_behind(cursor, variables.get("version", "")),
        view=_view(members or (), variables.get("server_uuid", "")),
        replicas=replicas,
        group_hidden=members is None,
        term=await read_term(cursor) if asked else None,
        durability={name: variables[name] for name in _DURABILITY if name in variables},
    )


def without_former[K](roles: Mapping[K, ServerRole], *, known: int, own: Mapping[K, int]) -> dict[K, ServerRole]:
    """The same roles, with its trouble for each server that is a former primary.

    `known`: the highest term that this daemon has seen anywhere. `own`: the highest that the server in use has shown.
    Where that one has shown all that is known and shows less now, a backup was restored into it: then only what the
    other servers show now counts.
    """
    now = max((role.term.number for role in roles.values() if role.term), default=0)
    judged = {}
    for key, role in roles.items():
        newest = now if own.get(key, -1) >= known else max(now, known)
        if role.writes and role.term and role.term.number < newest:
            why = f"a former primary: the writes have moved since (its term is {role.term.number}, not {newest})"
            role = replace(role, trouble=why, former=True)  # noqa: PLW2901 - the same server, judged
        judged[key] = role
    return judged


def trouble(variables: Mapping[str, str], members: Sequence[GroupMember] | None) -> str:
    """Why a server must not be written to; empty when it takes writes. `members`: None where they may not be read."""
    if closed := [name for name in _READ_ONLY if _on(variables, name)]:
        return f"read-only ({', '.join(closed)})"
    if not variables.get(_GROUP_NAME) or members is None:
        return ""
    own = next((member for member in members if member.id == variables.get("server_uuid")), None)
    if own is None or own.state != "ONLINE":
        return f"not in its group ({own.state if own else 'OFFLINE'})"
    reachable = sum(member.state != "UNREACHABLE" for member in members)
    if 2 * reachable <= len(members):
        return f"cut off from its group (sees {reachable} of {len(members)} members)"
    return "" if own.role == "PRIMARY" else f"{own.role.lower()} in its group"


def choose(roles: Sequence[ServerRole]) -> list[ServerRole]:
    """Those that may be the writer: none, the one that is, or several of which nothing tells which one is.

    An old primary that was frozen or cut off may believe for a while that it still is one. In a group, a server in
    the newer view is right; of servers whose commits wait for replicas, one without any replica can commit nothing.
    """
    found = list({one.server or one.where: one for one in roles if one.writes}.values())
    if len(found) > 1 and len({one.view[0] if one.view else "" for one in found}) == 1 and found[0].view:
        newest = max(one.view for one in found if one.view)
        found = [one for one in found if one.view == newest]
    followed = [one for one in found if one.replicas != 0]
    # One that waits for no replica at all proves nothing: an old primary that came back may be like that.
    return followed if followed and all(one.replicas for one in followed) else found


async def _members(cursor: Any) -> tuple[GroupMember, ...] | None:
    """The group as this member sees it; None where that may not be read."""
    rows = await rows_if_allowed(cursor, _READ_MEMBERS)
    return None if rows is None else tuple(GroupMember(*(str(value or "") for value in row)) for row in rows)


async def _replicas(cursor: Any) -> int:
    await cursor.execute("SHOW GLOBAL STATUS WHERE Variable_name IN %s", (_REPLICA_COUNTS,))
    return sum(int(value) for _, value in await cursor.fetchall())


def _view(members: Sequence[GroupMember], own: str) -> tuple[str, int] | None:
    view = next((member.view for member in members if member.id == own), "")
    prefix, _, number = view.partition(":")
    return (prefix, int(number)) if number.isdigit() else None


def _on(variables: Mapping[str, str], name: str) -> bool:
    return variables.get(name, "OFF").upper() not in {"OFF", "0", ""}


# Both are whole seconds of one statement's own time, so their difference is the same for every session.
_STARTED_AT: Final = "CAST(UNIX_TIMESTAMP() - VARIABLE_VALUE AS SIGNED)"
_SERVER_OF_MYSQL: Final = f"""
SELECT @@server_uuid, {_STARTED_AT} FROM performance_schema.global_status WHERE VARIABLE_NAME = 'Uptime'"""
# MariaDB has no server_uuid.
_SERVER_OF_MARIADB: Final = f"""
SELECT CONCAT_WS(':', @@hostname, @@port, @@server_id), {_STARTED_AT}
  FROM information_schema.GLOBAL_STATUS WHERE VARIABLE_NAME = 'UPTIME'"""


async def server_behind(cursor: Any, version: str) -> str:
    """A name of the server and of when it was started; "" where it may not be asked."""
    rows = await rows_if_allowed(cursor, _SERVER_OF_MARIADB if "mariadb" in version.lower() else _SERVER_OF_MYSQL)
    return f"{rows[0][0]}{SINCE}{rows[0][1]}" if rows else ""
