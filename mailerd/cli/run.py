"""`mailerd run`, `mailerd config` and `mailerd migrate`."""

import faulthandler
import gc
import sys
from typing import Final

import typer

from mailerd.app import run_until_signalled
from mailerd.cli.common import ConfigOption, configured, in_loop, quiet, reached, settings
from mailerd.config import Settings, dotenv_in_use, load
from mailerd.config.discovery import Found
from mailerd.errors import ConfigurationError, MailerdError
from mailerd.events.base import Tell
from mailerd.events.process import ProcessEvents
from mailerd.events.store import StoreEvents
from mailerd.ops.log import Journal
from mailerd.store.db import migrate as migrations

_GARBAGE: Final = (20_000, 20, 20)
"""When Python looks for cycles: by default after 700 new objects, a few letters' worth, and finds none."""

_THREADS_TAKE_TURNS_AFTER: Final = 0.001
"""Seconds that a thread which reads a large request may keep the interpreter while the event loop wants it: the loop of
a sending daemon waits for that several times a letter. Python's own are 0.005; much less slows the reading."""


def run(config: ConfigOption = None) -> None:
    """Run the daemon until SIGTERM or SIGINT."""
    faulthandler.enable()  # the watchdog's SIGABRT then leaves every thread's stack as well
    (known, file), dotenv = configured(config), dotenv_in_use()
    journal = Journal(known.log)
    if dotenv is not None:
        ProcessEvents(journal.tell).dotenv_used(file=str(dotenv[0]), names=", ".join(dotenv[1]))
    gc.freeze()  # what is loaded by now stays, and need not be looked through again and again
    gc.set_threshold(*_GARBAGE)
    sys.setswitchinterval(_THREADS_TAKE_TURNS_AFTER)
    try:
        in_loop(run_until_signalled(known, journal, read_again=lambda: load(file.path, named=file.named)))
    except Exception as error:
        _say_why(error, ProcessEvents(journal.tell), file)
        raise typer.Exit(2 if isinstance(error, ConfigurationError) else 1) from error
    finally:
        journal.close()


def _say_why(error: Exception, events: ProcessEvents, file: Found) -> None:
    """Trouble that has a name and a remedy is told in its own words; the rest is a bug and comes with its stack."""
    group = error if isinstance(error, ExceptionGroup) else ExceptionGroup("", [error])
    named, unforeseen = group.split(MailerdError)
    for one in _leaves(named):
        events.process_refused(cause=f"{one} ({file})")
    if unforeseen is not None:
        events.process_died(error=unforeseen)


def _leaves(group: BaseExceptionGroup[Exception] | None) -> list[BaseException]:
    if group is None:
        return []
    return [leaf for one in group.exceptions for leaf in (_leaves(one) if isinstance(one, ExceptionGroup) else [one])]


def config(config: ConfigOption = None) -> None:
    """Say whether the configuration can be used; what is wrong is named, key by key."""
    _, file = configured(config)
    print(f"the configuration can be used ({file})")


def migrate(config: ConfigOption = None) -> None:
    """Bring the database's schema up to date; safe while daemons run."""
    known = settings(config)
    journal = quiet(known, log=known.log)
    try:
        in_loop(_migrate(known, journal.tell))
    finally:
        journal.close()


async def _migrate(known: Settings, tell: Tell) -> None:
    async with reached(known, tell) as database:
        number = await migrations.migrate(database, events=StoreEvents(tell))
    print(f"the schema is at migration {number}")
