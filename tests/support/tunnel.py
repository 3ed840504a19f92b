"""An HTTP proxy that tunnels (CONNECT) for whom it knows, and TLS in front of a server that speaks plain HTTP."""

import asyncio
import base64
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.certificates import authority_and_server

_MORE_THAN_HEADERS = 700


@dataclass
class Tunnel:
    """What a proxy does and what was asked of it."""

    password: str
    port: int = 0
    refused: int = 0
    """CONNECTs without the password."""
    targets: list[str] = field(default_factory=list)
    """Where it has made a tunnel to, `host:port`."""
    _kept: asyncio.Event | None = None

    def keep(self) -> asyncio.Event:
        """Let the next request with a body be kept until this is set, though the client resets its tunnel meanwhile."""
        self._kept = asyncio.Event()
        return self._kept

    async def pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """What the client says, the first of which is its part of the handshake."""
        with suppress(OSError):
            writer.write(await reader.read(65_536))
            while piece := await reader.read(65_536):
                if self._kept is not None and len(piece) > _MORE_THAN_HEADERS:
                    kept, self._kept = self._kept, None
                    await kept.wait()
                writer.write(piece)
                await writer.drain()
        writer.close()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection of a client."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode("ascii")
        method, target, _ = head.split(" ", 2)
        known = base64.b64encode(f"mailerd:{self.password}".encode()).decode()
        if method != "CONNECT" or f"Proxy-Authorization: Basic {known}" not in head:
            self.refused += 1
            writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
            writer.close()
            return
        self.targets.append(target)
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        host, _, port = target.partition(":")
        there, back = await asyncio.open_connection(host, int(port))
        await asyncio.gather(self.pass_on(reader, back), _pass_on(there, writer))


@dataclass
class TlsFront:
    """A server of TLS at 127.0.0.1. `authority`: the file of the certificate by which it is known."""

    authority: Path
    port: int = 0
    connections: int = 0


@asynccontextmanager
async def tunnel(*, password: str) -> AsyncIterator[Tunnel]:
    """A proxy on a free port."""
    it = Tunnel(password)
    server = await asyncio.start_server(it.serve, "127.0.0.1", 0)
    it.port = server.sockets[0].getsockname()[1]
    async with server:
        yield it


@asynccontextmanager
async def tls_front(to: int, folder: Path) -> AsyncIterator[TlsFront]:
    """TLS before what listens on the port `to`."""
    authority, certificate, key = authority_and_server(folder)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    it = TlsFront(authority)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        it.connections += 1
        there, back = await asyncio.open_connection("127.0.0.1", to)
        await asyncio.gather(_pass_on(reader, back), _pass_on(there, writer))

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    it.port = server.sockets[0].getsockname()[1]
    async with server:
        yield it


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError, ssl.SSLError):
        while piece := await reader.read(65_536):
            writer.write(piece)
            await writer.drain()
    writer.close()
