"""The units of systemd/: what bounds a daemon, and that both kinds of daemon are bounded alike."""

import pytest

from tests.house.source import ROOT

DAEMONS = ("mailerd.service", "mailerd@.service")
_OF_THEIR_OWN = {"Environment", "RuntimeDirectory", "NoExecPaths"}
"""What names the instance."""


def _service(name: str) -> list[tuple[str, str]]:
    """The settings of a unit's [Service] section, in order."""
    found, section = [], ""
    for line in (ROOT / "systemd" / name).read_text("utf-8").splitlines():
        if line.startswith("["):
            section = line
        elif section == "[Service]" and line and not line.startswith("#"):
            key, _, value = line.partition("=")
            found.append((key, value))
    return found


def test_an_instance_runs_under_the_same_settings_as_the_first_daemon() -> None:
    first, instance = ([each for each in _service(name) if each[0] not in _OF_THEIR_OWN] for name in DAEMONS)
    assert first == instance


@pytest.mark.parametrize("name", DAEMONS)
def test_memory_and_processes_are_bounded_and_no_core_is_written(name: str) -> None:
    settings = dict(_service(name))
    assert settings["MemoryMax"] == "2G"
    assert settings["LimitCORE"] == "0"
    assert int(settings["TasksMax"]) <= 512


@pytest.mark.parametrize("name", DAEMONS)
def test_the_system_ends_mailerd_before_a_database_and_a_child_before_the_daemon(name: str) -> None:
    settings = dict(_service(name))
    # Memory that is short is taken from who has the most of it, plus this (in thousandths of all memory). A database
    # has more memory than mailerd and stands at 0, so anything below 0 here would point at the database.
    assert int(settings["OOMScoreAdjust"]) >= 500
    # The default, "stop", ends the whole service when the system kills one of its processes.
    assert settings["OOMPolicy"] == "continue"


@pytest.mark.parametrize("name", DAEMONS)
def test_no_group_of_system_calls_that_raises_priorities_is_allowed(name: str) -> None:
    """A child lowers its own limits by prlimit64, which is in @default; nothing else of that kind is needed."""
    filters = [value for key, value in _service(name) if key == "SystemCallFilter"]
    assert filters == ["@system-service", "~@privileged @resources"]
