"""The renderer of the commands that render templates."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from mailerd.cli.common import no_log
from mailerd.events.renderer import RendererEvents
from mailerd.mail.renderer import CHECK_LIMITS, Renderer, ThreadRenderer


@asynccontextmanager
async def rendering() -> AsyncIterator[ThreadRenderer]:
    """What renders the templates of a command; what it has to say comes with the command's own errors."""
    async with Renderer("of the command", limits=CHECK_LIMITS, events=RendererEvents(no_log)) as renderer:
        yield ThreadRenderer(renderer, asyncio.get_running_loop(), origin="the command")
