"""`/health/live`, `/health/ready` and `/metrics`: what monitoring reads, without an API key."""

import asyncio
import math
from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler

from mailerd.clock import Clock
from mailerd.errors import DatabaseError, SchemaError
from mailerd.intake.auth import HEADER, ApiKeyAuth
from mailerd.intake.errors import RETRY_AFTER
from mailerd.intake.http_responses import REQUEST, json_response
from mailerd.intake.response_models import FailureOut, LiveOut, NotReadyOut, ReadyOut
from mailerd.mail.templates import RendererError
from mailerd.ops.metrics import CONTENT_TYPE
from mailerd.store.api_keys import Permission
from mailerd.store.db import error_codes
from mailerd.store.db.writer import NoWriterError, Writer

READY_TIMEOUT: Final = 3.0
"""Seconds for the database to answer."""
CACHE_SECONDS: Final = 1.0
"""Seconds for which one check of the database answers every request: it needs no key, so it must be cheap."""
REST: Final = 4
"""Between two pages of metrics for those without a key lies so many times what one took: no letter goes meanwhile."""

MayName = Callable[[str], bool]
"""Whether the answer may name this sender; the senders that it may not name are counted together."""
MetricsPage = Callable[[MayName], bytes]


class HealthEndpoints:
    """Alive: the event loop runs. Ready: a job could be stored now; `check` raises when it could not."""

    def __init__(self, check: Callable[[], Awaitable[None]], *, writer: Writer, timeout: float, clock: Clock) -> None:
        self._check = check
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
            error = FailureOut(code="not_ready", message=reason, details=[], request_id=REQUEST.get())
            answer = NotReadyOut(status="not ready", reason=reason, error=error)
            return json_response(answer, status=503, headers=headers)
        server = None if self._writer.alone else self._writer.where  # the name of a single host is not shown
        moved_at = self._writer.moved_at
        return json_response(ReadyOut(status="ready", database_server=server, database_moved_at=moved_at))

    async def _why_not(self) -> str:
        """Why a job cannot be stored; "" when it can."""
        try:
            async with asyncio.timeout(self._timeout):
                await self._check()
        except TimeoutError:
            return f"the database is away: it does not answer within {self._timeout:g} s"
        except (SchemaError, RendererError) as error:
            return str(error)
        except DatabaseError as error:  # the server's own message may hold host and user names
            if why := error_codes.no_writes(error.errno):
                return f"the database {why}"
            if error.phase == "commit" and not error.errno:
                return "the database is away: a COMMIT gets no answer; see that the primary's replicas are connected"
            if isinstance(cause := error.__cause__, NoWriterError):
                return f"the database is away: {cause.summary}; {cause.remedy}"
            return f"the database is away: it failed at {error.phase} (errno {error.errno}); the log says more"
        return ""


class MetricsEndpoint:
    """`/metrics` for Prometheus; `page` makes the text. It names senders only to a key that may see them."""

    def __init__(self, page: MetricsPage, *, auth: ApiKeyAuth, clock: Clock) -> None:
        self._page = page
        self._auth = auth
        self._clock = clock
        self._next: asyncio.Task[bytes] | None = None
        self._rests_until = -math.inf

    def paths(self) -> dict[str, Handler]:
        """The page by its path."""
        return {"/metrics": self.metrics}

    async def metrics(self, request: web.Request) -> web.Response:
        """The page."""
        may_name = await self._may_name(request)
        body = self._page(may_name) if may_name else await self._without_names()
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE})

    async def _without_names(self) -> bytes:
        """The next page, which all get who have asked for it by then: it needs no key, and nothing in it is stale."""
        if self._next is None:
            self._next = asyncio.create_task(self._make())
        return await asyncio.shield(self._next)

    async def _make(self) -> bytes:
        await self._clock.sleep(max(0.0, self._rests_until - self._clock.monotonic()))
        self._next, begun = None, self._clock.monotonic()
        try:
            return self._page(lambda _: False)
        finally:
            ended = self._clock.monotonic()
            self._rests_until = ended + REST * (ended - begun)

    async def _may_name(self, request: web.Request) -> MayName | None:
        if HEADER not in request.headers:
            return None
        try:
            key = await self._auth.authenticate(request, Permission.READ)
        except DatabaseError:  # the other numbers matter most at this moment
            return None
        return key.may_send
