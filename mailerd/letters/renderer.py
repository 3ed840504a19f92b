"""The one door to templates: renders many recipients of one template, in a child process that the system bounds.

Whatever a client's template does, it ends with a letter, or with a short reason for that recipient; the child may have
to die for it, and the letters beside it are rendered again without it. Whoever asks gives an `origin` (a sender, an API
key): origins take turns, and a turn ends after about 50 ms, so that a slow template holds up its own origin's letters.
"""

import asyncio
import contextlib
from collections import OrderedDict, deque
from collections.abc import Coroutine, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Final, Self, TypeVar

from mailerd.events.renderer import RendererEvents
from mailerd.letters.child_process import ChildEndedError, ChildProcess, Limits
from mailerd.letters.errors import RendererError, RenderError, TemplateError, TemplateErrors
from mailerd.letters.frames import template_to_json
from mailerd.letters.template import Content, Reader, Template

CHECKING: Final = Limits(cpu=0.5, memory=256 * 1024 * 1024)
SENDING: Final = Limits(cpu=1.0, memory=320 * 1024 * 1024)
"""The sending has more of all, so that what the check accepted on a busy machine is not failed by a hair."""
MAX_TURN: Final = 200
"""Recipients that are handed to the child at once."""
_KEPT: Final = 256
"""Templates that a child keeps compiled, and …"""
_MAX_KEPT: Final = 1_000_000
"""… characters of them together; one that is larger is kept alone."""
_OFTEN: Final = 10
"""Ends of the child within `_MINUTE` that are more than one bad template explains."""
_MINUTE: Final = 60.0
_MAX_WAIT: Final = 5.0
"""Seconds before the next try, where the child does not start."""

T = TypeVar("T")
Rendered = Content | list[RenderError]
"""A letter, or why there is none; an empty list where only that was asked, and it can be made."""


@dataclass(eq=False)
class _Request:
    template: Template
    readers: Sequence[Reader]
    content: bool
    done: "asyncio.Future[Any]"
    results: list[Rendered] = field(default_factory=list)
    one_at_a_time: bool = False
    """A turn of it has ended a child: nobody knows yet which of its letters does that."""

    @property
    def left(self) -> int:
        """How many are still to be rendered."""
        return len(self.readers) - len(self.results)

    def next(self, most: int) -> Sequence[Reader]:
        """The next of them."""
        start = len(self.results)
        return self.readers[start : start + most]


