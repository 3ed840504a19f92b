"""`python -m tests.chaos`: the storms as a matrix of scenarios and seeds; a table, and exit code 1 on any breach."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Sequence

from tests.chaos import model, mutations, report
from tests.chaos.running import Result, run
from tests.chaos.scenarios import ALL


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what was asked for; 0 when every promise held."""
    options = _parser().parse_args(arguments)
    if options.mutations:
        return mutations.main()
    if options.model:
        return model.main(seeds=options.seed or model.SEEDS, steps=model.SHORT if options.short else model.STEPS)
    named = [*options.name, *(options.scenario or ())]
    chosen = [scenario for scenario in ALL if not named or scenario.name in named]
    began = time.monotonic()
    results = asyncio.run(_storm(chosen_names=[s.name for s in chosen], seeds=options.seed or [1], short=options.short))
    took = time.monotonic() - began
    failed = [result for result in results if result.breaches]
    sys.stdout.write(report.table(results) + "\n" + report.failovers(results))
    sys.stdout.write(f"\n{len(results)} storms in {took:.0f} s, {len(failed)} with a breach\n")
    if options.proof:
        report.write_proof(results, took=took)
    return 1 if failed else 0


async def _storm(*, chosen_names: Sequence[str], seeds: Sequence[int], short: bool) -> list[Result]:
    results = []
    for scenario in ALL:
        for seed in seeds if scenario.name in chosen_names else ():
            result = await run(scenario, scenario.short if short else scenario.long, seed=seed)
            sys.stdout.write(report.line(result) + "\n")
            for breach in result.breaches[:20]:
                sys.stdout.write(f"    BREACH {breach}\n")
            sys.stdout.flush()
            results.append(result)
    return results


def _storm_name(given: str) -> str:
    if given not in (names := [scenario.name for scenario in ALL]):
        raise argparse.ArgumentTypeError(f"there is no storm {given}; there are {', '.join(names)}")
    return given


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--short", action="store_true", help="small sizes")
    parser.add_argument("name", nargs="*", type=_storm_name, help="the storms to run; all where none is named")
    parser.add_argument("--scenario", action="append", choices=[s.name for s in ALL], help="only these; repeatable")
    parser.add_argument("--seed", action="append", type=int, help="repeatable; 1 when none is given")
    parser.add_argument("--proof", action="store_true", help="write docs/internals/proof.md")
    parser.add_argument("--model", action="store_true", help="long runs of the model of the store, by seeds")
    parser.add_argument("--mutations", action="store_true", help="break the code on purpose and see the tests fail")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
