"""Does an operation for who runs a command."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import partial

from mailerd.cli.common import asked_by, no_log, with_database
from mailerd.clock import Clock
from mailerd.config import Live, Settings
from mailerd.core.reading import Authorization
from mailerd.events.actions import ActionEvents, Via
from mailerd.events.worker import GmailEvents
from mailerd.operations.caller import Backend, Caller
from mailerd.store.db.database import Database
from mailerd.store.queue.rate_limits import default_limits
from mailerd.store.write.job_actions import JobActions


def authorizations(known: Settings) -> Callable[[str], Authorization]:
    """What the disk shows of the authorization of a mailbox."""
    from mailerd.gmail import Gmail  # noqa: PLC0415 - slow to import, and few commands need it

    return Gmail(known.gmail, events=GmailEvents(no_log), concurrency=1).authorization


def _authorization(known: Settings, email: str) -> Authorization:
    return authorizations(known)(email)


def caller(known: Settings, database: Database) -> Caller:
    """Who runs this command; the daemons tell the log of what it changes."""
    timeout = known.database.connect_timeout
    backend = Backend(
        database,
        timeout,
        known.webhooks,
        Clock(),
        ActionEvents(no_log),
        JobActions(
            database, timeout=timeout, late_arrival=timedelta(seconds=known.gmail.late_arrival)
        ),
        Live(default_limits(known)),
        known.gmail.aliases,
        partial(_authorization, known),
    )
    return Caller(backend, Via.COMMAND, asked_by())


def with_caller[T](known: Settings, work: Callable[[Caller], Awaitable[T]]) -> T:
    """Do one operation for who runs this command."""
    return with_database(known, lambda database: work(caller(known, database)))
