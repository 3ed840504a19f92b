"""`mailerd send --url`: a table goes to a daemon over HTTP, once, without its configuration or its database."""

import asyncio
import os
import socket
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock, Mock

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from mailerd.cli import send_http
from mailerd.store.read.jobs import Jobs
from mailerd.store.write.api_keys import Permission
from tests.client.conftest import Place, place
from tests.support.prepared import PreparedProcess

__all__ = ["place"]


@dataclass(frozen=True)
class Table:
    """A table of people, and what forks commands."""

    path: Path
    prepared: PreparedProcess


@pytest.fixture
def table(tmp_path: Path, prepared: PreparedProcess) -> Table:
    (tmp_path / "people.csv").write_text("email,name,product\nada@example.org,Ada,tea\nbob@example.org,Bob,tea\n")
    (tmp_path / "twice.csv").write_text("email,name,product\nada@example.org,A,tea\nADA@example.org,A,tea\n")
    return Table(tmp_path / "people.csv", prepared)


async def send(place: Place, table: Table, *words: str, code: int = 0, **variables: str) -> str:
    return await send_to(place.url, table, *words, code=code, **variables)


async def send_to(url: str, table: Table, *words: str, code: int = 0, **variables: str) -> str:
    known = {name: value for name, value in os.environ.items() if not name.startswith(("MAILERD_", "DATABASE_"))}
    words = (table.path.name, "--sender", "me@example.com", "--url", url, *words)
    ended, out = await table.prepared.mailerd(
        "send", *words, cwd=table.path.parent, within=300, environment={**known, **variables}
    )
    assert ended == code, out.decode()
    return out.decode()


async def test_a_table_is_posted_once_and_watched_to_its_end(place: Place, table: Table) -> None:
    words = ("--template", "welcome")
    said = await send(place, table, *words, MAILERD_API_KEY=place.key)
    assert "2 messages from me@example.com" in said
    assert "completed, 2 sent" in said
    assert place.key not in said
    said = await send(place, table, *words, MAILERD_API_KEY=place.key, code=1)
    assert "this job was already posted as" in said
    assert await place.jobs() == 1
    await send(place, table, *words, "--again", "--no-wait", "--key", place.key)
    assert await place.jobs() == 2


async def test_a_key_that_may_only_post_has_posted(place: Place, table: Table) -> None:
    key = await place.keys.create("poster", permissions=[Permission.SEND])
    words = ("--template", "welcome")
    said = await send(place, table, *words, MAILERD_API_KEY=key)
    assert "2 messages from me@example.com" in said
    assert "This API key cannot show the progress of the job: that requires the permission `read`." in said
    assert "this job was already posted as" in await send(place, table, *words, MAILERD_API_KEY=key, code=1)
    assert await place.jobs() == 1


async def test_what_a_job_waits_for_is_said_while_it_is_watched(place: Place, table: Table) -> None:
    due = f"{datetime.now(UTC) + timedelta(days=1):%Y-%m-%dT%H:00:00Z}"
    process = await table.prepared.start(
        *("send", table.path.name, "--sender", "me@example.com", "--url", place.url),
        *("--template", "welcome", "--key", place.key, "--send-at", due),
        cwd=table.path.parent,
    )
    try:
        async with asyncio.timeout(60):
            assert b"2 messages from me@example.com" in await process.stdout.readline()
            assert (await process.stdout.readline()).startswith(b"Waiting: not due before ")
    finally:
        process.kill()
        await process.wait()


async def test_a_cause_of_wait_that_counts_down_is_said_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    causes = [
        "1,201 messages of the sender's other jobs are sent first",
        "1,200 messages of the sender's other jobs are sent first",
        "998 messages of the sender's other jobs are sent first",
        "1 message is unconfirmed: checked at Google at 22:59 UTC",
        "1 message is unconfirmed: checked at Google at 23:00 UTC", "the job is paused", None,
    ]  # fmt: skip
    shown = [
        {"total": 2, "progress": 0.5, "finished_at": None, "counts": {"sent": 1, "waiting": 1}, "status": "sending",
         "cause_of_wait": cause}
        for cause in causes
    ]  # fmt: skip
    shown.append({**shown[0], "status": "paused", "cause_of_wait": "the job is paused"})
    shown.append({**shown[0], "status": "cancelled", "cause_of_wait": None})
    shown.append({**shown[0], "progress": 1.0, "finished_at": "2026-12-01T09:00:00Z", "counts": {"sent": 2}})
    client = Mock(job=AsyncMock(side_effect=shown))
    monkeypatch.setattr(send_http, "_POLL_INTERVAL", 0)
    await send_http._watch(client, "J")
    assert capsys.readouterr().out.splitlines() == [
        "Waiting: 1,201 messages of the sender's other jobs are sent first.",
        "Waiting: 1 message is unconfirmed: checked at Google at 22:59 UTC.",
        "Waiting: the job is paused.",
        "Sending continues.",
        "Waiting: the job is paused.",
    ]


async def test_a_post_whose_answer_is_lost_is_this_commands_own_and_is_watched(place: Place, table: Table) -> None:
    lost = list[int]()

    async def carry(request: web.Request) -> web.Response:
        url, body = place.url + request.path_qs, await request.read()
        async with session.request(request.method, url, data=body, headers=request.headers) as it:
            headers = {
                name: it.headers[name] for name in ("Content-Type", "Idempotency-Replayed") if name in it.headers
            }
            answer = web.Response(status=it.status, body=await it.read(), headers=headers)
        if request.method == "POST" and not lost:
            lost.append(it.status)
            assert request.transport is not None
            request.transport.abort()
        return answer

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", carry)
    async with aiohttp.ClientSession() as session, TestServer(app) as proxy:
        said = await send_to(str(proxy.make_url("")), table, "--template", "welcome", MAILERD_API_KEY=place.key)
    assert lost == [200]
    assert "already exists: posted by this command (its response was lost) or by an earlier one" in said
    assert "completed, 2 sent" in said
    assert await place.jobs() == 1


