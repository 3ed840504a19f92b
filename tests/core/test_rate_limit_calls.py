"""Pace beside the messages: look-ups, a project's units, reserve, warm-up, gaps, and messages in hand."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailerd.core import rate_limit
from mailerd.core.rate_limit import DIRECT_UNITS, DRAFT_PAIR_UNITS, UNITS, SenderLimits
from mailerd.core.replies import Call

NOW = datetime(2026, 11, 24, 11, 17, 3, tzinfo=UTC)
SECOND, MINUTE, DAY = timedelta(seconds=1), timedelta(minutes=1), timedelta(days=1)
LOOKS = sorted({units for call, units in UNITS.items() if units and call not in {Call.DRAFTS_SEND, Call.MESSAGES_SEND}})


def most_units(spent: list[tuple[datetime, int]], *, within: timedelta = MINUTE) -> int:
    most = inside = first = 0
    for end, units in spent:
        inside += units
        while spent[first][0] <= end - within:
            inside -= spent[first][1]
            first += 1
        most = max(most, inside)
    return most


wishes = st.lists(
    st.tuples(st.integers(0, 3_000_000), st.sampled_from([0, 0, 0, *LOOKS])), min_size=50, max_size=300
)  # microseconds since the wish before; 0 is a message


@given(st.integers(40, 20_000), wishes, st.sampled_from([DRAFT_PAIR_UNITS, DIRECT_UNITS]))
def test_messages_and_looks_together_never_use_more_units_than_any_minute_has(
    limit: int, wished: list[tuple[int, int]], units: int
) -> None:
    now, tat, last, spent = NOW, None, None, []
    for micros, cost in wished:
        now += timedelta(microseconds=micros)
        allowance = SenderLimits(limit, 0, 0, calls=rate_limit.calls(last, now=now))
        if cost:
            after, wait = rate_limit.call(allowance, tat=tat, now=now, cost=cost, units=units)
            if not wait:
                tat, last = after, now
                spent.append((now, cost))
        elif rate_limit.minute(allowance, tat=tat, now=now, units=units).messages:
            tat = rate_limit.debit(allowance, tat=tat, now=now, messages=1, units=units)
            spent.append((now, units))
    assert most_units(spent) <= max(limit, units)  # one message always goes, though it may cost more than a minute


@pytest.mark.parametrize("limit", [150, 330, 600, 1000, 6000])
def test_a_greedy_mixture_of_messages_and_looks_stays_within_a_small_minute(limit: int) -> None:
    tat, last, spent = None, None, []
    for tick in range(20 * 180):
        now = NOW + tick * SECOND / 20
        allowance = SenderLimits(limit, 0, 0, calls=rate_limit.calls(last, now=now))
        if rate_limit.minute(allowance, tat=tat, now=now).messages:
            tat = rate_limit.debit(allowance, tat=tat, now=now, messages=1)
            spent.append((now, DRAFT_PAIR_UNITS))
        after, wait = rate_limit.call(allowance, tat=tat, now=now, cost=20)
        if not wait and tick % 60 == 59:
            tat, last = after, now
            spent.append((now, 20))
    assert most_units(spent) <= limit


@pytest.mark.parametrize("units", [DRAFT_PAIR_UNITS, DIRECT_UNITS])
@pytest.mark.parametrize("limit", [220, 300, 500, 600, 900, 1000, 1100, 1250, 1500, 2000, 6000])
def test_messages_of_a_small_minute_go_beside_calls_that_never_end(limit: int, units: int) -> None:
    """An inbox is read every minute; below some 1,500 units a minute no message went beside that any more."""
    now, tat, last, spent = NOW, None, None, []
    while now < NOW + 20 * MINUTE:
        allowance = SenderLimits(limit, 0, 0, calls=rate_limit.calls(last, now=now))
        after, wait = rate_limit.call(allowance, tat=tat, now=now, cost=2, units=units)
        if not wait and (last is None or now - last >= 30 * SECOND):
            tat, last = after, now
            spent.append((now, 2))
        if rate_limit.minute(allowance, tat=tat, now=now, units=units).messages:
            tat = rate_limit.debit(allowance, tat=tat, now=now, messages=1, units=units)
            spent.append((now, units))
        now += SECOND / 20
    assert most_units(spent) <= limit
    messages = sum(each == units for _, each in spent)
    assert messages >= 0.4 * 20 * (limit // units), "at least 40 % of the messages that fit beside no calls"


@given(st.integers(220, 20_000), st.sampled_from([DRAFT_PAIR_UNITS, DIRECT_UNITS]), st.booleans())
def test_a_sender_that_used_nothing_for_a_minute_may_always_send(limit: int, units: int, calls: bool) -> None:  # noqa: FBT001
    allowance = SenderLimits(limit, 0, 0, calls=calls)
    for tat in (None, NOW - MINUTE):
        assert rate_limit.minute(allowance, tat=tat, now=NOW, units=units).messages


def test_every_call_costs_what_google_says() -> None:
    """https://developers.google.com/workspace/gmail/api/reference/quota"""
    assert {call.value: units for call, units in UNITS.items()} == {
        "token": 0, "drafts.create": 10, "drafts.send": 100, "drafts.get": 20, "drafts.list": 5, "drafts.delete": 10,
        "messages.send": 100, "messages.get": 20, "messages.list": 5, "threads.get": 40, "history.list": 2,
            "getProfile": 1,
    }  # fmt: skip
    assert set(UNITS) == set(Call)


