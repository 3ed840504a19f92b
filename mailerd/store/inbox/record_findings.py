"""Writes what was found in an inbox and how far it is read, in one transaction, under the reader's
lease.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final, assert_never

from mailerd.clock import new_id
from mailerd.config import Live
from mailerd.core import moves, rate_limit
from mailerd.core.bounce_rule import (
    BOUNCES,
    LAST,
    NO_RULES,
    BounceRule,
    BounceRules,
    is_dead,
    job_reason,
    job_warning,
    sender_reason,
)
from mailerd.core.i18n import t
from mailerd.core.inbox_findings import (
    BadList,
    Finding,
    Found,
    InboxCursor,
    InboxLease,
    PassedOver,
    SentElsewhere,
    SentMessage,
    UndoneByLimit,
    Written,
)
from mailerd.core.moves import Move, Row
from mailerd.core.notices import MICROSOFT_DEAD, Classification, Kind
from mailerd.core.reasons import reason
from mailerd.core.results import (
    BLOCKED_OF_LAST,
    BLOCKED_SHARE,
    MIN_BLOCKED,
    SOFT_IN_A_ROW,
    UNKNOWN_DOMAINS,
    UNKNOWN_MINUTES,
    Result,
    Step,
    kind_of,
    prevails,
)
from mailerd.core.states import JobChange, JobStatus, State, job_after
from mailerd.core.suppression import EVERYTHING, AddedSuppression, Channel, Reason, digest_of
from mailerd.core.verdicts import PauseCause
from mailerd.core.webhooks import EventType
from mailerd.store.db.connection import Cursor, naive, rfc3339
from mailerd.store.db.database import Database
from mailerd.store.inbox.mailboxes import SELECT_KNOWN, move_on
from mailerd.store.queue.failover import ReplayLog
from mailerd.store.queue.rate_limits import DefaultLimits, lock_sender, sent_by_hour
from mailerd.store.write import job_changes
from mailerd.store.write import messages as door
from mailerd.store.write.action_log import note_action
from mailerd.store.write.event_feed import NewEvent, insert_events
from mailerd.store.write.messages import NOT_LOCKED, Locked, short
from mailerd.store.write.sender_changes import add_elsewhere, pause_sender
from mailerd.store.write.suppressions import NewSuppression, add, list_names

# Pauses a job whose list is bad, in the transaction that writes what came back of it; warns of it
# before.
#
# A person's resume is not overruled: only messages that were sent since count.

ACTOR: Final = "mailerd"
"""Who pauses a job by a rule, in the log of actions and in events."""
# A job of which nothing waits needs no pause.
_LOCK_JOB: Final = """
SELECT status, sender_email, reference, bounce_warning, bounces_seen FROM jobs FORCE INDEX (PRIMARY)
 WHERE id = %s AND status IN ('queued', 'sending') AND next_claim_at IS NOT NULL AND on_bounces = 'pause' FOR UPDATE"""
# The newest in the order of the claim, as below: one that was retried is newer than its number
# says, and is none until it comes back again.
NEWEST_DEAD: Final = """
SELECT r.due_at, r.id
  FROM notices n FORCE INDEX (job) STRAIGHT_JOIN job_recipients r FORCE INDEX (PRIMARY) ON r.id = n.recipient_id
 WHERE n.job_id = %s AND n.believed = 1
   AND (n.kind = 'hard' OR (n.kind IN ('soft', 'unknown') AND n.code IN %s))
   AND r.status = 'sent' AND r.result = 'bounced'
 ORDER BY r.due_at DESC, r.id DESC LIMIT 1"""
# The order of the claim, backwards.
LAST_SENT: Final = """
SELECT result, result_kind, result_code, result_reason, sent_at FROM job_recipients FORCE INDEX (claim)
 WHERE job_id = %s AND status = 'sent' AND (due_at < %s OR (due_at = %s AND id <= %s))
 ORDER BY due_at DESC, id DESC LIMIT %s"""


async def dead_of_job(cursor: Cursor, job: str, *, since: datetime | None) -> tuple[int, int]:
    """How many of the last messages of a job have dead addresses, and how many these are; `since`:
    sent after that.

    The last up to the newest dead one: notices are read more slowly than messages are sent, so of
    those that were sent later nothing is known.
    """
    await cursor.execute(NEWEST_DEAD, (job, tuple({code for code, _ in MICROSOFT_DEAD})))
    if (newest := await cursor.fetchone()) is None:
        return 0, 0
    due_at, id_ = newest
    await cursor.execute(LAST_SENT, (job, due_at, due_at, id_, LAST))
    sent = [
        result == "bounced" and is_dead(*bounce)
        for result, *bounce, at in await cursor.fetchall()
        if since is None or (at is not None and at > since)
    ]
    return sum(sent), len(sent)


async def judge_job(cursor: Cursor, job: str, rule: BounceRule) -> BadList | None:
    """Pause a job if its list is bad, or warn of it once; its messages are locked, and its row is
    from here on.
    """
    if not rule.is_on:
        return None
    await cursor.execute(_LOCK_JOB, (job,))
    if (row := await cursor.fetchone()) is None:
        return None
    status, sender, reference, warned, seen = row
    dead, sent = await dead_of_job(cursor, job, since=seen)
    if not rule.is_broken(dead, sent):
        words = (
            job_warning(job, dead=dead, sent=sent, limit=rule.limit(sent))
            if rule.is_near(dead, sent)
            else None
        )
        if words != warned:
            await job_changes.set_warning(cursor, job, words)
        return BadList(job, sender, words, paused=False) if words and not warned else None
    why = job_reason(job, dead=dead, sent=sent)
    paused = job_after(JobStatus(status), JobChange.PAUSE)
    await job_changes.set_paused(cursor, job, paused, cause=BOUNCES, reason=why)
    await cursor.execute(
        *note_action(JobChange.PAUSE.value, ACTOR, job=job, detail=f"{dead}/{sent}")
    )
    data = {
        "job_id": job,
        "sender_email": sender,
        "reference": reference,
        "actor": ACTOR,
        "cause": BOUNCES,
        "reason": why,
        "bounced": dead,
        "of": sent,
    }
    await cursor.execute(
        *insert_events([NewEvent(EventType.JOB_PAUSED, new_id(), data, job, sender)])
    )
    return BadList(job, sender, why, paused=True)


# Counts of bounces by which an address is suppressed or a sender pauses; each reads few rows by an
# index.
#
# The messages of one person, the newest first. One of which nothing was heard went well, or it is
# not known yet.
_READ_LAST_RESULTS: Final = """
SELECT o.result, o.result_kind, o.result_at > UTC_TIMESTAMP(6) - INTERVAL 30 DAY
  FROM job_recipients r FORCE INDEX (PRIMARY) JOIN job_recipients o FORCE INDEX (person) ON o.person = r.person
 WHERE r.id = %s AND o.status = 'sent' ORDER BY o.id DESC LIMIT %s"""
_READ_HOURS: Final = """
SELECT hour, messages FROM sender_hours FORCE INDEX (PRIMARY)
 WHERE sender_email = %s AND hour > UTC_TIMESTAMP() - INTERVAL 5 DAY ORDER BY hour DESC"""
# Messages, not notices: a person who holds one message can write any number of notices about it.
_COUNT_BLOCKED: Final = """
SELECT COUNT(DISTINCT recipient_id), COUNT(DISTINCT IF(gmail_id IN %s, NULL, recipient_id))
  FROM notices FORCE INDEX (by_kind)
 WHERE mailbox = %s AND kind = 'blocked' AND believed = 1 AND at >= %s"""
# Of every job, also of those that are paused for it: who posts a bad list piece by piece has each
# piece paused.
_READ_DEAD: Final = """
SELECT n.recipient_id, n.gmail_id, r.sent_at, n.kind, n.code, n.detail
  FROM notices n FORCE INDEX (by_kind) JOIN job_recipients r FORCE INDEX (PRIMARY) ON r.id = n.recipient_id
 WHERE n.mailbox = %s AND n.kind IN ('hard', 'soft', 'unknown') AND n.at > UTC_TIMESTAMP(6) - INTERVAL 6 HOUR
   AND n.believed = 1 AND (n.kind = 'hard' OR n.code IN %s) AND r.sent_at > %s AND n.email = r.to_email
   AND NOT EXISTS (SELECT 1 FROM jobs WHERE jobs.id = r.job_id AND jobs.type = 'test')"""
# What was sent before a person resumed the sender has been seen. A lock: what is read is of now.
_LOCK_SEEN: Final = (
    "SELECT bounces_seen FROM senders FORCE INDEX (PRIMARY) WHERE email = %s FOR UPDATE"
)
# Each minute by its key: the minutes of other senders are not read.
COUNT_SENT: Final = """
SELECT minute, SUM(sent) FROM tallies FORCE INDEX (PRIMARY)
 WHERE minute IN %s AND sender_email = %s GROUP BY minute ORDER BY minute DESC"""
_LONG_AGO: Final = datetime(1970, 1, 1)  # noqa: DTZ001 - as the database has it
_MINUTES: Final = 180
"""So many minutes are looked at for a sender's last messages; a slower one has fewer than LAST."""
_COUNT_UNKNOWN_DOMAINS: Final = """
SELECT COUNT(DISTINCT SUBSTRING_INDEX(email, '@', -1)) FROM notices FORCE INDEX (by_kind)
 WHERE mailbox = %s AND kind = 'unknown' AND believed = 1 AND at > UTC_TIMESTAMP(6) - INTERVAL %s MINUTE"""


