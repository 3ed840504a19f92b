"""A daemon whose messages stop wherever they ask Google or record something, until a step lets them go on."""

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, Literal, override

from mailerd.clock import Clock, new_id
from mailerd.config import DatabaseSettings, Live
from mailerd.core.bounce_rule import BounceRule, BounceRules
from mailerd.core.claims import Claim, ClaimedRecipient, Handover, Outcome, WriteResult
from mailerd.core.decisions import RetryPolicy
from mailerd.core.rate_limit import SenderLimits
from mailerd.core.replies import Call, Reply
from mailerd.errors import DatabaseAwayError, MailerdError
from mailerd.events.base import Event
from mailerd.events.process import StoreEvents
from mailerd.events.worker import RecoveryEvents, RunnerEvents
from mailerd.gmail import Mailbox
from mailerd.store.db.connection import Cursor
from mailerd.store.db.database import Database
from mailerd.store.inbox.mailboxes import Mailboxes
from mailerd.store.inbox.record_findings import FindingsWriter
from mailerd.store.queue.claim import Claims
from mailerd.store.queue.failover import ReplayLog
from mailerd.store.queue.rate_limits import DefaultLimits
from mailerd.store.queue.record import RecordWriter, is_plain_handover
from mailerd.store.queue.recovery import ExpiredClaims, RecoveryQueries
from mailerd.store.write.messages import suppressed
from mailerd.worker.delivery import Delivery
from mailerd.worker.delivery_log import DeliveryLog, JobProgress, PauseLog
from mailerd.worker.recovery import OrphanDrafts, Reconciler
from tests.model.google import Face, Google


@dataclass(frozen=True)
class EagerRule(BounceRule):
    """One for jobs of few messages: no dead address is a chance."""

    @override
    def limit(self, sent: int) -> int:
        return max(self.at_least, math.ceil(self.share * sent))


LIMITS: Final = DefaultLimits(SenderLimits(0, 0, 0))
LEASE: Final = timedelta(hours=1)
RULES_OF_BOUNCES: Final = BounceRules(EagerRule(1, 0.4), EagerRule(4, 0.1))
LATE: Final = timedelta(minutes=10)
"""Each wait is so long that it never ends by itself within a run: `time` steps alone end it."""
POLICY: Final = RetryPolicy(max_attempts=4, base=timedelta(hours=1), cap=timedelta(hours=8), late_arrival=LATE)

Loss = Literal["", "done", "undone"]
"""What becomes of the next COMMIT, whose answer is lost; "": nothing is lost."""


class _UndoneError(MailerdError):
    """Rolls a transaction back."""


class LosingDatabase(Database):
    """Loses the answer to a COMMIT where it is told to, and calls itself by another name after a failover."""

    def __init__(self, url: str) -> None:
        settings = DatabaseSettings(url=url, connect_timeout=20, statement_timeout=20, pool_size=2)
        super().__init__(settings, events=StoreEvents(lambda *_: None))
        self.loss: Loss = ""
        self.name = "server 1"

    @override
    async def transaction[T](self, work: Any, *, what: str, bound: float | None = None, **how: bool) -> T:
        loss, self.loss = self.loss, ""

        async def named(cursor: Cursor) -> T:
            cursor.connection.server = self.name
            if loss == "undone" and how.get("in_one_statement"):
                raise _UndoneError
            done: T = await work(cursor)
            if loss == "undone":
                raise _UndoneError
            return done

        try:
            done = await super().transaction(named, what=what, bound=bound, **how)
        except _UndoneError:
            done = None
        if loss:
            cause = ConnectionError("lost")
            raise DatabaseAwayError(what, phase="commit", cause=cause, errno=2013, retry=True, in_doubt=True)
        return done  # type: ignore[return-value]  # None where it is rolled back, and then nothing is returned

    @override
    async def read[T](self, work: Any, *, what: str, bound: float | None = None) -> T:
        async def named(cursor: Cursor) -> T:
            cursor.connection.server = self.name
            return await work(cursor)  # type: ignore[no-any-return]

        return await super().read(named, what=what, bound=bound)

    @override
    async def _pause(self, error: Any, *, again: int) -> None:
        assert again < 3, error


