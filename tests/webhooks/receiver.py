"""An application's endpoint, played: it verifies every post, and answers as it is told."""

import asyncio
import contextlib
import json
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from standardwebhooks import Webhook

Behaviour = Callable[["Receiver", asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Post:
    """One that came."""

    headers: dict[str, str]
    body: bytes

    @property
    def uid(self) -> str:
        return self.headers["webhook-id"]

    @property
    def data(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.body)["data"]
        return found


@dataclass
class Receiver:
    """A server on loopback. `secret`: what its owner was shown; the reference library verifies each post by it."""

    secret: str = ""
    status: int = 204
    headers: dict[str, str] = field(default_factory=dict)
    behaviour: Behaviour | None = None
    """Writes what is no ordinary answer; None: the status."""
    posts: list[Post] = field(default_factory=list)
    taken: Counter[str] = field(default_factory=Counter)
    """Events that were answered with success, and how often."""
    dice: random.Random = field(default_factory=lambda: random.Random(1))
    at_once: int = 0
    most_at_once: int = 0
    connections: int = 0
    url: str = ""
    came: asyncio.Event = field(default_factory=asyncio.Event)

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                await self._answer(reader, writer)
        finally:
            self.at_once -= 1
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        lines = [line.partition(": ") for line in head.split("\r\n")[1:] if line]
        headers = {name.lower(): value for name, _, value in lines}
        post = Post(headers, await reader.readexactly(int(headers["content-length"])))
        if self.secret:
            Webhook(self.secret).verify(post.body, post.headers)
        self.posts.append(post)
        self.came.set()
        if self.behaviour is not None:
            await self.behaviour(self, writer)
            return
        if 200 <= self.status < 300:
            self.taken[post.uid] += 1
        extra = "".join(f"{name}: {value}\r\n" for name, value in self.headers.items())
        writer.write(f"HTTP/1.1 {self.status} X\r\n{extra}Content-Length: 0\r\n\r\n".encode())
        await writer.drain()


@asynccontextmanager
async def receiving(receiver: Receiver | None = None, *, port: int = 0) -> AsyncIterator[Receiver]:
    """The receiver, while it listens."""
    it = receiver or Receiver()
    server = await asyncio.start_server(it.handle, "127.0.0.1", port)
    it.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook"
    try:
        yield it
    finally:
        server.close()
