"""Google's Standard tier begins on a day for all: from then on no minute holds more, and before it none holds less."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailerd.core import rate_limit
from mailerd.core.rate_limit import DIRECT_UNITS, DRAFT_PAIR_UNITS, UNITS, SenderLimits
from mailerd.core.replies import Call

MIDNIGHT = datetime(2027, 4, 1, tzinfo=UTC)
SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)
LOOKS = sorted({units for call, units in UNITS.items() if units and call not in {Call.DRAFTS_SEND, Call.MESSAGES_SEND}})
wishes = st.lists(
    st.tuples(st.integers(0, 900_000), st.sampled_from([0, 0, 0, 0, *LOOKS])), min_size=50, max_size=400
)  # microseconds since the wish before; 0 is a message


class Spender:
    """A sender that spends what it may, with the limits of each moment."""

    def __init__(self, limits: SenderLimits, *, units: int, late: timedelta = timedelta(0)) -> None:
        self.limits, self.units, self.late = limits, units, late
        self.tat: datetime | None = None
        self.last: datetime | None = None
        self.spent: list[tuple[datetime, int]] = []

    def wish(self, now: datetime, cost: int) -> None:
        limits = self.limits.on(now, since=MIDNIGHT)
        allowance = SenderLimits(limits.units_per_minute, 0, 0, calls=rate_limit.calls(self.last, now=now))
        if cost:
            after, wait = rate_limit.call(allowance, tat=self.tat, now=now, cost=cost, units=self.units)
            if not wait:
                self.tat, self.last = after, now
                self.spent.append((now, cost))
        elif rate_limit.minute(allowance, tat=self.tat, now=now, units=self.units).messages:
            self.tat = rate_limit.debit(allowance, tat=self.tat, now=now, messages=1, units=self.units)
            self.spent.append((now + (self.late if len(self.spent) % 2 else timedelta(0)), self.units))

    def throttled(self, limit: int) -> list[datetime]:
        """When Google, which has `limit` until midnight and 6,000 from then on, would throttle a call."""
        spent = sorted(self.spent)
        return [
            end
            for end, _ in spent
            if sum(units for at, units in spent if end - MINUTE < at <= end) > (6000 if end >= MIDNIGHT else limit)
        ]


@given(st.integers(6_001, 20_000), st.integers(0, 300), wishes, st.sampled_from([DRAFT_PAIR_UNITS, DIRECT_UNITS]))
def test_no_minute_that_google_measures_holds_more_than_the_tier_of_its_end(
    limit: int, before: int, wished: list[tuple[int, int]], units: int
) -> None:
    now, sender = MIDNIGHT - before * SECOND, Spender(SenderLimits(limit, 0, 0, standard=True), units=units)
    for micros, cost in wished:
        now += timedelta(microseconds=micros)
        sender.wish(now, cost)
    assert sender.throttled(limit) == []


@pytest.mark.parametrize("units", [DRAFT_PAIR_UNITS, DIRECT_UNITS])
@pytest.mark.parametrize("looks", [0, 60])
def test_a_greedy_sender_with_late_answers_is_not_throttled_across_that_midnight(units: int, looks: int) -> None:
    sender = Spender(SenderLimits(15_000, 0, 0, standard=True), units=units, late=0.4 * SECOND)
    for tick in range(20 * 420):  # from 23:56 to 00:03
        sender.wish(MIDNIGHT - 4 * MINUTE + tick * SECOND / 20, 20 if looks and tick % looks == looks - 1 else 0)
    assert sender.throttled(15_000) == []
    of_minute = [
        sum(units for at, units in sender.spent if start <= at - MIDNIGHT < start + MINUTE)
        for start in (-3 * MINUTE, 1 * MINUTE)
    ]
    assert of_minute[0] > 0.97 * 15_000, "the whole of the higher limit is used while it holds"
    assert 0.95 * 6000 < of_minute[1] <= 6000


@pytest.mark.parametrize("standard", [True, False])
def test_the_tier_caps_what_is_above_it_and_nothing_else(*, standard: bool) -> None:
    def on(units: int, now: datetime) -> int:
        return SenderLimits(units, 0, 0, standard=standard).on(now, since=now).units_per_minute

    day = timedelta(days=1)
    assert on(15_000, MIDNIGHT - 2 * MINUTE) == 15_000
    assert on(15_000, MIDNIGHT) == on(15_000, MIDNIGHT + 900 * day) == (6000 if standard else 15_000)
    assert [on(units, MIDNIGHT + day) for units in (0, 500, 6000)] == [0, 500, 6000]
