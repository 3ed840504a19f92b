"""`mailerd suppress add|remove|list|why|import|export|lists|rotate-key`: who gets no messages."""

import csv
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from itertools import batched, groupby
from operator import itemgetter
from pathlib import Path
from typing import Annotated, Final, Literal, TextIO

import typer
from rich.progress import Progress

from mailerd.cli.common import ConfigOption, asked_by, settings, user_name, with_database
from mailerd.cli.output import JsonOption, echo, in_utc, print_json
from mailerd.cli.tables import console, print_list
from mailerd.core.i18n import Text, joined, t, tn
from mailerd.core.labels import worded
from mailerd.core.suppression import EVERYTHING, EVERYTHING_NAME, Channel, Reason, without_formula
from mailerd.errors import MailerdError
from mailerd.locale import label
from mailerd.mail.mime import Addresses
from mailerd.mail.suppression_table import read_addresses, read_suppressions
from mailerd.store.action_log import CommandLog
from mailerd.store.db.database import Database
from mailerd.store.list_names import check_list
from mailerd.store.secrets import Secrets
from mailerd.store.suppressions import MAX_PAGE, NewSuppression, Place, Suppression, Suppressions

_ROWS_AT_ONCE: Final = 5_000
"""Rows of a file that are stored in one transaction."""
_SORTED_AT_ONCE: Final = 50_000
"""Rows of a file that are brought into the order of the table first: a server stores them in half the time then."""
_MAX_SHOWN: Final = 20
"""Rows of a file without a valid address that are named one by one."""

app = typer.Typer(help="Add, remove, list, import and export suppressions.", no_args_is_help=True)

ListOption = Annotated[str | None, typer.Option("--list", help="Only this list. Default: all messages.")]
NewListOption = Annotated[bool, typer.Option("--new-list", help="Create the list if it does not exist.")]
AddressArgument = Annotated[str, typer.Argument(metavar="ADDRESS")]


@app.command("add")
def add(
    address: AddressArgument,
    mailing_list: ListOption = None,
    reason: Annotated[Reason, typer.Option(help="The reason. A hard_bounce cannot be overridden.")] = Reason.MANUAL,
    detail: Annotated[str | None, typer.Option(help="A note, such as a ticket number.")] = None,
    *,
    new_list: NewListOption = False,
    config: ConfigOption = None,
) -> None:
    """Suppress an address: no more messages are sent to it. Messages in flight may still be sent."""
    clean = checked_address(address)

    async def work(suppressions: Suppressions) -> list[NewSuppression]:
        list_id = await _list_id(suppressions, mailing_list, make=new_list)
        new = NewSuppression(
            suppressions.digest(clean), list_id, reason, Channel.CLI, clean, detail=detail, actor=user_name()
        )
        return (await suppressions.add([new], log=_log("suppress", mailing_list))).changed

    added = _ask(config, work)
    name = mailing_list or t("all messages")
    if added:
        echo(t("{address} suppressed ({list})", address=clean, list=name))
    else:
        echo(t("{address} was already suppressed ({list})", address=clean, list=name))


@app.command("remove")
def remove(address: AddressArgument, mailing_list: ListOption = None, config: ConfigOption = None) -> None:
    """Remove a suppression: messages are sent to the address again."""
    address = checked_address(address)

    async def work(suppressions: Suppressions) -> tuple[bool, bool]:
        list_id = await _list_id(suppressions, mailing_list)
        return await suppressions.remove(
            suppressions.digest(address), list_id=list_id, source=Channel.CLI, actor=user_name(),
            log=_log("unsuppress", mailing_list),
        )  # fmt: skip

    removed, still_out = _ask(config, work)
    if not removed:
        raise MailerdError(
            t(
                "{address} is not suppressed ({list}): `mailerd suppress why {address}` shows its suppressions",
                address=address, list=mailing_list or t("all messages"),
            )
        )  # fmt: skip
    echo(t("suppression of {address} removed ({list})", address=address, list=mailing_list or t("all messages")))
    if still_out:
        echo(t("another one still keeps these messages from it: `mailerd suppress why {address}`", address=address))


@app.command("why")
def why(address: AddressArgument, *, as_json: JsonOption = False, config: ConfigOption = None) -> None:
    """Show the suppressions of an address. The exit code is 1 when there are none."""
    address = checked_address(address)
    found = _ask(config, lambda suppressions: suppressions.of(address))
    if as_json:
        _print_page(found)
    elif not found:
        echo(t("No suppressions of {address}.", address=address))
    for it in () if as_json else found:
        echo(suppression_line(address, it))
    if not found:
        raise typer.Exit(1)


