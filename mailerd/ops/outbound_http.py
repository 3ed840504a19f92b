"""The only way for requests to URLs that a client or a setting names: webhooks, signed, and alerts.

The check is bound to the connection: what a name leads to is resolved once, every address is
checked, and the socket is made for one of those that were checked. A name that answers differently
the next time gains nothing, and a literal address, which aiohttp gives to no resolver, is checked
where its socket is made. No redirect is followed, no proxy of the environment is used, no cookie is
kept, and no connection is used twice.
"""

import asyncio
import json
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final, cast, override

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.tracing import Trace
from standardwebhooks import Webhook as Signer
from yarl import URL

from mailerd import __version__
from mailerd.clock import new_id
from mailerd.core.excerpts import words_of
from mailerd.core.i18n import joined, t
from mailerd.core.network_rules import NetworkRules
from mailerd.core.webhooks import WebhookAttempt, body_of
from mailerd.ops.daemon_thread import in_thread

MAX_ANSWER: Final = 4096
"""Bytes of an answer that are read."""
MAX_RECEIVED: Final = 64 * 1024
"""Bytes of a connection that are read, whatever they are: interim answers (1xx), headers and chunk
extensions end nowhere by themselves, and aiohttp parses what came at once in one go, in which
nothing else runs.
"""
MAX_REASON: Final = 300
"""Characters of what is said of a failure."""

AddressInfo = tuple[int, int, int, str, tuple[Any, ...]]
"""Family, type, protocol, canonical name and address, as `socket.getaddrinfo` has them."""
LookUp = Callable[[str, int, int], list[AddressInfo]]
"""The addresses of a host, port and address family; it may block."""


class OutboundError(OSError):
    """A request was not answered; the text says why."""


class AddressRefusedError(OutboundError):
    """The rules allow no request to this URL, and no connection was made."""


@dataclass(frozen=True)
class HttpAnswer:
    """What the other side said."""

    status: int
    text: str
    """The beginning of the body in words, where the status is no success."""
    retry_after: str
    """The header, as it came."""


class OutboundHttp:
    """Posts, within the rules. `look_up` stands in for the system's resolver in tests."""

    def __init__(self, rules: NetworkRules, *, look_up: LookUp | None = None) -> None:
        self._rules = rules
        self._look_up = look_up or _look_up

    def refusal(self, url: str) -> str:
        """Why no request to this URL is made; "" where nothing speaks against it before its name is
        resolved.
        """
        try:
            parts = URL(url)
            host, port = parts.raw_host or "", parts.port or 0
        except ValueError:
            return t("it is not a URL")
        user = parts.raw_user is not None or parts.raw_password is not None
        return self._rules.refusal_of_url(parts.scheme, host, port, user=user)

    async def post(
        self, url: str, body: bytes, headers: Mapping[str, str], *, within: float
    ) -> HttpAnswer:
        """Post once.

        `within`: seconds for everything, from the look-up of the name to the end of the answer.

        Raises:
            AddressRefusedError: the rules forbid it.
            OutboundError: there was no answer.
        """
        if why := self.refusal(url):
            raise AddressRefusedError(why)
        refused: list[str] = []
        sent = {"User-Agent": f"mailerd/{__version__}", "Accept-Encoding": "identity", **headers}
        connector = _BoundedConnector(
            resolver=_CheckedResolver(self._rules, self._look_up, refused),
            use_dns_cache=False,
            force_close=True,
            socket_factory=partial(self._socket, refused),
        )
        try:
            async with (
                asyncio.timeout(within),
                aiohttp.ClientSession(
                    connector=connector,
                    trust_env=False,
                    cookie_jar=aiohttp.DummyCookieJar(),
                    auto_decompress=False,
                    read_bufsize=MAX_ANSWER,
                    timeout=aiohttp.ClientTimeout(total=None),
                ) as session,
                session.post(URL(url), data=body, headers=sent, allow_redirects=False) as response,
            ):
                return await _answer(response)
        except TimeoutError:
            raise OutboundError(t("no response within {within:g} s", within=within)) from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            if refused:
                raise AddressRefusedError(refused[0]) from None
            raise OutboundError(_cause(error)) from error

    def _socket(self, refused: list[str], info: AddressInfo) -> socket.socket:
        """The socket for an address; aiohttp calls this for literal ones and for those of a name
        alike.
        """
        if why := self._rules.refusal(str(info[4][0])):
            refused.append(why)
            raise AddressRefusedError(why)
        return socket.socket(info[0], info[1], info[2])


class _BoundedConnector(aiohttp.TCPConnector):
    """Its connections break off after MAX_RECEIVED bytes."""

    @override
    async def connect(
        self, req: aiohttp.ClientRequest, traces: list[Trace], timeout: aiohttp.ClientTimeout
    ) -> aiohttp.connector.Connection:
        connection = await super().connect(req, traces, timeout)
        if (transport := connection.transport) is not None:
            transport.set_protocol(_BoundedProtocol(transport))
        return connection


