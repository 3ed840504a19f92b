"""A job's rows: the one transaction that accepts it, and what can be read of jobs and recipients afterwards."""

import asyncio
import time
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import accumulate, batched, chain
from operator import itemgetter
from typing import Annotated, Any, Final, NamedTuple

from mailerd.clock import EPOCH, ULID
from mailerd.core.copies import Copy
from mailerd.core.copies import from_json as copies_of
from mailerd.core.models import NO_EXTRAS, Extras, read_metadata
from mailerd.core.notices import BOUNCES, Kind
from mailerd.core.reasons import from_row, in_row
from mailerd.core.results import Result
from mailerd.core.states import JobStatus, JobType, Proof, State
from mailerd.core.stats import SenderStats
from mailerd.core.suppression import canonical
from mailerd.errors import DatabaseAwayError, DatabaseError
from mailerd.model.fields import Sql
from mailerd.store import job_changes, messages, sender_changes, sender_rows
from mailerd.store.api_keys import ApiKey
from mailerd.store.db.connection import Cursor, Statement, insert_many, naive, utc
from mailerd.store.db.database import Database, request
from mailerd.store.db.rows import Select
from mailerd.store.idempotency import IdempotencyKey, answer_key, claim_key
from mailerd.store.tags import INSERT_TAGS, SELECT_TAGS, read_tags

# A job as it is to be stored: valid throughout, and not yet in the database.


class NewRecipient(NamedTuple):
    """One recipient as it is to be stored; `error` says why it is rejected, None means that it is accepted."""

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
        """How many of its messages are due at which time, if it is stored now; the first ones first."""
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


# What a job's messages are made of: its template and what is attached, stored once per job, in pieces.


@dataclass(frozen=True)
class JobContent:
    """The parts of a job that all its messages share."""

    from_email: Annotated[str, Sql("j.from_address")]
    """The mailbox, or the alias that the job was posted for."""
    sender_name: Annotated[str | None, Sql("j.sender_name")]
    reply_to: Annotated[str | None, Sql("j.reply_to")]
    subject: Annotated[str, Sql("j.subject")]
    html: Annotated[str | None, Sql("j.html")]
    text: Annotated[str | None, Sql("j.text")]
    variables: Annotated[str, Sql("j.variables")]  # as JSON
    list_id: Annotated[int | None, Sql("j.list_id")] = None
    list_name: Annotated[str | None, Sql("l.name")] = None
    list_title: Annotated[str | None, Sql("l.title")] = None
    inline_css: Annotated[int, Sql("j.inline_css")] = 0
    api_key_id: Annotated[int | None, Sql("j.api_key_id")] = None
    """The key that posted it; None: the command line did."""
    type: Annotated[str, Sql("j.type")] = JobType.TEMPLATE
    attachments: Annotated[int, Sql("j.attachments")] = 0
    """How many attachments there are, those of single recipients included."""
    headers: Annotated[str | None, Sql("j.headers")] = None
    """Those of all its messages, as JSON."""
    defaults: Annotated[str | None, Sql("j.defaults")] = None
    attached_bytes: int = field(default=0, kw_only=True)
    """The most bytes of attachments that one message carries."""
    languages: tuple[TemplateLanguage, ...] = field(default=(), kw_only=True)


_CONTENT: Final = Select(JobContent)
_READ_CONTENT: Final = f"""
SELECT {_CONTENT.columns}, j.attachments, EXISTS (SELECT 1 FROM job_templates WHERE job_id = j.id)
  FROM jobs j LEFT JOIN lists l ON l.id = j.list_id WHERE j.id = %s"""


async def job_content(database: Database, job: str) -> JobContent:
    """What the messages of `job` are made of."""

    async def work(cursor: Cursor) -> JobContent:
        await cursor.execute(_READ_CONTENT, (job,))
        *row, attachments, has_languages = await cursor.fetchone()
        size = await _attached_bytes(cursor, job) if attachments else 0
        languages = await _languages(cursor, job) if has_languages else ()
        return _CONTENT.row(row, attached_bytes=size, languages=languages)

    return await database.read(work, what="jobs.read_content")


