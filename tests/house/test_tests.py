"""What holds for the tests themselves."""

import ast
from collections.abc import Iterator

from tests.house.source import calls, modules, spot


def _unordered(call: ast.Call) -> Iterator[ast.expr]:
    """The sets among the arguments of `pytest.mark.parametrize`."""
    if isinstance(call.func, ast.Attribute) and call.func.attr == "parametrize":
        for value in (*call.args, *(each.value for each in call.keywords)):
            made = value.func if isinstance(value, ast.Call) else None
            if isinstance(value, ast.Set | ast.SetComp) or (
                isinstance(made, ast.Name) and made.id in {"set", "frozenset"}
            ):
                yield value


def test_no_test_takes_its_cases_from_a_set() -> None:
    """Each process of a run collects the tests by itself, and a set has another order in each."""
    found = [spot(path, node) for path in modules("tests") for call in calls(path) for node in _unordered(call)]
    assert found == []


def test_cases_from_a_set_are_seen() -> None:
    source = "mark.parametrize('a', set(x)); mark.parametrize('a', {1, 2}); mark.parametrize('a', sorted(set(x)))"
    made = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    assert sum(len(list(_unordered(call))) for call in made) == 2
