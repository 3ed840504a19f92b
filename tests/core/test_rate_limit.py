"""Pace: never more than the allowance in any window, nearly all of it used, and `next_at` is a promise."""

from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailerd.core.rate_limit import DRAFT_PAIR_UNITS, Budget, SenderLimits, day, debit, minute

NOW = datetime(2026, 11, 24, 11, 17, 3, 141592, tzinfo=UTC)
TICK = timedelta(microseconds=1)
MINUTE, DAY = timedelta(minutes=1), timedelta(hours=24)

limits = st.integers(1, 20_000)
minutes = st.one_of(
    st.builds(SenderLimits, units_per_minute=limits, per_minute=st.just(0), per_day=st.just(0)),
    st.builds(SenderLimits, units_per_minute=st.just(0), per_minute=limits, per_day=st.just(0)),
    st.builds(SenderLimits, units_per_minute=limits, per_minute=limits, per_day=st.just(0)),
)
costs = st.sampled_from([DRAFT_PAIR_UNITS, 100])
moments = st.lists(
    st.tuples(
        st.sampled_from([0, 1, 999_999, 1_000_000, 59_999_999, 60_000_000]) | st.integers(0, 90_000_000),
        st.integers(1, 400),
    ),
    min_size=1,
    max_size=60,
)


