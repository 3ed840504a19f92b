"""A database whose connection is cut at one statement of its transactions: before it, or after the server did it."""

from collections.abc import Awaitable, Callable
from typing import Any, override

import pymysql
from yarl import URL

from mailerd.config import DatabaseSettings
from mailerd.events.process import StoreEvents
from mailerd.store.db.connection import Cursor
from mailerd.store.db.database import Database
from tests.support.proxy import Proxy, Way


class Cut(Database):
    """Counts the statements of transactions, each COMMIT too, and cuts at one of them: up: before it, down: after."""

    def __init__(self, url: str, proxy: Proxy) -> None:
        settings = DatabaseSettings(
            url=str(URL(url).with_port(proxy.port)), connect_timeout=10, statement_timeout=10, pool_size=2
        )
        super().__init__(settings, events=StoreEvents(lambda *_: None))
        self._proxy = proxy
        at = URL(url)
        self._server = pymysql.connect(
            host=at.host, port=at.port or 3306, user=at.user, password=at.password or "", autocommit=True
        )
        self._session = 0
        self._at, self._way = 0, ""
        self.was_cut = False
        self.statements = 0
        self.commits: list[int] = []
        """The numbers of the statements that are a COMMIT."""

    def cut_at(self, statement: int, way: Way) -> None:
        """Cut once, at the statement of this number from now on."""
        self._at, self._way, self.was_cut, self.statements, self.commits = statement, way, False, 0, []

    @override
    async def transaction[T](
        self, work: Callable[[Cursor], Awaitable[T]], *, what: str, bound: float | None = None, **how: bool
    ) -> T:
        async def counted(cursor: Cursor) -> T:
            send = cursor.send

            async def sent(sql: str, spelled: bytes) -> int:
                self._session = cursor.connection.driver.thread_id()
                self._count()
                return await send(sql, spelled)

            cursor.send = sent  # type: ignore[method-assign, assignment]
            done = await work(cursor)
            self._count()
            self.commits.append(self.statements)
            return done

        return await super().transaction(counted, what=what, bound=bound, **how)

    @override
    async def _pause(self, error: Any, *, again: int) -> None:
        assert again < 5, error
        self.wait_for_its_end()

    def wait_for_its_end(self) -> None:
        """Until the server has ended the session that was cut off: what it has locked would be passed over."""
        with self._server.cursor() as cursor:
            while cursor.execute("SELECT 1 FROM information_schema.PROCESSLIST WHERE ID = %s", (self._session,)):
                pass

    @override
    async def close(self) -> None:
        await super().close()
        self._server.close()

    def _count(self) -> None:
        self.statements += 1
        if self.statements == self._at:
            self.was_cut = True
            self._proxy.cut_after(0, way="up" if self._way == "up" else "down")
