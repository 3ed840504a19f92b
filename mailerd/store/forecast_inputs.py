"""Reads what a forecast needs: jobs, the state of their senders, and the other jobs of these senders.

Whatever is asked for many jobs costs the same few statements as for one.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final

from mailerd.config import Live
from mailerd.core import rate_limit
from mailerd.core.forecast import ForecastInputs, Queued, UnresolvedSends
from mailerd.core.pauses import repair
from mailerd.core.states import JobStatus, State
from mailerd.store.db.connection import Cursor, Statement
from mailerd.store.db.database import Database
from mailerd.store.db.times import naive, utc
from mailerd.store.queue import rate_limits
from mailerd.store.queue.rate_limits import COLUMNS, DefaultLimits, SenderState
from mailerd.store.queue.select_letters import union_all

MAX_COUNTED_LETTERS: Final = 100_000
"""The most letters of one job that are counted."""
_MAX_JOBS: Final = 200
"""The most jobs of a sender's queue that are read."""
_MAX_COUNTED_JOBS: Final = 1000
"""The most jobs whose letters are counted; for the others the size of the job is taken, which is never too few."""

_READ_JOBS: Final = """
SELECT id, sender_email, precedence, send_at, status, pause_reason,
       IF(LEAST(braked_until, next_claim_at) > UTC_TIMESTAMP(6), braked_until, NULL)
  FROM jobs WHERE id IN %s AND finished_at IS NULL"""
# The index has all that the first one asks for; of unsure letters there are few.
_COUNT_LETTERS: Final = """
SELECT job_id, status, COUNT(*), MIN(due_at), MAX(due_at), 0 FROM job_recipients FORCE INDEX (claim)
 WHERE job_id IN %s AND status = 'waiting' GROUP BY job_id, status
 UNION ALL
SELECT job_id, status, COUNT(*), MIN(lease_until), NULL, SUM(lease_until IS NULL)
  FROM job_recipients FORCE INDEX (claim) WHERE job_id IN %s AND status = 'unsure' GROUP BY job_id, status"""
# A letter that came back undone waits behind those that were not tried yet. Its reason holds the others too while
# nothing of the sender goes: Google may be out of reach, and one letter is tried each minute.
_READ_ERROR: Final = """
(SELECT %s, COALESCE(f.error, IF(l.updated_at > UTC_TIMESTAMP(6) - INTERVAL 3 MINUTE AND NOT EXISTS (
         SELECT 1 FROM tallies FORCE INDEX (PRIMARY)
          WHERE minute > UTC_TIMESTAMP() - INTERVAL 2 MINUTE AND sender_email = %s AND sent > 0), l.error, NULL))
   FROM (SELECT error FROM job_recipients FORCE INDEX (claim)
          WHERE job_id = %s AND status = 'waiting' ORDER BY due_at, id LIMIT 1) f,
        (SELECT error, updated_at FROM job_recipients FORCE INDEX (claim)
          WHERE job_id = %s AND status = 'waiting' ORDER BY due_at DESC, id DESC LIMIT 1) l)"""
_READ_SENDERS: Final = f"SELECT {COLUMNS}, next_claim_at FROM senders FORCE INDEX (PRIMARY) WHERE email IN %s"
# As far back as the log of attempts is read for `mailerd top`; asked only where no limit tells the pace.
# A longer silence between two letters is a time in which there was nothing to send: it says nothing of the pace.
_MEASURE_GAPS: Final = """
SELECT sender_email, COUNT(*), SUM(gap) FROM
  (SELECT j.sender_email,
          TIMESTAMPDIFF(MICROSECOND, LAG(a.at) OVER (PARTITION BY j.sender_email ORDER BY a.at), a.at) AS gap
     FROM attempts a JOIN job_recipients r ON r.id = a.recipient_id JOIN jobs j ON j.id = r.job_id
    WHERE a.at > UTC_TIMESTAMP(6) - INTERVAL 60 SECOND AND a.event = 'sent' AND j.sender_email IN %s) sent
 WHERE gap < 10000000 GROUP BY sender_email"""
_MIN_GAPS: Final = 4
"""The least number of gaps between letters that make a rate."""
# Of a lower priority only what is due before a job that is yet to be due: it uses up the sender's day.
_READ_QUEUE: Final = """
(SELECT sender_email, id, precedence, next_claim_at, status, total FROM jobs FORCE INDEX (next_claim)
  WHERE sender_email = %s AND claimable = 1 AND precedence <= %s ORDER BY precedence, next_claim_at, id LIMIT %s)
 UNION ALL (SELECT * FROM (
 SELECT sender_email, id, precedence, next_claim_at, status, total FROM jobs FORCE INDEX (next_claim)
  WHERE sender_email = %s AND claimable = 1 AND precedence > %s ORDER BY precedence, next_claim_at, id LIMIT %s) beneath
  WHERE next_claim_at < %s)"""
_WAITING: Final = """
(SELECT %s, COUNT(*) FROM
  (SELECT 1 FROM job_recipients FORCE INDEX (claim) WHERE job_id = %s AND status = 'waiting' LIMIT %s) waiting)"""


