"""The public site of unsubscribe links: a listener of its own that serves `/u/` and `/robots.txt`
and nothing else.

A proxy that publishes this listener cannot publish the API by mistake. A POST unsubscribes, with
any body: mail programs send `List-Unsubscribe=One-Click` in two encodings (RFC 8058, section 3.1),
and some send nothing. GET and HEAD change nothing: scanners of mail follow every link.
"""

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Final
from weakref import WeakValueDictionary

from aiohttp import web

from mailerd.clock import Clock
from mailerd.config import PublicSettings
from mailerd.core.i18n import t
from mailerd.core.suppression import (
    ANSWER_DELAY,
    EVERYTHING,
    Channel,
    Reason,
    UnsubscribeToken,
    masked,
    read_token,
)
from mailerd.errors import DatabaseError
from mailerd.events.intake import IntakeEvents, SuppressionEvents
from mailerd.http.auth import (
    FAILURE_RETRY_AFTER,
    MAX_FAILURES_PER_MINUTE,
    ClientAddress,
    StrangerLog,
    TokenBuckets,
)
from mailerd.http.requests import asked_language
from mailerd.http.responses import no_such_path
from mailerd.http.server import SlowClientReaper, listen, running
from mailerd.intake import unsubscribe_pages as pages
from mailerd.store.db.database import Database
from mailerd.store.write.secrets import SecretKeys, Secrets
from mailerd.store.write.suppressions import NewSuppression, Suppressions

MAX_BODY: Final = 4096
"""Bytes of a POST that are read; a one-click body has 26."""
BODY_TIMEOUT: Final = 10.0
"""Seconds for a body to come."""
RETRY_AFTER: Final = 30
"""Seconds after which a client should try again while nothing can be stored."""
UNDOS_PER_MINUTE: Final = 5
"""Undos of one person and list that are served, per daemon: each lets an unsubscribe write rows and
tell applications anew. An unsubscribe itself is never refused.
"""
PLACES: Final = 2
"""Pages that use the database at once, and as many unsubscribes: its connections are those of the
messages, which would wait behind all requests of a stranger who floods the site by one good link,
or of a scanner that opens all of them.
"""
KEYS_INTERVAL: Final = 1.0
"""Seconds at least between two looks for a key that no link has named before."""
_HEADERS: Final = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Robots-Tag": "noindex",
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; form-action 'self'; style-src 'self'; frame-ancestors 'none'",
    "Server": "mailerd",
}
_ROBOTS: Final = "User-agent: *\nDisallow: /\n"


