"""What the doctor says: one finding a line, and a remedy on each that is not without a flaw."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from rich.cells import cell_len

from mailerd.core.i18n import Text, joined
from mailerd.locale import say

_LABEL: Final = 21
"""Columns of a check's name; a Chinese character takes two."""


class Level(StrEnum):
    """How bad it is: a WARN works for now, a FAIL does not."""

    PASS = "PASS"  # noqa: S105 - the word of a test that was passed
    WARN = "WARN"
    FAIL = "FAIL"


@dataclass(frozen=True)
class CheckResult:
    """One thing that was examined."""

    level: Level
    check: str
    what: str
    remedy: str = ""

    def __post_init__(self) -> None:
        """Raise ValueError for bad news that comes without a remedy."""
        if self.level is not Level.PASS and not self.remedy:
            raise ValueError(f"{self.check}: {self.what}: a remedy is missing")

    def line(self) -> str:
        """As a person reads it: PASS, WARN or FAIL, and after an arrow what is to be looked at or
        done.
        """
        check = say(self.check)
        text = f"{say(self.what)} -> {say(self.remedy)}" if self.remedy else say(self.what)
        said = say(joined([" ".join(line.split()) for line in text.splitlines()]))
        said = said.replace(":; ", ": ").replace("：；", "：")  # behind a heading
        return f"{self.level}  {check}{' ' * (_LABEL - cell_len(check))} {said}"


def halves(told: str) -> tuple[str, str]:
    """What is wrong and the remedy, of a text that was joined of both; "" where it names none."""
    parts = told.parts if isinstance(told, Text) else ()
    return (parts[0], parts[-1]) if parts else (told, "")


def ok(check: str, what: str) -> CheckResult:
    """A PASS."""
    return CheckResult(Level.PASS, check, what)


def warn(check: str, what: str, *, remedy: str) -> CheckResult:
    """A WARN."""
    return CheckResult(Level.WARN, check, what, remedy)


def fail(check: str, what: str, *, remedy: str) -> CheckResult:
    """A FAIL."""
    return CheckResult(Level.FAIL, check, what, remedy)
