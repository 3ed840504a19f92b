"""A job's rows: the one transaction that accepts it, and what can be read of jobs and recipients afterwards."""

import asyncio
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import accumulate, chain
from typing import Any, Final

from mailerd.clock import ULID
from mailerd.core.fates import Fate
from mailerd.core.pauses import repair
from mailerd.core.states import JobStatus, State
from mailerd.errors import DatabaseAwayError, DatabaseError
from mailerd.store.api_keys import ApiKey
from mailerd.store.db.cursor import Cursor
from mailerd.store.db.database import Database
from mailerd.store.db.times import naive, utc
from mailerd.store.idempotency import claim_key
from mailerd.store.job_content import store_attachments
from mailerd.store.new_job import NewJob, NewRecipient
from mailerd.store.recipients import Recipient, recipient_of, recipients_statement

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

_ADD_RECIPIENTS: Final = (
    "INSERT INTO job_recipients (job_id, seq, to_email, to_name, variables, status, error, due_at, updated_at) VALUES "
)
_RECIPIENT_ROW: Final = "(%s, %%s, %%s, %%s, %%s, %%s, %%s, %s, %s)"
"""A row of them, once what all rows share is put in: there is no % in a job's id."""
_ADD_JOB: Final = (
    "INSERT INTO jobs (id, type, sender_email, sender_name, reply_to, subject, html, text, variables, reference, "
    "priority, status, total, next_claim_at, api_key_id, send_at, created_at, from_email, template_name, "
    "template_version, inline_css, attachments, list_id, override_suppression, on_bounces) "
    "VALUES (%s, 'template', %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, "
    "%s)"
)
_ADD_LANGUAGE: Final = "INSERT INTO job_templates (job_id, language, subject, html, text) VALUES (%s, %s, %s, %s, %s)"
_SCHEDULE_SENDER: Final = (
    "INSERT INTO senders (email, next_claim_at, created_at) VALUES (%s, %s, %s) "
    "ON DUPLICATE KEY UPDATE next_claim_at = LEAST(COALESCE(next_claim_at, %s), %s)"
)
# One statement, so that status and counts are of one moment.
_READ_JOBS: Final = (
    "SELECT j.id, j.type, j.from_address, j.reference, j.priority, j.status, j.total, "
    "j.created_at, j.send_at, j.started_at, j.finished_at, "
    "IF(s.paused_until > UTC_TIMESTAMP(6), s.paused_until, NULL), s.pause_reason, "
    "j.send_at > UTC_TIMESTAMP(6), j.template_name, j.template_version, "
    "TIMESTAMPDIFF(MICROSECOND, j.started_at, COALESCE(j.finished_at, UTC_TIMESTAMP(6))), c.status, c.number, "
    "s.email, s.pause_cause, s.paused_until, UTC_TIMESTAMP(6), j.bounced, j.replied, "
    "j.next_claim_at > UTC_TIMESTAMP(6), s.next_claim_at > UTC_TIMESTAMP(6) + INTERVAL 1 MINUTE, "
    "j.on_bounces, j.pause_cause, j.pause_reason, j.bounce_warning, "
    "IF(LEAST(j.braked_until, j.next_claim_at) > UTC_TIMESTAMP(6), j.braked_until, NULL) "
    "FROM jobs j LEFT JOIN senders s ON s.email = j.sender_email "
    "LEFT JOIN (SELECT job_id, status, COUNT(*) AS number FROM job_recipients WHERE job_id IN %s "
    "GROUP BY job_id, status) c ON c.job_id = j.id WHERE j.id IN %s"
)


@dataclass(frozen=True)
class Job:
    """A job and the counts of its recipients, as of one moment."""

    id: str
    type: str
    sender_email: str
    """The sender as it was posted: the mailbox, or an alias of it."""
    reference: str | None
    priority: int
    status: JobStatus
    total: int
    created_at: datetime
    send_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    paused_until: datetime | None
    """The end of the sender's pause, if it is not over yet."""
    pause_reason: str | None
    repair: str | None
    """What a person has to do before a letter of its sender can go; None: nothing."""
    early: bool
    """`send_at` is still to come, by the database's clock."""
    template_name: str | None
    template_version: str | None
    took: float | None
    """Seconds from its first letter to its end, or until now."""
    counts: Mapping[State, int]
    bounced: int = 0
    """How many of its sent letters came back."""
    replied: int = 0
    """How many of its sent letters a person has answered."""
    deferred: bool = False
    """The first of its letters that wait is due later."""
    limited: bool = False
    """The next turn of its sender is more than a minute away."""
    on_bounces: str = "pause"
    """Whether it is paused where too much of it comes back: "pause" or "go_on"."""
    own_pause: str | None = None
    """The cause of its own pause, while it is paused: "manual" or "bounces"."""
    own_reason: str | None = None
    """Why it is paused, and what to do; None where a person did it."""
    warning: str | None = None
    """Half of what pauses it has come back, in words."""
    braked_until: datetime | None = None
    """Until when it waits, since what came back of it is read first."""


