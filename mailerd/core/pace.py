"""How many letters a sender may send now: GCRA for the minute, counts by the hour for the rolling day."""

import math
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
"""How much of a minute's letters may go at once; one letter always may."""


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
    """When one more letter than that may be claimed; None: it is not known to be limited."""


def _rate(allowance: Allowance, units: int) -> tuple[timedelta, timedelta] | None:
    """The emission interval T and the burst tolerance of the tighter of the two limits of the minute.

    With a tolerance of B intervals, the letters N of any 60 s obey N < 60 s / T + B. So T = 60 s / (fits + 1 - B) is
    the shortest interval at which no window ever has more than the whole letters that fit into a minute.
    """
    limits = [(allowance.units_per_minute, units), (allowance.per_minute, 1)]
    fits = min((limit // cost or limit / cost for limit, cost in limits if limit), default=None)
    if fits is None:
        return None
    if fits < 1:  # not even one letter fits: one goes whenever as many minutes have passed as it costs
        return _MINUTE / fits, _MINUTE / fits
    burst = max(1.0, fits * _BURST_SHARE)
    # Rounded to the safe side: a microsecond saved on each of many letters would let one too many in.
    micros = math.ceil(_MINUTE / timedelta(microseconds=1) / (fits + 1 - burst))
    return timedelta(microseconds=micros), timedelta(microseconds=math.floor(micros * burst))


def minute(allowance: Allowance, *, tat: datetime | None, now: datetime, units: int = DRAFT_PAIR_UNITS) -> Budget:
    """How many letters of `units` each the minute allows at `now`, given the theoretical arrival time `tat`.

    The generic cell rate algorithm, https://en.wikipedia.org/wiki/Generic_cell_rate_algorithm
    """
    if (rate := _rate(allowance, units)) is None:
        return Budget(letters=None, next_at=None)
    interval, tolerance = rate
    start = max(tat or now, now)
    letters = max(0, (now + tolerance - start) // interval)
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
    leaving = iter(sorted(within))
    hour = next(leaving)  # there is one, and enough of them: without any, all of the limit is left
    while (left := left + within[hour]) < 1:
        hour = next(leaving)
    return Budget(letters=0, next_at=hour + _HOUR + _DAY)
