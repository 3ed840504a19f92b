"""What is logged of clients without a key: some requests a minute of each address, and the number of the others.

Such a client costs the log more bytes than it sends. What has a key, and whatever concerns a letter, is always logged.
"""

import asyncio
import logging
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final, override

from aiohttp.http import HttpProcessingError

from mailerd.clock import Clock
from mailerd.events.intake import IntakeEvents
from mailerd.intake.client_address import TokenBuckets

PER_MINUTE: Final = 60
"""Requests of one address that are logged one by one: so many at once, and then one a second."""
TOGETHER: Final = 600
"""Requests of all addresses together that are logged one by one: so many at once, and then ten a second."""
SUMMARY_INTERVAL: Final = 10.0
"""Seconds until those that were not logged are counted in one line."""
_DECIDED: Final = ContextVar[bool | None]("decided", default=None)
"""Whether the request that is being answered is logged; None: not asked yet."""


class StrangerLog:
    """Decides what is logged, and counts the rest."""

    def __init__(self, *, events: IntakeEvents, clock: Clock) -> None:
        self.events: Final = events
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
            self._telling = asyncio.get_running_loop().call_later(SUMMARY_INTERVAL, self.log_summary)
        return False

    def log_summary(self) -> None:
        """Say how many were left out since it was said last."""
        if self._telling is not None:
            self._telling.cancel()
            self._telling = None
        if self._left_out:
            ((address, most),) = self._left_out.most_common(1)
            self.events.requests_not_logged(
                count=self._left_out.total(), addresses=len(self._left_out), address=address, most=most
            )
            self._left_out.clear()


_MAX_REASON: Final = 200
_WHAT_WAS_SENT: Final = re.compile(r":?\s*\n|: b'|: bytearray\(")
"""Where aiohttp begins to quote the request, which may hold an API key."""


@contextmanager
def server_log(strangers: StrangerLog, *, name: str) -> Iterator[logging.Logger]:
    """The logger for aiohttp's server; while the context lasts, its records become events. `name`: one a listener.

    At the end it is said how many were left out.
    """
    log, logger = _ServerLog(strangers), logging.getLogger(name)
    logger.setLevel(logging.DEBUG)  # aiohttp reports bytes that are no HTTP at this level
    logger.propagate = False
    logger.addHandler(log)
    try:
        yield logger
    finally:
        logger.removeHandler(log)
        strangers.log_summary()


class _ServerLog(logging.Handler):
    def __init__(self, strangers: StrangerLog) -> None:
        super().__init__()
        self._strangers = strangers

    @override
    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, HttpProcessingError):
            address = str((record.args[0] if isinstance(record.args, tuple) and record.args else None) or "unix")
            if self._strangers.logs(address):
                self._strangers.events.request_malformed(address=address, reason=_reason(error))
        elif record.levelno >= logging.WARNING:
            what = record.getMessage()
            self._strangers.events.connection_failed(what=what, error=error or RuntimeError(what))


def _reason(error: HttpProcessingError) -> str:
    return _WHAT_WAS_SENT.split(error.message.strip(), maxsplit=1)[0][:_MAX_REASON] or type(error).__name__
