"""One connection to one server: its URL, the driver's log-in, its cursor, and what is known of
it.
"""

import asyncio
import math
import os
import re
import select
import ssl
import time
import warnings
from collections.abc import AsyncGenerator, Awaitable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar, overload

from pymysql.constants import CLIENT
from pymysql.err import DataError, MySQLError, OperationalError
from pymysql.err import Warning as ServerWarning
from yarl import URL

from mailerd.core.i18n import t
from mailerd.store.db import error_codes

# Times on their way to and from the database, which holds UTC without a zone and counts intervals
# in microseconds.


@overload
def utc(moment: datetime) -> datetime: ...
@overload
def utc(moment: None) -> None: ...
@overload
def utc(moment: datetime | None) -> datetime | None: ...
def utc(moment: datetime | None) -> datetime | None:
    """What the database gave, made aware."""
    return moment.replace(tzinfo=UTC) if moment else None


@overload
def naive(moment: datetime) -> datetime: ...
@overload
def naive(moment: None) -> None: ...
@overload
def naive(moment: datetime | None) -> datetime | None: ...
def naive(moment: datetime | None) -> datetime | None:
    """What the driver takes: it would drop another zone without converting."""
    return moment.astimezone(UTC).replace(tzinfo=None) if moment else None


def micros(wait: timedelta) -> int:
    """Whole microseconds: what INTERVAL takes."""
    return wait // timedelta(microseconds=1)


def rfc3339(moment: datetime) -> str:
    """A moment in a text: UTC, with Z, and with microseconds only where there are any."""
    return naive(moment).isoformat() + "Z"


# What the next statement needs is made in a thread while the database has the one before.


async def made_ahead[T](items: Iterator[T]) -> AsyncGenerator[T]:
    """What an iterator makes, in a thread: each item while the caller uses the one before.

    None ends it.

    A caller may end early; what the thread makes then is dropped.
    """
    loop = asyncio.get_running_loop()
    following = loop.run_in_executor(None, next, items, None)
    while (made := await following) is not None:
        following = loop.run_in_executor(None, next, items, None)
        yield made


# Statements on their way to the server: one at a time, and every value is escaped here and nowhere
# else.


Statement = tuple[str, Sequence[object]]
"""SQL and its values."""

_WRITE: Final = re.compile(r"\s*(INSERT|UPDATE|DELETE|REPLACE|CREATE|ALTER)\b", re.IGNORECASE)

LONG: Final = 10_000
"""Characters from which a text is escaped in a few passes of C."""
_ESCAPES: Final = (
    ("\\", "\\\\"),
    ("\0", "\\0"),
    ("\n", "\\n"),
    ("\r", "\\r"),
    ("\x1a", "\\Z"),
    ('"', '\\"'),
    ("'", "\\'"),
)
"""What the driver escapes (PyMySQL's converters), the backslash first, since the others bring more
of them.
"""
PACKET_MARGIN: Final = 1024
"""Bytes of max_allowed_packet that a statement leaves to the protocol."""


NOW: Final = ", UTC_TIMESTAMP(6)"
"""What stands behind the values of a row whose last column is the time of its INSERT."""


def insert_many(insert: str, rows: Sequence[Sequence[object]], *, last: str = "") -> Statement:
    """An INSERT of several rows, which go where its only %s is; `last` ends each of them."""
    row = "(" + ", ".join(["%s"] * len(rows[0])) + last + ")"
    return insert % ", ".join([row] * len(rows)), [value for values in rows for value in values]


