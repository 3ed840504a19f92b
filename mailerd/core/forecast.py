"""When a job will be done, a closed form of messages ahead, pace and day; and why it waits, in
words.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from heapq import heapify, heappop, heappush
from math import ceil
from typing import Final

from mailerd.core import rate_limit
from mailerd.core.failing_attempts import FailingAttempts
from mailerd.core.i18n import Text, joined, t
from mailerd.core.quantities import moment_in_words
from mailerd.core.rate_limit import STANDARD_PACE_FROM
from mailerd.core.reading import (
    Authorization,
    Reading,
    UnresolvedSends,
    authorized,
    joined_causes,
    sender_stats,
    unresolved_summary,
    waits,
)
from mailerd.core.sender_state import SenderState
from mailerd.core.stats import SenderStats

_CYCLE: Final = timedelta(hours=25)
"""When a message no longer counts in the rolling day: its clock hour counts whole until all of it
is 24 hours ago.
"""
_DAY: Final = timedelta(hours=24)
_MAX_CYCLES: Final = 180
"""What takes longer has no time."""
_A_STOP: Final = timedelta(minutes=15)
"""A wait of less is not worth a word."""
_AT_ONCE: Final = timedelta(minutes=1)


@dataclass(frozen=True)
class Queued:
    """Another job of the same sender."""

    messages: int
    order: int
    """Negative: its messages go first. 0: the two take turns.

    Positive: they go while none of the other's is due.
    """
    due: datetime
    copies: float = 0.0
    """What the copies of one of them cost of the day on the average, beside the one of the
    message.
    """


@dataclass(frozen=True)
class LaterMessages:
    """Messages of a job that have a later time of their own."""

    messages: int
    due: datetime
    """When the first of them is due."""


@dataclass(frozen=True)
class Forecast:
    """When the messages of a job go."""

    messages_ahead: int = 0
    """How many messages of other jobs go before the last message of this job."""
    per_minute: float | None = None
    """How many messages of the sender go in a minute; None: as fast as Google answers."""
    starts_at: datetime | None = None
    """When the first message goes; None: nothing waits, or it is not known."""
    ends_at: datetime | None = None
    """When the last one goes, at the earliest."""
    done_at: datetime | None = None
    """When it goes; None: not known, since that is too far away or the queue too long to be
    read.
    """
    first_day: int = 0
    """How many messages go before the sender's day is used up; 0: all of them, or it is used up
    before.
    """
    goes_on_at: datetime | None = None
    """When the others begin to go."""
    until: str = ""
    """What has to happen before any message goes and any time can be named."""
    fails: bool = False
    """All of the sender's newest attempts failed: no time can be named."""


