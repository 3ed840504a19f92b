"""Reads a table of recipients: a CSV whose first row names the columns, separated by commas, semicolons or tabs."""

import csv
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TextIO

from mailerd.core.i18n import Text, joined, t, tn
from mailerd.errors import MailerdError

MAX_SEEN: Final = 300
"""Characters of a header that cannot be used, as they are shown."""
_OWN: Final = ("email", "name", "language")
_COPIES: Final = ("cc", "bcc")
"""Columns of addresses, with a semicolon between two of them."""
_RESERVED: Final = (*_OWN, *_COPIES)
"""Columns that are a recipient's fields; every other one is a variable."""
_SEPARATORS: Final = (",", ";", "\t")
MAX_SHOWN: Final = 20
"""How many rows that are not valid are named."""
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
    rows: list[int] = field(default_factory=list)
    """For each recipient its row, as a spreadsheet numbers them: the first one names the columns."""

    def named(self, file: Path) -> Callable[[int], str]:
        """What says where a recipient is."""
        return lambda index: t("{file} row {n}", file=file, n=self.rows[index])


def read_table(opened_file: TextIO, name: str) -> RecipientTable:
    """The recipients of a table that is called `name`.

    Raises:
        TableError: it cannot be used.
    """
    table = RecipientTable()
    for row, recipient in read_rows(opened_file, name):
        table.recipients.append(recipient)
        table.rows.append(row)
    return table


def read_rows(opened_file: TextIO, name: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """The recipients of a table that is called `name`, one by one, each with the number of its row.

    Raises:
        TableError: it cannot be used; rows that are not valid are known at the end.
    """
    lines, bad, more, useless = _Lines(opened_file, name), list[Text](), 0, 0
    try:
        reader = csv.reader(lines, strict=True, delimiter=_delimiter(lines.first))
        header = _header(next(reader, []), name)
        for number, row in enumerate(reader, 2):
            lines.row = 0
            empty = not any(cell.strip() for cell in row)
            useless += empty or len(row) != len(header)
            if useless > MAX_USELESS:
                raise TableError(
                    t(
                        "could not read {file}: more than {n:,} rows are empty or not valid. Delete them",
                        file=name,
                        n=MAX_USELESS,
                    )
                )
            if empty:
                continue
            if len(row) == len(header):
                yield number, _recipient(dict(zip(header, row, strict=True)))
            elif len(bad) == MAX_SHOWN:
                more += 1
            else:
                bad.append(
                    t(
                        "{file} row {n}: {cells}, but {columns}",
                        file=name,
                        n=number,
                        cells=tn("{n} cell", "{n} cells", len(row)),
                        columns=tn("{n} column", "{n} columns", len(header)),
                    )
                )
    except csv.Error as error:
        raise TableError(t("could not read {file}: not a valid CSV ({cause})", file=name, cause=str(error))) from error
    if bad:
        raise TableError(joined([*bad, t("  and {n:,} more", n=more)] if more else bad, "\n"))


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
            raise TableError(
                t("could not read {file}: a row has more than {n:,} characters", file=self._name, n=MAX_ROW)
            )
        return line


def _header(cells: list[str], name: str) -> list[str]:
    header = _folded([cell.strip() for cell in cells])
    if "email" not in header:
        seen = ", ".join(header)[:MAX_SEEN] or t("nothing")
        raise TableError(
            t(
                'could not read {file}: the first row must name the columns, one of them "email". Found: {names}',
                file=name,
                names=seen,
            )
        )
    if len(set(header)) < len(header) or "" in header:
        seen = ", ".join(header)[:MAX_SEEN]
        raise TableError(
            t("could not read {file}: each column needs its own name. Found: {names}", file=name, names=seen)
        )
    return header


def _delimiter(first: str) -> str:
    """What separates the columns, by the line that names them: a spreadsheet of another country writes ";" or tabs."""
    names = min((at for at in (first.find(each) for each in _SEPARATORS) if at >= 0), default=-1)
    return first[names] if names >= 0 else ","


def _folded(header: list[str]) -> list[str]:
    """The columns that are a recipient's fields, however they are capitalised; a variable's name is left as it is."""
    return [low if (low := cell.lower()) in _RESERVED and low not in header else cell for cell in header]


def _recipient(cells: dict[str, str]) -> dict[str, Any]:
    own: dict[str, Any] = {name: cells[name].strip() for name in _OWN if cells.get(name, "").strip()}
    for name in _COPIES:
        if given := [address.strip() for address in cells.get(name, "").split(";") if address.strip()]:
            own[name] = [{"email": address} for address in given]
    return {"email": "", **own, "variables": {name: value for name, value in cells.items() if name not in _RESERVED}}
