"""Reads the table of `mailerd send`: a file or standard input, through the functions that the
console uses.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from mailerd.cli.common import no_log, run_async
from mailerd.cli.output import echo
from mailerd.core.i18n import t
from mailerd.errors import MailerdError
from mailerd.events.worker import RendererEvents
from mailerd.locale import say
from mailerd.mail.recipient_table import RecipientTable, read_recipients
from mailerd.mail.spreadsheet import ENCODINGS, MAX_FILE, SpreadsheetReader

_ORIGIN: Final = t("the command")


def read_table(
    file: Path,
    *,
    sheet: str | None,
    encoding: str | None,
    header_row: int | None,
    columns: Sequence[str],
) -> RecipientTable:
    """The recipients of a file; "-" is standard input. Its warnings are printed.

    `columns`: as HEADER=USE.

    Raises:
        MailerdError: it cannot be used; the text says why.
    """
    piped = str(file) == "-"
    name = say(t("standard input")) if piped else str(file)
    if encoding not in {None, *ENCODINGS}:
        raise MailerdError(t("--encoding must be one of {names}", names=", ".join(ENCODINGS)))
    chosen = dict[str, str]()
    for each in columns:
        header, equals, use = each.rpartition("=")
        if not equals:
            raise MailerdError(t("--column must be HEADER=USE, as in --column 'Work mail=email'"))
        chosen[header.strip()] = use.strip()
    try:
        with open(sys.stdin.fileno(), "rb", closefd=False) if piped else file.open("rb") as opened:
            content = opened.read(MAX_FILE + 1)
    except OSError as error:
        cause = error.strerror or str(error)
        raise MailerdError(t("could not read {file}: {cause}", file=name, cause=cause)) from error
    reader = SpreadsheetReader(RendererEvents(no_log))
    read = run_async(
        reader.read(content, filename=name, origin=_ORIGIN, sheet=sheet, encoding=encoding)
    )
    table = read_recipients(read, name, header=header_row, chosen=chosen)
    for warning in table.warnings:
        echo(t("warning: {warning}", warning=warning))
    return table