async def _languages(cursor: Cursor, job: str) -> tuple[TemplateLanguage, ...]:
    await cursor.execute("SELECT language, subject, html, text FROM job_templates WHERE job_id = %s", (job,))
    return tuple(TemplateLanguage(*each) for each in await cursor.fetchall())


async def _attached_bytes(cursor: Cursor, job: str) -> int:
    """Bytes that all recipients get, and the most that a single recipient gets in addition."""
    await cursor.execute(
        "SELECT recipient_seq IS NULL, SUM(size) FROM job_attachments WHERE job_id = %s GROUP BY recipient_seq "
        "ORDER BY 1, 2 DESC",
        (job,),
    )
    sizes: dict[int, int] = {}
    for is_shared, size in await cursor.fetchall():
        sizes.setdefault(is_shared, int(size))
    return sum(sizes.values())


PIECE: Final = 64 * 1024
"""Bytes of one row: escaped it is twice as much. To spell the statement takes some 4 ms of the event loop."""

_ADD_PIECE: Final = "INSERT INTO attachment_chunks (job_id, digest, seq, content) VALUES (%s, %s, %s, %s)"
_ADD: Final = (
    "INSERT INTO job_attachments (job_id, recipient_seq, filename, content_type, content_id, digest, size) VALUES %s"
)
_ROWS_AT_ONCE: Final = 500


async def store_attachments(cursor: Cursor, attached: Sequence[StoredAttachment], *, job_id: str, bound: float) -> None:
    """Store them inside the transaction that stores the job; equal contents once."""
    contents = {each.digest: each.content for each in attached}
    for digest, content in contents.items():
        for number, start in enumerate(range(0, max(len(content), 1), PIECE)):
            async with asyncio.timeout(bound):
                await cursor.execute(_ADD_PIECE, (job_id, digest, number, content[start : start + PIECE]))
    rows = [
        (job_id, each.recipient, each.filename, each.content_type, each.content_id, each.digest, len(each.content))
        for each in attached
    ]
    for some in batched(rows, _ROWS_AT_ONCE):
        async with asyncio.timeout(bound):
            await cursor.execute(*insert_many(_ADD, some))


async def attachments(database: Database, job_id: str, *, recipient: int | None) -> list[StoredAttachment]:
    """What all recipients get (`recipient` is None), or what one recipient gets in addition."""
    found = await database.read_rows(
        "SELECT filename, content_type, content_id, digest FROM job_attachments "
        "WHERE job_id = %s AND recipient_seq <=> %s ORDER BY id",
        (job_id, recipient),
        what="attachments.read",
    )
    contents = {digest: await _content(database, job_id, digest) for digest in {digest for *_, digest in found}}
    return [
        StoredAttachment(name, kind, contents[digest], digest, content_id=content_id, recipient=recipient)
        for name, kind, content_id, digest in found
    ]


async def _content(database: Database, job_id: str, digest: bytes) -> bytes:
    """A content; each piece in a transaction of its own, so that none is long."""
    statement = "SELECT content FROM attachment_chunks WHERE job_id = %s AND digest = %s AND seq = %s"
    pieces: list[bytes] = []
    while rows := await database.read_rows(statement, (job_id, digest, len(pieces)), what="attachments.read_one"):
        pieces += [bytes(content) for (content,) in rows]
    return b"".join(pieces)


# Recipients and where they stand: those of a job, and one person's over all jobs, by any spelling of the address.

NO_CONDITION: Final[Statement] = ("", ())


@dataclass(frozen=True)
class MessageResult:
    """What became of a message after it was sent."""

    state: Result
    kind: str | None
    """The class of a bounce: hard, soft, blocked or unknown."""
    code: str | None
    reason: str | None
    at: datetime


def _result(
    state: str | None, kind: str | None, code: str | None, reason: str | None, at: datetime | None
) -> MessageResult | None:
    return MessageResult(Result(state), kind, code, reason, utc(at)) if state and at else None


