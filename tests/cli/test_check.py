"""`mailerd check` as a command: lines, JSON, exit codes."""

import json
import sys
from pathlib import Path

import pytest

from mailerd.cli import main


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
    assert {line.split()[0] for line in lines} == {"PASS", "FAIL"}
    assert all(" -> " in line for line in lines if not line.startswith("PASS"))
    failed, flawed = (sum(start in line for line in lines) for start in ("FAIL  ", " -> "))
    passed, flawed = len(lines) - failed, flawed - failed
    assert flawed
    assert counts == f"{passed} PASS ({flawed} with something to look at), {failed} FAIL"
    assert "hush" not in out


def test_a_password_that_everybody_can_read_is_a_warning(
    nothing_there: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    nothing_there.chmod(0o644)
    assert f"chmod 640 {nothing_there}" in run(monkeypatch, capsys, "--config", str(nothing_there))[1]
    nothing_there.chmod(0o640)
    assert "chmod 640" not in run(monkeypatch, capsys, "--config", str(nothing_there))[1]


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
