"""Reads what a forecast needs: jobs, the state of their senders, and the other jobs of these senders.

Whatever is asked for many jobs costs the same few statements as for one.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import chain
from typing import Any, Final, NamedTuple

from mailerd.config import Live
from mailerd.core import rate_limit
from mailerd.core.forecast import ForecastInputs, LaterMessages, Queued, UnresolvedSends
from mailerd.core.models import SenderState, failing
from mailerd.core.reasons import from_row
from mailerd.core.states import JobStatus, State
from mailerd.store.db.connection import Cursor, naive, utc
from mailerd.store.db.database import Database
from mailerd.store.describe import Queue
from mailerd.store.history import HistoryReader, RecipientHistory
from mailerd.store.queue import rate_limits
from mailerd.store.queue.rate_limits import COLUMNS, DefaultLimits

MAX_COUNTED_MESSAGES: Final = 100_000
"""The most messages of one job that are counted."""
_MAX_JOBS: Final = 200
"""The most jobs of a sender's queue that are read."""
_MAX_COUNTED_JOBS: Final = 1000
"""The most jobs whose messages are counted; for the others the size of the job is taken, which is never too few."""

# The index has all that is asked of waiting messages; of unsure ones there are few.
# What waits for another attempt is due before that.
_IS_LATER: Final = "due_at > UTC_TIMESTAMP(6) + INTERVAL 1 HOUR"
_READ_JOBS: Final = f"""
SELECT id, sender_email, precedence, send_at, status, pause_reason, pause_reason_code, pause_reason_args,
       IF(LEAST(braked_until, next_claim_at) > UTC_TIMESTAMP(6), braked_until, NULL),
       COALESCE(w.messages, 0), w.due, w.last_due, w.later, w.later_due, u.messages, u.manual, u.look_at,
       j.copies / j.total
  FROM jobs j
  LEFT JOIN (SELECT job_id, COUNT(*) AS messages, MIN(due_at) AS due, MAX(due_at) AS last_due,
                    SUM({_IS_LATER}) AS later, MIN(IF({_IS_LATER}, due_at, NULL)) AS later_due
               FROM job_recipients FORCE INDEX (claim)
              WHERE job_id IN %s AND status = 'waiting' GROUP BY job_id) w ON w.job_id = j.id
  LEFT JOIN (SELECT job_id, COUNT(*) AS messages, SUM(lease_until IS NULL) AS manual, MIN(lease_until) AS look_at
               FROM job_recipients FORCE INDEX (claim)
              WHERE job_id IN %s AND status = 'unsure' GROUP BY job_id) u ON u.job_id = j.id
 WHERE id IN %s AND finished_at IS NULL"""
_READ_FIRST: Final = """
(SELECT %s, copies, error, error_code, error_args FROM job_recipients FORCE INDEX (claim)
  WHERE job_id = %s AND status = 'waiting' ORDER BY due_at, id LIMIT 1)"""
_READ_SENDERS: Final = f"SELECT {COLUMNS}, next_claim_at FROM senders FORCE INDEX (PRIMARY) WHERE email IN %s"
# As far back as the log of attempts is read for `mailerd top`; asked only where no limit tells the pace.
# A longer silence between two messages is a time in which there was nothing to send: it says nothing of the pace.
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
_READ_QUEUE: Final = """
(SELECT sender_email, id, precedence, next_claim_at, status, total, (
         SELECT r.due_at FROM job_recipients r FORCE INDEX (claim) WHERE r.job_id = jobs.id AND r.status = 'waiting'
          ORDER BY r.job_id DESC, r.status DESC, r.due_at DESC, r.id DESC LIMIT 1), copies / total
   FROM jobs FORCE INDEX (next_claim)
  WHERE sender_email = %s AND claimable = 1 ORDER BY precedence, next_claim_at, id LIMIT %s)"""
_WAITING: Final = """
(SELECT %s, COUNT(*) FROM
  (SELECT 1 FROM job_recipients FORCE INDEX (claim)
    WHERE job_id = %s AND status = 'waiting' AND due_at <= %s LIMIT %s) waiting)"""


class _JobRow(NamedTuple):
    """A row of `_READ_JOBS`, or one like it of a job that is not stored yet."""

    id: str
    sender: str
    precedence: int
    send_at: datetime | None
    status: str
    pause_reason: str | None
    pause_reason_code: str | None
    pause_reason_args: str | None
    braked_until: datetime | None
    waiting: int
    due: datetime | None
    last_due: datetime | None
    later: int | None
    later_due: datetime | None
    unsure: int | None
    manual: int | None
    look_at: datetime | None
    copies: float | None
    """What the copies of a message cost of the day, on average."""


class _QueuedRow(NamedTuple):
    """A row of `_READ_QUEUE`, behind its sender."""

    id: str
    precedence: int
    next_claim_at: datetime
    status: str
    total: int
    last_due: datetime | None
    copies: float | None


_LATER: Final = timedelta(hours=1)
"""What another job sends so long after the last message of this one is due goes behind it."""


