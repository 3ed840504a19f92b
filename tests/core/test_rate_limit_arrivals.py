"""Pace as Google sees it: messages are counted when they arrive, however late, and a minute never has too many."""

import heapq
import random
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailerd.core import rate_limit
from mailerd.core.rate_limit import DIRECT_UNITS, DRAFT_PAIR_UNITS, MAX_LATENCY, SenderLimits

NOW = datetime(2026, 11, 24, 11, 17, 3, tzinfo=UTC)
SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)
QUICK = 0.3
"""Seconds that a message takes where nothing is wrong; less than the slack that there always is."""
CREATE_UNITS = DRAFT_PAIR_UNITS - DIRECT_UNITS
GOOGLES = [
    (SenderLimits(6000, 0, 0), DRAFT_PAIR_UNITS), (SenderLimits(6000, 0, 0), DIRECT_UNITS),
    (SenderLimits(15_000, 0, 0), DRAFT_PAIR_UNITS),
    (SenderLimits(6000, 30, 0), DRAFT_PAIR_UNITS), (SenderLimits(0, 60, 0), DIRECT_UNITS),
    (SenderLimits(0, 20, 0), DRAFT_PAIR_UNITS),
]  # fmt: skip


@dataclass(frozen=True)
class Trouble:
    """From `at` on (seconds) for so long, messages are held until it ends, or each takes so much longer."""

    at: float
    lasts: float
    each: float | None

    def took(self, claimed: float) -> float:
        if not self.at <= claimed < self.at + self.lasts:
            return 0.0
        return self.at + self.lasts - claimed if self.each is None else self.each


@dataclass
class World:
    """A sender's row, the daemons that claim for it, and a Google that writes down what arrives when."""

    allowance: SenderLimits
    units: int
    dice: random.Random
    troubles: list[list[Trouble]]
    """Each daemon's."""
    look: int = 0
    """Units of a look, if there are any."""
    odd: float = 0.0
    """How many of the messages are slow, each for itself; a share."""
    late: float = 0.0
    """Seconds by which a claim comes late at most."""
    now: float = 0.0
    tat: datetime | None = None
    latency: float | None = None
    seen: datetime | None = None
    called: datetime | None = None
    notes: list[tuple[float, float]] = field(default_factory=list)
    """When a slow message's outcome is committed, and how long it took."""
    arrived: list[tuple[float, int]] = field(default_factory=list)
    written: int = 0

    @property
    def moment(self) -> datetime:
        return NOW + self.now * SECOND

    def play(self, *, lasts: float) -> "World":
        while self.now < lasts:
            while self.notes and self.notes[0][0] <= self.now:
                self.note(*heapq.heappop(self.notes))
            allowance = self.as_known()
            if self.look and self.dice.random() < 0.2:
                self.search(allowance)
                allowance = self.as_known()
            budget = rate_limit.minute(allowance, tat=self.tat, now=self.moment, units=self.units)
            messages = budget.messages or 0
            self.tat = rate_limit.debit(allowance, tat=self.tat, now=self.moment, messages=messages, units=self.units)
            for _ in range(messages):
                self.send(allowance)
            again = rate_limit.minute(allowance, tat=self.tat, now=self.moment, units=self.units).next_at
            assert again
            wait = (again - self.moment) / SECOND + self.dice.choice((0.0, self.dice.uniform(0, self.late)))
            self.now = min(self.now + wait, max(self.notes[0][0], self.now + 1e-6)) if self.notes else self.now + wait
        return self

    def as_known(self) -> SenderLimits:
        """The limits, with what the sender's row says of late."""
        latency = rate_limit.latency(self.latency, seen=self.seen, now=self.moment)
        return replace(self.allowance, latency=latency, calls=rate_limit.calls(self.called, now=self.moment))

    def note(self, at: float, took: float) -> None:
        """What the store does in the commit of an outcome."""
        self.written += 1
        moment = NOW + at * SECOND
        self.latency, self.seen = (
            rate_limit.update_latency(took, before=self.latency, seen=self.seen, now=moment),
            moment,
        )

    def took(self) -> float:
        quick = self.dice.uniform(0.0, QUICK)
        if self.dice.random() < self.odd:
            return self.dice.uniform(0.0, MAX_LATENCY)
        return quick + max((one.took(self.now) for one in self.dice.choice(self.troubles)), default=0.0)

    def send(self, allowance: SenderLimits) -> None:
        took = self.took()
        # The worst that it can do: what is quick arrives as soon as it is claimed, what is slow when it is answered.
        draft, sent = sorted(
            (float(took > QUICK) if self.dice.random() < 0.9 else self.dice.random()) for _ in range(2)
        )
        if self.units == DRAFT_PAIR_UNITS:
            self.arrived.append((self.now + draft * took, CREATE_UNITS))
        self.arrived.append((self.now + sent * took, DIRECT_UNITS))
        if took > rate_limit.latency_threshold(allowance, seen=self.seen, now=self.moment):
            heapq.heappush(self.notes, (self.now + took + self.dice.uniform(0, 0.2), took))

    def search(self, allowance: SenderLimits) -> None:
        after, wait = rate_limit.call(allowance, tat=self.tat, now=self.moment, cost=self.look, units=self.units)
        if not wait:
            self.tat, self.called = after, self.moment
            self.arrived.append((self.now + self.dice.random() * self.took(), self.look))


