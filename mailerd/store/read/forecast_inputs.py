"""Reads what a forecast needs: jobs, the state of their senders, and the other jobs of these
senders.

Whatever is asked for many jobs costs the same few statements as for one.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import chain
from typing import Annotated, Any, Final

from mailerd.config import Live
from mailerd.core import rate_limit
from mailerd.core.copies import MAX_COST
from mailerd.core.failing_attempts import failing
from mailerd.core.forecast import ForecastInputs, LaterMessages, Queued
from mailerd.core.reading import UnresolvedSends, used_day
from mailerd.core.reasons import from_row
from mailerd.core.sender_state import SenderState
from mailerd.core.states import JobStatus, State
from mailerd.model.fields import Sql
from mailerd.store.db.connection import Cursor, naive, utc
from mailerd.store.db.database import Database
from mailerd.store.db.rows import Select
from mailerd.store.queue import rate_limits
from mailerd.store.queue.rate_limits import DefaultLimits
from mailerd.store.read.describe import Queue
from mailerd.store.read.history import HistoryReader, RecipientHistory
from mailerd.store.read.sender_rows import NEXT_COPIES, SENDER, Ask, authorizations

MAX_COUNTED_MESSAGES: Final = 100_000
"""The most messages of one job that are counted."""
_MAX_JOBS: Final = 200
"""The most jobs of a sender's queue that are read."""
_MAX_COUNTED_JOBS: Final = 1000
"""The most jobs whose messages are counted; for the others the size of the job is taken, which is
never too few.
"""

# The index has all that is asked of waiting messages; of unsure ones there are few.
# What waits for another attempt is due before that.
_IS_LATER: Final = "due_at > UTC_TIMESTAMP(6) + INTERVAL 1 HOUR"


def _whole(number: int | None) -> int:
    return int(number or 0)


def _share(share: float | None) -> float:
    return float(share or 0)


@dataclass(frozen=True)
class _JobRow:
    """A job, or what is like one that is not stored yet."""

    id: Annotated[str, Sql("j.id")]
    sender: Annotated[str, Sql("j.sender_email")]
    precedence: Annotated[int, Sql("j.precedence")]
    status: Annotated[JobStatus, Sql("j.status")]
    send_at: Annotated[
        datetime | None, Sql("GREATEST(j.send_at, COALESCE(j.next_claim_at, j.send_at))")
    ]
    """When it is claimed at the earliest."""
    waiting: Annotated[int, Sql("w.messages", read=_whole)]
    due: Annotated[datetime | None, Sql("w.due")] = None
    last_due: Annotated[datetime | None, Sql("w.last_due")] = None
    later: Annotated[int, Sql("w.later", read=_whole)] = 0
    later_due: Annotated[datetime | None, Sql("w.later_due")] = None
    unsure: Annotated[int, Sql("u.messages", read=_whole)] = 0
    manual: Annotated[int, Sql("u.manual", read=_whole)] = 0
    look_at: Annotated[datetime | None, Sql("u.look_at")] = None
    copies: Annotated[float, Sql("j.copies / j.total", read=_share)] = 0.0
    """What the copies of a message cost of the day, on average."""
    reason: Annotated[
        str | None,
        Sql("j.pause_reason", "j.pause_reason_code", "j.pause_reason_args", read=from_row),
    ] = None
    """Why it is paused, if not by a person."""
    braked_until: Annotated[
        datetime | None,
        Sql("IF(LEAST(j.braked_until, j.next_claim_at) > UTC_TIMESTAMP(6), j.braked_until, NULL)"),
    ] = None


_JOB: Final = Select(_JobRow)
_READ_JOBS: Final = f"""
SELECT {_JOB.columns}
  FROM jobs j
  LEFT JOIN (SELECT job_id, COUNT(*) AS messages, MIN(due_at) AS due, MAX(due_at) AS last_due,
                    SUM({_IS_LATER}) AS later, MIN(IF({_IS_LATER}, due_at, NULL)) AS later_due
               FROM job_recipients FORCE INDEX (claim)
              WHERE job_id IN %s AND status = 'waiting' GROUP BY job_id) w ON w.job_id = j.id
  LEFT JOIN (SELECT job_id, COUNT(*) AS messages, SUM(lease_until IS NULL) AS manual, MIN(lease_until) AS look_at
               FROM job_recipients FORCE INDEX (claim)
              WHERE job_id IN %s AND status = 'unsure' GROUP BY job_id) u ON u.job_id = j.id
 WHERE j.id IN %s AND j.finished_at IS NULL"""
