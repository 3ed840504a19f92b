"""What the HTTP server itself complains of, before there is a request or after its answer: told as events."""

from typing import Final

from aiohttp.http import HttpProcessingError

from mailerd.events.intake import IntakeEvents

_REASON_AT_MOST: Final = 200


def reason_of(error: HttpProcessingError) -> str:
    """Why it is no HTTP, in a line; the lines below show what was sent, which may be a key."""
    return error.message.strip().partition("\n")[0].rstrip(": ")[:_REASON_AT_MOST] or type(error).__name__


class ServerLog:
    """Stands where aiohttp's server expects its logger, whose lines would come out beside the log and in no format."""

    def __init__(self, events: IntakeEvents) -> None:
        self._events = events

    def debug(self, message: str, *values: object, exc_info: BaseException | None = None) -> None:
        """Connections that end before they have said anything, and TLS where HTTP is spoken."""
        if isinstance(exc_info, HttpProcessingError):
            self.exception(message, *values, exc_info=exc_info)

    def exception(self, message: str, *values: object, exc_info: BaseException | None = None) -> None:
        """Bytes that are no HTTP, or a bug."""
        if isinstance(exc_info, HttpProcessingError):
            address = str(values[0]) if values and values[0] else "unix"
            self._events.request_malformed(address=address, reason=reason_of(exc_info))
        else:
            what = message % values if values else message
            self._events.connection_failed(what=what, error=exc_info or RuntimeError(what))
