"""What copies cost of a day: whatever the messages are, a day of so much cost holds no more than Google allows."""

from collections.abc import Sequence
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailerd.core import copies, rate_limit
from mailerd.core.copies import FORGOTTEN, MAX_COPIES, Copy, cost, from_json, once_each, to_json
from mailerd.core.rate_limit import SenderLimits
from tests.core.test_rate_limit import NOW

OWN, OTHER = "me@example.com", "me@gmail.com"
NAMES = st.sampled_from(["ada", "bob", "Cy"])
DOMAINS = st.sampled_from(["example.com", "EXAMPLE.com", "example.org", "sub.example.com", "gmail.com"])
ADDRESSES = st.builds("{}@{}".format, NAMES, DOMAINS)
COPIES = st.lists(
    st.builds(Copy, st.sampled_from(["cc", "bcc"]), ADDRESSES, st.none() | st.text(max_size=5), st.just(b"")),
    max_size=2 * MAX_COPIES,
)


def outside(address: str, sender: str) -> bool:
    return address.lower().rpartition("@")[2] != sender.rpartition("@")[2]


@given(st.lists(st.tuples(ADDRESSES, COPIES), max_size=20), st.sampled_from([OWN, OTHER]))
def test_what_a_day_has_room_for_google_has_room_for(messages: list[tuple[str, list[Copy]]], sender: str) -> None:
    day = sum(cost(some, sender=sender) for _, some in messages)  # so many messages are allowed, and no more
    addresses = [each for to, some in messages for each in (to, *(it.email for it in some))]
    assert len(messages) <= day
    if sender == OTHER:
        assert len(addresses) <= day
        return
    external = [it for it in addresses if outside(it, sender)]
    assert len(addresses) <= 5 * day
    assert len(external) <= 1.5 * day
    assert len({it.lower() for it in external}) <= day


@pytest.mark.parametrize(
    "some,costs",
    [
        ([], 1),
        (["a@example.com"] * 4, 1),
        (["a@example.com"] * 5, 2),
        (["a@example.org"], 2),
        (["a@example.org", *["a@EXAMPLE.com"] * 12], 3),
        (["a@sub.example.com"], 2),
    ],
)
def test_a_copy_within_the_domain_costs_a_fifth_and_any_other_one_as_much_as_a_message(
    some: Sequence[str], costs: int
) -> None:
    assert cost([Copy("cc", it) for it in some], sender=OWN) == costs
    assert cost([Copy("bcc", it) for it in some], sender=OTHER) == 1 + len(some)


def test_an_address_is_kept_once_to_before_cc_before_bcc() -> None:
    given_ = [Copy("bcc", "x@example.com"), Copy("cc", "X@example.com"), Copy("bcc", "y@e.org"), Copy("cc", "to@e.org")]
    assert once_each("TO@e.org", given_) == (Copy("cc", "X@example.com"), Copy("bcc", "y@e.org"))


@given(COPIES)
def test_a_row_gives_back_what_it_was_given(some: list[Copy]) -> None:
    assert from_json(to_json(some)) == tuple(it._replace(name=it.name or None) for it in some)


def test_who_was_forgotten_gets_no_copy() -> None:
    left = to_json([Copy("cc", FORGOTTEN), Copy("cc", "a@example.com")])
    assert from_json(left) == (Copy("cc", "a@example.com"),)
    assert from_json(None) == ()


def test_those_that_are_left_out_are_left_out() -> None:
    some = [Copy("cc", "a@example.com"), Copy("bcc", "b@example.com")]
    assert copies.without(some, {"a@example.com": "x"}) == (some[1],)


HOUR = timedelta(hours=1)


def test_a_message_that_is_dearer_than_what_is_left_waits_for_as_many_hours_as_it_needs() -> None:
    limits, start = SenderLimits(0, 0, 10), NOW.replace(minute=0, second=0, microsecond=0)
    hours = {start - 3 * HOUR: 4, start - HOUR: 4}
    at = [rate_limit.day(limits, hours=hours, now=NOW, cost=each).next_at for each in (1, 2, 3, 6, 7, 10)]
    assert at == [None, None, start + 22 * HOUR, start + 22 * HOUR, start + 24 * HOUR, start + 24 * HOUR]
    assert rate_limit.day(limits, hours=hours, now=NOW, cost=6).messages == 2
    dearer = rate_limit.day(limits, hours=hours, now=NOW, cost=11)
    assert (dearer.messages, dearer.next_at) == (2, NOW + HOUR), "only another limit helps"