async def is_third_soft(cursor: Cursor, recipient: int) -> bool:
    """Whether the last messages to the person of this message all bounced softly within 30 days."""
    await cursor.execute(_READ_LAST_RESULTS, (recipient, SOFT_IN_A_ROW))
    rows = await cursor.fetchall()
    return len(rows) == SOFT_IN_A_ROW and all(row == ("bounced", "soft", 1) for row in rows)


async def count_blocked(cursor: Cursor, sender: str, fresh: Collection[str]) -> int:
    """How many of the sender's last messages were blocked: at the first above the share, and each
    tenth; else 0.

    `fresh`: the ids of the notices that are new, of which one tenth or several may come at once.
    """
    await cursor.execute(_READ_HOURS, (sender,))
    sent, since = 0, None
    for hour, messages in await cursor.fetchall():
        sent, since = sent + messages, hour
        if sent >= BLOCKED_OF_LAST:
            break
    if since is None:
        return 0
    await cursor.execute(_COUNT_BLOCKED, (tuple(fresh), sender, since))
    blocked, before = map(int, await cursor.fetchone())
    # Then at each tenth, so that a person who has looked and resumes the sender is not overruled by
    # the next one.
    is_next = blocked // MIN_BLOCKED > before // MIN_BLOCKED or before <= BLOCKED_SHARE * sent
    return blocked if is_next and blocked >= MIN_BLOCKED and blocked > BLOCKED_SHARE * sent else 0


