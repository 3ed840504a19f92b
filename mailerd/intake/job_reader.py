"""Reads the bodies of jobs in child processes that the system bounds: here no byte of what a
stranger posts is parsed.

Small bodies share one child, turn by turn. A large one has a process of its own, with memory by its
size. The child renders the messages on its way. Where it ends, or a template is slow, the body is
read on without rendering, and the messages are for the renderer, which finds which of them is to
blame. Where reading alone ends the shared child, a process of the body's own is tried; if that
ends, too, it is the fault of the body.
"""

import asyncio
import json
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, nullcontext
from dataclasses import dataclass
from datetime import datetime
from itertools import count
from typing import Any, Final, Self

from mailerd.core.extras import NO_EXTRAS, Extras
from mailerd.core.i18n import t
from mailerd.core.reasons import from_json
from mailerd.core.states import JobType
from mailerd.events.worker import RendererEvents
from mailerd.http.auth import LARGE_BODY
from mailerd.http.errors import ApiError, FieldError, invalid
from mailerd.intake.job_reader_child import Attached, RecipientRow
from mailerd.intake.one_message import field_of
from mailerd.intake.request_models import JobFields, TemplateIn
from mailerd.intake.strict_json import invalid_json
from mailerd.intake.tests_of_jobs import NO_TEST, JobTest
from mailerd.mail.cage import (
    BLOB,
    LARGE_FRAME,
    MAX_FRAME,
    Blob,
    ChildEndedError,
    ChildExits,
    ChildProcess,
    ChildWorker,
    Limits,
)
from mailerd.mail.renderer import SLOW, Renderer, template_to_json
from mailerd.mail.templates import RendererError, Template, TemplateError
from mailerd.store.write.new_jobs import StoredAttachment

READ_LIMITS: Final = Limits(cpu=0.2, memory=320 * 1024 * 1024)
"""For the bodies that share a child; the seconds are those of a message, as among the quick ones of
a renderer.
"""
MEMORY_PER_BYTE: Final = 12
"""Bytes of memory that a process of its own has more for each byte of its body: 100,000 recipients
with 25 variables each take half of that, and nearly all of it with an emoji, since Python then
keeps the text in four bytes a character.
"""
READ_TIMEOUT: Final = 30.0
"""Seconds for the first answer to a large body, which has to be brought there and parsed whole."""
_CHILD: Final = "mailerd.intake.job_reader_child"


@dataclass(frozen=True)
class JobHead:
    """A job without its recipients."""

    fields: JobFields
    """Without attachments; what was wrong has its default."""
    variables: str
    """The job's variables as JSON."""
    extras: Extras
    errors: list[FieldError]
    recipients: int | None
    """How many recipients there are; None: none are given, -1: what is given is no list."""
    test: JobTest = NO_TEST
    """Who gets a test instead of them."""


class JobReader:
    """Reads jobs; `async with` starts it and ends its children.

    `renderer` renders their messages for their check.
    """

    def __init__(self, renderer: Renderer, events: RendererEvents) -> None:
        self.renderer = renderer
        self.exits = ChildExits("reading", events)
        self.shared = self.worker(READ_LIMITS)
        self.numbers = count()
        self.live = set[int]()
        """The jobs that are being read."""
        self.turns = defaultdict[str, asyncio.Lock](asyncio.Lock)
        """One body of each sender of bodies at a time waits for the shared process: the others wait
        for that one.
        """

    async def __aenter__(self) -> Self:
        await self.shared.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.shared.__aexit__()

    @property
    def start_error(self) -> str:
        """Why nothing can be read or rendered; "" while nothing is known to be wrong."""
        return self.shared.start_error or self.renderer.start_error

    def reading(
        self,
        body: Blob,
        *,
        now: datetime,
        origin: str,
        link: str = "",
        type_: JobType = JobType.TEMPLATE,
    ) -> "JobReading":
        """What reads a body; it is used by `async with`.

        `origin` is what the log calls who has sent it.

        `link`: what a link that unsubscribes begins with, where jobs have lists. `type_`: what it
        is.
        """
        return JobReading(self, body, now=now, origin=origin, link=link, type_=type_)

    def worker(self, limits: Limits) -> ChildWorker:
        """A process that reads, within these limits."""
        return ChildWorker(_CHILD, limits=limits, exits=self.exits)


