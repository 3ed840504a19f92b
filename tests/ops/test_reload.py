"""SIGHUP: a good file changes the pace of everything that goes by it, a bad one changes nothing and is told."""

import asyncio
import signal
import sys
from pathlib import Path

import pytest

from mailerd.config import LogSettings, Settings
from mailerd.errors import ConfigurationError
from mailerd.sandbox.google import FakeGoogle, FakeLimits, serve
from tests.support.daemon import running, settings
from tests.support.eventually import eventually
from tests.support.heard import Heard
from tests.support.rows import post
from tests.support.terminal import terminal


async def test_claims_forecasts_and_look_ups_all_go_by_the_new_pace(database_url: str, tmp_path: Path) -> None:
    heard, configured = Heard(), list[LogSettings]()
    (where := tmp_path / "credentials").mkdir()
    async with serve(FakeGoogle(FakeLimits())) as gmail, running(settings(database_url, gmail, where), heard) as daemon:
        job = await post(daemon.database, recipients=2)  # it waits: there is no credential file
        new = settings(database_url, gmail, where, pace={"per_minute": 7}, runner={"concurrency": 3})
        daemon.reload(lambda: new, configured.append)
        outlook = await daemon.intake._forecasts.read(job)
        stats = await daemon.service.stats.read()
        looks = daemon.recovery.reconciler.gmail.rate_limits.defaults.now
    assert daemon.claims.defaults.now.default.per_minute == 7
    assert outlook is not None
    assert outlook.sender.limits.per_minute == 7
    assert looks.default.per_minute == 7
    assert [sender.per_minute for sender in stats.senders] == [7]
    assert configured == [new.log]
    assert "restart needed for runner" in heard.of("settings_reloaded")[0]["what"]


async def test_a_file_that_cannot_be_used_changes_nothing_and_is_told(database_url: str, tmp_path: Path) -> None:
    heard, configured = Heard(), list[LogSettings]()
    (where := tmp_path / "credentials").mkdir()

    def refuse() -> Settings:
        raise ConfigurationError("pace.per_day: many")

    async with serve(FakeGoogle(FakeLimits())) as gmail, running(settings(database_url, gmail, where), heard) as daemon:
        before = daemon.claims.defaults.now
        daemon.reload(refuse, configured.append)
        assert daemon.claims.defaults.now == before
        assert "could not be reloaded" in daemon.service.watchdog._status()
    assert configured == []
    assert heard.of("settings_refused") == [{"cause": "pace.per_day: many"}]
    assert heard.of("settings_reloaded") == []


async def test_every_section_that_needs_a_restart_is_named(database_url: str, tmp_path: Path) -> None:
    heard = Heard()
    (where := tmp_path / "credentials").mkdir()
    async with serve(FakeGoogle(FakeLimits())) as gmail, running(settings(database_url, gmail, where), heard) as daemon:
        new = settings(
            database_url, gmail, where, templates={"folder": "/srv/templates"}, intake={"port": 0, "max_body": 1000},
            log={"level": "debug"}, alerts={"unsure": 60},
        )  # fmt: skip
        daemon.reload(lambda: new, lambda _: None, file="/etc/mailerd/two.toml")
    assert heard.of("settings_reloaded")[0]["file"] == "/etc/mailerd/two.toml"
    assert heard.of("settings_reloaded")[0]["what"] == (
        "sending limits, log and alerts; restart needed for intake, templates"
    )


async def test_whatever_goes_wrong_systemd_hears_that_the_reload_is_over(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard, said = Heard(), list[str]()
    (where := tmp_path / "credentials").mkdir()

    def break_down() -> Settings:
        raise ZeroDivisionError

    async with serve(FakeGoogle(FakeLimits())) as gmail, running(settings(database_url, gmail, where), heard) as daemon:
        monkeypatch.setattr(daemon.service.watchdog.systemd, "_say", said.append)
        daemon.reload(break_down, lambda _: None)
    assert said[0].startswith("RELOADING=1")
    assert said[1].startswith("READY=1\nSTATUS=the settings could not be reloaded")
    assert isinstance(heard.of("reload_failed")[0]["error"], ZeroDivisionError)
    assert heard.of("settings_reloaded") == []


async def test_a_daemon_in_a_terminal_ends_with_it_and_one_in_a_file_reloads(database_url: str, tmp_path: Path) -> None:
    config = tmp_path / "mailerd.toml"
    config.write_text(f'[database]\nurl = "{database_url}"\n[intake]\nport = 0\n')
    command = [sys.executable, "-m", "mailerd", "run", "--config", str(config)]
    async with terminal(command, columns=80, rows=24, folder=tmp_path) as screen:
        await screen.shows("API listening on")
        await screen.shows("runner")
        screen.process.send_signal(signal.SIGHUP)
        await screen.shows("stopped")
        assert await asyncio.to_thread(screen.process.wait, 20) == 0
    with (tmp_path / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(*command, stderr=log, cwd=tmp_path)
    try:
        await eventually(lambda: logged(tmp_path / "log", "API listening on"))
        process.send_signal(signal.SIGHUP)
        await eventually(lambda: logged(tmp_path / "log", f"reloaded from {config}: sending limits, log and alerts"))
    finally:
        process.terminate()
        await process.wait()


async def logged(file: Path, words: str) -> bool:
    return words in await asyncio.to_thread(file.read_text, "utf-8")
