"""Jinja's own sandbox with an allow-list: plain data in, text out, and no attribute or function of
Python.

Time and memory are not bounded here: the operating system bounds the process that this runs in.
"""

import difflib
import math
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from functools import wraps
from typing import Any, ClassVar, Final

from jinja2 import StrictUndefined, Undefined, nodes, pass_context, pass_eval_context
from jinja2.exceptions import SecurityError, TemplateRuntimeError, UndefinedError
from jinja2.filters import FILTERS as JINJA_FILTERS
from jinja2.filters import make_attrgetter
from jinja2.nodes import EvalContext
from jinja2.runtime import Context, LoopContext
from jinja2.sandbox import ImmutableSandboxedEnvironment, safe_range
from jinja2.tests import TESTS as JINJA_TESTS
from jinja2.utils import missing
from jinja2.visitor import NodeTransformer

from mailerd.core.i18n import t


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


_OF_TEXT: Final = _names(
    "capitalize e escape format lower replace safe string title trim truncate upper urlencode"
)
"""Filters that take a text or a number; of a list they would make Python's notation of it."""
_WRITING: Final = {"format": None, "replace": 2}
"""Filters that write their arguments into a text, and how many of these; None: all."""
_OF_ANYTHING: Final = _names(
    "abs count dictsort first float int items join last length list map max min reverse round sort sum unique"
)
TESTS: Final = {
    name: JINJA_TESTS[name]
    for name in _names(
        "boolean defined divisibleby even false mapping none number odd sequence string true undefined"
    )
}
LOOP: Final = _names("first index index0 last length nextitem previtem revindex revindex0")
"""What a template may ask of `loop`, besides loop.cycle(…) and loop.changed(…)."""
METHODS: Final[Mapping[str, type]] = {
    **dict.fromkeys(
        _names("capitalize endswith lower lstrip rstrip split startswith strip title upper"), str
    ),
    **dict.fromkeys(_names("get items keys values"), dict),
    **dict.fromkeys(_names("changed cycle"), LoopContext),
}
"""Methods that a template may call, and whose they must be."""


class NullError(TemplateRuntimeError):
    """A value that must be there is null."""


class NotFoundError(TemplateRuntimeError):
    """A value that is not a variable does not exist (the previous item of a loop, for example); the
    text names it.
    """


class MissingVariable(StrictUndefined):
    """A variable that is not there: its message is its path alone, and every path below it is
    missing too.

    So `{{ user.name | default("you") }}` works where `user` is missing as a whole; every other use of it raises.
    """

    __slots__ = ()

    def __init__(
        self,
        hint: str | None = None,
        obj: Any = missing,
        name: str | None = None,
        exc: type[TemplateRuntimeError] = UndefinedError,
    ) -> None:
        # With a hint ("there is no previous item") it is not a variable that is missing. The hint
        # is the message.
        super().__init__(hint or str(name), obj, name, NotFoundError if hint else exc)

    @property
    def path(self) -> str:
        """What was looked for: `user.name`."""
        return str(self._undefined_name)


class RecordedVariable(Undefined):
    """A variable that is not there, reads as the empty text and records its path, so that one
    rendering finds all.
    """

    __slots__ = ()
    paths: ClassVar[list[str]] = []

    @property
    def path(self) -> str:
        """What was looked for, as in `MissingVariable`."""
        return str(self._undefined_name)

    def __str__(self) -> str:
        self.paths.append(self.path)
        return ""

    def __bool__(self) -> bool:
        return bool(str(self))

    def __iter__(self) -> Iterator[Any]:
        return iter(str(self))


def default(value: Any, default_value: Any = "", boolean: Any = False) -> Any:  # noqa: FBT002 - as in Jinja
    """The value, or another where it is missing or null, and with `true` also where it is empty."""
    return (
        default_value
        if isinstance(value, Undefined) or value is None or (boolean and not value)
        else value
    )


def _not_writable(value: object) -> str:
    what = (
        t("a list")
        if isinstance(value, list | tuple)
        else t("an object")
        if isinstance(value, dict)
        else t("this value")
    )
    return t("{what} cannot be shown in a message; loop over it or join it", what=what)


