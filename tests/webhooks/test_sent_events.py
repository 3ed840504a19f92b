"""`recipients.sent`: every sent message once, in the commit that says so, and nothing at all unless an endpoint
asks."""

import asyncio
import json
from dataclasses import replace
from typing import Any

import pytest

from mailerd.core.claims import Outcome, Resolution, WriteResult
from mailerd.core.extras import Extras
from mailerd.core.states import Proof, Transition
from mailerd.core.webhooks import EventType
from mailerd.store.db.connection import Cursor, rfc3339, utc
from mailerd.store.db.database import Database
from mailerd.store.queue.record import RecordWriter
from mailerd.store.queue.recovery import settle
from mailerd.store.write.event_feed import EventFeed, FeedEvent
from mailerd.store.write.webhooks import NewEndpoint, WebhookQueue, Webhooks
from tests.store.queue.test_claim import claims
from tests.store.queue.test_failover import Daemon
from tests.store.queue.test_given_back import give_back, in_thread
from tests.store.queue.test_record import FORGOTTEN_CLAIM, LOST, SENT, one_message, write
from tests.store.queue.test_recovery import rescues
from tests.support.handover import handover
from tests.support.heard import Heard
from tests.support.in_doubt import in_doubt
from tests.support.rows import post, query
from tests.webhooks.conftest import Deliver, endpoint
from tests.webhooks.receiver import Receiver
from tests.webhooks.test_delivering import delivered, running
from tests.webhooks.test_retention import WAIT

UNSURE = "UPDATE job_recipients SET status = 'unsure', claim_token = NULL, lease_until = UTC_TIMESTAMP(6)"


async def asked(database: Database, **given: Any) -> str:
    made, _ = await Webhooks(database, timeout=5).create(
        NewEndpoint("shop", "https://example.com/", types=[EventType.RECIPIENTS_SENT], **given), actor="test"
    )
    return made.id


async def send(database: Database, number: int, *, sender: str = "me@example.com") -> list[int]:
    """Messages of a job that are sent, in one commit."""
    await post(database, recipients=number, sender=sender)
    messages = (await claims(database).claim(number)).messages
    await write(database, *(Outcome(message, SENT) for message in messages))
    return [message.id for message in messages]


async def events(database: Database) -> list[FeedEvent]:
    page = await EventFeed(database, timeout=5).page(after=0, limit=1000, types={EventType.RECIPIENTS_SENT})
    return page.events


async def told(database: Database) -> list[list[int]]:
    return [[it["recipient_id"] for it in event.data["recipients"]] for event in await events(database)]


async def test_nothing_is_written_unless_somebody_asks(database: Database, receiver: Receiver) -> None:
    await endpoint(database, receiver)
    await send(database, 3)
    assert await told(database) == []


async def test_what_is_sent_from_then_on_is_told_in_an_event_for_each_job_and_commit(database: Database) -> None:
    await send(database, 2)
    id_ = await asked(database)
    mine, others = await send(database, 6), await send(database, 1, sender="other@example.com")
    assert await told(database) == [mine, others]
    await Webhooks(database, timeout=5).change(
        id_, {"state": "paused"}, actor="test"
    )  # it gets them when it is resumed
    more = await send(database, 1)
    await Webhooks(database, timeout=5).remove(id_, actor="test")
    await send(database, 1)
    assert await told(database) == [mine, others, more]


async def test_one_commit_of_several_jobs_has_an_event_of_each_with_all_that_its_rows_say(database: Database) -> None:
    await asked(database)
    jobs = sorted([await post(database, recipients=2), await post(database, recipients=1, sender="other@example.com")])
    messages = (await claims(database).claim(3)).messages
    await write(database, *(Outcome(it, replace(SENT, message_id=f"m{it.id}")) for it in messages))
    found = await events(database)
    assert [it.job_id for it in found] == jobs
    rows = await query(
        database, "SELECT id, job_id, seq, to_email, message_id, sent_at FROM job_recipients ORDER BY job_id, id"
    )
    assert [it for event in found for it in event.data["recipients"]] == [
        {
            "recipient_id": id_,
            "job_id": job,
            "index": seq,
            "email": to,
            "message_id": message_id,
            "sent_at": rfc3339(utc(at)),
        }
        for id_, job, seq, to, message_id, at in rows
    ]
    assert {it.sender for it in found} == {it.data["sender_email"] for it in found} == {
        "me@example.com", "other@example.com",
    }  # fmt: skip


