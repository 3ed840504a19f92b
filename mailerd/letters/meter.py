"""The bounds of one rendering: every loop, every long text and every large number is paid for from one purse."""

from collections.abc import Iterable, MutableMapping
from typing import Any

from jinja2 import Environment
from jinja2.runtime import Context
from markupsafe import Markup

MAX_STEPS = 100_000
"""Steps that one rendering of one part may take; a step is about a microsecond."""
MAX_VALUE = 1_000_000
"""Characters of the longest text that an expression may make."""
MAX_OUTPUT = 5_000_000
"""Characters of a rendered body; Gmail clips a letter far below that, at about 102 KB."""
MAX_BITS = 256
"""Size of the largest whole number that arithmetic may make."""
NODES_PER_STEP = 4
"""Parts of a loop's body (names, constants, filters …) that one step pays for."""
CHARACTERS_PER_STEP = 64
"""Characters that one step copies, compares or searches, with a wide margin."""


class TooMuchError(Exception):
    """A rendering went over one of its bounds; the text says which."""


class NullError(Exception):
    """A value that must be there is null; `path` is its name in the template, or "" when that is not known here."""

    def __init__(self, path: str = "") -> None:
        super().__init__(path)
        self.path = path


class Meter:
    """What is left of one rendering's steps."""

    __slots__ = ("_left",)

    def __init__(self) -> None:
        self._left = MAX_STEPS

    def pay(self, steps: int) -> None:
        """Take steps from the purse.

        Raises:
            TooMuchError: there are not so many left.
        """
        self._left -= steps
        if self._left < 0:
            raise TooMuchError(f"needs more than {MAX_STEPS} steps; loop over fewer things")

    def weigh(self, value: object) -> None:
        """Pay for reading the whole of a value once, what is nested in it included.

        The walk itself is paid for, because `[x, x]` nested thirty deep is small to hold and endless to read.
        """
        heap = [value]
        while heap:
            item = heap.pop()
            if isinstance(item, str):
                self.pay(len(item) // CHARACTERS_PER_STEP)
            elif isinstance(item, list | tuple):
                self.pay(1 + len(item))
                heap.extend(item)
            elif isinstance(item, dict):
                self.pay(1 + 2 * len(item))
                heap.extend(item)
                heap.extend(item.values())
            elif isinstance(item, range):
                self.pay(1 + len(item))

    def room_for(self, characters: int) -> None:
        """Pay for a text of that length before it is made.

        Raises:
            TooMuchError: it would be longer than `MAX_VALUE`.
        """
        if characters > MAX_VALUE:
            raise TooMuchError(f"makes a text of more than {MAX_VALUE} characters")
        self.pay(characters // CHARACTERS_PER_STEP)

    def joined(self, parts: Iterable[str], *, separator: str = "") -> str:
        """The parts as one text, paid for before it is made; markup stays markup and what is not gets escaped."""
        pieces = list(parts)
        self.room_for(sum(map(len, pieces)) + len(separator) * len(pieces))
        if isinstance(separator, Markup) or any(isinstance(piece, Markup) for piece in pieces):
            return Markup.escape(separator).join(pieces)
        return separator.join(pieces)


class MeteredContext(Context):
    """Jinja's context of one rendering, with its meter; made anew for each, so threads share nothing."""

    def __init__(
        self,
        environment: Environment,
        parent: dict[str, Any],
        name: str | None,
        blocks: dict[str, Any],
        globals: MutableMapping[str, Any] | None = None,  # noqa: A002 - Jinja's own signature
    ) -> None:
        super().__init__(environment, parent, name, blocks, globals)
        self.meter = Meter()
