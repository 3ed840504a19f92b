"""Server-sent events: every change is seen, a broken connection is taken up again, and a stop does not wait."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from mailerd.intake.openapi import document
from mailerd.intake.response_models import EventOut
from tests.intake.site import Build, Site, event, new_intake
from tests.support.heard import PATIENCE

MANY = [{"email": f"r{number}@example.com", "name": "R"} for number in range(3)]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mailerd.intake.events_endpoint.POLL_INTERVAL", 0.05)


@asynccontextmanager
async def stream(site: Site, job_id: str, last: str = "") -> AsyncIterator[aiohttp.ClientResponse]:
    headers = {"Last-Event-ID": last} if last else {}
    async with site.client.get(f"{site.url}/api/jobs/{job_id}/events", headers=headers) as response:
        yield response


async def posted(site: Site, *people: Any) -> str:
    return await site.posted(*(people or MANY))


async def finish(site: Site) -> None:
    await site.rows("UPDATE job_recipients SET status = 'sent', sent_at = updated_at WHERE status <> 'sent'")
    await site.rows("UPDATE jobs SET status = 'completed', finished_at = created_at")


async def test_progress_is_told_as_it_comes_and_the_end_ends_the_stream(site: Site) -> None:
    job_id = await posted(site)
    async with stream(site, job_id) as response:
        assert response.headers["Content-Type"] == "text/event-stream"
        assert '"waiting":3' in (await event(response))["data"]
        await site.rows("UPDATE job_recipients SET status = 'sent' WHERE seq = 0")
        told = await event(response)
        assert (told["event"], '"sent":1' in told["data"]) == ("progress", True)
        await finish(site)
        told = await event(response)
        while told["event"] != "finished":
            told = await event(response)
        assert '"sent":3' in told["data"]
        assert await asyncio.wait_for(response.content.read(), PATIENCE) == b""
    async with stream(site, job_id, told["id"]) as response:
        assert response.status == 204  # whoever has seen the end need not come again


async def test_a_dropped_connection_is_taken_up_again_and_nothing_comes_twice(site: Site) -> None:
    job_id = await posted(site)
    async with stream(site, job_id) as response:
        last = (await event(response))["id"]
        response.close()
    async with stream(site, job_id, last) as response:  # nothing has changed: nothing is repeated
        await site.rows("UPDATE job_recipients SET status = 'failed', error = 'x' WHERE seq = 1")
        told = await event(response)
        assert '"failed":1' in told["data"]
        last = told["id"]
        response.close()
    await finish(site)  # while nobody listens
    async with stream(site, job_id, last) as response:
        told = await event(response)
        assert told["event"] == "finished"
        assert '"sent":3' in told["data"]


async def test_a_pause_of_the_sender_and_a_message_that_came_back_are_told_too(site: Site) -> None:
    job_id = await posted(site)
    async with asyncio.timeout(60), stream(site, job_id) as response:
        assert json.loads((await event(response))["data"])["cause_of_wait"] is None
        await site.rows(
            "UPDATE senders SET paused_until = '9999-01-01', pause_cause = 'manual', pause_reason = 'moving'"
        )
        told = await event(response)
        assert "moving" in json.loads(told["data"])["cause_of_wait"]
        await site.rows("UPDATE senders SET paused_until = NULL")
        assert json.loads((await event(response))["data"])["cause_of_wait"] is None
        await site.rows("UPDATE jobs SET bounced = 1")
        told = await event(response)
        assert (told["event"], json.loads(told["data"])["bounced"]) == ("progress", 1)
        response.close()
    async with stream(site, job_id, told["id"]) as response:  # nothing has changed: nothing is repeated
        await site.rows("UPDATE jobs SET replied = 1")
        assert json.loads((await event(response))["data"])["replied"] == 1
        response.close()


@pytest.mark.parametrize("reconnects", [False, True])
async def test_the_end_of_a_cancelled_job_is_told_though_its_last_message_ended_before(
    site: Site, *, reconnects: bool
) -> None:
    """The messages are settled in one transaction, and the job is finished in another one, up to half a minute
    later."""
    job_id = await posted(site)
    await site.rows("UPDATE job_recipients SET status = 'sent', sent_at = updated_at")
    await site.rows("UPDATE jobs SET status = 'cancelled', next_claim_at = NULL")
    async with stream(site, job_id) as response:
        told = await event(response)
        assert told["event"] == "progress"
        if reconnects:
            response.close()
        await site.rows("UPDATE jobs SET finished_at = created_at")
        rest = b"" if reconnects else await asyncio.wait_for(response.content.read(), PATIENCE)
    if reconnects:
        async with stream(site, job_id, told["id"]) as response:
            rest = await asyncio.wait_for(response.content.read(), PATIENCE)
    assert b"event: finished" in rest


async def test_many_who_watch_a_job_ask_the_database_once(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mailerd.intake.events_endpoint.POLL_INTERVAL", 0.3)
    job_id = await posted(site)
    asked = 0
    read = site.intake.jobs.job

    async def count(one: str) -> Any:
        nonlocal asked
        asked += 1
        return await read(one)

    streams = [stream(site, job_id) for _ in range(10)]
    responses = [await each.__aenter__() for each in streams]
    for each in responses:
        await event(each)
    monkeypatch.setattr(site.intake.jobs, "job", count)
    await site.rows("UPDATE job_recipients SET status = 'sent' WHERE seq = 0")
    for each in responses:
        await event(each)
    assert asked <= 3
    for one in streams:
        await one.__aexit__(None, None, None)


async def test_a_revoked_key_ends_its_streams(build: Build) -> None:
    site = await build()
    job_id = await posted(site)
    async with stream(site, job_id) as response:
        await event(response)
        await site.keys.revoke("test")
        assert await asyncio.wait_for(response.content.read(), PATIENCE) == b""


async def test_a_stop_does_not_wait_for_streams(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mailerd.http.server.GRACE", 60.0)
    site = await build()
    job_id = await posted(site)
    addresses: asyncio.Queue[Any] = asyncio.Queue()
    serving = asyncio.create_task(new_intake(site.database, site.heard, site.wakeups).run(started=addresses.put_nowait))
    [(host, port)] = await addresses.get()
    async with site.client.get(f"http://{host}:{port}/api/jobs/{job_id}/events") as response:
        await event(response)
        started = asyncio.get_running_loop().time()
        serving.cancel()
        await asyncio.wait([serving])
        assert asyncio.get_running_loop().time() - started < 30


async def test_every_event_is_as_the_openapi_document_describes_it(site: Site) -> None:
    described = document()["paths"]["/api/jobs/{id}/events"]["get"]["responses"]["200"]["content"]["text/event-stream"]
    assert described["schema"]["anyOf"] == [{"$ref": "#/components/schemas/EventOut"}, {"type": "string"}]
    schema = document()["components"]["schemas"]["EventOut"]
    assert set(schema["required"]) == {"event", "id", "data"}
    job_id = await posted(site)
    kinds = set()
    async with stream(site, job_id) as response:
        while "finished" not in kinds:
            told = await event(response)
            EventOut.model_validate(told)
            kinds.add(told["event"])
            await finish(site)
    assert kinds == {"progress", "finished"}


async def test_silence_is_broken_by_a_comment(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mailerd.intake.events_endpoint.COMMENT_INTERVAL", 0.1)
    job_id = await posted(site)
    async with stream(site, job_id) as response:
        await event(response)
        assert await asyncio.wait_for(response.content.readuntil(b"\n\n"), PATIENCE) == b": still here\n\n"


async def test_a_client_that_leaves_its_stream_is_no_bug(site: Site) -> None:
    job_id = await posted(site)
    async with stream(site, job_id) as response:
        await event(response)
        assert response.connection is not None
        assert response.connection.transport is not None
        response.connection.transport.abort()
    await site.rows("UPDATE job_recipients SET status = 'sent' WHERE seq = 0")
    told = await site.heard.wait_for("request_answered", times=2)
    assert (told["path"], told["status"]) == (f"/api/jobs/{job_id}/events", 200)
    assert site.heard.of("request_failed") == []
    assert site.heard.of("connection_too_slow") == []


async def test_a_client_that_does_not_read_its_stream_is_told_as_that_and_cut_off(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = await posted(site)
    async with stream(site, job_id) as response:
        await event(response)

        async def hang(*_: object) -> None:
            await asyncio.sleep(60)

        monkeypatch.setattr("mailerd.intake.events_endpoint.WRITE_TIMEOUT", 0.05)
        monkeypatch.setattr(web.StreamResponse, "write", hang)
        await site.rows("UPDATE job_recipients SET status = 'sent' WHERE seq = 0")
        with pytest.raises(aiohttp.ClientError):
            await asyncio.wait_for(response.content.read(), PATIENCE)
    told = await site.heard.wait_for("connection_too_slow")
    assert told == {"address": "127.0.0.1", "reason": "the response was not read within 0.05 s"}
    assert site.heard.of("request_failed") == []
