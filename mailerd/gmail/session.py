"""Sends HTTP requests to Google, one at a time, and says what became of each one.

Everything here is aiohttp's documented interface but one attribute (`_Connector`). aiogoogle's own session is not used:
it reads bodies by their Content-Type (and crashes on some), has no time-out, follows redirects, and cannot tell whether
a request was sent.
"""

import asyncio
import io
import json
import math
import re
import socket
import struct
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from types import SimpleNamespace
from typing import Any, Final, Self, assert_never, override
from weakref import WeakKeyDictionary

import aiohttp
from aiogoogle.models import Request, Response
from aiogoogle.sessions.abc import AbstractSession
from aiohttp.tracing import Trace
from yarl import URL

from mailerd import __version__
from mailerd.config import GmailSettings
from mailerd.core.i18n import t
from mailerd.core.replies import (
    Accepted,
    Call,
    MalformedResponse,
    NoCredentials,
    NoResponse,
    NotSent,
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
"""Seconds that a token is taken to live when the answer does not say (expires_in is only recommended by RFC 6749,
section 5.1); what Google has always said. A token that dies sooner shows as a 401, which is repeated once."""

MAX_BODY = 1024 * 1024
"""Bytes of an answer's body, decompressed. The largest that Gmail sends us, a page of a hundred entries or a thread, is
a tenth of that."""
MAX_RAW = 12 * 1024 * 1024
"""The most bytes of an answer with a whole message (format raw): 8 MiB of it, in base64url."""
_MAX_LIFETIME_S = 366 * 86_400.0
_REASONS = {"NOT_FOUND": "notFound", "FAILED_PRECONDITION": "failedPrecondition"}
"""Gmail's word for a status, where the envelope has that alone."""
_OF_DRAFTS = (Call.DRAFTS_CREATE, Call.DRAFTS_GET)
"""A draft holds its message, and no other answer has a field of that name: so neither is taken for the other."""

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
    """The granted scopes; None: the answer names none, which RFC 6749 allows if they are those that were asked for."""


def read(answer: Answer, *, call: Call) -> Reply:
    """What Gmail answered to a call."""
    if answer.status >= 300:  # noqa: PLR2004 - where HTTP's success ends
        return _refused(answer)
    if answer.too_large:
        return MalformedResponse(
            answer.status,
            t("more than {n:,} bytes, starting with: {excerpt}", n=answer.max_body, excerpt=_excerpt(answer.body)),
        )
    if call is Call.DRAFTS_DELETE:
        # Google answers 204 with nothing; a page of HTML with a 200 comes from a proxy.
        return Accepted() if answer.body.strip() in (b"", b"{}") else _garbled(answer)
    reply = _accepted(call, parse_json(answer.body))
    if reply is not None and call in _DATED:
        reply = replace(reply, answered_at=_http_date(answer.headers.get("Date", "")))
    return reply or _garbled(answer)


def of_request(reply: Accepted, answer: Answer, *, id_: str, thread: str) -> Accepted | MalformedResponse:
    """The reply, where it has the id and the thread that were asked for; "": any. Else it answers another request."""
    if (id_ and reply.id != id_) or (thread and reply.thread_id != thread):
        asked = thread or id_
        return MalformedResponse(
            answer.status, t("not {asked}, which was requested: {body}", asked=asked, body=_excerpt(answer.body))
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
    if not isinstance(body, dict) or not isinstance(token, str) or not re.fullmatch(r"[\x21-\x7e]+", token):
        return TokenUnavailable(
            t("the token endpoint returned {status} without a usable access token", status=answer.status)
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
    if not isinstance(body, dict) or isinstance(body.get("message"), dict) is not (call in _OF_DRAFTS):
        return None
    match call:
        case Call.DRAFTS_LIST | Call.MESSAGES_LIST:
            entries = body.get("drafts" if call is Call.DRAFTS_LIST else "messages", [])
            good = isinstance(entries, list) and all(isinstance(e, dict) and _id(e.get("id")) for e in entries)
            return Accepted(body=body) if good else None
        case Call.HISTORY_LIST:
            records = body.get("history", [])
            good = isinstance(records, list) and all(isinstance(it, dict) and _id(it.get("id")) for it in records)
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
        message=one_line(message) if isinstance(message, str) and message else _excerpt(answer.body),
        retry_after=_retry_after(answer.headers),
        answered_at=_http_date(answer.headers.get("Date", "")),
    )


def _reason(error: object) -> str:
    """`errors[0].reason`, or that of the ErrorInfo among the details (https://google.aip.dev/193), or by the status."""
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
    """Seconds, from either form of RFC 9110, section 10.2.3; a date counts from the answer's own Date."""
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
    return one_line(body[: 4 * _EXCERPT].decode("utf-8", "replace"))


def one_line(text: str) -> str:
    """One printable line of at most 500 characters: no line feeds for a log, no lone surrogates for a database."""
    shown = "".join(c if c.isprintable() else " " for c in text)
    return " ".join(shown.split())[:_EXCERPT]


# Reports the outcome of each call to Google.

_WORDS: Final[Mapping[type[Reply], str]] = {
    Accepted: "accepted",
    NoCredentials: "no_credentials",
    WrongMailbox: "wrong_mailbox",
    TokenUnavailable: "unreachable",
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
            sender=sender, call=call, outcome=outcome_of(reply), excerpt=_what_was_said(reply), seconds=seconds
        )


def _what_was_said(
    reply: Refused | TokenRefused | NoCredentials | WrongMailbox | NotSent | NoResponse | MalformedResponse,
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
_SENT_AT_ONCE: Final = 256 * 1024
"""Bytes of a body that are sent in one go; a larger one goes piece by piece, and other requests get their turn."""
_SENDS: Final = frozenset({Call.DRAFTS_SEND, Call.MESSAGES_SEND})
_OF_MESSAGES: Final = _SENDS | {Call.DRAFTS_CREATE}
"""The calls that are made for every message, over connections that are kept: a handshake for each would cost more than
the call. Each answer to them holds an id that no other has. Every other call has a connection of its own."""
_REMEMBERED: Final = 64
"""The latest answers of a kept connection, by which one that comes twice is known."""
_REFUSED_FROM: Final = 300
"""The first status that is no success."""
_NETWORK_ERRORS: Final = (aiohttp.ClientError, OSError, TimeoutError)
"""OSError includes ssl.SSLError, DNS and resets. Every other exception is a bug, ours or a library's."""


@dataclass(eq=False)
class _ConnectionState:
    """What is known of a connection."""

    in_use: bool = False
    """Its last answer is not understood yet; aiohttp gives a connection back as soon as the last byte has come."""
    former_answers: deque[int] = field(default_factory=lambda: deque(maxlen=_REMEMBERED))
    """The answers that came over it, as hashes."""


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
    ) -> None:
        headers = _HEADERS if body is None else {**_HEADERS, "Content-Type": content_type}
        super().__init__(method=method, url=url, headers=dict(headers), data=body)
        self.call = call
        self.sender = sender
        self._content_type = content_type
        self.max_body = max_body
        """The most bytes of its answer that are read."""
        self.answer_id = answer_id
        """The id that its answer must have; "": any."""
        self.answer_thread = answer_thread
        """The thread that its answer must name; "": any."""
        self.maybe_sent = False
        """Set just before the first byte goes to the socket; until then Google certainly has nothing."""
        self.transport: asyncio.Transport | None = None
        """The transport of the connection that the request was given."""
        self.connection = _ConnectionState()
        """The state of that connection."""

    def drop_connection(self) -> None:
        """Let no other request have its connection: what comes over it next may be the answer to this one."""
        if self.transport is not None:
            self.transport.abort()

    def again(self) -> "GmailRequest":
        """The same request, unsent and without its token."""
        return GmailRequest(
            self.call,
            sender=self.sender,
            method=str(self.method),
            url=str(self.url),
            body=self.data,
            content_type=self._content_type,
            max_body=self.max_body,
            answer_id=self.answer_id,
            answer_thread=self.answer_thread,
        )


_CURRENT: ContextVar[GmailRequest] = ContextVar("_CURRENT")
"""The request of this task, for the connector: aiohttp does not pass it on."""


_BEGIN_BEFORE: ContextVar[float] = ContextVar("_BEGIN_BEFORE", default=math.inf)


class _TooLateError(Exception):
    """See `begin_before`."""


@contextmanager
def begin_before(moment: float) -> Iterator[None]:
    """Let no request of this task begin after `moment` (time.monotonic()); its outcome is TooLate then.

    A token, the owner's check, a new connection or a repetition may take seconds before the first byte goes out.
    """
    token = _BEGIN_BEFORE.set(moment)
    try:
        yield
    finally:
        _BEGIN_BEFORE.reset(token)


class _RepeatedAnswerError(aiohttp.ClientError):
    """An answer came that had come over this connection before, so it is not this request's."""


class GmailSession(AbstractSession):
    """The connections to Google. Every wait in it ends at a deadline, which is a time of the event loop's clock.

    HTTP/1.1 does not say which request an answer belongs to. So an answer that comes twice, or unasked, would be taken
    for that of the next request, and that one's for the next again: messages would be recorded as sent that Google
    never got. Only the calls of messages share connections, and there it is noticed: see `_OF_MESSAGES` and
    `_Connector`.
    """

    def __init__(self, settings: GmailSettings, *, events: GmailEvents, limit: int) -> None:
        self._settings = settings
        proxy = URL(settings.proxy)
        self._proxy = proxy.with_user(None) if settings.proxy else None
        self._proxy_headers = _identification(proxy)
        self._events = events
        self._limit = limit
        self._kept: aiohttp.ClientSession | None = None
        self._single: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._kept, self._single = self._connections(force_close=False), self._connections(force_close=True)
        return self

    def _connections(self, *, force_close: bool) -> aiohttp.ClientSession:
        trace = aiohttp.TraceConfig()
        trace.on_request_headers_sent.append(_before_first_byte)
        return aiohttp.ClientSession(
            connector=_Connector(limit=self._limit, socket_factory=_socket, force_close=force_close),
            cookie_jar=aiohttp.DummyCookieJar(),
            # There is no bound here but that for connecting: `request` has one for everything together.
            timeout=aiohttp.ClientTimeout(
                total=None, connect=self._settings.request_timeout, sock_connect=self._settings.request_timeout
            ),
            trace_configs=[trace],
            # No proxy of the environment is used: the stand-in on this machine would be asked for there, too.
            proxy=self._proxy,
        )

    async def __aexit__(self, *_: object) -> None:
        opened = [each for each in (self._kept, self._single) if each is not None]
        self._kept = self._single = None
        for each in opened:
            await each.close()

    async def request(
        self, request: GmailRequest, *, deadline: float, by: Callable[[GmailRequest], Awaitable[Response]] | None = None
    ) -> Answer | NotSent | NoResponse:
        """Send a request and read its answer; `by` is aiogoogle's way to `send`, which adds the token."""
        if self._kept is None:
            raise RuntimeError("Gmail is used outside `async with`")
        try:
            async with asyncio.timeout_at(deadline):
                response = await (by or self.send)(request)
        except _TooLateError:
            return TooLate(t("could not start in time"))
        except _NETWORK_ERRORS as error:
            words = _words(error)  # which name Google where the proxy made no tunnel to it
            return _outcome(request, cause=t("{words} (by gmail.proxy)", words=words) if self._proxy else words)
        except Exception as error:  # noqa: BLE001 - a message must get its outcome even when a library has a bug
            outcome = _outcome(request, cause=_words(error))
            self._events.google_call_crashed(
                sender=request.sender, call=request.call, outcome=type(outcome).__name__, error=error
            )
            return outcome
        finally:
            request.connection.in_use = False
        return Answer(
            status=response.status_code, headers=response.headers, body=response.data, max_body=request.max_body
        )

    @override
    async def send(self, *requests: Request, **_: Any) -> Response:
        """Send one GmailRequest and read its answer whole, as bytes; aiogoogle calls this.

        It takes no more than one: with several, the first failure would raise and the others would go on unattended.

        A GET is repeated once when a kept connection turns out to be dead. A POST never is, nor a DELETE: a draft that
        the first one deleted would be called gone by the second.
        """
        (request,) = requests
        http = self._kept if isinstance(request, GmailRequest) and request.call in _OF_MESSAGES else self._single
        if http is None or not isinstance(request, GmailRequest):
            raise RuntimeError("Gmail is used outside `async with`")
        token = _CURRENT.set(request)
        response: aiohttp.ClientResponse | None = None
        try:
            response = await http.request(
                str(request.method),
                str(request.url),
                headers=request.headers,
                data=_body(request.data),
                allow_redirects=False,
                proxy_headers=self._proxy_headers,
                trace_request_ctx=request,
            )
            data = await _read(response.content, limit=request.max_body)
            if response.status >= _REFUSED_FROM:  # its body may be that of another refusal, so it cannot be recognised
                request.drop_connection()
            elif request.call in _OF_MESSAGES:
                _recognise(request, data)
            return Response(status_code=response.status, headers=response.headers, data=data, req=request)
        finally:
            _CURRENT.reset(token)
            if response is not None and response.connection is not None:  # not all was read, or not all was sent
                response.close()
            _abort_if_closing(request.transport)


def _recognise(request: GmailRequest, data: bytes) -> None:
    """Remember an answer, and refuse one that came over this connection before: no two have the same ids."""
    answer, former = hash(data), request.connection.former_answers
    if answer in former:
        request.drop_connection()
        raise _RepeatedAnswerError(t("the connection repeated an earlier response"))
    former.append(answer)


class _Connector(aiohttp.TCPConnector):
    """Gives no connection to a request on which something came unasked, or whose last answer is not understood yet.

    What came unasked would be taken for the answer to the next request; and where the last answer is such that its
    connection is dropped, the next request would be lost with it. `connect` and `Connection` are documented, `protocol`
    and its `should_close` are not: docs/dependencies.md.
    """

    def __init__(self, *, limit: int, force_close: bool, socket_factory: aiohttp.SocketFactoryType) -> None:
        super().__init__(limit=limit, force_close=force_close, socket_factory=socket_factory)
        self._states = WeakKeyDictionary[object, _ConnectionState]()

    @override
    async def connect(
        self, req: aiohttp.ClientRequest, traces: list[Trace], timeout: aiohttp.ClientTimeout
    ) -> aiohttp.connector.Connection:
        while True:
            connection = await super().connect(req, traces, timeout)
            if connection.protocol is not None and not connection.protocol.should_close:
                state = self._states.setdefault(connection.protocol, _ConnectionState())
                if not state.in_use:
                    state.in_use, request = True, _CURRENT.get()
                    request.transport, request.connection = connection.transport, state
                    return connection
            connection.close()


async def _before_first_byte(_: aiohttp.ClientSession, context: SimpleNamespace, __: object) -> None:
    """Note that the request may arrive from now on; aiohttp calls this with the headers, just before it sends them."""
    request: GmailRequest = context.trace_request_ctx
    if request.maybe_sent and request.method != "GET":  # aiohttp repeats a DELETE as well
        raise aiohttp.ServerDisconnectedError(t("connection lost before the response"))
    if request.call in _SENDS and time.monotonic() > _BEGIN_BEFORE.get():
        raise _TooLateError
    request.maybe_sent = True


def _identification(proxy: URL) -> dict[str, str]:
    """How a proxy knows us. Its URL and aiohttp's `proxy_auth` stand in the words of errors, a header does not."""
    if proxy.raw_user is None and proxy.raw_password is None:
        return {}
    return {"Proxy-Authorization": aiohttp.encode_basic_auth(proxy.user or "", proxy.password or "")}


def _socket(address: aiohttp.AddrInfoType) -> socket.socket:
    """A socket whose end is a reset (RST), whatever ends it, a kill -9 included.

    When a socket is closed in the ordinary way, the kernel goes on sending for minutes what Google has not
    acknowledged, and a request would arrive after its message was looked for and not found.
    """
    family, kind, protocol, _, _ = address
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return made


def _abort_if_closing(transport: asyncio.Transport | None) -> None:
    """Reset a connection that aiohttp has closed: closing alone would first send what is left in the buffer."""
    if transport is not None and transport.is_closing():
        transport.abort()


def _body(data: bytes | None) -> bytes | io.BytesIO | None:
    return data if data is None or len(data) <= _SENT_AT_ONCE else io.BytesIO(data)


async def _read(content: aiohttp.StreamReader, *, limit: int) -> bytes:
    """The body, or of a larger one just more than is allowed (`Answer.too_large`)."""
    pieces, left = [], limit + 1
    while left > 0 and (piece := await content.readany()):
        pieces.append(piece[:left])
        left -= len(piece)
    return b"".join(pieces)


def _outcome(request: GmailRequest, *, cause: str) -> NotSent | NoResponse:
    return NoResponse(cause) if request.maybe_sent else NotSent(cause)


def _words(error: BaseException) -> str:
    """An exception in words. Never its repr: aiohttp's holds the request's headers, and the token with them."""
    said: str = str(error) or t("no response within the time-out")
    return t("{error}: {text}", error=type(error).__name__, text=said if len(said) < _EXCERPT else said[:_EXCERPT])
