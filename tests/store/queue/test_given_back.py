"""A message that Google gave back was not sent, whatever is still said of it."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from mailerd.clock import new_id
from mailerd.config import Live
from mailerd.core import moves
from mailerd.core.claims import Outcome, Resolution
from mailerd.core.decisions import Decision
from mailerd.core.inbox_findings import Finding, InboxCursor, SentMessage
from mailerd.core.notices import Classification, Kind
from mailerd.core.rate_limit import SenderLimits
from mailerd.core.results import Consequence, Step
from mailerd.core.states import JobChange, Proof, Transition
from mailerd.store.db.connection import Cursor
from mailerd.store.db.database import Database
from mailerd.store.inbox.mailboxes import Mailboxes
from mailerd.store.inbox.record_findings import FindingsWriter, LeaseLostError
from mailerd.store.queue.rate_limits import DefaultLimits
from mailerd.store.queue.recovery import undo
from mailerd.store.read.audit import audit
from mailerd.store.write import messages
from mailerd.store.write.job_actions import JobActions
from tests.store.queue.test_claim import claims
from tests.store.queue.test_failover import Daemon, one
from tests.store.queue.test_record import FENCED_OFF, LOST, SENT, TAKEN, write
from tests.store.queue.test_recovery import LAPSE, due, rescues
from tests.support.handover import handover
from tests.support.heard import Heard
from tests.support.rows import numbers, post, query

__all__ = ["one"]
MINUTE = timedelta(minutes=1)
LIMIT = Classification(Kind.OVER_LIMIT)
PROOFS = pytest.mark.parametrize("proof, message_id", [(Proof.GONE, None), (Proof.SEEN, "m1")])


async def settled(
    database: Database, change: Transition = Transition.FOUND, proof: Proof | None = None, message_id: str | None = None
) -> Outcome:
    """A message that others have settled; and Google's answer, that its stopped worker has not written yet."""
    await post(database, recipients=1)
    (message,) = (await claims(database).claim(1)).messages
    await write(database, handover(message, "d1", "t1"))
    await query(database, LAPSE)
    await due(rescues(database))
    await query(database, LAPSE)
    (_, (doubt,)) = await due(rescues(database))
    await rescues(database).resolve(Resolution(doubt, change, message_id=message_id, proof=proof))
    return Outcome(replace(message, draft_id="d1", thread_id="t1"), SENT)


async def in_thread(database: Database) -> SentMessage:
    limits = DefaultLimits(SenderLimits(6000, 0, 2000))
    boxes = Mailboxes(database, Live(limits), lease_time=MINUTE, interval=MINUTE)
    (message,) = (await boxes.messages_in("me@example.com", {"t1"}))["t1"]
    return message


async def give_back(database: Database, message: SentMessage) -> int:
    """Write a limit notice about it; how many messages wait again."""
    notice = Finding("n1", "t1", datetime.now(UTC), message, LIMIT, Consequence(None, Step.UNDO))

    async def work(cursor: Cursor) -> int:
        locked = await messages.lock(cursor, [message.id])
        made = moves.given_back(locked.rows[message.id], notice, token=new_id(), sender=message.sender, now=locked.now)
        return len(await messages.move(cursor, [made] if made else [], by="D2"))

    return await database.transaction(work, what="give back")


async def come_back(database: Database, how: str) -> None:
    message = await in_thread(database)
    if how == "bounce":
        await query(database, "UPDATE job_recipients SET result = 'bounced', result_kind = 'soft'")
        await actions(database).apply(message.job_id, JobChange.RETRY, actor="ada", bounced=["soft"])
    else:
        assert await give_back(database, message) == 1


def actions(database: Database) -> JobActions:
    return JobActions(database, timeout=5, late_arrival=timedelta(0))


async def test_it_waits_again_though_the_answer_came_while_the_notice_was_read(database: Database) -> None:
    answer = await settled(database, Transition.FOUND, Proof.GONE)
    message = await in_thread(database)
    assert message.message_id is None
    await write(database, answer)
    assert (await in_thread(database)).message_id == "m1"
    assert await give_back(database, message) == 1
    assert await query(database, "SELECT status, message_id FROM job_recipients") == [("waiting", None)]
    assert await query(database, "SELECT message_id FROM attempts WHERE event = 'undone'") == [("m1",)]


