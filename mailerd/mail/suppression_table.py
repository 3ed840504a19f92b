"""Reads a table of addresses that are to be suppressed: one written by an export, or a list of addresses."""

import csv
from collections.abc import Iterator
from typing import Final, TextIO

from mailerd.core.i18n import Text, t
from mailerd.core.suppression import Reason, as_it_was
from mailerd.mail.mime import Addresses

EXPORTED: Final = ("email", "list", "reason", "source")
"""The first columns of what `mailerd suppress export`, the console and the API write."""


def read_suppressions(text: TextIO) -> Iterator[tuple[int, tuple[str, str, str]]]:
    """Address, list and reason, with their lines: of any column `email`, or of the first one where none is named so."""
    column, exported = 0, False
    for number, row in enumerate(csv.reader(text), 1):
        if number == 1 and "email" in (names := [name.strip().lower() for name in row]):
            column, exported = names.index("email"), tuple(names[: len(EXPORTED)]) == EXPORTED
        elif row and any(cell.strip() for cell in row):
            address = row[column] if column < len(row) else ""
            its_list, why = [*row, "", ""][1:3] if exported else ("", "")
            yield number, (address, its_list, why or Reason.IMPORTED.value)


def read_addresses(text: TextIO, bad: list[Text]) -> Iterator[tuple[str, str, Reason]]:
    """The good addresses, each with its list and reason; rows without one are noted in `bad`."""
    addresses = Addresses()
    for number, (given, its_list, why) in read_suppressions(text):
        try:  # what an export has written has apostrophes
            yield addresses.check(as_it_was(given)), its_list, Reason(why)
        except ValueError as error:
            bad.append(t("row {n}: {given}: {why}", n=number, given=repr(given[:100]), why=str(error)))
