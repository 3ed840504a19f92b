"""The README's commands, as they stand, in a second terminal beside `make run`."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.house.markdown import Paper
from tests.sandbox.test_demo import ROOT, Sandbox, commands, eventually

# The blocks that need nothing but the sandbox; the others set up a mailbox of one's own.
SECTIONS = (
    ("README.md", "Try it"),
    ("README.md", "Post a job"),
    ("docs/how-to/mailboxes.md", "Limits"),
)
VARIABLES = ("MAILERD_", "DATABASE_URL", "XDG_CONFIG_HOME")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout as far as the lines of the README see it."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    program = tmp_path / ".venv" / "bin" / "mailerd"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m mailerd "$@"\n')
    program.chmod(0o755)
    return tmp_path


@pytest.fixture
def sandbox(checkout: Path, port_5000: None) -> Iterator[Sandbox]:  # noqa: ARG001 # it is held
    """What `make run` runs."""
    it = Sandbox(checkout)
    words = [".venv/bin/mailerd", "sandbox", "--demo", "--latency", "0"]
    it.process = subprocess.Popen(
        words, cwd=checkout, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        env=environment(),
    )  # fmt: skip
    yield it
    it.process.terminate()
    it.wait()
    assert eventually(lambda: not any(str(checkout) in line for line in commands()))


def environment() -> dict[str, str]:
    known = {name: value for name, value in os.environ.items() if not name.startswith(VARIABLES)}
    return {**known, "HOME": "/nonexistent", "PYTHONPATH": str(ROOT)}


def lines(checkout: Path, *, port: str) -> str:
    """All lines of shell in those sections, as one script that stops at the first that fails."""
    blocks: list[str] = []
    for paper, section in SECTIONS:
        text = (ROOT / paper).read_text("utf-8")
        part = checkout / "section.md"
        part.write_text(text.split(f"\n## {section}\n")[1].split("\n## ")[0] + "\n", "utf-8")
        shell = [block.body for block in Paper(part).blocks if block.language == "bash"]
        blocks += [body for body in shell if not body.startswith("make ")]
    return "set -euo pipefail\n" + "".join(blocks).replace(":5000/", f":{port}/")


def run(checkout: Path, script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-x", "-c", script], cwd=checkout, env=environment(), capture_output=True, text=True, timeout=300,
        check=False,
    )  # fmt: skip


def test_the_lines_of_the_readme_work_as_they_stand_beside_the_demonstration(checkout: Path, sandbox: Sandbox) -> None:
    sandbox.until("Ctrl-C stops the sandbox")
    port = sandbox.said.split("Daemon               http://127.0.0.1:")[1].split()[0]
    ended = run(checkout, lines(checkout, port=port))
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "using the sandbox's configuration" in ended.stderr
    assert "3 of 3 messages can be sent" in ended.stdout
    assert ", no findings" in ended.stdout


def test_without_the_sandbox_a_command_says_that_it_found_no_configuration(checkout: Path) -> None:
    ended = run(checkout, "DATABASE_URL=mysql://u@127.0.0.1:9/d .venv/bin/mailerd jobs list")
    assert ended.returncode == 1
    assert "no configuration file found" in ended.stderr
