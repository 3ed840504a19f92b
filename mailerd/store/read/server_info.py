"""Reads facts about the server without changing anything; `cli.checks` evaluates them."""

import asyncio
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from yarl import URL

from mailerd.clock import Clock
from mailerd.config.database_url import each_host
from mailerd.core.i18n import t
from mailerd.core.sender_state import SenderState
from mailerd.errors import DatabaseError
from mailerd.store.db import error_codes
from mailerd.store.db.connection import Cursor, connect, utc
from mailerd.store.db.database import Database
from mailerd.store.db.migrate import migrations, own_migration
from mailerd.store.db.writer import place, read_only
from mailerd.store.queue.rate_limits import COLUMNS, DefaultLimits, sender_state

_VARIABLES: Final = (
    "aurora_version",
    "group_replication_consistency",
    "group_replication_group_name",
    "group_replication_single_primary_mode",
    "innodb_flush_log_at_trx_commit",
    "innodb_lock_wait_timeout",
    "innodb_read_only",
    "log_bin",
    "max_allowed_packet",
    "max_execution_time",
    "max_statement_time",
    "read_only",
    "rpl_semi_sync_master_enabled",
    "rpl_semi_sync_master_timeout",
    "rpl_semi_sync_master_wait_no_slave",
    "rpl_semi_sync_master_wait_point",
    "rpl_semi_sync_source_enabled",
    "rpl_semi_sync_source_timeout",
    "rpl_semi_sync_source_wait_no_replica",
    "rpl_semi_sync_source_wait_point",
    "super_read_only",
    "sync_binlog",
    "transaction_isolation",
    "transaction_read_only",
    "tx_isolation",
    "tx_read_only",
    "version",
    "version_comment",
)
_GRANT: Final = re.compile(
    r"GRANT (?P<what>.+?) ON (?P<where>\*\.\*|(?:`(?:[^`]|``)+`|\w+)\.\*) TO ", re.IGNORECASE
)
_GRANT_ALL: Final = "GRANT ALL PRIVILEGES ON `%s`.* TO '%s'"
_SLEEP: Final = 30.0
"""How long the statement that is to be cut off would take, in seconds."""


@dataclass(frozen=True)
class ServerInfo:
    """A database as one session sees it."""

    variables: Mapping[str, str]
    """The values of the session's variables; those that the server does not have are missing."""
    privileges: frozenset[str]
    """The privileges for the whole database, in capitals; "ALL PRIVILEGES" stands for all."""
    by_role: bool
    """Whether there is a grant of another kind (a role, single tables, a revocation), which may
    change this.
    """
    ahead: float
    """Seconds by which the database's clock is ahead of this machine's."""
    took: float
    """The seconds for one statement and its answer."""
    grant: str = ""
    """The statement that gives the session's user all that it needs."""


async def server_facts(database: Database, *, clock: Clock, bound: float) -> ServerInfo:
    """Read what the checks need to know about the server.

    Raises:
        DatabaseError: it could not be asked.
    """

    async def work(cursor: Cursor) -> ServerInfo:
        await cursor.execute("SELECT 1")
        asked, before = clock.now(), clock.monotonic()
        await cursor.execute("SELECT UTC_TIMESTAMP(6), DATABASE(), CURRENT_USER()")
        took = clock.monotonic() - before
        theirs, name, user = await cursor.fetchone()
        await cursor.execute("SHOW VARIABLES WHERE Variable_name IN %s", (_VARIABLES,))
        variables = dict(await cursor.fetchall())
        await cursor.execute("SHOW GRANTS")
        grants = [str(grant) for (grant,) in await cursor.fetchall()]
        matches = [_GRANT.match(grant) for grant in grants]
        return ServerInfo(
            variables=variables,
            privileges=frozenset().union(
                *(_privileges(m["what"]) for m in matches if m and _covers(m["where"], name))
            ),
            by_role=None in matches,
            ahead=_seconds(theirs, asked) - took / 2,
            took=took,
            grant=_GRANT_ALL % (name, user.replace("@", "'@'")),
        )

    return await database.read(work, what="server.read", bound=bound)


def _seconds(theirs: datetime, ours: datetime) -> float:
    return (utc(theirs) - ours).total_seconds()


def _privileges(what: str) -> frozenset[str]:
    """Single words; a grant on columns ("SELECT (a, b)") is none on the table."""
    return frozenset(
        each.strip().upper()
        for each in re.sub(r"\w+ \([^)]*\)", "", what).split(",")
        if each.strip()
    )


