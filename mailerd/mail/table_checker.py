"""Checks the table of a draft in a child process that the system bounds: this process keeps it
packed.

A table is a client's: a million cells, or a few whose text takes the memory of many. What comes out
is what a page shows of it, and, where that is asked for, its recipients as the bytes that a job has
of them. Small tables share one child, turn by turn. A large one has a process of its own, and so
has one that has ended the shared child.
"""

import asyncio
from array import array
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from typing import Any, Final, Protocol, Self

from mailerd.core.i18n import Text, t
from mailerd.core.reasons import from_json, to_json
from mailerd.events.worker import RendererEvents
from mailerd.mail.cage import (
    BLOB,
    Blob,
    ChildEndedError,
    ChildExits,
    ChildProcess,
    ChildWorker,
    Limits,
)
from mailerd.mail.recipient_table import Column, Decisions, Group, Problem, ProblemKind
from mailerd.mail.spreadsheet import SpreadsheetError
from mailerd.mail.templates import RendererError

QUICK_LIMITS: Final = Limits(cpu=0.3, memory=256 * 1024 * 1024)
"""For the tables that share a child; 5,000 rows of ten columns take half of it."""
LIMITS: Final = Limits(cpu=10.0, memory=640 * 1024 * 1024)
"""For one table, whatever is in it."""
SMALL: Final = 64 * 1024
"""Bytes, packed, of a table that shares a child."""
CHECK_TIMEOUT: Final = 30.0
"""Seconds for an answer, waiting for the CPU included; and for one of the places of tables with
their own process.
"""
_CHILD: Final = "mailerd.mail.table_checker_child"
_AT_ONCE: Final = 2


@dataclass(frozen=True)
class TableQuestion:
    """What is asked of a table: the mapping of its columns, what was decided, and whose message is
    shown.
    """

    header: int | None
    uses: Mapping[str, str]
    """What columns are used as, by their places, where it is not as guessed."""
    wanted: Sequence[str] = ()
    """Variables of the message that a column has to have."""
    optional: Sequence[str] = ()
    """Those of them that are given elsewhere."""
    used: Sequence[str] | None = None
    """Variables that the message uses, as in `recipient_table.check`."""
    decisions: Decisions = field(default_factory=Decisions)
    person: int = 1
    """Whose message is shown, from 1."""
    sought: str = ""
    """Who is shown instead: "find", "empty" or "longest"; "": the person above."""
    text: str = ""
    """What to find."""

    def as_json(self) -> dict[str, Any]:
        """It for the child."""
        decisions = {
            "skip_invalid": self.decisions.skip_invalid,
            "allow_duplicates": self.decisions.allow_duplicates,
            "defaults": dict(self.decisions.defaults),
            "accepted": [*self.decisions.accepted],
            "skip_empty": [*self.decisions.skip_empty],
        }
        return {
            "header": self.header,
            "uses": dict(self.uses),
            "wanted": [*self.wanted],
            "optional": [*self.optional],
            "used": None if self.used is None else [*self.used],
            "decisions": decisions,
            "person": self.person,
            "sought": self.sought,
            "text": self.text,
        }


@dataclass(frozen=True)
class ShownPerson:
    """One recipient of a table."""

    number: int
    """From 1, among those who get a message."""
    row: int
    recipient: Mapping[str, Any] | None
    """As the API's `recipients` has it; None: its values are too long to be shown."""


@dataclass(frozen=True)
class CheckedDraft:
    """What a page shows of a table."""

    first: list[tuple[int, str]]
    """The numbers of its first rows, and how they begin."""
    header: int | None
    columns: list[Column]
    uses: dict[int, str]
    errors: list[Text]
    """What is wrong with the mapping; then nothing is known of recipients."""
    recipients: int
    skipped: int
    problems: int
    blocking: int
    shown: list[Problem]
    """The first problems."""
    groups: list[Group]
    """Of all problems, without their rows."""
    some_empty: bool
    """Whether a recipient has an empty cell in a variable of the message."""
    person: ShownPerson | None
    found: int | None
    """The number of who was sought; None: there is none."""
    whom: str
    """A digest of the addresses; "" for one person, whose address it would give away."""

    @property
    def is_ready(self) -> bool:
        """Whether nothing about it is left to decide."""
        return bool(self.recipients) and not self.blocking


@dataclass(frozen=True)
class JobRecipients:
    """The recipients of a table, for a job."""

    content: memoryview
    """As JSON."""
    digest: str
    rows: Sequence[int]
    """The row of each of them."""


class JobPerson(Protocol):
    """A recipient of a job, of whose people a table is made."""

    @property
    def email(self) -> str: ...
    @property
    def name(self) -> str | None: ...
    @property
    def variables(self) -> str | None: ...
    @property
    def has_copies(self) -> bool: ...


