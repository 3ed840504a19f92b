"""Which configuration file is used, of all that could be; and that nobody else's is."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mailerd.config import load
from mailerd.config.discovery import Found, find
from mailerd.errors import ConfigurationError
from tests.core.conftest import GiveAway


@pytest.fixture(autouse=True)
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "checkout"
    folder.mkdir(mode=0o755)
    monkeypatch.chdir(folder)
    return folder


def written(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("[intake]\nport = 0\n")
    path.chmod(0o600)
    return path


@contextmanager
def running(folder: Path) -> Iterator[Path]:
    """A sandbox that runs."""
    configuration = written(folder / ".sandbox" / "mailerd.toml")
    with (folder / ".sandbox" / "running").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield configuration


def found(tmp_path: Path, named: Path | None = None, **variables: str) -> Found:
    settings = {"XDG_CONFIG_HOME": str(tmp_path / "xdg"), "HOME": str(tmp_path / "home"), **variables}
    return find(named, settings=settings, system=tmp_path / "etc" / "mailerd.toml")


def test_the_first_of_the_places_that_has_a_file_is_taken(tmp_path: Path, checkout: Path) -> None:
    assert found(tmp_path).path is None
    system = written(tmp_path / "etc" / "mailerd.toml")
    assert found(tmp_path).path == system
    own = written(tmp_path / "xdg" / "mailerd" / "mailerd.toml")
    assert found(tmp_path).path == own
    with running(checkout) as sandbox:
        assert found(tmp_path) == Found(sandbox, sandbox=True)
        here = written(checkout / "mailerd.toml")
        assert found(tmp_path) == Found(Path(here.name), beside_sandbox=True)
        assert found(tmp_path, named=system) == Found(system, named=True)


def test_without_xdg_config_home_it_is_the_folder_config_of_the_home(tmp_path: Path) -> None:
    own = written(tmp_path / "home" / ".config" / "mailerd" / "mailerd.toml")
    assert found(tmp_path, XDG_CONFIG_HOME="").path == own


def test_a_sandbox_counts_while_it_runs_and_from_below_its_folder_too(
    tmp_path: Path, checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(checkout) as sandbox:
        (checkout / "examples").mkdir()
        monkeypatch.chdir(checkout / "examples")
        assert found(tmp_path).path == sandbox
    assert found(tmp_path).path is None


@pytest.mark.parametrize("variable", ["DATABASE_URL", "MAILERD_DATABASE__URL", "MAILERD_GMAIL__API_ROOT"])
def test_a_sandbox_is_never_mixed_with_another_database_or_with_google(
    tmp_path: Path, checkout: Path, variable: str
) -> None:
    with running(checkout):
        nothing = found(tmp_path, None, **{variable: "mysql://u@production/mailerd"})
        assert nothing.path is None
        assert f"the sandbox that is running here is not used because {variable} is set" in str(nothing), (
            "it has not ended"
        )
        assert found(tmp_path, MAILERD_LOG__LANGUAGE="zh").sandbox


def test_a_file_of_the_folder_wins_over_the_sandbox_that_runs_there_and_says_so(tmp_path: Path, checkout: Path) -> None:
    here = written(checkout / "mailerd.toml")
    assert not found(tmp_path).beside_sandbox
    with running(checkout):
        taken = found(tmp_path)
    assert taken.path is not None
    assert taken.path.absolute() == here
    assert taken.beside_sandbox


def test_a_sandbox_of_somebody_else_is_passed_over(tmp_path: Path, checkout: Path, give_away: GiveAway) -> None:
    with running(checkout) as sandbox:
        give_away(sandbox)
        assert found(tmp_path).path is None


def test_a_file_of_somebody_else_is_refused(tmp_path: Path, checkout: Path, give_away: GiveAway) -> None:
    give_away(written(checkout / "mailerd.toml"))
    with pytest.raises(ConfigurationError, match=r"mailerd.toml is not used: it belongs to the user"):
        found(tmp_path)


def test_a_file_in_somebody_elses_folder_is_refused(tmp_path: Path, checkout: Path, give_away: GiveAway) -> None:
    written(checkout / "mailerd.toml")
    give_away(checkout)
    with pytest.raises(ConfigurationError, match=r"mailerd.toml is not used: its folder belongs to the user"):
        found(tmp_path)


def test_a_file_that_others_can_write_to_is_refused_unless_somebody_named_it(tmp_path: Path, checkout: Path) -> None:
    here = written(checkout / "mailerd.toml")
    here.chmod(0o666)
    with pytest.raises(ConfigurationError, match=r"others can write to it \(mode 0666\).*run: chmod go-w"):
        found(tmp_path)
    with pytest.raises(ConfigurationError, match="others can write to it"):
        load(here, environment={}, named=False)  # nor between the finding and the reading
    assert load(found(tmp_path, named=here).path, environment={}).intake.port == 0


def test_a_sandbox_that_has_ended_is_named_where_nothing_else_is_found(checkout: Path, tmp_path: Path) -> None:
    with running(checkout):
        assert found(tmp_path).sandbox
    nothing = found(tmp_path)
    assert nothing.path is None
    assert "the sandbox of this folder is not running (to start it: `mailerd sandbox --demo`)" in str(nothing)
    (checkout / ".sandbox" / "mailerd.toml").unlink()
    assert "sandbox" not in str(found(tmp_path))


def test_a_working_folder_that_was_deleted_has_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (gone := tmp_path / "gone").mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert find(None, settings={}, system=tmp_path / "mailerd.toml") == Found(None)
