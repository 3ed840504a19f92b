"""A table is written by one file: a rule that everybody who writes a row must remember is a fault waiting."""

import ast
import re
from collections import defaultdict
from functools import cache
from typing import Final

import pytest

from tests.house.source import ROOT, modules, spot, tree

WRITES: Final = re.compile(
    r"\b(?:INSERT(?:\s+IGNORE)?\s+INTO|REPLACE\s+INTO|DELETE\s+FROM|(?<!KEY )UPDATE)\s+`?([a-z_]+)`?"
    r"|\bUPDATE\s+\(.{0,400}?STRAIGHT_JOIN\s+([a-z_]+)",
    re.DOTALL,
)
MADE: Final = re.compile(r"CREATE TABLE IF NOT EXISTS ([a-z_]+)")
TABLES: Final = frozenset(MADE.findall((ROOT / "mailerd/store/migrations/0001_schema.sql").read_text("utf-8")))


@cache
def writers() -> dict[str, set[str]]:
    """The files that write each table."""
    found = defaultdict[str, set[str]](set)
    for path in modules("mailerd/store"):
        if path.parent.name == "db":  # it sees whether a server takes writes, by a statement that matches no row
            continue
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                text = node.value
            elif isinstance(node, ast.JoinedStr):
                text = "".join(str(it.value) if isinstance(it, ast.Constant) else " x " for it in node.values)
            else:
                continue
            for names in WRITES.findall(text):
                found[next(filter(None, names))].add(path.relative_to(ROOT / "mailerd/store").as_posix())
    return {table: files for table, files in found.items() if table in TABLES}


@pytest.mark.parametrize("table", sorted(TABLES))
def test_a_table_is_written_by_one_file(table: str) -> None:
    """What is deleted by age is deleted by the table of ages (store/write/retention.py)."""
    assert len(writers().get(table, ())) <= 1, sorted(writers()[table])


def test_statements_of_every_form_are_seen() -> None:
    forms = ("UPDATE jobs SET", "INSERT IGNORE INTO jobs (", "INSERT INTO `jobs` SELECT", "DELETE FROM jobs WHERE")
    assert [WRITES.findall(it)[0][0] for it in forms] == ["jobs"] * 4
    assert WRITES.findall("UPDATE (SELECT 1 id) v STRAIGHT_JOIN jobs r ON r.id = v.id")[0][1] == "jobs"


def statements_for_others() -> list[str]:
    """Public constants of a module of the store that write: whoever imports one writes the table, too."""
    found = []
    for path in modules("mailerd/store"):
        for node in tree(path).body:
            match node:
                case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
                    texts = [it.value for it in ast.walk(value) if isinstance(it, ast.Constant)]
                    writes = WRITES.search("".join(it for it in texts if isinstance(it, str)))
                    if writes and not name.startswith("_"):
                        found.append(f"{spot(path, node)} {name}")
                case _:
                    pass
    return found


def test_no_module_gives_away_a_statement_that_writes() -> None:
    assert statements_for_others() == []
