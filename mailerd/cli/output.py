"""What the commands show: texts, tables, JSON, what can be shown only once; and the streams they
write to.
"""

import io
import json
import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout, suppress
from datetime import datetime
from typing import IO, Annotated, Any, Final, Literal, Protocol, cast

import typer
from rich.cells import cell_len

from mailerd.core.i18n import UNSEEN, t, visible
from mailerd.errors import MailerdError
from mailerd.locale import say

# The standard streams of a command: a closed one does no harm, one that cannot be written to is one
# error.

_NAMES: Final = ("stdin", "stdout", "stderr")


class OutputError(MailerdError):
    """Standard output does not take what was to be said."""


def replace_closed_streams() -> None:
    """Put the null device in the place of each standard stream that is closed.

    Otherwise the next socket gets its number, and libuv ends the process at a socket where it looks
    for a terminal. Standard output cannot be written to there either: a key that was not seen must
    not pass for one that was shown.
    """
    for number, name in enumerate(_NAMES):
        try:
            os.fstat(number)
        except OSError:
            # the lowest number that is free
            os.open(os.devnull, os.O_WRONLY if name == "stderr" else os.O_RDONLY)
            mode = "r" if name == "stdin" else "w"
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115 - stays open


def escape_what_cannot_be_shown() -> None:
    """Let standard output write what its encoding lacks as an escape, as standard error does.

    A terminal may speak GBK or Latin-1: no command may die of a name or a sign that it shows there.
    """
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")


class _Output:
    """Standard output, whose trouble has a name."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        # typer finds out so which stream it is, and would not hear that the disk is full
        if text == "":
            return 0
        with self._named_errors():
            return self._stream.write(text)

    def flush(self) -> None:
        with self._named_errors():
            self._stream.flush()

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._discard_rest()
            if isinstance(error, BrokenPipeError):  # the reader has seen enough: that is no error
                raise
            cause = error.strerror or str(error)
            raise OutputError(
                t(
                    "could not write to standard output: {cause}. The change may have been made; check before you "
                    "repeat it",
                    cause=cause,
                )
            ) from error

    def _discard_rest(self) -> None:
        """Let the rest go nowhere, or Python would try again at the end, and tell it in its own
        words.
        """
        with suppress(OSError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)


@contextmanager
def checked_output() -> Iterator[None]:
    """See to it that what is said on standard output arrives.

    An error of the command comes before one of the output: it is said on standard error, which may
    be heard.

    Raises:
        OutputError: it does not.
        BrokenPipeError: its reader has gone.
    """
    output = _Output(sys.stdout)
    with redirect_stdout(cast("IO[str]", output)):
        try:
            yield
        except MailerdError:
            with suppress(OutputError, BrokenPipeError):
                output.flush()
            raise
        finally:
            output.flush()


def harmless(text: str) -> str:
    """A text in the language of this command, in which strangers' words move no cursor; its line
    feeds stay.

    Everything that a command prints for people goes through here: by `echo`, or by `console`.
    """
    return "\n".join(map(visible, say(text).split("\n")))


def echo(text: str = "", *, err: bool = False, flush: bool = False) -> None:
    """Print a text in the language of this command; `err`: on standard error."""
    print(harmless(text), file=sys.stderr if err else sys.stdout, flush=flush)


_PIECE: Final = re.compile(r"[（“]*(?:[\x21-\u2e7f]+|.)[，。；：、）？！”]*\s*")
"""A word, or one Chinese character, with the marks that neither end a line before it nor begin one
behind it.
"""


def broken(text: str, width: int, *, indent: str = "") -> list[str]:
    """A line in lines of that many columns, indented from the second on; words and commands stay
    whole.

    Chinese has no spaces: it is broken behind any character, each of which takes two columns.
    """
    lines = [""]
    for piece in _PIECE.findall(text):
        if lines[-1].strip() and cell_len(lines[-1] + piece.rstrip()) > width:
            lines.append(indent)
        lines[-1] += piece if lines[-1].strip() else piece.lstrip()
    return [each.rstrip() for each in lines]


JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object, for programs.")]
WideOption = Annotated[bool, typer.Option("--wide", help="Show every column, as in a pipe.")]


def narrow(*, wide: bool) -> bool:
    """Whether a list has to fit into a window: a pipe gets every column."""
    return sys.stdout.isatty() and not wide


_IN_JSON: Final = {code: f"\\u{code:04x}" for code in UNSEEN if code >= 127}  # noqa: PLR2004 - JSON escapes the rest


class _Model(Protocol):
    """A model of pydantic, which is slow to import."""

    def model_dump(self, *, mode: Literal["json"]) -> dict[str, Any]:
        """It as JSON has it."""


def as_text(found: Mapping[str, object] | _Model) -> str:
    """An object as JSON, as the API shows it; what standard output cannot write is escaped."""
    shown = found if isinstance(found, Mapping) else found.model_dump(mode="json")
    speaks_unicode = (sys.stdout.encoding or "").lower().startswith("utf")
    return json.dumps(shown, ensure_ascii=not speaks_unicode, indent=2, default=_moment).translate(
        _IN_JSON
    )


def _moment(it: datetime) -> str:
    return it.isoformat().replace("+00:00", "Z")


def print_json(found: Mapping[str, object] | _Model) -> None:
    """Show one object as JSON: a program finds all of it, and what is new later, by its name."""
    print(as_text(found))


def print_once(words: str, *, or_else: str) -> None:
    """Say what cannot be said again; `or_else`: what to do where that fails.

    Raises:
        MailerdError: it could not be said.
    """
    try:
        echo(words, flush=True)
    except (OutputError, BrokenPipeError) as error:
        raise MailerdError(t("{what} ({cause})", what=or_else, cause=str(error))) from error


def in_utc(moment: datetime | None) -> str:
    """A moment to the second; "" for none."""
    return "" if moment is None else moment.strftime("%Y-%m-%d %H:%M:%SZ")
