"""Rate limits: a sender's limits and state, read under a lock and written in the same transaction.

The claim debits messages here, and `RateLimits` debits all other calls, so all daemons share one
budget.
"""

import random
import re
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from operator import itemgetter
from typing import Any, Final

from mailerd.config import Live, Settings
from mailerd.core import rate_limit
from mailerd.core.failing_attempts import NEWEST, RECENT, Attempted
from mailerd.core.rate_limit import CONSUMER_DOMAINS, PROBE_INTERVAL, SenderLimits
from mailerd.core.reasons import from_row
from mailerd.core.sender_state import SenderState
from mailerd.core.verdicts import PauseCause
from mailerd.store.db.connection import Cursor, micros, naive, utc
from mailerd.store.db.database import Database
from mailerd.store.write import sender_changes
from mailerd.store.write.sender_changes import add_projects, debit_call, set_project_tats

COLUMNS: Final = (
    "email, tat, units_per_minute, per_minute, per_day, reserve, min_gap, warm_up, warm_up_growth, "
    "COALESCE(warm_up_from, created_at), gap_until, latency, latency_at, mode, project, concurrency, concurrency_at, "
    "paused_until, pause_cause, pause_reason, pause_reason_code, pause_reason_args, pauses, other_calls_at, "
    "UTC_TIMESTAMP(6)"
)
STATE: Final = tuple(re.split(r", (?![^(]*\))", COLUMNS))
"""The same one by one."""

USED_TODAY: Final = """(
    SELECT COALESCE(SUM(h.messages + h.copies + h.elsewhere), 0) FROM sender_hours h
     WHERE h.sender_email = s.email AND h.hour > UTC_TIMESTAMP() - INTERVAL 25 HOUR)"""
"""The messages of the sender `s`, with what their copies cost, in the hours that the rolling day
still counts.
"""

_READ_SENDER: Final = f"SELECT {COLUMNS} FROM senders FORCE INDEX (PRIMARY) WHERE email = %s"
_LOCK_SENDER: Final = f"{_READ_SENDER} FOR UPDATE"
_LOCK_SENDER_IF_FREE: Final = f"{_LOCK_SENDER} SKIP LOCKED"
_READ_HOURS: Final = """
SELECT sender_email, hour, messages + copies + elsewhere FROM sender_hours FORCE INDEX (PRIMARY)
 WHERE sender_email IN %s AND hour > %s"""
# A claim never waits for a project: a daemon that freezes in a claim would stop the senders of all
# projects.
_LOCK_PROJECTS: Final = """
SELECT name, tat, latency, latency_at, UTC_TIMESTAMP(6) FROM projects FORCE INDEX (PRIMARY)
 WHERE name IN %s FOR UPDATE SKIP LOCKED"""
_READ_KNOWN_PROJECTS: Final = "SELECT name FROM projects FORCE INDEX (PRIMARY) WHERE name IN %s"
BUSY: Final = timedelta(milliseconds=50)
"""How long a sender rests whose row, or whose project's row, is locked by another transaction."""
_CAUSES_FOR_ALL_CALLS: Final = frozenset(
    {
        PauseCause.THROTTLED.value,
        PauseCause.TOO_MANY_CONCURRENT.value,
        PauseCause.PROJECT_LIMIT.value,
    }
)


@dataclass(frozen=True)
class DefaultLimits:
    """What every sender and project may use unless a sender has its own."""

    default: SenderLimits
    consumer_per_day: int | None = None
    """`per_day` of @gmail.com and @googlemail.com mailboxes; None: the default."""
    project_units_per_minute: int = 0
    """The units of a project in a minute; 0 means no limit."""


def default_limits(settings: Settings) -> DefaultLimits:
    """What senders may use unless they have their own."""
    pace = settings.pace
    default = SenderLimits(
        units_per_minute=pace.units_per_minute,
        per_minute=pace.per_minute,
        per_day=pace.per_day,
        reserve=pace.reserve,
        min_gap=pace.min_gap,
        warm_up=pace.warm_up,
        warm_up_growth=pace.warm_up_growth,
        standard=pace.tier == "standard",
    )
    return DefaultLimits(default, pace.consumer_per_day, pace.project_units_per_minute)


