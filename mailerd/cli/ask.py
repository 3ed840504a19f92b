"""Does an operation for who runs a command."""

from collections.abc import Awaitable, Callable

from mailerd.cli.common import asked_by, no_log, with_database
from mailerd.clock import Clock
from mailerd.config import Settings
from mailerd.events.actions import ActionEvents, Via
from mailerd.operations.caller import Backend, Caller
from mailerd.store.db.database import Database


def with_caller[T](settings: Settings, work: Callable[[Caller], Awaitable[T]]) -> T:
    """Do one operation for who runs this command; the daemons tell the log of what it changed."""

    async def ask(database: Database) -> T:
        timeout = settings.database.connect_timeout
        backend = Backend(database, timeout, settings.webhooks, Clock(), ActionEvents(no_log))
        return await work(Caller(backend, Via.COMMAND, asked_by()))

    return with_database(settings, ask)
