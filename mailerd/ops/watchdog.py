"""Watches that every loop makes progress, and tells systemd: readiness, a status line, its
watchdog, its sockets.
"""

import asyncio
import faulthandler
import os
import re
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Final

from mailerd.core.i18n import Language, joined, printed, t, tn
from mailerd.core.situation import Facts, line, situation
from mailerd.events.process import ProcessEvents
from mailerd.heartbeat import STALL_TIMEOUT, Heartbeats
from mailerd.locale import say
from mailerd.ops.metrics import Metrics

# Watches from a thread of its own whether the event loop turns, since a loop that is blocked cannot
# say so itself.

_CHECK_INTERVAL: Final = 1.0


class EventLoopMonitor:
    """`beat` is called by the loop; after `bound` seconds without it, one event is logged, with
    every stack.
    """

    def __init__(
        self, *, events: ProcessEvents, bound: float, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._events = events
        self._bound = bound
        self._now = now
        self._last = now()
        self._told = False
        self._stop = threading.Event()

    def beat(self) -> None:
        """The loop turns."""
        self._last = self._now()
        self._told = False

    @contextmanager
    def watching(self, loop: asyncio.AbstractEventLoop) -> Iterator[None]:
        """Watch meanwhile."""
        thread = threading.Thread(
            target=self._watch, args=(loop,), name="event loop monitor", daemon=True
        )
        thread.start()
        try:
            yield
        finally:
            self._stop.set()

    def _watch(self, loop: asyncio.AbstractEventLoop) -> None:
        while not self._stop.wait(_CHECK_INTERVAL):
            self.sample(loop)

    def sample(self, loop: asyncio.AbstractEventLoop) -> None:
        """Log it when the loop has been blocked for too long."""
        silent = self._now() - self._last
        if silent > self._bound and not self._told:
            self._told = True
            self._events.loop_blocked(
                seconds=silent, stacks=printed(f"{dump_threads()}\n{dump_tasks(loop)}")
            )


_MAX_TASKS: Final = 100
_MAX_FRAMES: Final = 30


def dump_tasks(loop: asyncio.AbstractEventLoop) -> str:
    """Where every task of a loop stands, as text; the values of variables are left out, they may be
    secrets.
    """
    tasks = sorted(asyncio.all_tasks(loop), key=lambda task: task.get_name())
    parts = [f"task {task.get_name()}:\n{_frames(task)}" for task in tasks[:_MAX_TASKS]]
    if len(tasks) > _MAX_TASKS:
        parts.append(f"and {len(tasks) - _MAX_TASKS} more tasks")
    return "\n".join(parts)


def _frames(task: "asyncio.Task[object]") -> str:
    """The whole way down: `Task.get_stack` alone shows the outermost coroutine only."""
    lines: list[str] = []
    it: object = task.get_coro()
    while it is not None and len(lines) < _MAX_FRAMES:
        frame = getattr(it, "cr_frame", None) or getattr(it, "gi_frame", None)
        if not isinstance(frame, FrameType):
            break
        lines.append(
            f'  File "{frame.f_code.co_filename}", line {frame.f_lineno}, in {frame.f_code.co_name}'
        )
        it = getattr(it, "cr_await", None) or getattr(it, "gi_yieldfrom", None)
    return "\n".join(lines)


def dump_threads() -> str:
    """Where every thread stands, its innermost frame first."""
    try:
        with tempfile.TemporaryFile() as file:  # it wants a real one
            faulthandler.dump_traceback(file=file, all_threads=True)
            file.seek(0)
            stacks = file.read().decode("utf-8", "backslashreplace").rstrip()
    except OSError as error:  # a disk that is full must not hide that the loop stands still
        return f"the stacks of the threads are not known: {error}"
    # Python 3.14 adds the system's name for it
    stacks = re.sub(r"(hread 0x[0-9a-f]+) \[.*\] \(", r"\1 (", stacks)
    for thread in threading.enumerate():
        stacks = stacks.replace(f"hread 0x{thread.ident:016x} ", f"hread {thread.name} ")
    return stacks


# Talks to systemd: readiness, status, the watchdog and inherited sockets; without systemd every
# call does nothing.
#
# The protocols are sd_notify(3), sd_watchdog_enabled(3) and sd_listen_fds(3).

_FIRST: Final = 3
"""The first inherited descriptor: SD_LISTEN_FDS_START of sd_listen_fds(3)."""


class Systemd:
    """What this process says to its service manager, and what it got from it."""

    def __init__(
        self, environment: Mapping[str, str] | None = None, *, language: Language = "en"
    ) -> None:
        self.language = language
        given = os.environ if environment is None else environment
        address = given.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._status = ""
        ours = given.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        micros = given.get("WATCHDOG_USEC", "") if ours else ""
        self.watchdog: Final = int(micros) / 1e6 if micros.isdecimal() else 0.0
        """Seconds within which the watchdog must be fed; 0: there is none."""
        fds = given.get("LISTEN_FDS", "") if given.get("LISTEN_PID") == str(os.getpid()) else ""
        self._listening = int(fds) if fds.isdecimal() else 0

    @property
    def enabled(self) -> bool:
        """Whether systemd listens."""
        return bool(self._address)

    def sockets(self) -> list[socket.socket]:
        """The listening sockets that systemd keeps; they outlive this process, so that no client is
        refused.
        """
        found = []
        for number in range(_FIRST, _FIRST + self._listening):
            os.set_inheritable(number, False)
            sock = socket.socket(fileno=number)
            sock.setblocking(False)
            found.append(sock)
        self._listening = 0
        return found

    def ready(self, status: str) -> None:
        """The service is up, or has finished reloading."""
        self._status = status
        self._say(f"READY=1\nSTATUS={self._localized(status)}")

    def reloading(self) -> None:
        """A reload begins; `ready` must follow."""
        micros = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._say(f"RELOADING=1\nMONOTONIC_USEC={micros}")

    def stopping(self, status: str) -> None:
        """The end has begun."""
        self._say(f"STOPPING=1\nSTATUS={self._localized(status)}")

    def extend_timeout(self, seconds: float) -> None:
        """The start or the stop gets so many more seconds from now."""
        self._say(f"EXTEND_TIMEOUT_USEC={int(seconds * 1e6)}")

    def notify_watchdog(self) -> None:
        """All loops make progress."""
        self._say("WATCHDOG=1")

    def trigger_watchdog(self) -> None:
        """A loop has stalled for good: end and restart this process now."""
        self._say("WATCHDOG=trigger")

    def status(self, text: str) -> None:
        """One line for `systemctl status`; said only when it has changed."""
        if text != self._status:
            self._status = text
            self._say(f"STATUS={self._localized(text)}")

    def _localized(self, status: str) -> str:
        return say(status, self.language)

    def _say(self, text: str) -> None:
        if not self._address:
            return
        # Never in the way: a manager that does not read loses a status line, and a watchdog that is
        # not fed is its own remedy.
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            sock.setblocking(False)
            try:
                sock.sendto(text.encode(), self._address)
            except OSError:
                return


TICK_INTERVAL: Final = 0.5
"""Seconds between two checks of the loops."""
FLUSH_INTERVAL: Final = 0.01
"""Seconds between two pushes at a log that has records left: 8 MiB of them are gone within
seconds.
"""
_FLUSH_TIMEOUT: Final = 2.0
"""Seconds at the end for a journald that has not yet taken everything."""


@dataclass
class Watchdog:
    """What systemd hears of one daemon."""

    systemd: Systemd
    heartbeats: Heartbeats
    monitor: EventLoopMonitor
    events: ProcessEvents
    metrics: Metrics
    facts: Callable[[], Facts]
    """What is known of how it goes."""
    flush: Callable[[], bool]
    """Push on what the log could not get rid of; whether more is left."""
    _listening: bool = False
    _prepared: bool = False
    _ready: bool = False
    _note: str = ""
    _notified_at: float = 0.0
    _told: set[str] = field(default_factory=set)

    def listening(self) -> None:
        """The intake takes requests."""
        self._listening = True
        self._say_ready()

    def prepared(self) -> None:
        """The database is there and its schema is right."""
        self._prepared = True
        self._say_ready()

    def stopping(self, *, in_flight: int, within: float) -> None:
        """Draining has begun and may take `within` seconds."""
        self._note = tn(
            "draining: {n:,} message in flight", "draining: {n:,} messages in flight", in_flight
        )
        self.systemd.stopping(self._note)
        self.systemd.extend_timeout(within)

    def reloading(self) -> None:
        """Settings are being read again."""
        self.systemd.reloading()

    def reloaded(self, trouble: str = "") -> None:
        """They were read, or refused for `trouble`; either way the service goes on."""
        self._note = trouble
        self.systemd.ready(self._status())

    async def loop(self) -> None:
        """Tick, until cancelled."""
        with self.monitor.watching(asyncio.get_running_loop()):
            while True:
                before = time.monotonic()
                await self._push(within=TICK_INTERVAL - FLUSH_INTERVAL)
                await asyncio.sleep(max(0.0, before + TICK_INTERVAL - time.monotonic()))
                self.metrics.lag(max(0.0, time.monotonic() - before - TICK_INTERVAL))
                self.tick()

    async def flush_on_exit(self) -> None:
        """At the end: give the log a moment to get rid of what it kept."""
        await self._push(within=_FLUSH_TIMEOUT)

    async def _push(self, *, within: float) -> None:
        end = time.monotonic() + within
        while self.flush() and time.monotonic() < end:  # noqa: ASYNC110 - journald does not say that it reads again
            await asyncio.sleep(FLUSH_INTERVAL)

    def tick(self) -> None:
        """Check the loops once and report to systemd."""
        self.monitor.beat()
        self.flush()
        self.metrics.set_heartbeats(
            {heartbeat.loop: heartbeat.age for heartbeat in self.heartbeats.all()}
        )
        if self._stalled():
            return
        now = time.monotonic()
        if self.systemd.watchdog and now - self._notified_at >= self.systemd.watchdog / 4:
            self._notified_at = now
            self.systemd.notify_watchdog()
        self._say_ready()
        if self._ready:
            self.systemd.status(self._status())

    def _stalled(self) -> bool:
        stalled = self.heartbeats.stalled()
        for heartbeat in stalled:
            if heartbeat.loop not in self._told:
                self._told.add(heartbeat.loop)
                self.events.loop_stalled(
                    loop=heartbeat.loop,
                    doing=heartbeat.doing,
                    seconds=heartbeat.age,
                    stacks=printed(dump_tasks(asyncio.get_running_loop())),
                )
                self.flush()
                self.systemd.trigger_watchdog()
        self._told &= {heartbeat.loop for heartbeat in stalled}
        return bool(stalled)

    def _say_ready(self) -> None:
        # With the database away the daemon is up all the same: it answers 503, says why, and goes
        # on trying.
        if not self._ready and self._listening and (self._prepared or self.facts().outage):
            self._ready = True
            self.systemd.ready(self._status())

    def _status(self) -> str:
        facts = self.facts()
        found = situation(facts)
        is_new = facts.stats is None and not facts.outage and facts.unknown_for < STALL_TIMEOUT
        said = t("running") if is_new else line(facts.stats, found)
        return joined([self._note, said]) if self._note else said
