"""A job's template: compiled once, checked against every recipient before the 200, rendered once per letter."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from mailerd.letters.environment import ESCAPED, PLAIN
from mailerd.letters.errors import RenderError, TemplateError, TemplateErrors
from mailerd.letters.needs import Sieve
from mailerd.letters.part import Part
from mailerd.letters.text import text_from_html

_REMEMBERED: Final = 256
"""Templates that are kept compiled: compiling takes tens of milliseconds, and jobs often share a template."""
_SMALL: Final = 100_000
"""Characters; larger templates are not kept here, so that a few of them cannot fill the memory."""


@dataclass(frozen=True)
class Content:
    """What one recipient reads: the subject is one line, `html` is None for a letter of plain text."""

    subject: str
    html: str | None
    text: str


@dataclass(frozen=True)
class Template:
    """A compiled template. Nothing in it changes, so several threads may use it at once."""

    names: frozenset[str]
    """The variables, by their top-level names, that the template reads."""
    _subject: Part
    _html: Part | None
    _text: Part | None
    _sieve: Sieve | None

    @classmethod
    def compile(cls, *, subject: str, html: str | None, text: str | None) -> "Template":
        """Compile a template; without `text`, each letter's text is made from its HTML.

        The intake compiles to check and the sending to render: the second finds what the first has made.

        Raises:
            TemplateErrors: a part is wrong, or there is neither html nor text; every error is named.
        """
        small = len(subject) + len(html or "") + len(text or "") <= _SMALL
        return _known(subject, html, text) if small else cls._made(subject=subject, html=html, text=text)

    @classmethod
    def _made(cls, *, subject: str, html: str | None, text: str | None) -> "Template":
        errors: list[TemplateError] = []
        if html is None and text is None:
            errors.append(
                TemplateError("the template has neither html nor text; give one or both", part="html", line=None)
            )
        parts: dict[str, Part] = {}
        for name, source in (("subject", subject), ("html", html), ("text", text)):
            if source is not None:
                try:
                    parts[name] = Part.compile(source, name=name, environment=ESCAPED if name == "html" else PLAIN)
                except TemplateErrors as found:
                    errors.extend(found.errors)
        if errors:
            raise TemplateErrors(errors)
        names = frozenset[str]().union(*(part.names for part in parts.values()))
        known = {name: part.needs for name, part in parts.items() if part.needs}
        sieve = Sieve(known) if len(known) == len(parts) else None
        return cls(names, parts["subject"], parts.get("html"), parts.get("text"), sieve)

    def troubles(self, variables: Mapping[str, object]) -> list[RenderError]:
        """Why these variables will not render, each variable named once; an empty list means that they will.

        Most are known to be good without rendering (about a microsecond); the others are rendered to find out, because
        what is missing may stand in a branch that is not taken or under a `default`.
        """
        if self._sieve and self._sieve.passes(variables):
            return []
        parts = [part for part in (self._subject, self._html, self._text) if part]
        found: dict[str, RenderError] = {}
        for error in (each for part in parts for each in part.troubles(variables)):
            found.setdefault(error.variable or str(error), error)
        return list(found.values())

    def render(self, variables: Mapping[str, object]) -> Content:
        """One recipient's letter.

        Raises:
            RenderError: the variables do not fit the template; it names the part, the line and the variable.
        """
        subject = self._subject.render(variables)
        html = self._html.render(variables) if self._html else None
        text = self._text.render(variables) if self._text else text_from_html(html or "")
        return Content(subject, html, text)


@lru_cache(maxsize=_REMEMBERED)
def _known(subject: str, html: str | None, text: str | None) -> Template:
    return Template._made(subject=subject, html=html, text=text)  # noqa: SLF001 - the class's other half
