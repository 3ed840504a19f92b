"""The process that checks tables: `python -I -m mailerd.mail.table_checker_child CPU_SECONDS
MEMORY_BYTES PARENT`.

`table_checker` starts it and asks it by frames. It bounds itself before it reads anything, and each
answer has its CPU. It keeps the table that it was asked about last, what it came to, and the people
of a job of which a table is made.
"""

import csv
import io
import json
import sys
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import sha256
from itertools import chain
from typing import Any, BinaryIO, Final

from mailerd.core.i18n import Text, t, visible
from mailerd.core.reasons import from_json, to_json
from mailerd.core.suppression import canonical
from mailerd.locale import say
from mailerd.mail.cage import BLOB, bound, bound_cpu, end_with, give_way
from mailerd.mail.recipient_table import (
    EMAIL,
    FIELDS,
    MAX_HEADER,
    CheckedTable,
    Column,
    Decisions,
    ProblemKind,
    check,
    columns_of,
    corrected_rows,
    guessed_uses,
    mapping_errors,
    names_of,
    problem_rows,
    without_formulas,
)
from mailerd.mail.render_child import Child
from mailerd.mail.spreadsheet import MAX_CELLS, MAX_CHARACTERS, MAX_COLUMNS, Sheet, SpreadsheetError

MAX_SHOWN: Final = 100
"""Problems that a page shows; the CSV has all."""
_FIRST: Final = 10
"""Rows among which the header is chosen."""
_BEGINNING: Final = 4
"""Cells by which such a row is known."""
_MAX_VALUES: Final = 200_000
"""Characters of a recipient that is shown: more take long in each process that has to do with
it.
"""
_PIECE: Final = 256 * 1024
"""Characters of a piece of CSV."""
_ENCODE: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


