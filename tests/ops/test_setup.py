"""`tools/setup` finds a Python that is new enough, or brings the system's, or says in one line what to type.

The script runs as it is in a folder of its own, with nothing on its PATH but a few ordinary tools and stand-ins for
Pythons, apt-get and apt-cache, which write down how they were called.
"""

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.house.source import ROOT

_ABSOLUTE = re.compile(r"/(usr)/")
_TOOLS = ("bash", "cat", "chmod", "cksum", "cp", "dirname", "env", "grep", "mkdir", "mktemp", "rm", "sleep", "touch")
_PYTHON = """#!/bin/bash
minor={minor}
case "$*" in
    *"sys.version_info < (3, 12)"*) [ "$minor" -ge 12 ] ;;
    *"version_info[:2]"*) echo "3.$minor" ;;
    *"import ensurepip"*) [ -n "{ensurepip}" ] || [ -e "{root}/ensurepip" ] ;;
    --version) echo "Python 3.$minor.0" ;;
    "-m pip install"*requirements-dev.lock)
        for each in $(grep -o '^[a-z][^ ]*==' requirements-dev.lock); do
            if [ -z "$once" ]; then once=1; echo "Ignoring $each"; else echo "Collecting $each"; fi
        done
        sleep {slow} ;;
    "-m venv"*) mkdir -p .venv/bin; cp "$0" .venv/bin/python ;;
esac
"""
_APT = """#!/bin/bash
echo "apt-get $*" >>"{root}/calls"
case "$*" in
    *install*) touch "{root}/ensurepip"
        for each in "$@"; do
            case $each in python3.13) cp "{root}/later" "{root}/usr/bin/$each" ;; esac
        done ;;
esac
"""


@dataclass
class Machine:
    """What the script takes for the machine."""

    root: Path

    def python(self, name: str, minor: int, *, ensurepip: bool = True, slow: int = 0) -> None:
        """One that is installed."""
        text = _PYTHON.format(minor=minor, ensurepip="yes" if ensurepip else "", root=self.root, slow=slow)
        self._program(self.root / name, text)

    def packages(self, *names: str) -> None:
        """What this system's package manager knows of."""
        self._program(self.root / "bin/apt-get", _APT.format(root=self.root))
        known = "|".join(names) or "nothing"
        self._program(self.root / "bin/apt-cache", f'#!/bin/bash\ncase "$2" in {known}) ;; *) exit 100 ;; esac\n')

    @property
    def calls(self) -> list[str]:
        file = self.root / "calls"
        return file.read_text().splitlines() if file.exists() else []

    def run(self, *, user: int = 0, **environment: str) -> tuple[int, str]:
        self._program(self.root / "bin/id", f"#!/bin/bash\necho {user}\n")
        done = subprocess.run(
            [str(self.root / "bin/bash"), str(self.root / "src/tools/setup")], capture_output=True, text=True,
            timeout=60, check=False, env={"PATH": f"{self.root}/bin", "HOME": str(self.root)} | environment,
        )  # fmt: skip
        return done.returncode, done.stdout + done.stderr

    def made_with(self) -> str:
        """The version of the Python that .venv was made of."""
        return (self.root / "src/.venv/bin/python").read_text().split("minor=")[1].split("\n")[0]

    @staticmethod
    def _program(path: Path, text: str) -> None:
        path.write_text(text)
        path.chmod(0o755)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    for each in ("bin", "usr/bin", "usr/sbin", "src/tools"):
        (tmp_path / each).mkdir(parents=True)
    for tool in _TOOLS:
        found = shutil.which(tool)
        assert found, tool
        (tmp_path / "bin" / tool).symlink_to(os.path.realpath(found))
    for file in ("requirements-dev.lock", "pyproject.toml"):
        shutil.copy(ROOT / file, tmp_path / "src")
    script = (ROOT / "tools/setup").read_text("utf-8")
    (tmp_path / "src/tools/setup").write_text(_ABSOLUTE.sub(rf"{tmp_path}/\1/", script), "utf-8")
    it = Machine(tmp_path)
    it.python("later", 13)
    it.python("usr/sbin/mariadbd", 0)  # any program does
    it.packages("python3.13")
    return it


