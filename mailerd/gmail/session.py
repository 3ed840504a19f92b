"""Carries single requests for aiogoogle over shared connections, and says what became of each one.

Nothing else talks HTTP to Google. It implements aiogoogle's session interface itself, because the one that comes with
it reads bodies by their Content-Type (and crashes on some), repeats under a time-out of "none", follows
redirects, and cannot tell whether a request was written.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Self, override

import aiohttp
from aiogoogle.models import Request, Response
from aiogoogle.sessions.abc import AbstractSession

from mailerd import __version__
from mailerd.core.replies import Call, NoResponse, NotSent
from mailerd.events.gmail import GmailEvents
from mailerd.gmail.connection import Exchanges
from mailerd.gmail.responses import Answer

_HEADERS = {
    # Google compresses its answers for a User-Agent that holds the word gzip:
    # https://developers.google.com/workspace/gmail/api/guides/performance
    "User-Agent": f"mailerd/{__version__} (gzip)",
    "Accept": "*/*",
    "Accept-Encoding": "gzip, deflate",
}

_FORESEEN = (aiohttp.ClientError, OSError, TimeoutError)
"""What a network does; OSError includes ssl.SSLError, DNS and resets. Everything else is a bug, ours or a library's."""


class Flight(Request):
    """One request on its way, once."""

    def __init__(
        self,
        call: Call,
        *,
        sender: str,
        method: str,
        url: str,
        body: bytes | None = None,
        content_type: str = "application/json",
    ) -> None:
        headers = _HEADERS if body is None else {**_HEADERS, "Content-Type": content_type}
        super().__init__(method=method, url=url, headers=dict(headers), data=body)
        self.call = call
        self.sender = sender
        self.may_be_written = False
        """Set just before the first byte goes to the socket; until then Google certainly has nothing."""

    def written(self) -> None:
        """It goes to the socket now."""
        self.may_be_written = True


class Wire(AbstractSession):
    """The shared connections. Every wait in it ends at a deadline, a time of the event loop's clock."""

    def __init__(self, *, events: GmailEvents, limit: int, request_timeout: float) -> None:
        self._events = events
        self._limit = limit
        self._request_timeout = request_timeout
        self._exchanges: Exchanges | None = None

    async def __aenter__(self) -> Self:
        self._exchanges = Exchanges(limit=self._limit, connect_timeout=self._request_timeout)
        return self

    async def __aexit__(self, *_: object) -> None:
        exchanges, self._exchanges = self._exchanges, None
        if exchanges:
            await exchanges.close()

    @override
    async def send(self, *requests: Request, **_: Any) -> Response:
        """Send one Flight and read its answer whole, as bytes; aiogoogle calls this.

        With several requests the first failure would raise while its siblings went on unattended, so it takes one.
        """
        (flight,) = requests
        if self._exchanges is None or not isinstance(flight, Flight):
            raise RuntimeError("Gmail is used outside `async with`")
        answer = await self._exchanges.make(
            str(flight.method), str(flight.url), headers=flight.headers, body=flight.data, written=flight.written
        )
        return Response(status_code=answer.status, headers=answer.headers, data=answer.body, req=flight)

    async def ask(
        self, flight: Flight, *, deadline: float, through: Callable[[Flight], Awaitable[Response]] | None = None
    ) -> Answer | NotSent | NoResponse:
        """What became of a flight, whatever happened; `through` is the way that it takes, aiogoogle's for Gmail."""
        if self._exchanges is None:
            raise RuntimeError("Gmail is used outside `async with`")
        try:
            async with asyncio.timeout_at(deadline):
                response = await (through or self.send)(flight)
        except _FORESEEN as error:
            return _what_became_of(flight, cause=_words(error))
        except Exception as error:  # noqa: BLE001 - a letter's fate must be told even when a library has a bug
            outcome = _what_became_of(flight, cause=_words(error))
            self._events.google_call_crashed(
                sender=flight.sender, call=flight.call, outcome=type(outcome).__name__, error=error
            )
            return outcome
        return Answer(status=response.status_code, headers=response.headers, body=response.data)


def _what_became_of(flight: Flight, *, cause: str) -> NotSent | NoResponse:
    return NoResponse(cause) if flight.may_be_written else NotSent(cause)


def _words(error: BaseException) -> str:
    """An exception in words. Never its repr: aiohttp's holds the request's headers, and the token with them."""
    return f"{type(error).__name__}: {str(error) or 'no answer within the time-out'}"[:500]
