"""Transactions of one daemon that meet on the same rows take their locks in one order, so that none is a deadlock.

They do meet: a server that stood still runs what was cut off long ago beside what came after it.
"""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from itertools import combinations_with_replacement, cycle
from typing import Any, Final, override

from mailerd.config import DatabaseSettings, Live
from mailerd.core.claims import ClaimedRecipient, Outcome, Record, Resolution, UnresolvedSend
from mailerd.core.decisions import Decision, Pause
from mailerd.core.inbox_findings import Finding, InboxCursor, InboxLease
from mailerd.core.notices import Classification, Kind
from mailerd.core.rate_limit import SenderLimits
from mailerd.core.results import Consequence, Result, Step
from mailerd.core.states import JobChange, Transition
from mailerd.core.verdicts import PauseCause
from mailerd.errors import DatabaseError
from mailerd.events.process import StoreEvents
from mailerd.store.db.connection import Cursor
from mailerd.store.db.database import Database
from mailerd.store.inbox.mailboxes import Mailboxes
from mailerd.store.inbox.record_findings import FindingsWriter
from mailerd.store.queue.failover import ReplayLog
from mailerd.store.queue.rate_limits import DefaultLimits
from mailerd.store.queue.record import RecordWriter
from mailerd.store.queue.recovery import ExpiredClaims, RecoveryQueries, settle
from mailerd.store.write.job_actions import JobActions
from tests.store.queue.test_claim import claims
from tests.support.handover import handover
from tests.support.heard import Heard
from tests.support.replayed import daemons, replayed
from tests.support.rows import post, query, states

MINUTE = timedelta(minutes=1)
ROUNDS = 60


async def record(database: Database, records: Sequence[Record]) -> None:
    it = RecordWriter(database, "D1")

    async def work(cursor: object) -> None:
        await it.record(cursor, records)  # type: ignore[arg-type]
        await cursor.execute("ROLLBACK")  # type: ignore[attr-defined]  # the same again in the next round

    await database.transaction(work, what="record", bound=120.0)  # the last of so many waits for all others


async def test_records_of_two_daemons_that_touch_the_same_senders_never_deadlock(
    database: Database, heard: Heard
) -> None:
    """Each learns of the senders whose messages the other says were slow, came back or were refused."""
    senders = [f"s{number}@example.com" for number in range(6)]
    for sender in senders:
        await post(database, sender=sender, recipients=4)
    messages = (await claims(database).claim(24)).messages
    await query(database, "UPDATE senders SET project = IF(email < 's3', 'q', 'p')")
    await query(database, "INSERT INTO projects (name) VALUES ('p'), ('q')")
    slow = Decision(Transition.SENT, message_id="m")
    back = Decision(Transition.DEFERRED, error="no", wait=MINUTE)
    paused = Decision(
        Transition.RELEASED, error="slow down", wait=MINUTE, pause=Pause(PauseCause.THROTTLED, "no", MINUTE)
    )

    def of(seq: int, *, first: bool) -> list[ClaimedRecipient]:
        return [it for it in messages if it.seq == seq and (it.sender in senders[:3]) is first]

    def touching(seq: int, *, first: bool) -> list[Record]:
        """Hand-overs that teach of one half of the senders, and outcomes that touch the other."""
        taught: list[Record] = [handover(it, "d", "t", project="p") for it in of(seq, first=first)]
        others = [replace(it, latency_threshold=0.4) for it in of(seq + 1, first=not first)]
        decisions = (slow, back, paused)
        return taught + [Outcome(it, decision, took=2.0) for it, decision in zip(others, decisions, strict=True)]

    one, other = touching(0, first=True), touching(2, first=False)
    async with asyncio.TaskGroup() as tasks:
        for _ in range(ROUNDS):
            tasks.create_task(record(database, one))
            tasks.create_task(record(database, other))
    assert [told for told in heard.of("transaction_repeated") if "1213" in str(told["cause"])] == []


async def at_once(database: Database, one: Sequence[Record], other: Sequence[Record]) -> None:
    """Two daemons, again and again; a deadlock would be raised here, since nothing repeats it."""
    async with asyncio.TaskGroup() as tasks:
        for _ in range(ROUNDS):
            for records in (one, other):
                tasks.create_task(record(database, records))