_LONG_AGO: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class _Asked:
    """A job, or one that might be."""

    id: str
    sender: str
    precedence: int
    send_at: datetime | None
    status: JobStatus
    letters: int = 0
    due: datetime | None = None
    last_due: datetime | None = None
    error: str | None = None
    unresolved: UnresolvedSends | None = None
    reason: str | None = None
    """Why it is paused, if not by a person."""
    braked_until: datetime | None = None

    @property
    def from_(self) -> datetime:
        """When the first of its letters may go, as far as the job is concerned."""
        return max(self.send_at or _LONG_AGO, self.due or _LONG_AGO)


@dataclass(frozen=True)
class _Other:
    """A job in a sender's queue."""

    id: str
    precedence: int
    due: datetime
    status: JobStatus
    total: int


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
            found, letters = await cursor.fetch_batch([(_READ_JOBS, (ids,)), (_COUNT_LETTERS, (ids, ids))])
            asked = [
                _Asked(
                    id_, sender, precedence, utc(send_at), JobStatus(status), reason=reason, braked_until=utc(braked)
                )
                for id_, sender, precedence, send_at, status, reason, braked in found
            ]
            return await self._inputs_of_all(cursor, await _with_letters(cursor, asked, letters)) if asked else {}

        return await self._ask(work) if jobs else {}

    async def for_new_job(
        self, sender: str, *, priority: int, letters: int, send_at: datetime | None, job: str = ""
    ) -> ForecastInputs:
        """What there would be to know of a job, if it were accepted now; `job`: its id, if it was."""
        asked = _Asked(job, sender, -priority, send_at, JobStatus.QUEUED, letters)

        async def work(cursor: Cursor) -> dict[str, ForecastInputs]:
            if not job:
                return await self._inputs_of_all(cursor, [asked])
            # What a claim has taken by now is in the sender's pace and day, and must not be there twice.
            await cursor.execute(_COUNT_LETTERS, ((job,), (job,)))
            stored = await _with_letters(cursor, [replace(asked, letters=0)], await cursor.fetchall())
            return await self._inputs_of_all(cursor, stored)

        found = (await self._ask(work))[asked.id]
        # As accepting it would (`_SCHEDULE_SENDER` in jobs.py): a sender that has nothing else to do now has it then.
        return replace(found, next_claim_at=found.next_claim_at and min(found.next_claim_at, found.due))

    async def _ask(self, work: Callable[[Cursor], Any]) -> dict[str, ForecastInputs]:
        return await self.database.request(work, what="read an outlook", bound=self.timeout, read_only=True)

    async def _inputs_of_all(self, cursor: Cursor, asked: Sequence[_Asked]) -> dict[str, ForecastInputs]:
        senders = sorted({one.sender for one in asked})
        states, queued = await cursor.fetch_batch([(_READ_SENDERS, (tuple(senders),)), _queue_of(asked)])
        known, queues = await self._states(cursor, senders, states), _queues(queued)
        now = known[senders[0]][0].now
        hours = await rate_limits.sent_by_hour(cursor, senders, now=now)
        counted = await _counts(cursor, asked, queues, now)
        measured = await _measured(cursor, [it for it, _ in known.values()])
        return {
            one.id: replace(
                _inputs(one, *known[one.sender], hours=hours[one.sender]),
                measured=measured.get(one.sender, 0.0),
                queue=tuple(_queue(one, queues.get(one.sender, ()), counted, now)),
                queue_cut_off=_is_cut_off(one, queues.get(one.sender, ())),
            )
            for one in asked
        }

    async def _states(
        self, cursor: Cursor, senders: Sequence[str], rows: Sequence[Any]
    ) -> dict[str, tuple[SenderState, datetime | None]]:
        """`rows`: those of `_READ_SENDERS`."""
        defaults = self.defaults.now
        found = {row[0]: (rate_limits.sender_state(row, defaults), utc(next_claim_at)) for *row, next_claim_at in rows}
        if missing := set(senders) - found.keys():  # the sender's first job, which is not stored yet
            await cursor.execute("SELECT UTC_TIMESTAMP(6)")
            now = utc((await cursor.fetchone())[0])
            found |= {
                sender: (rate_limits.default_state(sender, now=now, defaults=defaults), None) for sender in missing
            }
        return found


async def _measured(cursor: Cursor, senders: Iterable[SenderState]) -> dict[str, float]:
    """Letters a minute of the last minute, of those whose limits do not tell it."""
    free = tuple(it.email for it in senders if not (rate_limit.rate(it.allowance, units=it.units) or it.limits.min_gap))
    if not free:
        return {}
    await cursor.execute(_MEASURE_GAPS, (free,))
    return {
        sender: gaps * 60e6 / max(1, int(micros))
        for sender, gaps, micros in await cursor.fetchall()
        if gaps >= _MIN_GAPS
    }