@pytest.mark.parametrize("limit", [6000, 15_000])
@pytest.mark.parametrize("units", [DRAFT_PAIR_UNITS, DIRECT_UNITS])
@pytest.mark.parametrize("cost", LOOKS)
def test_a_call_is_charged_as_its_own_units(limit: int, units: int, cost: int) -> None:
    """A scan of a mailbox that sends directly was charged 100 units for each message of 20."""
    now, tat, last, spent = NOW, None, None, []
    while now < NOW + 5 * MINUTE:
        allowance = SenderLimits(limit, 0, 0, calls=rate_limit.calls(last, now=now))
        after, wait = rate_limit.call(allowance, tat=tat, now=now, cost=cost, units=units)
        if wait:
            now += wait
            continue
        tat, last = after, now
        spent.append((now, cost))
    assert most_units(spent) <= limit
    assert sum(each for _, each in spent) >= 0.97 * 5 * limit


@pytest.mark.parametrize("units", [DRAFT_PAIR_UNITS, DIRECT_UNITS])
def test_messages_beside_calls_lose_no_more_than_the_calls_take(units: int) -> None:
    now, tat, last, spent = NOW, None, None, []
    while now < NOW + 5 * MINUTE:
        allowance = SenderLimits(6000, 0, 0, calls=rate_limit.calls(last, now=now))
        after, wait = rate_limit.call(allowance, tat=tat, now=now, cost=20, units=units)
        if not wait and (last is None or now - last >= 2 * SECOND):
            tat, last = after, now
            spent.append((now, 20))
        if rate_limit.minute(allowance, tat=tat, now=now, units=units).messages:
            tat = rate_limit.debit(allowance, tat=tat, now=now, messages=1, units=units)
            spent.append((now, units))
        now += SECOND / 20
    assert most_units(spent) <= 6000
    assert sum(each for _, each in spent) >= 0.96 * 5 * 6000
    assert sum(each == 20 for _, each in spent) > 100, "the messages leave room for calls"


def test_messages_without_calls_use_all_of_the_minute() -> None:
    stream, beside = rate_limit.rate(SenderLimits(6000, 0, 0)), rate_limit.rate(SenderLimits(6000, 0, 0, calls=True))
    assert stream
    assert beside
    assert stream.interval < beside.interval < 1.01 * stream.interval
    assert rate_limit.calls(NOW, now=NOW + 74 * SECOND)
    assert not rate_limit.calls(NOW, now=NOW + 75 * SECOND)
    assert not rate_limit.calls(None, now=NOW)


@given(st.integers(40, 20_000), st.sampled_from(LOOKS), st.integers(0, 120))
def test_a_look_that_has_waited_as_told_is_let_through(limit: int, cost: int, before: int) -> None:
    allowance = SenderLimits(limit, 0, 0)
    tat = rate_limit.debit(allowance, tat=None, now=NOW, messages=before)
    _, wait = rate_limit.call(allowance, tat=tat, now=NOW, cost=cost)
    assert rate_limit.call(allowance, tat=tat, now=NOW + wait, cost=cost)[1] == timedelta(0)


def test_looks_cost_nothing_where_units_are_not_limited() -> None:
    for free in (SenderLimits(0, 0, 0), SenderLimits(0, 3, 0)):
        assert rate_limit.call(free, tat=NOW + MINUTE, now=NOW, cost=40) == (NOW + MINUTE, timedelta(0))


@pytest.mark.parametrize("units", [DRAFT_PAIR_UNITS, DIRECT_UNITS])
def test_a_minute_leaves_room_for_messages_that_arrive_at_google_as_late_as_is_known(units: int) -> None:
    allowance, now, tat, arrived = SenderLimits(6000, 0, 0, latency=1.4), NOW, None, []
    while now < NOW + 3 * MINUTE:
        budget = rate_limit.minute(allowance, tat=tat, now=now, units=units)
        assert budget.messages is not None
        tat = rate_limit.debit(allowance, tat=tat, now=now, messages=budget.messages, units=units)
        late = 1.4 * SECOND if now < NOW + 90 * SECOND else timedelta(0)
        arrived += [(now + late, units)] * budget.messages
        again = rate_limit.minute(allowance, tat=tat, now=now, units=units).next_at
        assert again
        now = again
    assert most_units(sorted(arrived)) <= 6000
    assert sum(each for _, each in arrived) >= 0.95 * 3 * 6000


