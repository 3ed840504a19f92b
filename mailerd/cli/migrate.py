"""`mailerd migrate`: brings the database's schema up to date."""

from mailerd.cli.common import ConfigOption, connect, run_async, settings, warnings_only
from mailerd.config import Settings
from mailerd.events.base import EventSink
from mailerd.events.store import StoreEvents
from mailerd.store.db import migrate as migrations
from mailerd.texts import tr


def migrate(config: ConfigOption = None) -> None:
    """Bring the database's schema up to date; safe while daemons run."""
    known = settings(config)
    journal = warnings_only(known, log=known.log)
    try:
        run_async(_migrate(known, journal.write))
    finally:
        journal.close()


async def _migrate(known: Settings, tell: EventSink) -> None:
    async with connect(known, tell) as database:
        number = await migrations.migrate(database, events=StoreEvents(tell))
    print(tr(f"the schema is at migration {number}"))
