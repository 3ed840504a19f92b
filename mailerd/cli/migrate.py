"""`mailerd migrate`: brings the database's schema up to date."""

from mailerd.cli.common import ConfigOption, in_loop, quiet, reached, settings
from mailerd.config import Settings
from mailerd.events.base import Tell
from mailerd.events.store import StoreEvents
from mailerd.store.db import migrate as migrations


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
