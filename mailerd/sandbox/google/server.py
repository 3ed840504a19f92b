"""Puts the sandbox Google on a loopback address: routes requests to their handler, the control
calls and the pages.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from email.utils import formatdate

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http_parser import RawRequestMessage
from aiohttp.streams import StreamReader
from aiohttp.web_protocol import RequestHandler

from mailerd.core.network_rules import is_loopback
from mailerd.sandbox.google.answers import Answer, too_large, unknown_path
from mailerd.sandbox.google.control import PREFIX, Control
from mailerd.sandbox.google.fake_google import FakeGoogle
from mailerd.sandbox.google.methods import API, UPLOAD
from mailerd.sandbox.google.pages import MESSAGES, PAGES, Pages
from mailerd.sandbox.google.request_handler import GoogleRequestHandler, response

_GRACE_S = 0.05
"""How long requests in flight may go on at the end; aiohttp waits that long twice."""

_JSON_OVERHEAD = 1024 * 1024


@dataclass(frozen=True, slots=True)
class RunningServer:
    """A sandbox Google that can be talked to."""

    google: FakeGoogle
    url: str
    """Its address, with a slash at its end; mailerd calls it `api_root`."""

    @property
    def token_uri(self) -> str:
        """The token endpoint."""
        return self.url + "token"


class _Site:
    def __init__(self, google: FakeGoogle) -> None:
        self._google = google
        self._handler = GoogleRequestHandler(google)
        self._control = Control(google)
        self._pages = Pages(google)

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            return await self._routed(request, request.rel_url.path)
        except ConnectionError:
            # The client went while it was still writing: there is no client to answer, and nothing
            # has been taken.
            return web.Response(status=400)

    async def _routed(self, request: web.BaseRequest, path: str) -> web.StreamResponse:
        if path.startswith((API, UPLOAD)):
            answer = await self._handler.gmail(request, path)
            if not answer.prepared:  # by the same clock as its mailboxes, which a test may set
                answer.headers["Date"] = formatdate(self._google.now(), usegmt=True)
            return answer
        if path == "/token" and request.method == "POST":
            return await self._handler.token(request)
        try:
            return response(await self._rest(request, path))
        except web.HTTPRequestEntityTooLarge:
            return response(too_large(self._google.rules.max_message_bytes))

    async def _rest(self, request: web.BaseRequest, path: str) -> Answer:
        query = request.rel_url.query
        if path == "/o/oauth2/v2/auth" and request.method == "GET":
            return self._google.oauth.consent(query)
        # Only a page of our own may speak to what has no password: a foreign site reaches loopback
        # under its own name.
        if not is_loopback(request.rel_url.host or request.url.host or ""):
            return unknown_path()
        if path.startswith(PREFIX):
            return self._control.answer(
                request.method, path.removeprefix(PREFIX), query, await request.read()
            )
        self._pages.speak(request.headers.get("Accept-Language", ""))
        if request.method in ("GET", "HEAD") and (path in PAGES or path.startswith(MESSAGES)):
            return self._pages.answer(path, query)
        if request.method == "POST" and path.startswith(MESSAGES) and _is_of_own_page(request):
            await request.read()
            return await self._pages.unsubscribe(path)
        return unknown_path()

    def make_request(
        self,
        message: RawRequestMessage,
        payload: StreamReader,
        protocol: RequestHandler,
        writer: AbstractStreamWriter,
        task: "asyncio.Task[None]",
    ) -> web.BaseRequest:
        # base64 in JSON is a third longer than the message in it.
        most = self._google.rules.max_message_bytes * 4 // 3 + _JSON_OVERHEAD
        return web.BaseRequest(
            message,
            payload,
            protocol,
            writer,
            task,
            asyncio.get_running_loop(),
            client_max_size=most,
        )


@asynccontextmanager
async def serve(
    google: FakeGoogle, *, host: str = "127.0.0.1", port: int = 0
) -> AsyncIterator[RunningServer]:
    """Serve a sandbox Google until the block ends; port 0 takes a free one.

    Raises ValueError for a host that is not loopback, OSError for a port that is taken or (at the
    end) for messages that could not be written. Requests in flight at the end are cut off.
    """
    if not is_loopback(host):
        raise ValueError(f"the sandbox serves loopback addresses only, not {host}")
    site = _Site(google)
    server = web.Server(site.handle, request_factory=site.make_request, access_log=None)
    listener = await asyncio.get_running_loop().create_server(server, host, port, backlog=1024)
    bound = listener.sockets[0].getsockname()[1]
    name = f"[{host}]" if ":" in host else host
    running = RunningServer(google, f"http://{name}:{bound}/")
    google.accounts.served_at(running.url)
    try:
        yield running
    finally:
        listener.close()
        await server.shutdown(_GRACE_S)
        google.close()


def _is_of_own_page(request: web.BaseRequest) -> bool:
    """Whether a page of another site sent the form: browsers name it in Origin; what is no browser
    names none.
    """
    origin = request.headers.get("Origin")
    return origin is None or origin == f"http://{request.headers.get('Host', '')}"
