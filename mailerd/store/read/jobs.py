"""Jobs as they are shown: each with the counts of its recipients, as of one moment."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import accumulate
from operator import itemgetter
from typing import Annotated, Any, Final

from mailerd.clock import ULID
from mailerd.core.extras import read_metadata
from mailerd.core.reasons import from_row
from mailerd.core.results import Result
from mailerd.core.states import JobStatus, State
from mailerd.core.stats import SenderStats
from mailerd.model.fields import Sql
from mailerd.store.db.connection import Cursor, Statement, naive
from mailerd.store.db.database import Database, request
from mailerd.store.db.rows import Select
from mailerd.store.read import sender_rows
from mailerd.store.read.recipients import NO_CONDITION, RECIPIENT, Recipient, recipients_statement
from mailerd.store.write import messages
from mailerd.store.write.api_keys import ApiKey
from mailerd.store.write.tags import SELECT_TAGS, read_tags

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
        Sql(
            "TIMESTAMPDIFF(MICROSECOND, j.started_at, COALESCE(j.finished_at, UTC_TIMESTAMP(6)))",
            read=_some_seconds,
        ),
    ]
    """Seconds from its first message to its end, or until now."""
    counts: Mapping[State, int]
    bounced: Annotated[int, Sql("j.bounced")] = 0
    """How many of its sent messages came back."""
    replied: Annotated[int, Sql("j.replied")] = 0
    """How many of its sent messages a person has answered."""
    deferred_until: Annotated[
        datetime | None, Sql("IF(j.next_claim_at > UTC_TIMESTAMP(6), j.next_claim_at, NULL)")
    ] = None
    """When the first of its messages that wait is due; None: that is past."""
    tried: Annotated[bool, Sql(messages.NEXT_WAS_TRIED)] = False
    """That message has been tried before."""
    on_bounces: Annotated[str, Sql("j.on_bounces")] = "pause"
    """Whether it is paused where too much of it comes back: "pause" or "go_on"."""
    own_pause: Annotated[str | None, Sql("j.pause_cause")] = None
    """The cause of its own pause, while it is paused: "manual" or "bounces"."""
    own_reason: Annotated[
        str | None,
        Sql("j.pause_reason", "j.pause_reason_code", "j.pause_reason_args", read=from_row),
    ] = None
    """Why it is paused, and what to do; None where a person did it."""
    warning: Annotated[
        str | None,
        Sql("j.bounce_warning", "j.bounce_warning_code", "j.bounce_warning_args", read=from_row),
    ] = None
    """Half of what pauses it has come back, in words."""
    braked_until: Annotated[
        datetime | None,
        Sql("IF(LEAST(j.braked_until, j.next_claim_at) > UTC_TIMESTAMP(6), j.braked_until, NULL)"),
    ] = None
    """Until when it waits, since what came back of it is read first."""
    outage: str = ""
    """How the database cannot be used, though it can be read, as `Database.outage` says it; "": it
    can.
    """
    metadata: Annotated[Mapping[str, str], Sql("j.metadata", read=read_metadata)] = field(
        default_factory=dict
    )
    tags: Annotated[Sequence[str], Sql(SELECT_TAGS, read=read_tags)] = ()

    @property
    def starts_in(self) -> float:
        """Seconds until `send_at`, by the database's clock; below zero: it has passed."""
        return (self.send_at - self.at).total_seconds()

    def per_minute(self, *, least: float) -> float | None:
        """Messages sent per minute, from its first one to its end or until now; None: for less than
        `least` seconds.
        """
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


class Jobs:
    """Queries for jobs. `timeout`: seconds that the database gets for an answer."""

    def __init__(self, database: Database, *, timeout: float) -> None:
        self.database = database
        self.timeout = timeout

    @request("jobs.read", read_only=True)
    async def job(self, cursor: Cursor, job_id: str) -> Job | None:
        """One job, or None."""
        return next(iter(await _read_jobs(cursor, [job_id], outage=self.database.outage)), None)

    async def seen_by(self, key: ApiKey | None, job_id: str) -> Job | None:
        """A job that a key may see, None: any; another's is as good as none, so that no answer
        shows its id.
        """
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

        `counted`: messages that may be counted for it; the jobs that are left over then have no
        counts.
        """
        where, values = only.conditions() if only else ([], [])
        tagged = only is not None and only.tag is not None
        start, id_ = (_OF_TAG, "t.job_id") if tagged else (_OF_ALL, "j.id")
        if before is not None:
            where.append(f"{id_} < %s")
            values.append(before)
        if senders is not None:
            where.append("j.from_address IN %s")
            # the driver spells it as a list in brackets, never an empty one
            values.append(tuple(senders) or ("",))
        clause = f"WHERE {' AND '.join(where)} " if where else ""
        statement = f"SELECT j.id, j.total {start} {clause}ORDER BY {id_} DESC LIMIT %s"
        await cursor.execute(statement, (*values, limit))
        rows, outage = await cursor.fetchall(), self.database.outage
        return await _read_jobs(
            cursor, [job for job, _ in rows], uncounted=_uncounted(rows, counted), outage=outage
        )

    async def recipients(
        self,
        job_id: str,
        *,
        status: State | None,
        after: int,
        limit: int,
        email: str | None = None,
        result: Result | None = None,
        also: Statement = NO_CONDITION,
    ) -> list[Recipient]:
        """Recipients in the order of the request, those whose `index` is above `after`; `also`:
        another condition.
        """
        statement = recipients_statement(
            job_id, status=status, after=after, limit=limit, email=email, result=result, also=also
        )
        rows = await self.database.request_rows(
            *statement, what="recipients.list", bound=self.timeout
        )
        return [RECIPIENT.row(each) for each in rows]


def _uncounted(rows: Sequence[tuple[str, int]], most: int | None) -> set[str]:
    """The jobs whose messages are not counted, since together they are too many; the smallest are
    counted first.
    """
    ordered = sorted(rows, key=itemgetter(1))
    sums = accumulate(total for _, total in ordered)
    return {
        job
        for (job, _), total in zip(ordered, sums, strict=True)
        if most is not None and total > most
    }


async def _read_jobs(
    cursor: Cursor, ids: Sequence[str], *, uncounted: Collection[str] = (), outage: str = ""
) -> list[Job]:
    """These jobs, in this order; one that is missing is left out."""
    if not ids:
        return []
    await cursor.execute(
        _READ_JOBS, (tuple(it for it in ids if it not in uncounted) or ("",), tuple(ids))
    )
    counts: dict[str, dict[State, int]] = {job_id: dict.fromkeys(State, 0) for job_id in ids}
    rows: dict[str, Sequence[Any]] = {}
    for *row, job_id, status, number in await cursor.fetchall():
        rows[job_id] = row
        # a job without recipients does not exist, but this must not be what says so
        if status is not None:
            counts[job_id][State(status)] = number
    return [_JOB.row(rows[it], counts=counts[it], outage=outage) for it in ids if it in rows]