@dataclass(frozen=True)
class JobPeopleTable:
    """The table of the people of a job."""

    packed: bytes
    """As `Sheet.unpack` takes it, with a header in row 1; empty: there were none."""
    uses: dict[str, str]
    """What each column is used as, by its place."""
    left_out: list[str]
    """Variables that no cell can hold; the first of them."""
    has_copies: bool


class TableChecker:
    """Checks tables; `async with` allows it, and ends the children."""

    def __init__(self, events: RendererEvents) -> None:
        self._exits = ChildExits("checking", events)
        self.shared = ChildWorker(_CHILD, limits=QUICK_LIMITS, exits=self._exits)
        self._places = asyncio.Semaphore(_AT_ONCE)
        self._downloads = asyncio.Semaphore(_AT_ONCE)
        """Places of their own: a download lasts as long as its client reads."""
        self._numbers = count()

    async def __aenter__(self) -> Self:
        await self.shared.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.shared.__aexit__()

    @asynccontextmanager
    async def table(
        self, packed: bytes, *, origin: str, is_download: bool = False
    ) -> AsyncIterator["DraftTable"]:
        """A table that is asked about. `origin`: whose it is, as the log calls them.

        `is_download`: it ends as CSV.
        """
        alone = partial(self._alone, self._downloads if is_download else self._places, origin)
        async with AsyncExitStack() as own:
            yield DraftTable(
                self, packed, origin=origin, number=next(self._numbers), own=own, alone=alone
            )

    async def of_people(
        self, people: AsyncIterator[Sequence[JobPerson]], *, most: int, origin: str
    ) -> JobPeopleTable:
        """The table of the people of a job, as they are read. `most`: rows.

        Raises:
            SpreadsheetError: they do not fit.
            RendererError: as `OwnProcess.ask`.
        """
        async with self._alone(self._places, origin) as own:
            async for some in people:
                given = [(each.variables or "").encode("utf-8", "surrogatepass") for each in some]
                about = [
                    [each.email, each.name, each.has_copies, len(variables)]
                    for each, variables in zip(some, given, strict=True)
                ]
                answer = await own.ask(
                    {"do": "people", "people": about, "most": most}, b"".join(given)
                )
                if refused := answer.get("refused"):
                    raise SpreadsheetError(from_json(refused))
            answer = await own.ask({"do": "pack", "most": most})
        return JobPeopleTable(
            bytes(answer.get(BLOB, b"")),
            answer["uses"],
            answer["left_out"],
            has_copies=answer["has_copies"],
        )

    @asynccontextmanager
    async def _alone(self, places: asyncio.Semaphore, origin: str) -> AsyncIterator["OwnProcess"]:
        """A process for one table.

        Raises:
            RendererError: none can be started, or no place was free in time.
        """
        try:
            async with asyncio.timeout(CHECK_TIMEOUT):
                await places.acquire()
        except TimeoutError:
            raise RendererError(
                t("no process that checks tables was free in {n:g} s", n=CHECK_TIMEOUT)
            ) from None
        try:
            child = await ChildProcess.start(LIMITS, module=_CHILD)
            try:
                yield OwnProcess(child, self._exits, origin)
            finally:
                await child.kill()
        finally:
            places.release()

    async def quickly(
        self, asked: Mapping[str, Any], packed: bytes, *, origin: str
    ) -> dict[str, Any] | None:
        """The answer of the shared child; None: the table has ended it."""
        async with self.shared.lock:
            await self.shared.ready()
            try:
                return await self.shared.asked(asked, blob=packed)
            except ChildEndedError as ended:
                self._exits.record(origin, ended.cause)
                return None


class OwnProcess:
    """A process that works on one table."""

    def __init__(self, child: ChildProcess, exits: ChildExits, origin: str) -> None:
        self._child, self._exits, self._origin = child, exits, origin
        self._has_table = False

    def needs(self, packed: bytes) -> bytes:
        """What has to go with the next question: the table goes with the first."""
        has, self._has_table = self._has_table, True
        return b"" if has else packed

    async def ask(self, asked: Mapping[str, Any], blob: Blob = b"") -> dict[str, Any]:
        """Its answer.

        Raises:
            SpreadsheetError: the table is too large, or too much work.
            RendererError: the process was ended by another, or got no CPU.
        """
        try:
            answer = await self._child.ask(asked, blob=blob, timeout=CHECK_TIMEOUT)
        except ChildEndedError as ended:
            self._exits.record(self._origin, ended.cause)
            if not ended.by_work or ended.is_a_bug:
                raise RendererError(
                    t("the process that checks tables {cause}", cause=ended.cause)
                ) from ended
            raise SpreadsheetError(
                t("The table {cause}. Split it, or delete columns.", cause=ended.cause)
            ) from ended
        return answer