@dataclass(frozen=True)
class ForecastInputs:
    """What is known of a job, its sender and the sender's other jobs."""

    sender: SenderState
    messages: int
    """How many messages of the job wait."""
    due: datetime
    """When the first of these messages is due; not in the past."""
    copies: float = 0.0
    """What the copies of one of them cost of the day on the average, beside the one of the
    message.
    """
    first_cost: int = 1
    """As how many messages of the day the one that is due first counts."""
    last_due: datetime | None = None
    """When the last of these messages is due, where some were put off; None: all are due
    together.
    """
    later: LaterMessages | None = None
    """Those of its messages that are due much later than the first one; None: none, or all are."""
    error: str | None = None
    """The error of the last attempt of the message that is due first."""
    unresolved: UnresolvedSends | None = None
    job_paused: bool = False
    job_reason: str | None = None
    """Why the job is paused, and what to do, if not by a person."""
    braked_until: datetime | None = None
    """Until when the job waits, since what came back of it is read first."""
    next_claim_at: datetime | None = None
    """When the next claim considers the sender."""
    hours: Mapping[datetime, int] = field(default_factory=dict)
    """The sender's messages by clock hour."""
    measured: float = 0.0
    """How many messages the sender sent in the last minute, if no limit says how many it may; 0:
    not known.
    """
    queue: tuple[Queued, ...] = ()
    failing: FailingAttempts | None = None
    """Whether the sender's newest attempts fail."""
    outage: str = ""
    """How the database cannot be used, as `Database.outage` says it; "": it can."""
    queue_cut_off: bool = False
    """There may be more jobs before or beside it than those in `queue`."""
    next_cost: int | None = None
    """As how many messages of the day the sender's next one counts; None: the first one of these is
    that.
    """
    used_minute: int = 0
    """The messages that the sender sent in the last minute, where that is asked for."""
    alias: str = ""
    """What a limited key calls the sender, if it does not name the mailbox."""
    authorization: Authorization = field(default_factory=Authorization)
    """What is known of the sender's."""
    all_of_sender: bool = False
    """These are all that waits of the sender."""

    @property
    def now(self) -> datetime:
        """The database's time when they were read."""
        return self.sender.now

    @cached_property
    def stats(self) -> SenderStats:
        """What is judged of the sender."""
        return authorized(
            sender_stats(
                self.sender,
                hours=self.hours,
                used_minute=self.used_minute,
                fails=self.failing,
                alias=self.alias,
                next_cost=self.first_cost if self.next_cost is None else self.next_cost,
                turn=self.next_claim_at,
                braked_until=self.braked_until if self.all_of_sender else None,
            ),
            self.authorization,
        )

    def reading(self, forecast: Forecast) -> Reading:
        """Why they wait is judged by this."""
        return Reading(
            self.now,
            self.stats,
            self.outage,
            waiting=bool(self.messages),
            due=self.due if self.due > self.now else None,
            tried=bool(self.error),
            error=self.error,
            job_paused=self.job_paused,
            job_reason=self.job_reason,
            braked_until=self.braked_until,
            allowed_at=forecast.starts_at,
            ahead=forecast.messages_ahead,
            unresolved=self.unresolved,
        )

    @cached_property
    def _cost(self) -> float:
        """As how many messages of the day one of them, or of the jobs beside it, counts on the
        average.
        """
        copies = self.messages * self.copies + sum(it.messages * it.copies for it in self.queue)
        return 1 + copies / ((self.messages + sum(it.messages for it in self.queue)) or 1)

    def per_day(self, at: datetime) -> int:
        """How many messages of a day the sender may send at that time, as they are on the average;
        0: no limit.
        """
        limit = self.sender.limits.on(at, since=self.sender.since).per_day
        return max(1, int(limit / self._cost)) if limit else 0

    @cached_property
    def _intervals(self) -> tuple[timedelta, timedelta]:
        """What lies between two messages, before the Standard tier's day and from then on."""
        found = []
        for at in (datetime.min.replace(tzinfo=UTC), STANDARD_PACE_FROM):
            stream = rate_limit.rate(
                self.sender.limits.on(at, since=self.sender.since), units=self.sender.units
            )
            interval = max(
                stream.interval if stream else timedelta(0), rate_limit.mean_gap(self.sender.limits)
            )
            found.append(interval or timedelta(minutes=1 / self.measured if self.measured else 0))
        return found[0], found[1]

    def interval(self, at: datetime) -> timedelta:
        """What lies between two messages at that time."""
        return self._intervals[at >= STANDARD_PACE_FROM]

    def counted(self, at: datetime) -> dict[datetime, int]:
        """The sender's messages by clock hour that the rolling day counts at that time, the oldest
        first.

        As many as they would be if each were as those that wait are on the average.
        """
        return {
            hour: ceil(cost / self._cost)
            for hour, cost in sorted(self.hours.items())
            if hour + _CYCLE > at
        }


def compute_forecast(it: ForecastInputs) -> Forecast:
    """When the messages go, if no other job is posted and no unsure message waits again.

    The job's last message goes when the tighter limit, of the minute or of the day, lets the
    messages ahead and the job's own go, and not before its time. The limits tell when the sender's
    n-th message goes (`_turn`), so nothing is played. Messages that are due much later are a job of
    their own, which begins at their time.
    """
    whole = _forecast(it)
    if it.later is None or not whole.ends_at:
        return whole
    first = _forecast(replace(it, messages=it.messages - it.later.messages, last_due=None))
    rest = _forecast(replace(it, messages=it.later.messages, due=it.later.due))
    # those that are due now take so long
    if not first.ends_at or not rest.ends_at or first.ends_at > it.later.due:
        return whole
    if first.goes_on_at:
        return replace(first, ends_at=rest.ends_at, done_at=rest.done_at)
    return replace(
        rest,
        starts_at=first.starts_at,
        first_day=it.messages - it.later.messages,
        goes_on_at=max(it.later.due, rest.starts_at or it.later.due),
    )