_READ_FIRST: Final = """
(SELECT %s, copies, error, error_code, error_args FROM job_recipients FORCE INDEX (claim)
  WHERE job_id = %s AND status = 'waiting' ORDER BY due_at, id LIMIT 1)"""
_NEXT: Final = f"(SELECT %s, {NEXT_COPIES}, NULL, NULL, NULL)".format(mine="TRUE")
"""The same of the sender's jobs, in the same columns: what is claimed next."""
_READ_SENDERS: Final = (
    f"SELECT {SENDER.columns} FROM senders s FORCE INDEX (PRIMARY) WHERE email IN %s"
)
# As far back as the log of attempts is read for `mailerd top`; asked only where no limit tells the
# pace. A longer silence between two messages is a time in which there was nothing to send: it says
# nothing of the pace.
_MEASURE_GAPS: Final = """
SELECT sender_email, COUNT(*), SUM(gap) FROM
  (SELECT j.sender_email,
          TIMESTAMPDIFF(MICROSECOND, LAG(a.at) OVER (PARTITION BY j.sender_email ORDER BY a.at), a.at) AS gap
     FROM attempts a FORCE INDEX (at)
     STRAIGHT_JOIN job_recipients r FORCE INDEX (PRIMARY) ON r.id = a.recipient_id
     STRAIGHT_JOIN jobs j FORCE INDEX (PRIMARY) ON j.id = r.job_id
    WHERE a.at > UTC_TIMESTAMP(6) - INTERVAL 60 SECOND AND a.event = 'sent' AND j.sender_email IN %s) sent
 WHERE gap < 10000000 GROUP BY sender_email"""
_MIN_GAPS: Final = 4
"""The least number of gaps between messages that make a rate."""


@dataclass(frozen=True)
class _QueuedRow:
    """Another job of the sender that can be claimed."""

    sender: Annotated[str, Sql("sender_email")]
    id: Annotated[str, Sql("id")]
    precedence: Annotated[int, Sql("precedence")]
    next_claim_at: Annotated[datetime, Sql("next_claim_at")]
    status: Annotated[JobStatus, Sql("status")]
    total: Annotated[int, Sql("total")]
    last_due: Annotated[
        datetime | None,
        Sql("""(
         SELECT r.due_at FROM job_recipients r FORCE INDEX (claim) WHERE r.job_id = jobs.id AND r.status = 'waiting'
          ORDER BY r.job_id DESC, r.status DESC, r.due_at DESC, r.id DESC LIMIT 1)"""),
    ]
    copies: Annotated[float, Sql("copies / total", read=_share)]


_QUEUED: Final = Select(_QueuedRow)
_READ_QUEUE: Final = f"""
(SELECT {_QUEUED.columns} FROM jobs FORCE INDEX (next_claim)
  WHERE sender_email = %s AND claimable = 1 ORDER BY precedence, next_claim_at, id LIMIT %s)"""
_WAITING: Final = """
(SELECT %s, COUNT(*) FROM
  (SELECT 1 FROM job_recipients FORCE INDEX (claim)
    WHERE job_id = %s AND status = 'waiting' AND due_at <= %s LIMIT %s) waiting)"""


_LATER: Final = timedelta(hours=1)
"""What another job sends so long after the last message of this one is due goes behind it."""


@dataclass(frozen=True)
class KnownSender:
    """What the row of a sender tells."""

    state: SenderState
    hours: Mapping[datetime, int]
    """What its day counts by clock hour."""
    turn: datetime | None
    """When the next claim considers it."""


