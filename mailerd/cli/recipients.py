"""`mailerd recipients ADDRESS`: one person's letters over all jobs, and what keeps letters from that person."""

from collections.abc import Sequence
from typing import Annotated

import typer
from rich.table import Table

from mailerd.cli.common import PATIENCE, ConfigOption, UnknownError, settings, with_database
from mailerd.cli.output import print_json, print_whole, table
from mailerd.cli.suppress import checked_address, suppression_line
from mailerd.intake.read_recipients import PersonOut
from mailerd.store.db.database import Database
from mailerd.store.recipients import PersonsLetter, Recipients
from mailerd.store.suppressions import Suppression, Suppressions
from mailerd.texts import label, tr


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
        print_whole(_table(found[:limit]))
    if page.next_cursor is not None:
        print(tr(f"There are more: --before {page.next_cursor}"))


def _table(letters: Sequence[PersonsLetter]) -> Table:
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
