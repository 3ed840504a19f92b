"""How many of Google's units one round of reading may use, so that reading never takes what letters need."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from mailerd.core.rate_limit import UNITS
from mailerd.core.replies import Call

SHARE: Final = 0.01
"""Of its sender's units a minute, while letters wait for them."""
IDLE_SHARE: Final = 0.2
"""The same while none does, or its sender is paused: no other work needs them."""
UNRELATED_SHARE: Final = 0.25
"""Of a round: what messages outside our threads may cost, among which are other servers' notices."""
NOTICE_UNITS: Final = 2 * UNITS[Call.MESSAGES_GET]
"""Of a notice: its headers, and then its body."""
MIN_ROUND: Final = NOTICE_UNITS + UNITS[Call.HISTORY_LIST] + UNITS[Call.GET_PROFILE]
"""A round begins only where it can read one notice; less would be spent again and again for nothing."""
_MINUTE: Final = timedelta(minutes=1)


class BudgetSpentError(Exception):
    """The round ends here, and the next one goes on."""


@dataclass
class RoundBudget:
    """What is left of one round; `left` None: there is no limit."""

    left: float | None
    rate: float = 0.0
    """Units a minute."""
    start: datetime | None = None
    """Up to when the units were used up before this round."""
    used: float = 0.0
    unrelated: float | None = None

    @classmethod
    def of_round(
        cls, units_per_minute: int, *, idle: bool, used_until: datetime | None, now: datetime
    ) -> "RoundBudget":
        """The budget of a round at `now`: what was saved up since `used_until`."""
        if not units_per_minute:
            return cls(None)
        rate = units_per_minute * (IDLE_SHARE if idle else SHARE)
        # A minute's share is saved up, or what one notice costs: more at once would take it from the letters.
        saved = now - max(_MINUTE, _MINUTE * (MIN_ROUND / rate))
        start = max(used_until or saved, saved)
        units = max(0.0, rate * ((now - start) / _MINUTE))
        return cls(units, rate, start, unrelated=max(units * UNRELATED_SHARE, float(UNITS[Call.MESSAGES_GET])))

    @property
    def used_until(self) -> datetime | None:
        """The same after this round; None where there is no limit."""
        return self.start + _MINUTE * (self.used / self.rate) if self.start and self.rate else None

    def require(self, units: int) -> None:
        """See that so many are left.

        Raises:
            BudgetSpentError: there are fewer.
        """
        if self.left is not None and self.left < units:
            raise BudgetSpentError

    def spend(self, call: Call, *, unrelated: bool = False) -> None:
        """Take a call's units.

        Raises:
            BudgetSpentError: there are too few left.
        """
        cost = UNITS[call]
        self.require(cost)
        if self.left is None:
            return
        self.left -= cost
        self.used += cost
        if unrelated and self.unrelated is not None:
            self.unrelated -= cost

    @property
    def allows_unrelated(self) -> bool:
        """Whether a message outside our threads may be looked at."""
        return self.unrelated is None or self.unrelated >= UNITS[Call.MESSAGES_GET]
