"""The page on 127.0.0.1 to which the browser returns after a sign-in; it takes one callback.

Google's "desktop" clients follow RFC 8252, section 7.3. The request comes from a browser, so any web page may make one:
only a callback with the state of this sign-in counts, and after any other the server goes on waiting.
"""

import asyncio
import hmac
import html
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import parse_qsl, urlsplit

_MAX_HEAD: Final = 16 * 1024
"""The most bytes of a request's head."""
_HEAD_TIMEOUT: Final = 10.0
"""The seconds that a browser has to send it."""
_FINISH_TIMEOUT: Final = 1.0
_PAGE: Final = (
    '<!doctype html><html lang="en"><meta charset="utf-8"><title>mailerd</title>'
    '<body style="font:16px/1.5 sans-serif;max-width:40em;margin:4em auto;padding:0 1em"><h1>mailerd</h1><p>{}</p>'
)


@dataclass(frozen=True)
class Callback:
    """The browser's request with Google's answer; the browser waits for the page that `show` gives it."""

    parameters: Mapping[str, str] = field(repr=False)
    _page: "asyncio.Future[tuple[int, str]]" = field(repr=False)

    def show(self, text: str, *, status: int = 200) -> None:
        """Show the person how the sign-in ended."""
        if not self._page.done():
            self._page.set_result((status, text))


class CallbackServer:
    """Waits for one callback."""

    def __init__(self, *, state: str, on_rejected: Callable[[str], None]) -> None:
        self.port = 0
        self._state = state
        self._strangers = on_rejected
        self._callback: asyncio.Future[Callback] = asyncio.get_running_loop().create_future()
        self._connection: asyncio.Task[None] | None = None

    async def callback(self, *, timeout: float) -> Callback:  # noqa: ASYNC109 - a person's patience
        """The callback with our state.

        Raises:
            TimeoutError: none came within so many seconds.
        """
        async with asyncio.timeout(timeout):
            return await self._callback

    async def finish(self) -> None:
        """Let the browser get its page, if it was given one."""
        if self._connection is not None:
            await asyncio.wait({self._connection}, timeout=_FINISH_TIMEOUT)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one connection; whatever it sends, only this connection fails."""
        try:
            async with asyncio.timeout(_HEAD_TIMEOUT):
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
            self._strangers("a callback that does not belong to this sign-in (wrong or missing state) was refused")
            return 400, "This answer does not belong to the sign-in that mailerd waits for. Open the newest address."
        if self._callback.done():
            return 409, "This sign-in has been answered already."
        page: asyncio.Future[tuple[int, str]] = asyncio.get_running_loop().create_future()
        self._callback.set_result(Callback(parameters, page))
        self._connection = asyncio.current_task()
        return await page


@asynccontextmanager
async def listening(*, port: int, state: str, on_rejected: Callable[[str], None]) -> AsyncIterator[CallbackServer]:
    """Listen on 127.0.0.1 (port 0 takes a free one); `on_rejected` gets a text for each refused callback.

    Raises:
        OSError: the port is taken.
    """
    callbacks = CallbackServer(state=state, on_rejected=on_rejected)
    server = await asyncio.start_server(callbacks.serve, "127.0.0.1", port, limit=_MAX_HEAD)
    callbacks.port = server.sockets[0].getsockname()[1]
    try:
        yield callbacks
    finally:
        server.close()
        await callbacks.finish()
