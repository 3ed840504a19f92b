"""One request and its answer over a connection that aiohttp keeps: written in one go, read whole.

aiohttp's connector opens, secures, counts and keeps the connections, and its parser reads the answers. Only its
ClientSession is passed by: cookies, redirects, proxies, traces and a task for each body, which Gmail's few calls do not
need, are a third of what a call costs (drafts.create and drafts.send together: 0.20 ms of CPU with it, 0.13 without).
An answer takes little memory whatever comes: the parser bounds the lines and the number of the headers, decompresses
piece by piece as it is read from, and here the reading ends at the largest body that is wanted.
What is used here beyond aiohttp's documentation is the connector's `connect` and the protocol's `set_response_params`,
`read` and `should_close`; the version is pinned, and tests/gmail/test_connection.py holds what is expected of them.
"""

import asyncio
import socket
import struct
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Final

import aiohttp
from aiohttp.http import HttpProcessingError, StreamWriter
from yarl import URL

from mailerd.gmail.responses import LARGEST, Answer

_WRITTEN_WHOLE: Final = 256 * 1024
"""Bytes of a body that are written in one go; a larger one goes piece by piece, with turns for others in between."""
_FINAL: Final = 200
"""Answers below are interim ones (RFC 9110, section 15.2): another follows."""
_INTERIM: Final = 10
"""Interim answers to one request at most; Google sends none."""


class Exchanges:
    """Requests and answers over connections of one connector."""

    def __init__(self, *, limit: int, connect_timeout: float) -> None:
        self._connector = aiohttp.TCPConnector(limit=limit, socket_factory=_socket)
        self._timeout = aiohttp.ClientTimeout(total=None, connect=connect_timeout, sock_connect=connect_timeout)
        self._peers: dict[URL, Any] = {}

    async def close(self) -> None:
        """Close all connections."""
        await self._connector.close()

    async def make(
        self, method: str, url: str, *, headers: Mapping[str, str], body: bytes | None, written: Callable[[], None]
    ) -> Answer:
        """Ask, and read the answer whole; `written` is called just before the first byte goes to the socket.

        Of a body that is too large (`Answer.too_large`) only the beginning is read, and its connection is closed.

        A GET is repeated once when a kept connection turns out to be dead. A POST never is, nor a DELETE: a draft that
        the first one deleted would be called gone by the second. There is no bound here but that for connecting: the
        caller has one round it all.

        Raises:
            aiohttp.ClientError, OSError, TimeoutError: there is no whole answer.
        """
        origin, host, path = _target(url)
        head = _head(method, path, host, *headers.items())
        head += b"\r\n" if body is None else b"Content-Length: %d\r\n\r\n" % len(body)
        try:
            return await self._once(origin, head, body, written)
        except aiohttp.ClientConnectorError:
            raise
        except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError):
            if method != "GET":
                raise
        return await self._once(origin, head, body, written)

    async def _once(self, origin: URL, head: bytes, body: bytes | None, written: Callable[[], None]) -> Answer:
        connection = await self._connect(origin)
        try:
            protocol = _open(connection)
            written()
            if body is None or len(body) <= _WRITTEN_WHOLE:
                protocol.transport.write(head + body if body else head)
                answer = await _answer(protocol)
            else:
                protocol.transport.write(head)
                answer = await _while_writing(protocol, body)
        except HttpProcessingError as error:
            _give_up(connection)
            raise aiohttp.ClientPayloadError(f"what came is no HTTP: {error.message or error.code}") from error
        except BaseException:
            _give_up(connection)
            raise
        if answer.too_large:
            _give_up(connection)
        else:
            connection.release()
        return answer

    async def _connect(self, origin: URL) -> aiohttp.connector.Connection:
        """A connection on which nothing has come that nobody asked for: it would be taken for the next answer."""
        while True:
            connection = await self._connector.connect(self._peer(origin), [], self._timeout)
            if connection.protocol is None or not connection.protocol.should_close:
                return connection
            connection.close()

    def _peer(self, origin: URL) -> Any:
        """What the connector is asked for: it takes a request, and looks at nothing but where that goes."""
        if (peer := self._peers.get(origin)) is None:
            loop = asyncio.get_running_loop()
            peer = self._peers[origin] = aiohttp.ClientRequest("GET", origin, loop=loop)
        return peer


def _socket(address: aiohttp.AddrInfoType) -> socket.socket:
    """A socket whose end is a reset (RST), however it comes, a kill -9 included.

    Closed in the ordinary way, the kernel goes on sending for minutes what Google has not acknowledged, and a request
    would arrive after somebody has looked for its letter in vain.
    """
    family, kind, protocol, _, _ = address
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return made


def _give_up(connection: aiohttp.connector.Connection) -> None:
    """Reset a connection at once, with all that it has still to send."""
    if connection.protocol is not None and (transport := connection.protocol.transport) is not None:
        transport.abort()  # closing would wait until its buffer has drained
    connection.close()


def _open(connection: aiohttp.connector.Connection) -> Any:
    protocol = connection.protocol
    if protocol is None or protocol.transport is None or protocol.transport.is_closing():
        raise aiohttp.ClientConnectionResetError("the connection was closed before anything was written")
    protocol.set_response_params(read_until_eof=True)
    return protocol


async def _answer(protocol: Any) -> Answer:
    for _ in range(_INTERIM + 1):
        message, payload = await protocol.read()
        if message.code >= _FINAL:
            return Answer(status=message.code, headers=message.headers, body=await _body(payload))
    raise aiohttp.ClientPayloadError(f"more than {_INTERIM} interim answers came, and no other")


async def _body(payload: aiohttp.StreamReader) -> bytes:
    """The body, or of a larger one just more than is allowed."""
    pieces, left = [], LARGEST + 1
    while left > 0 and (piece := await payload.readany()):
        pieces.append(piece[:left])
        left -= len(piece)
    return b"".join(pieces)


async def _while_writing(protocol: Any, body: bytes) -> Answer:
    """Read beside the writing: a refusal may come before all of a large body is wanted."""
    writing = asyncio.ensure_future(_write(protocol, body))
    try:
        answer = await _answer(protocol)
        if not writing.done():
            protocol.force_close()  # what is left of the body would be taken for the next request
        return answer
    finally:
        writing.cancel()
        await asyncio.wait({writing})
        writing.cancelled() or writing.exception()  # the reading has met the same trouble, and tells it


async def _write(protocol: Any, body: bytes) -> None:
    writer = StreamWriter(protocol, asyncio.get_running_loop())
    view = memoryview(body)
    for start in range(0, len(body), _WRITTEN_WHOLE):
        await writer.write(view[start : start + _WRITTEN_WHOLE])


@lru_cache(maxsize=1024)
def _head(method: str, path: str, host: str, *headers: tuple[str, str]) -> bytes:
    """A request's first lines; they are the same for every letter of a sender while its token lasts."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", *(f"{name}: {value}" for name, value in headers)]
    if any(not line.isprintable() for line in lines):
        raise ValueError("a header of the request has a line break in it")
    return "\r\n".join([*lines, ""]).encode("latin-1")


@lru_cache(maxsize=64)
def _target(url: str) -> tuple[URL, str, str]:
    """Where it goes: origin, Host and path."""
    try:
        parsed = URL(url)
        return parsed.origin(), str(parsed.host_port_subcomponent), parsed.raw_path_qs
    except ValueError as error:
        raise aiohttp.InvalidURL(url) from error
