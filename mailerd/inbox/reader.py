"""Reads the inboxes that are due, each by a lease, so that one daemon reads a mailbox at a time."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NoReturn

from mailerd.config import Settings
from mailerd.core.bounce_rule import BRAKE, BounceRule, BounceRules
from mailerd.core.i18n import t
from mailerd.core.inbox_findings import (
    Finding,
    Found,
    InboxCursor,
    InboxLease,
    PassedOver,
    SentMessage,
    Written,
)
from mailerd.core.rate_limit import MIN_ROUND, BudgetSpentError, RoundBudget
from mailerd.core.replies import Accepted, Call, Refused, Reply
from mailerd.core.results import Result, kind_of
from mailerd.core.suppression import masked
from mailerd.core.verdicts import judge
from mailerd.errors import DatabaseAwayError, DatabaseError
from mailerd.events.base import EventSink
from mailerd.events.inbox import InboxEvents
from mailerd.events.intake import SuppressionEvents
from mailerd.gmail import Mailbox
from mailerd.heartbeat import Heartbeats, beat, every
from mailerd.inbox.examine import (
    Arrived,
    Examiner,
    MailboxTroubleError,
    MessageUndecidedError,
    SeenMail,
    UnreadableMailError,
    WaitingArrival,
    Walk,
    trouble,
)
from mailerd.rate_limited_gmail import RateLimitedGmail
from mailerd.store.inbox.mailboxes import READ_FOR, UNDECIDED_WAIT, Mailboxes, brake_jobs
from mailerd.store.inbox.record_findings import FindingsWriter, LeaseLostError
from mailerd.store.queue.claim import Claims
from mailerd.store.write.secrets import Secrets

# What the reader says: each finding once it is committed, and each change of a mailbox once.

_THEN: Final = {False: t("requeued"), True: t("cancelled with its job")}


@dataclass
class InboxLog:
    """Remembers what was said of each mailbox, so that a state that lasts is said once."""

    events: InboxEvents
    suppression_events: SuppressionEvents
    _said: dict[str, str] = field(default_factory=dict)

    def opened(self, sender: str, scope: str) -> None:
        """Log once that the mailbox can be read."""
        if self._said.get(sender) not in (scope, "unreadable"):
            self._said[sender] = scope
            self.events.inbox_opened(sender=sender, scope=scope)

    def not_allowed(self, sender: str) -> None:
        """Log once that its sign-in does not allow reading."""
        if self._said.get(sender) != "not allowed":
            self._said[sender] = "not allowed"
            self.events.inbox_not_allowed(sender=sender)

    def unreadable(self, sender: str, cause: str, *, again_in: float) -> None:
        """Log once that Google refused the reading."""
        if self._said.get(sender) != "unreadable":
            self._said[sender] = "unreadable"
            self.events.inbox_unreadable(sender=sender, cause=cause, again_in=again_in)

    def readable(self, sender: str, scope: str) -> None:
        """Log that it can be read again, if it could not be read before."""
        if self._said.get(sender) == "unreadable":
            self._said[sender] = scope
            self.events.inbox_readable_again(sender=sender)

    def history_expired(self, sender: str, since_ms: int) -> None:
        """Log that Google has forgotten what came since the last round."""
        since = datetime.fromtimestamp(since_ms / 1000, UTC)
        self.events.history_expired(sender=sender, since=f"{since:%Y-%m-%d %H:%M:%S} UTC")

    def braked(self, sender: str, jobs: Mapping[str, int]) -> None:
        """Log which jobs wait from now on, since much came back of them."""
        for job, messages in jobs.items():
            self.events.job_held(
                job=job, sender=sender, notices=messages, seconds=BRAKE.total_seconds()
            )

    def written(self, sender: str, done: Written) -> None:
        """Log what a commit has changed."""
        for it in done.fresh:
            if isinstance(it, PassedOver):
                self.events.notice_skipped(sender=sender, gmail_id=it.gmail_id, cause=it.cause)
            elif isinstance(it, Finding) and not it.consequence.believed:
                to = it.message.to_email if it.message else ""
                self.events.notice_not_verified(
                    sender=sender, gmail_id=it.gmail_id, kind=it.meaning.kind, to=to
                )
            elif isinstance(it, Finding) and it.message:
                self._copies(it, it.message)
        for found in done.changed:
            self._result(found)
        for undone in done.undone:
            message = undone.message
            self.events.message_returned(
                job=message.job_id,
                recipient=message.id,
                to=message.to_email,
                sender=sender,
                then=_THEN[undone.cancelled],
            )
        for added in done.suppressed:
            self.suppression_events.suppression_added(
                address=masked(added.address),
                mailing_list=added.mailing_list,
                reason=added.reason,
                source=added.source,
            )
        for bad in done.bad_lists:
            if bad.paused:
                self.events.job_paused_for_bounces(
                    job=bad.job, sender=bad.sender, reason=bad.reason
                )
            else:
                self.events.job_bounces(job=bad.job, sender=bad.sender, reason=bad.reason)
        for pause, reason, seconds in done.paused:
            self.events.sender_paused_by_notice(
                sender=sender, pause=pause, reason=reason, seconds=seconds
            )

    def _copies(self, it: Finding, message: SentMessage) -> None:
        for copy in it.copies:
            self.events.copy_bounced(
                job=message.job_id,
                recipient=message.id,
                to=copy.email,
                kind=copy.meaning.kind,
                code=copy.meaning.code,
                reason=copy.meaning.reason,
            )

    def _result(self, it: Finding) -> None:
        message, result, meaning = it.message, it.consequence.result, it.meaning
        if message is None or result is None:
            return
        if result is Result.BOUNCED:
            self.events.message_bounced(
                job=message.job_id,
                recipient=message.id,
                to=message.to_email,
                kind=kind_of(meaning),
                code=meaning.code,
                reason=meaning.reason,
            )
        else:
            by = next(iter(meaning.addresses), "")
            self.events.message_replied(
                job=message.job_id, recipient=message.id, to=message.to_email, result=result, by=by
            )


# One round of one mailbox: what came since the last one, oldest first, in small commits.
#
# A round that dies is read again from its last commit; what was written then is known by its Gmail
# id.

MAX_FAILURES: Final = 3
"""How often one received mail is tried; then it is passed over by name, so that it delays nothing
behind it.
"""
_MAX_COUNTED: Final = 200
"""The most failures that are counted: the column holds 255."""
BATCH: Final = 25
"""How much received mail one commit is about: little, so that a crash costs little, and rows are
locked for a moment only.
"""
_RETRY: Final = (timedelta(minutes=1), timedelta(minutes=5))
"""How long to wait after the first and the second failure of a received mail."""
_NOT_FOUND: Final = 404
_NEVER_READ: Final = 1
"""`waiting_from` of what a walk finds, or has still to find, in a mailbox that was never read: the
oldest id.
"""
_DAY_MS: Final = 25 * 3_600_000
"""How far the rolling day can reach back: older messages that the owner sent do not count any
more.
"""
_MARGIN_MS: Final = 5 * 60_000
"""The moment up to which all was read is set back by this much: mail does not come in the order of
its dates.
"""


@dataclass
class ReadingRound:
    """One turn at a mailbox. `interval`: seconds between two of them."""

    examiner: Examiner
    writer: FindingsWriter
    log: InboxLog
    interval: float
    wake: Callable[[], None]
    """Called when messages wait again."""
    left: bool = False
    """Something was left for the next round."""
    retry_in: timedelta | None = None
    lease: InboxLease = field(init=False)
    cursor: InboxCursor = field(init=False)
    _listed: tuple[int, Reply] | None = field(default=None, init=False)
    """The first page of the history behind that id, where it was listed and is not read yet."""
    _committed: float = field(default_factory=time.monotonic, init=False)
    """When the lease was taken or last renewed, in monotonic seconds."""
    _undecided: datetime | None = field(default=None, init=False)
    """When the first message was handed over whose outcome and thread are not known, by the
    database's clock.
    """
    _now: datetime = field(init=False)
    """The time by Google's clock, at its last answer: what dates received mail says how far it is
    read.
    """

    def __post_init__(self) -> None:
        self.lease, self.cursor = self.examiner.lease, self.examiner.lease.cursor
        self._now = self.lease.now

    async def read(self) -> None:
        """Read what there is, as far as the budget goes.

        Raises:
            MailboxTroubleError: nothing can be read at the moment.
            LeaseLostError: another daemon has the mailbox.
            DatabaseError: what was not written yet is read again.
        """
        self._take_up()
        try:
            if self.cursor.history_id is None:
                await self._first()
            await self._brake()
            self.examiner.budget.require(MIN_ROUND)
            await self._history()
            # what came since the walk began is newer, and tells whether to go on sending
            if not self.left:
                await self._walk()
            if not self.left:
                await self._waiting()
        except BudgetSpentError:
            self.left = True

    async def _brake(self) -> None:
        """Let jobs wait of which much came back, by the threads of what came and before any of it
        is fetched.
        """
        if not (self.examiner.bodies and self.writer.rules.job.is_on):
            return
        threads = {it.thread_id for it in await self._newest() if it.came_in}
        begun, self.examiner.braked, unread = await brake_jobs(
            self.writer.database, self.lease.email, threads, self.writer.rules.job
        )
        self.examiner.budget.widen(unread)
        self.log.braked(self.lease.email, begun)

    async def _newest(self) -> list[Arrived]:
        """What came and may be unread: a page of the history, what waits, and before a walk ends a
        page of the inbox.

        A walk may take many rounds, and what it reads at last came before the history's cursor.
        """
        came = [it.arrived for it in self.examiner.seen.waiting.values()]
        start = self.cursor.history_id or 0
        # else who reads it next says so
        if not isinstance(reply := await self._list_history(start, ""), Refused):
            self._listed = (start, reply)
            came += [
                arrived for _, part in _records(_body(Call.HISTORY_LIST, reply)) for arrived in part
            ]
        if self.examiner.seen.walk is not None:
            came += (await self._list_labelled("INBOX", ""))[0]
        return came

    async def _list_history(self, start: int, page: str) -> Reply:
        """A page of the history; its first one may have been listed in this round before."""
        listed, self._listed = self._listed, None
        if listed is not None and not page and listed[0] == start:
            return listed[1]
        self.examiner.budget.spend(Call.HISTORY_LIST)
        return await self.examiner.gmail.list_history(
            self.lease.email, start=start, page_token=page
        )

    def _take_up(self) -> None:
        """Begin where this daemon knows all that waits, whatever another daemon has written since.

        Nothing waits: at the cursor. Something does: at the cursor that this daemon has written
        last, up to which it has what waits in memory. Where it has none, or one before the first
        that waits, it looks for that again.
        """
        seen, at, own = self.examiner.seen, self.cursor, self.examiner.seen.written
        if at == own:
            return
        if (
            at.waiting_from is not None
            and own is not None
            and (own.history_id or 0) >= at.waiting_from
        ):
            self.cursor = own
            return
        seen.waiting.clear()
        seen.walk = None
        if at.waiting_from == _NEVER_READ:
            self._begin_walk(InboxCursor(None, at.internal_date))
        elif at.waiting_from is not None:
            self.cursor = replace(at, history_id=at.waiting_from)

    async def _first(self) -> None:
        """A mailbox that was never read is read from now on, and walked for what came of the
        messages sent before.

        What comes back of a bad list now is not to wait for mail of a busy day.
        """
        history_id = await self._profile()
        since = await self.examiner.mailboxes.first_sent(self.lease.email, within=READ_FOR)
        if since is not None:
            ahead = self.lease.now - self._now  # the hour is the database's
            self._begin_walk(InboxCursor(None, _millis(since - ahead)))
        self.cursor = InboxCursor(history_id, _millis(self._now))
        await self._write([])

    async def _profile(self) -> int:
        self.examiner.budget.spend(Call.GET_PROFILE)
        reply = await self.examiner.gmail.get_profile(self.lease.email)
        self._look_at_clock(reply)
        return _number(_body(Call.GET_PROFILE, reply).get("historyId"))

    def _look_at_clock(self, reply: Reply) -> None:
        if isinstance(reply, Accepted | Refused) and reply.answered_at is not None:
            self._now = reply.answered_at

    async def _history(self) -> None:
        """Read the history from the cursor to its end, and commit it with every little of what
        came.
        """
        page, start = "", self.cursor.history_id or 0
        while True:
            reply = await self._list_history(start, page)
            beat()
            self._look_at_clock(reply)
            if isinstance(reply, Refused) and reply.status == _NOT_FOUND:
                await self._forgotten()
                return
            body = _body(Call.HISTORY_LIST, reply)
            records = _records(body)
            for first in range(0, len(records), BATCH):
                if not await self._examine(records[first : first + BATCH]):
                    return
            if not (page := str(body.get("nextPageToken") or "")):
                self.cursor = InboxCursor(_number(body.get("historyId")), _millis(self._now))
                await self._write([])
                # nothing is met again
                if not (self.examiner.seen.waiting or self.examiner.seen.walk):
                    self.examiner.seen.prune(at_most=0)
                return

    async def _forgotten(self) -> None:
        """The history is read from now on, and what it does not tell any more is walked for."""
        since = self.cursor.internal_date or _millis(self._now - READ_FOR)
        self.log.history_expired(self.lease.email, since)
        start = InboxCursor(self.cursor.history_id, since)
        self.cursor = InboxCursor(await self._profile(), _millis(self._now))
        self._begin_walk(start)
        await self._write([])

    def _begin_walk(self, start: InboxCursor) -> None:
        self.examiner.seen.walk = Walk(start, _millis(self._now), ["INBOX", "SPAM", "SENT"])

    async def _walk(self) -> None:
        """Read the newest mail down to the moment up to which all is known, if this is to be done.

        A walk that costs more than one round has goes on in the next ones.
        """
        if (walk := self.examiner.seen.walk) is None:
            return
        try:
            while walk.labels:
                await self._walk_label(walk)
                walk.labels.pop(0)
                walk.page = ""
        except MailboxTroubleError:
            walk.page = ""  # the token of a page may have grown too old
            raise
        self.examiner.seen.walk = None
        await self._write([])

    async def _walk_label(self, walk: Walk) -> None:
        label, since = walk.labels[0], walk.start.internal_date or 0
        if label == "SENT":
            since = max(since, walk.began_ms - _DAY_MS)
        while True:
            arrived, page = await self._list_labelled(label, walk.page)
            if await self._walk_page(arrived, since):
                return
            if not page:
                return
            walk.page = page

    async def _list_labelled(self, label: str, page: str) -> tuple[list[Arrived], str]:
        """A page of the mail with a label, the newest first, and the token of the next page; "":
        there is none.
        """
        self.examiner.budget.spend(Call.MESSAGES_LIST)
        reply = await self.examiner.gmail.list_labelled(self.lease.email, label, page_token=page)
        body = _body(Call.MESSAGES_LIST, reply)
        beat()
        items = [item for item in _items(body, "messages") if item.get("id")]
        arrived = [
            Arrived(str(x["id"]), str(x.get("threadId", "")), frozenset({label})) for x in items
        ]
        return arrived, str(body.get("nextPageToken") or "")

    async def _walk_page(self, arrived: Sequence[Arrived], since: int) -> bool:
        """Examine a page, the newest first, down to what is older than `since`; whether that was
        met.
        """
        # else all of it is to be examined
        ends_here = bool(arrived) and await self._is_older(arrived[-1], since)
        for first in range(0, len(arrived), BATCH):
            part = arrived[first : first + BATCH]
            if not await self._examine([(None, part)]):
                raise BudgetSpentError
            if ends_here and await self._is_older(part[-1], since):
                return True
        return False

    async def _is_older(self, last: Arrived, since: int) -> bool:
        try:
            at = await self._carefully(last, self.examiner.date_of(last))
        except UnreadableMailError:
            return False  # it is not known: the walk goes on to mail that can be read
        return at is not None and at.timestamp() * 1000 < since

    async def _waiting(self) -> None:
        """Examine what stands in no thread of a message: the budget's rest is for that, what is
        left waits.
        """
        waiting = list(self.examiner.seen.waiting.values())
        if any(it.arrived.is_answer for it in waiting):
            # Looked at before the threads are: a message that is decided in between has its thread
            # by then.
            now, self._undecided = await self.examiner.mailboxes.undecided(self.lease.email)
            for it in waiting:
                it.met_at = it.met_at or now
        for first in range(0, len(waiting), BATCH):
            part = [it.arrived for it in waiting[first : first + BATCH]]
            if not await self._examine([(None, part)], waited=True):
                return

    def _may_be_ours(self, it: WaitingArrival) -> bool:
        """Whether received mail may stand in the thread of a message that was handed over before
        and is undecided.
        """
        met, first = it.met_at, self._undecided
        return it.arrived.is_answer and met is not None and first is not None and first <= met

    async def _examine(
        self, records: Sequence[tuple[int | None, Sequence[Arrived]]], *, waited: bool = False
    ) -> bool:
        """Examine some records and commit what was found; whether the round may go on behind them.

        `waited`: these have waited for the end of a round; others do that now if they stand in no
        thread of ours.
        """
        found, failing, spent, waiting = list[Found](), None, False, self.examiner.seen.waiting
        arrivals = [arrived for _, part in records for arrived in part]
        known = await self.examiner.mailboxes.known(
            self.lease.email, [arrived.gmail_id for arrived in arrivals]
        )
        messages = await self.examiner.mailboxes.messages_in(
            self.lease.email, {arrived.thread_id for arrived in arrivals}
        )
        try:
            for history_id, part in records:
                behind = (
                    walk.start
                    if history_id is None and (walk := self.examiner.seen.walk)
                    else self.cursor
                )
                for arrived in part:
                    mine = messages.get(arrived.thread_id, ())
                    if waited and not mine and self._may_be_ours(waiting[arrived.gmail_id]):
                        continue
                    if arrived.gmail_id not in known and (
                        waited or not self.examiner.postpone(arrived, mine, behind)
                    ):
                        found += await self._one(arrived, mine)
                    if waited:
                        del waiting[arrived.gmail_id]
                    found = await self._commit_if_due(found)
                if history_id is not None:
                    self.cursor = replace(self.cursor, history_id=history_id)
        except BudgetSpentError:
            spent = True
        except UnreadableMailError as error:
            failing = self._failed(error)
        finally:
            # Also where nothing more can be read: what was found stays found. It renews the lease
            # too.
            await self._write(found, failing=failing)
        self.left = self.left or spent or failing is not None
        return not self.left

    async def _commit_if_due(self, found: list[Found]) -> list[Found]:
        """Commit what was found if the lease is to be renewed; what is still to be committed.

        While Google is slow, what one commit is about may take longer than the lease: another
        daemon would take the mailbox over, lose it in the same way, and neither would ever come
        further.
        """
        if time.monotonic() - self._committed < self.writer.lease_time.total_seconds() / 4:
            return found
        failing = (self.lease.failing_id, self.lease.failures) if self.lease.failing_id else None
        await self._write(found, failing=failing)
        return []

    def _failed(self, error: UnreadableMailError) -> tuple[str, int]:
        """The received mail that failed, and how often it has; it is tried again after a while."""
        again = self.lease.failures + 1 if error.gmail_id == self.lease.failing_id else 1
        failures = min(again, _MAX_COUNTED)
        self.retry_in = min(
            _RETRY[min(failures, len(_RETRY)) - 1], timedelta(seconds=5 * self.interval)
        )
        return error.gmail_id, failures

    async def _one(self, arrived: Arrived, messages: Sequence[Any]) -> list[Found]:
        """What one received mail is, if it is anything; one that fails for the third time is passed
        over by name.
        """
        limited = self.examiner.budget.left is not None
        if (
            limited
            and self.lease.idle
            and not await self.examiner.mailboxes.is_idle(self.lease.email)
        ):
            raise BudgetSpentError  # messages wait now for what this round might use
        try:
            found = await self._carefully(arrived, self.examiner.examine(arrived, messages))
        except UnreadableMailError as error:
            if isinstance(error, MessageUndecidedError) and self._now - error.at < UNDECIDED_WAIT:
                raise
            if (
                arrived.gmail_id == self.lease.failing_id
                and self.lease.failures + 1 >= MAX_FAILURES
            ):
                return [PassedOver(arrived.gmail_id, arrived.thread_id, str(error), self.lease.now)]
            raise
        beat()
        return [] if found is None else [found]

    async def _carefully[T](self, arrived: Arrived, work: Awaitable[T]) -> T:
        """Await what is done with one received mail; a bug in it is that mail's failure, and ends
        nothing else.

        Raises:
            UnreadableMailError: a bug was met, beside what `work` raises itself.
        """
        try:
            return await work
        except (UnreadableMailError, MailboxTroubleError, BudgetSpentError, DatabaseError):
            raise
        except Exception as error:
            self.log.events.notice_crashed(
                sender=self.lease.email, gmail_id=arrived.gmail_id, error=error
            )
            raise UnreadableMailError(
                arrived.gmail_id, t("internal error: {error}", error=type(error).__name__)
            ) from error

    async def _write(
        self, found: Sequence[Found], *, failing: tuple[str, int] | None = None
    ) -> None:
        """Commit it with the cursor, and with what a later daemon needs to find those that wait,
        and that failed.

        While received mail waits, or a walk goes on, the moment up to which all is read is that
        before the first of it.
        """
        seen = self.examiner.seen
        places = [it.behind for it in seen.waiting.values()] + [
            walk.start for walk in (seen.walk,) if walk
        ]
        oldest = min(places, key=lambda place: place.history_id or 0, default=None)
        cursor = replace(self.cursor, waiting_from=None)
        if oldest is not None:
            cursor = replace(
                cursor,
                internal_date=oldest.internal_date,
                waiting_from=oldest.history_id or _NEVER_READ,
            )
        if failing is None and self.lease.failing_id in seen.waiting:
            failing = (self.lease.failing_id, self.lease.failures)
        seen.written = None
        done = await self.writer.write(
            self.lease, found, cursor, address_key=self.examiner.keys.address, failing=failing
        )
        seen.written, self._committed = cursor, time.monotonic()
        self.log.written(self.lease.email, done)
        if done.undone:
            self.wake()


def _body(call: Call, reply: Reply) -> Mapping[str, object]:
    """The answer to a call about the whole mailbox.

    Raises:
        MailboxTroubleError: there is none.
    """
    if isinstance(reply, Accepted) and isinstance(reply.body, Mapping):
        return reply.body
    trouble(call, reply)
    raise MailboxTroubleError(judge(call, reply).reason)


def _records(body: Mapping[str, object]) -> list[tuple[int | None, Sequence[Arrived]]]:
    """The history's records, oldest first, each with the mail that came."""
    records: list[tuple[int | None, Sequence[Arrived]]] = []
    for record in _items(body, "history"):
        added = [item.get("message") for item in _items(record, "messagesAdded")]
        arrivals = [
            Arrived(
                str(it["id"]),
                str(it.get("threadId", "")),
                frozenset(map(str, it.get("labelIds") or ())),
            )
            for it in added
            if isinstance(it, Mapping) and it.get("id")
        ]
        records.append((_number(record.get("id")), arrivals))
    return records


