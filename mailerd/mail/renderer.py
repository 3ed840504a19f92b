"""The only way to run templates: renders many recipients of one template, in a child process that
the system bounds.

Every template ends with a message, or with a short reason for that recipient. Where a template ends
the child, another child renders the other messages without it. The caller gives an `origin` (a
sender, an API key) and its `owner` (the API key): owners take turns, however many origins they
have, and origins whose templates are slow share a second child. An owner whose template has ended a
child is slow for longer, with all its origins.

A turn ends after about 50 ms, or with a message that takes longer; the first child is taken from a
message after 0.2 s of CPU, and the second one gives it all that it may have. A message that may
have ended the child is tried again alone, in a process that has done nothing else, so that only the
message that does it is blamed.
"""

import asyncio
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any, Final, Self
from weakref import WeakKeyDictionary, WeakValueDictionary

from mailerd.core.i18n import t
from mailerd.core.reasons import from_json
from mailerd.events.worker import RendererEvents
from mailerd.mail.cage import ChildEndedError, ChildExits, ChildWorker, Limits
from mailerd.mail.templates import (
    Content,
    RecipientData,
    RendererError,
    RenderError,
    Source,
    Template,
    TemplateError,
    TemplateErrors,
)


def template_to_json(template: Template) -> dict[str, Any]:
    """A template as JSON."""
    sources = {"": template.default, **template.languages}
    return {
        "sources": {tag: [each.subject, each.html, each.text] for tag, each in sources.items()},
        "inline_css": template.inline_css,
        "variables": template.variables,
        "is_markdown": template.is_markdown,
        "defaults": template.defaults,
        "required": [*template.required],
    }


def template_from_json(given: Mapping[str, Any]) -> Template:
    """A template from JSON."""
    sources = {tag: Source(*parts) for tag, parts in given["sources"].items()}
    return Template(
        sources.pop(""),
        sources,
        given["inline_css"],
        given["variables"],
        given["is_markdown"],
        given["defaults"],
        given["required"],
    )


# A worker that renders: the templates that its child has compiled.

_MAX_TEMPLATES: Final = 256
"""The most templates that a child keeps compiled, and …"""
_MAX_CHARACTERS: Final = 1_000_000
"""… the most characters of them together; a larger one is kept alone."""


class RenderWorker(ChildWorker):
    """A child that renders."""

    def __init__(self, *, limits: Limits, exits: ChildExits, keep: bool) -> None:
        super().__init__("mailerd.mail.render_child", limits=limits, exits=exits, keep=keep)
        self._loaded = WeakKeyDictionary[Template, int]()
        """The templates that the child has compiled, with their numbers.

        It keeps none of them, nor their variables.
        """
        self._templates, self._characters = 0, 0
        """How many the child has compiled, and how long they are together."""
        self._number = count()

    async def ask(
        self, template: Template, recipients: Sequence[RecipientData], *, content: bool, tell: bool
    ) -> Mapping[str, Any]:
        """The child's answer; the caller holds the lock.

        With `tell` the end of the child names the part.

        Raises:
            ChildEndedError: the child has ended over it.
            RendererError: no child can be started.
        """
        await self.ready()
        load = self._load(template)
        answer = await self.asked(
            {**load, "recipients": recipients, "content": content, "tell": tell}
        )
        if "errors" in answer:  # the child does not keep a template that it refuses
            self._loaded.pop(template, None)
            self._count(-1, -template.size)
        return answer

    def _load(self, template: Template) -> dict[str, Any]:
        """What the child must know of a template, and whether it forgets all others first."""
        if (known := self._loaded.get(template)) is not None:
            return {"template": known, "load": None, "forget": False}
        forget = (
            self._templates >= _MAX_TEMPLATES or self._characters + template.size > _MAX_CHARACTERS
        )
        if forget:
            self.forget()
        self._count(1, template.size)
        number = self._loaded[template] = next(self._number)
        return {"template": number, "load": template_to_json(template), "forget": forget}

    def _count(self, templates: int, characters: int) -> None:
        self._templates += templates
        self._characters += characters

    def forget(self) -> None:
        """Nothing is compiled there any more."""
        self._loaded.clear()
        self._templates, self._characters = 0, 0