@dataclass(frozen=True)
class ForecastReader:
    """The reader; `timeout` is what the database gets for an answer, in seconds."""

    database: Database
    defaults: Live[DefaultLimits]
    timeout: float
    authorization: Ask = None

    async def read(self, job: str) -> ForecastInputs | None:
        """What is known; None for a job that does not exist or has ended."""
        return (await self.read_all([job])).get(job)

    async def read_all(self, jobs: Sequence[str]) -> dict[str, ForecastInputs]:
        """What is known of each; nothing of those that are not there or have ended."""

        async def work(cursor: Cursor) -> dict[str, ForecastInputs]:
            ids = tuple(jobs)
            await cursor.execute(_READ_JOBS, (ids, ids, ids))
            found = [_JOB.row(row) for row in await cursor.fetchall()]
            return await self._inputs(cursor, found) if found else {}

        return await self._ask(work) if jobs else {}

    async def for_new_job(
        self, sender: str, *, priority: int, messages: int, due: Mapping[datetime, int], copies: int
    ) -> ForecastInputs:
        """What there would be to know of a job, if it were accepted now.

        `due`: how many of its messages are due at which time, the first ones first. `copies`: what
        all of them cost of the day.
        """
        first, last = min(due), max(due)
        later = {at: number for at, number in due.items() if at > first + _LATER}

        async def work(cursor: Cursor) -> dict[str, ForecastInputs]:
            job = _JobRow(
                id="",
                sender=sender,
                precedence=-priority,
                send_at=first,
                status=JobStatus.QUEUED,
                waiting=messages,
                last_due=last,
                later=sum(later.values()),
                later_due=min(later, default=None),
                copies=copies / max(1, messages),
            )
            return await self._inputs(cursor, [job])

        found = (await self._ask(work))[""]
        # As accepting it would (`_SCHEDULE_SENDER` in jobs.py): a sender that has nothing else to
        # do now has it then.
        return replace(
            found, next_claim_at=found.next_claim_at and min(found.next_claim_at, found.due)
        )

    async def _ask(
        self, work: Callable[[Cursor], Awaitable[dict[str, ForecastInputs]]]
    ) -> dict[str, ForecastInputs]:
        found = await self.database.request(
            work, what="forecast.read", bound=self.timeout, read_only=True
        )
        known = await authorizations(self.authorization, {it.sender.email for it in found.values()})
        return {
            id_: replace(it, authorization=known[it.sender.email])
            if it.sender.email in known
            else it
            for id_, it in found.items()
        }

    async def _inputs(self, cursor: Cursor, jobs: Sequence[_JobRow]) -> dict[str, ForecastInputs]:
        known = await self._senders(cursor, tuple(sorted({job.sender for job in jobs})))
        # A job that has not begun has no attempt behind it; what its first message costs is asked
        # where it has copies.
        asked = [
            job.id
            for job in jobs
            if job.id and job.waiting and (job.status != JobStatus.QUEUED or job.copies)
        ]
        first, costs = await _first(cursor, asked, known)
        states = {email: it.state for email, it in known.items()}
        measured, tried = (
            await _measured(cursor, states),
            await rate_limits.read_attempts(cursor, tuple(states)),
        )
        found = {}
        for job in jobs:
            it = known[job.sender]
            begins = (it.state.now, job.send_at, job.due, job.braked_until)
            cost, error = first.get(job.id, (1, None))
            later = job.later_due if job.later < job.waiting else None
            found[job.id] = ForecastInputs(
                sender=it.state,
                messages=job.waiting,
                due=max(it for it in begins if it),
                copies=job.copies,
                first_cost=cost,
                next_cost=costs.get(job.sender, 1),
                last_due=job.last_due,
                later=LaterMessages(job.later, later) if job.later and later else None,
                error=error,
                unresolved=UnresolvedSends(job.unsure, job.manual, job.look_at)
                if job.unsure
                else None,
                job_paused=job.status == JobStatus.PAUSED,
                job_reason=job.reason,
                braked_until=job.braked_until,
                next_claim_at=it.turn,
                hours=it.hours,
                measured=measured.get(job.sender, 0.0),
                failing=failing(tried.get(job.sender, [])),
                outage=self.database.outage,
            )
        return await _with_queues(cursor, found, {job.id: job.precedence for job in jobs})

    async def _senders(self, cursor: Cursor, senders: Sequence[str]) -> dict[str, KnownSender]:
        defaults = self.defaults.now
        await cursor.execute(_READ_SENDERS, (senders,))
        rows = map(SENDER.row, await cursor.fetchall())
        found = {it.email: KnownSender(it.state(defaults), it.hours, it.turn) for it in rows}
        # the sender's first job, which is not stored yet
        if missing := set(senders) - found.keys():
            now = await cursor.fetch_value("SELECT UTC_TIMESTAMP(6)")
            for it in missing:
                state = rate_limits.default_state(it, now=utc(now), defaults=defaults)
                found[it] = KnownSender(state, {}, None)
        return found


