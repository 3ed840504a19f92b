"""`/api/webhooks`: an application sets itself up, and a key for certain senders hears of these only."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from mailerd.config.webhook_settings import WebhookSettings
from mailerd.core.webhooks import EventType
from mailerd.model import webhooks as models
from mailerd.model.webhooks import Webhook
from mailerd.store.write.api_keys import Permission
from mailerd.store.write.event_feed import NewEvent, insert_events
from mailerd.store.write.webhooks import Webhooks
from tests.intake.site import Build, Site
from tests.support.heard import PATIENCE
from tests.webhooks.receiver import Receiver, receiving

NOTED = "SELECT webhook, action, detail FROM job_actions"
OPEN = WebhookSettings(allow_http=True, ports=[], allow_networks="127.0.0.0/8", timeout=3)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as it:
        yield it


@pytest.fixture
async def open_site(build: Build) -> Site:
    return await build(webhooks=OPEN)


async def ask(
    site: Site, method: str, path: str, body: object = None, headers: dict[str, str] | None = None
) -> tuple[int, Any]:
    given = {} if body is None else {"json": body}
    async with site.client.request(method, f"{site.url}/api/webhooks{path}", headers=headers, **given) as response:  # type: ignore[arg-type]  # of two kinds
        return response.status, await response.json()


async def test_one_is_made_shown_changed_rotated_tested_and_removed(open_site: Site, receiver: Receiver) -> None:
    status, made = await ask(open_site, "POST", "", {"name": "shop", "url": receiver.url, "types": ["job.finished"]})
    assert status == 200
    models.NewWebhook.model_validate(made)
    receiver.secret = made["secret"]
    path = f"/{made['id']}"
    status, tested = await ask(open_site, "POST", f"{path}/test")
    assert (status, tested["delivered"], tested["http"], tested["error"]) == (200, True, 204, None)
    shown = {name: value for name, value in made.items() if name != "secret"}
    assert await ask(open_site, "GET", path) == (200, shown)
    assert await ask(open_site, "GET", "") == (200, {"webhooks": [shown]})
    status, changed = await ask(open_site, "PATCH", path, {"types": None, "state": "paused"})
    assert (status, changed["types"], changed["state"], changed["pause_cause"]) == (200, None, "paused", "manual")
    assert (changed["name"], changed["url"]) == ("shop", receiver.url)
    status, changed = await ask(open_site, "PATCH", path, {"state": "on", "name": "till"})
    assert (changed["state"], changed["name"], changed["pause_cause"]) == ("on", "till", None)
    status, rotated = await ask(open_site, "POST", f"{path}/rotate", {"overlap": 60})
    assert (status, rotated["secret"][:6]) == (200, "whsec_")
    assert rotated["old_secret_until"] is not None
    assert (await ask(open_site, "POST", f"{path}/rotate"))[0] == 200, "a body is not needed"
    assert await ask(open_site, "DELETE", path) == (200, {"removed": True})
    assert (await ask(open_site, "DELETE", path))[0] == 404
    asked = [
        ("shop", "add", None), ("shop", "change", "types, state"), ("shop", "change", "name, state"),
        ("till", "rotate", None), ("till", "rotate", None), ("till", "remove", None),
    ]  # fmt: skip
    assert await open_site.rows(f"{NOTED} WHERE changed = 1 ORDER BY id") == asked
    assert await open_site.rows("SELECT DISTINCT actor FROM job_actions") == [("key:test",)]
    logged = open_site.heard.of("webhook_action")
    assert [(it["webhook"], it["action"]) for it in logged] == [(webhook, action) for webhook, action, _ in asked]


async def test_deliveries_are_paged_and_replayed(open_site: Site, receiver: Receiver) -> None:
    _, made = await ask(open_site, "POST", "", {"name": "shop", "url": receiver.url})
    for number in range(5):
        statement, values = insert_events([NewEvent(EventType.JOB_PAUSED, str(number), {})])
        await open_site.rows(statement, *values)
    await open_site.get("/api/events")  # which gives them their places
    await open_site.rows("UPDATE webhooks SET position = 5")
    path = f"/{made['id']}"
    assert await ask(open_site, "POST", f"{path}/replay", {"since": "2020-01-01T00:00:00Z"}) == (200, {"events": 5})
    assert (await open_site.rows(f"{NOTED} ORDER BY id DESC LIMIT 1"))[0][:2] == ("shop", "replay")
    status, page = await ask(open_site, "GET", f"{path}/deliveries?limit=3")
    assert (status, [it["id"] for it in page["deliveries"]], page["next_cursor"]) == (200, [5, 4, 3], "3")
    models.WebhookDelivery.model_validate(page["deliveries"][0], strict=False)
    _, page = await ask(open_site, "GET", f"{path}/deliveries?limit=3&cursor=3&status=waiting")
    assert ([it["id"] for it in page["deliveries"]], page["next_cursor"]) == ([2, 1], None)
    _, page = await ask(open_site, "GET", f"{path}/deliveries?limit=2&cursor=3")
    assert ([it["id"] for it in page["deliveries"]], page["next_cursor"]) == ([2, 1], None), "the last one is full"
    for state in ("gone", "paused", "on"):
        await open_site.rows("UPDATE webhooks SET state = %s", state)
        _, page = await ask(open_site, "GET", f"{path}/deliveries")
        assert {it["due_at"] is not None for it in page["deliveries"]} == {state == "on"}, state
    for since in ("2020-01-01T00:00:00", "9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+23:59", 0, "0", None):
        status, answer = await ask(open_site, "POST", f"{path}/replay", {"since": since})
        assert (status, answer["error"]["details"][0]["field"]) == (422, "since"), since


@pytest.mark.parametrize(
    "body, field",
    [
        ({"name": "a", "url": "http://example.com/"}, "url"), ({"name": "a", "url": "https://127.0.0.1/"}, "url"),
        ({"name": "a", "url": "https://[::ffff:10.0.0.1]/"}, "url"), ({"name": "a", "url": "https://x:22/"}, "url"),
        ({"name": "a", "url": "https://example.com/\u202ex"}, "url"), ({"name": "a", "url": "https://x/ y"}, "url"),
        ({"name": "a", "url": "https://example.com/\r\nX: y"}, "url"), ({"name": " ", "url": "https://x/"}, "name"),
        ({"name": "a", "url": "https://x/", "types": ["job.lost"]}, "types[0]"), ({"name": "a"}, "url"),
        ({"name": "a", "url": "https://x/", "types": []}, "types"), ({"name": "a", "url": "https://x/", "x": 1}, "x"),
        ({"name": "a", "url": "https://x/", "senders": ["nobody"]}, "senders[0]"),
        ({"name": "a", "url": "https://127.0.0.1/", "types": ["job.lost"]}, "url types[0]"),
        ({"name": "x; reboot", "url": "https://x/"}, "name"), ({"name": "`reboot`", "url": "https://x/"}, "name"),
        ({"name": "$(reboot)", "url": "https://x/"}, "name"), ({"name": "--help", "url": "https://x/"}, "name"),
    ],
)  # fmt: skip
async def test_what_cannot_be_is_named_and_nothing_is_stored(site: Site, body: Any, field: str) -> None:
    status, answer = await ask(site, "POST", "", body)
    assert (status, " ".join(it["field"] for it in answer["error"]["details"])) == (422, field)
    assert await ask(site, "GET", "") == (200, {"webhooks": []})


async def test_a_name_is_used_once(site: Site) -> None:
    for status in (200, 409):
        assert (await ask(site, "POST", "", {"name": "a", "url": "https://example.com/"}))[0] == status
    _, other = await ask(site, "POST", "", {"name": "b", "url": "https://example.com/"})
    assert (await ask(site, "PATCH", f"/{other['id']}", {"name": "a"}))[0] == 409


async def test_one_key_that_has_as_many_as_it_may_leaves_room_for_others(site: Site) -> None:
    other = {"X-API-Key": await site.keys.create("other")}
    _, made = await ask(site, "POST", "", {"name": "first", "url": "https://example.com/"})
    await site.rows(
        "INSERT INTO webhooks (id, owner, name, url, secret, state, position, created_at)"
        " SELECT CONCAT(LEFT(w.id, 23), n.n), w.owner, n.n, w.url, w.secret, w.state, w.position, w.created_at"
        f" FROM webhooks w, ({' UNION '.join(f'SELECT {n} AS n' for n in range(101, 200))}) n WHERE w.id = %s",
        made["id"],
    )
    status, answer = await ask(site, "POST", "", {"name": "more", "url": "https://example.com/"})
    assert (status, "this owner has reached the limit of 100 webhooks" in answer["error"]["message"]) == (409, True)
    assert (await ask(site, "POST", "", {"name": "more", "url": "https://example.com/"}, other))[0] == 200


async def test_a_key_for_certain_senders_needs_the_permission_by_name_and_sees_what_is_its_own(site: Site) -> None:
    body = {"name": "all", "url": "https://example.com/"}
    _, all_events = await ask(site, "POST", "", body)
    plain = {"X-API-Key": await site.keys.create("plain", senders=["a@example.com"])}
    assert (await ask(site, "GET", "", headers=plain))[0] == 403
    mine = {"X-API-Key": await site.keys.create("mine", senders=["a@example.com"], permissions=[Permission.WEBHOOKS])}
    assert await ask(site, "GET", "", headers=mine) == (200, {"webhooks": []})
    status, made = await ask(site, "POST", "", {**body, "name": "mine"}, mine)
    assert (status, made["senders"]) == (200, ["a@example.com"])
    for senders, status in ((["b@example.com"], 403), (["a@example.com", "b@example.com"], 403)):
        assert (await ask(site, "POST", "", {**body, "name": "x", "senders": senders}, mine))[0] == status
        assert (await ask(site, "PATCH", f"/{made['id']}", {"senders": senders}, mine))[0] == status
    _, changed = await ask(site, "PATCH", f"/{made['id']}", {"senders": None}, mine)
    assert changed["senders"] == ["a@example.com"], "it cannot widen what it hears"
    for method, path in (("GET", ""), ("DELETE", ""), ("GET", "/deliveries"), ("POST", "/test"), ("POST", "/rotate")):
        assert (await ask(site, method, f"/{all_events['id']}{path}", headers=mine))[0] == 404
    assert len((await ask(site, "GET", ""))[1]["webhooks"]) == 2


async def test_a_key_tests_one_at_a_time(open_site: Site) -> None:
    release = asyncio.Event()

    async def hangs(_: Receiver, __: asyncio.StreamWriter) -> None:
        await release.wait()

    async with receiving() as slow:
        slow.behaviour = hangs
        _, made = await ask(open_site, "POST", "", {"name": "slow", "url": slow.url})
        first = asyncio.create_task(ask(open_site, "POST", f"/{made['id']}/test"))
        await asyncio.wait_for(slow.came.wait(), PATIENCE)
        status, answer = await ask(open_site, "POST", f"/{made['id']}/test")
        assert (status, answer["error"]["code"]) == (429, "share_used_up")
        status, answer = await first
        assert (status, answer["delivered"], answer["error"]) == (200, False, "no response within 3 s")
        release.set()


@pytest.mark.parametrize(
    "method, path, body",
    [("POST", "/test", None), ("POST", "/rotate", {"overlap": 60}), ("PATCH", "", {"name": "b"}), ("DELETE", "", None)],
)
async def test_one_that_is_removed_while_it_is_asked_is_not_found(
    site: Site, monkeypatch: pytest.MonkeyPatch, method: str, path: str, body: object
) -> None:
    _, made = await ask(site, "POST", "", {"name": "a", "url": "https://example.com/"})
    find = Webhooks.find

    async def found_and_removed(it: Webhooks, *given: Any, **options: Any) -> Webhook:
        found = await find(it, *given, **options)
        await it.remove(found.id, actor="test")
        return found

    monkeypatch.setattr(Webhooks, "find", found_and_removed)
    status, answer = await ask(site, method, f"/{made['id']}{path}", body)
    assert (status, answer["error"]["code"]) == (404, "not_found")


async def test_a_key_without_the_permission_is_refused_everywhere(site: Site) -> None:
    reads = {"X-API-Key": await site.keys.create("reads", permissions=[Permission.READ])}
    for method, path in (("GET", ""), ("POST", ""), ("GET", "/x"), ("PATCH", "/x"), ("POST", "/x/test")):
        async with site.client.request(method, f"{site.url}/api/webhooks{path}", headers=reads) as response:
            assert response.status == 403
    async with aiohttp.ClientSession() as nobody, nobody.get(f"{site.url}/api/webhooks") as response:
        assert response.status == 401