CHECK_LIMITS: Final = Limits(cpu=0.5, memory=256 * 1024 * 1024)
SEND_LIMITS: Final = Limits(cpu=1.0, memory=320 * 1024 * 1024)
"""The sending has more of all, so that what the check accepted on a busy machine is not failed by a
hair.
"""
MAX_TURN: Final = 1000
"""The most recipients that are given to the child at once, 25 ms of work for small ones: each turn
waits for the loop. After a turn that left some of them, the next one has twice as many as it made.
"""
MAX_TURN_CHARACTERS: Final = 1_000_000
"""Characters of variables after which no further recipient goes into the same turn."""
MAX_STOPPED: Final = 3
"""Messages of one request that the system may have to stop; each costs two or three children, and
seconds of CPU.
"""
SLOW: Final = 0.05
"""Seconds of CPU from which a message, or a compilation, is slow: it takes up a turn alone.

Most take a hundredth.
"""
_SLOW_FOR: Final = 10.0
"""Seconds after a slow message for which its origin counts as slow."""
_STOPPED_FOR: Final = 600.0
"""Seconds after the end of a child for which the owner of the message counts as slow: each takes
the child from all.
"""
_QUICK_CPU: Final = 0.2
"""Seconds of CPU for a message among the quick ones; one that needs more is tried again among the
slow ones.
"""

Rendered = Content | list[RenderError]
"""A message, or why there is none; an empty list where only that was asked, and it can be made."""


@dataclass
class CpuTime:
    """Seconds of CPU that messages have taken; those of a child that has ended are not among
    them.
    """

    seconds: float = 0.0


@dataclass(eq=False)
class RenderRequest:
    """Recipients of one template; without any, the template is compiled only."""

    template: Template
    recipients: Sequence[RecipientData]
    origin: str
    owner: str
    content: bool
    max_stopped: int = MAX_STOPPED
    on_slow: Callable[[], None] = lambda: None
    """Called when it is to wait for slow ones, be they its own or others'; it may be called
    again.
    """
    cpu: CpuTime = field(default_factory=CpuTime)
    results: list[Rendered] = field(default_factory=list)
    stopped: int = 0
    """How many messages the system had to stop."""
    one_at_a_time: bool = field(init=False)
    """It has one message at most, or a turn of it has ended a child, and which of its messages does
    that is not known.
    """
    _may_go_together_again: bool = True
    _most: int = MAX_TURN
    """The most recipients of the next turn."""
    abandoned: bool = False
    """Whether the caller has stopped waiting."""

    def __post_init__(self) -> None:
        self.one_at_a_time = len(self.recipients) <= 1

    @property
    def left(self) -> int:
        """How many messages are still to be rendered."""
        return len(self.recipients) - len(self.results)

    def take(self, results: Iterable[Rendered]) -> None:
        """Add the next results.

        After `max_stopped` messages that had to be stopped, the others are not tried.
        """
        before, alone = len(self.results), self.one_at_a_time
        for result in results:
            self.results.append(result)
            if isinstance(result, list) and any(each.bound for each in result):
                self.stopped += 1
                if self.stopped >= self.max_stopped:
                    self.results += [not_tried(result)] * self.left
            elif self.stopped and self._may_go_together_again:
                # that one was the cause, and not its template
                self._may_go_together_again, self.one_at_a_time = False, len(self.recipients) <= 1
        if not alone:
            self._most = min(MAX_TURN, max(1, 2 * (len(self.results) - before)))

    def next(self) -> Sequence[RecipientData]:
        """The recipients of the next turn."""
        first = end = len(self.results)
        last = min(first + (1 if self.one_at_a_time else self._most), len(self.recipients))
        characters = 0
        while end < last and characters < MAX_TURN_CHARACTERS:
            characters += len(self.recipients[end].variables or "")
            end += 1
        return self.recipients[first:end]


def not_tried(last: Sequence[RenderError]) -> list[RenderError]:
    """What is said of a message that is not tried, since so many of the same template had to be
    stopped.
    """
    it = next(each for each in last if each.bound)
    reason = t(
        "not tried: {max_stopped} messages with this template had to be stopped, the last because {reason}",
        max_stopped=MAX_STOPPED,
        reason=it.reason,
    )
    return [RenderError(reason, part=it.part, line=it.line, bound=True)]


