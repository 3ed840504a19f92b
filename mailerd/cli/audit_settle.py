"""`mailerd audit` and `mailerd settle`: looking into the books, and closing what only a person can close."""

import re
from typing import Annotated, Final

import typer

from mailerd.cli import describe
from mailerd.cli.common import ConfigOption, in_loop, opened, quiet, say_failed, settings
from mailerd.config import Settings
from mailerd.core.states import State, Transition
from mailerd.errors import ConfigurationError, MailerdError
from mailerd.store.audit import audit as look
from mailerd.store.audit import proofs
from mailerd.store.default_limits import terms_of
from mailerd.store.queue.manual_resolution import settle as write
from mailerd.store.queue.record import Records

_NOT_EXAMINED: Final = 3
"""The exit code of an audit that could not read the books: nobody may take it for books that do not balance."""


def audit(config: ConfigOption = None) -> None:
    """Check that every job's books balance, one line per finding, and count letters by the proof of their being sent.

    The exit code is 0 when there are none, 1 when there are some, 3 when the books could not be examined.
    """
    try:
        findings = in_loop(_audit(settings(config)))
    except ConfigurationError:
        raise
    except MailerdError as error:
        say_failed(error)
        raise typer.Exit(_NOT_EXAMINED) from error
    if findings:
        raise typer.Exit(1)


async def _audit(known: Settings) -> int:
    async with opened(known, quiet(known).tell) as database:
        jobs, findings = await look(database, terms=terms_of(known))
        by_proof = await proofs(database)
    for finding in findings:
        print(f"{finding.where}: {finding.kind}: {finding.what}")
    if by_proof:
        print(f"letters sent, by proof: {describe.by_proof(by_proof)}")
    print(f"{jobs} jobs checked, {len(findings)} findings")
    return len(findings)


def settle(
    recipient: Annotated[int, typer.Argument(help="The recipient's id, as the log and the API show it.")],
    *,
    sent: Annotated[bool, typer.Option("--sent", help="The letter stands in the mailbox's sent mail.")] = False,
    not_sent: Annotated[bool, typer.Option("--not-sent", help="It does not, and goes out again.")] = False,
    message_id: Annotated[str | None, typer.Option(help="Google's id of the message, with --sent.")] = None,
    config: ConfigOption = None,
) -> None:
    """Say what became of an unsure letter, after having looked into the mailbox."""
    if sent is not_sent:
        raise typer.BadParameter("say which: either --sent or --not-sent")
    if message_id and not sent:
        raise typer.BadParameter("--message-id goes with --sent")
    if message_id and not re.fullmatch(r"[\x21-\x7e]{1,128}", message_id):
        raise typer.BadParameter("--message-id takes up to 128 printable ASCII characters")
    in_loop(_settle(settings(config), recipient, Transition.FOUND if sent else Transition.MISSING, message_id))


async def _settle(known: Settings, recipient: int, change: Transition, message_id: str | None) -> None:
    async with opened(known, quiet(known).tell) as database:
        settled = await write(database, recipient, change=change, message_id=message_id)
        print(f"recipient {settled.recipient} ({settled.to_email}) of job {settled.job_id} is now {settled.status}")
        if settled.status is State.SENT:
            books = Records(database, "by hand")  # not `finish`: whoever waits here is told of a doubt at once
            for job in await database.transaction(
                lambda cursor: books.complete(cursor, [settled.job_id]), what="finish jobs"
            ):
                print(f"job {job.id} is completed: {job.sent} sent, {job.failed} failed")
