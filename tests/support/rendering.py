"""Real renderers for tests."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from mailerd.events.renderer import RendererEvents
from mailerd.mail.child_process import Limits
from mailerd.mail.renderer import CHECKING, Renderer, RendererOfThread
from tests.support.heard import Heard


@asynccontextmanager
async def rendering(heard: Heard | None = None, *, limits: Limits = CHECKING) -> AsyncIterator[RendererOfThread]:
    """A renderer, and how a thread asks it."""
    async with Renderer("of the test", limits=limits, events=RendererEvents(heard or Heard())) as renderer:
        yield RendererOfThread(renderer, asyncio.get_running_loop(), origin="the test")


@contextmanager
def rendering_beside() -> Iterator[RendererOfThread]:
    """The same for tests without a loop: it runs in a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    renderer = Renderer("of the test", limits=CHECKING, events=RendererEvents(Heard()))
    asyncio.run_coroutine_threadsafe(renderer.__aenter__(), loop).result()
    try:
        yield RendererOfThread(renderer, loop, origin="the test")
    finally:
        asyncio.run_coroutine_threadsafe(renderer.__aexit__(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