class SlowOrigins:
    """The origins whose templates were slow in the last seconds, and the owners whose templates
    have ended a child.
    """

    def __init__(self) -> None:
        self._until: dict[str, float] = {}

    def add(self, origin: str, *, seconds: float) -> None:
        """Note that a message of this origin, or owner, was slow."""
        now = asyncio.get_running_loop().time()
        self._until = {each: until for each, until in self._until.items() if until > now}
        self._until[origin] = max(now + seconds, self._until.get(origin, 0.0))

    def __contains__(self, origin: str) -> bool:
        return self._until.get(origin, 0.0) > asyncio.get_running_loop().time()


class Renderer:
    """Two workers, of which one is for slow origins; `async with` starts and ends them.

    `keep`: see `RenderWorker`.
    """

    def __init__(
        self, name: str, *, limits: Limits, events: RendererEvents, keep: bool = False
    ) -> None:
        self._exits = ChildExits(name, events)
        quick = replace(limits, cpu=min(limits.cpu, _QUICK_CPU))
        self._worker = RenderWorker(limits=quick, exits=self._exits, keep=keep)
        self._slow_worker = RenderWorker(limits=limits, exits=self._exits, keep=False)
        self._slow = SlowOrigins()
        self._owners = WeakValueDictionary[str, asyncio.Lock]()
        self._requests = set[RenderRequest]()
        self._tasks = set[asyncio.Task[Any]]()
        self._stack = AsyncExitStack()
        self._closed = True

    async def __aenter__(self) -> Self:
        for worker in (self._slow_worker, self._worker):
            await self._stack.enter_async_context(worker)
        self._stack.push_async_callback(self._cancel_requests)
        self._closed = False
        return self

    async def __aexit__(self, *_: object) -> None:
        self._closed = True
        await self._stack.aclose()

    async def _cancel_requests(self) -> None:
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    @property
    def start_error(self) -> str:
        """Why nothing can be rendered; "" while nothing is known to be wrong."""
        return self._worker.start_error or self._slow_worker.start_error

    def is_slow(self, origin: str, *, owner: str = "") -> bool:
        """Whether a message of this origin was slow a moment ago, so that its messages wait for one
        another.
        """
        return origin in self._slow or owner in self._slow

    def note_stopped(self, owner: str) -> None:
        """Let an owner count as slow whose template has ended another child that renders."""
        self._slow.add(owner, seconds=_STOPPED_FOR)

    async def compile(self, template: Template, *, origin: str) -> Mapping[str, frozenset[str]]:
        """The variables that each language of a template reads, by their top-level names; "" is the
        default.

        Raises:
            TemplateErrors: it cannot be used.
            RendererError: no child can be started, or each is killed or gets no CPU.
        """
        compiled = await self._submit(RenderRequest(template, (), origin, origin, content=False))
        return {language: frozenset(each) for language, each in compiled["names"].items()}

    async def html_of(self, markdown: str, *, origin: str) -> str:
        """The HTML of a template's body that is Markdown, with its variables as they were written.

        Raises:
            TemplateErrors: it cannot be used; the part "text" is the Markdown.
            RendererError: no child can be started, or each is killed or gets no CPU.
        """
        template = Template(Source("", None, markdown), is_markdown=True)
        html: str = (
            await self._submit(RenderRequest(template, (), origin, origin, content=False))
        )["html"]
        return html

    async def render(
        self,
        template: Template,
        recipients: Sequence[RecipientData],
        *,
        origin: str,
        content: bool = True,
        owner: str = "",
        max_stopped: int = MAX_STOPPED,
        cpu: CpuTime | None = None,
        on_slow: Callable[[], None] = lambda: None,
    ) -> list[Rendered]:
        """For each recipient the message, or why there is none; without `content` messages that can
        be made are [].

        After `max_stopped` messages that had to be stopped, those after them are not tried, and say
        so. `owner`: see above; "": the origin. `cpu`: what the messages take is added to it.
        `on_slow` is called when they are to wait for slow ones, and may be called again.

        Raises:
            TemplateErrors: the template cannot be used for any recipient.
            RendererError: no child can be started, or each is killed or gets no CPU.
        """
        if not recipients:
            return []
        request = RenderRequest(
            template,
            recipients,
            origin,
            owner or origin,
            content,
            max_stopped,
            on_slow,
            cpu=cpu or CpuTime(),
        )
        made: list[Rendered] = await self._submit(request)
        return made

    async def _submit(self, request: RenderRequest) -> Any:
        if self._closed:
            raise RendererError(t("the renderer has been closed"))
        # A task of its own: where the caller is cancelled, the child is not killed in the midst of
        # an answer.
        task = asyncio.create_task(self._run(request))
        self._tasks.add(task)
        task.add_done_callback(self._finished)
        try:
            await asyncio.wait((task,))
        except asyncio.CancelledError:
            request.abandoned = True
            raise
        if task.cancelled():
            raise RendererError(t("the renderer has been closed"))
        return task.result()

    def _finished(self, task: "asyncio.Task[Any]") -> None:
        self._tasks.discard(task)
        # asyncio would report an error that a caller who has gone never reads
        task.cancelled() or task.exception()

    async def _run(self, request: RenderRequest) -> Any:
        """Work on a request, turn by turn.

        Each owner has one turn at the workers, however many requests it has made.

        Its own requests take turns, too: a small one waits for a turn of each that came before it,
        not for their end.
        """
        own = self._owners.setdefault(request.owner, asyncio.Lock())
        self._requests.add(request)
        self._tell_slow()
        try:
            while not request.abandoned:
                async with own:
                    answer = await self._turn(request)
                if "names" in answer:
                    return answer
                request.take(map(_rendered, answer.get("results", ())))
                if request.recipients and not request.left:
                    return request.results
        except (TemplateErrors, RendererError):
            raise
        except Exception as error:
            # A bug here is no message's fault.
            self._exits.events.renderer_crashed(
                renderer=self._exits.renderer, origin=request.origin, error=error
            )
            raise RendererError(
                t("internal error in the renderer: {error}", error=repr(error))
            ) from error
        finally:
            self._requests.discard(request)

    def _tell_slow(self) -> None:
        for each in self._requests:
            if self.is_slow(each.origin, owner=each.owner):
                each.on_slow()

    async def _turn(self, request: RenderRequest) -> Mapping[str, Any]:
        """As many messages as the child makes in one turn.

        Raises:
            TemplateErrors: the template cannot be used.
            RendererError: no child can be started, or each is killed or gets no CPU.
        """
        worker = (
            self._slow_worker if self.is_slow(request.origin, owner=request.owner) else self._worker
        )
        async with worker.lock:
            answer = {} if request.abandoned else await self._ask(request, worker)
        request.cpu.seconds += answer.get("cpu", 0.0)
        if answer.get("slowest", 0.0) > SLOW:
            self._slow.add(request.origin, seconds=_SLOW_FOR)
            self._tell_slow()
        if "errors" in answer:
            raise TemplateErrors(
                [
                    TemplateError(from_json(why), part=part, line=line)
                    for why, part, line in answer["errors"]
                ]
            )
        return answer

    async def _ask(self, request: RenderRequest, worker: RenderWorker) -> Mapping[str, Any]:
        """The child's answer, or nothing where it has ended and the messages are to be tried one at
        a time.
        """
        try:
            return await self._answer(request, worker)
        except ChildEndedError as ended:
            if not request.one_at_a_time or (ended.by_work and worker is self._worker):
                request.one_at_a_time = True
                return {}
            return await self._answer_alone(request, worker)

    async def _answer_alone(
        self, request: RenderRequest, worker: RenderWorker
    ) -> Mapping[str, Any]:
        """The answer for one message in a process that has done nothing else; if that ends too, it
        is this message.

        The turn is not given up before: another origin would use the fresh process, and no message
        would ever be blamed.

        Raises:
            RendererError: that process was killed, or got no CPU, which is no message's fault.
        """
        try:
            return await self._answer(request, worker, tell=True)
        except ChildEndedError as ended:
            if not ended.by_work:
                raise RendererError(
                    t("the process that renders {cause}", cause=ended.cause)
                ) from None
            return _blamed(ended, compiling=not request.recipients)

    async def _answer(
        self, request: RenderRequest, worker: RenderWorker, *, tell: bool = False
    ) -> Mapping[str, Any]:
        try:
            return await worker.ask(
                request.template, request.next(), content=request.content, tell=tell
            )
        except ChildEndedError as ended:
            self._exits.record(request.origin, ended.cause)
            if ended.by_work:
                self._slow.add(request.owner, seconds=_STOPPED_FOR)
                self._tell_slow()
            raise


