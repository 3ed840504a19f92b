"""Puts the meter into a template: what could grow, loop or call is replaced by a filter that pays first."""

from typing import Any

from jinja2 import nodes
from jinja2.visitor import NodeTransformer

from mailerd.letters.meter import NODES_PER_STEP

Path = tuple[str, ...]


def path_of(node: nodes.Node) -> Path:
    """`a.b["c"]` as ("a", "b", "c"); () when it is not such a constant path."""
    match node:
        case nodes.Name(name=name, ctx="load"):
            return (name,)
        case nodes.Getattr(node=inner, attr=key) | nodes.Getitem(node=inner, arg=nodes.Const(value=str() as key)):
            root = path_of(inner)
            return (*root, key) if root else ()
        case _:
            return ()


def metered(tree: nodes.Template) -> nodes.Template:
    """The same template, which can no longer be endless; `tree` itself is used up."""
    made = _Metering().visit(tree)
    assert isinstance(made, nodes.Template)  # noqa: S101 - a template's own node is never replaced
    return made


def _filter(name: str, value: nodes.Expr, *arguments: nodes.Expr) -> nodes.Filter:
    return nodes.Filter(
        value, name, list(arguments), [], None, None, lineno=value.lineno, environment=value.environment
    )


def _const(value: object, *, like: nodes.Node) -> nodes.Const:
    return nodes.Const(value, lineno=like.lineno, environment=like.environment)


def _list(items: list[nodes.Expr], *, like: nodes.Node) -> nodes.List:
    return nodes.List(items, lineno=like.lineno, environment=like.environment)


def _weight(loop: nodes.For) -> int:
    """Steps that one turn costs; a loop within pays for itself."""
    count = 0
    stack: list[nodes.Node] = [*loop.body, *([loop.test] if loop.test else [])]
    while stack:
        node = stack.pop()
        count += 1
        inner = node.iter_child_nodes(only=("iter",)) if isinstance(node, nodes.For) else node.iter_child_nodes()
        stack.extend(inner)
    return 1 + count // NODES_PER_STEP


class _Metering(NodeTransformer):
    """Jinja's visitor finds these by the names of its nodes."""

    def visit_Output(self, node: nodes.Output) -> nodes.Output:  # noqa: N802
        paths = [".".join(path_of(child)) for child in node.nodes]
        self.generic_visit(node)
        node.nodes = [
            child if isinstance(child, nodes.TemplateData) else _filter("_out", child, _const(path, like=child))
            for child, path in zip(node.nodes, paths, strict=True)
        ]
        return node

    def visit_For(self, node: nodes.For) -> nodes.For:  # noqa: N802
        weight = _weight(node)
        self.generic_visit(node)
        source: Any = node.iter
        node.iter = _filter("_each", source, _const(weight, like=node))
        return node

    def visit_Call(self, node: nodes.Call) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        if isinstance(node.node, nodes.Getattr):
            method = _const(node.node.attr, like=node)
            return _filter("_called", node.node.node, method, *node.args)
        return _filter("_range", _list(node.args, like=node))

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return _filter("_joined", _list(node.nodes, like=node))

    def visit_Compare(self, node: nodes.Compare) -> nodes.Compare:  # noqa: N802
        values = [node.expr, *(operand.expr for operand in node.ops)]
        unknown = [value for value in values if not isinstance(value, nodes.Const)]
        self.generic_visit(node)
        # Against a constant a comparison ends with the constant; looking for something in a value does not.
        if len(unknown) > 1 or any(operand.op in {"in", "notin"} for operand in node.ops):
            node.expr = _filter("_weighed", node.expr)
            for operand in node.ops:
                operand.expr = _filter("_weighed", operand.expr)
        return node

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Getitem:  # noqa: N802
        self.generic_visit(node)
        if isinstance(node.arg, nodes.Slice):
            node.node = _filter("_weighed", node.node)
        return node
