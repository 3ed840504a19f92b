"""What a part needs of its variables, and whether some variables surely meet it without rendering anything."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from jinja2 import nodes

from mailerd.letters.filters import DEFAULTS, TOTAL
from mailerd.letters.rewrite import Path, path_of

NOTHING = object()
"""What `look_up` gives for a path that leads nowhere; null is None."""
_SAFE_INT = 10**18


def look_up(path: Path, variables: Mapping[str, object]) -> object:
    """The value at a path, or `NOTHING` when a step of it is missing."""
    value: object = variables
    for step in path:
        if not isinstance(value, Mapping) or step not in value:
            return NOTHING
        value = value[step]
    return value


@dataclass(frozen=True)
class Mention:
    """A place in the source where a variable is read."""

    path: Path
    line: int

    @property
    def dotted(self) -> str:
        """The path as it is written."""
        return ".".join(self.path)


def mentions(tree: nodes.Node) -> Iterator[Mention]:
    """Every constant path that a template reads, in reading order, the names of its own loops included."""
    stack = [tree]
    while stack:
        node = stack.pop()
        path = path_of(node)
        if path:
            yield Mention(path, node.lineno)
        else:
            stack.extend(reversed(list(node.iter_child_nodes())))


def certain(tree: nodes.Template) -> Iterator[Mention]:
    """The paths without which no letter can be made, whatever else is true; those that only some letters read are not.

    Judged are the outermost statements: `{{ path }}` with filters other than `default`, `if path` and `for … in path`.
    """
    made_here = {it.name for it in tree.find_all(nodes.Name) if it.ctx == "store"}
    for node in tree.body:
        for read in _read_by(node):
            path = path_of(_unfiltered(read))
            if path and path[0] not in made_here:
                yield Mention(path, read.lineno)


def _read_by(node: nodes.Node) -> list[nodes.Node]:
    match node:
        case nodes.Output(nodes=children):
            return list(children)
        case nodes.If(test=test):
            return [test]
        case nodes.For(iter=source):
            return [source]
        case _:
            return []


def _unfiltered(node: nodes.Node) -> nodes.Node:
    while isinstance(node, nodes.Filter) and node.name not in DEFAULTS and node.node is not None:
        node = node.node
    return node


@dataclass
class Needs:
    """Enough for a part to render whatever else is true; a part that cannot be judged so has None instead.

    `texts` must be there and be text or a number; `optional` may be missing or null as well; `there` must be there.
    No text may be longer than `longest` characters, and in a part of one line none may hold a line break.
    """

    texts: set[Path] = field(default_factory=set)
    optional: set[Path] = field(default_factory=set)
    there: set[Path] = field(default_factory=set)
    operations: int = 1
    longest: int = 0


def needs(tree: nodes.Template, *, room: int) -> Needs | None:
    """The needs of a part whose values may make `room` characters; None when only rendering can tell.

    Judged are: text, `{{ path }}` with filters that cannot fail or `default`, and `if` over paths.
    """
    found = Needs()
    if not all(_statement(node, found) for node in tree.body):
        return None
    found.longest = max(room, 0) // found.operations
    return found


def _statement(node: nodes.Node, found: Needs) -> bool:
    match node:
        case nodes.Output():
            return all(isinstance(child, nodes.TemplateData) or _value(child, found) for child in node.nodes)
        case nodes.If():
            parts = [*node.body, *node.elif_, *node.else_]
            return _condition(node.test, found) and all(_statement(part, found) for part in parts)
        case _:
            return False


def _value(node: nodes.Expr, found: Needs) -> bool:
    found.operations += 1
    path = path_of(node)
    if path:
        found.texts.add(path)
        return True
    match node:
        case nodes.Const():
            return _harmless(node)
        case nodes.Filter(node=nodes.Expr() as inner, name=name, kwargs=[]) if name in DEFAULTS and path_of(inner):
            found.optional.add(path_of(inner))
            return all(_harmless(each) for each in node.args)
        case nodes.Filter(node=nodes.Expr() as inner, name=name, args=[], kwargs=[]) if name in TOTAL:
            return _value(inner, found)
        case _:
            return False


def _harmless(node: nodes.Expr) -> bool:
    """Whether it is a constant that can stand in any part; one with a line break cannot stand in a subject."""
    if not isinstance(node, nodes.Const):
        return False
    return node.value.isprintable() if isinstance(node.value, str) else isinstance(node.value, int | float)


def _condition(node: nodes.Node, found: Needs) -> bool:
    path = path_of(node)
    if path:
        found.there.add(path)
        return True
    match node:
        case nodes.Const():
            return True
        case nodes.Not(node=inner):
            return _condition(inner, found)
        case nodes.And(left=left, right=right) | nodes.Or(left=left, right=right):
            return _condition(left, found) and _condition(right, found)
        case nodes.Compare(expr=left, ops=[nodes.Operand(op="eq" | "ne", expr=nodes.Const())]):
            return _condition(left, found)
        case nodes.Test(node=inner, name="defined" | "undefined" | "none"):
            return bool(path_of(inner))
        case _:
            return False


class Sieve:
    """The needs of all the parts of a template together, laid out for one quick pass over many recipients."""

    def __init__(self, parts: Mapping[str, Needs]) -> None:
        everything = parts.values()
        self._longest = min((part.longest for part in everything), default=0)
        in_one_line = {path for name, part in parts.items() if name == "subject" for path in part.texts | part.optional}
        texts = {path for part in everything for path in part.texts}
        self._texts = [(path[0], path[1:], path in in_one_line) for path in sorted(texts)]
        optional = {path for part in everything for path in part.optional} - texts
        self._optional = [(path, path in in_one_line) for path in sorted(optional)]
        self._there = sorted({path for part in everything for path in part.there} - texts)

    def passes(self, variables: Mapping[str, object]) -> bool:
        """Whether these variables surely render; False means that nothing is known yet."""
        for root, rest, in_one_line in self._texts:
            value = variables.get(root)
            if rest:
                value = look_up(rest, value) if isinstance(value, Mapping) else None
            if not self._fits(value, in_one_line):
                return False
        return self._others(variables)

    def _others(self, variables: Mapping[str, object]) -> bool:
        for path, in_one_line in self._optional:
            value = look_up(path, variables)
            if value is not NOTHING and value is not None and not self._fits(value, in_one_line):
                return False
        return all(look_up(path, variables) is not NOTHING for path in self._there)

    def _fits(self, value: object, in_one_line: object) -> bool:
        kind = type(value)
        if kind is str:
            content: str = value  # type: ignore[assignment]  # `kind` says so; isinstance costs more
            # A printable text has no line breaks, no control characters and no lone surrogates.
            return len(content) <= self._longest and (
                content.isprintable() or (not in_one_line and (content.isascii() or encodable(content)))
            )
        if kind is int:
            return -_SAFE_INT < value < _SAFE_INT  # type: ignore[operator]  # as above
        return kind is float or kind is bool


def encodable(value: str) -> bool:
    """Whether a text can be written as UTF-8; half a surrogate pair, which JSON lets through, cannot."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