def sender_state(row: Sequence[Any], defaults: DefaultLimits) -> SenderState:
    """The state in a row of COLUMNS."""
    (
        email,
        tat,
        *own,
        since,
        gap_until,
        latency,
        latency_at,
        mode,
        project,
        limit,
        limit_at,
        paused_until,
        cause,
        reason,
        code,
        args,
        pauses,
        other_calls_at,
        now,
    ) = row
    names = (
        "units_per_minute",
        "per_minute",
        "per_day",
        "reserve",
        "min_gap",
        "warm_up",
        "warm_up_growth",
    )
    given = {name: value for name, value in zip(names, own, strict=True) if value is not None}
    # at most what `senders set` takes; another number would end the daemon that reckons with it
    if "min_gap" in given:
        given["min_gap"] = min(given["min_gap"], rate_limit.MAX_GAP)
    default = defaults.default
    if (
        defaults.consumer_per_day is not None
        and email.rpartition("@")[2].lower() in CONSUMER_DOMAINS
    ):
        default = replace(default, per_day=defaults.consumer_per_day)
    moment = utc(now)
    return SenderState(
        email=email,
        tat=utc(tat),
        limits=replace(
            default,
            **given,
            latency=rate_limit.latency(latency, seen=utc(latency_at), now=moment),
            calls=rate_limit.calls(utc(other_calls_at), now=moment),
        ),
        own=frozenset(given),
        since=utc(since),
        gap_until=utc(gap_until),
        latency_at=utc(latency_at),
        mode=mode,
        project=project,
        concurrency=rate_limit.concurrency(limit, since=utc(limit_at), now=moment),
        paused_until=utc(paused_until),
        pause_cause=cause,
        pause_reason=from_row(reason, code, args),
        pauses=pauses,
        now=moment,
    )


async def lock_sender(
    cursor: Cursor, email: str, defaults: DefaultLimits, *, wait: bool = True
) -> SenderState | None:
    """A sender's row, locked; None if there is none or, unless it may `wait`, another transaction
    holds it.
    """
    await cursor.execute(_LOCK_SENDER if wait else _LOCK_SENDER_IF_FREE, (email,))
    row = await cursor.fetchone()
    return sender_state(row, defaults) if row else None


def default_state(email: str, *, now: datetime, defaults: DefaultLimits) -> SenderState:
    """The state of a sender that has no row yet."""
    moment = naive(now)
    return sender_state(
        (email, None, *(None,) * 7, moment, *(None,) * 12, 0, None, moment), defaults
    )


async def day_of(
    cursor: Cursor, email: str, defaults: DefaultLimits, *, at: datetime | None
) -> int:
    """The messages of a day that a sender's limits allow at that time, or now: a warm-up counts; 0:
    no limit.
    """
    await cursor.execute(_READ_SENDER, (email,))
    row = await cursor.fetchone()
    it = (
        sender_state(row, defaults)
        if row
        else default_state(email, now=datetime.now(UTC), defaults=defaults)
    )
    return it.limits.on(max(it.now, at or it.now), since=it.since).per_day


async def sent_by_hour(
    cursor: Cursor, senders: Sequence[str], *, now: datetime
) -> dict[str, dict[datetime, int]]:
    """What each mailbox's day counts by clock hour: messages, by whomever they were sent, and the
    cost of copies.

    As far back as the rolling day can reach.
    """
    found: dict[str, dict[datetime, int]] = {sender: {} for sender in senders}
    await cursor.execute(_READ_HOURS, (tuple(senders), naive(now - timedelta(hours=26))))
    for sender, hour, messages in await cursor.fetchall():
        found[sender][utc(hour)] = messages
    return found


_LINE: Final = "a.at, IF(a.event IN ('sent', 'found'), NULL, COALESCE(a.error, '')), a.error_code, a.error_args"
# The newest lines of the log, whatever their number: of each sender its own newest ones tell how it
# goes.
_NEWEST: Final = f"""
SELECT a.id, j.sender_email, {_LINE}, a.recipient_id, r.status IN ('waiting', 'sending', 'unsure')
  FROM (SELECT id, recipient_id, event, error, error_code, error_args, at FROM attempts FORCE INDEX (at)
         WHERE at > UTC_TIMESTAMP(6) - INTERVAL {int(RECENT.total_seconds())} SECOND
           AND event IN ('sent', 'found', 'deferred', 'released', 'lost') ORDER BY at DESC, id DESC LIMIT 300) a
  STRAIGHT_JOIN job_recipients r FORCE INDEX (PRIMARY) ON r.id = a.recipient_id
  STRAIGHT_JOIN jobs j FORCE INDEX (PRIMARY) ON j.id = r.job_id WHERE {{mine}}"""
