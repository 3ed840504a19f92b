"""What commands and the daemon find in the system that runs them: a user, a home, files."""

import fcntl
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from mailerd.cli import common


@pytest.mark.parametrize("error", [KeyError, OSError])  # before Python 3.13, and since
def test_a_user_without_a_name_is_named_as_that_by_each_command(
    monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    def nobody() -> str:
        raise error("uid not found: 54321")

    monkeypatch.setattr("getpass.getuser", nobody)
    assert common.asked_by() == "command, unknown user"
    assert common.user_name() == "unknown user"
    source = Path(common.__file__).parent
    assert [each.name for each in source.rglob("*.py") if "getuser" in each.read_text()] == ["common.py"]


def test_a_user_without_name_and_home_runs_it_all(tmp_path: Path) -> None:
    """As in a container that runs under any number: on Python 3.13 the database driver failed at its import."""
    script = """
import pwd
def unknown(uid):
    raise KeyError(f"getpwuid(): uid not found: {uid}")
pwd.getpwuid = unknown
from mailerd.app import build
from mailerd.cli.common import asked_by
from mailerd.sandbox.mariadb import user_cache
print(asked_by(), user_cache(), sep="|")
"""
    ended = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env={}, timeout=60, check=False, capture_output=True, text=True
    )
    assert ended.stdout == f"command, unknown user|{tmp_path / '.cache' / 'mailerd'}\n", ended.stderr


@pytest.mark.parametrize("soft, hard, raised", [(256, 512, 512), (256, 20_000, 16_384), (20_000, 20_000, 20_000)])
def test_a_daemon_may_open_as_many_files_as_the_system_lets_it(soft: int, hard: int, raised: int) -> None:
    script = f"""
import resource
from mailerd.cli import run
resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))
run._allow_open_files()
print(*resource.getrlimit(resource.RLIMIT_NOFILE))
"""
    ended = subprocess.run([sys.executable, "-c", script], check=True, timeout=60, capture_output=True, text=True)
    assert ended.stdout.split() == [str(raised), str(hard)]


def test_a_port_that_is_taken_beside_a_sandbox_claims_no_daemon_that_may_not_be_there(tmp_path: Path) -> None:
    """`mailerd sandbox` without --demo has none: it waits for the daemon that was typed here."""
    (tmp_path / ".sandbox").mkdir()
    with socket.create_server(("127.0.0.1", 0)) as taken, (tmp_path / ".sandbox" / "running").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        port = taken.getsockname()[1]
        (tmp_path / ".sandbox" / "mailerd.toml").write_text(
            f"[intake]\nport = {port}\n[gmail]\ncredentials_dir = '.'\n"
        )
        environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
        ended = subprocess.run(
            [sys.executable, "-m", "mailerd", "run"], cwd=tmp_path, env=environment, timeout=60, check=False,
            capture_output=True, text=True,
        )  # fmt: skip
    assert ended.returncode == 1
    assert "another program is listening there" in ended.stderr
    assert "`mailerd sandbox --demo` runs a daemon of its own, which Ctrl-C in its terminal stops too" in ended.stderr
