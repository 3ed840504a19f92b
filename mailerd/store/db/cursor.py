"""Statements on their way to the server: as few round trips as there are questions, and values written safely.

A round trip costs more than most statements, and in a busy loop each one waits for its turn.
"""

import asyncio
import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

import aiomysql
from pymysql.err import DataError

Statement = tuple[str, Sequence[object]]
"""SQL and its values."""

_WRITE: Final = re.compile(rb"(BEGIN; )?\s*(INSERT|UPDATE|DELETE|REPLACE|CREATE|ALTER)\b", re.IGNORECASE)

LONG: Final = 10_000
"""Characters from which a text is escaped in a few passes of C."""
_ESCAPES: Final = (
    ("\\", "\\\\"), ("\0", "\\0"), ("\n", "\\n"), ("\r", "\\r"), ("\x1a", "\\Z"), ('"', '\\"'), ("'", "\\'"),
)  # fmt: skip
"""What the driver escapes (PyMySQL's converters), the backslash first, since the others bring more of them."""
PACKET_MARGIN: Final = 1024
"""Bytes of max_allowed_packet that a statement leaves to the protocol."""


def insert_many(insert: str, rows: Sequence[Sequence[object]]) -> Statement:
    """An INSERT of several rows, which go where its only %s is."""
    row = "(" + ", ".join(["%s"] * len(rows[0])) + ")"
    return insert % ", ".join([row] * len(rows)), [value for values in rows for value in values]


class Cursor(aiomysql.Cursor):  # type: ignore[misc]  # the driver has no types
    """A cursor that refuses what the server would answer with a misleading 2006 "server has gone away"."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._begin: tuple[Callable[[], None], float] | None = None
        self._before: list[bytes] = []
        self.wrote = False
        """Whether a statement was sent that a read-only server refuses, even where it matches no row."""

    @property
    def server(self) -> str:
        """Which server the connection leads to, and since when that runs; see `server_behind`."""
        return str(self._connection.mailerd_server)

    def begin(self, begun: Callable[[], None], *, within: float) -> None:
        """Begin a transaction in one round trip with its first statement; a server that is frozen shows there.

        The server answers BEGIN before it goes on to the statement: the seconds of `within` are for that alone, and
        `begun` is called then.
        """
        self._begin = begun, within

    def pipeline(self, statement: Statement) -> None:
        """Run a statement whose result is not read, in one round trip with the next one or with COMMIT."""
        sql, values = statement
        self._before.append(self._encoded(self.mogrify(sql, values)))

    async def commit(self) -> None:
        """End the transaction."""
        if self._before or self._begin:
            await self.execute("COMMIT")
        else:
            await self._connection.commit()

    def _encoded(self, query: str | bytes) -> bytes:
        return query.encode(self._connection.encoding, "surrogateescape") if isinstance(query, str) else query

    async def _query(self, query: str | bytes) -> Any:
        before, begin = self._before, self._begin
        sent = b"; ".join([*([b"BEGIN"] if begin else []), *before, self._encoded(query)])
        if len(sent) > self._connection.mailerd_packet - PACKET_MARGIN:
            raise DataError(1153, f"a statement of {len(sent)} bytes is above the server's max_allowed_packet")
        self._before, self._begin = [], None
        self.wrote = self.wrote or _WRITE.match(sent) is not None
        if begin is None:
            await super()._query(sent)
        else:
            begun, within = begin
            async with asyncio.timeout(within):
                await super()._query(sent)
            begun()
            await self.nextset()
        for _ in before:
            await self.nextset()

    def _escape_args(self, args: Any, conn: Any) -> Any:
        """The driver's own, with a short way for most of what is written: ids, tokens, states, numbers and NULL.

        The driver examines every character of every string, which is a third of the CPU time of a record.
        """
        if isinstance(args, tuple | list):
            return tuple(map(partial(_literal, conn), args))
        return super()._escape_args(args, conn)

    async def execute_batch(self, statements: Sequence[Statement]) -> list[int]:
        """Run several in one round trip; how many rows each of them matched or wrote.

        The first that is refused ends it: those after it are not run, and those before it are for the ROLLBACK.
        """
        await self._execute_all(statements)
        rows = [self.rowcount]
        while await self.nextset():
            rows.append(self.rowcount)
        return rows

    async def fetch_batch(self, statements: Sequence[Statement]) -> list[Sequence[Any]]:
        """Run several SELECTs in one round trip, which costs more than most of them; the rows of each."""
        await self._execute_all(statements)
        found = [await self.fetchall()]
        while await self.nextset():
            found.append(await self.fetchall())
        return found

    async def _execute_all(self, statements: Sequence[Statement]) -> None:
        await self.execute(
            "; ".join(sql for sql, _ in statements), [value for _, values in statements for value in values]
        )

    async def _show_warnings(self, conn: Any) -> None:
        """Ask nothing: sql_mode is strict, so what matters is an error; the rest is notes ("table exists").

        MySQL 8 calls VALUES(column) deprecated in a warning at every use, though MariaDB knows no other way to say it.
        """


def _literal(conn: Any, value: object) -> Any:
    """A value as it stands in a statement."""
    if value is None:
        return "NULL"
    if type(value) is int:
        return str(value)
    if type(value) is str and value.isalnum():  # no letter or digit of any script needs to be escaped
        return f"'{value}'"
    if type(value) is str and len(value) > LONG and conn.escape_string("\\") == "\\\\":
        return f"'{_escaped(value)}'"
    return conn.escape(value)


def _escaped(text: str) -> str:
    """A long text as the driver would have it, which takes 40 ns for each character while nothing else runs."""
    for plain, escaped in _ESCAPES:
        text = text.replace(plain, escaped)
    return text
