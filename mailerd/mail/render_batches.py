"""Renders single letters: those of one template that wait while the child works go to it together.

The letters of a claim ask at the same moment. One after another each would wait for its own way to the child and back.
"""

import asyncio
from collections.abc import Hashable
from typing import Final

from mailerd.mail.renderer import Rendered, Renderer
from mailerd.mail.templates import RecipientData, Template

MAX_BATCH: Final = 20
"""The most letters that go together. If their template is slow, the first waits for the last, a second each."""


class RenderBatches:
    """Letters on their way to one renderer."""

    def __init__(self, renderer: Renderer) -> None:
        self._renderer = renderer
        self._waiting: dict[Hashable, list[tuple[RecipientData, asyncio.Future[Rendered]]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def render(self, template: Template, recipient: RecipientData, *, origin: str, batch: Hashable) -> Rendered:
        """The letter, or why there is none. `batch` stands for the template: letters with the same one may go together.

        Raises:
            TemplateErrors: the template cannot be used for any recipient.
            RendererError: no child can be started.
        """
        future: asyncio.Future[Rendered] = asyncio.get_running_loop().create_future()
        waiting = self._waiting.get(batch)
        if waiting is None:
            self._waiting[batch] = [(recipient, future)]
            task = asyncio.create_task(self._run(template, origin, batch))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        else:
            waiting.append((recipient, future))
        return await future

    async def _run(self, template: Template, origin: str, batch: Hashable) -> None:
        """Render what waits, and what has come meanwhile, until nothing waits."""
        waiting = self._waiting[batch]
        while waiting := [each for each in waiting if not each[1].done()]:  # done: the caller waits no more
            size = 1 if self._renderer.is_slow(origin) else MAX_BATCH
            taken, self._waiting[batch] = waiting[:size], waiting[size:]
            await self._render(template, taken, origin)
            waiting = self._waiting[batch]
        del self._waiting[batch]

    async def _render(
        self, template: Template, taken: list[tuple[RecipientData, asyncio.Future[Rendered]]], origin: str
    ) -> None:
        try:
            made = await self._renderer.render(
                template, [recipient for recipient, _ in taken], origin=origin, max_stopped=len(taken)
            )
        except Exception as error:  # noqa: BLE001 - each caller gets it
            for _, future in taken:
                if not future.done():
                    future.set_exception(error)
        else:
            for (_, future), one in zip(taken, made, strict=True):
                if not future.done():
                    future.set_result(one)