class StandingClock(Clock):
    """It goes on by steps alone."""

    def __init__(self) -> None:
        self.time = 1000.0

    @override
    def monotonic(self) -> float:
        return self.time


@dataclass
class Request:
    """A call of a message's delivery that Google has not answered."""

    daemon: "Daemon"
    call: Call
    message: ClaimedRecipient
    carry_out: Callable[[], Reply]
    answer: "asyncio.Future[Reply]"
    draft: str | None = None

    def reply(self, it: Reply) -> None:
        if not self.answer.done():
            self.answer.set_result(it)


@dataclass
class Waiting:
    """A record that its daemon has not written."""

    record: Handover | Outcome
    answer: "asyncio.Future[WriteResult]"


class Daemon:
    """The parts of a daemon that concern messages, joined as `app.py` joins them."""

    def __init__(self, database: LosingDatabase, google: Google, clock: StandingClock, face: Face) -> None:
        self.id = new_id()
        self.database, self.google = database, google
        store, runner = StoreEvents(lambda *_: None), RunnerEvents(self._hear)
        self.memory = ReplayLog(database, self.id, LEASE, store)
        self.claims = Claims(database, self.id, LEASE, Live(LIMITS), self.memory)
        self.writer = RecordWriter(database, self.id)
        self.expired = ExpiredClaims(database, self.id, LATE, self.memory)
        self.rows = RecoveryQueries(database, self.id, LEASE, self.memory)
        self.mailboxes = Mailboxes(database, Live(LIMITS), lease_time=LEASE, interval=LATE, replay_log=self.memory)
        self.findings = FindingsWriter(
            database,
            Live(LIMITS),
            self.id,
            LEASE,
            min_pause=LEASE,
            undo=True,
            rules=RULES_OF_BOUNCES,
            replay_log=self.memory,
        )
        gmail: Any = face
        self.reconciler = Reconciler(gmail, LATE)
        self.orphans = OrphanDrafts(gmail, self.rows, RecoveryEvents(lambda *_: None))
        self.requests: list[Request] = []
        self.records: list[Waiting] = []
        self.touched: set[str] = set()
        self.bugs: list[object] = []
        self.tasks: dict[asyncio.Task[None], ClaimedRecipient] = {}
        stub: Any = _Stubs(self)
        log = DeliveryLog(runner, PauseLog(clock=clock, events=runner), JobProgress())
        self.delivery = Delivery(
            gmail=stub, limited_gmail=stub, semaphore=stub, recorder=stub, builder=stub, in_flight=stub, breaker=stub,
            log=log, policy=POLICY, request_timeout=30.0, clock=clock, events=runner,
        )  # fmt: skip

    def _hear(self, event: Event, fields: Mapping[str, object], /) -> None:
        if event.name == "message_crashed":
            self.bugs.append(fields["error"])

    def begin(self, claim: Claim) -> None:
        self.touched.update(claim.exhausted)
        for message in claim.messages:
            task = asyncio.get_running_loop().create_task(self.delivery.deliver(message))
            self.tasks[task] = message
            task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        del self.tasks[task]
        if not task.cancelled():
            task.result()

    async def settle_down(self) -> None:
        """Until each message waits for Google or for its record."""
        while len(self.tasks) > len(self._stopped()):  # noqa: ASYNC110 - each turn of the loop may bring one further
            await asyncio.sleep(0)
        assert not self.bugs, self.bugs

    def _stopped(self) -> list[object]:
        records = [it for it in self.records if not it.answer.done()]
        return [*records, *(it for it in self.requests if not it.answer.done())]

    async def write(self, some: list[Waiting]) -> None:
        """Write these records, as `Recorder` does: plain hand-overs in a statement, and the others in one commit."""
        self.records = [it for it in self.records if it not in some]
        plain = [it for it in some if is_plain_handover(it.record)]
        if plain and await self.writer.hand_over([it.record for it in plain if isinstance(it.record, Handover)]):
            self._written(plain, [WriteResult.APPLIED] * len(plain))
            some = [it for it in some if it not in plain]
        if not some:
            return
        records = [it.record for it in some]

        async def work(cursor: Cursor) -> list[WriteResult]:
            written = await self.writer.record(cursor, records)
            for record, what in zip(records, written, strict=True):
                self.memory.before_commit(record, what)
            return written

        self._written(some, await self.database.retry_until_committed(work, what="record"))

    def _written(self, some: Sequence[Waiting], written: Sequence[WriteResult]) -> None:
        for it, what in zip(some, written, strict=True):
            self.memory.acknowledge(it.record, what)
            if isinstance(it.record, Outcome) or what is WriteResult.RESOLVED:
                self.touched.add(it.record.message.job_id)
            it.answer.set_result(what)

    async def crash(self) -> None:
        for task in (tasks := list(self.tasks)):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self.records.clear()