@dataclass(frozen=True)
class Recipient:
    """One recipient and where it stands."""

    id: Annotated[int, Sql("r.id")]
    index: Annotated[int, Sql("r.seq")]
    """Its place in the request, from 0."""
    email: Annotated[str, Sql("r.to_email")]
    name: Annotated[str | None, Sql("r.to_name")]
    status: Annotated[State, Sql("r.status")]
    attempts: Annotated[int, Sql("r.attempts")]
    error: Annotated[str | None, Sql("r.error", "r.error_code", "r.error_args", read=from_row)]
    message_id: Annotated[str | None, Sql("r.message_id")]
    proof: Annotated[Proof | None, Sql("r.proof")]
    """What proves that it is sent, if it is."""
    due_at: Annotated[datetime, Sql("r.due_at")]
    sent_at: Annotated[datetime | None, Sql("r.sent_at")]
    updated_at: Annotated[datetime, Sql("r.updated_at")]
    result: Annotated[
        MessageResult | None,
        Sql("r.result", "r.result_kind", "r.result_code", "r.result_reason", "r.result_at", read=_result),
    ]
    """Its result after it was sent; None: nothing was heard of it."""
    metadata: Annotated[Mapping[str, str], Sql("r.metadata", read=read_metadata)]
    copies: Annotated[
        tuple[Copy, ...],
        Sql("COALESCE(r.copy_list, (SELECT o.copy_list FROM jobs o WHERE o.id = r.job_id))", read=copies_of),
    ]
    """Who gets a copy."""

    @property
    def cc(self) -> list[Copy]:
        """Who gets a copy that all see."""
        return [it for it in self.copies if it.header == "cc"]

    @property
    def bcc(self) -> list[Copy]:
        """Who gets a copy that the others do not see."""
        return [it for it in self.copies if it.header == "bcc"]


@dataclass(frozen=True)
class PersonsMessage(Recipient):
    """One message to a person, and whose it is."""

    job_id: Annotated[str, Sql("r.job_id")]
    sender_email: Annotated[str, Sql("j.from_address")]
    """The sender as the job was posted: the mailbox, or an alias of it."""
    job_type: Annotated[JobType, Sql("j.type")]
    copies: Annotated[tuple[Copy, ...], Sql("COALESCE(r.copy_list, j.copy_list)", read=copies_of)]


RECIPIENT: Final = Select(Recipient)
PERSONS_MESSAGE: Final = Select(PersonsMessage)
_RECIPIENTS: Final = f"SELECT {RECIPIENT.columns} FROM job_recipients r WHERE r.job_id = %s AND r.seq > %s"
# The messages of one person, over all jobs, are few; those of a job may be very many.
_RECIPIENTS_BY_ADDRESS: Final = (
    f"SELECT {RECIPIENT.columns} FROM job_recipients r FORCE INDEX (person) WHERE r.job_id = %s AND r.seq > %s"
)
# A message that has a result has a notice. The notices of a job are read in the order of its messages, whose ids rise
# with `seq`, from the one at the cursor on: as many rows are read as are shown, however large the job is.
_RECIPIENTS_WITH_RESULT: Final = f"""
SELECT {RECIPIENT.columns} FROM notices n FORCE INDEX (job)
       STRAIGHT_JOIN job_recipients r FORCE INDEX (PRIMARY) ON r.id = n.recipient_id
 WHERE n.job_id = %s AND n.recipient_id > COALESCE((SELECT id FROM job_recipients WHERE job_id = %s AND seq = %s), 0)
   AND n.kind IN %s AND r.seq > %s AND r.result = %s
   AND NOT EXISTS (SELECT 1 FROM notices m FORCE INDEX (recipient)
                    WHERE m.recipient_id = n.recipient_id AND m.kind IN %s AND m.id < n.id)"""
