"""Charts, which pages draw as SVG, and bars; colours are the style sheet's.

Places are in per cent, so that words keep their size on a phone. A script puts times into the
reader's own zone.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from itertools import count
from typing import Final

from markupsafe import Markup

from mailerd.core.i18n import Language
from mailerd.core.labels import label
from mailerd.core.states import State, Tally
from mailerd.locale import say
from mailerd.store.read.stats import TallyPoint

_TOP: Final = 6.0
_BASE: Final = 84.0
"""Where the bars end and stand; the times are below."""
SHOWN: Final = (Tally.SENT, Tally.PUT_OFF, Tally.UNSURE, Tally.BOUNCED, Tally.FAILED, Tally.REPLIED)
"""The kinds of messages that a bar shows, from its bottom to its top."""
_LINES: Final = 4
"""The most lines of the grid above the base."""
_TICKS: Final = 7
_TICK_INTERVALS: Final = tuple(timedelta(hours=hours) for hours in (1 / 6, 1, 4, 12, 48, 336, 1440))
"""The times between two ticks."""


@dataclass(frozen=True)
class Bar:
    """The messages of one span of time."""

    at: datetime
    counts: Mapping[Tally, int]

    @property
    def total(self) -> int:
        """Of all kinds."""
        return sum(self.counts.values())


@dataclass(frozen=True)
class Chart:
    """Bars side by side, the oldest first."""

    title: str
    bars: Sequence[Bar]
    step: timedelta
    names: Mapping[Tally, str]
    hidden: frozenset[Tally] = frozenset()
    """The kinds that the reader has switched off."""
    csv: str = ""
    """Where its figures are as CSV, without the span; empty: nowhere."""
    is_known: bool = True
    """False: its figures could not be read."""
    shown: Sequence[Tally] = SHOWN
    """The kinds that there are, from the bottom of a bar to its top."""

    @property
    def kinds(self) -> list[Tally]:
        """Those that are drawn."""
        return [kind for kind in self.shown if kind not in self.hidden]

    @property
    def totals(self) -> dict[Tally, int]:
        """Of all bars."""
        return {kind: sum(bar.counts.get(kind, 0) for bar in self.bars) for kind in self.shown}

    @property
    def highest(self) -> int:
        """The highest bar as it is drawn; at least 1."""
        return (
            max(
                (sum(bar.counts.get(kind, 0) for kind in self.kinds) for bar in self.bars),
                default=0,
            )
            or 1
        )

    @cached_property
    def lines(self) -> list[int]:
        """The round values at which the grid has a line, from 0 to the top of the scale."""
        step = next(
            n * 10**power
            for power in count()
            for n in (1, 2, 5)
            if n * 10**power * _LINES >= self.highest
        )
        return [step * n for n in range(-(-self.highest // step) + 1)]

    def height(self, value: float) -> float:
        """Where a value is."""
        return round(_BASE - (_BASE - _TOP) * value / self.lines[-1], 1)

    def drawn(self, bar: Bar) -> Iterator[tuple[Tally, float, float]]:
        """Each kind of a bar that is shown, where it begins and how high it is; few messages are
        seen too.
        """
        base = _BASE
        for kind in self.kinds:
            if number := bar.counts.get(kind, 0):
                high = max(0.7, _BASE - self.height(number))
                base -= high
                yield kind, base, high

    def figures(self, bar: Bar) -> str:
        """The numbers of a bar, in words."""
        return ", ".join(f"{self.names[kind]} {bar.counts[kind]:,}" for kind, *_ in self.drawn(bar))

    @cached_property
    def end(self) -> datetime:
        """When the last bar ends."""
        return self.bars[-1].at + self.step

    @cached_property
    def every(self) -> timedelta:
        """The time between two ticks."""
        return next(
            (each for each in _TICK_INTERVALS if (self.end - self.bars[0].at) / each <= _TICKS),
            _TICK_INTERVALS[-1],
        )

    @property
    def ticks(self) -> list[tuple[float, datetime]]:
        """Where the round times are, which a script makes those of the reader's zone."""
        first, every = self.bars[0].at, self.every.total_seconds()
        begin, end = first.timestamp(), self.end.timestamp()
        moments = range(int(-(-begin // every) * every), int(end), int(every))
        return [
            (100 * (at - begin) / (end - begin), datetime.fromtimestamp(at, tz=UTC))
            for at in moments
        ]

    def toggled(self, kind: Tally) -> str:
        """What is hidden once this kind is switched, as it stands in an address."""
        return ",".join(each for each in self.shown if (each in self.hidden) != (each is kind))


def bars_of(
    points: Sequence[TallyPoint], *, now: datetime, step: timedelta, many: int
) -> list[Bar]:
    """The points in `many` bars of `step` each, up to now; a span without a point has an empty
    bar.
    """
    seconds = step.total_seconds()
    last = int(now.timestamp() // seconds)
    sums: list[dict[Tally, int]] = [{} for _ in range(many)]
    for point in points:
        place = many - 1 - (last - int(point.at.timestamp() // seconds))
        if 0 <= place < many:
            for kind, count in point.counts.items():
                sums[place][kind] = sums[place].get(kind, 0) + count
    first = last - many + 1
    return [
        Bar(datetime.fromtimestamp((first + n) * seconds, tz=now.tzinfo), counts)
        for n, counts in enumerate(sums)
    ]


_ORDER: Final = (
    State.SENT,
    State.FAILED,
    State.CANCELLED,
    State.UNSURE,
    State.SENDING,
    State.WAITING,
)


def progress_svg(counts: Mapping[State, int], total: int, *, language: Language) -> Markup:
    """How far a job is, as one bar of its states."""
    parts: list[Markup] = []
    left = 0.0
    for state in _ORDER:
        if count := counts.get(state, 0):
            wide = 100 * count / max(1, total)
            parts.append(
                Markup('<rect class="s-{}" x="{}" y="0" width="{}" height="6"/>').format(
                    state.value, f"{left:.2f}", f"{wide:.2f}"
                )
            )
            left += wide
    figures = [
        f"{say(label(state), language)} {counts[state]:,}" for state in _ORDER if counts.get(state)
    ]
    return Markup(
        '<svg class="progress" viewBox="0 0 100 6" preserveAspectRatio="none" role="img" aria-label="{}">{}</svg>'
    ).format(", ".join(figures) or "–", Markup("").join(parts))


def gauge_svg(used: int, limit: int, *, title: str) -> Markup:
    """How much of a limit is used."""
    share = min(100.0, 100 * used / limit) if limit else 0.0
    kind = "full" if share >= 100 else "high" if share >= 80 else "ok"  # noqa: PLR2004 - shares in per cent
    return Markup(
        '<svg class="gauge" viewBox="0 0 100 6" preserveAspectRatio="none" role="img" aria-label="{}">'
        '<rect class="g-{}" x="0" y="0" width="{}" height="6"/></svg>'
    ).format(title, kind, f"{share:.1f}")