async def _with_letters(cursor: Cursor, asked: Sequence[_Asked], letters: Sequence[Any]) -> list[_Asked]:
    """`letters`: the rows of `_COUNT_LETTERS`."""
    rows = {(id_, status): rest for id_, status, *rest in letters}
    # A job that has not begun has no attempt behind it.
    begun = [one for one in asked if one.status is not JobStatus.QUEUED and (one.id, State.WAITING.value) in rows]
    errors: dict[str, str | None] = {}
    if begun:
        values = [value for it in begun for value in (it.id, it.sender, it.id, it.id)]
        await cursor.execute(union_all(_READ_ERROR, len(begun)), values)
        errors = dict(await cursor.fetchall())
    return [
        _counted(
            one, rows.get((one.id, State.WAITING.value)), rows.get((one.id, State.UNSURE.value)), errors.get(one.id)
        )
        for one in asked
    ]


def _counted(one: _Asked, waiting: Sequence[Any] | None, unsure: Sequence[Any] | None, error: str | None) -> _Asked:
    if waiting is not None:
        number, due, last_due, _ = waiting
        one = replace(one, letters=number, due=utc(due), last_due=utc(last_due), error=error)
    if unsure is not None:
        number, look_at, _, manual = unsure
        one = replace(one, unresolved=UnresolvedSends(number, manual=int(manual), look_at=utc(look_at)))
    return one


def _inputs(
    one: _Asked, it: SenderState, next_claim_at: datetime | None, *, hours: Mapping[datetime, int]
) -> ForecastInputs:
    return ForecastInputs(
        now=it.now,
        letters=one.letters,
        due=max(it.now, one.send_at or it.now, one.due or it.now, one.braked_until or it.now),
        last_due=one.last_due,
        error=one.error,
        unresolved=one.unresolved,
        job_paused=one.status is JobStatus.PAUSED,
        job_reason=one.reason,
        braked_until=one.braked_until,
        queue=(),
        limits=it.limits,
        since=it.since,
        units=it.units,
        tat=it.tat,
        hours=hours,
        gap_until=it.gap_until,
        paused_until=it.paused_until if it.paused else None,
        pause_cause=it.pause_cause,
        pause_reason=it.pause_reason,
        next_claim_at=next_claim_at,
        repair=repair(it.pause_cause, it.paused_until, sender=it.email, now=it.now),
    )


def _queue_of(asked: Sequence[_Asked]) -> Statement:
    """Each sender's jobs that can be claimed, as far as they go before or beside those that are asked for."""
    least: dict[str, tuple[int, datetime]] = {}
    for one in asked:
        precedence, from_ = least.get(one.sender, (one.precedence, one.from_))
        least[one.sender] = max(one.precedence, precedence), max(one.from_, from_)
    values = [
        value
        for sender, (precedence, from_) in least.items()
        for value in (*(sender, precedence, _MAX_JOBS + 1) * 2, naive(from_))
    ]
    return union_all(_READ_QUEUE, len(least)), values


def _queues(rows: Sequence[Any]) -> dict[str, list[_Other]]:
    """The jobs that can be claimed, by sender."""
    queues: dict[str, list[_Other]] = {}
    for sender, id_, precedence, due, status, total in rows:
        other = _Other(id_, precedence, utc(due), JobStatus(status), total)
        queues.setdefault(sender, []).append(other)
    return queues


async def _counts(
    cursor: Cursor, asked: Iterable[_Asked], queues: Mapping[str, Sequence[_Other]], now: datetime
) -> dict[str, int]:
    """How many letters wait in the others that have begun, as far as it matters to those that are asked for."""
    most: dict[str, int] = {}
    for one in asked:
        for other in queues.get(one.sender, ()):
            if other.status is JobStatus.SENDING and (letters := _matter(one, other, now)):
                most[other.id] = max(letters, most.get(other.id, 0))
    chosen = list(most.items())[:_MAX_COUNTED_JOBS]
    if not chosen:
        return {}
    values = [value for id_, limit in chosen for value in (id_, id_, limit)]
    await cursor.execute(union_all(_WAITING, len(chosen)), values)
    return dict(await cursor.fetchall())


def _matter(one: _Asked, other: _Other, now: datetime) -> int:
    """How many of another's letters can go before the last one of a job."""
    if other.id == one.id:
        return 0
    if other.precedence < one.precedence or (one.from_ > now and other.due < one.from_):
        return MAX_COUNTED_LETTERS
    return one.letters if other.precedence == one.precedence else 0


def _is_cut_off(one: _Asked, queue: Sequence[_Other]) -> bool:
    """Whether jobs that were not read may go before its last letter: they stand behind all that go before or beside it.

    A single letter goes at its own turn, whatever stands behind it.
    """
    read = [other.id for other in queue if other.precedence <= one.precedence]
    return len(read) > _MAX_JOBS and not (one.letters == 1 and one.id in read)


def _queue(one: _Asked, queue: Iterable[_Other], counted: Mapping[str, int], now: datetime) -> Iterable[Queued]:
    for other in queue:
        if matter := _matter(one, other, now):
            yield Queued(
                letters=min(counted.get(other.id, other.total), matter),
                first=other.precedence < one.precedence,
                due=other.due,
                last=other.precedence > one.precedence,
            )