def most(world: World) -> int:
    """The most units in any half-open 60 s, by arrival."""
    arrived = sorted(world.arrived)
    most = inside = first = 0
    for end, units in arrived:
        inside += units
        while arrived[first][0] <= end - 60:
            inside -= arrived[first][1]
            first += 1
        most = max(most, inside)
    return most


def messages_of(world: World) -> "World":
    """Only what sends, a unit each: what a limit of messages counts."""
    sent = [(at, 1) for at, units in world.arrived if units == DIRECT_UNITS]
    return replace(world, arrived=sent)


troubles = st.lists(
    st.builds(
        Trouble,
        at=st.floats(0, 700),
        lasts=st.floats(0.1, MAX_LATENCY - QUICK),
        each=st.none(),
    )
    | st.builds(Trouble, at=st.floats(0, 700), lasts=st.floats(0.1, 300), each=st.floats(0, MAX_LATENCY - QUICK)),
    max_size=4,
)


@pytest.mark.parametrize("google", GOOGLES, ids=str)
@settings(max_examples=20)
@given(
    st.lists(troubles, min_size=1, max_size=3),
    st.builds(random.Random, st.integers(0, 2**32)),
    st.sampled_from([0, 0, 5, 20, 40]),
    st.sampled_from([0.0, 0.05, 0.3]),
    st.sampled_from([0.0, 0.003, 0.1]),
)
def test_however_late_messages_arrive_google_never_counts_too_many_in_a_minute(
    google: tuple[SenderLimits, int],
    daemons: list[list[Trouble]],
    dice: random.Random,
    look: int,
    late: float,
    odd: float,
) -> None:
    allowance, units = google
    world = World(allowance, units, dice, daemons, look=look, late=late, odd=odd).play(lasts=780)
    if allowance.units_per_minute:
        assert most(world) <= allowance.units_per_minute
    if allowance.per_minute:
        assert most(messages_of(world)) <= allowance.per_minute


@pytest.mark.parametrize("units", [DRAFT_PAIR_UNITS, DIRECT_UNITS])
def test_a_quick_network_leaves_97_percent_of_the_minute_to_use_and_writes_nothing(units: int) -> None:
    world = World(SenderLimits(6000, 0, 0), units, random.Random(7), [[]], late=0.05).play(lasts=600)
    assert sum(each for _, each in world.arrived) >= 0.97 * 10 * 6000
    assert most(world) <= 6000
    assert world.written == 0
    stream = rate_limit.rate(world.allowance, units=units)
    assert stream
    assert MINUTE / stream.interval * units >= 0.978 * 6000


