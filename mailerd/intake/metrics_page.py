"""`/metrics`: what Prometheus reads; needs no key, and names mailboxes only to whoever may see them."""

from collections.abc import Callable

from aiohttp import web

from mailerd.errors import DatabaseError
from mailerd.intake.auth import HEADER, ApiKeyAuth
from mailerd.ops.metrics import CONTENT_TYPE
from mailerd.store.api_keys import Permission

Shows = Callable[[str], bool]
"""Whether a sender may be named to whoever asks; the others are counted together."""
Page = Callable[[Shows], bytes]


class MetricsEndpoint:
    """The handler; `page` makes the text."""

    def __init__(self, page: Page, *, gate: ApiKeyAuth) -> None:
        self._page = page
        self._gate = gate

    async def show(self, request: web.Request) -> web.Response:
        """The page."""
        return web.Response(body=self._page(await self._shows(request)), headers={"Content-Type": CONTENT_TYPE})

    async def _shows(self, request: web.Request) -> Shows:
        if HEADER not in request.headers:
            return lambda _: False
        try:
            key = await self._gate.authenticate(request, Permission.READ)
        except DatabaseError:  # just then the other figures are needed
            return lambda _: False
        return key.may_send
