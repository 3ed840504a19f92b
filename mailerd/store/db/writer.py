"""Several hosts in database.url: one that takes writes is used, as with libpq's
target_session_attrs=read-write.

They are tried in turn until one takes writes. It is used until it cannot be reached, is read-only
or answers no COMMIT; then they are tried again. Of a single host nothing is asked. That no two
servers take writes at once is ensured by the replicated database (a group, semi-synchronous
replication, fencing) and not here: docs/how-to/ha.md.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Final

from pymysql.err import MySQLError, OperationalError
from yarl import URL

from mailerd.core.i18n import t
from mailerd.events.process import StoreEvents
from mailerd.store.db import error_codes
from mailerd.store.db.connection import Connection, Cursor

HOST_TIMEOUT: Final = 2.0
"""Seconds in which one of several hosts has to say that it takes writes; less where connect_timeout
is short.
"""
ASK_AFTER: Final = 2.0
"""Seconds after which a server is asked again before a connection to it is used: a replica refuses
no SELECT.
"""
_ASK: Final = "SHOW GLOBAL VARIABLES WHERE Variable_name IN ('read_only', 'super_read_only', 'innodb_read_only')"


class NoWriterError(OperationalError):  # type: ignore[misc]  # the driver has no types
    """None of the hosts takes writes."""

    summary: Final = t("no server accepts writes")
    """The cause, without names of hosts and users."""
    remedy: Final = t(
        "make one of the servers the primary (read_only = OFF), start those that do not respond, or "
        "correct database.url"
    )

    def __init__(self, cause: str) -> None:
        # the driver's number for "cannot connect": it is cured by trying again
        super().__init__(2003, cause)


class Writer:
    """The host that takes the writes, as one pool knows it."""

    def __init__(self, urls: Sequence[URL], *, connect_timeout: float, events: StoreEvents) -> None:
        self.alone: Final = len(urls) == 1
        """Whether database.url names but one host."""
        self.current: URL | None = urls[0] if self.alone else None
        """Where new connections go, or went last; None: none was made yet."""
        self.moved_at: datetime | None = None
        """When another host took the place of the one before; None: it never did."""
        self._urls: Final = tuple(urls)
        self._order = list(urls)
        """The host to try first, and so on."""
        self._bound: Final = min(HOST_TIMEOUT, connect_timeout / (len(urls) + 1))
        self._events: Final = events
        self._trying: Final = asyncio.Lock()
        """One task tries the hosts at a time; the others then find its host the first."""
        self._failed: tuple[float, Callable[[], MySQLError]] = (0.0, partial(NoWriterError, ""))
        """When all hosts had been tried in vain last, in monotonic seconds, and what is raised."""

    @property
    def where(self) -> str:
        """Host and port of the writer, or of all hosts before there was one, for people."""
        return ", ".join(map(place, [self.current] if self.current else self._urls))

    @property
    def servers(self) -> dict[str, bool]:
        """Every host with its port, and whether it is the one in use."""
        return {place(url): url == self.current for url in self._urls}

    async def connect(self, to: Callable[[URL], Awaitable[Connection]]) -> Connection:
        """Connect to the host that takes writes. `to` makes a connection and lets `check` see it.

        Raises:
            NoWriterError: none of several does.
            MySQLError, OSError: the only one cannot be reached.
        """
        if self.alone:
            return await to(self._urls[0])
        came = time.monotonic()
        async with self._trying:
            if self._failed[0] > came:
                _, failure = self._failed
                raise failure()
            troubles, crowded = dict[URL, str](), None
            for url in tuple(self._order):
                try:
                    connection = await asyncio.wait_for(to(url), self._bound)
                except error_codes.LOST as error:
                    troubles[url] = error_codes.words(error) or t(
                        "no response within {bound:g} s", bound=self._bound
                    )
                    self._put_last(url)
                    if url == self.current and error_codes.number(error) in error_codes.CROWDED:
                        crowded = partial(OperationalError, *error.args)
                else:
                    self._use(url, troubles)
                    return connection
            said = "; ".join(f"{place(url)}: {trouble}" for url, trouble in troubles.items())
            # The writer that only has no connection more is still the writer: its connections go
            # on.
            none = partial(NoWriterError, t("no server accepts writes ({said})", said=said))
            failure = crowded or none
            self._failed = time.monotonic(), failure
            raise failure()

    async def check(self, connection: Connection) -> None:
        """Make sure that one of several hosts takes writes now, unless it has said so within the
        last seconds.

        Raises:
            MySQLError: it does not, or does not answer.
        """
        if self.alone or time.monotonic() - connection.asked < ASK_AFTER:
            return
        if closed := await asyncio.wait_for(read_only(await connection.cursor()), self._bound):
            raise OperationalError(1290, t("read-only ({closed})", closed=closed))
        connection.asked = time.monotonic()

    def doubt(self, connection: Connection) -> bool:
        """Try the other hosts first: a COMMIT got no answer. Whether there are others.

        One that has lost its group, or its semi-synchronous replicas, says that it takes writes,
        and answers no COMMIT.
        """
        if not self.alone:
            self._put_last(connection.url)
        return not self.alone

    def _put_last(self, url: URL) -> None:
        self._order.remove(url)
        self._order.append(url)

    def _use(self, url: URL, troubles: dict[URL, str]) -> None:
        self._order.remove(url)
        self._order.insert(0, url)
        before, self.current = self.current, url
        if before is not None and before != url:
            self.moved_at = datetime.now(UTC)
            cause = troubles.get(before, t("no response to a COMMIT"))
            self._events.writer_changed(where=place(url), before=place(before), cause=cause)


async def read_only(cursor: Cursor) -> str:
    """The variables that keep a server from taking writes; empty: it takes them."""
    await cursor.execute(_ASK)
    return ", ".join(
        name for name, value in await cursor.fetchall() if value.upper() not in {"OFF", "0"}
    )


def place(url: URL) -> str:
    """Host and port, or the socket's path, for people."""
    return url.query.get("unix_socket") or f"{url.host or 'localhost'}:{url.port or 3306}"
