"""`mailerd after-restore`: looks before it sends, once a backup of the database was restored."""

from typing import Annotated

import typer

from mailerd.cli.common import ConfigOption, open_database, run_async, settings, warnings_only
from mailerd.config import Settings
from mailerd.core.plural import counted
from mailerd.store.queue.restored import RestoredQueue
from mailerd.texts import tr


def after_restore(
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Do it; without it, only tell what would be done.")] = False,
    config: ConfigOption = None,
) -> None:
    """Let every open letter be looked for at Google before it is sent: for a database restored from a backup.

    Say it before a daemon is started. Where the sign-in may read the sent mail (`auth login --metadata`), what was
    sent since the backup is found, and the rest goes out. Elsewhere a person settles each letter.
    """
    run_async(_after_restore(settings(config), yes=yes))


async def _after_restore(known: Settings, *, yes: bool) -> None:
    async with open_database(known, warnings_only(known).write) as database:
        queue = RestoredQueue(database)
        found = await queue.open_letters()
        for sender, letters in found.items():
            print(tr(f"{sender}: {counted(letters, 'letter')} may have been sent since the backup"))
        if not found:
            print(tr("nothing is open: nothing can be sent twice"))
        elif yes:
            print(tr(f"{counted(await queue.doubt_all(), 'letter')} will be looked for first; start the daemons now"))
        else:
            print(tr("nothing was changed; --yes lets all of them be looked for before they are sent"))
