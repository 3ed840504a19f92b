"""What each loop is doing, and until when that may last; and periodic work.

A loop silent for longer has stalled.
"""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Final, NoReturn

from mailerd.errors import DatabaseAwayError, DatabaseError

STALL_TIMEOUT: Final = 90.0
"""Seconds of work without a word: above the longest bounded call (a transaction, 30 s by default)
and its aftermath.
"""


@dataclass
class Heartbeat:
    """One loop, in its own words. A wait has a name, and a bound wherever there is one."""

    loop: str
    limit: float
    now: Callable[[], float]
    doing: str = "start"
    since: float = field(init=False)
    until: float = field(init=False)

    def __post_init__(self) -> None:
        self.working("start")

    def working(self, on: str) -> None:
        """It has got this far: real progress, and the next word comes within `limit` seconds."""
        self.doing, self.since = on, self.now()
        self.until = self.since + self.limit

    def waiting(self, on: str, *, at_most: float | None) -> None:
        """It waits for `on`; None: for as long as it takes."""
        self.doing, self.since = f"wait.{on}", self.now()
        self.until = float("inf") if at_most is None else self.since + at_most + self.limit

    def goes_on(self) -> None:
        """Real progress in what it does; a wait gets no shorter by it."""
        self.since = self.now()
        self.until = max(self.until, self.since + self.limit)

    @property
    def age(self) -> float:
        """Seconds since the last word; 0 while it waits for something that has no bound."""
        return 0.0 if self.until == float("inf") else max(0.0, self.now() - self.since)


_NOBODY: Final = Heartbeat("", float("inf"), time.monotonic)
_CURRENT: Final = ContextVar("heartbeat", default=_NOBODY)


def current() -> Heartbeat:
    """The heartbeat of the loop that this task is, or works for; outside of any loop, one that is
    not watched.
    """
    return _CURRENT.get()


def beat() -> None:
    """The loop that this task is, or works for, has got further.

    The store says so after each try of what it repeats until it is committed: a loop that waits for
    a frozen database has not stalled.
    """
    _CURRENT.get().goes_on()


def detach() -> None:
    """What this task does from now on is no progress of the loop that began it."""
    _CURRENT.set(_NOBODY)


class Heartbeats:
    """All loops of one daemon."""

    def __init__(
        self, now: Callable[[], float] = time.monotonic, *, limit: float = STALL_TIMEOUT
    ) -> None:
        self._now = now
        self.limit: Final = limit
        self._heartbeats: dict[str, Heartbeat] = {}

    def register(self, loop: str, *, limit: float | None = None) -> Heartbeat:
        """The heartbeat of a loop, from now on, and of its task and those that it begins.

        `limit` for one whose single steps take longer.
        """
        heartbeat = self._heartbeats[loop] = Heartbeat(
            loop, self.limit if limit is None else limit, self._now
        )
        _CURRENT.set(heartbeat)
        return heartbeat

    def end(self, loop: str) -> None:
        """The loop has ended as it should."""
        self._heartbeats.pop(loop, None)

    def all(self) -> list[Heartbeat]:
        """Every loop that runs."""
        return list(self._heartbeats.values())

    def stalled(self) -> list[Heartbeat]:
        """The loops that should have said something by now."""
        now = self._now()
        return [heartbeat for heartbeat in self._heartbeats.values() if now > heartbeat.until]


async def every(
    interval: float,
    work: Callable[[], Awaitable[bool | None]],
    *,
    name: str = "",
    first_after: float = 0.0,
    heartbeat: Heartbeat | None = None,
    on_error: Callable[[DatabaseError], None] | None = None,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> NoReturn:
    """Run `work`, rest for `interval` seconds, and so on; without a rest while it returns True,
    since more is due.

    The store logs a database that is away, and the loop goes on; another DatabaseError goes to
    `on_error`. Whatever else `work` raises is a bug and ends the loop. `heartbeat` hears what the
    loop does; `name` is what the work is called there.
    """
    rest = first_after
    while True:
        if rest > 0:
            if heartbeat is not None:
                heartbeat.waiting("next_round", at_most=rest)
            await sleep(rest)
        if heartbeat is not None:
            heartbeat.working(name)
        more = None
        try:
            more = await work()
        except DatabaseAwayError:
            pass
        except DatabaseError as error:
            if on_error is None:
                raise
            on_error(error)
        rest = 0.0 if more else interval


def is_there(pid: int) -> bool:
    """Whether this machine has such a process."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        pass
    return True
