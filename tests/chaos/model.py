"""Long runs of the model: seed after seed, everything that may happen to messages, compared after each step."""

from __future__ import annotations

import asyncio
import sys
import time
import traceback
from collections.abc import Sequence
from typing import Final

from mailerd.sandbox.mariadb import Server
from tests.chaos.place import ROOT
from tests.model.walk import walk
from tests.support.recycled import RecycledDatabase

SEEDS: Final = range(1, 51)
STEPS: Final = 2000
SHORT: Final = 200


def main(*, seeds: Sequence[int] = SEEDS, steps: int = STEPS) -> int:
    """Run these seeds; 0 when everything agreed after every step of all of them."""
    failed, done, began = 0, 0, time.monotonic()
    with Server(cache=ROOT / ".cache") as server:
        url = RecycledDatabase(server).take()
        for seed in seeds:
            try:
                walked = asyncio.run(walk(url, seed=seed, steps=steps))
            except Exception:  # noqa: BLE001 - the next seed may find something else
                failed += 1
                sys.stdout.write(f"model {seed}: BREACH\n{traceback.format_exc()}\n")
            else:
                done += walked.steps
                sys.stdout.write(f"model {seed}: {walked.steps} steps, {walked.messages} messages accepted by Google\n")
            sys.stdout.flush()
    pace = done / (time.monotonic() - began)
    sys.stdout.write(f"{len(seeds)} seeds, {done} steps, {pace:.0f} a second, {failed} with a breach\n")
    return 1 if failed else 0
