"""A small guarded pool: no call outlives its bound, no doubtful connection is used twice, none is
leaked.

Not aiomysql.Pool: it connects while it holds its own lock, so one server that never greets hangs
`acquire` and the `release` of healthy connections; it wakes no waiter when a closed connection
comes back; it hands out idle connections unchecked; and it can keep an implicit transaction open
with its locks.
"""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from pymysql.err import MySQLError, ProgrammingError
from yarl import URL

from mailerd.config import DatabaseSettings
from mailerd.config.database_url import each_host
from mailerd.core.i18n import t
from mailerd.core.states import ImpossibleRequestError
from mailerd.errors import ConfigurationError, DatabaseAwayError, DatabaseError, MailerdError
from mailerd.events.process import StoreEvents
from mailerd.store.db import error_codes
from mailerd.store.db.connection import Connection, Cursor, address, connect, server_behind
from mailerd.store.db.writer import Writer

T = TypeVar("T")

_WORK_ERRORS: Final = (MailerdError, ImpossibleRequestError)
"""What work raises to say that it will not be done; an exception of another kind may have left a
reply half read.
"""
CROWDED_FOR: Final = 60.0
"""Seconds for which it counts that the server allowed no further connection."""
_ASK_FOR_MORE: Final = 1.0
"""Seconds after which it is asked for one again; meanwhile the connections that there are go
round.
"""
_REMIND: Final = 30.0
PING_AFTER: Final = 10.0
"""Seconds of idleness after which a connection is tried before it is used."""
NO_LIMIT: Final = (1 << 64) - 1
"""The rows of a SELECT that the servers take for unlimited."""
MAX_AGE: Final = 900.0
"""Seconds after which a connection is replaced, so that a moved address is resolved again."""


def lock_wait(bound: float) -> int:
    """Seconds for which a statement waits for another transaction's row; `bound`:
    statement_timeout.
    """
    return max(1, min(3, int(bound / 4)))


class _Phase:
    """How far a transaction came; after a failure it says whether its outcome is in doubt."""

    def __init__(self) -> None:
        self.name = "queue"
        self.since = time.monotonic()
        """When its statements, or their COMMIT, began."""
        self.refusal: MySQLError | None = None
        """What the server answered in a whole error packet; it stands, whatever happens to the
        ROLLBACK after it.
        """
        self.statement = b""
        """What it was the answer to."""
        self.lost = False
        """Whether the connection ended, and not because we cut it off."""