# A sender with busy neighbours has none of those lines, and neither has one that waits for an hour
# because all of its attempts failed. So its jobs of which every message waits for another attempt,
# or where messages were deferred lately, are asked for themselves.
MAX_DEFERRING: Final = 200
"""Such jobs that are asked for: one of each sender first, and those that wait for the longest."""
_DEFERRING: Final = f"""
SELECT NULL, sender_email, NULL, id, NULL, NULL, NULL, NULL FROM (
  SELECT j.id, j.sender_email, j.next_claim_at,
         ROW_NUMBER() OVER (PARTITION BY j.sender_email ORDER BY j.id DESC) place
    FROM jobs j FORCE INDEX (by_status)
   WHERE j.status = 'sending' AND {{mine}}
     AND (j.next_claim_at > UTC_TIMESTAMP(6) - INTERVAL 60 SECOND OR j.sender_email IN (
     SELECT sender_email FROM tallies FORCE INDEX (PRIMARY) WHERE put_off > 0
        AND minute > UTC_TIMESTAMP() - INTERVAL {int(RECENT.total_seconds())} SECOND))) deferring
 WHERE place <= 3 ORDER BY place, next_claim_at DESC LIMIT {MAX_DEFERRING}"""
# Those that wait for another attempt are due last, but for those with a later time of their own,
# which are not tried yet; the next one may take its time to begin.
READ_DEFERRED: Final = f"""
(SELECT a.id, %s, {_LINE}, a.recipient_id, 1
   FROM (SELECT id, due_at FROM job_recipients FORCE INDEX (claim)
          WHERE job_id = %s AND status = 'waiting' AND due_at < UTC_TIMESTAMP(6) + INTERVAL 1 HOUR
          ORDER BY due_at DESC, id DESC LIMIT {NEWEST}) r
   STRAIGHT_JOIN attempts a FORCE INDEX (event_of_claim)
      ON a.recipient_id = r.id AND a.event IN ('deferred', 'released', 'lost')
  WHERE r.due_at > UTC_TIMESTAMP(6) - INTERVAL 60 SECOND)"""
READ_ATTEMPTS: Final = f"({_NEWEST}) UNION ALL ({_DEFERRING})"
# What was sent since then; a message that was deferred for longer than a day tells nothing of now.
READ_SENT_SINCE: Final = """
SELECT sender_email, minute, SUM(sent) FROM tallies FORCE INDEX (PRIMARY)
 WHERE minute >= GREATEST(%s, UTC_TIMESTAMP() - INTERVAL 1 DAY) AND sent > 0 AND sender_email IN %s
 GROUP BY sender_email, minute"""


async def read_attempts(
    cursor: Cursor, senders: Collection[str] | None = None
) -> dict[str, list[Attempted]]:
    """The newest attempts of each sender, the newest first; of all senders, or of these."""
    mine = "j.sender_email IN %s" if senders is not None else "TRUE"
    await cursor.execute(
        READ_ATTEMPTS.format(mine=mine), [tuple(senders)] * 2 if senders is not None else ()
    )
    rows = await cursor.fetchall()
    lines = {id_: line for id_, *line in rows if id_}
    jobs = [(job, sender) for id_, sender, _, job, *_ in rows if not id_]
    if jobs:
        parts = " UNION ALL ".join([READ_DEFERRED] * len(jobs))
        await cursor.execute(parts, [value for job, sender in jobs for value in (sender, job)])
        lines = {id_: line for id_, *line in await cursor.fetchall()} | lines
    found = dict[str, list[tuple[datetime, int, Attempted]]]()
    for id_, (sender, at, *reason, recipient, open_) in lines.items():
        one = Attempted(utc(at), from_row(*reason), int(recipient), bool(open_))
        found.setdefault(sender, []).append((at, id_, one))
    if jobs and lines:
        hidden = tuple({sender for _, sender in jobs})
        oldest = min(at for _, at, *_ in lines.values())
        await cursor.execute(READ_SENT_SINCE, (oldest.replace(second=0, microsecond=0), hidden))
        for sender, minute, sent in await cursor.fetchall():
            known = sum(
                it.reason is None and at.replace(second=0, microsecond=0) == minute
                for at, _, it in found.get(sender, ())
            )
            more = (minute, 0, Attempted(utc(minute), None, 0, open=False))
            found.setdefault(sender, []).extend([more] * min(NEWEST, int(sent) - known))
    newest_first = itemgetter(0, 1)
    return {
        sender: [it for *_, it in sorted(its, key=newest_first, reverse=True)][:NEWEST]
        for sender, its in found.items()
    }


@dataclass(frozen=True)
class ProjectState:
    """A Cloud project's row."""

    tat: datetime | None
    latency: float
    """The latency of the slowest of its senders, in seconds."""


