"""How much a sender may send now: GCRA for the minute, counts by the hour for the day; and what
reading may use.
"""

import math
from collections.abc import Iterable, Mapping
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
    Call.HISTORY_LIST: 2,
    Call.GET_PROFILE: 1,
}
"""What Google charges for a call:
https://developers.google.com/workspace/gmail/api/reference/quota
"""
DRAFT_PAIR_UNITS: Final = UNITS[Call.DRAFTS_CREATE] + UNITS[Call.DRAFTS_SEND]
DIRECT_UNITS: Final = UNITS[Call.MESSAGES_SEND]
STANDARD_UNITS: Final = 6000
"""Units per minute and user of Google's Standard tier."""
TIERS_PAGE: Final = "https://developers.google.com/workspace/guides/quota-usage-tiers"
"""Google's page on its tiers, its dates and who is excepted."""
STANDARD_FROM: Final = datetime(2027, 4, 1, tzinfo=UTC)
"""When that tier holds for older Cloud projects too: Google names the day, and UTC's begins before
Pacific time's.
"""
CONSUMER_DOMAINS: Final = frozenset({"gmail.com", "googlemail.com"})
MAX_GAP: Final = 86_400.0
"""The longest gap between two messages that a sender may be given, in seconds: a day."""
FOREVER: Final = datetime(9999, 12, 31, tzinfo=UTC)
"""The end of a pause that lasts until a person ends it."""
_MINUTE: Final = timedelta(minutes=1)
_DAY: Final = timedelta(hours=24)
_HOUR: Final = timedelta(hours=1)
_BURST_SHARE: Final = 0.005
"""How much of a minute's messages may go at once beyond the one that always may: 0.3 s of a claim
that came late.
"""
_MIN_LATENCY_MARGIN: Final = 0.4
"""The least latency margin in seconds: what a quick network and a busy machine cost a message now
and then.
"""
MAX_LATENCY: Final = 8.0
"""Seconds.

What takes longer is an outage, and Google's own complaint then holds the sender, at no message's
cost; above this the margin could not come in time either (`latency_margin`), and would cost more
than a sixth of the minute.
"""
_LATENCY_FACTOR: Final = 1.25
_LATENCY_KEPT: Final = timedelta(minutes=10)
"""How long a latency counts after it was last seen."""
_LATENCY_FRESH: Final = timedelta(minutes=2)
"""How long after that no message which it covers needs a note: longer than a message takes and a
minute of Google's.
"""
_CALLS_KEPT: Final = timedelta(seconds=75)
"""How long another call slows the messages: longer than a minute and the greatest margin."""
STANDARD_PACE_FROM: Final = STANDARD_FROM - _CALLS_KEPT
"""When claims keep to it: the first minute that Google measures by the new limit begins before that
limit does.
"""
_PROJECT_BURST: Final = 0.01
"""How much of a project's minute may go at once, 0.6 s of it: its claims come in bunches of many
messages.
"""
_GROWTH_INTERVAL: Final = timedelta(minutes=1)
_FORGOTTEN_AFTER: Final = timedelta(minutes=30)
_GAP_JITTER: Final = 0.5


PROBE_INTERVAL: Final = timedelta(seconds=2)
"""After a pause the messages go one by one, so far apart, until one went well."""


