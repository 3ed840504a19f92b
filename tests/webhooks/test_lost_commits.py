"""A server that takes over without the last commits gives no place again, and a client hears that it has lost some."""

from datetime import timedelta

import pytest

from mailerd.store.db.connection import Cursor
from mailerd.store.db.database import Database
from mailerd.store.write import webhooks as webhook_queue
from mailerd.store.write.event_feed import LEAP, EventFeed, UnknownPositionError, leap_at_next, number
from mailerd.store.write.webhooks import WebhookQueue
from tests.support.dialect import is_mariadb
from tests.support.rows import query
from tests.webhooks.conftest import Happen, endpoint
from tests.webhooks.receiver import Receiver

WAIT = timedelta(seconds=9)


@pytest.fixture
async def feed(database: Database, happen: Happen) -> EventFeed:
    """The feed of a server that has taken over with the first three of five events."""
    feed = EventFeed(database, timeout=5)
    await happen(5)
    await feed.number_new()
    await query(database, "DELETE FROM events WHERE position > 3")
    await query(database, "UPDATE event_positions SET last = 3, server = 'db1:3306:1'")
    return feed


async def places(feed: EventFeed, after: int) -> list[int]:
    return [it.position for it in (await feed.page(after=after, limit=1000)).events]


async def test_a_server_that_takes_over_gives_no_place_again(feed: EventFeed, happen: Happen) -> None:
    await happen(2)
    first = 3 + LEAP + 1
    assert await places(feed, after=3) == [first, first + 1]
    assert await places(feed, after=first) == [first + 1]
    await happen(1)
    assert await places(feed, after=first + 1) == [first + 2], "one leap for each server that takes over"


@pytest.mark.parametrize("after", [4, 5, 3 + LEAP])
async def test_a_client_that_has_seen_what_is_lost_is_told(feed: EventFeed, happen: Happen, after: int) -> None:
    for _ in range(2):  # before the new server has events of its own, and then
        with pytest.raises(UnknownPositionError, match=r"events after ID 3 .*Continue with after=3"):
            await feed.page(after=after, limit=9)
        await happen(1)
    assert await places(feed, after=3) == [3 + LEAP + 1, 3 + LEAP + 2]


async def test_a_server_is_the_same_whenever_it_was_started(database: Database, happen: Happen) -> None:
    await happen(1)
    await EventFeed(database, timeout=5).number_new()
    name = "CONCAT_WS(':', @@hostname, @@port, @@server_id)" if is_mariadb() else "@@server_uuid"
    assert await query(database, f"SELECT server = {name} FROM event_positions") == [(1,)]


async def test_webhooks_get_every_event_across_the_leap_in_a_few_transactions(
    database: Database, receiver: Receiver, feed: EventFeed, happen: Happen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook_queue, "FAN_OUT_BATCH", 2)
    shop = await endpoint(database, receiver)
    await query(database, "UPDATE webhooks SET position = 0")
    await happen(3)
    await feed.number_new()
    queue = WebhookQueue(database, lease=WAIT)
    rounds = 1
    while await queue.fan_out(shop) and rounds < 9:
        rounds += 1
    made = await query(database, "SELECT position FROM webhook_deliveries ORDER BY position")
    assert [place for (place,) in made] == await places(feed, after=0)
    assert (len(made), rounds) == (6, 3)
    assert await query(database, "SELECT position FROM webhooks") == [(made[-1][0],)]


async def test_after_a_restore_places_leap_also_where_the_server_does_not_say_which_it_is(
    database: Database, feed: EventFeed, happen: Happen
) -> None:
    async def unnamed(cursor: Cursor) -> int:
        cursor.connection.server = ""
        return await number(cursor)

    await query(database, "UPDATE event_positions SET server = ''")
    await database.transaction(leap_at_next, what="events.number")
    for placed in ([3 + LEAP + 1], [3 + LEAP + 1, 3 + LEAP + 2]):
        await happen(1)
        assert await database.transaction(unnamed, what="events.number") == 1
        assert await places(feed, after=3) == placed
