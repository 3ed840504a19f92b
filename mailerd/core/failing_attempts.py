"""How the newest attempts of a sender went."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from mailerd.core.reasons import cause_code

NEWEST: Final = 20
"""The newest attempts of a sender that tell how it goes."""


MOSTLY: Final = 3
"""So many of them, and more than half, have to fail where the one before the last did not."""


RECENT: Final = timedelta(minutes=10)
"""How far back attempts tell how it goes now."""


GOOGLE_SILENT: Final = frozenset({"google_silent"})
"""Codes of reasons that mean: a request went out, and no response came; the attempt counts."""


GOOGLE_UNREACHABLE: Final = frozenset(
    {"google_unreachable", "no_access_token", "token_endpoint_unavailable"}
)
"""Codes of reasons that mean: nothing was sent, and the attempt does not count."""


@dataclass(frozen=True)
class Attempted:
    """What came of an attempt."""

    at: datetime
    reason: str | None
    """Why nothing was sent; None: it was."""
    recipient: int
    open: bool = True
    """The message is not finished."""


@dataclass(frozen=True)
class FailingAttempts:
    """The newest attempts of a sender, most of which failed."""

    failed: int
    tried: int
    reason: str
    """The newest one: an older one may be fixed."""
    since: datetime
    example: int
    """The recipient of the newest one; 0: the key that asks may not see it."""

    @property
    def nothing_sent(self) -> bool:
        """Whether all of them failed."""
        return self.failed == self.tried


_REQUEST_LASTS: Final = timedelta(seconds=30)
"""How long a request waits for its response; gmail.request_timeout has the same default."""


def failing(newest: Sequence[Attempted]) -> FailingAttempts | None:
    """Whether a sender's attempts fail, the newest first; None: they do not, or it does not matter
    any more.

    The last two failed, or the last one since Google cannot be reached, which took long to be
    known; or most did. Responses that were lost while others came are unconfirmed messages, and no
    more.
    """
    newest = newest[:NEWEST]
    run = next((number for number, it in enumerate(newest) if it.reason is None), len(newest))
    if not run or not newest[0].open:
        return None
    reason = newest[0].reason or ""
    # A request without a response ends only when its time is over: what was sent meanwhile stands
    # behind it.
    meanwhile = newest[0].at - _REQUEST_LASTS
    if cause_code(reason) in GOOGLE_SILENT and any(
        it.reason is None and it.at > meanwhile for it in newest
    ):
        return None
    failed = list(newest[:run])
    tried = run
    if run == 1 and cause_code(reason) not in GOOGLE_UNREACHABLE:
        failed, tried = [it for it in newest if it.reason is not None], len(newest)
        if len(failed) < MOSTLY or 2 * len(failed) <= tried:
            return None
    return FailingAttempts(len(failed), tried, reason, failed[-1].at, newest[0].recipient)
