"""`mailerd bounces` and `mailerd recipients`: letters that came back, and one person's letters over all jobs."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import timedelta
from typing import Annotated, Final

import typer
from rich.table import Table

from mailerd.cli.common import PATIENCE, ConfigOption, UnknownError, settings, with_database
from mailerd.cli.output import JsonOption, print_json, print_whole, table
from mailerd.cli.senders import mailbox_of
from mailerd.cli.suppress import checked_address, suppression_line
from mailerd.intake.read_jobs import PersonOut
from mailerd.store.db.database import Database
from mailerd.store.inbox.mailboxes import BOUNCE_KINDS, BounceCounts, Notice, NoticeReader
from mailerd.store.jobs import PersonsLetter, Recipients
from mailerd.store.suppressions import Suppression, Suppressions
from mailerd.texts import label, tr

# `mailerd recipients ADDRESS`: one person's letters over all jobs, and what keeps letters from that person.


def recipients(
    address: Annotated[str, typer.Argument(metavar="ADDRESS", help="In any spelling.")],
    *,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="The newest so many.")] = 20,
    before: Annotated[int | None, typer.Option(min=1, help="Only letters before this recipient's id.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object, as the API answers.")] = False,
    config: ConfigOption = None,
) -> None:
    """Show one person's letters over all jobs, and what keeps letters from that person."""
    email = checked_address(address)

    async def work(database: Database) -> tuple[list[PersonsLetter], list[Suppression]]:
        letters = await Recipients(database, timeout=PATIENCE).of_person(
            email, before=before, limit=limit + 1, senders=None
        )
        return letters, await (await Suppressions.open(database, timeout=PATIENCE)).of(email)

    found, suppressions = with_database(settings(config), work)
    page = PersonOut.of(email, found, size=limit, suppressions=suppressions)
    if as_json:
        print_json(page.model_dump(mode="json"))
        return
    if not found and not suppressions:
        raise UnknownError(f"no letter to {email} is known, and nothing keeps letters from it")
    for line in (suppression_line(email, it) for it in suppressions):
        print(line)
    if found:
        print_whole(_letters_table(found[:limit]))
    if page.next_cursor is not None:
        print(tr(f"There are more: --before {page.next_cursor}"))


def _letters_table(letters: Sequence[PersonsLetter]) -> Table:
    rows = [
        [
            str(it.id),
            label(it.status.value),
            f"{it.sent_at or it.updated_at:%Y-%m-%d %H:%M}Z",
            it.email,
            it.sender_email,
            it.job_id,
            (tr(it.error or "") or (label(it.proof.value) if it.proof else "")).replace("\n", " "),
        ]
        for it in letters
    ]
    return table(["recipient", "status", "since", "address", "sender", "job", "note"], rows, soft={6})


_LIMIT: Final = 20
_SPAN: Final = timedelta(days=30)
"""How far back bounces are counted by domain."""


def bounces(
    *,
    sender: Annotated[str | None, typer.Option(help="Only those of this mailbox.")] = None,
    job: Annotated[str | None, typer.Option(help="Only those of this job.")] = None,
    kind: Annotated[str | None, typer.Option(help="Only hard, soft, blocked or unknown ones.")] = None,
    domains: Annotated[bool, typer.Option("--domains", help="Count them by domain, over the last 30 days.")] = False,
    limit: Annotated[int | None, typer.Option(min=1, max=1000, help="The newest so many; without it 20.")] = None,
    before: Annotated[int | None, typer.Option(min=1, help="Only those before this number.")] = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Show the letters that came back, the newest first, with the reason of each."""
    if kind is not None and kind not in BOUNCE_KINDS:
        raise typer.BadParameter(f"{kind!r} is none of {', '.join(BOUNCE_KINDS)}", param_hint="--kind")
    if domains and any(each is not None for each in (job, kind, limit, before)):
        raise typer.BadParameter(
            "it counts all, and goes without --job, --kind, --limit and --before", param_hint="--domains"
        )
    known = settings(config)
    sender = mailbox_of(known, sender) if sender is not None else None
    if domains:
        counts = with_database(
            known,
            lambda database: NoticeReader(database, timeout=PATIENCE).by_domain(span=_SPAN, sender=sender),
        )
        _show_domains(counts, as_json=as_json)
        return
    found = with_database(
        known,
        lambda database: NoticeReader(database, timeout=PATIENCE).latest(
            kinds=(kind,) if kind else BOUNCE_KINDS, sender=sender, job=job, before=before, limit=limit or _LIMIT
        ),
    )
    if as_json:
        print_json([asdict(it) for it in found])
    elif found:
        print_whole(_table(found))
        if len(found) == (limit or _LIMIT):
            print(tr(f"There may be more: --before {found[-1].id}"))
    else:
        print(tr("No letter is known to have come back."))


def _show_domains(counts: Sequence[BounceCounts], *, as_json: bool) -> None:
    if as_json:
        print_json([asdict(it) for it in counts])
        return
    rows = [[it.name, str(it.total), *(str(it.kinds.get(kind, 0)) for kind in BOUNCE_KINDS)] for it in counts]
    print_whole(table(["domain", "bounced", *BOUNCE_KINDS], rows))


def _table(found: Sequence[Notice]) -> Table:
    rows = [
        [
            str(it.id), f"{it.at:%Y-%m-%d %H:%M}Z",
            label(it.kind) if it.believed else tr(f"{label(it.kind)} (not believed)"),
            it.code or "", it.email or "", it.mailbox, str(it.recipient_id or ""), (it.detail or "").replace("\n", " "),
        ]
        for it in found
    ]  # fmt: skip
    return table(["number", "at", "kind", "code", "address", "sender", "recipient", "reason"], rows, soft={7})
