"""The journal: lines for people, JSON for machines, in both languages, and nothing below the level."""

import inspect
import io
import json
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from mailerd.config import LogSettings
from mailerd.core.i18n import printed, t
from mailerd.core.reasons import reason
from mailerd.errors import DatabaseAwayError, DatabaseError
from mailerd.events.base import Event, EventEmitter, event
from mailerd.events.intake import IntakeEvents
from mailerd.events.process import StoreEvents
from mailerd.events.worker import RunnerEvents
from mailerd.ops.log import Log

BROKEN = Event("it_broke", "error", "it broke at {at}: {error}", said={"error": repr})
PLAIN = Event("all_well", "info", "{thread} says {number}")
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
    StoreEvents(Log(LogSettings(format="text")).write).database_back(where="127.0.0.1:3306", seconds=2.04)
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(STAMP + r" INFO     database 127\.0\.0\.1:3306 back after 2 s\n", err)


def test_a_cause_is_chinese_in_a_chinese_line_and_english_in_its_field(capsys: pytest.CaptureFixture[str]) -> None:
    cause = reason("google_silent", cause=t("no response within the time-out"))
    for kind in ("text", "json"):
        RunnerEvents(Log(LogSettings(format=kind, language="zh")).write).message_released(
            job="J", recipient=1, to="a@b.c", sender="me@example.com", cause=cause
        )
    line, written = capsys.readouterr().err.splitlines()
    assert "Google 没有响应：超时前没有响应" in line
    assert json.loads(written)["cause"] == cause


def test_the_words_are_chinese_where_that_is_configured(capsys: pytest.CaptureFixture[str]) -> None:
    StoreEvents(Log(LogSettings(format="text", language="zh")).write).database_back(where="h:1", seconds=2)
    assert "数据库 h:1 已恢复，历时 2 秒" in capsys.readouterr().err


@pytest.mark.parametrize("level, stacks", [("info", 0), ("debug", 1)])
def test_a_database_that_is_away_has_its_stack_at_level_debug_alone(
    capsys: pytest.CaptureFixture[str], level: str, stacks: int
) -> None:
    log = Log(LogSettings.model_validate({"format": "text", "level": level}))
    with pytest.raises(DatabaseAwayError) as caught:
        raise DatabaseAwayError(
            "connect", phase="connect", cause=OSError("refused"), errno=2003, retry=True, in_doubt=False
        )
    StoreEvents(log.write).database_unreachable(
        where="h:1", attempts=3, cause="connection refused", remedy="start it", error=caught.value
    )
    err = capsys.readouterr().err
    assert "attempt 3/3 failed: connection refused; " in err
    assert err.count("Traceback") == stacks


@pytest.mark.parametrize("explained, stacks", [(True, 0), (False, 1)])
def test_a_refusal_whose_cause_is_in_the_log_already_has_no_stack(
    capsys: pytest.CaptureFixture[str], *, explained: bool, stacks: int
) -> None:
    refused = OSError("The table 'daemons' is full")
    with pytest.raises(DatabaseError) as caught:
        raise DatabaseError("daemons.beat", phase="work", cause=refused, errno=1114, retry=False, in_doubt=False)
    caught.value.explained = explained
    RunnerEvents(Log(LogSettings(format="text")).write).step_failed(
        what="daemons.beat", again_in=10, error=caught.value
    )
    err = capsys.readouterr().err
    assert "daemons.beat failed: daemons.beat: work: OSError 1114" in err
    assert err.count("Traceback") == stacks


def test_an_error_is_told_with_its_whole_stack_and_its_causes(capsys: pytest.CaptureFixture[str]) -> None:
    Log(LogSettings(format="text")).write(BROKEN, {"at": "dawn", "error": broken()})
    err = capsys.readouterr().err
    assert "ERROR    it broke at dawn: RuntimeError('outer')" in err
    assert "ValueError: invalid literal for int() with base 10: 'inner'" in err
    assert "The above exception was the direct cause" in err
    assert 'raise RuntimeError("outer") from inner' in err


def test_no_field_takes_the_place_of_the_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    IntakeEvents(Log(LogSettings(format="json")).write).request_refused(
        request="R", status=404, code="not_found", reason="there is no job with this id"
    )
    line = json.loads(capsys.readouterr().err)
    assert line["message"] == "request R refused with 404 not_found: there is no job with this id"
    assert line["reason"] == "there is no job with this id"


