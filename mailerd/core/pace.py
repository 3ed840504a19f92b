"""How many letters a sender may send now: GCRA for the minute, counts by the hour for the rolling day."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

DRAFT_PAIR_UNITS: Final = 110
"""drafts.create 10 + drafts.send 100 units: https://developers.google.com/workspace/gmail/api/reference/quota"""
_MINUTE: Final = timedelta(minutes=1)
_DAY: Final = timedelta(hours=24)
_HOUR: Final = timedelta(hours=1)
_BURST_SHARE: Final = 0.03
"""How much of a minute's allowance may be used at once. What is left is the steady rate, so that the burst and 60 s
of the steady rate together never exceed the allowance in any window of 60 s."""


@dataclass(frozen=True)
class Allowance:
    """A sender's limits; 0 means none."""

    units_per_minute: int
    per_minute: int
    per_day: int


@dataclass(frozen=True)
class Budget:
    """What may be claimed now."""

    letters: int | None
    """None means no limit."""
    next_at: datetime | None
    """When one more letter may be claimed; None: it is not known to be limited."""


def _rate(allowance: Allowance, units: int) -> tuple[timedelta, timedelta] | None:
    """The emission interval and the burst tolerance of the tighter of the two limits of the minute."""
    best: tuple[timedelta, timedelta] | None = None
    for limit, cost in ((allowance.units_per_minute, units), (allowance.per_minute, 1)):
        if limit:
            burst = max(cost, limit * _BURST_SHARE)
            steady = limit - burst if limit >= 2 * cost else limit
            interval = _MINUTE * (cost / steady)
            if best is None or interval > best[0]:
                best = (interval, _MINUTE * (burst / steady))
    return best


def minute(allowance: Allowance, *, tat: datetime | None, now: datetime, units: int = DRAFT_PAIR_UNITS) -> Budget:
    """How many letters of `units` each the minute allows at `now`, given the theoretical arrival time `tat`.

    The generic cell rate algorithm, https://en.wikipedia.org/wiki/Generic_cell_rate_algorithm
    """
    if (rate := _rate(allowance, units)) is None:
        return Budget(letters=None, next_at=None)
    interval, tolerance = rate
    start = max(tat or now, now)
    letters = int((now + tolerance - start) / interval)
    return Budget(letters=letters, next_at=start + interval * (letters + 1) - tolerance)


def debit(
    allowance: Allowance, *, tat: datetime | None, now: datetime, letters: int, units: int = DRAFT_PAIR_UNITS
) -> datetime | None:
    """The theoretical arrival time after `letters` more."""
    if (rate := _rate(allowance, units)) is None:
        return tat
    return max(tat or now, now) + rate[0] * letters


def day(allowance: Allowance, *, hours: Mapping[datetime, int], now: datetime) -> Budget:
    """How many letters the rolling 24 hours allow, given the letters by clock hour.

    The oldest hour counts whole until all of it is out of the window: never more than the limit, at most an hour late.
    """
    if not allowance.per_day:
        return Budget(letters=None, next_at=None)
    within = {hour: letters for hour, letters in hours.items() if hour + _HOUR > now - _DAY and letters}
    left = allowance.per_day - sum(within.values())
    if left > 0:
        return Budget(letters=left, next_at=None)
    for hour in sorted(within):
        left += within[hour]
        if left > 0:
            return Budget(letters=0, next_at=hour + _HOUR + _DAY)
    return Budget(letters=0, next_at=now + _DAY)
