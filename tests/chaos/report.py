"""The table of a run, for the terminal and for docs/internals/proof.md."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from mailerd.sandbox import mariadb
from tests.chaos.place import DRAIN, LEASE, REQUEST_TIMEOUT, ROOT
from tests.chaos.running import OVER_LIMIT, SILENCE_LIMIT, Result
from tests.chaos.scenarios import ALL, LOST_ANSWERS

_COLUMNS: Final = (
    "scenario", "seed", "messages", "faults", "lost", "twice", "twice, unknowable", "unsure at the end",
    "orphan drafts",
    "longest silence s", "longest over its bound s", "leases lapsed", "found", "missing", "fenced off", "took s",
    "breaches",
)  # fmt: skip
PROOF: Final = ROOT / "docs" / "internals" / "proof.md"


def _cells(result: Result) -> tuple[str, ...]:
    truth = result.truth
    return (
        result.scenario, str(result.seed), str(truth.messages), str(result.faults), str(truth.lost), str(truth.twice),
        str(truth.apart), str(truth.unsure), str(truth.orphans), f"{result.silence:.1f}", f"{result.over:+.1f}",
        *(str(result.events[name]) for name in ("lease_lapsed", "message_found", "message_missing")),
        str(result.events["message_claim_lost"] + result.events["message_handover_lost"]),
        f"{result.seconds:.0f}", str(len(result.breaches)),
    )  # fmt: skip


def line(result: Result) -> str:
    """One line, as soon as it is known."""
    named = zip(_COLUMNS[1:], _cells(result)[1:], strict=True)
    return f"{result.scenario:<14}" + ", ".join(f"{name} {cell}" for name, cell in named)


def table(results: Sequence[Result]) -> str:
    """All of them, as Markdown."""
    head = f"| {' | '.join(_COLUMNS)} |\n|{'---|' * len(_COLUMNS)}\n"
    return head + "\n".join(f"| {' | '.join(_cells(result))} |" for result in results)


_OF_FAILOVERS: Final = (
    "scenario", "what was done", "writes went on at", "nothing was sent for s", "sent again after that server stood s",
    "posts refused",
)  # fmt: skip


def failovers(results: Sequence[Result]) -> str:
    """What each failover cost, as Markdown; empty where there was none."""
    rows = [
        f"| {result.scenario} {result.seed} | {one.what} | {one.server} | {one.pause:.1f} | {one.after:.1f} "
        f"| {one.refused} |"
        for result in results
        for one in result.failovers
    ]
    if not rows:
        return ""
    posts = sum(result.posted for result in results if result.failovers)
    head = f"| {' | '.join(_OF_FAILOVERS)} |\n|{'---|' * len(_OF_FAILOVERS)}\n"
    return f"\n## The failovers\n{head}" + "\n".join(rows) + f"\n\n{posts} posts in all, of ten messages each.\n"


def write_proof(results: Sequence[Result], *, took: float) -> None:
    """Write docs/internals/proof.md, the table as it came out."""
    messages, faults = sum(r.truth.messages for r in results), sum(r.faults for r in results)
    lost, twice = sum(r.truth.lost for r in results), sum(r.truth.twice for r in results)
    whats = "\n".join(f"* **{scenario.name}**: {scenario.what}." for scenario in ALL)
    commit = _said("git", "-C", str(ROOT), "rev-parse", "--short", "HEAD")
    text = f"""# What the storms showed

{messages} messages, {faults} faults: **{lost} lost, {twice} sent twice**,
{sum(bool(r.breaches) for r in results)} storms with a breach.
Written by `make chaos` ({datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {took / 60:.0f} minutes, after commit
{commit}); the table was not edited by hand.

{table(results)}
{failovers(results)}
## What was done
{whats}

Lost answers are: {", ".join(LOST_ANSWERS)}.

Daemons, Google's stand-in and the database are processes of their own; signals are real; the faults of the network are
made by a TCP proxy. A lease is {LEASE:g} s, a call to Google may take {REQUEST_TIMEOUT:g} s, a drain {DRAIN:g} s: all
shorter than in life, so that more goes wrong in a minute. No message is given up (`max_attempts` is out of reach), so
every message must end as sent. Clocks are shifted by tests.chaos.shifted.

{_columns()}

## The machine
{platform.system()} {platform.release()}, {os.cpu_count()} cores ({_processor()}), Python {platform.python_version()},
{mariadb.find().version.partition(" (")[0]}.

## How to repeat it
`make chaos` (about {max(1, round(took / 60))} minutes; writes this page), or a part of it:
`.venv/bin/python -m tests.chaos --scenario kill9 --seed {results[0].seed if results else 1}`. The seed fixes the order
and the moments of what is done; what the machine makes of it differs from run to run. `--short` takes small sizes, as
the suite does for some of them, `--mutations` breaks the fences in the code one by one and shows that the tests notice.
"""
    PROOF.parent.mkdir(exist_ok=True)
    PROOF.write_text(text, encoding="utf-8")


def _columns() -> str:
    return f"""## What the columns mean
* **lost**: not sent and not ended with a reason; or `sent` in the table though Google never accepted it; or answered
  with 200 and not in the table. Google's side is the stand-in's own list of accepted messages, by `X-Mailerd-Key`.
* **twice**: a key that Google accepted more than once.
* **twice, unknowable**: the same after a failover to a replica that was behind, where the database had forgotten
  that the message was sent, and its daemon died at the same moment. It is no breach: no process that lives can know.
* **unsure at the end**: it could not be known. Only a sender with `gmail.send` alone may have any (direct_mode).
* **orphan drafts**: drafts that were left in the mailbox.
* **longest silence**: between two lines of one daemon's log (level debug) while work was left; a breach above
  {SILENCE_LIMIT:g} s. The times for which a daemon was stopped by SIGSTOP are taken out.
* **longest over its bound**: of the calls to Google, the answers of the HTTP intake and the drains, the one that was
  the longest over (+) or the least within (-) its bound; a breach above {OVER_LIMIT:g} s.
* **leases lapsed, found, missing, fenced off**: how often the storm hit, as the logs tell it: claims that
  outlived their daemon, doubts that were looked up at Google and settled as sent or as not sent, records that came too
  late.

A breach is each of these, and also: a job whose counts do not add up to its total, a job that is not completed though
nothing is open, a row that names the message ID of another one, a record that took although its
claim had lapsed before, a finding of `mailerd audit`, a deadlock, an exception that
was not foreseen, an exit code that is not 0 after SIGTERM."""


def _said(*command: str) -> str:
    said = subprocess.run(command, capture_output=True, text=True, check=False)
    return said.stdout.strip() or "unknown"


def _processor() -> str:
    for text in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if text.startswith("model name"):
            return text.partition(":")[2].strip()
    return platform.machine()
