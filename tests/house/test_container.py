"""The container's files: what they name exists, and their places and times are those of the code."""

import re
from fnmatch import fnmatch
from pathlib import Path
from typing import Final

import pytest

from mailerd.config import RunnerSettings, load
from mailerd.config.discovery import SYSTEM
from mailerd.intake.routes import OPERATIONS
from tests.house.source import ROOT
from tests.house.test_locks import project

CONTAINER: Final = ROOT / "container"
BUILD: Final = (CONTAINER / "Containerfile").read_text("utf-8")
COMPOSE: Final = (CONTAINER / "compose.yaml").read_text("utf-8")


def variables() -> dict[str, str]:
    """What image and compose.yaml set, with the defaults of compose.yaml."""
    found = dict(re.findall(r"^[ A-Z]+\b(MAILERD_\w+)=(\S+)", BUILD, re.MULTILINE))
    found |= dict(re.findall(r"^ +(MAILERD_\w+): (\S+)$", COMPOSE, re.MULTILINE))
    return {name: re.sub(r"\$\{\w+:-(.*)\}", r"\1", value) for name, value in found.items()}


def test_every_variable_is_a_setting_and_all_ports_are_reached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = load(environment=variables())
    assert len(variables()) >= 5
    assert (settings.intake.host, settings.public.host) == ("0.0.0.0", "0.0.0.0")  # noqa: S104 - inside a container
    assert settings.gmail.credentials_dir == SYSTEM.parent / "credentials"
    assert f"- ./config:{SYSTEM.parent}:ro" in COMPOSE
    assert re.search(r"127\.0\.0\.1:\$\{API_PORT:-5000\}:\$\{API_PORT:-5000\}", COMPOSE), "the link of console login"


def test_its_health_is_to_be_ready() -> None:
    asked = re.findall(r"\}(/health/\w+)", COMPOSE)
    assert asked == ["/health/ready"]
    assert asked[0] in {each.path for each in OPERATIONS}


def test_a_stop_waits_for_the_messages_in_flight() -> None:
    graces = [int(each) for each in re.findall(r"stop_grace_period: (\d+)s", COMPOSE)]
    assert max(graces) > RunnerSettings().drain_timeout


def test_the_packages_are_a_layer_of_their_own_and_what_builds_stays_out() -> None:
    before, _, after = BUILD.partition("COPY . .")
    assert "--require-hashes --requirement requirements.lock" in before
    assert "COPY requirements.lock ./" in before
    assert "--no-index" in after, "nothing is fetched that is not in the lock file"
    assert len(re.findall(r"^FROM ", BUILD, re.MULTILINE)) == 2


def test_what_the_wheel_is_made_of_reaches_the_build() -> None:
    ignored = (CONTAINER / "Containerfile.dockerignore").read_text("utf-8").splitlines()
    targets = project()["tool"]["hatch"]["build"]["targets"]["wheel"]
    needed = {"pyproject.toml", "README.md", "LICENSE", "requirements.lock", "tools/hatch_build.py", "mailerd"}
    needed |= {*targets["force-include"]}
    tops = {each.split("/")[0] for each in needed}
    assert [top for top in sorted(tops) if any(fnmatch(top, each) for each in ignored)] == []
    assert {"container", ".git", ".venv", ".env"} <= set(ignored), "passwords and credentials stay out"