def _covers(where: str, database: str) -> bool:
    """Whether a grant's place, in which % and _ are wildcards, is this database."""
    name = where.removesuffix(".*").strip("`").replace("``", "`")
    if name == "*":
        return True
    parts = re.findall(r"\\.|.", name)
    wild = {"%": ".*", "_": "."}
    return re.fullmatch("".join(wild.get(p, re.escape(p[-1])) for p in parts), database) is not None


async def measure_timeout(database: Database, *, bound: float) -> float:
    """Have a slow statement cut off at `bound` seconds; the seconds after which it was.

    Raises:
        DatabaseError: it failed for another reason, or was not cut off at all.
    """
    started = time.monotonic()
    try:
        await database.read_rows(
            "SELECT SLEEP(%s)", (_SLEEP,), what="server.try_timeout", bound=bound
        )
    except DatabaseError as error:
        if isinstance(error.__cause__, TimeoutError):
            return time.monotonic() - started
        raise
    return time.monotonic() - started


_WAITS_FOR_REPLICAS: Final = ("rpl_semi_sync_master_enabled", "rpl_semi_sync_source_enabled")
"""MariaDB and older MySQL say master, MySQL 8.0.26 and newer say source."""
_REPLICAS: Final = ("Rpl_semi_sync_master_clients", "Rpl_semi_sync_source_clients")
_OF_A_HOST: Final = (
    "innodb_flush_log_at_trx_commit",
    "log_bin",
    "sync_binlog",
    *_WAITS_FOR_REPLICAS,
)


@dataclass(frozen=True)
class Host:
    """What one of several hosts in database.url says of itself."""

    where: str
    trouble: str = ""
    """Why it is not used; empty: it takes writes."""
    answered: bool = True
    variables: Mapping[str, str] = field(default_factory=dict)
    replicas: int | None = None
    """Semi-synchronous replicas that are connected; None where commits do not wait for any."""


async def ask_hosts(url: str, *, bound: float) -> list[Host]:
    """Ask each host of database.url."""
    return await asyncio.gather(*(_ask_host(URL(each), bound) for each in each_host(url)))


async def _ask_host(url: URL, bound: float) -> Host:
    try:
        return await asyncio.wait_for(_host(url), bound)
    except error_codes.LOST as error:
        trouble = error_codes.words(error) or t("no response within {bound:g} s", bound=bound)
        return Host(place(url), trouble=trouble, answered=False)


async def _host(url: URL) -> Host:
    connection = await connect(url)
    try:
        cursor = await connection.cursor()
        closed = await read_only(cursor)
        await cursor.execute("SHOW GLOBAL VARIABLES WHERE Variable_name IN %s", (_OF_A_HOST,))
        variables = dict(await cursor.fetchall())
        await cursor.execute("SHOW GLOBAL STATUS WHERE Variable_name IN %s", (_REPLICAS,))
        replicas = sum(int(value) for _, value in await cursor.fetchall())
    finally:
        connection.abort()
    waits = "ON" in {variables.get(name) for name in _WAITS_FOR_REPLICAS}
    trouble = t("read-only ({closed})", closed=closed) if closed else ""
    return Host(
        place(url), trouble=trouble, variables=variables, replicas=replicas if waits else None
    )


async def schema(database: Database, *, bound: float) -> tuple[int, int]:
    """The migration that the database is at (0: none), and the one that this code needs.

    Raises:
        SchemaError: it holds tables of another program.
    """
    applied = await database.read(own_migration, what="schema.read_version", bound=bound)
    return applied, migrations()[-1].number


async def senders(database: Database, *, bound: float, most: int) -> dict[str, bool]:
    """The mailboxes that jobs were posted for, and whether messages of theirs wait."""
    rows = await database.read_rows(
        "SELECT email, next_claim_at IS NOT NULL FROM senders ORDER BY next_claim_at IS NULL, email LIMIT %s",
        (most,),
        what="server.read_senders",
        bound=bound,
    )
    return {email: bool(waits) for email, waits in rows}


async def senders_above(
    database: Database, defaults: DefaultLimits, *, units: int, bound: float, most: int
) -> list[SenderState]:
    """The senders whose own limit of units a minute is above `units`."""
    rows = await database.read_rows(
        f"SELECT {COLUMNS} FROM senders WHERE units_per_minute > %s ORDER BY email LIMIT %s",
        (units, most),
        what="server.read_pace",
        bound=bound,
    )
    return [sender_state(row, defaults) for row in rows]


async def database_now(database: Database, *, bound: float) -> datetime:
    """The database's clock, by which messages become due. `bound`: seconds that it gets for it."""
    ((now,),) = await database.request_rows(
        "SELECT UTC_TIMESTAMP(6)", (), what="clock.read", bound=bound
    )
    found: datetime = utc(now)
    return found
