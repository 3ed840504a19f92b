"""A server that speaks bytes: whatever a broken or hostile other side may say, exactly as the test wants it."""

import asyncio
import itertools
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

Script = Callable[["Raw", asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

TOKEN = json.dumps({"access_token": "hush-token", "expires_in": 3599}).encode()


def http(body: bytes, *, status: str = "200 OK", kind: str = "application/json", more: str = "") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n{more}\r\n".encode() + body


class Raw:
    """Speaks bytes: gives a token to whoever asks, names the mailbox, does with the rest what the test says."""

    def __init__(self) -> None:
        self.heads: list[bytes] = []
        self.connections = self.open = 0
        self.asked = asyncio.Event()
        self.gone = asyncio.Event()
        self.let_go = asyncio.Event()
        self.script: Script = self.says(b"")
        self.mailbox = "me@example.com"
        """Whose it says to be; "" leaves that question to the script."""

    @staticmethod
    def says(*pieces: bytes, then_close: bool = False) -> Script:
        async def script(raw: Raw, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
            if then_close:
                writer.close()
                raw.gone.set()

        return script

    @staticmethod
    def gives_ids(more: str = "") -> Script:
        """Each answer names another message, as Google's do."""
        numbers = itertools.count()

        async def script(_: Raw, __: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(http(json.dumps({"id": f"m{next(numbers)}"}).encode(), more=more))

        return script

    @staticmethod
    async def says_nothing(raw: "Raw", reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        while await reader.read(65536):
            pass
        raw.gone.set()

    @staticmethod
    async def resets(_: "Raw", __: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        linger = b"\x01\0\0\0\0\0\0\0"
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.transport.abort()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open += 1
        try:
            while head := await _head(reader):
                length = _length(head)
                if head.startswith(b"POST /token"):
                    await reader.readexactly(length)
                    writer.write(http(TOKEN))
                    continue
                if self.mailbox and head.startswith(b"GET /gmail/v1/users/me/profile "):
                    writer.write(http(json.dumps({"emailAddress": self.mailbox}).encode()))
                    continue
                self.heads.append(head)
                self.asked.set()
                if b"upload" not in head:
                    await reader.readexactly(length)
                await self.script(self, reader, writer)
        except ConnectionError:
            self.gone.set()
        finally:
            self.open -= 1
            writer.close()


async def _head(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return b""


def _length(head: bytes) -> int:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line.split(b":")[1])
    return 0


@asynccontextmanager
async def listening(raw: Raw) -> AsyncIterator[int]:
    tasks: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.create_task(raw.serve(reader, writer)))

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