async def lock_projects(
    cursor: Cursor, names: Iterable[str]
) -> tuple[dict[str, ProjectState], set[str]]:
    """Lock those of these projects that are free, until the transaction ends; and the names that
    have no row yet.

    A missing row locks nothing: two daemons would both take a new project's whole allowance. So the
    senders of such a project wait for the moment that `add_projects` needs.
    """
    wanted = tuple(sorted(set(names)))
    known, rows = await cursor.fetch_batch(
        [(_READ_KNOWN_PROJECTS, (wanted,)), (_LOCK_PROJECTS, (wanted,))]
    )
    ours = {
        name: ProjectState(utc(tat), rate_limit.latency(latency, seen=seen, now=now))
        for name, tat, latency, seen, now in rows
    }
    return ours, set(wanted) - {name for (name,) in known} - ours.keys()


@dataclass(frozen=True)
class RateLimits:
    """Rate limits for calls that send no message: checks, sweeps, deletions."""

    database: Database
    defaults: Live[DefaultLimits]

    async def acquire(self, sender: str, *, units: int) -> timedelta:
        """How long to wait before asking again; zero: the units are granted, and debited.

        Raises:
            DatabaseError: nothing was debited, or in doubt: do not call.
        """
        new: set[str] = set()
        wait = await self.database.transaction(
            lambda cursor: self._acquire(cursor, sender, units, new), what="rate_limits.acquire"
        )
        if new:
            await add_projects(self.database, new)
        return wait

    async def _acquire(self, cursor: Cursor, sender: str, units: int, new: set[str]) -> timedelta:
        if (it := await lock_sender(cursor, sender, self.defaults.now)) is None:
            return timedelta(0)  # not a sender of ours: nothing is counted for it
        if it.paused and it.pause_cause in _CAUSES_FOR_ALL_CALLS and it.paused_until:
            return it.paused_until - it.now
        tat, wait = rate_limit.call(
            it.allowance, tat=it.tat, now=it.now, cost=units, units=it.units
        )
        if wait:
            return wait
        if wait := await self._acquire_project(cursor, it, units, new):
            return wait
        if tat != it.tat:
            await debit_call(cursor, sender, tat=tat, now=it.now)
        return timedelta(0)

    async def _acquire_project(
        self, cursor: Cursor, it: SenderState, units: int, new: set[str]
    ) -> timedelta:
        limit = self.defaults.now.project_units_per_minute
        if not (limit and it.project and it.limits.units_per_minute and units):
            return timedelta(0)
        ours, unknown = await lock_projects(cursor, (it.project,))
        new |= unknown
        if (known := ours.get(it.project)) is None:
            return BUSY
        budget = rate_limit.project(
            limit, tat=known.tat, now=it.now, units=units, latency=known.latency
        )
        if budget.messages == 0 and budget.next_at:
            return budget.next_at - it.now
        after = rate_limit.project_debit(
            limit, tat=known.tat, now=it.now, units=units, latency=known.latency
        )
        await set_project_tats(cursor, {it.project: after})
        return timedelta(0)


# Finds senders that wait for a reason that is gone: a limit was raised, a pause has ended, a
# credential file came.
#
# A claim writes into `next_claim_at` when a sender's next turn is, under the limits and the pauses
# of that moment. What changes them later may leave a sender waiting until tomorrow, so the senders
# are checked at the start, after a reload and once a minute. The daemon only reads, unless it finds
# one; what may be sent is decided by the claim as usual. Senders whose sign-in is broken are tried
# as soon as a credential file has come or gone.

_INTERVAL: Final = 60.0
"""Seconds between two checks of one daemon, plus or minus a quarter, so that many daemons do not
check together.
"""
_PAGE: Final = 500
"""The most senders of one statement."""
# Only those that have a due job and no pause: in a database at rest there is none.
_SELECT_STALE: Final = f"""
SELECT {COLUMNS}, next_claim_at, (SELECT p.tat FROM projects p WHERE p.name = s.project), {USED_TODAY}
  FROM senders s FORCE INDEX (PRIMARY)
 WHERE s.email > %s AND s.next_claim_at > UTC_TIMESTAMP(6) + INTERVAL %s MICROSECOND
   AND COALESCE(s.paused_until, '1970-01-01') <= UTC_TIMESTAMP(6)
   AND EXISTS (SELECT 1 FROM jobs j FORCE INDEX (next_claim)
                WHERE j.sender_email = s.email AND j.claimable = 1 AND j.next_claim_at <= UTC_TIMESTAMP(6))
 ORDER BY s.email LIMIT %s"""

