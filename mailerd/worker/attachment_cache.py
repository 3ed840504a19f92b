"""A cache of encoded attachments, in bounded memory: each is encoded once while its job is being sent."""

import asyncio
from collections import OrderedDict
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Final

from mailerd.mail.attachments import MimePart, encode_attachment
from mailerd.store.attachments import StoredAttachment, attachments
from mailerd.store.db.database import Database

MAX_CACHED_BYTES: Final = 100_000_000
"""Bytes of encoded attachments in the cache; what does not fit is read again for each letter."""
LARGE_BYTES: Final = 1_000_000
"""A letter with so many bytes of attachments is large: it needs about four times as much while it is built and sent."""
MAX_LARGE: Final = 2


class AttachmentCache:
    """The encoded attachments of jobs."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._kept: OrderedDict[str, tuple[MimePart, ...]] = OrderedDict()
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
        if (known := self._kept.get(job)) is not None:
            self._kept.move_to_end(job)
            return known
        made = await _encoded(await attachments(self._database, job, recipient=None))
        self._keep(job, made)
        return made

    def _keep(self, job: str, made: tuple[MimePart, ...]) -> None:
        if job in self._kept:  # another letter of the job has read them meanwhile
            return
        self._kept[job] = made
        self._bytes += _size(made)
        while self._bytes > MAX_CACHED_BYTES:
            _, dropped = self._kept.popitem(last=False)
            self._bytes -= _size(dropped)

    def memory_slot(self, size: int) -> AbstractAsyncContextManager[None]:
        """A slot in memory for a letter with so many bytes of attachments: `MAX_LARGE` large ones at a time."""
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
                each.content, filename=each.filename, content_type=each.content_type, content_id=each.content_id
            )
            for each in found
        )

    return await asyncio.to_thread(encode)
