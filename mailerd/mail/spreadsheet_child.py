"""The process that reads one file: `python -I -m mailerd.mail.spreadsheet_child CPU_SECONDS
MEMORY_BYTES PARENT`.

`spreadsheet` starts it, sends the file with its first frame, and asks for the rows, some at a time.
It bounds itself before it reads anything: calamine loads a sheet whole, and a sheet of 10 KB can
claim 17 billion cells.
"""

import csv
import datetime as dt
import io
import re
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from typing import Any, BinaryIO, Final

from python_calamine import (
    CalamineError,
    CalamineSheet,
    CalamineWorkbook,
    PasswordError,
    SheetTypeEnum,
    SheetVisibleEnum,
)

from mailerd.core.i18n import Text, t, tn
from mailerd.core.reasons import to_json
from mailerd.core.suppression import as_it_was
from mailerd.mail.cage import BLOB, bound, bound_cpu, end_with, give_way
from mailerd.mail.recipient_table import guess_header, names_of
from mailerd.mail.render_child import Child
from mailerd.mail.spreadsheet import (
    ENCODINGS,
    MAX_CELLS,
    MAX_CHARACTERS,
    MAX_COLUMNS,
    Sheet,
    SpreadsheetError,
)

MAX_ROW: Final = 1_000_000
"""Characters of one row of a text, over all its lines: a row is in memory at once."""
MAX_EMPTY: Final = 1_048_576
"""Rows, each of which takes time: those of a whole sheet of Excel.

https://support.microsoft.com/office/excel-specifications-and-limits-1672b34d-7043-467e-8e27-269d656771c3
"""
MAX_LOOKED_AT: Final = 10
"""Sheets that are looked at for people, where none is named."""
MAX_SHEETS: Final = 200
"""Sheets that a person can choose among, …"""
MAX_NAME: Final = 255
"""… and the characters of their names, of which Excel allows 31."""
_ROWS, _TEXT = 2_000, 500_000
"""The most rows and characters of one answer: the parent decodes each in one piece."""
_SAMPLE: Final = 50
"""Rows by which separator and sheet are guessed."""
_WORKBOOKS: Final = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1")
"""How a zip and a file of OLE begin, which XLSX, XLSB, ODS and XLS are."""
_LEAST_CPU: Final = 0.01
"""Seconds that remain where all are used up: zero would mean that there is no bound."""
_LONGEST: Final = 1e18
"""Above it a whole number is written with an exponent."""
_UNSEEN: Final = "\u200b\u2060\ufeff"


def shown(value: object) -> str:
    """A cell as text: dates as ISO 8601 has them, and whole numbers without a decimal point."""
    match value:
        case str():
            return value.strip().strip(_UNSEEN).strip()
        case bool():
            return str(value).upper()
        case float():
            whole = value.is_integer() and abs(value) < _LONGEST
            return str(int(value)) if whole else f"{value:.15g}"  # the digits that Excel keeps
        case dt.datetime() | dt.time():
            spec = "seconds" if value.second else "minutes"
            return value.isoformat(timespec=spec).replace("T", " ")
        case dt.timedelta():
            minutes, seconds = divmod(round(value.total_seconds()), 60)
            return f"{minutes // 60}:{minutes % 60:02}:{seconds:02}"
        case _:
            return str(value)


_EVERYDAY: Final = (0xB0, 0xD7)
"""The first bytes of the characters of everyday Chinese (GB 2312, level 1).

Latin and Cyrillic letters, and the second bytes of Big5 and Shift JIS, are elsewhere.
"""
_LAST_KOREAN: Final = 0xC8
"""The last of the first bytes of Korean (EUC-KR), which begin where those of Chinese do."""
_MOST: Final = 0.6
"""Most names have rare characters as well."""
_FEW: Final = 8
"""Characters by which Korean differs from Chinese."""