@settings(max_examples=40, deadline=None)
@given(troubles, st.builds(random.Random, st.integers(0, 2**32)), st.sampled_from([0.0, 0.003, 0.1]))
def test_however_late_the_messages_of_a_project_arrive_its_minute_never_has_too_many(
    slow: list[Trouble], dice: random.Random, odd: float
) -> None:
    limit = 66_000
    world = World(SenderLimits(limit, 0, 0), DRAFT_PAIR_UNITS, dice, [slow], odd=odd)
    while world.now < 600:
        while world.notes and world.notes[0][0] <= world.now:
            world.note(*heapq.heappop(world.notes))
        latency = rate_limit.latency(world.latency, seen=world.seen, now=world.moment)
        messages = rate_limit.project(limit, tat=world.tat, now=world.moment, latency=latency).messages or 0
        units = messages * DRAFT_PAIR_UNITS
        world.tat = rate_limit.project_debit(limit, tat=world.tat, now=world.moment, units=units, latency=latency)
        for _ in range(messages):
            world.send(replace(world.allowance, latency=latency))
        world.now += dice.uniform(0.05, 0.5)
    assert most(world) <= limit


def test_an_hour_of_slow_messages_takes_few_notes_and_never_forgets() -> None:
    slow = Trouble(at=60, lasts=3600, each=2.0)
    world = World(SenderLimits(6000, 0, 0), DRAFT_PAIR_UNITS, random.Random(7), [[slow]]).play(lasts=3660)
    assert most(world) <= 6000
    assert 30 <= world.written <= 150  # every two minutes, by each message that is on its way then; of 3,000 messages
    assert 2.0 <= (world.latency or 0.0) <= 2.0 + QUICK


def test_what_was_slow_once_is_forgotten_ten_minutes_later() -> None:
    world = World(SenderLimits(6000, 0, 0), DRAFT_PAIR_UNITS, random.Random(7), [[Trouble(at=1, lasts=3, each=None)]])
    world.play(lasts=1200)
    assert world.latency
    assert world.seen
    for ago, known in ((10 * MINUTE - SECOND, world.latency), (10 * MINUTE, 0.0)):
        assert rate_limit.latency(world.latency, seen=world.seen, now=world.seen + ago) == known
    last_minutes = sum(units for at, units in world.arrived if at >= 900)
    assert last_minutes >= 0.97 * 5 * 6000


seconds, latencies = st.floats(0, 1200), st.floats(0.4, MAX_LATENCY)


@given(latencies, seconds)
def test_every_message_that_is_not_noted_is_covered_by_the_slack_after_the_next_note(known: float, ago: float) -> None:
    seen = NOW - ago * SECOND
    counts = rate_limit.latency(known, seen=seen, now=NOW)
    unnoted = rate_limit.latency_threshold(SenderLimits(6000, 0, 0, latency=counts), seen=seen, now=NOW)
    after = rate_limit.update_latency(0.41, before=known, seen=seen, now=NOW + 10 * SECOND)
    assert rate_limit.latency_margin(after) >= unnoted * (1 - 1e-9)
    assert rate_limit.latency_margin(after) >= (counts if ago < 590 else 0.0) * (1 - 1e-9)


@given(latencies, seconds, st.floats(0.4, 3000))
def test_a_note_knows_the_message_that_made_it_up_to_what_is_an_outage(known: float, ago: float, took: float) -> None:
    after = rate_limit.update_latency(took, before=known, seen=NOW - ago * SECOND, now=NOW)
    assert min(took, MAX_LATENCY) <= after <= MAX_LATENCY
    assert rate_limit.latency_margin(after) >= min(1.25 * took, 10.0)


def test_nothing_is_noted_where_there_is_no_pace() -> None:
    assert rate_limit.latency_threshold(SenderLimits(0, 0, 2000), seen=None, now=NOW) == float("inf")


def test_an_outage_costs_less_than_a_sixth_of_the_minute() -> None:
    stream = rate_limit.rate(SenderLimits(6000, 0, 0, latency=1000.0))
    assert stream
    assert MINUTE / stream.interval * DRAFT_PAIR_UNITS >= 0.83 * 6000
