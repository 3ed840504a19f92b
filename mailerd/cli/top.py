"""`mailerd top`: senders with their pace, jobs with their progress, the last failures, daemons and database, live."""

import asyncio
import os
import sys
import termios
import time
import tty
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Annotated, Final

import typer
from rich.console import Console, Group
from rich.live import Live

from mailerd.cli.common import ConfigOption, away_remedy, following, no_log, open_database, run_async, settings
from mailerd.cli.output import console
from mailerd.cli.top_view import Snapshot, empty_page, page, read_snapshot
from mailerd.config import Settings
from mailerd.errors import DatabaseAwayError, DatabaseError
from mailerd.events.store import StoreEvents
from mailerd.store.db import error_codes
from mailerd.store.db.database import Database
from mailerd.store.db.migrate import check
from mailerd.store.queue.rate_limits import DefaultLimits
from mailerd.store.senders import default_limits
from mailerd.texts import tr

_PIPE_HEIGHT: Final = 200
"""Lines of a page that goes to a file or a pipe."""
_LATE: Final = 1.0
"""Seconds without an answer of the database after which that is said."""


def top(
    every: Annotated[float, typer.Option(min=0.2, max=3600, help="Seconds between two looks.")] = 1.0,
    once: Annotated[bool, typer.Option("--once", help="Show one page and end.")] = False,
    config: ConfigOption = None,
) -> None:
    """Watch senders, jobs, failures, daemons and the database; q ends it."""
    known = settings(config)
    try:
        run_async(_once(known) if once or not sys.stdout.isatty() else _top(known, every=every))
    except KeyboardInterrupt:
        return


async def _once(known: Settings) -> None:
    async with open_database(known) as database:
        shown = console()
        shown.print(page(await read_snapshot(database, default_limits(known)), width=shown.width, height=_PIPE_HEIGHT))


async def _top(known: Settings, *, every: float) -> None:
    # Silent, and not opened: a log line would tear the screen, and a database that is away is what the page shows.
    database, window = Database(known.database, events=StoreEvents(no_log)), console()
    shown = TopView(window, where=database.where)
    try:
        with _quit_key() as quits, Live(console=window, screen=True, auto_refresh=False) as live:

            async def watch() -> None:
                while True:
                    await _look_and_show(database, default_limits(known), shown, live)
                    await asyncio.sleep(every)

            watching, leaving = asyncio.create_task(watch()), asyncio.create_task(quits.wait())
            try:
                async with following(database):
                    await asyncio.wait({watching, leaving}, return_when=asyncio.FIRST_COMPLETED)
                if watching.done():
                    watching.result()
            finally:  # Ctrl-C cancels this
                watching.cancel()
                leaving.cancel()
    finally:
        await database.close()


@contextmanager
def _quit_key() -> Iterator[asyncio.Event]:
    """Listen to the keyboard meanwhile; the event is set by q. The terminal is left as it was."""
    quits, loop, keyboard = asyncio.Event(), asyncio.get_running_loop(), sys.stdin.fileno()
    if not sys.stdin.isatty():
        yield quits
        return

    def pressed() -> None:
        if b"q" in os.read(keyboard, 100).lower():
            quits.set()

    before = termios.tcgetattr(keyboard)
    tty.setcbreak(keyboard)  # keys come one by one, and Ctrl-C is a signal still
    loop.add_reader(keyboard, pressed)
    try:
        yield quits
    finally:
        loop.remove_reader(keyboard)
        termios.tcsetattr(keyboard, termios.TCSADRAIN, before)


class TopView:
    """The last thing that was seen; it stays on the screen while nothing new comes, and says so.

    `where`: the address of the database.
    """

    def __init__(self, console: Console, *, where: str) -> None:
        self._console, self._where = console, where
        self._snapshot: Snapshot | None = None
        self._since = time.monotonic()

    def seen(self, snapshot: Snapshot) -> Group:
        """The page of a look that was answered."""
        self._snapshot, self._since = snapshot, time.monotonic()
        return self._page("")

    def late(self) -> Group:
        """The page while the answer is waited for."""
        remedy = away_remedy(self._where)
        return self._page(tr(f"the database has not answered for {time.monotonic() - self._since:.0f} s; {remedy}"))

    def failed(self, error: DatabaseError) -> Group:
        """The page of a look that failed."""
        cause = error_codes.words(error.__cause__ or error) or tr("no answer within its time-out")
        remedy = error_codes.refused(error.errno)
        if isinstance(error, DatabaseAwayError) and not remedy:
            remedy = away_remedy(self._where)
        trouble = f"the database cannot be seen for {time.monotonic() - self._since:.0f} s: {cause}"
        return self._page(tr(f"{trouble}; {remedy}" if remedy else trouble))

    def _page(self, trouble: str) -> Group:
        if self._snapshot is None:
            return empty_page(trouble)
        size = self._console.size
        return page(
            self._snapshot, width=size.width, height=size.height, trouble=trouble, age=time.monotonic() - self._since
        )


async def _look_and_show(database: Database, defaults: DefaultLimits, shown: TopView, live: Live) -> None:
    looking = asyncio.ensure_future(read_snapshot(database, defaults))
    try:
        while not (await asyncio.wait({looking}, timeout=_LATE))[0]:
            live.update(shown.late(), refresh=True)
    except asyncio.CancelledError:
        looking.cancel()
        raise
    try:
        live.update(shown.seen(looking.result()), refresh=True)
    except DatabaseError as error:
        if not isinstance(error, DatabaseAwayError):
            with suppress(DatabaseError):
                await check(database)  # a table or a column that is missing: that is what is said then
        live.update(shown.failed(error), refresh=True)
