"""`/health/…`: alive means that the loop turns, ready means that a job could be stored now."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import web

from mailerd.clock import Clock
from mailerd.errors import DatabaseError, SchemaError
from mailerd.intake.errors import RETRY_AFTER
from mailerd.intake.middleware import REQUEST, answer
from mailerd.mail.errors import RendererError
from mailerd.store.db import error_codes

READY_WITHIN: Final = 3.0
"""Seconds for the database to show that it is there."""
BELIEVED: Final = 1.0
"""Seconds for which a finding stands: nobody needs a key to ask, so asking must be cheap."""


class Health:
    """The two handlers; `check` raises when no job could be checked and stored."""

    def __init__(self, check: Callable[[], Awaitable[None]], *, within: float, clock: Clock) -> None:
        self._check = check
        self._within = min(within, READY_WITHIN)
        self._clock = clock
        self._one = asyncio.Lock()
        self._finding = ""
        self._until = 0.0

    async def live(self, request: web.Request) -> web.Response:  # noqa: ARG002 - aiohttp's signature
        """Alive."""
        return answer({"status": "alive"})

    async def ready(self, request: web.Request) -> web.Response:  # noqa: ARG002 - aiohttp's signature
        """Ready, or a 503 with the reason."""
        async with self._one:
            if self._clock.monotonic() >= self._until:
                self._finding = await self._find()
                self._until = self._clock.monotonic() + BELIEVED
            finding = self._finding
        if finding:
            headers = {"Retry-After": str(RETRY_AFTER)}
            error = {"code": "not_ready", "message": finding, "details": [], "request_id": REQUEST.get()}
            return answer({"status": "not ready", "reason": finding, "error": error}, status=503, headers=headers)
        return answer({"status": "ready"})

    async def _find(self) -> str:
        """Why not, or ""."""
        try:
            async with asyncio.timeout(self._within):
                await self._check()
        except TimeoutError:
            return f"the database is away: it does not answer within {self._within:g} s"
        except (SchemaError, RendererError) as error:
            return str(error)
        except DatabaseError as error:  # its own words may hold names that are nobody's business
            if said := error_codes.no_writes(error.errno):
                return f"the database {said}"
            return f"the database is away: it failed at {error.phase} (errno {error.errno}); the log says more"
        return ""