_NOTICE_KINDS: Final = {
    Result.BOUNCED: tuple(sorted(kind.value for kind in BOUNCES)),
    Result.UNSUBSCRIBED: (Kind.UNSUBSCRIBE.value,),
    Result.REPLIED: (Kind.REPLY.value,),
    Result.OTHER_REPLIED: (Kind.REPLY.value,),
    Result.AUTO_REPLIED: (Kind.AUTO_REPLY.value,),
}
"""The kinds of notices that cause each result."""
# Index and order are given: the server may else read all messages from the newest back, since LIMIT makes that look
# cheap, or begin with all jobs of the senders.
_SELECT_MESSAGES: Final = (
    f"SELECT {PERSONS_MESSAGE.columns} "
    "FROM job_recipients r FORCE INDEX (person) STRAIGHT_JOIN jobs j FORCE INDEX (PRIMARY) ON j.id = r.job_id "
    "WHERE r.person = %s"
)
_SELECT_MESSAGES_BY_ID: Final = (
    f"SELECT {PERSONS_MESSAGE.columns} "
    "FROM job_recipients r FORCE INDEX (PRIMARY) STRAIGHT_JOIN jobs j FORCE INDEX (PRIMARY) ON j.id = r.job_id "
    "WHERE r.id IN %s"
)


class Recipients:
    """Queries over the recipients of all jobs. `timeout`: seconds that the database gets for an answer."""

    def __init__(self, database: Database, *, timeout: float) -> None:
        self.database = database
        self.timeout = timeout

    async def of_person(
        self, email: str, *, before: int | None, limit: int, senders: Collection[str] | None
    ) -> list[PersonsMessage]:
        """Messages to a person, the newest first, those before an id; `senders` None: those of all senders."""
        statement = messages_statement(email, before=before, limit=limit, senders=senders)
        rows = await self.database.request_rows(*statement, what="people.list_messages", bound=self.timeout)
        return [PERSONS_MESSAGE.row(each) for each in rows]

    async def of_ids(self, ids: Collection[int], *, senders: Collection[str] | None) -> list[PersonsMessage]:
        """Those of these messages that are there, oldest first; `senders` None: those of all senders."""
        where, values = "", list[object]([tuple(ids) or (0,)])
        if senders is not None:
            where = " AND j.from_address IN %s"
            values.append(tuple(senders) or ("",))
        rows = await self.database.request_rows(
            f"{_SELECT_MESSAGES_BY_ID}{where} ORDER BY r.id", values, what="messages.read", bound=self.timeout
        )
        return [PERSONS_MESSAGE.row(each) for each in rows]


def messages_statement(email: str, *, before: int | None, limit: int, senders: Collection[str] | None) -> Statement:
    """What `of_person` asks; a test has it explained."""
    where, values = "", list[object]([canonical(email)])
    if before is not None:
        where += " AND r.id < %s"
        values.append(before)
    if senders is not None:
        where += " AND j.from_address IN %s"
        values.append(tuple(senders) or ("",))  # the driver spells it as a list in brackets, never an empty one
    return f"{_SELECT_MESSAGES}{where} ORDER BY r.id DESC LIMIT %s", [*values, limit]


def recipients_statement(
    job_id: str, *, status: State | None, after: int, limit: int, email: str | None, result: Result | None,
    also: Statement = NO_CONDITION,
) -> Statement:  # fmt: skip
    """What `recipients` asks; a test has it explained."""
    order = "r.seq"
    if result is not None and email is None:
        kinds, order = _NOTICE_KINDS[result], "n.recipient_id"
        sql, values = _RECIPIENTS_WITH_RESULT, [job_id, job_id, after, kinds, after, result.value, kinds]
    else:
        sql = _RECIPIENTS if email is None else _RECIPIENTS_BY_ADDRESS
        values = [job_id, after]
        given = {"r.person = %s": email and canonical(email), "r.result = %s": result and result.value}
        for condition, value in given.items():
            if value is not None:
                sql += f" AND {condition}"
                values.append(value)
    if status is not None:
        sql += " AND r.status = %s"
        values.append(status.value)
    return f"{sql}{also[0]} ORDER BY {order} LIMIT %s", [*values, *also[1], limit]


