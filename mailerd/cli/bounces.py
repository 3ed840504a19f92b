"""`mailerd bounces` and `mailerd recipients`: bounced messages, and the messages to one person in
all jobs.
"""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import timedelta
from typing import Annotated, Final

import typer
from rich.table import Table

from mailerd.cli.ask import with_caller
from mailerd.cli.common import PATIENCE, ConfigOption, UnknownError, settings, with_database
from mailerd.cli.keys import sender_option
from mailerd.cli.output import JsonOption, echo, print_json
from mailerd.cli.suppress import checked_address, suppression_line
from mailerd.cli.tables import print_whole, table
from mailerd.core.i18n import t
from mailerd.core.labels import coded, worded
from mailerd.core.states import JobType
from mailerd.intake.read_jobs import PersonOut
from mailerd.locale import label, say
from mailerd.model.suppressions import Suppression
from mailerd.operations import suppressions
from mailerd.operations.caller import Caller
from mailerd.store.inbox.mailboxes import BOUNCE_KINDS, BounceCounts, Notice, NoticeReader
from mailerd.store.read.recipients import PersonsMessage, Recipients

# `mailerd recipients ADDRESS`: the messages to one person in all jobs, and the suppressions of that
# person.


def recipients(
    address: Annotated[
        str,
        typer.Argument(metavar="ADDRESS", help="The address; upper and lower case are the same."),
    ],
    *,
    limit: Annotated[
        int, typer.Option(min=1, max=1000, help="Show at most this many, newest first.")
    ] = 20,
    before: Annotated[
        int | None, typer.Option(min=1, help="Only recipients with an ID below this one.")
    ] = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Show the messages to one person in all jobs, and the suppressions of that person."""
    email = checked_address(address)

    async def work(by: Caller) -> tuple[list[PersonsMessage], list[Suppression]]:
        messages = await Recipients(by.backend.database, timeout=PATIENCE).of_person(
            email, before=before, limit=limit + 1, senders=None
        )
        return messages, (await suppressions.index(by, email=email)).suppressions

    found, kept = with_caller(settings(config), work)
    page = PersonOut.of(email, found, size=limit, suppressions=kept)
    if as_json:
        print_json(page)
    if not found and not kept:
        raise UnknownError(t("no messages to {email}, and no suppressions of it", email=email))
    if as_json:
        return
    for it in kept:
        echo(suppression_line(email, it))
    if found:
        print_whole(_messages_table(found[:limit]))
    if page.next_cursor is not None:
        echo(t("For more: --before {id}", id=page.next_cursor))


def _note(it: PersonsMessage) -> str:
    """What became of it: the reason of its result, its error, or how it was confirmed; the newest
    of these.
    """
    if it.result:
        code, reason = it.result.code or "", it.result.reason or ""
        return reason if code in reason else f"{code} {reason}"
    return say(it.error) if it.error else label(it.proof.value) if it.proof else ""


def _status(it: PersonsMessage) -> str:
    status = coded(it.status.value)
    return say(t("{status} (test)", status=status) if it.job_type is JobType.TEST else status)


def _result(it: PersonsMessage) -> str:
    """What came back of it: "bounced (hard)", "replied"."""
    if it.result and it.result.kind:
        return say(t("bounced ({kind})", kind=coded(it.result.kind)))
    return say(worded(it.result.state.value)) if it.result else ""


def _messages_table(messages: Sequence[PersonsMessage]) -> Table:
    rows = [
        [
            str(it.id),
            _status(it),
            _result(it),
            f"{it.sent_at or it.updated_at:%Y-%m-%d %H:%M}Z",
            it.email,
            it.sender_email,
            it.job_id,
            _note(it).replace("\n", " "),
        ]
        for it in messages
    ]
    headings = [
        t("Recipient"),
        t("Status"),
        t("Result"),
        t("Since"),
        t("Address"),
        t("Sender"),
        t("Job"),
        t("Note"),
    ]
    return table(headings, rows, soft={7})


_LIMIT: Final = 20
_SPAN: Final = timedelta(days=30)
"""How far back bounces are counted by domain."""


def bounces(
    *,
    sender: Annotated[str | None, typer.Option(help="Only messages of this sender.")] = None,
    job: Annotated[str | None, typer.Option(help="Only messages of this job.")] = None,
    kind: Annotated[
        str | None, typer.Option(help="Only bounces of this kind: hard, soft, blocked or unknown.")
    ] = None,
    domains: Annotated[
        bool, typer.Option("--domains", help="Count the bounces of the last 30 days by domain.")
    ] = False,
    limit: Annotated[
        int | None,
        typer.Option(min=1, max=1000, help="Show at most this many, newest first. Default: 20."),
    ] = None,
    before: Annotated[
        int | None, typer.Option(min=1, help="Only bounces with an ID below this one.")
    ] = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """List bounced messages, newest first, with the reason of each bounce."""
    if kind is not None and kind not in BOUNCE_KINDS:
        raise typer.BadParameter(
            t("{value} is not one of {choices}", value=repr(kind), choices=", ".join(BOUNCE_KINDS)),
            param_hint="--kind",
        )
    if domains and any(each is not None for each in (job, kind, limit, before)):
        raise typer.BadParameter(
            t("cannot be combined with --job, --kind, --limit or --before"), param_hint="--domains"
        )
    known = settings(config)
    sender = sender_option(sender) if sender is not None else None
    if domains:
        counts = with_database(
            known,
            lambda database: NoticeReader(database, timeout=PATIENCE).by_domain(
                span=_SPAN, sender=sender
            ),
        )
        _show_domains(counts, as_json=as_json)
        return
    found = with_database(
        known,
        lambda database: NoticeReader(database, timeout=PATIENCE).latest(
            kinds=(kind,) if kind else BOUNCE_KINDS,
            senders=[sender] if sender else None,
            job=job,
            before=before,
            limit=limit or _LIMIT,
        ),
    )
    if as_json:
        print_json({"bounces": [asdict(it) for it in found]})
    elif found:
        print_whole(_table(found))
        if len(found) == (limit or _LIMIT):
            echo(t("For more: --before {id}", id=found[-1].id))
    else:
        echo(t("No bounces."))


def _show_domains(counts: Sequence[BounceCounts], *, as_json: bool) -> None:
    if as_json:
        print_json({"domains": [asdict(it) for it in counts]})
        return
    rows = [
        [it.name, str(it.total), *(str(it.kinds.get(kind, 0)) for kind in BOUNCE_KINDS)]
        for it in counts
    ]
    print_whole(table([t("Domain"), t("Bounced"), *map(label, BOUNCE_KINDS)], rows))


def _table(found: Sequence[Notice]) -> Table:
    rows = [
        [
            str(it.id),
            f"{it.at:%Y-%m-%d %H:%M}Z",
            label(it.kind) if it.believed else t("{kind} (not believed)", kind=label(it.kind)),
            it.code or "",
            it.email or "",
            it.sender,
            str(it.recipient_id or ""),
            (it.detail or "").replace("\n", " "),
        ]
        for it in found
    ]
    headings = [
        t("ID"),
        t("Time"),
        t("Kind"),
        t("Code"),
        t("Address"),
        t("Sender"),
        t("Recipient"),
        t("Reason"),
    ]
    return table(headings, rows, soft={7})
