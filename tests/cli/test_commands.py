"""What holds for every command: --config before and after its name, and trouble that is told in one line."""

import asyncio
import fcntl
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from yarl import URL

from mailerd import __version__
from mailerd.cli import failure, lazy_group, main
from mailerd.cli.common import CONNECT_TIMEOUT, no_log, open_database
from mailerd.config.discovery import Found
from mailerd.errors import DatabaseAwayError, DatabaseError, MailerdError
from mailerd.sandbox.mariadb import Server
from tests.cli.conftest import ME, Shop
from tests.house.source import modules
from tests.support.certificates import authority_and_server
from tests.support.read_only import DEMOTED, as_admin
from tests.support.rogue import Rogue
from tests.support.rows import post, query
from tests.support.terminal import terminal

NO_FILE = re.escape(f"mailerd: {Found(None)}\n")
"""It also says so where a sandbox of this checkout has ended."""


def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["mailerd", *words])
    monkeypatch.setattr(failure, "_taken", [])  # a process of its own has taken none
    monkeypatch.setenv("MAILERD_CONFIG", "")  # so that what the command sets is taken away again
    with pytest.raises(SystemExit) as ended:
        main()
    out, err = capsys.readouterr()
    return int(ended.value.code or 0), out, err


def test_every_command_takes_config() -> None:
    stack: list[tuple[str, Any]] = [(name, lazy_group.load(name)) for name in lazy_group.COMMANDS]
    without = []
    while stack:
        name, command = stack.pop()
        inner = getattr(command, "commands", {})
        stack += [(f"{name} {word}", each) for word, each in inner.items()]
        if not inner and not any("--config" in option.opts for option in command.params):
            without.append(name)
    assert without == []


def test_a_folder_that_cannot_be_made_is_said_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    code, out, err = run(monkeypatch, capsys, "install-files", str(tmp_path / "file"))
    assert (code, out) == (1, "")
    assert err.startswith(f"mailerd: could not write {tmp_path}/file/")
    assert err.endswith(". It and the remaining files were not copied\n")


def test_the_list_of_commands_says_what_each_says_of_itself() -> None:
    short = {name: lazy_group.load(name).help.partition("\n\n")[0] for name in lazy_group.COMMANDS}
    assert {name: " ".join(help_.split()) for name, help_ in short.items()} == {
        name: command.help for name, command in lazy_group.COMMANDS.items()
    }


HEAVY = [
    "aiogoogle", "aiohttp", "aiomysql", "css_inline", "jinja2", "loguru", "prometheus_client", "pydantic_settings",
    "rich.console", "rich.markdown",
]  # fmt: skip


@pytest.mark.parametrize(
    "words, allowed",
    [
        (["--help"], set[str]()),
        (["version"], set[str]()),
        (["jobs", "--help"], {"aiomysql", "loguru", "pydantic_settings", "rich.console"}),
        (["senders", "list", "--help"], {"aiomysql", "loguru", "pydantic_settings", "rich.console"}),
        (["config", "--help"], {"aiomysql", "loguru", "pydantic_settings"}),
    ],
)
def test_a_command_imports_only_what_it_needs(words: list[str], allowed: set[str]) -> None:
    script = f"""
import sys
from mailerd.cli import main
sys.argv = {["mailerd", *words]}
try:
    main()
finally:
    print("imported:", *sorted(set({HEAVY}) & set(sys.modules)))
"""
    ended = subprocess.run([sys.executable, "-c", script], check=True, timeout=60, capture_output=True, text=True)
    assert set(ended.stdout.splitlines()[-1].split()[1:]) <= allowed


def test_config_may_stand_before_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad = tmp_path / "good.toml", tmp_path / "bad.toml"
    good.write_text("[intake]\nport = 0\n")
    bad.write_text("[intake]\nprot = 0\n")
    assert run(monkeypatch, capsys, "--config", str(good), "config")[0] == 0
    code, _, said = run(monkeypatch, capsys, "--config", str(bad), "config")
    assert (code, "intake.prot: unknown key" in said) == (2, True)
    assert run(monkeypatch, capsys, "--config", str(bad), "config", "--config", str(good))[0] == 0
    assert run(monkeypatch, capsys, "version", "--config", str(good))[0] == 0
    assert run(monkeypatch, capsys, "auth", "--config", str(good), "list")[0] == 0
    assert run(monkeypatch, capsys, "auth", "--config", str(bad), "list", "--config", str(good))[0] == 0


