"""A migrated database for one test after the other, emptied by DELETE: thirty CREATE TABLEs take longer than a test."""

import asyncio
import re
import secrets
import time
from typing import Any, Final

import pymysql

from mailerd.config import DatabaseSettings
from mailerd.events.process import StoreEvents
from mailerd.sandbox.mariadb import Server
from mailerd.store.db.database import Database
from mailerd.store.db.migrate import migrate, migrations

_STATEMENTS: Final = [statement for it in migrations() for statement in it.statements]
_INSERTS: Final = [it for it in _STATEMENTS if it.lstrip().startswith("INSERT")]
TABLES: Final = [match[1] for it in _STATEMENTS if (match := re.search(r"CREATE TABLE IF NOT EXISTS (\w+)", it))]
"""All that a migration makes, but for what numbers the migrations."""
_NUMBERED: Final = {
    match[1] for it in _STATEMENTS if (match := re.search(r"CREATE TABLE IF NOT EXISTS (\w+)[^;]*\bAUTO_INCREMENT", it))
}
_HELD: Final = " UNION ALL ".join(f"(SELECT '{table}' FROM {table} LIMIT 1)" for table in TABLES)
_COUNTED: Final = (
    "SELECT table_name FROM information_schema.tables WHERE table_schema = DATABASE() AND auto_increment > 1"
)
_SCHEMA: Final = """
SELECT COUNT(*), SUM(CRC32(CONCAT_WS(' ', table_name, column_name, column_type, is_nullable, collation_name)))
  FROM information_schema.columns WHERE table_schema = DATABASE()
 UNION ALL
SELECT COUNT(*), SUM(CRC32(CONCAT_WS(' ', table_name, index_name, seq_in_index, column_name)))
  FROM information_schema.statistics WHERE table_schema = DATABASE()
 UNION ALL
SELECT COUNT(*), NULL FROM information_schema.table_constraints WHERE table_schema = DATABASE()
 UNION ALL
SELECT COUNT(*), NULL FROM information_schema.triggers WHERE trigger_schema = DATABASE()
 UNION ALL
SELECT COUNT(*), SUM(number) FROM schema_version"""
_SESSIONS: Final = "SELECT id FROM information_schema.processlist WHERE db = DATABASE() AND id <> CONNECTION_ID()"
_MOST_ROWS: Final = 5000
"""A database that held more is dropped: what DELETE leaves behind of so many would slow down who comes next."""
_NO_SUCH_THREAD: Final = 1094


def empty(connection: Any) -> int:
    """Leave what a migration leaves; how many rows there were. The next rows have the numbers of the first."""
    with connection.cursor() as cursor:
        cursor.execute(_HELD)
        held = {table for (table,) in cursor.fetchall()}
        rows = sum(int(cursor.execute(f"DELETE FROM {table}")) for table in TABLES if table in held)
        for statement in _INSERTS:
            cursor.execute(statement)
        connection.commit()
        cursor.execute(_COUNTED)  # those too whose rows were all rolled back
        for table in _NUMBERED & (held | {table for (table,) in cursor.fetchall()}):
            cursor.execute(f"ALTER TABLE {table} AUTO_INCREMENT = 1")
    return rows


class RecycledDatabase:
    """One for each process of the run; it is made anew where a test leaves it unlike a migrated one."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._name = ""
        self._pid = 0
        self._connection: Any = None
        self._schema: Any = None

    def take(self) -> str:
        """The address of a migrated, empty database."""
        if not self._name or self._pid != self._server.pid:
            self._make()
        return self._server.url_of(self._name)

    def give_back(self) -> None:
        """Empty it for the next test; one that cannot be trusted is dropped."""
        if not self._server.running or self._server.pid != self._pid:  # killed: its next start is another server
            self._name = ""
            return
        self._server.thaw()
        try:
            self._end_sessions()
            if self._run(_SCHEMA) == self._schema and empty(self._connection) <= _MOST_ROWS:
                return
        except pymysql.err.MySQLError:
            self._connection.close()
            self._connect()
            self._end_sessions()
        self._run(f"DROP DATABASE {self._name}")
        self._name = ""

    def _make(self) -> None:
        self._pid, self._name = self._server.pid, f"mailerd_{secrets.token_hex(6)}"
        self._connect("")
        self._run(f"CREATE DATABASE {self._name} CHARACTER SET utf8mb4 COLLATE utf8mb4_bin")
        asyncio.run(self._migrate())
        self._connection.select_db(self._name)
        self._schema = self._run(_SCHEMA)

    async def _migrate(self) -> None:
        events = StoreEvents(lambda *_: None)
        settings = DatabaseSettings(url=self._server.url_of(self._name), connect_timeout=20, statement_timeout=60)
        database = Database(settings, events=events)
        await migrate(database, events=events)
        await database.close()

    def _connect(self, name: str | None = None) -> None:
        self._connection = pymysql.connect(
            host="127.0.0.1", port=self._server.port, user="admin", password=self._server.password,
            database=(self._name if name is None else name) or None, connect_timeout=10, read_timeout=30,
        )  # fmt: skip
        self._run("SET innodb_lock_wait_timeout = 5, lock_wait_timeout = 5")

    def _end_sessions(self) -> None:
        """End what still holds rows or tables, and wait until it is undone."""
        until = time.monotonic() + 10
        while (sessions := self._run(_SESSIONS)) and time.monotonic() < until:
            for (session,) in sessions:
                try:
                    self._run(f"KILL {session}")
                except pymysql.err.MySQLError as error:
                    if error.args[0] != _NO_SUCH_THREAD:
                        raise

    def _run(self, statement: str) -> Any:
        with self._connection.cursor() as cursor:
            cursor.execute(statement)
            found = cursor.fetchall()
        self._connection.commit()
        return found
