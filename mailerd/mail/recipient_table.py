"""What a table of people says: which row names the columns, what each column is used as, what is
wrong in which row.

It is pure: `spreadsheet` reads the file. The console and `mailerd send` use these functions alike,
so that both find the same recipients and the same problems. For 20,000 rows `check` takes a quarter
of a second: a server calls it in a thread.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import Any, Final
from unicodedata import normalize

from mailerd.core.copies import MAX_COPIES
from mailerd.core.i18n import N_, Text, joined, t, tn
from mailerd.core.suppression import canonical, without_formula
from mailerd.mail.mime import Addresses
from mailerd.mail.spreadsheet import Sheet, SpreadsheetError
from mailerd.mail.templates import MAX_LINE, language_tag, one_name

EMAIL: Final = "email"
IGNORED: Final = ""
FIELDS: Final = (EMAIL, "name", "language", "cc", "bcc")
"""What a column can be used as, beside a variable.

In "cc" and "bcc" a semicolon stands between two addresses.
"""
SAMPLES: Final = 3
type Uses = Mapping[int, str]
"""What columns are used as, by `Column.index`: one of FIELDS, IGNORED, or else the name of a
variable.
"""


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
        return joined([self.header]) if self.header else t("Column {letter}", letter=self.letter)


class ProblemKind(StrEnum):
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
    """The row of a text has other cells than the header: a comma within a value, without quotation
    marks.
    """
    SUPPRESSED = "suppressed"
    """Found by the caller: see `without`."""
    UNSUBSCRIBED = "unsubscribed"
    """Found by the caller: see `without`."""
    REPLIED = "replied"
    """Found by the caller: see `without`."""
    EMPTY = "empty_cell"
    """In a variable that is used.

    It blocks until the person has skipped, filled or accepted such cells.
    """
    TYPO = "typo"
    """A valid address whose domain looks like a common one, misspelt.

    It is a hint alone: the row is used.
    """


NEVER_SENT: Final = frozenset(
    {ProblemKind.SUPPRESSED, ProblemKind.UNSUBSCRIBED, ProblemKind.REPLIED}
)
"""These rows are skipped whatever the person decides, and block nothing."""
INVALID: Final = frozenset(
    {
        ProblemKind.NO_ADDRESS,
        ProblemKind.ADDRESS,
        ProblemKind.DUPLICATE,
        ProblemKind.VALUE,
        ProblemKind.CELLS,
    }
)
"""These rows cannot be used.

