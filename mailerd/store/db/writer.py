"""Which of the servers in database.url takes the writes: the one place that decides it, for every connection.

With one host in database.url there is nothing to find: a router or a virtual address in front decides. With several,
each is asked; the one that takes writes is used and no other. A former primary that came back is not the one, whatever
it says: its term is lower (`writer_term.py`). While two take writes and nothing tells which one is right, neither is
used; and a server that falls silent then has not yielded to the other one.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final

from pymysql.err import MySQLError, OperationalError
from yarl import URL

from mailerd.events.process import StoreEvents
from mailerd.store.db import error_codes
from mailerd.store.db.connection import Connection, connect

# The term of the writer: a number in the database that grows whenever the writes move to another server.
#
# The first daemon that comes to a server which the row does not name raises the number there, before it writes anything
# else. The row is replicated like all others. So a server whose term is lower than another's has missed a move: it is a
# former primary, and lacks whatever was written since.

SINCE: Final = " since "
"""Divides the identity of a server from when it was started; see `server_behind`."""

_READ_TERM: Final = "SELECT term, server FROM writer_terms WHERE id = 1"
# Both name what they expect: of two daemons that come at once, the second one's changes nothing.
_INSERT_TERM: Final = "INSERT IGNORE INTO writer_terms (id, term, server) VALUES (1, 0, '')"
_RAISE_TERM: Final = """
UPDATE writer_terms SET term = GREATEST(term, %s) + (server <> %s), server = %s
 WHERE id = 1 AND (server <> %s OR term < %s)"""


@dataclass(frozen=True)
class WriterTerm:
    """The row, as one server has it."""

    number: int
    server: str
    """The identity of the server that took the writes when the number was raised last."""


async def rows_if_allowed(cursor: Any, sql: str) -> Sequence[Any] | None:
    """The rows of a SELECT; None where the server refuses it: a table is missing, or may not be read.

    Raises:
        MySQLError: there was no answer.
    """
    try:
        await cursor.execute(sql)
        rows: Sequence[Any] = await cursor.fetchall()
    except MySQLError as error:
        if error_codes.from_server(error_codes.number(error)):
            return None
        raise
    return rows


async def read_term(cursor: Any) -> WriterTerm | None:
    """The term, 0 where none was written yet; None where the table is missing or may not be read."""
    if (rows := await rows_if_allowed(cursor, _READ_TERM)) is None:
        return None
    return WriterTerm(int(rows[0][0]), str(rows[0][1])) if rows else WriterTerm(0, "")


async def raise_term(connection: Connection, *, server: str, known: int) -> WriterTerm:
    """Write that this server takes the writes now, under a number above the highest that is known; may be repeated.

    Raises:
        MySQLError: it was refused, or there was no answer.
    """
    await connection.begin()
    cursor = await connection.cursor()
    await cursor.execute(_INSERT_TERM)
    await cursor.execute(_RAISE_TERM, (known, server, server, server, known))
    await connection.commit()
    return await read_term(cursor) or WriterTerm(known, server)


# What one server says of itself: whether it takes writes, and whether its group or its replicas stand behind it.
#
# `server_behind` names it and its start: after a failover, or behind a router, a connection leads to another one.

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


LOOK_TIMEOUT: Final = 2.0
"""The seconds that a server has to answer what its role is; less if connect_timeout is short."""
GRACE: Final = 0.3
"""Seconds for which a look waits for the other servers, once one has said that it takes writes."""
WATCH_INTERVAL: Final = 2.0
"""The seconds between two checks of all servers by a daemon."""
MAX_LOOK_AGE: Final = 10.0
"""Seconds for which a look holds: a process that was stopped for longer, or does not watch, looks anew before a use."""


class NoWriterError(OperationalError):  # type: ignore[misc]  # the driver has no types
    """No server takes writes, or it is not known which one does."""

    def __init__(self, cause: str, *, several: bool = False) -> None:
        super().__init__(2003, cause)  # the driver's number for "cannot connect": it is cured by trying again
        self.summary = "several servers take writes at once" if several else "no server takes writes"
        """The cause, without names of hosts and users."""
        self.remedy = (
            "set read_only = ON on all but the primary; restart mailerd if one of them never comes back"
            if several
            else "make one of the servers the primary (read_only = OFF), start the silent ones, or correct database.url"
        )


class Writer:
    """The server that takes the writes, as one pool knows it."""

    def __init__(self, urls: Sequence[URL], *, connect_timeout: float, events: StoreEvents) -> None:
        self.urls: Final = tuple(urls)
        self.roles: dict[URL, ServerRole] = {}
        """The last answers of each server."""
        self.current: URL | None = urls[0] if len(urls) == 1 else None
        """Where new connections go; None: it is not known yet, or several take writes."""
        self.moved_at: datetime | None = None
        """When another server took the place of the one before; None: it never did."""
        self.on_move: Callable[[], None] = lambda: None
        """Called when connections to any other server than `current` must not be used any more."""
        self.sends = False
        """Whether this is a daemon's, which sends: it raises the writer's term, and trusts no server that is alone."""
        self._before: URL | None = None
        self._doubted = False
        self._term = 0
        """The highest term of the writer that was seen."""
        self._shown: dict[str, int] = {}
        """The highest term that each server has shown, by host and port."""
        self._former: set[str] = set()
        """Former primaries that take writes, and that the log has named."""
        self._several = ""
        self._rivals: set[str] = set()
        """Servers that took writes at once, and have not said since that they do not."""
        self._looked_at = 0.0
        """When the last finished look at the servers began, in monotonic seconds."""
        self._bound = min(LOOK_TIMEOUT, connect_timeout / 2)
        self._events = events
        self._looking: asyncio.Task[None] | None = None
        self._kept: dict[URL, Connection] = {}
        """The connections that only ask servers for their role."""

    @property
    def alone(self) -> bool:
        """Whether database.url names but one host."""
        return len(self.urls) == 1

    @property
    def where(self) -> str:
        """Host and port of the writer, or of all servers while it is not known, for people."""
        known = self.current or self._before
        return place(known) if known else ", ".join(map(place, self.urls))

    @property
    def servers(self) -> dict[str, bool]:
        """Every server by host and port, and whether it is the one in use."""
        return {place(url): url == self.current for url in self.urls}

    @property
    def overdue(self) -> bool:
        """Whether the last look is too old to be relied on."""
        return not self.alone and time.monotonic() - self._looked_at > MAX_LOOK_AGE

    async def find(self) -> URL:
        """The writer; all servers are asked where it is not known, was doubted, or was not looked for of late.

        Raises:
            NoWriterError: there is none, or more than one.
        """
        if self.current is not None and not self._doubted and not self.overdue:
            return self.current
        # A daemon that has used none yet waits for all: one of them may know of a higher term.
        await self._look_once(grace=GRACE if self._before or not self.sends else self._bound)
        if self.current is None or self._doubted:
            raise NoWriterError(self._several or self._all_troubles(), several=bool(self._several))
        return self.current

    async def confirm(self, connection: Connection) -> None:
        """Make sure that a new connection leads to a server that takes writes now.

        Raises:
            NoWriterError: it does not; the next `find` asks all servers.
        """
        if self.alone:
            return
        self.roles[connection.url] = await ask(await connection.cursor(), place(connection.url))
        role = self._judged()[connection.url]
        if role.writes and connection.url == self.current:
            return
        self.doubt()
        raise NoWriterError(f"{role.where}: {role.trouble or 'no longer the only server that takes writes'}")

    def doubt(self) -> None:
        """Ask all servers before the next connection is made."""
        self._doubted = not self.alone

    async def watch(self) -> None:
        """Look at all servers, and move if the writer has: a frozen one, or a second one, shows by nothing else.

        A bug met by a look is logged: the next look follows soon, and a call that needs a connection looks by itself.
        """
        if self.alone:
            return
        try:
            await self._look_once(grace=self._bound)
        except Exception as error:  # noqa: BLE001 - nothing that a server does to a look may end a daemon
            self._events.look_failed(error=error)

    async def close(self) -> None:
        """Drop the connections for looking."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait({self._looking})
        while self._kept:
            self._kept.popitem()[1].abort()

    async def _look_once(self, *, grace: float) -> None:
        """One look at a time; a task that comes meanwhile waits for it, and does not end it by going away."""
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._check_servers(grace))
        looking = self._looking
        await asyncio.wait({looking})
        if not looking.cancelled():  # at the end of everything
            looking.result()

    async def _check_servers(self, grace: float) -> None:
        """Ask all servers at once; one that is silent costs no more than the bound, and less once a writer is known."""
        loop, began = asyncio.get_running_loop(), time.monotonic()
        asked = {asyncio.create_task(self._ask(url)): url for url in self.urls}
        pending, end = set(asked), loop.time() + 1.5 * self._bound
        try:
            while pending and (left := end - loop.time()) > 0:
                done, pending = await asyncio.wait(pending, timeout=left, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    self.roles[asked[task]] = task.result()
                if any(task.result().writes for task in done):
                    end = min(end, loop.time() + grace)
        finally:
            for task in pending:
                self.roles[asked[task]] = _silent(asked[task], grace)
                task.cancel()
        await self._judge()
        self._looked_at = began
        writer = self._decide(choose(list(self.roles.values())))
        if writer is not None and await self._has_term(writer):
            self._adopt(writer)

    async def _judge(self) -> None:
        """See which servers are former primaries. Each is asked once more: the others may have answered later."""
        doubtful = [url for url, role in self._judged().items() if role.former]
        for url, role in zip(doubtful, await asyncio.gather(*map(self._ask, doubtful)), strict=True):
            self.roles[url] = role
        self.roles = self._judged()
        for role in self.roles.values():
            if role.term:
                self._note(role.where, role.term)
        former = {role.where: role for role in self.roles.values() if role.former}
        for where in former.keys() - self._former:
            self._events.former_primary(where=where, cause=former[where].trouble)
        # One that is silent has not yielded: it is named once.
        self._former = former.keys() | {
            role.where for role in self.roles.values() if role.where in self._former and not role.answered
        }

    def _judged(self) -> dict[URL, ServerRole]:
        last = self.current or self._before
        own = {last: self._shown.get(place(last), 0)} if last else {}
        return without_former(self.roles, known=self._term, own=own)

    def _note(self, where: str, term: WriterTerm) -> None:
        self._term = max(self._term, term.number)
        self._shown[where] = max(self._shown.get(where, 0), term.number)

    async def _has_term(self, writer: ServerRole) -> bool:
        """Whether the writer's term names it; a daemon raises the term where it does not, before anything is written.

        Where there is no table yet, or the server does not say who it is, there is no term.
        """
        if not self.sends or writer.term is None or not writer.identity:
            return True
        if writer.term.server == writer.identity and writer.term.number >= self._term:
            return True
        url = self._url_of(writer)
        try:
            raised = await asyncio.wait_for(self._raise_term(url, writer.identity), self._bound)
        except error_codes.LOST as error:
            cause = error_codes.words(error) or f"no answer within {self._bound:g} s"
            self.roles[url] = replace(writer, trouble=f"its term cannot be raised: {cause}")
            self._doubted = True
            return False
        self.roles[url] = replace(writer, term=raised)
        self._note(writer.where, raised)
        return True

    async def _raise_term(self, url: URL, identity: str) -> WriterTerm:
        connection = self._kept.pop(url, None) or await connect(url)
        try:
            raised = await raise_term(connection, server=identity, known=self._term)
        except BaseException:
            connection.abort()
            raise
        self._kept[url] = connection
        return raised

    def _url_of(self, role: ServerRole) -> URL:
        return next(url for url in self.urls if place(url) == role.where)

    async def _ask(self, url: URL) -> ServerRole:
        try:
            return await asyncio.wait_for(self._ask_once_or_twice(url), self._bound)
        except TimeoutError:
            return _silent(url, self._bound)
        except error_codes.LOST as error:
            return ServerRole(place(url), trouble=error_codes.words(error) or type(error).__name__, answered=False)

    async def _ask_once_or_twice(self, url: URL) -> ServerRole:
        if (kept := self._kept.pop(url, None)) is not None:
            try:
                return await self._ask_over(kept)
            except error_codes.LOST:
                pass  # it was cut since: a new connection shows how the server is now
        return await self._ask_over(await connect(url))

    async def _ask_over(self, connection: Connection) -> ServerRole:
        try:
            role = await ask(await connection.cursor(), place(connection.url))
        except BaseException:
            connection.abort()
            raise
        self._kept[connection.url] = connection
        return role

    def _decide(self, found: Sequence[ServerRole]) -> ServerRole | None:
        """The server to use, of those that a look has found to take writes; None: there is none, or several."""
        self._update_rivals(found)
        if len(found) > 1:
            names = ", ".join(one.where for one in found)
            self._stop(names, f"{names} take writes at once; none of them is used until only one does")
            return None
        if not self._rivals:
            self._several = ""
        if not found:
            self._doubted = True
            return None
        if silent := self._unsettled(found[0]):
            names = ", ".join(sorted(self._rivals))
            self._stop(names, f"{names} took writes at once, and {silent} has not answered since")
            return None
        self._several = ""
        return None if self._unproven(found[0]) else found[0]

    def _adopt(self, role: ServerRole) -> None:
        """Use this server, and leave all others."""
        writer = self._url_of(role)
        self._doubted = False
        if writer == self.current:
            return
        before, self.current = self.current or self._before, writer
        if before is not None and before != writer:
            self.moved_at = datetime.now(UTC)
            was = self.roles[before].trouble or "writable too, but with no one behind it"
            self._events.writer_changed(where=place(writer), before=place(before), cause=was)
        self._before = writer
        self.on_move()

    def _update_rivals(self, found: Sequence[ServerRole]) -> None:
        """Note who takes writes besides another; a rival is one until it answers that it takes none, or is outvoted."""
        taking = {one.where for one in found}
        if len(found) > 1:
            self._rivals |= taking
        answered = {role.where for role in self.roles.values() if role.answered}
        self._rivals -= answered - taking

    def _unsettled(self, only: ServerRole) -> str:
        """The silent rivals of the only server that takes writes, if nothing but their silence speaks for it.

        Silence is not the end of a rival: it may be the right one, frozen for a moment. For the other one speaks that
        its group or its replicas stand behind it, or that this daemon used it before there were two.
        """
        silent = self._rivals - {only.where}
        if only.where not in self._rivals or only.backed or self._used_last(only.where):
            return ""
        return ", ".join(sorted(silent))

    def _unproven(self, only: ServerRole) -> bool:
        """Whether a daemon that has used no server yet would have to take a writer's word, most servers being silent.

        They may know of a higher term. Of two servers, one is no majority, and one alone has to do.
        """
        known = self.current or self._before or not self.sends
        answered = sum(role.answered for role in self.roles.values())
        if known or only.backed or len(self.urls) < 3 or 2 * answered > len(self.urls):
            return False
        why = f"it may be a former primary: {answered} of {len(self.urls)} servers answer"
        self.roles[self._url_of(only)] = replace(only, trouble=why)
        self._doubted = True
        return True

    def _used_last(self, where: str) -> bool:
        last = self.current or self._before
        return last is not None and place(last) == where

    def _stop(self, names: str, why: str) -> None:
        if not self._several:
            self._events.several_writers(servers=names)
        self._several = why
        self._before, self.current = self.current or self._before, None
        self.on_move()

    def _all_troubles(self) -> str:
        said = "; ".join(f"{one.where}: {one.trouble}" for one in self.roles.values())
        return f"no server takes writes ({said})"


def place(url: URL) -> str:
    """Host and port, or the socket's path, for people."""
    return url.query.get("unix_socket") or f"{url.host or 'localhost'}:{url.port or 3306}"


def _silent(url: URL, seconds: float) -> ServerRole:
    return ServerRole(place(url), trouble=f"no answer within {seconds:g} s", answered=False)
