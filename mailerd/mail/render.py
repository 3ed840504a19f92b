"""Compiles and renders templates.

It runs in the child process alone (`render_child`), which the system bounds.
"""

import contextlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import batched
from types import TracebackType
from typing import Final, cast

import css_inline
import jinja2
from jinja2 import TemplateSyntaxError, UndefinedError, meta, nodes
from jinja2.runtime import Context

from mailerd.core.i18n import N_, Text, t
from mailerd.mail.environment import (
    ESCAPED,
    PLAIN,
    LoopsAndCalls,
    MessageEnvironment,
    MissingVariable,
    NullError,
    RecordedVariable,
    find_violations,
)
from mailerd.mail.html_to_text import text_from_html
from mailerd.mail.markdown import markdown_to_html
from mailerd.mail.templates import (
    CONTROL,
    Content,
    RecipientData,
    RenderError,
    Source,
    Template,
    TemplateError,
    TemplateErrors,
    choose_language,
    merge_variables,
)

MAX_SOURCE: Final = 1_000_000
"""Characters of one part's template at most."""
MAX_SUBJECT: Final = 1_000
"""Characters of a rendered subject at most; mail programs show about 70."""
MAX_OUTPUT: Final = 1_000_000
"""Bytes of a rendered body, as UTF-8; Gmail clips a message far below that, at about 102 KB."""
_PIECES: Final = 32
"""Pieces of a text that are counted at once: to count each is a tenth of the work of a small
message.
"""

# Nothing is loaded, neither from the network nor from the disk. Rules that cannot be inlined
# (@media) stay in <style>.
_INLINER: Final = css_inline.CSSInliner(
    load_remote_stylesheets=False, keep_style_tags=True, keep_link_tags=True, keep_at_rules=True
)
_DEFAULTING: Final = frozenset({"default", "d", "defined", "undefined"})
_ABSENT: Final = object()

VariablePath = tuple[str, ...]
PartKey = tuple[str, str]
"""A part's name and source: what it is compiled from."""


class OutOfMemoryError(Exception):
    """The process has no memory left. It must end, since any of its objects may be incomplete."""

    def __init__(self, part: str, line: int | None) -> None:
        super().__init__(part, line)
        self.part = part
        self.line = line


