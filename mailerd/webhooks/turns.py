"""Whose deliveries come next, where several owners wait for the places of one daemon."""

from collections import Counter
from collections.abc import Mapping


def in_turn(waiting: Mapping[str, int], held: Mapping[int, int]) -> list[str]:
    """The endpoints, turn about between their owners; who holds the fewest places comes first.

    `waiting`: endpoints with their owners. `held`: places by owner.
    """
    nth, turns = Counter(held), dict[str, int]()
    for id_, owner in waiting.items():
        turns[id_] = nth[owner]
        nth[owner] += 1
    return sorted(turns, key=lambda id_: turns[id_])


def share(*, held: int, free: int, alone: bool) -> int:
    """How many more places an owner may take who holds so many.

    An owner with others beside it holds at most about as many as are free then, and the next owner finds some: one
    busy owner has half of all, two have a third each. An attempt that hangs gives nothing back for as long as it may.
    """
    return free if alone else max(0, (free - held + 1) // 2)
