"""`mailerd check` as a command: lines, JSON, exit codes."""

import json
import re
import sys
from pathlib import Path

import pytest

from mailerd.cli import main
from tests.cli.conftest import Shop
from tests.support.rows import post, query
from tests.support.terminal import terminal


def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    monkeypatch.setattr(sys, "argv", ["mailerd", "check", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0), capsys.readouterr().out


@pytest.fixture
def nothing_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configuration by which nothing can be reached."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "config.toml"
    path.write_text(
        '[database]\nurl = "mysql://u:hush@127.0.0.1:9/mailerd"\n[intake]\nport = 0\n'
        '[gmail]\napi_root = "http://127.0.0.1:9/"\ntoken_uri = "http://127.0.0.1:9/token"\n'
    )
    return path


def test_a_fail_makes_the_exit_code_1_and_each_finding_a_line(
    nothing_there: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out = run(monkeypatch, capsys, "--config", str(nothing_there))
    *lines, counts = out.splitlines()
    assert code == 1
    assert {line.split()[0] for line in lines} == {"PASS", "WARN", "FAIL"}
    assert all(" -> " in line for line in lines if not line.startswith("PASS"))
    passed, flawed, failed = (sum(line.startswith(word) for line in lines) for word in ("PASS", "WARN", "FAIL"))
    assert counts == f"{passed} PASS, {flawed} WARN, {failed} FAIL"
    assert "hush" not in out


def test_a_password_that_everybody_can_read_is_a_warning(
    nothing_there: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    nothing_there.chmod(0o644)
    assert f"chmod 640 {nothing_there}" in run(monkeypatch, capsys, "--config", str(nothing_there))[1]
    nothing_there.chmod(0o640)
    assert "chmod 640" not in run(monkeypatch, capsys, "--config", str(nothing_there))[1]


async def test_a_warning_fails_when_it_is_asked_for(shop: Shop) -> None:
    await query(
        shop.database,
        "INSERT INTO daemons (id, host, pid, version, started_at, heartbeat_at) "
        "SELECT 'd', 'h', 1, '0', UTC_TIMESTAMP(6), UTC_TIMESTAMP(6)",
    )
    (shop.folder / "credentials").chmod(0o777)
    assert "WARN  credentials folder" in await shop.say("check")
    await shop.say("check", "--strict", code=1)
    assert json.loads(await shop.say("check", "--json", "--strict", code=1))["ok"] is False


async def test_no_daemon_is_a_warning_and_a_fail_while_messages_wait(shop: Shop) -> None:
    assert "WARN  daemons               No daemon runs; nothing waits. -> systemctl" in await shop.say("check")
    await post(shop.database, recipients=3)
    assert "FAIL  daemons               No daemon runs; 3 messages wait. -> systemctl start mailerd" in await shop.say(
        "check", code=1
    )
    await query(
        shop.database,
        "INSERT INTO daemons (id, host, pid, version, started_at, heartbeat_at) "
        "SELECT 'd', 'h', 1, '0', UTC_TIMESTAMP(6), UTC_TIMESTAMP(6) - INTERVAL 100 SECOND",
    )
    said = await shop.say("check", code=1)
    assert re.search(
        r"^FAIL  daemons  .* No daemon responds, the last one was seen .* ago; 3 messages wait. -> ", said, re.MULTILINE
    )
    await query(shop.database, "UPDATE daemons SET heartbeat_at = UTC_TIMESTAMP(6)")
    assert re.search(
        r"^PASS  daemons  .* running \(last seen .* ago\); 3 messages waiting$", await shop.say("check"), re.MULTILINE
    )


async def test_on_a_terminal_a_long_finding_goes_on_below_itself_and_no_word_is_broken(
    nothing_there: Path, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "mailerd", "check", "--config", str(nothing_there)]
    async with terminal(command, columns=80, rows=60, folder=tmp_path) as screen:
        await screen.shows(" FAIL")
        assert "database.url" in screen.text


def test_json_says_the_same_for_programs(
    nothing_there: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out = run(monkeypatch, capsys, "--json", "--config", str(nothing_there))
    said = json.loads(out)
    assert (code, said["ok"]) == (1, False)
    assert {"level", "check", "what", "remedy"} == set(said["findings"][0])
    assert next(each for each in said["findings"] if each["check"] == "database")["level"] == "FAIL"


def test_a_configuration_that_cannot_be_used_is_a_finding_too(
    nothing_there: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    nothing_there.write_text("[gmail]\nreqest_timeout = 3\n")
    code, out = run(monkeypatch, capsys, "--config", str(nothing_there))
    assert code == 1
    assert out.startswith("FAIL  configuration")
    assert "gmail.reqest_timeout: unknown key" in out


def test_a_dotenv_that_is_used_is_named_and_one_that_others_can_write_to_fails(
    nothing_there: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    dotenv = nothing_there.parent / ".env"
    dotenv.write_text("MAILERD_LOG__LEVEL=debug\nDATABASE_URL=mysql://u:hush@127.0.0.1:9/mailerd\n")
    dotenv.chmod(0o600)
    out = run(monkeypatch, capsys, "--config", str(nothing_there))[1]
    assert f"{dotenv} also sets DATABASE_URL, MAILERD_LOG__LEVEL" in out
    assert "hush" not in out
    dotenv.chmod(0o666)
    code, out = run(monkeypatch, capsys, "--config", str(nothing_there))
    assert (code, out.split()[0]) == (1, "FAIL")
    assert f"{dotenv} is not used: others can write to it (mode 0666)" in out


async def test_keys_of_the_suppressions_that_are_gone_are_a_fail(shop: Shop) -> None:
    await shop.say("suppress", "add", "ada@example.com")
    assert "database: secrets" not in await shop.say("check")
    await query(shop.database, "DELETE FROM secrets")
    assert "FAIL  database: secrets     the keys of the suppressions are missing" in await shop.say("check", code=1)
    assert "mailerd cannot run: the table secrets lacks the keys" in await shop.say("run", code=1)