async def dead_of_sender(
    cursor: Cursor, sender: str, fresh: Collection[str], rule: BounceRule
) -> tuple[int, int] | None:
    """How many of the sender's last messages have dead addresses, and how many these are, where it
    has to rest.

    Else None. The last up to the newest dead one, by whole minutes. At the first that breaks the
    rule, and then each `at_least` more: a person's resume is not overruled by the next one.
    `fresh`: the ids of the notices that are new.
    """
    if not rule.is_on:
        return None
    seen = await cursor.fetch_value(_LOCK_SEEN, (sender,)) or _LONG_AGO
    await cursor.execute(_READ_DEAD, (sender, tuple({code for code, _ in MICROSOFT_DEAD}), seen))
    rows = [
        (message, notice, at)
        for message, notice, at, *bounce in await cursor.fetchall()
        if is_dead(*bounce)
    ]
    if not rows:
        return None
    newest = max(at for _, _, at in rows).replace(second=0, microsecond=0)
    minutes = tuple(
        at
        for n in range(_MINUTES)
        if (at := newest - timedelta(minutes=n)) >= seen.replace(second=0, microsecond=0)
    )
    await cursor.execute(COUNT_SENT, (minutes, sender))
    sent, since = 0, newest
    for minute, messages in await cursor.fetchall():
        sent, since = sent + int(messages), minute
        if sent >= LAST:
            break
    dead = len({message for message, _, at in rows if at >= since})
    before = len({message for message, notice, at in rows if at >= since and notice not in fresh})
    is_next = dead // rule.at_least > before // rule.at_least or not rule.is_broken(before, sent)
    return (dead, sent) if is_next and rule.is_broken(dead, sent) else None


