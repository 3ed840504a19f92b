"""Somebody who stands still in the midst of a transaction and holds what it has locked, as a frozen daemon does."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from mailerd.config import DatabaseSettings
from mailerd.events.process import StoreEvents
from mailerd.store.db.connection import Cursor
from mailerd.store.db.database import Database
from tests.support.heard import Heard


@asynccontextmanager
async def holding(url: str, *statements: str) -> AsyncIterator[None]:
    """Run the statements in a transaction of another daemon, which ends with this block."""
    database = Database(DatabaseSettings(url=url), events=StoreEvents(Heard()))
    held, let_go = asyncio.Event(), asyncio.Event()

    async def work(cursor: Cursor) -> None:
        for statement in statements:
            await cursor.execute(statement)
        held.set()
        await let_go.wait()

    holder = asyncio.create_task(database.transaction(work, what="hold", bound=60))
    try:
        await asyncio.wait({holder, asyncio.ensure_future(held.wait())}, return_when=asyncio.FIRST_COMPLETED)
        yield
    finally:
        let_go.set()
        await holder
        await database.close()
