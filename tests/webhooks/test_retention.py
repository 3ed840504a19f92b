"""Events are deleted by age: in order, never under an endpoint that is on, and not silently under a paused one."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from mailerd.core.webhooks import EndpointState
from mailerd.events.webhooks import WebhookEvents
from mailerd.store.db.connection import Cursor
from mailerd.store.db.database import Database
from mailerd.store.write import event_feed, retention
from mailerd.store.write.event_feed import EventFeed, PrunedPositionError
from mailerd.store.write.retention import DeliveriesOfRemoved, LostEvents, OldEvents
from mailerd.store.write.webhooks import WebhookDeliveries, WebhookQueue, Webhooks
from tests.support.beats import counting_beats
from tests.support.heard import Heard
from tests.support.in_doubt import in_doubt
from tests.support.rows import query
from tests.webhooks.conftest import Happen, endpoint
from tests.webhooks.receiver import Receiver

WAIT = timedelta(seconds=9)


async def age(database: Database, days: int, up_to: int = 1 << 40) -> None:
    await query(
        database, "UPDATE events SET at = at - INTERVAL %s DAY WHERE position <= %s OR position IS NULL", days, up_to
    )


async def numbered(database: Database) -> None:
    await EventFeed(database, timeout=5).number_new()


async def there(database: Database) -> list[int]:
    return [place for (place,) in await query(database, "SELECT position FROM events ORDER BY position")]


async def test_what_is_old_goes_in_order_and_the_feed_says_where_to_go_on(
    database: Database, happen: Happen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "BATCH", 3)
    await happen(8)
    await numbered(database)
    await age(database, 100, up_to=7)
    pruner = OldEvents(90, WebhookEvents(Heard()))
    assert (await OldEvents(0, WebhookEvents(Heard())).delete(database)).rows == 0
    rounds = [await pruner.delete(database) for _ in range(4)]
    assert [(it.rows, it.more) for it in rounds] == [(3, True), (3, True), (1, False), (0, False)]
    assert await there(database) == [8]
    feed = EventFeed(database, timeout=5)
    assert [it.position for it in (await feed.page(after=0, limit=9)).events] == [8]
    assert [it.position for it in (await feed.page(after=7, limit=9)).events] == [8]
    with pytest.raises(PrunedPositionError, match="after=7"):
        await feed.page(after=6, limit=9)


async def test_what_is_old_goes_where_no_endpoint_is_on_and_nobody_reads(database: Database, happen: Happen) -> None:
    await happen(event_feed.BATCH + 3)
    await query(database, "UPDATE events SET at = at - INTERVAL 100 DAY")
    await happen(2)
    pruner = OldEvents(90, WebhookEvents(Heard()))
    rounds = [await pruner.delete(database) for _ in range(3)]
    assert [(it.rows, it.more) for it in rounds] == [(event_feed.BATCH, True), (3, False), (0, False)]
    assert await query(database, "SELECT COUNT(*), MIN(position) FROM events") == [(2, event_feed.BATCH + 4)]


async def test_a_reader_beside_a_deletion_is_not_led_past_what_it_deletes(
    database: Database, happen: Happen, monkeypatch: pytest.MonkeyPatch
) -> None:
    await happen(8)
    await numbered(database)
    await age(database, 100, up_to=6)
    execute, pruner = Cursor.execute, OldEvents(90, WebhookEvents(Heard()))

    async def beside(cursor: Cursor, statement: str, values: Any = None) -> int:
        if statement.startswith(event_feed._READ_PAGE[:60]):
            monkeypatch.undo()
            assert (await pruner.delete(database)).rows == 6
        return await execute(cursor, statement, values)

    monkeypatch.setattr(Cursor, "execute", beside)
    with pytest.raises(PrunedPositionError, match="after=6"):
        await EventFeed(database, timeout=5).page(after=2, limit=3)


async def test_what_an_endpoint_that_is_on_has_not_got_stays(
    database: Database, receiver: Receiver, happen: Happen
) -> None:
    await endpoint(database, receiver)
    await happen(6)
    await numbered(database)
    await age(database, 100)
    pruner, queue = OldEvents(90, WebhookEvents(Heard())), WebhookQueue(database, lease=WAIT)
    assert (await pruner.delete(database)).rows == 0, "not queued yet"
    await queue.fan_out(next(iter((await queue.read_work()).behind)))
    assert (await pruner.delete(database)).rows == 0, "waiting"
    await query(database, "UPDATE webhook_deliveries SET status = 'delivered' WHERE position <= 3")
    await query(database, "UPDATE webhook_deliveries SET status = 'sending' WHERE position = 4")
    assert (await pruner.delete(database)).rows == 3
    await query(database, "UPDATE webhook_deliveries SET status = 'failed' WHERE position >= 4")
    assert (await pruner.delete(database)).rows == 3
    assert await query(database, "SELECT COUNT(*) FROM webhook_deliveries") == [(0,)]


async def test_what_is_replayed_is_not_deleted_beside_it(
    database: Database, receiver: Receiver, happen: Happen, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The deletion has seen that nothing waits for the old events; then a replay comes, before they are deleted."""
    id_ = await endpoint(database, receiver)
    await happen(6)
    await numbered(database)
    await WebhookQueue(database, lease=WAIT).fan_out(id_)
    await query(database, "UPDATE webhook_deliveries SET status = 'delivered'")
    await age(database, 100)
    deliveries, it = WebhookDeliveries(database, timeout=5), await Webhooks(database, timeout=5).find(id_)
    replays = list[asyncio.Task[int]]()
    lost = retention._lost

    async def beside(cursor: Cursor, stopped: Sequence[tuple[Any, ...]], up_to: int) -> list[LostEvents]:
        since = datetime.now(UTC) - timedelta(days=365)
        replays.append(asyncio.create_task(deliveries.replay(it, since=since, actor="test")))
        await asyncio.wait(replays, timeout=0.5)
        return await lost(cursor, stopped, up_to)

    monkeypatch.setattr(retention, "_lost", beside)
    assert (await OldEvents(90, WebhookEvents(Heard())).delete(database)).rows == 6
    assert await query(database, "SELECT COUNT(*) FROM webhook_deliveries") == [(await replays[0],)]


