"""One measured ratio, and the table of many."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class Result:
    """A measure: its value, the goal, and what lies behind it; without a goal it is there to be known."""

    name: str
    value: float
    goal: float | None
    sense: Literal["at least", "at most"]
    unit: str
    detail: Mapping[str, float] = field(default_factory=dict)

    @property
    def met(self) -> bool:
        """Whether the goal is reached."""
        if self.goal is None:
            return True
        return self.value >= self.goal if self.sense == "at least" else self.value <= self.goal

    @property
    def aim(self) -> str:
        """The goal and whether it is reached, as two cells of a table."""
        if self.goal is None:
            return "- | "
        return f"{self.sense} {self.goal:g} | {'met' if self.met else '**missed**'}"


def table(runs: Sequence[Result]) -> str:
    """Medians over the repetitions, one line a measure, as Markdown."""
    lines = ["| measure | median (lowest … highest) | goal | | behind it |", "|---|---|---|---|---|"]
    for name in dict.fromkeys(one.name for one in runs):
        same = [one for one in runs if one.name == name]
        values = [one.value for one in same]
        middle = Result(name, statistics.median(values), same[0].goal, same[0].sense, same[0].unit)
        behind = ", ".join(
            f"{key} {statistics.median([one.detail[key] for one in same]):.4g}" for key in same[0].detail
        )
        lines.append(
            f"| {name} | {middle.value:.3g} ({min(values):.3g} … {max(values):.3g}) {middle.unit} "
            f"| {middle.aim} | {behind} |"
        )
    return "\n".join(lines)
