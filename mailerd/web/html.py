"""Makes the pages and charts of the console by Jinja2, of our own templates; clients' run in a child process."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache, partial
from importlib.resources import files
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined, pass_context
from jinja2.runtime import Context
from markupsafe import Markup, escape

from mailerd.core.i18n import Language, Text, t, tc, tn, visible
from mailerd.core.labels import label
from mailerd.core.quantities import in_words
from mailerd.core.rate_limit import FOREVER
from mailerd.core.states import JobStatus, State, Tally
from mailerd.locale import say, template
from mailerd.store.stats import TallyPoint

# Charts and bars as SVG, made on the server: no script, no canvas; colours are the style sheet's.

_ISO: Final = "{:%Y-%m-%dT%H:%M:%SZ}"
"""A moment as a script reads it."""
WIDTH: Final = 720
_BASE: Final = 100
"""The height at which the bars stand; the words of the axis are below it."""
_TOP: Final = 8
SHOWN: Final = (Tally.SENT, Tally.PUT_OFF, Tally.UNSURE, Tally.BOUNCED, Tally.FAILED)
"""The kinds of messages that a bar shows, from its bottom to its top."""


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
            Markup(
                '<rect class="hit" x="{}" y="0" width="{}" height="{}"><title data-at="{}">{} UTC: {}</title></rect>'
            ).format(f"{left:.1f}", f"{wide:.1f}", _BASE, _ISO.format(bar.at), f"{bar.at:%Y-%m-%d %H:%M}", figures)
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


_MOMENT: Final = re.compile(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) UTC")
_LATELY: Final = timedelta(hours=1)
"""What is younger is shown by its age."""


class PageRenderer:
    """Renders the pages."""

    def __init__(self) -> None:
        self._templates = _environment()

    def load(self) -> None:
        """Read every template, which takes a tenth of a second of CPU."""
        for name in self._templates.list_templates():
            self._templates.get_template(name)

    def render(self, name: str, language: Language, values: Mapping[str, Any]) -> str:
        """A page."""
        words = {
            "t": lambda msgid, /, **fields: filled(t(msgid, **fields), language),
            "tn": lambda one, many, n, /, **fields: filled(tn(one, many, n, **fields), language),
            "tc": lambda context, msgid, /, **fields: filled(tc(context, msgid, **fields), language),
            "say": partial(said, language=language),
            "label": lambda code: say(label(code), language),
            "span": lambda value: say(in_units(value), language),
            "ago": lambda seconds: say(age(seconds), language),
            "progress": partial(progress_svg, language=language),
        }
        return self._templates.get_template(name).render(lang=language, **words, **values)


def said(text: str, language: Language) -> str:
    """A text in a language; a stranger's own words turn the direction of no line."""
    return say(text, language) if isinstance(text, Text) else visible(text)


def filled(text: Text, language: Language) -> Markup:
    """A text in HTML: what its fields hold is escaped, unless it is HTML itself, such as a moment."""
    fields = {name: say(value, language) if isinstance(value, Text) else value for name, value in text.fields.items()}
    return escape(template(text, language)).format(**fields)


@cache
def _environment() -> Environment:
    """One for the process, whose templates are compiled once."""
    made = Environment(
        loader=PackageLoader("mailerd.web", "pages"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    made.filters.update(moment=moment, clock=clock, num=number, story=line_of_story)
    made.globals.update(State=State, JobStatus=JobStatus, FOREVER=FOREVER)
    made.globals.update(chart=chart_svg, gauge=gauge_svg)
    made.globals.update(static=lambda name: f"/static/{name}?v={version_of(name)}")
    return made


@cache
def static_file(name: str) -> bytes:
    """A script, a style sheet or a picture of the pages."""
    return files("mailerd.web").joinpath("static", *name.split("/")).read_bytes()


@cache
def version_of(name: str) -> str:
    """What stands in the address of such a file: browsers keep it for a day, and after an upgrade ask for another."""
    return hashlib.sha256(static_file(name)).hexdigest()[:12]


def moment(at: datetime | None) -> Markup:
    """A moment, which a script may show in the reader's own time."""
    if at is None:
        return Markup("–")
    return Markup('<time datetime="{}">{}</time>').format(_ISO.format(at), f"{at:%Y-%m-%d %H:%M:%S}")


def line_of_story(line: str) -> Markup:
    """A line of a story: its moments as those of lists are, so that one page has one time zone."""
    shown, at = Markup(), 0
    for found in _MOMENT.finditer(line):
        with suppress(ValueError):  # a reason in foreign words may hold what only looks like a moment
            when = moment(datetime.fromisoformat(f"{found[1]}+00:00"))
            shown += escape(line[at : found.start()]) + when
            at = found.end()
    return shown + escape(line[at:])


@pass_context
def clock(page: Context, at: datetime | None) -> Markup:
    """A moment, short: its age below an hour, a time of today, or a day; a script keeps it so in the reader's time."""
    if at is None:
        return Markup("–")
    now = datetime.now(UTC)
    if timedelta() <= now - at < _LATELY:
        text = say(age((now - at).total_seconds()), page["lang"])
    else:
        text = f"{at:%H:%M:%S}" if at.date() == now.date() else f"{at:%Y-%m-%d %H:%M}"
    return Markup('<time class="short" datetime="{}" title="{} UTC">{}</time>').format(
        _ISO.format(at), f"{at:%Y-%m-%d %H:%M:%S}", text
    )


def age(seconds: float) -> Text:
    """For how long something is past."""
    return t("{span} ago", span=in_units(seconds) if seconds else t("less than a second"))


def number(value: float) -> str:
    """A number with its thousands apart."""
    return f"{value:,}"


def in_units(value: float | timedelta | None) -> str:
    """A duration."""
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if not seconds:
        return "–"
    return in_words(seconds) if seconds >= 1 else t("less than a second")