@dataclass(frozen=True)
class JobFilter:
    """Which jobs are asked for; None means any."""

    status: JobStatus | None = None
    sender: str | None = None
    reference: str | None = None
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
            "j.created_at >= %s": naive(self.since),
            "j.created_at < %s": naive(self.until),
            "j.id IN %s": None if self.ids is None else tuple(self.ids) or ("",),
        }
        found = {condition: value for condition, value in given.items() if value is not None}
        return list(found), list(found.values())


class Jobs:
    """Queries for jobs. `timeout`: seconds that the database gets for an answer."""

    def __init__(self, database: Database, *, timeout: float) -> None:
        self._database = database
        self._timeout = timeout

    async def accept(self, job: NewJob) -> datetime:
        """Store a job whole or not at all; returns, once it is durable, the moment from which it is sent.

        Raises:
            DatabaseError: it was not stored; if `in_doubt` is set, it may have been.
            DuplicateKeyError: its idempotency key is used up; it was not stored.
        """
        try:
            attached = sum(len(each.content) for each in job.attachments) / BYTES_PER_SECOND
            bound = self._timeout + len(job.recipients) / ROWS_PER_SECOND + attached
            return await self._database.request(
                lambda cursor: self._store(cursor, job), what="accept a job", bound=bound
            )
        except DatabaseError as error:
            if not error.in_doubt:
                raise
            found = await self._resolve_commit(job.id, doubt=error)
            if found is None:
                raise DatabaseAwayError(
                    error.what, phase="commit", cause=error, errno=error.errno, retry=True, in_doubt=False
                ) from error
            return found

    async def _store(self, cursor: Cursor, job: NewJob) -> datetime:
        # Recipients first, the job next, its sender last: no claim sees an unfinished job, and the sender's row, which
        # every claim of that sender needs, is locked for the last moment only.
        # Each step has its own bound: a frozen server must show soon, in a big job too.
        async with asyncio.timeout(self._timeout):
            await cursor.execute("SELECT UTC_TIMESTAMP(6)")
            now: datetime = (await cursor.fetchone())[0]
        due = now if job.send_at is None else max(now, naive(job.send_at))
        if job.once is not None:  # before anything else: of many that race with one key, one goes on and the rest wait
            async with asyncio.timeout(self._timeout):
                await claim_key(cursor, job.once, job_id=job.id, send_at=utc(due))
        # The driver's executemany would spell the shared values anew for each row: 9 µs a row instead of 3.
        each = cursor.mogrify(_RECIPIENT_ROW, (job.id, due, now))
        rows = (
            (_ADD_RECIPIENTS + ", ".join([each] * len(batch)), list(chain.from_iterable(batch)))
            for batch in _batches(job.recipients)
        )
        await cursor.execute_each(rows, bound=self._timeout)
        await store_attachments(cursor, job.attachments, job_id=job.id, bound=self._timeout)
        row = (
            job.id, job.sender_email, job.sender_name, job.reply_to, job.subject, job.html, job.text, job.variables,
            job.reference, job.priority, JobStatus.QUEUED.value, len(job.recipients), due, job.api_key_id, due, now,
            job.from_email, job.template_name, job.template_version, int(job.inline_css), len(job.attachments),
            job.list_id, int(job.override_suppression), job.on_bounces,
        )  # fmt: skip
        async with asyncio.timeout(self._timeout):
            for language in job.languages:
                await cursor.execute(_ADD_LANGUAGE, (job.id, *language))
            await cursor.execute(_ADD_JOB, row)
            await cursor.execute(_SCHEDULE_SENDER, (job.sender_email, due, now, due, due))
        return utc(due)

    async def _resolve_commit(self, job_id: str, *, doubt: DatabaseError) -> datetime | None:
        """Find out whether a COMMIT without an answer happened: the job, or None if it is not stored and will not be.

        The locking read waits for a transaction that is still being committed, so that "absent" is a proof.
        """
        statement, what = "SELECT send_at FROM jobs WHERE id = %s FOR UPDATE", "look for a job in doubt"
        until = time.monotonic() + RESOLVE_TIMEOUT
        while (left := until - time.monotonic()) > 0:
            try:
                rows = await self._database.read_rows(statement, (job_id,), what=what, bound=left)
                return utc(rows[0][0]) if rows else None
            except DatabaseError as error:
                if not error.retry:
                    raise doubt from error
            await asyncio.sleep(0.05)
        raise doubt

    async def job(self, job_id: str) -> Job | None:
        """One job, or None."""
        found = await self._database.request(
            lambda cursor: _read_jobs(cursor, [job_id]), what="read a job", bound=self._timeout, read_only=True
        )
        return found[0] if found else None

    async def seen_by(self, key: ApiKey, job_id: str) -> Job | None:
        """A job that a key may see; another tenant's job is as good as none, so that no answer shows its id."""
        job = await self.job(job_id) if ULID.fullmatch(job_id) else None
        return None if job is None or not key.may_send(job.sender_email) else job

    async def newest(
        self,
        *,
        before: str | None,
        limit: int,
        senders: Collection[str] | None,
        only: "JobFilter | None" = None,
        counted: int | None = None,
    ) -> list[Job]:
        """Jobs from the newest on, those before an id; `senders` None means those of all senders.

        `counted`: letters that may be counted for it; the jobs that are left over then have no counts.
        """
        where, values = only.conditions() if only else ([], [])
        if before is not None:
            where.append("j.id < %s")
            values.append(before)
        if senders is not None:
            where.append("j.from_address IN %s")
            values.append(tuple(senders) or ("",))  # the driver spells it as a list in brackets, never an empty one

        async def work(cursor: Cursor) -> list[Job]:
            clause = f"WHERE {' AND '.join(where)} " if where else ""
            statement = f"SELECT j.id, j.total FROM jobs j {clause}ORDER BY j.id DESC LIMIT %s"
            await cursor.execute(statement, (*values, limit))
            rows = list(await cursor.fetchall())
            return await _read_jobs(cursor, [row[0] for row in rows], uncounted=_uncounted(rows, counted))

        return await self._database.request(work, what="list jobs", bound=self._timeout, read_only=True)

    async def recipients(
        self,
        job_id: str,
        *,
        status: State | None,
        after: int,
        limit: int,
        email: str | None = None,
        fate: Fate | None = None,
    ) -> list[Recipient]:
        """Recipients in the order of the request, those whose `seq` is above `after`."""
        statement = recipients_statement(job_id, status=status, after=after, limit=limit, email=email, fate=fate)
        rows = await self._database.request_rows(*statement, what="read recipients", bound=self._timeout)
        return [recipient_of(row) for row in rows]


