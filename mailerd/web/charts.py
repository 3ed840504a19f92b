"""Charts and bars as SVG, made on the server; colours are the style sheet's.

Places are in per cent, so that words keep their size on a phone. A script puts times into the reader's own zone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Final

from markupsafe import Markup

from mailerd.core.i18n import Language
from mailerd.core.labels import label
from mailerd.core.states import State, Tally
from mailerd.locale import say
from mailerd.store.stats import TallyPoint

_ISO: Final = "{:%Y-%m-%dT%H:%M:%SZ}"
_TOP: Final = 6.0
_BASE: Final = 84.0
"""Where the bars end and stand; the times are below."""
SHOWN: Final = (Tally.SENT, Tally.PUT_OFF, Tally.UNSURE, Tally.BOUNCED, Tally.FAILED)
"""The kinds of messages that a bar shows, from its bottom to its top."""
_LINES: Final = 4
"""The most lines of the grid above the base."""
_TICKS: Final = 7
_EVERY: Final = tuple(timedelta(hours=hours) for hours in (1 / 6, 4, 48, 336))
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

    @property
    def kinds(self) -> list[Tally]:
        """Those that are drawn."""
        return [kind for kind in SHOWN if kind not in self.hidden]

    @property
    def totals(self) -> dict[Tally, int]:
        """Of all bars."""
        return {kind: sum(bar.counts.get(kind, 0) for bar in self.bars) for kind in SHOWN}

    @property
    def highest(self) -> int:
        """The highest bar as it is drawn; at least 1."""
        return max((sum(bar.counts.get(kind, 0) for kind in self.kinds) for bar in self.bars), default=0) or 1

    @property
    def lines(self) -> list[int]:
        """The round values at which the grid has a line, from 0 to the top of the scale."""
        step = next(n * 10**power for power in count() for n in (1, 2, 5) if n * 10**power * _LINES >= self.highest)
        return [step * n for n in range(-(-self.highest // step) + 1)]

    def toggled(self, kind: Tally) -> str:
        """What is hidden once this kind is switched, as it stands in an address."""
        return ",".join(each for each in SHOWN if (each in self.hidden) != (each is kind))


def bars_of(points: Sequence[TallyPoint], *, now: datetime, step: timedelta, many: int) -> list[Bar]:
    """The points in `many` bars of `step` each, up to now; a span without a point has an empty bar."""
    seconds = step.total_seconds()
    last = int(now.timestamp() // seconds)
    sums: list[dict[Tally, int]] = [{} for _ in range(many)]
    for point in points:
        place = many - 1 - (last - int(point.at.timestamp() // seconds))
        if 0 <= place < many:
            for kind, count in point.counts.items():
                sums[place][kind] = sums[place].get(kind, 0) + count
    first = last - many + 1
    return [Bar(datetime.fromtimestamp((first + n) * seconds, tz=now.tzinfo), counts) for n, counts in enumerate(sums)]


def _height(value: float, top: int) -> float:
    """Where a value is."""
    return _BASE - (_BASE - _TOP) * value / top


def scale_svg(it: Chart) -> Markup:
    """The values of the grid, which stand beside the chart."""
    words = Markup("").join(
        Markup('<text x="100%" y="{:.1f}%" dy="4" text-anchor="end">{:,}</text>').format(
            _height(line, it.lines[-1]), line
        )
        for line in it.lines
    )
    return Markup('<svg class="scale" aria-hidden="true">{}</svg>').format(words)


def chart_svg(it: Chart) -> Markup:
    """The chart. Each bar has its figures as a tooltip; a table with the same figures stands beside it."""
    wide, top = 100 / max(1, len(it.bars)), it.lines[-1]
    parts = [
        Markup('<line class="{}" x1="0" x2="100%" y1="{y:.1f}%" y2="{y:.1f}%"/>').format(
            "grid" if line else "axis", y=_height(line, top)
        )
        for line in it.lines
    ]
    for place, bar in enumerate(it.bars):
        shown = {kind: number for kind in it.kinds if (number := bar.counts.get(kind, 0))}
        left, base = f"{place * wide:.2f}%", _BASE
        for kind, number in shown.items():
            high = max(0.7, (_BASE - _TOP) * number / top)
            base -= high
            parts.append(
                Markup('<rect class="c-{}" x="{}" y="{:.1f}%" width="{:.2f}%" height="{:.1f}%"/>').format(
                    kind.value, left, base, wide * 0.85, high
                )
            )
        if shown:
            figures = ", ".join(f"{it.names[kind]} {number:,}" for kind, number in shown.items())
            parts.append(
                Markup(
                    '<rect class="hit" x="{}" y="0" width="{:.2f}%" height="{}%">'
                    '<title data-at="{}">{} UTC: {}</title></rect>'
                ).format(left, wide, _BASE, _ISO.format(bar.at), f"{bar.at:%Y-%m-%d %H:%M}", figures)
            )
    return Markup('<svg class="chart" role="img" tabindex="0" aria-label="{}"{}>{}</svg>').format(
        it.title, *_ticks(it, parts)
    )


def _ticks(it: Chart, parts: list[Markup]) -> tuple[Markup, Markup]:
    """What a script needs to move the times below to round ones of the reader's zone; and all that is drawn."""
    if not it.bars:
        return Markup(""), Markup("").join(parts)
    begin, end = it.bars[0].at, it.bars[-1].at + it.step
    every = next((each for each in _EVERY if (end - begin) / each <= _TICKS), _EVERY[-1])
    at = datetime.fromtimestamp(-(-begin.timestamp() // every.total_seconds()) * every.total_seconds(), tz=UTC)
    while at < end:
        words = f"{at:%H:%M}" if every < timedelta(days=1) else f"{at:%m-%d}"
        parts.append(
            Markup('<text class="tick" x="{:.2f}%" y="96%" text-anchor="middle" data-at="{}">{}</text>').format(
                100 * ((at - begin) / (end - begin)), _ISO.format(at), words
            )
        )
        at += every
    data = Markup(' data-from="{}" data-to="{}" data-every="{:.0f}"').format(
        _ISO.format(begin), _ISO.format(end), every.total_seconds()
    )
    return data, Markup("").join(parts)


def spark_svg(counts: Sequence[int], *, title: str) -> Markup:
    """A line of bars as high as a word: how something went, without a scale."""
    highest = max(counts, default=0) or 1
    bars = Markup("").join(
        Markup('<rect x="{}" y="{:.1f}" width="3" height="{:.1f}"/>').format(4 * place, 20 - high, high)
        for place, number in enumerate(counts)
        if (high := max(1.0, 20 * number / highest) if number else 0)
    )
    return Markup(
        '<svg class="spark" viewBox="0 0 {} 20" preserveAspectRatio="none" role="img" aria-label="{}">{}</svg>'
    ).format(4 * max(1, len(counts)), title, bars)


_ORDER: Final = (State.SENT, State.FAILED, State.CANCELLED, State.UNSURE, State.SENDING, State.WAITING)


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
    figures = [f"{say(label(state), language)} {counts[state]:,}" for state in _ORDER if counts.get(state)]
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
