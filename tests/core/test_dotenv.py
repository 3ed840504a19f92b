"""`.env` in the working folder: used only when nobody but its user or root can have written it, and then named."""

import os
from pathlib import Path

import pytest

from mailerd.config import dotenv_in_use, found, load
from mailerd.errors import ConfigurationError
from tests.core.conftest import GiveAway

PLANTED = "MAILERD_GMAIL__TOKEN_URI=http://127.0.0.1:9/\n"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "work"
    folder.mkdir(mode=0o755)
    monkeypatch.chdir(folder)
    return folder


def planted(text: str = PLANTED, *, mode: int = 0o600) -> Path:
    path = Path(".env").absolute()
    path.write_text(text, "utf-8")
    path.chmod(mode)
    return path


def test_a_line_that_cannot_be_read_is_named_with_its_file(caplog: pytest.LogCaptureFixture) -> None:
    path = planted("MAILERD_LOG__LEVEL=debug\nexport this is none\n")
    assert load(environment={}).log.level == "debug"
    assert f"{path}: line 2 is not valid and was skipped; write NAME=value" in caplog.text


def refusal() -> str:
    with pytest.raises(ConfigurationError) as caught:
        load(environment={})
    with pytest.raises(ConfigurationError):
        found()  # nor does it name the configuration file
    return str(caught.value)


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o644])
def test_a_file_of_ones_own_is_used_and_named_without_its_values(mode: int) -> None:
    path = planted(PLANTED + "DATABASE_URL=mysql://u:secret@h/d\nOTHER=x\n", mode=mode)
    assert load(environment={}).gmail.token_uri == "http://127.0.0.1:9/"
    assert dotenv_in_use() == (path, ["DATABASE_URL", "MAILERD_GMAIL__TOKEN_URI"])


def test_a_file_that_sets_nothing_of_ours_is_not_named() -> None:
    planted("OTHER=x\n")
    assert dotenv_in_use() is None


def test_somebody_elses_file_is_refused(give_away: GiveAway) -> None:
    path = planted(mode=0o644)
    give_away(path)
    said = refusal()
    assert f"{path} is not used: it belongs to the user" in said
    assert f"chown {os.geteuid()} {path}" in said


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_file_that_others_can_write_to_is_refused(mode: int) -> None:
    path = planted(mode=mode)
    assert f"others can write to it (mode {mode:04o})" in (said := refusal())
    assert f"chmod go-w {path}" in said


def test_a_link_of_ones_own_to_a_file_of_ones_own_is_used(tmp_path: Path) -> None:
    (tmp_path / "shared.env").write_text(PLANTED)
    (tmp_path / "shared.env").chmod(0o600)
    Path(".env").symlink_to(tmp_path / "shared.env")
    assert load(environment={}).gmail.token_uri == "http://127.0.0.1:9/"


def test_a_link_of_ones_own_to_somebody_elses_file_is_refused(tmp_path: Path, give_away: GiveAway) -> None:
    target = tmp_path / "theirs.env"
    target.write_text(PLANTED)
    target.chmod(0o644)
    Path(".env").symlink_to(target)
    give_away(target)
    assert "it belongs to the user" in refusal()


def test_somebody_elses_link_to_a_file_of_ones_own_is_refused(tmp_path: Path, give_away: GiveAway) -> None:
    target = tmp_path / "other.env"
    target.write_text(PLANTED)
    target.chmod(0o600)
    link = Path(".env").absolute()
    link.symlink_to(target)
    give_away(link)
    assert "it is a link of the user" in refusal()


def test_a_file_in_somebody_elses_folder_is_refused(folder: Path, give_away: GiveAway) -> None:
    planted()
    give_away(folder)
    assert "its folder belongs to the user" in refusal()


def test_a_file_in_a_folder_of_everybodys_is_refused_unless_nobody_can_replace_it(folder: Path) -> None:
    planted()
    folder.chmod(0o777)
    assert "everyone can put files into its folder" in refusal()
    folder.chmod(0o1777)
    assert dotenv_in_use() is not None


def test_a_named_pipe_is_refused_at_once_and_not_waited_for() -> None:
    os.mkfifo(".env", 0o600)
    assert "it is not a regular file" in refusal()


def test_a_virtual_environment_of_that_name_and_a_link_to_nothing_are_no_settings() -> None:
    Path(".env").mkdir()
    assert dotenv_in_use() is None
    Path(".env").rmdir()
    Path(".env").symlink_to("nowhere")
    assert dotenv_in_use() is None


def test_somebody_elses_folder_without_a_file_is_no_trouble(folder: Path, give_away: GiveAway) -> None:
    give_away(folder)
    load(environment={})