They block until the person says that invalid rows are skipped, or corrects them.
"""


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
    kind: ProblemKind
    reason: Text
    """For people: "has no @", "duplicate of row 7"."""
    fix: str = ""
    """What the cell could say instead: "ada@gmail.com"; "" where nothing is known."""


@dataclass(frozen=True)
class Group:
    """The problems of one kind in one column."""

    kind: ProblemKind
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
    refused: list[tuple[int, dict[str, Any]]]
    """Rows that are INVALID, and who they name, as they are written: a job that skips them lists
    them as failed.

    Rows with a wrong number of cells are not among them: which cell is the address is not known.
    """
    problems: list[Problem]
    """By their rows."""
    total: int
    """How many rows there are below the header, without empty ones."""
    blocking: list[Problem] = field(default_factory=list)
    """Those about which the person has to decide before anything is sent; empty: the table can be
    used.
    """

    @property
    def skipped(self) -> int:
        """How many rows get no message."""
        return self.total - len(self.recipients)

    def groups(self) -> list[Group]:
        """The problems, grouped by kind and column: those that block before the others, and many
        before few.
        """
        blocking = {(each.kind, each.index) for each in self.blocking}
        found = defaultdict[tuple[ProblemKind, int | None], list[Problem]](list)
        for each in self.problems:
            found[each.kind, each.index].append(each)
        order = sorted(found.items(), key=lambda it: (it[0] not in blocking, -len(it[1])))
        return [
            Group(
                kind,
                index,
                its[0].column,
                _summary(kind, len(its), its[0].column),
                [each.row for each in its],
            )
            for (kind, index), its in order
        ]

    def find(self, text: str, *, after: int) -> int | None:
        """The number, from 1, of the next recipient whose address or name has this text; None:
        there is none.
        """
        wanted = text.casefold()
        return self._next(
            lambda at: any(
                wanted in self.recipients[at].get(use, "").casefold() for use in FIELDS[:2]
            ),
            after,
        )

    def next_empty(self, *, after: int) -> int | None:
        """The number of the next recipient with an empty cell in a variable of the message; None:
        there is none.
        """
        rows = {each.row for each in self.problems if each.kind is ProblemKind.EMPTY}
        return self._next(lambda at: self.rows[at] in rows, after)

    def longest(self, used: Collection[str] | None = None) -> int:
        """The number of the recipient whose values have the most characters.

        `used`: only these; None: all.
        """

        def characters(at: int) -> int:
            values = self.recipients[at] | self.recipients[at].get("variables", {})
            return sum(
                len(it)
                for name, it in values.items()
                if isinstance(it, str) and (used is None or name in used)
            )

        return max(range(len(self.recipients)), key=characters, default=0) + 1

    def _next(self, is_it: Callable[[int], bool], after: int) -> int | None:
        """The number of the first recipient behind `after` of whom it is so, from the beginning
        again at the end.
        """
        around = (*range(after, len(self.recipients)), *range(min(after, len(self.recipients))))
        return next((at + 1 for at in around if is_it(at)), None)

    def without(self, found: Mapping[str, tuple[ProblemKind, Text]]) -> "CheckedTable":
        """The table without recipients of whom the caller knows that they get no message.

        `found`: by the recipient's "email" as it stands in `recipients`: a kind of NEVER_SENT, and
        why.
        """
        kept, problems = list[int](), [*self.problems]
        for at, recipient in enumerate(self.recipients):
            if (known := found.get(recipient["email"])) is None:
                kept.append(at)
            else:
                problems.append(Problem(self.rows[at], None, "", recipient["email"], *known))
        rows = [self.rows[at] for at in kept]
        left = {*rows}
        blocking = [each for each in self.blocking if each.kind in INVALID or each.row in left]
        problems.sort(key=lambda it: it.row)
        return replace(
            self,
            recipients=[self.recipients[at] for at in kept],
            rows=rows,
            problems=problems,
            blocking=blocking,
        )


def _summary(kind: ProblemKind, n: int, column: str) -> Text:
    return {
        ProblemKind.NO_ADDRESS: tn("{n:,} row has no address", "{n:,} rows have no address", n),
        ProblemKind.ADDRESS: tn(
            "{column} is not a valid address in {n:,} row",
            "{column} is not a valid address in {n:,} rows",
            n,
            column=column,
        ),
        ProblemKind.DUPLICATE: tn(
            "{n:,} row repeats an address", "{n:,} rows repeat an address", n
        ),
        ProblemKind.VALUE: tn(
            "{column} is not valid in {n:,} row",
            "{column} is not valid in {n:,} rows",
            n,
            column=column,
        ),
        ProblemKind.CELLS: tn(
            "{n:,} row has more or fewer cells than columns",
            "{n:,} rows have more or fewer cells than columns",
            n,
        ),
        ProblemKind.SUPPRESSED: tn(
            "{n:,} recipient is suppressed", "{n:,} recipients are suppressed", n
        ),
        ProblemKind.UNSUBSCRIBED: tn(
            "{n:,} recipient has unsubscribed", "{n:,} recipients have unsubscribed", n
        ),
        ProblemKind.REPLIED: tn(
            "{n:,} recipient has replied since", "{n:,} recipients have replied since", n
        ),
        ProblemKind.EMPTY: tn(
            "{column} is empty in {n:,} row", "{column} is empty in {n:,} rows", n, column=column
        ),
        ProblemKind.TYPO: tn("{n:,} address may be misspelt", "{n:,} addresses may be misspelt", n),
    }[kind]


# Which row is the header, and what the columns are used as.

_HEADERS: Final[Mapping[str, Sequence[str]]] = {
    EMAIL: (
        "email",
        "emailaddress",
        "mail",
        "mailaddress",
        "emailadresse",
        "mailadresse",
        "邮箱",
        "电子邮件",
        "电子邮箱",
        "邮箱地址",
        "电子邮件地址",
        "邮件地址",
        "电邮",
        "郵箱",
        "電子郵件",
        "電郵",
    ),
    "name": ("name", "fullname", "displayname", "姓名", "全名", "收件人姓名"),
    "language": ("language", "lang", "locale", "语言", "语种", "語言", "sprache"),
    "cc": ("cc", "抄送", "副本"),
    "bcc": ("bcc", "密送", "密件抄送", "密件副本"),
}
"""What a header says, as `_folded` has it, by what its column is used as; the likeliest first."""
_MAX_ADDRESS: Final = 320
_ADDRESS: Final = re.compile(r"[^@\s<>]+@[^@\s<>]+\.[^@\s<>]+")
_VARIABLE: Final = re.compile(r"[^\W\d]\w*")
MAX_HEADER: Final = 255
"""Characters of a header that are looked at; a variable's name has no more."""
_MAX_BEFORE_HEADER: Final = 20
"""The most rows in which a header is looked for."""
_MAX_LISTED: Final = 20
"""Columns that an error names, …"""
_MAX_LISTED_NAME: Final = 60
"""… and characters of the name of one."""
_LOOKED_AT: Final = 200
"""Values of a column by which it is guessed what it holds."""
_MOST: Final = 0.6
"""The share of them that are addresses in a column of addresses."""
_MAX_VALUE: Final = 200
"""Characters of a value that a problem shows."""


