"""Recovers what a crash or a lost answer left behind: expired claims, unresolved sends, stuck jobs,
orphan drafts.

Each has its own loop: checking a large mailbox may take long, and an expired claim must not wait
for that.
"""

import asyncio
import re
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final, assert_never

from mailerd.clock import Clock
from mailerd.core.claims import ExpiredClaim, Resolution, UnresolvedSend, WriteResult
from mailerd.core.decisions import draft_gone, needs_person_reason
from mailerd.core.i18n import t
from mailerd.core.reasons import reason
from mailerd.core.replies import Accepted, Call, Refused, Reply, UnitsUsedUp
from mailerd.core.states import SETTLED, Proof, State, Transition
from mailerd.core.verdicts import Disposition, judge
from mailerd.errors import DatabaseAwayError, DatabaseError
from mailerd.events.worker import RecoveryEvents, RunnerEvents
from mailerd.gmail import Mailbox
from mailerd.heartbeat import Heartbeats, beat, current, every
from mailerd.rate_limited_gmail import RateLimitedGmail
from mailerd.store.queue.failover import NotReplayedError
from mailerd.store.queue.recovery import ExpiredClaims, RecoveryQueries

# Resolves unresolved sends: only what Google shows decides, and a check that fails decides nothing.

_FIRST_RETRY_DELAY: Final = timedelta(seconds=30)
_MAX_RETRY_DELAY: Final = timedelta(hours=1)
_MAX_READ: Final = 500
"""Sent messages that one check reads at most: 10,000 of Google's units.

The next check goes on from there.
"""
_GOES_ON: Final = timedelta(seconds=1)
"""How long until the next check then."""
_MAX_CLOCK_DIFFERENCE: Final = timedelta(hours=1)
_MAX_MESSAGES: Final = 50_000
"""Sent messages whose key is remembered: one of them never changes, and reading it costs 20 of
Google's units. A search goes no further back than that.
"""
_MAY_NOT_CHECK: Final = {
    "direct": "may_not_check_direct",
    "draft": "may_not_check_unknown_draft",
    None: "may_not_check_unknown",
}
KEY_HEADER: Final = "X-Mailerd-Key"