@dataclass(frozen=True)
class SenderLimits:
    """A sender's limits; 0 means none."""

    units_per_minute: int
    per_minute: int
    per_day: int
    reserve: int = 0
    """How many messages of the day are left to the owner of the mailbox."""
    min_gap: float = 0.0
    """The least seconds between two messages."""
    warm_up: int = 0
    """How many messages go on the first day, where a new sender starts slowly."""
    warm_up_growth: int = 0
    """How many messages more go on each day after the first."""
    standard: bool = False
    """Its Cloud project is in Google's Standard tier, whatever it was given when it was made."""
    calls: bool = False
    """No limit, but an observation: other calls than messages have used units lately."""
    latency: float = 0.0
    """No limit, but a measurement: seconds from the claim to Google's answer of the sender's
    slowest recent message.
    """

    def on(self, now: datetime, *, since: datetime) -> "SenderLimits":
        """What holds at `now` for a sender that began at `since`: reserve and warm-up are worked
        into `per_day`.

        At least one message a day remains, since 0 would mean that there is no limit. The Standard
        tier lowers the units of a minute from its day on, a sender's own too; where there is no
        limit, it sets none.
        """
        units = self.units_per_minute
        if self.standard and now >= STANDARD_PACE_FROM:
            units = min(units, STANDARD_UNITS)
        limits = [self.per_day - self.reserve] if self.per_day else []
        if warm_up := self._warm_up(now, since=since):
            limits.append(warm_up)
        per_day = max(1, min(limits)) if limits else 0
        return replace(
            self, units_per_minute=units, per_day=per_day, reserve=0, warm_up=0, warm_up_growth=0
        )

    def is_warming_up(self, now: datetime, *, since: datetime) -> bool:
        """Whether it is the warm-up that limits the day, which grows by itself."""
        day = self.per_day - self.reserve
        return 0 < self._warm_up(now, since=since) < (day if self.per_day else math.inf)

    def _warm_up(self, now: datetime, *, since: datetime) -> int:
        """What the warm-up allows of a day; 0: there is none."""
        return self.warm_up and self.warm_up + self.warm_up_growth * max(0, (now - since) // _DAY)


@dataclass(frozen=True)
class Budget:
    """What may be claimed now."""

    messages: int | None
    """How many messages may be claimed; None means no limit."""
    next_at: datetime | None
    """When one more message than that may be claimed; None: it is not known to be limited."""


@dataclass(frozen=True)
class Rate:
    """The minute as a stream: one message every `interval`, and at most `tolerance` ahead of
    that.
    """

    interval: timedelta
    tolerance: timedelta
    unit: float | None = None
    """Microseconds that another call moves the stream on for each of its units; None: it counts as
    whole messages.
    """
    first_call: timedelta = timedelta(0)
    """What the first such call moves it on beside that, for the messages that went before at the
    full rate.
    """

    def charge(self, cost: int, *, units: int) -> timedelta:
        """How far a call of `cost` units moves the stream on, where a message costs `units`."""
        if self.unit is None:
            return self.interval * math.ceil(cost / units)
        return timedelta(microseconds=math.ceil(self.unit * cost))


def latency_margin(latency: float) -> float:
    """Seconds by which two messages' ways to Google may differ, given the latency that is known.

    Google counts a message at some moment between its claim and the answer; so messages that arrive
    within 60 s were claimed within 60 s and the time that the slowest of them took. A message
    slower than the margin says so when its answer comes, and by then only what was claimed in that
    time t was claimed too fast: t / (60 s + margin before) of the window, and the 60 s that follow
    let in 60 s / (60 s + margin after) of it. The two are less than the whole for any t up to
    MAX_LATENCY, if the margin after is a quarter more than t; with 20 messages a minute or more,
    what the arrival time lags behind a longer interval fits in as well.
    tests/core/test_rate_limit_arrivals.py plays it.
    """
    return max(_MIN_LATENCY_MARGIN, _LATENCY_FACTOR * min(latency, MAX_LATENCY))


def latency(seconds: float | None, *, seen: datetime | None, now: datetime) -> float:
    """What counts at `now` of a latency that was last seen at `seen`; 0 when there is none, or it
    is forgotten.
    """
    return 0.0 if seconds is None or seen is None or now - seen >= _LATENCY_KEPT else seconds


def latency_threshold(allowance: SenderLimits, *, seen: datetime | None, now: datetime) -> float:
    """Seconds from its claim to Google's answer above which a message claimed at `now` has to be
    noted.

    While the latency is fresh, what it covers is not worth a write; later, all that needs more than
    the least margin.
    """
    if not (allowance.units_per_minute or allowance.per_minute):
        return math.inf
    fresh = seen is not None and now - seen < _LATENCY_FRESH
    return max(_MIN_LATENCY_MARGIN, allowance.latency) if fresh else _MIN_LATENCY_MARGIN


def update_latency(
    took: float, *, before: float | None, seen: datetime | None, now: datetime
) -> float:
    """The latency after a message that took so many seconds, given the one that was last seen at
    `seen`.

    It falls by no more than the margin in one step, and rests in between: so the margin always
    covers what was on its way under the latency before, noted or not, and no message that a minute
    of Google's still counts is forgotten.
    """
    known = latency(before, seen=seen, now=now)
    fresh = seen is not None and now - seen < _LATENCY_FRESH
    return max(min(took, MAX_LATENCY), known if fresh else known / _LATENCY_FACTOR)


def rate(allowance: SenderLimits, *, units: int = DRAFT_PAIR_UNITS) -> Rate | None:
    """The stream of messages of so many `units` each that the tighter of the minute's two limits
    allows.

    None: no limit. With a tolerance of B intervals, the messages N that are claimed within any time
    t obey N < t / T + B. Those that arrive within 60 s were claimed within t = 60 s + margin. So T
    = t / (fits + 1 - B) is the shortest interval at which no window ever has more than the whole
    messages that fit into a minute.

    In that window W = t + B T all units of the minute fit, so a unit of another call is worth W /
    units of the minute. Beside such calls a message takes as long as its own units, since what T
    gains by whole messages is what they use; and the first of them pays for the messages that went
    before.
    """
    limits = [(allowance.units_per_minute, units), (allowance.per_minute, 1)]
    fits = min(((limit // cost or limit / cost) for limit, cost in limits if limit), default=None)
    if fits is None:
        return None
    # not even one message fits: one goes whenever as many minutes have passed as it costs
    if fits < 1:
        return Rate(_MINUTE / fits, _MINUTE / fits)
    burst, seconds = 1 + fits * _BURST_SHARE, 60 + latency_margin(allowance.latency)
    # Rounded to the safe side: a microsecond saved on each of many messages would let one too many
    # in.
    micros = math.ceil(seconds * 1e6 / (fits + 1 - burst))
    tolerance = timedelta(microseconds=math.floor(micros * burst))
    if not allowance.units_per_minute:
        return Rate(timedelta(microseconds=micros), tolerance)
    unit = micros * (fits + 1) / allowance.units_per_minute
    if allowance.calls:
        return Rate(timedelta(microseconds=max(micros, math.ceil(unit * units))), tolerance, unit)
    first = math.ceil(fits * max(0.0, unit * units - micros))
    return Rate(timedelta(microseconds=micros), tolerance, unit, timedelta(microseconds=first))


def calls(last: datetime | None, *, now: datetime) -> bool:
    """Whether a call at `last` may lie in a minute of Google's that lasts on at `now`."""
    return last is not None and now - last < _CALLS_KEPT


def minute(
    allowance: SenderLimits, *, tat: datetime | None, now: datetime, units: int = DRAFT_PAIR_UNITS
) -> Budget:
    """How many messages of `units` each the minute allows at `now`, given the theoretical arrival
    time `tat`.

    The generic cell rate algorithm, https://en.wikipedia.org/wiki/Generic_cell_rate_algorithm
    """
    if (stream := rate(allowance, units=units)) is None:
        return Budget(messages=None, next_at=None)
    # Beside other calls a message of a small minute takes longer than the tolerance; it goes once
    # nothing was used for what is missing. `debit` counts from now all the same, so no window has
    # more for that.
    earliest = now - max(timedelta(0), stream.interval - stream.tolerance)
    start = max(tat or earliest, earliest)
    messages = max(0, (now + stream.tolerance - start) // stream.interval)
    return Budget(
        messages=messages, next_at=start + stream.interval * (messages + 1) - stream.tolerance
    )


def debit(
    allowance: SenderLimits,
    *,
    tat: datetime | None,
    now: datetime,
    messages: int,
    units: int = DRAFT_PAIR_UNITS,
) -> datetime | None:
    """The theoretical arrival time after `messages` more."""
    if (stream := rate(allowance, units=units)) is None:
        return tat
    return max(tat or now, now) + stream.interval * messages


def call(
    allowance: SenderLimits,
    *,
    tat: datetime | None,
    now: datetime,
    cost: int,
    units: int = DRAFT_PAIR_UNITS,
) -> tuple[datetime | None, timedelta]:
    """A call of `cost` units beside the messages: the arrival time after it, and how long it has to
    wait for that.

    Once it is made, `allowance.calls` holds.
    """
    stream = rate(allowance, units=units)
    if stream is None or not allowance.units_per_minute:
        return tat, timedelta(0)
    charge = stream.charge(cost, units=units) + stream.first_call
    # What the tolerance has no room for is let in where nothing was used for that long: it is less
    # than what the first call pays for messages before it, and there are none.
    earliest = now - max(timedelta(0), charge - stream.tolerance)
    after = max(tat or earliest, earliest) + charge
    return after, max(timedelta(0), after - stream.tolerance - now)


def _project_stream(units_per_minute: int, latency: float) -> tuple[float, float]:
    """Units a minute, and units that may go at once: what arrives in any 60 s was claimed in those
    and the margin.
    """
    burst = max(units_per_minute * _PROJECT_BURST, float(DRAFT_PAIR_UNITS))
    return max(
        (units_per_minute - burst) * 60 / (60 + latency_margin(latency)), units_per_minute / 10
    ), burst


def project(
    units_per_minute: int,
    *,
    tat: datetime | None,
    now: datetime,
    units: int = DRAFT_PAIR_UNITS,
    latency: float = 0.0,
) -> Budget:
    """How many messages (or calls) of `units` each all senders of a Cloud project together may
    claim; 0: no limit.

    `latency` is that of the slowest of its senders.
    """
    if not units_per_minute:
        return Budget(messages=None, next_at=None)
    stream, burst = _project_stream(units_per_minute, latency)
    # Rounded to the safe side, as a sender's: with many senders a microsecond a message is a
    # message too many.
    micros = math.ceil(60e6 * units / stream)
    interval, tolerance = (
        timedelta(microseconds=micros),
        timedelta(microseconds=math.floor(micros * burst / units)),
    )
    start = max(tat or now, now)
    messages = max(0, (now + tolerance - start) // interval)
    return Budget(messages=messages, next_at=start + interval * (messages + 1) - tolerance)


def project_debit(
    units_per_minute: int, *, tat: datetime | None, now: datetime, units: int, latency: float = 0.0
) -> datetime | None:
    """The project's theoretical arrival time after `units` more."""
    if not units_per_minute:
        return tat
    micros = math.ceil(60e6 * units / _project_stream(units_per_minute, latency)[0])
    return max(tat or now, now) + timedelta(microseconds=micros)


def day(
    allowance: SenderLimits, *, hours: Mapping[datetime, int], now: datetime, cost: int = 1
) -> Budget:
    """How many messages the rolling 24 hours allow, given the messages by clock hour.

    The oldest hour counts whole until all of it is out of the window: never more than the limit, at
    most an hour late. `cost`: as how many messages the next one counts; a time is named where there
    is no room for it.
    """
    if not allowance.per_day:
        return Budget(messages=None, next_at=None)
    within = {
        hour: messages for hour, messages in hours.items() if hour + _HOUR > now - _DAY and messages
    }
    free = left = allowance.per_day - sum(within.values())
    if left >= cost:
        return Budget(messages=left, next_at=None)
    for hour in sorted(within):
        if (left := left + within[hour]) >= cost:
            return Budget(messages=max(0, free), next_at=hour + _HOUR + _DAY)
    # dearer than a whole day: its limit was lowered since
    return Budget(messages=max(0, free), next_at=now + _HOUR)


def gap(allowance: SenderLimits, *, now: datetime, chance: float) -> datetime | None:
    """When the next message may go after one at `now`: the smallest gap and up to half of it
    more.
    """
    if not allowance.min_gap:
        return None
    return now + timedelta(seconds=allowance.min_gap * (1 + _GAP_JITTER * chance))


def longest_gap(allowance: SenderLimits) -> timedelta:
    """What lies between two messages at most because of the smallest gap."""
    return timedelta(seconds=allowance.min_gap * (1 + _GAP_JITTER))


def mean_gap(allowance: SenderLimits) -> timedelta:
    """What lies between two messages on the average because of the smallest gap."""
    return timedelta(seconds=allowance.min_gap * (1 + _GAP_JITTER / 2))


def concurrency(limit: int | None, *, since: datetime | None, now: datetime) -> int | None:
    """Messages in flight at most, for all daemons together: what was set at `since` and one more
    for each minute.

    None means no limit; half an hour after Google last complained there is none.
    """
    if limit is None or since is None or now - since >= _FORGOTTEN_AFTER:
        return None
    return limit + max(0, (now - since) // _GROWTH_INTERVAL)


# How many of Google's units reading an inbox may use, so that it never takes what messages need.
#
# The budget knows the units of each round and when it ended. Units that were used in the last
# minute cannot be used again, so no minute holds more than the share, wherever it begins. (A bucket
# that saves a minute's share up lets twice as much into one minute: what was saved, and what comes
# in meanwhile.) The same holds for any 24 hours.

SHARE: Final = 0.01
"""The share of a sender's units for reading, in a minute in which messages wait for units, and in
any 24 hours.
"""
IDLE_SHARE: Final = 0.2
"""The share in a minute in which no message waits for units, or the sender is paused: no other work
needs them.
"""
BEHIND_SHARE: Final = 0.1
"""The most that a minute's share grows to, however much came back unread while messages wait for
units.
"""
LOOK_UNITS: Final = UNITS[Call.GET_PROFILE] + UNITS[Call.HISTORY_LIST] + UNITS[Call.MESSAGES_LIST]
"""A look at what came: a round has that much whatever the last minute has used, or a bad list would
run on unseen.
"""
NOTICE_UNITS: Final = 2 * UNITS[Call.MESSAGES_GET]
"""Units that reading a notice takes: its headers, and then its body."""
MIN_ROUND: Final = NOTICE_UNITS + UNITS[Call.HISTORY_LIST] + UNITS[Call.GET_PROFILE]
"""A round begins only where it can read one notice; less would be spent again and again for
nothing.
"""
_MIN_UNITS: Final = 60.0
"""The least budget of a sender with few units, for more than a minute: one notice, and some empty
queries.
"""
DAY: Final = timedelta(days=1)


class BudgetSpentError(Exception):
    """The round ends here, and the next one goes on."""


@dataclass
class RoundBudget:
    """What is left of one round; `left` None: there is no limit."""

    left: float | None
    used: int = 0
    most: float = 0.0
    """What the round may use at most where much came back unread."""

    @classmethod
    def of_round(
        cls,
        units_per_minute: int,
        *,
        idle: bool,
        spent: Iterable[tuple[datetime, int]],
        today: int,
        now: datetime,
    ) -> "RoundBudget":
        """The budget of a round at `now`.

        `spent`: when the rounds of late ended, and what each of them used; `today`: what those of
        24 hours have used.
        """
        if not units_per_minute:
            return cls(None)
        books = list(spent)
        of_day = max(0.0, units_per_minute * SHARE * (DAY / _MINUTE) - today)

        def of_minute(share: float) -> float:
            units, span = _allowance(units_per_minute, share)
            return units - sum(used for at, used in books if at > now - span)

        left = max(of_minute(IDLE_SHARE if idle else SHARE), float(LOOK_UNITS))
        return cls(min(left, of_day), most=min(of_minute(BEHIND_SHARE), of_day))

    def widen(self, unread: int) -> None:
        """Let the round read so many notices, as far as BEHIND_SHARE goes."""
        if self.left is not None:
            self.left = max(self.left, min(self.most - self.used, float(unread * NOTICE_UNITS)))

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
