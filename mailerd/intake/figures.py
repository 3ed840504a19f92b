"""`/metrics`: what Prometheus reads; needs no key, tells no recipient's address."""

from collections.abc import Callable

from aiohttp import web

from mailerd.metrics import CONTENT_TYPE


class Figures:
    """The handler; `page` makes the text."""

    def __init__(self, page: Callable[[], bytes]) -> None:
        self._page = page

    async def show(self, request: web.Request) -> web.Response:  # noqa: ARG002 - aiohttp's signature
        """The page."""
        return web.Response(body=self._page(), headers={"Content-Type": CONTENT_TYPE})
