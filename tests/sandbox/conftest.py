"""The port that the README's lines use, for one test at a time."""

import fcntl
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def port_5000() -> Iterator[None]:
    """No other test, of any process, uses port 5000 meanwhile. The kernel drops the lock of a process that dies."""
    name = f"mailerd-tests-port-5000-{os.getuid()}.lock"
    with (Path(tempfile.gettempdir()) / name).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