@dataclass(frozen=True)
class CompiledPart:
    """One part of a template in one language, compiled."""

    name: str
    source: str
    names: frozenset[str]
    _code: jinja2.Template
    _variable_reads: tuple[tuple[VariablePath, int], ...]
    """Every constant path that is read, with its line, in reading order."""

    @classmethod
    def compile(cls, source: str, *, name: str) -> "CompiledPart":
        """Compile a part.

        Raises:
            TemplateErrors: it is not Jinja, or uses what a message may not.
        """
        environment = ESCAPED if name == "html" else PLAIN
        tree: jinja2.nodes.Template | None = None
        try:
            tree = _parsed(source, name=name, environment=environment)
            reads = tuple(_variable_reads(tree))
            tree = LoopsAndCalls().visit(tree)
            code = environment.compile(tree, filename=f"<{name}>")
            # Last: it evaluates what is constant in the tree, such as 1e308 * 10, which no code can
            # be made of.
            names = frozenset(meta.find_undeclared_variables(tree)) - {"range"}
        except TemplateErrors:
            raise
        except TemplateSyntaxError as error:
            raise TemplateErrors(
                [TemplateError(_of_jinja(error.message), part=name, line=error.lineno)]
            ) from error
        except MemoryError:
            raise OutOfMemoryError(name, None) from None
        except (RecursionError, SyntaxError) as error:
            raise TemplateErrors(
                [TemplateError(t("nested too deeply"), part=name, line=None)]
            ) from error
        except (
            ValueError
        ) as error:  # CPython turns numbers of more than 4,300 digits neither from text nor into it
            line = _line_of_number(tree, environment) if tree else None
            raise TemplateErrors(
                [TemplateError(t("a number with too many digits"), part=name, line=line)]
            ) from error
        except Exception as error:
            said = _of_jinja(f"{type(error).__name__}: {error}")
            raise TemplateErrors([TemplateError(said, part=name, line=None)]) from error
        return cls(
            name, source, names, environment.template_class.from_code(environment, code, {}), reads
        )

    def render(self, variables: Mapping[str, object]) -> str:
        """The part as text.

        Raises:
            RenderError: a variable is missing or null, the subject is not one line, …
            OutOfMemoryError: the process has no memory left.
        """
        environment = cast("MessageEnvironment", self._code.environment)
        environment.last_null = ""
        try:
            return self._checked(self._run(environment, variables))
        except MemoryError as error:
            raise OutOfMemoryError(self.name, self._line(error.__traceback__)) from None
        except Exception as error:
            # Every other error is the template's or its variables'.
            raise self._error(error, variables) from error

    def missing(self, name: str, variables: Mapping[str, object]) -> RenderError:
        """What is said of a required variable that has no value."""
        # it may be there and null
        others = {each: value for each, value in variables.items() if each != name}
        return self._undefined(*self._place(name, None, others))

    def find_missing(self, variables: Mapping[str, object]) -> list[RenderError]:
        """All variables that are missing: a second rendering goes on after each of them."""
        environment = cast("MessageEnvironment", self._code.environment)
        RecordedVariable.paths.clear()
        environment.undefined = RecordedVariable
        try:
            with contextlib.suppress(RenderError):  # the first rendering has said what stops it
                self.render(variables)
        finally:
            environment.undefined = MissingVariable
        return [
            self._undefined(*self._place(step, None, variables)) for step in RecordedVariable.paths
        ]

    def _run(self, environment: MessageEnvironment, variables: Mapping[str, object]) -> str:
        context = Context(environment, {**environment.globals, **variables}, self.name, {})
        made, room = list[str](), self._most
        for pieces in batched(self._code.root_render_func(context), _PIECES):
            made.append("".join(pieces))
            room -= len(made[-1])
            if room < 0:
                raise ValueError(self._too_long)
        return "".join(made)

    @property
    def _most(self) -> int:
        return MAX_SUBJECT if self.name == "subject" else MAX_OUTPUT

    @property
    def _too_long(self) -> str:
        if self.name == "subject":
            return t("renders to more than {most:,} characters", most=self._most)
        return t("renders to more than {most:,} bytes", most=self._most)

    def _checked(self, made: str) -> str:
        try:
            size = len(made.encode())
        except UnicodeEncodeError:
            raise ValueError(
                t("contains half a character (a lone surrogate), which cannot be sent")
            ) from None
        if self.name != "subject":
            if size > MAX_OUTPUT:
                raise ValueError(self._too_long)
            if "\0" in made:  # RFC 5322, 2.2 and 3.5: a message has none
                raise ValueError(t("contains a NUL character, which cannot be sent"))
            return made
        subject = made.replace("\t", " ").strip()
        if CONTROL.search(subject):
            raise ValueError(t("must be a single line without control characters"))
        return subject

    def _error(self, error: Exception, variables: Mapping[str, object]) -> RenderError:
        reason: str
        line = self._line(error.__traceback__)
        match error:
            case UndefinedError():
                return self._undefined(*self._place(str(error.message), line, variables), line=line)
            case NullError():
                path = self._null(line, variables)
                what = t("'{path}' is null", path=path) if path else t("a value is null")
                reason = t("{what}; give it a value, or add | default('…')", what=what)
                return RenderError(reason, part=self.name, line=line, variable=path)
            case RecursionError():
                reason = t("nested too deeply")
            case (
                jinja2.TemplateError()
                | TypeError()
                | ValueError()
                | ArithmeticError()
                | AssertionError()
            ):
                reason = _of_jinja(str(error))
            case _:
                reason = _of_jinja(f"{type(error).__name__}: {error}")
        return RenderError(reason, part=self.name, line=line)

    def _undefined(self, path: str, place: int | None, *, line: int | None = None) -> RenderError:
        reason = t("'{path}' is undefined", path=path)
        if path == "name":
            reason = t("'{path}' is undefined; an empty name counts as undefined", path=path)
        return RenderError(reason, part=self.name, line=line or place, variable=path)

    def _line(self, trace: TracebackType | None) -> int | None:
        line = None
        while trace:
            if trace.tb_frame.f_code.co_filename == self._code.filename:
                line = self._code.get_corresponding_lineno(trace.tb_lineno)
            trace = trace.tb_next
        return line

    def _place(
        self, step: str, line: int | None, variables: Mapping[str, object]
    ) -> tuple[str, int | None]:
        """The whole path whose last steps are missing, and its line; Jinja knows only these
        steps.
        """
        found = [
            (path, at)
            for path, at in self._variable_reads
            if f".{'.'.join(path)}".endswith(f".{step}") and _look_up(path, variables) is _ABSENT
        ]
        if not found:
            return step, line
        path, at = min(found, key=lambda place: (place[1] != line, place[1]))
        return ".".join(path), at

    def _null(self, line: int | None, variables: Mapping[str, object]) -> str:
        """The path that is null on a line, when there is but one; in a loop it is known by its last
        step.
        """
        here = [path for path, at in self._variable_reads if at == line]
        last = cast("MessageEnvironment", self._code.environment).last_null
        found = {path for path in here if _look_up(path, variables) is None} or {
            path for path in here if last and path[-1] == last
        }
        return ".".join(found.pop()) if len(found) == 1 else ""


