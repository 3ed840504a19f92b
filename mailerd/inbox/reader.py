"""Reads the inboxes that are due, each by a lease, so that one daemon reads a mailbox at a time."""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final, NoReturn

from mailerd.config import Settings
from mailerd.core.bounce_rule import BounceRule, BounceRules
from mailerd.core.models import InboxLease
from mailerd.core.rate_limit import RoundBudget
from mailerd.core.replies import Call
from mailerd.core.verdicts import judge
from mailerd.errors import DatabaseAwayError, DatabaseError
from mailerd.events.base import EventSink
from mailerd.events.inbox import InboxEvents
from mailerd.events.intake import SuppressionEvents
from mailerd.gmail import Mailbox
from mailerd.heartbeat import Heartbeats, beat, every
from mailerd.inbox.examine import Examiner, MailboxTroubleError, SeenMessages
from mailerd.inbox.inbox_log import InboxLog
from mailerd.inbox.reading_round import ReadingRound
from mailerd.rate_limited_gmail import RateLimitedGmail
from mailerd.store.inbox.mailboxes import Mailboxes
from mailerd.store.inbox.record_findings import FindingsWriter, LeaseLostError
from mailerd.store.queue.claim import Claims
from mailerd.store.queue.rate_limits import DefaultLimits
from mailerd.store.secrets import Secrets

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
    """Called when letters wait again."""
    aliases: Mapping[str, str]
    """The mailbox of each alias."""
    _seen: dict[str, SeenMessages] = field(default_factory=dict)

    async def loop(self) -> NoReturn:
        """Read what is due until cancelled."""
        name = "reading inboxes"
        heartbeat = self.heartbeats.register(name, limit=self.heartbeats.limit + self.call_timeout)
        rest = min(5.0, self.interval)

        async def work() -> bool:
            try:
                return await self.read_due()
            except DatabaseError:
                raise
            except Exception as error:  # noqa: BLE001 - it is logged; letters are sent, whatever ails the reader
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
            tasks = [reads.create_task(self._read_mailbox(email), name=f"read the inbox of {email}") for email in due]
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
            what = f"reading the inbox of {email}"
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
            await self.mailboxes.release(lease, state="no scope", scope="", wait=_WAIT_WITHOUT_SCOPE)
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
                await self.mailboxes.release(lease, state="behind", scope=scope, wait=again, units=units)
            raise
        except Exception as error:  # noqa: BLE001 - it is logged; letters are sent, whatever ails the reader
            cause = str(error) if isinstance(error, MailboxTroubleError) else self._bug(email, error)
            await self._give_back(lease, cause, scope=scope, units=it.examiner.budget.used if it else 0)
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
            lease.units_per_minute, idle=lease.idle, spent=lease.spent, today=lease.today, now=lease.now
        )
        seen = self._seen.setdefault(lease.email, SeenMessages())
        seen.prune()
        own = frozenset({lease.email, *(alias for alias, of in self.aliases.items() if of == lease.email)})
        examiner = Examiner(lease, self.gmail, self.mailboxes, budget, keys, bodies=bodies, seen=seen, own=own)
        return ReadingRound(examiner, self.writer, self.log, self.interval, wake=self.wake)

    def _bug(self, email: str, error: Exception) -> str:
        """Log a bug that ended a round, and the cause that is kept of it."""
        what, again_in = f"reading the inbox of {email}", self._refused.total_seconds()
        self.log.events.inbox_crashed(what=what, again_in=again_in, error=error)
        return f"a bug in mailerd: {type(error).__name__}"

    @property
    def _refused(self) -> timedelta:
        return min(_WAIT_AFTER_REFUSAL, timedelta(seconds=5 * self.interval))

    async def _give_back(self, lease: InboxLease, cause: str, *, scope: str, units: int = 0) -> None:
        wait = self._refused
        await self.mailboxes.release(lease, state="refused", scope=scope, detail=cause, wait=wait, units=units)
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

    def defaults() -> DefaultLimits:
        return claims.defaults  # a reload changes them

    database, safety = claims.database, settings.safety
    known, lease = settings.inbox, timedelta(seconds=settings.runner.lease)
    rest = timedelta(seconds=known.limit_pause)
    return InboxReader(
        gmail=gmail,
        mailboxes=Mailboxes(
            database,
            defaults,
            lease_time=lease,
            interval=timedelta(seconds=known.interval),
            replay_log=claims.replay_log,
        ),
        writer=FindingsWriter(
            database,
            defaults,
            claims.daemon_id,
            lease,
            min_pause=rest,
            undo=known.undo_over_limit,
            rules=BounceRules(
                BounceRule(safety.job_bounces, safety.job_share), BounceRule(safety.sender_bounces, safety.sender_share)
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
