"""Reads the bytes of a body: bounded in size and time, a large one in a place of its own."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from typing import Final

from aiohttp import HttpVersion11, web

from mailerd.http.auth import LARGE_BODY, KeyShare
from mailerd.http.errors import ApiError
from mailerd.http.responses import too_large
from mailerd.store.api_keys import ApiKey

BODY_TIMEOUT: Final = 60.0
"""Seconds for a whole body."""


class BodyReader:
    """Reads bodies.

    `setting` is the name of the setting that raises the limit, if there is one. `large`: places for bodies above
    LARGE_BODY, which take several times their size while they become rows. Such a body is read once it has a place.
    """

    def __init__(self, *, max_body: int, setting: str = "", large: KeyShare | None = None) -> None:
        self._max_body = max_body
        self._setting = setting
        self._large = large

    @asynccontextmanager
    async def read(self, request: web.Request, key: ApiKey) -> AsyncIterator[bytearray]:
        """The body; a large one holds its place until the context ends.

        Raises:
            ApiError: 413 too large, 408 too slow, 415 compressed, 400 cut off, 429 or 503 too many large ones.
        """
        length = request.content_length
        if length is not None and length > self._max_body:
            raise self._too_large()
        if request.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise ApiError(415, "unsupported_encoding", "send the body uncompressed; nothing was stored")
        body = bytearray()
        # A body without Content-Length may be small, and small bodies need no place.
        if (length or 0) <= LARGE_BODY and await self._read(request, body, most=LARGE_BODY):
            yield body
            return
        async with self._large.place(key) if self._large else nullcontext():
            await self._read(request, body, most=self._max_body)
            yield body

    async def _read(self, request: web.Request, body: bytearray, *, most: int) -> bool:
        """Read until the end, or until there are more than `most` bytes; returns whether the end has come."""
        try:
            async with asyncio.timeout(BODY_TIMEOUT):
                if not body:
                    _continue(request)
                async for chunk in request.content.iter_any():
                    body += chunk
                    if len(body) > self._max_body:
                        raise self._too_large()
                    if len(body) > most:
                        return False
        except TimeoutError:
            raise ApiError(
                408, "timeout", f"the body did not come within {BODY_TIMEOUT:g} s; nothing was stored"
            ) from None
        except (web.RequestPayloadError, ConnectionError) as error:
            raise ApiError(400, "cut_off", f"the body was cut off: {error}; nothing was stored") from error
        return True

    def _too_large(self) -> ApiError:
        setting = f" ({self._setting})" if self._setting else ""
        return too_large(f"the body is above the limit of {self._max_body:,} bytes{setting}")


def _continue(request: web.Request) -> None:
    """Ask for the body if the client waits for that (RFC 9110, section 10.1.1)."""
    waits = request.headers.get("Expect", "").lower() == "100-continue" and request.version >= HttpVersion11
    if waits and request.transport is not None:
        request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
