"""`/health/live`, `/health/ready` and `/metrics`: what monitoring reads, without an API key."""

import asyncio
import math
from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import web

from mailerd.clock import Clock
from mailerd.core.i18n import t
from mailerd.core.reading import database, outage_reason
from mailerd.errors import DatabaseError, SchemaError
from mailerd.http.auth import ApiKeyAuth, shown_key
from mailerd.http.responses import REQUEST, RETRY_AFTER, FailureOut, json_response
from mailerd.intake.response_models import LiveOut, NotReadyOut, ReadyOut
from mailerd.locale import speak
from mailerd.mail.templates import RendererError
from mailerd.ops.metrics import CONTENT_TYPE
from mailerd.store.db.writer import NoWriterError, Writer
from mailerd.store.write.api_keys import ApiKey, Permission

READY_TIMEOUT: Final = 3.0
"""Seconds for the database to answer."""
CACHE_SECONDS: Final = 1.0
"""Seconds for which one check of the database answers every request: it needs no key, so it must be
cheap.
"""
REST: Final = 4
"""Between two pages of metrics lies so many times what one took: no message goes while it is
made.
"""

MayName = Callable[[str], bool]
"""Whether the answer may name this sender; the senders that it may not name are counted
together.
"""
MetricsPage = Callable[[MayName], bytes]


class HealthEndpoints:
    """Alive: the event loop runs.

    Ready: a job could be stored now; `check` raises when it could not.
    """

    def __init__(
        self,
        check: Callable[[], Awaitable[None]],
        *,
        outage: Callable[[], str],
        writer: Writer,
        timeout: float,
        clock: Clock,
    ) -> None:
        """`outage`: how the database cannot be used, as `Database.outage` says it."""
        self._check, self._outage = check, outage
        self._writer = writer
        self._timeout = min(timeout, READY_TIMEOUT)
        self._clock = clock
        self._lock = asyncio.Lock()
        self._reason = ""
        self._until = 0.0

    async def live(self, request: web.Request) -> web.Response:  # noqa: ARG002 - aiohttp's signature
        """Alive."""
        return json_response(LiveOut(status="alive"))

    async def ready(self, request: web.Request) -> web.Response:  # noqa: ARG002 - aiohttp's signature
        """Ready, or a 503 with the reason."""
        async with self._lock:
            if self._clock.monotonic() >= self._until:
                self._reason = await self._why_not()
                self._until = self._clock.monotonic() + CACHE_SECONDS
            reason = self._reason
        if reason:
            headers = {"Retry-After": str(RETRY_AFTER)}
            error = FailureOut(
                code="not_ready", message=reason, details=[], request_id=REQUEST.get()
            )
            answer = NotReadyOut(
                status=t("not ready"), reason=reason, outage=self._outage(), error=error
            )
            return json_response(answer, status=503, headers=headers)
        # the name of a single host is not shown
        server = None if self._writer.alone else self._writer.where
        moved_at = self._writer.moved_at
        return json_response(
            ReadyOut(status="ready", database_server=server, database_moved_at=moved_at)
        )

    async def _why_not(self) -> str:
        """Why a job cannot be stored; "" when it can."""
        try:
            async with asyncio.timeout(self._timeout):
                await self._check()
        except TimeoutError:
            return t(
                "the database is unavailable: no response within {timeout:g} s; {remedy}",
                timeout=self._timeout,
                remedy=database("away").remedies[0],
            )
        except (SchemaError, RendererError) as error:
            return str(error)
        except DatabaseError as error:  # the server's own message may hold host and user names
            if error.said:
                return t("the database {why}", why=error.said)
            if isinstance(cause := error.__cause__, NoWriterError):
                return t(
                    "the database is unavailable: {summary}; {remedy}",
                    summary=cause.summary,
                    remedy=cause.remedy,
                )
            outage = self._outage()
            return t(
                "{reason}: {phase} failed (errno {errno}); {remedy}",
                reason=outage_reason(outage),
                phase=error.phase,
                errno=error.errno,
                remedy=database(outage).remedies[0],
            )
        return ""


class MetricsEndpoint:
    """`/metrics` for Prometheus; `page` makes the text.

    It names senders only to a key that may see them.
    """

    def __init__(self, page: MetricsPage, *, auth: ApiKeyAuth, clock: Clock) -> None:
        self._page = page
        self._auth = auth
        self._clock = clock
        self._next: dict[int | None, asyncio.Task[bytes]] = {}
        """The page that is to be made for each key, and for all who have none."""
        self._turn = asyncio.Lock()
        self._rests_until = -math.inf

    async def metrics(self, request: web.Request) -> web.Response:
        """The next page, which all requests of a key get that have come by then: nothing in it is
        stale.
        """
        key = await self._key(request)
        speak("en")  # its words are names
        who = key.id if key else None
        if who not in self._next:
            self._next[who] = asyncio.create_task(
                self._make(who, key.may_send if key else lambda _: False)
            )
        return web.Response(
            body=await asyncio.shield(self._next[who]), headers={"Content-Type": CONTENT_TYPE}
        )

    async def _make(self, who: int | None, may_name: MayName) -> bytes:
        async with self._turn:
            await self._clock.sleep(max(0.0, self._rests_until - self._clock.monotonic()))
            del self._next[who]
            begun = self._clock.monotonic()
            try:
                return self._page(may_name)
            finally:
                ended = self._clock.monotonic()
                self._rests_until = ended + REST * (ended - begun)

    async def _key(self, request: web.Request) -> ApiKey | None:
        if not shown_key(request):
            return None
        try:
            return await self._auth.authenticate(request, Permission.READ)
        except DatabaseError:  # the other numbers matter most at this moment
            return None
