"""The one door to templates: renders many recipients of one template, in a child process that the system bounds.

Whatever a client's template does, it ends with a letter, or with a short reason for that recipient; the child may have
to die for it, and the letters beside it are rendered again without it. Whoever asks gives an `origin` (a sender, an API
key): origins take turns, and those whose templates are slow have a child of their own, which they wait for together.
"""

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Final, Self, TypeVar

from mailerd.events.renderer import RendererEvents
from mailerd.mail.child_process import Limits
from mailerd.mail.render_queue import ChildExits, Rendered, RenderQueue, RenderRequest, SlowOrigins
from mailerd.mail.templates import RecipientData, Template

CHECK_LIMITS: Final = Limits(cpu=0.5, memory=256 * 1024 * 1024)
SEND_LIMITS: Final = Limits(cpu=1.0, memory=320 * 1024 * 1024)
"""The sending has more of all, so that what the check accepted on a busy machine is not failed by a hair."""

T = TypeVar("T")


class Renderer:
    """Child processes with their queues; `async with` starts and ends them. `keep`: see `RenderQueue`."""

    def __init__(self, name: str, *, limits: Limits, events: RendererEvents, keep: bool = False) -> None:
        self._slow, ends = SlowOrigins(), ChildExits(name, events)
        self._slow_queue = RenderQueue(limits=limits, ends=ends, slow=self._slow, keep=False)
        self._queue = RenderQueue(limits=limits, ends=ends, slow=self._slow, keep=keep, aside=self._slow_queue)

    async def __aenter__(self) -> Self:
        await self._slow_queue.__aenter__()
        await self._queue.__aenter__()
        return self

    async def __aexit__(self, *how: object) -> None:
        try:
            await self._queue.__aexit__(*how)
        finally:
            await self._slow_queue.__aexit__(*how)

    @property
    def pid(self) -> int | None:
        """Of the child for whoever is not slow; None while there is none."""
        return self._queue.pid

    @property
    def slow_pid(self) -> int | None:
        """Of the child for slow origins; None while there is none."""
        return self._slow_queue.pid

    @property
    def start_error(self) -> str:
        """Why nothing can be rendered; "" while nothing is known to be wrong."""
        return self._queue.start_error or self._slow_queue.start_error

    def is_slow(self, origin: str) -> bool:
        """Whether a letter of this origin was slow a moment ago, so that its letters wait for one another."""
        return origin in self._slow

    async def compile(self, template: Template, *, origin: str) -> Mapping[str, frozenset[str]]:
        """The variables that each language of a template reads, by their top-level names; "" is the default.

        Raises:
            TemplateErrors: it cannot be used.
            RendererError: no child can be started.
        """
        names: Mapping[str, list[str]] = await self._request(template, (), origin=origin, content=False)
        return {language: frozenset(each) for language, each in names.items()}

    async def render(
        self, template: Template, recipients: Sequence[RecipientData], *, origin: str, content: bool = True
    ) -> list[Rendered]:
        """For each reader the letter, or why there is none; without `content` letters that can be made are [].

        Raises:
            TemplateErrors: the template cannot be used, whoever reads.
            RendererError: no child can be started.
        """
        if not recipients:
            return []
        made: list[Rendered] = await self._request(template, recipients, origin=origin, content=content)
        return made

    async def _request(
        self, template: Template, recipients: Sequence[RecipientData], *, origin: str, content: bool
    ) -> Any:
        done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._queue.add(origin, [RenderRequest(template, recipients, content, done)])
        return await done


@dataclass(frozen=True)
class ThreadRenderer:
    """The renderer for whoever computes in a thread beside the loop that it runs in."""

    renderer: Renderer
    loop: asyncio.AbstractEventLoop
    origin: str

    def compile(self, template: Template) -> Mapping[str, frozenset[str]]:
        """As `Renderer.compile`."""
        return self.run(self.renderer.compile(template, origin=self.origin))

    def start(
        self, template: Template, recipients: Sequence[RecipientData], *, content: bool
    ) -> "Future[list[Rendered]]":
        """`Renderer.render`, while the thread goes on with something else."""
        rendering = self.renderer.render(template, recipients, origin=self.origin, content=content)
        return asyncio.run_coroutine_threadsafe(rendering, self.loop)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """What some work in the loop gives."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result()
