"""`python -m tests.bench [measure …] [--times N] [--messages N] [--json FILE]`: measures and prints the table."""

import argparse
import json
import platform
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from tests.bench import (
    commands,
    console,
    hostile,
    neighbours,
    peer,
    sending,
    sharing,
    storing,
    suppressing,
    vitals,
    webhooks,
)
from tests.bench.result import Result, table


def _measures(messages: int) -> dict[str, Callable[[], Result | Sequence[Result]]]:
    return {
        "draft": lambda: sending.of_bare(messages=messages // 5),
        "direct": lambda: sending.of_bare(messages=messages // 5, direct=True),
        "busy": lambda: sending.of_bare(messages=messages // 5, busy=True),
        "slow-commits": lambda: sending.of_bare(messages=messages // 5, slow_commits=True),
        "cpu": lambda: sending.cpu(messages=messages),
        "statements": lambda: sending.statements(messages=messages // 5),
        "latency": lambda: sending.latency(messages=messages),
        "first": sending.first_message,
        "intake": storing.intake,
        "claim": storing.claim,
        "figures": storing.figures,
        "idle": storing.idle,
        "shares": sharing.shares,
        "hostile": hostile.hostile,
        "commands": commands.commands,
        "console": console.console,
        "pages": console.pages,
        "vitals": vitals.vitals,
        "peer": lambda: peer.peer(messages=messages),
        "suppressions": suppressing.suppressions,
        "daemons2": lambda: sending.daemons(2, messages=messages),
        "daemons4": lambda: sending.daemons(4, messages=messages),
        "pace": sending.pace,
        "shared-pace": lambda: sending.pace(senders=3, daemons=2, seconds=300),
        "hanging": neighbours.hanging,
        "hanging2": lambda: neighbours.hanging(daemons=2),
        "attached": neighbours.attached,
        "attached2": lambda: neighbours.attached(daemons=2),
        "no-token": neighbours.no_token,
        "dead-webhook": lambda: webhooks.dead_endpoint(messages=messages),
        "memory": lambda: sending.memory(messages=50 * messages),
    }


def _show(runs: Sequence[Result], file: Path | None) -> None:
    sys.stdout.write(table(runs) + "\n")
    if file:
        about = {"machine": platform.platform(), "python": platform.python_version()}
        file.write_text(json.dumps({**about, "runs": [asdict(run) for run in runs]}, indent=1) + "\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure; 0 whatever the values are: goals are for people to judge, machines are noisy."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("measure", nargs="*", help="draft direct latency first intake claim idle …; all without one")
    parser.add_argument("--times", type=int, default=1, help="repetitions; the table shows medians")
    parser.add_argument("--messages", type=int, default=20_000, help="messages of a run")
    parser.add_argument("--json", type=Path, help="write every single result here")
    options = parser.parse_args(arguments)
    known = _measures(options.messages)
    runs: list[Result] = []
    try:
        for time in range(options.times):
            for name in options.measure or known:
                found = known[name]()
                runs += [found] if isinstance(found, Result) else found
                sys.stderr.write(f"{time + 1}/{options.times} {name}\n")
    finally:
        # Half an hour of figures is not lost to a measure that fails after it.
        _show(runs, options.json)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
