"""Every call to the database stands in `asyncio.wait_for`: in the pool, and where the writer is looked for."""

import ast
import re
from pathlib import Path

from tests.house.source import ROOT, calls, functions, modules, tree

POOL = ROOT / "mailerd/store/db/pool.py"
WRITER = ROOT / "mailerd/store/db/writer.py"
GUARDED = {"self._with_connection", "self._connect", "self._end_thread", "connection.ping", "connection.begin"}
"""What speaks to the database: a whole call, a new connection, KILL, a ping, the first word of a transaction."""


def _called(path: Path, names: set[str]) -> list[ast.Call]:
    return [each for each in calls(path) if ast.unparse(each.func) in names]


def _connecting(path: Path) -> list[str]:
    return sorted(each.name for each in functions(path) if "await connect(" in ast.unparse(each))


def test_whatever_speaks_to_the_database_stands_in_wait_for() -> None:
    guards = _called(POOL, {"asyncio.wait_for"})
    inside = {ast.unparse(guard.args[0].func) for guard in guards if isinstance(guard.args[0], ast.Call)}
    assert inside == GUARDED
    assert len(_called(POOL, GUARDED)) == len(guards), "one of them is called somewhere without a bound"


def test_the_pool_has_no_other_way_of_waiting_for_the_database() -> None:
    assert [ast.unparse(each.func) for each in _called(POOL, {"asyncio.timeout", "asyncio.timeout_at"})] == []
    assert _connecting(POOL) == ["_connect_to", "_end_thread"]
    callers = [each.name for each in functions(POOL) if "self._connect_to(" in ast.unparse(each)]
    assert callers == ["_connect"]
    known = {path.name: path.read_text("utf-8") for path in modules("mailerd")}
    assert [name for name, text in known.items() if "aiomysql.Connection" in text] == ["connection.py"]
    assert [name for name, text in known.items() if "= Driver(" in text] == ["connection.py"]
    using = {
        path.name
        for path in modules("mailerd")
        if re.search(r"db\.connection import .*\bconnect\b", path.read_text("utf-8"))
    }
    assert using == {"pool.py", "writer.py"}


def test_the_look_for_the_writer_is_bounded_at_each_server() -> None:
    asking = {"_ask_once_or_twice", "_raise_term"}
    assert set(_connecting(WRITER)) == asking
    guards = _called(WRITER, {"asyncio.wait_for"})
    inside = {ast.unparse(guard.args[0].func) for guard in guards if isinstance(guard.args[0], ast.Call)}
    assert inside == {f"self.{name}" for name in asking}
    assert len(_called(WRITER, inside)) == len(guards), "one of them is called somewhere without a bound"


def test_the_guard_covers_the_wait_for_a_connection() -> None:
    (guarded,) = [each for each in ast.walk(tree(POOL)) if getattr(each, "name", "") == "_with_connection"]
    assert "async with self._slots" in ast.unparse(guarded)
