"""`mailerd suppress add|remove|list|why|import|export|lists|rotate-key`: who gets no messages."""

import csv
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Final, TextIO

import typer
from rich.progress import Progress

from mailerd.cli.ask import with_caller
from mailerd.cli.common import ConfigOption, settings, with_database
from mailerd.cli.output import JsonOption, echo, in_utc, print_json
from mailerd.cli.tables import console, print_list
from mailerd.core.i18n import Text, joined, t, tn
from mailerd.core.labels import worded
from mailerd.core.suppression import EVERYTHING, Reason, without_formula
from mailerd.errors import MailerdError
from mailerd.locale import label
from mailerd.mail.mime import Addresses
from mailerd.mail.suppression_table import read_addresses, read_suppressions
from mailerd.model.suppressions import MailingLists, SuppressedAddresses, Suppression
from mailerd.operations import suppressions
from mailerd.operations.caller import Caller
from mailerd.operations.inputs import read_fields
from mailerd.operations.suppressions import NotSuppressedError, SuppressionRequest, UnknownListError
from mailerd.store.db.database import Database
from mailerd.store.write.list_names import check_list
from mailerd.store.write.secrets import Secrets
from mailerd.store.write.suppressions import MAX_PAGE

_MAX_SHOWN: Final = 20
"""Rows of a file without a valid address that are named one by one."""

app = typer.Typer(help="Add, remove, list, import and export suppressions.", no_args_is_help=True)

ListOption = Annotated[
    str | None, typer.Option("--list", help="Only this list. Default: all messages.")
]
NewListOption = Annotated[
    bool, typer.Option("--new-list", help="Create the list if it does not exist.")
]
AddressArgument = Annotated[str, typer.Argument(metavar="ADDRESS")]


@app.command("add")
def add(
    address: AddressArgument,
    mailing_list: ListOption = None,
    reason: Annotated[
        Reason, typer.Option(help="The reason. A hard_bounce cannot be overridden.")
    ] = Reason.MANUAL,
    detail: Annotated[str | None, typer.Option(help="A note, such as a ticket number.")] = None,
    *,
    new_list: NewListOption = False,
    config: ConfigOption = None,
) -> None:
    """Suppress an address: no more messages are sent to it. Messages in flight may still be sent."""
    clean = checked_address(address)
    given = {"email": clean, "list": mailing_list, "reason": reason, "detail": detail}

    async def work(by: Caller) -> SuppressedAddresses:
        return await suppressions.add(
            by, [read_fields(SuppressionRequest, given)], new_lists=new_list
        )

    name = mailing_list or t("all messages")
    if _ask(config, work).changed:
        echo(t("{address} suppressed ({list})", address=clean, list=name))
    else:
        echo(t("{address} was already suppressed ({list})", address=clean, list=name))


@app.command("remove")
def remove(
    address: AddressArgument, mailing_list: ListOption = None, config: ConfigOption = None
) -> None:
    """Remove a suppression: messages are sent to the address again."""
    address = checked_address(address)

    try:
        removed = _ask(
            config, lambda by: suppressions.remove(by, address, mailing_list=mailing_list)
        )
    except NotSuppressedError:
        raise MailerdError(
            t(
                "{address} is not suppressed ({list}): `mailerd suppress why {address}` shows its suppressions",
                address=address,
                list=mailing_list or t("all messages"),
            )
        ) from None
    echo(
        t(
            "suppression of {address} removed ({list})",
            address=address,
            list=mailing_list or t("all messages"),
        )
    )
    if removed.still_suppressed:
        echo(
            t(
                "another one still keeps these messages from it: `mailerd suppress why {address}`",
                address=address,
            )
        )


@app.command("why")
def why(
    address: AddressArgument, *, as_json: JsonOption = False, config: ConfigOption = None
) -> None:
    """Show the suppressions of an address. The exit code is 1 when there are none."""
    address = checked_address(address)
    page = _ask(config, lambda by: suppressions.index(by, email=address))
    found = page.suppressions
    if as_json:
        print_json(page)
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
    reason: Annotated[
        Reason | None, typer.Option(help="Only suppressions with this reason.")
    ] = None,
    limit: Annotated[
        int, typer.Option(min=1, max=MAX_PAGE, help="Show at most this many, oldest first.")
    ] = 100,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """List suppressions. `export` writes all of them."""
    page = _ask(
        config,
        lambda by: suppressions.index(by, mailing_list=mailing_list, reason=reason, limit=limit),
    )
    if as_json:
        print_json(page)
        return
    headings = (t("Address"), t("List"), t("Reason"), t("Source"), t("Since"), t("Note"))
    print_list(headings, map(_table_row, page.suppressions))


@app.command("lists")
def lists(*, as_json: JsonOption = False, config: ConfigOption = None) -> None:
    """List all lists that people can unsubscribe from."""
    found = _ask(config, suppressions.lists)
    if as_json:
        print_json(found)
        return
    rows = ((it.name, it.title or "", in_utc(it.created_at)) for it in found.lists)
    print_list((t("Name"), t("Title"), t("Created")), rows)


