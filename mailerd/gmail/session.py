"""Sends HTTP requests to Google, one at a time, and says what became of each one.

aiogoogle's own session is not used: it reads bodies by their Content-Type (and crashes on some),
has no time-out, follows redirects, and cannot tell whether a request was sent.
"""

import asyncio
import base64
import json
import math
import re
import socket
import ssl
import struct
import time
import zlib
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from copy import copy
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cached_property
from typing import Any, Final, Self, assert_never, override

import httptools
from aiogoogle.models import Request, Response
from aiogoogle.sessions.abc import AbstractSession
from aiohappyeyeballs import AddrInfoType, start_connection
from yarl import URL

from mailerd import __version__
from mailerd.config import GmailSettings
from mailerd.core.excerpts import words_of
from mailerd.core.i18n import t
from mailerd.core.replies import (
    Accepted,
    Call,
    MalformedResponse,
    NoCredentials,
    NoResponse,
    NotSent,
    OwnerUnknown,
    Refused,
    Reply,
    TokenRefused,
    TokenUnavailable,
    TooLate,
    WrongMailbox,
)
from mailerd.events.worker import GmailEvents

# Reads Google's answers into facts; pure, and no body makes it fail.

_EXCERPT = 500
_DEFAULT_LIFETIME_S = 3599.0
"""Seconds that a token is taken to live when the answer does not say (expires_in is only
recommended by RFC 6749, section 5.1); what Google has always said. A token that dies sooner shows
as a 401, which is repeated once.
"""

MAX_BODY = 1024 * 1024
"""Bytes of an answer's body, decompressed.

The largest that Gmail sends us, a page of a hundred entries or a thread, is a tenth of that.
"""
MAX_RAW = 12 * 1024 * 1024
"""The most bytes of an answer with a whole message (format raw): 8 MiB of it, in base64url."""
_MAX_LIFETIME_S = 366 * 86_400.0
_REASONS = {"NOT_FOUND": "notFound", "FAILED_PRECONDITION": "failedPrecondition"}
"""Gmail's word for a status, where the envelope has that alone."""
_OF_DRAFTS = (Call.DRAFTS_CREATE, Call.DRAFTS_GET)
"""A draft holds its message, and no other answer has a field of that name: so neither is taken for
the other.
"""

