"""`recipients.sent`: every sent letter once, many in one event, and nothing at all unless an endpoint asks for it."""

import asyncio
import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from mailerd.core.models import Outcome
from mailerd.core.states import Transition
from mailerd.core.webhooks import EventType
from mailerd.store import sent_batches
from mailerd.store.db.connection import Cursor
from mailerd.store.db.database import Database
from mailerd.store.event_feed import EventFeed
from mailerd.store.queue.recovery import settle
from mailerd.store.sent_batches import SentBatches
from mailerd.store.webhook_queue import WebhookQueue
from mailerd.store.webhooks import NewEndpoint, Webhooks
from tests.store.queue.test_claim import claims
from tests.store.queue.test_given_back import give_back, in_thread
from tests.store.queue.test_record import SENT, write
from tests.support.handover import handover
from tests.support.rows import post, query
from tests.webhooks.conftest import Deliver, endpoint
from tests.webhooks.receiver import Receiver
from tests.webhooks.test_delivering import delivered, running
from tests.webhooks.test_retention import WAIT

MARGIN = timedelta(minutes=2)


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sent_batches, "MAX_WAIT", timedelta(0))


async def asked(database: Database, **given: Any) -> str:
    made, _ = await Webhooks(database, timeout=5).create(
        NewEndpoint("shop", "https://example.com/", types=[EventType.RECIPIENTS_SENT], **given)
    )
    return made.id


async def send(database: Database, number: int, *, sender: str = "me@example.com") -> list[int]:
    """Letters that are sent, one commit each."""
    await post(database, recipients=number, sender=sender)
    letters = (await claims(database).claim(number)).letters
    for letter in letters:
        await write(database, Outcome(letter, SENT))
    return [letter.id for letter in letters]


async def told(database: Database) -> list[list[int]]:
    events = (await EventFeed(database, timeout=5).page(after=0, limit=1000, types={EventType.RECIPIENTS_SENT})).events
    return [[it["recipient_id"] for it in event.data["recipients"]] for event in events]


async def make(database: Database) -> None:
    while await SentBatches(database, MARGIN).make():
        pass


async def test_nothing_is_made_unless_somebody_asks(database: Database, receiver: Receiver) -> None:
    await endpoint(database, receiver)
    await send(database, 3)
    assert not (await WebhookQueue(database, lease=WAIT).read_work()).batches
    await make(database)
    assert await told(database) == []


async def test_what_is_sent_from_then_on_is_told_once_in_batches_of_a_sender(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sent_batches, "BATCH", 4)
    await send(database, 2)
    await asked(database)
    mine, others = await send(database, 6), await send(database, 1, sender="other@example.com")
    await make(database)
    await make(database)
    found = await told(database)
    assert sorted(id_ for batch in found for id_ in batch) == sorted(mine + others)
    assert max(map(len, found)) <= 4
    assert others in found
    more = await send(database, 1)
    await make(database)
    assert (await told(database))[-1] == more


@pytest.mark.parametrize("hours", [2, 24 * 365])
async def test_letters_are_told_though_the_databases_clock_went_back(database: Database, hours: int) -> None:
    await asked(database)
    before = await send(database, 2)
    await make(database)
    ahead = await send(database, 3)
    later = f"+ INTERVAL {hours} HOUR"
    await query(database, f"UPDATE attempts SET at = at {later} WHERE recipient_id IN %s", tuple(ahead))
    await make(database)
    # The daemons were there while it was ahead; now it is right again.
    await query(database, f"UPDATE sent_batches SET watermark = UTC_TIMESTAMP(6) {later} - INTERVAL 2 MINUTE")
    await query(database, "DELETE FROM sent_reported WHERE at <= (SELECT watermark FROM sent_batches)")
    after = await send(database, 2)
    await make(database)
    await make(database)
    found = [id_ for batch in await told(database) for id_ in batch]
    assert sorted(found) == before + ahead + after


async def test_an_answer_that_came_after_its_claim_is_told_once(database: Database) -> None:
    await asked(database)
    await post(database, recipients=1)
    (letter,) = (await claims(database).claim(1)).letters
    await query(
        database, "UPDATE job_recipients SET status = 'unsure', claim_token = NULL, lease_until = UTC_TIMESTAMP(6)"
    )
    await write(database, Outcome(letter, SENT))
    await make(database)
    await make(database)
    assert await told(database) == [[letter.id]]


async def test_a_letter_that_came_back_is_told_again_when_it_is_sent_though_that_answer_came_late(
    database: Database,
) -> None:
    await asked(database)
    (id_,) = await send(database, 1)
    await make(database)
    assert await give_back(database, await in_thread(database)) == 1
    (again,) = (await claims(database).claim(1)).letters
    await write(database, handover(again, "d2", "t2"))
    await query(
        database, "UPDATE job_recipients SET status = 'unsure', claim_token = NULL, lease_until = UTC_TIMESTAMP(6)"
    )
    await write(database, Outcome(replace(again, draft_id="d2"), replace(SENT, message_id="m2", thread_id="t2")))
    await make(database)
    await make(database)
    assert await told(database) == [[id_], [id_]]


async def test_a_letter_that_came_back_before_its_sending_was_told_is_told_only_when_it_is_sent(
    database: Database,
) -> None:
    await asked(database)
    (id_,) = await send(database, 1)
    assert await give_back(database, await in_thread(database)) == 1
    await make(database)
    assert await told(database) == []
    (again,) = (await claims(database).claim(1)).letters
    await write(database, Outcome(again, replace(SENT, message_id="m2", thread_id="t2")))
    await make(database)
    assert await told(database) == [[id_]]