async def test_two_senders_whose_project_is_used_up_pause_it_together_without_a_deadlock(database: Database) -> None:
    senders = [f"s{number}@example.com" for number in range(6)]
    for sender in senders:
        await post(database, sender=sender, recipients=1)
    messages = (await claims(database).claim(6)).messages
    await query(database, "UPDATE senders SET project = 'p'")
    paused = Decision(Transition.RELEASED, error="no", wait=MINUTE, pause=Pause(PauseCause.PROJECT_LIMIT, "no", MINUTE))
    one, other = ([Outcome(it, paused) for it in messages if it.sender == senders[number]] for number in (1, 4))
    await at_once(database, one, other)


async def test_two_halves_of_a_cancelled_job_come_back_without_a_deadlock(database: Database) -> None:
    job = await post(database, recipients=40)
    messages = (await claims(database).claim(40)).messages
    await query(database, "UPDATE jobs SET status = 'cancelled', next_claim_at = NULL")
    back = Decision(Transition.RELEASED, error="no", wait=MINUTE)
    one, other = ([Outcome(it, back) for it in half] for half in (messages[:20], messages[20:]))
    await at_once(database, one, other)
    it = RecordWriter(database, "D1")
    for half in (one, other):
        await database.transaction(lambda c, half=half: it.record(c, half), what="record")  # type: ignore[misc]
    assert await states(database, job) == {"cancelled": 40}


async def test_a_renewal_and_a_record_of_the_same_messages_never_deadlock(database: Database, heard: Heard) -> None:
    await post(database, recipients=40)
    messages: Sequence[ClaimedRecipient] = (await claims(database).claim(40)).messages
    # Hand-overs of the later rows and outcomes of the earlier ones, each as they came in: the other way round.
    records: list[Record] = [handover(message, "d", "t") for message in messages[20:]]
    records += [Outcome(message, Decision(Transition.SENT, message_id="m")) for message in messages[:20]]
    records.reverse()
    rescues = RecoveryQueries(database, "D1", MINUTE, replayed(database))
    held = [(message.id, message.token) for message in messages]
    async with asyncio.TaskGroup() as tasks:  # a deadlock would be raised here: nothing repeats it
        for _ in range(ROUNDS):
            tasks.create_task(record(database, records))
            tasks.create_task(rescues.renew(held, lease=MINUTE))
    assert [told for told in heard.of("transaction_repeated") if "1213" in str(told["cause"])] == []


# Each two of all that change messages, over the same messages, jobs and senders.


class RollingBack(Database):
    """Does everything and keeps nothing, so that the same may be done again; it notes what met a deadlock."""

    deadlocks: list[str]
    met = ""

    @override
    async def transaction[T](
        self, work: Callable[[Cursor], Awaitable[T]], *, what: str, bound: float | None = None, **how: bool
    ) -> T:
        async def undone(cursor: Cursor) -> T:
            done = await work(cursor)
            await cursor.execute("ROLLBACK")
            return done

        try:
            return await super().transaction(undone, what=what, bound=120.0, **how)
        except DatabaseError as error:
            if error.errno == _DEADLOCK:
                self.deadlocks.append(f"{self.met}: {what}")
            raise


_DEADLOCK: Final = 1213
_AT_ONCE: Final = 4
"""So often each is done by each side for every pair."""
SENDERS: Final = ("a@example.com", "b@example.com")
LIMITS: Final = Live(DefaultLimits(SenderLimits(0, 0, 0)))
_GIVEN_BACK: Final = (Kind.OVER_LIMIT, Consequence(None, Step.UNDO))
_BOUNCED: Final = (Kind.SOFT, Consequence(Result.BOUNCED, Step.COUNT_SOFT))


