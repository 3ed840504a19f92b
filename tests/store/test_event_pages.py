"""A page of the feed is bounded in bytes too: events that name many messages come in smaller pages."""

from mailerd.core.webhooks import EventType
from mailerd.store.db.database import Database
from mailerd.store.write.event_feed import EventFeed, NewEvent, insert_events
from tests.support.rows import query


async def test_a_page_ends_where_its_events_come_to_a_megabyte(database: Database) -> None:
    for number in range(70):
        it = NewEvent(
            EventType.JOB_PAUSED, str(number), {"text": "é" * 30_000 if number >= 20 else ""}, sender="a@b.co"
        )
        statement, values = insert_events([it])
        await query(database, statement, *values)
    feed, found, pages = EventFeed(database, timeout=5), list[int](), list[int]()
    while (page := await feed.page(after=found[-1] if found else 0, limit=60, senders={"a@b.co"})).events:
        found += [it.position for it in page.events]
        pages.append(len(page.events))
        assert page.next_after == found[-1]
        assert page.more == (found[-1] < 70)
    assert found == list(range(1, 71))
    assert pages == [36, 20, 14]
    assert [len((await feed.page(after=0, limit=limit)).events) for limit in (19, 20, 21, 36, 37)] == [
        19,
        20,
        21,
        36,
        36,
    ]
