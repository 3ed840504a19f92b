"""An HTTP proxy that tunnels (CONNECT) for whom it knows, and TLS in front of a server that speaks plain HTTP."""

import asyncio
import base64
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.certificates import authority_and_server


@dataclass
class Tunnel:
    """What a proxy does and what was asked of it."""

    password: str
    port: int = 0
    refused: int = 0
    """CONNECTs without the password."""
    targets: list[str] = field(default_factory=list)
    """Where it has made a tunnel to, `host:port`."""
    _gate: asyncio.Event = field(default_factory=asyncio.Event)
    """Set while those of now pass on what the client says."""

    def __post_init__(self) -> None:
        self._gate.set()

    def keep(self) -> asyncio.Event:
        """Let the tunnels of now keep what the client says until this is set, though it resets them meanwhile."""
        kept, self._gate = self._gate, asyncio.Event()
        kept.clear()
        self._gate.set()
        return kept

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
        await _join(reader, writer, host, int(port), self._gate)


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
        await _join(reader, writer, "127.0.0.1", to)

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    it.port = server.sockets[0].getsockname()[1]
    async with server:
        yield it


async def _join(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str, port: int, gate: asyncio.Event | None = None
) -> None:
    there, back = await asyncio.open_connection(host, port)
    await asyncio.gather(_pass_on(reader, back, gate), _pass_on(there, writer))


async def _pass_on(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, gate: asyncio.Event | None = None
) -> None:
    with suppress(OSError, ssl.SSLError):
        while piece := await reader.read(65_536):
            if gate is not None:
                await gate.wait()
            writer.write(piece)
            await writer.drain()
    writer.close()