@pytest.mark.parametrize("group, command", [("keys", "list"), ("auth", "list"), ("sandbox", "faults")])
def test_config_may_stand_between_a_group_and_its_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *, group: str, command: str
) -> None:
    bad = tmp_path / "bad.toml"
    bad.write_text("[intake]\nprot = 0\n")
    code, _, said = run(monkeypatch, capsys, group, "--config", str(bad), command)
    assert (code, "intake.prot: unknown key" in said) == (2, True)


def test_a_command_that_fails_says_which_configuration_it_took(tmp_path: Path) -> None:
    written = '[database]\nurl = "mysql://u@127.0.0.1:9/mailerd"\nconnect_attempts = 1\n'
    (tmp_path / "mailerd.toml").write_text(written)
    (tmp_path / "mailerd.toml").chmod(0o600)
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MAILERD_", "DATABASE_URL"))}
    for words, code in ((("jobs", "list"), 1), (("audit",), 3)):
        ended = subprocess.run(
            [sys.executable, "-m", "mailerd", *words], cwd=tmp_path, env=clean, timeout=60, check=False,
            capture_output=True, text=True,
        )  # fmt: skip
        assert ended.returncode == code
        last = ended.stderr.splitlines()[-1]
        assert last == f"mailerd: using {tmp_path / 'mailerd.toml'}"


def test_a_way_of_alerts_that_a_daemon_refuses_to_start_with_is_no_good_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("apprise", reason="apprise is not installed (pip install 'mailerd[alerts]')")
    known = tmp_path / "mailerd.toml"
    known.write_text('[database]\nurl = "mysql://u@127.0.0.1:9/mailerd"\n[alerts]\nurls = ["nonsense://hush"]\n')
    code, out, said = run(monkeypatch, capsys, "--config", str(known), "config")
    assert (code, "alerts.urls: number 1 is not an address that apprise knows" in said) == (2, True)
    assert "configured (not tested)" not in out
    assert "hush" not in said
    code, out, _ = run(monkeypatch, capsys, "--config", str(known), "check")
    assert re.search(
        r"^FAIL  alerts +alerts.urls: number 1 is not an address that apprise knows -> ", out, re.MULTILINE
    )
    known.write_text(known.read_text().replace("nonsense://hush", "json://127.0.0.1/hush"))
    assert run(monkeypatch, capsys, "--config", str(known), "config")[0] == 0
    assert (
        "PASS  alerts                1 channel configured (not tested)"
        in run(monkeypatch, capsys, "--config", str(known), "check")[1]
    )


