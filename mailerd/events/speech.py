"""How an event is declared and told: a typed method whose decorator holds its level and its words in both languages."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import wraps
from typing import Concatenate, Literal, ParamSpec, Protocol, TypeVar

Level = Literal["debug", "info", "success", "warning", "error", "critical"]
P = ParamSpec("P")
S = TypeVar("S", bound="Speech")


@dataclass(frozen=True)
class Event:
    """One thing that mailerd can say."""

    name: str
    level: Level
    en: str
    """A format string over the event's fields."""
    zh: str


class Tell(Protocol):
    """Where events go: the journal in a daemon, a recording in a test."""

    def __call__(self, event: Event, fields: Mapping[str, object], /) -> None:
        """Take one event with its fields; a field named `error` that holds an exception is told with its stack."""


class Speech:
    """The base of every class of events."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell

    def heard(self, event: Event, fields: Mapping[str, object]) -> None:
        """Hand one event on; only the decorator calls this."""
        self._tell(event, fields)


_VOCABULARY: dict[str, Event] = {}


def vocabulary() -> Mapping[str, Event]:
    """Every event that the loaded modules declare, by name."""
    return dict(_VOCABULARY)


def event(
    level: Level, *, en: str, zh: str
) -> Callable[[Callable[Concatenate[S, P], None]], Callable[Concatenate[S, P], None]]:
    """Make a method an event; its name is the event's, its keywords are the fields.

    Raises:
        TypeError: a parameter is not keyword-only, or the name is taken: both are bugs that show at import.
    """

    def declare(method: Callable[Concatenate[S, P], None]) -> Callable[Concatenate[S, P], None]:
        name = method.__name__
        _, *parameters = inspect.signature(method).parameters.values()
        if any(p.kind is not p.KEYWORD_ONLY for p in parameters):
            raise TypeError(f"event {name}: every field is keyword-only")
        if name in _VOCABULARY:
            raise TypeError(f"event {name} is declared twice")
        it = _VOCABULARY[name] = Event(name=name, level=level, en=en, zh=zh)

        @wraps(method)
        def tell(self: S, /, *args: P.args, **fields: P.kwargs) -> None:
            if args:
                raise TypeError(f"event {name}: fields are given by keyword")
            self.heard(it, fields)

        return tell

    return declare
