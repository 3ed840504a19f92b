"""Reads a table of people, CSV or a workbook (XLSX, XLS, ODS), in a child process that the system
bounds.

The file is a stranger's: it may be a zip bomb, or a sheet that claims a million columns. So each
file has a process of its own, started for it and ended with it, and no byte of the file is parsed
elsewhere. What comes out is text, bounded.
"""

import asyncio
import io
import json
import zlib
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, fields, replace
from itertools import chain
from typing import Any, Final, Self

from mailerd.core.i18n import joined, t
from mailerd.core.reasons import from_json
from mailerd.errors import MailerdError
from mailerd.events.worker import RendererEvents
from mailerd.mail.cage import BLOB, ChildEndedError, ChildExits, ChildProcess, Limits
from mailerd.mail.templates import RendererError

LIMITS: Final = Limits(cpu=10.0, memory=640 * 1024 * 1024)
"""For one file, whatever is in it."""
READ_TIMEOUT: Final = 60.0
"""Seconds for the whole of a file, waiting for the CPU included."""
_AT_ONCE: Final = 4
_CHILD: Final = "mailerd.mail.spreadsheet_child"
MAX_FILE: Final = 32 * 1024 * 1024
"""Bytes of a file; a form of the console takes half of it."""
MAX_CELLS: Final = 1_000_000
"""Cells of the rows of a sheet that are not empty."""
MAX_COLUMNS: Final = 500
"""Columns of a sheet."""
MAX_CHARACTERS: Final = 32 * 1024 * 1024
"""Characters of all cells of a sheet."""
ENCODINGS: Final = ("utf-8", "utf-16", "gb18030", "cp1252", "cp1251", "shift_jis", "big5", "euc_kr")
"""Encodings that a person can choose for a text; UTF-8 and UTF-16 are recognised, and the others
guessed.
"""

_ENCODE: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


class SpreadsheetError(MailerdError):
    """The file cannot be used; the text says why and what to do, and begins with the file's
    name.
    """


@dataclass(frozen=True)
class Sheet:
    """One sheet of a file as text: what each cell shows, without blanks around it.

    Empty rows are left out.
    """

    rows: list[list[str]]
    """Of a workbook all rows are of one length.

    Of a text a row has as many cells as it has there.
    """
    numbers: list[int]
    """The number of each row as the sheet has it, from 1; of a text it counts records, as a
    spreadsheet does.
    """
    first_column: int = 0
    """How many empty columns were left out before the first one: with 1, the first cell of a row
    stands in column B.
    """
    name: str = ""
    """The name of the sheet; "" of a text."""
    sheets: tuple[str, ...] = ()
    """The names of all visible sheets of the file; () of a text."""
    encoding: str = ""
    """What a text was read as; "" of a workbook."""
    is_guess: bool = False
    """Whether the encoding was guessed: the person has to look at a sample, and may choose another
    of ENCODINGS.
    """

    def pack(self) -> bytes:
        """The sheet as compressed lines of JSON, its head and each row, for a row of the
        database.
        """
        packer = zlib.compressobj(6)
        head = {each.name: getattr(self, each.name) for each in fields(self) if each.name != "rows"}
        pieces = [
            packer.compress(_ENCODE(line).encode() + b"\n") for line in chain([head], self.rows)
        ]
        return b"".join([*pieces, packer.flush()])

    @classmethod
    def unpack(cls, packed: bytes) -> Self:
        """The sheet that `pack` made this of."""
        lines = io.BytesIO(zlib.decompress(packed))
        head = json.loads(lines.readline())
        return cls([*map(json.loads, lines)], **(head | {"sheets": tuple(head["sheets"])}))

    def edited(self, cells: Mapping[tuple[int, int], str]) -> Self:
        """The sheet with other texts in some cells, by the row's number and the cell's place;
        others are left.
        """
        width, rows = max(map(len, self.rows), default=0), dict[int, list[str]]()
        places = {number: at for at, number in enumerate(self.numbers)}
        for (number, index), value in cells.items():
            if (at := places.get(number)) is not None and 0 <= index < width:
                row = rows.setdefault(at, [*self.rows[at]])
                row += [""] * (index + 1 - len(row))
                row[index] = value.strip()
        return (
            replace(self, rows=[rows.get(at, row) for at, row in enumerate(self.rows)])
            if rows
            else self
        )


