"""`mailerd webhooks`: as an operator types it."""

import json
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from mailerd.cli.common import asked_by
from mailerd.core.webhooks import EventType
from mailerd.store.write.event_feed import EventFeed, NewEvent, insert_events
from mailerd.store.write.webhooks import WebhookQueue
from tests.cli.conftest import Shop
from tests.support.rows import query
from tests.webhooks.receiver import Receiver, receiving


@pytest.fixture
async def receiver(shop: Shop) -> AsyncIterator[Receiver]:
    with shop.config.open("a") as file:
        file.write('[webhooks]\nallow_http = true\nports = []\nallow_networks = "127.0.0.0/8"\ntimeout = 2\n')
    async with receiving() as it:
        yield it


async def test_one_is_added_looked_at_tested_paused_rotated_and_removed(shop: Shop, receiver: Receiver) -> None:
    told = await shop.say(
        "webhooks", "add", "shop", receiver.url, "--type", "job.finished", "--sender", "me@example.com"
    )
    receiver.secret = told.splitlines()[-1]
    assert receiver.secret.startswith("whsec_")
    (listed,) = json.loads(await shop.say("webhooks", "list", "--json"))["webhooks"]
    assert (listed["name"], listed["types"], listed["senders"], listed["state"]) == (
        "shop", ["job.finished"], ["me@example.com"], "on"
    )  # fmt: skip
    assert receiver.secret not in json.dumps(listed)
    assert "shop" in await shop.say("webhooks", "list")
    assert "webhook shop returned 204 in" in await shop.say("webhooks", "test", "shop")
    assert json.loads(receiver.posts[-1].body)["type"] == "webhook.test"
    receiver.status = 302
    told = await shop.say("webhooks", "test", listed["id"], "--json", code=1)
    assert (json.loads(told)["http"], "redirect" in told) == (302, True)
    assert str(shop.config) in await shop.say("webhooks", "test", "shop", code=1), "whose rules these were"
    assert "webhook shop paused" in await shop.say("webhooks", "pause", "shop")
    assert "paused (manual)" in await shop.say("webhooks", "show", "shop")
    assert "webhook shop resumed" in await shop.say("webhooks", "resume", "shop")
    rotated = (await shop.say("webhooks", "rotate", "shop", "--overlap", "60")).splitlines()[-1]
    assert rotated.startswith("whsec_")
    assert rotated != receiver.secret
    assert "webhook shop removed" in await shop.say("webhooks", "remove", "shop")
    assert "webhook 'shop' not found" in await shop.say("webhooks", "show", "shop", code=1)
    assert await query(shop.database, "SELECT webhook, action, actor FROM job_actions ORDER BY id") == [
        ("shop", action, asked_by()) for action in ("add", "pause", "resume", "rotate", "remove")
    ]


async def test_what_cannot_be_is_refused_in_a_sentence(shop: Shop) -> None:
    assert "webhooks.allow_http = true allows http://" in await shop.say(
        "webhooks", "add", "a", "http://example.com/", code=1
    )
    assert "10.0.0.1 is not a public address" in await shop.say("webhooks", "add", "a", "https://10.0.0.1/", code=1)
    assert "the name of a webhook has" in await shop.say("webhooks", "add", " ", "https://example.com/", code=1)
    await shop.say("webhooks", "add", "a", "https://example.com/hook?token=secret")
    assert "webhook 'a' already exists" in await shop.say("webhooks", "add", "a", "https://example.com/", code=1)
    listed = await shop.say("webhooks", "list")
    assert ("secret" in listed, "all but recipients.sent" in listed) == (False, True)


async def test_deliveries_are_shown_and_replayed(shop: Shop, receiver: Receiver) -> None:
    await shop.say("webhooks", "add", "shop", receiver.url)
    (uid,) = await _happen(shop)
    await query(
        shop.database,
        "UPDATE webhook_deliveries SET status = 'failed', attempts = 10, http = 500, error = 'it responded 500'",
    )
    shown = await shop.say("webhooks", "show", "shop")
    assert uid in shown
    assert "it responded 500" in shown
    shown = json.loads(await shop.say("webhooks", "show", "shop", "--json", "--status", "failed"))
    assert [it["event"] for it in shown["deliveries"]] == [uid]
    assert "0 events queued for webhook shop" in await shop.say("webhooks", "replay", "shop", "--since", "2099-01-01")
    assert "1 event queued for webhook shop" in await shop.say(
        "webhooks", "replay", "shop", "--since", "2020-01-01", "--failed"
    )
    assert await query(shop.database, "SELECT status, attempts FROM webhook_deliveries") == [("waiting", 0)]


async def _happen(shop: Shop) -> list[str]:
    statement, values = insert_events([NewEvent(EventType.JOB_PAUSED, "1", {})])
    await query(shop.database, statement, *values)
    await EventFeed(shop.database, timeout=5).number_new()
    queue = WebhookQueue(shop.database, lease=timedelta(seconds=9))
    for id_ in (await queue.read_work()).behind:
        await queue.fan_out(id_)
    return [uid for (uid,) in await query(shop.database, "SELECT uid FROM events")]
