"""Runs one scenario with one seed from its first message to its last, within its limit, and says what was seen."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Final

from tests.chaos.logs import Heard, hear
from tests.chaos.place import ROOT, Failover, Place, mailerd, place
from tests.chaos.scenario import Scenario, Size
from tests.chaos.truth import OPEN, UNFINISHED, Truth, keep_evidence, read_truth
from tests.support.own_time import slowness

SILENCE_LIMIT: Final = 40.0
"""Seconds: what is away is told anew every 30 s, by a call that may take a while to fail."""
OVER_LIMIT: Final = 1.0
"""Seconds by which a wait may be longer than its bound on a machine that is busy with the storm itself; of a machine
that is slower than usual meanwhile, as many times more."""
_BETWEEN: Final = 2.0
"""Seconds between two looks at how slow it is."""
_ORPHANS_WITHIN: Final = 20.0
"""Seconds in which one more orphan draft must have been deleted."""
KEPT: Final = ROOT / ".cache" / "chaos"
"""Where the evidence of a breach is kept."""


@dataclass
class Result:
    """A line of the table."""

    scenario: str
    seed: int
    faults: int = 0
    seconds: float = 0.0
    truth: Truth = field(default_factory=Truth)
    silence: float = 0.0
    over: float = 0.0
    events: Counter[str] = field(default_factory=Counter)
    breaches: list[str] = field(default_factory=list)
    failovers: list[Failover] = field(default_factory=list)
    posted: int = 0
    """Posts that got any answer, where a storm counts those that were refused."""


async def run(scenario: Scenario, size: Size, *, seed: int) -> Result:
    """Run it; whatever goes wrong in it is a breach."""
    result = Result(scenario.name, seed)
    folder = Path(tempfile.mkdtemp(prefix="mailerd-chaos-"))
    began = time.monotonic()
    try:
        async with asyncio.timeout(scenario.within * slowness()):
            await _run(scenario, size, seed=seed, folder=folder, result=result)
    except TimeoutError:
        result.breaches.append(f"it was not over within {scenario.within:g} s: {traceback.format_exc(limit=-3)}")
    except Exception:  # noqa: BLE001 - the table shall name every failure, and the other scenarios go on
        result.breaches.append(f"the suite itself failed: {traceback.format_exc()}")
    result.seconds = time.monotonic() - began
    if result.breaches:
        kept = KEPT / f"{scenario.name}-{seed}"
        shutil.rmtree(kept, ignore_errors=True)
        shutil.copytree(folder, kept)
        result.breaches.append(f"the evidence is in {kept}")
    shutil.rmtree(folder, ignore_errors=True)
    return result


async def _run(scenario: Scenario, size: Size, *, seed: int, folder: Path, result: Result) -> None:
    async with place(folder, scenario.setting, seed=seed) as here:
        for child in here.daemons:
            child.start()
        for child in here.daemons:
            await child.until(lambda log: "runner_started" in log)
        probe = asyncio.gather(here.probe_forever(), _watch_speed(here.slowness))
        try:
            result.faults = await scenario.storm(here, size)
            await _until_settled(here)
            until = time.time()
            await _until_no_draft(here)
        finally:
            probe.cancel()
            await asyncio.gather(probe, return_exceptions=True)
            if here.server.running:
                here.server.thaw()
                await keep_evidence(here)
        result.truth = await read_truth(here, may_be_unsure=scenario.may_be_unsure, may_fail=scenario.may_fail)
        audit = await mailerd(folder / "d0.toml", "audit")
        if audit.returncode:
            here.breaches.append(f"mailerd audit: {audit.stdout[-1000:]} {audit.stderr[-1000:]}")
        await _end(here)
        _conclude(result, here, hear(here.daemons, until=until), hits=scenario.hits if size is scenario.long else ())


async def _watch_speed(found: list[float]) -> None:
    while True:
        found.append(await asyncio.to_thread(slowness))
        await asyncio.sleep(_BETWEEN)


async def _until_settled(here: Place) -> None:
    """Nothing is open any more, but what only a person can settle; the scenario's limit is the bound."""
    while (await here.rows(OPEN))[0][0] or (await here.rows(UNFINISHED))[0][0]:  # noqa: ASYNC110 - a table
        await asyncio.sleep(0.3)


async def _until_no_draft(here: Place) -> None:
    """Wait as long as the orphans grow fewer."""
    fewest, deadline = len(await here.google.drafts()), time.monotonic() + _ORPHANS_WITHIN
    while fewest and time.monotonic() < deadline:
        await asyncio.sleep(0.3)
        if (now := len(await here.google.drafts())) < fewest:
            fewest, deadline = now, time.monotonic() + _ORPHANS_WITHIN


async def _end(here: Place) -> None:
    """At the end every daemon leaves in good order."""
    for child in here.daemons:
        code, took = await child.terminate()
        if code != 0:
            here.breaches.append(f"at the end SIGTERM ended {child.name} with code {code} after {took:.1f} s")


def _conclude(result: Result, here: Place, heard: Heard, *, hits: Sequence[str]) -> None:
    over = max([*here.over, (heard.over, "a call to Google")])
    result.silence, result.over, result.events = heard.silence, over[0], heard.events
    result.failovers, result.posted = here.failovers, here.posted
    result.breaches += [*result.truth.breaches, *here.breaches, *(f"a bug: {text}" for text in heard.bugs)]
    if heard.silence > SILENCE_LIMIT:
        result.breaches.append(f"a daemon was silent for {heard.silence:.1f} s")
    if over[0] > OVER_LIMIT * median(here.slowness or [1.0]):
        result.breaches.append(f"{over[1]} took {over[0]:.1f} s longer than its bound")
    if missed := [name for name in hits if not heard.events[name]]:
        result.breaches.append(f"the storm missed its aim: {', '.join(missed)} never happened")
    if heard.deadlocks:
        result.breaches.append(f"{heard.deadlocks} transactions met a deadlock (1213)")
    if result.truth.messages != sum(here.promised.values()) and not result.faults:
        result.breaches.append("more messages are stored than were promised, though nothing failed")
