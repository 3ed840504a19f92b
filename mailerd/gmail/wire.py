"""Carries single requests for aiogoogle over one shared aiohttp session, and says what became of each one.

The only module that talks HTTP to Google. It implements aiogoogle's session interface itself, because the one that
comes with it reads bodies by their Content-Type (and crashes on some), repeats under a time-out of "none", follows
redirects, and cannot tell whether a request was written.
"""

import asyncio
import io
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any, Self

import aiohttp
from aiogoogle.models import Request, Response
from aiogoogle.sessions.abc import AbstractSession

from mailerd import __version__
from mailerd.core.replies import Call, Lost, Unreachable
from mailerd.events.gmail import GmailEvents
from mailerd.gmail.answers import Answer

# Google compresses its answers for a User-Agent that holds the word gzip:
# https://developers.google.com/workspace/gmail/api/guides/performance
_USER_AGENT = f"mailerd/{__version__} (gzip)"

_WRITTEN_WHOLE = 256 * 1024
"""Bytes; aiohttp copies more in one go as well, and warns from 1 MiB on that this holds up the event loop."""

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
        headers = {"User-Agent": _USER_AGENT}
        if body is not None:
            headers["Content-Type"] = content_type
        super().__init__(method=method, url=url, headers=headers, data=body)
        self.call = call
        self.sender = sender
        self.may_be_written = False
        """Set just before the first byte goes to the socket; until then Google certainly has nothing."""


class Wire(AbstractSession):
    """The shared session. Every wait in it ends at a deadline, a time of the event loop's clock."""

    def __init__(self, *, events: GmailEvents, limit: int, request_timeout: float) -> None:
        self._events = events
        self._limit = limit
        # The deadline round the whole call comes first; these stand behind it. `total` stays off, for with it aiohttp
        # would not say which wait it was that ended.
        self._timeout = aiohttp.ClientTimeout(
            total=None, connect=request_timeout, sock_connect=request_timeout, sock_read=request_timeout
        )
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        trace = aiohttp.TraceConfig()
        trace.on_request_headers_sent.append(_about_to_write)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self._limit),
            # No cookie of one mailbox may travel with another's request.
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=self._timeout,
            trace_configs=[trace],
            trust_env=False,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        session, self._session = self._session, None
        if session:
            await session.close()

    async def send(self, *requests: Request, **_: Any) -> Response:
        """Send one Flight and read its answer whole, as bytes; aiogoogle calls this.

        With several requests the first failure would raise while its siblings went on unattended, so it takes one.
        aiohttp repeats a GET or DELETE once when a kept connection turns out to be dead, a POST never.
        """
        (flight,) = requests
        if self._session is None:
            raise RuntimeError("Gmail is used outside `async with`")
        async with self._session.request(
            str(flight.method),
            str(flight.url),
            data=_streamed(flight.data),
            headers=flight.headers,
            timeout=self._timeout,
            allow_redirects=False,
            trace_request_ctx=flight,
        ) as answer:
            body = await answer.read()
        return Response(status_code=answer.status, headers=answer.headers, data=body, req=flight)

    async def ask(
        self, flight: Flight, *, deadline: float, through: Callable[[Flight], Awaitable[Response]] | None = None
    ) -> Answer | Unreachable | Lost:
        """What became of a flight, whatever happened; `through` is the way that it takes, aiogoogle's for Gmail."""
        if self._session is None:
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


def _streamed(body: bytes | None) -> bytes | io.BytesIO | None:
    """A large body in a form that aiohttp writes piece by piece, with turns for others in between."""
    return io.BytesIO(body) if body is not None and len(body) > _WRITTEN_WHOLE else body


async def _about_to_write(_: aiohttp.ClientSession, context: SimpleNamespace, __: object) -> None:
    context.trace_request_ctx.may_be_written = True


def _what_became_of(flight: Flight, *, cause: str) -> Unreachable | Lost:
    return Lost(cause) if flight.may_be_written else Unreachable(cause)


def _words(error: BaseException) -> str:
    """An exception in words. Never its repr: aiohttp's holds the request's headers, and the token with them."""
    return f"{type(error).__name__}: {str(error) or 'no answer within the time-out'}"[:500]
