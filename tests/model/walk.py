"""A run of a world from an empty database to its end, each step chosen by a seed."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from tests.model.world import RULES, WEIGHTS, World
from tests.support.recycled import empty

_TOLD: Final = 60
"""The last steps, which are told of a run that failed."""


@dataclass
class Walked:
    """What a run came to."""

    steps: int = 0
    messages: int = 0


async def walk(url: str, *, seed: int, steps: int) -> Walked:
    """So many steps, after each of which everything was compared, and then the rest until nothing is open."""
    chance, names = random.Random(seed), list(RULES)
    world = World(url)
    try:
        empty(world.ledger.connection)
        await world.open()
        with telling(world):
            for _ in range(steps):
                may = world.enabled()
                name = chance.choices(names, [WEIGHTS[name] if name in may else 0 for name in names])[0]
                await world.step(name, chance.randrange)
            await world.drain()
    finally:
        await world.close()
    return Walked(world.steps, len(world.google.sent))


@contextmanager
def telling(world: World) -> Iterator[None]:
    """Whatever fails tells what has happened before."""
    try:
        yield
    except BaseException as error:
        error.add_note(f"at step {world.steps}, after:\n" + "\n".join(world.story[-_TOLD:]))
        raise
