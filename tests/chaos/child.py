"""One daemon as the suite has it: a real process under real signals, its log and the times for which it was stopped."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from mailerd.sandbox.mariadb import child_process
from tests.support.heard import PATIENCE

PYTHON: Final = os.path.abspath(sys.executable)  # noqa: PTH100 - resolve() would leave the virtual environment
EXIT_WITHIN: Final = 30.0
"""Seconds after which a daemon that was told to end is taken for hung."""


@dataclass
class Run:
    """One life of a daemon. All times are the suite's own, in epoch seconds."""

    log: Path
    started: float
    ended: float | None = None
    shift: float = 0.0
    """Seconds by which this daemon's clock, and so its log, is off."""
    stops: list[tuple[float, float]] = field(default_factory=list)
    """From SIGSTOP to SIGCONT."""


class Child:
    """A daemon that is started and ended many times; it dies with the suite, however that ends."""

    def __init__(
        self, name: str, *, config: Path, port: int, public_port: int = 0, shift: float = 0.0, module: str = "mailerd"
    ) -> None:
        self.name = name
        self.port = port
        self.public_port = public_port
        self.runs: list[Run] = []
        self.stopped_at: float | None = None
        self._config = config
        self._shift = shift
        self._module = module
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def running(self) -> bool:
        """Whether there is a process, stopped or not."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """Of the present life, or of the last one."""
        assert self._process is not None
        return self._process.pid

    @property
    def answering(self) -> bool:
        """Whether it can be expected to answer."""
        return self.running and self.stopped_at is None

    def start(self) -> None:
        """Start one more life, with a log of its own. Called in the main thread alone: the child is tied to it."""
        log = self._config.with_name(f"{self.name}-{len(self.runs) + 1:03}.log")
        command = [PYTHON, "-m", self._module]
        if self._shift:
            command[2:] = ["tests.chaos.shifted", f"{self._shift:g}"]
        with log.open("wb") as file:
            self._process = subprocess.Popen(
                child_process([*command, "run", "--config", str(self._config)]),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                cwd=self._config.parent,  # no .env of somebody else's
                env=self._environment(),
                start_new_session=True,
            )
        self.runs.append(Run(log, started=time.time(), shift=self._shift))

    def set_clock(self, shift: float) -> None:
        """The seconds by which its clock is off from its next life on."""
        self._shift = shift

    def kill(self) -> None:
        """SIGKILL."""
        self._signal(signal.SIGKILL)
        if self._process is not None:
            self._process.wait()
        self._over()

    def stop(self) -> None:
        """SIGSTOP: it is there, and does nothing."""
        self._signal(signal.SIGSTOP)
        self.stopped_at = time.time()

    def resume(self) -> None:
        """SIGCONT."""
        if self.stopped_at is not None:
            self.runs[-1].stops.append((self.stopped_at, time.time()))
            self.stopped_at = None
        self._signal(signal.SIGCONT)

    async def terminate(self) -> tuple[int, float]:
        """SIGTERM; its exit code and the seconds that it took. One that does not end is killed, which shows as -9."""
        asked = time.monotonic()
        self._signal(signal.SIGTERM)
        while self.running and time.monotonic() - asked < EXIT_WITHIN:  # noqa: ASYNC110 - it waits for a process
            await asyncio.sleep(0.02)
        took = time.monotonic() - asked
        self.kill()
        assert self._process is not None
        return self._process.returncode, took

    def has_spoken(self) -> bool:
        """Whether this life has written anything."""
        return self.runs[-1].log.stat().st_size > 0

    async def until(self, condition: Callable[[str], bool], *, within: float = PATIENCE) -> None:
        """Wait until its present log fulfils a condition.

        Raises:
            RuntimeError: it has ended before.
            TimeoutError: it has not in time.
        """
        async with asyncio.timeout(within):
            while not condition(text := self.runs[-1].log.read_text(encoding="utf-8", errors="replace")):
                if not self.running:
                    raise RuntimeError(f"daemon {self.name} has ended by itself: {text[-2000:]}")
                await asyncio.sleep(0.05)

    def _signal(self, number: int) -> None:
        if self._process is not None and self.running:
            self._process.send_signal(number)

    def _over(self) -> None:
        if self.stopped_at is not None:
            self.runs[-1].stops.append((self.stopped_at, time.time()))
            self.stopped_at = None
        if self.runs and self.runs[-1].ended is None:
            self.runs[-1].ended = time.time()

    def _environment(self) -> dict[str, str]:
        foreign = ("MAILERD_", "DATABASE_URL", "CREDENTIALS_DIRECTORY", "NOTIFY_SOCKET", "LISTEN_")
        environment = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
        environment["PYTHONPATH"] = str(Path(__file__).parents[2])
        return environment