@dataclass(frozen=True)
class Reconciler:
    """Checks at Google whether a message was sent."""

    gmail: RateLimitedGmail
    late_arrival: timedelta
    """How long a request without an answer may still reach Google, and its effect may be hidden
    from a check.
    """
    _read: "OrderedDict[tuple[str, str], tuple[str, datetime]]" = field(default_factory=OrderedDict)
    """The key of each sent message that was read and the time when it was sent, by sender and
    message id.
    """
    _scanning: "defaultdict[str, asyncio.Lock]" = field(
        default_factory=lambda: defaultdict(asyncio.Lock)
    )
    """A lock for each mailbox: one scan at a time, so that many checks together read each message
    once.
    """

    async def reconcile(self, message: UnresolvedSend) -> Resolution:
        """Check a message. Each answer is a beat, since a check may take long."""
        if message.known_message_id:
            return Resolution(
                message, Transition.FOUND, message_id=message.known_message_id, proof=Proof.ANSWERED
            )
        if message.draft_id:
            return await self._by_draft(message, message.draft_id)
        return await self._search_sent(message)

    async def _by_draft(self, message: UnresolvedSend, draft_id: str) -> Resolution:
        mailbox = await self.gmail.authenticate(message.sender)
        if isinstance(mailbox, Mailbox) and mailbox.mode == "direct":
            return await self._without_drafts(message, mailbox)
        verdict = judge(
            Call.DRAFTS_GET, await self.gmail.get_draft(message.sender, draft_id=draft_id)
        )
        beat()
        match verdict.disposition:
            case Disposition.ACCEPTED:
                return await self._shown(message)
            case Disposition.DRAFT_GONE:
                return await self._draft_gone(message)
            case (
                Disposition.REJECTED
                | Disposition.TRANSIENT
                | Disposition.NOT_COUNTED
                | Disposition.UNKNOWN
            ):
                return unresolved(message, verdict.reason)
            case _:
                assert_never(verdict.disposition)

    async def _without_drafts(self, message: UnresolvedSend, mailbox: Mailbox) -> Resolution:
        """The sign-in may no longer use drafts, so it cannot be read whether this one exists."""
        if mailbox.can_read_metadata:
            return await self._search_thread_or_sent(message, drafts=False)
        if message.discarding and not message.unanswered:
            return Resolution(message, Transition.MISSING, forgets=True)
        return Resolution(message, None, error=reason("may_not_check_draft"))

    async def _shown(self, message: UnresolvedSend) -> Resolution:
        """The draft is there: it was not sent, or a replica lags.

        At a second check the sent mail is read as well.
        """
        there = Resolution(message, Transition.MISSING)
        if not message.unanswered or not message.checks:
            return there
        mailbox = await self.gmail.authenticate(message.sender)
        beat()
        if not isinstance(mailbox, Mailbox) or not mailbox.can_read_metadata:
            return there
        seen = await self._search_thread_or_sent(message)
        return seen if seen.transition is Transition.FOUND else there

    async def _search_thread_or_sent(
        self, message: UnresolvedSend, *, drafts: bool = True
    ) -> Resolution:
        if message.thread_id:
            return await self._in_thread(message, message.thread_id, drafts=drafts)
        return await self._scan(message)

    async def _draft_gone(self, message: UnresolvedSend) -> Resolution:
        """It was sent, or a person deleted it: the sent mail shows which, where the sign-in may
        read it.
        """
        mailbox = await self.gmail.authenticate(message.sender)
        beat()
        if not isinstance(mailbox, Mailbox):
            return unresolved(message, judge(Call.TOKEN, mailbox).reason)
        if mailbox.can_read_metadata:
            return await self._search_thread_or_sent(message)
        match draft_gone(unanswered=message.unanswered, discarding=message.discarding):
            case Transition.FOUND:
                return Resolution(message, Transition.FOUND, proof=Proof.GONE)
            case Transition.MISSING:
                return Resolution(message, Transition.MISSING, forgets=True)
            case _:
                return Resolution(
                    message, None, error=needs_person_reason(unanswered=message.unanswered)
                )

    async def _in_thread(
        self, message: UnresolvedSend, thread_id: str, *, drafts: bool
    ) -> Resolution:
        """A draft that was sent left a message in its thread
        (https://developers.google.com/gmail/api/guides/drafts).

        `drafts`: Google has just said that the draft is gone; otherwise it may lie there, unsent.
        """
        reply = await self.gmail.get_thread(message.sender, thread_id=thread_id)
        beat()
        if not isinstance(reply, Accepted) and not _is_not_found(reply):
            return unresolved(message, judge(Call.THREADS_GET, reply).reason)
        for resource in _items(reply, "messages"):
            labels = resource.get("labelIds")
            if (
                not isinstance(labels, list)
                or key_of(resource) != message.key
                or resource.get("id") in message.came_back
            ):
                continue
            if "SENT" in labels:
                return Resolution(
                    message, Transition.FOUND, message_id=str(resource.get("id")), proof=Proof.SEEN
                )
            if "DRAFT" in labels and drafts:
                return unresolved(message, reason("draft_in_thread"))
        # A message sent twice is worse than a search: what may have been sent is looked for among
        # all sent mail, too.
        return await self._scan(message) if message.unanswered else self._nothing_sent(message)

    def _nothing_sent(self, message: UnresolvedSend) -> Resolution:
        """The sent mail was read, and the message is not there.

        A sent message may show a moment later: if a send had no answer, two such checks must be
        `late_arrival` apart.
        """
        rested = message.nothing_found_for or timedelta(0)
        if message.unanswered and rested < self.late_arrival:
            error = reason("nothing_found_yet")
            return Resolution(
                message, None, error=error, retry_in=self.late_arrival - rested, nothing_found=True
            )
        return Resolution(message, Transition.MISSING, forgets=True)

    async def _search_sent(self, message: UnresolvedSend) -> Resolution:
        mailbox = await self.gmail.authenticate(message.sender)
        beat()
        if not isinstance(mailbox, Mailbox):
            return unresolved(message, judge(Call.TOKEN, mailbox).reason)
        if not mailbox.can_read_metadata:
            return Resolution(message, None, error=reason(_MAY_NOT_CHECK[message.mode]))
        return await self._scan(message)

    async def _scan(self, message: UnresolvedSend) -> Resolution:
        async with self._scanning[message.sender]:
            return await self._read_sent(message)

    async def _read_sent(self, message: UnresolvedSend) -> Resolution:
        # What was read is kept even when this check's lease is over before its end: the next one
        # goes on from there.
        search, page = _Search(message), ""
        while search.passed < _MAX_MESSAGES:
            reply = await self.gmail.list_sent(message.sender, page_token=page)
            beat()
            if not isinstance(reply, Accepted):
                return unresolved(message, judge(Call.MESSAGES_LIST, reply).reason)
            if (settled := await self._on_page(search, reply)) is not None:
                return settled
            if not (page := _next_page(reply)):
                return self._nothing_sent(message)
        since = f"{message.since:%Y-%m-%d %H:%M}"
        error = reason("search_exhausted", n=search.passed, email=message.to_email, since=since)
        return Resolution(message, None, error=error)

    async def _on_page(self, search: "_Search", page: Accepted) -> Resolution | None:
        """Newest first: found, or missing once the sent mail is older than the message can be;
        None: read on.
        """
        message = search.message
        for item in _items(page, "messages"):
            search.passed += 1
            message_id = str(item.get("id"))
            if message_id in message.came_back:
                continue
            if (known := self._read.get((message.sender, message_id))) is None:
                if search.read == _MAX_READ:
                    error = reason("search_continues", n=search.passed - 1)
                    return Resolution(message, None, error=error, retry_in=_GOES_ON)
                search.read += 1
                found = await self.gmail.get_message(message.sender, message_id=message_id)
                beat()
                if not isinstance(found, Accepted) or not isinstance(found.body, Mapping):
                    return unresolved(message, judge(Call.MESSAGES_GET, found).reason)
                known = self._remember(message.sender, message_id, found.body)
            key, sent_at = known
            # its key may be on it: a limit notice undid an earlier send
            if sent_at < message.since - _MAX_CLOCK_DIFFERENCE:
                return self._nothing_sent(message)
            if key == message.key:
                thread = str(item.get("threadId") or "") or None
                return Resolution(
                    message,
                    Transition.FOUND,
                    message_id=message_id,
                    thread_id=thread,
                    proof=Proof.SEEN,
                )
        return None

    def _remember(
        self, sender: str, message_id: str, resource: Mapping[str, object]
    ) -> tuple[str, datetime]:
        known = self._read[sender, message_id] = (key_of(resource), _sent_at(resource))
        if len(self._read) > _MAX_MESSAGES:
            self._read.popitem(last=False)
        return known


