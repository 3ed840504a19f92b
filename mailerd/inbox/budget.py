"""How many of Google's units one round of reading may use, so that reading never takes what letters need."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from mailerd.core.rate_limit import UNITS
from mailerd.core.replies import Call

SHARE: Final = 0.01
"""Of its sender's units a minute, while letters wait for them."""
IDLE_SHARE: Final = 0.2
"""The same while none does, or its sender is paused: nobody else needs them."""
UNRELATED_SHARE: Final = 0.25
"""Of a round: what messages outside our threads may cost, among which are other servers' notices."""
MIN_UNITS: Final = 2 * UNITS[Call.MESSAGES_GET] + UNITS[Call.HISTORY_LIST] + UNITS[Call.GET_PROFILE]
"""A round can read one notice at least, however few units its sender has."""
_MAX_SAVED: Final = timedelta(hours=1)
"""Units of a longer rest are not saved up."""


class BudgetSpentError(Exception):
    """The round ends here, and the next one goes on."""


@dataclass
class RoundBudget:
    """What is left of one round; None: there is no limit."""

    left: float | None
    unrelated: float | None = None

    @classmethod
    def of_round(cls, units_per_minute: int, *, idle: bool, since_last: timedelta | None) -> "RoundBudget":
        """The budget of a round that comes so long after the last one."""
        if not units_per_minute:
            return cls(None)
        minutes = max(1.0, min(since_last or timedelta(0), _MAX_SAVED) / timedelta(minutes=1))
        units = max(float(MIN_UNITS), units_per_minute * (IDLE_SHARE if idle else SHARE * minutes))
        return cls(units, max(units * UNRELATED_SHARE, float(UNITS[Call.MESSAGES_GET])))

    def spend(self, call: Call, *, unrelated: bool = False) -> None:
        """Take a call's units.

        Raises:
            BudgetSpentError: there are too few left.
        """
        cost = UNITS[call]
        if self.left is None:
            return
        if cost > self.left:
            raise BudgetSpentError
        self.left -= cost
        if unrelated and self.unrelated is not None:
            self.unrelated -= cost

    @property
    def allows_unrelated(self) -> bool:
        """Whether a message outside our threads may be looked at."""
        return self.unrelated is None or self.unrelated >= UNITS[Call.MESSAGES_GET]
