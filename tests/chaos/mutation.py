"""A way to break the code on purpose."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Mutation:
    """A line that something depends on, what is put in its place, and the test that must fail then."""

    what: str
    file: str
    old: str
    new: str
    test: str

    def apply(self, sound: str) -> str:
        """The file's text with the mutation. How the formatter breaks lines does not matter.

        Raises:
            ValueError: the line that it changes is not there any more, or not once.
        """
        if sound.count(self.old) == 1:
            return sound.replace(self.old, self.new)
        found = list(_however_formatted(self.old).finditer(sound))
        if len(found) != 1:
            raise ValueError(f"{self.what}: {self.file} has {len(found)} times: {self.old}")
        return sound[: found[0].start()] + self.new + sound[found[0].end() :]


def _however_formatted(code: str) -> re.Pattern[str]:
    """What the code is once its brackets stand on lines of their own: other white space, and a comma at the end."""
    pieces = re.findall(r"\w+|\s+|[^\w\s]", code)
    return re.compile("".join(_piece(piece) for piece in pieces))


def _piece(piece: str) -> str:
    if piece.isspace():
        return r"\s+"
    if piece in "([{":
        return re.escape(piece) + r"\s*"
    return (r",?\s*" if piece in ")]}" else "") + re.escape(piece)


def noticed_by(test: str, file: str, *changes: tuple[str, str, str]) -> list[Mutation]:
    """Several ways to break one file, each what, line and what is put in its place, that one test must notice."""
    return [Mutation(what, file, old, new, test) for what, old, new in changes]
