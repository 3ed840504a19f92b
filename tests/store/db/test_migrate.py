"""Migrations: once, by one daemon at a time, never backwards, and in SQL that both servers take."""

import asyncio
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pymysql
import pytest
from yarl import URL

from mailerd import store as store_package
from mailerd.config import DatabaseSettings
from mailerd.errors import DatabaseError, SchemaError
from mailerd.events.process import StoreEvents
from mailerd.sandbox.mariadb import Server
from mailerd.store.db import migrate as migrate_module
from mailerd.store.db.database import Database
from mailerd.store.db.migrate import Migration, check, migrate, migrations
from tests.conftest import CACHE
from tests.support.dialect import is_mariadb
from tests.support.eventually import eventually
from tests.support.heard import PATIENCE, Heard
from tests.support.replicated import as_admin
from tests.support.rows import query

FILES = sorted((Path(store_package.__file__).parent / "migrations").glob("*.sql"))
LATEST = migrations()[-1].number
SLOW = Migration(LATEST + 1, "slow", ("CREATE TABLE IF NOT EXISTS first_half (id INT)", "DO SLEEP(60)"))
NEXT = Migration(
    LATEST + 1,
    "next",
    (
        "CREATE TABLE IF NOT EXISTS footers (id INT NOT NULL PRIMARY KEY) ENGINE=InnoDB",
        "ALTER TABLE senders ADD COLUMN footer TEXT NULL, ADD COLUMN tag VARCHAR(40) NULL, ADD KEY tag (tag)",
        "UPDATE senders SET tag = 'none' WHERE tag IS NULL",
        "ALTER TABLE jobs ADD COLUMN list_id INT NULL",
    ),
)
"""What the next version may bring: a table, columns with a key, and values for the rows that are there."""
KNOWN = [*migrations(), NEXT]
CUTS = [(migration, after) for migration in KNOWN for after in range(1, len(migration.statements) + 1)]
"""Every migration, cut off after each of its statements: before the next one, or before its row in schema_version."""
STATEMENTS = (migrate_module._SCHEMA_VERSION, *(sql for one in migrations() for sql in one.statements))
ROWS = {
    "senders": "email = 'me@example.com', per_day = 7, created_at = '2026-01-02'",
    "jobs": "id = '01J', type = 'template', sender_email = 'me@example.com', subject = 'Hi', variables = '{}', "
    "status = 'sending', total = 3, send_at = '2026-01-02', created_at = '2026-01-02'",
    "api_keys": f"name = 'shop', digest = '{'x' * 32}', hint = 'md_x', created_at = '2026-01-02'",
}
"""What a table holds when its migration is run again."""

# What MariaDB takes and MySQL 8.0 does not, or the other way round, or what the two understand differently.
FOREIGN = (
    r"\bIF NOT EXISTS\s+\w+\s+(?!\()\w", r"\b(ADD|DROP|MODIFY|CHANGE) (COLUMN|INDEX|KEY|CONSTRAINT) IF\b",
    r"\bCREATE OR REPLACE TABLE\b", r"\bCREATE (UNIQUE )?INDEX IF\b", r"\bSEQUENCE\b", r"\bRETURNING\b",
    r"\bUUID\b(?!\()", r"\bINET[46]\b", r"\bVECTOR\b", r"\bPERSISTENT\b", r"\bWITH SYSTEM VERSIONING\b",
    r"\bPERIOD FOR\b", r"\bIGNORED\b", r"\bINVISIBLE\b", r"\bNOWAIT\b|\bWAIT \d", r"\bENGINE ?= ?(Aria|MyISAM)\b",
    r"\bPAGE_COMPRESSED\b", r"\bENCRYPTED\b", r"uca1400|_0900_|\bnopad\b", r"->>?", r"\bJSON\b(?!_)", r"\bENUM\b",
    r"\bDESC\b", r"\bFOREIGN KEY\b|\bREFERENCES\b", r"\bDEFAULT \(", r"\bDEFAULT [A-Z_]+\(", r"\bZEROFILL\b",
    r"\(\d+\)\s+UNSIGNED", r"\bREPLACE INTO\b", r"/\*[!M]",
)  # fmt: skip


