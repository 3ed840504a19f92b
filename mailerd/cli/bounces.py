"""`mailerd bounces`: the letters that came back, one by one or by domain."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from mailerd.cli.common import PATIENCE, ConfigOption, open_database, run_async, settings
from mailerd.cli.output import JsonOption, print_json, print_whole, table
from mailerd.store.inbox.read_notices import BOUNCE_KINDS, BounceCounts, Notice, NoticeReader
from mailerd.texts import label, tr


def bounces(
    *,
    sender: Annotated[str | None, typer.Option(help="Only those of this mailbox.")] = None,
    kind: Annotated[str | None, typer.Option(help="Only hard, soft, blocked or unknown ones.")] = None,
    domains: Annotated[bool, typer.Option("--domains", help="Count them by domain, over the last 30 days.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="The newest so many.")] = 20,
    before: Annotated[int | None, typer.Option(min=1, help="Only those before this number.")] = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Show the letters that came back, the newest first, with the reason of each."""
    if kind is not None and kind not in BOUNCE_KINDS:
        raise typer.BadParameter(f"{kind!r} is none of {', '.join(BOUNCE_KINDS)}", param_hint="--kind")
    kinds = (kind,) if kind else BOUNCE_KINDS
    found, by_domain = run_async(_read(config, sender, kinds, before=before, limit=limit, domains=domains))
    if as_json:
        shown: Sequence[object] = [asdict(it) for it in (by_domain if domains else found)]
        print_json(shown)
    elif domains:
        rows = [[it.name, str(it.total), *(str(it.kinds.get(k, 0)) for k in BOUNCE_KINDS)] for it in by_domain]
        print_whole(table(["domain", "bounced", *BOUNCE_KINDS], rows))
    elif found:
        print_whole(_table(found))
        if len(found) == limit:
            print(tr(f"There may be more: --before {found[-1].id}"))
    else:
        print(tr("No letter is known to have come back."))


async def _read(
    config: Path | None, sender: str | None, kinds: tuple[str, ...], *, before: int | None, limit: int, domains: bool
) -> tuple[list[Notice], list[BounceCounts]]:
    known = settings(config)
    async with open_database(known) as database:
        reader = NoticeReader(database, timeout=PATIENCE)
        if domains:
            return [], await reader.by_domain(span=timedelta(days=30), sender=sender)
        return await reader.latest(kinds=kinds, sender=sender, before=before, limit=limit), []


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
