"""Reads all that tells how it goes, by the one set of queries that `situation` is fed by; and the
tallies of charts.
"""

import socket
import time
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import batched
from typing import Annotated, Any, Final

from mailerd.config import Live
from mailerd.core.copies import MAX_COST
from mailerd.core.failing_attempts import RECENT, FailingAttempts, failing
from mailerd.core.reading import Authorization, authorized, sender_stats, used_day
from mailerd.core.reasons import from_row
from mailerd.core.states import JobStatus, State, Tally
from mailerd.core.stats import (
    LATE,
    SILENT,
    DaemonInfo,
    FailedJob,
    JobTrouble,
    QueueStats,
    RecentAction,
    UnreadInbox,
    WebhookStats,
)
from mailerd.core.webhooks import EndpointState, PauseReason, standing
from mailerd.heartbeat import is_there
from mailerd.model.fields import Sql
from mailerd.store.db.connection import Cursor, Statement, utc
from mailerd.store.db.database import Database, request
from mailerd.store.db.rows import Select
from mailerd.store.queue.rate_limits import DefaultLimits, read_attempts
from mailerd.store.read.sender_rows import NEXT_COPIES, SENDER, Ask, StoredSender, authorizations
from mailerd.store.write.job_changes import UNFINISHED
from mailerd.store.write.messages import RETRIABLE
from mailerd.store.write.suppressions import MAX_LISTS
from mailerd.store.write.tallies import MINUTES_KEPT, TALLY_SUMS

# The tallies (store/write/sender_changes.py) as charts show them.

_READ_MINUTES: Final = f"""
SELECT minute, {TALLY_SUMS} FROM tallies FORCE INDEX (PRIMARY) WHERE minute >= %s {{senders}} GROUP BY minute"""
_READ_HOURS: Final = f"""
SELECT hour, {TALLY_SUMS} FROM tally_hours FORCE INDEX (PRIMARY) WHERE hour >= %s {{senders}} GROUP BY hour"""

_READ_SENT: Final = """
SELECT sender_email, minute - INTERVAL MINUTE(minute) MINUTE hour, SUM(sent) FROM tallies FORCE INDEX (PRIMARY)
 WHERE minute >= %s {senders} GROUP BY sender_email, hour"""
HOURS_OF_DAY: Final = 24


@dataclass(frozen=True)
class TallyPoint:
    """The messages of one minute, or of one hour."""

    at: datetime
    counts: dict[Tally, int]


