"""Makes the pages of the console by Jinja2, of our own templates; the clients' are rendered in a child process."""

import hashlib
import re
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import cache, partial
from importlib.resources import files
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from mailerd.core.labels import LABELS
from mailerd.core.rate_limit import FOREVER
from mailerd.core.states import JobStatus, State
from mailerd.core.texts import Language
from mailerd.texts import in_chinese
from mailerd.web.charts import chart_svg, gauge_svg, progress_svg
from mailerd.web.words import translate

_CHINESE_UNITS: Final = (("天", 86_400), ("小时", 3600), ("分钟", 60), ("秒", 1))
_MOMENT: Final = re.compile(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) UTC")
_ENGLISH_UNITS: Final = (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1))


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
        t = partial(translate, language)
        return self._templates.get_template(name).render(
            t=t,
            label=partial(label, language),
            lang=language,
            span=partial(in_units, language=language),
            say=in_chinese if language == "zh" else str,
            **values,
        )


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
    made.filters.update(moment=moment, clock=clock, num=number, seconds=in_units, story=line_of_story)
    made.globals.update(State=State, JobStatus=JobStatus, FOREVER=FOREVER)
    made.globals.update(progress=progress_svg, chart=chart_svg, gauge=gauge_svg)
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


def label(language: Language, name: str) -> str:
    """A status, an action or a cause in words."""
    english, chinese = LABELS.get(name, (name.replace("_", " "), name))
    return chinese if language == "zh" else english


def moment(at: datetime | None) -> Markup:
    """A moment, which a script may show in the reader's own time."""
    if at is None:
        return Markup("–")
    return Markup('<time datetime="{}">{}</time>').format(f"{at:%Y-%m-%dT%H:%M:%SZ}", f"{at:%Y-%m-%d %H:%M:%S}")


def line_of_story(line: str) -> Markup:
    """A line of a story: its moments as those of lists are, so that one page has one time zone."""
    shown, at = Markup(), 0
    for found in _MOMENT.finditer(line):
        with suppress(ValueError):  # a reason in foreign words may hold what only looks like a moment
            when = moment(datetime.fromisoformat(f"{found[1]}+00:00"))
            shown += escape(line[at : found.start()]) + when
            at = found.end()
    return shown + escape(line[at:])


def clock(at: datetime | None) -> Markup:
    """A moment of today or of another day, short."""
    if at is None:
        return Markup("–")
    text = f"{at:%H:%M:%S}" if at.date() == datetime.now(UTC).date() else f"{at:%m-%d %H:%M}"
    return Markup('<time datetime="{}" title="{} UTC">{}</time>').format(
        f"{at:%Y-%m-%dT%H:%M:%SZ}", f"{at:%Y-%m-%d %H:%M:%S}", text
    )


def number(value: float) -> str:
    """A number with its thousands apart."""
    return f"{value:,}"


def in_units(value: float | timedelta | None, language: Language = "en") -> str:
    """A duration in its two largest units."""
    if value is None:
        return "–"
    left = max(0, round(value.total_seconds() if isinstance(value, timedelta) else value))
    said: list[str] = []
    for name, size in _CHINESE_UNITS if language == "zh" else _ENGLISH_UNITS:
        many, rest = divmod(left, size)
        if many and len(said) < 2:  # noqa: PLR2004 - more than two would say no more to a reader
            said.append(f"{many} {name}")
            left = rest
        elif said:
            break
    return " ".join(said) or ("0 秒" if language == "zh" else "0 s")
