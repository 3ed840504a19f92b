"""The standard streams of a command: a closed one does no harm, one that cannot be written to is one error."""

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from typing import IO, Any, Final, cast

from mailerd.errors import MailerdError

_NAMES: Final = ("stdin", "stdout", "stderr")


class OutputError(MailerdError):
    """Standard output does not take what was to be said."""


def replace_closed_streams() -> None:
    """Put the null device in the place of each standard stream that is closed.

    Otherwise the next socket gets its number, and libuv ends the process at a socket where it looks for a terminal.
    Standard output cannot be written to there either: a key that was not seen must not pass for one that was shown.
    """
    for number, name in enumerate(_NAMES):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_WRONLY if name == "stderr" else os.O_RDONLY)  # the lowest number that is free
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
            raise OutputError(
                f"standard output cannot be written to: {error.strerror or error}; what was asked for may be done all "
                "the same, see before you ask again"
            ) from error

    def _discard_rest(self) -> None:
        """Let the rest go nowhere, or Python would try again at the end, and tell it in its own words."""
        with suppress(OSError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)


@contextmanager
def checked_output() -> Iterator[None]:
    """See to it that what is said on standard output arrives.

    An error of the command comes before one of the output: it is said on standard error, which may be heard.

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