async def test_a_message_that_waits_with_the_draft_that_was_given_back_gets_another(database: Database) -> None:
    """Its draft was there when it was looked for, and then a daemon that had been stopped sent it, and died."""
    answer = await settled(database, Transition.MISSING)
    message = await in_thread(database)
    assert (message.status, message.message_id) == ("waiting", None)
    assert await give_back(database, message) == 1
    assert await write(database, answer) == [FENCED_OFF]
    (again,) = (await claims(database).claim(1)).messages
    assert (again.draft_id, again.thread_id, again.attempt) == (None, None, 1)
    assert (await audit(database))[1] == []


async def test_a_notice_waits_while_its_message_is_being_sent_anew(database: Database) -> None:
    """It was claimed since the notice was read: passed over, the notice would never be read again."""
    await settled(database, Transition.MISSING)
    notice = Finding("n1", "t1", datetime.now(UTC), await in_thread(database), LIMIT, Consequence(None, Step.UNDO))
    boxes = Mailboxes(database, Live(DefaultLimits(SenderLimits(0, 0, 0))), lease_time=MINUTE, interval=MINUTE)
    await query(database, "INSERT IGNORE INTO mailboxes (email, next_at) VALUES ('me@example.com', NOW())")
    lease = await boxes.lease("me@example.com")
    assert lease is not None
    writer = FindingsWriter(database, boxes.defaults, "D2", MINUTE, min_pause=MINUTE, undo=True)
    (message,) = (await claims(database).claim(1)).messages
    with pytest.raises(LeaseLostError):
        await writer.write(lease, [notice], InboxCursor(5, 5), address_key=b"k" * 32)
    assert await query(database, "SELECT history_id FROM mailboxes") == [(None,)]
    await write(database, Outcome(message, SENT))
    assert (await writer.write(lease, [notice], InboxCursor(5, 5), address_key=b"k" * 32)).undone != []
    assert await query(database, "SELECT status, message_id FROM job_recipients") == [("waiting", None)]


@PROOFS
async def test_an_answer_that_comes_after_it_says_nothing_of_the_next_sending(
    database: Database, proof: Proof, message_id: str | None
) -> None:
    answer = await settled(database, Transition.FOUND, proof, message_id)
    assert await give_back(database, await in_thread(database)) == 1
    assert await write(database, answer) == [FENCED_OFF]
    assert await write(database, answer, answer) == [FENCED_OFF] * 2
    assert await query(database, "SELECT status, message_id FROM job_recipients") == [("waiting", None)]
    (again,) = (await claims(database).claim(1)).messages
    assert again.draft_id is None
    assert await write(database, handover(again, "d2", "t2")) == [TAKEN]
    assert await write(database, Outcome(again, replace(SENT, message_id="m2"))) == [TAKEN]
    assert (await audit(database))[1] == []


@PROOFS
async def test_an_answer_that_is_replayed_says_nothing_either(
    database: Database, one: Daemon, proof: Proof, message_id: str | None
) -> None:
    answer = await settled(database, Transition.FOUND, proof, message_id)
    one.replay_log.remember(answer)
    await give_back(database, await in_thread(database))
    one.meets_another()
    (again,) = await one.ready(1)
    assert again.id == answer.message.id
    assert await write(database, handover(again, "d2", "t2")) == [TAKEN]


@pytest.mark.parametrize("how", ["limit notice", "bounce"])
async def test_a_message_that_came_back_is_no_sign_that_the_database_has_forgotten(
    database: Database, one: Daemon, heard: Heard, how: str
) -> None:
    await post(database, recipients=1)
    (message,) = await one.ready(1)
    for record in (handover(message, "d1", "t1"), Outcome(replace(message, draft_id="d1", thread_id="t1"), SENT)):
        one.replay_log.remember(record)
        one.replay_log.acknowledge(record, (await write(database, record))[0])
    await come_back(database, how)
    (again,) = await one.messages(1)
    assert again.id == message.id
    assert heard.of("outcomes_rewritten") == []


@PROOFS
async def test_in_a_cancelled_job_the_audit_does_not_take_it_for_sent(
    database: Database, proof: Proof, message_id: str | None
) -> None:
    answer = await settled(database, Transition.FOUND, proof, message_id)
    await give_back(database, await in_thread(database))
    await actions(database).apply(answer.message.job_id, JobChange.CANCEL, actor="ada")
    await write(database, answer)
    assert await query(database, "SELECT status FROM job_recipients") == [("cancelled",)]
    assert (await audit(database))[1] == []