def _rendered(result: Mapping[str, Any]) -> Rendered:
    if "content" in result:
        return Content(*result["content"])
    return [
        RenderError(
            from_json(why),
            part=part,
            line=line,
            variable=variable,
            bound=result.get("bound", False),
        )
        for why, part, line, variable in result.get("errors", ())
    ]


def _blamed(ended: ChildEndedError, *, compiling: bool) -> dict[str, Any]:
    """The answer that the child would have given, had it lived."""
    why, part = t("the template {cause}", cause=ended.cause), ended.part or "message"
    if compiling:
        return {"errors": [[why, part, ended.line]]}
    return {"results": [{"errors": [[why, part, ended.line, ""]], "bound": True}]}


# Renders single messages: those of one template that wait while the child works go to it together.
#
# The messages of a claim ask at the same moment. One after another each would wait for its own way
# to the child and back. After `MAX_STOPPED` messages of a job that had to be stopped, the rest of
# it is not tried.

MAX_BATCH: Final = 20
"""The most messages that go together.

If their template is slow, the first waits for the last, a second each.
"""
STOPPED_FOR: Final = 600.0
"""Seconds after the last message that had to be stopped for which the rest of its job is not tried.

Then a person who has asked for another try gets one.
"""


@dataclass(frozen=True)
class _QueuedMessage:
    """A message that waits for its turn."""

    recipient: RecipientData
    future: asyncio.Future[Rendered]
    on_slow: Callable[[], None]


