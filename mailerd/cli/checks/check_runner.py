"""Examines everything at once, within a bound that holds whatever is broken; it changes nothing
anywhere.
"""

import asyncio
import threading
import time
from collections.abc import Awaitable, Coroutine, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

from mailerd.cli.checks import database, google, machine, pace
from mailerd.cli.checks.clocks import Clocks
from mailerd.cli.checks.database import Shown
from mailerd.cli.checks.machine import SystemPaths
from mailerd.cli.checks.result import CheckResult, fail
from mailerd.cli.common import no_log
from mailerd.clock import Clock
from mailerd.config import Settings
from mailerd.core.i18n import t
from mailerd.core.stats import QueueStats
from mailerd.events.process import StoreEvents
from mailerd.events.worker import GmailEvents
from mailerd.ops.daemon_thread import in_thread
from mailerd.store.queue.rate_limits import default_limits

TOTAL_TIMEOUT: Final = 20.0
"""Seconds for everything."""
_CLOSE_TIMEOUT: Final = 0.5
"""Seconds more for the loop to close; it would wait for a resolver that hangs."""
PART_TIMEOUT: Final = 16.0
"""Seconds for each part; they run side by side."""
_PARTS: Final = (
    t("configuration"),
    t("database"),
    t("mailboxes"),
    t("clocks"),
    t("API"),
    t("public site"),
    t("disk"),
    "systemd",
)
"""In the order in which their findings are shown."""
WITHOUT_A_SHELL: Final = ("configuration", "database", "mailboxes", "clocks", "public site", "disk")
"""Those that a running daemon can find out about itself: what is left are its own port and
systemd.
"""


def _stuck(name: str, *, after: float) -> CheckResult:
    return fail(
        name,
        t("not finished after {after:g} s", after=after),
        remedy=t("a request about the {name} hangs; check that service", name=name),
    )


@dataclass
class CheckRunner:
    """One examination."""

    settings: Settings
    path: Path | None
    """The configuration file."""
    sender: str = ""
    """One more mailbox to try a domain's service account with."""
    paths: SystemPaths = field(default_factory=SystemPaths)
    clock: Clock = field(default_factory=Clock)
    within: float = TOTAL_TIMEOUT
    each_within: float = PART_TIMEOUT
    only: Sequence[str] = _PARTS
    """The parts that are examined."""
    _parts: dict[str, list[CheckResult] | None] = field(default_factory=dict)
    """The findings of each part, in the order in which they are shown; None: the part has not ended
    yet. Two threads use it.
    """
    _worker: threading.Thread | None = None

    @property
    def is_stuck(self) -> bool:
        """Whether a thread of an examination that is over hangs in a call of the system's."""
        return self._worker is not None and self._worker.is_alive()

    def examine(self) -> tuple[list[CheckResult], bool]:
        """The findings, and whether every check has ended: if not, a thread of ours is still stuck.

        The loop runs in a thread of its own, so that not even a call that blocks it (a dead network
        drive, a resolver that hangs) can hold up the answer.
        """
        for name in self.only:
            self._parts[name] = None
        self._parts["clocks"] = []
        started = time.monotonic()
        examined = threading.Event()
        self._worker = threading.Thread(
            target=lambda: asyncio.run(self._all(examined)), name="checks", daemon=True
        )
        self._worker.start()
        examined.wait(self.within)
        after, found = round(time.monotonic() - started, 1), list[CheckResult]()
        for name, known in self._parts.items():
            found += [_stuck(name, after=after)] if known is None else known
        self._worker.join(_CLOSE_TIMEOUT)
        return found, not self.is_stuck

    async def _all(self, examined: threading.Event) -> None:
        shown: asyncio.Future[Shown] = asyncio.get_running_loop().create_future()
        stats: asyncio.Future[QueueStats | None] = asyncio.get_running_loop().create_future()
        clocks = Clocks()
        parts: dict[str, Coroutine[Any, Any, list[CheckResult]]] = {
            "configuration": in_thread(self._files),
            "database": self._database(shown, stats, clocks),
            "mailboxes": google.examine(
                self.settings.gmail,
                clock=self.clock,
                clocks=clocks,
                events=GmailEvents(no_log),
                shown=shown,
                named=self.sender,
            ),
            "API": self._port(stats),
            "public site": machine.examine(self.settings.public),
            "disk": in_thread(partial(machine.disks, self._folders())),
            "systemd": machine.systemd(self.paths, self.settings.log),
        }
        for name in parts.keys() - {*self.only}:
            parts.pop(name).close()
        async with asyncio.TaskGroup() as tasks:
            for name in _PARTS:
                if work := parts.get(name):
                    tasks.create_task(self._part(name, work), name=name)
        self._parts["clocks"] = clocks.results()
        examined.set()

    async def _part(self, name: str, work: Awaitable[list[CheckResult]]) -> None:
        try:
            async with asyncio.timeout(self.each_within):
                self._parts[name] = await work
        except TimeoutError:
            self._parts[name] = [_stuck(name, after=self.each_within)]
        except Exception as error:  # noqa: BLE001 - a bug in one part must not hide what the others found
            what = t("internal error: {kind}: {error}", kind=type(error).__name__, error=error)
            self._parts[name] = [
                fail(name, what, remedy=t("this is a bug in mailerd: please report it"))
            ]

    async def _database(
        self, shown: asyncio.Future[Shown], stats: asyncio.Future[QueueStats | None], clocks: Clocks
    ) -> list[CheckResult]:
        known = Shown()
        try:
            found, known = await database.examine(
                self.settings.database,
                clock=self.clock,
                clocks=clocks,
                events=StoreEvents(no_log),
                hooks=self.settings.webhooks,
                limits=default_limits(self.settings),
                intake=self.settings.intake,
            )
        finally:
            shown.set_result(known)
            stats.set_result(known.stats)
        return found

    async def _port(self, stats: asyncio.Future[QueueStats | None]) -> list[CheckResult]:
        return [await machine.port(self.settings.intake, stats, self.paths)]

    def _files(self) -> list[CheckResult]:
        return [
            machine.configuration(self.path),
            *machine.dotenv(),
            *machine.alerts(self.settings.alerts),
            machine.folder(self.settings.gmail.credentials_dir),
            *machine.templates(self.settings.templates.folder),
            *pace.configured(default_limits(self.settings).default),
        ]

    def _folders(self) -> list[Path]:
        return [
            self.settings.gmail.credentials_dir.absolute(),
            self.paths.kept,
            Path("/var/lib/mysql"),
            Path("/tmp"),  # noqa: S108 - only its room is asked for
        ]


@dataclass
class RepeatedChecks:
    """What a daemon examines again and again; a run that left a thread which hangs is the last one
    until that ends.
    """

    settings: Settings
    path: Path | None
    _last: CheckRunner | None = None
    _found: Sequence[CheckResult] = ()

    def __call__(self) -> Sequence[CheckResult]:
        """The findings; they take as long as one examination may."""
        if self._last is None or not self._last.is_stuck:
            self._last = CheckRunner(self.settings, self.path, only=WITHOUT_A_SHELL)
            self._found, _ = self._last.examine()
        return self._found