def _forecast(it: ForecastInputs) -> Forecast:
    """The same, as if all messages were due with the first one."""
    if it.outage:
        return Forecast(until=t("the database can be written to again"))
    stats, paused_until = it.stats, it.stats.paused_until
    held = t("the sender is resumed") if paused_until == rate_limit.FOREVER else None
    if until := t("the job is resumed") if it.job_paused else stats.repair or held:
        return Forecast(until=until)
    if it.messages and not paused_until and it.failing and it.failing.nothing_sent:
        return Forecast(fails=True)
    sender, interval = it.sender, it.interval(it.now)
    per_minute = timedelta(minutes=1) / interval if interval else None
    if not it.messages:
        return Forecast(per_minute=per_minute)
    start = max(it.now, paused_until or it.now, stats.paced_until or it.now)
    if it.first_cost > 1:  # what is cheaper does not overtake it
        if sender.allowance.per_day and it.first_cost > sender.allowance.per_day:
            return Forecast(
                per_minute=per_minute, until=t("the sender's day has room for its copies")
            )
        room = rate_limit.day(sender.allowance, hours=it.hours, now=it.now, cost=it.first_cost)
        start = max(start, room.next_at or start)
    begins = max(start, it.due)
    early, first, beside = _ahead(it, start, begins, until=begins)
    starts = max(
        _turn(it, first + 1, begins), _turn(it, early + first + 1, start) if early else begins
    )
    ends = _end(it, start, begins, early=early, number=first + beside + it.messages)
    # what becomes due before its end takes its turn too
    if any(begins < other.due <= ends for other in it.queue):
        early, first, beside = _ahead(it, start, begins, until=ends)
        ends = _end(it, start, begins, early=early, number=first + beside + it.messages)
    # Its share of what the day lets go at first; jobs that take turns have theirs.
    free = it.per_day(begins) - sum(it.counted(begins).values())
    share = round((free - early - first) * it.messages / (it.messages + beside))
    goes_on_at = _turn(it, free + 1, begins) if 0 < share < it.messages else None
    if goes_on_at and goes_on_at - _turn(it, free, begins) < _A_STOP:
        goes_on_at = None
    return Forecast(
        messages_ahead=early + first + beside,
        per_minute=per_minute,
        starts_at=starts,
        ends_at=ends,
        done_at=None if it.queue_cut_off or ends > it.now + _CYCLE * _MAX_CYCLES else ends,
        first_day=share if goes_on_at else 0,
        goes_on_at=goes_on_at,
    )


def _end(
    it: ForecastInputs, start: datetime, begins: datetime, *, early: int, number: int
) -> datetime:
    """When its last message goes, the `number`-th from `begins` on, if `early` messages of others
    go before that.
    """
    return max(
        _turn(it, number, begins),
        _turn(it, early + number, start) if early else begins,
        it.last_due or begins,
    )