class Cursor:
    """Runs statements over one connection, and refuses what the server would answer with a
    misleading 2006.
    """

    def __init__(self, connection: "Connection", driver: Any) -> None:
        """`driver`: a cursor of the driver's over the same connection."""
        self.connection: Final = connection
        self._driver: Final = driver
        self.wrote = False
        """Whether a statement was sent that a read-only server refuses, even where it matches no
        row.
        """
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
        """Run large statements, each of which is spelled in a thread while the server has the one
        before.

        Raises:
            MySQLError: as `execute` does.
            TimeoutError: one has taken more than `bound` seconds.
        """
        async for sql, sent in made_ahead(
            (sql, self._encoded(sql, values)) for sql, values in statements
        ):
            async with asyncio.timeout(bound):
                await self.send(sql, sent)

    def _encoded(self, sql: str, values: Sequence[object] | None) -> bytes:
        sent = self.mogrify(sql, values).encode(self.connection.driver.encoding, "surrogateescape")
        if len(sent) > self.connection.packet - PACKET_MARGIN:
            raise DataError(
                1153,
                t(
                    "a statement of {sent} bytes exceeds the server's max_allowed_packet",
                    sent=len(sent),
                ),
            )
        return sent

    async def send(self, sql: str, sent: bytes) -> int:
        """Run a statement whose values are spelled already, as `execute` does."""
        writes = _WRITE.match(sql) is not None
        self.wrote, self.connection.sent = self.wrote or writes, sent
        rows = int(await self.connection.exchange(self._driver.execute(sent)))
        self.changed = self.changed or (writes and rows > 0)
        return rows

    def mogrify(self, sql: str, values: Sequence[object] | None = None) -> str:
        """The statement with its values, each escaped."""
        return (
            sql
            if values is None
            else sql % tuple([_literal(self.connection.driver, value) for value in values])
        )

    async def fetchone(self) -> Any:
        """The next row of the last statement; None: there is no more."""
        return await self._driver.fetchone()

    async def fetchall(self) -> Sequence[Any]:
        """The rows of the last statement."""
        rows: Sequence[Any] = await self._driver.fetchall()
        return rows

    async def fetch_value(self, sql: str, values: Sequence[object] | None = None) -> Any:
        """Run a SELECT of one column; its value in the first row. None: there is no row."""
        await self.execute(sql, values)
        (value,) = await self.fetchone() or (None,)
        return value

    async def fetch_batch(self, statements: Sequence[Statement]) -> list[Sequence[Any]]:
        """Run several SELECTs, one after the other; the rows of each."""
        found = []
        for sql, values in statements:
            await self.execute(sql, values)
            found.append(await self.fetchall())
        return found


def _literal(driver: Any, value: object) -> Any:
    """A value as it stands in a statement.

    The driver examines every character of every string, which is a third of the CPU time of a
    record: most of what is written (ids, tokens, states, numbers and NULL) takes a short way.
    """
    if value is None:
        return "NULL"
    if type(value) is int:
        return str(value)
    # no alphanumeric character of any script needs to be escaped
    if type(value) is str and value.isalnum():
        return f"'{value}'"
    if type(value) is tuple:  # the driver would call no bytes in it binary, of which MySQL warns
        return f"({','.join([_literal(driver, each) for each in value])})"
    if type(value) is str and len(value) > LONG and driver.escape_string("\\") == "\\\\":
        return f"'{_escaped(value)}'"
    return driver.escape(value)


def _escaped(text: str) -> str:
    """A long text as the driver would have it, which takes 40 ns for each character while nothing
    else runs.
    """
    for plain, escaped in _ESCAPES:
        text = text.replace(plain, escaped)
    return text


# Where database.url leads, as the driver wants it; a way that shall be encrypted is encrypted, or
# it is not taken.


def address(url: URL) -> dict[str, Any]:
    """What the driver is given.

    Raises:
        OSError: the file that ssl_ca names cannot be read, or holds no certificate.
    """
    return {
        "host": url.host or "localhost",
        "port": url.port or 3306,
        "unix_socket": url.query.get("unix_socket"),
        "user": url.user,
        # The driver writes a password as Latin-1; every other client, and so the server's digest of
        # it, takes UTF-8.
        "password": (url.password or "").encode().decode("latin-1"),
        "db": url.path.strip("/"),
        "charset": "utf8mb4",
        "autocommit": True,  # an explicit BEGIN is then the only way into a transaction
        "client_flag": CLIENT.FOUND_ROWS,  # fencing counts rows that matched, not rows that changed
        "ssl": _context(url),
        # connect_timeout stays None: the driver's own ends before the greeting and nests a wait_for
    }


def encrypted(url: URL) -> bool:
    """Whether nothing may go over the wire in clear."""
    return "ssl" in url.query or "ssl_ca" in url.query


def proves_itself(url: URL) -> bool:
    """Whether a server to which a log-in is sent has shown who it is: by its certificate, or by its
    socket file.
    """
    return bool(url.query.get("unix_socket")) or (
        encrypted(url) and url.query.get("ssl") != "unverified"
    )


def _context(url: URL) -> ssl.SSLContext | None:
    if not encrypted(url):
        return None
    authority = url.query.get("ssl_ca")
    try:
        context = ssl.create_default_context(cafile=authority)
    except OSError as error:  # its own words name no file
        raise OSError(
            t(
                "ssl_ca {authority} cannot be used: {it}",
                authority=authority,
                it=error.strerror or error,
            )
        ) from error
    if url.query.get("ssl") in {"verify_ca", "unverified"}:  # MySQL's own certificates name no host
        context.check_hostname = False
    # against listeners, not against a third party in between
    if url.query.get("ssl") == "unverified":
        context.verify_mode = ssl.CERT_NONE
    return context


# aiomysql's connection, and what it may say at the log-in: a machine in the server's place gets no
# password.

try:
    import aiomysql
except OSError:
    # since Python 3.13 its import fails for a user without a name, as in many a container
    os.environ["LOGNAME"] = "unknown user"
    import aiomysql

