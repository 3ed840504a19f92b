"""The inboxes that are read: which is due, whose turn it is, how far it is read, and what was noted
there.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Annotated, Any, Final

from mailerd.clock import new_id
from mailerd.config import Live
from mailerd.core.bounce_rule import (
    BRAKE_SPAN,
    LAST,
    YOUNG_FOR,
    YOUNG_MESSAGES,
    YOUNG_POLL,
    BounceRule,
)
from mailerd.core.inbox_findings import InboxCursor, InboxLease, SentMessage
from mailerd.core.notices import BOUNCES
from mailerd.core.rate_limit import DAY, counted_for, most_of_round
from mailerd.core.reasons import from_row, in_row
from mailerd.core.situation import inbox_remedy
from mailerd.model.fields import Sql
from mailerd.store.db.connection import Cursor, Statement, micros, utc
from mailerd.store.db.database import Database, read, transaction
from mailerd.store.db.rows import Select
from mailerd.store.queue.failover import ReplayLog
from mailerd.store.queue.rate_limits import DefaultLimits
from mailerd.store.write import job_changes

# Lets a job wait while what came back of it is read, and says which mailboxes are read often.
#
# Messages that something came back of and of which nothing is known yet: by thread, so nothing is
# fetched for it.
COUNT_UNREAD: Final = """
SELECT r.job_id, COUNT(*) FROM job_recipients r FORCE INDEX (thread) JOIN jobs j ON j.id = r.job_id
 WHERE r.thread_id IN %s AND r.status = 'sent' AND r.result IS NULL
   AND r.sent_at > UTC_TIMESTAMP(6) - INTERVAL %s MICROSECOND
   AND j.sender_email = %s AND j.status = 'sending' AND j.next_claim_at IS NOT NULL AND j.on_bounces = 'pause'
 GROUP BY r.job_id"""
COUNT_SENT: Final = """
SELECT COUNT(*) FROM (SELECT 1 FROM job_recipients FORCE INDEX (claim)
                       WHERE job_id = %s AND status = 'sent' LIMIT %s) sent"""
_READ_BRAKED: Final = """
SELECT id FROM jobs FORCE INDEX (next_claim)
 WHERE sender_email = %s AND claimable = 1 AND braked_until > UTC_TIMESTAMP(6)"""
# Of a few jobs at most: those that are claimed next.
HAS_YOUNG_JOB: Final = """
SELECT 1 FROM (SELECT id, status, on_bounces FROM jobs FORCE INDEX (next_claim)
                WHERE sender_email = %s AND claimable = 1 ORDER BY precedence, next_claim_at, id LIMIT 50) j
 WHERE j.status = 'sending' AND j.on_bounces = 'pause'
   AND COALESCE((SELECT r.sent_at FROM job_recipients r FORCE INDEX (claim)
                  WHERE r.job_id = j.id AND r.status = 'sent'
                  ORDER BY r.job_id, r.status, r.due_at, r.id LIMIT 1 OFFSET %s),
                UTC_TIMESTAMP(6)) > UTC_TIMESTAMP(6) - INTERVAL %s MICROSECOND LIMIT 1"""


def has_young_job(sender: str) -> tuple[str, tuple[object, ...]]:
    """The statement that finds a row where a job of the sender is young."""
    return HAS_YOUNG_JOB, (sender, YOUNG_MESSAGES - 1, micros(YOUNG_FOR))


async def brake_jobs(
    database: Database, sender: str, threads: Collection[str], rule: BounceRule
) -> tuple[dict[str, int], set[str], int]:
    """Let those jobs of a sender wait of which so much came back unread, in these threads, that it
    may break the rule.

    Returns how many messages came back of each job that waits from now on, all jobs that wait for
    this, and how many messages came back unread in all.
    """
    values = (tuple(threads), micros(BRAKE_SPAN), sender)
    unread = (
        await database.read_rows(COUNT_UNREAD, values, what="notices.count_unread")
        if threads
        else ()
    )
    begun: dict[str, int] = {}
    for job, number in sorted(unread):
        if await _is_braked(database, job, int(number), rule):
            begun[job] = int(number)
    braked = await database.read_rows(_READ_BRAKED, (sender,), what="jobs.find_braked")
    return begun, {job for (job,) in braked}, sum(int(number) for _, number in unread)


async def _is_braked(database: Database, job: str, unread: int, rule: BounceRule) -> bool:
    """Whether the job waits from now on."""
    if not rule.is_unread(unread, 0):
        return False  # whatever was sent

    async def work(cursor: Cursor) -> bool:
        if not rule.is_unread(unread, await cursor.fetch_value(COUNT_SENT, (job, LAST))):
            return False
        return await job_changes.brake(cursor, job)

    return await database.transaction(work, what="jobs.brake")


# Reads notices for commands and pages: bounces, one by one and by domain; and how far each inbox is
# read.

BOUNCE_KINDS: Final = tuple(sorted(kind.value for kind in BOUNCES))
_BOUNCES: Final = """
SELECT COALESCE(n.sender_email, n.mailbox) sender, n.email, n.kind, n.recipient_id FROM notices n {index}
 WHERE n.kind IN %s AND n.believed = 1 AND n.at > UTC_TIMESTAMP(6) - INTERVAL %s HOUR {where}"""
_COUNT_BY_DOMAIN: Final = """
SELECT LOWER(SUBSTRING_INDEX(b.email, '@', -1)) name, b.kind, COUNT(DISTINCT b.recipient_id)
  FROM ({bounces}) b GROUP BY name, b.kind"""
_COUNT_BY_SENDER: Final = """
SELECT b.sender name, b.kind, COUNT(DISTINCT b.recipient_id) FROM ({bounces}) b GROUP BY name, b.kind"""
READ_NEWEST: Final = "SELECT MAX(id) FROM notices"


@dataclass(frozen=True)
class Notice:
    """Received mail that concerned a message."""

    id: int
    mailbox: str
    """The inbox that it came to."""
    sender: Annotated[str, Sql("COALESCE(n.sender_email, n.mailbox)")]
    """What the From of the message said; the mailbox, where it concerned none."""
    gmail_id: str
    recipient_id: int | None
    job_id: str | None
    email: str | None
    """The address that the message went to."""
    kind: str
    code: str | None
    detail: str | None
    believed: bool
    at: datetime


_NOTICE: Final = Select(Notice, of="n")
_SELECT_NOTICES: Final = f"SELECT {_NOTICE.columns} FROM notices n"
_NOTICES: Final = (
    f"{_SELECT_NOTICES} {{index}} WHERE n.kind IN %s {{where}} ORDER BY n.id DESC LIMIT %s"
)
_READ_OF_MESSAGE: Final = f"{_SELECT_NOTICES} WHERE n.recipient_id = %s ORDER BY n.id"
READ_OF_MESSAGES: Final = f"""
{_SELECT_NOTICES} FORCE INDEX (recipient) WHERE n.recipient_id IN %s ORDER BY n.id DESC LIMIT %s"""


@dataclass(frozen=True)
class BounceCounts:
    """How many messages to a domain, or of a sender, bounced, by kind."""

    name: str
    kinds: dict[str, int]

    @property
    def total(self) -> int:
        """The messages of all kinds."""
        return sum(self.kinds.values())


@dataclass(frozen=True)
class InboxState:
    """How far an inbox is read."""

    email: str
    scope: str
    state: str
    detail: Annotated[str | None, Sql("m.detail", "m.detail_code", "m.detail_args", read=from_row)]
    read_at: datetime | None
    next_at: datetime
    failing_id: str | None
    now: Annotated[datetime, Sql("UTC_TIMESTAMP(6)")]

    @property
    def remedy(self) -> str:
        """What a person can do so that it is read; "": Google does not refuse it."""
        return inbox_remedy(self.email, self.detail or "") if self.state == "refused" else ""


_INBOX: Final = Select(InboxState, of="m")
_READ_INBOXES: Final = f"SELECT {_INBOX.columns} FROM mailboxes m ORDER BY m.email LIMIT %s"


class NoticeReader:
    """Reads what was found. `timeout`: seconds that the database gets for an answer."""

    def __init__(self, database: Database, *, timeout: float) -> None:
        self._database = database
        self._timeout = timeout

    async def latest(
        self,
        *,
        kinds: Collection[str] = BOUNCE_KINDS,
        senders: Collection[str] | None = None,
        job: str | None = None,
        after: int | None = None,
        before: int | None = None,
        limit: int = 100,
    ) -> list[Notice]:
        """The newest notices of these kinds, those between two ids; `senders` None: of all."""
        rows = await self._read(
            *latest_statement(kinds, senders, limit, job=job, after=after, before=before)
        )
        return [_NOTICE.row(each) for each in rows]

    async def newest(self) -> int:
        """The id of the newest notice; 0: there is none."""
        ((newest,),) = await self._read(READ_NEWEST, ())
        return newest or 0

    async def of_message(self, recipient: int) -> list[Notice]:
        """Everything that came about one message, oldest first."""
        return [_NOTICE.row(each) for each in await self._read(_READ_OF_MESSAGE, (recipient,))]

    async def of_messages(self, recipients: Collection[int], *, limit: int) -> list[Notice]:
        """The newest ones about these messages."""
        rows = await self._read(READ_OF_MESSAGES, (tuple(recipients) or (0,), limit))
        return [_NOTICE.row(each) for each in rows]

    async def by_domain(
        self, *, span: timedelta, sender: str | None = None, most: int | None = None
    ) -> list[BounceCounts]:
        """Bounced messages of the last while by the domain of their recipients, the most first.

        `most`: bounces that are summed up; without a sender they are the newest.
        """
        return _counts(await self._read(*counts_statement(span, sender, most, by_sender=False)))

    async def by_sender(
        self, *, span: timedelta, sender: str | None = None, most: int | None = None
    ) -> list[BounceCounts]:
        """The same by the sender of the messages."""
        return _counts(await self._read(*counts_statement(span, sender, most, by_sender=True)))

    async def inboxes(self, *, limit: int = 1000) -> list[InboxState]:
        """How far each inbox is read."""
        return [_INBOX.row(each) for each in await self._read(_READ_INBOXES, (limit,))]

    async def _read(self, statement: str, values: Sequence[object]) -> list[tuple[Any, ...]]:
        rows = await self._database.request_rows(
            statement, values, what="notices.list", bound=self._timeout
        )
        return list(rows)


def _counts(rows: Sequence[tuple[Any, ...]]) -> list[BounceCounts]:
    found: dict[str, dict[str, int]] = {}
    for name, kind, messages in rows:
        found.setdefault(name or "", {})[kind] = messages
    return sorted((BounceCounts(*it) for it in found.items()), key=lambda it: (-it.total, it.name))


def counts_statement(
    span: timedelta, sender: str | None, most: int | None, *, by_sender: bool
) -> Statement:
    """What `by_domain` and `by_sender` ask; a test has it explained."""
    where, values = "", list[object]([BOUNCE_KINDS, span // timedelta(hours=1)])
    if sender:
        where += "AND n.sender_email = %s"
        values.append(sender)
    if most is not None:
        where += " LIMIT %s" if sender else " ORDER BY n.id DESC LIMIT %s"
        values.append(most)
    index = (
        "FORCE INDEX (by_sender)" if sender else "FORCE INDEX (PRIMARY)" if most is not None else ""
    )
    bounces = _BOUNCES.format(index=index, where=where)
    return (_COUNT_BY_SENDER if by_sender else _COUNT_BY_DOMAIN).format(bounces=bounces), values


def latest_statement(
    kinds: Collection[str],
    senders: Collection[str] | None,
    limit: int,
    *,
    job: str | None = None,
    after: int | None = None,
    before: int | None = None,
) -> Statement:
    """What `latest` asks; a test has it explained.

    `after` bounds how many rows are read where few are of a kind.
    """
    where, values = "", list[object]([tuple(kinds)])
    mine = None if senders is None else tuple(senders) or ("",)
    for condition, value in (
        (" AND n.sender_email IN %s", mine),
        (" AND n.job_id = %s", job),
        (" AND n.id > %s", after),
        (" AND n.id < %s", before),
    ):
        if value is not None:
            where += condition
            values.append(value)
    index = (
        "FORCE INDEX (job)" if job else "" if senders and after is None else "FORCE INDEX (PRIMARY)"
    )
    return _NOTICES.format(index=index, where=where), [*values, limit]


# A sender that never signed in has no mode, and nothing of it was sent.
_INSERT_NEW: Final = """
INSERT INTO mailboxes (email, next_at)
SELECT s.email, UTC_TIMESTAMP(6) FROM senders s LEFT JOIN mailboxes m ON m.email = s.email
 WHERE m.email IS NULL AND s.mode IS NOT NULL ON DUPLICATE KEY UPDATE email = mailboxes.email"""
_MISSING: Final = """
SELECT NULL FROM senders s LEFT JOIN mailboxes m ON m.email = s.email
 WHERE m.email IS NULL AND s.mode IS NOT NULL LIMIT 1"""
# The second arm: a sender that rested and begins again is not left to its long interval.
_DUE: Final = """
SELECT m.email FROM mailboxes m
 WHERE (m.lease_until IS NULL OR m.lease_until <= UTC_TIMESTAMP(6))
   AND (m.next_at <= UTC_TIMESTAMP(6)
        OR (m.state = 'read' AND m.read_at <= UTC_TIMESTAMP(6) - INTERVAL %s MICROSECOND AND EXISTS (
            SELECT 1 FROM sender_hours h WHERE h.sender_email = m.email AND h.messages > 0
               AND h.hour > m.read_at - INTERVAL 1 HOUR AND h.hour > UTC_TIMESTAMP() - INTERVAL 70 MINUTE)))
 ORDER BY m.next_at LIMIT %s"""
_LOCK_IF_FREE: Final = """
SELECT lease_until FROM mailboxes FORCE INDEX (PRIMARY)
 WHERE email = %s AND (lease_until IS NULL OR lease_until <= UTC_TIMESTAMP(6)) FOR UPDATE"""
_SET_LEASE: Final = """
UPDATE mailboxes FORCE INDEX (PRIMARY)
   SET lease_token = %s, lease_until = UTC_TIMESTAMP(6) + INTERVAL %s MICROSECOND WHERE email = %s"""
_IDLE_WHERE: Final = """COALESCE(s.next_claim_at > UTC_TIMESTAMP(6) + INTERVAL 1 MINUTE, 1)
         OR COALESCE(s.paused_until > UTC_TIMESTAMP(6) + INTERVAL 1 MINUTE, 0)"""
_READ_LEASED: Final = f"""
SELECT m.history_id, m.internal_date, m.waiting_from, m.scope, m.failing_id, m.failures, UTC_TIMESTAMP(6),
       s.units_per_minute, {_IDLE_WHERE}
  FROM mailboxes m LEFT JOIN senders s ON s.email = m.email WHERE m.email = %s"""
_READ_IDLE: Final = f"SELECT {_IDLE_WHERE} FROM senders s FORCE INDEX (PRIMARY) WHERE s.email = %s"
_READ_SPENT: Final = """
SELECT at, units FROM mailbox_units FORCE INDEX (PRIMARY)
 WHERE mailbox = %s AND at > UTC_TIMESTAMP(6) - INTERVAL %s MICROSECOND"""
_SUM_TODAY: Final = """
SELECT COALESCE(SUM(units), 0) FROM mailbox_units FORCE INDEX (PRIMARY)
 WHERE mailbox = %s AND at > UTC_TIMESTAMP(6) - INTERVAL %s MICROSECOND"""
_ADD_UNITS_OF_CRASH: Final = """
INSERT INTO mailbox_units (mailbox, at, units) VALUES (%s, %s, %s)
ON DUPLICATE KEY UPDATE units = mailbox_units.units"""
_ADD_UNITS: Final = (
    "INSERT INTO mailbox_units (mailbox, at, units) VALUES (%s, UTC_TIMESTAMP(6), %s)"
)
_RELEASE: Final = """
UPDATE mailboxes FORCE INDEX (PRIMARY)
   SET lease_token = NULL, lease_until = NULL, state = %s, detail = %s, detail_code = %s,
       detail_args = %s, scope = %s,
       next_at = UTC_TIMESTAMP(6) + INTERVAL %s MICROSECOND, read_at = IF(%s, UTC_TIMESTAMP(6), read_at)
 WHERE email = %s AND lease_token = %s"""
_READ_LAST_SENT: Final = """
SELECT TIMESTAMPDIFF(SECOND, MAX(hour), UTC_TIMESTAMP()) FROM sender_hours FORCE INDEX (PRIMARY)
 WHERE sender_email = %s AND messages > 0"""
_READ_FIRST_SENT: Final = """
SELECT MIN(hour) FROM sender_hours FORCE INDEX (PRIMARY)
 WHERE sender_email = %s AND messages > 0 AND hour > UTC_TIMESTAMP() - INTERVAL %s HOUR"""
SELECT_KNOWN: Final = (
    "SELECT gmail_id FROM notices FORCE INDEX (once) WHERE mailbox = %s AND gmail_id IN %s"
)
_MESSAGES: Final = """
SELECT r.id, r.job_id, r.seq, r.to_email, j.sender_email, r.status, r.thread_id, r.message_id, r.came_back,
       COALESCE(r.copy_list, j.copy_list), j.from_address
  FROM job_recipients r {index} JOIN jobs j ON j.id = r.job_id WHERE {where}"""
_BY_THREAD: Final = _MESSAGES.format(
    index="FORCE INDEX (thread)", where="r.thread_id IN %s AND j.sender_email = %s"
)
_BY_KEY: Final = _MESSAGES.format(
    index="FORCE INDEX (message)", where="r.job_id = %s AND r.seq = %s"
)
_BY_ID: Final = _MESSAGES.format(index="FORCE INDEX (PRIMARY)", where="r.id = %s")
# By the unfinished jobs: a message in doubt that nothing will check has no lease by which it could
# be found.
_READ_UNDECIDED: Final = """
SELECT UTC_TIMESTAMP(6), MIN(COALESCE(r.handed_over_at, r.updated_at))
  FROM jobs j FORCE INDEX (finished) JOIN job_recipients r FORCE INDEX (claim)
    ON r.job_id = j.id AND r.status IN ('sending', 'unsure')
 WHERE j.finished_at IS NULL AND j.sender_email = %s
   AND r.thread_id IS NULL AND (r.handed_over_at IS NOT NULL OR r.status = 'unsure')
   AND COALESCE(r.handed_over_at, r.updated_at) > UTC_TIMESTAMP(6) - INTERVAL %s MICROSECOND"""

UNDECIDED_WAIT: Final = timedelta(days=1)
"""How long what comes back waits for a message of which it is not known whether it was sent."""
BUSY_FOR: Final = timedelta(minutes=10)
QUIET_FOR: Final = timedelta(days=1)
READ_FOR: Final = timedelta(days=5)
"""How long a mailbox is read after its last message: Gmail tries for about three days, and reports
delays meanwhile.
"""
QUIET: Final = 5
LATE: Final = 30
"""How many busy intervals lie between two reads: QUIET after BUSY_FOR, LATE after QUIET_FOR."""
REST: Final = timedelta(hours=6)
"""The time between two reads of a mailbox that has sent nothing for long."""
_HOUR: Final = timedelta(hours=1)


def read_interval(since: timedelta | None, *, busy: timedelta) -> timedelta:
    """How long to wait until the next read of a mailbox whose last message was sent so long ago.

    None: none ever was.
    """
    if since is None or since > READ_FOR + _HOUR:
        return REST
    if since <= BUSY_FOR + _HOUR:  # the hour is all that is known of the last message
        return busy
    return busy * (QUIET if since <= QUIET_FOR + _HOUR else LATE)


@dataclass(frozen=True)
class Mailboxes:
    """Whose turn a mailbox is.

    `lease`: for how long; `interval`: between two reads of a busy mailbox.

    `replay_log`: nothing is read while rows may have forgotten what was sent, since a notice tells
    of no other message.
    """

    database: Database
    defaults: Live[DefaultLimits]
    lease_time: timedelta
    interval: timedelta
    replay_log: ReplayLog | None = None

    async def due(self, limit: int) -> list[str]:
        """Mailboxes that should be read now and that no daemon reads; new senders' included."""
        missing, found = await self._due(limit)
        if missing:
            await self.database.transaction(
                lambda cursor: cursor.execute(_INSERT_NEW), what="mailboxes.add"
            )
            _, found = await self._due(limit)
        return found

    @read("mailboxes.due")
    async def _due(self, cursor: Cursor, limit: int) -> tuple[bool, list[str]]:
        await cursor.execute(f"({_MISSING}) UNION ALL ({_DUE})", (micros(self.interval), limit))
        found = [email for (email,) in await cursor.fetchall()]
        return None in found, [email for email in found if email is not None]

    @transaction("mailboxes.lease")
    async def lease(self, cursor: Cursor, email: str) -> InboxLease | None:
        """Take a mailbox for a while; None: another daemon has it, or this daemon has not replayed
        all yet.

        Raises:
            DatabaseError: it is not known to be ours; then its lease runs out.
        """
        token = new_id()
        if self.replay_log is not None and not self.replay_log.is_replayed(cursor):
            return None
        await cursor.execute(_LOCK_IF_FREE, (email,))
        if (free := await cursor.fetchone()) is None:
            return None
        (lapsed,) = free
        await cursor.execute(_SET_LEASE, (token, micros(self.lease_time), email))
        await cursor.execute(_READ_LEASED, (email,))
        history, date, waiting, scope, failing, failures, now, own, idle = await cursor.fetchone()
        default = self.defaults.now.default
        limits = default if own is None else replace(default, units_per_minute=own)
        units = limits.on(utc(now), since=utc(now)).units_per_minute
        # its round was never given back: it may have used all that it might
        if lapsed is not None and units:
            await cursor.execute(_ADD_UNITS_OF_CRASH, (email, lapsed, most_of_round(units)))
        spent, ((today,),) = await cursor.fetch_batch(
            [(_READ_SPENT, (email, micros(counted_for(units)))), (_SUM_TODAY, (email, micros(DAY)))]
        )
        return InboxLease(
            email,
            token,
            InboxCursor(history, date, waiting),
            utc(now),
            idle=bool(idle),
            units_per_minute=units,
            spent=tuple((utc(at), used) for at, used in spent),
            today=int(today),
            scope=scope,
            failing_id=failing,
            failures=failures,
        )

    @transaction("mailboxes.release")
    async def release(
        self,
        cursor: Cursor,
        lease: InboxLease,
        *,
        state: str,
        scope: str,
        detail: str = "",
        wait: timedelta | None = None,
        units: int = 0,
        often: bool = False,
    ) -> None:
        """Give a mailbox back, with the units that its round has used.

        `wait`: until it is read next; None: as long as its last message lets it wait. `often`: no
        longer than YOUNG_POLL where a job of the sender is young.

        Raises:
            DatabaseError: then its lease runs out.
        """
        pause = wait
        if pause is None:
            seconds = await cursor.fetch_value(_READ_LAST_SENT, (lease.email,))
            since = None if seconds is None else timedelta(seconds=max(0, int(seconds)))
            pause = read_interval(since, busy=self.interval)
        if often and pause > YOUNG_POLL:
            await cursor.execute(*has_young_job(lease.email))
            if await cursor.fetchone() is not None:
                pause = YOUNG_POLL
        values = (state, *in_row(detail or None, 255), scope, micros(pause), state == "read")
        await cursor.execute(_RELEASE, (*values, lease.email, lease.token))
        if cursor.rowcount == 1 and units:
            await cursor.execute(_ADD_UNITS, (lease.email, units))

    async def is_idle(self, email: str) -> bool:
        """Whether none of its sender's messages waits for units: there is none, or it is paused."""
        rows = await self.database.read_rows(_READ_IDLE, (email,), what="mailboxes.is_idle")
        return all(is_idle for (is_idle,) in rows)

    async def first_sent(self, email: str, *, within: timedelta) -> datetime | None:
        """The hour of the first message that was sent within that time; None: nothing was."""
        values = (email, int(within.total_seconds() // 3600))
        ((hour,),) = await self.database.read_rows(
            _READ_FIRST_SENT, values, what="mailboxes.first_sent"
        )
        first: datetime | None = utc(hour)
        return first

    async def undecided(self, email: str) -> tuple[datetime, datetime | None]:
        """The time now, and when the first of the messages was handed over whose outcome and thread
        are not known yet.

        Those that were handed over longer ago than UNDECIDED_WAIT do not count.
        """
        values = (email, micros(UNDECIDED_WAIT))
        ((now, first),) = await self.database.read_rows(
            _READ_UNDECIDED, values, what="mailboxes.find_undecided"
        )
        return utc(now), utc(first) if first else None

    async def known(self, email: str, gmail_ids: Collection[str]) -> set[str]:
        """Those of the ids that are noted already."""
        if not gmail_ids:
            return set()
        rows = await self.database.read_rows(
            SELECT_KNOWN, (email, tuple(gmail_ids)), what="notices.find_known"
        )
        return {gmail_id for (gmail_id,) in rows}

    async def messages_in(
        self, email: str, threads: Collection[str]
    ) -> dict[str, list[SentMessage]]:
        """The sender's messages by thread."""
        found: dict[str, list[SentMessage]] = {}
        if not threads:
            return found
        for message in await self._messages(_BY_THREAD, (tuple(threads), email)):
            found.setdefault(message.thread_id or "", []).append(message)
        return found

    async def message_by_key(self, job: str, seq: int) -> SentMessage | None:
        """The message that has this X-Mailerd-Key."""
        return next(iter(await self._messages(_BY_KEY, (job, seq))), None)

    async def message_by_id(self, recipient: int) -> SentMessage | None:
        """The message of this row."""
        return next(iter(await self._messages(_BY_ID, (recipient,))), None)

    async def _messages(self, statement: str, values: tuple[object, ...]) -> list[SentMessage]:
        rows = await self.database.read_rows(statement, values, what="messages.find_sent")
        return [SentMessage(*row) for row in rows]


_MOVE_ON: Final = """
UPDATE mailboxes FORCE INDEX (PRIMARY)
   SET history_id = %s, internal_date = %s, waiting_from = %s, failing_id = %s, failures = %s,
       lease_until = UTC_TIMESTAMP(6) + INTERVAL %s MICROSECOND
 WHERE email = %s AND lease_token = %s"""
_CLOCK_WENT_BACK: Final = (
    "UPDATE mailboxes SET next_at = UTC_TIMESTAMP(6) WHERE next_at > UTC_TIMESTAMP(6)",
    # A reader that lives renews it with each commit.
    """
UPDATE mailboxes SET lease_until = UTC_TIMESTAMP(6) + INTERVAL 1 HOUR
 WHERE lease_until > UTC_TIMESTAMP(6) + INTERVAL 1 HOUR""",
    # They would count as used until then, and nothing be read while messages wait.
    "DELETE FROM mailbox_units WHERE at > UTC_TIMESTAMP(6)",
)


async def follow_clock(database: Database) -> None:
    """Bring back the moments that a clock that was ahead has left."""
    for statement in _CLOCK_WENT_BACK:
        await database.execute(statement, what="clock.follow")


async def move_on(
    cursor: Cursor,
    lease: InboxLease,
    to: InboxCursor,
    *,
    failing: tuple[str, int] | None,
    lease_time: timedelta,
) -> bool:
    """Note how far a mailbox is read, and prolong the lease; False: another daemon has it by now.

    `failing`: the received mail that could not be read, and how often.
    """
    moved = (to.history_id, to.internal_date, to.waiting_from, *(failing or (None, 0)))
    await cursor.execute(_MOVE_ON, (*moved, micros(lease_time), lease.email, lease.token))
    return cursor.rowcount == 1