_DATED = (Call.HISTORY_LIST, Call.GET_PROFILE)
"""Calls whose answers keep their time: they say how far a mailbox has come, by Google's clock."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete HTTP answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)
    max_body: int = MAX_BODY

    @property
    def too_large(self) -> bool:
        """Whether this is only the beginning of a body that was not read to its end."""
        return len(self.body) > self.max_body


@dataclass(frozen=True, slots=True)
class TokenResponse:
    """A token, as the token endpoint gave it."""

    access_token: str = field(repr=False)
    lifetime_s: float
    scopes: tuple[str, ...] | None
    """The granted scopes; None: the answer names none, which RFC 6749 allows if they are those that
    were asked for.
    """


def read(answer: Answer, *, call: Call) -> Reply:
    """What Gmail answered to a call."""
    if answer.status >= 300:  # noqa: PLR2004 - where HTTP's success ends
        return _refused(answer)
    if answer.too_large:
        return MalformedResponse(
            answer.status,
            t(
                "more than {n:,} bytes, starting with: {excerpt}",
                n=answer.max_body,
                excerpt=_excerpt(answer.body),
            ),
        )
    if call is Call.DRAFTS_DELETE:
        # Google answers 204 with nothing; a page of HTML with a 200 comes from a proxy.
        return Accepted() if answer.body.strip() in (b"", b"{}") else _garbled(answer)
    reply = _accepted(call, parse_json(answer.body))
    if reply is not None and call in _DATED:
        reply = replace(reply, answered_at=_http_date(answer.headers.get("Date", "")))
    return reply or _garbled(answer)


def of_request(
    reply: Accepted, answer: Answer, *, id_: str, thread: str
) -> Accepted | MalformedResponse:
    """The reply, where it has the id and the thread that were asked for; "": any.

    Else it answers another request.
    """
    if (id_ and reply.id != id_) or (thread and reply.thread_id != thread):
        asked = thread or id_
        return MalformedResponse(
            answer.status,
            t("not {asked}, which was requested: {body}", asked=asked, body=_excerpt(answer.body)),
        )
    return reply


def read_token(answer: Answer) -> TokenResponse | TokenRefused | TokenUnavailable:
    """What the token endpoint answered. No excerpt of a 2xx is ever kept: it may hold a token."""
    body = parse_json(answer.body)
    if not 200 <= answer.status < 300:  # noqa: PLR2004 - HTTP's success
        known = body if isinstance(body, dict) else {}
        error, words = known.get("error"), known.get("error_description")
        return TokenRefused(
            status=answer.status,
            error=one_line(error) if isinstance(error, str) else "",
            description=one_line(words) if isinstance(words, str) else _excerpt(answer.body),
        )
    token = body.get("access_token") if isinstance(body, dict) and not answer.too_large else None
    if (
        not isinstance(body, dict)
        or not isinstance(token, str)
        or not re.fullmatch(r"[\x21-\x7e]+", token)
    ):
        return TokenUnavailable(
            t(
                "the token endpoint returned {status} without a usable access token",
                status=answer.status,
            )
        )
    scope = body.get("scope")
    return TokenResponse(
        access_token=token,
        lifetime_s=_lifetime(body.get("expires_in")),
        scopes=tuple(scope.split()) if isinstance(scope, str) and scope.strip() else None,
    )


def _lifetime(said: object) -> float:
    if isinstance(said, bool) or not isinstance(said, int | float):
        return _DEFAULT_LIFETIME_S
    return float(said) if 0 <= said < _MAX_LIFETIME_S else _DEFAULT_LIFETIME_S


def _accepted(call: Call, body: object) -> Accepted | None:
    """The facts of a success, or None when the body is not what the method promises."""
    if not isinstance(body, dict) or isinstance(body.get("message"), dict) is not (
        call in _OF_DRAFTS
    ):
        return None
    match call:
        case Call.DRAFTS_LIST | Call.MESSAGES_LIST:
            entries = body.get("drafts" if call is Call.DRAFTS_LIST else "messages", [])
            good = isinstance(entries, list) and all(
                isinstance(e, dict) and _id(e.get("id")) for e in entries
            )
            return Accepted(body=body) if good else None
        case Call.HISTORY_LIST:
            records = body.get("history", [])
            good = isinstance(records, list) and all(
                isinstance(it, dict) and _id(it.get("id")) for it in records
            )
            return Accepted(body=body) if good and _id(body.get("historyId")) else None
        case Call.GET_PROFILE:
            return Accepted(body=body) if isinstance(body.get("emailAddress"), str) else None
        case Call.DRAFTS_CREATE | Call.DRAFTS_GET:
            thread = body["message"].get("threadId")
        case Call.THREADS_GET:
            thread = body.get("id")
        case _:
            thread = body.get("threadId")
    if not (ident := _id(body.get("id"))):
        return None
    reads = call in (Call.DRAFTS_GET, Call.MESSAGES_GET, Call.THREADS_GET)
    return Accepted(id=ident, thread_id=_id(thread), body=body if reads else None)


def _id(value: object) -> str:
    """An id that can be stored (the columns hold 128 characters) and asked for, or ""."""
    return value if isinstance(value, str) and re.fullmatch(r"[\x21-\x7e]{1,128}", value) else ""


def _refused(answer: Answer) -> Refused:
    body = parse_json(answer.body)
    # Some of Google's front ends wrap the envelope into a list.
    if isinstance(body, list) and body:
        body = body[0]
    error = body.get("error") if isinstance(body, dict) else None
    message = error.get("message") if isinstance(error, dict) else None
    return Refused(
        status=answer.status,
        reason=one_line(error) if isinstance(error, str) else _reason(error),
        message=one_line(message)
        if isinstance(message, str) and message
        else _excerpt(answer.body),
        retry_after=_retry_after(answer.headers),
        answered_at=_http_date(answer.headers.get("Date", "")),
    )


def _reason(error: object) -> str:
    """`errors[0].reason`, or that of the ErrorInfo among the details (https://google.aip.dev/193),
    or by the status.
    """
    if not isinstance(error, dict):
        return ""
    for entries in (error.get("errors"), error.get("details")):
        for entry in entries if isinstance(entries, list) else []:
            reason = entry.get("reason") if isinstance(entry, dict) else None
            if isinstance(reason, str) and reason:
                return one_line(reason)
    status = error.get("status")
    return _REASONS.get(status, one_line(status)) if isinstance(status, str) else ""


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds, from either form of RFC 9110, section 10.2.3; a date counts from the answer's own
    Date.
    """
    said = headers.get("Retry-After", "").strip()
    if re.fullmatch(r"[0-9]{1,9}", said):
        return float(said)
    until, since = _http_date(said), _http_date(headers.get("Date", ""))
    return None if until is None or since is None else max(0.0, (until - since).total_seconds())


def _http_date(said: str) -> datetime | None:
    """A date as HTTP has it (RFC 9110, section 5.6.7); None for anything else."""
    try:
        return parsedate_to_datetime(said).replace(tzinfo=UTC)
    except (ValueError, TypeError, OverflowError):
        return None


def _garbled(answer: Answer) -> MalformedResponse:
    return MalformedResponse(status=answer.status, excerpt=_excerpt(answer.body))


def parse_json(body: bytes) -> Any:
    """The parsed body, or None for what is no JSON: bad UTF-8 and nesting without end included."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _excerpt(body: bytes) -> str:
    return one_line(words_of(body[: 4 * _EXCERPT].decode("utf-8", "replace")))


def one_line(text: str) -> str:
    """One printable line of at most 500 characters: no line feeds for a log, no lone surrogates for
    a database.
    """
    shown = "".join(c if c.isprintable() else " " for c in text)
    return " ".join(shown.split())[:_EXCERPT]


# Reports the outcome of each call to Google.

_WORDS: Final[Mapping[type[Reply], str]] = {
    Accepted: "accepted",
    NoCredentials: "no_credentials",
    WrongMailbox: "wrong_mailbox",
    TokenUnavailable: "unreachable",
    OwnerUnknown: "unreachable",
    TooLate: "too_late",
    NotSent: "unreachable",
    NoResponse: "lost",
    MalformedResponse: "garbled",
}


def outcome_of(reply: Reply) -> str:
    """A reply in one word, for a label: accepted, refused_429, token_refused_400, lost."""
    match reply:
        case Refused():
            return f"refused_{reply.status}"
        case TokenRefused():
            return f"token_refused_{reply.status}"
        case _:
            return _WORDS[type(reply)]


def report(events: GmailEvents, reply: Reply, *, sender: str, call: Call, seconds: float) -> None:
    """Report the end of a call as an event, which the log and the metrics take."""
    if isinstance(reply, Accepted):
        events.google_call_succeeded(sender=sender, call=call, seconds=seconds)
    else:
        events.google_call_failed(
            sender=sender,
            call=call,
            outcome=outcome_of(reply),
            excerpt=_what_was_said(reply),
            seconds=seconds,
        )


def _what_was_said(
    reply: Refused
    | TokenRefused
    | NoCredentials
    | WrongMailbox
    | NotSent
    | NoResponse
    | MalformedResponse,
) -> str:
    match reply:
        case Refused():
            return f"{reply.reason}: {reply.message}"
        case TokenRefused():
            return f"{reply.error}: {reply.description}"
        case NoCredentials() | WrongMailbox() | NotSent() | NoResponse():
            return reply.cause
        case MalformedResponse():
            return reply.excerpt
        case _:
            assert_never(reply)


_HEADERS: Final = {
    # Google compresses its answers for a User-Agent that holds the word gzip:
    # https://developers.google.com/workspace/gmail/api/guides/performance
    "User-Agent": f"mailerd/{__version__} (gzip)",
    "Accept": "*/*",
    "Accept-Encoding": "gzip, deflate",
}
_PIECE: Final = 256 * 1024
"""Bytes of a request that are sent in one go; a larger one goes piece by piece, and other requests
get their turn.
"""
_MAX_OVERHEAD: Final = 64 * 1024
"""Bytes that may come one after another without any of a body: an answer's head, its trailers, a
chunk's size.
"""
_SENDS: Final = frozenset({Call.DRAFTS_SEND, Call.MESSAGES_SEND})
_OF_MESSAGES: Final = _SENDS | {Call.DRAFTS_CREATE}
"""The calls that are made for every message."""
_KEPT_S: Final = 15.0
"""Seconds that the connection that made a draft waits for its send."""
_RESOLVED_FOR_S: Final = 30.0
"""Seconds that a host's addresses are used before they are looked up again, or until none takes a
connection.
"""
_NEXT_ADDRESS_S: Final = 0.25
"""Seconds after which a host's next address is tried as well (RFC 8305)."""
_FINAL_FROM: Final = 200
"""The first status of an answer itself; one below announces another."""
_FRAMED_BY: Final = ("Content-Length", "Transfer-Encoding")
"""A body without them ends with its connection."""
_GZIP_OR_ZLIB: Final = 32 + zlib.MAX_WBITS


class GmailRequest(Request):
    """One HTTP request to Google, which is sent once."""

    def __init__(
        self,
        call: Call,
        *,
        sender: str,
        method: str,
        url: str,
        body: bytes | None = None,
        content_type: str = "application/json",
        max_body: int = MAX_BODY,
        answer_id: str = "",
        answer_thread: str = "",
        draft_id: str = "",
    ) -> None:
        headers = _HEADERS if body is None else {**_HEADERS, "Content-Type": content_type}
        super().__init__(method=method, url=url, headers=dict(headers), data=body)
        self.call = call
        self.sender = sender
        self.max_body = max_body
        """The most bytes of its answer that are read."""
        self.answer_id = answer_id
        """The id that its answer must have; "": any."""
        self.answer_thread = answer_thread
        """The thread that its answer must name; "": any."""
        self.draft_id = draft_id
        """The draft that it sends, over the connection that made it; "": none."""
        self.maybe_sent = False
        """Set just before the first byte goes to the socket; until then Google certainly has
        nothing.
        """
        self.connection: _Connection | None = None
        """The connection that the request was given."""

    def drop_connection(self) -> None:
        """End its connection: whatever comes over it now answers nothing."""
        if self.connection is not None:
            self.connection.abort()

    def again(self) -> "GmailRequest":
        """The same request, unsent; the token that it is given next takes the place of its own."""
        again = copy(self)
        again.maybe_sent, again.connection = False, None
        return again


_BEGIN_BEFORE: ContextVar[float] = ContextVar("_BEGIN_BEFORE", default=math.inf)


class _TooLateError(Exception):
    """See `begin_before`."""


@contextmanager
def begin_before(moment: float) -> Iterator[None]:
    """Let no request of this task begin after `moment` (time.monotonic()); its outcome is TooLate
    then.

    A token, the owner's check, a new connection or a repetition may take seconds before the first
    byte goes out.
    """
    token = _BEGIN_BEFORE.set(moment)
    try:
        yield
    finally:
        _BEGIN_BEFORE.reset(token)


_NETWORK_ERRORS: Final = (httptools.HttpParserError, httptools.HttpParserUpgrade, OSError)
"""OSError includes time-outs, ssl.SSLError, DNS and resets.

Every other exception is a bug, ours or a library's.
"""


class _Connection:
    """A connection, and the answer that comes over it; httptools calls the methods named `on_`.

    It ends by `abort` alone: closing it would first send what is left in the buffer.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._next = asyncio.create_task(self._read())
        """What comes next over it."""

    @property
    def usable(self) -> bool:
        """Whether a request can have it: nothing came unasked, not even its end."""
        return not self._next.done() and not self._writer.is_closing()

    def abort(self) -> None:
        """End it at once."""
        self._next.cancel()
        self._writer.transport.abort()

    async def exchange(self, message: bytes, *, max_body: int) -> tuple[int, dict[str, str], bytes]:
        """Send a request; the status of its answer, its headers by Their-Names, and its body
        (`Answer.too_large`).
        """
        self._parser, self._max_body, self._overhead = (
            httptools.HttpResponseParser(self),
            max_body,
            0,
        )
        self._complete = self._keep = kept = False
        self.on_message_begin()
        pieces = memoryview(message)
        self._writer.write(pieces[:_PIECE])
        writing = asyncio.create_task(self._write(pieces[_PIECE:]))
        try:
            while not self._complete:
                self._feed(await self._next)
            kept = (
                self._keep and writing.done() and not self._writer.transport.get_write_buffer_size()
            )
        finally:
            writing.cancel()
            if not kept:
                self.abort()
        return self._status, self._headers, bytes(self._body)

    async def _write(self, rest: memoryview) -> None:
        with suppress(OSError):  # the reader meets it, too
            for start in range(0, len(rest), _PIECE):
                await self._writer.drain()
                await asyncio.sleep(0)  # other requests get their turn, however fast the network is
                self._writer.write(rest[start : start + _PIECE])

    async def _read(self) -> bytes | OSError:
        try:
            return await self._reader.read(_PIECE)
        except OSError as error:  # raised, asyncio would log it where no request awaits it
            return error

    def _feed(self, came: bytes | OSError) -> None:
        """Take the next part of the answer."""
        if isinstance(came, OSError):
            raise came
        if not came:
            if self._status < _FINAL_FROM or not self._headers.keys().isdisjoint(_FRAMED_BY):
                raise ConnectionResetError(t("connection lost before the response"))
            self._complete = True  # such a body ends with the connection
            return
        self._next = asyncio.create_task(self._read())
        self._overhead += len(came)
        try:
            self._parser.feed_data(came)
        except httptools.HttpParserError:
            if not self._complete:
                raise
            self._keep = False  # it came behind the answer
        if self._overhead > _MAX_OVERHEAD:
            raise httptools.HttpParserError(
                t("more than {n:,} bytes without a body", n=_MAX_OVERHEAD)
            )

    def on_message_begin(self) -> None:
        if self._complete:
            raise ValueError
        self._status, self._headers, self._body = 0, dict[str, str](), bytearray()
        self._compressed: Any = None

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.setdefault(name.decode("latin-1").title(), value.decode("latin-1"))

    def on_headers_complete(self) -> None:
        self._status = self._parser.get_status_code()
        if self._headers.get("Content-Encoding", "").lower() in {"gzip", "deflate"}:
            self._compressed = zlib.decompressobj(_GZIP_OR_ZLIB)

    def on_body(self, body: bytes) -> None:
        self._overhead, allowed = 0, self._max_body + 1 - len(self._body)
        if self._compressed is not None and allowed:
            body = b"" if self._compressed.eof else self._compressed.decompress(body, allowed)
        self._body += body[:allowed]
        self._complete = len(self._body) > self._max_body

    def on_message_complete(self) -> None:
        self._complete = self._status >= _FINAL_FROM
        self._keep = self._parser.should_keep_alive()


class GmailSession(AbstractSession):
    """The connections to Google.

    Every wait in it ends at a deadline, which is a time of the event loop's clock.

    HTTP/1.1 does not say which request an answer belongs to. An answer that comes twice, unasked,
    or late because something on the way has carried its request twice, would be taken for that of
    the connection's next request: a person would get another's message, or a message would be
    recorded as sent that Google never got. Nothing in the answer about a new draft says whose it
    is. So a connection carries one message: its draft is made and sent over it, and neither answer
    can be taken for the other. Every other call has a connection of its own.
    """

    def __init__(self, settings: GmailSettings, *, events: GmailEvents, limit: int) -> None:
        # No proxy of the environment is used: the stand-in on this machine would be asked for
        # there, too.
        self._proxy = URL(settings.proxy) if settings.proxy else None
        self._events = events
        self._limits = {of_messages: asyncio.Semaphore(limit) for of_messages in (True, False)}
        self._open = False
        self._kept = dict[tuple[str, str], tuple[_Connection, asyncio.TimerHandle]]()
        """The connections that made a draft, by sender and draft, each with what will end it."""
        self._resolved = dict[URL, tuple[float, Sequence[AddrInfoType]]]()
        """The addresses of Google, or of the proxy, and until when they are used."""

    async def __aenter__(self) -> Self:
        self._open = True
        return self

    async def __aexit__(self, *_: object) -> None:
        self._open = False
        for draft in [*self._kept]:
            self._end(draft)

    async def request(
        self,
        request: GmailRequest,
        *,
        deadline: float,
        by: Callable[[GmailRequest], Awaitable[Response]] | None = None,
    ) -> Answer | NotSent | NoResponse:
        """Send a request and read its answer; `by` is aiogoogle's way to `send`, which adds the
        token.

        The connection of one that makes a draft is left to the caller: to `keep`, or to drop.
        """
        if not self._open:
            raise RuntimeError("Gmail is used outside `async with`")
        try:
            async with asyncio.timeout_at(deadline), self._limits[request.call in _OF_MESSAGES]:
                response = await (by or self.send)(request)
        except _TooLateError:
            return TooLate(t("could not start in time"))
        except _NETWORK_ERRORS as error:
            words = _words(error)  # which name Google where the proxy made no tunnel to it
            return _outcome(
                request, cause=t("{words} (by gmail.proxy)", words=words) if self._proxy else words
            )
        except Exception as error:  # noqa: BLE001 - a message must get its outcome even when a library has a bug
            outcome = _outcome(request, cause=_words(error))
            self._events.google_call_crashed(
                sender=request.sender,
                call=request.call,
                outcome=type(outcome).__name__,
                error=error,
            )
            return outcome
        finally:
            if request.call is not Call.DRAFTS_CREATE:
                request.drop_connection()
        return Answer(
            status=response.status_code,
            headers=response.headers,
            body=response.data,
            max_body=request.max_body,
        )

    @override
    async def send(self, *requests: Request, **_: Any) -> Response:
        """Send one GmailRequest and read its answer whole, as bytes; aiogoogle calls this.

        It takes no more than one: with several, the first failure would raise and the others would
        go on unattended.

        A GET is repeated once when its connection turns out to be dead. A POST never is, nor a
        DELETE: a draft that the first one deleted would be called gone by the second.
        """
        (request,) = requests
        if not self._open or not isinstance(request, GmailRequest):
            raise RuntimeError("Gmail is used outside `async with`")
        try:
            return await self._exchange(request)
        except ConnectionError:
            if not request.maybe_sent or request.method != "GET":
                raise
            return await self._exchange(request)

    async def _exchange(self, request: GmailRequest) -> Response:
        url = URL(str(request.url))
        message, origin = _message(request, url), url.origin()
        request.connection = connection = self._take(
            (request.sender, request.draft_id)
        ) or await self._connect(origin)
        if request.call in _SENDS and time.monotonic() > _BEGIN_BEFORE.get():
            raise _TooLateError
        request.maybe_sent = True
        status, headers, data = await connection.exchange(message, max_body=request.max_body)
        return Response(status_code=status, headers=headers, data=data, req=request)

    def keep(self, request: GmailRequest, draft_id: str) -> None:
        """Let the send of the draft that this request made have its connection."""
        draft = request.sender, draft_id
        self._end(draft)
        if request.connection is not None:
            expiry = asyncio.get_running_loop().call_later(_KEPT_S, self._end, draft)
            self._kept[draft] = request.connection, expiry
            request.connection = None

    def _take(self, draft: tuple[str, str]) -> _Connection | None:
        """The connection that made a draft, if it is kept and has brought nothing since."""
        if draft not in self._kept:
            return None
        connection, expiry = self._kept.pop(draft)
        expiry.cancel()
        if connection.usable:
            return connection
        connection.abort()
        return None

    def _end(self, draft: tuple[str, str]) -> None:
        if connection := self._take(draft):
            connection.abort()

    async def _connect(self, origin: URL) -> _Connection:
        way = self._proxy or origin
        tls = self._tls if origin.scheme == "https" else None
        try:
            with await start_connection(
                await self._addresses(way),
                happy_eyeballs_delay=_NEXT_ADDRESS_S,
                socket_factory=_socket,
            ) as connected:
                if self._proxy is not None:
                    await _tunnel(connected, origin, proxy=self._proxy)
                reader, writer = await asyncio.open_connection(
                    sock=connected.dup(), ssl=tls, server_hostname=origin.raw_host if tls else None
                )
        except OSError as error:
            self._resolved.pop(way, None)
            raise ConnectionError(
                t("cannot connect to {origin}: {error}", origin=origin, error=error)
            ) from error
        return _Connection(reader, writer)

    async def _addresses(self, way: URL) -> Sequence[AddrInfoType]:
        """The addresses of a host: looked up for each message, a slow name server would hold up
        all.
        """
        loop = asyncio.get_running_loop()
        known_until, addresses = self._resolved.get(way, (0.0, ()))
        if loop.time() >= known_until:
            addresses = await loop.getaddrinfo(
                way.raw_host or "", way.port, type=socket.SOCK_STREAM
            )
            self._resolved[way] = loop.time() + _RESOLVED_FOR_S, addresses
        return addresses

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        return ssl.create_default_context()


def _message(request: GmailRequest, url: URL) -> bytes:
    """A request as it goes over the connection."""
    headers, body = {"Host": url.host_port_subcomponent, **request.headers}, request.data
    if body is not None:
        headers["Content-Length"] = str(len(body))
    if request.call is not Call.DRAFTS_CREATE:
        headers["Connection"] = "close"
    lines = [
        f"{request.method} {url.raw_path_qs} HTTP/1.1",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    if re.search(r"[\0\r\n]", "".join(lines)):
        raise ValueError(t("a header has a control character"))
    return "\r\n".join([*lines, "", ""]).encode() + (body or b"")


def _socket(address: AddrInfoType) -> socket.socket:
    """A socket whose end is a reset (RST), whatever ends it, a kill -9 included.

    When a socket is closed in the ordinary way, the kernel goes on sending for minutes what Google
    has not acknowledged, and a request would arrive after its message was looked for and not found.
    """
    family, kind, protocol, _, _ = address
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return made


async def _tunnel(connected: socket.socket, origin: URL, *, proxy: URL) -> None:
    """Have a proxy connect us to Google (RFC 9110, section 9.3.6)."""
    loop, target, said = (
        asyncio.get_running_loop(),
        f"{origin.host_subcomponent}:{origin.port}".encode(),
        b"",
    )
    asked = b"CONNECT %s HTTP/1.1\r\nHost: %s\r\n" % (target, target)
    if proxy.raw_user is not None or proxy.raw_password is not None:
        known = base64.b64encode(f"{proxy.user or ''}:{proxy.password or ''}".encode())
        asked += b"Proxy-Authorization: Basic %s\r\n" % known
    await loop.sock_sendall(connected, asked + b"\r\n")
    while (
        b"\r\n\r\n" not in said
        and len(said) < _MAX_OVERHEAD
        and (piece := await loop.sock_recv(connected, 4096))
    ):
        said += piece
    if not re.match(rb"HTTP/1\.[01] 2\d\d\b", said):
        raise ConnectionError(
            _excerpt(said.partition(b"\r\n")[0]) or t("connection lost before the response")
        )


def _outcome(request: GmailRequest, *, cause: str) -> NotSent | NoResponse:
    return NoResponse(cause) if request.maybe_sent else NotSent(cause)


def _words(error: BaseException) -> str:
    """An exception in words.

    Never its repr, which may hold the request's headers, and the token with them.
    """
    said: str = str(error) or t("no response within the time-out")
    return t(
        "{error}: {text}",
        error=type(error).__name__,
        text=said if len(said) < _EXCERPT else said[:_EXCERPT],
    )
