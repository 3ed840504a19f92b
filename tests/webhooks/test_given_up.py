"""An event is given up only where the endpoint takes others: one that is dead, or resumed too early, loses none."""

from mailerd.store.db.database import Database
from mailerd.store.write.webhooks import Webhooks
from tests.support.heard import Heard
from tests.support.rows import query
from tests.webhooks.conftest import Deliver, Happen, endpoint
from tests.webhooks.receiver import Receiver
from tests.webhooks.test_delivering import running
from tests.webhooks.test_sent_events import asked, send, told

RETRIES = [0.05, 0.1, 0.2]


async def test_a_dead_endpoint_loses_no_event(
    database: Database, deliver: Deliver, receiver: Receiver, happen: Happen, heard: Heard
) -> None:
    await endpoint(database, receiver)
    receiver.status = 500
    uids = await happen(2)
    async with running(deliver(retries=RETRIES)):
        await heard.wait_for("webhook_attempt_failed", times=2 * len(RETRIES) + 4)
        assert heard.of("webhook_event_given_up") == []
        receiver.status = 204
        await heard.wait_for("webhook_delivered", times=2)
    assert set(receiver.taken) == set(uids)


async def test_one_that_is_resumed_before_it_is_well_loses_no_event(
    database: Database, deliver: Deliver, receiver: Receiver, happen: Happen, heard: Heard
) -> None:
    id_ = await endpoint(database, receiver)
    receiver.status = 500
    await happen(1)
    webhooks = Webhooks(database, timeout=5)
    async with running(deliver(retries=RETRIES, pause_after=1.0)):
        await heard.wait_for("webhook_paused")
        tried = len(receiver.posts)
        await webhooks.change(id_, {"state": "on"}, actor="test")
        await heard.wait_for("webhook_attempt_failed", times=len(heard.of("webhook_attempt_failed")) + 2)
        assert len(receiver.posts) > tried
        assert heard.of("webhook_event_given_up") == []


async def test_one_that_was_gone_hears_of_messages_that_are_sent_from_its_resumption_on(database: Database) -> None:
    id_ = await asked(database)
    await query(database, "UPDATE webhooks SET state = 'gone'")
    await send(database, 1)  # nobody asks for it now
    await Webhooks(database, timeout=5).change(id_, {"state": "on"}, actor="test")
    messages = await send(database, 2)
    assert await told(database) == [messages]