@dataclass(frozen=True)
class PackedSheet:
    """A sheet that is kept and not looked at: its cells are a stranger's, and many."""

    packed: bytes
    """What `Sheet.unpack` takes."""
    header: int | None
    """The number of the row that seems to name the columns."""
    names: list[str]
    """What that row says."""
    name: str = ""
    sheets: tuple[str, ...] = ()
    encoding: str = ""
    is_guess: bool = False
    """As in `Sheet`."""


class SpreadsheetReader:
    """Reads files, a few at a time, never two of one origin at once: a hostile file holds up its
    sender alone.
    """

    def __init__(self, events: RendererEvents) -> None:
        self._exits = ChildExits("tables", events)
        self._turns = defaultdict[str, asyncio.Lock](asyncio.Lock)
        self._places = asyncio.Semaphore(_AT_ONCE)

    async def read(
        self,
        content: bytes,
        *,
        filename: str,
        origin: str,
        sheet: str | None = None,
        encoding: str | None = None,
    ) -> Sheet:
        """The text of a file, for who has this process for himself.

        `filename`: as errors call it; what kind of file it is, is seen by its content. `origin`:
        whose it is, as the log calls them. `sheet`: the name of one; None is the first with people.
        `encoding`: one of ENCODINGS, if the person has chosen one.

        Raises:
            SpreadsheetError: the file cannot be read, or is too large.
            RendererError: no process can be started now; nothing is known about the file.
        """
        async with self._reading(content, filename=filename, origin=origin) as child:
            found = await _read(child, content, {"sheet": sheet, "encoding": encoding})
        if isinstance(found, Sheet):
            return found
        raise _refused(filename, found)

    async def read_packed(
        self,
        content: bytes,
        *,
        filename: str,
        origin: str,
        most: int,
        sheet: str | None = None,
        encoding: str | None = None,
    ) -> PackedSheet:
        """The text of a file, packed where it was read. `most`: rows; a sheet with more is refused.

        Raises:
            SpreadsheetError, RendererError: as `read`.
        """
        asked = {"sheet": sheet, "encoding": encoding, "most": most}
        async with self._reading(content, filename=filename, origin=origin) as child:
            answer = await child.ask(asked, blob=content, timeout=READ_TIMEOUT)
        if refused := answer.get("refused"):
            raise _refused(filename, from_json(refused))
        head = {name: it for name, it in answer["head"].items() if name != "first_column"}
        head["sheets"] = tuple(head.get("sheets", ()))
        return PackedSheet(answer[BLOB], answer["header"], answer["names"], **head)

    @asynccontextmanager
    async def _reading(
        self, content: bytes, *, filename: str, origin: str
    ) -> AsyncIterator[ChildProcess]:
        """A process that reads this file; what ends it is an error of the file."""
        if len(content) > MAX_FILE:
            raise _refused(filename, t("the file is larger than {n:,} bytes. Split it", n=MAX_FILE))
        if not content.strip():
            raise _refused(filename, t("the file is empty"))
        async with self._turns[origin], self._places:
            child = await ChildProcess.start(LIMITS, module=_CHILD)
            try:
                async with asyncio.timeout(READ_TIMEOUT):
                    yield child
            except ChildEndedError as ended:
                self._exits.record(origin, ended.cause)
                if not ended.by_work:
                    raise RendererError(
                        t("the process that reads tables {cause}", cause=ended.cause)
                    ) from ended
                why = (
                    t("the file is damaged")
                    if ended.is_a_bug
                    else t("reading the file {cause}", cause=ended.cause)
                )
                why = joined([why, t("Save the sheet with the people alone, as CSV UTF-8")], ". ")
                raise _refused(filename, why) from ended
            except TimeoutError:
                raise _refused(filename, t("reading the file takes too long")) from None
            finally:
                await child.kill()


async def _read(child: ChildProcess, content: bytes, asked: dict[str, str | None]) -> Sheet | str:
    """The sheet, or why there is none."""
    rows, numbers = list[list[str]](), list[int]()
    answer = await child.ask(asked, blob=content, timeout=READ_TIMEOUT)
    while "refused" not in answer:
        rows += answer["rows"]
        numbers += answer["numbers"]
        if not answer["more"]:
            head: dict[str, Any] = answer["head"] | {
                "sheets": tuple(answer["head"].get("sheets", ()))
            }
            return Sheet(rows, numbers, **head) if rows else t("the file is empty")
        answer = await child.ask({"more": True}, timeout=READ_TIMEOUT)
    refused: str = from_json(answer["refused"])
    return refused


def _refused(filename: str, why: str) -> SpreadsheetError:
    return SpreadsheetError(t("could not read {file}: {why}", file=filename, why=why))
