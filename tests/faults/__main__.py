"""`python -m tests.faults [WORD …] [--out FILE] [--evidence]`: the faults whose names have one of the words, or all.

FILE keeps what was measured before of the others: a fault that a busy machine has delayed is measured again alone.
"""

import argparse
import asyncio
import json
import sys
import traceback
from dataclasses import asdict
from pathlib import Path
from typing import Final

from tests.faults.cases import CASES
from tests.faults.surfaces import WINDOW, Look, Result, measure, table

MOST: Final = 420.0
"""Seconds for the scene of a fault to be built and taken down, and for its end, at most."""


async def main() -> int:
    """Measure one after the other; the exit code is 1 where a surface is falsely calm or contradicts, or a remedy does
    not work.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("words", nargs="*")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--window", type=float, default=WINDOW)
    parser.add_argument("--evidence", action="store_true", help="print what each surface showed last")
    asked = parser.parse_args()
    known = _read(asked.out) if asked.out else {}
    lost = 0
    for case in CASES:
        if asked.words and not any(word.lower() in case.name.lower() for word in asked.words):
            continue
        try:
            async with asyncio.timeout((case.window or asked.window) + MOST):
                result = await measure(case, window=asked.window)
        except Exception:  # noqa: BLE001 - the others go on
            lost += 1
            print(f"{case.name}: {traceback.format_exc()}", file=sys.stderr, flush=True)
            continue
        known[case.name] = result
        print(table([result]), flush=True)
        if asked.evidence:
            for name in case.where:
                print(f"--- {name}\n{result.looks[name].last[-1500:]}", flush=True)
        if asked.out:
            _write(asked.out, known)
    results = _in_order(known)
    print(table(results))
    return 0 if all(it.is_good for it in results) and not lost else 1


def _in_order(known: dict[str, Result]) -> list[Result]:
    return [known[case.name] for case in CASES if case.name in known]


def _write(out: Path, known: dict[str, Result]) -> None:
    """The table, and beside it what it is made of."""
    out.write_text(table(_in_order(known)) + "\n", encoding="utf-8")
    kept = {
        name: {"looks": {key: asdict(look) for key, look in it.looks.items()}, "done": it.done, "failed": it.failed,
               "ends": it.ends}
        for name, it in known.items()
    }  # fmt: skip
    _beside(out).write_text(json.dumps(kept), encoding="utf-8")


def _read(out: Path) -> dict[str, Result]:
    cases = {case.name: case for case in CASES}
    kept = json.loads(_beside(out).read_text("utf-8")) if _beside(out).exists() else {}
    return {
        name: Result(
            cases[name], {key: Look(**look) for key, look in it["looks"].items()}, it["done"], it["failed"], it["ends"]
        )
        for name, it in kept.items()
        if name in cases
    }


def _beside(out: Path) -> Path:
    return out.with_suffix(".json")


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
