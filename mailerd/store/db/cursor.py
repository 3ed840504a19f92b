"""Statements on their way to the server: one at a time, and every value is escaped here and nowhere else."""

import asyncio
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

from pymysql.err import DataError

from mailerd.store.db.prepared import made_ahead

if TYPE_CHECKING:
    from mailerd.store.db.connection import Connection

Statement = tuple[str, Sequence[object]]
"""SQL and its values."""

_WRITE: Final = re.compile(r"\s*(INSERT|UPDATE|DELETE|REPLACE|CREATE|ALTER)\b", re.IGNORECASE)

LONG: Final = 10_000
"""Characters from which a text is escaped in a few passes of C."""
_ESCAPES: Final = (
    ("\\", "\\\\"), ("\0", "\\0"), ("\n", "\\n"), ("\r", "\\r"), ("\x1a", "\\Z"), ('"', '\\"'), ("'", "\\'"),
)  # fmt: skip
"""What the driver escapes (PyMySQL's converters), the backslash first, since the others bring more of them."""
PACKET_MARGIN: Final = 1024
"""Bytes of max_allowed_packet that a statement leaves to the protocol."""


NOW: Final = ", UTC_TIMESTAMP(6)"
"""What stands behind the values of a row whose last column is the time of its INSERT."""


def insert_many(insert: str, rows: Sequence[Sequence[object]], *, last: str = "") -> Statement:
    """An INSERT of several rows, which go where its only %s is; `last` ends each of them."""
    row = "(" + ", ".join(["%s"] * len(rows[0])) + last + ")"
    return insert % ", ".join([row] * len(rows)), [value for values in rows for value in values]


class Cursor:
    """Runs statements over one connection, and refuses what the server would answer with a misleading 2006."""

    def __init__(self, connection: "Connection", driver: Any) -> None:
        """`driver`: a cursor of the driver's over the same connection."""
        self.connection: Final = connection
        self._driver: Final = driver
        self.wrote = False
        """Whether a statement was sent that a read-only server refuses, even where it matches no row."""
        self.changed = False
        """Whether one matched or added a row: only then has a COMMIT something to wait for."""

    @property
    def server(self) -> str:
        """Which server the connection leads to, and since when that runs; see `server_behind`."""
        return self.connection.server

    @property
    def rowcount(self) -> int:
        """How many rows the last statement matched, wrote or returned."""
        return int(self._driver.rowcount)

    async def execute(self, sql: str, values: Sequence[object] | None = None) -> int:
        """Run one statement; how many rows it matched, wrote or returns.

        Raises:
            MySQLError: the server refused it, or cannot be reached.
        """
        return await self.send(sql, self._encoded(sql, values))

    async def execute_each(self, statements: Iterator[Statement], *, bound: float) -> None:
        """Run large statements, each of which is spelled in a thread while the server has the one before.

        Raises:
            MySQLError: as `execute` does.
            TimeoutError: one has taken more than `bound` seconds.
        """
        async for sql, sent in made_ahead((sql, self._encoded(sql, values)) for sql, values in statements):
            async with asyncio.timeout(bound):
                await self.send(sql, sent)

    def _encoded(self, sql: str, values: Sequence[object] | None) -> bytes:
        sent = self.mogrify(sql, values).encode(self.connection.driver.encoding, "surrogateescape")
        if len(sent) > self.connection.packet - PACKET_MARGIN:
            raise DataError(1153, f"a statement of {len(sent)} bytes is above the server's max_allowed_packet")
        return sent

    async def send(self, sql: str, sent: bytes) -> int:
        """Run a statement whose values are spelled already, as `execute` does."""
        writes = _WRITE.match(sql) is not None
        self.wrote = self.wrote or writes
        rows = int(await self.connection.exchange(self._driver.execute(sent)))
        self.changed = self.changed or (writes and rows > 0)
        return rows

    def mogrify(self, sql: str, values: Sequence[object] | None = None) -> str:
        """The statement with its values, each escaped."""
        return sql if values is None else sql % tuple([_literal(self.connection.driver, value) for value in values])

    async def fetchone(self) -> Any:
        """The next row of the last statement; None: there is no more."""
        return await self._driver.fetchone()

    async def fetchall(self) -> Sequence[Any]:
        """The rows of the last statement."""
        rows: Sequence[Any] = await self._driver.fetchall()
        return rows

    async def fetch_batch(self, statements: Sequence[Statement]) -> list[Sequence[Any]]:
        """Run several SELECTs, one after the other; the rows of each."""
        found = []
        for sql, values in statements:
            await self.execute(sql, values)
            found.append(await self.fetchall())
        return found


def _literal(driver: Any, value: object) -> Any:
    """A value as it stands in a statement.

    The driver examines every character of every string, which is a third of the CPU time of a record: most of what is
    written (ids, tokens, states, numbers and NULL) takes a short way.
    """
    if value is None:
        return "NULL"
    if type(value) is int:
        return str(value)
    if type(value) is str and value.isalnum():  # no letter or digit of any script needs to be escaped
        return f"'{value}'"
    if type(value) is tuple:  # the driver would call no bytes in it binary, of which MySQL warns
        return f"({','.join([_literal(driver, each) for each in value])})"
    if type(value) is str and len(value) > LONG and driver.escape_string("\\") == "\\\\":
        return f"'{_escaped(value)}'"
    return driver.escape(value)


def _escaped(text: str) -> str:
    """A long text as the driver would have it, which takes 40 ns for each character while nothing else runs."""
    for plain, escaped in _ESCAPES:
        text = text.replace(plain, escaped)
    return text
