"""A request that cannot be served: the error that becomes its answer, and what is wrong with its
fields.

Nothing heavy is imported here: the process that reads jobs needs it, too.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from mailerd.core.i18n import N_, Text, t, tn
from mailerd.errors import MailerdError

MAX_DETAILS: Final = 100
"""Errors that are listed in one answer; the message says how many there are."""
MAX_FIELD_PATH: Final = 300
"""Characters of a field's path in an answer: a name may be as long as a body."""
MAX_COUNTED: Final = 10_000
"""Errors after which counting stops where nothing needs the rest of them."""
MAX_REASON: Final = 300
"""Characters of any reason: what is wrong may be quoted in it, and that may be as long as a
body.
"""


NOTHING_STORED: Final = N_("{message}; nothing was stored")
NOTHING_CHANGED: Final = N_("{message}; nothing was changed")


def unstored(message: str) -> Text:
    """What an answer says of a request that has stored nothing; `server.for_request` fits it to
    other requests.
    """
    return t(NOTHING_STORED, message=message)


@dataclass(frozen=True)
class FieldError:
    """One error, with the path of its field in the request: `recipients[3].email`."""

    field: str
    message: str

    def __post_init__(self) -> None:
        """Cut the message at once, so that a million of them take little memory."""
        object.__setattr__(self, "message", cut(self.message))


@dataclass
class FieldErrors:
    """The first hundred errors and the number of all: a body may have one for every few bytes."""

    kept: list[FieldError] = field(default_factory=list)
    total: int = 0

    def add(self, path: Callable[[], str], message: str) -> None:
        """Add one; its path is made only when it is kept."""
        if self.total < MAX_DETAILS:
            self.kept.append(FieldError(path(), message))
        self.total += 1

    def after(self, others: Sequence[FieldError]) -> "FieldErrors":
        """The others and these."""
        return FieldErrors([*others, *self.kept][:MAX_DETAILS], len(others) + self.total)

    @property
    def are_enough(self) -> bool:
        """Whether counting may stop."""
        return self.total > MAX_COUNTED


def cut(reason: str, most: int = MAX_REASON) -> str:
    """A reason's beginning; of a `Text` what it quotes is cut as well."""
    if len(reason) <= most:
        return reason
    english = str.__str__(reason)[: most - 1] + "…"
    if not isinstance(reason, Text):
        return english
    if reason.parts:
        parts = tuple(cut(part, most // 2) for part in reason.parts)
        return Text(english, parts=parts)
    fields = {
        name: cut(it, most // 2) if isinstance(it, str) else it
        for name, it in reason.fields.items()
    }
    return Text(english, reason.msgid, fields, reason.plural, reason.context)


class ApiError(MailerdError):
    """A request that is answered with an error; its text is the answer's `message`."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        errors: Sequence[FieldError] = (),
        retry_after: int | None = None,
        challenge: str = "",
    ) -> None:
        """`challenge`: the WWW-Authenticate of a 401, where it says more than that of every 401."""
        super().__init__(message)
        self.status = status
        self.code = code
        self.errors = errors
        self.retry_after = retry_after
        self.challenge = challenge

    @property
    def headers(self) -> dict[str, str]:
        """The headers of its answer."""
        given = {"Retry-After": self.retry_after, "WWW-Authenticate": self.challenge}
        return {name: str(value) for name, value in given.items() if value}


def invalid(errors: Sequence[FieldError] | FieldErrors) -> ApiError:
    """The 422 that names every error, or the first hundred of them and the number of all."""
    if not isinstance(errors, FieldErrors):
        errors = FieldErrors().after(errors)
    message = tn("{n:,} problem in the request", "{n:,} problems in the request", errors.total)
    if errors.are_enough:
        message = t(
            "more than {most:,} problems in the request; the first {n} are listed",
            most=MAX_COUNTED,
            n=MAX_DETAILS,
        )
    elif errors.total > MAX_DETAILS:
        message = t(
            "{total:,} problems in the request; the first {n} are listed",
            total=errors.total,
            n=MAX_DETAILS,
        )
    return ApiError(422, "invalid_request", unstored(message), errors=errors.kept)


def not_allowed(why: str) -> ApiError:
    """The 403 of a call that the key may not make."""
    return ApiError(403, "call_not_allowed", why)