ROWS_PER_STATEMENT: Final = 1000
"""Recipients of one INSERT: some 4 ms of escaping, so that the loop is not held for long, and few turns of it."""
CHARACTERS_PER_STATEMENT: Final = 200_000
"""Characters of one INSERT of several: a megabyte at most, however they are escaped and encoded."""
ROWS_PER_SECOND: Final = 5_000
"""How many recipients the slowest acceptable database stores in a second (a good one: 90,000); it sets the bound."""
BYTES_PER_SECOND: Final = 2_000_000
"""The bytes of attachments that the slowest acceptable database stores in a second."""
RESOLVE_TIMEOUT: Final = 1.5
"""Seconds to find out what became of a COMMIT that got no answer."""

_FIND_ONLY_RECIPIENT: Final = "SELECT id FROM job_recipients WHERE job_id = %s AND seq = 0"
_FIND_IN_DOUBT: Final = f"""
SELECT send_at, IF(type <> '{JobType.MESSAGE}', 0, (SELECT id FROM job_recipients WHERE job_id = jobs.id AND seq = 0))
  FROM jobs WHERE id = %s FOR UPDATE"""
_RECIPIENT_ROW: Final = "(%s, %%s, %%s, %%s, %%s, %%s, %%s, %%s, %%s, %s, %s)"
"""A row of them, once what all rows share is put in: there is no % in a job's id."""
_ROW_WITH_EXTRAS: Final = f"(%s, %%s, %%s, %%s, %%s, %%s, %%s, %%s, %%s, %%s, %s, %%s{', %%s' * len(NO_EXTRAS)})"
"""The same for jobs of which a recipient has `Extras` or its own time: the others do not pay for them."""
_ADD_LANGUAGE: Final = "INSERT INTO job_templates (job_id, language, subject, html, text) VALUES (%s, %s, %s, %s, %s)"
_OF_ALL: Final = "FROM jobs j"
# In the order of the index that has the tag: of a tag that few jobs have, few are read.
_OF_TAG: Final = "FROM job_tags t FORCE INDEX (PRIMARY) STRAIGHT_JOIN jobs j FORCE INDEX (PRIMARY) ON j.id = t.job_id"


def _some_seconds(microseconds: int | None) -> float | None:
    return None if microseconds is None else microseconds / 1e6


@dataclass(frozen=True)
class Job:
    """A job and the counts of its recipients, as of one moment."""

    id: Annotated[str, Sql("j.id")]
    type: Annotated[str, Sql("j.type")]
    sender_email: Annotated[str, Sql("j.from_address")]
    """The sender as it was posted: the mailbox, or an alias of it."""
    reference: Annotated[str | None, Sql("j.reference")]
    priority: Annotated[int, Sql("j.priority")]
    status: Annotated[JobStatus, Sql("j.status")]
    total: Annotated[int, Sql("j.total")]
    created_at: Annotated[datetime, Sql("j.created_at")]
    send_at: Annotated[datetime, Sql("j.send_at")]
    started_at: Annotated[datetime | None, Sql("j.started_at")]
    finished_at: Annotated[datetime | None, Sql("j.finished_at")]
    sender: Annotated[SenderStats, sender_rows.OF_JOB]
    """Its mailbox, as far as its row tells: its pause and its next turn."""
    at: Annotated[datetime, Sql("UTC_TIMESTAMP(6)")]
    """That moment, by the database's clock."""
    template_name: Annotated[str | None, Sql("j.template_name")]
    template_version: Annotated[str | None, Sql("j.template_version")]
    took: Annotated[
        float | None,
        Sql("TIMESTAMPDIFF(MICROSECOND, j.started_at, COALESCE(j.finished_at, UTC_TIMESTAMP(6)))", read=_some_seconds),
    ]
    """Seconds from its first message to its end, or until now."""
    counts: Mapping[State, int]
    bounced: Annotated[int, Sql("j.bounced")] = 0
    """How many of its sent messages came back."""
    replied: Annotated[int, Sql("j.replied")] = 0
    """How many of its sent messages a person has answered."""
    deferred_until: Annotated[datetime | None, Sql("IF(j.next_claim_at > UTC_TIMESTAMP(6), j.next_claim_at, NULL)")] = (
        None
    )
    """When the first of its messages that wait is due; None: that is past."""
    tried: Annotated[bool, Sql(messages.NEXT_WAS_TRIED)] = False
    """That message has been tried before."""
    on_bounces: Annotated[str, Sql("j.on_bounces")] = "pause"
    """Whether it is paused where too much of it comes back: "pause" or "go_on"."""
    own_pause: Annotated[str | None, Sql("j.pause_cause")] = None
    """The cause of its own pause, while it is paused: "manual" or "bounces"."""
    own_reason: Annotated[
        str | None, Sql("j.pause_reason", "j.pause_reason_code", "j.pause_reason_args", read=from_row)
    ] = None
    """Why it is paused, and what to do; None where a person did it."""
    warning: Annotated[
        str | None, Sql("j.bounce_warning", "j.bounce_warning_code", "j.bounce_warning_args", read=from_row)
    ] = None
    """Half of what pauses it has come back, in words."""
    braked_until: Annotated[
        datetime | None,
        Sql("IF(LEAST(j.braked_until, j.next_claim_at) > UTC_TIMESTAMP(6), j.braked_until, NULL)"),
    ] = None
    """Until when it waits, since what came back of it is read first."""
    outage: str = ""
    """How the database cannot be used, though it can be read, as `Database.outage` says it; "": it can."""
    metadata: Annotated[Mapping[str, str], Sql("j.metadata", read=read_metadata)] = field(default_factory=dict)
    tags: Annotated[Sequence[str], Sql(SELECT_TAGS, read=read_tags)] = ()

    @property
    def starts_in(self) -> float:
        """Seconds until `send_at`, by the database's clock; below zero: it has passed."""
        return (self.send_at - self.at).total_seconds()

    def per_minute(self, *, least: float) -> float | None:
        """Messages sent per minute, from its first one to its end or until now; None: for less than `least` seconds."""
        if self.took is None or self.took < least:
            return None
        return round(60 * self.counts[State.SENT] / self.took, 1)


