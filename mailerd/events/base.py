"""How an event is declared and emitted: a typed method whose decorator has its level and its words in both languages."""

import inspect
import re
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, wraps
from typing import Concatenate, Final, Literal, ParamSpec, TypeVar

from mailerd.core.labels import label
from mailerd.core.quantities import counted, in_words
from mailerd.locale import say

Level = Literal["debug", "info", "success", "warning", "error", "critical"]
NAMESPACE: Final = uuid.UUID("5b7e6a52-3c0d-4f0e-9d4f-6d61696c6572")
"""The name space of the MESSAGE_IDs. They are UUIDs of version 5 (RFC 9562), made of the events' names, so they never
change and are kept nowhere."""
RESERVED: Final = frozenset({"at", "level", "event", "message", "stack"})
"""What a line in JSON says of every event, and MAILERD_EVENT in the journal: a field of that name would take its place."""
_SPAN: Final = re.compile(r"\{(\w+):span\}")
_LABEL: Final = re.compile(r"\{(\w+):label\}")
_COUNT: Final = re.compile(r"\{(\w+):n (\w+)\}")
P = ParamSpec("P")
S = TypeVar("S", bound="EventEmitter")


@dataclass(frozen=True)
class Event:
    """One thing that mailerd can say."""

    name: str
    level: Level
    en: str
    """A format string over the event's fields."""
    zh: str
    by: str = ""
    """A field, such as the cause of a pause, each value of which has a MESSAGE_ID of its own; "": one for all."""

    def words(self, fields: Mapping[str, object], *, chinese: bool = False) -> str:
        """What is said, with the fields filled in.

        `{seconds:span}` shows a number of seconds as a duration, `{letters:n letter}` a number with its noun, and
        `{reason:label}`, in Chinese alone, what a code such as `hard_bounce` is called.
        """

        def span(found: re.Match[str]) -> str:
            return say(in_words(float(str(fields[found[1]]))), "zh" if chinese else "en")

        def count(found: re.Match[str]) -> str:
            return counted(int(str(fields[found[1]])), found[2])

        template = self.zh if chinese else self.en
        if ":span}" in template:
            template = _SPAN.sub(span, template)
        if ":n " in template:
            template = _COUNT.sub(count, template)
        if ":label}" in template:
            template = _LABEL.sub(lambda found: say(label(str(fields[found[1]])), "zh"), template)
        return template.format_map(fields)

    @property
    def shown(self) -> str:
        """The English format string as lists of events show it: "{letters} letters"."""
        return _COUNT.sub(lambda found: f"{{{found[1]}}} {counted(2, found[2]).partition(' ')[2]}", self.en)

    @cached_property
    def message_id(self) -> str:
        """The MESSAGE_ID in journald, by which a catalogue finds its entry: 32 hexadecimal digits."""
        return uuid.uuid5(NAMESPACE, self.name).hex

    def id_by(self, value: object) -> str:
        """The MESSAGE_ID where the field `by` has this value."""
        return uuid.uuid5(NAMESPACE, f"{self.name} {value}").hex


EventSink = Callable[[Event, Mapping[str, object]], None]
"""Where events go, each with its fields: the journal in a daemon, a recording in a test. A field named `error` that holds
an exception is written with its stack."""


class FanOut:
    """Hands every event to the log, the metrics and the alerts, so that they always agree."""

    def __init__(self, *listeners: EventSink) -> None:
        self.listeners = list(listeners)

    def __call__(self, event: Event, fields: Mapping[str, object], /) -> None:
        """Tell them all."""
        for listener in self.listeners:
            listener(event, fields)


class EventEmitter:
    """The base of every class of events."""

    def __init__(self, sink: EventSink) -> None:
        self.sink: Final = sink
        """Takes each event; only the decorator calls it."""


_REGISTERED: dict[str, Event] = {}


def registered_events() -> Mapping[str, Event]:
    """Every event that the loaded modules declare, by name."""
    return dict(_REGISTERED)


def event(
    level: Level, *, en: str, zh: str, by: str = ""
) -> Callable[[Callable[Concatenate[S, P], None]], Callable[Concatenate[S, P], None]]:
    """Make a method an event; its name is the event's, its keywords are the fields; `by`: see Event.

    Raises:
        TypeError: a parameter is not keyword-only or has a reserved name, or the event's name is taken: all are bugs that
            show at import.
    """

    def declare(method: Callable[Concatenate[S, P], None]) -> Callable[Concatenate[S, P], None]:
        name = method.__name__
        _, *parameters = inspect.signature(method).parameters.values()
        if any(p.kind is not p.KEYWORD_ONLY for p in parameters):
            raise TypeError(f"event {name}: every field is keyword-only")
        if taken := sorted(RESERVED.intersection(p.name for p in parameters)):
            raise TypeError(f"event {name}: no field can be named {', '.join(taken)}, which every line has already")
        if by and by not in {p.name for p in parameters}:
            raise TypeError(f"event {name}: there is no field {by}")
        if name in _REGISTERED:
            raise TypeError(f"event {name} is declared twice")
        it = _REGISTERED[name] = Event(name=name, level=level, en=en, zh=zh, by=by)

        @wraps(method)
        def emit(self: S, /, *args: P.args, **fields: P.kwargs) -> None:
            if args:
                raise TypeError(f"event {name}: fields are given by keyword")
            self.sink(it, fields)

        return emit

    return declare
