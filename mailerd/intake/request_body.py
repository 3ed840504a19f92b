"""Reads a request's body within bounds: of size, of time, and of how many large ones there are at once."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from typing import Final

from aiohttp import HttpVersion11, web

from mailerd.intake.errors import ApiError, too_large
from mailerd.intake.key_shares import BIG, Share
from mailerd.store.api_keys import ApiKey

BODY_WITHIN: Final = 60.0
"""Seconds for a whole body."""


async def expect_nothing_yet(request: web.Request) -> None:
    """Aiohttp's hook for `Expect`: says nothing, so that a 401 or a 413 comes before the body does."""


class BodyReader:
    """The way for bodies to come in.

    `setting` is what a larger limit is asked of, where anything is. `large`: places for bodies above BIG, which take
    up to eight times their size while they become rows. Until they have one they are not read.
    """

    def __init__(
        self, *, max_body: int, setting: str = "", within: float = BODY_WITHIN, large: Share | None = None
    ) -> None:
        self._max_body = max_body
        self._setting = setting
        self._within = within
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
        # A length that nobody has told may be small, and what is small waits for nobody.
        if (length or 0) <= BIG and await self._read(request, body, most=BIG):
            yield body
            return
        async with self._large.place(key) if self._large else nullcontext():
            await self._read(request, body, most=self._max_body)
            yield body

    async def _read(self, request: web.Request, body: bytearray, *, most: int) -> bool:
        """Read on until the end, or until there are more than `most` bytes; whether that is all of it."""
        try:
            async with asyncio.timeout(self._within):
                if not body:
                    await _welcome(request)
                async for chunk in request.content.iter_any():
                    body += chunk
                    if len(body) > self._max_body:
                        raise self._too_large()
                    if len(body) > most:
                        return False
        except TimeoutError:
            raise ApiError(
                408, "timeout", f"the body did not come within {self._within:g} s; nothing was stored"
            ) from None
        except (web.RequestPayloadError, ConnectionError) as error:
            raise ApiError(400, "cut_off", f"the body was cut off: {error}; nothing was stored") from error
        return True

    def _too_large(self) -> ApiError:
        setting = f" ({self._setting})" if self._setting else ""
        return too_large(f"the body is above the limit of {self._max_body:,} bytes{setting}")


async def _welcome(request: web.Request) -> None:
    """Say that the body is wanted to whoever has asked for that (RFC 9110, section 10.1.1)."""
    if request.headers.get("Expect", "").lower() == "100-continue" and request.version >= HttpVersion11:
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # as aiohttp's own: the answer proper has not begun