def _written(value: Any) -> Any:
    """A value that becomes text, refused where it would read like an accident ("Dear None", a
    Python list).
    """
    if type(value) is str:  # most are, and this is asked for each value of each message
        return value
    if value is None:
        raise NullError
    if not isinstance(value, str | int | float | Undefined):
        raise TypeError(_not_writable(value))
    return value


def _modulo(value: Any, by: Any) -> Any:
    """`value % by`, which writes values into a text where `value` is one."""
    if isinstance(value, str):
        for each in by if isinstance(by, tuple) else by.values() if isinstance(by, dict) else (by,):
            _written(each)
    return value % by


@pass_eval_context
def _join(context: EvalContext, value: Any, d: Any = "", attribute: Any = None) -> Any:
    """Jinja's join, with its own names."""
    if value is None:
        raise NullError
    items = (
        value if attribute is None else map(make_attrgetter(context.environment, attribute), value)
    )
    return JINJA_FILTERS["join"](context, [_written(each) for each in items], _written(d))


def _strict(name: str) -> Callable[..., Any]:
    """Jinja's filter, which refuses null, and gives a list where Jinja gives a generator."""
    function = JINJA_FILTERS[name]
    at = 1 if hasattr(function, "jinja_pass_arg") else 0

    @wraps(function)
    def filter_(*arguments: Any, **options: Any) -> Any:
        value = arguments[at]
        if value is None:
            raise NullError
        if name in _OF_TEXT:
            _written(value)
        if name in _WRITING:
            for each in (*arguments[at + 1 :][: _WRITING[name]], *options.values()):
                _written(each)
        result = function(*arguments, **options)
        return list(result) if hasattr(result, "__next__") else result

    return filter_


FILTERS: Final[Mapping[str, Callable[..., Any]]] = {
    **{name: _strict(name) for name in sorted(_OF_TEXT | _OF_ANYTHING)},
    **dict.fromkeys(("default", "d"), default),
    "join": _join,
}


# so that Jinja does not evaluate constants while compiling, where an error has no line
@pass_context
def _out(context: Context, value: Any) -> Any:  # noqa: ARG001
    """The value of `{{ … }}`."""
    return value if type(value) is str else _written(value)


def _each(value: Any) -> Any:
    """The value of a loop. A loop over a text, character by character, is always a mistake."""
    if value is None:
        raise NullError
    if isinstance(value, str | int | float):
        raise TypeError(
            t(
                "a list is needed here, not {it}",
                it=t("a text") if isinstance(value, str) else t("a number"),
            )
        )
    return value


def _called(value: Any, method: str, *arguments: Any) -> Any:
    """`value.method(…)`, for the methods of `METHODS`."""
    if value is None:
        raise NullError
    if not isinstance(value, METHODS[method]):
        str(value)  # what is missing raises, and says its name
        raise TypeError(t("{name__} has no {method}()", name__=type(value).__name__, method=method))
    if method == "get":
        _refuse_underscore(*arguments[:1])
    result = getattr(value, method)(*arguments)
    return list(result) if method in {"items", "keys", "values"} else result


def _refuse_underscore(name: object = "") -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise SecurityError(
            t("{name!r} starts with an underscore; such names are not available", name=name)
        )