@pytest.mark.parametrize("name", ["at", "level", "event", "message", "stack"])
def test_a_field_that_would_take_the_place_of_another_is_refused(name: str) -> None:
    def broken(self: EventEmitter, *, field: str) -> None: ...

    broken.__signature__ = inspect.Signature([  # type: ignore[attr-defined]
        inspect.Parameter(each, inspect.Parameter.KEYWORD_ONLY) for each in ("self", "job", name)
    ])  # fmt: skip
    with pytest.raises(TypeError, match=f"no field can be named {name}"):
        event("info", "x")(broken)


def test_a_json_line_has_the_event_and_every_field(capsys: pytest.CaptureFixture[str]) -> None:
    RunnerEvents(Log(LogSettings(format="json")).write).message_released(
        job="J1", recipient=7, to="zoë@example.org", sender="me@example.com", cause="throttled"
    )
    line = json.loads(capsys.readouterr().err)
    assert line.pop("at").endswith("Z")
    assert line == {
        "level": "info",
        "event": "message_released",
        "message": "job J1: zoë@example.org (recipient 7) requeued, attempt not counted: throttled",
        "job": "J1",
        "recipient": 7,
        "to": "zoë@example.org",
        "sender": "me@example.com",
        "cause": "throttled",
    }


def test_an_error_in_json_stays_on_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    moment = datetime(2026, 11, 24, 11, 17, tzinfo=UTC)
    Log(LogSettings(format="json")).write(BROKEN, {"at": moment, "error": broken()})
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    line = json.loads(err)
    assert line["error"] == "outer"
    assert "ValueError: invalid literal for int() with base 10: 'inner'" in line["stack"]


def test_words_with_line_breaks_cannot_feign_a_line_of_the_log(capsys: pytest.CaptureFixture[str]) -> None:
    told, forged = StoreEvents(Log(LogSettings(format="text")).write), "x\n2026-01-01 INFO forged"
    told.database_unavailable(where="h:1", cause=forged)
    (line,) = capsys.readouterr().err.splitlines()
    assert re.match(STAMP, line)
    assert "x\\n2026-01-01 INFO forged" in line
    told.database_unavailable(where="h:1", cause=printed(forged))
    lines = capsys.readouterr().err.splitlines()
    assert [bool(re.match(STAMP, line)) for line in lines] == [True, False]
    assert lines[1].startswith("    ")


@pytest.mark.parametrize("form", ["text", "json"])
def test_what_a_terminal_obeys_is_written_as_an_escape(capsys: pytest.CaptureFixture[str], form: str) -> None:
    told = "a\x1b[31mb\0c\rd\x9be\tf 中文"
    Log(LogSettings.model_validate({"format": form})).write(PLAIN, {"thread": told, "number": 1})
    err = capsys.readouterr().err
    words = json.loads(err)["message"] if form == "json" else err
    assert not set(words) & set("\x1b\0\r\x9b")
    assert "a\\x1b[31mb\\x00c\\x0dd\\x9be\tf 中文 says 1" in words


def test_what_is_below_the_level_is_not_told(capsys: pytest.CaptureFixture[str]) -> None:
    events = RunnerEvents(Log(LogSettings(format="text", level="warning")).write)
    events.alive(polls=1, sent=1, failed=0, in_flight=0)
    assert capsys.readouterr().err == ""
    events.runner_already_running()
    assert "WARNING  runner not started: already running" in capsys.readouterr().err


def test_braces_and_angle_brackets_in_a_field_are_only_text(capsys: pytest.CaptureFixture[str]) -> None:
    StoreEvents(Log(LogSettings(format="text")).write).database_unavailable(where="{h}", cause="<red>{0} {x}</red> %s")
    assert "database {h} unavailable: <red>{0} {x}</red> %s; not" in capsys.readouterr().err


