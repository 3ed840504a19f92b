"""Places are shared between owners: whatever some hold, whoever comes next finds one."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from mailerd.webhooks.sender import in_turn, share


def test_owners_take_turns_and_who_holds_the_fewest_comes_first() -> None:
    waiting = {"a1": 1, "a2": 1, "a3": 1, "b1": 2, "c1": 3, "c2": 3}
    assert in_turn(waiting, {}) == ["a1", "b1", "c1", "a2", "c2", "a3"]
    assert in_turn(waiting, {1: 2}) == ["b1", "c1", "c2", "a1", "a2", "a3"]


def test_one_who_is_alone_has_every_place_and_others_leave_some() -> None:
    assert share(held=3, free=13, alone=True) == 13
    assert [share(held=0, free=free, alone=False) for free in (1, 2, 16)] == [1, 1, 8]
    assert share(held=8, free=8, alone=False) == 0


@given(places=st.integers(1, 256), owners=st.lists(st.integers(1, 9), max_size=60))
def test_nobody_takes_the_last_place_who_holds_one(places: int, owners: list[int]) -> None:
    held = Counter[int]()
    for owner in owners:
        free = places - held.total()
        more = share(held=held[owner], free=free, alone=False)
        assert 0 <= more <= free
        held[owner] += more
        assert not more or places - held.total() > 0 or held[owner] == 1
