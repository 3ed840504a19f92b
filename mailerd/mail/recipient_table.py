"""Reads a table of recipients: a CSV whose first line names the columns."""

import csv
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TextIO

from mailerd.errors import MailerdError
from mailerd.texts import tr

_OWN: Final = ("email", "name", "language")
"""Columns that are a recipient's fields; every other one is a variable."""


class TableError(MailerdError):
    """The table cannot be used; the text says where and why."""


@dataclass(frozen=True)
class RecipientTable:
    """Recipients as a job's JSON has them."""

    recipients: list[dict[str, Any]] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    """The line on which each of them ends."""

    def named(self, file: Path) -> Callable[[int], str]:
        """What says where a recipient stands."""
        return lambda index: tr(f"{file} line {self.lines[index]}")


def read_table(opened_file: TextIO, name: str) -> RecipientTable:
    """The recipients of a table that is called `name`.

    Raises:
        TableError: it cannot be used.
    """
    try:
        return _read(opened_file, name)
    except csv.Error as error:
        raise TableError(f"{name} is no CSV: {error}") from error


def _read(opened_file: TextIO, name: str) -> RecipientTable:
    reader = csv.reader(opened_file, strict=True)
    header = _folded([cell.strip() for cell in next(reader, [])])
    if "email" not in header:
        seen = ", ".join(header) or "nothing"
        raise TableError(f"{name}: the first line must name the columns, one of them email; it has {seen}")
    if len(set(header)) < len(header) or "" in header:
        raise TableError(f"{name}: each column needs a name of its own: {', '.join(header)}")
    table = RecipientTable()
    for row in reader:
        if not any(cell.strip() for cell in row):
            continue
        if len(row) != len(header):
            raise TableError(f"{name} line {reader.line_num}: {len(row)} cells where the header has {len(header)}")
        table.recipients.append(_recipient(dict(zip(header, row, strict=True))))
        table.lines.append(reader.line_num)
    return table


def _folded(header: list[str]) -> list[str]:
    """The columns that are a recipient's fields, however they are capitalised; a variable's name is left as it is."""
    return [low if (low := cell.lower()) in _OWN and low not in header else cell for cell in header]


def _recipient(cells: dict[str, str]) -> dict[str, Any]:
    own = {name: cells[name].strip() for name in _OWN if cells.get(name, "").strip()}
    return {"email": "", **own, "variables": {name: value for name, value in cells.items() if name not in _OWN}}