def guess_encoding(content: bytes) -> tuple[str, bool]:
    """What a text is encoded in, and whether that is a mere guess."""
    head = content[:4_000]
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16", False
    for name, at in (("utf-16-le", 1), ("utf-16-be", 0)):
        if (zeros := head[at::2].count(0)) > len(head) // 8 and zeros > 10 * head[
            1 - at :: 2
        ].count(0):
            return name, False
    with suppress(UnicodeDecodeError):
        content.decode("utf-8-sig")
        return "utf-8", False
    pairs = re.findall(
        rb"[\x81-\xfe][\x30-\xfe]",
        b"".join(islice(re.findall(rb"[^\x00-\x7f]+.?", content), 10_000)),
    )
    everyday = [
        pair[0]
        for pair in pairs
        if _EVERYDAY[0] <= pair[0] <= _EVERYDAY[1] and pair[1] > 0xA0  # noqa: PLR2004
    ]
    with suppress(UnicodeDecodeError):
        if len(everyday) > _MOST * len(pairs) and content.decode("gb18030"):
            is_korean = len(everyday) > _FEW and max(everyday) <= _LAST_KOREAN
            return ("euc_kr", True) if is_korean else ("gb18030", len(pairs) < _FEW // 2)
    alone, within_words = (
        len(re.findall(each, content)) for each in (rb"\b[\xc0-\xff]{1,2}", rb"[\xc0-\xff]{3}")
    )
    return ("cp1251" if within_words > alone else "cp1252"), True


class Lines:
    """The lines of a text, none of which makes its row too large."""

    def __init__(self, text: str) -> None:
        self._lines = io.StringIO(text, newline="")
        self.row = 0
        """The characters since the last row ended."""

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._lines.readline(MAX_ROW + 1)
        if not line:
            raise StopIteration
        self.row += len(line)
        if self.row > MAX_ROW:
            raise SpreadsheetError(t("a row has more than {n:,} characters", n=MAX_ROW))
        return line


def _separator(text: str) -> str:
    """What separates the columns: that by which most rows have as many cells, and the earlier one
    of two.
    """
    first, sample = (
        text[:MAX_ROW].partition("\n")[0],
        "".join(islice(Lines(text[:MAX_ROW]), _SAMPLE)),
    )

    def alike(separator: str) -> tuple[int, int]:
        widths = Counter[int]()
        with suppress(csv.Error):
            widths.update(len(row) for row in csv.reader(Lines(sample), delimiter=separator) if row)
        widths.pop(1, 0)
        at = first.find(separator)
        return max(widths.values(), default=0), -at if at >= 0 else -MAX_ROW

    return max(",;\t", key=alike)


def _text_rows(content: bytes, encoding: str) -> Iterator[list[str]]:
    try:
        text = content.decode({"utf-8": "utf-8-sig"}.get(encoding, encoding), "strict")
    except UnicodeDecodeError as error:
        if encoding not in {"cp1252", "cp1251"}:
            raise SpreadsheetError(
                t(
                    "the file is not {encoding} (byte {n:,}). Choose another encoding, or save it as CSV UTF-8",
                    encoding=encoding,
                    n=error.start,
                )
            ) from None
        text = content.decode(encoding, "replace")
    if "\0" in text:
        raise SpreadsheetError(_UNKNOWN)
    if re.match(r"\s*<[!?a-zA-Z]", text):
        raise SpreadsheetError(
            t(
                "the file is a web page or XML. Open it in a spreadsheet, and save it as XLSX or CSV UTF-8"
            )
        )
    # Excel takes this line, and does not count it
    if found := re.match(r"\ufeff?sep=([,;\t])\r?\n", text):
        text = text[found.end() :]
    text = text.removeprefix("\ufeff")
    lines = Lines(text)
    try:
        for row in csv.reader(
            lines, strict=True, delimiter=found[1] if found else _separator(text)
        ):
            lines.row = 0
            yield [as_it_was(cell) for cell in row]
    except csv.Error as error:
        raise SpreadsheetError(t("not a valid CSV ({cause})", cause=str(error))) from error


_UNKNOWN: Final = t("the file is not a table. Save the table as XLSX or CSV UTF-8")


class FileReading:
    """One file that is being read."""

    def __init__(self, content: bytes, *, sheet: str | None, encoding: str | None) -> None:
        self.head: dict[str, Any] = {}
        """What the sheet says beside its rows."""
        self._cells = self._characters = 0
        rows: Iterable[Sequence[object]]
        if content.startswith(_WORKBOOKS):
            rows = self._workbook(content, sheet)
        else:
            guess = (encoding, False) if encoding in ENCODINGS else guess_encoding(content)
            self.head = {"encoding": guess[0], "is_guess": guess[1]}
            rows = _text_rows(content, guess[0])
        self._rows = self._bounded(rows)

    def _workbook(self, content: bytes, sheet: str | None) -> Iterable[Sequence[object]]:
        try:
            book = CalamineWorkbook.from_filelike(io.BytesIO(content))
            names = [
                each.name
                for each in book.sheets_metadata
                if each.typ == SheetTypeEnum.WorkSheet
                and each.visible == SheetVisibleEnum.Visible
                and len(each.name) <= MAX_NAME
            ][:MAX_SHEETS]
            if sheet is not None and sheet not in names:
                raise SpreadsheetError(t("the file has no visible sheet {sheet}", sheet=sheet))
            found = _with_people(
                map(book.get_sheet_by_name, names[:MAX_LOOKED_AT] if sheet is None else [sheet])
            )
        except PasswordError:
            raise SpreadsheetError(
                t("the file is protected by a password. Save a copy without one")
            ) from None
        except CalamineError:
            raise SpreadsheetError(_UNKNOWN) from None
        if found is None:
            raise SpreadsheetError(t("the file has no sheet with cells"))
        self.head = {
            "name": found.name,
            "sheets": names,
            "first_column": (found.start or (0, 0))[1],
        }
        if found.width > MAX_COLUMNS:
            raise SpreadsheetError(_too_wide(found.width))
        return found.iter_rows()

    def _bounded(self, rows: Iterable[Sequence[object]]) -> Iterator[tuple[int, list[str], int]]:
        """The rows that are not empty with their numbers, and their characters."""
        for number, given in enumerate(rows, 1):
            if number > MAX_EMPTY:
                raise SpreadsheetError(
                    t("the file has more than {n:,} rows. Delete empty rows", n=MAX_EMPTY)
                )
            if len(given) > MAX_COLUMNS:
                raise SpreadsheetError(_too_wide(len(given)))
            row = [shown(each) for each in given]
            if size := sum(map(len, row)):
                self._cells += len(row)
                self._characters += size
                if self._cells > MAX_CELLS or self._characters > MAX_CHARACTERS:
                    raise SpreadsheetError(
                        t(
                            "the file has more than {cells:,} cells or {n:,} characters. Split it, or delete columns",
                            cells=MAX_CELLS,
                            n=MAX_CHARACTERS,
                        )
                    )
                yield number, row, size

    def next(self) -> dict[str, Any]:
        """The next rows, and whether there may be more."""
        numbers, found, size = list[int](), list[list[str]](), 0
        for number, row, characters in self._rows:
            numbers.append(number)
            found.append(row)
            size += characters
            if len(found) == _ROWS or size > _TEXT:
                return {"numbers": numbers, "rows": found, "more": True}
        return {"numbers": numbers, "rows": found, "more": False}

    def packed(self, *, most: int) -> dict[str, Any]:
        """The whole sheet, packed, and what its header seems to be.

        Raises:
            SpreadsheetError: it has no rows, or more than `most`.
        """
        numbers, rows = list[int](), list[list[str]]()
        for number, row, _ in self._rows:
            numbers.append(number)
            rows.append(row)
            if len(rows) > most:
                raise SpreadsheetError(t("the file has more than {n:,} rows. Split it", n=most))
        if not rows:
            raise SpreadsheetError(t("the file is empty"))
        sheet = Sheet(rows, numbers, **self.head | {"sheets": tuple(self.head.get("sheets", ()))})
        header = guess_header(sheet)
        return {
            BLOB: sheet.pack(),
            "header": header,
            "names": names_of(sheet, header),
            "head": self.head,
        }


def _with_people(sheets: Iterator[CalamineSheet]) -> CalamineSheet | None:
    """The first sheet that has an address in its first rows, else the first that has cells."""
    first = None
    for sheet in sheets:
        if sheet.start is not None:
            first = first or sheet
            if any("@" in str(cell) for row in sheet.to_python(nrows=_SAMPLE) for cell in row):
                return sheet
    return first


def _too_wide(width: int) -> Text:
    return tn(
        "the file has {n:,} column, more than {most:,}. Delete empty columns",
        "the file has {n:,} columns, more than {most:,}. Delete empty columns",
        width,
        most=MAX_COLUMNS,
    )


class SpreadsheetChild(Child):
    """The loop of the child process: the first frame has the file, and each answer its next
    rows.
    """

    def __init__(self, source: BinaryIO, sink: BinaryIO, *, cpu: float) -> None:
        super().__init__(source, sink, cpu=cpu)
        self._reading: FileReading | None = None

    def answer(self, asked: dict[str, Any]) -> dict[str, Any]:
        """The next rows; what is wrong with the file, if something is."""
        bound_cpu(max(_LEAST_CPU, self._cpu - time.process_time()))
        try:
            if self._reading is None:
                self._reading = FileReading(
                    asked.pop(BLOB), sheet=asked["sheet"], encoding=asked["encoding"]
                )
                if (most := asked.get("most")) is not None:
                    return self._reading.packed(most=most)
            return self._reading.next() | {"head": self._reading.head}
        except SpreadsheetError as error:
            return {"refused": to_json(str(error))}
        except BaseException as error:
            if type(error).__name__ == "PanicException":  # PyO3 gives it no place to import it from
                return {"refused": to_json(_UNKNOWN)}
            raise


def main() -> None:
    """Bound this process, then serve."""
    cpu, memory, parent = float(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    end_with(parent)
    # Python loads codecs late, and no file can be opened then
    for encoding in (
        *ENCODINGS,
        "utf-8-sig",
        "utf-16-le",
        "utf-16-be",
    ):
        "".encode(encoding)
    give_way()
    bound(memory=memory)
    SpreadsheetChild(sys.stdin.buffer, sys.stdout.buffer, cpu=cpu).serve()


if __name__ == "__main__":
    main()
