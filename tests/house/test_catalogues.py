"""The catalogues and the page of events: made from the events, and whole."""

import importlib.util
import re
from pathlib import Path

import pytest

from mailerd.core.i18n import Language
from mailerd.core.quantities import in_words
from mailerd.core.verdicts import PauseCause
from mailerd.events.journald_catalog import RUNBOOKS_BY_CAUSE, SERIOUS, catalogue, events, page, table
from mailerd.events.runbook import FULL_DAY, PAUSE_RUNBOOKS, REST_RUNBOOKS, RUNBOOKS
from mailerd.locale import say, speak
from mailerd.ops.log import journald_record
from tests.house.source import ROOT
from tests.house.test_papers import complaint

KNOWN = {event.name: event for event in events() if "test" not in event.name}
CHINESE = re.compile(r"[\u4e00-\u9fff]")


def made() -> dict[Path, str]:
    spec = importlib.util.spec_from_file_location("tools_events", ROOT / "tools" / "events.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return dict(module.files())


@pytest.mark.parametrize("name", sorted(name for name, event in KNOWN.items() if event.level in SERIOUS))
def test_an_event_at_warning_or_above_has_advice_in_both_languages(name: str) -> None:
    advice = RUNBOOKS[name]
    assert advice.meaning.isascii()
    assert CHINESE.search(say(advice.meaning, "zh"))
    assert advice.causes
    assert all(cause.command and CHINESE.search(say(cause.text, "zh")) for cause in advice.causes)
    fields = {found.lower() for cause in advice.causes for found in re.findall(r"@MAILERD_(\w+)@", cause.command)}
    named = set(re.findall(r"\{(\w+)", KNOWN[name].template))
    assert fields <= named | {"sender", "recipient", "job"}


def test_nothing_is_advised_about_what_is_never_said() -> None:
    assert set(RUNBOOKS) <= {name for name, event in KNOWN.items() if event.level in SERIOUS}


def test_message_ids_are_128_bits_and_differ() -> None:
    ids = {event.message_id for event in KNOWN.values()}
    assert len(ids) == len(KNOWN)
    assert all(re.fullmatch(r"[0-9a-f]{32}", each) for each in ids)
    assert KNOWN["message_sent"].message_id == "55c67dccdfe6543d8df11a692fea342e", "operators filter by it"


@pytest.mark.parametrize("path", sorted(path for path in made()), ids=lambda path: path.name)
def test_what_is_made_from_the_events_is_up_to_date(path: Path) -> None:
    assert path.read_text("utf-8") == {**made()}[path], "run `make events`"


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_page_has_every_event_and_what_to_do_about_it(language: Language) -> None:
    speak(language)
    try:
        advice, text = page(list(KNOWN.values())), table(list(KNOWN.values()))
    finally:
        speak("en")
    assert [it.name for it in KNOWN.values() if f"| `{it.name}` |" not in text or it.message_id not in text] == []
    assert [name for name in RUNBOOKS if say(RUNBOOKS[name].meaning, language) not in advice] == []
    assert bool(CHINESE.search(text)) == (language == "zh")


def test_each_cause_of_a_pause_has_a_message_id_and_advice_of_its_own() -> None:
    paused, words = KNOWN["sender_paused"], catalogue("en", list(KNOWN.values()))
    causes = {cause.value for cause in PauseCause} - {
        PauseCause.GOOGLE_UNREACHABLE,
        PauseCause.PROJECT_LIMIT,
    }  # these pause otherwise
    assert set(RUNBOOKS_BY_CAUSE["sender_paused"]) == causes
    entries = {cause: words.split(f"-- {paused.id_by(cause)}\n")[1].split("\n-- ")[0] for cause in causes}
    assert len(set(entries.values())) == len(causes)
    assert "1. the authorization was revoked" in entries["token_refused"]
    assert "daily limit" not in entries["token_refused"]
    fields = {"sender": "me@example.com", "seconds": 60.0, "cause": "token_refused", "reason": "invalid_grant"}
    told = journald_record(paused, fields=fields, words="", stack="")
    assert told["MESSAGE_ID"] == paused.id_by("token_refused")
    assert told["MAILERD_EVENT"] == "sender_paused"


def test_seconds_have_their_unit_in_the_subject_of_an_entry() -> None:
    paused = [KNOWN["sender_paused"]]
    assert "paused for @MAILERD_SECONDS@ s (@MAILERD_CAUSE@)" in catalogue("en", paused)
    assert "已暂停 @MAILERD_SECONDS@ 秒（@MAILERD_CAUSE@）" in catalogue("zh", paused)
    known = list(KNOWN.values())
    assert sum(in_words in event.said.values() for event in known if event.level in SERIOUS) > 10
    assert not re.search(r"@MAILERD_(SECONDS|AGAIN_IN|LOOK_IN)@(?! s\b)", catalogue("en", known))
    assert not re.search(r"@MAILERD_(SECONDS|AGAIN_IN|LOOK_IN)@(?! ?秒)", catalogue("zh", known))


def test_what_is_advised_to_run_lies_where_it_is_installed() -> None:
    # `make install` makes its environment in PREFIX itself
    words = catalogue("en", list(KNOWN.values()))
    assert set(re.findall(r"/opt/mailerd/\S*", words)) == {"/opt/mailerd/bin/python"}


def test_a_port_that_is_taken_is_looked_for_where_it_is_told() -> None:
    # the daemon says it as process_refused; process_died is an error without a name
    assert any("port is taken" in cause.text for cause in RUNBOOKS["process_refused"].causes)
    assert not any("port is taken" in cause.text for cause in RUNBOOKS["process_died"].causes)


def test_a_command_that_a_runbook_advises_exists() -> None:
    books = [*RUNBOOKS.values(), *PAUSE_RUNBOOKS.values(), *REST_RUNBOOKS.values(), FULL_DAY]
    commands = {cause.command for book in books for cause in book.causes}
    own = {command for command in commands if command.startswith("mailerd ")}
    assert len(own) > 15
    assert [command for command in own if complaint(re.sub(r"@\w+@", "1", command).split()[1:])] == []
    assert [command for command in commands - own if not re.match(r"https://|[a-z/]+[ ;]", command)] == []