def _is_address(cell: str) -> bool:
    """Whether a cell is one, by its form; of a longer one the dots alone would take their
    square.
    """
    return len(cell) <= _MAX_ADDRESS and _ADDRESS.fullmatch(cell) is not None


def _folded(text: str) -> str:
    """A name without what people write in different ways: capitals, blanks, hyphens, full-width
    letters.
    """
    return re.sub(r"[\W_]+", "", normalize("NFKC", text).casefold())


def guess_header(sheet: Sheet) -> int | None:
    """The number of the row that names the columns; None: there is none, and the first row is a
    person.
    """
    before: list[str] = []
    for at, row in enumerate(sheet.rows[:_MAX_BEFORE_HEADER]):
        if any(map(_is_address, row)):  # above it is its header, unless that is a title
            alone = sum(map(bool, before)) < min(2, sum(map(bool, row)))
            return None if alone else sheet.numbers[at - 1]
        if any(_folded(cell) in _HEADERS[EMAIL] for cell in row):
            return sheet.numbers[at]
        before = row
    return sheet.numbers[0] if sheet.numbers else None


def columns_of(sheet: Sheet, header: int | None, *, wanted: Collection[str] = ()) -> list[Column]:
    """The columns of a sheet, with a guess of what each is used as; columns without any text are
    left out.

    `header`: the number of the row that names them; rows above it are no people. `wanted`: the
    variables of the template, so that "First name" is guessed as first_name, and "Product" as
    product.
    """
    names = names_of(sheet, header)
    people = [row for _, row in _below(sheet, header)]
    found, addresses, folded = list[Column](), set[int](), dict[int, str]()
    by_folded = {_folded(each): each for each in reversed([*wanted])}
    for index in range(max(map(len, sheet.rows), default=0)):
        values = [row[index] for row in people if index < len(row) and row[index]]
        name = names[index] if index < len(names) else ""
        if values or name:
            folded[index] = _folded(name)
            samples = tuple(each[:_MAX_VALUE] for each in islice(dict.fromkeys(values), SAMPLES))
            letter = _letter(index + sheet.first_column)
            found.append(
                Column(
                    index,
                    letter,
                    name,
                    samples,
                    len(values),
                    by_folded.get(folded[index]) or variable_name(name),
                )
            )
            seen = values[:_LOOKED_AT]
            if seen and sum(map(_is_address, seen)) >= _MOST * len(seen):
                addresses.add(index)
    guesses: dict[int, str] = {}
    for use, known in _HEADERS.items():
        named = [each for each in found if folded[each.index] in known]
        if use == EMAIL and (with_addresses := [each for each in named if each.index in addresses]):
            named = with_addresses
        if named:
            best = min((folded[each.index] for each in named), key=known.index)
            guesses |= {each.index: use for each in named if folded[each.index] == best}
    # of two, the person has to choose one
    if EMAIL not in guesses.values() and len(addresses - guesses.keys()) == 1:
        guesses |= dict.fromkeys(addresses - guesses.keys(), EMAIL)
    return [replace(each, guess=guesses.get(each.index, each.guess)) for each in found]