class DraftTable:
    """One packed table, about which several things are asked."""

    def __init__(
        self,
        checker: TableChecker,
        packed: bytes,
        *,
        origin: str,
        number: int,
        own: AsyncExitStack,
        alone: Callable[[], AbstractAsyncContextManager[OwnProcess]],
    ) -> None:
        self._checker, self._packed, self._origin, self._number = checker, packed, origin, number
        self._ends, self._alone = own, alone
        self._own: OwnProcess | None = None
        self._asked: dict[str, Any] = {}
        """What was asked last, on which `job` and `csv` go on."""

    async def check(
        self,
        question: TableQuestion,
        found: Mapping[tuple[ProblemKind, Text], Sequence[str]] | None = None,
    ) -> tuple[CheckedDraft, list[str]]:
        """What becomes of the table, and the addresses of its recipients.

        `found`: of whom the caller knows that they get no message, by why, as in
        `CheckedTable.without`.

        Raises:
            SpreadsheetError, RendererError: as `OwnProcess.ask`; so do the others.
        """
        known = [
            [kind, to_json(why), "\n".join(emails)] for (kind, why), emails in (found or {}).items()
        ]
        self._asked = {"question": question.as_json(), "found": known}
        answer = await self._ask("check")
        emails = bytes(answer.get(BLOB, b"")).decode()
        return _draft_of(answer), emails.split("\n") if emails else []

    async def job(self, *, most: int) -> JobRecipients | None:
        """The recipients of what was checked; None: they take more than so many bytes."""
        answer = await self._ask("job", most=most)
        if answer["too_large"]:
            return None
        rows, blob = array("I"), memoryview(answer[BLOB])
        size = rows.itemsize * answer["rows"]
        rows.frombytes(blob[:size])
        return JobRecipients(blob[size:], answer["digest"], rows)

    async def csv(self, which: str, language: str) -> AsyncGenerator[bytes]:
        """What was checked as CSV, in pieces. `which`: "problems" or "corrected"."""
        await self._be_alone()
        while piece := (await self._ask("csv", which=which, language=language)).get(BLOB):
            yield bytes(piece)

    async def names(self, header: int) -> list[str] | None:
        """What the row says that is to name the columns; None: there is no such row."""
        names: list[str] | None = (await self._ask("names", header=header))["names"]
        return names

    async def edited(self, cells: Mapping[tuple[int, int], str]) -> bytes:
        """The table with other texts in some cells, packed, as `Sheet.edited`; empty: nothing was
        changed.
        """
        changed = [[row, index, text] for (row, index), text in cells.items()]
        return bytes((await self._ask("edit", cells=changed)).get(BLOB, b""))

    async def _ask(self, do: str, **more: Any) -> dict[str, Any]:
        """The answer.

        Each goes with all that it is about, since the shared child has had others in between.
        """
        asked = {"do": do, "number": self._number, **self._asked, **more}
        answer = None
        if self._own is None and len(self._packed) <= SMALL:
            answer = await self._checker.quickly(asked, self._packed, origin=self._origin)
        if answer is not None:
            return answer
        await self._be_alone()
        assert self._own is not None  # noqa: S101 - it is there now
        return await self._own.ask(asked, self._own.needs(self._packed))

    async def _be_alone(self) -> None:
        if self._own is None:
            self._own = await self._ends.enter_async_context(self._alone())


def _draft_of(answer: Mapping[str, Any]) -> CheckedDraft:
    """What the child has found."""
    person = answer["person"]
    return CheckedDraft(
        first=[(number, text) for number, text in answer["first"]],
        header=answer["header"],
        columns=[
            Column(at, letter, header, tuple(samples), filled, guess)
            for at, letter, header, samples, filled, guess in answer["columns"]
        ],
        uses={int(index): use for index, use in answer["uses"].items()},
        errors=[from_json(each) for each in answer["errors"]],
        recipients=answer["recipients"],
        skipped=answer["skipped"],
        problems=answer["problems"],
        blocking=answer["blocking"],
        shown=[
            Problem(row, index, from_json(column), value, ProblemKind(kind), from_json(reason), fix)
            for row, index, column, value, kind, reason, fix in answer["shown"]
        ],
        groups=[
            Group(ProblemKind(kind), index, from_json(column), from_json(summary), [])
            for kind, index, column, summary in answer["groups"]
        ],
        some_empty=answer["some_empty"],
        person=person and ShownPerson(*person),
        found=answer["found"],
        whom=answer["whom"],
    )