_JOB: Final = Select(Job)
# One statement, so that status and counts are of one moment.
_READ_JOBS: Final = (
    f"SELECT {_JOB.columns}, j.id, c.status, c.number "
    "FROM jobs j LEFT JOIN senders s ON s.email = j.sender_email "
    "LEFT JOIN (SELECT job_id, status, COUNT(*) AS number FROM job_recipients WHERE job_id IN %s "
    "GROUP BY job_id, status) c ON c.job_id = j.id WHERE j.id IN %s"
)


@dataclass(frozen=True)
class JobFilter:
    """Which jobs are asked for; None means any."""

    status: JobStatus | None = None
    sender: str | None = None
    reference: str | None = None
    tag: str | None = None
    since: datetime | None = None
    """Aware: accepted at this time or later."""
    until: datetime | None = None
    """Aware: accepted before this time."""
    ids: Collection[str] | None = None

    def conditions(self) -> tuple[list[str], list[object]]:
        """The conditions in SQL, and their values."""
        given: dict[str, object] = {
            "j.status = %s": self.status and self.status.value,
            "j.from_address = %s": self.sender,
            "j.reference = %s": self.reference,
            "t.tag = %s": self.tag,
            "j.created_at >= %s": naive(self.since),
            "j.created_at < %s": naive(self.until),
            "j.id IN %s": None if self.ids is None else tuple(self.ids) or ("",),
        }
        found = {condition: value for condition, value in given.items() if value is not None}
        return list(found), list(found.values())


class StoredJob(NamedTuple):
    """A job that is stored; `recipient`: the id of its only one, where it is one message."""

    send_at: datetime
    recipient: int = 0


