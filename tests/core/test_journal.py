"""The journal: lines for people, JSON for machines, in both languages, and nothing below the level."""

import inspect
import json
import re
from datetime import UTC, datetime

import pytest

from mailerd.config import LogSettings
from mailerd.events.intake import IntakeEvents
from mailerd.events.runner import RunnerEvents
from mailerd.events.speech import Event, Speech, event
from mailerd.events.store import StoreEvents
from mailerd.journal import Journal

BROKEN = Event("it_broke", "error", en="it broke at {at}: {error!r}", zh="出错于 {at}：{error!r}")
STAMP = r"2\d{3}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}Z"


def fail() -> None:
    try:
        int("inner")
    except ValueError as inner:
        raise RuntimeError("outer") from inner


def broken() -> RuntimeError:
    with pytest.raises(RuntimeError) as caught:
        fail()
    return caught.value


def test_a_text_line_has_time_level_and_words(capsys: pytest.CaptureFixture[str]) -> None:
    StoreEvents(Journal(LogSettings(format="text")).tell).database_back(where="127.0.0.1:3306", seconds=2.04)
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(STAMP + r" INFO     database 127\.0\.0\.1:3306 is back after 2\.0 s\n", err)


def test_the_words_are_chinese_where_that_is_configured(capsys: pytest.CaptureFixture[str]) -> None:
    StoreEvents(Journal(LogSettings(format="text", language="zh")).tell).database_back(where="h:1", seconds=2)
    assert "数据库 h:1 已恢复，历时 2.0 秒" in capsys.readouterr().err


def test_an_error_is_told_with_its_whole_stack_and_its_causes(capsys: pytest.CaptureFixture[str]) -> None:
    Journal(LogSettings(format="text")).tell(BROKEN, {"at": "dawn", "error": broken()})
    err = capsys.readouterr().err
    assert "ERROR    it broke at dawn: RuntimeError('outer')" in err
    assert "ValueError: invalid literal for int() with base 10: 'inner'" in err
    assert "The above exception was the direct cause" in err
    assert 'raise RuntimeError("outer") from inner' in err


def test_no_field_takes_the_place_of_the_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    IntakeEvents(Journal(LogSettings(format="json")).tell).request_refused(
        request="R", status=404, code="not_found", reason="there is no job with this id"
    )
    line = json.loads(capsys.readouterr().err)
    assert line["message"] == "request R refused with 404 not_found: there is no job with this id"
    assert line["reason"] == "there is no job with this id"


@pytest.mark.parametrize("name", ["at", "level", "event", "message", "stack"])
def test_a_field_that_would_take_the_place_of_another_is_refused(name: str) -> None:
    def broken(self: Speech, *, field: str) -> None: ...

    broken.__signature__ = inspect.Signature([  # type: ignore[attr-defined]
        inspect.Parameter(each, inspect.Parameter.KEYWORD_ONLY) for each in ("self", "job", name)
    ])  # fmt: skip
    with pytest.raises(TypeError, match=f"no field can be named {name}"):
        event("info", en="x", zh="x")(broken)


def test_a_json_line_has_the_event_and_every_field(capsys: pytest.CaptureFixture[str]) -> None:
    RunnerEvents(Journal(LogSettings(format="json")).tell).letter_released(
        job="J1", recipient=7, to="zoë@example.org", sender="me@example.com", cause="throttled"
    )
    line = json.loads(capsys.readouterr().err)
    assert line.pop("at").endswith("Z")
    assert line == {
        "level": "info",
        "event": "letter_released",
        "message": "job J1: zoë@example.org (recipient 7) waits on, the attempt is refunded: throttled",
        "job": "J1",
        "recipient": 7,
        "to": "zoë@example.org",
        "sender": "me@example.com",
        "cause": "throttled",
    }


def test_an_error_in_json_stays_on_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    moment = datetime(2026, 11, 24, 11, 17, tzinfo=UTC)
    Journal(LogSettings(format="json")).tell(BROKEN, {"at": moment, "error": broken()})
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    line = json.loads(err)
    assert line["error"] == "outer"
    assert "ValueError: invalid literal for int() with base 10: 'inner'" in line["stack"]


def test_words_with_line_breaks_cannot_feign_a_line_of_the_log(capsys: pytest.CaptureFixture[str]) -> None:
    StoreEvents(Journal(LogSettings(format="text")).tell).database_away(where="h:1", cause="x\n2026-01-01 INFO forged")
    lines = capsys.readouterr().err.splitlines()
    assert [bool(re.match(STAMP, line)) for line in lines] == [True, False]
    assert lines[1].startswith("    ")


def test_what_is_below_the_level_is_not_told(capsys: pytest.CaptureFixture[str]) -> None:
    events = RunnerEvents(Journal(LogSettings(format="text", level="warning")).tell)
    events.alive(polls=1, sent=1, failed=0, in_hand=0)
    assert capsys.readouterr().err == ""
    events.runner_already_running()
    assert "WARNING  runner is already running" in capsys.readouterr().err


def test_braces_and_angle_brackets_in_a_field_are_only_text(capsys: pytest.CaptureFixture[str]) -> None:
    StoreEvents(Journal(LogSettings(format="text")).tell).database_away(where="{h}", cause="<red>{0} {x}</red> %s")
    assert "database {h} is away: <red>{0} {x}</red> %s; nothing" in capsys.readouterr().err
