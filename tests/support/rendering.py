"""Real renderers for tests."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from mailerd.events.worker import RendererEvents
from mailerd.mail.cage import Limits
from mailerd.mail.renderer import CHECK_LIMITS, Renderer, ThreadRenderer
from tests.support.heard import Heard


@asynccontextmanager
async def rendering(heard: Heard | None = None, *, limits: Limits = CHECK_LIMITS) -> AsyncIterator[ThreadRenderer]:
    """A renderer, and how a thread asks it."""
    async with Renderer("of the test", limits=limits, events=RendererEvents(heard or Heard())) as renderer:
        yield ThreadRenderer(renderer, asyncio.get_running_loop(), origin="the test")


@contextmanager
def rendering_in_thread() -> Iterator[ThreadRenderer]:
    """The same for tests without a loop: it runs in a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    renderer = Renderer("of the test", limits=CHECK_LIMITS, events=RendererEvents(Heard()))
    asyncio.run_coroutine_threadsafe(renderer.__aenter__(), loop).result()
    try:
        yield ThreadRenderer(renderer, loop, origin="the test")
    finally:
        asyncio.run_coroutine_threadsafe(renderer.__aexit__(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