class UnsubscribeSite:
    """Answers unsubscribe links. `timeout`: seconds that the database gets for an answer."""

    def __init__(
        self,
        settings: PublicSettings,
        *,
        database: Database,
        timeout: float,
        events: SuppressionEvents,
        client_address: ClientAddress | None = None,
    ) -> None:
        self._settings = settings
        self._database = database
        self._timeout = timeout
        self._events = events
        self._clock = Clock()
        self._strangers = StrangerLog(events=IntakeEvents(events.sink), clock=self._clock)
        self._slow_clients = SlowClientReaper(strangers=self._strangers, clock=self._clock)
        self._secrets = Secrets(database, timeout=timeout)
        self._client_address = client_address or ClientAddress(())
        self._failures = TokenBuckets()
        """By the address, apart from those of the API: made-up public links must not shut out its
        clients.
        """
        self._undos = TokenBuckets()
        self._looking, self._acting = asyncio.Semaphore(PLACES), asyncio.Semaphore(PLACES)
        self._links = WeakValueDictionary[tuple[int, int, bytes], asyncio.Lock]()
        """Held for a person and a list while one request of theirs has a place, or waits for
        one.
        """
        self._keys: SecretKeys | None = None
        self._keys_read = -KEYS_INTERVAL
        self._reading_keys = asyncio.Lock()
        """What comes while they are read waits for them: by those from before, a link of a new key
        had a 404.
        """

    async def run(self) -> None:
        """Serve until cancelled; at once done where the settings name no port.

        Raises:
            ListenError: the port cannot be had.
        """
        if not self._settings.port:
            return
        async with self.serve():
            await asyncio.get_running_loop().create_future()

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[tuple[str, int]]:
        """Listen; yields host and port."""
        host, port = self._settings.host, self._settings.port
        async with running(
            self.application(), name="mailerd.intake.unsubscribe_site", reaper=self._slow_clients
        ) as runner:
            await listen(runner, part=t("the public site"), section="public", host=host, port=port)
            host, port = runner.addresses[0][:2]
            self._events.public_site_listening(where=f"http://{host}:{port}")
            yield host, port

    def application(self) -> web.Application:
        """Everything that is served here."""
        application = web.Application(
            middlewares=[self._slow_clients.note_request, self._around], client_max_size=MAX_BODY
        )
        add = partial(application.router.add_route, expect_handler=_on_expect)
        for path, handler in (
            ("/robots.txt", self._robots),
            ("/u/style.css", self._style),
            ("/u/{token}", self._show),
        ):
            add("GET", path, handler)
            add("HEAD", path, handler)
        add("POST", "/u/{token}", self._act)
        add("*", "/{path:.*}", no_such_path)
        return application

    @web.middleware
    async def _around(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        language = asked_language(request)
        try:
            return await handler(request)
        except web.HTTPException as error:
            head = {
                name: error.headers[name]
                for name in ("Allow", "Retry-After")
                if name in error.headers
            }
            return _page(pages.unknown(language), status=error.status, head=head)
        except DatabaseError as error:
            self._events.unsubscribe_unserved(method=request.method, cause=str(error))
            return _page(pages.later(language), status=503, head={"Retry-After": str(RETRY_AFTER)})
        except (TimeoutError, ConnectionError, web.RequestPayloadError):
            return _page(pages.later(language), status=408)
        except Exception as error:  # noqa: BLE001 - a bug must not show its stack to strangers
            self._events.unsubscribe_failed(error=error)
            return _page(pages.later(language), status=500)

    async def _robots(self, _: web.Request) -> web.Response:
        return web.Response(text=_ROBOTS, headers=_HEADERS)

    async def _style(self, _: web.Request) -> web.Response:
        headers = _HEADERS | {"Cache-Control": "max-age=3600"}
        return web.Response(text=pages.CSS, content_type="text/css", headers=headers)

    async def _show(self, request: web.Request) -> web.Response:
        token, suppressions = await self._read(request)
        language = asked_language(request)
        async with self._place(self._looking, token):
            title, address, _ = await self._named(token, suppressions)
        return _page(pages.ask(language, list_title=title, who=masked(address) if address else ""))

    async def _act(self, request: web.Request) -> web.Response:
        token, suppressions = await self._read(request)
        async with asyncio.timeout(BODY_TIMEOUT):
            body = await _body(request)
        language = asked_language(request)
        async with self._place(self._acting, token):
            title, address, origin = await self._named(token, suppressions)
            who = masked(address) if address else ""
            if body == b"undo=1":
                who_and_list, now = (token.digest, token.list_id), self._clock.monotonic()
                if wait := self._undos.wait(who_and_list, per_minute=UNDOS_PER_MINUTE, now=now):
                    return _page(
                        pages.later(language),
                        status=429,
                        head={"Retry-After": str(math.ceil(wait))},
                    )
                still_out = await self._undo(
                    token, suppressions, origin=origin, title=title, who=who
                )
                return _page(
                    (pages.still_out if still_out else pages.undone)(
                        language, list_title=title, who=who
                    )
                )
            source = Channel.ONE_CLICK if b"One-Click" in body else Channel.PAGE
            # another person's would be named in the event
            message = token.recipient_id if address is not None else None
            new = NewSuppression(
                token.digest,
                token.list_id,
                Reason.UNSUBSCRIBED,
                source,
                address,
                message,
                origin=origin,
            )
            if (await suppressions.add([new])).changed:
                self._events.suppression_added(
                    address=who or t("an address"),
                    mailing_list=title,
                    reason=Reason.UNSUBSCRIBED.value,
                    source=source.value,
                )
        # A send that looked before the COMMIT begins within MAX_LOOKUP_AGE of its look, or looks
        # again: when this answer is read, no send of this list to this address begins any more.
        await self._clock.sleep(ANSWER_DELAY)
        return _page(pages.done(language, list_title=title, who=who))

    @asynccontextmanager
    async def _place(
        self, places: asyncio.Semaphore, token: UnsubscribeToken
    ) -> AsyncIterator[None]:
        """Hold one of the places, of which a link has one at most: a flood by it leaves the others
        to other people.

        Raises:
            DatabaseError: none came free in the time that the database gets for an answer.
        """
        link = self._links.setdefault((id(places), token.list_id, token.digest), asyncio.Lock())
        async with self._held(link, places):
            yield

    @asynccontextmanager
    async def _held(self, *them: asyncio.Lock | asyncio.Semaphore) -> AsyncIterator[None]:
        async with AsyncExitStack() as held:
            try:
                async with asyncio.timeout(self._timeout):
                    for each in them:
                        await held.enter_async_context(each)
            except TimeoutError as error:
                raise DatabaseError(
                    "an unsubscribe link",
                    phase="queue",
                    cause=error,
                    errno=0,
                    retry=True,
                    in_doubt=False,
                ) from None
            yield

    async def _undo(
        self,
        token: UnsubscribeToken,
        suppressions: Suppressions,
        *,
        origin: str,
        title: str,
        who: str,
    ) -> bool:
        """Take it back; whether messages of the list stay away all the same."""
        removed, still_out = await suppressions.undo(
            token.digest, list_id=token.list_id, origin=origin
        )
        if removed:
            self._events.suppression_removed(
                address=who or t("an address"), mailing_list=title, source=Channel.PAGE.value
            )
        return still_out

    async def _read(self, request: web.Request) -> tuple[UnsubscribeToken, Suppressions]:
        """The token of the request's path.

        Raises:
            HTTPNotFound: it was cut, or no key of ours made it. HTTPTooManyRequests: so it is, and
            its address has shown many such. A good one is never refused. DatabaseError: the keys
            cannot be read.
        """
        text = request.match_info["token"]
        keys = await self._known_keys()
        token = read_token(text, keys.tokens)
        if token is None:
            keys = await self._known_keys(anew=True)  # another process may have rotated them
            token = read_token(text, keys.tokens)
        if token is None or token.list_id == EVERYTHING:
            address, now = self._client_address.address(request), self._clock.monotonic()
            if self._failures.wait(address, per_minute=MAX_FAILURES_PER_MINUTE, now=now):
                raise web.HTTPTooManyRequests(headers={"Retry-After": f"{FAILURE_RETRY_AFTER:.0f}"})
            raise web.HTTPNotFound
        return token, Suppressions(self._database, key=keys.address, timeout=self._timeout)

    async def _known_keys(self, *, anew: bool = False) -> SecretKeys:
        if self._keys is not None and not anew:
            return self._keys
        async with self._held(self._reading_keys):
            now = self._clock.monotonic()
            if self._keys is None or now - self._keys_read >= KEYS_INTERVAL:
                self._keys_read = now
                try:
                    self._keys = await self._secrets.keys()
                except DatabaseError:
                    self._keys = None  # or a link of a new key had a 404 until the next look
                    raise
            return self._keys

    async def _named(
        self, token: UnsubscribeToken, suppressions: Suppressions
    ) -> tuple[str, str | None, str]:
        """The list's title, and where the message's row is still kept and is the one that was
        meant, its addresses.

        These are its recipient's, and what its From said.
        """
        found = await suppressions.list_by_id(token.list_id)
        title = found.shown if found else t("this list")
        message = await suppressions.message_of(token.recipient_id)
        if message is None or suppressions.digest(message[0]) != token.digest:
            return title, None, ""
        return title, *message


async def _on_expect(request: web.Request) -> web.StreamResponse | None:
    """Ask for the body where the client waits for that; any other `Expect` is ignored, since a POST
    must act.
    """
    if (
        request.headers.get("Expect", "").lower() == "100-continue"
        and request.transport is not None
    ):
        request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    return None


async def _body(request: web.Request) -> bytes:
    """The body's beginning, whatever it is; what is longer is no concern of ours."""
    read = b""
    while len(read) < MAX_BODY and (piece := await request.content.read(MAX_BODY - len(read))):
        read += piece
    return read.strip()


def _page(html: str, *, status: int = 200, head: dict[str, str] | None = None) -> web.Response:
    return web.Response(
        text=html, status=status, content_type="text/html", headers=_HEADERS | (head or {})
    )
