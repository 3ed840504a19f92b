"""All tables of a database at once: kept and put back, and read so that two runs of one thing can be compared."""

import re
from collections.abc import Collection
from datetime import datetime
from typing import Any, Final

import pymysql
from pymysql.constants import CLIENT
from yarl import URL

from mailerd.store.read.audit import CHECKS
from tests.support.recycled import TABLES

_SPELLED: Final = 600
"""Times are the same within so many seconds, half of it to each side: what takes time waits for a multiple of it."""
_ID: Final = re.compile(r"\b[0-9A-HJKMNP-TV-Z]{26}\b")
_TIME: Final = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?Z?")
_PASSING: Final = {
    "events": {"id", "uid", "position", "at"}, "attempts": {"id"}, "job_actions": {"id"}, "notices": {"id"},
    "suppression_log": {"id"}, "senders": {"tat", "gap_until"}, "event_positions": {"last"},
    "secrets": {"value", "created_at"},
}  # fmt: skip
"""Columns that tell nothing but when or as the how manieth something was written."""
_READ: Final = {
    "tallies": "SELECT sender_email, daemon, SUM(sent), SUM(failed), SUM(put_off), SUM(unsure), SUM(bounced), "
    "SUM(replied) FROM tallies GROUP BY 1, 2"
}
"""Whose rows are of a minute each."""

Contents = dict[str, list[tuple[str, ...]]]


class Tables:
    """Every row of every table. `keep` what is there now; what has another id or time since is called `new`."""

    def __init__(self, url: str) -> None:
        at = URL(url)
        self._connection = pymysql.connect(
            host=at.host, port=at.port, user=at.user, password=at.password or "", database=at.path[1:],
            autocommit=True, client_flag=CLIENT.MULTI_STATEMENTS, read_timeout=30,
        )  # fmt: skip
        self._put_back = ""
        self._began: Any = None
        self._known: set[str] = set()
        self._audit = " UNION ALL ".join(f"({statement % ()} LIMIT 3)" for _, statement in CHECKS)

    def keep(self) -> None:
        """Keep what is there."""
        statements = ["BEGIN"]
        ((self._began,),) = self._rows("SELECT UTC_TIMESTAMP(6)")[1]
        for table in TABLES:
            made = {name for name, *_, extra in self._rows(f"SHOW COLUMNS FROM {table}")[1] if "GENERATED" in extra}
            names, rows = self._rows(f"SELECT * FROM {table}")
            statements.append(f"DELETE FROM {table}")
            columns = [name for name in names if name not in made]
            for row in rows:
                values = [value for name, value in zip(names, row, strict=True) if name not in made]
                insert = f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join(['%s'] * len(values))})"
                statements.append(self._connection.cursor().mogrify(insert, values))
                self._known |= {found for value in values for found in _ID.findall(str(value))}
        self._put_back = "; ".join([*statements, "COMMIT"])

    def put_back(self) -> None:
        """Leave what was kept, once nobody holds a row any more."""
        self._results(self._put_back)

    def read(self) -> Contents:
        """All rows, in an order of their own; of the audit what it finds."""
        ((_, found),) = self._results(self._audit)
        return {"audit": [tuple(map(str, row)) for row in found]} | self.rows_of(TABLES)

    def rows_of(self, tables: Collection[str]) -> Contents:
        """All rows of some tables, in an order of their own."""
        contents = Contents()
        results = self._results("; ".join(_READ.get(it, f"SELECT * FROM {it}") for it in tables))
        for table, (names, rows) in zip(tables, results, strict=True):
            passing = _PASSING.get(table, set())
            contents[table] = sorted(
                tuple(f"{name}={self._said(it)}" for name, it in zip(names, row, strict=True) if name not in passing)
                for row in rows
            )
        return contents

    def sums(self) -> dict[str, int]:
        """By table a sum that tells whether anything in it has changed."""
        tables = self._rows(f"CHECKSUM TABLE {', '.join(TABLES)}")[1]
        return {table: found for table, (_, found) in zip(TABLES, tables, strict=True)}

    def said(self, value: object) -> str:
        """What a caller was told, without the ids that were made for it."""
        return _ID.sub(lambda found: found[0] if found[0] in self._known else "new", repr(value))

    def _said(self, value: object) -> str:
        if isinstance(value, datetime):
            return f"{round((value - self._began).total_seconds() / _SPELLED)}"
        return _TIME.sub("time", self.said(value))

    def _rows(self, statement: str) -> tuple[list[str], list[tuple[Any, ...]]]:
        (result,) = self._results(statement)
        return result

    def _results(self, statements: str) -> list[tuple[list[str], list[tuple[Any, ...]]]]:
        """Of each statement the names of its columns and its rows."""
        results = []
        with self._connection.cursor() as cursor:
            cursor.execute(statements)
            while True:
                results.append(([it[0] for it in cursor.description or ()], list(cursor.fetchall())))
                if not cursor.nextset():
                    return results

    def close(self) -> None:
        self._connection.close()
