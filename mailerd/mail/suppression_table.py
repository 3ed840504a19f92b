"""Reads a table of addresses that are to be suppressed: one written by an export, or a list of
addresses.
"""

import csv
from collections.abc import Iterable, Iterator
from io import BytesIO, TextIOWrapper
from typing import Final, TextIO

from mailerd.core.i18n import Text, t
from mailerd.core.suppression import Reason, as_it_was
from mailerd.errors import MailerdError
from mailerd.mail.mime import Addresses

MAX_LINE: Final = 10_000
"""Characters of a line of a file."""
EXPORTED: Final = ("email", "list", "reason", "source")
"""The first columns of what `mailerd suppress export`, the console and the API write."""


class SuppressionTableError(MailerdError):
    """A file cannot be read, or has too many rows."""


def read_suppressions(text: Iterable[str]) -> Iterator[tuple[int, tuple[str, str, str]]]:
    """Address, list and reason, with their lines: of any column `email`, or of the first one where
    none is named so.
    """
    column, exported = 0, False
    for number, row in enumerate(csv.reader(text), 1):
        if number == 1 and "email" in (names := [name.strip().lower() for name in row]):
            column, exported = names.index("email"), tuple(names[: len(EXPORTED)]) == EXPORTED
        elif row and any(cell.strip() for cell in row):
            address = row[column] if column < len(row) else ""
            its_list, why = [*row, "", ""][1:3] if exported else ("", "")
            yield number, (address, its_list, why or Reason.IMPORTED.value)


def read_addresses(text: Iterable[str], bad: list[Text]) -> Iterator[tuple[str, str, Reason]]:
    """The good addresses, each with its list and reason; rows without one are noted in `bad`."""
    addresses = Addresses()
    for number, (given, its_list, why) in read_suppressions(text):
        try:  # what an export has written has apostrophes
            yield addresses.check(as_it_was(given)), its_list, Reason(why)
        except ValueError as error:
            bad.append(
                t("row {n}: {given}: {why}", n=number, given=repr(given[:100]), why=str(error))
            )


def _short_lines(text: TextIO) -> Iterator[str]:
    """The lines of a file; one that is longer than any address needs would be cells by the
    million.
    """
    while line := text.readline(MAX_LINE + 1):
        if len(line) > MAX_LINE:
            raise SuppressionTableError(
                t(
                    "Could not read the file: a line has more than {most:,} characters. Nothing was changed.",
                    most=MAX_LINE,
                )
            )
        yield line


def read_file(raw: bytes, bad: list[Text], *, most: int) -> list[tuple[str, str, Reason]]:
    """The same of a whole file, of at most so many rows.

    Raises:
        SuppressionTableError: it has more, or cannot be read.
    """
    rows = list[tuple[str, str, Reason]]()
    try:
        lines = _short_lines(TextIOWrapper(BytesIO(raw), encoding="utf-8-sig", newline=""))
        for row in read_addresses(lines, bad):
            rows.append(row)
            if len(rows) + len(bad) > most:
                raise SuppressionTableError(
                    t(
                        "The file has more than {most:,} rows. To import it: `mailerd suppress import FILE`",
                        most=most,
                    )
                )
    except (UnicodeDecodeError, csv.Error):
        text = t("Could not read the file: it is not CSV in UTF-8. Nothing was changed.")
        raise SuppressionTableError(text) from None
    return rows
