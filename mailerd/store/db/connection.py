"""One connection to one server: the driver's, and what is known of it."""

import select
import time
import warnings
from collections.abc import Awaitable
from typing import Any, Final, TypeVar

from pymysql.err import OperationalError
from pymysql.err import Warning as ServerWarning
from yarl import URL

from mailerd.store.db.cursor import Cursor
from mailerd.store.db.driver import Driver

T = TypeVar("T")

# sql_mode is strict, so what matters is an error. MySQL warns at every use of VALUES(column), which MariaDB needs.
warnings.filterwarnings("ignore", category=ServerWarning)


class Connection:
    """An open connection; `driver` is aiomysql's."""

    def __init__(self, driver: Any, url: URL) -> None:
        self.driver: Final = driver
        self.url: Final = url
        # The one private part of the driver: without its transport, a connection to a frozen server cannot be ended.
        self.transport: Final = driver._writer.transport  # noqa: SLF001 - see docs/dependencies.md
        self.born = self.used = time.monotonic()
        """When the connection was opened, and when it was last put back, in monotonic seconds."""
        self.packet = 1 << 20
        """The server's max_allowed_packet, in bytes."""
        self.server = ""
        """Which server it leads to, and since when that runs; see `server_behind`."""

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
        except RuntimeError as error:  # uvloop's answer to a write after the connection was reset; asyncio only warns
            if "LOAD_LOCAL" in str(error):  # the driver sends none, as local_infile is off, and is out of step now
                raise OperationalError(2068, "the server asked for a file of this machine, and gets none") from error
            if not self.transport.is_closing():
                raise
            raise OperationalError(2006, f"the connection was closed: {error}") from error

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
        """Whether it is open, and nothing has come over it unasked: what does is the server's farewell."""
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
