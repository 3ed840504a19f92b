"""Builds a message as RFC 5322 has it: its job's template, read once and rendered, and its
unsubscribe link.
"""

import asyncio
import json
import secrets
from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, nullcontext
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final
from urllib.parse import quote

from mailerd.clock import Clock
from mailerd.core.claims import ClaimedRecipient
from mailerd.core.decisions import Decision
from mailerd.core.reasons import reason
from mailerd.core.states import JobType, Transition
from mailerd.core.suppression import DEAD_TOKEN, UnsubscribeToken, make_token
from mailerd.errors import DatabaseError
from mailerd.mail.mime import (
    Envelope,
    ListHeaders,
    MimePart,
    compose,
    encode_attachment,
    merged_headers,
    unsubscribe_mailbox,
)
from mailerd.mail.renderer import RenderBatches, Renderer
from mailerd.mail.templates import (
    Content,
    RecipientData,
    RendererError,
    RenderError,
    Source,
    Template,
    TemplateErrors,
)
from mailerd.store.db.database import Database
from mailerd.store.queue.job_content import JobContent, attachments, job_content
from mailerd.store.write.new_jobs import StoredAttachment
from mailerd.store.write.secrets import SecretKeys, Secrets

# Unsubscribe links and headers: for each message of a job that has a list, signed with the newest
# key.

KEY_INTERVAL: Final = 60.0
"""Seconds after which the keys are read again: a rotation takes effect without a restart."""


class UnsubscribeLinks:
    """Makes links and headers.

    `base_url`: where people reach the public site; empty: only mailto links are made.
    """

    def __init__(self, database: Database, *, base_url: str, clock: Clock) -> None:
        self._secrets = Secrets(database, timeout=database.probe_timeout, for_messages=True)
        self._base_url = base_url
        self._clock = clock
        self._keys: SecretKeys | None = None
        self._read_at = 0.0

    async def headers(
        self, message: ClaimedRecipient, job: JobContent, *, dead: bool = False
    ) -> ListHeaders | None:
        """The headers of a message; None where its job has no list.

        `dead`: the link does nothing, as that of a test.

        Raises:
            DatabaseError: the keys cannot be read. The message is not sent without them.
        """
        if job.list_id is None or job.list_name is None:
            return None
        token = DEAD_TOKEN
        if not dead and job.type != JobType.TEST:
            if message.digest is None:
                return None
            keys, named = (
                await self._newest_keys(),
                UnsubscribeToken(job.list_id, message.id, message.digest),
            )
            token = make_token(named, key_id=keys.newest, key=keys.tokens[keys.newest])
        domain = job.from_email.rpartition("@")[2]
        return ListHeaders(
            url=f"{self._base_url}/u/{token}" if self._base_url else "",
            mailto=f"mailto:{quote(unsubscribe_mailbox(message.sender), safe='@+')}?subject=u.{token}",
            title=job.list_title or job.list_name,
            list_id=f"{job.list_name.lower().replace('_', '-')}.{domain}",
        )

    async def _newest_keys(self) -> SecretKeys:
        now = self._clock.monotonic()
        if self._keys is None or now - self._read_at > KEY_INTERVAL:
            self._keys, self._read_at = await self._secrets.keys(), now
        return self._keys


_RENDERER_WAIT: Final = timedelta(seconds=10)
"""The time until the next try of a message that the renderer could not render now."""
_MAX_CACHED_JOBS: Final = 256
"""Jobs whose templates are cached, …"""
_MAX_CACHED_SIZE: Final = 64_000_000
"""… and their size together, in bytes or so; a larger job is cached alone.

A job may have 16 MB of variables.
"""
_BYTES_OF_A_VALUE: Final = 200
"""What Python takes for a small value, or for a key, beside its characters."""
TEST_MARK: Final = "[Test] "
"""What the subject of a test begins with."""
_LARGE_TEXT: Final = 100_000
"""A message of so many characters is composed in a thread, so that it does not block the event
loop.
"""


def why_not_built(error: Exception) -> Decision | None:
    """What becomes of a message that `MessageBuilder.build` did not build.

    None: nothing is known that would help it.
    """
    match error:
        case TemplateErrors():
            return Decision(Transition.FAILED, error=reason("template_refused", cause=str(error)))
        case RendererError():
            why = reason("renderer_unavailable", cause=str(error))
            return Decision(Transition.RELEASED, error=why, wait=_RENDERER_WAIT)
        case RenderError() | ValueError():
            return Decision(Transition.FAILED, error=reason("not_built", cause=str(error)))
        case DatabaseError(retry=True):
            return Decision(
                Transition.RELEASED, error=reason("database_unavailable", cause=str(error))
            )
        case _:
            return None


