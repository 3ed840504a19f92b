"""Several daemons share the queue: each event is claimed by one, and only the claim's token can record it."""

import asyncio
from datetime import UTC, datetime, timedelta

import aiomysql
import pytest
from yarl import URL

from mailerd.core.webhooks import (
    RESTS_FROM,
    DeliveryStatus,
    EndpointHealth,
    EndpointState,
    EventType,
    RetryRules,
    WebhookAttempt,
    WebhookOutcome,
    decide,
)
from mailerd.store.db.database import Database
from mailerd.store.write import webhooks
from mailerd.store.write.webhooks import NewEndpoint, WebhookDeliveries, WebhookQueue, Webhooks
from tests.support.heard import PATIENCE
from tests.support.rows import query
from tests.webhooks.conftest import Happen, endpoint
from tests.webhooks.receiver import Receiver
from tests.webhooks.test_retention import WAIT, numbered

TAKEN = WebhookAttempt(204, None, timedelta(milliseconds=7))


@pytest.fixture
async def shop(database: Database, receiver: Receiver, happen: Happen) -> str:
    """An endpoint with twenty events that are due."""
    id_ = await endpoint(database, receiver)
    await happen(20)
    await numbered(database)
    await WebhookQueue(database, lease=WAIT).fan_out(id_)
    return id_


def delivered(_: EndpointHealth, __: datetime) -> WebhookOutcome:
    return WebhookOutcome(DeliveryStatus.DELIVERED, timedelta(), EndpointState.ON, 0, None, None)


async def test_daemons_that_claim_at_once_share_the_places_of_the_endpoint(database: Database, shop: str) -> None:
    queues = [WebhookQueue(database, lease=WAIT) for _ in range(6)]
    claimed = []
    for _ in range(3):
        for events in await asyncio.gather(*(it.claim(shop, most=3, at_once=4) for it in queues)):
            claimed += events
    assert len(claimed) == 4
    assert len({it.position for it in claimed}) == 4
    assert all(it.number == 1 for it in claimed)


async def test_a_daemon_that_stopped_with_the_endpoint_locked_holds_up_nobody(
    database: Database, database_url: str, shop: str
) -> None:
    url = URL(database_url)
    frozen = await aiomysql.connect(
        host=url.host, port=url.port, user=url.user, password=url.password or "", db=url.path[1:]
    )
    await frozen.begin()
    async with frozen.cursor() as cursor:
        await cursor.execute("SELECT id FROM webhooks FOR UPDATE")
    queue = WebhookQueue(database, lease=WAIT)
    assert await asyncio.wait_for(queue.claim(shop, most=4, at_once=4), PATIENCE) == []
    assert not await asyncio.wait_for(queue.fan_out(shop), PATIENCE)
    frozen.close()


async def test_a_claim_whose_lease_is_over_is_claimed_anew_and_its_late_record_writes_nothing(
    database: Database, shop: str
) -> None:
    dead, living = WebhookQueue(database, lease=WAIT), WebhookQueue(database, lease=WAIT)
    (lost,) = await dead.claim(shop, most=1, at_once=1)
    assert await living.claim(shop, most=1, at_once=1) == []
    await query(database, "UPDATE webhook_deliveries SET lease_until = UTC_TIMESTAMP(6) WHERE status = 'sending'")
    assert list((await living.read_work()).ready) == [shop]
    (again,) = await living.claim(shop, most=1, at_once=1)
    assert (again.position, again.number, again.uid) == (lost.position, 2, lost.uid)
    assert await dead.record(lost, TAKEN, delivered) is None
    assert await _status(database, lost.position) == ("sending", None)
    assert await living.record(again, TAKEN, delivered) is not None
    assert await _status(database, lost.position) == ("delivered", 204)
    assert await living.record(again, TAKEN, delivered) is None, "repeated, it writes nothing"


async def test_an_endpoint_that_rests_is_tried_by_one_attempt_at_a_time_when_its_rest_is_over(
    database: Database, shop: str
) -> None:
    queue = WebhookQueue(database, lease=WAIT)
    await query(database, "UPDATE webhooks SET failures = %s", RESTS_FROM)
    assert len(await queue.claim(shop, most=4, at_once=4)) == 1
    assert await queue.claim(shop, most=4, at_once=4) == []
    await query(database, "UPDATE webhooks SET failures = 0, retry_at = UTC_TIMESTAMP(6) + INTERVAL 1 MINUTE")
    assert (await queue.read_work()).ready == {}
    assert await queue.claim(shop, most=4, at_once=4) == []


