"""`mailerd auth`, as a person and a browser use it: a process of its own, the stand-in's page, real redirects."""

import asyncio
import json
import re
import stat
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import aiohttp
import pytest

from mailerd.gmail.credentials import COMPOSE, METADATA, READONLY, SEND
from mailerd.sandbox.google import FakeGoogle, Fault, RunningServer, serve
from tests.cli.conftest import Shop
from tests.support.heard import PATIENCE
from tests.support.prepared import ForkedProcess, PreparedProcess
from tests.support.rows import post, query

REFUSED = (
    "UPDATE senders SET paused_until = UTC_TIMESTAMP(6) + INTERVAL 1 MINUTE, pause_cause = 'token_refused', "
    "pause_reason = 'Google no longer honours the sign-in'"
)
UNREAD = (
    "INSERT INTO mailboxes (email, scope, state, detail, next_at) VALUES (%s, '', 'refused', 'invalid_grant', NOW())"
)
ME, YOU = "me@example.com", "you@example.com"


@dataclass
class Place:
    """A stand-in for Google, a configuration and an OAuth client's file."""

    folder: Path
    google: FakeGoogle
    running: RunningServer
    prepared: PreparedProcess

    @property
    def config(self) -> Path:
        return self.folder / "config.toml"

    @property
    def credentials(self) -> Path:
        return self.folder / "credentials"

    @property
    def file(self) -> Path:
        return self.credentials / f"{ME}.json"

    def saved(self) -> Any:
        return json.loads(self.file.read_text())

    def secrets(self) -> list[str]:
        """Every secret that is known so far."""
        accounts = self.google.accounts
        return [accounts.client_secret, *(c.blob["refresh_token"] for c in accounts.credentials)]


@pytest.fixture
async def place(tmp_path: Path, prepared: PreparedProcess) -> AsyncIterator[Place]:
    google = FakeGoogle()
    google.add_mailbox(ME)
    google.add_mailbox(YOU)
    async with serve(google) as running:
        place = Place(tmp_path, google, running, prepared)
        accounts = google.accounts
        client = {"installed": {"client_id": accounts.client_id, "client_secret": accounts.client_secret}}
        (tmp_path / "client.json").touch(mode=0o600)
        (tmp_path / "client.json").write_text(json.dumps(client))
        place.config.write_text(
            f'[gmail]\napi_root = "{running.url}"\ntoken_uri = "{running.token_uri}"\n'
            f'auth_uri = "{running.url}o/oauth2/v2/auth"\nrequest_timeout = 5\n'
        )
        yield place


@dataclass
class Login:
    """`mailerd auth login` while it waits."""

    process: "Process"
    url: str
    said: str

    @property
    def query(self) -> dict[str, str]:
        return {key: values[0] for key, values in parse_qs(urlsplit(self.url).query).items()}

    async def end(self) -> tuple[int, str]:
        """Its exit code and all that it said."""
        out, err = await asyncio.wait_for(self.process.communicate(), PATIENCE)
        return self.process.returncode or 0, self.said + out.decode() + err.decode()


Start = Callable[..., Awaitable[Login]]


Process = ForkedProcess | asyncio.subprocess.Process


async def command(place: Place, *arguments: str, listed: bool = False) -> Process:
    """`listed`: as `ps` would list it, by its command line."""
    words = (*arguments, "--config", str(place.config))
    if not listed:
        return await place.prepared.start(*words, cwd=place.folder)
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "mailerd", *words, stdout=pipe, stderr=pipe, cwd=place.folder
    )


async def ended(place: Place, *arguments: str) -> tuple[int, str]:
    process = await command(place, *arguments)
    out, err = await asyncio.wait_for(process.communicate(), PATIENCE)
    return process.returncode or 0, out.decode() + err.decode()


