"""Numbered migrations: applied in order, once, by one daemon at a time, and refused when the schema
is newer.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Final

from mailerd.core.i18n import joined, t
from mailerd.core.reading import RESTORE_TABLES
from mailerd.errors import DatabaseAwayError, SchemaError
from mailerd.events.process import StoreEvents
from mailerd.store.db.connection import Cursor
from mailerd.store.db.database import Database

_LOCK_WAIT: Final = 20
"""Seconds to wait for another daemon that is migrating; GET_LOCK ends with its connection, so none
is ever stale.
"""

_LOCK: Final = "CONCAT('mailerd.migrate.', LEFT(DATABASE(), 40))"
_BOUND: Final = 600.0
"""The most seconds for all migrations."""

_SCHEMA_VERSION: Final = (
    "CREATE TABLE IF NOT EXISTS schema_version (number INT UNSIGNED NOT NULL PRIMARY KEY, "
    "name VARCHAR(100) NOT NULL, applied_at DATETIME(6) NOT NULL) ENGINE=InnoDB"
)
_NO_COLUMN: Final = frozenset({"primary", "key", "unique", "index", "constraint", "check"})
"""The first words of what else stands in a CREATE TABLE."""
_SHOWN: Final = 5
"""The most columns of a table that are named."""
_OWN_DATABASE: Final = t("give mailerd a database of its own (database.url); nothing was changed")
_OTHER_VERSION: Final = t(
    "start the version that made it, or restore a backup of this version (docs/how-to/backup.md); nothing was changed"
)
_RESTORE: Final = t("{remedy}; nothing was changed", remedy=RESTORE_TABLES)

_CHANGE_NOTHING: Final = "UPDATE jobs SET priority = priority WHERE id = ''"
_INSERT_NOTHING: Final = "INSERT INTO job_recipients SELECT * FROM job_recipients WHERE id = 0"
"""There is no such row, and yet it is refused where a server takes no writes, or where its user may
not write. Its variables would not tell: a privilege may lift them for this user.
"""


@dataclass(frozen=True)
class Migration:
    """One file of migrations/."""

    number: int
    name: str
    statements: tuple[str, ...]


def migrations() -> list[Migration]:
    """All of them, in order."""
    found = []
    for file in files("mailerd.store").joinpath("migrations").iterdir():
        if match := re.fullmatch(r"(\d{4})_(\w+)\.sql", file.name):
            bare = re.sub(r"(^|[ \t])--( .*)?$", "", file.read_text("utf-8"), flags=re.MULTILINE)
            statements = tuple(part.strip() for part in bare.split(";") if part.strip())
            found.append(Migration(int(match[1]), match[2], statements))
    return sorted(found, key=lambda migration: migration.number)


async def applied_migration(cursor: Cursor) -> int:
    """The number of the last migration that the database has had; 0: none."""
    is_there = await cursor.fetch_value(
        "SELECT COUNT(*) FROM information_schema.tables "
        "WHERE table_schema = DATABASE() AND table_name = 'schema_version'"
    )
    return (
        int(await cursor.fetch_value("SELECT COALESCE(MAX(number), 0) FROM schema_version"))
        if is_there
        else 0
    )


@dataclass(frozen=True)
class _Table:
    """A table as a migration makes it, or as it is there."""

    columns: Mapping[str, str]
    """The type of each: `char(26)`, `bigint unsigned`."""
    key: Mapping[str, str]
    """The columns of its primary key, with their types."""
    needed: Sequence[str] = ()
    """The columns that every INSERT has to name."""
    view: bool = False

    def differs_from(self, ours: "_Table", added: Collection[str]) -> str:
        """Why this cannot be `ours`, to which later migrations have `added` columns; empty: it
        can.
        """
        if self.view:
            return t("a view")
        if lacking := [name for name in ours.columns if name not in self.columns]:
            return t("without {columns}", columns=_some(lacking))
        if self.key != ours.key:
            key = _some([" ".join(one) for one in self.key.items()])
            return t("key {columns}", columns=key) if key else t("without a key")
        foreign = [name for name in self.needed if name not in ours.columns and name not in added]
        return t("with {columns}, which must be given", columns=_some(foreign)) if foreign else ""


def _created(statement: str) -> tuple[str, _Table] | None:
    """The table that a statement makes, and its name; None: it makes none."""
    if not (
        made := re.match(r"CREATE TABLE (?:IF NOT EXISTS )?(\w+) \((.*)\)", statement, re.DOTALL)
    ):
        return None
    body, nested = made[2].lower(), 1
    while nested:  # the commas that are left divide the columns
        body, nested = re.subn(
            r"\(([^()]*)\)", lambda inner: f"<{inner[1].replace(',', ';')}>", body
        )
    columns: dict[str, str] = {}
    key: list[str] = []
    for part in map(str.strip, body.split(",")):
        if together := re.match("primary key <(.*)>", part):
            key = together[1].split("; ")
        elif part.split()[0] not in _NO_COLUMN and (
            column := re.match(r"(\w+) (\w+(?:<\d+>)?(?: unsigned)?)", part)
        ):
            columns[column[1]] = column[2].replace("<", "(").replace(">", ")")
            key += [column[1]] * ("primary key" in part)
    return made[1], _Table(columns, {name: columns[name] for name in key})


async def _tables(cursor: Cursor, names: Collection[str]) -> dict[str, _Table]:
    """The tables of these names that the database has."""
    # else `Jobs` and `jobs` are two tables
    folded = int(await cursor.fetch_value("SELECT @@lower_case_table_names")) > 0
    found: dict[str, tuple[bool, list[Any]]] = {}
    where = (
        "WHERE table_schema = DATABASE() AND table_name IN %s"  # on MariaDB without regard to case
    )
    await cursor.execute(
        f"SELECT table_name, table_type FROM information_schema.tables {where}", (tuple(names),)
    )
    for name, kind in await cursor.fetchall():
        found[name.lower() if folded else name] = (kind != "BASE TABLE", [])
    await cursor.execute(
        "SELECT table_name, column_name, column_type, column_key = 'PRI', "
        "is_nullable = 'NO' AND column_default IS NULL AND extra NOT LIKE '%%auto_increment%%' "
        f"AND extra NOT LIKE '%%generated%%' FROM information_schema.columns {where}",
        (tuple(names),),
    )
    for table, name, kind, *facts in await cursor.fetchall():
        # MariaDB and older MySQL show how wide a number is
        width = re.sub(r"int\(\d+\)", "int", kind.lower())
        found[table.lower() if folded else table][1].append((name.lower(), width, *facts))
    return {
        name: _Table(
            {column: kind for column, kind, *_ in rows},
            {column: kind for column, kind, in_key, _ in rows if in_key},
            [column for column, *_, needed in rows if needed],
            view,
        )
        for name, (view, rows) in found.items()
        if name in names
    }


def _some(columns: Sequence[str]) -> str:
    return ", ".join(columns[:_SHOWN]) + (", …" if len(columns) > _SHOWN else "")


async def own_migration(cursor: Cursor) -> int:
    """As `applied_migration`, of a database whose tables that are named as ours are ours, and all
    there.

    CREATE TABLE IF NOT EXISTS would pass over others in silence. What a migration of ours leaves
    behind that was cut off has all columns, since a server makes a table whole or not at all; and
    no number.

    Raises:
        SchemaError: it holds tables of another program or of another version, or not all of ours.
    """
    known = migrations()
    statements = (_SCHEMA_VERSION, *(sql for migration in known for sql in migration.statements))
    ours = dict(filter(None, map(_created, statements)))
    there = await _tables(cursor, ours)
    versions = there.get("schema_version")
    applied = 0
    if versions and not versions.differs_from(ours["schema_version"], ()):
        applied = await applied_migration(cursor)
    if applied > known[-1].number:  # a newer mailerd's, which may look otherwise
        return applied
    added = {name for sql in statements for name in re.findall(r"\bADD COLUMN (\w+)", sql)}
    differing = {
        name: why for name, table in there.items() if (why := table.differs_from(ours[name], added))
    }
    if said := joined(
        [t("{name} ({why})", name=name, why=differing[name]) for name in ours if name in differing],
        ", ",
    ):
        if applied and all(there[name].key == ours[name].key for name in differing):
            found = t(
                "the database is of another version of mailerd, or was altered: {said}", said=said
            )
            raise SchemaError(joined([found, _OTHER_VERSION]))
        found = t(
            "the database contains tables of another program, or altered ones: {said}", said=said
        )
        raise SchemaError(joined([found, _OWN_DATABASE]))
    made = [
        sql for migration in known if migration.number <= applied for sql in migration.statements
    ]
    if missing := [table[0] for table in map(_created, made) if table and table[0] not in there]:
        raise SchemaError(
            joined(
                [
                    t(
                        "the database schema is at migration {applied}, but tables are missing: {missing}",
                        applied=applied,
                        missing=_some(missing),
                    ),
                    _RESTORE,
                ]
            )
        )
    return applied


def _refuse_newer(applied: int, known: int) -> None:
    if applied > known:
        raise SchemaError(
            t(
                "the database schema is at migration {applied}, and this mailerd knows only {known}; a newer "
                "mailerd migrated it. Install that version, or restore a backup from before its migration",
                applied=applied,
                known=known,
            )
        )


async def check(database: Database) -> None:
    """Make sure that the schema is this code's.

    Raises:
        SchemaError: it is older or newer, or another program's.
    """
    _require_current(await database.read(own_migration, what="schema.read_version"))


async def check_writable(database: Database) -> None:
    """Make sure that a job could be stored: the schema is this code's, and the database takes
    writes.

    Raises:
        SchemaError: the schema is older or newer.
        DatabaseError: it cannot be read, refuses a write, or leaves COMMITs without an answer.
    """

    async def work(cursor: Cursor) -> int:
        applied = await applied_migration(cursor)
        if applied == migrations()[-1].number:
            await cursor.execute(_CHANGE_NOTHING)
            await cursor.execute(_INSERT_NOTHING)
        return applied

    what = "jobs.try_store"
    _require_current(await database.transaction(work, what=what))
    if trouble := database.trouble:  # this had nothing to wait for, and needed no room
        cause = TimeoutError(trouble.cause)
        error = DatabaseAwayError(
            what, phase="commit", cause=cause, errno=0, retry=True, in_doubt=False
        )
        error.said = trouble.said
        raise error


def _require_current(applied: int) -> None:
    known = migrations()[-1].number
    _refuse_newer(applied, known)
    if applied < known:
        raise SchemaError(
            t(
                "the database schema is at migration {applied}, and this mailerd needs {known}; run `mailerd migrate`",
                applied=applied,
                known=known,
            )
        )


async def migrate(database: Database, *, events: StoreEvents) -> int:
    """Bring the schema up to date; safe when several daemons do it at once.

    The number that it is at now.

    DDL commits by itself, so a migration that was cut off may have left a part of its statements
    done and no row in schema_version. It is then run again, from its first statement on: CREATE
    TABLE IF NOT EXISTS passes over what is there, and so does an ALTER whose columns and keys are
    there. Nothing is dropped, and no row is touched.

    Raises:
        SchemaError: the schema is newer than this code, or another program's, it was altered by
        hand, or another
            daemon has been migrating for too long.
    """
    known = migrations()

    async def work(cursor: Cursor) -> int:
        limit = await without_limit(cursor)
        if await cursor.fetch_value(f"SELECT GET_LOCK({_LOCK}, %s)", (_LOCK_WAIT,)) != 1:
            raise SchemaError(
                t(
                    "another daemon has been migrating for more than {lock_wait} s; check SHOW PROCESSLIST",
                    lock_wait=_LOCK_WAIT,
                )
            )
        try:
            return await _apply(cursor, known, events)
        finally:
            # A connection that was cut off has lost its lock already, and asking it would hide why
            # it was cut off.
            if not cursor.connection.closed:
                await cursor.execute(f"SELECT RELEASE_LOCK({_LOCK})")
                await cursor.execute(limit)

    return await database.transaction(work, what="migrate", bound=_BOUND)


async def without_limit(cursor: Cursor) -> str:
    """Lift the session's limit on a statement, which large tables would meet; the statement that
    sets it again.
    """
    mariadb = "mariadb" in (await cursor.fetch_value("SELECT VERSION()")).lower()
    name = "max_statement_time" if mariadb else "max_execution_time"
    limit = await cursor.fetch_value(f"SELECT @@SESSION.{name}")
    await cursor.execute(f"SET SESSION {name} = 0")
    return f"SET SESSION {name} = {limit}"  # all its digits: MySQL takes no 1.2e+06


async def _is_applied(cursor: Cursor, statement: str, *, of: Migration) -> bool:
    """Whether an ALTER that adds columns and keys was done before the migration was cut off.

    Asked for, since ADD COLUMN IF NOT EXISTS is MariaDB's alone. Both servers do an ALTER whole or
    not at all.

    Raises:
        SchemaError: a part of it is there, which no crash leaves behind.
    """
    if not (table := re.match(r"ALTER TABLE (\w+)", statement)):
        return False
    wanted = [
        (kind.lower(), name) for kind, name in re.findall(r"\bADD (COLUMN|KEY) (\w+)", statement)
    ]
    await cursor.execute(
        "SELECT 'column', column_name FROM information_schema.columns WHERE table_schema = DATABASE() "
        "AND table_name = %s UNION SELECT 'key', index_name FROM information_schema.statistics "
        "WHERE table_schema = DATABASE() AND table_name = %s",
        (table[1], table[1]),
    )
    found = {(kind, name) for kind, name in await cursor.fetchall()}
    there = [f"{kind} {name}" for kind, name in wanted if (kind, name) in found]
    missing = [f"{kind} {name}" for kind, name in wanted if (kind, name) not in found]
    if there and missing:
        raise SchemaError(
            t(
                "migration {number} ({name}): table {it} already has {there} but not {missing}; it was altered "
                "manually. Check SHOW CREATE TABLE {it}, undo the change, and start again",
                number=of.number,
                name=of.name,
                it=table[1],
                there=", ".join(there),
                missing=", ".join(missing),
            )
        )
    return bool(there)


async def _apply(cursor: Cursor, known: list[Migration], events: StoreEvents) -> int:
    applied = await own_migration(cursor)
    await cursor.execute(_SCHEMA_VERSION)
    _refuse_newer(applied, known[-1].number)
    for migration in known:
        if migration.number > applied:
            for statement in migration.statements:
                if not await _is_applied(cursor, statement, of=migration):
                    await cursor.execute(statement)
            await cursor.execute(
                "INSERT INTO schema_version (number, name, applied_at) VALUES (%s, %s, UTC_TIMESTAMP(6))",
                (migration.number, migration.name),
            )
            events.migration_applied(number=migration.number, name=migration.name)
    events.schema_current(number=known[-1].number)
    return known[-1].number