# What Jinja says of a template, and what we say instead.
_MESSAGES: Final = (
    (
        re.compile(r"unexpected end of template, expected (?P<expected>'.+')\."),
        N_("the template ends where {expected} is expected"),
    ),
    (
        re.compile(
            r"Unexpected end of template\..*(?:looking for|following tags:) (?P<tags>'.+?')\..*"
        ),
        N_("the template ends within a block; expected: {tags}"),
    ),
    (
        re.compile(
            r"Encountered unknown tag '(?P<tag>.+?)'\..*(?:looking for|following tags:) (?P<tags>'.+?')\..*"
        ),
        N_("the tag '{tag}' does not belong here; expected: {tags}"),
    ),
    (re.compile(r"Encountered unknown tag '(?P<tag>.+)'\."), N_("unknown tag '{tag}'")),
    (
        re.compile(r"expected token (?P<expected>'.+'), got (?P<got>'.+')"),
        N_("expected {expected}, got {got}"),
    ),
    (
        re.compile(r"unexpected (?P<got>'.+'), expected (?P<expected>'.+')"),
        N_("expected {expected}, got {got}"),
    ),
    (
        re.compile(r"Expected an expression, got (?P<got>'.+')"),
        N_("expected an expression, got {got}"),
    ),
    (re.compile(r"unexpected char (?P<got>.+) at \d+"), N_("unexpected character {got}")),
    (re.compile(r"unexpected (?P<got>'.+')"), N_("unexpected {got}")),
    (re.compile(r"Missing end of (?P<what>comment|raw) .+"), N_("the end of '{what}' is missing")),
    (
        re.compile(r"No (?:filter|test) named '(?P<name>.+)'\."),
        N_("there is no filter or test '{name}'"),
    ),
)
_TOKEN: Final = re.compile(r"(begin|end) of (print|statement) (?:statement|block)")


def _token(match: re.Match[str]) -> str:
    return (("{{", "}}") if match[2] == "print" else ("{%", "%}"))[match[1] == "end"]


def _of_jinja(said: str | None) -> str:
    """A library's message as a reason of ours; one that is not known is quoted."""
    if isinstance(said, Text):  # one of ours that came through Jinja
        return said
    for pattern, ours in _MESSAGES:
        if match := pattern.fullmatch(said or ""):
            fields = match.groupdict().items()
            return t(
                ours,
                **{
                    name: _TOKEN.sub(_token, value).replace("' or '", "', '")
                    for name, value in fields
                },
            )
    return t('the template engine says: "{said}"', said=said)


def _line_of_number(tree: jinja2.nodes.Template, environment: jinja2.Environment) -> int | None:
    """The line of what cannot be compiled, which the error does not say; of a block, its first."""
    for node in tree.body:
        for part in node.nodes if isinstance(node, jinja2.nodes.Output) else [node]:
            alone = (
                jinja2.nodes.Output([part], lineno=part.lineno)
                if isinstance(part, jinja2.nodes.Expr)
                else part
            )
            whole = jinja2.nodes.Template([alone], lineno=1)
            whole.set_environment(environment)
            try:
                environment.compile(whole)
            except ValueError:
                return part.lineno
    return None


def _look_up(path: VariablePath, variables: Mapping[str, object]) -> object:
    value: object = variables
    for step in path:
        if not isinstance(value, Mapping) or step not in value:
            return _ABSENT
        value = value[step]
    return value


def _path_of(node: nodes.Node) -> VariablePath:
    """`a.b["c"]` as ("a", "b", "c"); () when it is not such a constant path."""
    match node:
        case nodes.Name(name=name, ctx="load"):
            return (name,)
        case (
            nodes.Getattr(node=inner, attr=key)
            | nodes.Getitem(node=inner, arg=nodes.Const(value=str() as key))
        ):
            root = _path_of(inner)
            return (*root, key) if root else ()
        case _:
            return ()


def _variable_reads(tree: nodes.Node) -> Iterator[tuple[VariablePath, int]]:
    """The paths whose absence can end a rendering: not those under `default` or `is defined`."""
    stack = [tree]
    while stack:
        node = stack.pop()
        path = _path_of(node)
        if path:
            yield path, node.lineno
        elif isinstance(node, nodes.Filter | nodes.Test) and node.name in _DEFAULTING and node.node:
            stack.extend([*reversed(node.args), *([] if _path_of(node.node) else [node.node])])
        else:
            stack.extend(reversed(list(node.iter_child_nodes())))


def _encodable(value: str) -> bool:
    """Whether a text can be written as UTF-8; half a surrogate pair, which JSON lets through,
    cannot.
    """
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _parsed(source: str, *, name: str, environment: MessageEnvironment) -> nodes.Template:
    if len(source) > MAX_SOURCE:
        raise TemplateSyntaxError(
            t(
                "exceeds {max_source} characters; host images elsewhere and link to them",
                max_source=MAX_SOURCE,
            ),
            1,
        )
    if not _encodable(source):
        raise TemplateSyntaxError(
            t("contains half a character (a lone surrogate), which cannot be sent"), 1
        )
    tree = environment.parse(source)
    found = find_violations(tree)
    if found:
        raise TemplateErrors(
            [TemplateError(reason, part=name, line=line) for line, reason in found]
        )
    return tree


