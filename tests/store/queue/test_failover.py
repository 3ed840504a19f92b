"""A database that may have forgotten something is told again what its daemons know, before anything is claimed."""

import asyncio
import time
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from mailerd.config import Live
from mailerd.core.claims import ClaimedRecipient, Outcome, WriteResult
from mailerd.core.decisions import Decision
from mailerd.core.rate_limit import SenderLimits
from mailerd.core.states import Transition
from mailerd.events.process import StoreEvents
from mailerd.store.db.database import Database
from mailerd.store.inbox.mailboxes import Mailboxes
from mailerd.store.inbox.record_findings import FindingsWriter, LeaseLostError
from mailerd.store.queue import failover as history_module
from mailerd.store.queue.claim import Claims
from mailerd.store.queue.failover import NotReplayedError, ReplayLog
from mailerd.store.queue.rate_limits import DefaultLimits
from mailerd.store.queue.recovery import ExpiredClaims, RecoveryQueries
from mailerd.store.read.daemons import Daemons
from tests.store.queue.test_claim import claims
from tests.store.queue.test_crashes import SUSPECT
from tests.store.queue.test_record import FORGOTTEN_CLAIM, LOST, SENT, row, write
from tests.support.handover import handover
from tests.support.heard import Heard
from tests.support.replayed import daemons
from tests.support.rows import post, query, states

LEASE = timedelta(minutes=1)


class Daemon:
    """Claims and what is remembered."""

    def __init__(self, database: Database, name: str, heard: Heard) -> None:
        self.database, self.name = database, name
        self.replay_log = ReplayLog(database, name, LEASE, StoreEvents(heard))
        self.claims: Claims = claims(database)
        self.claims.replay_log = self.replay_log
        self.daemons = daemons(database, name)

    async def messages(self, want: int) -> tuple[ClaimedRecipient, ...]:
        """What a claim gets; one that has to tell first gets nothing."""
        return (await self.claims.claim(want)).messages

    async def ready(self, want: int) -> tuple[ClaimedRecipient, ...]:
        assert await self.messages(want) == ()
        return await self.messages(want)

    async def sends(self, message: ClaimedRecipient) -> None:
        for record in (handover(message, f"d{message.seq}", None), Outcome(message, SENT)):
            self.replay_log.remember(record)
            await write(self.database, record)

    def meets_another(self) -> None:
        """Whatever server answers is one that it has not met."""
        self.replay_log._servers = {"another since 1": time.monotonic()}


@pytest.fixture
async def one(database: Database, heard: Heard) -> Daemon:
    it = Daemon(database, "D1", heard)
    await it.daemons.heartbeat()
    return it


@pytest.fixture
async def other(database: Database, heard: Heard) -> Daemon:
    it = Daemon(database, "D2", heard)
    await it.daemons.heartbeat()
    return it


async def forget(database: Database) -> None:
    await query(
        database, f"{FORGOTTEN_CLAIM}, job_recipients.mode = NULL, draft_id = NULL, message_id = NULL, proof = NULL"
    )
    await query(database, "DELETE FROM attempts")


async def test_what_was_sent_and_forgotten_is_told_again_before_anything_is_claimed(
    database: Database, one: Daemon, heard: Heard
) -> None:
    job = await post(database, recipients=4)
    messages = await one.ready(3)
    for message in messages:
        await one.sends(message)
    await forget(database)
    one.meets_another()
    (left,) = await one.ready(4)
    assert left.id not in {message.id for message in messages}
    assert await states(database, job) == {"sent": 3, "sending": 1}
    assert await query(database, "SELECT event, COUNT(*) FROM attempts GROUP BY event") == [("sent", 3)]
    (told,) = heard.of("outcomes_rewritten")
    assert (told["messages"], told["lost"]) == (3, 3)


async def test_a_senders_first_message_that_was_forgotten_lets_its_mailbox_be_read(
    database: Database, one: Daemon
) -> None:
    """What comes back would be read at its next message only, and perhaps it has none."""
    await post(database, recipients=1)
    (message,) = await one.ready(1)
    for record in (handover(message, "d0", None), Outcome(replace(message, draft_id="d0"), SENT)):
        one.replay_log.remember(record)
        await write(database, record)
    await forget(database)
    await query(database, "UPDATE senders SET mode = NULL")
    one.meets_another()
    assert await one.messages(1) == ()
    assert await query(database, "SELECT mode FROM senders") == [("draft",)]


