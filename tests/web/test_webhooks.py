"""The pages of webhooks: an endpoint's whole life by plain forms, with the rights of the key, and who asked."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from functools import partial

import pytest

from mailerd.config.webhook_settings import WebhookSettings
from mailerd.core.webhooks import EventType
from mailerd.store.write.api_keys import Permission
from mailerd.store.write.event_feed import NewEvent, insert_events
from mailerd.store.write.webhooks import NewEndpoint, WebhookError, Webhooks, shown_secret
from tests.support.rows import query
from tests.web.conftest import ConsoleSite
from tests.web.test_actions import ask
from tests.webhooks.receiver import Receiver, receiving

OPEN = WebhookSettings(allow_http=True, ports=[], allow_networks="127.0.0.0/8", timeout=10)
NEW = {"action": "add", "name": "shop", "url": "https://shop.example/hook"}


@pytest.fixture
async def receiver(site: ConsoleSite, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Receiver]:
    services = site.daemon.console.services
    monkeypatch.setattr(services, "backend", replace(services.backend, webhooks=OPEN))
    async with receiving() as it:
        yield it


def secret_in(text: str) -> str:
    return text.partition('class="secret">')[2].partition("<")[0]


async def events(site: ConsoleSite, number: int, *, sender: str = "me@example.com") -> None:
    """Events that stand in the feed."""
    made = [
        NewEvent(EventType.RECIPIENT_FAILED, f"{sender} {each}", {"n": each}, None, sender) for each in range(number)
    ]
    statement, values = insert_events(made)
    await query(site.database, statement, *values)
    await query(site.database, "UPDATE events SET position = id")
    await query(site.database, "UPDATE event_positions SET last = (SELECT MAX(id) FROM events)")
    await query(site.database, "UPDATE webhooks SET position = (SELECT MAX(id) FROM events)")


async def test_an_endpoint_is_added_tested_paused_resumed_replayed_rotated_and_removed(
    site: ConsoleSite, receiver: Receiver
) -> None:
    browser = await site.signed_in()
    made = await ask(browser, "/webhooks", **NEW | {"url": receiver.url, "type": "recipient.failed"})
    receiver.secret = secret_in(made)
    ((id_,),) = await query(site.database, "SELECT id FROM webhooks")
    page = f"/webhooks/{id_}"
    async with browser.get(page) as answer:
        assert receiver.secret not in await answer.text()
    assert "Test event accepted: HTTP 204 after" in await ask(browser, page, action="test")
    assert len(receiver.posts) == 1  # the receiver verifies by the secret that was shown
    receiver.status = 500
    assert "it responded 500" in await ask(browser, page, action="test")
    await ask(browser, page, action="pause")
    assert await query(site.database, "SELECT state, pause_cause FROM webhooks") == [("paused", "manual")]
    await ask(browser, page, action="resume")
    assert await query(site.database, "SELECT state, pause_cause FROM webhooks") == [("on", None)]
    await events(site, 3)
    assert "3 events are being replayed." in await ask(browser, page, action="replay", since="2026-01-01T00:00")
    assert await query(site.database, "SELECT COUNT(*) FROM webhook_deliveries WHERE status = 'waiting'") == [(3,)]
    for since in ("yesterday", "9999-12-31T23:59:59-23:59"):
        assert "Nothing was replayed. Enter a date, a time and a time zone." in await ask(
            browser, page, action="replay", since=since
        )
    assert secret_in(await ask(browser, page, action="rotate", until="None")) != receiver.secret
    before = await query(site.database, "SELECT secret FROM webhooks")
    assert "Nothing was changed: the secret was rotated in the meantime" in await ask(
        browser, page, action="rotate", until="None"
    )  # by "reload"
    assert await query(site.database, "SELECT secret FROM webhooks") == before
    assert await query(site.database, "SELECT old_secret IS NOT NULL FROM webhooks") == [(1,)]
    assert "Endpoint shop removed." in await ask(browser, page, action="remove")
    assert await query(site.database, "SELECT COUNT(*) FROM webhooks") == [(0,)]
    changed = site.heard.of("webhook_action")
    assert {(fields["actor"], fields["via"]) for fields in changed} == {("key:shop via console", "console")}
    assert len(changed) == 6
    assert await query(site.database, "SELECT webhook, action, actor FROM job_actions ORDER BY id") == [
        ("shop", action, "key:shop via console") for action in ("add", "pause", "resume", "replay", "rotate", "remove")
    ]
    async with browser.get("/activity?about=shop") as answer:
        assert (await answer.text()).count('<a href="/webhooks">shop</a>') == 6


async def test_a_page_shows_what_became_of_each_delivery(site: ConsoleSite) -> None:
    made, _ = await Webhooks(site.database, timeout=5).create(
        NewEndpoint("shop", "https://shop.example/hook"), actor="test"
    )
    await events(site, 60)
    await query(
        site.database,
        "INSERT INTO webhook_deliveries (webhook_id, position, status, attempts, created_at, due_at, http, error, "
        "took_ms, tried_at) SELECT %s, position, IF(id = 60, 'failed', 'waiting'), 2, at, at + INTERVAL 1 HOUR, 502, "
        "'it responded 502: <b>bad</b>', 17, at FROM events",
        made.id,
    )
    await query(site.database, "UPDATE webhooks SET failures = 12, failing_since = UTC_TIMESTAMP(6) - INTERVAL 2 HOUR")
    site.daemon.service.stats.take(await site.daemon.service.stats.read())
    browser = await site.signed_in()
    async with browser.get("/webhooks") as answer:
        text = await answer.text()
        assert [it in text for it in ("failing", ">59<", "All except recipients.sent")] == [True] * 3
    async with browser.get(f"/webhooks/{made.id}") as answer:
        text = await answer.text()
    assert text.count("it responded 502: &lt;b&gt;bad&lt;/b&gt;") == 50
    assert "mailerd webhooks test shop" in text
    assert text.count('rel="next"') == 1
    async with browser.get(f"/webhooks/{made.id}?tab=failed") as answer:
        assert (await answer.text()).count("it responded 502") == 1
    async with browser.get("/") as answer:
        assert "The webhook shop has been failing for 2 h; its events wait." in await answer.text()


async def test_the_endpoints_of_another_tenant_are_as_good_as_none(site: ConsoleSite) -> None:
    webhooks = Webhooks(site.database, timeout=5)
    made = [
        (await webhooks.create(NewEndpoint(name, f"https://{name}.example/", senders=senders), actor="test"))[0]
        for name, senders in (("others", ["you@example.com"]), ("all", None), ("mine", ["me@example.com"]))
    ]
    browser = await site.signed_in(
        "mine", senders=["me@example.com"], permissions=[Permission.READ, Permission.WEBHOOKS]
    )
    async with browser.get("/webhooks") as answer:
        text = await answer.text()
        assert (answer.status, [name in text for name in ("others.example", "all.example", "mine.example")]) == (
            200,
            [False, False, True],
        )
    for each in made[:2]:
        async with browser.get(f"/webhooks/{each.id}") as answer:
            assert answer.status == 404
        for action in ("test", "change", "pause", "resume", "replay", "rotate", "remove"):
            async with browser.post(f"/webhooks/{each.id}", data={"action": action, "since": "2026-01-01"}) as answer:
                assert (action, answer.status) == (action, 404)
    async with browser.get("/webhooks/others") as answer:  # nor is it found by its name
        assert answer.status == 404
    assert await query(site.database, "SELECT COUNT(*) FROM webhooks WHERE state = 'on' AND old_secret IS NULL") == [
        (3,)
    ]
    async with browser.post("/webhooks", data=NEW | {"senders": "you@example.com"}) as answer:
        assert answer.status == 403
    await ask(browser, "/webhooks", **NEW)
    assert await query(site.database, "SELECT senders FROM webhooks WHERE name = 'shop'") == [('["me@example.com"]',)]


async def test_a_key_without_the_right_sees_and_changes_no_endpoint(site: ConsoleSite) -> None:
    made, _ = await Webhooks(site.database, timeout=5).create(
        NewEndpoint("shop", "https://shop.example/hook"), actor="test"
    )
    browser = await site.signed_in(permissions=[Permission.READ, Permission.CONTROL])
    for path in ("/webhooks", f"/webhooks/{made.id}"):
        async with browser.get(path) as answer:
            assert answer.status == 403
        async with browser.post(path, data=NEW | {"action": "remove"}) as answer:
            assert answer.status == 403
    async with browser.get("/") as answer:
        assert 'href="/webhooks"' not in await answer.text()
    assert await query(site.database, "SELECT COUNT(*) FROM webhooks") == [(1,)]


ALLOWED = "allowed addresses are set in [webhooks]"


@pytest.mark.parametrize("given, said", [
    ({"url": "http://shop.example/"}, ALLOWED), ({"url": "https://127.0.0.1/"}, ALLOWED),
    ({"url": "https://169.254.169.254/"}, ALLOWED), ({"name": " "}, "name: must not be empty"),
    ({"senders": "nobody"}, "has no @"),
])  # fmt: skip
async def test_a_bad_endpoint_is_refused_with_the_reason(site: ConsoleSite, given: dict[str, str], said: str) -> None:
    assert said in await ask(await site.signed_in(), "/webhooks", **NEW | given)
    assert await query(site.database, "SELECT COUNT(*) FROM webhooks") == [(0,)]


async def test_an_endpoint_is_changed_keeps_its_secret_and_is_not_changed_by_a_bad_form(site: ConsoleSite) -> None:
    webhooks = Webhooks(site.database, timeout=5)
    made, _ = await webhooks.create(NewEndpoint("shop", "https://shop.example/hook"), actor="test")
    secrets = await webhooks.secrets(made.id)
    await webhooks.create(NewEndpoint("till", "https://till.example/hook"), actor="test")
    browser, page = await site.signed_in(), f"/webhooks/{made.id}"
    form = {"action": "change", "name": "shop 2", "url": "https://shop.example/new", "senders": "me@example.com"}
    await ask(browser, page, **form, type="recipient.failed")
    columns = "SELECT name, url, types, senders FROM webhooks WHERE id = %s"
    now = ("shop 2", "https://shop.example/new", '["recipient.failed"]', '["me@example.com"]')
    assert await query(site.database, columns, made.id) == [now]
    assert await webhooks.secrets(made.id) == secrets
    async with browser.get(page) as answer:
        text = await answer.text()
    assert 'value="recipient.failed" checked' in text
    assert 'value="https://shop.example/new"' in text
    for bad in (
        {"name": "till"},
        {"url": "http://shop.example/"},
        {"url": "https://127.0.0.1/"},
        {"senders": "nobody"},
    ):
        assert "Nothing was changed: " in await ask(browser, page, **form | bad), bad
    assert await query(site.database, columns, made.id) == [now]
    assert "already" in await ask(browser, "/webhooks", **NEW | {"name": "till"})
    mine = await site.signed_in("mine", senders=["me@example.com"], permissions=[Permission.READ, Permission.WEBHOOKS])
    async with mine.post(page, data=form | {"senders": "you@example.com"}) as answer:
        assert answer.status == 403
    await ask(mine, page, **form | {"senders": ""})  # all that the key may use, and no more
    assert await query(site.database, columns, made.id) == [(*now[:2], None, '["me@example.com"]')]


async def test_of_two_rotations_at_once_one_is_refused(site: ConsoleSite) -> None:
    webhooks = Webhooks(site.database, timeout=5)
    await webhooks.create(NewEndpoint("shop", "https://example.com/"), actor="test")
    for _ in range(2):
        seen = await webhooks.find("shop")
        rotate = partial(webhooks.rotate, seen.id, overlap=timedelta(days=1), actor="test", seen=seen)
        both = await asyncio.gather(rotate(), rotate(), return_exceptions=True)
        (secret,) = [it for it in both if isinstance(it, str)]
        (refused,) = [it for it in both if isinstance(it, WebhookError)]
        assert "webhook shop received another secret in the meantime" in str(refused)
        assert shown_secret((await webhooks.secrets(seen.id))[0]) == secret
