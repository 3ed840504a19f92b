"""The rule by which a bad list stops: never by chance, never by notices instead of messages, and soon."""

import random
from datetime import UTC, datetime, timedelta
from itertools import permutations
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailerd.config import SafetySettings
from mailerd.core.bounce_rule import (
    BRAKE,
    BRAKES_COUNT_FOR,
    LAST,
    MAX_BRAKES,
    YOUNG_FOR,
    YOUNG_MESSAGES,
    YOUNG_POLL,
    BounceRule,
    is_dead,
)
from mailerd.core.notices import Kind
from mailerd.core.rate_limit import MIN_ROUND, UNITS, BudgetSpentError, RoundBudget
from mailerd.core.replies import Call
from mailerd.core.results import Result, prevails

KNOWN: Final = SafetySettings()
JOB: Final = BounceRule(KNOWN.job_bounces, KNOWN.job_share)
SENDER: Final = BounceRule(KNOWN.sender_bounces, KNOWN.sender_share)
rules = st.builds(BounceRule, st.integers(1, 50), st.floats(0.001, 1.0))
sent = st.integers(0, 5000)
dead = st.integers(0, 5000)


@pytest.mark.parametrize("number,limit", [(6, 6), (10, 6), (20, 7), (75, 11), (100, 13), (200, 21)])
def test_a_job_stops_at_five_dead_addresses_beyond_its_share(number: int, limit: int) -> None:
    assert not JOB.is_broken(limit - 1, number)
    assert JOB.is_broken(limit, number)


@pytest.mark.parametrize("number,limit", [(20, 20), (150, 20), (200, 21), (3000, 245)])
def test_a_sender_stops_at_twenty_at_least(number: int, limit: int) -> None:
    assert not SENDER.is_broken(limit - 1, number)
    assert SENDER.is_broken(limit, number)


@given(rules, dead, sent)
def test_it_never_acts_below_five_messages(rule: BounceRule, few: int, number: int) -> None:
    assert few >= 5 or not rule.is_broken(few, number)


@given(rules, dead, sent)
def test_it_is_monotone_in_bounces_and_warns_before_it_acts(rule: BounceRule, some: int, number: int) -> None:
    if rule.is_broken(some, number):
        assert rule.is_broken(some + 1, number)
        assert rule.is_near(some, number)


@given(rules, dead, sent)
def test_more_messages_that_went_well_never_break_it(rule: BounceRule, some: int, number: int) -> None:
    assert rule.is_broken(some, number) or not rule.is_broken(some, number + 1)


@pytest.mark.parametrize("rule", [BounceRule(0, 0.1), BounceRule(5, 0.0)])
def test_what_is_off_does_nothing(rule: BounceRule) -> None:
    assert [rule.is_on, rule.is_broken(200, 200), rule.is_near(200, 200), rule.is_unread(200, 200)] == [False] * 4


@pytest.mark.parametrize(
    "kind,code,reason,counts",
    [
        ("hard", "5.1.1", "no such user", True),
        ("hard", None, None, True),
        ("soft", "5.4.1", "550 5.4.1 Recipient address rejected: Access denied.", True),
        ("unknown", "5.5.0", "550 5.5.0 Requested action not taken: mailbox unavailable", True),
        ("unknown", "5.4.310", "DNS domain nowhere.example does not exist", True),
        ("soft", "5.4.1", "no answer from host", False),
        ("unknown", "5.5.0", "bad sequence of commands", False),
        ("soft", "5.2.2", "mailbox full, access denied", False),
        ("blocked", "5.7.1", "access denied", False),
        ("blocked", "5.4.1", "Access denied", False),
        (None, None, None, False),
    ],
)
def test_dead_is_what_does_not_exist_in_the_words_of_microsoft_too(
    kind: str | None, code: str | None, reason: str | None, *, counts: bool
) -> None:
    assert is_dead(kind, code, reason) is counts


notices = st.lists(
    st.tuples(st.integers(0, 3), st.sampled_from([Kind.HARD, Kind.SOFT, Kind.BLOCKED, Kind.UNKNOWN, None])), max_size=5
)


def _dead_of(arrived: list[tuple[int, Kind | None]]) -> int:
    """The messages that count after these notices, each one of a message; None: an answer."""
    results: dict[int, tuple[Result, str]] = {}
    for message, kind in arrived:
        new = (Result.BOUNCED, kind.value) if kind else (Result.REPLIED, "")
        if prevails(new, results.get(message)):
            results[message] = new
    return sum(result is Result.BOUNCED and is_dead(kind, "5.0.0", "") for result, kind in results.values())