@given(st.integers(1, 2_000_000), st.lists(st.tuples(st.integers(0, 5_000_000), st.integers(1, 500)), max_size=120))
def test_a_project_never_uses_more_than_its_minute(limit: int, wished: list[tuple[int, int]]) -> None:
    now, tat, spent = NOW, None, []
    for micros, wish in wished:
        now += timedelta(microseconds=micros)
        budget = rate_limit.project(limit, tat=tat, now=now)
        assert budget.messages is not None
        messages = min(wish, budget.messages)
        tat = rate_limit.project_debit(limit, tat=tat, now=now, units=messages * DRAFT_PAIR_UNITS)
        spent.append((now, messages * DRAFT_PAIR_UNITS))
        assert budget.next_at
        a_moment_later = max(now, budget.next_at) + timedelta(milliseconds=1)  # sums of many rounded messages
        later = rate_limit.project(limit, tat=tat, now=a_moment_later).messages
        assert later is not None
        assert later >= (1 if messages == budget.messages else 0)
    assert most_units(spent) <= max(limit, DRAFT_PAIR_UNITS)


def test_a_projects_minute_is_used_to_98_percent_by_claims_that_come_twice_a_second() -> None:
    now, tat, messages = NOW, None, 0
    while now < NOW + 5 * MINUTE:
        budget = rate_limit.project(1_200_000, tat=tat, now=now)
        assert budget.messages is not None
        tat = rate_limit.project_debit(1_200_000, tat=tat, now=now, units=budget.messages * DRAFT_PAIR_UNITS)
        messages += budget.messages
        now += SECOND / 2
    assert messages * DRAFT_PAIR_UNITS >= 0.98 * 5 * 1_200_000


@pytest.mark.parametrize("limit", [1_265_121, 1_225_526, 1_067_146, 940_442, 1_200_000])
@pytest.mark.parametrize("units", [DRAFT_PAIR_UNITS, DIRECT_UNITS])
def test_a_project_whose_messages_go_one_by_one_as_soon_as_they_may_stays_within_its_minute(
    limit: int, units: int
) -> None:
    now, tat, spent = NOW, None, []
    while now < NOW + MINUTE + SECOND:
        budget = rate_limit.project(limit, tat=tat, now=now, units=units)
        assert budget.messages is not None
        for _ in range(budget.messages):
            tat = rate_limit.project_debit(limit, tat=tat, now=now, units=units)
        spent.append((now, budget.messages * units))
        again = rate_limit.project(limit, tat=tat, now=now, units=units).next_at
        assert again
        now = again
    assert most_units(spent, within=MINUTE + 0.4 * SECOND) <= limit


def test_no_project_limit_is_no_limit() -> None:
    assert rate_limit.project(0, tat=NOW + DAY, now=NOW).messages is None
    assert rate_limit.project_debit(0, tat=None, now=NOW, units=10**9) is None


def test_the_reserve_is_taken_off_the_day_and_never_makes_it_limitless() -> None:
    assert SenderLimits(0, 0, 2000, reserve=200).on(NOW, since=NOW).per_day == 1800
    assert SenderLimits(0, 0, 100, reserve=100).on(NOW, since=NOW).per_day == 1
    assert SenderLimits(0, 0, 0, reserve=100).on(NOW, since=NOW).per_day == 0


def test_a_warm_up_grows_day_by_day_until_the_day_is_full() -> None:
    allowance = SenderLimits(0, 0, 200, reserve=20, warm_up=50, warm_up_growth=40)
    days = [allowance.on(NOW + n * DAY - timedelta(microseconds=n == 1), since=NOW).per_day for n in (0, 1, 2, 3, 9)]
    assert days == [50, 50, 130, 170, 180]
    assert SenderLimits(0, 0, 0, warm_up=5, warm_up_growth=1).on(NOW + DAY, since=NOW).per_day == 6


@given(st.floats(0.001, 86_400), st.floats(0, 1, exclude_max=True))
def test_the_gap_is_at_least_what_is_asked_and_at_most_half_more(seconds: float, chance: float) -> None:
    at = rate_limit.gap(SenderLimits(0, 0, 0, min_gap=seconds), now=NOW, chance=chance)
    assert at
    assert timedelta(seconds=seconds) <= at - NOW <= timedelta(seconds=1.5 * seconds) + timedelta(microseconds=1)
    assert rate_limit.gap(SenderLimits(0, 0, 0), now=NOW, chance=chance) is None


def test_what_google_has_cut_down_grows_by_one_a_minute_and_is_forgotten_in_the_end() -> None:
    given_ = [rate_limit.concurrency(2, since=NOW, now=NOW + minutes * MINUTE) for minutes in (0, 0.99, 1, 5, 29.9, 30)]
    assert given_ == [2, 2, 3, 7, 31, None]
    assert rate_limit.concurrency(None, since=NOW, now=NOW) is None
