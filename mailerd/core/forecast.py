"""When a job will be done: simulates the sender's limits, hour by hour, for all letters up to the job's last."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from mailerd.core import rate_limit
from mailerd.core.pauses import hold_reason
from mailerd.core.rate_limit import SenderLimits

_HOUR: Final = timedelta(hours=1)
_DAY: Final = timedelta(hours=24)
_NO_TIME: Final = timedelta(0)
_STEPS: Final = 4000
"""Hours and waits that are simulated at most: half a year."""
_ROUNDING: Final = 1e-6
"""Less than this of a letter is none."""
_A_STOP: Final = timedelta(minutes=15)
"""A wait of this length or more divides two send windows."""
_AT_ONCE: Final = timedelta(minutes=1)
_WEEK: Final = timedelta(days=6)


@dataclass(frozen=True)
class Queued:
    """Another job of the same sender that is served before this one, or in turn with it."""

    letters: int
    first: bool
    """It has a higher priority, so all its letters go first. Otherwise the two jobs take turns, letter by letter."""
    due: datetime
    last: bool = False
    """It has a lower priority: its letters go while none of the other job's is due."""


@dataclass(frozen=True)
class ForecastInputs:
    """What is known at `now` of a job, its sender and the sender's other letters."""

    now: datetime
    letters: int
    """How many letters of the job wait."""
    due: datetime
    """When the first of these letters is due."""
    queue: tuple[Queued, ...]
    limits: SenderLimits
    since: datetime
    """When the sender's warm-up began."""
    units: int
    """How many units one letter costs."""
    tat: datetime | None
    hours: Mapping[datetime, int]
    gap_until: datetime | None
    paused_until: datetime | None
    """The end of the pause; None when the sender is not paused now."""
    pause_cause: str | None = None
    pause_reason: str | None = None
    last_due: datetime | None = None
    """When the last of these letters is due, where some were put off; None: all are due together."""
    error: str | None = None
    """The error of the last attempt of the letter that is due first."""
    job_paused: bool = False
    job_reason: str | None = None
    """Why the job is paused, and what to do, if not by a person."""
    braked_until: datetime | None = None
    """Until when the job waits, since what came back of it is read first."""
    unresolved: "UnresolvedSends | None" = None
    next_claim_at: datetime | None = None
    """When the next claim considers the sender."""
    repair: str | None = None
    """What a person has to do before a letter of the sender can go; None: nothing."""
    measured: float = 0.0
    """How many letters the sender sent in the last minute, if no limit says how many it may; 0: not known."""
    queue_cut_off: bool = False
    """There may be more jobs before or beside it than those in `queue`."""


@dataclass(frozen=True)
class UnresolvedSends:
    """The job's unsure letters."""

    letters: int
    manual: int
    """How many of them no check can resolve: a person has to settle them."""
    look_at: datetime | None
    """When the first of the other letters is checked."""


@dataclass(frozen=True)
class SendWindow:
    """Letters of the job that go one after the other without a stop."""

    begins: datetime
    ends: datetime
    letters: int


@dataclass(frozen=True)
class Forecast:
    """When the letters of a job go."""

    windows: tuple[SendWindow, ...]
    whole: bool
    """Whether the end was computed; False: it is too far away, or the queue before it is too long to be read."""
    queued_before: int
    """How many letters of other jobs go before the last letter of this job."""
    per_minute: float | None
    """How many letters of the sender go in a minute; None: as fast as Google answers."""
    until: str = ""
    """What has to happen before any letter goes and any time can be named."""

    @property
    def starts_at(self) -> datetime | None:
        """When the first letter goes."""
        return self.windows[0].begins if self.windows else None

    @property
    def done_at(self) -> datetime | None:
        """When the last one goes."""
        return self.windows[-1].ends if self.windows and self.whole else None


def compute_forecast(it: ForecastInputs) -> Forecast:
    """Simulate the sender's limits. Jobs that are yet to be posted and unsure letters are not considered."""
    held = "the sender is resumed" if it.paused_until == rate_limit.FOREVER else None
    if event := "the job is resumed" if it.job_paused else it.repair or held:
        return Forecast((), whole=False, queued_before=0, per_minute=None, until=event)
    return _Play(it).forecast()


