"""What can be wrong with a template or with one rendering of it, in words that a person can act on."""

from collections.abc import Sequence

from mailerd.errors import MailerdError


def _sayable(text: str) -> str:
    """What JSON, the log and the database take too: a template may spell a name with half a character in it."""
    return text.encode("utf-8", "backslashreplace").decode()


def _where(part: str, line: int | None) -> str:
    return part if line is None else f"{part}, line {line}"


class TemplateError(MailerdError):
    """A template cannot be used.

    `part` is "subject", "html" or "text"; `line` counts from 1 and is None where no line is to blame.
    """

    def __init__(self, reason: str, *, part: str, line: int | None) -> None:
        self.reason = _sayable(reason)
        super().__init__(f"{_where(part, line)}: {self.reason}")
        self.part = part
        self.line = line


class TemplateErrors(MailerdError):  # noqa: N818 - the plural is the point: everything that is wrong, in one answer
    """All that is wrong with a template; `errors` holds each of them."""

    def __init__(self, errors: Sequence[TemplateError]) -> None:
        super().__init__("; ".join(map(str, errors)))
        self.errors = tuple(errors)


class RenderError(MailerdError):
    """A good template and these variables do not make a letter.

    `variable` is the dotted path of what is missing or null, and "" where that is not the trouble.
    """

    def __init__(self, reason: str, *, part: str, line: int | None, variable: str = "") -> None:
        self.reason = _sayable(reason)
        super().__init__(f"{_where(part, line)}: {self.reason}")
        self.part = part
        self.line = line
        self.variable = _sayable(variable)
