"""Events: every one that mailerd can say has words in both languages that fit its fields."""

import importlib
import inspect
import pkgutil
import re
from datetime import UTC, datetime
from string import Formatter
from typing import Any, get_type_hints

import pytest

import mailerd.events
from mailerd.events.base import Event, EventEmitter, event, registered_events
from tests.support.heard import Heard

SAMPLES: dict[Any, object] = {
    str: "ada@example.org",
    int: 3,
    float: 2.5,
    BaseException: ValueError("boom"),
    datetime: datetime(2026, 11, 24, tzinfo=UTC),
}


def classes() -> list[type[EventEmitter]]:
    for module in pkgutil.iter_modules(mailerd.events.__path__, "mailerd.events."):
        importlib.import_module(module.name)
    return [cls for cls in EventEmitter.__subclasses__() if cls.__module__.startswith("mailerd.events.")]


EVENTS = {
    name: (cls, method)
    for cls in classes()
    for name, method in vars(cls).items()
    if inspect.isfunction(method) and name in registered_events()
}
THE_WORDS = registered_events()


def sample(method: Any) -> dict[str, object]:
    """A value for every field that the event declares, by its type."""
    hints = get_type_hints(method)
    hints.pop("return")
    optional = {str | None: str, int | None: int, float | None: float}
    return {name: SAMPLES[optional.get(hint, hint)] for name, hint in hints.items()}


def named_in(words: str) -> set[str]:
    """The fields that a format string uses."""
    return {re.split(r"[.\[]", name)[0] for _, name, _, _ in Formatter().parse(words) if name is not None}


def complaint(it: Event, fields: dict[str, object]) -> str:
    """What is wrong with an event's words; empty when nothing is."""
    for chinese in (False, True):
        words = it.zh if chinese else it.en
        try:
            it.words(fields, chinese=chinese)
        except (KeyError, IndexError, ValueError, AttributeError) as error:
            return f"{words!r} does not fit {sorted(fields)}: {error!r}"
    if named_in(it.en) != named_in(it.zh):
        return f"{it.en!r} and {it.zh!r} tell different fields"
    return ""


def test_every_event_is_declared_in_a_class_of_this_folder() -> None:
    assert set(EVENTS) == {name for name, it in THE_WORDS.items() if not it.name.startswith("test_")}
    assert len(EVENTS) > 40


@pytest.mark.parametrize("name", sorted(EVENTS))
def test_an_event_has_words_in_both_languages_that_fit_its_fields(name: str) -> None:
    cls, method = EVENTS[name]
    heard, fields = Heard(), sample(method)
    getattr(cls(heard), name)(**fields)
    assert heard.events == [(name, fields)]
    assert complaint(THE_WORDS[name], fields) == ""
    assert re.fullmatch(r"[a-z]+(_[a-z0-9]+)*", name)
    assert re.search(r"[\u4e00-\u9fff]", THE_WORDS[name].zh)
    assert THE_WORDS[name].en.isascii()


@pytest.mark.parametrize("name", [name for name, it in THE_WORDS.items() if it.level == "critical"])
def test_what_is_critical_tells_a_person_what_to_do(name: str) -> None:
    assert re.search(r"free|look into|report|run|failed", THE_WORDS[name].en)


@pytest.mark.parametrize(
    "en, zh",
    [
        ("{job} and {nobody}", "{job}"),
        ("{job}", "{nobody}"),
        ("{job:.1f}", "{job}"),
        ("{job.nothing}", "{job}"),
        ("{}", "{job}"),
        ("{job}", "好"),
    ],
)
def test_a_wrong_field_in_the_words_is_found(en: str, zh: str) -> None:
    assert complaint(Event("x", "info", en=en, zh=zh), {"job": "J1"})
    with pytest.raises((KeyError, ValueError, AttributeError)):
        Heard()(Event("x", "info", en="{nobody}", zh="好"), {"job": "J1"})


def test_a_field_that_is_not_keyword_only_is_refused_where_it_is_declared() -> None:
    def test_positional(self: EventEmitter, job: str) -> None: ...

    with pytest.raises(TypeError, match="test_positional: every field is keyword-only"):
        event("info", en="{job}", zh="{job}")(test_positional)
    assert "test_positional" not in registered_events()


def test_a_name_is_declared_once() -> None:
    def database_back(self: EventEmitter, *, where: str) -> None: ...

    with pytest.raises(TypeError, match="event database_back is declared twice"):
        event("info", en="{where}", zh="{where}")(database_back)


def test_a_number_stands_with_its_noun() -> None:
    it = Event("x", "info", en="claimed {letters:n letter} of {addresses:n address}", zh="{letters} 封")
    assert it.words({"letters": 1, "addresses": 2400}) == "claimed 1 letter of 2,400 addresses"
    assert it.words({"letters": 2, "addresses": 1}) == "claimed 2 letters of 1 address"
    assert it.words({"letters": 2}, chinese=True) == "2 封"
