"""Tables of the commands, and where they are shown.

Only what shows one imports it: rich takes long to import.
"""

import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, override

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from mailerd.cli.output import harmless
from mailerd.core.i18n import visible
from mailerd.locale import say

_ONE_LINE: Final = 1000
"""Columns of a list of which each entry is one line, however narrow the terminal or the pipe."""
_GAP: Final = 2


class _Console(Console):
    """Rich's, in which only rich's own styles and movements act on the terminal."""

    @override
    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterator[Segment]:
        for it in super().render(renderable, options):
            yield it if it.control else Segment(harmless(it.text), it.style)


def console(width: int | None = None) -> Console:
    """Where tables are shown. Brackets and colons in a text are text, no markup."""
    return _Console(width=width, markup=False, emoji=False)


def table(
    headings: Sequence[str], rows: Iterable[Sequence[str | Text]], *, soft: Iterable[int] = ()
) -> Table:
    """A table without rules.

    No cell takes a second line; in a narrow window those of `soft` columns are cut.

    Its headings and cells are said in the language of this command.
    """
    shown = Table(
        box=None,
        header_style="bold",
        padding=(0, _GAP, 0, 0),
        pad_edge=False,
        show_header=any(headings),
    )
    for number, title in enumerate(headings):
        # rich narrows first what may be wrapped …
        shown.add_column(say(title), no_wrap=number not in soft)
    for row in rows:
        cells = [visible(say(cell)) if isinstance(cell, str) else cell for cell in row]
        shown.add_row(
            *(_one_line(cell) if number in soft else cell for number, cell in enumerate(cells))
        )
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
    shown = Table(*map(say, headings), box=None)
    for row in rows:
        shown.add_row(*(visible(say(cell)) for cell in row))
    print_whole(shown)