class _BoundedProtocol(asyncio.Protocol):
    """Stands between a connection and its protocol, and hands on MAX_RECEIVED bytes."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._inner = cast("asyncio.Protocol", transport.get_protocol())
        self._left = MAX_RECEIVED

    @override
    def data_received(self, data: bytes) -> None:
        if self._left:
            given, self._left = data[: self._left], self._left - min(len(data), self._left)
            self._inner.data_received(given)
        if not self._left:
            self._transport.abort()

    @override
    def eof_received(self) -> bool | None:
        return self._inner.eof_received()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        if not self._left:
            exc = OSError(t("the response is larger than {n} kB", n=MAX_RECEIVED // 1024))
        self._inner.connection_lost(exc)

    @override
    def pause_writing(self) -> None:
        self._inner.pause_writing()

    @override
    def resume_writing(self) -> None:
        self._inner.resume_writing()


class _CheckedResolver(AbstractResolver):
    """Refuses a name as a whole if any of its addresses is refused: the next try would choose
    another one.
    """

    def __init__(self, rules: NetworkRules, look_up: LookUp, refused: list[str]) -> None:
        self._rules = rules
        self._look_up = look_up
        self._refused = refused

    @override
    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        # it may hang, and must hold up no other request
        found = await in_thread(partial(self._look_up, host, port, family))
        for _, _, _, _, address in found:
            if why := self._rules.refusal(str(address[0])):
                self._refused.append(t("{host} resolves to {why}", host=host, why=why))
                raise AddressRefusedError(self._refused[-1])
        return [
            ResolveResult(
                hostname=host,
                host=str(address[0]),
                port=port,
                family=kind,
                proto=protocol,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for kind, _, protocol, _, address in found
        ]

    @override
    async def close(self) -> None:
        """Nothing is open."""


def _look_up(host: str, port: int, family: int) -> list[AddressInfo]:
    return [
        (int(kind), int(type_), protocol, name, tuple(address))
        for kind, type_, protocol, name, address in socket.getaddrinfo(
            host, port, family=family, type=socket.SOCK_STREAM
        )
    ]


async def _answer(response: aiohttp.ClientResponse) -> HttpAnswer:
    """The status counts; of a body, only what a failure says is read, and what is cut off or broken
    is left out.
    """
    text = b""
    if not 200 <= response.status < 300:  # noqa: PLR2004 - HTTP's successes
        try:
            while len(text) < MAX_ANSWER and (
                more := await response.content.read(MAX_ANSWER - len(text))
            ):
                text += more
        except aiohttp.ClientError:
            pass
    return HttpAnswer(
        response.status,
        words_of(text.decode("utf-8", "replace"))[:MAX_REASON],
        response.headers.get("Retry-After", ""),
    )


def _cause(error: Exception) -> str:
    # its own text has the whole URL, and a query may be a secret
    if isinstance(error, aiohttp.ClientResponseError):
        return f"{type(error).__name__}: {error.status}, {' '.join(error.message.split())}"[
            :MAX_REASON
        ]
    inner = getattr(error, "os_error", error)
    words = getattr(inner, "strerror", None) or str(inner) or type(inner).__name__
    return f"{type(error).__name__}: {words}"[:MAX_REASON]


# Posts one event to one endpoint as Standard Webhooks 1.0.0 has it; only this module signs.
#
# https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md

TEST_TYPE: Final = "webhook.test"


async def post_event(
    http: OutboundHttp,
    url: str,
    *,
    uid: str,
    body: bytes,
    secrets: Sequence[bytes],
    now: datetime,
    within: float,
) -> WebhookAttempt:
    """Post, once. `secrets`: all that sign, the newest first. `now`: the time of this attempt.

    `within`: seconds.
    """
    began = time.monotonic()
    http_status, said, asked = None, None, ""
    try:
        answer = await http.post(url, body, signed(uid, body, secrets, now=now), within=within)
        http_status, asked = answer.status, answer.retry_after
        if not 200 <= http_status < 300:  # noqa: PLR2004 - HTTP's successes
            said = _said(http_status, answer.text)
    except OutboundError as error:
        said = str(error)
    return WebhookAttempt(http_status, said, timedelta(seconds=time.monotonic() - began), asked)


def signed(uid: str, body: bytes, secrets: Sequence[bytes], *, now: datetime) -> dict[str, str]:
    """The headers of an attempt: a signature of each secret, of these very bytes."""
    now = now.astimezone(UTC)
    signatures = [Signer(secret).sign(uid, now, body.decode()) for secret in secrets]
    return {
        "Content-Type": "application/json",
        "webhook-id": uid,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": " ".join(signatures),
    }


def _said(status: int, text: str) -> str:
    if 300 <= status < 400:  # noqa: PLR2004 - HTTP's redirects
        return t("it responded {status}, a redirect; redirects are not followed", status=status)
    words = " ".join(text.split())[:200]
    answered = t("it responded {status}", status=status)
    return joined([answered, words], ": ") if words.isprintable() and words else answered


async def post_test(
    http: OutboundHttp,
    url: str,
    *,
    name: str,
    secrets: Sequence[bytes],
    now: datetime,
    within: float,
) -> WebhookAttempt:
    """Post an event of the type `webhook.test`, which stands in no table and is not repeated."""
    data = json.dumps({"webhook": name}, ensure_ascii=False, separators=(",", ":"))
    body = body_of(TEST_TYPE, now.astimezone(UTC).isoformat().replace("+00:00", "Z"), data)
    return await post_event(
        http, url, uid=f"evt_{new_id()}", body=body, secrets=secrets, now=now, within=within
    )