@pytest.fixture
async def empty(database_url: str, heard: Heard) -> AsyncIterator[Database]:
    database = opened(database_url, heard)
    yield database
    await database.close()


def opened(url: str, heard: Heard, *, statement_timeout: float = 5) -> Database:
    settings = DatabaseSettings(url=url, connect_timeout=20, statement_timeout=statement_timeout, pool_size=2)
    return Database(settings, events=StoreEvents(heard))


async def tables(database: Database) -> set[str]:
    return {name for (name,) in await query(database, "SHOW TABLES")}


def stranger(url: str) -> Any:
    """A connection of somebody else's."""
    at = URL(url)
    return pymysql.connect(
        host="127.0.0.1", port=at.port or 0, user=at.user, password=at.password or "", database=at.path[1:]
    )


def lock_of(connection: Any) -> str:
    name: str = connection.db.decode() if isinstance(connection.db, bytes) else connection.db
    return f"mailerd.migrate.{name[:40]}"


async def shape(database: Database) -> dict[str, str]:
    """Every table as the server describes it, but for how far it has counted."""
    described = {name: (await query(database, f"SHOW CREATE TABLE {name}"))[0][1] for name in await tables(database)}
    return {name: re.sub(r" AUTO_INCREMENT=\d+", "", sql) for name, sql in described.items()}


def with_one_more(monkeypatch: pytest.MonkeyPatch, migration: Migration) -> None:
    more = [*migrations(), migration]
    monkeypatch.setattr(migrate_module, "migrations", lambda: more)


async def test_an_empty_database_gets_everything_and_says_so(empty: Database, heard: Heard) -> None:
    with pytest.raises(SchemaError, match=f"at migration 0, and this mailerd needs {LATEST}; run `mailerd migrate`"):
        await check(empty)
    assert await migrate(empty, events=StoreEvents(heard)) == LATEST
    await check(empty)
    spine = {"jobs", "job_recipients", "senders", "sender_hours", "attempts", "api_keys", "daemons", "schema_version"}
    assert await tables(empty) >= spine
    assert heard.names() == ["migration_applied"] * len(FILES) + ["schema_current"]
    assert await query(empty, "SELECT number, name FROM schema_version ORDER BY number") == [
        (migration.number, migration.name) for migration in migrations()
    ]


async def test_the_tables_can_be_made_where_rows_are_compact_by_default(
    empty: Database, heard: Heard, mariadb: Server
) -> None:
    ((before,),) = as_admin(mariadb, "SELECT @@GLOBAL.innodb_default_row_format")
    as_admin(mariadb, "SET GLOBAL innodb_default_row_format = COMPACT")  # long keys fit into DYNAMIC rows alone
    try:
        await migrate(empty, events=StoreEvents(heard))
    finally:
        as_admin(mariadb, f"SET GLOBAL innodb_default_row_format = {before}")


async def test_a_second_time_changes_nothing(empty: Database, heard: Heard) -> None:
    await migrate(empty, events=StoreEvents(heard))
    before = await query(empty, "SELECT * FROM schema_version")
    heard.events.clear()
    assert await migrate(empty, events=StoreEvents(heard)) == LATEST
    assert heard.names() == ["schema_current"]
    assert await query(empty, "SELECT * FROM schema_version") == before


async def test_several_daemons_at_once_apply_each_migration_once(database_url: str, heard: Heard) -> None:
    several = [opened(database_url, heard) for _ in range(4)]
    assert await asyncio.gather(*(migrate(one, events=StoreEvents(heard)) for one in several)) == [LATEST] * 4
    assert heard.names().count("migration_applied") == len(FILES)
    assert heard.names().count("schema_current") == 4
    for one in several:
        await one.close()


async def test_only_what_is_new_is_applied(empty: Database, heard: Heard, monkeypatch: pytest.MonkeyPatch) -> None:
    await migrate(empty, events=StoreEvents(heard))
    heard.events.clear()
    with_one_more(monkeypatch, Migration(LATEST + 1, "more", ("CREATE TABLE more (id INT)",)))
    with pytest.raises(SchemaError, match="run `mailerd migrate`"):
        await check(empty)
    assert await migrate(empty, events=StoreEvents(heard)) == LATEST + 1
    assert heard.of("migration_applied") == [{"number": LATEST + 1, "name": "more"}]


