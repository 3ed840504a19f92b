"""The log of aiohttp's server: bytes that are no HTTP, and bugs below the endpoints, become events."""

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, override

from aiohttp.http import HttpProcessingError

from mailerd.events.intake import IntakeEvents
from mailerd.intake.stranger_log import StrangerLog

_MAX_REASON: Final = 200
_WHAT_WAS_SENT: Final = re.compile(r":?\s*\n|: b'|: bytearray\(")
"""Where aiohttp begins to quote the request, which may hold an API key."""


@contextmanager
def server_log(
    events: IntakeEvents, strangers: StrangerLog, *, name: str = "mailerd.intake.server"
) -> Iterator[logging.Logger]:
    """The logger for aiohttp's server; while the context lasts, its records become events. `name`: one a listener."""
    log, logger = _ServerLog(events, strangers), logging.getLogger(name)
    logger.setLevel(logging.DEBUG)  # aiohttp reports bytes that are no HTTP at this level
    logger.propagate = False
    logger.addHandler(log)
    try:
        yield logger
    finally:
        logger.removeHandler(log)


class _ServerLog(logging.Handler):
    def __init__(self, events: IntakeEvents, strangers: StrangerLog) -> None:
        super().__init__()
        self._strangers = strangers
        self._events = events

    @override
    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, HttpProcessingError):
            address = str((record.args[0] if isinstance(record.args, tuple) and record.args else None) or "unix")
            if self._strangers.logs(address):
                self._events.request_malformed(address=address, reason=_reason(error))
        elif record.levelno >= logging.WARNING:
            what = record.getMessage()
            self._events.connection_failed(what=what, error=error or RuntimeError(what))


def _reason(error: HttpProcessingError) -> str:
    return _WHAT_WAS_SENT.split(error.message.strip(), maxsplit=1)[0][:_MAX_REASON] or type(error).__name__