@dataclass
class _Search:
    """How far one check has got in the sent mail."""

    message: UnresolvedSend
    passed: int = 0
    """How many messages the search has passed, the newest first."""
    read: int = 0
    """How many of them had to be read from Google for this search."""


def _is_not_found(reply: Reply) -> bool:
    """Gmail's own 404; a proxy's proves nothing."""
    return isinstance(reply, Refused) and (reply.status, reply.reason) == (404, "notFound")


def _sent_at(resource: Mapping[str, object]) -> datetime:
    """internalDate, milliseconds since 1970; the end of time when it is not there, so that a scan
    reads on.
    """
    millis = str(resource.get("internalDate", ""))
    return (
        datetime.fromtimestamp(int(millis) / 1000, UTC)
        if millis.isdecimal()
        else datetime.max.replace(tzinfo=UTC)
    )


def key_of(resource: Mapping[str, object]) -> str:
    """X-Mailerd-Key of a resource as messages.get, threads.get and drafts.get show it; "" without
    one.
    """
    payload = resource.get("payload")
    headers = payload.get("headers", ()) if isinstance(payload, Mapping) else ()
    for header in headers:
        if (
            isinstance(header, Mapping)
            and str(header.get("name", "")).lower() == KEY_HEADER.lower()
        ):
            return str(header.get("value", "")).strip()
    return ""


