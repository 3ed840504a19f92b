"""Events as the code uses them: each one that is declared is said somewhere, and always by keywords."""

import ast
import importlib
import pkgutil
import re
from collections.abc import Iterator
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


def said() -> Iterator[tuple[Path, ast.Call, str]]:
    """Every place where an event is said, and which. The sandbox is another program, and says none."""
    for path in set(modules("mailerd")) - set(modules("mailerd/sandbox")):
        for call in calls(path):
            match call.func:
                case ast.Attribute(value=speaker, attr=name) if VOICE.search(ast.unparse(speaker)):
                    yield path, call, name


SAID = list(said())


@pytest.mark.parametrize("name", KNOWN)
def test_an_event_that_is_declared_is_said_somewhere(name: str) -> None:
    assert name in {spoken for _, _, spoken in SAID}


def test_what_is_said_is_declared_and_said_by_keywords() -> None:
    wrong = [
        f"{spot(path, call)} {name}"
        for path, call, name in SAID
        if name not in KNOWN or call.args or any(each.arg is None for each in call.keywords)
    ]
    assert wrong == []
