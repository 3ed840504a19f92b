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
from mailerd.core.i18n import t
from mailerd.events.base import Event, EventEmitter, event, registered_events
from mailerd.events.worker import RunnerEvents
from mailerd.locale import say
from tests.support.heard import Heard
from tools import messages

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
CHINESE = messages.read(next(messages.catalogues()))


def sample(method: Any) -> dict[str, object]:
    """A value for every field that the event declares, by its type."""
    hints = get_type_hints(method)
    hints.pop("return")
    optional = {str | None: str, int | None: int, float | None: float}
    return {name: SAMPLES[optional.get(hint, hint)] for name, hint in hints.items()}


def named_in(words: str) -> set[str]:
    """The fields that a format string uses."""
    return {re.split(r"[.\[]", name)[0] for _, name, _, _ in Formatter().parse(words) if name is not None}


def test_every_event_is_declared_in_a_class_of_this_folder() -> None:
    assert set(EVENTS) == {name for name, it in THE_WORDS.items() if not it.name.startswith("test_")}
    assert len(EVENTS) > 40


@pytest.mark.parametrize("name", sorted(EVENTS))
def test_an_event_has_words_in_both_languages_that_fit_its_fields(name: str) -> None:
    cls, method = EVENTS[name]
    heard, fields = Heard(), sample(method)
    getattr(cls(heard), name)(**fields)
    assert heard.events == [(name, fields)]
    it = THE_WORDS[name]
    assert re.fullmatch(r"[a-z]+(_[a-z0-9]+)*", name)
    assert say(it.words(fields), "en").isascii()
    assert re.search(r"[\u4e00-\u9fff]", say(it.words(fields), "zh"))
    translated = CHINESE.get(it.template)
    assert translated
    assert named_in(str(translated.string)) == named_in(it.template)


@pytest.mark.parametrize("name", [name for name, it in THE_WORDS.items() if it.level == "critical"])
def test_what_is_critical_tells_a_person_what_to_do(name: str) -> None:
    assert re.search(r"free|report|run|failed|retry", THE_WORDS[name].template)


@pytest.mark.parametrize("template", ["{job} and {nobody}", "{job:.1f}", "{job.nothing}", "{}"])
def test_a_wrong_field_in_the_words_is_found(template: str) -> None:
    with pytest.raises((KeyError, IndexError, ValueError, AttributeError)):
        Heard()(Event("x", "info", template), {"job": "J1"})


@pytest.mark.parametrize("name", sorted(EVENTS))
def test_a_line_begins_with_its_thing_and_has_no_full_stop(name: str) -> None:
    words = THE_WORDS[name].template.partition("\n")[0]
    assert re.match(r"[a-z{]|API |Google |Cloud ", words)
    assert not words.endswith(".")
    assert not re.search(r"\b(I|we|you|there is|letters?)\b", words)
    assert "please" not in words.replace("please report", "")


def test_a_field_that_is_not_keyword_only_is_refused_where_it_is_declared() -> None:
    def test_positional(self: EventEmitter, job: str) -> None: ...

    with pytest.raises(TypeError, match="test_positional: every field is keyword-only"):
        event("info", "{job}")(test_positional)
    assert "test_positional" not in registered_events()


def test_a_name_is_declared_once() -> None:
    def database_back(self: EventEmitter, *, where: str) -> None: ...

    with pytest.raises(TypeError, match="event database_back is declared twice"):
        event("info", "{where}")(database_back)


def test_a_field_is_said_by_its_type() -> None:
    heard = Heard()
    RunnerEvents(heard).claimed(messages=1, jobs=2400, token="")
    RunnerEvents(heard).sender_paused(sender="a@b.c", seconds=19_200, cause="token_refused", reason="invalid_grant")
    said = [THE_WORDS[name].words(fields) for name, fields in heard.events]
    assert [say(it, "en") for it in said] == [
        "claimed 1 message from 2,400 jobs",
        "sender a@b.c paused for 5 h 20 min (token_refused): invalid_grant",
    ]
    assert [say(it, "zh") for it in said] == [
        "已认领 2,400 个任务的 1 封邮件",
        "发件邮箱 a@b.c 已暂停 5 小时 20 分钟（授权被拒绝）：invalid_grant",
    ]
    assert heard.of("sender_paused")[0]["seconds"] == 19_200, "JSON and the journal keep the value"


def test_an_exception_is_said_with_the_text_that_it_was_raised_with() -> None:
    heard = Heard()
    RunnerEvents(heard).step_failed(what="claims.take", again_in=2.0, error=ValueError(t("requeued")))
    [(name, fields)] = heard.events
    assert say(THE_WORDS[name].words(fields), "zh") == "claims.take 失败：已重新排队；2 秒后重试"