async def test_a_newer_schema_is_refused_with_both_numbers_and_the_remedy(empty: Database, heard: Heard) -> None:
    await migrate(empty, events=StoreEvents(heard))
    await query(empty, "INSERT INTO schema_version VALUES (999, 'future', UTC_TIMESTAMP(6))")
    message = f"at migration 999, and this mailerd knows only {LATEST}; a newer mailerd .*. Install that version"
    with pytest.raises(SchemaError, match=message):
        await check(empty)
    with pytest.raises(SchemaError, match=message):
        await migrate(empty, events=StoreEvents(heard))
    with pytest.raises(SchemaError, match=message):  # and the refusal has left no lock behind
        await asyncio.wait_for(migrate(empty, events=StoreEvents(heard)), PATIENCE)


async def test_a_lock_that_is_held_for_too_long_is_named(
    empty: Database, database_url: str, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrate_module, "_LOCK_WAIT", 1)
    with stranger(database_url) as other, other.cursor() as cursor:
        cursor.execute("SELECT GET_LOCK(%s, 0)", (lock_of(other),))
        assert cursor.fetchone() == (1,)
        with pytest.raises(SchemaError, match="has been migrating for more than 1 s; check SHOW PROCESS"):
            await migrate(empty, events=StoreEvents(heard))
    assert await migrate(empty, events=StoreEvents(heard)) == LATEST