async def count_unknown(cursor: Cursor, sender: str) -> int:
    """At how many domains messages have just failed for an unknown cause; 0 where they are few."""
    domains = int(await cursor.fetch_value(_COUNT_UNKNOWN_DOMAINS, (sender, UNKNOWN_MINUTES)))
    return domains if domains >= UNKNOWN_DOMAINS else 0


async def rest_sender(
    cursor: Cursor,
    sender: str,
    defaults: DefaultLimits,
    *,
    at_least: timedelta,
    reason: str,
    full: bool,
) -> timedelta | None:
    """Pause a sender that has reached its limit, and set its day to full; how long, or None where
    it rests longer.

    `full`: Google said so. Then messages that our counts lack were sent by a person or by another
    program, at an unknown time: they count from now.
    """
    if (it := await lock_sender(cursor, sender, defaults)) is None:
        return None
    hours = (await sent_by_hour(cursor, [sender], now=it.now))[sender]
    wait = at_least
    if limit := it.limits.per_day:
        missing = limit - sum(hours.values())
        if full and missing > 0:
            await add_elsewhere(cursor, sender, at=it.now, messages=missing)
            hours = (await sent_by_hour(cursor, [sender], now=it.now))[sender]
        free_at = rate_limit.day(it.allowance, hours=hours, now=it.now).next_at
        wait = max(wait, free_at - it.now) if free_at else wait
    paused = await pause_sender(
        cursor,
        sender,
        cause=PauseCause.DAILY_LIMIT.value,
        reason=reason,
        wait=wait,
        pauses=it.pauses,
    )
    return wait if paused else None


_INSERT_NOTICE: Final = """
INSERT INTO notices
       (mailbox, gmail_id, thread_id, recipient_id, job_id, email, sender_email, kind, code, detail, believed, at)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"""
_NOBODY: Final = (None, None, None, None)
"""Whose finding it is that concerns no message."""
_DAY: Final = timedelta(hours=24)
"""How long a sender rests whose messages came back, blocked or for want of their addresses."""


class LeaseLostError(Exception):
    """What was read is not written, and is read again: another daemon has the mailbox, or a message
    is being sent.
    """


@dataclass(frozen=True)
class FindingsWriter:
    """Writes findings. `min_pause`: how long a sender rests at least after a limit notice."""

    database: Database
    defaults: Live[DefaultLimits]
    daemon_id: str
    lease_time: timedelta
    min_pause: timedelta
    undo: bool
    """Whether a limit notice lets its message wait again; otherwise it is noted, and its sender
    pauses.
    """
    rules: BounceRules = NO_RULES
    """By which a bad list pauses its job, and its sender."""
    replay_log: ReplayLog | None = None
    """What was read of rows that have forgotten since what was sent is read again."""

    async def write(
        self,
        lease: InboxLease,
        found: Sequence[Found],
        cursor: InboxCursor,
        *,
        address_key: bytes,
        failing: tuple[str, int] | None = None,
    ) -> Written:
        """Write all of it, or nothing; what it changed.

        `failing`: the received mail that could not be read, and how often. What is in doubt is
        repeated.

        Raises:
            LeaseLostError: another daemon reads this mailbox, this daemon has not replayed all to
            this server yet, or
                a message that Google gave back is being sent anew.
            DatabaseError: nothing was written.
        """

        async def work(database_cursor: Cursor) -> Written:
            batch = _FindingsBatch(self, database_cursor, lease, address_key)
            told = self.replay_log is None or self.replay_log.is_replayed(database_cursor)
            if not told or not await move_on(
                database_cursor, lease, cursor, failing=failing, lease_time=self.lease_time
            ):
                raise LeaseLostError(lease.email)
            return await batch.write(found)

        async def was_written(database_cursor: Cursor, done: Written) -> bool:
            """Whether what was fresh then is known: no other daemon can have written under our
            lease.
            """
            noted = [it.gmail_id for it in done.fresh]
            await database_cursor.execute(SELECT_KNOWN, (lease.email, tuple(noted) or ("",)))
            return bool(noted) and len(await database_cursor.fetchall()) == len(noted)

        what = "notices.record"
        return await self.database.retry_until_committed(
            work, what=what, proof=was_written, only_in_doubt=True
        )


