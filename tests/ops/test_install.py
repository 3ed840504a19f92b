"""`tools/install` in a root folder of its own: a failure ends it, and what it has enabled is disabled again.

The script runs as it is, but every absolute path in it lies below the test's folder, and what would change this machine
(systemctl, sysusers and their kin) is a stand-in that writes down how it was called.
"""

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.house.source import ROOT

_ABSOLUTE = re.compile(r"/(etc|usr|run)/")
_STAND_INS = ("systemctl", "systemd-sysusers", "systemd-tmpfiles", "journalctl")
_PYTHON = """#!/bin/bash
case "$*" in
    --version) echo Python 3.13.1 ;;
    "-m venv"*) mkdir -p "${@: -1}/bin"; cp "$0" "${@: -1}/bin/python"; touch "${@: -1}/pyvenv.cfg" ;;
    *"pip install"*"--requirement"*) [ -z "$NO_INDEX" ] || { echo "ERROR: no index" >&2; exit 1; } ;;
    *"pip install"*)
        touch "$(dirname "$0")/mailerd"
        for page in man1 zh_CN/man1; do
            install -D /dev/null "$(dirname "$0")/../share/man/$page/mailerd.1"
        done ;;
esac
"""


@dataclass
class Machine:
    """What the script takes for the machine."""

    root: Path
    prefix: Path

    @property
    def units(self) -> Path:
        return self.root / "etc/systemd/system"

    @property
    def calls(self) -> list[str]:
        file = self.root / "calls"
        return file.read_text().splitlines() if file.exists() else []

    def run(self, command: str, **environment: str) -> tuple[int, str]:
        done = subprocess.run(
            ["/bin/bash", str(self.root / "src/tools/install"), command], capture_output=True, text=True, timeout=60,
            check=False,
            env={
                "PATH": f"{self.root}/bin:{os.environ['PATH']}", "PREFIX": str(self.prefix),
                "PYTHON": f"{self.root}/bin/a-python", "SYSTEMD": "systemd 257 (257.13-1~deb13u1)",
            } | environment,
        )  # fmt: skip
        return done.returncode, done.stdout + done.stderr


def _program(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


@pytest.fixture
def machine() -> Iterator[Machine]:
    # Not below /tmp, which the script refuses as a place of the program.
    with tempfile.TemporaryDirectory(dir="/var/tmp", prefix="mailerd-install-") as folder:
        root = Path(folder)
        for each in ("bin", "src", "etc/systemd/system", "run/systemd/system", "usr/local"):
            (root / each).mkdir(parents=True)
        for each in ("tools", "systemd", "docs", "examples"):
            shutil.copytree(ROOT / each, root / "src" / each)
        for file in (*ROOT.glob("*.md"), ROOT / "LICENSE", ROOT / "config.example.toml"):
            shutil.copy(file, root / "src")
        script = root / "src/tools/install"
        script.write_text(_ABSOLUTE.sub(rf"{root}/\1/", script.read_text("utf-8")), "utf-8")
        _program(root / "bin/id", "#!/bin/sh\necho 0\n")
        _program(root / "bin/a-python", _PYTHON)
        for name in _STAND_INS:
            _program(root / f"bin/{name}", f'#!/bin/sh\necho "{name} $*" >>"{root}/calls"\necho "$SYSTEMD"\n')
        yield Machine(root, root / "opt")


def test_what_was_installed_is_said_with_the_next_steps(machine: Machine) -> None:
    code, said = machine.run("install")
    assert (code, "install: done. Next:" in said) == (0, True), said
    assert (machine.units / "mailerd@.service").exists()
    assert (machine.root / "etc/mailerd/mailerd.toml").exists()
    assert "systemctl daemon-reload" in machine.calls


@pytest.mark.parametrize(
    "trouble, words",
    [
        ({"PYTHON": "/nonexistent"}, "Python 3.12 or newer with venv is needed"),
        ({"SYSTEMD": "systemd 252 (252.39-1~deb12u1)"}, "systemd 254 or newer is needed, here is 252"),
        ({"SYSTEMD": ""}, "systemd 254 or newer is needed, here is none"),
        ({"NO_INDEX": "1"}, "the packages of requirements.lock could not be installed"),
    ],
)
def test_an_installation_that_failed_says_why_and_touches_no_unit(
    machine: Machine, trouble: dict[str, str], words: str
) -> None:
    code, said = machine.run("install", **trouble)
    assert code == 1
    assert f"install: {words}" in said
    assert "done" not in said
    assert list(machine.units.iterdir()) == []
    assert not (machine.root / "etc/mailerd").exists()


def test_after_an_uninstall_nothing_is_enabled_instances_included(machine: Machine) -> None:
    machine.run("install")
    wants = machine.units / "multi-user.target.wants"
    wants.mkdir()
    for name in ("mailerd.service", "mailerd@one.service", "mailerd@two.service", "other@mailerd.service"):
        (wants / name).symlink_to(machine.units / name)
    code, said = machine.run("uninstall")
    assert (code, "install: gone" in said) == (0, True), said
    assert [each.name for each in wants.iterdir()] == ["other@mailerd.service"]
    assert [each.name for each in machine.units.iterdir()] == [wants.name]
    stops = [call for call in machine.calls if "mailerd" in call and call.startswith("systemctl")]
    assert stops == [
        "systemctl --quiet disable --now mailerd.socket",
        "systemctl --quiet disable --now mailerd.service",
        "systemctl stop mailerd@*.service",
    ]
    assert not machine.prefix.exists()
    assert (machine.root / "etc/mailerd/mailerd.toml").exists()
    assert machine.run("uninstall")[0] == 0, "again: nothing to do"
