"""`mailerd migrate|after-restore|audit|settle`: what an operator does to the database and to the
rows in it.
"""

import re
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, Final

import typer

from mailerd.cli.ask import with_caller
from mailerd.cli.common import (
    ConfigOption,
    connect,
    run_async,
    settings,
    warnings_only,
    with_database,
)
from mailerd.cli.failure import say_failed
from mailerd.cli.output import JsonOption, echo, print_json
from mailerd.config import Settings
from mailerd.core.i18n import Text, joined, t, tn
from mailerd.core.states import Proof
from mailerd.errors import ConfigurationError, MailerdError
from mailerd.events.base import EventSink
from mailerd.events.process import StoreEvents
from mailerd.locale import label, say
from mailerd.operations import messages
from mailerd.operations.caller import Caller
from mailerd.store.db import migrate as migrations
from mailerd.store.db.database import Database
from mailerd.store.queue.rate_limits import default_limits
from mailerd.store.queue.recovery import RestoredQueue
from mailerd.store.read import audit as audits
from mailerd.store.read import describe

_NOT_EXAMINED: Final = 3
"""The exit code of an audit that could not read the tables, or not say what it found: that is no
finding.
"""


def migrate(config: ConfigOption = None) -> None:
    """Update the database schema. Safe while daemons are running."""
    known = settings(config)
    log = warnings_only(known, log=known.log)
    try:
        run_async(_migrate(known, log.write))
    finally:
        log.close()


async def _migrate(known: Settings, sink: EventSink) -> None:
    async with connect(known, sink) as database:
        number = await migrations.migrate(database, events=StoreEvents(sink))
    echo(t("database schema up to date (version {number})", number=number))


def after_restore(
    *,
    yes: Annotated[
        bool,
        typer.Option("--yes", help="Do it. Without this option, only show what would be done."),
    ] = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """After restoring a backup: check at Google for every open message before it is sent.

    Run it before you start a daemon. Where the authorization can read sent mail (`auth login --metadata`), messages
    that were sent after the backup are found, and the others are sent. Elsewhere, `mailerd settle` is needed for each
    message.
    """

    async def work(database: Database) -> None:
        queue = RestoredQueue(database)
        found = await queue.open_messages()
        # before a word: a reader that has gone ends the command
        doubted = await queue.doubt_all() if yes else 0
        if as_json:
            print_json({"changed": doubted, "open_messages": found})
            return
        for sender, number in found.items():
            echo(
                tn(
                    "{sender}: {n:,} message may have been sent after the backup",
                    "{sender}: {n:,} messages may have been sent after the backup",
                    number,
                    sender=sender,
                )
            )
        if not found:
            echo(t("No open messages: nothing can be sent twice."))
        elif yes:
            echo(
                tn(
                    "{n:,} message will be checked at Google before it is sent. Start the daemons now.",
                    "{n:,} messages will be checked at Google before they are sent. Start the daemons now.",
                    doubted,
                )
            )
        else:
            echo(
                t(
                    "Nothing was changed. With --yes, all of them are checked at Google before they are sent."
                )
            )

    with_database(settings(config), work)


def audit(*, as_json: JsonOption = False, config: ConfigOption = None) -> None:
    """Check that the counts and rows of every job agree, and list each finding.

    The exit code is 0 without findings, 1 with findings, and 3 when the tables could not be read.
    """
    try:
        found = _audit(settings(config))
        # its reader has seen enough: the exit code says all the same what was found
        with suppress(BrokenPipeError):
            if as_json:
                print_json(found.as_json)
            else:
                echo(joined(found.lines, "\n"))
            sys.stdout.flush()  # here, where what cannot be written is no finding
    except ConfigurationError:
        raise
    except MailerdError as error:
        say_failed(error)
        raise typer.Exit(_NOT_EXAMINED) from error
    if found.findings:
        raise typer.Exit(1)


@dataclass(frozen=True)
class _Audited:
    """What an audit found."""

    jobs: int
    findings: Sequence[audits.AuditFinding]
    proofs: Mapping[Proof | None, int]

    @property
    def lines(self) -> list[Text]:
        """What is said of it."""
        lines = [joined([it.where, it.kind, it.what], ": ") for it in self.findings]
        if self.proofs:
            lines.append(
                t(
                    "sent messages, by how they were confirmed: {counts}",
                    counts=describe.by_proof(self.proofs),
                )
            )
        checked, number = (
            tn("{n:,} job checked", "{n:,} jobs checked", self.jobs),
            len(self.findings),
        )
        found = tn("{n:,} finding", "{n:,} findings", number) if number else t("no findings")
        return [*lines, joined([checked, found], ", ")]

    @property
    def as_json(self) -> dict[str, object]:
        """It as one object."""
        from mailerd.cli.json_models import by_proof  # noqa: PLC0415 - slow to import

        findings = [
            {"where": say(it.where), "kind": str(it.kind), "what": say(it.what)}
            for it in self.findings
        ]
        return {
            "ok": not findings,
            "jobs": self.jobs,
            "findings": findings,
            "confirmed_by": by_proof(self.proofs),
        }


def _audit(known: Settings) -> _Audited:
    async def work(database: Database) -> _Audited:
        jobs, findings = await audits.audit(database, defaults=default_limits(known))
        return _Audited(jobs, findings, await audits.proofs(database))

    return with_database(known, work)


def settle(
    recipient: Annotated[int, typer.Argument(help="The recipient ID, as in the log and the API.")],
    *,
    sent: Annotated[
        bool,
        typer.Option("--sent", help="The message is in the mailbox's sent mail: mark it as sent."),
    ] = False,
    not_sent: Annotated[
        bool,
        typer.Option("--not-sent", help="It is not there: mark it as not sent, and send it again."),
    ] = False,
    message_id: Annotated[
        str | None, typer.Option(help="With --sent: Google's ID of the message.")
    ] = None,
    attempt: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="The attempt that you have checked. A later one is refused. Default: the newest.",
        ),
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Confirm an unconfirmed message as sent or not sent, after checking the mailbox."""
    if sent is not_sent:
        raise typer.BadParameter(t("give either --sent or --not-sent"))
    if message_id and not sent:
        raise typer.BadParameter(t("--message-id requires --sent"))
    if message_id and not re.fullmatch(r"[\x21-\x7e]{1,128}", message_id):
        raise typer.BadParameter(t("--message-id must have 1 to 128 printable ASCII characters"))

    async def work(by: Caller) -> None:
        found = await messages.find(by, recipient)
        which = found.attempts if attempt is None else attempt
        done = await messages.settle(by, found, sent=sent, attempt=which, message_id=message_id)
        echo(
            t(
                "recipient {id} ({to}) of job {job} is now {status}",
                id=done.recipient,
                to=done.to_email,
                job=done.job_id,
                status=label(done.status),
            )
        )
        for job in done.finished:
            echo(
                t(
                    "job {id} finished: {sent:,} sent, {failed:,} failed",
                    id=job.job,
                    sent=job.sent,
                    failed=job.failed,
                )
            )

    with_caller(settings(config), work)
