"""What both listeners, the API's and the public site's, have in common: how they are run, and how they end."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from aiohttp import web

from mailerd.intake.server_log import StrangerLog, server_log
from mailerd.intake.slow_clients import SlowClientReaper

KEEPALIVE_TIMEOUT: Final = 75.0
"""Seconds that an idle connection stays open: longer than the usual proxy keeps its end of it (60 s)."""
GRACE: Final = 10.0
"""Seconds that requests under way get at a stop."""
_LINGER_SECONDS: Final = 0.3
"""Seconds between the end of listening and the closing of connections."""


@asynccontextmanager
async def running(
    application: web.Application, *, name: str, strangers: StrangerLog, reaper: SlowClientReaper
) -> AsyncIterator[web.AppRunner]:
    """A runner of the application, which listens nowhere yet; `name` is that of its log.

    At the end no new connection is accepted, and requests under way get GRACE seconds.
    """
    with server_log(strangers, name=name) as logger:
        runner = web.AppRunner(
            application,
            handle_signals=False,
            access_log=None,
            logger=logger,
            keepalive_timeout=KEEPALIVE_TIMEOUT,
            shutdown_timeout=GRACE,
            auto_decompress=False,
        )
        await runner.setup()
        reaping = asyncio.create_task(
            reaper.run(lambda: runner.server.connections if runner.server else []), name=f"close slow clients of {name}"
        )
        try:
            yield runner
        finally:
            reaping.cancel()
            for site in list(runner.sites):
                await site.stop()
            await asyncio.sleep(_LINGER_SECONDS)  # at once it would reset what the kernel has accepted a moment ago
            await runner.cleanup()
