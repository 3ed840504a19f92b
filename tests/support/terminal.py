"""A command in a terminal of its own, of any size: what it writes there is read as a person would see it pass by."""

import asyncio
import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

from mailerd.sandbox.mariadb import child_process
from tests.support.heard import PATIENCE

_ESCAPES: Final = re.compile(rb"\x1b(?:\[[0-9;?]*[a-zA-Z]|[()][A-Z0-9]|[=>])")


class Terminal:
    """What was written so far, without colours and movements of the cursor."""

    def __init__(self, master: int, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self._master = master
        self._raw = b""

    @property
    def text(self) -> str:
        """All of it."""
        with suppress(BlockingIOError, OSError):  # EIO: the other side has gone
            while more := os.read(self._master, 65_536):
                self._raw += more
        return _ESCAPES.sub(b"", self._raw).decode("utf-8", "replace")

    def forget(self) -> None:
        """From now on."""
        _ = self.text
        self._raw = b""

    def press(self, keys: str) -> None:
        """As if somebody typed it."""
        os.write(self._master, keys.encode())

    @property
    def echoes(self) -> bool:
        """Whether what is typed is shown, as a shell finds it and expects it."""
        return bool(termios.tcgetattr(self._master)[3] & termios.ECHO)

    async def shows(self, part: str, *, within: float = PATIENCE) -> str:
        """Wait until something is written; all that was.

        Raises:
            AssertionError: it was not.
        """
        end = time.monotonic() + within
        while part not in (text := self.text):
            assert time.monotonic() < end, f"{part!r} was not shown within {within} s, but:\n{text[-3000:]}"
            await asyncio.sleep(0.05)
        return text

    async def ends(self, *, within: float = PATIENCE) -> int:
        """Wait until the command has ended; its exit code. What it writes is read meanwhile: it would wait for that."""
        async with asyncio.timeout(within):
            while (code := self.process.poll()) is None:
                _ = self.text
                await asyncio.sleep(0.02)
        return code


@asynccontextmanager
async def terminal(command: Sequence[str], *, columns: int, rows: int, folder: Path) -> AsyncIterator[Terminal]:
    """Run it there; at the end it is killed."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    os.set_blocking(master, False)
    environment = {name: value for name, value in os.environ.items() if name not in {"COLUMNS", "LINES", "NO_COLOR"}}
    environment |= {"TERM": "xterm-256color", "PYTHONPATH": str(Path(__file__).parents[2])}
    process = subprocess.Popen(  # noqa: ASYNC220 - it is tied to this thread, and starts within milliseconds
        # Whoever runs the tests in the background has them ignore Ctrl-C, and a child inherits that.
        child_process(["/usr/bin/env", "--default-signal=INT", *command]),
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env=environment,
        cwd=folder,
        start_new_session=True,
    )
    os.close(slave)
    try:
        yield Terminal(master, process)
    finally:
        process.kill()
        process.wait()
        os.close(master)
