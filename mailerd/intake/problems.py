"""What can be wrong with a request: the one exception that becomes an answer, and the faults that it names."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

from mailerd.errors import MailerdError

DETAILS_AT_MOST: Final = 100
"""Faults that are listed in one answer; the message says how many there are."""
FIELD_AT_MOST: Final = 300
"""Characters of a field's path that are told: a name may be as long as a body."""
NOTHING_STORED: Final = "; nothing was stored"
NOTHING_CHANGED: Final = "; nothing was changed"
"""The same to whoever asked for a change of a job."""
RETRY_AFTER: Final = 5
"""Seconds, for Retry-After: the time in which a database that restarts is usually back."""


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong, by the path of the field in the request: `recipients[3].email`."""

    field: str
    message: str


class ProblemError(MailerdError):
    """A request that is answered with an error; its text is the answer's `message`."""

    def __init__(
        self, status: int, code: str, message: str, *, faults: Sequence[Fault] = (), retry_after: int | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.faults = faults
        self.retry_after = retry_after


def invalid(faults: Iterable[Fault]) -> ProblemError:
    """The 422 that names every fault, or the first hundred of them and the number of all.

    What comes after those is counted and not kept: there may be one for every few bytes of a body.
    """
    more = iter(faults)
    listed = list(islice(more, DETAILS_AT_MOST))
    total = len(listed) + sum(1 for _ in more)
    message = f"{total:,} problems in the request" if total != 1 else "1 problem in the request"
    if total > DETAILS_AT_MOST:
        message += f", of which the first {DETAILS_AT_MOST} are listed"
    return ProblemError(422, "invalid_request", f"{message}; nothing was stored", faults=listed)


def not_found(what: str) -> ProblemError:
    """The 404."""
    return ProblemError(404, "not_found", what)


def too_large(message: str) -> ProblemError:
    """The 413."""
    return ProblemError(413, "too_large", f"{message}; nothing was stored")


def away(message: str) -> ProblemError:
    """The 503 with Retry-After."""
    return ProblemError(503, "database_away", message, retry_after=RETRY_AFTER)
