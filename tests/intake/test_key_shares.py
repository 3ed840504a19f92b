"""What one key may use at once: its own posts wait in its own line, and another key's never wait for them."""

import asyncio
import io
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import aiohttp
import pytest

from mailerd.config import IntakeSettings
from mailerd.http.auth import KeyShare
from mailerd.http.errors import ApiError
from mailerd.intake.parse_job import ParsedJob, parse_job
from mailerd.store.write.api_keys import ApiKey, digest
from tests.intake.site import Build, Site, job
from tests.support.heard import PATIENCE

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def key(number: int) -> ApiKey:
    return ApiKey(
        id=number, name=f"k{number}", digest=b"", hint="", senders=None, permissions=None, per_minute=None,
        created_at=NOW, revoked_at=None, last_used_at=None, old_until=None,
    )  # fmt: skip


def share(*, per_key: int = 1, keys: int = 2, within: float = 5.0) -> KeyShare:
    return KeyShare("dry runs", per_key=per_key, keys=keys, within=within, setting="intake.dry_runs_per_key")


async def _turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_key_with_its_share_waits_and_another_key_does_not() -> None:
    it, done = share(), list[str]()

    async def work(name: str, number: int, until: asyncio.Event) -> None:
        async with it.place(key(number)):
            done.append(name)
            await until.wait()

    end, never = asyncio.Event(), asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(work("first", 1, end))
        tasks.create_task(work("second", 1, never))
        await _turns()
        other = tasks.create_task(work("other", 2, never))
        await _turns()
        assert done == ["first", "other"]
        end.set()
        await _turns()
        assert done == ["first", "other", "second"]
        never.set()
        await other


async def test_what_is_used_up_is_named_with_its_setting() -> None:
    it = share(within=0.01)
    async with it.place(key(1)):
        with pytest.raises(
            ApiError, match=r"'k1' has reached its share of concurrent dry runs: 1 \(intake\.dry_runs_per_key\)"
        ) as caught:
            async with it.place(key(1)):
                pass
        assert (caught.value.status, caught.value.code, caught.value.retry_after) == (429, "share_used_up", 5)
        async with it.place(key(2)):
            with pytest.raises(ApiError, match="all 2 places for dry runs are taken") as caught:
                async with it.place(key(3)):
                    pass
        assert (caught.value.status, caught.value.code, caught.value.retry_after) == (503, "busy", 5)


async def test_whoever_holds_the_fewest_comes_first() -> None:
    it, done = share(per_key=2), list[str]()

    async def work(name: str, number: int) -> None:
        async with it.place(key(number)):
            done.append(name)
            await _turns()

    async with asyncio.TaskGroup() as tasks, AsyncExitStack() as held:
        for number in (1, 1, 2, 2):
            await held.enter_async_context(it.place(key(number)))
        waiting = [tasks.create_task(work(name, number)) for name, number in (("1", 1), ("3a", 3), ("3b", 3))]
        await _turns()
        await held.aclose()
        await asyncio.wait(waiting)
    assert done == ["3a", "3b", "1"]


async def test_a_wait_that_is_given_up_leaves_no_place_taken() -> None:
    it = share(keys=1)
    async with it.place(key(1)):
        waiting = asyncio.create_task(_hold(it))
        await _turns()
    waiting.cancel()  # in the moment in which the place came
    await asyncio.wait([waiting])
    for _ in range(3):
        async with asyncio.timeout(60), it.place(key(1)):
            pass


async def _hold(it: KeyShare) -> None:
    async with it.place(key(1)):
        await asyncio.sleep(60)


@asynccontextmanager
async def body_that_never_comes(site: Site, size: int) -> AsyncIterator[None]:
    """A post whose body is waited for."""
    host, _, port = site.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(
        f"POST /api/jobs/send_template_emails HTTP/1.1\r\nHost: x\r\nX-API-Key: {site.key}\r\n"
        f"Expect: 100-continue\r\nContent-Length: {size}\r\n\r\n".encode()
    )
    assert b"100 Continue" in await asyncio.wait_for(reader.readline(), PATIENCE)
    try:
        yield
    finally:
        writer.close()
        await writer.wait_closed()


class Slow:
    """Reading that lasts until it is let go, for the posts of one key."""

    def __init__(self, key_name: str) -> None:
        self._key_name = key_name
        self._go_on = asyncio.Event()
        self.begun = asyncio.Semaphore(0)

    async def parse_job(self, raw: bytearray, **others: Any) -> ParsedJob:
        """In place of the intake's."""
        if others["key"].name == self._key_name:
            self.begun.release()
            async with asyncio.timeout(30):
                await self._go_on.wait()
        return await parse_job(raw, **others)

    def go_on(self) -> None:
        self._go_on.set()


@pytest.mark.parametrize("dry_run, at_once", [(True, 1), (False, 2)])
async def test_slow_posts_of_one_key_do_not_hold_up_the_post_of_another(
    site: Site, monkeypatch: pytest.MonkeyPatch, *, dry_run: bool, at_once: int
) -> None:
    other, slow = {"X-API-Key": await site.keys.create("other")}, Slow("test")
    monkeypatch.setattr("mailerd.intake.create_job.parse_job", slow.parse_job)
    posts = [asyncio.create_task(site.post(job(dry_run=dry_run))) for _ in range(8)]
    for _ in range(at_once):
        await asyncio.wait_for(slow.begun.acquire(), PATIENCE)
    try:
        for each in (False, True):
            async with asyncio.timeout(5):
                status, _ = await site.post(job(dry_run=each), headers=other)
            assert status == 200
        assert slow.begun.locked()  # no more of them than the share were begun
        assert not any(post.done() for post in posts)
    finally:
        slow.go_on()
    assert [status for status, _ in await asyncio.gather(*posts)] == [200] * 8


