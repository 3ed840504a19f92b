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
from mailerd.mail.render_queue import Ends, Lane, Rendered, Request, SlowOrigins
from mailerd.mail.templates import Reader, Template

CHECKING: Final = Limits(cpu=0.5, memory=256 * 1024 * 1024)
SENDING: Final = Limits(cpu=1.0, memory=320 * 1024 * 1024)
"""The sending has more of all, so that what the check accepted on a busy machine is not failed by a hair."""

T = TypeVar("T")


class Renderer:
    """Child processes with their queues; `async with` starts and ends them. `keep`: see `Lane`."""

    def __init__(self, name: str, *, limits: Limits, events: RendererEvents, keep: bool = False) -> None:
        self._slow, ends = SlowOrigins(), Ends(name, events)
        self._of_slow = Lane(limits=limits, ends=ends, slow=self._slow, keep=False)
        self._lane = Lane(limits=limits, ends=ends, slow=self._slow, keep=keep, aside=self._of_slow)

    async def __aenter__(self) -> Self:
        await self._of_slow.__aenter__()
        await self._lane.__aenter__()
        return self

    async def __aexit__(self, *how: object) -> None:
        try:
            await self._lane.__aexit__(*how)
        finally:
            await self._of_slow.__aexit__(*how)

    @property
    def pid(self) -> int | None:
        """Of the child for whoever is not slow; None while there is none."""
        return self._lane.pid

    @property
    def pid_of_slow(self) -> int | None:
        """Of the child for slow origins; None while there is none."""
        return self._of_slow.pid

    @property
    def trouble(self) -> str:
        """Why nothing can be rendered; "" while nothing is known to be wrong."""
        return self._lane.trouble or self._of_slow.trouble

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
        self, template: Template, readers: Sequence[Reader], *, origin: str, content: bool = True
    ) -> list[Rendered]:
        """For each reader the letter, or why there is none; without `content` letters that can be made are [].

        Raises:
            TemplateErrors: the template cannot be used, whoever reads.
            RendererError: no child can be started.
        """
        if not readers:
            return []
        made: list[Rendered] = await self._request(template, readers, origin=origin, content=content)
        return made

    async def _request(self, template: Template, readers: Sequence[Reader], *, origin: str, content: bool) -> Any:
        done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._lane.add(origin, [Request(template, readers, content, done)])
        return await done


@dataclass(frozen=True)
class RendererOfThread:
    """The renderer for whoever computes in a thread beside the loop that it runs in."""

    renderer: Renderer
    loop: asyncio.AbstractEventLoop
    origin: str

    def compile(self, template: Template) -> Mapping[str, frozenset[str]]:
        """As `Renderer.compile`."""
        return self.run(self.renderer.compile(template, origin=self.origin))

    def start(self, template: Template, readers: Sequence[Reader], *, content: bool) -> "Future[list[Rendered]]":
        """`Renderer.render`, while the thread goes on with something else."""
        rendering = self.renderer.render(template, readers, origin=self.origin, content=content)
        return asyncio.run_coroutine_threadsafe(rendering, self.loop)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """What some work in the loop gives."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result()
