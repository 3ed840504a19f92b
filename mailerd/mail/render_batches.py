"""Renders single letters: those of one template that wait while the child works go to it together.

The letters of a claim ask at the same moment. One after another each would wait for its own way to the child and back.
After `MAX_STOPPED` letters of a job that had to be stopped, the rest of it is not tried.
"""

import asyncio
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Final

from mailerd.mail.renderer import MAX_STOPPED, Rendered, Renderer, not_tried
from mailerd.mail.templates import RecipientData, RenderError, Template

MAX_BATCH: Final = 20
"""The most letters that go together. If their template is slow, the first waits for the last, a second each."""
STOPPED_FOR: Final = 600.0
"""Seconds after the last letter that had to be stopped for which the rest of its job is not tried. Then a person who
has asked for another try gets one."""


@dataclass(frozen=True)
class _QueuedLetter:
    """A letter that waits for its turn."""

    recipient: RecipientData
    future: asyncio.Future[Rendered]
    on_slow: Callable[[], None]


@dataclass(frozen=True)
class _Stopped:
    """How many letters of a job had to be stopped, the last of them, and until when that counts."""

    letters: int
    last: list[RenderError]
    until: float


class RenderBatches:
    """Letters on their way to one renderer."""

    def __init__(self, renderer: Renderer) -> None:
        self._renderer = renderer
        self._waiting: dict[Hashable, list[_QueuedLetter]] = {}
        self._stopped: dict[Hashable, _Stopped] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def render(
        self,
        template: Template,
        recipient: RecipientData,
        *,
        origin: str,
        owner: str = "",
        batch: Hashable,
        on_slow: Callable[[], None] = lambda: None,
    ) -> Rendered:
        """The letter, or why there is none. `batch` stands for the job: letters with the same one may go together.

        `origin`, `owner` and `on_slow` are as in `Renderer.render`.

        Raises:
            TemplateErrors: the template cannot be used for any recipient.
            RendererError: no child can be started.
        """
        it = _QueuedLetter(recipient, asyncio.get_running_loop().create_future(), on_slow)
        if self._renderer.is_slow(origin, owner=owner):
            on_slow()
        waiting = self._waiting.get(batch)
        if waiting is None:
            self._waiting[batch] = [it]
            task = asyncio.create_task(self._run(template, origin, owner, batch))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        else:
            waiting.append(it)
        return await it.future

    async def _run(self, template: Template, origin: str, owner: str, batch: Hashable) -> None:
        """Render what waits, and what has come meanwhile, until nothing waits."""
        waiting = self._waiting[batch]
        while waiting := [each for each in waiting if not each.future.done()]:  # done: the caller waits no more
            size = 1 if self._renderer.is_slow(origin, owner=owner) else MAX_BATCH
            taken, self._waiting[batch] = waiting[:size], waiting[size:]
            await self._render(template, taken, origin, owner, batch)
            waiting = self._waiting[batch]
        del self._waiting[batch]

    async def _render(
        self, template: Template, taken: list[_QueuedLetter], origin: str, owner: str, batch: Hashable
    ) -> None:
        def on_slow() -> None:
            for each in (*taken, *self._waiting[batch]):
                each.on_slow()

        before = self._stopped_of(batch)
        stopped = before.letters if before else 0
        if before and stopped >= MAX_STOPPED:
            _answer(taken, [not_tried(before.last)] * len(taken))
            return
        try:
            made = await self._renderer.render(
                template, [each.recipient for each in taken], origin=origin, owner=owner,
                max_stopped=MAX_STOPPED - stopped, on_slow=on_slow,
            )  # fmt: skip
        except Exception as error:  # noqa: BLE001 - each caller gets it
            for each in taken:
                if not each.future.done():
                    each.future.set_exception(error)
            return
        for one in made:
            if stopped < MAX_STOPPED and isinstance(one, list) and any(error.bound for error in one):
                stopped += 1
                self._stopped[batch] = _Stopped(stopped, one, asyncio.get_running_loop().time() + STOPPED_FOR)
        _answer(taken, made)

    def _stopped_of(self, batch: Hashable) -> _Stopped | None:
        now = asyncio.get_running_loop().time()
        self._stopped = {each: it for each, it in self._stopped.items() if it.until > now}
        return self._stopped.get(batch)


def _answer(taken: list[_QueuedLetter], made: list[Rendered]) -> None:
    for each, one in zip(taken, made, strict=True):
        if not each.future.done():
            each.future.set_result(one)
