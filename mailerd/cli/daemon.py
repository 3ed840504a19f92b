"""`mailerd run` and `mailerd migrate`."""

import typer

from mailerd.app import opened, run_until_signalled
from mailerd.cli.common import ConfigOption, in_loop, settings
from mailerd.config import Settings
from mailerd.events.process import ProcessEvents
from mailerd.events.speech import Tell
from mailerd.events.store import StoreEvents
from mailerd.journal import Journal
from mailerd.store import migrate as migrations


def run(config: ConfigOption = None) -> None:
    """Run the daemon until SIGTERM or SIGINT."""
    known = settings(config)
    journal = Journal(known.log)
    try:
        in_loop(run_until_signalled(known, journal.tell))
    except Exception as error:
        ProcessEvents(journal.tell).process_died(error=error)
        raise typer.Exit(1) from error


def migrate(config: ConfigOption = None) -> None:
    """Bring the database's schema up to date; safe while daemons run."""
    known = settings(config)
    journal = Journal(known.log)
    in_loop(_migrate(known, journal.tell))


async def _migrate(known: Settings, tell: Tell) -> None:
    async with opened(known, tell) as database:
        number = await migrations.migrate(database, events=StoreEvents(tell))
    print(f"the schema is at migration {number}")
