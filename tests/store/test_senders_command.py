"""`mailerd senders`: plain lines, JSON, and the same again when it is said again."""

import asyncio
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mailerd.cli import app
from mailerd.config import DatabaseSettings
from mailerd.errors import MailerdError
from mailerd.events.process import StoreEvents
from mailerd.store.db.database import Database
from mailerd.store.db.migrate import migrate
from tests.support.heard import Heard

ME = "me@example.com"


@pytest.fixture(autouse=True)
def environment(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", database_url)
    asyncio.run(_migrate(database_url))


async def _migrate(url: str) -> None:
    events = StoreEvents(Heard())
    database = Database(DatabaseSettings(url=url), events=events)
    await migrate(database, events=events)
    await database.close()


def say(*words: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, ["senders", *words], catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result.output


def test_limits_are_set_shown_and_given_back() -> None:
    for _ in range(2):
        told = say("set", "Me@Example.com", "--profile", "consumer", "--reserve", "40", "--min-gap", "2.5")
        assert told == f"{ME}: units per minute: 6000, per minute: no limit, per day: 500, reserve: 40, min gap: 2.5\n"
    say("set", ME, "--warm-up", "50+25", "--units-per-minute", "5000", "--per-minute", "30")
    (shown,) = json.loads(say("list", "--json"))["senders"]
    assert shown["limits"] == {
        "units_per_minute": 5000, "per_minute": 30, "per_day": 500, "reserve": 40, "min_gap": 2.5, "warm_up": 50,
        "warm_up_growth": 25,
    }  # fmt: skip
    assert (shown["email"], shown["per_day_now"], shown["paused"]) == (ME, 50, False)
    line = say("list").splitlines()[1]
    assert line.startswith(f" {ME}  no credentials")
    assert "5000*" in line
    told = say("set", ME, "--default", "all", "--per-day", "7")
    assert told == f"{ME}: units per minute: 6000, per minute: no limit, per day: 7\n"
    (shown,) = json.loads(say("list", "--json"))["senders"]
    assert shown["own"] == ["per_day"]
    assert "per day: 2000" in say("set", ME, "--default", "per-day")


def test_a_sender_that_nobody_knows_cannot_be_paused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MailerdError, match=r"unknown sender you@\S+: it has no credential file and no job"):
        say("pause", "you@example.com")
    assert json.loads(say("list", "--json"))["senders"] == []
    monkeypatch.setenv("MAILERD_GMAIL__CREDENTIALS_DIR", str(tmp_path))
    monkeypatch.setenv("MAILERD_GMAIL__ALIASES", f'{{"sales@example.com": "{ME}"}}')
    (tmp_path / f"{ME}.json").write_text("{}")
    assert say("pause", "sales@example.com").startswith(f"{ME} paused until")


def test_an_alias_stands_for_its_mailbox_in_every_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAILERD_GMAIL__ALIASES", f'{{"sales@example.com": "{ME}"}}')
    assert say("set", "Sales@example.com", "--per-day", "7").startswith(f"{ME}: ")
    say("pause", "sales@example.com")
    assert say("resume", "sales@example.com").startswith(f"{ME} resumed")
    (shown,) = json.loads(say("list", "--json"))["senders"]
    assert (shown["email"], shown["own"], shown["paused"]) == (ME, ["per_day"], False)


def test_pause_and_resume_say_until_when_and_may_be_repeated() -> None:
    say("set", ME, "--default", "all")
    for _ in range(2):
        assert say("pause", ME, "--reason", "holidays") == f"{ME} paused until it is resumed: holidays\n"
    assert f"{ME}  paused manually  " in (listed := say("list"))
    assert "  holidays" in listed
    assert say("resume", ME) == f"{ME} resumed (before: paused until it is resumed: holidays)\n"
    assert say("resume", ME) == f"{ME} is not paused\n"
    told = say("pause", ME, "--for", "2h")
    assert told.startswith(f"{ME} paused until 20")
    (shown,) = json.loads(say("list", "--json"))["senders"]
    assert (shown["paused"], shown["pause_cause"]) == (True, "manual")
    assert shown["paused_until"]


@pytest.mark.parametrize("reason", ["moved, see [/tickets/17]", "[red]", ":warning: [bold", "[link=x]y[/link]"])
def test_a_reason_is_shown_as_it_was_given(reason: str) -> None:
    say("set", ME, "--default", "all")
    assert say("pause", ME, "--reason", reason) == f"{ME} paused until it is resumed: {reason}\n"
    assert f"  {reason} " in say("list")


def test_a_reason_is_short_and_has_no_control_characters() -> None:
    say("set", ME, "--default", "all")
    with pytest.raises(MailerdError, match=r"Reason: contains the control character U\+001B"):
        say("pause", ME, "--reason", "moving \x1b[31mhouse")
    say("pause", ME, "--reason", "x" * 600)
    (shown,) = json.loads(say("list", "--json"))["senders"]
    assert shown["pause_reason"] == "x" * 200


@pytest.mark.parametrize(
    "words",
    [
        ("set", ME),
        ("set", ME, "--per-day", "-1"),
        ("set", ME, "--profile", "enterprise"),
        ("set", ME, "--warm-up", "fifty"),
        ("set", ME, "--default", "colour"),
        ("pause", ME, "--for", "a while"),
        ("pause", ME, "--for", "0s"),
    ],
)
def test_what_cannot_be_meant_is_refused_and_changes_nothing(words: tuple[str, ...]) -> None:
    say(*words, code=2)
    assert json.loads(say("list", "--json"))["senders"] == []


def test_a_wrong_address_or_an_unknown_sender_is_named() -> None:
    with pytest.raises(MailerdError, match="no-address"):
        say("set", "no-address", "--per-day", "5")
    with pytest.raises(MailerdError, match="unknown sender me@"):
        say("resume", ME)


def test_a_longer_pause_of_googles_is_named_by_its_own_reason(database_url: str) -> None:
    say("set", ME, "--per-day", "10")
    asyncio.run(_paused_by_google(database_url))
    told = say("pause", ME, "--for", "1h", "--reason", "lunch")
    assert told.endswith(": User-rate limit exceeded\n"), "the reason of the pause that stands"


async def _paused_by_google(url: str) -> None:
    database = Database(DatabaseSettings(url=url), events=StoreEvents(Heard()))
    await database.execute(
        "UPDATE senders SET paused_until = UTC_TIMESTAMP(6) + INTERVAL 2 HOUR, pause_cause = 'daily_limit', "
        "pause_reason = 'User-rate limit exceeded'",
        what="pause as Google does",
    )
    await database.close()
