"""The house rules about names: one meaning for each, the field's word, and constants that say what they bound."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.house.source import ROOT, modules, spot, tree

PACKAGE = modules("mailerd")
SANDBOX = ROOT / "mailerd" / "sandbox"
CLIENT = ROOT / "mailerd" / "client"
"""It runs in other people's programs, and calls a job a job as its JSON does."""
DAEMON = [path for path in PACKAGE if not {SANDBOX, CLIENT}.intersection(path.parents)]

TWICE = {
    "__init__", "auth", "console", "database", "errors", "jobs", "keys", "markdown", "messages", "recipients",
    "recovery", "senders", "stats", "suppressions", "templates", "webhooks",
}  # fmt: skip
"""Names of files that stand twice, because the folder says the difference."""

METAPHORS = {
    "bell", "bench", "board", "cabinet", "door", "dwelling", "hand", "hands", "ladder", "ledger", "luggage", "papers",
    "patrol", "pulse", "pulses", "purse", "rehearsal", "sieve", "sleeper", "sleepers", "speech", "story", "stories",
    "survey", "surveys", "trip", "wire", "workshop", "world",
}  # fmt: skip
"""Words that say a thing by another one. An engineer who looks for a circuit breaker searches for that."""
NOUNS = {"finding", "logging", "reading", "rendering", "setting", "string", "warning"}
"""Words in -ing that are nouns of the field."""
BOUND = re.compile(r"_(AT_MOST|AT_LEAST|WITHIN|EVERY)$")
"""What is MAX_…, MIN_…, …_TIMEOUT or …_INTERVAL everywhere else."""


def classes(paths: list[Path]) -> Iterator[tuple[Path, ast.ClassDef]]:
    """Every class at the top of a module."""
    return ((path, node) for path in paths for node in tree(path).body if isinstance(node, ast.ClassDef))


def words(name: str) -> list[str]:
    """The words of a class's name."""
    return [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z0-9]+", name)]


def is_misleading(parts: list[str]) -> bool:
    """Whether a name is a metaphor, or a gerund and nothing else."""
    gerund = len(parts) == 1 and parts[0].endswith("ing") and parts[0] not in NOUNS
    return gerund or bool(METAPHORS.intersection(parts))


@pytest.mark.parametrize("part", [DAEMON, modules("mailerd/client")], ids=["daemon", "client"])
def test_a_class_name_has_one_meaning(part: list[Path]) -> None:
    found: dict[str, list[str]] = defaultdict(list)
    for path, node in classes(part):
        found[node.name].append(spot(path, node))
    assert {name: where for name, where in found.items() if len(where) > 1} == {}


def test_a_file_name_stands_twice_only_where_the_folder_says_the_difference() -> None:
    found: dict[str, list[str]] = defaultdict(list)
    for path in DAEMON:
        found[path.stem].append(spot(path, 1))
    assert {name: where for name, where in found.items() if len(where) > 1 and name not in TWICE} == {}
    assert {name for name in TWICE if len(found[name]) < 2 and not name.startswith("__")} == set()


def test_a_module_is_named_by_the_word_of_the_field() -> None:
    found = [spot(path, 1) for path in PACKAGE if is_misleading(path.stem.split("_"))]
    assert found == []


def test_a_class_is_named_by_the_word_of_the_field() -> None:
    found = [f"{spot(path, node)} {node.name}" for path, node in classes(PACKAGE) if is_misleading(words(node.name))]
    assert found == []


def test_a_constant_is_a_maximum_a_timeout_or_an_interval() -> None:
    found = []
    for path in PACKAGE:
        for node in tree(path).body:
            if isinstance(node, ast.Assign):
                target = node.targets[0]
            elif isinstance(node, ast.AnnAssign):
                target = node.target
            else:
                continue
            if isinstance(target, ast.Name) and BOUND.search(target.id):
                found.append(f"{spot(path, node)} {target.id}")
    assert found == []
