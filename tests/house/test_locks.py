"""The two lock files: what runs mailerd, and that with what develops it; neither of them names a registry."""

import re
import tomllib
from typing import Any

import pytest

from tests.house.source import ROOT

RUN_TIME, DEVELOPMENT = "requirements.lock", "requirements-dev.lock"
_NAME = re.compile(r"^[A-Za-z0-9._-]+")


def _locked(file: str) -> dict[str, str]:
    """Each package's entry: version, marker and hashes."""
    text = (ROOT / file).read_text("utf-8").replace("\\\n", " ")
    entries = [" ".join(line.split()) for line in text.splitlines() if line and not line.startswith("#")]
    return {entry.partition("==")[0]: entry for entry in entries}


def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


def _names(requirements: list[str]) -> set[str]:
    found = (_NAME.match(each) for each in requirements)
    return {match[0].lower().replace("_", "-") for match in found if match}


@pytest.mark.parametrize("file", [RUN_TIME, DEVELOPMENT])
def test_a_lock_file_names_no_registry_and_has_hashes_for_everything(file: str) -> None:
    lock = (ROOT / file).read_text("utf-8")
    assert "://" not in lock
    assert not re.search(r"^\s*--?(?:i|index-url|extra-index-url|find-links)\b", lock, re.MULTILINE)
    assert [entry for entry in _locked(file).values() if "--hash=sha256:" not in entry] == []


def test_what_runs_mailerd_is_developed_with_in_the_same_versions() -> None:
    run_time, development = _locked(RUN_TIME), _locked(DEVELOPMENT)
    assert {name: development.get(name) for name in run_time} == run_time


def test_what_only_develops_mailerd_is_not_installed_with_it() -> None:
    declared = project()["project"]
    extras = declared["optional-dependencies"]
    run_time, development = _locked(RUN_TIME), _locked(DEVELOPMENT)
    assert _names(extras["dev"]) <= development.keys()
    assert not _names(extras["dev"]) & run_time.keys()
    wanted = [*declared["dependencies"], *extras["alerts"], *project()["build-system"]["requires"]]
    assert _names(wanted) <= run_time.keys()


@pytest.mark.parametrize("script, file", [("install", RUN_TIME), ("setup", DEVELOPMENT)])
def test_a_script_installs_the_packages_that_are_meant_for_it(script: str, file: str) -> None:
    text = (ROOT / "tools" / script).read_text("utf-8")
    assert re.findall(r"(?:-r|--requirement) (\S+\.lock)", text) == [file]