async def test_what_a_paused_endpoint_loses_is_counted_and_told(
    database: Database, receiver: Receiver, happen: Happen, heard: Heard
) -> None:
    id_ = await endpoint(database, receiver)
    await happen(3)
    await numbered(database)
    queue = WebhookQueue(database, lease=WAIT)
    await queue.fan_out(id_)
    await Webhooks(database, timeout=5).change(id_, {"state": "paused"}, actor="test")
    await happen(4)
    await numbered(database)
    await age(database, 100, up_to=5)
    await OldEvents(90, WebhookEvents(heard)).delete(database)
    assert heard.of("webhook_events_expired") == [{"webhook": "shop", "events": 5, "days": 90}]
    assert await there(database) == [6, 7]
    await Webhooks(database, timeout=5).change(id_, {"state": "on"}, actor="test")
    assert list((await queue.read_work()).behind) == [id_]
    await queue.fan_out(id_)
    assert await query(database, "SELECT position FROM webhook_deliveries ORDER BY position") == [(6,), (7,)]


async def test_what_is_lost_is_told_though_the_answer_to_the_commit_was_lost(
    database: Database, receiver: Receiver, happen: Happen, monkeypatch: pytest.MonkeyPatch
) -> None:
    id_ = await endpoint(database, receiver)
    await happen(3)
    await numbered(database)
    await Webhooks(database, timeout=5).change(id_, {"state": EndpointState.PAUSED}, actor="test")
    await age(database, 100)
    heartbeat = counting_beats()
    with in_doubt(database, monkeypatch):
        pruned = await OldEvents(90, WebhookEvents(Heard())).delete(database)
    assert (pruned.rows, pruned.lost, heartbeat.since) == (3, (LostEvents("shop", 3),), 1)
    assert await there(database) == []


async def test_an_endpoint_that_is_gone_holds_up_nothing_and_a_removed_one_leaves_nothing(
    database: Database, receiver: Receiver, happen: Happen
) -> None:
    id_ = await endpoint(database, receiver)
    await happen(3)
    await numbered(database)
    await WebhookQueue(database, lease=WAIT).fan_out(id_)
    await query(database, "UPDATE webhooks SET state = 'gone'")
    await age(database, 100, up_to=1)
    pruner = OldEvents(90, WebhookEvents(Heard()))
    assert (await pruner.delete(database)).lost == ()
    await Webhooks(database, timeout=5).remove(id_, actor="test")
    assert (await DeliveriesOfRemoved().delete(database)).rows
    assert not (await DeliveriesOfRemoved().delete(database)).rows
    assert await query(database, "SELECT COUNT(*) FROM webhook_deliveries") == [(0,)]
    assert await there(database) == [2, 3]


async def test_many_that_delete_at_once_delete_each_once(
    database: Database, receiver: Receiver, happen: Happen
) -> None:
    await endpoint(database, receiver)
    await query(database, "UPDATE webhooks SET state = 'paused'")
    await happen(20)
    await numbered(database)
    await age(database, 100)
    rounds = await asyncio.gather(*(OldEvents(90, WebhookEvents(Heard())).delete(database) for _ in range(4)))
    assert sum(it.rows for it in rounds) == 20
    assert [lost for it in rounds for lost in it.lost] == [LostEvents("shop", 20)]


async def test_replay_delivers_what_was_before_the_endpoint_too_and_doubles_nothing_that_waits(
    database: Database, receiver: Receiver, happen: Happen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mailerd.store.write.webhooks._REPLAYED_AT_ONCE", 3)
    await happen(5)
    id_ = await endpoint(database, receiver)
    await happen(5)
    await numbered(database)
    await WebhookQueue(database, lease=WAIT).fan_out(id_)
    await query(database, "UPDATE webhook_deliveries SET status = 'delivered', attempts = 2 WHERE position <= 8")
    it = await Webhooks(database, timeout=5).find("shop")
    deliveries = WebhookDeliveries(database, timeout=5)
    assert await deliveries.replay(it, since=datetime.now(UTC) + timedelta(hours=1), actor="test") == 0
    assert await deliveries.replay(it, since=datetime.now(UTC) - timedelta(hours=1), actor="test") == 8
    found = await deliveries.page(it.id)
    assert [(each.id, each.status.value, each.attempts) for each in found] == [
        (place, "waiting", 0) for place in range(10, 0, -1)
    ]
    assert [each.id for each in await deliveries.page(it.id, before=4, limit=2)] == [3, 2]
