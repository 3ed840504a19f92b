"""A lane to templates: one child process, and the requests that wait for it; origins take turns in it.

A turn ends after about 50 ms, or with the letter that takes longer. What ends the child is tried again alone, in a
process that has done nothing else, so only the letter that does it is blamed.
"""

import asyncio
import contextlib
from collections import OrderedDict, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Final, Self

from mailerd.errors import MailerdError
from mailerd.events.renderer import RendererEvents
from mailerd.mail.child_process import ChildEndedError, ChildProcess, Limits
from mailerd.mail.errors import RendererError, RenderError, TemplateError, TemplateErrors
from mailerd.mail.frames import template_to_json
from mailerd.mail.templates import Content, RecipientData, Template

MAX_TURN: Final = 200
"""Recipients that are handed to the child at once."""
MAX_STOPPED: Final = 3
"""Letters of one request that the system may have to stop; each costs a child or two, and about a second of CPU."""
SLOW: Final = 0.05
"""Seconds of CPU from which a letter, or a compilation, is slow: it takes up a turn alone. Most take a hundredth."""
_KEPT: Final = 256
"""Templates that a child keeps compiled, and …"""
_MAX_KEPT: Final = 1_000_000
"""… characters of them together; one that is larger is kept alone."""
_OFTEN: Final = 10
"""ChildExits of a child within `_MINUTE` that are more than one bad template explains."""
_MINUTE: Final = 60.0
_START_ERROR_FOR: Final = 10.0
"""Seconds for which a child that did not start makes the daemon one that is not ready."""
_MAX_WAIT: Final = 5.0
"""Seconds before the next try, where the child does not start."""
_SLOW_FOR: Final = 10.0
"""Seconds after a slow letter for which its origin is taken for a slow one."""
IDLE: Final = 60.0
"""Seconds without work after which a child that is not kept is ended: it has some 16 MB of its own."""

Rendered = Content | list[RenderError]
"""A letter, or why there is none; an empty list where only that was asked, and it can be made."""


@dataclass(eq=False)
class RenderRequest:
    """Recipients of one template, and who waits for their letters."""

    template: Template
    recipients: Sequence[RecipientData]
    content: bool
    done: "asyncio.Future[Any]"
    results: list[Rendered] = field(default_factory=list)
    stopped: int = 0
    """How many the system had to stop."""
    one_at_a_time: bool = False
    """A turn of it has ended a child: nobody knows yet which of its letters does that."""

    @property
    def left(self) -> int:
        """How many are still to be rendered."""
        return len(self.recipients) - len(self.results)

    def take(self, result: Rendered) -> None:
        """What became of the next of them. After the third that had to be stopped the others are not tried any more."""
        self.results.append(result)
        self.stopped += isinstance(result, list) and any(each.bound for each in result)
        if self.stopped >= MAX_STOPPED:
            self.results += [result] * self.left

    def next(self, most: int) -> Sequence[RecipientData]:
        """The next of them."""
        start = len(self.results)
        return self.recipients[start : start + most]


class ChildExits:
    """Tells each end of a renderer's children, and when there are many of them."""

    def __init__(self, renderer: str, events: RendererEvents) -> None:
        self.renderer = renderer
        self.events = events
        self._times: deque[float] = deque(maxlen=_OFTEN)

    def note(self, origin: str, cause: str) -> None:
        """A child ended while it worked on a template of this origin."""
        now = asyncio.get_running_loop().time()
        self.events.renderer_ended(renderer=self.renderer, origin=origin, cause=cause)
        self._times.append(now)
        if len(self._times) == _OFTEN and now - self._times[0] < _MINUTE:
            self.events.renderer_ends_often(renderer=self.renderer, origin=origin, count=_OFTEN, cause=cause)
            self._times.clear()


