"""How much a sender may send now: GCRA for the minute, counts by the hour for the rolling day."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final

from mailerd.core.replies import Call

UNITS: Final[Mapping[Call, int]] = {
    Call.TOKEN: 0,
    Call.DRAFTS_CREATE: 10,
    Call.DRAFTS_SEND: 100,
    Call.DRAFTS_GET: 20,
    Call.DRAFTS_LIST: 5,
    Call.DRAFTS_DELETE: 10,
    Call.MESSAGES_SEND: 100,
    Call.MESSAGES_GET: 20,
    Call.MESSAGES_LIST: 5,
    Call.THREADS_GET: 40,
    Call.GET_PROFILE: 1,
}
"""What Google charges for a call: https://developers.google.com/workspace/gmail/api/reference/quota"""
DRAFT_PAIR_UNITS: Final = UNITS[Call.DRAFTS_CREATE] + UNITS[Call.DRAFTS_SEND]
DIRECT_UNITS: Final = UNITS[Call.MESSAGES_SEND]
CONSUMER_DOMAINS: Final = frozenset({"gmail.com", "googlemail.com"})
FOR_EVER: Final = datetime(9999, 12, 31, tzinfo=UTC)
"""The end of a pause that lasts until somebody ends it."""
_MINUTE: Final = timedelta(minutes=1)
_DAY: Final = timedelta(hours=24)
_HOUR: Final = timedelta(hours=1)
_BURST_SHARE: Final = 0.005
"""How much of a minute's letters may go at once beyond the one that always may: 0.3 s of a claim that came late."""
_SLACK_SHARE: Final = 0.025
"""How much of a minute is left unused, since letters are counted when claimed and at Google when they arrive: 1.5 s of
difference between the quick letters and the slow ones."""
_PROJECT_BURST: Final = 0.02
"""The same for a project, whose claims come in bunches of many letters."""
_GROWS_EVERY: Final = timedelta(minutes=1)
_FORGOTTEN_AFTER: Final = timedelta(minutes=30)
_GAP_JITTER: Final = 0.5


