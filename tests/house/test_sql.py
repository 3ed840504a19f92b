"""The house rule about SQL: a statement is made of fixed texts alone, and every value goes to the server as a %s."""

import ast
import re
from collections.abc import Iterable, Iterator, Sequence

import pytest

from tests.house.source import ROOT, modules, tree

SQL = re.compile(
    r"\b(?:SELECT|INSERT|UPDATE|DELETE|FROM|WHERE|JOIN|AND|OR|SET|VALUES|ORDER BY|LIMIT|UNION|INTERVAL)\b|= '?$"
)
"""What shows that a text is a statement, or a part of one."""
CONSTANT = re.compile(r"_*[A-Z][A-Z0-9_]*")
BUILDERS = {"format", "items", "join", "keys", "replace", "partition", "total_seconds", "values"}
"""Methods whose text is as fixed as what they are given."""
SINKS = {"execute", "fetch_value", "read_rows", "request_rows"}
"""Methods whose first argument is a statement."""
BUILTINS = {"N_", "dict", "list", "max", "min", "sorted"}
PARTS: dict[type[ast.AST], tuple[str, ...]] = {
    ast.Await: ("value",), ast.BinOp: ("left", "right"), ast.BoolOp: ("values",), ast.Dict: ("keys",),
    ast.DictComp: ("key",), ast.FormattedValue: ("value",), ast.GeneratorExp: ("elt",), ast.IfExp: ("body", "orelse"),
    ast.JoinedStr: ("values",), ast.List: ("elts",), ast.ListComp: ("elt",), ast.Starred: ("value",),
    ast.Subscript: ("value",), ast.Tuple: ("elts",),
}  # fmt: skip
"""The fields of an expression that make its text."""
CARRIERS = {"store/db/connection.py", "store/db/database.py"}
"""They send what others have made."""
CHECKED = {
    ("store/db/migrate.py", "migration.statements"): "read from a file of migrations/",
    ("store/db/migrate.py", "cursor.fetch_value(f'SELECT @@SESSION.{name}')"): "what the server says its setting is",
    ("store/db/pool.py", "int(bound / 4)"): "a number",
    ("store/db/pool.py", "int(bound)"): "a number",
    ("store/db/pool.py", "int(bound * 800)"): "a number",
    ("store/db/pool.py", "self._settings.statement_timeout"): "a number of the settings",
    ("store/db/rows.py", "get_type_hints(model, include_extras=True)"): "names of fields",
    ("store/db/rows.py", "of"): "a table's name; the rule looks at what each Select is given",
    ("store/write/event_feed.py", "map(str, ids)"): "made by int()",
    ("store/read/jobs.py", "also"): "one of the fixed conditions of `job_report.listed`; its values are given apart",
    ("store/write/messages.py", "Row._fields"): "names of columns",
    ("store/write/messages.py", "defaultdict[tuple[str, ...], list[Row]](list)"): "names of columns",
    ("store/write/messages.py", "enumerate(_REASON)"): "names of columns",
    ("store/write/messages.py", "Line._fields"): "names of columns",
    ("store/write/retention.py", "self.by"): "a name in the table of rules",
    ("store/write/retention.py", "self.delete_one"): "made of names in the table of rules",
    ("store/write/retention.py", "self.find"): "made of names in the table of rules",
    ("store/write/retention.py", "self.index"): "a name in the table of rules",
    ("store/write/retention.py", "self.key"): "names in the table of rules",
    ("store/write/retention.py", "self.table"): "a name in the table of rules",
    ("store/read/stats.py", "int(RECENT.total_seconds())"): "a number",
    ("store/queue/rate_limits.py", "int(RECENT.total_seconds())"): "a number",
    ("store/write/drafts.py", "only"): "each name is one of FIELDS; only the code of the pages names them",
    ("store/write/sender_actions.py", "limits"): "each name is one of LIMITS, or the call has ended with an error",
}
"""What is put into a statement and is no fixed text. Each was read: a caller has no say in it."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


class Statements:
    """The texts of some modules that are SQL, and what they are made of."""

    def __init__(self, modules: Iterable[ast.Module]) -> None:
        self.nodes = [node for syntax in modules for node in ast.walk(syntax)]
        self.parents = {child: node for node in self.nodes for child in ast.iter_child_nodes(node)}
        self.functions: dict[str, list[Function]] = {}
        self.calls: dict[str, list[ast.Call]] = {}
        for node in self.nodes:
            if isinstance(node, Function):
                self.functions.setdefault(node.name, []).append(node)
            elif isinstance(node, ast.Call):
                self.calls.setdefault(_name(node.func), []).append(node)
        self.seen: set[ast.AST] = set()

    def values(self) -> Iterator[ast.expr]:
        """Everything in a statement that is not fixed."""
        for node in self.nodes:
            self.seen.clear()
            match node:
                case ast.JoinedStr() | ast.BinOp(op=ast.Add() | ast.Mod()) if self._is_sql(node):
                    yield from self._loose(node)
                case ast.AugAssign(target=ast.Name() as name, op=ast.Add(), value=value) if self._is_sql(name):
                    yield from self._loose(value)
                case ast.Call(func=ast.Attribute(value=text, attr="format")) if self._is_sql(text):
                    yield from self._loose(node)
                case ast.Call(func=ast.Name(id="Sql"), args=parts):
                    for part in parts:
                        yield from self._loose(part)
                case ast.Call(func=ast.Name(id="Select"), keywords=given):
                    for it in given:
                        yield from self._loose(it.value)
                case ast.Call(func=ast.Attribute(attr=name), args=[first, *_]) if name in SINKS and not isinstance(
                    first, ast.Starred
                ):
                    yield from self._loose(first)
                case _:
                    pass

    def module_of(self, node: ast.AST) -> ast.AST:
        """The module in which an expression stands."""
        while node in self.parents:
            node = self.parents[node]
        return node

    def _is_sql(self, node: ast.AST) -> bool:
        match node:
            case ast.Constant(value=str(text)):
                return SQL.search(text) is not None
            case ast.Name(id=name):
                return any(self._is_sql(it) for it in self._bound(name, node) if isinstance(it, ast.Constant))
            case ast.JoinedStr(values=parts):
                return any(self._is_sql(it) for it in parts)
            case ast.FormattedValue(value=value):
                return isinstance(value, ast.Name) and self._is_sql(value)
            case ast.BinOp(left=left, right=right):
                return self._is_sql(left) or self._is_sql(right)
            case _:
                return False

    def _loose(self, node: ast.AST) -> Iterator[ast.expr]:
        """The parts of an expression that are neither fixed texts nor made of such."""
        if node in self.seen or isinstance(node, ast.Constant):
            return
        self.seen.add(node)
        parts = self._call(node) if isinstance(node, ast.Call) else self._parts(node)
        if parts is None and isinstance(node, ast.expr):
            yield node
        for part in parts or []:
            yield from self._loose(part)

    def _parts(self, node: ast.AST) -> Sequence[ast.AST] | None:
        """What an expression is made of; None: of nothing that could be read."""
        match node:
            case ast.Name(id=name) | ast.Attribute(attr=name) if CONSTANT.fullmatch(name):
                return []
            case ast.Name(id=name):
                return self._bound(name, node) or None
            case ast.Attribute(value=ast.Name(id=name), attr="columns") if CONSTANT.fullmatch(name):
                return []  # a Select's: what is given to each Sql
            case ast.Attribute(value=value, attr="value"):
                return [value]
            case ast.Subscript(value=value, slice=ast.Constant(value=int(index))):
                return self._element(value, index)
            case _ if type(node) in PARTS:
                found = [getattr(node, field) for field in PARTS[type(node)]]
                return [it for each in found for it in (each if isinstance(each, list) else [each])]
            case _:
                return None

    def _call(self, call: ast.Call) -> Sequence[ast.AST] | None:
        """What the result of a call is made of; None: of nothing that could be read."""
        match call:
            case ast.Call(func=ast.Attribute(value=value, attr=name), args=args, keywords=named) if name in BUILDERS:
                return [value, *args, *(it.value for it in named)]
            case ast.Call(func=ast.Name(id="len")):
                return []
            case ast.Call(func=ast.Name(id=name), args=args) if name in BUILTINS:
                return args
            case ast.Call(func=ast.Attribute(attr="mogrify"), args=[text, *_]):
                return [text]
            case _:
                return self._returned(call.func) or None

    def _element(self, value: ast.expr, index: int) -> list[ast.expr]:
        """One element of what is unpacked."""
        if isinstance(value, ast.Tuple):
            return [value.elts[index]]
        if isinstance(value, ast.Call) and (returned := self._returned(value.func)):
            return [it for each in returned for it in self._element(each, index)]
        if isinstance(value, ast.Call) and _name(value.func) == "items" and index:
            return []  # of a mapping from conditions to values
        if isinstance(value, ast.IfExp):
            return [it for each in (value.body, value.orelse) for it in self._element(each, index)]
        return [value]

    def _returned(self, called: ast.expr) -> list[ast.expr]:
        functions = self._near(called, self.functions.get(_name(called), []))
        found = [it for function in functions for it in ast.walk(function) if isinstance(it, ast.Return)]
        return [it.value for it in found if it.value is not None]

    def _near[N: ast.AST](self, node: ast.AST, found: list[N]) -> list[N]:
        """What stands in the same module; where nothing does, what stands in others."""
        return [it for it in found if self.module_of(it) is self.module_of(node)] or found

    def _bound(self, name: str, at: ast.AST) -> list[ast.expr]:
        """What a name may stand for, in the nearest scope that binds it."""
        scope: ast.AST | None = at
        while scope := self.parents.get(scope) if scope else None:
            match scope:
                case (
                    ast.ListComp(generators=loops) | ast.GeneratorExp(generators=loops) | ast.DictComp(generators=loops)
                ):
                    found = [each for loop in loops for each in _unpacked(name, loop.target, loop.iter)]
                case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.Module():
                    found = [*self._passed(name, scope), *_assigned(name, scope)]
                case _:
                    continue
            if found:
                return found
        return []

    def _passed(self, name: str, function: ast.AST) -> list[ast.expr]:
        """What the calls of a function give to its parameter."""
        if not isinstance(function, Function):
            return []
        places = [it.arg for it in (*function.args.posonlyargs, *function.args.args) if it.arg != "self"]
        if name not in [*places, *(it.arg for it in function.args.kwonlyargs)]:
            return []
        found: list[ast.expr] = []
        for call in self._near(function, self.calls.get(function.name, [])):
            found += [it.value for it in call.keywords if it.arg == name]
            for place, each in enumerate(call.args):
                if isinstance(each, ast.Starred) and name in places[place:]:
                    found += self._element(each.value, places.index(name) - place)
                elif name in places[place : place + 1]:
                    found.append(each)
        return found


def _name(called: ast.expr) -> str:
    """The last part of the name of what is called."""
    return called.attr if isinstance(called, ast.Attribute) else called.id if isinstance(called, ast.Name) else ""


def _assigned(name: str, scope: ast.AST) -> list[ast.expr]:
    """What is assigned or added to a name, or appended to it."""
    found: list[ast.expr] = []
    for node in ast.walk(scope):
        match node:
            case ast.For(target=target, iter=ast.Tuple(elts=values)):
                found += [it for value in values for it in _unpacked(name, target, value)]
            case ast.Assign(targets=[target], value=value) | ast.For(target=target, iter=value):
                found += _unpacked(name, target, value)
            case ast.AnnAssign(target=target, value=ast.expr() as value) | ast.AugAssign(target=target, value=value):
                found += _unpacked(name, target, value)
            case ast.NamedExpr(target=ast.Name(id=bound), value=value) if bound == name:
                found.append(value)
            case ast.Call(func=ast.Attribute(value=ast.Name(id=bound), attr="append"), args=args) if bound == name:
                found += args
            case _:
                pass
    return found


def _unpacked(name: str, target: ast.expr, value: ast.expr) -> list[ast.expr]:
    """The value, or that part of it which goes to the name."""
    match target, value:
        case ast.Name(id=bound), ast.Name(id=kind) if bound == name and kind.istitle():
            return [ast.Constant("")]  # a loop over an enumeration
        case ast.Name(id=bound), _ if bound == name:
            return [value]
        case ast.Tuple(elts=names), ast.Tuple(elts=values) if len(names) == len(values):
            return [it for each, part in zip(names, values, strict=True) for it in _unpacked(name, each, part)]
        case ast.Tuple(elts=names), _:
            places = [place for place, it in enumerate(names) if isinstance(it, ast.Name) and it.id == name]
            return [ast.Subscript(value, ast.Constant(place)) for place in places]
        case _:
            return []


def loose(modules: dict[str, ast.Module]) -> set[tuple[str, str]]:
    """What is put into the statements of some modules and is no fixed text, with the module's name."""
    statements = Statements(modules.values())
    names: dict[ast.AST, str] = {syntax: name for name, syntax in modules.items()}
    return {(names[statements.module_of(it)], ast.unparse(it)) for it in statements.values()}


