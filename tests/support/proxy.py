"""A bad network on demand: a TCP proxy on loopback before a server, which stalls, resets, refuses, delays or cuts.

Each fault is one call, holds from that moment on for connections old and new (where not said otherwise), and ends with
`heal`. What a stalled direction was given is kept and delivered after `heal`, as TCP would by repeating it.
"""

import asyncio
import socket
import struct
from contextlib import suppress
from typing import Final, Literal, Self

from tests.support.ports import free_port

Way = Literal["up", "down"]
"""up: from the client to the server; down: from the server to the client."""
BOTH: Final[tuple[Way, Way]] = ("up", "down")
_CHUNK = 65_536


class Proxy:
    """`async with Proxy(port) as proxy:` listens on `proxy.port`; `passed` counts the bytes of each way."""

    def __init__(self, target: int) -> None:
        self.port = free_port()  # it is ours also while connections are refused
        self.accepted = 0
        self.passed: dict[Way, int] = {"up": 0, "down": 0}
        self._target = target
        self._server: asyncio.Server | None = None
        self._lines: set[_Line] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._mute = False
        self._ended = False
        self._stalled: frozenset[Way] = frozenset()
        self._delay = 0.0
        self._left: dict[Way, int | None] = {"up": None, "down": None}
        self._changed = asyncio.Condition()

    async def __aenter__(self) -> Self:
        await self._listen()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._ended, server = True, self._server
        await self.refuse()
        await self.reset_all()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if server is not None:  # a transport that is still open when its loop ends is a warning in some later test
            await server.wait_closed()

    async def heal(self) -> None:
        """Pass everything on again, the bytes that waited first; a line that was forsaken stays dead."""
        self._mute, self._stalled, self._delay = False, frozenset(), 0.0
        self._left = {"up": None, "down": None}
        if self._server is None:
            await self._listen()
        await self._tell()

    async def black_hole(self, *ways: Way) -> None:
        """Accept and keep open, but pass nothing on in these directions (without any: in both)."""
        self._stalled = frozenset(ways or BOTH)
        await self._tell()

    async def forsake(self) -> None:
        """Stall the lines that are open now for good, while new ones pass: what a server that lost its power leaves."""
        for line in self._lines:
            line.forsaken = True
        await self._tell()

    async def remember(self) -> None:
        """Let forsaken lines go on, as a road that was cut for long; what its client has reset meanwhile is dropped."""
        for line in self._lines:
            line.forsaken = False
        await self._tell()

    def lead_to(self, target: int) -> None:
        """Take new connections to another server, as a router does after a failover; the open ones go on."""
        self._target = target

    async def refuse(self) -> None:
        """Refuse new connections; the open ones go on."""
        if self._server is not None:
            self._server.close()
            self._server = None

    def mute(self) -> None:
        """Accept new connections and never say a word on them; the open ones go on."""
        self._mute = True

    async def reset_all(self) -> None:
        """Reset (RST) every open connection on both sides; new ones pass."""
        for line in self._lines:
            line.reset()
        await self._tell()

    def delay(self, seconds: float) -> None:
        """Pass each piece on so much later."""
        self._delay = seconds

    def cut_after(self, count: int, *, way: Way = "down") -> None:
        """Pass so many more bytes in this direction, and reset the connection on which the next one comes; once."""
        self._left[way] = count

    @property
    def open(self) -> int:
        """Connections from clients that are open now."""
        return len(self._lines)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        if self._ended:
            writer.transport.abort()
            return
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        line = _Line(writer)
        self._lines.add(line)
        try:
            if self._mute:
                while await reader.read(_CHUNK):
                    pass
                return
            theirs, line.server = await asyncio.open_connection("127.0.0.1", self._target)
            await self._carry(line, up=reader, down=theirs)
        except asyncio.CancelledError:
            pass  # the end of the proxy; a cancelled callback of asyncio.start_server would be told as an error
        except OSError:
            pass  # the server is not there, or one side was reset: so is the other
        finally:
            line.reset()
            self._lines.discard(line)
            self._tasks.discard(task)

    async def _carry(self, line: "_Line", *, up: asyncio.StreamReader, down: asyncio.StreamReader) -> None:
        assert line.server is not None
        both = [
            asyncio.ensure_future(self._pump(line, up, line.server, "up")),
            asyncio.ensure_future(self._pump(line, down, line.client, "down")),
        ]
        try:
            await asyncio.gather(*both)
        finally:
            for task in both:
                task.cancel()
            await asyncio.gather(*both, return_exceptions=True)

    async def _pump(self, line: "_Line", source: asyncio.StreamReader, sink: asyncio.StreamWriter, way: Way) -> None:
        while True:
            await self._until_flowing(line, way)
            piece = await source.read(_CHUNK)
            await self._until_flowing(line, way)  # a fault may have begun while we waited for bytes
            if self._delay:
                await asyncio.sleep(self._delay)
            if (reset := source.exception()) is not None:
                raise reset  # the kernel of whoever has reset a connection repeats nothing of it
            if not piece:
                with suppress(OSError):
                    sink.write_eof()
                return
            left = self._left[way]
            if left is not None and len(piece) > left:
                self._left[way] = None
                sink.write(piece[:left])
                await sink.drain()
                raise ConnectionResetError
            if left is not None:
                self._left[way] = left - len(piece)
            sink.write(piece)
            await sink.drain()
            self.passed[way] += len(piece)

    async def _until_flowing(self, line: "_Line", way: Way) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: line.dead or not (line.forsaken or way in self._stalled))
        if line.dead:
            raise ConnectionResetError


class _Line:
    """One client's connection and the one to the server that belongs to it."""

    def __init__(self, client: asyncio.StreamWriter) -> None:
        self.client = client
        self.server: asyncio.StreamWriter | None = None
        self.forsaken = False
        self.dead = False

    def reset(self) -> None:
        """Close both with RST: without lingering, what is unsent is dropped."""
        self.dead = True
        for writer in (self.client, self.server):
            if writer is not None and not writer.transport.is_closing():
                if (sock := writer.get_extra_info("socket")) is not None:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                writer.transport.abort()
