"""The term of the writer: a number in the database that grows whenever the writes move to another server.

The first daemon that comes to a server which the row does not name raises the number there, before it writes anything
else. The row is replicated like all others. So a server whose term is lower than another's has missed a move: it is a
former primary, and lacks whatever was written since.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from pymysql.err import MySQLError

from mailerd.store.db import error_codes
from mailerd.store.db.connection import Connection

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
