"""Reads the inboxes that are due, one round each: what came since the last one, oldest first, in small commits.

A round that dies is read again from its last commit; what was written then is known by its Gmail id.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final, NoReturn

from mailerd.core.findings import Found, InboxCursor, InboxLease, PassedOver
from mailerd.core.replies import Accepted, Call, Refused, Reply
from mailerd.core.verdicts import judge
from mailerd.errors import DatabaseError
from mailerd.gmail import Mailbox
from mailerd.inbox.budget import MIN_ROUND, BudgetSpentError, RoundBudget
from mailerd.inbox.examine import (
    Arrived,
    Examiner,
    LetterUndecidedError,
    MailboxTroubleError,
    MessageFailedError,
    SeenMessages,
    trouble,
)
from mailerd.inbox.inbox_log import InboxLog
from mailerd.ops.heartbeat import Heartbeat, Heartbeats
from mailerd.ops.periodic import every
from mailerd.rate_limited_gmail import RateLimitedGmail
from mailerd.store.inbox.mailboxes import READ_FOR, Mailboxes
from mailerd.store.inbox.record_findings import FindingsWriter, LeaseLostError
from mailerd.store.secrets import Secrets

MAX_FAILURES: Final = 3
UNDECIDED_WAIT: Final = timedelta(days=1)
"""How long a limit notice waits for its letter. Passed over before that, a letter that Google gave back stays sent."""
_MOST_COUNTED: Final = 200
"""The column holds 255."""
"""Tries of one message; then it is passed over by name, so that it holds up nothing behind it."""
BATCH: Final = 25
"""Messages of one commit: few, so that a crash costs little and rows are locked for a moment."""
AT_ONCE: Final = 4
"""Mailboxes that one daemon reads at the same time."""
_RETRY: Final = (timedelta(minutes=1), timedelta(minutes=5))
"""How long to wait after the first and the second failure of a message."""
_NO_SCOPE: Final = timedelta(minutes=10)
_REFUSED: Final = timedelta(minutes=5)
_NOT_FOUND: Final = 404
_DAY_MS: Final = 25 * 3_600_000
"""What the rolling day can reach back to: older letters of the person count for nothing any more."""
_MARGIN_MS: Final = 5 * 60_000
"""By so much the moment up to which all was read lies before the read: Google's clock is not the database's."""


@dataclass
class _Round:
    """One turn at a mailbox."""

    lease: InboxLease
    examiner: Examiner
    cursor: InboxCursor
    address_key: bytes
    left: bool = False
    """Something was left for the next round."""
    retry_in: timedelta | None = None


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
    """Called when letters wait again."""
    _seen: dict[str, SeenMessages] = field(default_factory=dict)

    async def loop(self) -> NoReturn:
        """Read what is due until cancelled."""
        name = "reading inboxes"
        heartbeat = self.heartbeats.register(name, limit=self.heartbeats.limit + self.call_timeout)
        rest = min(5.0, self.interval)

        async def work() -> bool:
            try:
                return await self.read_due(heartbeat)
            except DatabaseError:
                raise
            except Exception as error:  # noqa: BLE001 - it is logged; letters are sent, whatever ails the reader
                self.log.round_crashed(name, again_in=rest, error=error)
                return False

        def failed(error: DatabaseError) -> None:
            self.log.step_failed(name, again_in=rest, error=error)

        await every(rest, work, name=name, first_after=rest, heartbeat=heartbeat, on_error=failed)

    async def read_due(self, heartbeat: Heartbeat) -> bool:
        """Read each mailbox that is due, a few at a time; whether there may be more.

        Raises:
            DatabaseError: it cannot be read which are due.
        """
        due = await self.mailboxes.due(AT_ONCE)
        async with asyncio.TaskGroup() as reads:
            for email in due:
                reads.create_task(self._read_guarded(email, heartbeat), name=f"read the inbox of {email}")
        return len(due) == AT_ONCE

    async def _read_guarded(self, email: str, heartbeat: Heartbeat) -> None:
        try:
            await self.read(email, progress=lambda: heartbeat.working("reading inboxes"))
        except LeaseLostError:
            pass  # another daemon has it, and reads the same again
        except DatabaseError as error:
            self.log.step_failed(f"reading the inbox of {email}", again_in=self.interval, error=error)

    async def read(self, email: str, *, progress: Callable[[], None] = lambda: None) -> None:
        """One round of a mailbox, if it is free.

        Raises:
            LeaseLostError: another daemon has taken it over.
            DatabaseError: what was not written yet is read again.
        """
        if (lease := await self.mailboxes.lease(email)) is None:
            return
        box = await self.gmail.authenticate(email)
        progress()
        if not isinstance(box, Mailbox):
            await self._give_back(lease, judge(Call.TOKEN, box).reason)
            return
        scope = "readonly" if box.can_read_bodies else "metadata" if box.can_read_metadata else ""
        if not scope:
            await self.mailboxes.release(lease, state="no scope", scope="", wait=_NO_SCOPE)
            self.log.not_allowed(email)
            return
        self.log.opened(email, scope)
        try:
            it = await self._begin(lease, bodies=box.can_read_bodies)
            await self._read(it, progress)
        except (LeaseLostError, DatabaseError):
            raise
        except Exception as error:  # noqa: BLE001 - it is logged; letters are sent, whatever ails the reader
            cause = str(error) if isinstance(error, MailboxTroubleError) else self._bug(email, error)
            await self._give_back(lease, cause, scope=scope)
            return
        self.log.readable(email, scope)
        state = "behind" if it.left else "read"
        wait = it.retry_in or (timedelta(seconds=self.interval) if it.left else None)
        used = it.examiner.budget.used_until
        await self.mailboxes.release(lease, state=state, scope=scope, wait=wait, budget_at=used)

    async def _begin(self, lease: InboxLease, *, bodies: bool) -> _Round:
        keys = await self.secrets.keys()
        budget = RoundBudget.of_round(
            lease.units_per_minute, idle=lease.idle, used_until=lease.budget_at, now=lease.now
        )
        seen = self._seen.setdefault(lease.email, SeenMessages())
        seen.prune()
        examiner = Examiner(lease, self.gmail, self.mailboxes, budget, keys, bodies=bodies, seen=seen)
        return _Round(lease, examiner, lease.cursor, keys.address)

    def _bug(self, email: str, error: Exception) -> str:
        """Log a bug that ended a round, and the cause that is kept of it."""
        self.log.round_crashed(f"reading the inbox of {email}", again_in=self._refused.total_seconds(), error=error)
        return f"a bug in mailerd: {type(error).__name__}"

    @property
    def _refused(self) -> timedelta:
        return min(_REFUSED, timedelta(seconds=5 * self.interval))

    async def _give_back(self, lease: InboxLease, cause: str, *, scope: str | None = None) -> None:
        wait = self._refused
        kept = lease.scope if scope is None else scope
        await self.mailboxes.release(lease, state="refused", scope=kept, detail=cause, wait=wait)
        self.log.unreadable(lease.email, cause, again_in=wait.total_seconds())

    async def _read(self, it: _Round, progress: Callable[[], None]) -> None:
        try:
            it.examiner.budget.require(MIN_ROUND)
            if it.cursor.history_id is None:
                await self._first(it, progress)
            await self._history(it, progress)
        except BudgetSpentError:
            it.left = True

    async def _first(self, it: _Round, progress: Callable[[], None]) -> None:
        """A mailbox that was never read: what came since the first of the letters that may still bounce."""
        since = await self.mailboxes.first_sent(it.lease.email, within=READ_FOR)
        if since is not None:
            it.cursor = InboxCursor(None, int(since.timestamp() * 1000))
            await self._walk(it, progress)
        else:
            it.cursor = InboxCursor(await self._profile(it), _now_ms(it.lease))
        await self._write(it, [])

    async def _profile(self, it: _Round) -> int:
        it.examiner.budget.spend(Call.GET_PROFILE)
        body = _body(Call.GET_PROFILE, await self.gmail.get_profile(it.lease.email))
        return _number(body.get("historyId"))

    async def _history(self, it: _Round, progress: Callable[[], None]) -> None:
        """Read the history from the cursor to its end, and commit every few messages with it."""
        page, start = "", it.cursor.history_id or 0
        while True:
            it.examiner.budget.spend(Call.HISTORY_LIST)
            reply = await self.gmail.list_history(it.lease.email, start=start, page_token=page)
            progress()
            if isinstance(reply, Refused) and reply.status == _NOT_FOUND:
                await self._forgotten(it, progress)
                return
            body = _body(Call.HISTORY_LIST, reply)
            records = _records(body)
            for first in range(0, len(records), BATCH):
                if not await self._examine(it, records[first : first + BATCH], progress):
                    return
            if not (page := str(body.get("nextPageToken") or "")):
                it.cursor = InboxCursor(_number(body.get("historyId")), _now_ms(it.lease))
                await self._write(it, [])
                return

    async def _forgotten(self, it: _Round, progress: Callable[[], None]) -> None:
        since = it.cursor.internal_date or _now_ms(it.lease) - int(READ_FOR.total_seconds() * 1000)
        self.log.history_forgotten(it.lease.email, since)
        it.cursor = InboxCursor(it.cursor.history_id, since)
        await self._walk(it, progress)
        await self._write(it, [])

    async def _walk(self, it: _Round, progress: Callable[[], None]) -> None:
        """Read the newest messages down to the moment up to which all is known, then go on from a new cursor.

        The new cursor is asked for first: what comes meanwhile is in the history behind it.
        """
        history_id = await self._profile(it)
        for label in ("INBOX", "SPAM", "SENT"):
            await self._walk_label(it, label, progress)
        it.cursor = InboxCursor(history_id, _now_ms(it.lease))

    async def _walk_label(self, it: _Round, label: str, progress: Callable[[], None]) -> None:
        email, page, since = it.lease.email, "", it.cursor.internal_date or 0
        if label == "SENT":
            since = max(since, _now_ms(it.lease) - _DAY_MS)
        while True:
            it.examiner.budget.spend(Call.MESSAGES_LIST)
            body = _body(Call.MESSAGES_LIST, await self.gmail.list_labelled(email, label, page_token=page))
            progress()
            items = [item for item in _items(body, "messages") if item.get("id")]
            arrived = [Arrived(str(x["id"]), str(x.get("threadId", "")), frozenset({label})) for x in items]
            for first in range(0, len(arrived), BATCH):
                part = arrived[first : first + BATCH]
                if not await self._examine(it, [(None, part)], progress):
                    raise BudgetSpentError
                if await self._is_older(it, part[-1], since):
                    return
            if not (page := str(body.get("nextPageToken") or "")):
                return

    async def _is_older(self, it: _Round, last: Arrived, since: int) -> bool:
        try:
            at = await self._carefully(it, last, it.examiner.date_of(last))
        except MessageFailedError:
            return False  # it is not known: the walk goes on to a message that can be read
        return at is not None and at.timestamp() * 1000 < since

    async def _examine(
        self, it: _Round, records: Sequence[tuple[int | None, Sequence[Arrived]]], progress: Callable[[], None]
    ) -> bool:
        """Examine some records and commit what was found; whether the round may go on behind them."""
        email, found = it.lease.email, list[Found]()
        messages = [message for _, part in records for message in part]
        known = await self.mailboxes.known(email, [message.gmail_id for message in messages])
        letters = await self.mailboxes.letters_in(email, {message.thread_id for message in messages})
        failing: tuple[str, int] | None = None
        spent = False
        try:
            for history_id, part in records:
                for message in part:
                    if message.gmail_id not in known:
                        one = await self._one(it, message, letters.get(message.thread_id, ()))
                        found += [one] if one is not None else []
                        progress()
                if history_id is not None:
                    it.cursor = InboxCursor(history_id, it.cursor.internal_date)
        except BudgetSpentError:
            spent = True
        except MessageFailedError as error:
            again = it.lease.failures + 1 if error.gmail_id == it.lease.failing_id else 1
            failures = min(again, _MOST_COUNTED)
            failing = (error.gmail_id, failures)
            it.retry_in = min(_RETRY[min(failures, len(_RETRY)) - 1], timedelta(seconds=5 * self.interval))
        finally:
            # Also where nothing more can be read: what was found stays found. It renews the lease too.
            await self._write(it, found, failing=failing)
        it.left = it.left or spent or failing is not None
        return not it.left

    async def _one(self, it: _Round, message: Arrived, letters: Sequence[Any]) -> Found | None:
        """What one message is; a message that fails for the third time is passed over by name."""
        try:
            return await self._carefully(it, message, it.examiner.examine(message, letters))
        except MessageFailedError as error:
            if isinstance(error, LetterUndecidedError) and it.lease.now - error.at < UNDECIDED_WAIT:
                raise
            if message.gmail_id == it.lease.failing_id and it.lease.failures + 1 >= MAX_FAILURES:
                return PassedOver(message.gmail_id, message.thread_id, error.cause, it.lease.now)
            raise

    async def _carefully[T](self, it: _Round, message: Arrived, work: Awaitable[T]) -> T:
        """Await what is done with one message; a bug in it is that message's failure, and ends nothing else.

        Raises:
            MessageFailedError: a bug was met, beside what `work` raises itself.
        """
        try:
            return await work
        except (MessageFailedError, MailboxTroubleError, BudgetSpentError, DatabaseError):
            raise
        except Exception as error:
            self.log.crashed(it.lease.email, message.gmail_id, error)
            raise MessageFailedError(message.gmail_id, f"a bug in mailerd: {type(error).__name__}") from error

    async def _write(self, it: _Round, found: Sequence[Found], *, failing: tuple[str, int] | None = None) -> None:
        done = await self.writer.write(it.lease, found, it.cursor, address_key=it.address_key, failing=failing)
        self.log.written(it.lease.email, done)
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
    """The history's records, oldest first, each with the messages that came."""
    records: list[tuple[int | None, Sequence[Arrived]]] = []
    for record in _items(body, "history"):
        added = [item.get("message") for item in _items(record, "messagesAdded")]
        messages = [
            Arrived(str(it["id"]), str(it.get("threadId", "")), frozenset(map(str, it.get("labelIds") or ())))
            for it in added
            if isinstance(it, Mapping) and it.get("id")
        ]
        records.append((_number(record.get("id")), messages))
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
        raise MailboxTroubleError(f"Google answered with {text[:40]!r} for a history id")
    return int(text)


def _now_ms(lease: InboxLease) -> int:
    return int(lease.now.timestamp() * 1000) - _MARGIN_MS