def _items(reply: Reply, name: str) -> list[Mapping[str, object]]:
    body = reply.body if isinstance(reply, Accepted) else None
    items = body.get(name, ()) if isinstance(body, Mapping) else ()
    return [item for item in items if isinstance(item, Mapping)]


def _next_page(reply: Accepted) -> str:
    return str(reply.body.get("nextPageToken", "")) if isinstance(reply.body, Mapping) else ""


def unresolved(message: UnresolvedSend, why: str) -> Resolution:
    """Nothing was decided: it is checked again later, with growing delays."""
    wait = min(_MAX_RETRY_DELAY, _FIRST_RETRY_DELAY * (1 << min(message.checks, 10)))
    return Resolution(message, None, error=reason("still_unconfirmed", reason=why), retry_in=wait)


# Finds and deletes drafts that were created and never recorded; finds drafts that prove a message
# was not sent.

_MAX_FOREIGN_DRAFTS: Final = 200_000
"""The most foreign drafts that are remembered, so that each is read once; others are read at every
sweep. None is dropped for a newer one: each sweep begins with the first drafts of the list, so
these are needed again.
"""

_WHAT_FOLLOWS: Final = {
    State.WAITING: t("it is sent with that draft"),
    State.CANCELLED: t("cancelled with its job"),
}
_OURS: Final = re.compile(r"([0-9A-Z]{1,26})-([0-9]{1,9})", re.ASCII)
"""An X-Mailerd-Key as mailerd writes it: a job's id and a place in it.

Any client may write a draft with any other.
"""


@dataclass
class OrphanDrafts:
    """The search for orphan drafts, one mailbox at a time."""

    gmail: RateLimitedGmail
    rows: RecoveryQueries
    events: RecoveryEvents
    _foreign: dict[str, set[str]] = field(default_factory=dict)
    """The drafts that are not ours, by sender, as they were last listed."""

    def retain(self, senders: Collection[str]) -> None:
        """Forget the mailboxes that are no longer searched."""
        self._foreign = {
            sender: drafts for sender, drafts in self._foreign.items() if sender in senders
        }

    async def sweep(self, sender: str) -> int:
        """Delete the orphans of one mailbox; how many. Each answer is a beat, for it may take long.

        Raises:
            DatabaseError: the rows cannot be read; nothing more is deleted.
        """
        mailbox = await self.gmail.authenticate(sender)
        if not isinstance(mailbox, Mailbox) or mailbox.mode != "draft":
            return 0
        foreign = self._foreign.setdefault(sender, set())
        deleted, page = 0, ""
        listed: set[str] = set()
        while True:
            reply = await self.gmail.list_drafts(sender, page_token=page)
            beat()
            if not isinstance(reply, Accepted) or not isinstance(reply.body, Mapping):
                cause = (
                    reply.cause
                    if isinstance(reply, UnitsUsedUp)
                    else judge(Call.DRAFTS_LIST, reply).reason
                )
                self.events.orphans_not_searched(sender=sender, cause=cause)
                return deleted
            drafts = [
                str(item.get("id"))
                for item in reply.body.get("drafts", ())
                if isinstance(item, Mapping)
            ]
            listed.update(drafts)
            unknown = [draft for draft in drafts if draft not in foreign]
            known = await self.rows.own_drafts(unknown, sender=sender) if unknown else set()
            if known:
                await self.rows.check_again(known, sender=sender)
            for draft in unknown:
                if draft not in known:
                    deleted += await self._check_draft(sender, draft)
                    beat()
            if not (page := str(reply.body.get("nextPageToken", ""))):
                foreign &= listed  # the whole list was read: the others are no longer there
                return deleted

    async def _check_draft(self, sender: str, draft: str) -> int:
        reply = await self.gmail.get_draft_headers(sender, draft_id=draft)
        if not isinstance(reply, Accepted) or not isinstance(reply.body, Mapping):
            return 0
        resource = reply.body.get("message")
        key = key_of(resource) if isinstance(resource, Mapping) else ""
        ours = _OURS.fullmatch(key)
        orphan = (
            await self.rows.is_orphan(job=ours[1], seq=int(ours[2]), draft=draft) if ours else None
        )
        if orphan is None:
            if sum(map(len, self._foreign.values())) < _MAX_FOREIGN_DRAFTS:
                self._foreign[sender].add(draft)
            return 0
        if not orphan:
            if ours and (
                undone := await self.rows.undo(job=ours[1], seq=int(ours[2]), draft=draft)
            ):
                self.events.message_undone(
                    job=undone.job_id,
                    recipient=undone.recipient,
                    to=undone.to_email,
                    sender=sender,
                    draft=draft,
                    then=_WHAT_FOLLOWS[undone.status],
                )
            return 0
        verdict = judge(Call.DRAFTS_DELETE, await self.gmail.delete_draft(sender, draft_id=draft))
        if verdict.disposition is Disposition.ACCEPTED:
            self.events.orphan_deleted(sender=sender, draft=draft, key=key)
            return 1
        return 0