_NO_TLS: Final = t("the server does not offer TLS, which database.url requires")
_NOT_PROVEN: Final = t(
    "the server asks for the plain password, which is sent only over TLS with a verified certificate "
    "or over a unix socket"
)
_HANDSHAKE, _TLS, _INSECURE = 2012, 2026, 2061
"""Numbers of MySQL's own client: SERVER_HANDSHAKE_ERR, SSL_CONNECTION_ERROR, AUTH_PLUGIN_ERR."""
_HEADER: Final = 32
"""Bytes before the user's name in HandshakeResponse41, and all of a request for TLS."""
_MAX_WORDS: Final = 1000
"""Characters of an error that are shown; a server's longest has 512."""
_DIGESTS: Final = frozenset({0, 20, 32})
"""Lengths of answers that do not show the password: none, mysql_native_password's,
caching_sha2_password's.
"""


class Driver(aiomysql.Connection):  # type: ignore[misc]  # it has no types
    """A connection that is opened by `log_in`.

    The driver does what the server asks for: it goes on in clear where TLS is not offered, and
    sends the password in clear, or encrypted with a key that the server has just sent. So each
    packet is looked at before it goes out.
    """

    def __init__(self, url: URL) -> None:
        super().__init__(**address(url))
        # The driver would let one text hold several statements; without this flag the server
        # refuses the second one.
        self.client_flag &= ~CLIENT.MULTI_STATEMENTS
        self._url: Final = url
        self._password_sent: Final = (url.password or "").encode() + b"\0"
        """The password as a server would get it in clear."""
        self._introduced = self._logged_in = False
        self.transport: Any = None
        """That of the last packet; None before the first."""

    async def log_in(self) -> None:
        """Connect and log in.

        Raises:
            MySQLError: there is no connection; its number is the server's, or of MySQL's own
            client.
        """
        try:
            await self.ping()  # connects
            self._logged_in = True
        except OSError:
            raise
        except MySQLError as error:
            _on_one_line(error)
            if isinstance(below := error.__cause__, ssl.SSLError):
                raise OperationalError(_TLS, _no_tls(below)) from below
            if error_codes.number(error):
                raise
            raise _not_understood(error) from error
        except (
            RuntimeError
        ) as error:  # uvloop's answer to a write after the connection was reset; asyncio only warns
            raise OperationalError(
                2013, t("the connection was closed: {error}", error=error)
            ) from error
        except (
            Exception
        ) as error:  # whatever a stranger's bytes have brought the driver to is no bug of ours
            raise _not_understood(error) from error
        finally:
            # The driver leaves it open where the first command after the log-in fails, and else
            # closes it by TLS, which waits for 30 s for a server that does not close its side.
            if not self._logged_in:
                self.close()
                if self.transport is not None:
                    self.transport.abort()

    def write_packet(self, payload: bytes) -> None:
        """Send a packet, unless that would give the password away.

        Raises:
            OperationalError: it would, or it would go in clear though TLS was asked for.
        """
        self.transport = self._writer.transport
        if not self._logged_in:
            tls, offered = encrypted(self._url), self.server_capabilities & CLIENT.SSL
            if tls and not offered and not self._url.query.get("unix_socket"):
                raise OperationalError(_TLS, _NO_TLS)
            if not proves_itself(self._url) and self._shows_password(payload):
                raise OperationalError(_INSECURE, _NOT_PROVEN)
        super().write_packet(payload)

    def _shows_password(self, payload: bytes) -> bool:
        """Whether the server, or who stands in its place, could read the password from this packet
        of the log-in.
        """
        secret = self._password_sent
        if secret == b"\0":  # there is none
            return False
        if self._introduced:  # the packet is an answer, and nothing else
            return payload == secret or len(payload) not in _DIGESTS
        if len(payload) == _HEADER:  # the request for TLS
            return False
        self._introduced = True
        answer = payload[_HEADER:].partition(b"\0")[2]  # behind the user's name
        size = len(secret)  # as its length was agreed on: in a byte, in three, or not at all
        return answer.startswith(
            (
                secret,
                bytes([min(size, 255)]) + secret,
                b"\xfc" + size.to_bytes(2, "little") + secret,
            )
        )


