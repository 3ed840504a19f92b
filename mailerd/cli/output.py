"""What the commands show: tables, JSON, moments, and what can be shown only once."""

import json
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mailerd.cli.stdio import OutputError
from mailerd.errors import MailerdError
from mailerd.texts import heading

_ONE_LINE: Final = 1000
"""Columns of a list of which each entry is one line, however narrow the terminal or the pipe."""
_GAP: Final = 2

JsonOption = Annotated[bool, typer.Option("--json", help="One JSON array.")]
WideOption = Annotated[bool, typer.Option("--wide", help="Every column, however wide; so it is in a pipe too.")]


def narrow(*, wide: bool) -> bool:
    """Whether a list has to fit into a window: a pipe gets every column."""
    return sys.stdout.isatty() and not wide


def console(width: int | None = None) -> Console:
    """Where tables are shown. Brackets and colons in a text are text, no markup."""
    return Console(width=width, markup=False, emoji=False)


def table(headings: Sequence[str], rows: Iterable[Sequence[str | Text]], *, soft: Iterable[int] = ()) -> Table:
    """A table without rules. No cell takes a second line; in a narrow window those of `soft` columns are cut."""
    shown = Table(box=None, header_style="bold", padding=(0, _GAP, 0, 0), pad_edge=False, show_header=any(headings))
    for number, title in enumerate(headings):
        shown.add_column(heading(title), no_wrap=number not in soft)  # rich narrows first what may be wrapped …
    for row in rows:
        shown.add_row(*(_one_line(cell) if number in soft else cell for number, cell in enumerate(row)))
    return shown


def _one_line(cell: str | Text) -> Text:
    """A cell that is not wrapped all the same: it ends in an ellipsis."""
    text = cell.copy() if isinstance(cell, Text) else Text(cell)
    text.no_wrap, text.overflow = True, "ellipsis"
    return text


def print_fitting(shown: Table) -> None:
    """Show a table that fits into the window of a terminal, and is whole in a pipe."""
    console(None if sys.stdout.isatty() else _ONE_LINE).print(shown)


def print_whole(shown: Table) -> None:
    """Show a table of which each row is one line, however narrow the terminal or the pipe."""
    console(_ONE_LINE).print(shown)


def print_list(headings: Iterable[str], rows: Iterable[Sequence[str]]) -> None:
    """Show every column of a list, a line for each row."""
    shown = Table(*map(heading, headings), box=None)
    for row in rows:
        shown.add_row(*row)
    print_whole(shown)


def as_text(found: object) -> str:
    """JSON for programs and people, moments as ISO 8601 has them; what standard output cannot write is escaped."""
    speaks_unicode = (sys.stdout.encoding or "").lower().startswith("utf")
    return json.dumps(found, ensure_ascii=not speaks_unicode, indent=2, default=datetime.isoformat)


def print_json(found: object) -> None:
    """Show something as JSON."""
    print(as_text(found))


def print_once(words: str, *, or_else: str) -> None:
    """Say what cannot be said again; `or_else`: what to do where that fails.

    Raises:
        MailerdError: it could not be said.
    """
    try:
        print(words, flush=True)
    except (OutputError, BrokenPipeError) as error:
        raise MailerdError(f"{or_else} ({error})") from error


def in_utc(moment: datetime | None) -> str:
    """A moment to the second; "" for none."""
    return "" if moment is None else moment.strftime("%Y-%m-%d %H:%M:%SZ")