async def test_a_message_is_told_once_though_the_answer_to_the_commit_was_lost(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await asked(database)
    message = await one_message(database)
    it = RecordWriter(database, "D1")
    with in_doubt(database, monkeypatch):
        done = await database.retry_until_committed(
            lambda cursor: it.record(cursor, [Outcome(message, SENT)]), what="record"
        )
    assert done == [WriteResult.APPLIED]
    assert await told(database) == [[message.id]]


async def test_what_is_rolled_back_is_not_told(database: Database) -> None:
    await asked(database)
    message = await one_message(database)

    async def work(cursor: Cursor) -> None:
        await RecordWriter(database, "D1").record(cursor, [Outcome(message, SENT)])
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await database.transaction(work, what="record")
    assert await told(database) == []
    await write(database, Outcome(message, SENT))
    assert await told(database) == [[message.id]]


async def test_an_answer_that_came_after_its_claim_is_told_once(database: Database) -> None:
    await asked(database)
    message = await one_message(database)
    await query(database, UNSURE)
    for _ in range(3):
        await write(database, Outcome(message, SENT))
    assert await told(database) == [[message.id]]


async def test_what_the_log_knows_of_a_message_that_is_not_handed_over_is_told_once(database: Database) -> None:
    await asked(database)
    message = await one_message(database)
    await query(
        database, "INSERT INTO attempts (recipient_id, attempt, claim_token, daemon_id, event, message_id, "
        "at) VALUES (%s, 1, 'T0', 'D0', 'sent', 'm0', UTC_TIMESTAMP(6))", message.id,
    )  # fmt: skip
    for _ in range(2):
        assert await write(database, handover(message, "d1", "t1")) == [WriteResult.RESOLVED]
    assert await told(database) == [[message.id]]


async def test_what_a_failover_had_forgotten_is_told_again(database: Database) -> None:
    await asked(database)
    await post(database, recipients=1)
    one = Daemon(database, "D1", Heard())
    (message,) = await one.ready(1)
    one.replay_log.remember(Outcome(message, SENT))
    await query(database, FORGOTTEN_CLAIM)
    one.meets_another()
    assert await one.ready(1) == ()
    assert await told(database) == [[message.id]]


@pytest.mark.parametrize("change", [Transition.FOUND, Transition.MISSING])
async def test_a_message_that_a_check_finds_is_told_once(database: Database, change: Transition) -> None:
    await asked(database)
    message = await one_message(database)
    await write(database, Outcome(message, LOST))
    await query(database, "UPDATE job_recipients SET lease_until = UTC_TIMESTAMP(6)")
    (doubt,) = await rescues(database).take_unresolved()
    sent = change is Transition.FOUND
    found = Resolution(doubt, change, message_id="m1" if sent else None, proof=Proof.SEEN if sent else None)
    for _ in range(2):
        await rescues(database).resolve(found)
    assert await told(database) == ([[message.id]] if sent else [])


@pytest.mark.parametrize("change", [Transition.FOUND, Transition.MISSING])
async def test_a_doubt_that_a_person_settles_as_sent_is_told_too(database: Database, change: Transition) -> None:
    await asked(database)
    message = await one_message(database)
    await write(database, Outcome(message, LOST))
    await settle(database, message.id, change=change, actor="T")
    assert await told(database) == ([[message.id]] if change is Transition.FOUND else [])


async def test_a_message_that_came_back_is_told_again_when_it_is_sent_though_that_answer_came_late(
    database: Database,
) -> None:
    await asked(database)
    (id_,) = await send(database, 1)
    assert await give_back(database, await in_thread(database)) == 1
    (again,) = (await claims(database).claim(1)).messages
    await write(database, handover(again, "d2", "t2"))
    await query(database, UNSURE)
    assert await told(database) == [[id_]]
    await write(database, Outcome(replace(again, draft_id="d2"), replace(SENT, message_id="m2", thread_id="t2")))
    assert await told(database) == [[id_], [id_]]


async def test_messages_of_an_alias_are_told_to_who_hears_of_the_alias(database: Database) -> None:
    id_ = await asked(database, senders=["sales@shop.example"])
    await post(database, recipients=2)
    await query(database, "UPDATE jobs SET from_email = 'sales@shop.example'")
    messages = (await claims(database).claim(2)).messages
    await write(database, *(Outcome(message, SENT) for message in messages))
    others = await send(database, 1)
    mine = [message.id for message in messages]
    assert await told(database) == [mine, others]
    await WebhookQueue(database, lease=WAIT).fan_out(id_)
    (data,) = await query(database, "SELECT e.data FROM webhook_deliveries d JOIN events e USING (position)")
    assert [it["recipient_id"] for it in json.loads(data[0])["recipients"]] == mine


async def test_many_records_at_once_tell_each_message_once(database: Database) -> None:
    await asked(database)
    await post(database, recipients=20)
    messages = (await claims(database).claim(20)).messages

    async def record(first: int) -> None:
        it, some = RecordWriter(database, "D1"), [Outcome(message, SENT) for message in messages[first : first + 10]]
        await database.retry_until_committed(lambda cursor: it.record(cursor, some), what="record")

    await asyncio.gather(*(record(first) for first in (0, 5, 10)))
    assert sorted(id_ for batch in await told(database) for id_ in batch) == [it.id for it in messages]


async def test_bodies_stay_below_20_kb_and_reach_only_who_asks(
    database: Database, receiver: Receiver, deliver: Deliver
) -> None:
    await endpoint(database, receiver, types=[EventType.RECIPIENTS_SENT])
    await Webhooks(database, timeout=5).create(NewEndpoint("all", "https://example.com/"), actor="test")
    await post(database, recipients=150)
    await query(database, "UPDATE job_recipients SET to_email = CONCAT(REPEAT('x', 240), seq, '@example.com')")
    messages = (await claims(database).claim(150)).messages
    await write(database, *(Outcome(message, SENT) for message in messages))
    number = len(await told(database))
    assert number >= 3
    async with running(deliver()):
        await delivered(database, number)
    assert max(len(post.body) for post in receiver.posts) < 20_000
    assert sorted(it["recipient_id"] for post in receiver.posts for it in post.data["recipients"]) == [
        it.id for it in messages
    ]
    assert await query(database, "SELECT COUNT(DISTINCT webhook_id) FROM webhook_deliveries") == [(1,)]


async def test_with_metadata_an_event_has_that_of_each_message_and_stays_below_20_kb(database: Database) -> None:
    await asked(database)
    own = json.dumps({"customer": "c" * 480, "note": "é" * 480})
    of_job = json.dumps({f"k{n}": "v" * 480 for n in range(15)})
    await post(database, recipients=30, own=Extras(metadata=own), extras=Extras(metadata=of_job), tags=["t" * 50])
    messages = (await claims(database).claim(30)).messages
    await write(database, *(Outcome(message, SENT) for message in messages))
    found = await events(database)
    assert [it["metadata"]["customer"] for event in found for it in event.data["recipients"]] == ["c" * 480] * 30
    assert {it.data["job_metadata"]["k0"] for it in found} == {"v" * 480}
    sizes = await query(database, "SELECT OCTET_LENGTH(data) FROM events WHERE type = 'recipients.sent'")
    assert max(size for (size,) in sizes) < 20_000