class JobReading:
    """One body that is being read."""

    def __init__(
        self,
        reader: JobReader,
        body: Blob,
        *,
        now: datetime,
        origin: str,
        link: str,
        type_: JobType,
    ) -> None:
        self.cpu = 0.0
        """Seconds of CPU that it has taken."""
        self.attached: list[StoredAttachment] = []
        """What all recipients get, once the first rows were read; without the template's
        pictures.
        """
        self.attachment_errors: list[FieldError] = []
        self.template_errors: list[TemplateError] | None = None
        """What is wrong with the template, once the first rows were read; None: it was not looked
        at.
        """
        self._reader = reader
        self._body = body
        self._now = now
        self._origin = origin
        self._link = link
        self._type = type_
        self._test = NO_TEST
        self._is_template = False
        self._number = next(reader.numbers)
        self._worker = reader.shared
        self._alone = len(body) > LARGE_BODY
        self._child: ChildProcess | None = None
        """The process that has the body."""
        self._begun = False
        """Whether that process has begun with the recipients."""
        self._recipients = 0
        self._behind = 0
        """How many recipients were read."""
        self._first: list[RecipientRow] | None = None
        self._render = not reader.renderer.is_slow(origin)
        self._pictures: Sequence[Attached] | None = None
        self._template: Template | None = None
        self.rendered = False
        """Whether the messages of the rows that came last were rendered."""
        self._contents: dict[str, bytes] = {}
        self._own = AsyncExitStack()

    async def __aenter__(self) -> Self:
        self._reader.live.add(self._number)
        if self._alone:
            await self._be_alone()
        return self

    async def __aexit__(self, _: object, error: BaseException | None, *__: object) -> None:
        self._reader.live.discard(self._number)
        await self._own.aclose()
        if isinstance(error, ApiError) and error.errors and self._type is not JobType.TEMPLATE:
            raise invalid(
                [
                    *dict.fromkeys(
                        FieldError(self.field_of(it.field), it.message) for it in error.errors
                    )
                ]
            ) from None

    def field_of(self, path: str) -> str:
        """What a field of the job is called in the body."""
        match self._type:
            case JobType.MESSAGE:
                return field_of(path)
            case JobType.TEST:
                return self._test.field_of(path)
            case _:
                return path

    async def head(self) -> JobHead:
        """Everything but the recipients.

        Raises:
            ApiError: 422, it is no JSON, or too much of it.
            RendererError: nothing can be read now.
        """
        answer = await self._ask()
        found = answer["head"]
        fields, template = found["fields"], found["fields"]["template"]
        text = found["variables"] or "{}"
        variables = (
            await asyncio.to_thread(json.loads, text)
            if len(text) > LARGE_FRAME
            else json.loads(text)
        )
        fields |= {
            "variables": variables,
            "template": template and TemplateIn.model_construct(**template),
            "send_at": fields["send_at"] and datetime.fromisoformat(fields["send_at"]),
        }
        self._recipients = found["recipients"] or 0
        if "rows" in answer:
            self._first = self._take(answer)
        errors, self._test = field_errors(found["errors"]), JobTest(*found["test"])
        extras = Extras(*found["extras"]) if found["extras"] else NO_EXTRAS
        return JobHead(
            JobFields.model_construct(**fields),
            found["variables"],
            extras,
            errors,
            found["recipients"],
            self._test,
        )

    async def template(self) -> tuple[dict[str, bytes], str | None]:
        """The files of a template, and its comment: the body is one, and no job.

        Raises:
            ApiError: 422, it is no JSON, or no template.
            RendererError: nothing can be read now.
        """
        self._is_template, self._render = True, False
        answer = await self._ask()
        blob, at, files = answer.get(BLOB, b""), 0, dict[str, bytes]()
        for path, size in answer["files"]:
            files[path], at = bytes(blob[at : at + size]), at + size
        return files, answer["comment"]

    async def begin(self, template: Template | None, pictures: Sequence[StoredAttachment]) -> None:
        """Read the first rows, if that is still to be done; with the named template, and its
        pictures.
        """
        if self._first is None:
            self._template = template
            self._pictures = [
                Attached(
                    each.filename,
                    each.content_type,
                    each.content_id,
                    each.digest.hex(),
                    len(each.content),
                )
                for each in pictures
            ]
            self._first = self._take(await self._ask())

    async def rows(self) -> AsyncIterator[list[RecipientRow]]:
        """The recipients, some at a time; raises as `head` does."""
        rows, self._first = self._first or [], None
        while rows:
            yield rows
            if self._behind >= self._recipients:
                return
            rows = self._take(await self._ask())
        if self._behind < self._recipients:
            # a job is never stored without some of its recipients
            raise RuntimeError(self._behind, self._recipients)

    def stored(self, row: RecipientRow, index: int) -> list[StoredAttachment]:
        """A recipient's own attachments."""
        return [self._stored(each, recipient=index) for each in row.attached]

    def _stored(self, it: Attached, *, recipient: int | None) -> StoredAttachment:
        content, digest = self._contents[it.digest], bytes.fromhex(it.digest)
        return StoredAttachment(
            it.filename, it.content_type, content, digest, it.content_id, recipient
        )

    def _take(self, answer: Mapping[str, Any]) -> list[RecipientRow]:
        blob, at = memoryview(answer.get(BLOB, b"")), 0
        for digest, size in answer["contents"]:
            self._contents[digest] = bytes(blob[at : at + size])
            at += size
        if not self._behind and "attached" in answer:
            pictures = len(self._pictures or ())
            self.attached = [
                self._stored(Attached(*each), recipient=None)
                for each in answer["attached"][pictures:]
            ]
            self.attachment_errors = field_errors(answer["attachment_errors"])
            if (errors := answer.get("template_errors")) is not None:
                self.template_errors = [
                    TemplateError(from_json(why), part=part, line=line)
                    for why, part, line in errors
                ]
        rows = [
            RecipientRow(
                email,
                name,
                variables,
                [Attached(*each) for each in attached],
                [(part, from_json(why)) for part, why in errors],
                extras and Extras(*extras),
                repeats,
                send_at,
            )
            for email, name, variables, attached, errors, extras, repeats, send_at in answer["rows"]
        ]
        self._behind += len(rows)
        self.rendered = answer["rendered"]
        self._render &= answer["slowest"] <= SLOW
        return rows

    async def _ask(self) -> dict[str, Any]:
        """The next answer, of another process where one has ended over it."""
        while True:
            try:
                return await self._turn()
            except ChildEndedError as ended:
                self._reader.exits.record(self._origin, ended.cause)
                by_work = ended.by_work
                if not self._render and self._alone:
                    raise _blamed(ended) from ended
            if self._render:
                self._render = False
                if by_work:
                    self._reader.renderer.note_stopped(self._origin)
            else:
                await self._be_alone()

    async def _be_alone(self) -> None:
        self._alone = True
        memory = READ_LIMITS.memory + MEMORY_PER_BYTE * len(self._body)
        self._worker = await self._own.enter_async_context(
            self._reader.worker(
                Limits(cpu=READ_LIMITS.cpu, memory=memory, frame=MAX_FRAME + 2 * len(self._body))
            )
        )

    async def _turn(self) -> dict[str, Any]:
        async with (
            nullcontext() if self._alone else self._reader.turns[self._origin],
            self._worker.lock,
        ):
            child = await self._worker.ready()
            body: Blob = b""
            if child is not self._child:
                body, self._child, self._begun = self._body, child, False
            answer = await self._worker.asked(
                {
                    "job": self._number,
                    "keep": list(self._reader.live),
                    "now": self._now.isoformat(),
                    "type": self._type,
                    "is_template": self._is_template,
                    "begin": not self._begun,
                    "behind": self._behind,
                    "render": self._render,
                    "link": self._link,
                    "template": None
                    if self._begun or not self._template
                    else template_to_json(self._template),
                    "pictures": self._pictures,
                },
                blob=body,
                timeout=READ_TIMEOUT if len(body) > LARGE_BODY else None,
            )
        self.cpu += answer["cpu"]
        if refused := answer.get("refused"):
            status, code, message, errors = refused
            raise ApiError(status, code, from_json(message), errors=field_errors(errors))
        self._begun = "rows" in answer
        return answer


def field_errors(said: Sequence[Sequence[Any]]) -> list[FieldError]:
    """What the child has found."""
    return [FieldError(name, from_json(message)) for name, message in said]


def _blamed(ended: ChildEndedError) -> Exception:
    """What ends a process that has done nothing but read this body."""
    if ended.by_work and not ended.is_a_bug:
        return invalid_json(t("reading it {cause}", cause=ended.cause))
    return (RuntimeError if ended.is_a_bug else RendererError)(
        t("the process that reads jobs {cause}", cause=ended.cause)
    )