async def test_letters_of_an_alias_are_told_to_who_hears_of_the_alias(database: Database) -> None:
    id_ = await asked(database, senders=["sales@shop.example"])
    mine = [*await send(database, 1), *await send(database, 1)]
    await query(database, "UPDATE jobs SET from_email = 'sales@shop.example'")
    others = await send(database, 1)
    await make(database)
    assert sorted(await told(database)) == [mine, others]
    await WebhookQueue(database, lease=WAIT).fan_out(id_)
    (data,) = await query(database, "SELECT e.data FROM webhook_deliveries d JOIN events e USING (position)")
    assert [it["recipient_id"] for it in json.loads(data[0])["recipients"]] == mine


async def test_a_batch_waits_until_it_is_full_or_old(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sent_batches, "MAX_WAIT", timedelta(seconds=5))
    monkeypatch.setattr(sent_batches, "BATCH", 3)
    await asked(database)
    sent = await send(database, 2)
    await make(database)
    assert await told(database) == []
    sent += await send(database, 1)
    await make(database)
    assert await told(database) == [sent]
    await send(database, 1)
    await query(database, "UPDATE sent_batches SET watermark = watermark - INTERVAL 1 MINUTE")
    await query(database, "UPDATE attempts SET at = at - INTERVAL 6 SECOND")
    await make(database)
    assert len(await told(database)) == 2


async def test_an_outcome_that_is_committed_late_is_told_too(database: Database) -> None:
    await asked(database)
    await query(database, "UPDATE sent_batches SET watermark = watermark - INTERVAL 1 HOUR")
    (late,) = await send(database, 1)
    # As if its transaction had stayed open until now: its row is older than what was told meanwhile.
    await query(database, "UPDATE attempts SET event = 'unseen', at = at - INTERVAL 90 SECOND WHERE event = 'sent'")
    (early,) = await send(database, 1)
    await make(database)
    await make(database)
    assert await told(database) == [[early]]
    await query(database, "UPDATE attempts SET event = 'sent' WHERE event = 'unseen'")
    await make(database)
    assert await told(database) == [[early], [late]]
    await query(database, "UPDATE attempts SET at = at - INTERVAL 10 MINUTE")
    await query(database, "UPDATE sent_batches SET watermark = UTC_TIMESTAMP(6)")
    await make(database)
    assert await query(database, "SELECT COUNT(*) FROM sent_reported") == [(0,)]
    assert len(await told(database)) == 2


async def test_a_doubt_that_was_settled_as_sent_is_told_too(database: Database) -> None:
    await asked(database)
    await post(database, recipients=1)
    await query(database, "UPDATE job_recipients SET status = 'unsure', lease_until = UTC_TIMESTAMP(6)")
    ((recipient,),) = await query(database, "SELECT id FROM job_recipients")
    await settle(database, recipient, change=Transition.FOUND, actor="T")
    await make(database)
    assert await told(database) == [[recipient]]


async def test_an_endpoint_that_asks_while_the_last_one_ends_misses_nothing(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await asked(database)
    await make(database)
    await Webhooks(database, timeout=5).remove(first)
    execute, asking = Cursor.execute, list[asyncio.Task[str]]()

    async def slowly(cursor: Cursor, statement: str, values: Any = None) -> int:
        if statement == sent_batches._DELETE_ALL:
            asking.append(asyncio.create_task(asked(database)))
            monkeypatch.undo()
            await asyncio.wait(asking, timeout=0.5)
        return await execute(cursor, statement, values)

    monkeypatch.setattr(sent_batches, "MAX_WAIT", timedelta(0))
    monkeypatch.setattr(Cursor, "execute", slowly)
    await make(database)
    await asking[0]
    monkeypatch.setattr(sent_batches, "MAX_WAIT", timedelta(0))
    sent = await send(database, 1)
    await make(database)
    assert await told(database) == [sent]


async def test_many_daemons_make_each_once(database: Database) -> None:
    await asked(database)
    sent = await send(database, 20)
    await asyncio.gather(*(make(database) for _ in range(4)))
    assert sorted(id_ for batch in await told(database) for id_ in batch) == sent


async def test_bodies_stay_below_20_kb_and_reach_only_who_asks(
    database: Database, receiver: Receiver, deliver: Deliver
) -> None:
    await endpoint(database, receiver, types=[EventType.RECIPIENTS_SENT])
    await Webhooks(database, timeout=5).create(NewEndpoint("all", "https://example.com/"))
    sent = await send(database, 150)
    await query(database, "UPDATE job_recipients SET to_email = CONCAT(REPEAT('x', 240), seq, '@example.com')")
    await make(database)
    number = len(await told(database))
    assert number >= 3
    async with running(deliver()):
        await delivered(database, number)
    assert max(len(post.body) for post in receiver.posts) < 20_000
    assert sorted(it["recipient_id"] for post in receiver.posts for it in post.data["recipients"]) == sent
    assert await query(database, "SELECT COUNT(DISTINCT webhook_id) FROM webhook_deliveries") == [(1,)]


async def test_when_nobody_asks_any_more_nothing_is_left(database: Database) -> None:
    id_ = await asked(database)
    await send(database, 3)
    await make(database)
    await Webhooks(database, timeout=5).remove(id_)
    queue = WebhookQueue(database, lease=WAIT)
    assert (await queue.read_work()).batches
    await make(database)
    assert not (await queue.read_work()).batches
    assert await query(database, "SELECT COUNT(*) FROM sent_reported") == [(0,)]
