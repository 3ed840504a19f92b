"""Events as the code uses them: each one that is declared is said somewhere, and always by keywords."""

import ast
import importlib
import pkgutil
import re
from functools import cache
from pathlib import Path

import pytest

import mailerd.events
from mailerd.events.base import Event, registered_events
from tests.house.source import calls, modules, spot


def known() -> dict[str, Event]:
    """Every event that mailerd declares."""
    for module in pkgutil.iter_modules(mailerd.events.__path__, "mailerd.events."):
        importlib.import_module(module.name)
    return {name: it for name, it in registered_events().items() if "test" not in name}


KNOWN = known()
VOICE = re.compile(r"(?:events|say|Events\(.*\))$")
"""How a speaker is called: `self._events`, `say`, `ProcessEvents(tell)`."""


@cache
def said() -> list[tuple[Path, ast.Call, str]]:
    """Every place where an event is said, and which. The sandbox is another program, and says none."""
    return [
        (path, call, call.func.attr)
        for path in set(modules("mailerd")) - set(modules("mailerd/sandbox"))
        for call in calls(path)
        if isinstance(call.func, ast.Attribute) and VOICE.search(ast.unparse(call.func.value))
    ]


@pytest.mark.parametrize("name", KNOWN)
def test_an_event_that_is_declared_is_said_somewhere(name: str) -> None:
    assert name in {spoken for _, _, spoken in said()}


def test_what_is_said_is_declared_and_said_by_keywords() -> None:
    wrong = [
        f"{spot(path, call)} {name}"
        for path, call, name in said()
        if name not in KNOWN or call.args or any(each.arg is None for each in call.keywords)
    ]
    assert wrong == []
