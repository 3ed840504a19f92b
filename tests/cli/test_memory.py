"""A daemon that has taken a large body is as small afterwards as it was before."""

import platform
import subprocess
import sys

import pytest

MEASURE = """
import sys
from pathlib import Path
from mailerd.cli.run import give_large_blocks_back

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

if sys.argv[1] == "as the daemon":
    give_large_blocks_back()
before = resident()
body = b"x" * 31_000_000
del body
contents, kept = [], []
for _ in range(3):
    contents.append(b"x" * 20_000_000)
    kept.append(b"y" * 50_000)  # as a cache or a log line may be, on top of the heap
del contents
print(resident() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc alone keeps it")
@pytest.mark.parametrize("how, stays", [("as the daemon", False), ("as any program", True)])
def test_the_memory_of_large_bodies_is_given_back(how: str, *, stays: bool) -> None:
    done = subprocess.run([sys.executable, "-c", MEASURE, how], check=True, capture_output=True, text=True, timeout=60)
    assert (int(done.stdout) > 15_000_000) is stays