@dataclass(frozen=True)
class Allowance:
    """A sender's limits; 0 means none."""

    units_per_minute: int
    per_minute: int
    per_day: int
    reserve: int = 0
    """Letters of the day that are left to the person."""
    min_gap: float = 0.0
    """Seconds between two letters at least."""
    warm_up: int = 0
    """Letters of the first day, when a new sender is to start slowly."""
    warm_up_growth: int = 0
    """So many letters more on each day after."""

    def on(self, now: datetime, *, since: datetime) -> "Allowance":
        """What holds at `now` for a sender that began at `since`: reserve and warm-up are worked into `per_day`.

        At least one letter a day remains, since 0 would mean that there is no limit.
        """
        limits = [self.per_day - self.reserve] if self.per_day else []
        if self.warm_up:
            limits.append(self.warm_up + self.warm_up_growth * max(0, (now - since) // _DAY))
        per_day = max(1, min(limits)) if limits else 0
        return replace(self, per_day=per_day, reserve=0, warm_up=0, warm_up_growth=0)


@dataclass(frozen=True)
class Budget:
    """What may be claimed now."""

    letters: int | None
    """None means no limit."""
    next_at: datetime | None
    """When one more letter than that may be claimed; None: it is not known to be limited."""


@dataclass(frozen=True)
class Rate:
    """The minute as a stream: one letter every `interval`, and at most `tolerance` ahead of that."""

    interval: timedelta
    tolerance: timedelta
    whole: bool
    """Whether a call that costs less than a letter must be counted as one, or a minute could have too much of both."""


def rate(allowance: Allowance, *, units: int = DRAFT_PAIR_UNITS) -> Rate | None:
    """The stream of letters of so many `units` each that the tighter of the minute's two limits allows; None: no limit.

    With a tolerance of B intervals, the letters N of any 60 s obey N < 60 s / T + B. So T = 60 s / (fits + 1 - B) is
    the shortest interval at which no window ever has more than the whole letters that fit into a minute. The slack
    makes it a little longer.
    """
    limits = [(allowance.units_per_minute, units), (allowance.per_minute, 1)]
    tight = min(((limit // cost or limit / cost, limit / cost) for limit, cost in limits if limit), default=None)
    if tight is None:
        return None
    fits, exact = tight
    if fits < 1:  # not even one letter fits: one goes whenever as many minutes have passed as it costs
        return Rate(_MINUTE / fits, _MINUTE / fits, whole=True)
    burst, slack = 1 + fits * _BURST_SHARE, fits * _SLACK_SHARE
    # Rounded to the safe side: a microsecond saved on each of many letters would let one too many in.
    micros = math.ceil(_MINUTE / timedelta(microseconds=1) / (fits + 1 - burst - slack))
    tolerance = timedelta(microseconds=math.floor(micros * burst))
    return Rate(timedelta(microseconds=micros), tolerance, whole=fits + 1 - slack > exact)


def minute(allowance: Allowance, *, tat: datetime | None, now: datetime, units: int = DRAFT_PAIR_UNITS) -> Budget:
    """How many letters of `units` each the minute allows at `now`, given the theoretical arrival time `tat`.

    The generic cell rate algorithm, https://en.wikipedia.org/wiki/Generic_cell_rate_algorithm
    """
    if (stream := rate(allowance, units=units)) is None:
        return Budget(letters=None, next_at=None)
    start = max(tat or now, now)
    letters = max(0, (now + stream.tolerance - start) // stream.interval)
    return Budget(letters=letters, next_at=start + stream.interval * (letters + 1) - stream.tolerance)


def debit(
    allowance: Allowance, *, tat: datetime | None, now: datetime, letters: int, units: int = DRAFT_PAIR_UNITS
) -> datetime | None:
    """The theoretical arrival time after `letters` more."""
    if (stream := rate(allowance, units=units)) is None:
        return tat
    return max(tat or now, now) + stream.interval * letters


def call(
    allowance: Allowance, *, tat: datetime | None, now: datetime, cost: int, units: int = DRAFT_PAIR_UNITS
) -> tuple[datetime | None, timedelta]:
    """A call of `cost` units beside the letters: the arrival time after it, and how long it has to wait for that."""
    stream = rate(allowance, units=units)
    if stream is None or not allowance.units_per_minute:
        return tat, timedelta(0)
    share = math.ceil(cost / units) if stream.whole else cost / units
    after = max(tat or now, now) + stream.interval * share
    return after, max(timedelta(0), after - stream.tolerance - now)


def _project_stream(units_per_minute: int) -> tuple[float, float]:
    """Units a minute, and units that may go at once: together less than the limit in any 60 s, by the slack."""
    burst = max(units_per_minute * _PROJECT_BURST, float(DRAFT_PAIR_UNITS))
    return max(units_per_minute * (1 - _SLACK_SHARE) - burst, units_per_minute / 10), burst


def project(units_per_minute: int, *, tat: datetime | None, now: datetime, units: int = DRAFT_PAIR_UNITS) -> Budget:
    """How many letters (or calls) of `units` each all senders of a Cloud project together may claim; 0: no limit."""
    if not units_per_minute:
        return Budget(letters=None, next_at=None)
    stream, burst = _project_stream(units_per_minute)
    interval, tolerance = _MINUTE * (units / stream), _MINUTE * (burst / stream)
    start = max(tat or now, now)
    letters = max(0, (now + tolerance - start) // interval)
    return Budget(letters=letters, next_at=start + interval * (letters + 1) - tolerance)


def project_debit(units_per_minute: int, *, tat: datetime | None, now: datetime, units: int) -> datetime | None:
    """The project's theoretical arrival time after `units` more."""
    if not units_per_minute:
        return tat
    return max(tat or now, now) + _MINUTE * (units / _project_stream(units_per_minute)[0])


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


def gap(allowance: Allowance, *, now: datetime, chance: float) -> datetime | None:
    """When the next letter may go after one at `now`: the smallest gap and up to half of it more."""
    if not allowance.min_gap:
        return None
    return now + timedelta(seconds=allowance.min_gap * (1 + _GAP_JITTER * chance))


def mean_gap(allowance: Allowance) -> timedelta:
    """What lies between two letters on the average because of the smallest gap."""
    return timedelta(seconds=allowance.min_gap * (1 + _GAP_JITTER / 2))


def concurrency(limit: int | None, *, since: datetime | None, now: datetime) -> int | None:
    """Letters in hand at most, for all daemons together: what was set at `since` and one more for each minute.

    None means no limit; half an hour after Google last complained there is none.
    """
    if limit is None or since is None or now - since >= _FORGOTTEN_AFTER:
        return None
    return limit + max(0, (now - since) // _GROWS_EVERY)