class Renderer:
    """A child process with its queue; `async with` starts and ends it."""

    def __init__(self, name: str, *, limits: Limits, events: RendererEvents) -> None:
        self._name = name
        self._limits = limits
        self._events = events
        self._queue: OrderedDict[str, deque[_Request]] = OrderedDict()
        self._asked = asyncio.Event()
        self._child: ChildProcess | None = None
        self._numbers: dict[Template, int] = {}
        self._loaded: OrderedDict[Template, int] = OrderedDict()
        """What the child has compiled, the least recently used first, with its number."""
        self._number = count()
        self._ends: deque[float] = deque(maxlen=_OFTEN)
        self._failures = 0
        self._serving: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._serving = asyncio.create_task(self._serve(), name=f"renderer {self._name}")
        self._asked.set()  # the child starts at once, so that the first letter does not wait for it
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._serving is not None:
            self._serving.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._serving
        for requests in self._queue.values():
            for request in requests:
                if not request.done.done():
                    request.done.set_exception(RendererError("the renderer has been closed"))
        self._queue.clear()

    @property
    def pid(self) -> int | None:
        """Of the child; None while there is none."""
        return self._child.pid if self._child else None

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
        self._queue.setdefault(origin, deque()).append(_Request(template, readers, content, done))
        self._asked.set()
        return await done

    async def _serve(self) -> None:
        """Give each origin its turn, for ever."""
        try:
            while True:
                await self._asked.wait()
                if self._queue:
                    await self._turn()
                elif self._child is None:
                    with contextlib.suppress(RendererError):  # said, and tried again when there is a letter
                        await self._ready()
                if not self._queue:
                    self._asked.clear()
        finally:
            if self._child is not None:
                await self._child.kill()

    async def _turn(self) -> None:
        origin, waiting = self._queue.popitem(last=False)
        turn = _taken(waiting)
        if waiting:
            self._queue[origin] = waiting
        if not turn:
            return
        try:
            await self._render(turn, origin)
        except TemplateErrors as errors:
            for request in turn:
                _finish(request, TemplateErrors(errors.errors))
        except Exception as error:  # noqa: BLE001 - whoever asked is told; a bug must not end the others' letters
            for request in turn:
                _finish(request, error)
        finally:  # also when this task is cancelled: whoever waits is told by `__aexit__`
            unfinished = [each for each in turn if not each.done.done()]
            if unfinished:
                self._queue.setdefault(origin, deque()).extendleft(reversed(unfinished))

    async def _render(self, turn: Sequence[_Request], origin: str) -> None:
        """Ask the child for as many letters of a turn as it makes in one, and hand them out."""
        template, content = turn[0].template, turn[0].content
        most = 1 if turn[0].one_at_a_time else MAX_TURN
        readers = [reader for each in turn for reader in each.next(most)][:most]
        child = await self._ready()
        fresh = child.fresh
        try:
            answer = await child.ask({
                **self._loading(template), "readers": readers, "content": content, "tell": turn[0].one_at_a_time,
            })  # fmt: skip
        except ChildEndedError as ended:
            self._note_end(ended, origin)
            if not fresh or len(readers) > 1 or not turn[0].one_at_a_time:
                for each in turn:
                    each.one_at_a_time = True
                return
            # Alone, in a process that had done nothing else: it is this letter.
            answer = _blamed(ended, compiling=not readers)
        _hand_out(answer, turn)

    async def _ready(self) -> ChildProcess:
        if self._child is not None:
            return self._child
        if self._failures:
            await asyncio.sleep(min(0.1 * 2**self._failures, _MAX_WAIT))
        self._loaded.clear()
        try:
            self._child = await ChildProcess.start(self._limits)
        except RendererError as error:
            self._failures += 1
            again_in = min(0.1 * 2**self._failures, _MAX_WAIT)
            self._events.renderer_not_started(renderer=self._name, cause=str(error), again_in=again_in)
            raise
        self._failures = 0
        return self._child

    def _loading(self, template: Template) -> dict[str, Any]:
        """What the child must be told of a template, and which others it may forget."""
        if (known := self._loaded.get(template)) is not None:
            self._loaded.move_to_end(template)
            return {"template": known, "load": None, "forget": []}
        number = next(self._number)
        forget = []
        room = _MAX_KEPT - template.size
        while self._loaded and (len(self._loaded) >= _KEPT or sum(each.size for each in self._loaded) > room):
            forget.append(self._loaded.popitem(last=False)[1])
        self._loaded[template] = number
        return {"template": number, "load": template_to_json(template), "forget": forget}

    def _note_end(self, ended: ChildEndedError, origin: str) -> None:
        self._child = None
        now = asyncio.get_running_loop().time()
        self._events.renderer_ended(renderer=self._name, origin=origin, cause=ended.cause)
        self._ends.append(now)
        if len(self._ends) == _OFTEN and now - self._ends[0] < _MINUTE:
            self._events.renderer_ends_often(renderer=self._name, origin=origin, count=_OFTEN, cause=ended.cause)
            self._ends.clear()


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


def _taken(waiting: deque[_Request]) -> list[_Request]:
    """The requests of one turn: of one template, as many as fit, taken off the queue."""
    turn: list[_Request] = []
    room = MAX_TURN
    while waiting and room > 0:
        request = waiting[0]
        if request.done.done():  # whoever asked has gone
            waiting.popleft()
            continue
        alone = request.one_at_a_time or not request.readers
        if turn and (alone or request.template is not turn[0].template or request.content != turn[0].content):
            break
        turn.append(waiting.popleft())
        room -= request.left
        if alone:
            break
    return turn


def _finish(request: _Request, result: Any) -> None:
    if request.done.done():
        return
    if isinstance(result, BaseException):
        request.done.set_exception(result)
    else:
        request.done.set_result(result)


def _hand_out(answer: Mapping[str, Any], turn: Sequence[_Request]) -> None:
    """Give what came to those who asked for it, in their order.

    Raises:
        TemplateErrors: the template cannot be used.
    """
    if "errors" in answer:
        raise TemplateErrors([TemplateError(why, part=part, line=line) for why, part, line in answer["errors"]])
    if "names" in answer:
        _finish(turn[0], answer["names"])
        return
    results = deque(map(_rendered, answer["results"]))
    for request in turn:
        while results and request.left:
            request.results.append(results.popleft())
        if not request.left:
            _finish(request, request.results)


def _rendered(result: Mapping[str, Any]) -> Rendered:
    if "content" in result:
        return Content(*result["content"])
    return [
        RenderError(why, part=part, line=line, variable=variable, bound=result.get("bound", False))
        for why, part, line, variable in result.get("errors", ())
    ]


def _blamed(ended: ChildEndedError, *, compiling: bool) -> dict[str, Any]:
    """The answer that the child would have given, had it lived."""
    why, part = f"the template {ended.cause}", ended.part or "letter"
    if compiling:
        return {"errors": [[why, part, ended.line]]}
    return {"results": [{"errors": [[why, part, ended.line, ""]], "bound": True}]}