async def test_waiting_and_migrating_are_not_bound_by_the_time_of_an_ordinary_statement(
    database_url: str, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = "max_statement_time" if is_mariadb() else "max_execution_time / 1000"
    seen = ("CREATE TABLE seen (bound DOUBLE)", f"INSERT INTO seen SELECT @@SESSION.{limit}")
    with_one_more(monkeypatch, Migration(LATEST + 1, "large", seen))
    database = opened(database_url, heard, statement_timeout=1)
    with stranger(database_url) as other, other.cursor() as cursor:
        cursor.execute("SELECT GET_LOCK(%s, 0)", (lock_of(other),))
        migrating = asyncio.create_task(migrate(database, events=StoreEvents(heard)))
        done, _ = await asyncio.wait([migrating], timeout=1.3)
        assert not done  # an ordinary statement would have been ended by the server after 0.8 s
    assert await migrating == LATEST + 1
    assert await query(database, "SELECT bound FROM seen") == [(0.0,)]
    assert await query(database, f"SELECT @@SESSION.{limit} = 0.8") == [(1,)]
    await database.close()


async def test_a_migration_that_is_cut_off_says_why_and_leaves_no_lock(
    empty: Database, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_one_more(monkeypatch, SLOW)
    monkeypatch.setattr(migrate_module, "_BOUND", 1.0)
    with pytest.raises(DatabaseError, match="migrate: work: TimeoutError: no response within the time-out"):
        await migrate(empty, events=StoreEvents(heard))
    monkeypatch.undo()
    with_one_more(monkeypatch, replace(SLOW, statements=SLOW.statements[:1]))
    assert (
        await asyncio.wait_for(migrate(empty, events=StoreEvents(heard)), PATIENCE) == LATEST + 1
    )  # at once: it was free


@pytest.mark.parametrize("cut, after", CUTS, ids=lambda part: getattr(part, "name", part))
async def test_a_migration_that_was_cut_off_after_any_of_its_statements_goes_on_and_keeps_the_rows(
    empty: Database, heard: Heard, monkeypatch: pytest.MonkeyPatch, cut: Migration, after: int
) -> None:
    killed = replace(cut, statements=(*cut.statements[:after], "KILL CONNECTION_ID()"))
    with monkeypatch.context() as patched:
        patched.setattr(migrate_module, "migrations", lambda: [*KNOWN[: cut.number - 1], killed])
        with pytest.raises(DatabaseError):
            await migrate(empty, events=StoreEvents(heard))
    monkeypatch.setattr(migrate_module, "migrations", lambda: KNOWN)
    kept = {table: row for table, row in ROWS.items() if table in await tables(empty)}
    for table, row in kept.items():
        await query(empty, f"INSERT INTO {table} SET {row}")
    assert await migrate(empty, events=StoreEvents(heard)) == NEXT.number
    for table, row in kept.items():
        assert await query(empty, f"SELECT COUNT(*) FROM {table} WHERE {row.replace(', ', ' AND ')}") == [(1,)]
    found = await shape(empty)
    await query(empty, f"DROP TABLE {', '.join(found)}")
    await migrate(empty, events=StoreEvents(heard))
    assert found == await shape(empty)


async def test_a_table_that_somebody_has_altered_is_not_taken_for_a_migration_that_was_cut_off(
    empty: Database, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    await migrate(empty, events=StoreEvents(heard))
    monkeypatch.setattr(migrate_module, "migrations", lambda: KNOWN)
    await query(empty, "ALTER TABLE senders ADD COLUMN tag TEXT NULL")
    message = r"2 \(next\): table senders already has column tag .*manually. Check SHOW CREATE TABLE senders"
    with pytest.raises(SchemaError, match=message):
        await migrate(empty, events=StoreEvents(heard))
    await query(empty, "ALTER TABLE senders DROP COLUMN tag")
    assert await migrate(empty, events=StoreEvents(heard)) == NEXT.number


PREDECESSOR = (
    "CREATE TABLE jobs (id INT AUTO_INCREMENT PRIMARY KEY, template TEXT NOT NULL, state VARCHAR(20) NOT NULL) "
    "ENGINE=InnoDB",
    "CREATE TABLE job_recipients (id INT AUTO_INCREMENT PRIMARY KEY, job_id INT NOT NULL, email VARCHAR(255) NOT NULL, "
    "sent_at DATETIME NULL) ENGINE=InnoDB",
    "INSERT INTO jobs (template, state) VALUES ('welcome', 'running')",
    "INSERT INTO job_recipients (job_id, email) VALUES (1, 'ada@example.com')",
)


async def everything(database: Database) -> list[Any]:
    """What the server knows of the database's tables, and their rows."""
    known = [
        await query(database, f"SELECT * FROM information_schema.{what} WHERE table_schema = DATABASE() ORDER BY 3, 4")
        for what in ("columns", "statistics")
    ]
    made = [
        (name, await query(database, f"SHOW CREATE TABLE {name}"), await query(database, f"SELECT * FROM {name}"))
        for name in sorted(await tables(database))
    ]
    return [*known, made]


async def test_tables_of_another_program_are_named_and_nothing_is_made_among_them(
    empty: Database, heard: Heard
) -> None:
    for statement in PREDECESSOR:
        await query(empty, statement)
    before = await everything(empty)
    message = (
        r"tables of another program, or altered ones: jobs \(without type, sender_email, .*, …\), "
        r"job_recipients \(without .*to_email.*\); give mailerd a database of its own .*; nothing was changed"
    )
    for refused in (migrate(empty, events=StoreEvents(heard)), check(empty)):
        with pytest.raises(SchemaError, match=message):
            await refused
    assert await everything(empty) == before
    assert heard.names() == []


async def test_tables_of_another_program_are_found_where_mailerd_was_migrated_among_them_before(
    empty: Database, heard: Heard
) -> None:
    await migrate(empty, events=StoreEvents(heard))
    await query(empty, "DROP TABLE jobs, job_recipients")
    for statement in PREDECESSOR:
        await query(empty, statement)
    for refused in (migrate(empty, events=StoreEvents(heard)), check(empty)):
        with pytest.raises(SchemaError, match=r"tables of another program.* jobs \(without .*job_recipients \(without"):
            await refused


async def test_the_tables_of_another_version_are_called_so(empty: Database, heard: Heard) -> None:
    """A daemon was started that is older or newer than the one that made them, and no migration tells."""
    await migrate(empty, events=StoreEvents(heard))
    await query(empty, "ALTER TABLE senders DROP COLUMN latency")
    await query(empty, "ALTER TABLE jobs ADD COLUMN colour INT NOT NULL")
    message = (
        r"is of another version of mailerd, or was altered: senders \(without latency\), "
        r"jobs \(with colour, which must be given\); start the version that made it, or restore a backup of this"
    )
    for refused in (migrate(empty, events=StoreEvents(heard)), check(empty)):
        with pytest.raises(SchemaError, match=message):
            await refused


async def test_a_table_of_versions_that_another_program_keeps_is_not_written_to(empty: Database, heard: Heard) -> None:
    await query(empty, "CREATE TABLE schema_version (version VARCHAR(50) PRIMARY KEY, checksum INT) ENGINE=InnoDB")
    before = await everything(empty)
    for refused in (migrate(empty, events=StoreEvents(heard)), check(empty)):
        with pytest.raises(SchemaError, match=r"schema_version \(without number, name, applied_at\)"):
            await refused
    assert await everything(empty) == before


_LISTS = (
    "id INT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY, name VARCHAR(100), title TEXT, senders TEXT, "
    "created_at DATETIME"
)
_VERSIONS = "number INT UNSIGNED NOT NULL PRIMARY KEY, name VARCHAR(100) NOT NULL, applied_at DATETIME(6) NOT NULL"


@pytest.mark.parametrize(
    "made, said",
    [
        ([f"CREATE TABLE lists ({_LISTS}, owner_id INT NOT NULL)"], r"lists \(with owner_id, which must be given\)"),
        (["CREATE VIEW lists AS SELECT 1 AS id, 'a' AS name, 'b' AS title, NOW() AS created_at"], r"lists \(a view\)"),
        (["CREATE VIEW jobs AS SELECT 1 AS id"], r"jobs \(a view\)"),
        (
            ["CREATE TABLE secrets (name VARCHAR(60), value TEXT, created_at DATETIME, owner VARCHAR(9))"],
            r"secrets \(without a key\)",
        ),
        (
            ["CREATE TABLE secrets (name VARCHAR(20) PRIMARY KEY, value TEXT, created_at DATETIME)"],
            r"secrets \(key name varchar\(20\)\)",
        ),
        (
            ["CREATE TABLE secrets (id INT PRIMARY KEY, name VARCHAR(40), value TEXT, created_at DATE)"],
            r"secrets \(key id int\)",
        ),
        (
            ["CREATE TABLE schema_version (number VARCHAR(20) PRIMARY KEY, name VARCHAR(100), applied_at DATETIME)",
             "INSERT INTO schema_version VALUES ('V1__init', 'init', NOW())"],
            r"schema_version \(key number varchar\(20\)\)",
        ),
        (
            [f"CREATE TABLE schema_version ({_VERSIONS})", "INSERT INTO schema_version VALUES (1, 'init', NOW())"],
            r"at migration 1, but tables are missing: daemons, senders, .*, …; restore the missing tables",
        ),
    ],
)  # fmt: skip
async def test_what_another_program_may_have_made_is_refused_by_its_keys_its_needs_and_its_kind(
    empty: Database, heard: Heard, made: list[str], said: str
) -> None:
    for statement in made:
        await query(empty, statement)
    before = await tables(empty)
    for refused in (migrate(empty, events=StoreEvents(heard)), check(empty)):
        with pytest.raises(SchemaError, match=said):
            await refused
    assert await tables(empty) == before


async def test_a_column_that_another_needs_to_be_given_is_refused_among_ours_and_one_with_a_default_is_not(
    empty: Database, heard: Heard
) -> None:
    await migrate(empty, events=StoreEvents(heard))
    await query(empty, "ALTER TABLE jobs ADD COLUMN note TEXT NULL, ADD COLUMN kind INT NOT NULL DEFAULT 0")
    await check(empty)
    await query(empty, "ALTER TABLE jobs ADD COLUMN must INT NOT NULL")
    with pytest.raises(SchemaError, match=r"jobs \(with must, which must be given\)"):
        await check(empty)


async def test_half_a_restore_is_refused_and_says_which_tables_are_missing(empty: Database, heard: Heard) -> None:
    await migrate(empty, events=StoreEvents(heard))
    await query(empty, "DROP TABLE webhooks, attempts")
    before = await tables(empty)
    for refused in (migrate(empty, events=StoreEvents(heard)), check(empty)):
        with pytest.raises(
            SchemaError, match=r"tables are missing: attempts, webhooks; restore the missing tables from a backup"
        ):
            await refused
    assert await tables(empty) == before


async def test_a_table_whose_name_differs_by_its_case_is_another_one(empty: Database, heard: Heard) -> None:
    """But on a server that has lower_case_table_names, where it is the same."""
    await query(empty, "CREATE TABLE Jobs (id INT) ENGINE=InnoDB")
    assert await migrate(empty, events=StoreEvents(heard)) == LATEST
    await check(empty)


@pytest.mark.skipif(not is_mariadb(), reason="MySQL takes lower_case_table_names when its directory is made alone")
async def test_where_case_does_not_count_a_table_of_another_case_is_found(heard: Heard) -> None:
    with Server(cache=CACHE, extra=("--lower-case-table-names=1",)) as server:
        database = opened(server.url, heard)
        await query(database, "CREATE TABLE Jobs (ID INT, TYPE INT) ENGINE=InnoDB")
        with pytest.raises(SchemaError, match=r"jobs \(without sender_email"):
            await migrate(database, events=StoreEvents(heard))
        await query(database, "DROP TABLE Jobs")
        assert await migrate(database, events=StoreEvents(heard)) == LATEST
        await database.close()


async def test_every_column_that_the_schema_has_is_looked_for(empty: Database, heard: Heard) -> None:
    await migrate(empty, events=StoreEvents(heard))
    found = await query(
        empty, "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = DATABASE()"
    )
    for table, column in found:
        one = migrate_module._created(next(sql for sql in STATEMENTS if re.search(rf"EXISTS {table} ", sql)))
        assert one is not None
        assert column.lower() in one[1].columns
    assert len(found) == sum(len(one[1].columns) for sql in STATEMENTS if (one := migrate_module._created(sql)))


async def test_a_migration_that_is_cancelled_is_cancelled(
    empty: Database, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_one_more(monkeypatch, SLOW)
    migrating = asyncio.create_task(migrate(empty, events=StoreEvents(heard)))

    async def half_done() -> bool:
        return "first_half" in await tables(empty)

    await eventually(half_done)
    migrating.cancel()
    await asyncio.wait([migrating], timeout=PATIENCE)
    assert migrating.cancelled()


async def test_a_daemon_that_is_killed_in_mid_migration_leaves_no_lock(
    empty: Database, database_url: str, heard: Heard
) -> None:
    with stranger(database_url) as other, other.cursor() as cursor:
        lock = lock_of(other)
        program = (
            "import asyncio, sys\n"
            "from mailerd.config import DatabaseSettings\n"
            "from mailerd.events.process import StoreEvents\n"
            "from mailerd.store.db import migrate as m\n"
            "from mailerd.store.db.database import Database\n"
            "async def half(cursor, known, events):\n"
            "    await cursor.execute('CREATE TABLE first_half (id INT)')\n"
            "    print('half', flush=True)\n"
            "    await asyncio.Event().wait()\n"
            "m._apply = half\n"
            "events = StoreEvents(lambda event, fields: None)\n"
            "database = Database(DatabaseSettings(url=sys.argv[1]), events=events)\n"
            "asyncio.run(m.migrate(database, events=events))\n"
        )
        daemon = await asyncio.create_subprocess_exec(
            sys.executable, "-c", program, database_url, stdout=subprocess.PIPE
        )
        try:
            assert daemon.stdout is not None
            assert await daemon.stdout.readline() == b"half\n"
            cursor.execute("SELECT IS_FREE_LOCK(%s)", (lock,))
            assert cursor.fetchone() == (0,)
        finally:
            daemon.kill()
            await daemon.communicate()
        assert await asyncio.wait_for(migrate(empty, events=StoreEvents(heard)), PATIENCE) == LATEST


async def test_a_server_that_is_killed_in_mid_migration_leaves_no_lock(
    empty: Database, mariadb: Server, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as more:
        with_one_more(more, Migration(LATEST + 1, "slow", ("DO SLEEP(60)",)))
        migrating = asyncio.create_task(migrate(empty, events=StoreEvents(heard)))
        await heard.wait_for("migration_applied", times=len(FILES))
        await asyncio.to_thread(mariadb.restart)
        with pytest.raises(DatabaseError):
            await migrating
    assert await asyncio.wait_for(migrate(empty, events=StoreEvents(heard)), PATIENCE) == LATEST


@pytest.mark.parametrize(
    "table, index, columns",
    [
        ("senders", "next_claim", "next_claim_at,email"),
        ("jobs", "next_claim", "sender_email,claimable,precedence,next_claim_at,id"),
        ("jobs", "by_status", "status,id"),
        ("jobs", "finished", "finished_at,sender_email"),
        ("jobs", "finished_of_sender", "sender_email,finished_at"),
        ("job_recipients", "claim", "job_id,status,due_at,id"),
        ("job_recipients", "lease", "lease_until,id"),
        ("job_recipients", "message", "job_id,seq"),
        ("job_recipients", "PRIMARY", "id"),
        ("attempts", "event_of_claim", "recipient_id,claim_token,event"),
        ("sender_hours", "PRIMARY", "sender_email,hour"),
    ],
)
async def test_an_index_that_the_statements_rely_on_is_there(
    database: Database, table: str, index: str, columns: str
) -> None:
    found = await query(
        database,
        "SELECT GROUP_CONCAT(column_name ORDER BY seq_in_index) FROM information_schema.statistics "
        "WHERE table_schema = DATABASE() AND table_name = %s AND index_name = %s",
        table,
        index,
    )
    assert found == [(columns,)]


async def test_every_index_that_a_statement_forces_exists(database: Database) -> None:
    there = set(
        await query(
            database, "SELECT table_name, index_name FROM information_schema.statistics WHERE table_schema = DATABASE()"
        )
    )
    sources = "\n".join(path.read_text("utf-8") for path in Path(store_package.__file__).parent.rglob("*.py"))
    forced = set(re.findall(r"(\w+)(?: \w)? FORCE INDEX (?:FOR [A-Z ]+)?\((\w+)\)", sources))
    assert len(forced) >= 3
    assert forced <= there


async def test_no_table_has_a_foreign_key_and_all_are_transactional_and_exact(database: Database) -> None:
    assert await query(
        database,
        "SELECT constraint_name FROM information_schema.table_constraints "
        "WHERE table_schema = DATABASE() AND constraint_type = 'FOREIGN KEY'",
    ) == []  # fmt: skip
    found = await query(
        database,
        "SELECT table_name, engine, table_collation FROM information_schema.tables "
        "WHERE table_schema = DATABASE() AND table_name <> 'schema_version'",
    )
    assert {(engine, collation) for _, engine, collation in found} == {("InnoDB", "utf8mb4_bin")}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_the_sql_has_nothing_that_only_one_of_the_two_servers_takes(file: Path) -> None:
    # There is no MySQL 8.0 to run it on here: this is a list of traps, not a proof.
    sql = re.sub(r"--.*", "", file.read_text("utf-8"))
    found = [construct for construct in FOREIGN if re.search(construct, sql, re.IGNORECASE)]
    assert not found
    assert set(re.findall(r"\bCOLLATE[ =](\w+)", sql)) <= {"utf8mb4_bin", "ascii_bin"}
    assert all(statement.endswith(")") or "ENGINE=InnoDB" in statement or not statement.startswith("CREATE TABLE")
               for statement in sql.split(";"))  # fmt: skip


@pytest.mark.parametrize(
    "sql",
    [
        "ALTER TABLE t ADD COLUMN IF NOT EXISTS c INT", "CREATE OR REPLACE TABLE t (id INT)", "a UUID NOT NULL",
        "j JSON NULL", "INSERT INTO t VALUES (1) RETURNING id", "KEY k (a DESC)", "COLLATE utf8mb4_0900_ai_ci",
        "COLLATE uca1400_ai_ci", "a INT DEFAULT (1 + 1)", "s ENUM('a')", "CREATE INDEX IF NOT EXISTS i ON t (a)",
    ],
)  # fmt: skip
def test_the_list_of_traps_catches_what_it_is_for(sql: str) -> None:
    assert any(re.search(construct, sql, re.IGNORECASE) for construct in FOREIGN)


def test_migrations_are_numbered_without_a_gap_and_named_by_their_files() -> None:
    assert [migration.number for migration in migrations()] == list(range(1, LATEST + 1))
    assert [f"{m.number:04}_{m.name}.sql" for m in migrations()] == [file.name for file in FILES]
    assert all(m.statements for m in migrations())