class SlowOrigins:
    """Those whose templates were slow of late, or have ended a child."""

    def __init__(self) -> None:
        self._until: dict[str, float] = {}

    def note(self, origin: str) -> None:
        """It was slow just now."""
        now = asyncio.get_running_loop().time()
        self._until = {each: until for each, until in self._until.items() if until > now}
        self._until[origin] = now + _SLOW_FOR

    def __contains__(self, origin: str) -> bool:
        return self._until.get(origin, 0.0) > asyncio.get_running_loop().time()


class RenderQueue:
    """A child process with its queue; `async with` starts and ends it.

    With `keep` the child is there from the beginning, so that no letter waits for it. Without, it is started when there
    is something to render, and ended after a minute without.
    """

    def __init__(
        self, *, limits: Limits, ends: ChildExits, slow: SlowOrigins, keep: bool, aside: "RenderQueue | None" = None
    ) -> None:
        self._limits = limits
        self._ends = ends
        self._slow = slow
        self._keep = keep
        self._aside = aside
        """The lane of the slow origins, where this one is for the others."""
        self._queue: OrderedDict[str, deque[RenderRequest]] = OrderedDict()
        self._asked = asyncio.Event()
        self._child: ChildProcess | None = None
        self._loaded: OrderedDict[Template, int] = OrderedDict()
        """What the child has compiled, the least recently used first, with its number."""
        self._number = count()
        self._failures = 0
        self._start_error = ""
        self._failed_at = 0.0
        self._closed = False
        self._serving: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._closed = False
        self._serving = asyncio.create_task(self._serve(), name=f"renderer {self._ends.renderer}")
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._serving is not None:
            self._serving.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._serving
        self._closed = True
        for origin in list(self._queue):
            self.add(origin, self._queue.pop(origin))

    @property
    def pid(self) -> int | None:
        """Of the child; None while there is none."""
        return self._child.pid if self._child else None

    @property
    def start_error(self) -> str:
        """Why nothing could be rendered a moment ago; "" while nothing is known to be wrong.

        It is not said for long: whoever asks no more because of it would never learn that it is over.
        """
        recent = asyncio.get_running_loop().time() - self._failed_at < _START_ERROR_FOR
        return self._start_error if recent else ""

    def add(self, origin: str, requests: Iterable[RenderRequest]) -> None:
        """Let requests wait for their turn: here, or in the lane of the slow origins."""
        if self._closed:  # nobody would ever answer
            for request in requests:
                _finish(request, RendererError("the renderer has been closed"))
            return
        if self._aside is not None and origin in self._slow:
            self._aside.add(origin, requests)
            return
        self._queue.setdefault(origin, deque()).extend(requests)
        self._asked.set()

    async def _serve(self) -> None:
        """Give each origin its turn, for ever."""
        try:
            if self._keep:
                with contextlib.suppress(RendererError):  # said, and tried again when there is a letter
                    await self._ready()
            while True:
                if self._queue:
                    await self._turn()
                else:
                    await self._rest()
        finally:
            await self._end_child()

    async def _rest(self) -> None:
        """Until somebody asks."""
        self._asked.clear()
        if self._child is not None and not self._keep:
            try:
                await asyncio.wait_for(self._asked.wait(), IDLE)
            except TimeoutError:
                await self._end_child()
        await self._asked.wait()

    async def _end_child(self) -> None:
        if self._child is not None:
            await self._child.kill()
            self._child = None  # only now: whoever is cancelled before must end it once more

    async def _turn(self) -> None:
        origin, waiting = self._queue.popitem(last=False)
        turn = _taken(waiting)
        if waiting:
            self._queue[origin] = waiting
        if not turn:
            return
        try:
            await self._render(turn, origin)
        except Exception as error:  # noqa: BLE001 - a bug here is no letter's fault, and must not end the others' turns
            failure = self._failure(error, origin)
            for request in turn:
                _finish(request, failure)
        finally:  # also when this task is cancelled: whoever waits is told by `__aexit__`
            unfinished = [each for each in turn if not each.done.done()]
            left = [*unfinished, *self._queue.pop(origin, ())]
            if left:
                self.add(origin, left)

    def _failure(self, error: Exception, origin: str) -> MailerdError:
        """What those who asked are told."""
        if isinstance(error, TemplateErrors | RendererError):
            return error
        self._ends.events.renderer_broke(renderer=self._ends.renderer, origin=origin, error=error)
        return RendererError(f"the renderer met a bug: {error!r}")

    async def _render(self, turn: Sequence[RenderRequest], origin: str) -> None:
        """Ask the child for as many letters of a turn as it makes in one, and hand them out."""
        try:
            answer = await self._answer(turn)
        except ChildEndedError as ended:
            self._note_end(ended, origin)
            if not turn[0].one_at_a_time:
                for each in turn:
                    each.one_at_a_time = True
                return
            answer = await self._alone(turn, origin)
        if answer.get("slowest", 0.0) > SLOW:
            self._slow.note(origin)
        if "errors" in answer:  # the child has kept nothing of it
            self._loaded.pop(turn[0].template, None)
        _hand_out(answer, turn)

    async def _alone(self, turn: Sequence[RenderRequest], origin: str) -> Mapping[str, Any]:
        """What becomes of one letter in a process that has done nothing else; if that ends too, it is this letter.

        Nobody else's turn comes between: it would use the fresh process up, and nobody would ever be blamed.
        """
        try:
            return await self._answer(turn)
        except ChildEndedError as ended:
            self._note_end(ended, origin)
            return _blamed(ended, compiling=not turn[0].recipients)

    async def _answer(self, turn: Sequence[RenderRequest]) -> Mapping[str, Any]:
        most = 1 if turn[0].one_at_a_time else MAX_TURN
        recipients = [reader for each in turn for reader in each.next(most)][:most]
        child = await self._ready()
        try:
            return await child.ask({
                **self._loading(turn[0].template), "recipients": recipients, "content": turn[0].content,
                "tell": turn[0].one_at_a_time,
            })  # fmt: skip
        except BaseException:
            self._child = None  # whatever it was: it has been killed
            raise

    def _note_end(self, ended: ChildEndedError, origin: str) -> None:
        self._ends.note(origin, ended.cause)
        if ended.by_work:
            self._slow.note(origin)

    async def _ready(self) -> ChildProcess:
        if self._child is not None and not self._child.has_ended:
            return self._child
        if self._child is not None:
            self._ends.note("nobody", self._child.cause)
        if self._failures:
            await asyncio.sleep(min(0.1 * 2**self._failures, _MAX_WAIT))
        self._loaded.clear()
        try:
            self._child = await ChildProcess.start(self._limits)
        except RendererError as error:
            self._child, self._start_error, self._failed_at = None, str(error), asyncio.get_running_loop().time()
            self._failures += 1
            again_in = min(0.1 * 2**self._failures, _MAX_WAIT)
            self._ends.events.renderer_not_started(renderer=self._ends.renderer, cause=str(error), again_in=again_in)
            raise
        self._failures, self._start_error = 0, ""
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


def _taken(waiting: deque[RenderRequest]) -> list[RenderRequest]:
    """The requests of one turn: of one template, as many as fit, taken off the queue."""
    turn: list[RenderRequest] = []
    room = MAX_TURN
    while waiting and room > 0:
        request = waiting[0]
        if request.done.done():  # whoever asked has gone
            waiting.popleft()
            continue
        alone = request.one_at_a_time or not request.recipients
        if turn and (alone or request.template is not turn[0].template or request.content != turn[0].content):
            break
        turn.append(waiting.popleft())
        room -= request.left
        if alone:
            break
    return turn


def _finish(request: RenderRequest, result: Any) -> None:
    if request.done.done():
        return
    if isinstance(result, BaseException):
        request.done.set_exception(result)
    else:
        request.done.set_result(result)


def _hand_out(answer: Mapping[str, Any], turn: Sequence[RenderRequest]) -> None:
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
            request.take(results.popleft())
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