async def test_a_row_that_has_forgotten_only_its_handover_keeps_the_draft_that_was_sent(
    database: Database, one: Daemon
) -> None:
    await post(database, recipients=1)
    (message,) = await one.ready(1)
    message = replace(message, draft_id="d0")
    await one.sends(message)
    for known in one.replay_log._known.values():
        known.written = True
    await query(
        database,
        "UPDATE job_recipients SET status = 'sending', claim_token = %s, mode = NULL, draft_id = NULL, "
        "message_id = NULL, proof = NULL, sent_at = NULL",
        message.token,
    )
    await query(database, "DELETE FROM attempts")
    one.meets_another()
    assert await one.messages(1) == ()
    assert await row(database, message, "status", "draft_id", "message_id") == ("sent", "d0", "m1")


async def test_no_inbox_is_read_and_nothing_noted_before_all_was_told(database: Database, one: Daemon) -> None:
    """A limit notice finds no thread where the send is forgotten, and is not believed: the message counts as sent."""
    await post(database, recipients=2)
    (message,) = await one.ready(1)
    await one.sends(message)
    await query(database, "INSERT INTO mailboxes (email, next_at) VALUES ('me@example.com', UTC_TIMESTAMP(6))")
    limits = DefaultLimits(SenderLimits(6000, 0, 2000))
    boxes = Mailboxes(database, Live(limits), lease_time=LEASE, interval=LEASE, replay_log=one.replay_log)
    writer = FindingsWriter(database, Live(limits), "D", LEASE, min_pause=LEASE, undo=True, replay_log=one.replay_log)
    lease = await boxes.lease("me@example.com")
    assert lease is not None
    await query(database, "UPDATE mailboxes SET lease_until = NULL")
    one.meets_another()
    assert await boxes.lease("me@example.com") is None
    with pytest.raises(LeaseLostError):
        await writer.write(lease, [], lease.cursor, address_key=b"")
    await one.ready(1)
    await writer.write(lease, [], lease.cursor, address_key=b"")


@pytest.mark.parametrize("server", ["another one", "the same, restored in place"])
async def test_a_message_that_is_tried_alone_is_claimed_only_where_all_was_told(
    database: Database, one: Daemon, server: str
) -> None:
    """The messages in flight end between the claim that finds it and its own: the database may be another by then."""
    job = await post(database, recipients=1)
    (message,) = await one.ready(1)
    await one.sends(message)
    await forget(database)
    await query(database, SUSPECT)
    if server == "another one":
        one.meets_another()
    assert (await one.claims.claim_alone(message.id)).messages == ()
    assert await one.messages(1) == ()
    assert await states(database, job) == {"sent": 1}


async def test_what_is_in_hand_stays_in_hand(database: Database, one: Daemon) -> None:
    """Google may be asked to send it at this very moment."""
    await post(database, recipients=2)
    (message,) = await one.ready(1)
    handed = handover(message, "d1", "t1")
    one.replay_log.remember(handed)
    await write(database, handed)
    await forget(database)
    one.meets_another()
    (left,) = await one.ready(2)
    assert left.id != message.id
    assert await row(database, message, "status", "claim_token", "draft_id", "mode", "attempts") == (
        "sending", message.token, "d1", "draft", 1,
    )  # fmt: skip


async def test_a_message_whose_claim_has_lapsed_is_not_taken_back_by_its_former_worker(
    database: Database, one: Daemon, other: Daemon
) -> None:
    """It was stopped before it could record its draft, which another daemon has deleted as an orphan since."""
    await post(database, recipients=1)
    (message,) = await one.ready(1)
    assert await other.ready(1) == ()
    one.replay_log.remember(handover(message, "d1", "t1"))
    await query(database, "UPDATE job_recipients SET lease_until = UTC_TIMESTAMP(6) - INTERVAL 1 SECOND")
    await query(database, "UPDATE daemons SET heartbeat_at = UTC_TIMESTAMP(6) - INTERVAL 1 MINUTE WHERE id = 'D1'")
    expired = ExpiredClaims(database, "D2", timedelta(seconds=1), other.replay_log)
    assert [each.id for each in await expired.recover()] == [message.id]
    one.meets_another()
    (again,) = await one.ready(1)
    assert (again.id, again.draft_id) == (message.id, None)
    assert again.token != message.token


async def test_what_looks_abandoned_after_a_failover_is_left_alone_until_all_is_told(
    database: Database, one: Daemon
) -> None:
    """The hand-over was forgotten, and the failover took longer than the lease: the message is in hand all the same."""
    job = await post(database, recipients=1)
    (message,) = await one.ready(1)
    one.replay_log.remember(handover(message, "d1", "t1"))
    await query(database, "UPDATE job_recipients SET lease_until = UTC_TIMESTAMP(6) - INTERVAL 1 SECOND")
    one.meets_another()
    expired = ExpiredClaims(database, "D1", timedelta(seconds=1), one.replay_log)
    rows = RecoveryQueries(database, "D1", LEASE, one.replay_log)
    assert await expired.recover() == []
    with pytest.raises(NotReplayedError):
        await rows.is_orphan(job=job, seq=message.seq, draft="d1")
    assert await one.ready(1) == ()
    assert await row(database, message, "status", "draft_id") == ("sending", "d1")
    assert await expired.recover() == []  # the lease began anew
    assert await rows.is_orphan(job=job, seq=message.seq, draft="d1") is False