@dataclass(frozen=True)
class Tallies:
    """Reads the tallies. `timeout`: seconds that a chart is waited for."""

    database: Database
    timeout: float = 2.0

    async def minutes(
        self, span: timedelta, *, senders: Collection[str] | None = None
    ) -> list[TallyPoint]:
        """The minutes of the last while in which something happened; `senders` None: of all."""
        return await self._read(_READ_MINUTES, span, senders)

    async def hours(
        self, span: timedelta, *, senders: Collection[str] | None = None
    ) -> list[TallyPoint]:
        """The hours of the last while in which something happened, those of the kept minutes
        included.
        """
        sums: dict[datetime, Counter[Tally]] = {}
        points = await self._read(_READ_HOURS, span, senders)
        for point in [
            *points,
            *await self._read(_READ_MINUTES, MINUTES_KEPT + timedelta(hours=2), senders),
        ]:
            sums.setdefault(point.at.replace(minute=0), Counter()).update(point.counts)
        return [TallyPoint(at, dict(counts)) for at, counts in sorted(sums.items())]

    @request("stats.read_sent", read_only=True)
    async def sent_of_day(
        self, cursor: Cursor, *, senders: Collection[str] | None = None
    ) -> dict[str, list[int]]:
        """What each sender has sent in each of the last 24 hours; who has sent nothing is
        missing.
        """
        await cursor.execute("SELECT UTC_TIMESTAMP()")
        now = (await cursor.fetchone())[0].replace(minute=0, second=0)
        first, found = now - timedelta(hours=HOURS_OF_DAY - 1), dict[str, list[int]]()
        await cursor.execute(*points_statement(_READ_SENT, first, senders))
        for sender, hour, sent in await cursor.fetchall():
            if 0 <= (place := (hour - first) // timedelta(hours=1)) < HOURS_OF_DAY:
                found.setdefault(sender, [0] * HOURS_OF_DAY)[place] = int(sent)
        return found

    @request("stats.read_chart", read_only=True)
    async def _read(
        self, cursor: Cursor, statement: str, span: timedelta, senders: Collection[str] | None
    ) -> list[TallyPoint]:
        await cursor.execute("SELECT UTC_TIMESTAMP()")
        since = (await cursor.fetchone())[0] - span
        await cursor.execute(*points_statement(statement, since, senders))
        return [_point(row) for row in await cursor.fetchall()]


def points_statement(statement: str, since: datetime, senders: Collection[str] | None) -> Statement:
    """What a chart asks; a test has it explained."""
    if senders is None:
        return statement.format(senders=""), (since,)
    return statement.format(senders="AND sender_email IN %s"), (since, tuple(senders) or ("",))


def _point(row: tuple[Any, ...]) -> TallyPoint:
    at, *sums = row
    return TallyPoint(
        utc(at), {tally: int(number) for tally, number in zip(Tally, sums, strict=True)}
    )


MAX_SENDERS: Final = 200
"""The most senders that are read, busy and paused ones first: a label of a metric must not grow
without bound.
"""

# What there is at all: of what there is nothing, nothing is asked.


@dataclass(frozen=True)
class _Look:
    """The moment, and what there is."""

    now: Annotated[datetime, Sql("UTC_TIMESTAMP(6)")]
    last_beat: Annotated[
        int | None,
        Sql("(SELECT TIMESTAMPDIFF(SECOND, MAX(heartbeat_at), UTC_TIMESTAMP()) FROM daemons)"),
    ]
    is_open: Annotated[
        bool, Sql(f"(SELECT 1 FROM jobs j FORCE INDEX (finished) WHERE {UNFINISHED} LIMIT 1)")
    ]
    was_tried: Annotated[
        bool,
        Sql(f"""(SELECT 1 FROM attempts FORCE INDEX (at)
         WHERE at > UTC_TIMESTAMP(6) - INTERVAL {int(RECENT.total_seconds())} SECOND LIMIT 1)"""),
    ]
    has_ended: Annotated[
        bool,
        Sql("""(
        SELECT 1 FROM jobs FORCE INDEX (finished) WHERE finished_at > UTC_TIMESTAMP() - INTERVAL 1 DAY LIMIT 1)"""),
    ]
    is_refused: Annotated[bool, Sql("(SELECT 1 FROM mailboxes WHERE state = 'refused' LIMIT 1)")]
    has_webhooks: Annotated[bool, Sql("(SELECT 1 FROM webhooks LIMIT 1)")]


_LOOKED: Final = Select(_Look)
_LOOK: Final = f"SELECT {_LOOKED.columns}"
_COUNT_OPEN_JOBS: Final = """
SELECT status, COUNT(*) FROM jobs j FORCE INDEX (by_status)
 WHERE status IN ('queued', 'sending', 'paused') AND {mine} GROUP BY status"""
_SUM_TOTALS: Final = f"""
SELECT COALESCE(SUM(total), 0) FROM jobs j FORCE INDEX (finished) WHERE {UNFINISHED} AND {{mine}}"""
# All messages of a job are due at once, and go as their sender's turns come: a message is late only
# from its turn on. A sender without a next claim whose messages are due would never be claimed:
# that counts as well. Only jobs of senders whose turn has come, and of each the first message that
# waits: no other is late for longer.
_OLDEST_CLAIMABLE: Final = f"""
SELECT MIN(GREATEST(due, COALESCE(braked_until, due), COALESCE(turn, due), COALESCE(resumed, due)))
  FROM (SELECT j.braked_until, s.next_claim_at turn, s.paused_until resumed,
               (SELECT r.due_at FROM job_recipients r FORCE INDEX (claim)
                 WHERE r.job_id = j.id AND r.status = 'waiting'
                 ORDER BY r.job_id, r.status, r.due_at, r.id LIMIT 1) due
          FROM senders s STRAIGHT_JOIN jobs j FORCE INDEX (finished) ON j.sender_email = s.email AND {UNFINISHED}
         WHERE j.status <> 'paused' AND COALESCE(s.next_claim_at, '1970-01-01') <= UTC_TIMESTAMP(6)
           AND COALESCE(s.paused_until, '1970-01-01') <= UTC_TIMESTAMP(6) AND {{mine}}) first WHERE due IS NOT NULL"""
# Whatever is in flight has a lease. For how long the oldest is at a daemon that runs, or, if
# shorter, none has ended.
_COUNT_IN_FLIGHT: Final = f"""
SELECT COUNT(*), LEAST(TIMESTAMPDIFF(MICROSECOND, MIN(IF(d.id IS NULL, NULL, r.updated_at)), UTC_TIMESTAMP(6)),
                       COALESCE((SELECT TIMESTAMPDIFF(MICROSECOND, MAX(at), UTC_TIMESTAMP(6)) FROM attempts), 1e12))
  FROM job_recipients r FORCE INDEX (lease) STRAIGHT_JOIN jobs j FORCE INDEX (PRIMARY) ON j.id = r.job_id
  LEFT JOIN daemons d ON d.id = r.daemon_id AND d.stopped_at IS NULL
                     AND d.heartbeat_at > UTC_TIMESTAMP() - INTERVAL {SILENT} SECOND
 WHERE r.lease_until > '1970-01-01' AND r.status = 'sending' AND {{mine}}"""
_COUNT_UNSURE: Final = f"""
SELECT COUNT(*), MIN(r.updated_at), MIN(CONCAT_WS('/', r.updated_at, r.job_id, r.id)) FROM jobs j FORCE INDEX (finished)
  STRAIGHT_JOIN job_recipients r FORCE INDEX (claim) ON r.job_id = j.id AND r.status = 'unsure'
 WHERE {UNFINISHED} AND {{mine}}"""
_OTHERS: Final = (State.WAITING, State.SENT, State.FAILED, State.CANCELLED)
"""The states of which there may be as many messages as there are rows: there is no short way to
count these.
"""
_COUNT_OTHERS: Final = f"""
SELECT {", ".join(f"COALESCE(SUM(r.status = '{state}'), 0)" for state in _OTHERS)} FROM jobs j FORCE INDEX (finished)
  STRAIGHT_JOIN job_recipients r FORCE INDEX (claim) ON r.job_id = j.id WHERE {UNFINISHED} AND {{mine}}"""
_COUNT_ENDED_JOBS: Final = """
SELECT status, COUNT(*) FROM jobs FORCE INDEX (by_status) WHERE status IN ('completed', 'cancelled') GROUP BY status"""
COUNTED_EACH_TIME: Final = 50_000
"""So many rows are counted in each look."""
ROWS_PER_SECOND: Final = 5_000
"""Where there are more they are counted less often, so that no more than these are read a second: a
million rows every 200 s. At the pace of a whole Cloud project some three hundredths of them are
sent meanwhile, however many there are.
"""
MAX_ROWS_COUNTED: Final = 5_000_000
"""The most rows that are counted at all: it takes a second or two."""
# Some of each cause of a pause, and of those that are not paused: two hundred of one kind hide no
# other.
_READ_SENDERS: Final = f"""
SELECT {SENDER.columns} FROM (
  SELECT named FROM (
    SELECT email named, ROW_NUMBER() OVER (PARTITION BY IF(paused_until > UTC_TIMESTAMP(6), pause_cause, '')
                                               ORDER BY next_claim_at IS NULL, email) place
      FROM senders WHERE {{email}}) ranked
   ORDER BY named NOT IN %s, place, named LIMIT {MAX_SENDERS}) found
  STRAIGHT_JOIN senders s FORCE INDEX (PRIMARY) ON s.email = found.named
 ORDER BY s.next_claim_at IS NULL, s.paused_until DESC, s.email"""
READ_NEXT_COST: Final = f"(SELECT %s, 1 + {NEXT_COPIES})"
# Those of commands alone, of the newest ACTIONS_READ: programs suppress addresses by thousands
# meanwhile. As many as there may be lists: an import counts on in the row of each of them, and a
# script asks many times in a look.
ACTIONS_READ: Final = 20_000
_READ_ACTIONS: Final = f"""
SELECT id, job_id, action, actor, messages, detail, sender, webhook,
       (SELECT status FROM jobs j WHERE j.id = job_id) FROM job_actions
 WHERE id > (SELECT GREATEST(MAX(id), {ACTIONS_READ}) - {ACTIONS_READ} FROM job_actions)
   AND changed = 1 AND actor LIKE 'command, %%' ORDER BY id DESC LIMIT {MAX_LISTS}"""
_COUNT_LAST_MINUTE: Final = """
SELECT j.sender_email, COUNT(*) FROM attempts a JOIN job_recipients r ON r.id = a.recipient_id
  JOIN jobs j ON j.id = r.job_id WHERE a.at > UTC_TIMESTAMP(6) - INTERVAL 60 SECOND AND a.event = 'sent' AND {mine}
 GROUP BY j.sender_email"""
_READ_ENDED: Final = f"""
SELECT sender_email, SUM(sent), SUM(failed) FROM tallies FORCE INDEX (PRIMARY)
 WHERE minute > UTC_TIMESTAMP() - INTERVAL {int(RECENT.total_seconds())} SECOND GROUP BY sender_email"""
# The tallies are a mailbox's, with any From: the newest lines of the log tell what became of a
# key's own messages.
COUNT_ENDED: Final = f"""
SELECT j.sender_email, SUM(a.event <> 'failed'), SUM(a.event = 'failed')
  FROM (SELECT recipient_id, event FROM attempts FORCE INDEX (at)
         WHERE at > UTC_TIMESTAMP(6) - INTERVAL {int(RECENT.total_seconds())} SECOND
           AND event IN ('sent', 'found', 'failed') ORDER BY at DESC LIMIT 5000) a
  STRAIGHT_JOIN job_recipients r FORCE INDEX (PRIMARY) ON r.id = a.recipient_id
  STRAIGHT_JOIN jobs j FORCE INDEX (PRIMARY) ON j.id = r.job_id WHERE {{mine}} GROUP BY j.sender_email"""
# Through which mailboxes these addresses send: that of the newest job of each, and of all that have
# not ended.
_READ_OPEN_MAILBOXES: Final = f"""
SELECT DISTINCT j.from_address, j.sender_email FROM jobs j FORCE INDEX (finished)
 WHERE {UNFINISHED} AND j.from_address IN %s"""
_READ_NEWEST_MAILBOX: Final = """
(SELECT from_address, sender_email FROM jobs FORCE INDEX (by_from) WHERE from_address = %s ORDER BY id DESC LIMIT 1)"""
_READ_OWN: Final = """
SELECT r.id FROM job_recipients r FORCE INDEX (PRIMARY) STRAIGHT_JOIN jobs j FORCE INDEX (PRIMARY) ON j.id = r.job_id
 WHERE r.id IN %s AND j.from_address IN %s"""
_READ_DAEMONS: Final = """
SELECT id, host, pid, version, TIMESTAMPDIFF(SECOND, heartbeat_at, UTC_TIMESTAMP()),
       TIMESTAMPDIFF(SECOND, started_at, UTC_TIMESTAMP()),
       EXISTS (SELECT 1 FROM daemons l WHERE l.host = d.host AND l.id <> d.id AND l.started_at > d.heartbeat_at)
  FROM daemons d WHERE stopped_at IS NULL AND heartbeat_at > UTC_TIMESTAMP() - INTERVAL 1 HOUR
 ORDER BY heartbeat_at DESC LIMIT 20"""
# Some of each cause, as of the senders.
_READ_REFUSED: Final = f"""
SELECT email, detail, detail_code, detail_args, read_at FROM (
  SELECT email, detail, detail_code, detail_args, read_at,
         ROW_NUMBER() OVER (PARTITION BY detail_code ORDER BY read_at, email) place
    FROM mailboxes WHERE state = 'refused' AND {{email}}) refused
 ORDER BY place, email LIMIT {MAX_SENDERS}"""
# Of each sender its own newest ones: no other sender's jobs hide them.


@dataclass(frozen=True)
class _BadJob:
    """An open job of which too much comes back, or so much that what comes back is read first."""

    id: Annotated[str, Sql("id")]
    sender: Annotated[str, Sql("sender_email")]
    reason: Annotated[str | None, Sql("reason", "code", "args", read=from_row)]
    is_paused: Annotated[bool, Sql("is_paused")]
    braked_until: Annotated[datetime | None, Sql("braked")]
    """Until when it waits, where nothing of its sender is due."""


_BAD_JOB: Final = Select(_BadJob)
_READ_BAD_JOBS: Final = f"""
SELECT {_BAD_JOB.columns} FROM (
  SELECT id, sender_email, COALESCE(pause_reason, bounce_warning) reason,
         IF(pause_reason IS NULL, bounce_warning_code, pause_reason_code) code,
         IF(pause_reason IS NULL, bounce_warning_args, pause_reason_args) args, pause_reason IS NOT NULL is_paused,
         IF(LEAST(braked_until, next_claim_at) > UTC_TIMESTAMP(6) AND NOT EXISTS (
            SELECT 1 FROM jobs d FORCE INDEX (next_claim) WHERE d.sender_email = j.sender_email AND d.claimable = 1
               AND d.next_claim_at <= UTC_TIMESTAMP(6)), braked_until, NULL) braked,
         ROW_NUMBER() OVER (PARTITION BY sender_email ORDER BY braked_until > UTC_TIMESTAMP(6) DESC, id DESC) place
    FROM jobs j FORCE INDEX (finished)
   WHERE finished_at IS NULL AND {{mine}}
     AND (bounce_warning IS NOT NULL OR (status = 'paused' AND pause_reason IS NOT NULL)
          OR braked_until > UTC_TIMESTAMP(6))) bad
 WHERE place <= 5 ORDER BY id DESC"""
MAX_FAILED: Final = 1000
"""The most failed messages of a job that are counted."""
READ_FAILED_JOBS: Final = """
(SELECT id, sender_email, total, finished_at FROM (
   SELECT id, sender_email, total, finished_at FROM jobs j FORCE INDEX (finished_of_sender)
    WHERE sender_email = %s AND {mine} AND finished_at > UTC_TIMESTAMP() - INTERVAL 1 DAY
    ORDER BY finished_at DESC LIMIT %s) j
  WHERE EXISTS (SELECT 1 FROM job_recipients r FORCE INDEX (claim) WHERE r.job_id = j.id AND r.status = 'failed')
  ORDER BY finished_at DESC LIMIT %s)"""
LOOKED_AT: Final = 200
"""Ended jobs of one sender in which failures are looked for; of many senders, a tenth of it in
those of each.
"""
SHOWN_FAILED: Final = 10
"""Jobs with failures that are counted of one sender; of many senders, of each of them at least
one.
"""
_COUNT_FAILED: Final = f"""
(SELECT %s, (SELECT COUNT(*) FROM (SELECT 1 FROM job_recipients FORCE INDEX (claim)
                                    WHERE job_id = %s AND status = 'failed' LIMIT {MAX_FAILED}) counted),
        (SELECT COUNT(*) FROM (SELECT 1 FROM job_recipients FORCE INDEX (claim)
                                WHERE job_id = %s AND {RETRIABLE} LIMIT 1) taken))"""
_READ_WHY_FAILED: Final = """
(SELECT job_id, error, error_code, error_args FROM job_recipients FORCE INDEX (claim)
  WHERE job_id = %s AND status = 'failed' LIMIT 1)"""
_OF_OPEN_JOBS: Final = (
    _COUNT_OPEN_JOBS,
    _OLDEST_CLAIMABLE,
    _COUNT_IN_FLIGHT,
    _COUNT_UNSURE,
    _READ_BAD_JOBS,
)
OVERDUE: Final = LATE
"""Seconds without a heartbeat after which the next one is overdue."""


async def read_daemons(cursor: Cursor) -> tuple[DaemonInfo, ...]:
    """The daemons that were heard of lately and have not stopped in order.

    Of this machine's it is seen which are gone. A process id may be that of another container,
    which shares the machine's name: so a heartbeat has to be overdue too.
    """
    await cursor.execute(_READ_DAEMONS)
    rows, here = await cursor.fetchall(), socket.gethostname()
    return tuple(
        DaemonInfo(
            id_,
            host,
            pid,
            version,
            silent,
            age,
            is_gone=host == here and silent > OVERDUE and not is_there(pid),
            is_replaced=bool(replaced),
        )
        for id_, host, pid, version, silent, age, replaced in rows
    )


@dataclass(frozen=True)
class KeyMailboxes:
    """What a limited key may see: jobs by what From says, and the state of the mailboxes through
    which they go.
    """

    names: tuple[str, ...]
    """The addresses that it may send as, mailboxes and aliases."""
    mailboxes: tuple[str, ...]
    aliases: Mapping[str, str]
    """By the mailbox that is not named: what its messages are sent as."""


def _about(statement: str, mine: KeyMailboxes | None) -> Statement:
    """What is asked of all, or of these: of jobs by what From says, and of what a mailbox is by the
    mailbox.
    """
    if mine is None:
        return statement.format(mine="TRUE", email="TRUE"), ()
    columns = statement.format(mine="j.from_address IN %s", email="email IN %s")
    return columns, (mine.mailboxes if "{email}" in statement else mine.names,)


def mailboxes_statement(names: Sequence[str]) -> Statement:
    """What asks for the newest mailbox of each; a test has it explained."""
    return " UNION ALL ".join([_READ_NEWEST_MAILBOX] * len(names)), tuple(names)


async def find_mailboxes(cursor: Cursor, senders: Collection[str]) -> KeyMailboxes:
    """The mailboxes that these names send through, by the jobs that were posted."""
    names = tuple(senders) or ("",)
    newest = [mailboxes_statement(some) for some in batched(names, MAX_SENDERS)]
    found = await cursor.fetch_batch([*newest, (_READ_OPEN_MAILBOXES, (names,))])
    aliases = dict[str, list[str]]()
    for name, mailbox in sorted({row for rows in found for row in rows}):
        if mailbox not in names:
            aliases.setdefault(mailbox, []).append(name)
    return KeyMailboxes(
        names, (*names, *aliases), {mailbox: ", ".join(its) for mailbox, its in aliases.items()}
    )


@dataclass(frozen=True)
class _OpenWork:
    """What is left to do, by what is asked in one go."""

    due: datetime | None = None
    """When the message that could be claimed longest became due."""
    unsure_since: datetime | None = None
    awaiting_google: float = 0.0
    """Seconds for which the oldest call waits while none has ended."""
    unsure_longest: tuple[str, int] | None = None
    """A message by its job and number."""
    jobs: Mapping[JobStatus, int] = field(default_factory=dict)
    recipients: Mapping[State, int] = field(default_factory=dict)
    in_trouble: Sequence[_BadJob] = ()


async def _read_open(cursor: Cursor, mine: KeyMailboxes | None) -> _OpenWork:
    found = await cursor.fetch_batch([_about(each, mine) for each in _OF_OPEN_JOBS])
    open_jobs, ((due,),), ((in_flight, awaiting),), ((in_doubt, since, longest),), bad = found
    _, job, seq = longest.split("/") if longest else ("", "", 0)
    small = (State.SENDING, in_flight), (State.UNSURE, in_doubt)
    return _OpenWork(
        utc(due),
        utc(since),
        float(awaiting or 0) / 1e6,
        (job, int(seq)) if job else None,
        jobs={JobStatus(status): number for status, number in open_jobs},
        recipients={state: number for state, number in small if number},
        in_trouble=[_BAD_JOB.row(row) for row in bad],
    )


async def _unread(cursor: Cursor, mine: KeyMailboxes | None) -> tuple[UnreadInbox, ...]:
    await cursor.execute(*_about(_READ_REFUSED, mine))
    return tuple(
        UnreadInbox(email, from_row(*why) or "", utc(read_at))
        for email, *why, read_at in await cursor.fetchall()
    )


async def _count_open(
    cursor: Cursor, mine: KeyMailboxes | None, *, most: int
) -> tuple[int, dict[State, int]]:
    """The size of the unfinished jobs, and how many of their messages are in which state; beyond
    `most` all wait.
    """
    await cursor.execute(*_about(_SUM_TOTALS, mine))
    total = int((await cursor.fetchone())[0])
    if not 0 < total <= most:
        return total, {State.WAITING: total}
    await cursor.execute(*_about(_COUNT_OTHERS, mine))
    numbers = map(int, await cursor.fetchone())
    return total, {state: number for state, number in zip(_OTHERS, numbers, strict=True) if number}


async def _next_costs(
    cursor: Cursor,
    senders: Sequence[StoredSender],
    defaults: DefaultLimits,
    mine: KeyMailboxes | None,
) -> dict[str, int]:
    """What the next message of those senders costs whose day has little room."""
    states = [(it, it.state(defaults)) for it in senders]
    tight = [
        it.email
        for it, state in states
        if 0 < state.allowance.per_day - used_day(it.hours, state.now) < MAX_COST
    ]
    if not tight:
        return {}
    part, names = _about(READ_NEXT_COST, mine)
    values = [value for email in tight for value in (email, email, *names)]
    await cursor.execute(" UNION ALL ".join([part] * len(tight)), values)
    return {email: int(cost) for email, cost in await cursor.fetchall()}


async def _failed_jobs(
    cursor: Cursor, senders: Sequence[str], mine: KeyMailboxes | None
) -> tuple[FailedJob, ...]:
    if not senders:
        return ()
    bounds = max(LOOKED_AT // 10, LOOKED_AT // len(senders)), max(1, SHOWN_FAILED // len(senders))
    part, names = _about(READ_FAILED_JOBS, mine)
    values = [it for sender in senders for it in (sender, *names, *bounds)]
    await cursor.execute(
        f"{' UNION ALL '.join([part] * len(senders))} ORDER BY finished_at DESC", values
    )
    if not (rows := await cursor.fetchall()):
        return ()
    ids = [id_ for id_, *_ in rows]
    await cursor.execute(
        " UNION ALL ".join([_COUNT_FAILED] * len(ids)), [it for it in ids for _ in range(3)]
    )
    counts = {id_: (int(failed), bool(taken)) for id_, failed, taken in await cursor.fetchall()}
    await cursor.execute(" UNION ALL ".join([_READ_WHY_FAILED] * len(ids)), ids)
    why = {id_: from_row(*error) or "" for id_, *error in await cursor.fetchall()}
    return tuple(
        FailedJob(
            id_,
            sender,
            failed=counts[id_][0],
            total=total,
            retriable=counts[id_][1],
            reason=why.get(id_, ""),
        )
        for id_, sender, total, _ in rows
    )


@dataclass(frozen=True)
class _Counted:
    """What was counted, of the states and the jobs that have no short way to their count."""

    at: float
    """When; monotonic."""
    rows: int
    """How many were read for it."""
    recipients: dict[State, int]
    jobs: dict[JobStatus, int]
    is_whole: bool
    """False: there were too many; `recipients` has the size of all unfinished jobs instead."""

    @property
    def age(self) -> float:
        """Seconds since then."""
        return time.monotonic() - self.at


@dataclass
class StatsReader:
    """Reads the tables. `defaults`: the limits of a sender that has none of its own.

    `authorization` says what is known of that of a mailbox; it asks the disk.

    What costs more the more messages there are is counted now and then, and kept until the next
    time.
    """

    database: Database
    defaults: Live[DefaultLimits]
    authorization: Ask = None
    _counted: _Counted | None = None

    async def read(self, *, bound: float | None = None) -> QueueStats:
        """Read all counts."""
        return await self._authorized(
            await self.database.read(self._read, what="stats.read", bound=bound)
        )

    async def read_of(self, senders: Collection[str], *, bound: float | None = None) -> QueueStats:
        """Read what concerns those who send as these: their jobs, and the mailboxes through which
        they go.

        Neither jobs that have ended are counted, nor webhooks and actions.
        """

        async def read(cursor: Cursor) -> QueueStats:
            return await self._read(cursor, await find_mailboxes(cursor, senders))

        return await self._authorized(
            await self.database.read(read, what="stats.read", bound=bound)
        )

    async def _authorized(self, stats: QueueStats) -> QueueStats:
        known = await authorizations(
            self.authorization, [it.email for it in stats.senders if it.turn]
        )
        none = Authorization()
        return replace(
            stats, senders=tuple(authorized(it, known.get(it.email, none)) for it in stats.senders)
        )

    async def _count(self, cursor: Cursor, *, is_open: bool) -> _Counted:
        """What was counted last, or, where it is time for that, what is counted now.

        `is_open`: a job has not ended.
        """
        last = self._counted
        if last and last.rows > COUNTED_EACH_TIME and last.age < last.rows / ROWS_PER_SECOND:
            return last
        total, recipients = (
            await _count_open(cursor, None, most=MAX_ROWS_COUNTED) if is_open else (0, {})
        )
        await cursor.execute(_COUNT_ENDED_JOBS)
        jobs = {JobStatus(status): number for status, number in await cursor.fetchall()}
        self._counted = _Counted(
            time.monotonic(),
            total + sum(jobs.values()),
            recipients,
            jobs,
            is_whole=total <= MAX_ROWS_COUNTED,
        )
        return self._counted

    async def _count_of(self, cursor: Cursor, mine: KeyMailboxes, *, is_open: bool) -> _Counted:
        total, recipients = (
            await _count_open(cursor, mine, most=COUNTED_EACH_TIME) if is_open else (0, {})
        )
        return _Counted(
            time.monotonic(), total, recipients, {}, is_whole=total <= COUNTED_EACH_TIME
        )

    async def _read(self, cursor: Cursor, mine: KeyMailboxes | None = None) -> QueueStats:
        await cursor.execute(_LOOK)
        look = _LOOKED.row(await cursor.fetchone())
        if mine is None:
            counted = await self._count(cursor, is_open=look.is_open)
        else:
            counted = await self._count_of(cursor, mine, is_open=look.is_open)
        jobs, recipients = counted.jobs.copy(), counted.recipients.copy() if look.is_open else {}
        work = await _read_open(cursor, mine) if look.is_open else _OpenWork()
        jobs |= work.jobs
        recipients |= work.recipients
        minute, sums, fails = (
            await self._recent(cursor, mine) if look.was_tried or look.is_open else ({}, {}, {})
        )
        webhooks = await read_webhooks(cursor) if look.has_webhooks and mine is None else ()
        (asked,) = await cursor.fetch_batch([(_READ_ACTIONS, ())]) if mine is None else ((),)
        daemons = await read_daemons(cursor)
        statement, values = _about(_READ_SENDERS, mine)
        await cursor.execute(statement, (*values, tuple(fails) or ("",)))
        senders = [SENDER.row(row) for row in await cursor.fetchall()]
        failed = (
            await _failed_jobs(cursor, [it.email for it in senders], mine) if look.has_ended else ()
        )
        costs = await _next_costs(cursor, senders, self.defaults.now, mine) if look.is_open else {}
        aliases = mine.aliases if mine else {}
        braked = {it.sender: it.braked_until for it in work.in_trouble if it.braked_until}
        shown = [
            sender_stats(
                it.state(self.defaults.now),
                hours=it.hours,
                used_minute=minute.get(it.email, 0),
                ended=sums.get(it.email, (0, 0)),
                fails=fails.get(it.email),
                alias=aliases.get(it.email, ""),
                next_cost=costs.get(it.email, 1),
                turn=it.turn,
                braked_until=braked.get(it.email),
            )
            for it in senders
        ]
        return QueueStats(
            at=look.now,
            jobs=jobs,
            recipients=recipients,
            counted=counted.age if counted.is_whole else None,
            oldest_claimable=max(0.0, (look.now - (work.due or look.now)).total_seconds()),
            oldest_unsure=(look.now - (work.unsure_since or look.now)).total_seconds(),
            awaiting_google=work.awaiting_google,
            unsure_longest=work.unsure_longest,
            senders=tuple(shown),
            webhooks=webhooks,
            asked=tuple(RecentAction(*row) for row in asked),
            daemons=daemons,
            last_beat=look.last_beat,
            inboxes=await _unread(cursor, mine) if look.is_refused else (),
            jobs_in_trouble=tuple(
                JobTrouble(it.id, it.sender, it.reason, it.is_paused)
                for it in work.in_trouble
                if it.reason
            ),
            failed_jobs=failed,
        )

    async def _recent(
        self, cursor: Cursor, mine: KeyMailboxes | None
    ) -> tuple[dict[str, int], dict[str, tuple[int, int]], dict[str, FailingAttempts]]:
        """By mailbox: the messages sent in the last minute, those sent and failed of late, and how
        attempts fail.
        """
        statements = _COUNT_LAST_MINUTE, COUNT_ENDED if mine else _READ_ENDED
        minute, ended = await cursor.fetch_batch([_about(it, mine) for it in statements])
        sums = {sender: (int(sent), int(failed)) for sender, sent, failed in ended}
        attempts = await read_attempts(cursor, mine.mailboxes if mine else None)
        fails = {sender: found for sender, its in attempts.items() if (found := failing(its))}
        # all who send through a mailbox see how it goes, and only their own messages
        if mine and fails:
            examples = tuple(it.example for it in fails.values())
            (own,) = await cursor.fetch_batch([(_READ_OWN, (examples, mine.names))])
            known = {id_ for (id_,) in own}
            fails = {
                sender: replace(it, example=it.example if it.example in known else 0)
                for sender, it in fails.items()
            }
        return dict(minute), sums, fails


MAX_COUNTED: Final = 10_000
"""Events that are counted for one endpoint: nothing here may take longer the more there are."""

_READ_ENDPOINTS: Final = """
SELECT w.id, w.name, w.state, w.pause_cause,
       TIMESTAMPDIFF(MICROSECOND, w.failing_since, UTC_TIMESTAMP(6)),
       (SELECT TIMESTAMPDIFF(MICROSECOND, e.at, UTC_TIMESTAMP(6)) FROM events e
         WHERE e.position = (SELECT MIN(d.position) FROM webhook_deliveries d FORCE INDEX (undelivered)
                              WHERE d.webhook_id = w.id AND d.status = 'waiting'))
  FROM webhooks w ORDER BY w.name"""
_COUNT_WAITING: Final = """
SELECT COUNT(*) FROM (SELECT 1 FROM webhook_deliveries FORCE INDEX (undelivered)
                       WHERE webhook_id = %s AND status = 'waiting' LIMIT %s) counted"""


async def read_webhooks(cursor: Cursor) -> tuple[WebhookStats, ...]:
    """Every endpoint, by name."""
    await cursor.execute(_READ_ENDPOINTS)
    if not (rows := await cursor.fetchall()):
        return ()
    counts = await cursor.fetch_batch([(_COUNT_WAITING, (id_, MAX_COUNTED)) for id_, *_ in rows])
    return tuple(
        WebhookStats(
            name,
            standing(
                EndpointState(state),
                PauseReason(cause) if cause else None,
                is_failing=failing is not None,
            ),
            (failing or 0) / 1e6,
            int(count),
            (oldest or 0) / 1e6,
        )
        for (_, name, state, cause, failing, oldest), ((count,),) in zip(rows, counts, strict=True)
    )