@dataclass(frozen=True)
class Everything:
    """Two senders of one project with two jobs each, and of each job messages in every state, by their state."""

    database: Database
    messages: dict[str, list[ClaimedRecipient]]
    doubts: list[UnresolvedSend]
    inboxes: dict[str, tuple[InboxLease, list[Finding]]]

    def ways(self) -> dict[str, Callable[[bool], Awaitable[object]]]:
        """All that changes messages; each by one side, or by another that goes through the same from its other end."""
        it, rows, sending = self.database, self.messages, self.messages["sending"]
        rescues = RecoveryQueries(it, "D2", MINUTE, replayed(it, "D2"))
        slow_down = Pause(PauseCause.PROJECT_LIMIT, "no", MINUTE)
        back = Decision(Transition.DEFERRED, error="no", wait=MINUTE)
        paused = Decision(Transition.RELEASED, error="no", wait=MINUTE, pause=slow_down)
        sent, lost = Decision(Transition.SENT, message_id="m"), Decision(Transition.LOST, wait=MINUTE)
        failed = Decision(Transition.FAILED, error="no")
        late = [replace(one, token="2" * 26, draft_id=None) for state in ("waiting", "unsure") for one in rows[state]]

        def ask(change: JobChange, **how: Any) -> Callable[[bool], Awaitable[object]]:
            actions = JobActions(it, timeout=60.0, late_arrival=MINUTE)
            return lambda back: actions.apply(sending[-1 if back else 0].job_id, change, actor="ada", **how)

        def write(*made: Record) -> Callable[[bool], Awaitable[object]]:
            async def work(cursor: Cursor, records: Sequence[Record]) -> object:
                return await RecordWriter(it, "D1").record(cursor, records)

            return lambda back: it.transaction(partial(work, records=made[:: -1 if back else 1]), what="record")

        async def note(back: bool) -> object:  # noqa: FBT001 - as it is called
            lease, found = self.inboxes[SENDERS[back]]
            writer = FindingsWriter(it, LIMITS, "D1", MINUTE, min_pause=MINUTE, undo=True)
            return await writer.write(lease, found[:: -1 if back else 1], InboxCursor(5, 5), address_key=b"k" * 32)

        async def replay(back: bool) -> object:  # noqa: FBT001 - as it is called
            log = ReplayLog(it, "D1", MINUTE, StoreEvents(lambda *_: None))
            log.replay_again()
            for one in late[:: -1 if back else 1]:
                log.remember(Outcome(one, sent))
            return await log.replay(next(iter(it.pool.servers)))

        doubts = self.doubts
        of_sent = rows["sent"]
        return {
            "hand over": write(*(handover(one, "d", "t", project="p") for one in sending)),
            "hand over new ones": lambda back: RecordWriter(it, "D1").hand_over(
                [handover(one, "d", "t", project="p") for one in sending[:: -1 if back else 1]]
            ),
            "outcomes": write(
                *(Outcome(one, what, took=2.0) for one, what in zip(sending, cycle((sent, back, failed, lost, paused))))
            ),
            "late answers": write(*(Outcome(one, sent) for one in late)),
            "late doubts": write(*(Outcome(one, lost) for one in late)),
            "recover": lambda _: ExpiredClaims(it, "D2", MINUTE, replayed(it, "D2")).recover(),
            "found": lambda back: rescues.resolve(Resolution(doubts[-1 if back else 0], Transition.FOUND)),
            "missing": lambda back: rescues.resolve(Resolution(doubts[-1 if back else 0], Transition.MISSING)),
            "settle": lambda back: settle(it, doubts[-1 if back else 0].id, change=Transition.MISSING, actor="ada"),
            "cancel one": lambda back: JobActions(it, timeout=60.0, late_arrival=MINUTE).cancel_message(
                rows["waiting"][-1 if back else 0].id, actor="ada"
            ),
            "undo": lambda back: rescues.undo(
                job=of_sent[-1 if back else 0].job_id, seq=of_sent[-1 if back else 0].seq, draft="d"
            ),
            "note": note,
            "replay": replay,
            "claim": lambda _: claims(it, daemon="D3").claim(9),
            "renew": lambda back: rescues.renew([(x.id, x.token) for x in sending[:: -1 if back else 1]], lease=MINUTE),
            "cancel": ask(JobChange.CANCEL),
            "pause": ask(JobChange.PAUSE),
            "retry": ask(JobChange.RETRY),
            "retry bounced": ask(JobChange.RETRY, bounced=["soft", "hard"]),
            "retry unsure": ask(JobChange.RETRY, unsure=True),
            "finish": lambda _: RecordWriter(it, "D1").complete_jobs({one.job_id for one in sending}),
        }


