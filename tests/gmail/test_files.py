"""Credential files that come, change and go while the daemon runs."""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from mailerd.config import GmailSettings
from mailerd.core.replies import Accepted, NoCredentials
from mailerd.events.worker import GmailEvents
from mailerd.gmail import Gmail, Mailbox
from mailerd.sandbox.google import SEND, FakeGoogle, RunningServer
from tests.gmail.test_tokens import Later, asked_for_tokens, names

Told = list[tuple[str, Mapping[str, object]]]
SignUp = Callable[..., Path]
ME = "me@example.com"
RAW = b"From: me@example.com\r\nTo: you@example.com\r\nSubject: Hello\r\nX-Mailerd-Key: k1\r\n\r\nHello\r\n"


async def test_a_missing_file_is_named_and_found_when_it_comes(gmail: Gmail, sign_up: SignUp) -> None:
    reply = await gmail.authenticate(ME)
    assert isinstance(reply, NoCredentials)
    assert "me@example.com.json" in reply.cause
    sign_up(ME)
    assert isinstance(await gmail.authenticate(ME), Mailbox)


async def test_a_changed_file_is_taken_up_without_a_restart(
    gmail: Gmail, google: FakeGoogle, sign_up: SignUp, told: Told
) -> None:
    sign_up(ME)
    assert isinstance(await gmail.authenticate(ME), Mailbox)
    sign_up(ME, scopes=(SEND,))
    mailbox = await gmail.authenticate(ME)
    assert isinstance(mailbox, Mailbox)
    assert mailbox.mode == "direct"
    assert names(told).count("credentials_changed") == 1
    assert asked_for_tokens(google) == 2


@pytest.mark.parametrize("change", ["rewritten", "removed", "closed"])
async def test_any_call_notices_a_changed_file_within_a_second(
    settings: GmailSettings, events: GmailEvents, google: FakeGoogle, sign_up: SignUp, change: str
) -> None:
    path = sign_up(ME)
    clock = Later()
    async with Gmail(settings, events=events, concurrency=20, clock=clock) as gmail:
        assert isinstance(await gmail.get_profile(ME), Accepted)
        match change:
            case "rewritten":
                sign_up(ME)
                os.utime(path, ns=(1, 1))
            case "removed":
                path.unlink()
            case _:
                path.chmod(0o644)
        clock.ahead = 1.1
        reply = await gmail.get_profile(ME)
    assert isinstance(reply, Accepted if change == "rewritten" else NoCredentials)
    assert asked_for_tokens(google) == (2 if change == "rewritten" else 1)


async def test_a_mailboxs_own_file_takes_over_from_the_domains(
    settings: GmailSettings, events: GmailEvents, sign_up: SignUp
) -> None:
    sign_up("@example.com", kind="service_account")
    clock = Later()
    async with Gmail(settings, events=events, concurrency=20, clock=clock) as gmail:
        assert isinstance(await gmail.get_profile(ME), Accepted)
        path = sign_up(ME)
        path.write_text("{")
        os.utime(settings.credentials_dir, ns=(1, 1))
        clock.ahead = 1.1
        assert isinstance(await gmail.get_profile(ME), NoCredentials)


async def test_between_looks_no_file_is_touched(gmail: Gmail, sign_up: SignUp, monkeypatch: pytest.MonkeyPatch) -> None:
    sign_up(ME)
    assert isinstance(await gmail.authenticate(ME), Mailbox)
    touched: list[object] = []
    account = gmail._account(ME)
    monkeypatch.setattr(account._dirs, "version", lambda: touched.append(1))
    monkeypatch.setattr(account._dirs, "find", touched.append)
    for _ in range(5):
        assert isinstance(await gmail.get_profile(ME), Accepted)
    assert not touched


async def test_systemds_folder_is_taken_from_the_environment(
    settings: GmailSettings, events: GmailEvents, sign_up: SignUp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = sign_up(ME)
    folder = tmp_path / "systemd"
    folder.mkdir()
    path.rename(folder / f"mailerd.{ME}.json")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(folder))
    async with Gmail(settings, events=events, concurrency=20) as gmail:
        assert isinstance(await gmail.authenticate(ME), Mailbox)


async def test_the_settings_token_address_wins_over_the_files(
    gmail: Gmail, google: FakeGoogle, sign_up: SignUp, running: RunningServer
) -> None:
    for sender, kind in ((ME, "authorized_user"), ("it@example.com", "service_account")):
        path = sign_up(sender, kind=kind)
        path.write_text(json.dumps(json.loads(path.read_text()) | {"token_uri": "http://127.0.0.1:9/steal"}))
        assert isinstance(await gmail.authenticate(sender), Mailbox)
    assert asked_for_tokens(google) >= 2
    assert running.token_uri.endswith("/token")
