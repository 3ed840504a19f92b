"""`mailerd migrate|after-restore|audit|settle`: what an operator does to the database and to the rows in it."""

import re
import sys
from contextlib import suppress
from typing import Annotated, Final

import typer

from mailerd.cli.common import ConfigOption, asked_by, connect, run_async, settings, warnings_only, with_database
from mailerd.cli.failure import say_failed
from mailerd.config import Settings
from mailerd.core.quantities import counted
from mailerd.core.states import State, Transition
from mailerd.errors import ConfigurationError, MailerdError
from mailerd.events.base import EventSink
from mailerd.events.process import StoreEvents
from mailerd.store import audit as audits
from mailerd.store import describe
from mailerd.store.db import migrate as migrations
from mailerd.store.db.database import Database
from mailerd.store.job_changes import complete
from mailerd.store.queue import recovery
from mailerd.store.queue.recovery import RestoredQueue
from mailerd.store.senders import default_limits
from mailerd.texts import tr

_NOT_EXAMINED: Final = 3
"""The exit code of an audit that could not read the tables, or not say what it found: that is no finding."""


def migrate(config: ConfigOption = None) -> None:
    """Bring the database's schema up to date; safe while daemons run."""
    known = settings(config)
    log = warnings_only(known, log=known.log)
    try:
        run_async(_migrate(known, log.write))
    finally:
        log.close()


async def _migrate(known: Settings, sink: EventSink) -> None:
    async with connect(known, sink) as database:
        number = await migrations.migrate(database, events=StoreEvents(sink))
    print(tr(f"the schema is at migration {number}"))


def after_restore(
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Do it; without it, only tell what would be done.")] = False,
    config: ConfigOption = None,
) -> None:
    """Let every open letter be looked for at Google before it is sent: for a database restored from a backup.

    Say it before a daemon is started. Where the sign-in may read the sent mail (`auth login --metadata`), what was
    sent since the backup is found, and the rest goes out. Elsewhere a person settles each letter.
    """

    async def work(database: Database) -> None:
        queue = RestoredQueue(database)
        found = await queue.open_letters()
        doubted = await queue.doubt_all() if yes else 0  # before a word: a reader that has gone ends the command
        for sender, letters in found.items():
            print(tr(f"{sender}: {counted(letters, 'letter')} may have been sent since the backup"))
        if not found:
            print(tr("nothing is open: nothing can be sent twice"))
        elif yes:
            print(tr(f"{counted(doubted, 'letter')} will be looked for first; start the daemons now"))
        else:
            print(tr("nothing was changed; --yes lets all of them be looked for before they are sent"))

    with_database(settings(config), work)


def audit(config: ConfigOption = None) -> None:
    """Check that the counts and rows of every job agree, one line per finding.

    The exit code is 0 when there are none, 1 when there are some, 3 when the tables could not be read.
    """
    try:
        lines, findings = _audit(settings(config))
        with suppress(BrokenPipeError):  # its reader has seen enough: the exit code says all the same what was found
            print(*lines, sep="\n")
            sys.stdout.flush()  # here, where what cannot be written is no finding
    except ConfigurationError:
        raise
    except MailerdError as error:
        say_failed(error)
        raise typer.Exit(_NOT_EXAMINED) from error
    if findings:
        raise typer.Exit(1)


def _audit(known: Settings) -> tuple[list[str], int]:
    """What is to be said, and how many findings there are."""

    async def work(database: Database) -> tuple[list[str], int]:
        jobs, findings = await audits.audit(database, defaults=default_limits(known))
        by_proof = await audits.proofs(database)
        lines = [f"{finding.where}: {finding.kind}: {finding.what}" for finding in findings]
        if by_proof:
            lines.append(tr(f"letters sent, by proof: {describe.by_proof(by_proof)}"))
        lines.append(tr(f"{counted(jobs, 'job')} checked, {counted(len(findings), 'finding')}"))
        return lines, len(findings)

    return with_database(known, work)


def settle(
    recipient: Annotated[int, typer.Argument(help="The recipient's id, as the log and the API show it.")],
    *,
    sent: Annotated[bool, typer.Option("--sent", help="The letter stands in the mailbox's sent mail.")] = False,
    not_sent: Annotated[bool, typer.Option("--not-sent", help="It does not, and goes out again.")] = False,
    message_id: Annotated[str | None, typer.Option(help="Google's id of the message, with --sent.")] = None,
    config: ConfigOption = None,
) -> None:
    """Record what became of an unsure letter, once a person has looked."""
    if sent is not_sent:
        raise typer.BadParameter("say which: either --sent or --not-sent")
    if message_id and not sent:
        raise typer.BadParameter("--message-id goes with --sent")
    if message_id and not re.fullmatch(r"[\x21-\x7e]{1,128}", message_id):
        raise typer.BadParameter("--message-id takes up to 128 printable ASCII characters")
    change = Transition.FOUND if sent else Transition.MISSING

    async def work(database: Database) -> None:
        done = await recovery.settle(database, recipient, change=change, message_id=message_id, actor=asked_by())
        print(tr(f"recipient {done.recipient} ({done.to_email}) of job {done.job_id} is now {done.status}"))
        if done.status is not State.WAITING:
            # Once, not repeated until it is committed: the person who waits here reads at once that it is in doubt.
            for job in await database.transaction(
                lambda cursor: complete(cursor, [done.job_id]), what=tr("finish jobs")
            ):
                print(tr(f"job {job.id} is finished: {job.sent} sent, {job.failed} failed"))

    with_database(settings(config), work)