def test_the_time_of_a_line_is_cut_to_the_millisecond_and_follows_the_second(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    eve = int(datetime(2026, 12, 31, 23, 59, 59, tzinfo=UTC).timestamp()) * 1_000_000_000
    moments = iter([eve + 7_999_999, eve + 999_999_999, eve + 1_000_000_000] * 2)
    monkeypatch.setattr(time, "time_ns", lambda: next(moments))
    for form in ("text", "json"):
        journal = Log(LogSettings(format=form))
        for number in range(3):
            journal.write(PLAIN, {"thread": 0, "number": number})
    lines = capsys.readouterr().err.splitlines()
    told = ["2026-12-31 23:59:59.007Z", "2026-12-31 23:59:59.999Z", "2027-01-01 00:00:00.000Z"]
    assert [line.partition(" INFO")[0] for line in lines[:3]] == told
    assert [json.loads(line)["at"] for line in lines[3:]] == [moment.replace(" ", "T") for moment in told]


class Stream(io.StringIO):
    """Standard error; `on_write` happens in the midst of every line."""

    def __init__(self, on_write: Callable[[], None]) -> None:
        super().__init__()
        self._on_write = on_write

    def write(self, text: str) -> int:
        half = super().write(text[: len(text) // 2])
        self._on_write()
        return half + super().write(text[len(text) // 2 :])


def test_a_line_that_could_not_be_written_comes_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail_once() -> None:
        if failures:
            raise failures.pop()

    failures = [OSError("no space left on device")]
    monkeypatch.setattr(sys, "stderr", stream := Stream(fail_once))
    Log(LogSettings(format="text")).write(PLAIN, {"thread": 1, "number": 2})
    assert "'message': '1 says 2'" in stream.getvalue()
    assert "OSError: no space left on device" in stream.getvalue()


class Unspeakable:
    def __str__(self) -> str:
        raise ValueError("no words")


def test_a_log_that_can_write_nothing_breaks_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise OSError("the disk is gone")

    monkeypatch.setattr(sys, "stderr", Stream(fail))
    Log(LogSettings(format="text")).write(PLAIN, {"thread": 1, "number": 2})


def test_a_field_that_has_no_words_breaks_nobody_and_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    Log(LogSettings(format="json")).write(PLAIN, {"thread": 1, "number": 2, "other": Unspeakable()})
    assert "ValueError: no words" in capsys.readouterr().err


def test_lines_of_several_threads_are_whole_and_in_the_order_of_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", stream := Stream(lambda: time.sleep(0)))  # another thread's turn, if it can
    journal = Log(LogSettings(format="text"))

    def work(thread: int) -> None:
        for number in range(200):
            journal.write(PLAIN, {"thread": thread, "number": number})

    threads = [threading.Thread(target=work, args=(each,)) for each in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    told = re.findall(rf"^{STAMP} INFO     (\d) says (\d+)$", stream.getvalue(), re.MULTILINE)
    for thread in range(4):
        assert [int(number) for who, number in told if who == str(thread)] == list(range(200))


def test_what_is_told_in_the_midst_of_a_line_does_not_wait_for_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A destructor may tell, and runs wherever it happens to."""

    def tell_once() -> None:
        if inner:
            journal.write(PLAIN, inner.pop())

    inner: list[dict[str, object]] = [{"thread": 0, "number": 7}]
    monkeypatch.setattr(sys, "stderr", stream := Stream(tell_once))
    journal = Log(LogSettings(format="text"))
    telling = threading.Thread(target=journal.write, args=(PLAIN, {"thread": 1, "number": 2}), daemon=True)
    telling.start()
    telling.join(timeout=60)
    assert not telling.is_alive()
    assert "0 says 7" in stream.getvalue()


@pytest.mark.parametrize("form", ["text", "json"])
def test_kill_9_loses_no_line_that_was_told(form: str, tmp_path: Path) -> None:
    program = f"""
import os, signal
from mailerd.config import LogSettings
from mailerd.core.i18n import t
from mailerd.core.reasons import reason
from mailerd.events.process import StoreEvents
from mailerd.ops.log import Log
events = StoreEvents(Log(LogSettings(format={form!r})).write)
for number in range(100):
    events.database_back(where=f"h:{{number}}", seconds=2)
os.kill(os.getpid(), signal.SIGKILL)
"""
    with (log := tmp_path / "log").open("w") as file:
        done = subprocess.run([sys.executable, "-c", program], stderr=file, check=False)
    assert done.returncode == -signal.SIGKILL
    assert re.findall(r"database h:(\d+) back", log.read_text("utf-8")) == [str(number) for number in range(100)]