class Jobs:
    """Queries for jobs. `timeout`: seconds that the database gets for an answer."""

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
            return await self.database.request(lambda cursor: self._store(cursor, job), what="jobs.accept", bound=bound)
        except DatabaseError as error:
            if not error.in_doubt:
                raise
            found = await self._resolve_commit(job.id, doubt=error)
            if found is None:
                raise DatabaseAwayError(
                    error.what, phase="commit", cause=error, errno=error.errno, retry=True, in_doubt=False
                ) from error
            return found

    async def _store(self, cursor: Cursor, job: NewJob) -> "StoredJob":
        # Recipients first, the job next, its sender last: no claim sees an unfinished job, and the sender's row, which
        # every claim of that sender needs, is locked for the last moment only.
        # Each step has its own bound: a frozen server must show soon, in a big job too.
        async with asyncio.timeout(self.timeout):
            now: datetime = await cursor.fetch_value("SELECT UTC_TIMESTAMP(6)")
        earliest, recipient = max(now, naive(job.send_at) or now), 0
        due = naive(next(iter(job.due(utc(now)))))
        if job.once is not None:  # before anything else: of many that race with one key, one goes on and the rest wait
            async with asyncio.timeout(self.timeout):
                await claim_key(cursor, job.once, job_id=job.id, send_at=utc(due))
        # The driver's executemany would spell the shared values anew for each row: 9 µs a row instead of 3.
        extras = any(it.extras is not NO_EXTRAS or it.send_at for it in job.recipients)
        insert = messages.INSERT_WITH_EXTRAS if extras else messages.INSERT_RECIPIENTS
        each = cursor.mogrify(*((_ROW_WITH_EXTRAS, (job.id, now)) if extras else (_RECIPIENT_ROW, (job.id, due, now))))
        rows = (
            (insert + ", ".join([each] * len(batch)), list(chain.from_iterable(batch)))
            for batch in _batches(job.recipients, not_before=earliest if extras else None)
        )
        await cursor.execute_each(rows, bound=self.timeout)
        if job.type is JobType.MESSAGE:
            async with asyncio.timeout(self.timeout):
                recipient = await cursor.fetch_value(_FIND_ONLY_RECIPIENT, (job.id,))
                if job.once is not None:
                    await answer_key(cursor, job.once, send_at=utc(due), recipient=recipient)
        await store_attachments(cursor, job.attachments, job_id=job.id, bound=self.timeout)
        values = {
            "id": job.id, "type": job.type.value, "sender_email": job.sender_email, "from_email": job.from_email,
            "sender_name": job.sender_name, "reply_to": job.reply_to,
            "subject": job.subject, "html": job.html, "text": job.text,
            "variables": job.variables, **job.extras._asdict(),
            "template_name": job.template_name, "template_version": job.template_version,
            "inline_css": int(job.inline_css), "defaults": job.defaults, "attachments": len(job.attachments),
            "reference": job.reference, "priority": job.priority, "api_key_id": job.api_key_id,
            "list_id": job.list_id, "override_suppression": int(job.override_suppression),
            "on_bounces": job.on_bounces,
            "status": JobStatus.QUEUED.value, "total": len(job.recipients),
            "next_claim_at": due, "send_at": due, "created_at": now,
        }  # fmt: skip
        async with asyncio.timeout(self.timeout):
            for language in job.languages:
                await cursor.execute(_ADD_LANGUAGE, (job.id, *language))
            insert_job = job_changes.INSERT_JOB.format(
                columns=", ".join(values), places=", ".join(["%s"] * len(values))
            )
            await cursor.execute(insert_job, [*values.values()])
            if job.tags:
                await cursor.execute(*insert_many(INSERT_TAGS, [(tag, job.id) for tag in job.tags]))
            await cursor.execute(sender_changes.SCHEDULE, (job.sender_email, due, now, due, due))
        return StoredJob(utc(due), recipient)

    async def _resolve_commit(self, job_id: str, *, doubt: DatabaseError) -> "StoredJob | None":
        """Find out whether a COMMIT without an answer happened: the job, or None if it is not stored and will not be.

        The locking read waits for a transaction that is still being committed, so that "absent" is a proof.
        """
        until = time.monotonic() + RESOLVE_TIMEOUT
        while (left := until - time.monotonic()) > 0:
            try:
                rows = await self.database.read_rows(_FIND_IN_DOUBT, (job_id,), what="jobs.find_in_doubt", bound=left)
                return next((StoredJob(utc(send_at), int(recipient)) for send_at, recipient in rows), None)
            except DatabaseError as error:
                if not error.retry:
                    raise doubt from error
            await asyncio.sleep(0.05)
        raise doubt

    @request("jobs.read", read_only=True)
    async def job(self, cursor: Cursor, job_id: str) -> Job | None:
        """One job, or None."""
        return next(iter(await _read_jobs(cursor, [job_id], outage=self.database.outage)), None)

    async def seen_by(self, key: ApiKey | None, job_id: str) -> Job | None:
        """A job that a key may see, None: any; another's is as good as none, so that no answer shows its id."""
        job = await self.job(job_id) if ULID.fullmatch(job_id) else None
        return None if job is None or (key and not key.may_send(job.sender_email)) else job

    @request("jobs.list", read_only=True)
    async def newest(
        self,
        cursor: Cursor,
        *,
        before: str | None,
        limit: int,
        senders: Collection[str] | None,
        only: "JobFilter | None" = None,
        counted: int | None = None,
    ) -> list[Job]:
        """Jobs from the newest on, those before an id; `senders` None means those of all senders.

        `counted`: messages that may be counted for it; the jobs that are left over then have no counts.
        """
        where, values = only.conditions() if only else ([], [])
        tagged = only is not None and only.tag is not None
        start, id_ = (_OF_TAG, "t.job_id") if tagged else (_OF_ALL, "j.id")
        if before is not None:
            where.append(f"{id_} < %s")
            values.append(before)
        if senders is not None:
            where.append("j.from_address IN %s")
            values.append(tuple(senders) or ("",))  # the driver spells it as a list in brackets, never an empty one
        clause = f"WHERE {' AND '.join(where)} " if where else ""
        statement = f"SELECT j.id, j.total {start} {clause}ORDER BY {id_} DESC LIMIT %s"
        await cursor.execute(statement, (*values, limit))
        rows, outage = await cursor.fetchall(), self.database.outage
        return await _read_jobs(cursor, [job for job, _ in rows], uncounted=_uncounted(rows, counted), outage=outage)

    async def recipients(
        self, job_id: str, *, status: State | None, after: int, limit: int, email: str | None = None,
        result: Result | None = None, also: Statement = NO_CONDITION,
    ) -> list[Recipient]:  # fmt: skip
        """Recipients in the order of the request, those whose `index` is above `after`; `also`: another condition."""
        statement = recipients_statement(
            job_id, status=status, after=after, limit=limit, email=email, result=result, also=also
        )
        rows = await self.database.request_rows(*statement, what="recipients.list", bound=self.timeout)
        return [RECIPIENT.row(each) for each in rows]