_FIRST_COPIES: Final = """(
  SELECT (SELECT r.copies FROM job_recipients r FORCE INDEX (claim)
           WHERE r.job_id = f.id AND r.status = 'waiting' ORDER BY r.job_id, r.status, r.due_at, r.id LIMIT 1)
    FROM jobs f FORCE INDEX (next_claim)
   WHERE f.sender_email = %s AND f.claimable = 1 ORDER BY precedence, next_claim_at, id LIMIT 1)"""


@dataclass(frozen=True)
class WaitingMessages:
    """The messages of a sender's jobs that wait, as far as they were counted."""

    email: Annotated[str, Sql("%s")]
    copies: Annotated[int | None, Sql(_FIRST_COPIES)]
    """What those of the next one cost of the day, beside the one of the message."""
    number: Annotated[int, Sql("COUNT(*)")]
    due: Annotated[datetime | None, Sql("MIN(due)")]
    """When the first of them is due; None: none waits."""
    last_due: Annotated[datetime | None, Sql("MAX(due)")]
    own_due: Annotated[datetime | None, Sql("MIN(own_due)")]
    """The same as `due`, were nothing that bounced read first."""

    def braked_until(self, now: datetime) -> datetime | None:
        """Until when all of them wait, though some are due: what bounced of their jobs is read
        first.
        """
        return self.due if self.due and self.own_due and self.own_due <= now < self.due else None


async def of_senders(
    cursor: Cursor,
    known: Mapping[str, KnownSender],
    *,
    waiting: Mapping[str, WaitingMessages],
    most: int,
    outage: str,
) -> dict[str, ForecastInputs]:
    """What is known of all that waits of each sender, as if it were one job.

    `most`: so many messages were counted.
    """
    states = {email: it.state for email, it in known.items()}
    measured, tried = (
        await _measured(cursor, states),
        await rate_limits.read_attempts(cursor, tuple(states)),
    )
    found = {}
    for email, it in known.items():
        its, now = waiting[email], it.state.now
        cost = 1 + (its.copies or 0)
        found[email] = ForecastInputs(
            sender=it.state,
            messages=its.number,
            due=max(now, its.due or now),
            first_cost=cost,
            next_cost=cost if its.due and its.due <= now else 1,
            last_due=its.last_due,
            braked_until=its.braked_until(now),
            next_claim_at=it.turn,
            hours=it.hours,
            measured=measured.get(email, 0.0),
            failing=failing(tried.get(email, [])),
            outage=outage,
            queue_cut_off=its.number >= most,
            all_of_sender=True,
        )
    return found


async def _union(cursor: Cursor, select: str, values: Sequence[Sequence[object]]) -> Sequence[Any]:
    """The rows of a SELECT for each of these values, in one round trip."""
    if not values:
        return []
    await cursor.execute(
        " UNION ALL ".join([select] * len(values)), [value for each in values for value in each]
    )
    return await cursor.fetchall()


async def _first(
    cursor: Cursor, jobs: Sequence[str], known: Mapping[str, KnownSender]
) -> tuple[dict[str, tuple[int, str | None]], dict[str, int]]:
    """Of each job what the message that is due first costs, and its error; of senders what their
    next one costs.

    That is asked where the day has little room.
    """
    tight = [
        email
        for email, it in known.items()
        if 0 < it.state.allowance.per_day - used_day(it.hours, it.state.now) < MAX_COST
    ]
    if not (jobs or tight):
        return {}, {}
    parts = [_READ_FIRST] * len(jobs) + [_NEXT] * len(tight)
    await cursor.execute(
        " UNION ALL ".join(parts), [value for it in (*jobs, *tight) for value in (it, it)]
    )
    rows = {
        id_: (1 + int(copies), from_row(*error)) for id_, copies, *error in await cursor.fetchall()
    }
    return rows, {email: rows.pop(email)[0] for email in tight if email in rows}


