"""`python -m tests.faults [WORD …] [--out FILE] [--evidence]`: the faults whose names have one of the words, or all."""

import argparse
import asyncio
import sys
import traceback
from pathlib import Path
from typing import Final

from tests.faults.cases import CASES
from tests.faults.surfaces import WINDOW, Result, measure, table

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
    results: list[Result] = []
    lost = 0
    for case in CASES:
        if asked.words and not any(word.lower() in case.name.lower() for word in asked.words):
            continue
        try:
            async with asyncio.timeout((case.window or asked.window) + MOST):
                results.append(await measure(case, window=asked.window))
        except Exception:  # noqa: BLE001 - the others go on
            lost += 1
            print(f"{case.name}: {traceback.format_exc()}", file=sys.stderr, flush=True)
            continue
        print(table(results[-1:]), flush=True)
        if asked.evidence:
            for name in case.where:
                print(f"--- {name}\n{results[-1].looks[name].last[-1500:]}", flush=True)
        if asked.out:
            asked.out.write_text(table(results) + "\n", encoding="utf-8")
    print(table(results))
    return 0 if all(it.is_good for it in results) and not lost else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