class _Play:
    """The sender's letters, one after the other, up to the last one of the job."""

    def __init__(self, it: ForecastInputs) -> None:
        self._it = it
        self._at = _start(it, it.limits.on(it.now, since=it.since))
        self._hours = dict(it.hours)
        self._due = max(it.due, it.now)
        self._left = it.letters
        self._coming = sorted(it.queue, key=lambda other: other.due, reverse=True)
        """Jobs whose time has not come."""
        self._first = self._last = 0
        """Letters that are due and go before the job's; and those that go while none of the job's is due."""
        self._beside: list[float] = []
        """Letters of each job that takes turns with it; once it is due, no more than go before its own last one."""
        self._begun = False
        self._others = 0
        self._share = 0.0
        """What the job's share has beyond whole letters."""
        self._windows: list[SendWindow] = []

    def forecast(self) -> Forecast:
        """The end of the play."""
        for _ in range(_STEPS):
            if self._left <= 0:
                break
            self._step()
        last_due, windows = self._it.last_due, self._windows
        if last_due and windows and windows[-1].ends < last_due:
            windows[-1] = replace(windows[-1], ends=last_due)
        interval = _interval(self._it, self._it.limits.on(self._it.now, since=self._it.since))
        per_minute = timedelta(minutes=1) / interval if interval else None
        whole = self._left <= 0 and not self._it.queue_cut_off
        return Forecast(tuple(windows), whole, self._others, per_minute)

    def _step(self) -> None:
        """Send what goes within this hour and before another job is due; or let the time go on to the next letter."""
        it, at = self._it, self._at
        self._arrive()
        beside = math.ceil(sum(self._beside) - _ROUNDING)
        ready = self._first or (self._left if self._begun else 0) + beside or self._last
        ends = [other.due for other in self._coming[-1:]] + ([] if self._begun else [self._due])
        if not ready:
            self._at = min(ends)
            return
        allowance = it.limits.on(at, since=it.since)
        self._hours = {hour: number for hour, number in self._hours.items() if hour > at - _DAY - _HOUR}
        today = rate_limit.day(allowance, hours=self._hours, now=at)
        if today.letters == 0 and today.next_at:
            self._at = min(today.next_at, _growth(it, at))
            return
        hour = at.replace(minute=0, second=0, microsecond=0)
        interval = _interval(it, allowance)
        number = ready if today.letters is None else min(ready, today.letters)
        if interval:
            if it.limits.standard and at < rate_limit.STANDARD_PACE_FROM:
                ends.append(rate_limit.STANDARD_PACE_FROM)
            number = min(number, 1 + (hour + _HOUR - at) // interval, *(-((at - end) // interval) for end in ends))
        self._hours[hour] = self._hours.get(hour, 0) + number
        self._send(number, at + interval * (number - 1))
        self._at += interval * number

    def _arrive(self) -> None:
        """Let begin what is due."""
        if not self._begun and self._due <= self._at:
            self._begun, self._beside = True, [min(letters, self._left) for letters in self._beside]
        while self._coming and self._coming[-1].due <= self._at:
            other = self._coming.pop()
            if other.first:
                self._first += other.letters
            elif other.last:
                self._last += other.letters
            else:
                self._beside.append(min(other.letters, self._left) if self._begun else other.letters)

    def _send(self, number: int, ends: datetime) -> None:
        """Send so many letters of those whose turn it is."""
        mine = 0
        if self._first:
            self._first -= number
        elif self._begun or sum(self._beside) > _ROUNDING:
            beside = sum(self._beside)
            if self._begun:
                self._share += number * self._left / (self._left + beside)
                mine = min(self._left, round(self._share))
                self._share -= mine
            rest = max(0.0, 1 - (number - mine) / beside) if beside else 0.0
            self._beside = [letters * rest for letters in self._beside] if rest else []
        else:
            self._last -= number
        self._others += number - mine
        self._left -= mine
        if mine <= 0:
            return
        before = self._windows.pop() if self._windows and self._at - self._windows[-1].ends < _A_STOP else None
        begins, letters = (before.begins, before.letters) if before else (self._at, 0)
        self._windows.append(SendWindow(begins, ends, letters + mine))


def _interval(it: ForecastInputs, allowance: SenderLimits) -> timedelta:
    stream = rate_limit.rate(allowance, units=it.units)
    interval = max(stream.interval if stream else _NO_TIME, rate_limit.mean_gap(allowance))
    return interval or (timedelta(minutes=1) / it.measured if it.measured else _NO_TIME)


def _start(it: ForecastInputs, allowance: SenderLimits) -> datetime:
    at = max(it.now, it.paused_until or it.now, it.gap_until or it.now)
    stream = rate_limit.rate(allowance, units=it.units)
    return max(at, it.tat + stream.interval - stream.tolerance) if stream and it.tat else at


def _growth(it: ForecastInputs, at: datetime) -> datetime:
    """When the warm-up allows more; the end of time without one."""
    if not (it.limits.warm_up and it.limits.warm_up_growth):
        return datetime.max.replace(tzinfo=at.tzinfo)
    return it.since + _DAY * (max(0, (at - it.since) // _DAY) + 1)


def waiting_reason(it: ForecastInputs, forecast: Forecast) -> str | None:
    """Why its letters are not sent now; None when only the rate limit of the minute holds them."""
    held = (_held(it) or _slowed(it, forecast)) if it.letters else None
    return "; ".join(cause for cause in (held, unresolved_summary(it)) if cause) or None


def _held(it: ForecastInputs) -> str | None:
    """The pause or the time that holds its letters."""
    return hold_reason(
        sender="the sender",
        job_paused=it.job_paused,
        due=it.due if it.due > it.now else None,
        paused_until=it.paused_until,
        pause_reason=it.pause_reason or it.pause_cause,
        say=lambda moment: _when(moment, it.now),
        repair=it.repair,
        last_error=_plain(it.error),
        job_reason=it.job_reason,
        braked_until=it.braked_until,
    )


def _slowed(it: ForecastInputs, forecast: Forecast) -> str | None:
    """What the sender's limits, its other jobs and the last attempt have to do with it."""
    starts_at = forecast.starts_at
    if rate_limit.day(it.limits.on(it.now, since=it.since), hours=it.hours, now=it.now).letters == 0:
        used = sum(number for hour, number in it.hours.items() if hour > it.now - _DAY - _HOUR)
        at = _when(starts_at, it.now) if starts_at else "later"
        return f"the sender's letters of 24 hours are used up ({used:,}): the next goes at {at}"
    if starts_at and starts_at - it.now > _AT_ONCE:
        if forecast.queued_before:
            return f"{forecast.queued_before:,} letters of the sender's other jobs go first"
        return f"the sender's pace allows no letter before {_when(starts_at, it.now)}"
    if it.next_claim_at and it.next_claim_at - it.now > _AT_ONCE:
        return (
            f"the sender's next turn is at {_when(it.next_claim_at, it.now)}, though its limits allow a letter now: "
            "a daemon that runs sees that within a minute"
        )
    return f"the last attempt said: {_plain(it.error)}; it is tried again at its turn" if it.error else None


def unresolved_summary(it: ForecastInputs) -> str | None:
    """What happens to its unsure letters, and when; None when there are none."""
    if it.unresolved is None:
        return None
    parts, looked_for = [], it.unresolved.letters - it.unresolved.manual
    if looked_for and it.unresolved.look_at:
        at = _when(max(it.unresolved.look_at, it.now), it.now)
        parts.append(f"{_are(looked_for)} unsure: looked for at Google at {at}")
    if it.unresolved.manual:
        parts.append(f"{_are(it.unresolved.manual)} unsure until `mailerd settle` says what became of it")
    return "; ".join(parts) or None


def _are(letters: int) -> str:
    return "1 letter is" if letters == 1 else f"{letters:,} letters are"


def _plain(error: str | None) -> str:
    """An error that ends in no punctuation, so that the sentence can go on."""
    return (error or "").strip().rstrip(":.")


def describe(it: ForecastInputs, forecast: Forecast) -> str:
    """What comes next and when, its unsure letters included."""
    upcoming = summary(forecast, now=it.now) if it.letters else None
    return "; ".join(part for part in (upcoming, unresolved_summary(it)) if part) or "nothing waits"


def summary(forecast: Forecast, *, now: datetime) -> str:
    """In words: "1,800 today, the rest from Friday 09:02 UTC, done about Friday 10:10 UTC"."""
    if not forecast.windows:
        return "nothing waits" if forecast.whole else f"not before {forecast.until}"
    head, *rest = forecast.windows
    begin = "" if head.begins - now <= _AT_ONCE else f"from {_when(head.begins, now)}"
    parts = [begin] if begin else []
    if rest:
        letters, ends = f"{head.letters:,}", _when(head.ends, now)
        parts.append(f"{letters} today" if head.ends.date() == now.date() else f"{letters} until {ends}")
        parts.append(f"the rest from {_when(rest[0].begins, now)}")
    if forecast.done_at:
        parts.append(f"done about {_when(forecast.done_at, now)}")
    else:
        parts.append(f"not done by {_when(forecast.windows[-1].ends, now)}")
    return ", ".join(parts)


def _when(moment: datetime, now: datetime) -> str:
    if moment.date() == now.date():
        return f"{moment:%H:%M} UTC"
    if now < moment <= now + _WEEK:
        return f"{moment:%A %H:%M} UTC"
    return f"{moment:%Y-%m-%d %H:%M} UTC"
