"""The fault that `make systemd` plants in mailerd's own code fits the code as it is."""

import subprocess
import sys

from tests.systemd.trouble import STALLING


def test_the_loop_that_is_to_stall_is_there() -> None:
    planted = subprocess.run([sys.executable, "-c", STALLING, "run"], capture_output=True, text=True, check=False)
    assert (planted.stderr, planted.returncode) == ("", 0)