_SIGN_IN_CAUSES: Final = (
    PauseCause.NO_CREDENTIALS.value,
    PauseCause.TOKEN_REFUSED.value,
    PauseCause.CLIENT_REFUSED.value,
    PauseCause.WRONG_MAILBOX.value,
    PauseCause.SCOPE_MISSING.value,
)
"""Causes of pauses that another credential file may end."""
_SELECT_SIGN_IN_PAUSES: Final = """
SELECT email FROM senders WHERE paused_until > UTC_TIMESTAMP(6) AND pause_cause IN %s ORDER BY email"""


@dataclass(frozen=True)
class StaleTurn:
    """A sender that could send, and whose turn is still to come."""

    email: str
    next_claim_at: datetime
    longest_gap: timedelta
    """What lies between two of its messages at most; a gap that lasts longer was begun under
    another limit.
    """


async def find_stale_turns(
    database: Database, defaults: DefaultLimits, *, beyond: timedelta = PROBE_INTERVAL
) -> list[StaleTurn]:
    """Senders with due messages that nothing holds, and whose turn is later than `beyond` from now
    all the same.

    Shorter waits are left alone: after a pause, and between two messages, they are what they shall
    be.
    """
    found: list[StaleTurn] = []
    last = ""
    while True:
        rows = await database.read_rows(
            _SELECT_STALE,
            (last, micros(beyond), _PAGE),
            what="senders.find_stale",
            bound=database.probe_timeout,
        )
        found += [it for row in rows if (it := _stale_turn(row, defaults))]
        if len(rows) < _PAGE:
            return found
        *_, (last, *_) = rows


def _stale_turn(row: Sequence[Any], defaults: DefaultLimits) -> StaleTurn | None:
    """The turn, if minute, gap, day and project allow a message at this moment."""
    *columns, next_claim_at, project_tat, used = row
    it = sender_state(columns, defaults)
    allowance, longest = it.allowance, rate_limit.longest_gap(it.allowance)
    project = defaults.project_units_per_minute if allowance.units_per_minute and it.project else 0
    held = (
        rate_limit.minute(allowance, tat=it.tat, now=it.now, units=it.units).messages == 0
        or (it.gap_until and it.now < it.gap_until <= it.now + longest)
        or (allowance.per_day and used >= allowance.per_day)
        or rate_limit.project(project, tat=utc(project_tat), now=it.now, units=it.units).messages
        == 0
    )
    return None if held else StaleTurn(it.email, utc(next_claim_at), longest)


@dataclass
class StaleTurns:
    """Reschedules stale turns, for one daemon.

    `credentials_version()` changes when a credential file comes or goes.
    """

    database: Database
    credentials_version: Callable[[], object]
    _seen: object = field(init=False)
    _check_at: float = field(default=0.0, init=False)
    """When the next check is due, in monotonic seconds."""
    _checked_by: DefaultLimits | None = field(default=None, init=False)
    """The limits by which was checked last: under others the check is due at once."""

    def __post_init__(self) -> None:
        self._seen = self.credentials_version()

    async def reschedule(self, defaults: DefaultLimits) -> None:
        """Let the next claim take every sender that waits without a reason, if a check is due.

        Raises:
            DatabaseError: not all were rescheduled; the next check does it.
        """
        if (files := self.credentials_version()) != self._seen:
            await self.database.transaction(self._try_sign_ins, what="senders.retry_authorizations")
            self._seen = files
        if time.monotonic() < self._check_at and defaults == self._checked_by:
            return
        self._check_at = time.monotonic() + _INTERVAL * random.uniform(0.75, 1.25)  # noqa: S311 - jitter
        self._checked_by = defaults
        if found := await find_stale_turns(self.database, defaults):
            await self.database.transaction(
                lambda cursor: self._reschedule(cursor, found), what="senders.reschedule"
            )

    async def _reschedule(self, cursor: Cursor, found: Sequence[StaleTurn]) -> None:
        # in the order of their names, the order of all locks; a turn that has moved is left alone
        for one in found:
            await sender_changes.reschedule_stale(
                cursor, one.email, next_claim_at=one.next_claim_at, longest_gap=one.longest_gap
            )

    async def _try_sign_ins(self, cursor: Cursor) -> None:
        await cursor.execute(_SELECT_SIGN_IN_PAUSES, (_SIGN_IN_CAUSES,))
        for (email,) in await cursor.fetchall():
            await sender_changes.try_again(cursor, email, causes=_SIGN_IN_CAUSES)