async def _measured(cursor: Cursor, senders: Mapping[str, SenderState]) -> dict[str, float]:
    """Messages a minute of the last minute, of those whose limits do not tell it."""
    free = tuple(
        it.email
        for it in senders.values()
        if not (rate_limit.rate(it.allowance) or it.limits.min_gap)
    )
    if not free:
        return {}
    await cursor.execute(_MEASURE_GAPS, (free,))
    return {
        sender: gaps * 60e6 / max(1, int(micros))
        for sender, gaps, micros in await cursor.fetchall()
        if gaps >= _MIN_GAPS
    }


async def _with_queues(
    cursor: Cursor, found: Mapping[str, ForecastInputs], precedences: Mapping[str, int]
) -> dict[str, ForecastInputs]:
    """The same with the sender's other jobs."""
    senders = sorted({it.sender.email for it in found.values()})
    queues: dict[str, list[_QueuedRow]] = {sender: [] for sender in senders}
    for row in await _union(cursor, _READ_QUEUE, [(it, _MAX_JOBS + 1) for it in senders]):
        job = _QUEUED.row(row)
        queues[job.sender].append(job)
    others = {
        id_: _others(
            it,
            [job for job in queues[it.sender.email] if job.id != id_],
            precedence=precedences[id_],
        )
        for id_, it in found.items()
    }
    most: dict[str, int] = {}
    until = max(max(it.due, it.last_due or it.due) for it in found.values()) + _LATER
    for job, queued in chain.from_iterable(others.values()):
        # Of one that has not begun all messages wait.
        if job.status == JobStatus.SENDING or (
            job.last_due and job.last_due > max(queued.due, until)
        ):
            most[job.id] = max(queued.messages, most.get(job.id, 0))
    asked = [(it, it, naive(until), most[it]) for it in list(most)[:_MAX_COUNTED_JOBS]]
    counted = dict(await _union(cursor, _WAITING, asked))
    return {
        id_: replace(
            it,
            queue=tuple(
                replace(
                    queued, messages=min(queued.messages, counted.get(other.id, queued.messages))
                )
                for other, queued in others[id_]
            ),
            queue_cut_off=_is_cut_off(
                id_,
                it,
                [job.id for job in queues[it.sender.email] if job.precedence <= precedences[id_]],
            ),
        )
        for id_, it in found.items()
    }


def _others(
    it: ForecastInputs, jobs: Iterable[_QueuedRow], *, precedence: int
) -> list[tuple[_QueuedRow, Queued]]:
    """Those of a sender's other jobs of which messages can go before its last one."""
    found = []
    for job in jobs:
        order, due = job.precedence - precedence, job.next_claim_at
        if limit := _limit(it, order, due):
            found.append((job, Queued(min(job.total, limit), order, due, job.copies)))
    return found


def _limit(it: ForecastInputs, order: int, due: datetime) -> int:
    """How many messages of another job can go before the last one of this job."""
    if order < 0 or (it.due > it.now and due < it.due):
        return MAX_COUNTED_MESSAGES
    return 0 if order else it.messages


def _is_cut_off(id_: str, it: ForecastInputs, before: Sequence[str]) -> bool:
    """Whether jobs that were not read may go before its last message: they stand behind all that go
    before or with it.

    A single message goes at its own turn, whatever stands behind it.
    """
    return len(before) > _MAX_JOBS and not (it.messages == 1 and id_ in before)


async def read_queue(
    found: Sequence[RecipientHistory],
    *,
    history: HistoryReader,
    forecasts: ForecastReader,
    outage: str = "",
    runs: bool = False,
) -> Queue:
    """What those of the messages that wait have before them; `outage` and `runs` as in `Queue`."""
    waiting = [story for story in found if story.status is State.WAITING]
    return Queue(
        before={story.id: await history.queued_before(story) for story in waiting},
        outlooks=await forecasts.read_all(list(dict.fromkeys(story.job_id for story in waiting))),
        daemons=await history.daemons(),
        suppressed=await history.suppressed(waiting),
        outage=outage,
        runs=runs,
    )
