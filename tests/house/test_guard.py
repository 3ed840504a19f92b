"""Every call to the database stands in `asyncio.wait_for`, in one file; only a piece of a call has another bound."""

import ast
from pathlib import Path

from tests.house.source import ROOT, calls, functions, modules, tree

POOL = ROOT / "mailerd/store/db/pool.py"
GUARDED = {"self._guarded", "self._connect", "self._end_thread", "connection.ping"}
"""What speaks to the database: a whole call, a new connection, KILL, a ping."""


def _called(path: Path, names: set[str]) -> list[ast.Call]:
    return [each for each in calls(path) if ast.unparse(each.func) in names]


def test_whatever_speaks_to_the_database_stands_in_wait_for() -> None:
    guards = _called(POOL, {"asyncio.wait_for"})
    inside = {ast.unparse(guard.args[0].func) for guard in guards if isinstance(guard.args[0], ast.Call)}
    assert inside == GUARDED
    assert len(_called(POOL, GUARDED)) == len(guards), "one of them is called somewhere without a bound"


def test_the_pool_has_no_other_way_of_waiting_for_the_database() -> None:
    assert [ast.unparse(each.func) for each in _called(POOL, {"asyncio.timeout", "asyncio.timeout_at"})] == []
    connecting = [each.name for each in functions(POOL) if "aiomysql.connect(" in ast.unparse(each)]
    assert sorted(connecting) == ["_connect", "_end_thread"]
    others = [
        path.name for path in modules("mailerd") if path != POOL and "aiomysql.connect" in path.read_text("utf-8")
    ]
    assert others == []


def test_the_guard_covers_the_wait_for_a_connection() -> None:
    (guarded,) = [each for each in ast.walk(tree(POOL)) if getattr(each, "name", "") == "_guarded"]
    assert "async with self._slots" in ast.unparse(guarded)