@PROOFS
async def test_a_bounce_that_is_retried_is_not_settled_by_the_answer_of_the_sending_that_bounced(
    database: Database, proof: Proof, message_id: str | None
) -> None:
    answer = await settled(database, Transition.FOUND, proof, message_id)
    await come_back(database, "bounce")
    assert await write(database, answer) == [FENCED_OFF]
    (again,) = (await claims(database).claim(1)).messages
    assert await write(database, handover(again, "d2", "t2")) == [TAKEN]


async def test_a_person_who_was_forgotten_gets_no_message_by_it(database: Database) -> None:
    await settled(database, Transition.FOUND, Proof.SEEN, "m1")
    await query(database, "UPDATE job_recipients SET to_email = CONCAT('forgotten-', id, '@example.invalid')")
    assert await give_back(database, await in_thread(database)) == 0
    assert await query(database, "SELECT status FROM job_recipients") == [("sent",)]


@pytest.mark.parametrize("came_back", ["limit notice", "bounce"])
async def test_whoever_looks_for_its_next_sending_knows_the_message_that_came_back(
    database: Database, came_back: str
) -> None:
    """It lies in the sent mail still, and has the message's key."""
    answer = await settled(database, Transition.FOUND, Proof.SEEN, "m1")
    await come_back(database, came_back)
    (again,) = (await claims(database).claim(1)).messages
    await write(database, handover(again))
    await write(database, Outcome(again, LOST))
    await query(database, LAPSE)
    (_, (doubt,)) = await due(rescues(database))
    assert (doubt.id, doubt.came_back, doubt.known_message_id) == (answer.message.id, frozenset({"m1"}), None)


@pytest.mark.parametrize("came_back", ["limit notice", "bounce"])
async def test_where_its_next_sending_fails_it_can_be_retried(database: Database, came_back: str) -> None:
    answer = await settled(database, Transition.MISSING)
    await write(database, answer)
    await come_back(database, came_back)
    (again,) = (await claims(database).claim(1)).messages
    assert await write(database, Outcome(again, Decision(Transition.FAILED, error="no such address"))) == [TAKEN]
    assert (await actions(database).apply(answer.message.job_id, JobChange.RETRY, actor="ada")).messages == 1
    assert await query(database, "SELECT status FROM job_recipients") == [("waiting",)]


async def test_an_answer_still_settles_what_only_a_missing_draft_had_spoken_for(database: Database) -> None:
    """Its draft was found again, and is the one that goes out: what is said of it counts."""
    answer = await settled(database, Transition.FOUND, Proof.GONE)
    assert await undo(database, job=answer.message.job_id, seq=0, draft="d1", by="D2") is not None
    await write(database, answer)
    assert await query(database, "SELECT status, message_id FROM job_recipients") == [("sent", "m1")]


async def test_a_retry_of_bounces_reads_no_more_of_the_log_than_their_messages(database: Database) -> None:
    """Before MariaDB 11.1 and MySQL 8.0.21 no UPDATE had these two; a log of a year took longer than any request."""
    job = await post(database, recipients=9)
    await query(database, "UPDATE job_recipients SET status = 'sent', result = 'bounced', result_kind = 'soft'")
    await query(
        database,
        "INSERT INTO attempts (recipient_id, attempt, claim_token, daemon_id, event, at) "
        f"SELECT seq, 1, REPEAT('0', 26), REPEAT('0', 26), 'sent', UTC_TIMESTAMP(6) FROM {numbers(3)}",
    )
    await query(database, "ANALYZE TABLE attempts, job_recipients")

    async def explain(cursor: Cursor) -> list[tuple[str, str]]:
        await cursor.execute("SET SESSION optimizer_switch = 'semijoin=off,materialization=off'")
        await cursor.execute(f"EXPLAIN FORMAT=TRADITIONAL {messages._FORGET_MESSAGES_OF_BOUNCED}", (job, ("soft",)))
        names = [column[0] for column in cursor._driver.description]
        rows = [dict(zip(names, row, strict=True)) for row in await cursor.fetchall()]
        return [(row["type"], row["key"]) for row in rows if row["table"] in {"a", "attempts"}]

    assert await database.transaction(explain, what="explain") == [("ref", "event_of_claim")]
