"""A way to the database on which each commit takes longer: a proxy as a process of its own.

python -m tests.bench.slow_commits PORT SECONDS; it prints its own port.
"""

import asyncio
import re
import sys
from collections.abc import Callable
from typing import Final, cast, override

import uvloop

_QUERY: Final = 3
"""COM_QUERY: https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_com_query.html"""
_WRITES: Final = re.compile(rb"\s*(INSERT|UPDATE|DELETE)\b")


class Client(asyncio.Protocol):
    """From the client to the server; a response to what commits is held back."""

    def __init__(self, port: int, seconds: float) -> None:
        self._port, self._seconds = port, seconds
        self._client: asyncio.Transport | None = None
        self._server: asyncio.Transport | None = None
        self._waiting: list[bytes] = []
        self._in_transaction = self._commits = False

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._client = cast("asyncio.Transport", transport)
        asyncio.get_running_loop().create_task(self._connect())

    async def _connect(self) -> None:
        self._server, _ = await asyncio.get_running_loop().create_connection(
            lambda: Server(self.answer, self.close), "127.0.0.1", self._port
        )
        for data in self._waiting:
            self._server.write(data)

    @override
    def data_received(self, data: bytes) -> None:
        if len(data) > 5 and data[3] == 0 and data[4] == _QUERY:
            sql = data[5:]
            self._commits = sql == b"COMMIT" or (not self._in_transaction and _WRITES.match(sql) is not None)
            if sql in (b"BEGIN", b"COMMIT", b"ROLLBACK"):
                self._in_transaction = sql == b"BEGIN"
        if self._server is None:
            self._waiting.append(data)
        else:
            self._server.write(data)

    def answer(self, data: bytes) -> None:
        """What the server says."""
        if self._client is None:
            return
        if self._commits:
            self._commits = False
            asyncio.get_running_loop().call_later(self._seconds, self._client.write, data)
        else:
            self._client.write(data)

    def close(self) -> None:
        """The server has ended it."""
        if self._client is not None:
            self._client.close()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        if self._server is not None:
            self._server.close()


class Server(asyncio.Protocol):
    """From the server to the client."""

    def __init__(self, answer: Callable[[bytes], None], close: Callable[[], None]) -> None:
        self._answer, self._close = answer, close

    @override
    def data_received(self, data: bytes) -> None:
        self._answer(data)

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._close()


async def _main(port: int, seconds: float) -> None:
    server = await asyncio.get_running_loop().create_server(lambda: Client(port, seconds), "127.0.0.1", 0)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_main(int(sys.argv[1]), float(sys.argv[2])))
