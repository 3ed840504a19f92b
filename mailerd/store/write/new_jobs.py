"""A job as it is to be stored, and the one transaction that stores it whole or not at all."""

import asyncio
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import batched
from typing import Final, NamedTuple

from mailerd.clock import EPOCH
from mailerd.core.extras import NO_EXTRAS, Extras
from mailerd.core.reasons import in_row
from mailerd.core.states import JobStatus, JobType, State
from mailerd.errors import DatabaseAwayError, DatabaseError
from mailerd.store.db.connection import Cursor, insert_many, naive, utc
from mailerd.store.db.database import Database
from mailerd.store.write import job_changes, messages, sender_changes
from mailerd.store.write.idempotency import IdempotencyKey, answer_key, claim_key


class NewRecipient(NamedTuple):
    """One recipient as it is to be stored; `error` says why it is rejected, None means that it is
    accepted.
    """

    email: str
    name: str | None
    variables: str | None
    """The recipient's own variables as JSON, None when it has none."""
    error: str | None = None
    suppressed: bool = False
    """The address has opted out: the row is stored as cancelled, and `error` says why."""
    extras: Extras = NO_EXTRAS
    send_at: datetime | None = None
    """A time of its own, aware and not before the job's, which it keeps; None: the job's."""


@dataclass(frozen=True)
class StoredAttachment:
    """One attachment, for the recipient whose `seq` it names or for all recipients."""

    filename: str
    content_type: str
    content: bytes = field(repr=False)
    digest: bytes = field(repr=False)
    """SHA-256 of the content."""
    content_id: str | None = None
    recipient: int | None = None


@dataclass(frozen=True)
class NewJob:
    """A job that is valid throughout, and not yet stored."""

    id: str
    sender_email: str
    """The mailbox: its credentials, pace and pauses count."""
    subject: str
    recipients: Sequence[NewRecipient] = field(repr=False)
    type: JobType = JobType.TEMPLATE
    from_email: str | None = None
    """What From says, when that is an alias of the mailbox."""
    sender_name: str | None = None
    reply_to: str | None = None
    html: str | None = field(default=None, repr=False)
    text: str | None = field(default=None, repr=False)
    variables: str = "{}"
    """The job's variables as JSON."""
    extras: Extras = NO_EXTRAS
    reference: str | None = None
    tags: Sequence[str] = ()
    priority: int = 0
    send_at: datetime | None = None
    """When it is sent, aware; None or a past time means now, by the database's clock."""
    api_key_id: int | None = None
    template_name: str | None = None
    template_version: str | None = None
    inline_css: bool = False
    defaults: str | None = None
    """Those of its template, as JSON."""
    languages: Sequence["TemplateLanguage"] = field(default=(), repr=False)
    """Further languages of the template; the default one stands in subject, html and text."""
    attachments: Sequence[StoredAttachment] = ()
    once: IdempotencyKey | None = field(default=None, repr=False)
    """The idempotency key that this job uses up."""
    list_id: int | None = None
    """The list that its recipients can leave; None: it has none."""
    on_bounces: str = "pause"
    """Whether it is paused where too much of it comes back: "pause" or "go_on"."""
    override_suppression: bool = False
    """Whether it goes also to addresses that have opted out; never to those of a hard bounce."""

    def due(self, now: datetime) -> dict[datetime, int]:
        """How many of its messages are due at which time, if it is stored now; the first ones
        first.
        """
        first, found = max(now, self.send_at or now), Counter[datetime]()
        for at, number in Counter(it.send_at for it in self.recipients if it.error is None).items():
            found[max(first, at or first)] += number
        return dict(sorted(found.items())) or {first: 0}


class TemplateLanguage(NamedTuple):
    """A template in one more language."""

    language: str
    subject: str
    html: str | None
    text: str | None


PIECE: Final = 64 * 1024
"""Bytes of one row: escaped it is twice as much.

To spell the statement takes some 4 ms of the event loop.
"""


_ADD_PIECE: Final = (
    "INSERT INTO attachment_chunks (job_id, digest, seq, content) VALUES (%s, %s, %s, %s)"
)


_ADD: Final = """
INSERT INTO job_attachments (job_id, recipient_seq, filename, content_type, content_id, digest, size)
VALUES %s
"""