def store() -> dict[str, ast.Module]:
    """The modules that make statements."""
    paths = {str(path.relative_to(ROOT / "mailerd")): path for path in modules("mailerd/store")}
    return {name: tree(path) for name, path in paths.items() if name not in CARRIERS}


def test_no_statement_is_built_from_a_value() -> None:
    assert loose(store()) == CHECKED.keys()


@pytest.mark.parametrize(
    "line",
    [
        "cursor.execute(f'SELECT id FROM jobs WHERE id = {job}')",
        "cursor.execute('SELECT id FROM jobs WHERE id = ' + job)",
        "cursor.execute('SELECT id FROM jobs WHERE id = %s' % job)",
        "cursor.execute('SELECT id FROM jobs WHERE id = {}'.format(job))",
        "cursor.execute(_FIND.format(job))",
        "cursor.execute(''.join(['SELECT ', job]))",
        "sql = 'SELECT id FROM jobs'\n    sql += job\n    cursor.execute(sql)",
        "where = [f'id = {job}']\n    cursor.execute(_FIND + ' AND '.join(where))",
        "where = []\n    where.append(job)\n    cursor.execute(_FIND + ' AND '.join(where))",
        "return f'SELECT id FROM jobs WHERE id = {job}', ()",
        "return Sql('j.id', job)",
        "return Select(Job, of=job)",
    ],
)
def test_a_value_in_a_statement_is_seen(line: str) -> None:
    assert loose({"x.py": ast.parse(f"def find(cursor, job):\n    {line}\n")}) == {("x.py", "job")}


@pytest.mark.parametrize(
    "line",
    [
        "cursor.execute('SELECT id FROM jobs WHERE id = %s', (job,))",
        "cursor.execute(f'{_FIND} WHERE id = %s', (job,))",
        "cursor.execute(_FIND.format(rows=', '.join(['%s'] * len(job))))",
        "where = 'a = %s' if job else ''\n    cursor.execute(f'SELECT id FROM jobs WHERE {where}', (job,))",
        "raise ValueError(f'no job {job}')",
    ],
)
def test_a_statement_of_fixed_texts_is_fine(line: str) -> None:
    assert loose({"x.py": ast.parse(f"def find(cursor, job):\n    {line}\n")}) == set()