@given(notices)
def test_notices_in_any_order_and_again_give_the_same_count(arrived: list[tuple[int, Kind | None]]) -> None:
    counted = _dead_of(arrived)
    assert counted <= len({message for message, _ in arrived})
    assert {_dead_of([*order, *arrived]) for order in permutations(arrived)} <= {counted}


START: Final = datetime(2026, 12, 1, tzinfo=UTC)
A_MINUTE: Final = 53
TOTAL: Final = 2000


def simulate(chance: random.Random, share: float, *, brake: bool = True) -> tuple[int, bool]:
    """Send a job whose list has so many dead addresses; how many were sent, and whether a rule stopped it.

    Times are seconds. A notice comes after 2 to 40 s; the mailbox is read each 15 s while the job is young, else each
    minute, and first up to a minute after the job began; with the budget that the reader has.
    """
    every = 60 / A_MINUTE
    count, next_send, poll, braked, brakes, second_hundred = 0, 0.0, chance.uniform(0, 60), 0.0, 0, float("inf")
    coming: list[tuple[float, int]] = []
    spent: list[tuple[datetime, int]] = []
    read: list[int] = []
    while True:
        while count < TOTAL and next_send <= poll:
            if next_send < braked:
                next_send = braked
                continue
            if chance.random() < share:
                coming.append((next_send + chance.uniform(2, 40), count))
            count += 1
            second_hundred = next_send if count == YOUNG_MESSAGES else second_hundred
            next_send += every
        if count == TOTAL:
            return count, False
        now = START + timedelta(seconds=poll)
        budget = RoundBudget.of_round(6000, idle=braked > poll + 60, spent=spent, today=0, now=now)
        unread = sorted(it for it in coming if it[0] <= poll)
        try:
            budget.spend(Call.HISTORY_LIST)
            again = brakes < MAX_BRAKES or poll - braked > BRAKES_COUNT_FOR.total_seconds()
            if brake and braked <= poll and again and JOB.is_unread(len(unread), min(count, LAST)):
                brakes = 1 if poll - braked > BRAKES_COUNT_FOR.total_seconds() else brakes + 1
                braked = poll + BRAKE.total_seconds()
            budget.require(MIN_ROUND - UNITS[Call.HISTORY_LIST])
            for it in unread:
                budget.spend(Call.MESSAGES_GET)
                budget.spend(Call.MESSAGES_GET)
                coming.remove(it)
                read.append(it[1])
                newest = max(read)
                last, among = sum(number > newest - LAST for number in read), min(newest + 1, LAST)
                if JOB.is_broken(last, among) or SENDER.is_broken(last, among):
                    return count, True
        except BudgetSpentError:
            pass
        spent = [*(it for it in spent if it[0] > now - timedelta(minutes=1)), (now, budget.used)]
        young = poll < second_hundred + YOUNG_FOR.total_seconds()
        poll += YOUNG_POLL.total_seconds() if young else 60.0


def test_a_list_of_dead_addresses_stops_after_at_most_120_messages() -> None:
    sent = [simulate(random.Random(seed), 1.0) for seed in range(300)]
    assert all(stopped for _, stopped in sent)
    assert max(number for number, _ in sent) <= 120


def test_without_the_brake_it_would_not() -> None:
    """What the brake is for: one notice a minute is read while messages wait."""
    assert min(simulate(random.Random(seed), 1.0, brake=False)[0] for seed in range(20)) > 200


def test_a_list_with_three_percent_never_stops_in_a_thousand_runs() -> None:
    assert [seed for seed in range(1000) if simulate(random.Random(seed), 0.03)[1]] == []


def test_the_odds_of_stopping_a_list_with_three_percent_are_far_below_one_in_a_thousand() -> None:
    """At worst, as if each bounce were known at once: the specified five and 5 % stop three lists of four."""

    def stops(chance: random.Random, rule: BounceRule, *, beyond: int) -> bool:
        results = [chance.random() < 0.03 for _ in range(TOTAL)]
        among = 0
        for number, result in enumerate(results, 1):
            among += result - (number > LAST and results[number - LAST - 1])
            seen = min(number, LAST)
            if result and (rule.is_broken(among, seen) if beyond else among >= 5 and among > 0.05 * seen):
                return True
        return False

    assert not any(stops(random.Random(seed), JOB, beyond=5) for seed in range(1000))
    assert sum(stops(random.Random(seed), JOB, beyond=0) for seed in range(200)) > 100