_ROWS_AT_ONCE: Final = 500


async def store_attachments(
    cursor: Cursor, attached: Sequence[StoredAttachment], *, job_id: str, bound: float
) -> None:
    """Store them inside the transaction that stores the job; equal contents once."""
    contents = {each.digest: each.content for each in attached}
    for digest, content in contents.items():
        for number, start in enumerate(range(0, max(len(content), 1), PIECE)):
            async with asyncio.timeout(bound):
                await cursor.execute(
                    _ADD_PIECE, (job_id, digest, number, content[start : start + PIECE])
                )
    rows = [
        (
            job_id,
            each.recipient,
            each.filename,
            each.content_type,
            each.content_id,
            each.digest,
            len(each.content),
        )
        for each in attached
    ]
    for some in batched(rows, _ROWS_AT_ONCE):
        async with asyncio.timeout(bound):
            await cursor.execute(*insert_many(_ADD, some))


ROWS_PER_STATEMENT: Final = 1000
"""Recipients of one INSERT: some 4 ms of escaping, so that the loop is not held for long, and few
turns of it.
"""


CHARACTERS_PER_STATEMENT: Final = 200_000
"""Characters of one INSERT of several: a megabyte at most, however they are escaped and encoded."""


ROWS_PER_SECOND: Final = 5_000
"""How many recipients the slowest acceptable database stores in a second (a good one: 90,000); it
sets the bound.
"""


BYTES_PER_SECOND: Final = 2_000_000
"""The bytes of attachments that the slowest acceptable database stores in a second."""


RESOLVE_TIMEOUT: Final = 1.5
"""Seconds to find out what became of a COMMIT that got no answer."""


_FIND_ONLY_RECIPIENT: Final = "SELECT id FROM job_recipients WHERE job_id = %s AND seq = 0"


_FIND_IN_DOUBT: Final = f"""
SELECT send_at, IF(type <> '{JobType.MESSAGE}', 0, (SELECT id FROM job_recipients WHERE job_id = jobs.id AND seq = 0))
  FROM jobs WHERE id = %s FOR UPDATE"""


_ADD_LANGUAGE: Final = (
    "INSERT INTO job_templates (job_id, language, subject, html, text) VALUES (%s, %s, %s, %s, %s)"
)


class StoredJob(NamedTuple):
    """A job that is stored; `recipient`: the id of its only one, where it is one message."""

    send_at: datetime
    recipient: int = 0