@dataclass(frozen=True)
class _Stopped:
    """How many messages of a job had to be stopped, the last of them, and until when that
    counts.
    """

    messages: int
    last: list[RenderError]
    until: float


class RenderBatches:
    """Messages on their way to one renderer."""

    def __init__(self, renderer: Renderer) -> None:
        self._renderer = renderer
        self._waiting: dict[Hashable, list[_QueuedMessage]] = {}
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
        """The message, or why there is none.

        `batch` stands for the job: messages with the same one may go together.

        `origin`, `owner` and `on_slow` are as in `Renderer.render`.

        Raises:
            TemplateErrors: the template cannot be used for any recipient.
            RendererError: no child can be started.
        """
        it = _QueuedMessage(recipient, asyncio.get_running_loop().create_future(), on_slow)
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
        # done: the caller waits no more
        while waiting := [each for each in waiting if not each.future.done()]:
            size = 1 if self._renderer.is_slow(origin, owner=owner) else MAX_BATCH
            taken, self._waiting[batch] = waiting[:size], waiting[size:]
            await self._render(template, taken, origin, owner, batch)
            waiting = self._waiting[batch]
        del self._waiting[batch]

    async def _render(
        self,
        template: Template,
        taken: list[_QueuedMessage],
        origin: str,
        owner: str,
        batch: Hashable,
    ) -> None:
        def on_slow() -> None:
            for each in (*taken, *self._waiting[batch]):
                each.on_slow()

        before = self._stopped_of(batch)
        stopped = before.messages if before else 0
        if before and stopped >= MAX_STOPPED:
            _answer(taken, [not_tried(before.last)] * len(taken))
            return
        try:
            made = await self._renderer.render(
                template,
                [each.recipient for each in taken],
                origin=origin,
                owner=owner,
                max_stopped=MAX_STOPPED - stopped,
                on_slow=on_slow,
            )
        except Exception as error:  # noqa: BLE001 - each caller gets it
            for each in taken:
                if not each.future.done():
                    each.future.set_exception(error)
            return
        for one in made:
            if (
                stopped < MAX_STOPPED
                and isinstance(one, list)
                and any(error.bound for error in one)
            ):
                stopped += 1
                self._stopped[batch] = _Stopped(
                    stopped, one, asyncio.get_running_loop().time() + STOPPED_FOR
                )
        _answer(taken, made)

    def _stopped_of(self, batch: Hashable) -> _Stopped | None:
        now = asyncio.get_running_loop().time()
        self._stopped = {each: it for each, it in self._stopped.items() if it.until > now}
        return self._stopped.get(batch)


def _answer(taken: list[_QueuedMessage], made: list[Rendered]) -> None:
    for each, one in zip(taken, made, strict=True):
        if not each.future.done():
            each.future.set_result(one)