@pytest.mark.parametrize("unanswered", [False, True])
@pytest.mark.parametrize("forgotten", ["the claim", "the draft as well"])
async def test_a_draft_that_is_sent_again_stays_in_hand_too(
    database: Database, one: Daemon, *, unanswered: bool, forgotten: str
) -> None:
    """An earlier attempt recorded it, so there is no hand-over in this one."""
    await post(database, recipients=2)
    await query(
        database, "UPDATE job_recipients SET mode = 'draft', draft_id = 'd1', thread_id = 't1', unanswered = %s "
        "WHERE seq = 0", int(unanswered),
    )  # fmt: skip
    (message,) = await one.ready(1)
    assert message.draft_id == "d1"
    if forgotten == "the claim":
        await query(database, FORGOTTEN_CLAIM)
    else:
        await forget(database)
    one.meets_another()
    (left,) = await one.ready(2)
    assert left.id != message.id
    assert await row(database, message, "status", "claim_token", "draft_id", "mode", "unanswered") == (
        "sending", message.token, "d1", "draft", int(unanswered),
    )  # fmt: skip


async def test_a_hand_over_that_its_row_did_not_take_is_not_told(database: Database, one: Daemon) -> None:
    await post(database, recipients=1)
    (message,) = await one.ready(1)
    handed = handover(message)
    one.replay_log.remember(handed)
    await forget(database)
    for what in await write(database, handed):
        one.replay_log.acknowledge(handed, what)
    one.meets_another()
    assert [again.id for again in await one.ready(1)] == [message.id]


class Gate(Database):
    """Begins no transaction before it is opened."""

    def __init__(self, database: Database) -> None:
        vars(self).update(vars(database))
        self.asked, self.open_now = asyncio.Event(), asyncio.Event()

    async def transaction(self, *args: Any, **keywords: Any) -> Any:
        self.asked.set()
        await self.open_now.wait()
        return await super().transaction(*args, **keywords)


BUSY = Decision(Transition.DEFERRED, error="busy", wait=timedelta(0))


@pytest.mark.parametrize("ends", ["its hand-over is refused", "its outcome is refused"])
async def test_a_row_is_not_given_back_to_a_delivery_that_ends_while_the_replay_is_under_way(
    database: Database, one: Daemon, ends: str
) -> None:
    """It would be `sending` with no worker until its lease is over, and then unsure, although it was not sent."""
    await post(database, recipients=1)
    (message,) = await one.ready(1)
    handed = handover(message)
    one.replay_log.remember(handed)
    await forget(database)
    one.meets_another()
    one.replay_log.database = gate = Gate(database)
    replaying = asyncio.create_task(one.messages(1))
    await gate.asked.wait()
    record = handed if ends == "its hand-over is refused" else Outcome(message, BUSY)
    if record is not handed:
        one.replay_log.remember(record)
    (what,) = await write(database, record)
    assert what is WriteResult.STALE
    one.replay_log.acknowledge(record, what)
    gate.open_now.set()
    assert await replaying == ()
    assert await row(database, message, "status", "claim_token", "mode") == ("waiting", None, None)


async def test_a_doubt_is_told_where_the_next_hand_over_was_refused_while_the_replay_was_under_way(
    database: Database, one: Daemon
) -> None:
    await post(database, recipients=1)
    (message,) = await one.ready(1)
    one.replay_log.remember(Outcome(message, LOST))
    handed = handover(replace(message, token="2" * 26))
    one.replay_log.remember(handed)
    await forget(database)
    one.meets_another()
    one.replay_log.database = gate = Gate(database)
    replaying = asyncio.create_task(one.messages(1))
    await gate.asked.wait()
    one.replay_log.acknowledge(handed, (await write(database, handed))[0])
    gate.open_now.set()
    assert await replaying == ()
    assert await row(database, message, "status", "mode") == ("unsure", "direct")


async def test_a_record_that_is_still_to_come_is_taken_as_ever(database: Database, one: Daemon) -> None:
    await post(database, recipients=1)
    (message,) = await one.ready(1)
    sent = Outcome(message, SENT)
    one.replay_log.remember(sent)
    one.meets_another()
    assert await one.ready(1) == ()
    assert await write(database, sent) == [WriteResult.APPLIED]


