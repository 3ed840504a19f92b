"""Real renderers for tests."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from mailerd.events.worker import RendererEvents
from mailerd.intake.job_reader import JobReader
from mailerd.mail.cage import Limits
from mailerd.mail.renderer import CHECK_LIMITS, Renderer
from tests.support.heard import Heard


@asynccontextmanager
async def rendering(heard: Heard | None = None, *, limits: Limits = CHECK_LIMITS) -> AsyncIterator[Renderer]:
    """A renderer."""
    async with Renderer("of the test", limits=limits, events=RendererEvents(heard or Heard())) as renderer:
        yield renderer


@asynccontextmanager
async def reading(heard: Heard | None = None) -> AsyncIterator[JobReader]:
    """What reads jobs, and renders their messages for their check."""
    async with rendering(heard) as renderer, JobReader(renderer, RendererEvents(heard or Heard())) as reader:
        yield reader