async def test_what_is_recorded_after_an_endpoint_was_paused_leaves_it_paused(database: Database, shop: str) -> None:
    queue = WebhookQueue(database, lease=WAIT)
    (first, second) = await queue.claim(shop, most=2, at_once=2)
    await Webhooks(database, timeout=5).change(shop, {"state": EndpointState.PAUSED}, actor="test")
    assert await queue.claim(shop, most=2, at_once=4) == []
    await queue.record(first, TAKEN, delivered)
    assert (await Webhooks(database, timeout=5).find(shop)).state is EndpointState.PAUSED
    await Webhooks(database, timeout=5).remove(shop, actor="test")
    assert await queue.record(second, TAKEN, delivered) is None


@pytest.mark.parametrize("http", [410, 500, None])
async def test_what_its_old_address_answers_says_nothing_of_an_endpoint_that_has_moved(
    database: Database, shop: str, http: int | None
) -> None:
    queue, rules = WebhookQueue(database, lease=WAIT), RetryRules((timedelta(hours=1),), pause_after=timedelta(0))
    (it,) = await queue.claim(shop, most=1, at_once=4)
    await Webhooks(database, timeout=5).change(
        shop, {"url": "https://new.example.com/", "state": EndpointState.ON}, actor="test"
    )
    attempt = WebhookAttempt(http, "refused", timedelta(seconds=1))

    def decided(health: EndpointHealth, now: datetime) -> WebhookOutcome:
        return decide(attempt, health, rules, number=it.number, tried_at=it.tried_at, now=now, jitter=1.0)

    recorded = await queue.record(it, attempt, decided)
    assert recorded is not None
    assert recorded.step.state is EndpointState.ON
    moved = await Webhooks(database, timeout=5).find(shop)
    assert (moved.state, moved.failures, moved.failing_since) == (EndpointState.ON, 0, None)
    assert it.position in {again.position for again in await queue.claim(shop, most=20, at_once=20)}, (
        "it is due at once"
    )


async def test_a_delivery_whose_event_was_deleted_by_hand_ends_nothing(database: Database, shop: str) -> None:
    await query(database, "DELETE FROM events WHERE position <= 2")
    queue = WebhookQueue(database, lease=WAIT)
    assert [it.position for it in await queue.claim(shop, most=3, at_once=4)] == [3]
    assert [it.position for it in await queue.claim(shop, most=3, at_once=4)] == [4, 5, 6]
    assert await query(database, "SELECT COUNT(*) FROM webhook_deliveries WHERE position <= 2") == [(0,)]


async def test_a_fan_out_that_is_repeated_makes_no_second_delivery(
    database: Database, shop: str, happen: Happen
) -> None:
    queue = WebhookQueue(database, lease=WAIT)
    await query(database, "UPDATE webhooks SET position = 5")
    await happen(3)
    await numbered(database)
    await asyncio.gather(*(queue.fan_out(shop) for _ in range(4)))
    assert await query(database, "SELECT COUNT(*) FROM webhook_deliveries") == [(23,)]
    assert (await queue.read_work()).behind == {}


async def test_a_replay_counts_what_it_queues_however_much_is_delivered_meanwhile(
    database: Database, shop: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue, deliveries = WebhookQueue(database, lease=WAIT), WebhookDeliveries(database, timeout=20)
    claimed = await queue.claim(shop, most=4, at_once=4)
    slow = webhooks._COUNT_OPEN.replace("WHERE", "WHERE SLEEP(0.02) = 0 AND")
    monkeypatch.setattr(webhooks, "_COUNT_OPEN", slow)
    it, since = await Webhooks(database, timeout=5).find(shop), datetime.now(UTC) - timedelta(hours=1)
    replay = asyncio.create_task(deliveries.replay(it, since=since, only_failed=True, actor="test"))
    await asyncio.sleep(0.1)
    for each in claimed:
        assert await queue.record(each, TAKEN, delivered)
    assert await replay == 0
    assert await deliveries.replay(it, since=since, actor="test") == 4


async def test_the_first_endpoint_of_a_database_gets_nothing_that_was_before(
    database: Database, receiver: Receiver, happen: Happen
) -> None:
    await happen(3, type_=EventType.JOB_FINISHED)  # no reader has asked for these yet, so they have no places
    made, _ = await Webhooks(database, timeout=5).create(NewEndpoint("first", receiver.url), actor="test")
    await happen(2)
    await numbered(database)
    await WebhookQueue(database, lease=WAIT).fan_out(made.id)
    types = await query(database, "SELECT e.type FROM webhook_deliveries d JOIN events e USING (position)")
    assert types == [("job.paused",)] * 2


async def _status(database: Database, position: int) -> tuple[str, int | None]:
    rows = await query(database, "SELECT status, http FROM webhook_deliveries WHERE position = %s", position)
    return rows[0][0], rows[0][1]
