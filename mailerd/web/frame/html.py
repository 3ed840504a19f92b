"""Makes the pages of the console by Jinja2, of our own templates; clients' run in a child
process.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import cache, partial
from importlib.resources import files
from typing import Any, Final, get_args

from jinja2 import Environment, PackageLoader, StrictUndefined, pass_context
from jinja2.runtime import Context
from markupsafe import Markup, escape

from mailerd.core.i18n import Language, Text, t, tc, tn, visible
from mailerd.core.labels import label
from mailerd.core.quantities import WEEKDAYS, in_words
from mailerd.core.rate_limit import FOREVER
from mailerd.core.states import JobStatus, State
from mailerd.locale import say, template
from mailerd.web.frame.charts import gauge_svg, progress_svg

_ISO: Final = "{:%Y-%m-%dT%H:%M:%SZ}"
"""A moment as a script reads it."""
_MINUTE: Final = "{:%Y-%m-%dT%H:%MZ}"
_DAYS: Final = {
    say(t(name), language): day
    for language in get_args(Language.__value__)
    for day, name in enumerate(WEEKDAYS)
}
_MOMENT: Final = re.compile(
    rf"(?:(\d{{4}}-\d\d-\d\d) |({'|'.join(_DAYS)}) ?)?(\d\d:\d\d(?::\d\d)?) UTC"
)
"""As stories and forecasts write it (`moment_in_words`)."""
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
        return "".join(self.pieces(name, language, values))

    def pieces(self, name: str, language: Language, values: Mapping[str, Any]) -> Iterator[str]:
        """A page, piece by piece as it is made."""
        words = {
            "t": lambda msgid, /, **fields: filled(t(msgid, **fields), language),
            "tn": lambda one, many, n, /, **fields: filled(tn(one, many, n, **fields), language),
            "tc": lambda context, msgid, /, **fields: filled(
                tc(context, msgid, **fields), language
            ),
            "say": partial(said, language=language),
            "label": lambda code: say(label(code), language),
            "span": lambda value: say(in_units(value), language),
            "ago": lambda seconds: say(age(seconds), language),
            "progress": partial(progress_svg, language=language),
        }
        return self._templates.get_template(name).generate(lang=language, **words, **values)


def said(text: str, language: Language) -> str:
    """A text in a language; a stranger's own words turn the direction of no line."""
    return say(text, language) if isinstance(text, Text) else visible(text)


def filled(text: Text, language: Language) -> Markup:
    """A text in HTML: what its fields hold is escaped, unless it is HTML itself, such as a
    moment.
    """
    fields = {
        name: say(value, language) if isinstance(value, Text) else value
        for name, value in text.fields.items()
    }
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
    made.filters.update(
        moment=moment, iso=_ISO.format, clock=clock, num="{:,}".format, story=line_of_story
    )
    made.globals.update(State=State, JobStatus=JobStatus, FOREVER=FOREVER, gauge=gauge_svg)
    made.globals.update(static=lambda name: f"/static/{name}?v={version_of(name)}")
    return made


@cache
def static_file(name: str) -> bytes:
    """A script, a style sheet or a picture of the pages."""
    return files("mailerd.web").joinpath("static", *name.split("/")).read_bytes()


@cache
def version_of(name: str) -> str:
    """What stands in the address of such a file: browsers keep it for a day, and after an upgrade
    ask for another.
    """
    return hashlib.sha256(static_file(name)).hexdigest()[:12]


def moment(at: datetime | None, *, has_seconds: bool = True) -> Markup:
    """A moment; a script shows it in the reader's own time, in the same form, so that nothing
    moves.
    """
    if at is None:
        return Markup("–")
    iso, whole = (_ISO, "%Y-%m-%d %H:%M:%S") if has_seconds else (_MINUTE, "%Y-%m-%d %H:%M")
    return Markup('<time datetime="{}" title="{} UTC">{}</time>').format(
        iso.format(at), f"{at:{whole}}", _shown(at, has_seconds=has_seconds)
    )


def _shown(at: datetime, *, has_seconds: bool = True) -> str:
    if at.date() != datetime.now(UTC).date():
        return f"{at:%Y-%m-%d %H:%M}"
    return f"{at:%H:%M:%S}" if has_seconds else f"{at:%H:%M}"


def line_of_story(line: str) -> Markup:
    """A line of a story: its moments as those of lists are, so that one page has one time zone."""
    shown, at = Markup(), 0
    for found in _MOMENT.finditer(line):
        # a reason in foreign words may hold what only looks like a moment
        with suppress(ValueError):
            has_seconds = found[3].count(":") > 1  # a forecast goes by the minute
            shown += escape(line[at : found.start()]) + moment(
                _read_moment(*found.groups()), has_seconds=has_seconds
            )
            at = found.end()
    return shown + escape(line[at:])


def _read_moment(date: str | None, day: str | None, time: str) -> datetime:
    """The moment: of a date, or of today or the coming weekday in UTC.

    Raises:
        ValueError: there is no such date or time.
    """
    today = datetime.now(UTC).date()
    coming = today + timedelta(days=(_DAYS[day] - today.weekday() - 1) % 7 + 1 if day else 0)
    return datetime.fromisoformat(f"{date or coming} {time}+00:00")


@pass_context
def clock(page: Context, at: datetime | None) -> Markup:
    """A moment, short: its age below an hour, a time of today, or a day; a script keeps it so in
    the reader's time.
    """
    if at is None:
        return Markup("–")
    past = datetime.now(UTC) - at
    is_late = timedelta() <= past < _LATELY
    text = say(age(max(1.0, past.total_seconds())), page["lang"]) if is_late else _shown(at)
    return Markup(
        '<time class="short" datetime="{}" title="{:%Y-%m-%d %H:%M:%S} UTC">{}</time>'
    ).format(_ISO.format(at), at, text)


def age(seconds: float) -> Text:
    """For how long something is past."""
    return t("{span} ago", span=in_units(seconds) if seconds else t("less than a second"))


def in_units(value: float | timedelta | None) -> str:
    """A duration."""
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if not seconds:
        return "–"
    return in_words(seconds) if seconds >= 1 else t("less than a second")
