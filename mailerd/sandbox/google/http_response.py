"""Answers as aiohttp writes them to the network, and the one that nearly every request gets in a quicker way."""

from typing import override

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.helpers import rfc822_formatted_time
from aiohttp.http import SERVER_SOFTWARE, HttpVersion11

from mailerd.sandbox.google.answers import JSON, Answer

_HEAD = (
    f"HTTP/1.1 200 OK\r\nContent-Type: {JSON}\r\nContent-Length: %d\r\nDate: %s\r\nServer: {SERVER_SOFTWARE}\r\n\r\n"
)


def response(request: web.BaseRequest, answer: Answer) -> web.StreamResponse:
    """The answer as aiohttp wants it."""
    plain = answer.status == 200 and answer.content_type is JSON and not answer.headers  # noqa: PLR2004 -- HTTP status
    if plain and request.method == "POST" and request.version == HttpVersion11 and request.keep_alive:
        return _Success(answer.body)
    headers = {"Content-Type": answer.content_type}
    headers.update(answer.headers)
    return web.Response(status=answer.status, body=answer.body, headers=headers)


class _Success(web.StreamResponse):
    """What `web.Response` would write, word for word, in 3 us instead of 7: a tenth of what a whole request costs."""

    def __init__(self, body: bytes) -> None:
        super().__init__()
        self._whole = body

    @property
    @override
    def keep_alive(self) -> bool:
        """Only such requests are answered so."""
        return True

    @override
    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter:
        """Write all of it, and wait for a client that does not read, as aiohttp does."""
        head = _HEAD % (len(self._whole), rfc822_formatted_time())
        await request.writer.write(head.encode("ascii") + self._whole)
        await request.writer.drain()
        return request.writer

    @override
    async def write_eof(self, data: bytes = b"") -> None:
        """Nothing is left to write."""
