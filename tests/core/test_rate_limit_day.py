"""A whole day of one mailbox that always has messages: what Google counts, and how much of its allowance is used."""

import random
from collections import Counter
from datetime import datetime, timedelta

import pytest

from mailerd.core.rate_limit import DRAFT_PAIR_UNITS, MAX_LATENCY, SenderLimits, day, debit, minute
from tests.core.test_rate_limit import MINUTE, NOW, hour_of, most_in_any
from tests.core.test_rate_limit_arrivals import QUICK, Trouble, World, most

DAY = timedelta(hours=24)
DICE = random.Random(7)
SLOW_HOURS = [Trouble(at=3600.0 * hour, lasts=600.0, each=DICE.uniform(0, MAX_LATENCY - QUICK)) for hour in range(24)]


@pytest.mark.parametrize("troubles,share", [([], 0.975), (SLOW_HOURS, 0.95)], ids=["quick", "ten slow minutes an hour"])
def test_no_minute_of_a_day_has_too_many_units_and_nearly_all_are_used(troubles: list[Trouble], share: float) -> None:
    world = World(SenderLimits(6000, 0, 0), DRAFT_PAIR_UNITS, random.Random(7), [troubles], late=0.05)
    world.play(lasts=DAY.total_seconds())
    assert most(world) <= 6000
    assert sum(units for _, units in world.arrived) >= share * 6000 * (DAY / MINUTE)


def test_three_days_at_the_daily_limit_never_have_more_in_any_24_hours() -> None:
    allowance = SenderLimits(6000, 0, 2000)  # Google's for a Workspace mailbox
    hours, now, tat = Counter[datetime](), NOW, None
    claims: list[tuple[datetime, int]] = []
    while now < NOW + 3 * DAY:
        budgets = [minute(allowance, tat=tat, now=now), day(allowance, hours=hours, now=now)]
        messages = min(each.messages for each in budgets if each.messages is not None)
        if messages:
            claims.append((now, messages))
            hours[hour_of(now)] += messages
            tat = debit(allowance, tat=tat, now=now, messages=messages)
            budgets = [minute(allowance, tat=tat, now=now), day(allowance, hours=hours, now=now)]
        now = max(each.next_at for each in budgets if each.next_at is not None)
    assert most_in_any(DAY, claims) <= 2000
    assert sum(messages for _, messages in claims) >= 3 * 2000 * 24 / 25, "what is used comes back within 25 hours"