class _Stubs:
    """What a delivery is given: each call of Google's and each record waits for a step."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon

    # Google

    async def authenticate(self, sender: str) -> Mailbox:
        return self._daemon.google.mailbox(sender)

    async def create_draft(self, sender: str, *, raw: bytes) -> Reply:
        key = raw.decode()
        return await self._ask(Call.DRAFTS_CREATE, lambda: self._daemon.google.create_draft(sender, key))

    async def send_draft(self, _: str, *, draft_id: str, thread_id: str | None) -> Reply:  # noqa: ARG002 - as it is called
        return await self._ask(Call.DRAFTS_SEND, lambda: self._daemon.google.send_draft(draft_id), draft=draft_id)

    async def send_message(self, sender: str, *, raw: bytes) -> Reply:
        key = raw.decode()
        return await self._ask(Call.MESSAGES_SEND, lambda: self._daemon.google.send_message(sender, key))

    async def delete_draft(self, _: str, *, draft_id: str) -> Reply:
        return await self._ask(Call.DRAFTS_DELETE, lambda: self._daemon.google.delete_draft(draft_id))

    async def _ask(self, call: Call, carry_out: Callable[[], Reply], *, draft: str | None = None) -> Reply:
        task = asyncio.current_task()
        assert task is not None
        answer: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._daemon.requests.append(Request(self._daemon, call, self._daemon.tasks[task], carry_out, answer, draft))
        return await answer

    # the recorder

    async def record(self, record: Handover | Outcome) -> WriteResult:
        self._daemon.memory.remember(record)
        answer: asyncio.Future[WriteResult] = asyncio.get_running_loop().create_future()
        self._daemon.records.append(Waiting(record, answer))
        return await answer

    async def suppression(self, message: ClaimedRecipient) -> ClaimedRecipient:
        return await suppressed(self._daemon.database, message)

    # slots, memory, leases

    @asynccontextmanager
    async def slot(self, _: ClaimedRecipient) -> AsyncIterator[None]:
        yield

    released = slot

    async def build(self, message: ClaimedRecipient, **_: object) -> bytes:
        return message.key.encode()

    def lease_allows(self, message: ClaimedRecipient, *, seconds: float) -> bool:  # noqa: ARG002
        return True  # it may have been frozen since it looked

    def age(self, _: ClaimedRecipient) -> float:
        return 1.0

    def remove(self, message: ClaimedRecipient) -> None:
        pass

    def success(self, sender: str) -> None:
        pass

    def failure(self, cause: str) -> None:
        pass

    def sender_failure(self, sender: str, cause: str) -> None:
        pass
