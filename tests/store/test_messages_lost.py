"""The connection is cut at every statement of everything that changes a message: it is done once, and told as ever.

What was cut off is done again by whoever does it in the daemon: by its own transaction where the COMMIT is in doubt, or
by a caller who was told that nothing was done.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final

import pytest

from mailerd.config import Live
from mailerd.core.claims import ClaimedRecipient, Outcome, Record, Resolution, WriteResult
from mailerd.core.decisions import Decision, Pause
from mailerd.core.inbox_findings import Finding, InboxCursor
from mailerd.core.notices import Classification, Kind
from mailerd.core.rate_limit import SenderLimits
from mailerd.core.results import Consequence, Result, Step
from mailerd.core.states import JobChange, Proof, Transition
from mailerd.core.verdicts import PauseCause
from mailerd.core.webhooks import EventType
from mailerd.errors import DatabaseError
from mailerd.events.process import StoreEvents
from mailerd.sandbox.mariadb import Server
from mailerd.store.db.connection import Cursor
from mailerd.store.db.database import Database
from mailerd.store.inbox.mailboxes import Mailboxes
from mailerd.store.inbox.record_findings import FindingsWriter
from mailerd.store.queue.failover import ReplayLog
from mailerd.store.queue.rate_limits import DefaultLimits
from mailerd.store.queue.record import RecordWriter, is_plain_handover
from mailerd.store.queue.recovery import ExpiredClaims, RecoveryQueries, RestoredQueue, settle
from mailerd.store.write.job_actions import JobActions
from mailerd.store.write.webhooks import NewEndpoint, Webhooks
from tests.store.queue.test_claim import claims
from tests.store.queue.test_crashes import CRASHED_ALONE, SUSPECT
from tests.store.queue.test_failover import forget
from tests.store.queue.test_record import FORGOTTEN_CLAIM, write
from tests.store.queue.test_recovery import LAPSE
from tests.support.cut import Cut
from tests.support.handover import handover
from tests.support.proxy import BOTH, Proxy
from tests.support.replayed import daemons, replayed
from tests.support.rows import post, query
from tests.support.tables import Tables

Act = Callable[[Database], Awaitable[object]]
"""Does it, on this database; what its caller was told."""

ME: Final = "me@example.com"
WAIT: Final = timedelta(minutes=20)
LIMITS: Final = Live(DefaultLimits(SenderLimits(0, 0, 0)))
CANCELLED: Final = "UPDATE jobs SET status = 'cancelled', next_claim_at = NULL"
SENT: Final = Decision(Transition.SENT, message_id="m1", thread_id="t0")
FAILED: Final = Decision(Transition.FAILED, error="no such address")
DEFERRED: Final = Decision(Transition.DEFERRED, error="busy", wait=WAIT)
LOST: Final = Decision(Transition.LOST, error="no answer", wait=WAIT)
SUPPRESSED: Final = Decision(Transition.SUPPRESSED, error="suppressed: unsubscribed")
DAY_IS_OVER: Final = Pause(PauseCause.DAILY_LIMIT, "the day's limit", WAIT)
DECISIONS: Final = (SENT, FAILED, DEFERRED, LOST, SUPPRESSED, Decision(Transition.RELEASED, error="no", wait=WAIT))


# What a daemon records.


async def claimed(database: Database, messages: int = 1, *, sender: str = ME) -> Sequence[ClaimedRecipient]:
    await post(database, sender=sender, recipients=messages)
    return (await claims(database).claim(messages)).messages


async def handed_over(database: Database, messages: int = 1, *, sender: str = ME) -> list[ClaimedRecipient]:
    found = await claimed(database, messages, sender=sender)
    await write(database, *(handover(it, f"d{it.seq}", f"t{it.seq}") for it in found))
    return [replace(it, draft_id=f"d{it.seq}", thread_id=f"t{it.seq}", sender_mode="draft") for it in found]


def recording(*records: Record) -> Act:
    """As the recorder does: what meets the locks of a session that is being ended comes again."""

    async def act(database: Database) -> object:
        writer, left, told = RecordWriter(database, "D1"), list(records), list[tuple[Record, WriteResult]]()
        while left:
            work = partial(writer.record, records=left)
            written = await database.retry_until_committed(work, what="record")
            told += [(it, what) for it, what in zip(left, written, strict=True) if what is not WriteResult.LOCKED]
            left = [it for it, what in zip(left, written, strict=True) if what is WriteResult.LOCKED]
        return [next(what for it, what in told if it is record) for record in records]

    return act


async def a_handover(database: Database) -> Act:
    (message,) = await claimed(database)
    return recording(handover(message, "d1", "t1", project="p"))


async def a_handover_without_a_draft(database: Database) -> Act:
    (message,) = await claimed(database)
    return recording(handover(message))


async def new_messages_that_are_handed_over(database: Database) -> Act:
    """In one statement, which is a transaction of its own."""
    messages = await claimed(database, 2)
    records = [handover(replace(it, sender_mode="draft", sender_project="p"), f"d{it.seq}", project="p")
               for it in messages]  # fmt: skip
    assert all(map(is_plain_handover, records))

    async def act(database: Database) -> object:
        return await RecordWriter(database, "D1").hand_over(records)

    return act


async def a_draft_that_is_to_be_deleted(database: Database) -> Act:
    (message,) = await handed_over(database)
    return recording(handover(message, "d0", "t0", discarding=True, pause=DAY_IS_OVER))


async def a_handover_of_what_was_sent_before(database: Database) -> Act:
    (message,) = await claimed(database)
    await query(database, "UPDATE job_recipients SET message_id = 'm0'")
    return recording(handover(message, "d1", "t1"))


async def a_handover_of_what_is_in_doubt(database: Database) -> Act:
    (message,) = await handed_over(database)
    await write(database, Outcome(replace(message, token="2" * 26, draft_id="d9"), LOST))
    return recording(handover(message, "d1", "t1"))


def an_outcome(decision: Decision) -> Callable[[Database], Awaitable[Act]]:
    async def prepare(database: Database) -> Act:
        (message,) = await handed_over(database)
        return recording(Outcome(message, decision))

    prepare.__name__ = f"outcome_{decision.transition}"
    return prepare


async def outcomes_of_all_kinds(database: Database) -> Act:
    messages = await handed_over(database, len(DECISIONS))
    return recording(*(Outcome(it, decision) for it, decision in zip(messages, DECISIONS, strict=True)))


async def an_outcome_that_ends_a_pause_and_was_slow(database: Database) -> Act:
    (message,) = await handed_over(database)
    await query(
        database,
        "UPDATE senders SET pause_cause = 'throttled', pauses = 1, project = 'p', "
        "paused_until = UTC_TIMESTAMP(6) - INTERVAL 1 SECOND",
    )
    await query(database, "INSERT INTO projects (name) VALUES ('p')")
    probing = replace(message, probing=True, latency_threshold=0.4, sender_project="p")
    return recording(Outcome(probing, SENT, took=2.0))


async def an_outcome_that_pauses_a_project(database: Database) -> Act:
    messages = [*await handed_over(database), *await handed_over(database, sender="you@example.com")]
    await query(database, "UPDATE senders SET project = 'p'")
    pause = Pause(PauseCause.PROJECT_LIMIT, "the project's limit", WAIT)
    return recording(Outcome(messages[0], replace(DECISIONS[-1], pause=pause)), Outcome(messages[1], SENT))


async def outcomes_that_come_back_into_a_cancelled_job(database: Database) -> Act:
    messages = await handed_over(database, 2)
    await query(database, CANCELLED)
    return recording(*(Outcome(it, DEFERRED) for it in messages))


async def a_late_answer(database: Database) -> Act:
    (message,) = await handed_over(database)
    await query(database, LAPSE)
    await expired_claims(database).recover()
    return recording(Outcome(message, SENT))


async def a_late_answer_after_another_claim(database: Database) -> Act:
    (message,) = await claimed(database)
    await query(database, FORGOTTEN_CLAIM)
    await claims(database).claim(1)
    return recording(Outcome(message, SENT))


async def a_late_doubt(database: Database) -> Act:
    (message,) = await claimed(database)
    await query(database, FORGOTTEN_CLAIM)
    return recording(Outcome(replace(message, draft_id="d0"), LOST))


async def a_late_doubt_that_takes_the_message_from_another_claim(database: Database) -> Act:
    (message,) = await claimed(database)
    await query(database, FORGOTTEN_CLAIM)
    await claims(database).claim(1)
    return recording(Outcome(message, LOST))


async def late_outcomes_that_no_row_takes(database: Database) -> Act:
    messages = await handed_over(database, 2)
    await query(database, "UPDATE job_recipients SET claim_token = %s", "2" * 26)
    return recording(Outcome(messages[0], LOST), Outcome(messages[1], FAILED))


# What the recovery does.


def expired_claims(database: Database) -> ExpiredClaims:
    return ExpiredClaims(database, "D2", WAIT, replayed(database, "D2"))


def recovery(database: Database) -> RecoveryQueries:
    return RecoveryQueries(database, "D2", WAIT, replayed(database, "D2"))


async def recover(database: Database) -> object:
    return await expired_claims(database).recover()


async def lapsed_claims(database: Database) -> Act:
    await claimed(database, 2)
    await handed_over(database, 2, sender="you@example.com")
    await query(database, LAPSE)
    return recover


async def lapsed_claims_of_a_cancelled_job(database: Database) -> Act:
    await claimed(database, 2)
    await query(database, CANCELLED)
    await query(database, LAPSE)
    return recover


async def lapsed_claims_of_messages_that_crash_daemons(database: Database) -> Act:
    await claimed(database, 2)
    await query(database, CRASHED_ALONE)
    await query(database, LAPSE)
    return recover


def a_check(
    transition: Transition | None, *, cancelled: bool = False, **more: Any
) -> Callable[[Database], Awaitable[Act]]:
    async def prepare(database: Database) -> Act:
        (message,) = await handed_over(database)
        await write(database, Outcome(message, LOST))
        await query(database, LAPSE)
        (doubt,) = await recovery(database).take_unresolved()
        if cancelled:
            await query(database, CANCELLED)

        async def act(far: Database) -> object:
            return await recovery(far).resolve(Resolution(doubt, transition, **more))

        return act

    prepare.__name__ = f"check_{transition or 'without_a_result'}{'_in_a_cancelled_job' * cancelled}"
    return prepare


def a_person(change: Transition, *, cancelled: bool = False) -> Callable[[Database], Awaitable[Act]]:
    async def prepare(database: Database) -> Act:
        (message,) = await handed_over(database)
        await write(database, Outcome(message, LOST))
        if cancelled:
            await query(database, CANCELLED)

        async def act(far: Database) -> object:
            settled = await settle(far, message.id, change=change, actor="ada", message_id="m5")
            return settled.status, len(settled.finished)  # how long it took is another matter

        return act

    prepare.__name__ = f"settled_as_{change}{'_in_a_cancelled_job' * cancelled}"
    return prepare


async def a_draft_that_is_there(database: Database) -> Act:
    await (await a_check(Transition.FOUND, proof=Proof.GONE)(database))(database)
    ((job, seq),) = await query(database, "SELECT job_id, seq FROM job_recipients")
    await RecordWriter(database, "D1").complete_jobs([job])

    async def act(far: Database) -> object:
        return await recovery(far).undo(job=job, seq=seq, draft="d0")

    return act


async def a_job_that_was_stuck(database: Database) -> Act:
    await post(database)
    await query(database, "UPDATE jobs SET next_claim_at = NULL")

    async def act(far: Database) -> object:
        return await recovery(far).reschedule_stuck_jobs()

    return act


async def a_restored_database(database: Database) -> Act:
    await handed_over(database)
    await post(database, sender="you@example.com")

    async def act(far: Database) -> object:
        await RestoredQueue(far).doubt_all()
        return None  # how many are left after what was done before is no matter

    return act


async def what_a_failover_has_forgotten(database: Database) -> Act:
    messages = await handed_over(database, 5)
    await daemons(database, "D1").heartbeat()
    ends = (SENT, LOST, replace(DEFERRED, forgets=True), FAILED)
    records: list[Record] = [
        *(Outcome(it, decision) for it, decision in zip(messages, ends, strict=False)),
        handover(messages[4], "d4"),
    ]
    await write(database, *records)
    await forget(database)
    await query(database, "UPDATE job_recipients SET draft_id = CONCAT('d', seq) WHERE seq IN (2, 3)")
    ((server,),) = {(it,) for it in database.pool.servers}

    async def act(far: Database) -> object:
        log = ReplayLog(far, "D1", WAIT, StoreEvents(lambda *_: None))
        log.replay_again()
        for it in records:
            log.remember(it)
        return await log.replay(server)

    return act


# What an inbox, clients and claims do.


def notices(*meanings: tuple[Kind, Consequence], given_back: bool = False) -> Callable[[Database], Awaitable[Act]]:
    async def prepare(database: Database) -> Act:
        messages = await handed_over(database, len(meanings))
        sent = [Outcome(it, replace(SENT, message_id=f"m{it.seq}", thread_id=f"t{it.seq}")) for it in messages]
        await write(database, *sent)
        await RecordWriter(database, "D1").complete_jobs([messages[0].job_id])
        if given_back:
            await query(database, "UPDATE job_recipients SET given_back = 1")
        await query(database, "INSERT INTO mailboxes (email, next_at) VALUES (%s, UTC_TIMESTAMP(6))", ME)
        boxes = Mailboxes(database, LIMITS, lease_time=WAIT, interval=WAIT)
        lease = await boxes.lease(ME)
        assert lease is not None
        threads = await boxes.messages_in(ME, {f"t{it.seq}" for it in messages})
        found = [
            Finding(f"g{n}", f"t{n}", lease.now, threads[f"t{n}"][0], Classification(kind, "5.1.1", "no"), follows)
            for n, (kind, follows) in enumerate(meanings)
        ]

        async def act(far: Database) -> object:
            writer = FindingsWriter(far, LIMITS, "D1", WAIT, min_pause=WAIT, undo=True)
            written = await writer.write(lease, found, InboxCursor(5, 5), address_key=b"k" * 32)
            return replace(written, paused=[(cause, reason) for cause, reason, _ in written.paused])  # type: ignore[misc]

        return act

    prepare.__name__ = f"notices_{'_'.join(kind for kind, _ in meanings)}{'_of_what_was_given_back' * given_back}"
    return prepare


GIVEN_BACK: Final = (Kind.OVER_LIMIT, Consequence(None, Step.UNDO))
BOUNCED: Final = (Kind.HARD, Consequence(Result.BOUNCED, Step.SUPPRESS))
REPLIED: Final = (Kind.REPLY, Consequence(Result.REPLIED))


def asked(change: JobChange, **how: Any) -> Callable[[Database], Awaitable[Act]]:
    async def prepare(database: Database) -> Act:
        messages = await handed_over(database, 4)
        ends = (SENT, FAILED, LOST, DEFERRED)
        await write(database, *(Outcome(it, decision) for it, decision in zip(messages, ends, strict=True)))
        await query(
            database,
            "UPDATE job_recipients r JOIN jobs j ON j.id = r.job_id SET result = 'bounced', result_kind = 'soft', "
            "bounced = 1 WHERE r.status = 'sent'",
        )

        async def act(far: Database) -> object:
            return await JobActions(far, timeout=20, late_arrival=WAIT).apply(
                messages[0].job_id, change, actor="a", **how
            )

        return act

    prepare.__name__ = "_".join([str(change), *how])
    return prepare


async def a_message_that_is_cancelled_alone(database: Database) -> Act:
    await post(database, recipients=1)
    ((recipient,),) = await query(database, "SELECT id FROM job_recipients")

    async def act(far: Database) -> object:
        done = await JobActions(far, timeout=20, late_arrival=WAIT).cancel_message(recipient, actor="a")
        return done.changed, len(done.finished)

    return act


async def another_time_of_a_job(database: Database) -> Act:
    job = await post(database)

    async def act(far: Database) -> object:
        fields = {"send_at": datetime(2037, 1, 1, tzinfo=UTC), "reference": "r", "priority": 3}
        return await JobActions(far, timeout=20, late_arrival=WAIT).change(job, fields, actor="a")

    return act


async def a_claim(database: Database) -> Act:
    await post(database)
    await post(database, sender="you@example.com")

    async def act(far: Database) -> object:
        return [(it.id, it.attempt) for it in (await claims(far).claim(4)).messages]

    return act


async def a_claim_of_one_alone(database: Database) -> Act:
    await post(database, recipients=1)
    await query(database, SUSPECT)
    ((recipient,),) = await query(database, "SELECT id FROM job_recipients")

    async def act(far: Database) -> object:
        return [(it.id, it.attempt) for it in (await claims(far).claim_alone(recipient)).messages]

    return act


async def the_end_of_a_job(database: Database) -> Act:
    messages = await handed_over(database, 2)
    await write(database, Outcome(messages[0], SENT), Outcome(messages[1], FAILED))

    async def act(far: Database) -> object:
        done = await RecordWriter(far, "D1").complete_jobs([messages[0].job_id])
        return [replace(it, seconds=0) for it in done]

    return act


KINDS: Final[Sequence[Callable[[Database], Awaitable[Act]]]] = (
    a_handover, a_handover_without_a_draft, a_draft_that_is_to_be_deleted, a_handover_of_what_was_sent_before,
    a_handover_of_what_is_in_doubt, new_messages_that_are_handed_over,
    *map(an_outcome, DECISIONS), an_outcome(replace(DECISIONS[-1], pause=DAY_IS_OVER)), outcomes_of_all_kinds,
    an_outcome_that_ends_a_pause_and_was_slow, an_outcome_that_pauses_a_project,
    outcomes_that_come_back_into_a_cancelled_job, a_late_answer, a_late_answer_after_another_claim, a_late_doubt,
    a_late_doubt_that_takes_the_message_from_another_claim, late_outcomes_that_no_row_takes,
    lapsed_claims, lapsed_claims_of_a_cancelled_job, lapsed_claims_of_messages_that_crash_daemons,
    a_check(Transition.FOUND, message_id="m3", proof=Proof.SEEN), a_check(Transition.MISSING, forgets=True),
    a_check(Transition.MISSING, cancelled=True), a_check(None, error="no answer", retry_in=WAIT),
    a_person(Transition.FOUND), a_person(Transition.MISSING), a_person(Transition.MISSING, cancelled=True),
    a_draft_that_is_there, a_job_that_was_stuck, a_restored_database, what_a_failover_has_forgotten,
    notices(GIVEN_BACK), notices(BOUNCED, REPLIED, GIVEN_BACK), notices(GIVEN_BACK, given_back=True),
    asked(JobChange.CANCEL), asked(JobChange.RETRY), asked(JobChange.RETRY, bounced=["soft"]),
    asked(JobChange.RETRY, unsure=True), asked(JobChange.PAUSE), a_claim, a_claim_of_one_alone, the_end_of_a_job,
    a_message_that_is_cancelled_alone, another_time_of_a_job,
)  # fmt: skip


@pytest.fixture
async def far(mariadb: Server, database_url: str) -> AsyncIterator[Cut]:
    async with Proxy(mariadb.port) as proxy:
        far = Cut(database_url, proxy)
        yield far
        await far.close()


@pytest.mark.parametrize("prepare", KINDS, ids=lambda it: it.__name__)
async def test_whichever_statement_is_lost_all_is_done_once_and_told_as_ever(
    database: Database, database_url: str, far: Cut, prepare: Callable[[Database], Awaitable[Act]]
) -> None:
    everything_sent = NewEndpoint("shop", "https://example.com/", types=[EventType.RECIPIENTS_SENT])
    await Webhooks(database, timeout=20).create(everything_sent, actor="test")
    act = await prepare(database)
    tables = Tables(database_url)
    tables.keep()
    before = tables.read()
    await far.read(_nothing, what="connect")
    result = tables.said(await act(far))
    after, statements, commits = tables.read(), far.statements, far.commits
    assert before != after
    assert after["audit"] == []
    for number in range(1, statements + 1):
        for way in BOTH:
            tables.put_back()
            far.cut_at(number, way)
            where = f"{number} of {statements}, {way}"
            told, in_doubt = await _told(act, far, tables)
            if told is None:
                assert in_doubt is (number in commits), where
                done = number == commits[-1] and way == "down"
                if done or len(commits) == 1:
                    assert tables.read() == (after if done else before), where
                if done:  # and its caller has to look
                    continue
                far.wait_for_its_end()
                told = tables.said(await act(far))
            assert far.was_cut, where
            assert told == result, where
            assert tables.read() == after, where
    tables.close()


async def _told(act: Act, database: Database, tables: Tables) -> tuple[str | None, bool]:
    """What its caller was told; None: an error, and whether that leaves it in doubt."""
    try:
        return tables.said(await act(database)), False
    except DatabaseError as error:
        return None, error.in_doubt


async def _nothing(_: Cursor) -> None:
    """Only a connection is made."""