def _items(body: Mapping[str, object], name: str) -> list[Mapping[str, Any]]:
    items = body.get(name) or ()
    return [item for item in items if isinstance(item, Mapping)] if isinstance(items, list) else []


def _number(value: object) -> int:
    """A history id.

    Raises:
        MailboxTroubleError: it is none.
    """
    text = str(value)
    if not (text.isdecimal() and len(text) < 20):  # noqa: PLR2004 - what the column holds
        raise MailboxTroubleError(
            t("Google returned an invalid history ID: {text!r}", text=text[:40])
        )
    return int(text)


def _millis(at: datetime) -> int:
    """That moment in milliseconds since 1970, set back by the margin."""
    return int(at.timestamp() * 1000) - _MARGIN_MS


AT_ONCE: Final = 4
"""Mailboxes that one daemon reads at the same time."""
_WAIT_WITHOUT_SCOPE: Final = timedelta(minutes=10)
_WAIT_AFTER_REFUSAL: Final = timedelta(minutes=5)


@dataclass
class InboxReader:
    """The loop that reads. `interval`: seconds between two reads of a mailbox that sends."""

    gmail: RateLimitedGmail
    mailboxes: Mailboxes
    writer: FindingsWriter
    secrets: Secrets
    log: InboxLog
    heartbeats: Heartbeats
    interval: float
    call_timeout: float
    """Seconds that one call may take, its wait for units included."""
    wake: Callable[[], None]
    """Called when messages wait again."""
    aliases: Mapping[str, str]
    """The mailbox of each alias."""
    _seen: dict[str, SeenMail] = field(default_factory=dict)

    async def loop(self) -> NoReturn:
        """Read what is due until cancelled."""
        name = "mailboxes.read"
        heartbeat = self.heartbeats.register(name, limit=self.heartbeats.limit + self.call_timeout)
        rest = min(5.0, self.interval)

        async def work() -> bool:
            try:
                return await self.read_due()
            except DatabaseError:
                raise
            except Exception as error:  # noqa: BLE001 - it is logged; messages are sent, whatever ails the reader
                self.log.events.inbox_crashed(what=name, again_in=rest, error=error)
                return False

        def failed(error: DatabaseError) -> None:
            self.log.events.inbox_step_failed(what=name, again_in=rest, error=error)

        await every(rest, work, name=name, first_after=rest, heartbeat=heartbeat, on_error=failed)

    async def read_due(self) -> bool:
        """Read each mailbox that is due, a few at a time; whether there may be more.

        Raises:
            DatabaseError: it cannot be read which are due.
        """
        due = await self.mailboxes.due(AT_ONCE)
        async with asyncio.TaskGroup() as reads:
            tasks = [
                reads.create_task(self._read_mailbox(email), name=f"read the inbox of {email}")
                for email in due
            ]
        return len(due) == AT_ONCE and all(task.result() for task in tasks)

    async def _read_mailbox(self, email: str) -> bool:
        """Whether the database took it: what it refuses is not asked for again without a rest."""
        try:
            await self.read(email)
        except LeaseLostError:
            pass  # another daemon has it, and reads the same again
        except DatabaseAwayError:
            return False  # the store says so
        except DatabaseError as error:
            what = f"mailboxes.read {email}"
            self.log.events.inbox_step_failed(what=what, again_in=self.interval, error=error)
            return False
        return True

    async def read(self, email: str) -> None:
        """One round of a mailbox, if it is free.

        Raises:
            LeaseLostError: another daemon has taken it over.
            DatabaseError: what was not written yet is read again.
        """
        if (lease := await self.mailboxes.lease(email)) is None:
            return
        box = await self.gmail.authenticate(email)
        beat()
        if not isinstance(box, Mailbox):
            await self._give_back(lease, judge(Call.TOKEN, box).reason, scope=lease.scope)
            return
        scope = "readonly" if box.can_read_bodies else "metadata" if box.can_read_metadata else ""
        if not scope:
            await self.mailboxes.release(
                lease, state="no scope", scope="", wait=_WAIT_WITHOUT_SCOPE
            )
            self.log.not_allowed(email)
            return
        self.log.opened(email, scope)
        it: ReadingRound | None = None
        try:
            it = await self._begin(lease, bodies=box.can_read_bodies)
            await it.read()
        except LeaseLostError:
            raise
        except DatabaseError:
            again, units = timedelta(seconds=self.interval), it.examiner.budget.used if it else 0
            with suppress(DatabaseError):  # else its lease runs out
                await self.mailboxes.release(
                    lease, state="behind", scope=scope, wait=again, units=units
                )
            raise
        except Exception as error:  # noqa: BLE001 - it is logged; messages are sent, whatever ails the reader
            cause = (
                str(error) if isinstance(error, MailboxTroubleError) else self._bug(email, error)
            )
            await self._give_back(
                lease, cause, scope=scope, units=it.examiner.budget.used if it else 0
            )
            return
        self.log.readable(email, scope)
        state = "behind" if it.left else "read"
        wait = it.retry_in or (timedelta(seconds=self.interval) if it.left else None)
        often = box.can_read_bodies and self.writer.rules.job.is_on and it.retry_in is None
        await self.mailboxes.release(
            lease, state=state, scope=scope, wait=wait, units=it.examiner.budget.used, often=often
        )

    async def _begin(self, lease: InboxLease, *, bodies: bool) -> ReadingRound:
        keys = await self.secrets.keys()
        budget = RoundBudget.of_round(
            lease.units_per_minute,
            idle=lease.idle,
            spent=lease.spent,
            today=lease.today,
            now=lease.now,
        )
        seen = self._seen.setdefault(lease.email, SeenMail())
        seen.prune()
        own = frozenset(
            {lease.email, *(alias for alias, of in self.aliases.items() if of == lease.email)}
        )
        examiner = Examiner(
            lease, self.gmail, self.mailboxes, budget, keys, bodies=bodies, seen=seen, own=own
        )
        return ReadingRound(examiner, self.writer, self.log, self.interval, wake=self.wake)

    def _bug(self, email: str, error: Exception) -> str:
        """Log a bug that ended a round, and the cause that is kept of it."""
        what, again_in = f"mailboxes.read {email}", self._refused.total_seconds()
        self.log.events.inbox_crashed(what=what, again_in=again_in, error=error)
        return t("internal error: {error}", error=type(error).__name__)

    @property
    def _refused(self) -> timedelta:
        return min(_WAIT_AFTER_REFUSAL, timedelta(seconds=5 * self.interval))

    async def _give_back(
        self, lease: InboxLease, cause: str, *, scope: str, units: int = 0
    ) -> None:
        wait = self._refused
        await self.mailboxes.release(
            lease, state="refused", scope=scope, detail=cause, wait=wait, units=units
        )
        self.log.unreadable(lease.email, cause, again_in=wait.total_seconds())