async def test_a_post_that_waits_too_long_for_its_keys_share_is_told_so(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mailerd.http.auth.SHARE_TIMEOUT", 0.2)
    site = await build(settings=IntakeSettings(port=0, checks_per_key=1))
    slow = Slow("test")
    monkeypatch.setattr("mailerd.intake.create_job.parse_job", slow.parse_job)
    first = asyncio.create_task(site.post(job()))
    await asyncio.wait_for(slow.begun.acquire(), PATIENCE)
    status, answer = await site.post(job())
    slow.go_on()
    assert (status, answer["error"]["code"]) == (429, "share_used_up")
    assert "intake.checks_per_key" in answer["error"]["message"]
    assert (await first)[0] == 200


async def test_the_streams_of_one_key_leave_those_of_another(build: Build) -> None:
    site = await build(settings=IntakeSettings(port=0, streams_per_key=2))
    other = {"X-API-Key": await site.keys.create("other")}
    _, posted = await site.post(job())
    path = f"{site.url}/api/jobs/{posted['job_id']}/events"
    async with AsyncExitStack() as streams:
        for _ in range(2):
            await streams.enter_async_context(site.client.get(path))
        async with site.client.get(path) as refused:
            told = (await refused.json())["error"]
            assert (refused.status, told["code"], refused.headers["Retry-After"]) == (429, "share_used_up", "5")
            assert "its share of concurrent event streams: 2 (" in told["message"]
            assert "stored" not in told["message"]
        async with site.client.get(path, headers=other) as theirs:
            assert theirs.status == 200


READS = [
    "/api/jobs", "/api/jobs/{id}", "/api/jobs/{id}/recipients", "/api/recipients?email=ada@example.com", "/api/events",
    "/api/suppressions", "/api/lists", "/api/jobs/{id}/actions", "/api/webhooks", "/api/webhooks/{hook}",
    "/api/webhooks/{hook}/deliveries", "/api/templates",
]  # fmt: skip


@pytest.mark.parametrize("path", READS)
async def test_a_key_reads_a_few_at_once_and_another_key_does_not_wait_for_it(
    build: Build, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setattr("mailerd.http.auth.SHARE_TIMEOUT", 0.3)
    site = await build(settings=IntakeSettings(port=0, reads_per_key=1))
    other = {"X-API-Key": await site.keys.create("other")}
    _, posted = await site.post(job())
    async with site.client.post(f"{site.url}/api/webhooks", json={"name": "a", "url": "https://a.example/"}) as made:
        path = path.format(id=posted["job_id"], hook=(await made.json())["id"])
    mine = await site.keys.active(digest(site.key))
    assert mine is not None
    async with site.intake.shares.reads.place(mine):
        status, answer = await site.get(path)
        assert (status, answer["error"]["code"]) == (429, "share_used_up")
        assert "its share of concurrent reads: 1 (intake.reads_per_key); try again" in answer["error"]["message"]
        assert (await site.get(path, headers=other))[0] == 200
    assert (await site.get(path))[0] == 200


async def test_more_posts_than_a_keys_share_are_refused_at_once_and_another_keys_is_not(build: Build) -> None:
    site = await build(settings=IntakeSettings(port=0, posts_per_key=2))
    other = {"X-API-Key": await site.keys.create("other")}
    async with AsyncExitStack() as open_:
        for _ in range(2):
            await open_.enter_async_context(body_that_never_comes(site, 100))
        status, answer = await site.post(job())
        assert (status, answer["error"]["code"]) == (429, "share_used_up")
        assert "has reached its share of concurrent posts: 2 (" in answer["error"]["message"]
        assert (await site.post(job(), headers=other))[0] == 200


async def test_large_bodies_of_one_key_leave_a_place_for_another(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mailerd.http.auth.SHARE_TIMEOUT", 0.3)
    site = await build()
    other = {"X-API-Key": await site.keys.create("other")}
    whole = json.dumps(job(variables={"product": "x", "note": "x" * 1_200_000})).encode()
    async with body_that_never_comes(site, len(whole)):
        assert (await site.post_bytes(io.BytesIO(whole), headers=other))[0] == 200
        status, answer = await site.post_bytes(io.BytesIO(whole))
    assert (status, answer["error"]["code"]) == (429, "share_used_up")
    assert "its share of concurrent bodies above 1 MiB: 1 (" in answer["error"]["message"]


async def test_a_share_that_is_used_up_says_when_to_come_again(build: Build) -> None:
    site = await build(settings=IntakeSettings(port=0, streams_per_key=1))
    _, posted = await site.post(job())
    path = f"{site.url}/api/jobs/{posted['job_id']}/events"
    async with site.client.get(path), site.client.get(path) as refused:
        assert isinstance(refused, aiohttp.ClientResponse)
        assert int(refused.headers["Retry-After"]) >= 1
