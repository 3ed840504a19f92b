"""How many of Google's units reading an inbox may use, so that it never takes what letters need.

The budget knows the units of each round and when it ended. Units that were used in the last minute cannot be used
again, so no minute holds more than the share, wherever it begins. (A bucket that saves a minute's share up lets twice
as much into one minute: what was saved, and what comes in meanwhile.) The same holds for any 24 hours.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from mailerd.core.rate_limit import UNITS
from mailerd.core.replies import Call

SHARE: Final = 0.01
"""The share of a sender's units for reading, in a minute in which letters wait for units, and in any 24 hours."""
IDLE_SHARE: Final = 0.2
"""The share in a minute in which no letter waits for units, or the sender is paused: no other work needs them."""
NOTICE_UNITS: Final = 2 * UNITS[Call.MESSAGES_GET]
"""Units that reading a notice takes: its headers, and then its body."""
MIN_ROUND: Final = NOTICE_UNITS + UNITS[Call.HISTORY_LIST] + UNITS[Call.GET_PROFILE]
"""A round begins only where it can read one notice; less would be spent again and again for nothing."""
_MIN_UNITS: Final = 60.0
"""The least budget of a sender with few units, for more than a minute: one notice, and some empty queries."""
_MINUTE: Final = timedelta(minutes=1)
DAY: Final = timedelta(days=1)


class BudgetSpentError(Exception):
    """The round ends here, and the next one goes on."""


@dataclass
class RoundBudget:
    """What is left of one round; `left` None: there is no limit."""

    left: float | None
    used: int = 0

    @classmethod
    def of_round(
        cls, units_per_minute: int, *, idle: bool, spent: Iterable[tuple[datetime, int]], today: int, now: datetime
    ) -> "RoundBudget":
        """The budget of a round at `now`.

        `spent`: when the rounds of late ended, and what each of them used; `today`: what those of 24 hours have used.
        """
        if not units_per_minute:
            return cls(None)
        units, span = _allowance(units_per_minute, IDLE_SHARE if idle else SHARE)
        of_minute = units - sum(used for at, used in spent if at > now - span)
        return cls(max(0.0, min(of_minute, units_per_minute * SHARE * (DAY / _MINUTE) - today)))

    def require(self, units: int) -> None:
        """See that so many are left.

        Raises:
            BudgetSpentError: there are fewer.
        """
        if self.left is not None and self.left < units:
            raise BudgetSpentError

    def spend(self, call: Call) -> None:
        """Take a call's units.

        Raises:
            BudgetSpentError: there are too few left.
        """
        cost = UNITS[call]
        self.require(cost)
        self.used += cost
        if self.left is not None:
            self.left -= cost


def counted_for(units_per_minute: int) -> timedelta:
    """For how long the units of a round count, beside the day."""
    return _allowance(units_per_minute, SHARE)[1] if units_per_minute else timedelta(0)


def most_of_round(units_per_minute: int) -> int:
    """The most that one round can have used."""
    return math.ceil(_allowance(units_per_minute, IDLE_SHARE)[0]) if units_per_minute else 0


def _allowance(units_per_minute: int, share: float) -> tuple[float, timedelta]:
    """So many units in any such time."""
    a_minute = units_per_minute * share
    units = max(a_minute, _MIN_UNITS)
    return units, _MINUTE * (units / a_minute)