def build_reader(
    settings: Settings,
    sink: EventSink,
    claims: Claims,
    *,
    gmail: RateLimitedGmail,
    wake: Callable[[], None],
    heartbeats: Heartbeats,
) -> InboxReader:
    """The reader of one daemon."""
    database, safety = claims.database, settings.safety
    known, lease = settings.inbox, timedelta(seconds=settings.runner.lease)
    rest = timedelta(seconds=known.limit_pause)
    return InboxReader(
        gmail=gmail,
        mailboxes=Mailboxes(
            database,
            claims.defaults,
            lease_time=lease,
            interval=timedelta(seconds=known.interval),
            replay_log=claims.replay_log,
        ),
        writer=FindingsWriter(
            database,
            claims.defaults,
            claims.daemon_id,
            lease,
            min_pause=rest,
            undo=known.undo_over_limit,
            rules=BounceRules(
                BounceRule(safety.job_bounces, safety.job_share),
                BounceRule(safety.sender_bounces, safety.sender_share),
            ),
            replay_log=claims.replay_log,
        ),
        secrets=Secrets(database, timeout=database.probe_timeout),
        log=InboxLog(InboxEvents(sink), SuppressionEvents(sink)),
        heartbeats=heartbeats,
        interval=known.interval,
        call_timeout=gmail.max_wait.total_seconds() + settings.gmail.request_timeout,
        wake=wake,
        aliases=settings.gmail.aliases,
    )
