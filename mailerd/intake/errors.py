"""What can be wrong with a request: the one exception that becomes an answer, and the faults that it names."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from mailerd.errors import MailerdError

DETAILS_AT_MOST: Final = 100
"""Errors that are listed in one answer; the message says how many there are."""
FIELD_AT_MOST: Final = 300
"""Characters of a field's path that are told: a name may be as long as a body."""
NOTHING_STORED: Final = "; nothing was stored"
NOTHING_CHANGED: Final = "; nothing was changed"
"""The same to whoever asked for a change of a job."""
COUNTED_AT_MOST: Final = 10_000
"""Errors after which counting stops where nothing needs the rest of them."""
REASON_AT_MOST: Final = 300
"""Characters of any reason: what is wrong may be quoted in it, and that may be as long as a body."""
RETRY_AFTER: Final = 5
"""Seconds, for Retry-After: the time in which a database that restarts is usually back."""


@dataclass(frozen=True)
class FieldError:
    """One thing that is wrong, by the path of the field in the request: `recipients[3].email`."""

    field: str
    message: str

    def __post_init__(self) -> None:
        """A reason is cut where it is made, so that a million of them are no memory to speak of."""
        object.__setattr__(self, "message", cut(self.message))


@dataclass
class FieldErrors:
    """The first hundred faults and the number of all: there may be one for every few bytes of a body."""

    kept: list[FieldError] = field(default_factory=list)
    total: int = 0

    def add(self, path: Callable[[], str], message: str) -> None:
        """One more; its path is spelled only where it is kept."""
        if self.total < DETAILS_AT_MOST:
            self.kept.append(FieldError(path(), message))
        self.total += 1

    def after(self, others: Sequence[FieldError]) -> "FieldErrors":
        """The others and these."""
        return FieldErrors([*others, *self.kept][:DETAILS_AT_MOST], len(others) + self.total)

    @property
    def are_enough(self) -> bool:
        """Whether it is known well enough that the request is bad."""
        return self.total > COUNTED_AT_MOST


def cut(reason: str) -> str:
    """A reason's beginning."""
    return reason if len(reason) <= REASON_AT_MOST else reason[: REASON_AT_MOST - 1] + "…"


class ApiError(MailerdError):
    """A request that is answered with an error; its text is the answer's `message`."""

    def __init__(
        self, status: int, code: str, message: str, *, faults: Sequence[FieldError] = (), retry_after: int | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.faults = faults
        self.retry_after = retry_after


def invalid(faults: Sequence[FieldError] | FieldErrors) -> ApiError:
    """The 422 that names every fault, or the first hundred of them and the number of all."""
    if not isinstance(faults, FieldErrors):
        faults = FieldErrors().after(faults)
    number = f"more than {COUNTED_AT_MOST:,}" if faults.are_enough else f"{faults.total:,}"
    message = f"{number} problems in the request" if faults.total != 1 else "1 problem in the request"
    if faults.total > DETAILS_AT_MOST:
        message += f", of which the first {DETAILS_AT_MOST} are listed"
        if not faults.are_enough:
            message += f", and {faults.total - DETAILS_AT_MOST:,} more"
    return ApiError(422, "invalid_request", f"{message}; nothing was stored", faults=faults.kept)


def not_found(what: str) -> ApiError:
    """The 404."""
    return ApiError(404, "not_found", what)


def too_large(message: str) -> ApiError:
    """The 413."""
    return ApiError(413, "too_large", f"{message}; nothing was stored")


def away(message: str) -> ApiError:
    """The 503 with Retry-After."""
    return ApiError(503, "database_away", message, retry_after=RETRY_AFTER)