async def test_a_template_whose_version_cannot_be_had_now_lets_nothing_be_posted_twice(
    place: Place, table: Table
) -> None:
    async def carry(request: web.Request) -> web.Response:
        if request.path == "/api/templates":
            return web.json_response({"error": {"code": "internal", "message": "a bug", "details": []}}, status=500)
        async with session.request(
            request.method, place.url + request.path_qs, data=await request.read(), headers=request.headers
        ) as it:
            return web.Response(status=it.status, body=await it.read(), content_type="application/json")

    words = ("--template", "welcome", "--no-wait")
    await send(place, table, *words, MAILERD_API_KEY=place.key)
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", carry)
    async with aiohttp.ClientSession() as session, TestServer(app) as proxy:
        said = await send_to(str(proxy.make_url("")), table, *words, code=1, MAILERD_API_KEY=place.key)
    assert "a bug (500 internal)" in said
    assert await place.jobs() == 1, "the same table with the same options is posted once"


async def test_a_key_whose_reads_are_slow_finds_its_daemon(
    place: Place, table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    newest, entered, go_on = Jobs.newest, asyncio.Event(), asyncio.Event()

    async def slow(jobs: Jobs, **options: Any) -> Any:
        entered.set()
        await go_on.wait()
        return await newest(jobs, **options)

    monkeypatch.setattr(Jobs, "newest", slow)
    async with aiohttp.ClientSession(place.url, headers={"X-API-Key": place.key}) as session:
        reads = [asyncio.create_task(session.get("/api/jobs")) for _ in range(2)]
        await entered.wait()
        sending = asyncio.create_task(
            send(place, table, "--template", "welcome", "--no-wait", MAILERD_API_KEY=place.key)
        )
        found = asyncio.create_task(place.heard.wait_for("probe_answered"))
        await asyncio.wait({sending, found}, return_when=asyncio.FIRST_COMPLETED)
        go_on.set()
        assert "2 messages from me@example.com" in await sending
        await found
        for each in reads:
            (await each).release()


async def test_a_dry_run_and_a_mistake_name_the_line(place: Place, table: Table) -> None:
    words = ("--template", "welcome", "--key", place.key)
    assert "2 of 2 messages can be sent" in await send(place, table, *words, "--dry-run")
    table = replace(table, path=table.path.with_name("twice.csv"))
    said = await send(place, table, *words, "--dry-run", code=1)
    assert "not valid: twice.csv row 3: ADA@example.org: duplicate of twice.csv row 2" in said
    assert "The job would be rejected: 1 of 2 rows is not valid. Nothing was stored." in said
    assert "twice.csv row 3, email: duplicate of" in await send(place, table, *words, code=1)
    said = await send(place, table, *words, "--skip-invalid", code=1)
    assert "skipped: twice.csv row 3" in said
    assert "1 sent, 1 failed" in said


async def test_a_dry_run_names_those_who_opted_out(place: Place, table: Table) -> None:
    body = {"suppressions": [{"email": "ada@example.org"}]}
    async with (
        aiohttp.ClientSession(headers={"X-API-Key": place.key}) as session,
        session.post(f"{place.url}/api/suppressions", json=body) as response,
    ):
        assert response.status == 200
    said = await send(place, table, "--template", "welcome", "--key", place.key, "--dry-run")
    assert "not sent: ada@example.org: the address is suppressed: manual" in said
    assert "1 of 2 messages can be sent" in said
    async with (
        aiohttp.ClientSession(headers={"X-API-Key": place.key}) as session,
        session.post(
            f"{place.url}/api/suppressions", json={"suppressions": [{"email": "bob@example.org"}]}
        ) as response,
    ):
        assert response.status == 200
    said = await send(place, table, "--template", "welcome", "--key", place.key, "--no-wait", code=1)
    assert "0 messages from me@example.com" in said


@pytest.mark.parametrize(
    "words, told",
    [
        (("--template", "welcome"), "--url requires an API key: export MAILERD_API_KEY"),
        (("--template", "./welcome", "--key", "k"), "with --url, --template must be a name, not a path"),
        (("--template", "welcome", "--key", "sk_live_x"), "unauthorized"),
        (("--template", "welcome", "--key", "k", "--url", "nowhere"), "not a valid address of mailerd"),
    ],
)
async def test_what_is_missing_is_told(place: Place, table: Table, words: tuple[str, ...], told: str) -> None:
    said = await send(place, table, *words, code=1)
    assert told in said
    assert "Traceback" not in said


async def test_where_no_daemon_listens_each_try_is_told_and_the_end_comes_within_ten_seconds(table: Table) -> None:
    with socket.socket() as free:  # bound, so that no other program gets it, and it listens to none
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        nowhere = f"http://127.0.0.1:{port}"
        loading = time.monotonic()
        await send_to(nowhere, table, "--help")
        began = time.monotonic()
        said = await send_to(nowhere, table, "--template", "welcome", "--key", "sk_live_x", code=1)
    assert time.monotonic() - began < 10 + (began - loading)
    assert said.count("no response from http://127.0.0.1:") == 2
    assert "; retrying in 1 s\n" in said
    assert "; nothing was posted. Start `mailerd run` there, or correct --url" in said
