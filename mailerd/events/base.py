"""How an event is declared and emitted: a typed method whose decorator has its level and its words.

The words are a template of the catalogue: `N_("sender {sender} resumed after {seconds}")`. How a field is said follows
from its type here: `seconds: Seconds` as a duration, `messages: Messages` with its noun. JSON and the journal keep its
value.
"""

import inspect
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, wraps
from typing import Annotated, Any, Concatenate, Final, Literal, ParamSpec, TypeVar

from mailerd.core.i18n import Text, t, tn
from mailerd.core.labels import coded
from mailerd.core.quantities import in_words

Seconds = Annotated[float, in_words]
Code = Annotated[str, coded]
"""A code such as `hard_bounce`, which Chinese shows by its label."""
Bug = Annotated[BaseException, repr]
"""An unexpected exception: its type is half of what is known."""
Addresses = Annotated[int, lambda n: tn("{n:,} address", "{n:,} addresses", n)]
Events = Annotated[int, lambda n: tn("{n:,} event", "{n:,} events", n)]
Jobs = Annotated[int, lambda n: tn("{n:,} job", "{n:,} jobs", n)]
Keys = Annotated[int, lambda n: tn("{n:,} API key", "{n:,} API keys", n)]
Messages = Annotated[int, lambda n: tn("{n:,} message", "{n:,} messages", n)]
Recipients = Annotated[int, lambda n: tn("{n:,} recipient", "{n:,} recipients", n)]
Records = Annotated[int, lambda n: tn("{n:,} record", "{n:,} records", n)]
Requests = Annotated[int, lambda n: tn("{n:,} request", "{n:,} requests", n)]
Suppressions = Annotated[int, lambda n: tn("{n:,} suppression", "{n:,} suppressions", n)]

Level = Literal["debug", "info", "success", "warning", "error", "critical"]
NAMESPACE: Final = uuid.UUID("5b7e6a52-3c0d-4f0e-9d4f-6d61696c6572")
"""The name space of the MESSAGE_IDs. They are UUIDs of version 5 (RFC 9562), made of the events' names, so they never
change and are kept nowhere."""
RESERVED: Final = frozenset({"at", "level", "event", "message", "stack"})
"""What a line in JSON says of every event, and MAILERD_EVENT in the journal: a field of that name would take its place."""
P = ParamSpec("P")
S = TypeVar("S", bound="EventEmitter")


@dataclass(frozen=True)
class Event:
    """One thing that mailerd can say."""

    name: str
    level: Level
    template: str
    """What it says, over its fields: the English, which is the key of the catalogue."""
    by: str = ""
    """A field, such as the cause of a pause, each value of which has a MESSAGE_ID of its own; "": one for all."""
    said: Mapping[str, Callable[[Any], object]] = field(default_factory=dict)
    """How the fields are said that do not stand as they are."""

    def words(self, fields: Mapping[str, object]) -> Text:
        """What is said of these fields."""
        return t(
            self.template,
            **{name: self.said.get(name, _plain)(value) for name, value in fields.items()},
        )

    @cached_property
    def message_id(self) -> str:
        """The MESSAGE_ID in journald, by which a catalogue finds its entry: 32 hexadecimal digits."""
        return uuid.uuid5(NAMESPACE, self.name).hex

    def id_by(self, value: object) -> str:
        """The MESSAGE_ID where the field `by` has this value."""
        return uuid.uuid5(NAMESPACE, f"{self.name} {value}").hex


def _plain(value: object) -> object:
    # which is the Text that it was raised with
    return str(value) if isinstance(value, BaseException) else value


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
    level: Level, template: str, *, by: str = ""
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
            raise TypeError(
                f"event {name}: no field can be named {', '.join(taken)}, which every line has already"
            )
        if by and by not in {p.name for p in parameters}:
            raise TypeError(f"event {name}: there is no field {by}")
        if name in _REGISTERED:
            raise TypeError(f"event {name} is declared twice")
        said = {
            p.name: p.annotation.__metadata__[0]
            for p in parameters
            if hasattr(p.annotation, "__metadata__")
        }
        it = _REGISTERED[name] = Event(name=name, level=level, template=template, by=by, said=said)

        @wraps(method)
        def emit(self: S, /, *args: P.args, **fields: P.kwargs) -> None:
            if args:
                raise TypeError(f"event {name}: fields are given by keyword")
            self.sink(it, fields)

        return emit

    return declare
