"""Identifiers: ULIDs, message for message as their specification has them."""

import os
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailerd.clock import new_id

CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


@given(milliseconds=st.integers(0, 2**48 - 1), chance=st.binary(min_size=10, max_size=10))
def test_an_identifier_is_the_time_and_eighty_random_bits_in_crockfords_characters(
    milliseconds: int, chance: bytes
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "time_ns", lambda: milliseconds * 1_000_000 + 999_999)
        patch.setattr(os, "urandom", lambda count: chance[:count])
        made = new_id()
    number = 0
    for character in made:
        number = number << 5 | CROCKFORD.index(character)
    assert len(made) == 26
    assert number == milliseconds << 80 | int.from_bytes(chance)


def test_identifiers_of_later_moments_sort_behind_those_of_earlier_ones() -> None:
    with pytest.MonkeyPatch.context() as patch:
        made = []
        for milliseconds in (0, 1, 31, 32, 2**20, 1_800_000_000_000):
            patch.setattr(time, "time_ns", lambda now=milliseconds: now * 1_000_000)
            made.append(new_id())
    assert made == sorted(made)