def test_dotenv_names_the_file_for_every_command_and_the_environment_wins(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("MAILERD_CONFIG=bad.toml\n")
    (tmp_path / "bad.toml").write_text("[intake]\nprot = 0\n")
    (tmp_path / "good.toml").write_text("[intake]\nport = 0\n")
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MAILERD_")}
    for environment, code in (({}, 2), ({"MAILERD_CONFIG": "good.toml"}, 0)):
        ended = subprocess.run(
            [sys.executable, "-m", "mailerd", "config"], cwd=tmp_path, env=clean | environment, timeout=60, check=False
        )
        assert ended.returncode == code


def test_the_daemon_names_the_dotenv_that_it_uses_and_does_not_start_with_one_of_others(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("MAILERD_INTAKE__PORT=0\nDATABASE_URL=mysql://u:hush@127.0.0.1:9/mailerd\n")
    (tmp_path / ".env").chmod(0o600)
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MAILERD_")}
    command = [sys.executable, "-m", "mailerd", "run"]
    with subprocess.Popen(command, cwd=tmp_path, env=clean, stderr=subprocess.PIPE, text=True) as daemon:
        assert daemon.stderr is not None
        first = daemon.stderr.readline()
        daemon.terminate()
    assert first.strip().endswith(f"settings also read from {tmp_path / '.env'}: DATABASE_URL, MAILERD_INTAKE__PORT")
    (tmp_path / ".env").chmod(0o622)
    ended = subprocess.run(command, cwd=tmp_path, env=clean, timeout=60, check=False, capture_output=True, text=True)
    assert ended.returncode == 2
    assert f"mailerd: {tmp_path / '.env'} is not used: others can write to it (mode 0622)" in ended.stderr


def test_every_table_goes_through_the_console_that_takes_text_for_text() -> None:
    others = [path for path in modules("mailerd/cli") if path.name != "tables.py"]
    assert [path.name for path in others if "Console(" in path.read_text("utf-8")] == []


@pytest.mark.parametrize(
    "words, ends_with", [(("jobs", "list"), 1), (("audit",), 3), (("migrate",), 1), (("senders", "list"), 1)]
)
def test_a_database_that_is_away_is_one_line_with_its_remedy(
    words: tuple[str, ...], ends_with: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATABASE_URL", "mysql://u:hush@127.0.0.1:9/mailerd")
    monkeypatch.setenv("MAILERD_DATABASE__CONNECT_ATTEMPTS", "1")
    code, out, said = run(monkeypatch, capsys, *words)
    assert (code, out) == (ends_with, "")
    assert re.fullmatch(
        r"mailerd: database 127.0.0.1:9 unavailable: .*Connection refused; check that the server is running, .*\n"
        + NO_FILE,
        said,
    )
    monkeypatch.setenv("MAILERD_LOG__LEVEL", "debug")
    assert "Traceback" in run(monkeypatch, capsys, *words)[2]


def test_a_database_that_takes_no_writes_is_one_line_with_its_remedy(
    mariadb: Server, database_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATABASE_URL", database_url)
    assert run(monkeypatch, capsys, "migrate")[0] == 0
    as_admin(mariadb, f"{DEMOTED}ON")
    try:
        assert run(monkeypatch, capsys, "jobs", "list")[0] == 0
        code, out, said = run(monkeypatch, capsys, "keys", "create", "shop")
    finally:
        as_admin(mariadb, f"{DEMOTED}OFF")
    assert (code, out) == (1, "")
    assert re.fullmatch(
        r"mailerd: database \S+: accepts no writes: the server is read-only \(read_only\); point database.url at .*\n"
        + NO_FILE,
        said,
    )


@pytest.mark.parametrize("kind", [DatabaseAwayError, DatabaseError])
async def test_a_command_whose_commit_got_no_answer_says_that_it_may_have_been_done(
    shop: Shop, kind: type[DatabaseError]
) -> None:
    with pytest.raises(
        MailerdError, match=r"unconfirmed.confirm: commit: .*\. The change may have been made; check before"
    ):
        async with open_database(shop.settings, no_log):
            raise kind("unconfirmed.confirm", phase="commit", cause=OSError(), errno=0, retry=True, in_doubt=True)


def test_a_socket_that_is_not_there_is_named_with_its_remedy(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATABASE_URL", "mysql://u@localhost/mailerd?unix_socket=/run/nosuch.sock")
    monkeypatch.setenv("MAILERD_DATABASE__CONNECT_ATTEMPTS", "1")
    code, _, said = run(monkeypatch, capsys, "jobs", "list")
    assert code == 1
    assert (
        "No such file or directory; check that the server is running, that its socket is /run/nosuch.sock and" in said
    )
    assert "firewall" not in said
    _, said, _ = run(monkeypatch, capsys, "check")
    assert "-> check that the server is running, that its socket is /run/nosuch.sock" in said


@pytest.mark.parametrize("words", [("jobs", "list"), ("migrate",), ("run",), ("check",)])
@pytest.mark.parametrize("content", [None, "no certificate"])
def test_an_authority_that_cannot_be_read_is_an_error_of_the_configuration(
    content: str | None, words: tuple[str, ...], tmp_path: Path
) -> None:
    authority = tmp_path / "typo.pem"
    if content is not None:
        authority.write_text(content)
    address = f"mysql://u:hush@127.0.0.1:9/mailerd?ssl_ca={authority}"
    done = subprocess.run(
        [sys.executable, "-m", "mailerd", *words], cwd=tmp_path, capture_output=True, text=True, timeout=60,
        check=False, env=os.environ | {"DATABASE_URL": address, "MAILERD_INTAKE__PORT": "0"},
    )  # fmt: skip
    said = done.stdout + done.stderr
    assert done.returncode == (1 if words == ("check",) else 2), said
    why = "No such file or directory" if content is None else "no certificate or crl found"
    assert re.search(rf"database.url: ssl_ca {authority} cannot be used: .*{why}.*(;|->) correct the path", said)
    assert "Traceback" not in said


@pytest.mark.parametrize(
    "words",
    [
        ("jobs", "list"),
        ("jobs", "show", "01M87579BANMVD7VSZZ1762YXX"),
        ("jobs", "watch", "01M87579BANMVD7VSZZ1762YXX"),
        ("jobs", "pause", "01M87579BANMVD7VSZZ1762YXX"),
        ("explain", "7"),
        ("top", "--once"),
        ("audit",),
        ("settle", "7", "--sent"),
        ("senders", "list"),
        ("keys", "list"),
    ],
)
def test_a_schema_that_is_older_is_one_line_with_its_remedy(
    fresh_database_url: str, words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATABASE_URL", fresh_database_url)
    code, out, said = run(monkeypatch, capsys, *words)
    assert (code, out) == (3 if words == ("audit",) else 1, "")
    assert re.fullmatch(rf"mailerd: the database schema is at migration 0, .* run `mailerd migrate`\n{NO_FILE}", said)


async def test_a_message_cannot_be_settled_as_sent_and_as_not_sent(shop: Shop) -> None:
    await post(shop.database, recipients=1)
    await query(shop.database, "UPDATE job_recipients SET status = 'unsure', mode = 'direct'")
    [(recipient,)] = await query(shop.database, "SELECT id FROM job_recipients")
    for words in ((), ("--sent", "--not-sent"), ("--not-sent", "--sent")):
        assert "give either --sent or --not-sent" in await shop.say("settle", str(recipient), *words, code=2)
    for message in ("x" * 129, "two words", "a\nb"):
        said = await shop.say("settle", str(recipient), "--sent", "--message-id", message, code=2)
        assert "--message-id must have 1 to 128 printable ASCII characters" in said
    assert await query(shop.database, "SELECT status FROM job_recipients") == [("unsure",)]
    assert "is now waiting" in await shop.say("settle", str(recipient), "--not-sent")


async def test_a_frozen_database_is_told_after_one_attempt_of_a_few_seconds(shop: Shop, mariadb: Server) -> None:
    job = await post(shop.database)
    shop.config.write_text(shop.config.read_text().replace("connect_timeout = 5\n", ""))  # 10 s, three times
    mariadb.freeze()
    try:
        for words in (("jobs", "list"), ("explain", job)):
            loading = time.monotonic()
            await shop.say("config")  # asks no database
            began = time.monotonic()
            said = await shop.say(*words, code=1)
            took = time.monotonic() - began
            assert "unavailable: no response within the time-out; check that" in said
            assert CONNECT_TIMEOUT < took < 2 * CONNECT_TIMEOUT + 3 * (began - loading), "one attempt and its program"
    finally:
        mariadb.thaw()


@pytest.mark.parametrize("words", [("--version",), ("version",)])
def test_the_version_is_told(
    words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, capsys, *words)[:2] == (0, f"{__version__}\n")


@pytest.mark.parametrize("words", [("jobs", "list"), ("keys", "list"), ("senders", "list"), ("auth", "list")])
async def test_every_list_is_there_as_json(shop: Shop, words: tuple[str, ...]) -> None:
    job = await post(shop.database)
    await shop.say("keys", "create", "shop")
    (found,) = json.loads(await shop.say(*words, "--json"))["mailboxes" if words[0] == "auth" else words[0]]
    assert {"jobs": job, "keys": "shop", "senders": ME, "auth": ME}[words[0]] in found.values()


async def test_a_new_key_is_printed_alone_for_scripts(shop: Shop) -> None:
    [secret] = (await shop.say("keys", "create", "shop", "--quiet")).splitlines()
    assert re.fullmatch(r"sk_live_\S+", secret)
    assert secret[-4:] in await shop.say("keys", "list")


async def test_the_templates_are_listed(shop: Shop) -> None:
    template = shop.folder / "templates" / "welcome"
    (template / "zh").mkdir(parents=True)
    (template / "template.toml").write_text('[variables]\nproduct = "Tea"\n')
    for folder in (template, template / "zh"):
        (folder / "subject.txt").write_text("Hello")
        (folder / "body.txt").write_text("{{ product }}")
    (it,) = json.loads(await shop.say("templates", "list", "--json"))["templates"]
    assert (it["name"], it["languages"], it["variables"]) == ("welcome", ["zh"], {"product": "Tea"})
    assert "welcome" in await shop.say("templates", "list")
    names = [f"variable_{number}" for number in range(20)]
    (template / "template.toml").write_text("[variables]\n" + "".join(f'{name} = "x"\n' for name in names))
    told = await shop.say("templates", "list")
    assert all(name in told for name in names), "a pipe gets all of it"
    (template / "template.toml").write_text("[")
    assert "welcome: " in await shop.say("templates", "list", code=1)


@pytest.mark.parametrize("words", [("senders", "list"), ("keys", "list"), ("jobs", "list")])
async def test_a_list_fits_into_a_window_of_80_columns(shop: Shop, words: tuple[str, ...]) -> None:
    await post(shop.database, sender="a-long-name-of-a-mailbox-for-once@example.com")
    await post(shop.database)
    await shop.say("senders", "set", ME, "--per-day", "1500")
    await shop.say("keys", "create", "a long name of a key for once", "--sender", ME, "--sender", "you@example.com")
    command = [sys.executable, "-m", "mailerd", *words, "--config", str(shop.config)]
    async with terminal(command, columns=80, rows=24, folder=shop.folder) as screen:
        await screen.ends()
        shown = [line.rstrip() for line in screen.text.splitlines()]
    assert len([line for line in shown if "me@example" in line or "a long name" in line]) >= 1, screen.text
    # A note under the list says what is wrong with one of its rows in whole: a terminal wraps it.
    heading, *rows = [line for line in shown if line and not line.startswith("*: ") and " -> " not in line]
    assert all(len(line) <= 80 for line in (heading, *rows)), screen.text
    assert len(rows) == {"senders": 2, "keys": 1, "jobs": 2}[words[0]], "a line each"
    assert ("*: own limit. To use the configured limits again: `mailerd senders set" in screen.text) is (
        words[0] == "senders"
    )


@pytest.mark.parametrize("hidden, why, remedy", [
    ("", "the server does not offer TLS", "remove ssl and ssl_ca"),
    ("TLS", "unable to get local issuer", "as ssl_ca=…"),
])  # fmt: skip
async def test_a_connection_without_tls_is_one_cause_and_one_remedy_in_every_command(
    shop: Shop, tmp_path: Path, hidden: str, why: str, remedy: str
) -> None:
    _, *theirs = authority_and_server(tmp_path)
    with Rogue(tls=(theirs[0], theirs[1]) if hidden else None) as rogue:
        text = shop.config.read_text().replace(shop.settings.database.url, rogue.url("hush", "?ssl=true"))
        shop.config.write_text(text)
        told = [await shop.say(command, code=1) for command in ("migrate", "check")]
    for said in told:
        assert why in said
        assert remedy in said
        for wrong in ("rejects the login", "firewall", "user and password"):
            assert wrong not in said


async def test_a_command_says_that_it_does_not_take_the_sandbox_that_runs_here(shop: Shop) -> None:
    (shop.folder / "mailerd.toml").write_text(shop.config.read_text())
    (shop.folder / "mailerd.toml").chmod(0o600)
    (sandbox := shop.folder / ".sandbox").mkdir()
    (sandbox / "mailerd.toml").touch(mode=0o600)
    with (sandbox / "running").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = await asyncio.to_thread(
            subprocess.run, [sys.executable, "-m", "mailerd", "config"], cwd=shop.folder, capture_output=True,
            text=True, timeout=60, check=True,
        )  # fmt: skip
    assert done.stderr == "using ./mailerd.toml, not the sandbox that is running here\n"


async def test_a_wrong_password_is_not_called_away(shop: Shop) -> None:
    url = shop.settings.database.url
    wrong = str(URL(url).with_password("wrong").with_user("nobody"))
    shop.config.write_text(shop.config.read_text().replace(url, wrong))
    said = await shop.say("jobs", "list", code=1)
    assert "rejects the login: Access denied for user 'nobody'" in said
    assert "correct user and password in database.url" in said
    assert "unavailable" not in said
    assert "firewall" not in said


async def test_a_key_for_everything_is_made_by_no_option_or_by_all_and_never_by_an_empty_one(shop: Shop) -> None:
    all_, empty = ("--sender", "all", "--call", "all"), ("--sender", "", "--call", "")
    for name, *options in (("plain",), ("named", *all_), ("half", *all_[:2], "--call", "read")):
        await shop.say("keys", "create", name, *options, "--quiet")
    some = ("--sender", ME, "--call", "read")
    for code, *options in ((1, *empty[:2]), (2, *empty[2:]), (1, *all_[:2], *some[:2]), (1, *some[2:], *all_[2:])):
        await shop.say("keys", "create", "other", *options, code=code)
    rows = await query(shop.database, "SELECT name, senders, permissions FROM api_keys ORDER BY id")
    assert rows == [("plain", None, None), ("named", None, None), ("half", None, '["read"]')]