@dataclass(frozen=True)
class ForecastReader:
    """The reader; `timeout` is what the database gets for an answer, in seconds."""

    database: Database
    defaults: Live[DefaultLimits]
    timeout: float

    async def read(self, job: str) -> ForecastInputs | None:
        """What is known; None for a job that does not exist or has ended."""
        return (await self.read_all([job])).get(job)

    async def read_all(self, jobs: Sequence[str]) -> dict[str, ForecastInputs]:
        """What is known of each; nothing of those that are not there or have ended."""

        async def work(cursor: Cursor) -> dict[str, ForecastInputs]:
            ids = tuple(jobs)
            await cursor.execute(_READ_JOBS, (ids, ids, ids))
            found = [_JobRow(*row) for row in await cursor.fetchall()]
            return await self._inputs(cursor, found) if found else {}

        return await self._ask(work) if jobs else {}

    async def for_new_job(
        self, sender: str, *, priority: int, messages: int, due: Mapping[datetime, int], copies: int
    ) -> ForecastInputs:
        """What there would be to know of a job, if it were accepted now.

        `due`: how many of its messages are due at which time, the first ones first. `copies`: what all of them cost of
        the day.
        """
        first, last = min(due), max(due)
        later = {at: number for at, number in due.items() if at > first + _LATER}

        async def work(cursor: Cursor) -> dict[str, ForecastInputs]:
            job = _JobRow(
                id="",
                sender=sender,
                precedence=-priority,
                send_at=naive(first),
                status=JobStatus.QUEUED,
                pause_reason=None,
                pause_reason_code=None,
                pause_reason_args=None,
                braked_until=None,
                waiting=messages,
                due=None,
                last_due=naive(last),
                later=sum(later.values()),
                later_due=naive(min(later, default=None)),
                unsure=None,
                manual=None,
                look_at=None,
                copies=copies / max(1, messages),
            )
            return await self._inputs(cursor, [job])

        found = (await self._ask(work))[""]
        # As accepting it would (`_SCHEDULE_SENDER` in jobs.py): a sender that has nothing else to do now has it then.
        return replace(found, next_claim_at=found.next_claim_at and min(found.next_claim_at, found.due))

    async def _ask(self, work: Callable[[Cursor], Awaitable[dict[str, ForecastInputs]]]) -> dict[str, ForecastInputs]:
        return await self.database.request(work, what="forecast.read", bound=self.timeout, read_only=True)

    async def _inputs(self, cursor: Cursor, jobs: Sequence[_JobRow]) -> dict[str, ForecastInputs]:
        # A job that has not begun has no attempt behind it; what its first message costs is asked where it has copies.
        asked = [
            (job.id, job.id)
            for job in jobs
            if job.id and job.waiting and (job.status != JobStatus.QUEUED or job.copies)
        ]
        first = {
            id_: (1 + copies, from_row(*error)) for id_, copies, *error in await _union(cursor, _READ_FIRST, asked)
        }
        senders = tuple(sorted({job.sender for job in jobs}))
        states, turns = await self._senders(cursor, senders)
        hours = await rate_limits.sent_by_hour(cursor, senders, now=states[senders[0]].now)
        measured, tried = await _measured(cursor, states), await rate_limits.read_attempts(cursor, senders)
        found = {}
        for job in jobs:
            state = states[job.sender]
            braked = utc(job.braked_until)
            begins = (state.now, utc(job.send_at), utc(job.due), braked)
            first_cost, error = first.get(job.id, (1, None))
            later = utc(job.later_due) if (job.later or 0) < job.waiting else None
            found[job.id] = ForecastInputs(
                sender=state,
                messages=job.waiting,
                due=max(it for it in begins if it),
                copies=float(job.copies or 0),
                first_cost=first_cost,
                last_due=utc(job.last_due),
                later=LaterMessages(int(job.later), later) if job.later and later else None,
                error=error,
                unresolved=UnresolvedSends(job.unsure, int(job.manual or 0), utc(job.look_at)) if job.unsure else None,
                job_paused=job.status == JobStatus.PAUSED,
                job_reason=from_row(job.pause_reason, job.pause_reason_code, job.pause_reason_args),
                braked_until=braked,
                next_claim_at=turns.get(job.sender),
                hours=hours[job.sender],
                measured=measured.get(job.sender, 0.0),
                failing=failing(tried.get(job.sender, [])),
                outage=self.database.outage,
            )
        return await _with_queues(cursor, found, {job.id: job.precedence for job in jobs})

    async def _senders(
        self, cursor: Cursor, senders: Sequence[str]
    ) -> tuple[dict[str, SenderState], dict[str, datetime | None]]:
        """Their states, and when the next claim considers them."""
        defaults = self.defaults.now
        await cursor.execute(_READ_SENDERS, (senders,))
        rows = await cursor.fetchall()
        states = {row[0]: rate_limits.sender_state(row[:-1], defaults) for row in rows}
        if missing := set(senders) - states.keys():  # the sender's first job, which is not stored yet
            await cursor.execute("SELECT UTC_TIMESTAMP(6)")
            now = utc((await cursor.fetchone())[0])
            states |= {it: rate_limits.default_state(it, now=now, defaults=defaults) for it in missing}
        return states, {row[0]: utc(row[-1]) for row in rows}


