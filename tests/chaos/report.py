"""The table of a run, for the terminal and for docs/internals/proof.md."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
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


_ON_THE_PAGE: Final = (
    "messages", "faults", "lost", "twice", "twice, unknowable", "unsure at the end", "orphan drafts",
    "longest silence s", "leases lapsed", "breaches",
)  # fmt: skip


def page_table(rows: Sequence[Mapping[str, str]]) -> str:
    """The table of the page: of each storm's cells those that a reader wants, with what was done."""
    whats = {scenario.name: scenario.what for scenario in ALL}
    columns = ("storm", "what was done", *_ON_THE_PAGE)
    head = f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}\n"
    return head + "\n".join(
        f"| `{row['scenario']}` | {whats.get(row['scenario'], '')} | {' | '.join(row[name] for name in _ON_THE_PAGE)} |"
        for row in rows
    )


def page_failovers(costs: Mapping[str, Sequence[tuple[float, float, int]]]) -> str:
    """What the failovers of each storm cost: the seconds in which nothing was sent, the last of them, posts refused."""
    return "".join(
        f"* `{name}`: {len(some)} changes of the servers. Nothing was sent for {max(pauses):.1f} s at most,\n"
        f"  and for {max(after):.1f} s once a server was writable; {sum(refused)} posts got a 503.\n"
        for name, some in costs.items()
        if some
        for pauses, after, refused in [tuple(zip(*some, strict=True))]
    )


def page(table: str, failovers: str, *, totals: str, written: str, machine: str) -> str:
    """The whole page."""
    may_be_unsure = ", ".join(f"`{scenario.name}`" for scenario in ALL if scenario.may_be_unsure)
    return f"""# What the storms showed

For those who change mailerd: what real processes did under real faults. `make chaos` writes this page; never edit it.

{totals}
{written}

{table}

{failovers}
Daemons, the simulated Google and the database are processes of their own, signals are real, and a TCP proxy makes the
network's faults. A lease is {LEASE:g} s, a call to Google may take {REQUEST_TIMEOUT:g} s, a drain {DRAIN:g} s. That is
shorter than in life, so that more goes wrong in a minute. No message is given up, so each has to end as sent.

Lost responses are: {", ".join(f"`{kind}`" for kind in LOST_ANSWERS)}.

## What the columns mean

* **lost**: not sent and without a reason; or `sent` here and not accepted at Google; or accepted by the API and not in
  the table. Google's side is its own list of accepted messages, by `X-Mailerd-Key`.
* **twice**: a key that Google accepted more than once. **Unknowable**: the same, where a replica had forgotten the
  send, and its daemon died at the same moment. No living process can know that, so it is no breach.
* **unsure at the end**: only a person can decide. Allowed only in {may_be_unsure}.
* **longest silence**: between two lines of a daemon's log while work was left; a breach above {SILENCE_LIMIT:g} s.
* **leases lapsed**: claims that outlived their daemon.
* **breaches**: each of these. Also counts that do not add up, a job that is left open, a wrong message ID, and a record
  after its claim lapsed. Also a call or a drain that is {OVER_LIMIT:g} s over its limit. Also a finding of
  `mailerd audit`, a deadlock, an unexpected error, and an exit code other than 0.

## How to repeat it

{machine}

`.venv/bin/python -m tests.chaos --scenario kill9 --seed 1` runs a part. The seed fixes what is done and when; what the
machine makes of it differs. `--short` takes small sizes, as the suite does. `--mutations` breaks the fences in the code
one by one, and a test must notice.
"""


def page_of(results: Sequence[Result], *, took: float) -> str:
    """The page of a run, the table as it came out."""
    messages, faults = sum(r.truth.messages for r in results), sum(r.faults for r in results)
    lost, twice = sum(r.truth.lost for r in results), sum(r.truth.twice for r in results)
    commit = _said("git", "-C", str(ROOT), "rev-parse", "--short", "HEAD")
    return page(
        page_table([dict(zip(_COLUMNS, _cells(result), strict=True)) for result in results]),
        page_failovers({r.scenario: [(it.pause, it.after, it.refused) for it in r.failovers] for r in results}),
        totals=f"{messages} messages, {faults} faults: **{lost} lost, {twice} sent twice**, "
        f"{sum(bool(r.breaches) for r in results)} storms with a breach.",
        written=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {took / 60:.0f} minutes, after commit {commit}.",
        machine=f"{platform.system()} {platform.release()}, {os.cpu_count()} cores ({_processor()}),\n"
        f"Python {platform.python_version()}, {mariadb.find().version.partition(' (')[0]}.",
    )


def write_proof(results: Sequence[Result], *, took: float) -> None:
    """Write docs/internals/proof.md."""
    PROOF.parent.mkdir(exist_ok=True)
    PROOF.write_text(page_of(results, took=took), encoding="utf-8")


def _said(*command: str) -> str:
    said = subprocess.run(command, capture_output=True, text=True, check=False)
    return said.stdout.strip() or "unknown"


def _processor() -> str:
    for text in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if text.startswith("model name"):
            return text.partition(":")[2].strip()
    return platform.machine()