WHOLE_JOBS: Final = ("cancel", "retry", "retry bounced", "retry unsure")
MAY_MEET: Final = {
    *(f"{one} and {whole}" for whole in WHOLE_JOBS for one in (
        "late answers", "late doubts", "found", "missing", "settle", "undo", "note", "replay", "cancel one",
    )),
}  # fmt: skip
"""What changes a whole job has the job first, and its messages by their index: the class is allowed, though not each
pair of it was seen. Each of them is done again: by `request`, by the transaction itself, or by the next round."""
STATES: Final = ("sending", "sending", "unsure", "sent", "bounced", "failed", "waiting")


async def everything(database: Database, tried: Database) -> Everything:
    messages = defaultdict[str, list[ClaimedRecipient]](list)
    for sender in SENDERS * 2:
        await post(database, sender=sender, recipients=len(STATES))
    for it in (await claims(database).claim(99)).messages:
        messages[STATES[it.seq]].append(replace(it, latency_threshold=0.4, sender_project="p", draft_id="d"))
    await query(database, "INSERT INTO projects (name) VALUES ('p')")
    await query(database, "UPDATE senders SET project = 'p', mode = 'draft'")
    await query(
        database, "UPDATE job_recipients SET lease_until = UTC_TIMESTAMP(6) - INTERVAL 1 SECOND, "
        "status = ELT(seq + 1, 'sending', 'sending', 'unsure', 'sent', 'sent', 'failed', 'waiting')",
    )  # fmt: skip
    await query(database, "UPDATE job_recipients SET draft_id = 'd', mode = 'draft' WHERE seq IN (2, 3)")
    await query(
        database, "UPDATE job_recipients SET thread_id = CONCAT('t', id), proof = 'draft gone', claim_token = NULL, "
        "lease_until = NULL WHERE seq IN (3, 4)",
    )  # fmt: skip
    await query(database, "UPDATE job_recipients SET result = 'bounced', result_kind = 'soft' WHERE seq = 4")
    await query(database, "UPDATE jobs SET bounced = 1, next_claim_at = UTC_TIMESTAMP(6)")
    await query(database, "UPDATE job_recipients SET claim_token = NULL, lease_until = NULL WHERE seq IN (5, 6)")
    rescues = RecoveryQueries(database, "D2", timedelta(hours=1), replayed(database, "D2"))
    doubts = await rescues.take_unresolved(limit=9)
    boxes = Mailboxes(database, LIMITS, lease_time=timedelta(hours=1), interval=MINUTE)
    inboxes = {}
    for sender in SENDERS:
        await query(database, "INSERT INTO mailboxes (email, next_at) VALUES (%s, UTC_TIMESTAMP(6))", sender)
        lease = await boxes.lease(sender)
        assert lease is not None
        threads = {f"t{it.id}" for it in messages["sent"] if it.sender == sender}
        found = [
            Finding(f"g{thread}{n}", thread, lease.now, some[0], Classification(kind, "5.1.1", "no"), follows)
            for thread, some in (await boxes.messages_in(sender, threads)).items()
            for n, (kind, follows) in enumerate((_BOUNCED, _GIVEN_BACK))
        ]
        inboxes[sender] = lease, found
    await daemons(database, "D1").heartbeat()
    return Everything(tried, messages, sorted(doubts, key=lambda it: it.id), inboxes)


async def test_no_two_of_all_that_change_messages_deadlock(database: Database, database_url: str) -> None:
    tried = RollingBack(
        DatabaseSettings(url=database_url, connect_timeout=20, statement_timeout=60), events=StoreEvents(Heard())
    )
    tried.deadlocks = []
    ways = (await everything(database, tried)).ways()
    for name, way in ways.items():
        tried.met = name
        await way(False)
    for (one, forwards), (other, backwards) in combinations_with_replacement(ways.items(), 2):
        tried.met = f"{one} and {other}"
        both = [forwards(False), backwards(True), backwards(False), forwards(True)] * _AT_ONCE
        await asyncio.gather(*both, return_exceptions=True)
    await tried.close()
    assert {it.partition(":")[0] for it in tried.deadlocks} <= MAY_MEET
