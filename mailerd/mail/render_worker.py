"""A worker that renders: a child process, started when it is needed and replaced when it has ended."""

import asyncio
import contextlib
from collections import deque
from collections.abc import Mapping, Sequence
from itertools import count
from typing import Any, Final, Self
from weakref import WeakKeyDictionary

from mailerd.events.renderer import RendererEvents
from mailerd.mail.child_process import ChildProcess, Limits
from mailerd.mail.frames import template_to_json
from mailerd.mail.templates import RecipientData, RendererError, Template

IDLE_TIMEOUT: Final = 60.0
"""Seconds without work after which a child that is not kept may be ended: it has some 16 MB of its own."""
_MAX_TEMPLATES: Final = 256
"""The most templates that a child keeps compiled, and …"""
_MAX_CHARACTERS: Final = 1_000_000
"""… the most characters of them together; a larger one is kept alone."""
_MAX_WAIT: Final = 5.0
"""The most seconds before the next try to start a child that does not start."""
_START_ERROR_FOR: Final = 10.0
"""Seconds for which a child that did not start makes the daemon not ready."""
_OFTEN: Final = 10
"""Ends of a child within a minute that are more than one bad template explains."""
_MINUTE: Final = 60.0


class ChildExits:
    """Reports each end of a renderer's children, and when there are many of them."""

    def __init__(self, renderer: str, events: RendererEvents) -> None:
        self.renderer = renderer
        self.events = events
        self._times: deque[float] = deque(maxlen=_OFTEN)

    def record(self, origin: str, cause: str) -> None:
        """A child ended while it worked on a template of this origin."""
        now = asyncio.get_running_loop().time()
        self.events.renderer_ended(renderer=self.renderer, origin=origin, cause=cause)
        self._times.append(now)
        if len(self._times) == _OFTEN and now - self._times[0] < _MINUTE:
            self.events.renderer_ends_often(renderer=self.renderer, origin=origin, count=_OFTEN, cause=cause)
            self._times.clear()


class RenderWorker:
    """One child process at a time; `async with` allows work, and ends the child.

    With `keep` the child is started at once, so that no letter waits for it. Without, it is started when there is
    something to render, and ended after one to two minutes without work.
    """

    def __init__(self, *, limits: Limits, exits: ChildExits, keep: bool) -> None:
        self.lock = asyncio.Lock()
        """Held by the request whose turn it is; it is fair, the first that waits gets it."""
        self._limits = limits
        self._exits = exits
        self._keep = keep
        self._child: ChildProcess | None = None
        self._loaded = WeakKeyDictionary[Template, int]()
        """The templates that the child has compiled, with their numbers. It keeps none of them, nor their variables."""
        self._templates, self._characters = 0, 0
        """How many the child has compiled, and how long they are together."""
        self._number = count()
        self._used_at = 0.0
        self._failures = 0
        self._start_error = ""
        self._failed_at = 0.0
        self._background: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        background = self._start_early() if self._keep else self._end_when_idle()
        self._background = asyncio.create_task(background, name=f"renderer {self._exits.renderer}")
        return self

    async def __aexit__(self, *_: object) -> None:
        try:
            if self._background is not None:
                self._background.cancel()
                await asyncio.wait((self._background,))
        finally:
            await self._end_child()

    @property
    def pid(self) -> int | None:
        """The number of the child process; None while there is none."""
        return self._child.pid if self._child else None

    @property
    def start_error(self) -> str:
        """Why the child did not start a moment ago; "" while nothing is known to be wrong.

        It is shown for a short time only: a caller that asks no more because of it would never learn that it is over.
        """
        recent = asyncio.get_running_loop().time() - self._failed_at < _START_ERROR_FOR
        return self._start_error if recent else ""

    async def ask(
        self, template: Template, recipients: Sequence[RecipientData], *, content: bool, tell: bool
    ) -> Mapping[str, Any]:
        """The child's answer; the caller holds the lock. With `tell` the end of the child names the part.

        Raises:
            ChildEndedError: the child has ended over it.
            RendererError: no child can be started.
        """
        child = await self._ready()
        load = self._load(template)
        try:
            answer = await child.ask({**load, "recipients": recipients, "content": content, "tell": tell})
        except BaseException:
            self._child = None  # `ask` has killed it
            raise
        self._used_at = asyncio.get_running_loop().time()
        if "errors" in answer:  # the child does not keep a template that it refuses
            self._loaded.pop(template, None)
            self._count(-1, -template.size)
        return answer

    def _load(self, template: Template) -> dict[str, Any]:
        """What the child must know of a template, and whether it forgets all others first."""
        if (known := self._loaded.get(template)) is not None:
            return {"template": known, "load": None, "forget": False}
        forget = self._templates >= _MAX_TEMPLATES or self._characters + template.size > _MAX_CHARACTERS
        if forget:
            self._forget()
        self._count(1, template.size)
        number = self._loaded[template] = next(self._number)
        return {"template": number, "load": template_to_json(template), "forget": forget}

    def _count(self, templates: int, characters: int) -> None:
        self._templates += templates
        self._characters += characters

    def _forget(self) -> None:
        self._loaded.clear()
        self._templates, self._characters = 0, 0

    async def _ready(self) -> ChildProcess:
        if self._child is not None and not self._child.has_ended:
            return self._child
        if self._child is not None:
            self._exits.record("no one", self._child.cause)
        if self._failures:
            await asyncio.sleep(self._wait())
        self._forget()
        try:
            self._child = await ChildProcess.start(self._limits)
        except RendererError as error:
            self._child, self._start_error, self._failed_at = None, str(error), asyncio.get_running_loop().time()
            self._failures += 1
            self._exits.events.renderer_not_started(
                renderer=self._exits.renderer, cause=str(error), again_in=self._wait()
            )
            raise
        self._failures, self._start_error = 0, ""
        return self._child

    def _wait(self) -> float:
        return min(0.1 * 2.0**self._failures, _MAX_WAIT)

    async def _start_early(self) -> None:
        async with self.lock:
            with contextlib.suppress(RendererError):  # it is an event, and the first letter tries again
                await self._ready()

    async def _end_when_idle(self) -> None:
        while True:
            await asyncio.sleep(IDLE_TIMEOUT)
            async with self.lock:
                if asyncio.get_running_loop().time() - self._used_at >= IDLE_TIMEOUT:
                    await self._end_child()

    async def _end_child(self) -> None:
        if self._child is not None:
            await self._child.kill()
            self._child = None  # only now: where this is cancelled before, the child must be ended once more
