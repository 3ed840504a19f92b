"""Which part of Jinja a letter may use. Everything else is refused when a template is compiled, with its line."""

import difflib
import math
import unicodedata
from collections.abc import Iterator

from jinja2 import nodes

from mailerd.mail.environment import FILTERS, METHODS, TESTS

Violation = tuple[int, str]
"""A line of the template, and why it is refused."""

MAX_DEPTH = 50
"""How deeply expressions and blocks may be nested; CPython gives up at 20 loops and 200 brackets."""
MAX_LOOPS = 10
"""How deeply loops may be nested."""

_ALLOWED: tuple[type[nodes.Node], ...] = (
    *(nodes.Template, nodes.Output, nodes.TemplateData, nodes.If, nodes.For, nodes.Assign),
    *(nodes.Name, nodes.Const, nodes.Getattr, nodes.Getitem, nodes.Slice, nodes.Filter, nodes.Test, nodes.Call),
    *(nodes.Compare, nodes.Operand, nodes.And, nodes.Or, nodes.Not, nodes.CondExpr, nodes.Concat, nodes.Keyword),
    *(nodes.Neg, nodes.Pos, nodes.Add, nodes.Sub, nodes.Mul, nodes.Div, nodes.FloorDiv, nodes.Mod, nodes.Pow),
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
    nodes.NSRef: "an assignment to an attribute",
}

_RESERVED = frozenset({"self", "super", "caller", "varargs", "kwargs"})
"""Names that Jinja fills in itself."""


def find_violations(tree: nodes.Template) -> list[Violation]:
    """Everything in a parsed template that a letter may not use; empty when all of it is allowed."""
    found: list[Violation] = []
    stack: list[tuple[nodes.Node, int, int]] = [(tree, 0, 0)]
    while stack:
        node, depth, loops = stack.pop()
        if depth > MAX_DEPTH or loops > MAX_LOOPS:
            return [(node.lineno, f"nested too deeply (at most {MAX_DEPTH} deep, and {MAX_LOOPS} loops)")]
        found.extend((node.lineno, reason) for reason in _violations(node))
        # A refused node is not searched further: one reason for a macro is enough.
        if isinstance(node, _ALLOWED):
            inner = loops + isinstance(node, nodes.For)
            stack.extend((child, depth + 1, inner) for child in node.iter_child_nodes())
    return sorted(set(found))


def _violations(node: nodes.Node) -> Iterator[str]:
    if not isinstance(node, _ALLOWED):
        what = _DESCRIPTIONS.get(type(node), f"{type(node).__name__} (Jinja)")
        yield f"{what} is not available in a letter; a template is one piece, with if, for and set"
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
            yield "a number that is too large"
        case nodes.For(recursive=True):
            yield "{% for … recursive %} is not available in a letter"
        case _:
            pass


def _key(key: str) -> Iterator[str]:
    if key.startswith("_"):
        yield f"'{key}' begins with an underscore; such names are out of reach"


def _name(name: str) -> Iterator[str]:
    yield from _key(name)
    if name in _RESERVED:
        yield f"'{name}' means something else in Jinja; choose another name"
    # Python reads identifiers in NFKC, so two names that differ only in form would be one variable.
    normal = unicodedata.normalize("NFKC", name)
    if normal != name:
        yield f"the name '{name}' must be written '{normal}'"


def _function(node: nodes.Filter | nodes.Test) -> Iterator[str]:
    what, table = ("filter", FILTERS) if isinstance(node, nodes.Filter) else ("test", TESTS)
    if node.name not in table:
        close = difflib.get_close_matches(node.name, table, n=1)
        hint = f"did you mean '{close[0]}'?" if close else f"there are: {', '.join(sorted(table))}"
        yield f"unknown {what} '{node.name}'; {hint}"
    if node.dyn_args is not None or node.dyn_kwargs is not None:
        yield "* and ** are not available in arguments"


def _call(node: nodes.Call) -> Iterator[str]:
    match node.node:
        case nodes.Name(name="range"):
            pass
        case nodes.Getattr(attr=method) if method in METHODS:
            pass
        case nodes.Getattr(attr="format" | "format_map"):
            yield """.format() is not available; write "%.2f"|format(price), or join with ~"""
        case nodes.Getattr(attr=method):
            yield f"'.{method}()' is not available; there are: {', '.join(sorted(METHODS))}"
        case nodes.Name(name=name):
            yield f"'{name}()' is not available; there is: range()"
        case _:
            yield "only range() and a few methods can be called"
    if node.kwargs or node.dyn_args is not None or node.dyn_kwargs is not None:
        yield "calls take plain arguments only"
