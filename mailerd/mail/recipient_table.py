"""Reads a table of recipients: a CSV whose first line names the columns, separated by commas, semicolons or tabs."""

import csv
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TextIO

from mailerd.errors import MailerdError
from mailerd.texts import tr

MAX_SEEN: Final = 300
"""Characters of a header that cannot be used, as they are shown."""
_OWN: Final = ("email", "name", "language")
"""Columns that are a recipient's fields; every other one is a variable."""
_SEPARATORS: Final = (",", ";", "\t")
MAX_SHOWN: Final = 20
"""How many bad lines are named."""
MAX_USELESS: Final = 1_048_576
"""Empty and bad rows, each of which takes time: those of a whole sheet of Excel, saved as it is.

https://support.microsoft.com/office/excel-specifications-and-limits-1672b34d-7043-467e-8e27-269d656771c3
"""
MAX_ROW: Final = 1_000_000
"""Characters of one row, over all its lines: a row is in memory at once, each of its cells for itself."""


class TableError(MailerdError):
    """The table cannot be used; the text says where and why."""


@dataclass(frozen=True)
class RecipientTable:
    """Recipients as a job's JSON has them."""

    recipients: list[dict[str, Any]] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    """For each recipient, the line on which it ends."""

    def named(self, file: Path) -> Callable[[int], str]:
        """What says where a recipient stands."""
        return lambda index: tr(f"{file} line {self.lines[index]}")


def read_table(opened_file: TextIO, name: str) -> RecipientTable:
    """The recipients of a table that is called `name`.

    Raises:
        TableError: it cannot be used.
    """
    table = RecipientTable()
    for line, recipient in read_rows(opened_file, name):
        table.recipients.append(recipient)
        table.lines.append(line)
    return table


def read_rows(opened_file: TextIO, name: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """The recipients of a table that is called `name`, one by one, each with the line on which it ends.

    Raises:
        TableError: it cannot be used; lines that are bad are known at the end.
    """
    lines, bad, more, useless = _Lines(opened_file, name), list[str](), 0, 0
    try:
        reader = csv.reader(lines, strict=True, delimiter=_delimiter(lines.first))
        header = _header(next(reader, []), name)
        for row in reader:
            lines.row = 0
            empty = not any(cell.strip() for cell in row)
            useless += empty or len(row) != len(header)
            if useless > MAX_USELESS:
                raise TableError(f"{name}: more than {MAX_USELESS:,} of its rows are empty or bad; delete them")
            if empty:
                continue
            if len(row) == len(header):
                yield reader.line_num, _recipient(dict(zip(header, row, strict=True)))
            elif len(bad) == MAX_SHOWN:
                more += 1
            else:
                bad.append(
                    tr(f"{name} line {reader.line_num}: its cells are {len(row)}, those of the header {len(header)}")
                )
    except csv.Error as error:
        raise TableError(f"{name} is no CSV: {error}") from error
    if bad:
        raise TableError("\n".join([*bad, tr(f"  and {more:,} more")] if more else bad))


class _Lines:
    """The lines of a table, none of which makes its row too large."""

    def __init__(self, opened_file: TextIO, name: str) -> None:
        self._file, self._name = opened_file, name
        self.row = 0
        """The characters since the last row ended."""
        self.first = opened_file.readline(MAX_ROW + 1)
        self._next = self.first

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line, self._next = self._next or self._file.readline(MAX_ROW + 1), ""
        if not line:
            raise StopIteration
        self.row += len(line)
        if self.row > MAX_ROW:
            raise TableError(f"{self._name}: a row has more than {MAX_ROW:,} characters")
        return line


def _header(cells: list[str], name: str) -> list[str]:
    header = _folded([cell.strip() for cell in cells])
    if "email" not in header:
        seen = ", ".join(header)[:MAX_SEEN] or "nothing"
        raise TableError(f"{name}: the first line must name the columns, one of them email; it has {seen}")
    if len(set(header)) < len(header) or "" in header:
        raise TableError(f"{name}: each column needs a name of its own: {', '.join(header)[:MAX_SEEN]}")
    return header


def _delimiter(first: str) -> str:
    """What separates the columns, by the line that names them: a spreadsheet of another country writes ";" or tabs."""
    names = min((at for at in (first.find(each) for each in _SEPARATORS) if at >= 0), default=-1)
    return first[names] if names >= 0 else ","


def _folded(header: list[str]) -> list[str]:
    """The columns that are a recipient's fields, however they are capitalised; a variable's name is left as it is."""
    return [low if (low := cell.lower()) in _OWN and low not in header else cell for cell in header]


def _recipient(cells: dict[str, str]) -> dict[str, Any]:
    own = {name: cells[name].strip() for name in _OWN if cells.get(name, "").strip()}
    return {"email": "", **own, "variables": {name: value for name, value in cells.items() if name not in _OWN}}
