"""What a table of people says: which row names the columns, what each column is used as, and what is wrong in which row.

It is pure: `spreadsheet` reads the file. The console and `mailerd send` use these functions alike, so that both find
the same recipients and the same problems. With 20,000 rows `check` takes about a second: a server calls it in a thread.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from mailerd.core.i18n import Text
from mailerd.mail.spreadsheet import Sheet

EMAIL: Final = "email"
IGNORED: Final = ""
FIELDS: Final = (EMAIL, "name", "language", "cc", "bcc")
"""What a column can be used as, beside a variable. In "cc" and "bcc" a semicolon stands between two addresses."""
SAMPLES: Final = 3
type Uses = Mapping[int, str]
"""What columns are used as, by `Column.index`: one of FIELDS, IGNORED, or else the name of a variable."""


@dataclass(frozen=True)
class Column:
    """A column of a sheet."""

    index: int
    """The place of its cells in a row of the sheet; it is what `Uses` names it by."""
    letter: str
    """What spreadsheets call it: A, B, …, AA."""
    header: str
    """What the header says; "" where it says nothing, or where there is none."""
    samples: tuple[str, ...]
    """The first values, at most SAMPLES, none of them twice."""
    filled: int
    """How many of its cells are not empty, below the header."""
    guess: str
    """What it seems to be used as, as in `Uses`."""

    @property
    def name(self) -> Text:
        """The header, or "Column C": for people."""
        raise NotImplementedError


class Kind(StrEnum):
    """What is wrong with a row or a cell."""

    NO_ADDRESS = "no_address"
    """The cell of the address is empty."""
    ADDRESS = "invalid_address"
    """Of the recipient or of a copy."""
    DUPLICATE = "duplicate"
    """An earlier row has the same address."""
    VALUE = "invalid_value"
    """A name or a language that a message cannot have."""
    CELLS = "cell_count"
    """The row of a text has other cells than the header: a comma within a value, without quotation marks."""
    SUPPRESSED = "suppressed"
    """Found by the caller: see `without`."""
    UNSUBSCRIBED = "unsubscribed"
    """Found by the caller: see `without`."""
    EMPTY = "empty_cell"
    """In a variable that is used. It blocks until the person has skipped, filled or accepted such cells."""
    TYPO = "typo"
    """A valid address whose domain looks like a common one, misspelt. It is a hint alone: the row is used."""


NEVER_SENT: Final = frozenset({Kind.SUPPRESSED, Kind.UNSUBSCRIBED})
"""These rows are skipped whatever the person decides, and block nothing."""
INVALID: Final = frozenset({Kind.NO_ADDRESS, Kind.ADDRESS, Kind.DUPLICATE, Kind.VALUE, Kind.CELLS})
"""These rows cannot be used. They block until the person says that invalid rows are skipped, or corrects them."""


@dataclass(frozen=True)
class Problem:
    """What is wrong in one row."""

    row: int
    """Its number as the sheet has it."""
    index: int | None
    """Which column, as `Column.index`; None: the whole row."""
    column: str
    """The column's name, for people; "" for the whole row."""
    value: str
    """What the cell says, cut where it is long."""
    kind: Kind
    reason: Text
    """For people: "has no @", "duplicate of row 7"."""
    fix: str = ""
    """What the cell could say instead: "ada@gmail.com"; "" where nothing is known."""


@dataclass(frozen=True)
class Group:
    """The problems of one kind in one column."""

    kind: Kind
    index: int | None
    column: str
    summary: Text
    """For people: "product is empty in 5 rows"."""
    rows: list[int]


@dataclass(frozen=True)
class Decisions:
    """What the person has decided about problems."""

    skip_invalid: bool = False
    """Whether rows that are INVALID are skipped; else they block."""
    allow_duplicates: bool = False
    defaults: Mapping[str, str] = field(default_factory=dict)
    """By variable: what stands in its empty cells."""
    accepted: Collection[str] = ()
    """Variables whose empty cells stay empty."""
    skip_empty: Collection[str] = ()
    """Variables without which a row is skipped."""


@dataclass(frozen=True)
class CheckedTable:
    """What becomes of a table."""

    recipients: list[dict[str, Any]]
    """Who gets a message, as the API's `recipients` has them."""
    rows: list[int]
    """The row of each of them, as the sheet numbers it."""
    problems: list[Problem]
    """By their rows."""
    total: int
    """How many rows there are below the header, without empty ones."""
    blocking: list[Problem] = field(default_factory=list)
    """Those about which the person has to decide before anything is sent; empty: the table can be used."""

    @property
    def skipped(self) -> int:
        """How many rows get no message."""
        return self.total - len(self.recipients)

    def groups(self) -> list[Group]:
        """The problems, grouped by kind and column: those that block before the others, and many before few."""
        raise NotImplementedError

    def without(self, found: Mapping[str, tuple[Kind, Text]]) -> "CheckedTable":
        """The table without recipients that the caller knows to be suppressed or unsubscribed.

        `found`: by the recipient's "email" as it stands in `recipients`: SUPPRESSED or UNSUBSCRIBED, and why.
        """
        raise NotImplementedError


def guess_header(sheet: Sheet) -> int | None:
    """The number of the row that names the columns; None: there is none, and the first row is a person."""
    raise NotImplementedError


def columns_of(sheet: Sheet, header: int | None, *, wanted: Collection[str] = ()) -> list[Column]:
    """The columns of a sheet, with a guess of what each is used as; columns without any text are left out.

    `header`: the number of the row that names them; rows above it are no people. `wanted`: the variables of the
    template, so that "First name" is guessed as first_name, and "Product" as product.
    """
    raise NotImplementedError


def guessed_uses(columns: Iterable[Column]) -> dict[int, str]:
    """What the columns seem to be used as."""
    return {each.index: each.guess for each in columns}


def mapping_errors(columns: Sequence[Column], uses: Uses, *, wanted: Collection[str] = ()) -> list[Text]:
    """What is wrong with the mapping, for people: no email column, two of one name, a name that no variable can have.

    `wanted`: variables that the template cannot do without; each that no column is used as is said once.
    """
    raise NotImplementedError


def check(
    sheet: Sheet, header: int | None, uses: Uses, *, used: Collection[str] | None = None, decisions: Decisions
) -> CheckedTable:
    """The recipients of a sheet, and what is wrong with its rows; the mapping has no errors.

    `used`: the variables that the message uses; empty cells of others are no problem. None: all that are mapped.
    """
    raise NotImplementedError


def problems_csv(checked: CheckedTable, say: Callable[[str], str]) -> str:
    """The problems as CSV, with row, column, value, problem and fix; `say` translates a text."""
    raise NotImplementedError


def corrected_csv(sheet: Sheet, header: int | None, checked: CheckedTable) -> str:
    """The table as CSV: its header and the rows that get a message, in the sheet's columns."""
    raise NotImplementedError