def _batches(recipients: Iterable[NewRecipient]) -> Iterator[list[tuple[object, ...]]]:
    """What the rows do not share, for one INSERT after the other; a packet of the server's would end a larger one."""
    waiting, failed, cancelled = State.WAITING.value, State.FAILED.value, State.CANCELLED.value
    batch: list[tuple[object, ...]] = []
    size = 0
    for seq, (email, name, variables, error, suppressed) in enumerate(recipients):
        more = len(email) + len(name or "") + len(variables or "") + len(error or "")
        if len(batch) == ROWS_PER_STATEMENT or (batch and size + more > CHARACTERS_PER_STATEMENT):
            yield batch
            batch, size = [], 0
        status = cancelled if suppressed else failed if error else waiting
        batch.append((seq, email, name, variables, status, error))
        size += more
    if batch:
        yield batch


def _uncounted(rows: Sequence[tuple[str, int]], most: int | None) -> set[str]:
    """The jobs whose letters are not counted, since together they are too many; the smallest are counted first."""
    ordered = sorted(rows, key=lambda row: row[1])
    sums = accumulate(total for _, total in ordered)
    return {row[0] for row, total in zip(ordered, sums, strict=True) if most is not None and total > most}


async def _read_jobs(cursor: Cursor, ids: Sequence[str], *, uncounted: Collection[str] = ()) -> list[Job]:
    """These jobs, in this order; one that is missing is left out."""
    if not ids:
        return []
    await cursor.execute(_READ_JOBS, (tuple(it for it in ids if it not in uncounted) or ("",), tuple(ids)))
    counts: dict[str, dict[State, int]] = {job_id: dict.fromkeys(State, 0) for job_id in ids}
    rows = {}
    for row in await cursor.fetchall():
        rows[row[0]] = row
        if row[17] is not None:  # a job without recipients does not exist, but this must not be what says so
            counts[row[0]][State(row[17])] = row[18]
    return [_job(rows[job_id], counts[job_id]) for job_id in ids if job_id in rows]


def _job(row: tuple[Any, ...], counts: Mapping[State, int]) -> Job:
    return Job(
        id=row[0],
        type=row[1],
        sender_email=row[2],
        reference=row[3],
        priority=row[4],
        status=JobStatus(row[5]),
        total=row[6],
        created_at=utc(row[7]),
        send_at=utc(row[8]),
        started_at=utc(row[9]),
        finished_at=utc(row[10]),
        paused_until=utc(row[11]),
        pause_reason=row[12],
        repair=repair(row[20], utc(row[21]), sender=row[19] or row[2], now=utc(row[22])),
        early=bool(row[13]),
        template_name=row[14],
        template_version=row[15],
        took=None if row[16] is None else row[16] / 1e6,
        counts=counts,
        bounced=row[23],
        replied=row[24],
        deferred=bool(row[25]),
        limited=bool(row[26]),
        on_bounces=row[27],
        own_pause=row[28],
        own_reason=row[29],
        warning=row[30],
        braked_until=utc(row[31]),
    )
