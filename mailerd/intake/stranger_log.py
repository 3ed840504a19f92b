"""What is logged of clients without a key: some requests a minute of each address, and the number of the others.

Such a client costs the log more bytes than it sends. What has a key, and whatever concerns a letter, is always logged.
"""

import asyncio
from collections import Counter
from contextvars import ContextVar
from typing import Final

from mailerd.clock import Clock
from mailerd.events.intake import IntakeEvents
from mailerd.intake.client_address import TokenBuckets

PER_MINUTE: Final = 60
"""Requests of one address that are logged one by one: so many at once, and then one a second."""
TOGETHER: Final = 600
"""The same of all addresses together."""
SUMMARY_INTERVAL: Final = 10.0
"""Seconds until those that were not logged are counted in one line."""
_DECIDED: Final = ContextVar[bool | None]("decided", default=None)
"""Whether the request that is being answered is logged; None: not asked yet."""


class StrangerLog:
    """Decides what is logged, and counts the rest."""

    def __init__(self, *, events: IntakeEvents, clock: Clock) -> None:
        self._events = events
        self._clock = clock
        self._buckets = TokenBuckets()
        self._together = TokenBuckets()
        self._left_out: Counter[str] = Counter()
        self._telling: asyncio.TimerHandle | None = None

    @staticmethod
    def begin() -> None:
        """A request has come."""
        _DECIDED.set(None)

    def logs_request(self, address: str) -> bool:
        """Whether the request that is being answered is logged, all lines of it alike."""
        if (decided := _DECIDED.get()) is None:
            decided = self.logs(address)
            _DECIDED.set(decided)
        return decided

    def logs(self, address: str) -> bool:
        """Whether one more line about this address is written; else it is counted."""
        now = self._clock.monotonic()
        if not self._buckets.wait(address, per_minute=PER_MINUTE, now=now) and not self._together.wait(
            "", per_minute=TOGETHER, now=now
        ):
            return True
        self._left_out[address] += 1
        if self._telling is None:
            self._telling = asyncio.get_running_loop().call_later(SUMMARY_INTERVAL, self.tell)
        return False

    def tell(self) -> None:
        """Say how many were left out since it was said last."""
        if self._telling is not None:
            self._telling.cancel()
            self._telling = None
        if self._left_out:
            ((address, most),) = self._left_out.most_common(1)
            self._events.requests_not_logged(
                count=self._left_out.total(), addresses=len(self._left_out), address=address, most=most
            )
            self._left_out.clear()
