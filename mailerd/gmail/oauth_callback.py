"""One page on 127.0.0.1 to which the browser is sent back after a sign-in; it alone listens for that, and only once.

RFC 8252, section 7.3, is what Google's "desktop" clients follow. The request comes from a browser, so anybody's page
may make one: only an answer with the state that was drawn for this sign-in counts, and all others leave it waiting.
"""

import asyncio
import hmac
import html
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import parse_qsl, urlsplit

_HEAD_AT_MOST: Final = 16 * 1024
"""Bytes of a request's head."""
_HEAD_WITHIN: Final = 10.0
"""Seconds for a browser to write it."""
_SEE_OFF_WITHIN: Final = 1.0
_PAGE: Final = (
    '<!doctype html><html lang="en"><meta charset="utf-8"><title>mailerd</title>'
    '<body style="font:16px/1.5 sans-serif;max-width:40em;margin:4em auto;padding:0 1em"><h1>mailerd</h1><p>{}</p>'
)


@dataclass(frozen=True)
class Visit:
    """The browser with Google's answer; it waits for the page that `show` gives it."""

    parameters: Mapping[str, str] = field(repr=False)
    _page: "asyncio.Future[tuple[int, str]]" = field(repr=False)

    def show(self, text: str, *, status: int = 200) -> None:
        """Show the person how it ended."""
        if not self._page.done():
            self._page.set_result((status, text))


class Loopback:
    """Waits for one visit."""

    def __init__(self, *, state: str, strangers: Callable[[str], None]) -> None:
        self.port = 0
        self._state = state
        self._strangers = strangers
        self._visit: asyncio.Future[Visit] = asyncio.get_running_loop().create_future()
        self._visited: asyncio.Task[None] | None = None

    async def visit(self, *, within: float) -> Visit:
        """The visit that bears our state.

        Raises:
            TimeoutError: nobody came within so many seconds.
        """
        async with asyncio.timeout(within):
            return await self._visit

    async def see_off(self) -> None:
        """Let the visitor get the page, if it was given one."""
        if self._visited is not None:
            await asyncio.wait({self._visited}, timeout=_SEE_OFF_WITHIN)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one connection; whatever it sends, nothing but this connection suffers."""
        try:
            async with asyncio.timeout(_HEAD_WITHIN):
                head = await reader.readuntil(b"\r\n\r\n")
            status, text = await self._answer(head.split(b"\r\n", 1)[0].decode("ascii", "replace"))
        except (TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError):
            writer.transport.abort()
            return
        body = _PAGE.format(html.escape(text)).encode()
        lines = (
            f"HTTP/1.1 {status} mailerd",
            "Content-Type: text/html; charset=utf-8",
            f"Content-Length: {len(body)}",
            "Cache-Control: no-store",
            "Referrer-Policy: no-referrer",  # the address holds the code
            "Content-Security-Policy: default-src 'none'; style-src 'unsafe-inline'",
            "Connection: close",
        )
        writer.write("\r\n".join((*lines, "", "")).encode() + body)
        writer.close()
        await writer.wait_closed()

    async def _answer(self, line: str) -> tuple[int, str]:
        """Status and page for a request by its first line."""
        method, _, rest = line.partition(" ")
        target = urlsplit(rest.partition(" ")[0])
        if method != "GET" or target.path != "/":
            return 404, "There is nothing here."
        pairs = parse_qsl(target.query, keep_blank_values=True)
        parameters = dict(pairs)
        if len(parameters) != len(pairs) or not hmac.compare_digest(
            parameters.get("state", "").encode(), self._state.encode()
        ):
            self._strangers("an answer that does not belong to this sign-in (wrong or missing state) was refused")
            return 400, "This answer does not belong to the sign-in that mailerd waits for. Open the newest address."
        if self._visit.done():
            return 409, "This sign-in has been answered already."
        page: asyncio.Future[tuple[int, str]] = asyncio.get_running_loop().create_future()
        self._visit.set_result(Visit(parameters, page))
        self._visited = asyncio.current_task()
        return await page


@asynccontextmanager
async def listening(*, port: int, state: str, strangers: Callable[[str], None]) -> AsyncIterator[Loopback]:
    """Listen on 127.0.0.1 (port 0 takes a free one) until the block ends; `strangers` is told of refused answers.

    Raises:
        OSError: the port is taken.
    """
    loopback = Loopback(state=state, strangers=strangers)
    server = await asyncio.start_server(loopback.serve, "127.0.0.1", port, limit=_HEAD_AT_MOST)
    loopback.port = server.sockets[0].getsockname()[1]
    try:
        yield loopback
    finally:
        server.close()
        await loopback.see_off()
