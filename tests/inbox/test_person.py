"""A person who sends by hand beside mailerd, in simulated days: the limit is nearly used, and never met."""

import random
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest

from mailerd.core import rate_limit
from mailerd.core.rate_limit import SenderLimits
from mailerd.sandbox.google import FakeGoogle, FakeLimits
from mailerd.sandbox.google.answers import Refused

ME = "me@example.com"
LIMIT, RESERVE = 2000, 40
START = datetime(2026, 12, 1, 9, 13, tzinfo=UTC)
POLL = timedelta(minutes=1)


class Days:
    """Google's window of a mailbox, and the ledger that mailerd has of it; `reads`: the inbox is read each minute."""

    def __init__(self, seed: int, *, reads: bool) -> None:
        self.now = START
        self.chance = random.Random(seed)
        self.google = FakeGoogle(FakeLimits(per_day=LIMIT, units_per_minute=0), now=self.seconds)
        self.box = self.google.mailbox(ME)
        self.hours: Counter[datetime] = Counter()
        self.unread: list[datetime] = []
        self.refused = {"mailerd": 0, "person": 0}
        self.reads = reads

    def seconds(self) -> float:
        """The time of all of them."""
        return self.now.timestamp()

    def hand_over(self, who: str) -> None:
        """A message goes to Google; each is accepted, or refused since the day is full."""
        try:
            self.google.limits.permit_sending(self.box, ["friend@example.net"], now=self.now.timestamp())
        except Refused:
            self.refused[who] += 1

    def minute(self, person_per_day: int) -> None:
        """The person sends or does not, the inbox is read, and mailerd sends what its ledger allows, 54 at most."""
        if self.chance.random() < person_per_day / (24 * 60):
            self.hand_over("person")
            self.unread.append(self.now)
        limits = SenderLimits(6000, 0, LIMIT, RESERVE).on(self.now, since=START)
        allowed = rate_limit.day(limits, hours=self.hours, now=self.now).messages or 0
        for _ in range(min(54, allowed)):
            self.hand_over("mailerd")
            self.hours[self.now.replace(minute=0)] += 1
        if self.reads:  # what was sent by hand within the last minute is known only now
            self.hours.update(at.replace(minute=0) for at in self.unread)
            self.unread.clear()
        self.now += POLL


@pytest.mark.parametrize("seed", range(5))
def test_a_person_beside_mailerd_is_never_refused(seed: int) -> None:
    days = Days(seed, reads=True)
    for _ in range(4 * 24 * 60):
        days.minute(person_per_day=20)
    assert days.refused == {"mailerd": 0, "person": 0}
    assert days.box.usage.day.peak >= 0.98 * LIMIT


def test_unread_the_same_person_meets_the_limit() -> None:
    """What the test above would show if messages that are sent by hand were not counted."""
    days = Days(0, reads=False)
    for _ in range(4 * 24 * 60):
        days.minute(person_per_day=60)
    assert sum(days.refused.values()) > 0
