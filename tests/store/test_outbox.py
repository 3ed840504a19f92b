"""The outbox: an event is written in the transaction that makes the change, however often that is repeated."""

from mailerd.core.webhooks import EventType
from mailerd.store.db.database import Database
from mailerd.store.write.event_feed import NewEvent, insert_events
from tests.support.rows import query


async def test_an_event_that_a_repeated_transaction_writes_again_stays_one(database: Database) -> None:
    event = NewEvent(EventType.SENDER_PAUSED, "the same pause", {}, sender="me@example.com")
    for _ in range(2):
        await database.transaction(lambda cursor: cursor.execute(*insert_events([event])), what="test")
    assert await query(database, "SELECT type, cause FROM events") == [("sender.paused", "the same pause")]