_MAX_CHECKS: Final = 10
"""Unresolved sends that are checked at once.

No more are taken, so that no lease runs out while one waits its turn.
"""
_MAX_CHECKS_PER_SENDER: Final = 2
"""How many of them may be of one sender: a mailbox that is slow or large leaves most checks to the
others.
"""
_STUCK_JOBS_INTERVAL: Final = 30.0
"""Seconds between two searches for stuck and unfinished jobs."""
_FIRST_SWEEP_AFTER: Final = 5.0
"""Seconds until the first sweep, so that waiting messages are sent first."""


@dataclass(frozen=True)
class Recovery:
    """The recovery loops of one daemon."""

    expired: ExpiredClaims
    rows: RecoveryQueries
    reconciler: Reconciler
    orphan_drafts: OrphanDrafts
    clock: Clock
    events: RecoveryEvents
    runner_events: RunnerEvents
    job_changed: Callable[[str], None]
    """Called when a message of this job is finished."""
    wake: Callable[[], None]
    """Called when a message is due again."""
    interval: float
    """Seconds between two searches for expired claims and for unresolved sends."""
    sweep_interval: float
    """Seconds between two searches for orphan drafts."""
    call_timeout: float
    """Seconds that one call to Google takes at most, the wait for its units included."""
    heartbeats: Heartbeats
    _checking: Counter[str] = field(default_factory=Counter)
    """How many checks are under way, by sender."""
    _check_ended: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when a check ends."""

    async def expired_claims_loop(self) -> None:
        """Recover expired claims, until cancelled. It never waits for Google."""
        await self._every(self.interval, self.recover_expired, name="claims.recover")

    async def reconcile_loop(self) -> None:
        """Check unresolved sends at Google, until cancelled."""
        async with asyncio.TaskGroup() as checks:
            await self._every(
                self.interval, lambda: self.reconcile_some(checks), name="unconfirmed.find"
            )

    async def stuck_jobs_loop(self) -> None:
        """Find jobs that a crashed daemon did not complete, and stuck jobs, until cancelled."""
        await self._every(_STUCK_JOBS_INTERVAL, self._find_stuck_jobs, name="jobs.find_unfinished")

    async def sweep_loop(self) -> None:
        """Delete orphan drafts, soon after the start and now and then, until cancelled."""
        first_after = min(self.sweep_interval, _FIRST_SWEEP_AFTER)
        await self._every(
            self.sweep_interval, self.sweep, name="drafts.sweep", first_after=first_after
        )

    async def _every(
        self,
        interval: float,
        step: Callable[[], Awaitable[bool]],
        *,
        name: str,
        first_after: float = 0.0,
    ) -> None:
        """Run a step every `interval` seconds; at once again while it says that more may be due."""
        heartbeat = self.heartbeats.register(name, limit=self.heartbeats.limit + self.call_timeout)

        def failed(error: DatabaseError) -> None:
            self.runner_events.step_failed(what=name, again_in=interval, error=error)

        await every(
            interval,
            step,
            name=name,
            first_after=first_after,
            heartbeat=heartbeat,
            on_error=failed,
            sleep=self.clock.sleep,
        )

    async def recover_expired(self) -> bool:
        """Recover expired claims; whether there were any."""
        lapsed = await self.expired.recover()
        for row in lapsed:
            self._log_expired(row)
        return bool(lapsed)

    async def reconcile_some(self, checks: asyncio.TaskGroup) -> bool:
        """Take as many unresolved sends as may be checked, and start a check for each; whether
        there may be more.

        Raises:
            DatabaseError: none was taken, or it is not known.
        """
        room, under_way = _MAX_CHECKS - self._checking.total(), bool(self._checking)
        messages = (
            await self.rows.take_unresolved(
                limit=room, per_sender=_MAX_CHECKS_PER_SENDER, under_way=self._checking
            )
            if room
            else []
        )
        for message in messages:
            self._checking[message.sender] += 1
            checks.create_task(self._reconcile_one(message))
        if messages:
            return True
        # as before the query: a check that ended since then makes room for another
        if not under_way:
            return False
        current().waiting("ended_check", at_most=self.interval)
        ended = asyncio.ensure_future(self._check_ended.wait())
        # another sender may have one due by then
        rested = asyncio.ensure_future(self.clock.sleep(self.interval))
        try:
            await asyncio.wait({ended, rested}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            ended.cancel()
            rested.cancel()
        self._check_ended.clear()
        return True

    async def _reconcile_one(self, message: UnresolvedSend) -> None:
        """Check one message.

        It has a heartbeat of its own, since it may take long and no other check waits for it.
        """
        what = f"unconfirmed.check {message.id}"
        self.heartbeats.register(what, limit=self.heartbeats.limit + self.call_timeout)
        try:
            await self._resolve_one(message)
        finally:
            self.heartbeats.end(what)
            self._checking[message.sender] -= 1
            if not self._checking[message.sender]:
                del self._checking[message.sender]
            self._check_ended.set()

    async def sweep(self) -> bool:
        """Search every mailbox that may hold orphan drafts.

        Raises:
            DatabaseError: the rows cannot be read.
        """
        senders = await self.rows.senders_with_drafts()
        self.orphan_drafts.retain(set(senders))
        for sender in senders:
            await self._sweep(sender)
        return False

    async def _sweep(self, sender: str) -> None:
        """Search one mailbox; an error, such as a row that a person has locked, concerns this
        mailbox only.
        """
        try:
            await self.orphan_drafts.sweep(sender)
        except DatabaseAwayError:
            raise
        except NotReplayedError:
            pass  # the next search deletes what is an orphan then
        except Exception as error:  # noqa: BLE001 - the other mailboxes are searched all the same
            what = f"drafts.sweep {sender}"
            self.runner_events.step_failed(what=what, again_in=self.sweep_interval, error=error)

    async def _find_stuck_jobs(self) -> bool:
        for job in await self.rows.unfinished_jobs():
            self.job_changed(job)
        current().working("jobs.find_stuck")
        for job in await self.rows.reschedule_stuck_jobs():
            self.events.job_stuck(job=job)
            self.wake()
        return False

    def _log_expired(self, row: ExpiredClaim) -> None:
        match row.status:
            case State.UNSURE:
                then = t("it may have been sent; checking at Google")
            case State.FAILED:
                then = t("failed: it crashed its daemon again, tried alone")
            case State.CANCELLED:
                then = t("not handed to Google; cancelled with its job")
            case _:
                then = t("not handed to Google; requeued, attempt not counted")
                self.wake()
        if row.status in SETTLED:
            self.job_changed(row.job_id)
        self.events.lease_lapsed(
            job=row.job_id,
            recipient=row.id,
            to=row.to_email,
            sender=row.sender,
            attempt=row.attempt,
            owner=row.daemon_id or "?",
            then=then,
        )
        if row.status is State.UNSURE:
            self.runner_events.message_unsure(
                job=row.job_id,
                recipient=row.id,
                to=row.to_email,
                sender=row.sender,
                cause=row.error,
                look_in=row.look_in.total_seconds(),
            )
        elif row.status is State.FAILED:
            self.runner_events.message_failed(
                job=row.job_id,
                recipient=row.id,
                to=row.to_email,
                sender=row.sender,
                done=row.done,
                total=row.total,
                cause=row.error,
            )

    async def _resolve_one(self, message: UnresolvedSend) -> None:
        try:
            current().working("unconfirmed.check")
            settled = await self._reconcile(message)
            current().working("unconfirmed.settle")
            written = await self.rows.resolve(settled)
        except DatabaseAwayError:
            # logged by the store; nothing was written, and the check is repeated when its lease
            # expires
            return
        except DatabaseError as error:
            what = f"unconfirmed.settle job={message.job_id} recipient={message.id}"
            self.runner_events.step_failed(
                what=what, again_in=self.rows.check_lease.total_seconds(), error=error
            )
            return
        match written:
            case WriteResult.APPLIED | WriteResult.RESOLVED:
                self._log_resolution(settled)
            case WriteResult.CANCELLED:
                self.runner_events.message_cancelled(
                    job=message.job_id,
                    recipient=message.id,
                    to=message.to_email,
                    sender=message.sender,
                    cause=t("checked: Google does not have it"),
                )
                self.job_changed(message.job_id)
                await self._discard(message)
            case _:
                pass  # another daemon has checked meanwhile, and logs its result

    async def _discard(self, message: UnresolvedSend) -> None:
        """Delete the draft of a message that will not be sent, so that a late request finds none.

        A failure is logged like that of any call, and the sweep finds a draft that is left.
        """
        try:
            if message.draft_id:
                await self.reconciler.gmail.delete_draft(message.sender, draft_id=message.draft_id)
        except DatabaseError as error:  # the rate limit could not be read
            self.runner_events.step_failed(what="drafts.delete", again_in=0.0, error=error)

    async def _reconcile(self, message: UnresolvedSend) -> Resolution:
        """The result of a check; an error concerns this check only, and decides nothing."""
        try:
            return await self.reconciler.reconcile(message)
        except DatabaseError:
            raise
        except Exception as error:  # noqa: BLE001 - the other checks go on
            self.runner_events.message_crashed(
                job=message.job_id,
                recipient=message.id,
                to=message.to_email,
                then=t("it is checked again later"),
                error=error,
            )
            return unresolved(message, reason("internal_error", error=repr(error)))

    def _log_resolution(self, it: Resolution) -> None:
        message, say = it.message, self.events
        match it.transition:
            case Transition.FOUND:
                proof = (
                    t("message {message}", message=it.message_id)
                    if it.message_id
                    else t("its draft is gone")
                )
                self.runner_events.message_found(
                    job=message.job_id,
                    recipient=message.id,
                    to=message.to_email,
                    sender=message.sender,
                    proof=proof,
                )
                self.job_changed(message.job_id)
            case Transition.MISSING:
                say.message_missing(
                    job=message.job_id,
                    recipient=message.id,
                    to=message.to_email,
                    sender=message.sender,
                )
                self.wake()
            case _ if it.retry_in is None:
                say.message_unresolved(
                    job=message.job_id,
                    recipient=message.id,
                    to=message.to_email,
                    sender=message.sender,
                )
            case _:
                say.message_still_unsure(
                    job=message.job_id,
                    recipient=message.id,
                    to=message.to_email,
                    sender=message.sender,
                    checks=message.checks + 1,
                    cause=it.error or "",
                    again_in=it.retry_in.total_seconds(),
                )