def _batches(recipients: Iterable[NewRecipient], *, not_before: datetime | None) -> Iterator[list[tuple[object, ...]]]:
    """What the rows do not share, for one INSERT after the other; a packet of the server's would end a larger one.

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


def _uncounted(rows: Sequence[tuple[str, int]], most: int | None) -> set[str]:
    """The jobs whose messages are not counted, since together they are too many; the smallest are counted first."""
    ordered = sorted(rows, key=itemgetter(1))
    sums = accumulate(total for _, total in ordered)
    return {job for (job, _), total in zip(ordered, sums, strict=True) if most is not None and total > most}


async def _read_jobs(
    cursor: Cursor, ids: Sequence[str], *, uncounted: Collection[str] = (), outage: str = ""
) -> list[Job]:
    """These jobs, in this order; one that is missing is left out."""
    if not ids:
        return []
    await cursor.execute(_READ_JOBS, (tuple(it for it in ids if it not in uncounted) or ("",), tuple(ids)))
    counts: dict[str, dict[State, int]] = {job_id: dict.fromkeys(State, 0) for job_id in ids}
    rows: dict[str, Sequence[Any]] = {}
    for *row, job_id, status, number in await cursor.fetchall():
        rows[job_id] = row
        if status is not None:  # a job without recipients does not exist, but this must not be what says so
            counts[job_id][State(status)] = number
    return [_JOB.row(rows[it], counts=counts[it], outage=outage) for it in ids if it in rows]