@dataclass(frozen=True)
class WaitingMessages:
    """The messages of a sender's jobs that wait, as far as they were counted."""

    number: int
    due: datetime | None
    """When the first of them is due; None: none waits."""
    last_due: datetime | None
    is_cut_off: bool
    """There may be more."""
    first_cost: int = 1
    """As how many messages of the day the next one counts."""
    braked_until: datetime | None = None
    """Until when all of them wait, though some are due: what bounced of their jobs is read first."""

    def next_cost(self, now: datetime) -> int:
        """As how many messages of the day the next one counts, if one is due."""
        return self.first_cost if self.due and self.due <= now else 1


async def of_senders(
    cursor: Cursor,
    states: Mapping[str, SenderState],
    *,
    turns: Mapping[str, datetime | None],
    hours: Mapping[str, Mapping[datetime, int]],
    waiting: Mapping[str, WaitingMessages],
    outage: str,
) -> dict[str, ForecastInputs]:
    """What is known of all that waits of each sender, as if it were one job."""
    measured, tried = await _measured(cursor, states), await rate_limits.read_attempts(cursor, tuple(states))
    return {
        email: ForecastInputs(
            sender=it,
            messages=waiting[email].number,
            due=max(it.now, waiting[email].due or it.now),
            first_cost=waiting[email].first_cost,
            last_due=waiting[email].last_due,
            braked_until=waiting[email].braked_until,
            next_claim_at=turns.get(email),
            hours=hours[email],
            measured=measured.get(email, 0.0),
            failing=failing(tried.get(email, [])),
            outage=outage,
            queue_cut_off=waiting[email].is_cut_off,
        )
        for email, it in states.items()
    }


async def _union(cursor: Cursor, select: str, values: Sequence[Sequence[object]]) -> Sequence[Any]:
    """The rows of a SELECT for each of these values, in one round trip."""
    if not values:
        return []
    await cursor.execute(" UNION ALL ".join([select] * len(values)), [value for each in values for value in each])
    return await cursor.fetchall()


async def _measured(cursor: Cursor, senders: Mapping[str, SenderState]) -> dict[str, float]:
    """Messages a minute of the last minute, of those whose limits do not tell it."""
    free = tuple(it.email for it in senders.values() if not (rate_limit.rate(it.allowance) or it.limits.min_gap))
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
    for sender, *job in await _union(cursor, _READ_QUEUE, [(it, _MAX_JOBS + 1) for it in senders]):
        queues[sender].append(_QueuedRow(*job))
    others = {
        id_: _others(it, [job for job in queues[it.sender.email] if job.id != id_], precedence=precedences[id_])
        for id_, it in found.items()
    }
    most: dict[str, int] = {}
    until = max(max(it.due, it.last_due or it.due) for it in found.values()) + _LATER
    for job, queued in chain.from_iterable(others.values()):
        # Of one that has not begun all messages wait.
        last = utc(job.last_due)
        if job.status == JobStatus.SENDING or (last and last > max(queued.due, until)):
            most[job.id] = max(queued.messages, most.get(job.id, 0))
    asked = [(it, it, naive(until), most[it]) for it in list(most)[:_MAX_COUNTED_JOBS]]
    counted = dict(await _union(cursor, _WAITING, asked))
    return {
        id_: replace(
            it,
            queue=tuple(
                replace(queued, messages=min(queued.messages, counted.get(other.id, queued.messages)))
                for other, queued in others[id_]
            ),
            queue_cut_off=_is_cut_off(
                id_, it, [job.id for job in queues[it.sender.email] if job.precedence <= precedences[id_]]
            ),
        )
        for id_, it in found.items()
    }


def _others(it: ForecastInputs, jobs: Iterable[_QueuedRow], *, precedence: int) -> list[tuple[_QueuedRow, Queued]]:
    """Those of a sender's other jobs of which messages can go before its last one."""
    found = []
    for job in jobs:
        order, due = job.precedence - precedence, utc(job.next_claim_at)
        if limit := _limit(it, order, due):
            found.append((job, Queued(min(job.total, limit), order, due, float(job.copies or 0))))
    return found


def _limit(it: ForecastInputs, order: int, due: datetime) -> int:
    """How many messages of another job can go before the last one of this job."""
    if order < 0 or (it.due > it.now and due < it.due):
        return MAX_COUNTED_MESSAGES
    return 0 if order else it.messages


def _is_cut_off(id_: str, it: ForecastInputs, before: Sequence[str]) -> bool:
    """Whether jobs that were not read may go before its last message: they stand behind all that go before or with it.

    A single message goes at its own turn, whatever stands behind it.
    """
    return len(before) > _MAX_JOBS and not (it.messages == 1 and id_ in before)


async def read_queue(
    found: Sequence[RecipientHistory], *, history: HistoryReader, forecasts: ForecastReader, outage: str = "",
    runs: bool = False,
) -> Queue:  # fmt: skip
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