class Pool:
    """Connections for one daemon; `transaction` and `read` are the only ways in.

    Raises:
        ConfigurationError: the file that ssl_ca names cannot be used.
    """

    def __init__(self, settings: DatabaseSettings, *, events: StoreEvents) -> None:
        self._settings = settings
        self._events = events
        urls = [URL(url) for url in each_host(settings.url)]
        try:
            address(urls[0])
        except OSError as error:  # at a start it is a mistake; later, a file that is being replaced
            raise ConfigurationError(
                t(
                    "database.url: {error}; correct the path, or make it readable for mailerd's user",
                    error=error,
                )
            ) from error
        self.writer: Final = Writer(urls, connect_timeout=settings.connect_timeout, events=events)
        self.version = ""
        self._slots = asyncio.Semaphore(settings.pool_size)
        self._idle: list[Connection] = []
        self._live: set[Connection] = set()
        self._kills: set[asyncio.Task[None]] = set()
        self._freed = asyncio.Event()
        """Set when a connection can be used again, or is gone."""
        self._crowded_at = self._told_crowded = -math.inf
        """When the server last allowed no further connection, and when that was last logged, in
        monotonic seconds.
        """
        self._cut_at = 0.0
        """When a connection was last lost, in monotonic seconds: those that are older may lead to
        where it led.
        """

    async def transaction(
        self,
        work: Callable[[Cursor], Awaitable[T]],
        *,
        what: str,
        bound: float | None = None,
        in_one_statement: bool = False,
    ) -> T:
        """Run `work` inside one transaction; its value is returned only after COMMIT was
        acknowledged.

        `bound` (seconds, default statement_timeout) covers everything, the wait for a connection
        included. `in_one_statement`: the work writes by one statement, which commits by itself;
        without an answer it is in doubt.

        Raises:
            DatabaseError: it failed; `retry` and `in_doubt` say what that means.
            DatabaseAwayError: it failed since the database cannot be reached.
        """

        async def run(connection: Connection, phase: _Phase) -> T:
            if in_one_statement:
                phase.name, phase.since = "commit", time.monotonic()
                return await work(await connection.cursor())
            return await self._in_transaction(connection, work, phase)

        return await self._bounded(run, what=what, bound=bound)

    async def read(
        self, work: Callable[[Cursor], Awaitable[T]], *, what: str, bound: float | None = None
    ) -> T:
        """Run `work`, which only reads, outside any transaction: BEGIN and COMMIT are spared.

        A lock that it asks for ends with its statement. Under READ COMMITTED its SELECTs would not
        see one and the same moment inside a transaction either.

        Raises:
            DatabaseError: it failed; it is never in doubt.
            DatabaseAwayError: it failed since the database cannot be reached.
        """

        async def run(connection: Connection, phase: _Phase) -> T:
            phase.name = "work"
            return await work(await connection.cursor())

        return await self._bounded(run, what=what, bound=bound)

    async def _bounded(
        self, run: Callable[[Connection, _Phase], Awaitable[T]], *, what: str, bound: float | None
    ) -> T:
        phase = _Phase()
        try:
            # The guard of every call to the database, the wait for a connection included: there is
            # no way round it.
            return await asyncio.wait_for(
                self._with_connection(run, phase), bound or self._settings.statement_timeout
            )
        except error_codes.LOST as error:
            raise self._failure(error, phase, what=what) from error

    def _failure(self, error: BaseException, phase: _Phase, *, what: str) -> DatabaseError:
        refused = phase.refusal is not None
        error = phase.refusal or error
        errno = error_codes.number(error) if isinstance(error, MySQLError) else 0
        committing = phase.name == "commit"
        # Whatever the server says at the log-in: there is no connection, and nothing can be stored.
        away = (
            errno in error_codes.AWAY
            or phase.name == "connect"
            or (not refused and phase.name != "queue")
        )
        kind = DatabaseAwayError if away else DatabaseError
        failure = kind(
            what,
            phase=phase.name,
            cause=error,
            errno=errno,
            retry=errno in error_codes.RETRY or not refused,
            in_doubt=committing and (not refused or errno in error_codes.DOUBT),
        )
        if isinstance(failure, DatabaseAwayError):
            failure.cut = phase.lost and phase.name in {"begin", "work", "commit"}
        failure.said = error_codes.no_writes(errno)
        failure.took, failure.statement = time.monotonic() - phase.since, phase.statement
        return failure

    async def _in_transaction(
        self, connection: Connection, work: Callable[[Cursor], Awaitable[T]], phase: _Phase
    ) -> T:
        phase.name, connection.sent = "begin", b""  # a server that is frozen shows here
        await asyncio.wait_for(connection.begin(), self._settings.connect_timeout)
        phase.name, phase.since = "work", time.monotonic()
        result = await work(await connection.cursor())
        phase.name, phase.since, connection.sent = "commit", time.monotonic(), b""
        await connection.commit()
        return result

    async def _with_connection(
        self, run: Callable[[Connection, _Phase], Awaitable[T]], phase: _Phase
    ) -> T:
        # Acquire, work and release stand in one coroutine, so that no cancellation can come between
        # them.
        async with self._slots:
            connection, clean = None, False
            try:
                phase.name = "connect"
                connection = await self._get(phase)
                result = await run(connection, phase)
                phase.name = "done"
                clean = True
                return result
            except MySQLError as error:
                clean = await self._rolled_back(connection, phase, error)
                raise
            except _WORK_ERRORS:
                # the work itself says no, between two statements: the connection is in step
                clean = connection is not None and await self._roll_back(connection, phase)
                raise
            finally:
                if connection is not None:
                    self._put(connection, clean=clean, phase=phase)  # synchronous: it cannot hang

    async def _rolled_back(
        self, connection: Connection | None, phase: _Phase, error: MySQLError
    ) -> bool:
        """Note what kind of failure it is and roll back where that is due; whether the connection
        is clean again.
        """
        errno = error_codes.number(error)
        # the driver's own
        in_step = error_codes.from_server(errno) or (
            isinstance(error, ProgrammingError) and errno == 0
        )
        if not in_step or (connection is not None and connection.closed):
            phase.lost = True
            return False
        phase.refusal, phase.statement = error, connection.sent if connection else b""
        if connection is None or errno in error_codes.DROP:
            return False
        return await self._roll_back(connection, phase)

    async def _roll_back(self, connection: Connection, phase: _Phase) -> bool:
        try:
            await connection.rollback()  # 1205 and 1969 keep the earlier locks until this
        except MySQLError:
            # so the server has rolled back by itself; the error before this one is reported
            phase.lost = True
            return False
        return True

    async def _get(self, phase: _Phase) -> Connection:
        while True:
            while self._idle:
                connection = self._idle.pop()  # last in, first out: what is not needed grows old
                try:
                    if await self._usable(connection):
                        return connection
                    self._abort(connection)
                except error_codes.LOST:
                    self._abort(connection)
                except BaseException:
                    self._abort(connection)
                    raise
            if not self._live or time.monotonic() - self._crowded_at >= _ASK_FOR_MORE:
                try:
                    connection = await asyncio.wait_for(
                        self._connect(), self._settings.connect_timeout
                    )
                except MySQLError as error:
                    if error_codes.number(error) not in error_codes.CROWDED or not self._live:
                        raise
                    self._note_crowded(error)
                else:
                    self._crowded_at = -math.inf
                    return connection
            if self._idle:  # one that was put back while another was asked for
                continue
            # There is work for as many connections as the server allows: another call will be done
            # with its own.
            phase.name = "queue"
            self._freed.clear()
            await self._freed.wait()
            phase.name = "connect"

    def _note_crowded(self, error: MySQLError) -> None:
        now = self._crowded_at = time.monotonic()
        if now - self._told_crowded >= _REMIND:
            self._told_crowded = now
            self._events.database_crowded(
                where=self.writer.where,
                connections=len(self._live),
                wanted=self._settings.pool_size,
                cause=str(error),
            )

    async def _usable(self, connection: Connection) -> bool:
        now = time.monotonic()
        if (
            not connection.quiet
            or now - connection.born > MAX_AGE
            or connection.born <= self._cut_at
        ):
            return False
        if now - connection.used > PING_AFTER:
            await asyncio.wait_for(connection.ping(), min(2.0, self._settings.connect_timeout))
        await self.writer.check(connection)
        return True

    async def _connect(self) -> Connection:
        connection = await self.writer.connect(self._connect_to)
        if not self.writer.alone:
            self._leave_other_servers()
        return connection

    async def _connect_to(self, url: URL) -> Connection:
        connection = await connect(url)
        self._live.add(connection)
        try:
            cursor = await connection.cursor()
            await cursor.execute("SELECT @@max_allowed_packet, VERSION()")
            connection.packet, self.version = await cursor.fetchone()
            for statement in self._session(self.version):
                await cursor.execute(statement)
            # now that no limit of the host refuses it
            connection.server = await server_behind(cursor, self.version)
            await self.writer.check(connection)
        except BaseException:
            self._abort(connection)
            raise
        return connection

    def _leave_other_servers(self) -> None:
        """Cut what leads elsewhere than to the writer: nothing waits for a frozen server's answer
        any longer.
        """
        for connection in [one for one in self._live if one.url != self.writer.current]:
            if connection in self._idle:
                self._idle.remove(connection)
                self._abort(connection)
            else:  # the task that reads from it meets its end, and drops it
                connection.transport.abort()

    def _session(self, version: str) -> list[str]:
        # The order of the limits: lock wait < statement < the caller's bound, so that the server
        # gives up first.
        bound = self._settings.statement_timeout
        lock = lock_wait(bound)
        settings = (
            f"SET SESSION time_zone = '+00:00', net_write_timeout = 10, "
            f"innodb_lock_wait_timeout = {lock}, lock_wait_timeout = {lock + 2}, "
            "sql_mode = 'STRICT_TRANS_TABLES,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION', "
            # In a language that is not ASCII, MariaDB refuses a text that is made of a time and an
            # ASCII column.
            "lc_time_names = 'en_US', "
            # Limits that a host sets for its customers would refuse statements, or leave out rows
            # without a word.
            f"sql_big_selects = 1, sql_safe_updates = 0, sql_select_limit = {NO_LIMIT}, "
        )
        if "mariadb" in version.lower():
            # idle_transaction_timeout ends the locks of a daemon that has vanished from the network
            # Warnings are not kept: see `connection.py`. MySQL wants a privilege for it.
            settings += (
                "max_error_count = 0, "
                f"max_statement_time = {bound * 0.8:g}, wait_timeout = 600, "
                f"idle_transaction_timeout = {max(5, int(bound))}"
            )
        else:
            # MySQL has but one limit for both: a connection that is not needed for so long is
            # closed, and replaced
            settings += (
                f"max_execution_time = {int(bound * 800)}, wait_timeout = {max(20, int(bound))}"
            )
        return ["SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED", settings]

    def _put(self, connection: Connection, *, clean: bool, phase: _Phase) -> None:
        if clean and not connection.closed and not connection.driver.get_transaction_status():
            connection.used = time.monotonic()
            self._idle.append(connection)
            self._freed.set()
            return
        self._abort(connection)
        silent = (
            phase.name == "commit"
            and phase.refusal is None
            and not phase.lost
            and self.writer.doubt(connection)
        )
        dropped = (
            phase.refusal is not None and error_codes.number(phase.refusal) in error_codes.DROP
        )
        if phase.lost or silent or dropped:
            self._cut_at = time.monotonic()
        if phase.name in {"begin", "work"} and not phase.lost:
            # The server runs an abandoned statement to its end and keeps its locks. Never in the
            # commit phase: that one shall finish.
            task = asyncio.get_running_loop().create_task(
                self._kill(connection.driver.thread_id(), connection)
            )
            self._kills.add(task)
            task.add_done_callback(self._kills.discard)

    def _abort(self, connection: Connection) -> None:
        self._live.discard(connection)
        self._freed.set()
        connection.abort()

    async def _kill(self, thread: int, cut_off: Connection) -> None:
        try:
            await asyncio.wait_for(
                self._end_thread(thread, cut_off), self._settings.connect_timeout
            )
        except error_codes.LOST as error:
            if error_codes.number(error) != 1094:  # no such thread: it has gone by itself
                self._events.kill_failed(thread=thread, cause=str(error) or type(error).__name__)

    async def _end_thread(self, thread: int, cut_off: Connection) -> None:
        connection = await connect(cut_off.url)
        try:
            cursor = await connection.cursor()
            if await _leads_where(cursor, cut_off):
                await cursor.execute("KILL %s", (thread,))
        finally:
            connection.abort()

    @property
    def servers(self) -> set[str]:
        """Where the live connections lead."""
        return {connection.server for connection in self._live}

    @property
    def connections(self) -> int:
        """Live connections, idle or in use."""
        return len(self._live)

    @property
    def is_crowded(self) -> bool:
        """Whether the server allowed no further connection when one was last asked for."""
        return time.monotonic() - self._crowded_at < CROWDED_FOR

    async def close(self) -> None:
        """Drop every connection at once; what is in use fails."""
        for task in self._kills:
            task.cancel()
        for connection in list(self._live):
            self._abort(connection)
        self._idle.clear()
        await asyncio.sleep(0)  # the transports close in the loop's next turn


async def _leads_where(cursor: Cursor, other: Connection) -> bool:
    """Whether this is the server of the other connection: elsewhere, or once started anew, its
    number is another's.
    """
    if await server_behind(cursor, await cursor.fetch_value("SELECT VERSION()")) != other.server:
        return False
    # One that was started anew within the same second has the same name; it has run for less long
    # than the connection.
    await cursor.execute("SHOW GLOBAL STATUS LIKE 'Uptime'")
    _, uptime = await cursor.fetchone()
    return time.monotonic() - other.born <= float(uptime) + 1