class MessageEnvironment(ImmutableSandboxedEnvironment):
    """The sandbox, narrowed: lookups reach into objects, lists and `loop` only; `range` alone can
    be called.
    """

    last_null = ""
    """The last step of the path that last led to null: the error names the variable by it."""

    def is_safe_callable(self, obj: Any) -> bool:
        """Only `range`; methods go by `_called`."""
        return obj is safe_range

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:  # noqa: ARG002 - the sandbox's own signature
        """Nothing is; `getattr` never asks."""
        return False

    def getattr(self, obj: Any, attribute: str) -> Any:
        """`a.b`: an object's key, never a Python attribute, so that a key called "items" can be
        used.
        """
        if isinstance(obj, LoopContext):
            return (
                getattr(obj, attribute)
                if attribute in LOOP
                else self.undefined(name=f"loop.{attribute}")
            )
        return self.getitem(obj, attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        """`a["b"]` or `a[0]`."""
        _refuse_underscore(argument)
        if isinstance(obj, dict) and argument in obj:
            if obj[argument] is None:
                self.last_null = str(argument)
            return obj[argument]
        if isinstance(obj, MissingVariable | RecordedVariable):
            return self.undefined(name=f"{obj.path}.{argument}")
        if isinstance(obj, list | tuple | str | range) and type(argument) is int:
            return (
                obj[argument]
                if -len(obj) <= argument < len(obj)
                else self.undefined(name=str(argument))
            )
        return self.undefined(name=str(argument))


class LoopsAndCalls(NodeTransformer):
    """Rewrites loops, calls and what makes texts to use the functions above; the methods' names are
    Jinja's.
    """

    def visit_For(self, node: nodes.For) -> nodes.For:  # noqa: N802
        """`{% for … %}`."""
        self.generic_visit(node)
        node.iter = _filter("_each", node.iter)
        return node

    def visit_Call(self, node: nodes.Call) -> nodes.Expr:  # noqa: N802
        """`a.b(…)`."""
        self.generic_visit(node)
        if not isinstance(node.node, nodes.Getattr):
            return node
        method = nodes.Const(node.node.attr, lineno=node.lineno, environment=node.environment)
        return _filter("_called", node.node.node, method, *node.args)

    def visit_Concat(self, node: nodes.Concat) -> nodes.Concat:  # noqa: N802
        """`a ~ b`."""
        self.generic_visit(node)
        node.nodes = [_filter("_written", each) for each in node.nodes]
        return node

    def visit_Mod(self, node: nodes.Mod) -> nodes.Expr:  # noqa: N802
        """`a % b`."""
        self.generic_visit(node)
        return _filter("_modulo", node.left, node.right)


def _filter(name: str, value: Any, *arguments: nodes.Expr) -> nodes.Filter:
    return nodes.Filter(
        value,
        name,
        list(arguments),
        [],
        None,
        None,
        lineno=value.lineno,
        environment=value.environment,
    )


def _environment(*, autoescape: bool) -> MessageEnvironment:
    # Not optimized, for the same reason as `_out`.
    made = MessageEnvironment(
        autoescape=autoescape, undefined=MissingVariable, finalize=_out, optimized=False
    )
    made.filters = {
        **FILTERS,
        "_each": _each,
        "_called": _called,
        "_written": _written,
        "_modulo": _modulo,
    }
    made.tests = dict(TESTS)
    made.globals = {"range": safe_range}
    return made


PLAIN: Final = _environment(autoescape=False)
"""The environment for subjects and text bodies."""
ESCAPED: Final = _environment(autoescape=True)
"""The environment for HTML."""


# Which part of Jinja a message may use. Everything else is refused when a template is compiled,
# with its line.

Violation = tuple[int, str]
"""A line of the template, and why it is refused."""

MAX_DEPTH = 50
"""How deeply expressions and blocks may be nested; CPython gives up at 20 loops and 200
brackets.
"""
MAX_LOOPS = 10
"""How deeply loops may be nested."""

_ALLOWED: tuple[type[nodes.Node], ...] = (
    *(nodes.Template, nodes.Output, nodes.TemplateData, nodes.If, nodes.For, nodes.Assign),
    *(
        nodes.Name,
        nodes.Const,
        nodes.Getattr,
        nodes.Getitem,
        nodes.Slice,
        nodes.Filter,
        nodes.Test,
        nodes.Call,
    ),
    *(
        nodes.Compare,
        nodes.Operand,
        nodes.And,
        nodes.Or,
        nodes.Not,
        nodes.CondExpr,
        nodes.Concat,
        nodes.Keyword,
    ),
    *(
        nodes.Neg,
        nodes.Pos,
        nodes.Add,
        nodes.Sub,
        nodes.Mul,
        nodes.Div,
        nodes.FloorDiv,
        nodes.Mod,
        nodes.Pow,
    ),
    *(nodes.List, nodes.Tuple, nodes.Dict, nodes.Pair),
)

_DESCRIPTIONS = {
    nodes.Include: "{% include %}",
    nodes.Import: "{% import %}",
    nodes.FromImport: "{% from … import %}",
    nodes.Extends: "{% extends %}",
    nodes.Block: "{% block %}",
    nodes.Macro: "{% macro %}",
    nodes.CallBlock: "{% call %}",
    nodes.FilterBlock: "{% filter %}",
    nodes.AssignBlock: "{% set %} … {% endset %}",
    nodes.With: "{% with %}",
    nodes.ScopedEvalContextModifier: "{% autoescape %}",
    nodes.NSRef: t("an assignment to an attribute"),
}

_RESERVED = frozenset({"self", "super", "caller", "varargs", "kwargs"})
"""Names that Jinja fills in itself."""


def find_violations(tree: nodes.Template) -> list[Violation]:
    """Everything in a parsed template that a message may not use; empty when all of it is
    allowed.
    """
    found: list[Violation] = []
    stack: list[tuple[nodes.Node, int, int]] = [(tree, 0, 0)]
    while stack:
        node, depth, loops = stack.pop()
        if depth > MAX_DEPTH or loops > MAX_LOOPS:
            return [
                (
                    node.lineno,
                    t(
                        "nested too deeply (at most {max_depth} levels and {max_loops} loops)",
                        max_depth=MAX_DEPTH,
                        max_loops=MAX_LOOPS,
                    ),
                )
            ]
        found.extend((node.lineno, reason) for reason in _violations(node))
        # A refused node is not searched further: one reason for a macro is enough.
        if isinstance(node, _ALLOWED):
            inner = loops + isinstance(node, nodes.For)
            stack.extend((child, depth + 1, inner) for child in node.iter_child_nodes())
    return sorted(set(found))


def _violations(node: nodes.Node) -> Iterator[str]:
    if not isinstance(node, _ALLOWED):
        what = _DESCRIPTIONS.get(type(node), f"{type(node).__name__} (Jinja)")
        yield t(
            "{what} is not available in a message; a template is one piece with if, for and set",
            what=what,
        )
    elif isinstance(node, nodes.Call):
        yield from _call(node)
    elif isinstance(node, nodes.Filter | nodes.Test):
        yield from _function(node)
    else:
        yield from _plain(node)


def _plain(node: nodes.Node) -> Iterator[str]:
    match node:
        case nodes.Name():
            yield from _name(node.name)
        case nodes.Getattr(attr=key) | nodes.Getitem(arg=nodes.Const(value=str() as key)):
            yield from _key(key)
        case nodes.Keyword(key="attribute", value=nodes.Const(value=str() as path)):
            for step in path.split("."):
                yield from _key(step)
        case nodes.Const(value=float() as value) if not math.isfinite(value):
            yield t("a number that is too large")
        case nodes.For(recursive=True):
            yield t("{{% for … recursive %}} is not available in a message")
        case _:
            pass


def _key(key: str) -> Iterator[str]:
    if key.startswith("_"):
        yield t("'{key}' starts with an underscore; such names are not available", key=key)


def _name(name: str) -> Iterator[str]:
    yield from _key(name)
    if name in _RESERVED:
        yield t("'{name}' means something else in Jinja; choose another name", name=name)
    # Python reads identifiers in NFKC, so two names that differ only in form would be one variable.
    normal = unicodedata.normalize("NFKC", name)
    if normal != name:
        yield t("the name '{name}' must be written '{normal}'", name=name, normal=normal)


def _function(node: nodes.Filter | nodes.Test) -> Iterator[str]:
    what, table = ("filter", FILTERS) if isinstance(node, nodes.Filter) else ("test", TESTS)
    if node.name not in table:
        close = difflib.get_close_matches(node.name, table, n=1)
        hint = (
            t("did you mean '{it}'?", it=close[0])
            if close
            else t("available: {join}", join=", ".join(sorted(table)))
        )
        yield t("unknown {what} '{name}'; {hint}", what=what, name=node.name, hint=hint)
    if node.dyn_args is not None or node.dyn_kwargs is not None:
        yield t("* and ** are not available in arguments")


def _call(node: nodes.Call) -> Iterator[str]:
    match node.node:
        case nodes.Name(name="range"):
            pass
        case nodes.Getattr(attr=method) if method in METHODS:
            pass
        case nodes.Getattr(attr="format" | "format_map"):
            yield t('.format() is not available; write "%.2f"|format(price), or join with ~')
        case nodes.Getattr(attr=method):
            yield t(
                "'.{method}()' is not available; available: {join}",
                method=method,
                join=", ".join(sorted(METHODS)),
            )
        case nodes.Name(name=name):
            yield t("'{name}()' is not available; available: range()", name=name)
        case _:
            yield t("only range() and a few methods can be called")
    if node.kwargs or node.dyn_args is not None or node.dyn_kwargs is not None:
        yield t("calls accept only plain arguments")