@dataclass
class _FindingsBatch:
    """One transaction. Rows are locked in the order of all others: recipients, jobs, senders."""

    writer: FindingsWriter
    cursor: Cursor
    lease: InboxLease
    address_key: bytes
    done: Written = field(default_factory=Written)
    _locked: Locked = field(default_factory=lambda: Locked({}, NOT_LOCKED))
    """The messages that are concerned, as they are and as they become."""
    _moves: list[Move] = field(default_factory=list)
    _given_back: set[int] = field(default_factory=set)
    """The messages that a limit notice has let wait again before."""
    _dead: dict[str, set[str]] = field(default_factory=dict)
    """The new notices about dead addresses, by job."""
    _news: list[NewEvent] = field(default_factory=list)
    _suppress: list[NewSuppression] = field(default_factory=list)

    async def write(self, found: Sequence[Found]) -> Written:
        unknown = await self._unknown(found)
        await self._lock(unknown)
        for it in unknown:
            if (seen := self._as_row_allows(it)) is not None:
                await self._note(seen)
                self.done.fresh.append(seen)
        fresh = [it for it in self.done.fresh if isinstance(it, Finding)]
        for it in fresh:
            self._decide(it)
            self._note_copies(it)
        undoing = [it for it in fresh if it.consequence.step is Step.UNDO]
        undone = self._undo(undoing) if self.writer.undo else []
        done = await door.move(
            self.cursor,
            self._moves,
            by=self.writer.daemon_id,
            also=partial(self._write_jobs_and_sender, undoing),
        )
        now = {row.id: row.status for row in done}
        self.done.undone = [
            UndoneByLimit(it, cancelled=now[it.id] is State.CANCELLED) for it in undone
        ]
        if self._suppress:
            added = await add(self.cursor, self._suppress)
            names = await list_names(self.cursor, {it.list_id for it in added.changed})
            self.done.suppressed += [
                AddedSuppression(it.address or "", names[it.list_id], it.reason, it.source)
                for it in added.changed
            ]
        if self._news:
            await self.cursor.execute(*insert_events(self._news))
        return self.done

    async def _unknown(self, found: Sequence[Found]) -> list[Found]:
        """Those that were not noted before, each once.

        The mailbox's row is locked: no other daemon notes any now.
        """
        if not found:
            return []
        once = {it.gmail_id: it for it in found}
        await self.cursor.execute(SELECT_KNOWN, (self.lease.email, tuple(once)))
        known = {gmail_id for (gmail_id,) in await self.cursor.fetchall()}
        return [it for it in once.values() if it.gmail_id not in known]

    async def _note(self, it: Found) -> None:
        whose: tuple[Any, ...]
        what: tuple[Any, ...]
        match it:
            case Finding(message=message, meaning=meaning):
                whose = (
                    (message.id, message.job_id, it.about, message.from_address)
                    if message
                    else _NOBODY
                )
                what = (
                    meaning.kind.value,
                    meaning.code or None,
                    short(meaning.reason, 500) or None,
                )
                believed = it.consequence.believed
            case SentElsewhere():
                whose, what, believed = _NOBODY, ("manual", None, None), True
            case PassedOver(cause=cause):
                whose, what, believed = _NOBODY, ("passed_over", None, short(cause, 500)), False
            case _:
                assert_never(it)
        place = (self.lease.email, it.gmail_id, it.thread_id)
        await self.cursor.execute(
            _INSERT_NOTICE, (*place, *whose, *what, int(believed), naive(it.at))
        )

    async def _lock(self, found: Sequence[Found]) -> None:
        """Lock the messages that are concerned."""
        if ids := {it.message.id for it in found if isinstance(it, Finding) and it.message}:
            self._locked = await door.lock(self.cursor, ids)
        self._given_back = {row.id for row in self._locked.rows.values() if row.given_back}

    def _become(self, move: Move) -> None:
        self._moves.append(move)
        self._locked.rows[move.after.id] = move.after

    def _as_row_allows(self, it: Found) -> Found | None:
        """What a finding is to its message's row; None: to nothing, since its person was
        forgotten.
        """
        if not isinstance(it, Finding) or it.message is None:
            return it
        row = self._locked.rows.get(it.message.id)
        # docs/how-to/security.md: nothing is noted of its person any more
        if row is not None and row.is_forgotten:
            return replace(it, message=None) if it.unsubscribes else None
        if (
            it.consequence.step is Step.UNDO
            and it.message.id in self._given_back
            and self.writer.undo
        ):
            # It was sent again, and is not a third time: it has come back, and a person may retry
            # it.
            meaning = replace(it.meaning, kind=Kind.UNKNOWN)
            return replace(
                it, meaning=meaning, consequence=replace(it.consequence, result=Result.BOUNCED)
            )
        return it

    def _decide(self, it: Finding) -> None:
        message, result = it.message, it.consequence.result
        if it.consequence.step is Step.UNSUBSCRIBE and it.unsubscribes:
            self._unsubscribe(it)
        if message is None or result is None or (row := self._locked.rows.get(message.id)) is None:
            return
        before = (Result(row.result), row.result_kind or "") if row.result else None
        new = result, kind_of(it.meaning)
        if prevails(new, before) and (made := self._resultd(it, message, row, new)):
            self._become(made)
            self.done.changed.append(it)
            self._log_result(it, message, result)
            if result is Result.BOUNCED and is_dead(new[1], it.meaning.code, it.meaning.reason):
                self._dead.setdefault(message.job_id, set()).add(it.gmail_id)

    def _resultd(
        self, it: Finding, message: SentMessage, row: Row, new: tuple[Result, str]
    ) -> Move | None:
        if row.job_id != message.job_id:
            return None
        return moves.resulted(
            row,
            result=new[0].value,
            kind=new[1] or None,
            code=it.meaning.code or None,
            reason=short(it.meaning.reason, 500) or None,
            at=it.at,
            sender=self.lease.email,
            now=self._locked.now,
        )

    def _note_copies(self, it: Finding) -> None:
        """Copies that bounced: each has an event, and an address that does not exist is
        suppressed.
        """
        message = it.message
        if message is None or message.id not in self._locked.rows:
            return
        for number, copy in enumerate(it.copies):
            meaning = copy.meaning
            data: dict[str, object] = {
                "recipient_id": message.id,
                "job_id": message.job_id,
                "seq": message.seq,
                "email": message.to_email,
                "sender_email": message.sender,
                "at": rfc3339(it.at),
                "copy_email": copy.email,
                "kind": kind_of(meaning),
                "code": meaning.code or None,
                "reason": meaning.reason or None,
            }
            cause = f"{message.id}:{it.gmail_id}:{number}"
            self._news.append(
                NewEvent(
                    EventType.RECIPIENT_COPY_BOUNCED, cause, data, message.job_id, message.sender
                )
            )
            if copy.step is Step.SUPPRESS:
                self._suppress_address(copy.email, message, _said(meaning))

    def _undo(self, notices: Sequence[Finding]) -> list[SentMessage]:
        """Let these messages wait again, each once; those that do."""
        undone = []
        for it in notices:
            row = self._locked.rows.get(it.message.id) if it.message else None
            if it.message is None or row is None or row.job_id != it.message.job_id:
                continue
            if row.status in {State.SENDING, State.UNSURE} and not row.given_back:
                # It was claimed since the look. The notice waits, and is read again: else it would
                # be lost.
                raise LeaseLostError(self.lease.email)
            made = moves.given_back(
                row, it, token=new_id(), sender=self.lease.email, now=self._locked.now
            )
            if made:
                self._become(made)
                undone.append(it.message)
        return undone

    def _log_result(self, it: Finding, message: SentMessage, result: Result) -> None:
        meaning = it.meaning
        type_ = {
            Result.BOUNCED: EventType.RECIPIENT_BOUNCED,
            Result.REPLIED: EventType.RECIPIENT_REPLIED,
            Result.OTHER_REPLIED: EventType.RECIPIENT_REPLIED,
            Result.AUTO_REPLIED: EventType.RECIPIENT_AUTO_REPLIED,
        }.get(result)
        if type_ is None:
            return
        data: dict[str, object] = {
            "recipient_id": message.id,
            "job_id": message.job_id,
            "index": message.seq,
            "email": message.to_email,
            "sender_email": message.sender,
            "at": rfc3339(it.at),
        }
        if result is Result.BOUNCED:
            data |= {
                "kind": kind_of(meaning),
                "code": meaning.code or None,
                "reason": meaning.reason or None,
            }
        else:
            data |= {"by": next(iter(meaning.addresses), None)}
        self._news.append(
            NewEvent(type_, f"{message.id}:{it.gmail_id}", data, message.job_id, message.sender)
        )

    async def _step(self, it: Finding, message: SentMessage) -> None:
        match it.consequence.step:
            case Step.SUPPRESS:
                self._suppress_address(message.to_email, message, _said(it.meaning))
            case Step.COUNT_SOFT if await is_third_soft(self.cursor, message.id):
                self._suppress_address(
                    message.to_email, message, t("3 soft bounces in a row within 30 days")
                )
            case _:
                pass

    def _suppress_address(self, email: str, message: SentMessage, detail: str | None) -> None:
        digest = digest_of(email, self.address_key)
        self._suppress.append(
            NewSuppression(
                digest,
                EVERYTHING,
                Reason.HARD_BOUNCE,
                Channel.NOTICE,
                email,
                message.id,
                detail,
                origin=message.from_address or "",
            )
        )

    def _unsubscribe(self, it: Finding) -> None:
        list_id, digest = it.unsubscribes or (EVERYTHING, b"")
        message = it.message
        address, recipient, origin = (
            (message.to_email, message.id, message.from_address or "")
            if message
            else (None, None, "")
        )
        self._suppress.append(
            NewSuppression(
                digest,
                list_id,
                Reason.UNSUBSCRIBED,
                Channel.MAILTO,
                address,
                recipient,
                origin=origin,
            )
        )

    async def _write_jobs_and_sender(self, undoing: Sequence[Finding]) -> None:
        for it in self.done.fresh:
            if (
                isinstance(it, Finding)
                and it.message
                and it.consequence.result
                and it.message.id in self._locked.rows
            ):
                await self._step(it, it.message)
        for job in sorted(self._dead):
            if bad := await judge_job(self.cursor, job, self.writer.rules.job):
                self.done.bad_lists.append(bad)
        for it in self.done.fresh:
            if isinstance(it, SentElsewhere):
                await add_elsewhere(self.cursor, self.lease.email, at=it.at, messages=1)
        # That its message was given back before says nothing new, however often it is written.
        believed = [
            it
            for it in undoing
            if it.consequence.believed
            and it.message is not None
            and it.message.id not in self._given_back
        ]
        # A notice of yesterday's limit says nothing about today's.
        if recent := [it for it in believed if self.lease.now - it.at < timedelta(hours=24)]:
            # its first sentence says it all
            said, _, _ = recent[-1].meaning.reason[:200].partition(". ")
            await self._pause_for_limit(reason("limit_notice", said=said.rstrip(".")), full=True)
        changed = {it.consequence.step for it in self.done.changed}
        findings = [it for it in self.done.fresh if isinstance(it, Finding)]
        if Step.COUNT_UNKNOWN in changed and (
            domains := await count_unknown(self.cursor, self.lease.email)
        ):
            await self._pause_for_limit(reason("unknown_failures", domains=domains), full=False)
        refused = [it.gmail_id for it in findings if it.consequence.step is Step.COUNT_BLOCKED]
        if refused and (blocked := await count_blocked(self.cursor, self.lease.email, refused)):
            await self._pause_for_a_day("blocked", reason("many_blocked", blocked=blocked))
        dead = {gmail_id for ids in self._dead.values() for gmail_id in ids}
        if dead and (
            found := await dead_of_sender(
                self.cursor, self.lease.email, dead, self.writer.rules.sender
            )
        ):
            await self._pause_for_a_day(BOUNCES, sender_reason(*found))

    async def _pause_for_a_day(self, cause: str, why: str) -> None:
        if await pause_sender(
            self.cursor, self.lease.email, cause=cause, reason=why, wait=_DAY, pauses=0
        ):
            self.done.paused.append((cause, why, _DAY.total_seconds()))

    async def _pause_for_limit(self, why: str, *, full: bool) -> None:
        wait = await rest_sender(
            self.cursor,
            self.lease.email,
            self.writer.defaults.now,
            at_least=self.writer.min_pause,
            reason=why,
            full=full,
        )
        if wait is not None:
            self.done.paused.append(("daily_limit", why, wait.total_seconds()))


def _said(meaning: Classification) -> str | None:
    return short(f"{meaning.code} {meaning.reason}".strip(), 255)
