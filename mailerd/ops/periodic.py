"""Runs work every so many seconds, until it is cancelled."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import NoReturn

from mailerd.errors import DatabaseAwayError, DatabaseError
from mailerd.ops.heartbeat import Heartbeat


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
    """Run `work`, rest for `interval` seconds, and so on; without a rest while it returns True, since more is due.

    The store logs a database that is away, and the loop goes on; another DatabaseError goes to `on_error`. Whatever
    else `work` raises is a bug and ends the loop. `heartbeat` hears what the loop does; `name` is what the work is
    called there.
    """
    rest = first_after
    while True:
        if rest > 0:
            if heartbeat is not None:
                heartbeat.waiting(f"the next round of {name}", at_most=rest)
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
