"""The wheel and the source distribution: whole, and enough by themselves to see mailerd work in an empty folder."""

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from mailerd import __version__
from mailerd.cli.manual import MAN
from mailerd.cli.packaged import FILES
from tests.house.source import ROOT
from tests.support.wheel import build, install


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("dist")).parent


@pytest.fixture(scope="module")
def site(dist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    (wheel,) = dist.glob("*.whl")
    return install(wheel, tmp_path_factory.mktemp("site"))


def say(site: Path, folder: Path, *words: str, code: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "mailerd", *words], cwd=folder, capture_output=True, text=True, timeout=120, check=False,
        env={"HOME": str(folder), "PATH": "/usr/bin:/bin:/usr/sbin", "PYTHONPATH": str(site)},
    )  # fmt: skip
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def tracked(*folders: str) -> set[str]:
    listed = subprocess.run(["git", "ls-files", *folders], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(listed.stdout.split("\n")) - {""}


def test_the_wheel_has_the_package_and_every_file_that_comes_with_it(dist: Path) -> None:
    (wheel,) = dist.glob("*.whl")
    assert wheel.name == f"mailerd-{__version__}-py3-none-any.whl"
    names = set(zipfile.ZipFile(wheel).namelist())
    assert tracked("mailerd") <= names
    assert {f"mailerd/share/{name}" for name in tracked(*FILES, "docs", "CHANGELOG.md")} <= names
    assert {f"mailerd-{__version__}.data/data/share/man/{name}" for name in MAN} <= names
    assert not [name for name in names if "tests/" in name or "__pycache__" in name]


def test_the_source_distribution_is_whole(dist: Path) -> None:
    (archive,) = dist.glob("*.tar.gz")
    with tarfile.open(archive) as opened:
        names = {name.partition("/")[2] for name in opened.getnames()}
    assert tracked() <= names


def test_an_installed_mailerd_shows_itself_at_work_in_an_empty_folder(site: Path, tmp_path: Path) -> None:
    told = say(site, tmp_path, "sandbox", "--demo", "--exit", "--latency", "0", "--intake-port", "0")
    assert "240 messages sent in" in told
    assert str(site) in told, "the next job's file lies in the installation"


def test_an_installed_mailerd_lays_out_what_comes_with_it_and_overwrites_nothing(site: Path, tmp_path: Path) -> None:
    assert say(site, tmp_path, "config", "--example") == (ROOT / "config.example.toml").read_text("utf-8")
    say(site, tmp_path, "install-files", "out")
    laid = {str(file.relative_to(tmp_path / "out")) for file in (tmp_path / "out").rglob("*") if file.is_file()}
    assert laid == tracked(*FILES) | {f"docs/man/{name}" for name in MAN}
    assert "already exists and was not changed" in say(site, tmp_path, "install-files", "out", code=1)


def test_the_shell_completes_commands_and_their_options(site: Path, tmp_path: Path) -> None:
    def complete(words: str, at: int) -> list[str]:
        asked = {"COMP_WORDS": words, "COMP_CWORD": str(at), "_MAILERD_COMPLETE": "complete_bash"}
        done = subprocess.run(
            [sys.executable, "-c", "from mailerd.cli import app; app(prog_name='mailerd')"], cwd=tmp_path,
            capture_output=True, text=True, timeout=60, check=False,
            env={"HOME": str(tmp_path), "PYTHONPATH": str(site), **asked},
        )  # fmt: skip
        return done.stdout.split()

    assert {"send", "senders", "settle"} <= set(complete("mailerd se", 1))
    assert "watch" in complete("mailerd jobs w", 2)
    assert "--limit" in complete("mailerd jobs list --l", 3)