@app.command("list")
def list_suppressions(
    *,
    mailing_list: ListOption = None,
    reason: Annotated[Reason | None, typer.Option(help="Only suppressions with this reason.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=MAX_PAGE, help="Show at most this many, oldest first.")] = 100,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """List suppressions. `export` writes all of them."""

    async def work(suppressions: Suppressions) -> list[Suppression]:
        list_id = await _list_id(suppressions, mailing_list) if mailing_list else None
        return await suppressions.page(list_id=list_id, reason=reason, limit=limit + 1)

    found = _ask(config, work)
    if as_json:
        _print_page(found[:limit], more=len(found) > limit)
        return
    headings = (t("Address"), t("List"), t("Reason"), t("Source"), t("Since"), t("Note"))
    print_list(headings, map(_table_row, found[:limit]))


def _print_page(page: Sequence[Suppression], *, more: bool = False) -> None:
    """Print suppressions as the API does."""
    from mailerd.intake.suppressions import SuppressionOut, SuppressionsOut  # noqa: PLC0415 - slow to import

    shown = [SuppressionOut.of(it) for it in page]
    print_json(SuppressionsOut(suppressions=shown, next_cursor=page[-1].cursor if more else None))


@app.command("lists")
def lists(*, as_json: JsonOption = False, config: ConfigOption = None) -> None:
    """List all lists that people can unsubscribe from."""
    found = _ask(config, lambda suppressions: suppressions.lists())
    if as_json:
        from mailerd.intake.suppressions import ListOut, ListsOut  # noqa: PLC0415 - slow to import

        print_json(ListsOut(lists=[ListOut.model_validate(it) for it in found]))
        return
    rows = ((it.name, it.title or "", in_utc(it.created_at)) for it in found)
    print_list((t("Name"), t("Title"), t("Created")), rows)


@app.command("import")
def import_file(
    file: Annotated[Path, typer.Argument(help="A CSV file with an `email` column, or one address per line.")],
    mailing_list: ListOption = None,
    reason: Annotated[Reason | None, typer.Option(help="The reason, where the file does not give one.")] = None,
    *,
    new_list: NewListOption = False,
    config: ConfigOption = None,
) -> None:
    """Suppress every address in a file. Rows without a valid address are skipped and listed.

    A file written by `export` keeps its lists and reasons. Importing a file again adds nothing.
    """
    added = total = 0
    bad: list[Text] = []
    targets: dict[str | None, tuple[int, CommandLog]] = {}

    async def work(suppressions: Suppressions) -> None:
        nonlocal added, total
        for name in _lists_of(file) if mailing_list is None else {mailing_list}:  # all of them before a line is stored
            targets[name] = await _list_id(suppressions, name, make=new_list), _log("suppress", name)
        for rows in batched(_rows(file, bad), _SORTED_AT_ONCE):
            total += len(rows)
            for its_list, group in groupby(sorted(rows, key=_list_of), key=_list_of):
                list_id, log = targets[mailing_list or its_list or None]
                those = [(address, reason or why) for address, _, why in group]
                added += await _store(suppressions, those, list_id=list_id, log=log)

    _ask(config, work)
    for line in bad[:_MAX_SHOWN]:
        echo(t("skipped: {what}", what=line), err=True)
    if len(bad) > _MAX_SHOWN:
        echo(t("skipped: {n:,} more", n=len(bad) - _MAX_SHOWN), err=True)
    names = [name or t("all messages") for name in sorted(targets, key=lambda it: it or "")[:_MAX_SHOWN]]
    read = tn("{n:,} address read", "{n:,} addresses read", total)
    echo(
        t(
            "{read}, {new:,} newly suppressed ({lists})",
            read=read, new=added, lists=joined(names or [t("all messages")], ", "),
        )
    )  # fmt: skip
    if bad:
        raise typer.Exit(1)


@app.command("export")
def export(mailing_list: ListOption = None, config: ConfigOption = None) -> None:
    """Write all suppressions as CSV to standard output."""
    writer = csv.writer(sys.stdout, lineterminator="\n")

    async def work(suppressions: Suppressions) -> None:
        list_id = await _list_id(suppressions, mailing_list) if mailing_list else None
        after: Place | None = None
        while page := await suppressions.page(list_id=list_id, after=after):
            for it in page:
                address, since = it.address or it.digest.hex(), in_utc(it.created_at)
                # What a stranger has signed up with may be a formula: =cmd|'/c'!a0@example.com is an address.
                writer.writerow(
                    (without_formula(address), it.list_name or "", it.reason.value, it.source.value, since, it.origin)
                )
            after = page[-1].place

    writer.writerow(("email", "list", "reason", "source", "since", "origin"))
    _ask(config, work)


@app.command("rotate-key")
def rotate_key(config: ConfigOption = None) -> None:
    """Sign new unsubscribe links with a new key. Existing links remain valid."""
    known = settings(config)

    async def work(database: Database) -> int:
        secrets = Secrets(database, timeout=known.database.connect_timeout)
        await secrets.keys()
        return await secrets.rotate()

    key = with_database(known, work)
    echo(t("New unsubscribe links are signed with key {key}. Restart the daemons to use it at once.", key=key))


def _ask[T](config: Path | None, work: Callable[[Suppressions], Awaitable[T]]) -> T:
    known = settings(config)

    async def ask(database: Database) -> T:
        return await work(await Suppressions.open(database, timeout=known.database.connect_timeout))

    return with_database(known, ask)


def _log(action: Literal["suppress", "unsuppress"], mailing_list: str | None) -> CommandLog:
    return CommandLog(action, asked_by(), mailing_list or EVERYTHING_NAME)


async def _list_id(suppressions: Suppressions, name: str | None, *, make: bool = False) -> int:
    if name is None:
        return EVERYTHING
    check_list(name)
    if make:
        return (await suppressions.make_list(name)).id
    if (found := await suppressions.list_named(name)) is not None:
        return found.id
    names = [it.name for it in await suppressions.lists()]
    said = [
        t("list {name} not found: `mailerd suppress lists` shows all lists, --new-list creates one", name=repr(name))
    ]
    if close := get_close_matches(name, names, n=1):
        said.append(t("did you mean {name}?", name=close[0]))
    raise MailerdError(joined(said))


async def _store(suppressions: Suppressions, rows: list[tuple[str, Reason]], *, list_id: int, log: CommandLog) -> int:
    """Suppress addresses for one list; how many are new."""
    actor, added = user_name(), 0
    new = [NewSuppression(suppressions.digest(it), list_id, why, Channel.IMPORT, it, actor=actor) for it, why in rows]
    for part in batched(sorted(new, key=lambda it: it.digest), _ROWS_AT_ONCE):
        added += len((await suppressions.add(part, log=log)).fresh)
    return added


def _rows(file: Path, bad: list[Text]) -> Iterator[tuple[str, str, Reason]]:
    """The good addresses of a file, each with its list and reason, with a bar; what is none is noted in `bad`."""
    with (
        Progress(console=console(), transient=True, disable=not sys.stdout.isatty()) as progress,
        _opened(file) as text,
    ):
        task = progress.add_task(file.name, total=file.stat().st_size)
        for row in read_addresses(text, bad):
            progress.update(task, advance=len(row[0]) + 1)
            yield row


_list_of = itemgetter(1)


def _lists_of(file: Path) -> set[str | None]:
    """Every list that a line of the file is about; None: every message there is.

    Raises:
        MailerdError: it is a pipe: this would be the only time that it can be read.
    """
    if file.is_fifo():
        raise MailerdError(
            t("could not read {file}: it is a pipe, and without --list it is read twice. Save it as a file", file=file)
        )
    with _opened(file) as text:
        return {its_list or None for _, (_, its_list, _) in read_suppressions(text)}


@contextmanager
def _opened(file: Path) -> Iterator[TextIO]:
    try:
        with file.open(encoding="utf-8-sig", newline="") as text:
            yield text
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        cause = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise MailerdError(t("could not read {file}: {cause}", file=file, cause=cause)) from error


def checked_address(given: str) -> str:
    """An address in the spelling by which it is known.

    Raises:
        MailerdError: it is none.
    """
    try:
        return Addresses().check(given)
    except ValueError as error:
        raise MailerdError(joined([given, str(error)], ": ")) from None


def suppression_line(address: str, it: Suppression) -> Text:
    """One suppression of an address, as a sentence."""
    line = t(
        "{address} suppressed ({list}) at {at}: {reason}, source: {source}",
        address=address, list=_named(it), at=in_utc(it.created_at), reason=worded(it.reason), source=worded(it.source),
    )  # fmt: skip
    return joined([line, *(each for each in (it.origin, it.actor, it.detail) if each)], ", ")


def _named(it: Suppression) -> str:
    return t("all messages") if it.list_id == EVERYTHING else it.list_name or t("list {id}", id=it.list_id)


def _table_row(it: Suppression) -> tuple[str, ...]:
    address, since = it.address or it.digest.hex(), in_utc(it.created_at)
    source = " ".join(filter(None, (label(it.source), it.origin)))
    return address, _named(it), label(it.reason), source, since, it.detail or ""