def _ahead(
    it: ForecastInputs, start: datetime, begins: datetime, *, until: datetime
) -> tuple[int, int, int]:
    """How many messages of other jobs go before the job begins; then before its first one; and in
    turn with its own.

    Of those jobs that are due at `until`.
    """
    room = sum(other.messages for other in it.queue) if begins > start else 0
    if room and (per_day := it.per_day(start)):
        room = min(
            room, per_day * (1 + (begins - start) // _CYCLE) - sum(it.counted(begins).values())
        )
    if room and (interval := it.interval(start)):
        room = min(room, (begins - start) // interval)
    early = first = beside = 0
    for other in sorted(it.queue, key=lambda other: other.order):
        if other.due > until:
            continue
        before = min(other.messages, max(0, room - early)) if other.due < begins else 0
        early += before
        if other.order < 0:
            first += other.messages - before
        elif other.order == 0:
            beside += min(other.messages - before, it.messages)
    return early, first, beside


def _turn(it: ForecastInputs, number: int, start: datetime) -> datetime:
    """When the sender's message of that number, counted from `start` on, goes.

    Each hour's messages make room for as many a cycle after its beginning: so each cycle repeats
    the one before.
    """
    at_pace, per_day, used = _paced(it, number, start), it.per_day(start), it.counted(start)
    free = per_day - sum(used.values())
    if not per_day or number <= free:
        return at_pace
    if it.sender.limits.is_warming_up(start, since=it.sender.since):
        return _turn_while_warming_up(it, number, start)
    place, cycles = number, 0
    while place > (of_cycle := it.per_day(start + _CYCLE * cycles)):
        place, cycles = place - of_cycle, cycles + 1
        if cycles > _MAX_CYCLES:
            return start + _CYCLE * cycles
    behind = place
    rooms = [(start, free), *((hour + _CYCLE, messages) for hour, messages in used.items())]
    while behind > rooms[0][1]:
        behind -= rooms.pop(0)[1]
    release = rooms[0][0]
    at = max(_paced(it, behind, release), _paced(it, place, start))
    if cycles:
        hour = at.replace(minute=0, second=0, microsecond=0)
        at = hour + (at - max(release, hour)) + _CYCLE * cycles
    return max(at, at_pace)


def _turn_while_warming_up(it: ForecastInputs, number: int, start: datetime) -> datetime:
    """The same while the day grows: what goes whenever there is room, until the message of that
    number has gone.

    Room comes where an hour's messages are a cycle old, and at each turn of the warm-up's day.
    """
    per_day, since, interval = it.per_day, it.sender.since, it.interval(start)
    used = it.counted(start)
    free, at, days = per_day(start) - sum(used.values()), start, (start - since) // _DAY
    rooms = [(hour + _CYCLE, messages) for hour, messages in used.items()]
    heapify(rooms)
    while True:
        while free <= 0:
            turn = since + _DAY * (days + 1)
            if turn <= rooms[0][0]:
                days, free, at = (
                    days + 1,
                    free + per_day(turn) - per_day(turn - _DAY),
                    max(at, turn),
                )
            else:
                opens, messages = heappop(rooms)
                free, at = free + messages, max(at, opens)
        if at > start + _CYCLE * _MAX_CYCLES:
            return at
        hour = at.replace(minute=0, second=0, microsecond=0)
        fit = (hour + timedelta(hours=1) - at) // interval + 1 if interval else number
        now = min(free, number, fit)
        heappush(rooms, (hour + _CYCLE, now))
        if now == number:
            return at + interval * (now - 1)
        number, free, at = number - now, free - now, at + interval * now


def _paced(it: ForecastInputs, number: int, start: datetime) -> datetime:
    """When the minute lets the message of that number go, if the first one goes at `start`."""
    at = start + it.interval(start) * (number - 1)
    if it.sender.limits.standard and start < STANDARD_PACE_FROM < at:
        rest = number - 1 - (STANDARD_PACE_FROM - start) // it.interval(start)
        return STANDARD_PACE_FROM + it.interval(STANDARD_PACE_FROM) * rest
    return at


def waiting_reason(it: ForecastInputs, forecast: Forecast) -> Text | None:
    """Why its messages are not sent now; None when only the rate limit of the minute holds them."""
    return joined_causes(waits(it.reading(forecast)))


def describe(it: ForecastInputs, forecast: Forecast) -> Text:
    """What comes next and when, its unsure messages included."""
    upcoming = summary(forecast, now=it.now) if it.messages else None
    parts = [part for part in (upcoming, unresolved_summary(it.reading(forecast))) if part]
    return joined(parts) if parts else t("nothing is waiting")


def summary(forecast: Forecast, *, now: datetime) -> Text:
    """In words: "1,800 today, the rest from Friday 09:02 UTC, done about Friday 10:10 UTC"."""
    starts_at, ends_at = forecast.starts_at, forecast.ends_at
    if forecast.fails:
        return t("all attempts fail: no time can be estimated")
    if not starts_at or not ends_at:
        return (
            t("nothing is sent until {condition}", condition=forecast.until)
            if forecast.until
            else t("nothing is waiting")
        )
    parts = (
        [t("from {at}", at=moment_in_words(starts_at, now))] if starts_at - now > _AT_ONCE else []
    )
    if forecast.goes_on_at:
        first = forecast.first_day
        if starts_at.date() == forecast.goes_on_at.date():
            parts.append(t("{n:,} at first", n=first))
        else:
            parts.append(
                t("{n:,} today", n=first)
                if starts_at.date() == now.date()
                else t("{n:,} that day", n=first)
            )
        parts.append(t("the rest from {at}", at=moment_in_words(forecast.goes_on_at, now)))
    end = moment_in_words(ends_at, now)
    parts.append(
        t("done about {at}", at=end) if forecast.done_at else t("not done by {at}", at=end)
    )
    return joined(parts, ", ")