@pytest.fixture
async def login(place: Place) -> AsyncIterator[Start]:
    started: list[Process] = []

    async def start(*arguments: str, listed: bool = False) -> Login:
        client = str(place.folder / "client.json")
        process = await command(place, "auth", "login", "--sender", ME, "--client", client, *arguments, listed=listed)
        started.append(process)
        assert process.stdout is not None
        said = ""
        while "Waiting" not in said:
            line = await asyncio.wait_for(process.stdout.readline(), PATIENCE)
            assert line, said + (await process.communicate())[1].decode()
            said += line.decode()
        found = re.search(r"http\S+/auth\?\S+", said)
        assert found
        return Login(process, found[0], said)

    yield start
    for process in started:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def browse(url: str) -> tuple[int, str]:
    """What a browser shows in the end."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60)) as browser, browser.get(url) as page:
        return page.status, await page.text()


async def test_a_sign_in_ends_in_a_file_that_only_its_owner_can_read(place: Place, login: Start) -> None:
    waiting = await login()
    status, page = await browse(waiting.url)
    assert (status, "me@example.com is authorized. You can close this window." in page) == (200, True)
    code, said = await waiting.end()
    assert code == 0, said
    assert "me@example.com is authorized (mode: draft; scopes: gmail.compose). Credential file: " in said
    assert stat.S_IMODE(place.file.stat().st_mode) == 0o600
    assert stat.S_IMODE(place.credentials.stat().st_mode) == 0o700
    saved = place.saved()
    assert (saved["type"], saved["scopes"]) == ("authorized_user", [COMPOSE])
    newest = place.google.accounts.of(ME)[-1]
    assert saved["refresh_token"] == newest.blob["refresh_token"]
    assert [each.name for each in place.credentials.iterdir()] == [place.file.name]


async def test_the_address_asks_for_the_least_with_state_and_pkce(login: Start) -> None:
    query = (await login()).query
    assert query["scope"] == COMPOSE
    assert query["code_challenge_method"] == "S256"
    assert len(query["state"]) >= 40
    assert len(query["code_challenge"]) == 43
    assert (query["access_type"], query["prompt"], query["login_hint"]) == ("offline", "consent", ME)
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/", query["redirect_uri"])


async def test_metadata_and_send_only_are_asked_for_when_they_are_wanted(place: Place, login: Start) -> None:
    waiting = await login("--send-only", "--metadata")
    status, page = await browse(waiting.url)
    assert (status, "is authorized" in page) == (200, True)
    code, said = await waiting.end()
    assert code == 0, said
    assert set(place.saved()["scopes"]) == {SEND, METADATA}
    assert "Not verified" not in said


async def test_a_sign_in_that_would_no_longer_read_the_mailbox_says_so_before_it_begins(login: Start) -> None:
    first = await login("--readonly")
    await browse(first.url)
    assert (await first.end())[0] == 0
    assert "currently has" not in first.said
    warned = await login("--send-only")
    assert "me@example.com currently has gmail.readonly, which this authorization does not request" in warned.said
    assert "press Ctrl-C and add --readonly" in warned.said
    for kept in ("--readonly", "--metadata"):
        assert "does not request" not in (await login(kept)).said


@pytest.mark.parametrize("options", [("--readonly",), ("--metadata",), ("--send-only", "--metadata"), ("--send-only",)])
async def test_a_sign_in_that_is_renewed_requests_what_it_had(
    place: Place, login: Start, options: tuple[str, ...]
) -> None:
    """Every remedy says `mailerd auth login --sender …` alone, and bounces are read all the same afterwards."""
    first = await login(*options)
    await browse(first.url)
    assert (await first.end())[0] == 0
    had = set(place.saved()["scopes"])
    again = await login()
    await browse(again.url)
    assert (await again.end())[0] == 0
    assert set(place.saved()["scopes"]) == had
    assert "does not request" not in again.said


PERSON = {"type": "authorized_user", "client_id": "c", "client_secret": "s", "refresh_token": "t"}


@pytest.mark.parametrize(
    "file, mode, sends",
    [(None, 0, SEND), ({}, 0o600, SEND), ({"scopes": [COMPOSE]}, 0o644, SEND), ({"scopes": [COMPOSE]}, 0o600, COMPOSE)],
    ids=["gone", "without scopes", "readable by all", "of less scopes"],
)
async def test_after_a_revocation_a_sign_in_requests_what_the_daemons_used_last(
    shop: Shop, place: Place, login: Start, database_url: str, file: dict[str, object] | None, mode: int, sends: str
) -> None:
    """The credential file may be gone or another one by then; the database knows what was read."""
    place.config.write_text(f'{place.config.read_text()}[database]\nurl = "{database_url}"\n')
    place.file.unlink()
    if file is not None:
        place.file.write_text(json.dumps(PERSON | file))
        place.file.chmod(mode)
    await post(shop.database)
    await query(shop.database, UNREAD.replace("''", "'readonly'", 1), ME)
    again = await login()
    assert set(again.query["scope"].split()) == {COMPOSE, READONLY}
    assert "does not request" not in again.said
    await query(shop.database, "UPDATE senders SET mode = 'direct'")
    assert set((await login()).query["scope"].split()) == {sends, READONLY}
    assert "does not request" in (await login("--send-only")).said


async def test_with_gmail_send_alone_it_is_said_that_the_account_was_not_verified(place: Place, login: Start) -> None:
    waiting = await login("--send-only")
    await browse(waiting.url.replace("me%40example.com", "you%40example.com"))
    code, said = await waiting.end()
    assert code == 0
    assert "Not verified: whether the account is me@example.com" in said
    assert place.saved()["scopes"] == [SEND]


async def test_another_account_is_refused_and_nothing_is_written(place: Place, login: Start) -> None:
    waiting = await login()
    status, page = await browse(waiting.url.replace("me%40example.com", "you%40example.com"))
    code, said = await waiting.end()
    assert (code, status) == (1, 400)
    assert "the account that agreed is you@example.com, not me@example.com" in said
    assert "you@example.com, not me@example.com" in page
    assert list(place.credentials.iterdir()) == []


async def test_a_sign_in_that_is_declined_changes_nothing(place: Place, login: Start) -> None:
    place.credentials.mkdir()
    place.file.write_text('{"type": "authorized_user", "old": true}')
    waiting = await login()
    query = waiting.query
    await browse(f"{query['redirect_uri']}?error=access_denied&state={query['state']}")
    code, said = await waiting.end()
    assert code == 1
    assert "was not authorized: access was declined in the browser; nothing was changed" in said
    assert place.saved()["old"] is True


async def test_an_answer_with_a_foreign_state_is_refused_and_the_right_one_still_counts(login: Start) -> None:
    waiting = await login()
    back = waiting.query["redirect_uri"]
    assert (await browse(f"{back}?code=stolen&state=wrong"))[0] == 400
    assert (await browse(f"{back}?code=stolen"))[0] == 400
    assert (await browse(f"{back}?error=access_denied"))[0] == 400
    assert (await browse(f"{back}?code=stolen&state=wrong&state={waiting.query['state']}"))[0] == 400
    assert (await browse(f"{back}favicon.ico"))[0] == 404
    assert (await browse(waiting.url))[0] == 200
    code, said = await waiting.end()
    assert code == 0
    assert said.count("does not belong to this sign-in (wrong or missing state)") == 4


async def test_nobody_coming_back_ends_the_wait(place: Place, login: Start) -> None:
    code, said = await (await login("--timeout", "1")).end()
    assert code == 1
    assert "no response from Google within 1 s" in said
    assert not place.file.exists()


async def test_a_scope_whose_box_was_not_ticked_is_named(place: Place, login: Start) -> None:
    waiting = await login("--metadata")
    await browse(re.sub(r"scope=[^&]+", f"scope={METADATA}", waiting.url))
    code, said = await waiting.end()
    assert code == 1
    assert f"{COMPOSE} was not granted" in said
    assert not place.file.exists()


async def test_a_code_that_google_does_not_take_is_told_in_its_words(place: Place, login: Start) -> None:
    waiting = await login()
    query = waiting.query
    await browse(f"{query['redirect_uri']}?code=forged&state={query['state']}")
    code, said = await waiting.end()
    assert code == 1
    assert "invalid_grant: Malformed auth code." in said
    assert not place.file.exists()


async def test_a_token_endpoint_that_repeats_the_request_gives_no_secret_away(place: Place, login: Start) -> None:
    secret = place.google.accounts.client_secret
    place.google.fault(Fault(kind="status", method="token", status=502, body=f"bad gateway: client_secret={secret}&x"))
    waiting = await login()
    status, page = await browse(waiting.url)
    code, said = await waiting.end()
    assert (code, status) == (1, 400)
    assert "bad gateway: client_secret=…" in said
    assert secret not in said + page


def command_line(process: int) -> str:
    """What `ps` shows of it."""
    return Path(f"/proc/{process}/cmdline").read_bytes().decode()


async def test_no_secret_is_said_or_stands_in_the_list_of_processes(place: Place, login: Start) -> None:
    waiting = await login(listed=True)
    shown = command_line(waiting.process.pid)
    assert "login" in shown
    status, page = await browse(waiting.url)
    code, said = await waiting.end()
    assert (code, status) == (0, 200)
    known = [*place.secrets(), *(c for c in place.google.accounts.consents)]
    assert [secret for secret in known if secret in shown + said + page] == []
    assert "4/0A" not in said  # Google's codes


async def test_a_service_accounts_key_is_never_overwritten(place: Place) -> None:
    place.credentials.mkdir()
    place.file.write_text('{"type": "service_account"}')
    code, said = await ended(place, "auth", "login", "--sender", ME, "--client", "client.json")
    assert code == 1
    assert "is a service account's key and was not overwritten" in said


@pytest.mark.parametrize(
    "content, mode, word",
    [
        ('{"installed": {"client_id": "a", "client_secret": "b"}}', 0o644, "chmod 600"),
        ('{"web": {"client_id": "a", "client_secret": "b"}}', 0o600, "web applications"),
        ("{", 0o600, "is not an OAuth client"),
    ],
)
async def test_a_client_that_cannot_serve_is_refused(place: Place, content: str, mode: int, word: str) -> None:
    (place.folder / "other.json").write_text(content)
    (place.folder / "other.json").chmod(mode)
    code, said = await ended(place, "auth", "login", "--sender", ME, "--client", "other.json")
    assert code == 1
    assert word in said


async def test_a_missing_client_is_looked_for_beside_the_mailboxes(place: Place) -> None:
    code, said = await ended(place, "auth", "login", "--sender", ME)
    assert code == 1
    assert "cannot read credentials/client.json" in said
    assert "--client" in said


async def test_the_list_shows_kinds_modes_aliases_and_problems(place: Place) -> None:
    place.credentials.mkdir()
    person = {"type": "authorized_user", "client_id": "c", "client_secret": "hush-1", "refresh_token": "hush-2"}
    service = {"type": "service_account", "client_email": "robot@p.iam", "private_key": "hush-3"}
    files: dict[str, tuple[Any, int]] = {
        f"{ME}.json": (person | {"scopes": [SEND]}, 0o600),
        f"{YOU}.json": (person, 0o640),
        "@example.org.json": (service, 0o600),
        "client.json": ({"installed": {}}, 0o600),
    }
    for name, (content, mode) in files.items():
        (place.credentials / name).write_text(json.dumps(content))
        (place.credentials / name).chmod(mode)
    with place.config.open("a") as config:
        config.write('aliases = {"sales@example.com" = "me@example.com", "lost@example.com" = "gone@example.com"}\n')
    code, said = await ended(place, "auth", "list")
    lines = {line.split()[0]: " ".join(line.split()) for line in said.splitlines() if "@" in line}
    assert code == 1
    assert "authorized_user direct gmail.send" in lines[ME]
    assert "chmod 600" in lines[YOU]
    assert "service_account ? ?" in lines["@example.org"]
    assert "alias of me@example.com" in lines["sales@example.com"]
    assert "gone@example.com has no credential file" in lines["lost@example.com"]
    assert "client.json" not in said
    assert "hush" not in said


async def test_the_list_shows_a_folder_in_brackets_as_it_is(place: Place) -> None:
    (place.folder / "[/old]").mkdir(parents=True)  # two folders, which rich would take for the end of a colour
    place.config.write_text(place.config.read_text() + 'credentials_dir = "[/old]"\n')
    (place.folder / "[/old]" / f"{ME}.json").write_text("{}")
    code, said = await ended(place, "auth", "list")
    assert (code, "Traceback" in said) == (1, False)
    assert str(place.folder / "[/old]" / f"{ME}.json") in said


async def test_the_list_of_nothing_says_how_to_begin(place: Place) -> None:
    code, said = await ended(place, "auth", "list")
    assert code == 0
    assert "mailerd auth login --sender" in said


async def test_the_list_names_a_mailbox_that_google_refuses_and_the_remedy(shop: Shop) -> None:
    assert await shop.say("auth", "list")
    await query(shop.database, UNREAD, ME)
    assert "inbox not readable: invalid_grant" in await shop.say("auth", "list", code=1)
    await post(shop.database)
    await query(shop.database, f"{REFUSED} WHERE email = %s", ME)
    (line,) = [line for line in (await shop.say("auth", "list", code=1)).splitlines() if ME in line]
    assert line.rstrip().endswith(f"cannot send until the authorization is renewed: `mailerd auth login --sender {ME}`")
