"""Every call to the database stands in `asyncio.wait_for`: in the pool, and where each of several hosts is asked."""

import ast
import re
from pathlib import Path

from tests.house.source import ROOT, calls, functions, modules, tree

POOL = ROOT / "mailerd/store/db/pool.py"
WRITER = ROOT / "mailerd/store/db/writer.py"
SERVER_INFO = ROOT / "mailerd/store/read/server_info.py"
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
    callers = [each.name for each in functions(POOL) if "self._connect_to" in ast.unparse(each)]
    assert callers == ["_connect"]
    known = {path.name: path.read_text("utf-8") for path in modules("mailerd")}
    assert [name for name, text in known.items() if "aiomysql.Connection" in text] == ["connection.py"]
    assert [name for name, text in known.items() if "= Driver(" in text] == ["connection.py"]
    using = {
        path.name
        for path in modules("mailerd")
        if re.search(r"db\.connection import .*\bconnect\b", path.read_text("utf-8"))
    }
    assert using == {"pool.py", "server_info.py"}


def test_each_of_several_hosts_has_a_bound_of_its_own() -> None:
    inside = {ast.unparse(guard.args[0]) for guard in _called(WRITER, {"asyncio.wait_for"})}
    assert inside == {"to(url)", "read_only(await connection.cursor())"}
    assert _connecting(SERVER_INFO) == ["_host"]
    (guard,) = _called(SERVER_INFO, {"asyncio.wait_for"})
    assert ast.unparse(guard.args[0]) == "_host(url)"
    assert len(_called(SERVER_INFO, {"_host"})) == 1


def test_the_guard_covers_the_wait_for_a_connection() -> None:
    (guarded,) = [each for each in ast.walk(tree(POOL)) if getattr(each, "name", "") == "_with_connection"]
    assert "async with self._slots" in ast.unparse(guarded)