@dataclass(frozen=True)
class _Job:
    content: JobContent
    template: Template
    headers: Mapping[str, str]
    size: int


def _envelope(it: _Job, message: ClaimedRecipient, list_headers: ListHeaders | None) -> Envelope:
    job = it.content
    return Envelope(
        sender_email=job.from_email,
        sender_name=job.sender_name,
        reply_to=job.reply_to,
        to_email=message.to_email,
        to_name=message.to_name,
        key=message.key,
        list_headers=list_headers,
        proof=message.proof,
        headers=merged_headers(it.headers, json.loads(message.headers))
        if message.headers
        else it.headers,
        copies=message.copies,
    )


class MessageBuilder:
    """Builds messages, and caches what their jobs share."""

    def __init__(
        self, database: Database, *, renderer: Renderer, clock: Clock, links: UnsubscribeLinks
    ) -> None:
        self._database = database
        self._batches = RenderBatches(renderer)
        self._clock = clock
        self._links = links
        self._attachments = AttachmentCache(database)
        self._jobs: OrderedDict[str, _Job] = OrderedDict()
        self._size = 0
        self._reading: dict[str, asyncio.Future[_Job]] = {}

    async def build(
        self,
        message: ClaimedRecipient,
        *,
        room: AsyncExitStack,
        on_slow: Callable[[], None] = lambda: None,
    ) -> bytes:
        """The message's RFC 5322 bytes.

        `on_slow` is called when it waits behind slow templates. A large one, once it is rendered,
        waits for a slot in memory, which `room` holds until Google has it.

        Raises:
            RenderError: the template fails with this recipient's variables. TemplateErrors: the job
            was stored by a version of mailerd that accepted a template which this one refuses.
            RendererError: no message can be rendered now. ValueError: a value cannot stand in its
            header, or the message is too large. DatabaseError: the job could not be read.
        """
        it = await self._job(message.job_id)
        job = it.content
        list_headers = await self._links.headers(message, job)
        content = await self._render(it, message, list_headers, on_slow=on_slow)
        await room.enter_async_context(self._attachments.memory_slot(job.attached_bytes))
        envelope = _envelope(it, message, list_headers)
        domain = job.from_email.rpartition("@")[2]
        now, message_id = self._clock.now(), f"<{secrets.token_hex(16)}@{domain}>"
        if not job.attachments and len(content.html or "") + len(content.text) < _LARGE_TEXT:
            return compose(content, envelope, date=now, message_id=message_id)
        attached = await self._attachments.of(
            message.job_id, seq=message.seq, count=job.attachments
        )
        return await asyncio.to_thread(  # copying many megabytes would block the event loop
            compose, content, envelope, date=now, message_id=message_id, attachments=attached
        )

    async def preview(self, message: ClaimedRecipient, origin: str) -> tuple[Content, Envelope]:
        """What `build` makes a message of, with an unsubscribe link that does nothing; for a person
        who only looks.

        `origin`: whose work that is. Nothing is cached.

        Raises:
            RenderError, TemplateErrors, RendererError, DatabaseError: as `build`.
        """
        it = await self._read(message.job_id)
        list_headers = await self._links.headers(message, it.content, dead=True)
        return await self._render(it, message, list_headers, origin=origin), _envelope(
            it, message, list_headers
        )

    async def _render(
        self,
        job: _Job,
        message: ClaimedRecipient,
        list_headers: ListHeaders | None,
        *,
        origin: str = "",
        on_slow: Callable[[], None] = lambda: None,
    ) -> Content:
        url = list_headers.url if list_headers else ""
        made = await self._batches.render(
            job.template,
            RecipientData(message.to_email, message.to_name, message.variables, url),
            origin=origin or message.sender,
            owner=message.sender
            if job.content.api_key_id is None
            else f"key {job.content.api_key_id}",
            batch=message.job_id,
            on_slow=on_slow,
        )
        if not isinstance(made, Content):
            raise made[0]
        return (
            replace(made, subject=f"{TEST_MARK}{made.subject}")
            if job.content.type == JobType.TEST
            else made
        )

    async def _job(self, id_: str) -> _Job:
        if (known := self._jobs.get(id_)) is not None:
            self._jobs.move_to_end(id_)
            return known
        if (under_way := self._reading.get(id_)) is not None:
            return await asyncio.shield(under_way)
        # The messages of one claim start together: one of them reads, and the others get its result
        # or its error.
        reading = self._reading[id_] = asyncio.get_running_loop().create_future()
        try:
            job = await self._read(id_)
        except BaseException as error:
            reading.set_exception(error) if isinstance(error, Exception) else reading.cancel()
            # asyncio would log an error that nothing waits for
            reading.cancelled() or reading.exception()
            raise
        else:
            reading.set_result(job)
        finally:
            del self._reading[id_]
        self._jobs[id_] = job
        self._size += job.size
        while len(self._jobs) > _MAX_CACHED_JOBS or (
            self._size > _MAX_CACHED_SIZE and len(self._jobs) > 1
        ):
            _, oldest = self._jobs.popitem(last=False)
            self._size -= oldest.size
        return job

    async def _read(self, id_: str) -> _Job:
        it = await job_content(self._database, id_)
        template = Template(
            Source(it.subject, it.html, it.text),
            {each.language: Source(each.subject, each.html, each.text) for each in it.languages},
            inline_css=bool(it.inline_css),
            variables=json.loads(it.variables),
            defaults=json.loads(it.defaults or "{}"),
        )
        values = sum(map(it.variables.count, ",:[{"))
        size = template.size + len(it.variables) + _BYTES_OF_A_VALUE * values
        return _Job(replace(it, variables=""), template, json.loads(it.headers or "{}"), size)