class TableChild(Child):
    """The loop of the child process."""

    def __init__(self, source: BinaryIO, sink: BinaryIO, *, cpu: float) -> None:
        super().__init__(source, sink, cpu=cpu)
        self._number: int | None = None
        self._sheet = Sheet([], [])
        self._checked: tuple[str, Checked] | None = None
        """What was checked last, and of what."""
        self._csv: Iterator[bytes] | None = None
        self._people: SparseTable | None = None

    def answer(self, asked: dict[str, Any]) -> dict[str, Any]:
        """The answer to one question."""
        bound_cpu(self._cpu)
        if asked["do"] in {"people", "pack"}:
            return self._of_people(asked)
        if asked["number"] != self._number:
            # two tables at once would be too many
            self._number, self._checked, self._csv = (
                None,
                None,
                None,
            )
            self._sheet = Sheet.unpack(asked.pop(BLOB))
            self._number = asked["number"]
        match asked["do"]:
            case "names":
                header = asked["header"]
                return {
                    "names": names_of(self._sheet, header)
                    if header in self._sheet.numbers
                    else None
                }
            case "edit":
                edited = self._sheet.edited(
                    {(row, index): text for row, index, text in asked["cells"]}
                )
                return {} if edited is self._sheet else {BLOB: edited.pack()}
            case "job":
                return self._check(asked).job(most=asked["most"])
            case "csv":
                if self._csv is None:
                    self._csv = self._check(asked).csv(asked["which"], asked["language"])
                return {BLOB: next(self._csv, b"")}
            case _:
                return self._check(asked).draft()

    def _check(self, asked: Mapping[str, Any]) -> "Checked":
        about = _ENCODE([asked["question"], asked["found"]])
        if self._checked is None or self._checked[0] != about:
            self._checked = None
            self._checked = about, Checked(self._sheet, asked["question"], asked["found"])
        return self._checked[1]

    def _of_people(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """A piece of the people of a job; at the end their table."""
        if self._people is None:
            self._people = SparseTable(asked["most"])
        try:
            if asked["do"] == "people":
                self._people.add(asked["people"], asked.get(BLOB, b""))
                return {}
            people = self._people
            return {
                BLOB: people.pack() if people.rows else b"",
                "uses": people.uses(),
                "left_out": [each[:MAX_HEADER] for each in sorted(people.left_out)[:_FIRST]],
                "has_copies": people.has_copies,
            }
        except SpreadsheetError as error:
            return {"refused": to_json(str(error))}


class Checked:
    """A table with a mapping and decisions, and what it comes to."""

    def __init__(self, sheet: Sheet, question: Mapping[str, Any], found: Sequence[Any]) -> None:
        self._sheet, self._question = sheet, question
        self._header: int | None = question["header"]
        columns = columns_of(sheet, self._header, wanted=question["wanted"])
        chosen = {int(index): use for index, use in question["uses"].items()}
        self._columns = columns
        self._uses = guessed_uses(columns) | {
            it.index: chosen[it.index] for it in columns if it.index in chosen
        }
        needed = [each for each in question["wanted"] if each not in {*question["optional"]}]
        self._errors = mapping_errors(columns, self._uses, wanted=needed)
        self.table = CheckedTable([], [], [], [], 0)
        if not self._errors:
            decisions = Decisions(**question["decisions"])
            self.table = check(
                sheet, self._header, self._uses, used=question["used"], decisions=decisions
            )
        if found:
            self.table = self.table.without(
                {
                    email: (ProblemKind(kind), from_json(why))
                    for kind, why, emails in found
                    for email in emails.split("\n")
                }
            )

    def draft(self) -> dict[str, Any]:
        """What a page shows of it; the blob has the addresses."""
        table, sheet = self.table, self._sheet
        found = self._found()
        number = min(max(1, found or self._question["person"]), max(1, len(table.recipients)))
        first = zip(sheet.numbers[:_FIRST], sheet.rows, strict=False)
        shown = [
            [it.row, it.index, to_json(it.column), it.value, it.kind, to_json(it.reason), it.fix]
            for it in table.problems[:MAX_SHOWN]
        ]
        return {
            "first": [
                [row, ", ".join(each[:50] for each in cells[:_BEGINNING])] for row, cells in first
            ],
            "header": self._header,
            "columns": [_column(each) for each in self._columns],
            "uses": self._uses,
            "errors": [to_json(each) for each in self._errors],
            "recipients": len(table.recipients),
            "skipped": table.skipped,
            "problems": len(table.problems),
            "blocking": len(table.blocking),
            "shown": shown,
            "groups": [
                [it.kind, it.index, to_json(it.column), to_json(it.summary)]
                for it in table.groups()
            ],
            "some_empty": table.next_empty(after=0) is not None,
            "person": self._person(number),
            "found": found,
            "whom": self._whom(),
            BLOB: "\n".join(each[EMAIL] for each in table.recipients).encode(),
        }

    def _found(self) -> int | None:
        asked = self._question
        match asked["sought"]:
            case "find":
                return self.table.find(asked["text"], after=asked["person"])
            case "empty":
                return self.table.next_empty(after=asked["person"])
            case "longest":
                return self.table.longest(asked["used"])
            case _:
                return None

    def _person(self, number: int) -> list[Any] | None:
        if not self.table.recipients:
            return None
        one = self.table.recipients[number - 1]
        values = sum(len(it) for it in one["variables"].values())
        return [number, self.table.rows[number - 1], one if values <= _MAX_VALUES else None]

    def _whom(self) -> str:
        addresses = {canonical(each[EMAIL]) for each in self.table.recipients}
        return digest_of(addresses) if len(addresses) > 1 else ""

    def job(self, *, most: int) -> dict[str, Any]:
        """The recipients as a job has them, and their rows; nothing of them where they take more
        than `most` bytes.
        """
        content, size, digest = list[bytes](), 0, sha256()
        for each in self.table.recipients:
            content.append(_ENCODE(each).encode())
            digest.update(content[-1])
            size += len(content[-1]) + 1
            if size > most:
                return {"too_large": True}
        rows = array("I", self.table.rows)
        return {
            "too_large": False,
            "digest": digest.hexdigest(),
            "rows": len(rows),
            BLOB: b"".join([rows.tobytes(), b"[", b",".join(content), b"]"]),
        }

    def csv(self, which: str, language: Any) -> Iterator[bytes]:
        """It as CSV, in pieces."""

        def said(text: str) -> str:
            return say(text, language) if isinstance(text, Text) else visible(text)

        rows: Iterable[Sequence[object]]
        if which == "problems":
            rows = problem_rows(self.table, said)
        else:
            rows = corrected_rows(self._sheet, self._header, self.table)
        return _pieces(without_formulas(rows))


def digest_of(texts: Iterable[str]) -> str:
    """What stands for these texts, in whatever order they come."""
    return sha256(json.dumps(sorted({*texts})).encode()).hexdigest()[:32]


def _column(it: Column) -> list[Any]:
    return [it.index, it.letter, it.header, it.samples, it.filled, it.guess]


def _pieces(rows: Iterable[Sequence[str]]) -> Iterator[bytes]:
    text = io.StringIO()
    writer, mark = csv.writer(text), "\ufeff"
    for row in chain(rows, [None]):
        if row is not None:
            writer.writerow(row)
        if row is None or text.tell() >= _PIECE:
            yield (mark + text.getvalue()).encode("utf-8", "replace")
            mark = ""
            text.seek(0)
            text.truncate()


# A table that is made of the people of an earlier job.


class SparseTable:
    """It, as they are read: sparse, since each may have variables of their own."""

    def __init__(self, most: int) -> None:
        self.most, self.size, self.cells, self.has_copies = most, 0, 0, False
        self.columns = {EMAIL: 0, "name": 1}
        self.rows = list[dict[int, str]]()
        """Of each person the cells that are not empty, by column."""
        self.left_out = set[str]()
        """Variables that no cell can hold."""

    def add(self, people: Sequence[Sequence[Any]], variables: bytes) -> None:
        """Add a row for each: address, name, whether there are copies, and the bytes that the
        variables take.

        Raises:
            SpreadsheetError: they are too many: found before their rows take more than a table may.
        """
        at = 0
        for email, name, has_copies, size in people:
            self.has_copies |= has_copies
            given, at = json.loads(variables[at : at + size] or "{}"), at + size
            row = {0: email, 1: name or ""}
            for variable, value in given.items():
                known = variable == "language" or (
                    variable not in FIELDS and variable.isidentifier()
                )
                if (
                    known
                    and len(variable) <= MAX_HEADER
                    and (value is None or type(value) in {str, int, float})
                ):
                    row[self.columns.setdefault(variable, len(self.columns))] = (
                        "" if value is None else str(value)
                    )
                else:
                    self.left_out.add(variable)
            self.rows.append(row)
            self.cells += 1 + max(row)
            self.size += sum(map(len, row.values()))
            is_wide = self.cells > MAX_CELLS or len(self.columns) > MAX_COLUMNS
            if is_wide or len(self.rows) > self.most or self.size > MAX_CHARACTERS:
                raise SpreadsheetError(
                    t(
                        "The people of this job do not fit into one table of {most:,} rows. Nothing was changed.",
                        most=self.most,
                    )
                )

    def uses(self) -> dict[str, str]:
        """What each column is used as: what it is called."""
        return {str(at): "" if name in self.left_out else name for name, at in self.columns.items()}

    def pack(self) -> bytes:
        """The table, as a draft keeps it."""
        rows = [
            [*self.columns],
            *([row.get(index, "") for index in range(1 + max(row))] for row in self.rows),
        ]
        return Sheet(rows, [*range(1, 1 + len(rows))]).pack()


def main() -> None:
    """Bound this process, then serve."""
    cpu, memory, parent = float(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    end_with(parent)
    say(t("is empty"), "zh")  # while files can be opened
    "".encode("idna")
    give_way()
    bound(memory=memory)
    TableChild(sys.stdin.buffer, sys.stdout.buffer, cpu=cpu).serve()


if __name__ == "__main__":
    main()
