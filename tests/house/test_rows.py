"""The house rule about rows: what the database gives is read by names, never by the number of a column."""

import ast
from collections.abc import Iterator

import pytest

from tests.house.source import ROOT, functions, modules

READS = {"fetchone", "fetchall", "fetch_batch", "read_rows", "request_rows", "_rows", "_read"}
"""Methods that give rows."""
NAMES = {"row", "rows"}
"""What is called so is one, wherever it comes from."""
_NOW = "the one value of a statement"
LEFT = {
    ("store/db/connection.py", "rows[0]"): "it is to be written, and its length counts",
    ("store/read/stats.py", "(await cursor.fetchone())[0]"): _NOW,
}
"""What is read by its number all the same, and why."""


def indexed(syntax: ast.AST) -> Iterator[ast.expr]:
    """Every row, or row of rows, that is asked for by its number."""
    names = _names(syntax)
    for node in ast.walk(syntax):
        if isinstance(node, ast.Subscript) and _is_number(node.slice) and _gives_rows(node.value, names):
            yield node


def _names(syntax: ast.AST) -> set[str]:
    """The names that stand for rows."""
    names, before = set(NAMES), 0
    while len(names) > before:
        before = len(names)
        for node in ast.walk(syntax):
            match node:
                case ast.Assign(targets=[target], value=value) | ast.NamedExpr(target=target, value=value):
                    pass
                case ast.For(target=target, iter=value) | ast.comprehension(target=target, iter=value):
                    pass
                case _:
                    continue
            if _gives_rows(value, names):
                names.update(_bound(target, many="fetch_batch" in ast.unparse(value)))
    return names


def _bound(target: ast.expr, *, many: bool) -> Iterator[str]:
    """The names that get rows, and not the values of columns; `many`: it is the rows of several statements."""
    match target:
        case ast.Name(id=name) | ast.Starred(value=ast.Name(id=name)):
            yield name
        case ast.Tuple(elts=parts):
            for part in parts:
                if many or isinstance(part, ast.Starred):
                    yield from _bound(part, many=False)
        case _:
            pass


def _gives_rows(value: ast.expr, names: set[str]) -> bool:
    match value:
        case ast.Name(id=name):
            return name in names
        case ast.Await(value=inner) | ast.Subscript(value=inner) | ast.NamedExpr(value=inner):
            return _gives_rows(inner, names)
        case ast.BoolOp(values=[first, *_]):
            return _gives_rows(first, names)
        case ast.Call(func=ast.Attribute(attr=name) | ast.Name(id=name)):
            return name in READS
        case _:
            return False


def _is_number(index: ast.expr) -> bool:
    match index:
        case ast.Constant(value=int()) | ast.UnaryOp(operand=ast.Constant(value=int())):
            return True
        case ast.Slice(lower=lower, upper=upper):
            return any(_is_number(it) for it in (lower, upper) if it is not None)
        case _:
            return False


def found() -> set[tuple[str, str]]:
    """What the store reads by numbers, each with its module."""
    return {
        (str(path.relative_to(ROOT / "mailerd")), ast.unparse(it))
        for path in modules("mailerd/store")
        for function in functions(path)
        for it in indexed(function)
    }


def test_no_column_is_read_by_its_number() -> None:
    assert found() == LEFT.keys()


@pytest.mark.parametrize(
    "line",
    [
        "return (await cursor.fetchone())[0]",
        "rows = await database.request_rows(_FIND)\n    return utc(rows[0][3])",
        "found = await cursor.fetchall()\n    return [it[3] for it in found]",
        "return {it[0]: it[1:] for it in await cursor.fetchall()}",
        "for *its, id_ in await cursor.fetchall():\n        yield its[-3]",
        "first, last = await cursor.fetch_batch([_FIRST, _LAST])\n    return first[0][1]",
        "if (it := await cursor.fetchone()) is None:\n        return None\n    return it[0]",
        "return _made(row[2])",
    ],
)
def test_a_number_is_seen(line: str) -> None:
    assert list(indexed(ast.parse(f"async def read(cursor, database, row):\n    {line}\n")))


@pytest.mark.parametrize(
    "line",
    [
        "id_, name = await cursor.fetchone()\n    return name[0]",
        "return [_JOB.row(each) for each in await cursor.fetchall()]",
        "return match[1]",
    ],
)
def test_what_is_read_by_names_is_fine(line: str) -> None:
    assert not list(indexed(ast.parse(f"async def read(cursor, match):\n    {line}\n")))