class NewJobs:
    """Stores jobs. `timeout`: seconds that the database gets for an answer."""

    def __init__(self, database: Database, *, timeout: float) -> None:
        self.database = database
        self.timeout = timeout

    async def accept(self, job: NewJob) -> "StoredJob":
        """Store a job whole or not at all; returns once it is durable.

        Raises:
            DatabaseError: it was not stored; if `in_doubt` is set, it may have been.
            DuplicateKeyError: its idempotency key is used up; it was not stored.
        """
        try:
            attached = sum(len(each.content) for each in job.attachments) / BYTES_PER_SECOND
            bound = self.timeout + len(job.recipients) / ROWS_PER_SECOND + attached
            return await self.database.request(
                lambda cursor: self._store(cursor, job), what="jobs.accept", bound=bound
            )
        except DatabaseError as error:
            if not error.in_doubt:
                raise
            found = await self._resolve_commit(job.id, doubt=error)
            if found is None:
                raise DatabaseAwayError(
                    error.what,
                    phase="commit",
                    cause=error,
                    errno=error.errno,
                    retry=True,
                    in_doubt=False,
                ) from error
            return found

    async def _store(self, cursor: Cursor, job: NewJob) -> "StoredJob":
        # Recipients first, the job next, its sender last: no claim sees an unfinished job, and the
        # sender's row, which every claim of that sender needs, is locked for the last moment only.
        # Each step has its own bound: a frozen server must show soon, in a big job too.
        async with asyncio.timeout(self.timeout):
            now: datetime = await cursor.fetch_value("SELECT UTC_TIMESTAMP(6)")
        earliest, recipient = max(now, naive(job.send_at) or now), 0
        due = naive(next(iter(job.due(utc(now)))))
        # before anything else: of many that race with one key, one goes on and the rest wait
        if job.once is not None:
            async with asyncio.timeout(self.timeout):
                await claim_key(cursor, job.once, job_id=job.id, send_at=utc(due))
        extras = any(it.extras is not NO_EXTRAS or it.send_at for it in job.recipients)
        batches = _batches(job.recipients, not_before=earliest if extras else None)
        await messages.add_recipients(
            cursor, job.id, batches, now=now, due=None if extras else due, bound=self.timeout
        )
        if job.type is JobType.MESSAGE:
            async with asyncio.timeout(self.timeout):
                recipient = await cursor.fetch_value(_FIND_ONLY_RECIPIENT, (job.id,))
                if job.once is not None:
                    await answer_key(cursor, job.once, send_at=utc(due), recipient=recipient)
        await store_attachments(cursor, job.attachments, job_id=job.id, bound=self.timeout)
        values = {
            "id": job.id,
            "type": job.type.value,
            "sender_email": job.sender_email,
            "from_email": job.from_email,
            "sender_name": job.sender_name,
            "reply_to": job.reply_to,
            "subject": job.subject,
            "html": job.html,
            "text": job.text,
            "variables": job.variables,
            **job.extras._asdict(),
            "template_name": job.template_name,
            "template_version": job.template_version,
            "inline_css": int(job.inline_css),
            "defaults": job.defaults,
            "attachments": len(job.attachments),
            "reference": job.reference,
            "priority": job.priority,
            "api_key_id": job.api_key_id,
            "list_id": job.list_id,
            "override_suppression": int(job.override_suppression),
            "on_bounces": job.on_bounces,
            "status": JobStatus.QUEUED.value,
            "total": len(job.recipients),
            "next_claim_at": due,
            "send_at": due,
            "created_at": now,
        }
        async with asyncio.timeout(self.timeout):
            for language in job.languages:
                await cursor.execute(_ADD_LANGUAGE, (job.id, *language))
            await job_changes.add_job(cursor, values)
            await job_changes.add_tags(cursor, job.id, job.tags)
            await sender_changes.schedule(cursor, job.sender_email, due=due, now=now)
        return StoredJob(utc(due), recipient)

    async def _resolve_commit(self, job_id: str, *, doubt: DatabaseError) -> "StoredJob | None":
        """Find out whether a COMMIT without an answer happened: the job, or None if it is not
        stored and will not be.

        The locking read waits for a transaction that is still being committed, so that "absent" is
        a proof.
        """
        until = time.monotonic() + RESOLVE_TIMEOUT
        while (left := until - time.monotonic()) > 0:
            try:
                rows = await self.database.read_rows(
                    _FIND_IN_DOUBT, (job_id,), what="jobs.find_in_doubt", bound=left
                )
                return next(
                    (StoredJob(utc(send_at), int(recipient)) for send_at, recipient in rows), None
                )
            except DatabaseError as error:
                if not error.retry:
                    raise doubt from error
            await asyncio.sleep(0.05)
        raise doubt


def _batches(
    recipients: Iterable[NewRecipient], *, not_before: datetime | None
) -> Iterator[list[tuple[object, ...]]]:
    """What the rows do not share, for one INSERT after the other; a packet of the server's would
    end a larger one.

    `not_before`: the job's time, where a recipient has one of its own or `Extras`.
    """
    waiting, failed, cancelled = State.WAITING.value, State.FAILED.value, State.CANCELLED.value
    batch: list[tuple[object, ...]] = []
    size = 0
    for seq, (email, name, variables, error, suppressed, extras, send_at) in enumerate(recipients):
        more = len(email) + len(name or "") + len(variables or "") + len(error or "")
        more += sum(len(str(it or "")) for it in extras) if not_before else 0
        if len(batch) == ROWS_PER_STATEMENT or (batch and size + more > CHARACTERS_PER_STATEMENT):
            yield batch
            batch, size = [], 0
        status = cancelled if suppressed else failed if error else waiting
        at = naive(send_at and max(send_at, EPOCH))
        own = (max(not_before, at or not_before), at, *extras) if not_before else ()
        batch.append((seq, email, name, variables, status, *in_row(error), *own))
        size += more
    if batch:
        yield batch
