"""A database that loses the answer to a COMMIT, which the server has done, will never do, or does later."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, Literal

from yarl import URL

from mailerd.config import DatabaseSettings
from mailerd.errors import DatabaseAwayError
from mailerd.events.process import StoreEvents
from mailerd.store.db.connection import Cursor
from mailerd.store.db.database import Database
from tests.support.eventually import eventually
from tests.support.heard import Heard
from tests.support.proxy import Proxy
from tests.support.rows import query

Disposition = Literal["done", "undone", "late"]
"""What becomes of a COMMIT without an answer. late: it is done when the next try waits for its locks."""
RESULTS: Final[tuple[Disposition, ...]] = ("done", "undone", "late")

_BUSY: Final = """
SELECT COUNT(*) FROM information_schema.processlist
 WHERE db = DATABASE() AND id <> CONNECTION_ID() AND command = 'Query'"""
_SIGHTINGS: Final = 10
"""In a row: then it waits, and is not only passing."""


async def _nothing() -> None:
    """Nothing happens meanwhile."""


class Doubtful(Database):
    """Loses the answer once for each transaction that is named in `results`; `meanwhile` happens before the next
    try."""

    def __init__(self, url: str, proxy: Proxy) -> None:
        settings = DatabaseSettings(
            url=str(URL(url).with_port(proxy.port)), connect_timeout=2, statement_timeout=5, pool_size=4
        )
        super().__init__(settings, events=StoreEvents(Heard()))
        self.results: dict[str, Disposition] = {}
        self.meanwhile: Callable[[], Awaitable[object]] = _nothing
        self._proxy = proxy
        self._late: list[asyncio.Task[object]] = []

    async def transaction[T](
        self, work: Callable[[Cursor], Awaitable[T]], *, what: str, bound: float | None = None, **how: bool
    ) -> T:
        wanted = self.results.pop(what, None)
        if wanted is None:
            return await super().transaction(work, what=what, bound=bound, **how)
        if wanted == "late":
            await self._begin_late(work, what=what)
            raise DatabaseAwayError(what, phase="commit", cause=OSError(), errno=0, retry=True, in_doubt=True)

        async def cut(cursor: Cursor) -> T:
            result = await work(cursor)
            self._proxy.cut_after(0, way="down" if wanted == "done" else "up")
            return result

        try:
            return await super().transaction(cut, what=what, bound=bound, **how)
        finally:
            await self.meanwhile()

    async def _begin_late[T](self, work: Callable[[Cursor], Awaitable[T]], *, what: str) -> None:
        """Do the work, and commit it when somebody waits for its locks."""
        ready = asyncio.Event()
        seen = 0

        async def somebody_waits() -> bool:
            nonlocal seen
            seen = seen + 1 if (await query(self, _BUSY))[0][0] else 0
            return seen >= _SIGHTINGS

        async def held(cursor: Cursor) -> T:
            result = await work(cursor)
            ready.set()
            await eventually(somebody_waits)
            return result

        self._late.append(asyncio.create_task(super().transaction(held, what=what)))
        await ready.wait()

    async def close(self) -> None:
        await asyncio.gather(*self._late)
        await super().close()