_NOTHING_KNOWN: Final[Mapping[PartKey, CompiledPart]] = {}


class CompiledTemplate:
    """A job's template in all its languages."""

    def __init__(
        self,
        template: Template,
        *,
        at: Callable[[str], None],
        known: Mapping[PartKey, CompiledPart] = _NOTHING_KNOWN,
    ) -> None:
        """Compile it, but for the parts that are `known`; `at` is called with the name of each
        before it is worked on.

        Raises:
            TemplateErrors: a part is wrong, or there is neither html nor text; every error is
            named.
        """
        self._template = template
        self._at = at
        errors: list[TemplateError] = []
        self._parts = {
            tag: _compiled(source, f"{tag}/" if tag else "", errors, at, known)
            for tag, source in (("", template.default), *template.languages.items())
        }
        if errors:
            raise TemplateErrors(errors)

    def parts(self) -> dict[PartKey, CompiledPart]:
        """Its parts, for other templates that have some of them."""
        return {(part.name, part.source): part for parts in self._parts.values() for part in parts}

    def names(self) -> dict[str, list[str]]:
        """The variables that each language reads, by their top-level names; "" is the default."""
        return {
            tag: sorted(frozenset[str]().union(*(part.names for part in parts)))
            for tag, parts in self._parts.items()
        }

    def html(self) -> str | None:
        """The HTML that the default's text is written for, where that is Markdown."""
        return (
            markdown_to_html(self._template.default.text or "")
            if self._template.is_markdown
            else None
        )

    def render(self, reader: RecipientData) -> Content | list[RenderError]:
        """One recipient's message, or why there is none, each variable named once.

        Raises:
            OutOfMemoryError: the bound was met.
        """
        own = json.loads(reader.variables) if reader.variables else None
        variables = merge_variables(
            self._template.variables,
            own,
            email=reader.email,
            name=reader.name,
            unsubscribe_url=reader.unsubscribe_url,
            defaults=self._template.defaults,
        )
        parts = self._parts[
            choose_language(variables.get("language"), among=self._parts.keys()) or ""
        ]
        needed = [each for each in self._template.required if variables.get(each) is None]
        if needed:
            parts_of = (
                (each, next((it for it in parts if each in it.names), parts[0])) for each in needed
            )
            return [part.missing(each, variables) for each, part in parts_of]
        try:
            made: dict[str, str] = {}
            for part in parts:
                self._at(part.name)
                made[part.name] = part.render(variables)
            return self._finished(made)
        except RenderError as error:
            found = {error.variable or str(error): error}
            for each in (each for part in parts for each in part.find_missing(variables)):
                found.setdefault(each.variable, each)
            return list(found.values())

    def _finished(self, made: dict[str, str]) -> Content:
        html = made.get("html")
        # The text is made from the template's HTML, before the CSS is inlined.
        text = made["text"] if "text" in made else text_from_html(made["html"])
        if html is not None and self._template.inline_css:
            self._at("CSS")
            html = _inlined(html)
        return Content(made["subject"], html, text)


def _compiled(
    source: Source,
    language: str,
    errors: list[TemplateError],
    at: Callable[[str], None],
    known: Mapping[PartKey, CompiledPart],
) -> list[CompiledPart]:
    parts: list[CompiledPart] = []
    if source.html is None and source.text is None:
        errors.append(
            TemplateError(
                t("the template has neither html nor text; give one or both"),
                part=f"{language}html",
                line=None,
            )
        )
    for name, text in (("subject", source.subject), ("html", source.html), ("text", source.text)):
        if text is not None:
            at(name)
            try:
                parts.append(known.get((name, text)) or CompiledPart.compile(text, name=name))
            except TemplateErrors as found:
                errors.extend(
                    TemplateError(it.reason, part=f"{language}{name}", line=it.line)
                    for it in found.errors
                )
    return parts


def _inlined(html: str) -> str:
    if "<style" not in html.lower():
        return html
    try:
        made = _INLINER.inline(html)
    except (css_inline.InlineError, ValueError) as error:
        raise RenderError(
            t("its CSS cannot be inlined: {error}", error=error), part="html", line=None
        ) from error
    # each element has its rules: it may have become many times as long
    if len(made.encode()) > MAX_OUTPUT:
        raise RenderError(
            t("exceeds {max_output:,} bytes once its CSS is inlined", max_output=MAX_OUTPUT),
            part="html",
            line=None,
        )
    return made
