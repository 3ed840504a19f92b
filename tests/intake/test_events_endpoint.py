"""`GET /api/events` and its stream: a client that comes again misses nothing, and a key sees what is its own."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from mailerd.core.webhooks import EventType
from mailerd.intake.response_models import FeedEventOut, FeedStreamOut
from mailerd.store.write.api_keys import Permission
from mailerd.store.write.event_feed import NewEvent, insert_events
from tests.intake.site import Build, Site, event, job, with_aliases
from tests.support.heard import PATIENCE


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mailerd.intake.events_endpoint.POLL_INTERVAL", 0.05)


async def happen(site: Site, *senders: str | None, type_: EventType = EventType.JOB_PAUSED) -> None:
    for sender in senders:
        (count,) = (await site.rows("SELECT COUNT(*) FROM events"))[0]
        made = NewEvent(type_, f"{count}", {"sender_email": sender}, sender=sender)
        statement, values = insert_events([made])
        await site.rows(statement, *values)


@asynccontextmanager
async def stream(
    site: Site, query: str = "", path: str = "/api/events/stream", **headers: str
) -> AsyncIterator[aiohttp.ClientResponse]:
    async with site.client.get(f"{site.url}{path}{query}", headers=headers) as response:
        assert (response.status, response.headers["Content-Type"]) == (200, "text/event-stream")
        yield response


async def test_what_a_client_asks_of_a_job_is_there_at_its_next_look(site: Site) -> None:
    status, posted = await site.post(job())
    assert status == 200
    async with site.client.post(f"{site.url}/api/jobs/{posted['job_id']}/pause") as response:
        assert response.status == 200
    status, page = await site.get("/api/events")
    assert (status, page["next_after"]) == (200, 1)
    (first,) = page["events"]
    FeedEventOut.model_validate(first)
    assert (first["id"], first["type"], first["job_id"]) == (1, "job.paused", posted["job_id"])
    assert first["data"]["actor"] == "key test"
    assert await site.get("/api/events?after=1") == (200, {"events": [], "next_after": 1})


async def test_pages_are_of_the_size_and_the_types_that_are_asked_for(site: Site) -> None:
    await happen(site, "a@example.com", "a@example.com")
    await happen(site, "a@example.com", type_=EventType.JOB_CANCELLED)
    _, page = await site.get("/api/events?limit=2")
    assert ([it["id"] for it in page["events"]], page["next_after"]) == ([1, 2], 2)
    _, page = await site.get("/api/events?types=job.cancelled,job.finished")
    assert ([it["id"] for it in page["events"]], page["next_after"]) == ([3], 3)


@pytest.mark.parametrize(
    "query", ["after=x", "after=-1", "after=1234567890123456789", "types=job.lost", "limit=0", "limit=1001", "before=1"]
)
async def test_a_wrong_parameter_is_named(site: Site, query: str) -> None:
    status, answer = await site.get(f"/api/events?{query}")
    assert (status, answer["error"]["details"][0]["field"]) == (422, query.partition("=")[0])


async def test_an_id_that_the_database_does_not_know_is_a_conflict(site: Site) -> None:
    await happen(site, "a@example.com")
    for path in ("/api/events", "/api/events/stream"):
        status, answer = await site.get(f"{path}?after=9")
        assert (status, answer["error"]["code"]) == (409, "unknown_position")


async def test_a_key_for_certain_senders_sees_their_events_only(site: Site) -> None:
    await happen(site, "a@example.com", "b@example.com", None, "a@example.com")
    mine = {"X-API-Key": await site.keys.create("mine", senders=["a@example.com"])}
    _, page = await site.get("/api/events", headers=mine)
    assert [(it["id"], it["sender_email"]) for it in page["events"]] == [(1, "a@example.com"), (4, "a@example.com")]
    assert [it["id"] for it in (await site.get("/api/events"))[1]["events"]] == [1, 2, 3, 4]
    async with stream(site, **mine) as response:
        assert [(await event(response))["id"] for _ in range(2)] == ["1", "4"]
        await happen(site, "b@example.com", "a@example.com")
        assert (await event(response))["id"] == "6"


async def test_the_events_of_a_job_are_those_of_the_alias_that_it_was_posted_for(build: Build, tmp_path: Path) -> None:
    site = await build(senders=with_aliases(tmp_path, {"sales@shop.example": "me@example.com"}))
    ids = {}
    for sender in ("sales@shop.example", "me@example.com"):
        _, answer = await site.post(job(sender_email=sender))
        ids[sender] = answer["job_id"]
        async with site.client.post(f"{site.url}/api/jobs/{answer['job_id']}/cancel") as response:
            assert response.status == 200
    for sender, id_ in ids.items():
        mine = {"X-API-Key": await site.keys.create(sender, senders=[sender])}
        _, page = await site.get("/api/events", headers=mine)
        found = [(it["type"], it["job_id"], it["sender_email"]) for it in page["events"]]
        assert found == [("job.cancelled", id_, sender), ("job.finished", id_, sender)]


async def test_a_key_that_may_not_read_gets_nothing(site: Site) -> None:
    other = {"X-API-Key": await site.keys.create("sends", permissions=[Permission.SEND])}
    for path in ("/api/events", "/api/events/stream"):
        assert (await site.get(path, headers=other))[0] == 403


async def test_a_stream_that_broke_is_taken_up_where_it_was(site: Site) -> None:
    await happen(site, "a@example.com", "a@example.com")
    async with stream(site, "?limit=1") as response:
        told = await event(response)
        FeedStreamOut.model_validate(told)
        assert (told["event"], told["id"]) == ("job.paused", "1")
        shown: dict[str, Any] = json.loads(told["data"])
        assert (shown["id"], shown["sender_email"]) == (1, "a@example.com")
    async with stream(site, "?after=0", **{"Last-Event-ID": "1"}) as response:
        assert (await event(response))["id"] == "2"
        await happen(site, "a@example.com")
        assert (await event(response))["id"] == "3"


async def test_a_client_that_accepts_a_stream_gets_it_at_the_path_of_the_pages_too(site: Site) -> None:
    await happen(site, "a@example.com", "a@example.com")
    asked = {"Accept": "text/event-stream", "Last-Event-ID": "1"}
    told = []
    for path, headers in (("/api/events", asked), ("/api/events/stream", {"Last-Event-ID": "1"})):
        async with stream(site, path=path, **headers) as response:
            told.append(await event(response))
    assert told[0] == told[1]
    assert told[0]["id"] == "2"


async def test_a_stream_ends_when_its_key_is_revoked(site: Site) -> None:
    mine = {"X-API-Key": await site.keys.create("mine")}
    async with stream(site, **mine) as response:
        await site.keys.revoke("mine")
        await asyncio.wait_for(response.content.read(), PATIENCE)