@pytest.mark.parametrize("decision", [
    Decision(Transition.SUPPRESSED, error="unsubscribed"), Decision(Transition.RELEASED, error="invalid", forgets=True),
    Decision(Transition.LOST, error="no answer", discarding=True),
], ids=["suppressed", "its draft is forgotten", "a deletion without an answer"])  # fmt: skip
async def test_a_draft_that_was_deleted_is_not_taken_for_sent_where_the_deletion_was_forgotten_and_the_daemon_died(
    database: Database, one: Daemon, decision: Decision
) -> None:
    await post(database, recipients=1)
    (message,) = await one.ready(1)
    one.replay_log.remember(Outcome(replace(message, draft_id="d0"), decision))  # it dies before that is written
    one.meets_another()
    assert await one.messages(1) == ()
    assert await row(database, message, "status", "draft_id", "discarding", "unanswered") == ("sending", "d0", 1, 0)


async def test_what_ended_otherwise_is_not_told(database: Database, one: Daemon) -> None:
    await post(database, recipients=1)
    (message,) = await one.ready(1)
    one.replay_log.remember(handover(message, "d1", "t1"))
    one.replay_log.remember(Outcome(message, BUSY))
    await forget(database)
    one.meets_another()
    assert [again.id for again in await one.ready(1)] == [message.id]


async def test_a_message_whose_number_is_anothers_now_tells_nothing_of_that_one(
    database: Database, one: Daemon
) -> None:
    await post(database, recipients=1)
    (message,) = await one.ready(1)
    await one.sends(message)
    one.replay_log.remember(Outcome(replace(message, job_id="0" * 26), SENT))
    await forget(database)
    one.meets_another()
    (again,) = await one.ready(1)
    assert again.id == message.id
    assert await write(database, handover(again, "d9", None)) == [WriteResult.APPLIED]


async def test_others_that_are_alive_are_waited_for(database: Database, one: Daemon, other: Daemon) -> None:
    await post(database, recipients=2)
    (message,) = await one.ready(1)
    assert len(await other.ready(0)) == 0
    await one.sends(message)
    await forget(database)
    await query(database, "UPDATE daemons SET replayed_to = 'another since 1'")
    for daemon in (one, other):
        daemon.meets_another()
    for _ in range(3):
        assert await other.messages(2) == ()
    assert len(await one.ready(0)) == 0  # it claims nothing itself; that it has told is enough
    assert await other.messages(2) == ()
    (left,) = await other.messages(2)
    assert left.id != message.id


@pytest.mark.parametrize("gone", ["silent", "left"])
async def test_nobody_waits_for_a_daemon_that_has_gone(
    database: Database, one: Daemon, other: Daemon, gone: str
) -> None:
    await post(database, recipients=1)
    assert len(await one.ready(0)) == 0
    await query(database, "UPDATE daemons SET replayed_to = 'another since 1' WHERE id = 'D1'")
    if gone == "left":
        await one.daemons.mark_stopped()
    else:
        await query(database, "UPDATE daemons SET heartbeat_at = heartbeat_at - INTERVAL 1 MINUTE WHERE id = 'D1'")
    assert len(await other.ready(1)) == 1


async def test_a_daemon_that_has_replayed_lately_is_alive_though_its_beats_fail(
    database: Database, one: Daemon, other: Daemon
) -> None:
    await post(database, recipients=1)
    await query(database, "UPDATE daemons SET heartbeat_at = heartbeat_at - INTERVAL 1 MINUTE WHERE id = 'D1'")
    assert len(await one.ready(0)) == 0
    await query(database, "UPDATE daemons SET replayed_to = 'another since 1' WHERE id = 'D1'")
    for _ in range(3):
        assert await other.messages(1) == ()


async def test_others_are_not_waited_for_without_end(
    database: Database, one: Daemon, other: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    await post(database, recipients=1)
    await query(database, "UPDATE daemons SET replayed_to = 'another since 1' WHERE id = %s", one.name)
    assert await other.ready(1) == ()
    monkeypatch.setattr(history_module, "OTHER_DAEMONS_TIMEOUT", 0.0)
    assert len(await other.ready(1)) == 1


async def test_a_database_that_has_forgotten_beats_is_told_again(database: Database, one: Daemon, heard: Heard) -> None:
    assert len(await one.ready(0)) == 0
    alive = Daemons(database, one.name, one.replay_log, one.replay_log.events)
    await alive.heartbeat()
    await alive.heartbeat()
    assert heard.of("outcomes_rewritten") == []
    await query(database, "UPDATE daemons SET heartbeats = heartbeats - 2")
    await alive.heartbeat()
    assert len(heard.of("outcomes_rewritten")) == 1


async def test_only_the_last_minute_before_the_last_message_is_remembered(
    database: Database, one: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    await post(database, recipients=3)
    first, second, third = await one.ready(3)
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    one.replay_log.remember(Outcome(first, SENT))
    now += 61
    one.replay_log.remember(Outcome(second, SENT))
    now += 50
    one.replay_log.remember(Outcome(third, SENT))
    assert {known.record.message.id for known in one.replay_log._known.values()} == {second.id, third.id}
