"""One part of a template (subject, html or text): compiled once, rendered for each letter."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, cast

import jinja2
from jinja2 import TemplateSyntaxError, UndefinedError, meta, nodes
from jinja2.exceptions import SecurityError

from mailerd.letters.environment import LetterEnvironment, NothingError
from mailerd.letters.errors import RenderError, TemplateError, TemplateErrors
from mailerd.letters.language import faults
from mailerd.letters.meter import MAX_OUTPUT, MeteredContext, NullError, TooMuchError
from mailerd.letters.needs import NOTHING, Mention, Needs, certain, encodable, look_up, mentions, needs
from mailerd.letters.rewrite import metered

MAX_SOURCE = 1_000_000
"""Characters of one part's template at most."""
MAX_SUBJECT = 1_000
"""Characters of a rendered subject at most; mail programs show about 70."""
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
"""What has no place in a header: control characters, and whatever some reader takes for the end of a line."""

_TOO_DEEP = "nested too deeply; make it simpler"
_GROWTH = 15
"""How much longer a text can get by escaping (x5) and change of case (x3)."""


@dataclass(frozen=True)
class Part:
    """A compiled part. Nothing in it changes, so several threads may render it at once."""

    name: str
    names: frozenset[str]
    needs: Needs | None
    _code: jinja2.Template
    _mentions: tuple[Mention, ...]
    _certain: tuple[Mention, ...]

    @classmethod
    def compile(cls, source: str, *, name: str, environment: LetterEnvironment) -> "Part":
        """Compile a part.

        Raises:
            TemplateErrors: it is not Jinja, or uses what a letter may not.
        """
        try:
            tree = _parsed(source, name=name, environment=environment)
            places, sure = tuple(mentions(tree)), tuple(certain(tree))
            known = needs(tree, room=(_most(name) - 5 * len(source)) // _GROWTH)
            if known and name == "subject" and not source.isprintable():
                known = None  # line breaks in the source may or may not come out
            tree = metered(tree)
            names = _names(tree, environment=environment)
            code = environment.compile(tree, filename=f"<{name}>")
        except TemplateSyntaxError as error:
            raise TemplateErrors([TemplateError(str(error.message), part=name, line=error.lineno)]) from error
        except (RecursionError, MemoryError, SyntaxError) as error:
            raise TemplateErrors([TemplateError(_TOO_DEEP, part=name, line=None)]) from error
        except ValueError as error:  # int() reads no more than 4,300 digits
            raise TemplateErrors([TemplateError("a number of too many digits", part=name, line=None)]) from error
        template = environment.template_class.from_code(environment, code, {})
        return cls(name, names, known, template, places, sure)

    def troubles(self, variables: Mapping[str, object]) -> list[RenderError]:
        """Why these variables will not render: what stopped it, and what else is missing for certain."""
        try:
            self.render(variables)
        except RenderError as error:
            missing = (it for it in self._certain if look_up(it.path, variables) is NOTHING)
            return [error, *(self._undefined(it.dotted, it.line) for it in missing if it.dotted != error.variable)]
        return []

    def render(self, variables: Mapping[str, object]) -> str:
        """The part as text.

        Raises:
            RenderError: a variable is missing or null, the subject is not one line, a bound was passed, …
        """
        environment = cast("LetterEnvironment", self._code.environment)
        # Jinja would copy the variables into a dict of its own; it only ever reads them.
        context = MeteredContext(environment, cast("dict[str, Any]", variables), self.name, {})
        try:
            return self._checked(_gathered(self._code.root_render_func(context), most=_most(self.name)))
        except Exception as error:
            # Whatever a template runs into, it and its variables are to blame.
            raise self._error(error, variables) from error

    def _checked(self, made: str) -> str:
        if not encodable(made):
            raise ValueError("holds half a character (a lone surrogate), which cannot be sent")
        if self.name != "subject":
            return made
        subject = made.replace("\t", " ").strip()
        if CONTROL.search(subject):
            raise ValueError("must be one line, without line breaks and control characters")
        return subject

    def _error(self, error: Exception, variables: Mapping[str, object]) -> RenderError:
        line = self._line(error.__traceback__)
        match error:
            case UndefinedError():
                path = self._missing(str(error.message), line, variables)
                return self._undefined(path, line)
            case NullError():
                path = error.path or self._null(line, variables)
                what = f"'{path}' is null" if path else "a value is null"
                reason = f"{what}; give it a value, or write | default('…') behind it"
                return RenderError(reason, part=self.name, line=line, variable=path)
            case TooMuchError() | NothingError() | SecurityError() | TypeError() | ValueError():
                reason = str(error)
            case _:
                reason = f"{type(error).__name__}: {error}"
        return RenderError(reason, part=self.name, line=line)

    def _undefined(self, path: str, line: int | None) -> RenderError:
        return RenderError(f"'{path}' is undefined", part=self.name, line=line, variable=path)

    def _line(self, trace: TracebackType | None) -> int | None:
        line = None
        while trace:
            if trace.tb_frame.f_code.co_filename == self._code.filename:
                line = self._code.get_corresponding_lineno(trace.tb_lineno)
            trace = trace.tb_next
        return line

    def _missing(self, step: str, line: int | None, variables: Mapping[str, object]) -> str:
        """The whole path whose last steps are missing; Jinja knows only these."""
        ends = f".{step}"
        found = [place for place in self._mentions if f".{place.dotted}".endswith(ends)]
        found = [place for place in found if look_up(place.path, variables) is NOTHING]
        return min(found, key=lambda place: (place.line != line, place.line)).dotted if found else step

    def _null(self, line: int | None, variables: Mapping[str, object]) -> str:
        """The path that is null on a line, when there is but one."""
        here = [place for place in self._mentions if place.line == line]
        found = {place.dotted for place in here if look_up(place.path, variables) is None}
        return found.pop() if len(found) == 1 else ""


def _names(tree: nodes.Template, *, environment: LetterEnvironment) -> frozenset[str]:
    """What `meta.find_undeclared_variables` finds, without the optimizer that it would run over the template."""
    generator = meta.TrackingCodeGenerator(environment)
    generator.optimizer = None
    generator.visit(tree)
    return frozenset(generator.undeclared_identifiers)


def _gathered(pieces: Iterable[str], *, most: int) -> str:
    """The pieces as one text, counted while they are made."""
    made: list[str] = []
    room = most
    for piece in pieces:
        made.append(piece)
        room -= len(piece)
        if room < 0:
            raise TooMuchError(f"comes out longer than {most} characters")
    return "".join(made)


def _most(name: str) -> int:
    return MAX_SUBJECT if name == "subject" else MAX_OUTPUT


def _parsed(source: str, *, name: str, environment: LetterEnvironment) -> nodes.Template:
    if len(source) > MAX_SOURCE:
        raise TemplateSyntaxError(f"longer than {MAX_SOURCE} characters; put pictures elsewhere and link to them", 1)
    if not encodable(source):
        raise TemplateSyntaxError("holds half a character (a lone surrogate), which cannot be sent", 1)
    tree = environment.parse(source)
    found = faults(tree)
    if found:
        raise TemplateErrors([TemplateError(reason, part=name, line=line) for line, reason in found])
    return tree