def names_of(sheet: Sheet, header: int | None) -> list[str]:
    """What the header says of each column, cut as `Column.header` is."""
    return [each[:MAX_HEADER] for each in _header_row(sheet, header)]


def _header_row(sheet: Sheet, header: int | None) -> list[str]:
    return sheet.rows[sheet.numbers.index(header)] if header in sheet.numbers else []


def _below(sheet: Sheet, header: int | None) -> Iterator[tuple[int, list[str]]]:
    """The rows of people, with their numbers."""
    return (
        (number, row)
        for number, row in zip(sheet.numbers, sheet.rows, strict=True)
        if number > (header or 0)
    )


def _letter(index: int) -> str:
    return (_letter(index // 26 - 1) if index >= 26 else "") + chr(ord("A") + index % 26)  # noqa: PLR2004


def _unnamed(index: int, sheet: Sheet) -> Text:
    return t("Column {letter}", letter=_letter(index + sheet.first_column))


def variable_name(header: str) -> str:
    """The variable that a column would be, by its header."""
    plain = (
        header if _VARIABLE.fullmatch(header) else re.sub(r"\W+", "_", header).strip("_").lower()
    )
    name = plain if not plain or _VARIABLE.fullmatch(plain) else f"column_{plain}"
    return f"{name}_2" if name in FIELDS else name


def guessed_uses(columns: Iterable[Column]) -> dict[int, str]:
    """What the columns seem to be used as."""
    return {each.index: each.guess for each in columns}


def mapping_errors(
    columns: Sequence[Column], uses: Uses, *, wanted: Collection[str] = ()
) -> list[Text]:
    """What is wrong with the mapping, for people: no email column, two of one name, a name that no
    variable can have.

    `wanted`: variables that the template cannot do without; each that no column is used as is said
    once.
    """
    errors, by_use = list[Text](), defaultdict[str, list[Text]](list)
    for each in columns:
        if use := uses.get(each.index, IGNORED):
            by_use[use].append(each.name)
    if EMAIL not in by_use:
        found = _listed([each.name for each in columns])
        errors.append(
            t("No column is used as the email address. Columns: {columns}", columns=found)
        )
    errors += [
        t("Several columns are used as {use}: {columns}", use=use, columns=_listed(names))
        for use, names in by_use.items()
        if len(names) > 1
    ]
    errors += [
        t("{name} cannot be the name of a variable: it needs a form such as first_name", name=use)
        for use in by_use
        if not _VARIABLE.fullmatch(use)
    ]
    if missing := [each for each in wanted if each not in by_use]:
        names = ", ".join(missing)
        errors.append(
            tn(
                "The template needs {names}: no column is used as that variable",
                "The template needs {names}: no columns are used as those variables",
                len(missing),
                names=names,
            )
        )
    return errors


def _listed(names: Sequence[Text]) -> Text:
    """The first names, and how they begin."""
    first = [
        each if len(each) <= _MAX_LISTED_NAME else f"{each[:_MAX_LISTED_NAME]}…"
        for each in names[:_MAX_LISTED]
    ]
    return joined([*first, "…"] if len(names) > _MAX_LISTED else first, ", ")


# What is wrong in which row.


def check(
    sheet: Sheet,
    header: int | None,
    uses: Uses,
    *,
    used: Collection[str] | None = None,
    decisions: Decisions,
) -> CheckedTable:
    """The recipients of a sheet, and what is wrong with its rows; the mapping has no errors.

    `used`: the variables that the message uses; empty cells of others are no problem. None: all
    that are mapped.
    """
    return _Check(sheet, header, uses, used=used, decisions=decisions).table()


class _Check:
    """One check of a sheet."""

    def __init__(
        self,
        sheet: Sheet,
        header: int | None,
        uses: Uses,
        *,
        used: Collection[str] | None,
        decisions: Decisions,
    ) -> None:
        names = names_of(sheet, header)
        self._sheet, self._header, self._uses, self._decisions = sheet, header, uses, decisions
        self._width = len(names) if names and sheet.encoding else None
        """How many cells a row of a text has: the others have lost a quotation mark."""
        self._named = max((at for at, name in enumerate(names, 1) if name), default=0)
        self._columns = {
            use: (at, names[at] if at < len(names) and names[at] else _unnamed(at, sheet))
            for at, use in uses.items()
            if use != IGNORED
        }
        self._variables = [use for use in self._columns if use not in FIELDS]
        # A name that is said is as any variable: an empty one counts as none.
        says_name = used is not None and "name" in self._columns and "name" in used
        self._asked = [*self._variables, *(["name"] if says_name else [])]
        self._used = {*self._asked} if used is None else {*self._asked} & {*used}
        self._addresses = Addresses()
        self._seen: dict[str, tuple[int, str]] = {}
        self._problems: list[Problem] = []
        self._blocking: list[Problem] = []

    def table(self) -> CheckedTable:
        """What becomes of the table."""
        table, total = CheckedTable([], [], [], self._problems, 0, self._blocking), 0
        for number, row in _below(self._sheet, self._header):
            total += 1
            recipient, found = self._recipient(number, row)
            self._problems += found
            skip = False
            for each in found:
                if each.kind is ProblemKind.EMPTY:
                    use = self._uses[each.index or 0]
                    skip |= use in self._decisions.skip_empty
                    decided = use in self._decisions.skip_empty or use in self._decisions.accepted
                else:
                    skip |= each.kind in INVALID
                    decided = each.kind not in INVALID or self._decisions.skip_invalid
                if not decided:
                    self._blocking.append(each)
            if not skip:
                self._seen.setdefault(canonical(recipient["email"]), (number, recipient["email"]))
                table.recipients.append(recipient)
                table.rows.append(number)
            elif recipient and any(each.kind in INVALID for each in found):
                table.refused.append((number, recipient))
        return replace(table, total=total)

    def _recipient(self, number: int, row: list[str]) -> tuple[dict[str, Any], list[Problem]]:
        """A recipient as the API's JSON has it, and what is wrong with it."""
        found = list[Problem]()
        if self._width is not None and (len(row) < self._named or any(row[self._width :])):
            cells = tn("{n} cell", "{n} cells", len(row))
            why = t(
                "{cells}, but {columns}",
                cells=cells,
                columns=tn("{n} column", "{n} columns", self._width),
            )
            return {}, [
                Problem(number, None, "", ",".join(row)[:_MAX_VALUE], ProblemKind.CELLS, why)
            ]

        def cell(use: str) -> str:
            at, _ = self._columns[use]
            return row[at] if at < len(row) else ""

        def note(use: str, kind: ProblemKind, reason: Text, fix: str = "") -> None:
            at, name = self._columns[use]
            found.append(Problem(number, at, name, cell(use)[:_MAX_VALUE], kind, reason, fix))

        recipient: dict[str, Any] = {EMAIL: self._address(cell(EMAIL), note)}
        for use, rule in (("name", _name), ("language", language_tag)):
            if use in self._columns and (value := cell(use)):
                recipient[use] = value
                try:
                    rule(value)
                except ValueError as error:
                    note(use, ProblemKind.VALUE, joined([str(error)]))
        for use in ("cc", "bcc"):
            if use in self._columns and (value := cell(use)):
                recipient[use] = [{"email": each} for each in self._copies(use, value, note)]
        variables, is_sent = dict[str, str](), not any(each.kind in INVALID for each in found)
        for use in self._asked:
            if use == "name" and cell(use):
                continue  # the recipient's own says it
            variables[use] = cell(use) or self._decisions.defaults.get(use, "")
            if is_sent and not variables[use] and use in self._used:
                note(use, ProblemKind.EMPTY, t("is empty"))
        return recipient | {"variables": variables}, found

    def _address(self, given: str, note: Callable[..., None]) -> str:
        if not given:
            note(EMAIL, ProblemKind.NO_ADDRESS, t("is empty"))
            return ""
        try:
            address = self._addresses.check(given)
        except ValueError as error:
            note(EMAIL, ProblemKind.ADDRESS, joined([str(error)]), self._fixed(given))
            return given
        known = None if self._decisions.allow_duplicates else self._seen.get(canonical(address))
        if known is not None:
            same, other = (
                N_("duplicate of row {row}"),
                N_("duplicate of row {row}, written {email}"),
            )
            note(
                EMAIL,
                ProblemKind.DUPLICATE,
                t(same if known[1] == address else other, row=known[0], email=known[1]),
            )
        elif fix := _likely(address):
            note(EMAIL, ProblemKind.TYPO, t("did you mean {email}?", email=fix), fix)
        return address

    def _copies(self, use: str, value: str, note: Callable[..., None]) -> Iterator[str]:
        given = [each.strip() for each in re.split(r"[;,\n]", value) if each.strip()]
        if len(given) > MAX_COPIES:
            note(
                use,
                ProblemKind.VALUE,
                t("has {n} addresses, above the limit of {most}", n=len(given), most=MAX_COPIES),
            )
        for each in given[: MAX_COPIES + 1]:  # so many that a job with them is refused as well
            yield each
            try:
                self._addresses.check(each)
            except ValueError as error:
                note(
                    use,
                    ProblemKind.ADDRESS,
                    t("{address}: {why}", address=each, why=joined([str(error)])),
                )

    def _fixed(self, given: str) -> str:
        """What an address that is not valid was probably meant to be; "" where nothing is known."""
        plain = normalize("NFKC", given).replace("。", ".").removeprefix("mailto:")
        if found := re.search(r"<([^<>]+)>", plain):  # Ada Lovelace <ada@example.com>
            plain = found[1]
        plain = re.sub(
            r"\.{2,}", ".", re.sub(r"\s+", "", plain).strip(".,;:<>()[]\"'").replace(",", ".")
        )
        try:
            address = self._addresses.check(plain)
        except ValueError:
            return ""
        return _likely(address) or address


def _name(given: str) -> None:
    if len(given) > MAX_LINE:
        raise ValueError(t("exceeds {max_length} characters", max_length=MAX_LINE))
    one_name(given)


_COMMON: Final = (
    "gmail.com",
    "googlemail.com",
    "outlook.com",
    "hotmail.com",
    "yahoo.com",
    "icloud.com",
    "foxmail.com",
    "protonmail.com",
    "t-online.de",
    "outlook.de",
    "hotmail.de",
    "yahoo.co.uk",
    "hotmail.co.uk",
)
_NO_TYPO: Final = frozenset(
    {*_COMMON, "mail.com", "email.com", "ymail.com", "fmail.com", "gmail.co.uk"}
)
"""Domains of their own, though one letter from a common one."""


def _likely(address: str) -> str:
    """The address whose domain was probably meant; "" where the domain is nothing like a common
    one.
    """
    local, _, domain = address.rpartition("@")
    if domain in _NO_TYPO:
        return ""
    meant = next((each for each in _COMMON if _one_edit(domain, each)), "")
    if not meant and domain.endswith((".con", ".cmo")):  # there are no such top-level domains
        meant = f"{domain[:-4]}.com"
    return f"{local}@{meant}" if meant else ""


def _one_edit(one: str, other: str) -> bool:
    """Whether one letter more, less or other, or two that have changed places, make one of the
    other.
    """
    if abs(len(one) - len(other)) > 1:
        return False
    at = next(
        (at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b),
        min(len(one), len(other)),
    )
    a, b = one[at:], other[at:]
    return a[1:] == b[1:] or a == b[1:] or a[1:] == b or (a[:2] == b[:2][::-1] and a[2:] == b[2:])


# A table that is used by its guesses alone.

MAX_SHOWN: Final = 20
"""How many rows that are not valid are named."""


@dataclass(frozen=True)
class RecipientTable:
    """The recipients of a table that is used by its guesses alone."""

    recipients: list[dict[str, Any]]
    """All that the table names, invalid ones too, as a job's JSON has them: what reads the job
    reports those.
    """
    rows: list[int]
    """For each recipient its row, as the sheet numbers it."""
    warnings: list[Text]
    """What a person should know: "product is empty in 5 rows"."""

    def named(self, file: Path) -> Callable[[int], str]:
        """What says where a recipient is."""
        return lambda index: t("{file} row {n}", file=file, n=self.rows[index])


def read_recipients(
    sheet: Sheet, name: str, *, header: int | None = None, chosen: Mapping[str, str] | None = None
) -> RecipientTable:
    """The recipients of a sheet of a file that is called `name`.

    `header`: the number of the row that names the columns, if it is known. `chosen`: by a column's
    header, or its letter, what it is used as, as in `Uses`; the others are guessed.

    Raises:
        SpreadsheetError: the guesses are not enough, or rows have a wrong number of cells.
    """

    def failed(why: Text) -> SpreadsheetError:
        return SpreadsheetError(t("could not read {file}: {why}", file=name, why=why))

    if sheet.is_guess:
        sample = next((cell for row in sheet.rows for cell in row if not cell.isascii()), "")[
            :MAX_SHOWN
        ]
        raise failed(
            t(
                "not UTF-8, perhaps {encoding}: {sample}. Save it as CSV UTF-8, or name the encoding",
                encoding=sheet.encoding,
                sample=sample,
            )
        )
    header = guess_header(sheet) if header is None else header
    columns, chosen = columns_of(sheet, header), {**(chosen or {})}
    uses = {
        each.index: chosen.pop(each.header, chosen.pop(each.letter, each.guess)) for each in columns
    }
    for each in chosen:
        raise failed(t("no column is called {name}", name=each))
    if errors := mapping_errors(columns, uses):
        raise failed(joined(errors))
    checked = check(sheet, header, uses, decisions=Decisions(allow_duplicates=True))
    bad = [each for each in checked.problems if each.kind is ProblemKind.CELLS]
    if bad:
        said = [
            t("{file} row {n}: {why}", file=name, n=each.row, why=each.reason)
            for each in bad[:MAX_SHOWN]
        ]
        more = [t("  and {n:,} more", n=len(bad) - MAX_SHOWN)] if len(bad) > MAX_SHOWN else []
        raise SpreadsheetError(joined([*said, *more], "\n"))
    everyone = sorted(
        [*zip(checked.rows, checked.recipients, strict=True), *checked.refused],
        key=lambda it: it[0],
    )
    warnings = [
        each.summary
        for each in checked.groups()
        if each.kind in {ProblemKind.EMPTY, ProblemKind.TYPO}
    ]
    return RecipientTable([each for _, each in everyone], [row for row, _ in everyone], warnings)


# What a person downloads.


def problem_rows(checked: CheckedTable, say: Callable[[str], str]) -> Iterator[Sequence[object]]:
    """The problems with row, column, value, problem and fix, below a header; `say` translates a
    text.
    """
    yield [say(each) for each in (t("Row"), t("Column"), t("Value"), t("Problem"), t("Suggestion"))]
    for each in checked.problems:
        yield each.row, say(each.column), each.value, say(each.reason), each.fix


def corrected_rows(
    sheet: Sheet, header: int | None, checked: CheckedTable
) -> Iterator[Sequence[object]]:
    """The table: its header and the rows that get a message, in the sheet's columns."""
    kept = {*checked.rows}
    if head := _header_row(sheet, header):
        yield head
    yield from (row for number, row in _below(sheet, header) if number in kept)


def without_formulas(rows: Iterable[Sequence[object]]) -> Iterator[list[str]]:
    """Rows for a CSV that a spreadsheet may open."""
    return ([without_formula(str(cell)) for cell in row] for row in rows)
