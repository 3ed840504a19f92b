"""The house rules about code: sizes, words, comments, exceptions and waiting."""

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.house.source import calls, functions, length, lines, modules, spot, texts, tokens, tree

OURS = modules("mailerd", "tests", "tools")
DAEMON = modules("mailerd")

LONGEST_FILE = {"mailerd": 6000, "tools": 6000}
"""Tokens: a file is as long as its concept: one noun, its whole life. No formatting changes the number."""
LONGEST_FUNCTION = {"mailerd": 720, "tools": 720}
"""Tokens: a function is as long as its one thought."""
LONGEST_TEST_FILE, LONGEST_TEST = 800, 80
"""Lines: a table of cases is read as lines."""
DENSEST, FEWEST = 8.2, 20
"""Tokens a line of the product: a line holds one thought; and how many the formatter does not touch."""

UNFINISHED = re.compile(r"\b(?:TO" + r"DO|FIX" + r"ME|X" + r"XX|HA" + r"CK)\b")
SILENCED = re.compile(r"#\s*(?:type:\s*ignore|noqa)(?P<rest>.*)")
CODED = re.compile(r"(?:\[[a-z-]+(?:,\s*[a-z-]+)*\]|:\s*[A-Z]+[0-9]+(?:[,\s]+[A-Z]+[0-9]+)*)")


def test_no_file_is_longer_than_one_concept() -> None:
    long = [
        f"{spot(path, 1)} has {len(tokens(path))} tokens"
        for folder, most in LONGEST_FILE.items()
        for path in modules(folder)
        if len(tokens(path)) > most
    ]
    assert long == []
    assert [spot(path, 1) for path in modules("tests") if lines(path) > LONGEST_TEST_FILE] == []


def test_no_function_is_longer_than_one_thought() -> None:
    long = [
        f"{spot(path, each)} {each.name} has {size} tokens"
        for folder, most in LONGEST_FUNCTION.items()
        for path in modules(folder)
        for each in functions(path)
        if (size := sum(each.lineno <= line <= (each.end_lineno or 0) for line in tokens(path))) > most
    ]
    assert long == []
    tests = [(path, each) for path in modules("tests") for each in functions(path)]
    assert [spot(*found) for found in tests if length(found[1]) > LONGEST_TEST] == []


def test_a_line_holds_one_thought() -> None:
    found = [line for path in DAEMON for line in Counter(tokens(path)).values()]
    assert sum(found) / len(found) <= DENSEST
    assert sum(path.read_text("utf-8").count("# fmt: ") for path in DAEMON) <= FEWEST


def test_every_module_says_what_it_is_for() -> None:
    assert [spot(path, 1) for path in OURS if not ast.get_docstring(tree(path))] == []


def test_nothing_is_left_unfinished() -> None:
    found = [
        spot(path, number)
        for path, text in texts()
        for number, line in enumerate(text.splitlines(), 1)
        if UNFINISHED.search(line)
    ]
    assert found == []


def test_whoever_asks_for_suppressions_or_lists_is_named() -> None:
    """Without the key that asks, everybody's are shown and changed. A link of a message is its person's."""
    named = ("Suppressions", "Suppressions.open")
    found = [
        spot(path, each)
        for path in modules("mailerd/web", "mailerd/intake", "mailerd/operations")
        for each in ast.walk(tree(path))
        if isinstance(each, ast.Call) and ast.unparse(each.func) in named
        and "limited_to" not in {it.arg for it in each.keywords}
    ]  # fmt: skip
    assert [it.partition(":")[0] for it in found] == ["mailerd/intake/unsubscribe_site.py"], found


def silenced_without_a_code(text: str) -> Iterator[int]:
    for number, line in enumerate(text.splitlines(), 1):
        if (found := SILENCED.search(line)) and not CODED.match(found["rest"]):
            yield number


def test_every_silenced_warning_names_which() -> None:
    elsewhere = [path for path in OURS if path != Path(__file__)]
    assert [spot(path, n) for path in elsewhere for n in silenced_without_a_code(path.read_text("utf-8"))] == []


@pytest.mark.parametrize("comment", ["type: ignore", "noqa", "noqa - because", "type: ignore # [attr]"])
def test_a_bare_silencer_is_seen(comment: str) -> None:
    assert list(silenced_without_a_code(f"x = 1  # {comment}\n")) == [1]


@pytest.mark.parametrize("comment", ["type: ignore[attr-defined]", "noqa: E501 - a reason", "noqa: E501, D102"])
def test_a_silencer_with_a_code_is_fine(comment: str) -> None:
    assert list(silenced_without_a_code(f"x = 1  # {comment}\n")) == []


def swallowed(path: Path) -> Iterator[ast.AST]:
    """Handlers that catch everything and do nothing, and `suppress` of everything."""
    everything = {"Exception", "BaseException"}
    for node in ast.walk(tree(path)):
        match node:
            case ast.ExceptHandler(type=None | ast.Name(id="Exception" | "BaseException"), body=body):
                if all(isinstance(each, ast.Pass | ast.Continue | ast.Constant) or _ellipsis(each) for each in body):
                    yield node
            case ast.Call(func=ast.Name(id="suppress") | ast.Attribute(attr="suppress"), args=args):
                if any(isinstance(each, ast.Name) and each.id in everything for each in args):
                    yield node
            case _:
                pass


def _ellipsis(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def test_no_exception_is_swallowed() -> None:
    assert [spot(path, node) for path in OURS for node in swallowed(path)] == []


def test_the_daemon_never_sleeps_its_thread() -> None:
    found = [
        spot(path, call)
        for path in DAEMON
        for call in calls(path)
        if ast.unparse(call.func) in {"time.sleep", "sleep"} and not _awaited(path, call)
    ]
    assert found == []


def _awaited(path: Path, call: ast.Call) -> bool:
    return any(isinstance(node, ast.Await) and node.value is call for node in ast.walk(tree(path)))


def test_nothing_names_the_place_where_it_was_written() -> None:
    place, neighbour = "/wo" + "rk/", "sha" + "red/"
    tools = "../" + neighbour + "tools"
    found = []
    for path, text in texts():
        allowed = path.parent.name == ".ci" or path.name == "Makefile"
        for number, line in enumerate(text.splitlines(), 1):
            seen = line.replace(tools, "") if allowed else line
            if place in seen or neighbour in seen:
                found.append(spot(path, number))
    assert found == []