MAX_CACHED_BYTES: Final = 100_000_000
"""Bytes of encoded attachments in the cache; what does not fit is read again for each message."""
KEPT_FOR: Final = 60.0
"""Seconds after their last message for which attachments stay in the cache.

Google's pace gives one each second.
"""
LARGE_BYTES: Final = 1_000_000
"""A message with so many bytes of attachments is large: it needs about four times as much while it
is built and sent.
"""
MAX_LARGE: Final = 2


class AttachmentCache:
    """The encoded attachments of jobs."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._kept: OrderedDict[str, tuple[MimePart, ...]] = OrderedDict()
        self._used: dict[str, float] = {}
        """When a message had those of a job last, by the event loop's clock."""
        self._timer: asyncio.TimerHandle | None = None
        self._bytes = 0
        self._large = asyncio.Semaphore(MAX_LARGE)

    async def of(self, job: str, *, seq: int, count: int) -> tuple[MimePart, ...]:
        """The attachments of one recipient, `count` in all: those of the job and its own."""
        if not count:
            return ()
        shared = await self._shared(job)
        if len(shared) == count:
            return shared
        return shared + await _encoded(await attachments(self._database, job, recipient=seq))

    async def _shared(self, job: str) -> tuple[MimePart, ...]:
        made = self._kept.get(job)
        if made is None:
            made = await _encoded(await attachments(self._database, job, recipient=None))
        if job not in self._kept:  # else another message of the job has read them meanwhile
            self._kept[job] = made
            self._bytes += _size(made)
        self._kept.move_to_end(job)
        self._used[job] = asyncio.get_running_loop().time()
        while self._bytes > MAX_CACHED_BYTES:
            self._drop_oldest()
        self._timer = self._timer or asyncio.get_running_loop().call_later(
            KEPT_FOR, self._drop_unused
        )
        return made

    def _drop_oldest(self) -> None:
        job, dropped = self._kept.popitem(last=False)
        del self._used[job]
        self._bytes -= _size(dropped)

    def _drop_unused(self) -> None:
        loop, self._timer = asyncio.get_running_loop(), None
        while self._kept and loop.time() >= self._used[next(iter(self._kept))] + KEPT_FOR:
            self._drop_oldest()
        if self._kept:
            self._timer = loop.call_at(
                self._used[next(iter(self._kept))] + KEPT_FOR, self._drop_unused
            )

    def memory_slot(self, size: int) -> AbstractAsyncContextManager[None]:
        """A slot in memory for a message with so many bytes of attachments: `MAX_LARGE` large ones
        at a time.
        """
        return nullcontext() if size < LARGE_BYTES else self._large


def _size(made: tuple[MimePart, ...]) -> int:
    return sum(len(each.data) for each in made)


async def _encoded(found: list[StoredAttachment]) -> tuple[MimePart, ...]:
    """Encode in a thread, so that the event loop goes on."""
    if not found:
        return ()

    def encode() -> tuple[MimePart, ...]:
        return tuple(
            encode_attachment(
                each.content,
                filename=each.filename,
                content_type=each.content_type,
                content_id=each.content_id,
            )
            for each in found
        )

    return await asyncio.to_thread(encode)
