"""Reads a table of recipients: a CSV whose first line names the columns, separated by commas, semicolons or tabs."""

import csv
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, Final, TextIO

from mailerd.errors import MailerdError
from mailerd.texts import tr

_OWN: Final = ("email", "name", "language")
"""Columns that are a recipient's fields; every other one is a variable."""


_SEPARATORS: Final = (",", ";", "\t")
MAX_SHOWN: Final = 20
"""Bad lines that are named."""


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
    first = opened_file.readline()
    reader = csv.reader(chain([first], opened_file), strict=True, delimiter=_delimiter(first))
    header = _folded([cell.strip() for cell in next(reader, [])])
    if "email" not in header:
        seen = ", ".join(header) or "nothing"
        raise TableError(f"{name}: the first line must name the columns, one of them email; it has {seen}")
    if len(set(header)) < len(header) or "" in header:
        raise TableError(f"{name}: each column needs a name of its own: {', '.join(header)}")
    table, bad = RecipientTable(), list[str]()
    for row in reader:
        if not any(cell.strip() for cell in row):
            continue
        if len(row) != len(header):
            bad.append(
                tr(f"{name} line {reader.line_num}: its cells are {len(row)}, those of the header {len(header)}")
            )
            continue
        table.recipients.append(_recipient(dict(zip(header, row, strict=True))))
        table.lines.append(reader.line_num)
    if bad:
        more = [tr(f"  and {len(bad) - MAX_SHOWN:,} more")] if len(bad) > MAX_SHOWN else []
        raise TableError("\n".join([*bad[:MAX_SHOWN], *more]))
    return table


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
