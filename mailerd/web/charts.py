"""Charts and bars as SVG, made on the server: no script, no canvas; colours are the style sheet's."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from markupsafe import Markup

from mailerd.core.states import State
from mailerd.store.tallies import Tally, TallyPoint

WIDTH: Final = 720
_BASE: Final = 100
"""The height at which the bars stand; the words of the axis are below it."""
_TOP: Final = 8
SHOWN: Final = (Tally.SENT, Tally.PUT_OFF, Tally.UNSURE, Tally.BOUNCED, Tally.FAILED)
"""The kinds of letters that a bar shows, from its bottom to its top."""


@dataclass(frozen=True)
class Bar:
    """The letters of one span of time."""

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

    @property
    def totals(self) -> dict[Tally, int]:
        """Of all bars."""
        return {kind: sum(bar.counts.get(kind, 0) for bar in self.bars) for kind in SHOWN}

    @property
    def highest(self) -> int:
        """The highest bar; at least 1."""
        return max((bar.total for bar in self.bars), default=0) or 1


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


def chart_svg(it: Chart) -> Markup:
    """The chart. Each bar has its figures as a tooltip; a table with the same figures stands beside it."""
    wide = WIDTH / max(1, len(it.bars))
    scale = (_BASE - _TOP) / it.highest
    parts: list[Markup] = []
    for place, bar in enumerate(it.bars):
        if not bar.total:
            continue
        base, left = float(_BASE), place * wide
        for kind in SHOWN:
            if count := bar.counts.get(kind, 0):
                high = max(1.0, count * scale)
                base -= high
                parts.append(
                    Markup('<rect class="c-{}" x="{}" y="{}" width="{}" height="{}"/>').format(
                        kind.value, f"{left:.1f}", f"{base:.1f}", f"{max(0.8, wide - 1):.1f}", f"{high:.1f}"
                    )
                )
        figures = ", ".join(f"{it.names[kind]} {bar.counts[kind]:,}" for kind in SHOWN if bar.counts.get(kind))
        parts.append(
            Markup('<rect class="hit" x="{}" y="0" width="{}" height="{}"><title>{} UTC: {}</title></rect>').format(
                f"{left:.1f}", f"{wide:.1f}", _BASE, f"{bar.at:%m-%d %H:%M}", figures
            )
        )
    return Markup(
        '<svg class="chart" viewBox="0 0 {w} {h}" role="img" aria-label="{title}" preserveAspectRatio="none">'
        '<line class="grid" x1="0" x2="{w}" y1="{top}" y2="{top}"/><line class="grid" x1="0" x2="{w}" y1="{mid}" '
        'y2="{mid}"/><line class="axis" x1="0" x2="{w}" y1="{base}" y2="{base}"/>{parts}</svg>'
    ).format(
        w=WIDTH,
        h=_BASE + 2,
        title=it.title,
        top=_TOP,
        mid=(_BASE + _TOP) // 2,
        base=_BASE,
        parts=Markup("").join(parts),
    )


_ORDER: Final = (State.SENT, State.FAILED, State.CANCELLED, State.UNSURE, State.SENDING, State.WAITING)


def progress_svg(counts: Mapping[State, int], total: int) -> Markup:
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
    said = ", ".join(f"{state.value} {counts[state]:,}" for state in _ORDER if counts.get(state))
    return Markup(
        '<svg class="progress" viewBox="0 0 100 6" preserveAspectRatio="none" role="img" aria-label="{}">{}</svg>'
    ).format(said or "–", Markup("").join(parts))


def gauge_svg(used: int, limit: int, *, title: str) -> Markup:
    """How much of a limit is used."""
    share = min(100.0, 100 * used / limit) if limit else 0.0
    kind = "full" if share >= 100 else "high" if share >= 80 else "ok"  # noqa: PLR2004 - shares in per cent
    return Markup(
        '<svg class="gauge" viewBox="0 0 100 6" preserveAspectRatio="none" role="img" aria-label="{}">'
        '<rect class="g-{}" x="0" y="0" width="{}" height="6"/></svg>'
    ).format(title, kind, f"{share:.1f}")