@app.command("import")
def import_file(
    file: Annotated[
        Path, typer.Argument(help="A CSV file with an `email` column, or one address per line.")
    ],
    mailing_list: ListOption = None,
    reason: Annotated[
        Reason | None, typer.Option(help="The reason, where the file does not give one.")
    ] = None,
    *,
    new_list: NewListOption = False,
    config: ConfigOption = None,
) -> None:
    """Suppress every address in a file. Rows without a valid address are skipped and listed.

    A file written by `export` keeps its lists and reasons. Importing a file again adds nothing.
    """
    bad: list[Text] = []
    names = _lists_of(file) if mailing_list is None else {mailing_list}
    rows = (
        (address, mailing_list or its_list or None, reason or why, None)
        for address, its_list, why in _rows(file, bad)
    )
    wanted = {(name, reason or Reason.IMPORTED) for name in names}
    made = _ask(config, lambda by: suppressions.import_rows(by, rows, wanted, new_lists=new_list))
    for line in bad[:_MAX_SHOWN]:
        echo(t("skipped: {what}", what=line), err=True)
    if len(bad) > _MAX_SHOWN:
        echo(t("skipped: {n:,} more", n=len(bad) - _MAX_SHOWN), err=True)
    shown = [
        name or t("all messages") for name in sorted(names, key=lambda it: it or "")[:_MAX_SHOWN]
    ]
    read = tn("{n:,} address read", "{n:,} addresses read", made.total)
    echo(
        t(
            "{read}, {new:,} newly suppressed ({lists})",
            read=read,
            new=made.added,
            lists=joined(shown or [t("all messages")], ", "),
        )
    )
    if bad:
        raise typer.Exit(1)


@app.command("export")
def export(mailing_list: ListOption = None, config: ConfigOption = None) -> None:
    """Write all suppressions as CSV to standard output."""
    writer = csv.writer(sys.stdout, lineterminator="\n")

    async def work(by: Caller) -> None:
        async for page in await suppressions.pages(by, mailing_list=mailing_list):
            for it in page:
                # What a stranger has signed up with may be a formula: =cmd|'/c'!a0@example.com is
                # an address.
                address, since = without_formula(it.shown_address), in_utc(it.created_at)
                writer.writerow(
                    (address, it.list or "", it.reason.value, it.source.value, since, it.origin)
                )

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
    echo(
        t(
            "New unsubscribe links are signed with key {key}. Restart the daemons to use it at once.",
            key=key,
        )
    )


def _ask[T](config: Path | None, work: Callable[[Caller], Awaitable[T]]) -> T:
    async def ask(by: Caller) -> T:
        try:
            return await work(by)
        except UnknownListError as error:
            raise _unknown(error.name, await suppressions.lists(by)) from None

    return with_caller(settings(config), ask)


def _unknown(name: str, known: MailingLists) -> MailerdError:
    check_list(name)
    said = [
        t(
            "list {name} not found: `mailerd suppress lists` shows all lists, --new-list creates one",
            name=repr(name),
        )
    ]
    if close := get_close_matches(name, [it.name for it in known.lists], n=1):
        said.append(t("did you mean {name}?", name=close[0]))
    return MailerdError(joined(said))


def _rows(file: Path, bad: list[Text]) -> Iterator[tuple[str, str, Reason]]:
    """The good addresses of a file, each with its list and reason, with a bar; what is none is
    noted in `bad`.
    """
    with (
        Progress(console=console(), transient=True, disable=not sys.stdout.isatty()) as progress,
        _opened(file) as text,
    ):
        task = progress.add_task(file.name, total=file.stat().st_size)
        for row in read_addresses(text, bad):
            progress.update(task, advance=len(row[0]) + 1)
            yield row


def _lists_of(file: Path) -> set[str | None]:
    """Every list that a line of the file is about; None: every message there is.

    Raises:
        MailerdError: it is a pipe: this would be the only time that it can be read.
    """
    if file.is_fifo():
        raise MailerdError(
            t(
                "could not read {file}: it is a pipe, and without --list it is read twice. Save it as a file",
                file=file,
            )
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
        address=address,
        list=_named(it),
        at=in_utc(it.created_at),
        reason=worded(it.reason),
        source=worded(it.source),
    )
    return joined([line, *(each for each in (it.origin, it.actor, it.detail) if each)], ", ")


def _named(it: Suppression) -> str:
    return (
        t("all messages") if it.list_id == EVERYTHING else it.list or t("list {id}", id=it.list_id)
    )


def _table_row(it: Suppression) -> tuple[str, ...]:
    since = in_utc(it.created_at)
    source = " ".join(filter(None, (label(it.source), it.origin)))
    return it.shown_address, _named(it), label(it.reason), source, since, it.detail or ""