def test_the_usual_python_is_taken_when_it_is_new_enough(machine: Machine) -> None:
    machine.python("bin/python3", 12)
    machine.python("usr/bin/python3", 13)
    code, said = machine.run(user=1000)
    assert (code, machine.made_with(), machine.calls) == (0, "12", []), said


def test_the_systems_python_is_taken_when_the_usual_one_is_too_old(machine: Machine) -> None:
    machine.python("bin/python3", 11)
    machine.python("usr/bin/python3", 13)
    code, said = machine.run(user=1000)
    assert (code, machine.made_with(), machine.calls) == (0, "13", []), said


def test_root_gets_the_part_of_the_systems_python_that_debian_leaves_out(machine: Machine) -> None:
    machine.python("bin/python3", 11)
    machine.python("usr/bin/python3", 13, ensurepip=False)
    code, said = machine.run()
    assert (code, machine.made_with()) == (0, "13"), said
    assert "apt-get install -q -y --no-install-recommends python3.13-venv" in machine.calls


def test_root_gets_a_python_beside_one_that_is_too_old(machine: Machine) -> None:
    machine.python("bin/python3", 11)
    code, said = machine.run()
    assert (code, machine.made_with()) == (0, "13"), said
    assert "apt-get install -q -y --no-install-recommends python3.13 python3.13-venv" in machine.calls
    assert "setup: installing python3.13 python3.13-venv\n" in said


def test_without_root_the_command_is_named_and_nothing_is_done(machine: Machine) -> None:
    machine.python("bin/python3", 11)
    code, said = machine.run(user=1000)
    assert (code, machine.calls) == (1, [])
    assert "Python 3.12 or newer is needed" in said
    assert "type: sudo apt-get install --no-install-recommends python3.13 python3.13-venv" in said
    assert not (machine.root / "src/.venv").exists()


@pytest.mark.parametrize("user", [0, 1000])
def test_a_system_that_has_no_such_package_is_told_how_to_name_another(machine: Machine, user: int) -> None:
    machine.python("bin/python3", 11)
    machine.packages()
    code, said = machine.run(user=user)
    assert code == 1
    assert "nor has this system a package of it; install one in any other way and name it: make setup PYTHON=" in said


def test_a_python_that_was_named_and_is_too_old_is_refused_by_name(machine: Machine) -> None:
    machine.python("usr/bin/python3", 13)
    machine.python("bin/mine", 11)
    code, said = machine.run(PYTHON="mine")
    assert (code, machine.calls) == (1, [])
    assert "Python 3.12 or newer is needed, and none of mine is that" in said


def test_a_venv_of_an_older_python_is_made_anew(machine: Machine) -> None:
    machine.python("usr/bin/python3", 13)
    (machine.root / "src/.venv/bin").mkdir(parents=True)
    machine.python("src/.venv/bin/python", 11)
    code, said = machine.run(user=1000)
    assert (code, machine.made_with()) == (0, "13"), said
    code, said = machine.run(user=1000)
    assert (code, said) == (0, "setup: ready\n"), "again: nothing to do"


def test_while_pip_installs_without_a_word_setup_says_so(machine: Machine) -> None:
    script = machine.root / "src/tools/setup"
    script.write_text(script.read_text("utf-8").replace("-t 10 ", "-t 0.2 ").replace(">= 10)", ">= 1)"), "utf-8")
    machine.python("bin/python3", 13, slow=3)
    code, said = machine.run()
    assert code == 0, said
    known = sum("==" in line for line in (ROOT / "requirements-dev.lock").read_text("utf-8").splitlines()) - 1
    assert re.search(rf"setup:   all {known} fetched, installing them \(\d+ s\)\n", said), said


def test_make_clean_leaves_no_compiled_catalogue(tmp_path: Path) -> None:
    shutil.copy(ROOT / "Makefile", tmp_path)
    folder = tmp_path / "mailerd/locale/zh_CN/LC_MESSAGES"
    folder.mkdir(parents=True)
    for name in ("mailerd.po", "mailerd.mo"):
        (folder / name).touch()
    subprocess.run(["make", "clean"], cwd=tmp_path, check=True, capture_output=True, timeout=60)
    assert [each.name for each in folder.iterdir()] == ["mailerd.po"]