def whole(allowance: SenderLimits, units: int) -> int:
    """Messages that fit into a minute; at least one, or the sender could never send."""
    fits = [allowance.units_per_minute // units] if allowance.units_per_minute else []
    fits += [allowance.per_minute] if allowance.per_minute else []
    return max(1, min(fits))


def most_in_any(window: timedelta, claims: list[tuple[datetime, int]]) -> int:
    """The most messages in any half-open window: it is enough to look at those that end with a claim."""
    most = inside = first = 0
    for end, messages in claims:
        inside += messages
        while claims[first][0] <= end - window:
            inside -= claims[first][1]
            first += 1
        most = max(most, inside)
    return most


def run(
    allowance: SenderLimits, wishes: list[tuple[int, int]], *, units: int, tat: datetime | None = None
) -> list[tuple[datetime, int]]:
    """Claims of as many messages as wished and allowed, each so many microseconds after the one before."""
    now, claims = NOW, []
    for gap, wish in wishes:
        now += gap * TICK
        allowed = minute(allowance, tat=tat, now=now, units=units).messages
        assert allowed is not None
        messages = min(wish, allowed)
        tat = debit(allowance, tat=tat, now=now, messages=messages, units=units)
        claims.append((now, messages))
    return claims


@given(minutes, moments, costs)
def test_no_window_of_a_minute_has_more_than_the_allowance_whatever_the_pattern(
    allowance: SenderLimits, wishes: list[tuple[int, int]], units: int
) -> None:
    assert most_in_any(MINUTE, run(allowance, wishes, units=units)) <= whole(allowance, units)


def as_soon_as_allowed(allowance: SenderLimits, *, units: int, lasts: timedelta) -> list[tuple[datetime, int]]:
    now, tat, claims = NOW, None, []
    while now < NOW + lasts:
        budget = minute(allowance, tat=tat, now=now, units=units)
        assert budget.messages is not None
        assert budget.next_at is not None
        claims.append((now, budget.messages))
        tat = debit(allowance, tat=tat, now=now, messages=budget.messages, units=units)
        dry = minute(allowance, tat=tat, now=now, units=units)
        assert dry.messages == 0
        assert dry.next_at
        now = dry.next_at
    return claims


@pytest.mark.parametrize(
    "allowance",
    [SenderLimits(units, 0, 0) for units in (150, 330, 1000, 6000, 15_000)]
    + [SenderLimits(0, messages, 0) for messages in (1, 2, 3, 5, 10, 19, 60, 1000)]
    + [SenderLimits(6000, 30, 0), SenderLimits(1000, 30, 0)],
    ids=str,
)
@pytest.mark.parametrize("units", [DRAFT_PAIR_UNITS, 100])
def test_under_steady_demand_nearly_all_of_the_allowance_is_used_and_never_more(
    allowance: SenderLimits, units: int
) -> None:
    claims = as_soon_as_allowed(allowance, units=units, lasts=5 * MINUTE)
    fits = whole(allowance, units)
    assert most_in_any(MINUTE, claims) <= fits
    assert sum(messages for _, messages in claims) >= 0.95 * 5 * fits


def test_google_allows_54_draft_pairs_a_minute_and_they_are_spread_out() -> None:
    claims = as_soon_as_allowed(SenderLimits(6000, 0, 0), units=DRAFT_PAIR_UNITS, lasts=MINUTE - TICK)
    assert 52 <= sum(messages for _, messages in claims) <= 54
    assert max(messages for _, messages in claims) <= 2


def test_an_allowance_of_less_than_one_message_still_sends_one_now_and_then() -> None:
    claims = as_soon_as_allowed(SenderLimits(50, 0, 0), units=110, lasts=60 * MINUTE)
    assert {messages for _, messages in claims} == {1}
    assert 26 <= len(claims) <= 28  # 50 units a minute for an hour, at 110 each


@given(minutes, costs, st.none() | st.integers(-100_000_000, 400_000_000), st.integers(0, 50))
def test_when_next_at_comes_one_more_message_is_allowed_and_not_a_moment_before(
    allowance: SenderLimits, units: int, tat_in: int | None, taken: int
) -> None:
    tat = None if tat_in is None else NOW + tat_in * TICK
    tat = debit(allowance, tat=tat, now=NOW, messages=taken, units=units)
    budget = minute(allowance, tat=tat, now=NOW, units=units)
    assert budget.messages is not None
    assert budget.messages >= 0
    assert budget.next_at
    assert budget.next_at > NOW
    if budget.messages == 0:
        at = minute(allowance, tat=tat, now=budget.next_at, units=units).messages
        assert at is not None
        assert at >= 1
        assert minute(allowance, tat=tat, now=budget.next_at - TICK, units=units).messages == 0


def test_an_allowance_that_was_lowered_is_kept_from_now_on() -> None:
    tat = debit(SenderLimits(0, 2, 0), tat=None, now=NOW, messages=10)
    budget = minute(SenderLimits(0, 60, 0), tat=tat, now=NOW)
    assert budget.messages == 0
    assert budget.next_at
    assert budget.next_at > NOW + 4 * MINUTE


def test_no_limit_is_no_limit() -> None:
    free = SenderLimits(0, 0, 0)
    assert minute(free, tat=None, now=NOW) == Budget(messages=None, next_at=None)
    assert debit(free, tat=None, now=NOW, messages=1000) is None
    assert day(free, hours={NOW.replace(minute=0): 10**9}, now=NOW) == Budget(messages=None, next_at=None)


def hour_of(moment: datetime) -> datetime:
    return moment.replace(minute=0, second=0, microsecond=0)


gaps = st.integers(0, 6 * 3600) | st.sampled_from([0, 3599, 3600, 86_399, 86_400])  # seconds


@given(st.integers(1, 3000), st.lists(st.tuples(gaps, st.integers(1, 900)), min_size=1, max_size=60))
def test_no_24_hours_have_more_than_the_day_allows(per_day: int, wishes: list[tuple[int, int]]) -> None:
    allowance, now, claims = SenderLimits(0, 0, per_day), NOW, []
    hours: Counter[datetime] = Counter()
    for gap, wish in wishes:
        now += timedelta(seconds=gap)
        allowed = day(allowance, hours=hours, now=now).messages
        assert allowed is not None
        assert allowed >= 0
        claims.append((now, min(wish, allowed)))
        hours[hour_of(now)] += min(wish, allowed)
    assert most_in_any(DAY, claims) <= per_day


@given(st.integers(1, 500), st.dictionaries(st.integers(0, 30), st.integers(0, 700), max_size=25))
def test_when_the_days_next_at_comes_a_message_is_allowed_and_not_a_moment_before(
    per_day: int, ago: dict[int, int]
) -> None:
    allowance = SenderLimits(0, 0, per_day)
    hours = {hour_of(NOW) - timedelta(hours=hour): messages for hour, messages in ago.items()}
    budget = day(allowance, hours=hours, now=NOW)
    assert budget.messages is not None
    assert 0 <= budget.messages <= per_day
    if budget.messages == 0:
        assert budget.next_at
        assert NOW < budget.next_at <= NOW + timedelta(hours=25)
        then = day(allowance, hours=hours, now=budget.next_at).messages
        assert then is not None
        assert then >= 1
        assert day(allowance, hours=hours, now=budget.next_at - TICK).messages == 0


def test_a_day_that_is_used_up_comes_back_an_hour_late_at_most() -> None:
    allowance = SenderLimits(0, 0, 2000)
    budget = day(allowance, hours={hour_of(NOW): 2000}, now=NOW)
    assert budget == Budget(messages=0, next_at=hour_of(NOW) + timedelta(hours=25))
