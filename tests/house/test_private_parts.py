"""What a library keeps private is neither overridden nor replaced: an update may rename it without a word."""

import ast
import importlib
import inspect
import pkgutil
from collections.abc import Iterator

import mailerd
from tests.house.source import imports, modules, spot, tree


def _classes() -> Iterator[type]:
    for module in pkgutil.walk_packages(mailerd.__path__, "mailerd."):
        if module.name.endswith("__main__"):
            continue
        for cls in vars(importlib.import_module(module.name)).values():
            if inspect.isclass(cls) and cls.__module__ == module.name:
                yield cls


def _private(cls: type) -> set[str]:
    """The private names of a class, without those that Python itself writes into abstract ones and protocols."""
    names = {name for name in vars(cls) if name.startswith("_") and not name.endswith("_")}
    return names - {"_abc_impl", "_is_protocol", "_is_runtime_protocol"}


def overridden(cls: type) -> list[str]:
    """What a class overrides of the private parts of a class that is not ours."""
    theirs = [base for base in cls.__mro__[1:] if not base.__module__.startswith("mailerd")]
    return sorted(f"{base.__qualname__}.{name}" for base in theirs for name in _private(cls) & vars(base).keys())


def _root(node: ast.expr) -> str:
    while isinstance(node, ast.Attribute):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""


def _theirs(syntax: ast.Module) -> set[str]:
    """The names by which a file knows modules, classes and functions of libraries."""
    names: set[str] = set()
    for node in ast.walk(syntax):
        match node:
            case ast.Import(names=found):
                names |= {each.asname or each.name.split(".")[0] for each in found}
            case ast.ImportFrom(module=str(module), names=found) if not module.startswith("mailerd"):
                names |= {each.asname or each.name for each in found}
            case _:
                pass
    return names


def patched(syntax: ast.Module) -> list[ast.AST]:
    """Where a file gives a library's module or class another attribute; `sys` has some that are there to be set."""
    theirs, found = _theirs(syntax) - {"sys"}, list[ast.AST]()
    for node in ast.walk(syntax):
        match node:
            case ast.Assign(targets=targets):
                found += [node for it in targets if isinstance(it, ast.Attribute) and _root(it) in theirs]
            case ast.AugAssign(target=ast.Attribute() as it) | ast.AnnAssign(target=ast.Attribute() as it):
                found += [node] if _root(it) in theirs else []
            case ast.Call(func=ast.Name(id="setattr"), args=[it, *_]):
                found += [node] if _root(it) in theirs else []
            case _:
                pass
    return found


def test_no_class_overrides_what_a_library_keeps_private() -> None:
    assert {f"{cls.__module__}.{cls.__qualname__}": found for cls in _classes() if (found := overridden(cls))} == {}


def test_nothing_of_a_library_is_replaced() -> None:
    assert [spot(path, node) for path in modules("mailerd") for node in patched(tree(path))] == []


def test_no_private_module_of_a_library_is_imported() -> None:
    found = [
        f"{spot(path, node)} imports {name}"
        for path in modules("mailerd")
        for name, node in imports(path)
        if any(part.startswith("_") and part != "__future__" for part in name.split("."))
    ]
    assert found == []


def test_the_rules_see_what_they_are_about() -> None:
    class Late(ast.NodeVisitor):
        _fields = ()

        def visit(self, node: ast.AST) -> None: ...

    class Ours(inspect.Signature):
        __slots__ = ()
        _bind = None

    assert overridden(Ours) == ["Signature._bind"]
    assert overridden(Late) == []
    syntax = ast.parse("import aiomysql as a\nfrom b import C\na.Cursor.run = 1\nsetattr(C, 'x', 1)\nd = a\nd.x = C.y")
    assert [node.lineno for node in patched(syntax) if isinstance(node, ast.stmt | ast.expr)] == [3, 4]