def _no_tls(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return t(
            "the server's certificate is rejected: {rstrip}",
            rstrip=error.verify_message.rstrip("."),
        )
    return t("no TLS with this server: {it}", it=error.reason or error)


def _on_one_line(error: Exception) -> None:
    """What a server says goes to logs and terminals, which obey control characters."""
    error.args = tuple(
        "".join(each if each.isprintable() else " " for each in said[:_MAX_WORDS])
        if isinstance(said, str)
        else said
        for said in error.args
    )


def _not_understood(error: Exception) -> OperationalError:
    _on_one_line(error)
    said = str(error) or type(error).__name__
    return OperationalError(
        _HANDSHAKE,
        t(
            "the login failed because the server is not MySQL or MariaDB, or is a proxy: {said}",
            said=said,
        ),
    )


T = TypeVar("T")

# sql_mode is strict, so what matters is an error. MySQL warns at every use of VALUES(column), which
# MariaDB needs.
warnings.filterwarnings("ignore", category=ServerWarning)


class Connection:
    """An open connection; `driver` is aiomysql's."""

    def __init__(self, driver: Any, url: URL) -> None:
        self.driver: Final = driver
        self.url: Final = url
        # The one private part of the driver: without its transport, a connection to a frozen server
        # cannot be ended.
        self.transport: Final = driver.transport
        self.born = self.used = time.monotonic()
        """When the connection was opened, and when it was last put back, in monotonic seconds."""
        self.asked = -math.inf
        """When one of several hosts last said that it takes writes, in monotonic seconds; see
        `writer.py`.
        """
        self.packet = 1 << 20
        """The server's max_allowed_packet, in bytes."""
        self.server = ""
        """Which server it leads to, and since when that runs; see `server_behind`."""
        self.sent = b""
        """The statement that was sent last."""

    async def cursor(self) -> Cursor:
        """A cursor for one transaction.

        Raises:
            MySQLError: the connection has ended.
        """
        return Cursor(self, await self.driver.cursor())

    async def exchange(self, talk: Awaitable[T]) -> T:
        """Await what the driver does over this connection.

        Raises:
            MySQLError: the server refused it, or the connection has ended.
        """
        try:
            return await talk
        except MySQLError as error:
            _on_one_line(error)
            raise
        except (
            RuntimeError
        ) as error:  # uvloop's answer to a write after the connection was reset; asyncio only warns
            # the driver sends none, as local_infile is off, and is out of step now
            if "LOAD_LOCAL" in str(error):
                raise OperationalError(
                    2068, t("the server asked for a file of this machine, which is refused")
                ) from error
            if not self.transport.is_closing():
                raise
            raise OperationalError(
                2006, t("the connection was closed: {error}", error=error)
            ) from error

    async def ping(self) -> None:
        """Ask whether the server answers; it raises what `exchange` does."""
        await self.exchange(self.driver.ping(reconnect=False))

    async def begin(self) -> None:
        """Begin a transaction; it raises what `exchange` does."""
        await self.exchange(self.driver.begin())

    async def commit(self) -> None:
        """End the transaction; it raises what `exchange` does."""
        await self.exchange(self.driver.commit())

    async def rollback(self) -> None:
        """Drop the transaction; it raises what `exchange` does."""
        await self.exchange(self.driver.rollback())

    @property
    def closed(self) -> bool:
        """Whether the driver has ended it."""
        return bool(self.driver.closed)

    @property
    def quiet(self) -> bool:
        """Whether it is open, and nothing has come over it unasked: what does is the server's
        farewell.
        """
        if self.closed or self.transport.is_closing():
            return False
        poll = select.poll()
        poll.register(self.transport.get_extra_info("socket").fileno(), select.POLLIN)
        return not poll.poll(0)

    def abort(self) -> None:
        """End it at once: close() alone would wait until its write buffer has drained."""
        self.transport.abort()
        self.driver.close()


async def connect(url: URL) -> Connection:
    """Connect to one server and log in.

    Raises:
        MySQLError, OSError: there is no connection, see `Driver.log_in`.
    """
    driver = Driver(url)
    await driver.log_in()
    return Connection(driver, url)


SINCE: Final = " since "
"""Divides the identity of a server from when it was started; see `server_behind`."""
# Both are whole seconds of one statement's own time, so their difference is the same for every
# session.
_STARTED_AT: Final = "CAST(UNIX_TIMESTAMP() - VARIABLE_VALUE AS SIGNED)"
_SERVER_OF_MYSQL: Final = f"""
SELECT CONCAT(@@server_uuid, '{SINCE}', {_STARTED_AT})
  FROM performance_schema.global_status WHERE VARIABLE_NAME = 'Uptime'"""
# MariaDB has no server_uuid.
_SERVER_OF_MARIADB: Final = f"""
SELECT CONCAT(CONCAT_WS(':', @@hostname, @@port, @@server_id), '{SINCE}', {_STARTED_AT})
  FROM information_schema.GLOBAL_STATUS WHERE VARIABLE_NAME = 'UPTIME'"""


async def server_behind(cursor: Cursor, version: str) -> str:
    """A name of the server and of when it was started: an address may lead to another one later."""
    return str(
        await cursor.fetch_value(
            _SERVER_OF_MARIADB if "mariadb" in version.lower() else _SERVER_OF_MYSQL
        )
    )
