"""MariaDB or MySQL: the few things that the tests must say differently to each; the code under test says none of them.

The suite runs on the machine's server. `MYSQLD=/usr/sbin/mysqld make test` runs it on that one.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any

import pymysql
from yarl import URL

from mailerd.sandbox import mariadb
from mailerd.store.db.connection import Cursor
from mailerd.store.db.database import Database


@cache
def is_mariadb() -> bool:
    """Which of the two this run's private server is."""
    return mariadb.find().is_mariadb


def without_tls() -> str:
    """The option of a server that offers no TLS."""
    return "--skip-ssl" if is_mariadb() else "--tls-version="


def statement_limit() -> str:
    """The variable that limits a statement: seconds on MariaDB, milliseconds and only for what reads on MySQL."""
    return "max_statement_time" if is_mariadb() else "max_execution_time"


def known_by_its_digest(url: str) -> None:
    """Log a new user in once: at the first log-in over TCP MySQL asks for the password, which mailerd does not send."""
    if not is_mariadb():
        at = URL(url)
        pymysql.connect(host=at.host, port=at.port or 3306, user=at.user, password=(at.password or "").encode()).close()


async def plan(database: Database, statement: str, values: Sequence[object]) -> list[dict[str, Any]]:
    """What EXPLAIN says of a statement: a row for each table, by the names of the columns, which both share."""

    async def work(cursor: Cursor) -> list[dict[str, Any]]:
        await cursor.execute(f"EXPLAIN FORMAT=TRADITIONAL {statement}", values)
        names = [column[0] for column in cursor._driver.description]
        return [dict(zip(names, row, strict=True)) for row in await cursor.fetchall()]

    return await database.transaction(work, what="explain")
