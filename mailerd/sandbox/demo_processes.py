"""The daemon's commands, run as processes of their own that die with the sandbox."""

import asyncio
import os
import shlex
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from mailerd.sandbox.child_process import child_process

_COMMAND_LIMIT_S = 120.0
DRAIN_S = 20
"""What the daemon's own drain_timeout is set to."""
_DRAIN_LIMIT_S = DRAIN_S + 10.0  # above the daemon's own, so that it is killed only when that has failed
_TAIL_LINES = 25

# The daemon must see the sandbox's database and Google and no other: a DATABASE_URL of the person's own would win over
# the file. What reaches neither, and sends nothing to others, may be chosen by the environment as everywhere.
_SECTIONS = ("MAILERD_LOG__", "MAILERD_WEBHOOKS__", "MAILERD_INBOX__", "MAILERD_RETENTION__")
_ENVIRONMENT = ("PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "VIRTUAL_ENV", "SSL_CERT_FILE")


class ProcessError(Exception):
    """A process that the sandbox needs has failed; the text is for people and holds the end of what it said."""


@dataclass(frozen=True, kw_only=True)
class Commands:
    """The daemon's commands with one configuration file."""

    program: Sequence[str]
    configuration: Path

    async def ask(self, *words: str) -> str:
        """Run a command to its end; what it printed. Raises ProcessError when it fails or takes too long."""
        output, errors = asyncio.subprocess.PIPE, asyncio.subprocess.PIPE
        process = await self._start(words, output=output, errors=errors)
        try:
            async with asyncio.timeout(_COMMAND_LIMIT_S):
                said, complained = await process.communicate()
        except TimeoutError:
            raise ProcessError(f"{self._shown(words)}: no end within {_COMMAND_LIMIT_S:g} s") from None
        finally:
            await _kill(process)
        if process.returncode != 0:
            tail = _tail((said + complained).decode(errors="replace"))
            raise ProcessError(f"{self._shown(words)} ended with {process.returncode}:\n{tail}")
        return said.decode()

    @asynccontextmanager
    async def daemon(self, *, log: Path) -> AsyncIterator["DaemonProcess"]:
        """A running daemon. However the block ends, it drains (SIGTERM), and is killed if that takes too long."""
        with log.open("wb") as file:
            process = await self._start(("run",), output=file.fileno(), errors=asyncio.subprocess.STDOUT)
        try:
            yield DaemonProcess(process, shown=self._shown(("run",)), log=log)
        finally:
            await _drain(process, log)

    async def _start(self, words: Sequence[str], *, output: int, errors: int) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *child_process([*self.program, *words, "--config", str(self.configuration)]),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=errors,
            cwd=self.configuration.parent,  # no .env file of the person's own here
            env={k: value for k, value in os.environ.items() if k in _ENVIRONMENT or k.upper().startswith(_SECTIONS)},
            start_new_session=True,  # Ctrl-C is for the sandbox; it ends the daemon in its own time
        )

    def _shown(self, words: Sequence[str]) -> str:
        return shlex.join(["mailerd", *words])


class DaemonProcess:
    """A running daemon."""

    def __init__(self, process: asyncio.subprocess.Process, *, shown: str, log: Path) -> None:
        self._process = process
        self._shown = shown
        self._log = log
        self.pid = process.pid

    @property
    def alive(self) -> bool:
        """Whether it has not ended yet."""
        return self._process.returncode is None

    async def watch(self) -> NoReturn:
        """Wait for its end, which is not wanted: raises ProcessError with the end of its log."""
        code = await self._process.wait()
        tail = _tail(self._log.read_text(encoding="utf-8", errors="replace"))
        raise ProcessError(f"{self._shown} has ended with {code}; the end of {self._log}:\n{tail}")


async def _drain(process: asyncio.subprocess.Process, log: Path) -> None:
    """End a daemon in good order. A cancellation meanwhile (a second Ctrl-C) ends it at once."""
    try:
        if process.returncode is None:
            process.terminate()
        async with asyncio.timeout(_DRAIN_LIMIT_S):
            await process.wait()
    except TimeoutError:
        raise ProcessError(f"the daemon did not end within {_DRAIN_LIMIT_S:g} s and was killed; see {log}") from None
    finally:
        await _kill(process)


async def _kill(process: asyncio.subprocess.Process) -> None:
    """Make sure that it has gone. Nothing can take long here: a killed process ends at once."""
    if process.returncode is None:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def _tail(text: str) -> str:
    return "\n".join(text.rstrip().splitlines()[-_TAIL_LINES:])
