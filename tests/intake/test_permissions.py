"""What a key may do, how often, and how it is replaced without a gap."""

import asyncio
import socket
import time
from datetime import timedelta
from typing import Any

import pytest

from mailerd.config import IntakeSettings
from mailerd.errors import ListenError
from mailerd.http.auth import MAX_FAILURES_PER_MINUTE, ClientAddress, TokenBuckets, networks
from mailerd.intake.api import Intake
from mailerd.store.write.api_keys import Permission
from tests.intake.site import Build, Site, job, new_intake
from tests.intake.test_auth import SteppedClock
from tests.support.heard import PATIENCE
from tests.support.own_time import at_this_speed

NOBODY = "01ARZ3NDEKTSV4RRFFQ69G5FAV"


async def tried(site: Site, headers: dict[str, str]) -> dict[str, int]:
    """The status of one call of each kind."""
    async with site.client.post(f"{site.url}/api/jobs/{NOBODY}/cancel", headers=headers) as response:
        control = response.status
    return {
        "send": (await site.post(job(), headers=headers))[0],
        "read": (await site.get("/api/jobs", headers=headers))[0],
        "control": control,
    }


@pytest.mark.parametrize("call", Permission)
async def test_a_key_for_one_call_may_not_make_another(site: Site, call: Permission) -> None:
    headers = {"X-API-Key": await site.keys.create("narrow", permissions=[call])}
    good = {"send": 200, "read": 200, "control": 404}

    assert await tried(site, headers) == {each: good[each] if each == call else 403 for each in good}


async def test_a_refused_call_says_what_the_key_is_for(site: Site) -> None:
    headers = {"X-API-Key": await site.keys.create("narrow", permissions=[Permission.READ])}
    status, answer = await site.post(job(), headers=headers)

    assert (status, answer["error"]["code"]) == (403, "call_not_allowed")
    assert "'narrow' has the permissions read; this call needs send" in answer["error"]["message"]
    assert await site.stored() == (0, 0)


async def test_a_key_that_comes_too_often_gets_429_and_is_told_when_to_come(build: Build) -> None:
    clock = SteppedClock()
    site = await build(clock=clock)
    headers = {"X-API-Key": await site.keys.create("slow", per_minute=3)}
    assert [(await site.get("/api/jobs", headers=headers))[0] for _ in range(4)] == [200, 200, 200, 429]
    async with site.client.get(f"{site.url}/api/jobs", headers=headers) as response:
        assert response.headers["Retry-After"] == "20"
        assert (await response.json())["error"]["code"] == "too_fast"
    assert (await site.get("/api/jobs"))[0] == 200  # other keys do not mind
    clock.ahead += 20.1
    assert (await site.get("/api/jobs", headers=headers))[0] == 200


async def test_a_rotated_key_is_good_until_its_overlap_ends_and_dies_at_once_when_revoked(site: Site) -> None:
    old = {"X-API-Key": await site.keys.create("app", permissions=[Permission.READ])}
    new = {"X-API-Key": await site.keys.rotate("app", overlap=timedelta(hours=1))}

    async def both() -> list[int]:
        return [(await site.get("/api/jobs", headers=each))[0] for each in (old, new)]

    assert await both() == [200, 200]
    assert (await site.post(job(), headers=new))[0] == 403  # its limits are the same
    await site.rows("UPDATE api_keys SET old_until = UTC_TIMESTAMP(6) - INTERVAL 1 SECOND WHERE name = 'app'")
    assert await both() == [401, 200]
    await site.rows("UPDATE api_keys SET old_until = UTC_TIMESTAMP(6) + INTERVAL 1 HOUR WHERE name = 'app'")
    await site.keys.revoke("app")
    assert await both() == [401, 401]


async def test_failed_attempts_are_told_without_the_key(site: Site) -> None:
    await site.get("/api/jobs", headers={"X-API-Key": "sk_live_guess"})
    [refused] = site.heard.of("key_refused")

    assert refused == {"address": "127.0.0.1", "method": "GET", "path": "/api/jobs"}
    assert "guess" not in repr(site.heard.events)


async def test_an_address_that_guesses_is_shut_out_for_a_while_before_the_database_is_asked(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = SteppedClock()
    site = await build(clock=clock)
    asked = 0
    active = site.intake.auth._keys.active

    async def count(digest: bytes) -> Any:
        nonlocal asked
        asked += 1
        return await active(digest)

    monkeypatch.setattr(site.intake.auth._keys, "active", count)
    said = [
        (await site.get("/api/jobs", headers={"X-API-Key": f"x{number}"}))[0]
        for number in range(MAX_FAILURES_PER_MINUTE + 10)
    ]

    assert said == [401] * MAX_FAILURES_PER_MINUTE + [429] * 10
    assert asked == MAX_FAILURES_PER_MINUTE
    clock.ahead += 60
    assert (await site.get("/api/jobs"))[0] == 200


async def test_a_good_key_is_not_shut_out_by_the_bad_ones_of_its_neighbours(build: Build) -> None:
    site = await build(clock=SteppedClock())
    assert (await site.get("/api/jobs"))[0] == 200
    bad = [(await site.get("/api/jobs", headers={"X-API-Key": "x"}))[0] for _ in range(MAX_FAILURES_PER_MINUTE + 1)]

    assert bad[-1] == 429
    assert (await site.get("/api/jobs"))[0] == 200
    await site.keys.revoke("test")
    assert [(await site.get("/api/jobs"))[0] for _ in range(2)] == [401, 429]


async def test_a_good_key_that_was_never_used_is_not_shut_out_and_a_new_one_for_a_second(build: Build) -> None:
    clock = SteppedClock()
    site = await build(clock=clock)
    for number in range(MAX_FAILURES_PER_MINUTE + 10):
        await site.get("/api/jobs", headers={"X-API-Key": f"x{number}"})
    assert (await site.get("/api/jobs"))[0] == 200
    new = {"X-API-Key": await site.keys.create("new")}
    for _ in range(MAX_FAILURES_PER_MINUTE):  # the flood goes on
        clock.ahead += 1 / MAX_FAILURES_PER_MINUTE
        await site.get("/api/jobs", headers={"X-API-Key": "x"})
    clock.ahead += 0.1
    assert (await site.get("/api/jobs", headers=new))[0] == 200


async def test_requests_without_a_key_are_no_guesses(build: Build) -> None:
    site = await build(clock=SteppedClock())
    key = {"X-API-Key": site.key}
    del site.client.headers["X-API-Key"]
    said = {(await site.get("/api/jobs"))[0] for _ in range(MAX_FAILURES_PER_MINUTE + 10)}

    assert said == {401}
    assert (await site.get("/api/jobs", headers={"X-API-Key": "x"}))[0] == 401
    assert (await site.get("/api/jobs", headers=key))[0] == 200


async def test_the_access_log_says_who_asked_for_what(site: Site) -> None:
    _, answer = await site.post(job())
    told = await site.heard.wait_for("request_answered")

    assert (told["caller"], told["address"], told["method"], told["status"]) == ("test", "127.0.0.1", "POST", 200)
    assert told["size"] > 100
    assert told["request"] == site.heard.of("job_accepted")[0]["request"]
    assert site.key not in repr(site.heard.events)
    assert answer["job_id"]


class Asked:
    """As much of a request as counts here."""

    def __init__(self, peer: str | None, *forwarded: str) -> None:
        from multidict import CIMultiDict  # noqa: PLC0415

        self.remote = peer
        self.headers = CIMultiDict([("X-Forwarded-For", each) for each in forwarded])


@pytest.mark.parametrize(
    "trusted, peer, forwarded, address",
    [
        ("", "192.0.2.1", ["198.51.100.7"], "192.0.2.1"),  # nobody's word is taken
        ("192.0.2.1", "192.0.2.1", ["198.51.100.7"], "198.51.100.7"),
        ("192.0.2.0/24", "192.0.2.1", ["6.6.6.6, 198.51.100.7, 192.0.2.9"], "198.51.100.7"),  # a forged left end
        ("192.0.2.0/24", "192.0.2.1", ["6.6.6.6", "198.51.100.7"], "198.51.100.7"),
        ("192.0.2.0/24", "192.0.2.1", [], "192.0.2.1"),
        ("192.0.2.0/24", "192.0.2.1", ["<script>"], "192.0.2.1"),
        ("192.0.2.0/24", "203.0.113.5", ["198.51.100.7"], "203.0.113.5"),
        ("", None, ["198.51.100.7"], "unix"),
        ("127.0.0.1", None, ["198.51.100.7"], "198.51.100.7"),
        ("2001:db8::/32", "2001:db8::1", ["2001:4860::1"], "2001:4860::1"),
    ],
)
def test_only_trusted_proxies_are_believed(trusted: str, peer: str | None, forwarded: list[str], address: str) -> None:
    assert ClientAddress(networks(trusted)).address(Asked(peer, *forwarded)) == address  # type: ignore[arg-type]


def test_a_bucket_fills_steadily_and_is_forgotten_when_it_is_full() -> None:
    rates = TokenBuckets()
    assert [rates.wait("a", per_minute=2, now=0.0) for _ in range(3)] == [0.0, 0.0, 30.0]
    assert rates.wait("a", per_minute=2, now=29.0) > 0
    assert rates.wait("a", per_minute=2, now=31.0) == 0.0
    for number in range(20_000):
        rates.wait(number, per_minute=2, now=100.0 + number)
    assert len(rates._buckets) < 11_000


def test_many_addresses_within_a_minute_cost_no_more_each_than_a_few() -> None:
    rates, began = TokenBuckets(), time.process_time()
    for number in range(20_000):
        rates.wait(f"2001:db8::{number:x}", per_minute=60, now=number / 1000)
    assert time.process_time() - began < at_this_speed(1.0)
    rates.wait("one more", per_minute=60, now=1000.0)
    for number in range(20_000):
        rates.wait(number, per_minute=60, now=1000.0)
    assert len(rates._buckets) <= 20_001, "those of before are forgotten"
    rates.wait("two minutes later", per_minute=60, now=1120.0)
    assert len(rates._buckets) == 1, "and those of a flood do not stay for good"


async def test_it_listens_on_a_socket_file_for_its_group(build: Build, tmp_path: Any) -> None:
    import aiohttp  # noqa: PLC0415

    path = tmp_path / "mailerd.sock"
    settings = IntakeSettings(unix_socket=str(path), trusted_proxies="127.0.0.1")
    site = await build()

    def intake() -> Intake:
        return new_intake(site.database, site.heard, site.wakeups, settings, patience=5)

    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(str(path))
    async with intake().serve() as addresses:
        assert addresses == []
        assert path.stat().st_mode & 0o777 == 0o660
        async with (
            aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(path))) as client,
            client.get("http://x/api/jobs", headers={"X-API-Key": "no", "X-Forwarded-For": "198.51.100.7"}) as response,
        ):
            assert response.status == 401
        with pytest.raises(ListenError, match="another program is listening there, such as another mailerd"):
            await intake().serve().__aenter__()
        with socket.socket(socket.AF_UNIX) as client_of_the_first:
            client_of_the_first.connect(str(path))
    assert site.heard.of("key_refused")[-1]["address"] == "198.51.100.7"
    assert f"unix:{path}" in site.heard.of("intake_listening")[-1]["where"]


async def is_cut(reader: asyncio.StreamReader) -> None:
    with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
        await asyncio.wait_for(reader.readexactly(1), PATIENCE)


async def test_a_connection_that_never_asks_is_closed(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mailerd.http.server.FIRST_REQUEST_TIMEOUT", 0.2)
    site = await build()
    host, _, port = site.url.removeprefix("http://").partition(":")
    for said in (b"", b"GET /health/live HTTP/1.1\r\nHost: x\r\nX-Slow: "):
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(said)
        await is_cut(reader)
        writer.close()
    assert site.heard.of("connection_too_slow")[0]["address"] == "127.0.0.1"


@pytest.mark.parametrize("most, files", [(4, 1024), (1000, 39)])
async def test_of_too_many_connections_those_that_ask_nothing_are_closed(
    build: Build, monkeypatch: pytest.MonkeyPatch, most: int, files: int
) -> None:
    """A thousand of them took all files of a daemon, and it reached Google no more."""
    monkeypatch.setattr("mailerd.http.server.MAX_CONNECTIONS", most)
    monkeypatch.setattr("mailerd.http.server.resource.getrlimit", lambda _: (files, files))
    monkeypatch.setattr("mailerd.http.server.FIRST_REQUEST_TIMEOUT", 60.0)
    site = await build()
    host, _, port = site.url.removeprefix("http://").partition(":")
    silent = [await asyncio.open_connection(host, int(port)) for _ in range(12)]

    assert "more than 4 connections" in (await site.heard.wait_for("connection_too_slow"))["reason"]
    for reader, _ in silent[:8]:
        await is_cut(reader)
    newest, writer = silent[-1]
    writer.write(b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n")
    assert b"200 OK" in await asyncio.wait_for(newest.readline(), PATIENCE), "the newest may still ask"
    for _, each in silent:
        each.transport.abort()


async def test_what_is_being_served_goes_on_beside_too_many_connections(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mailerd.http.server.MAX_CONNECTIONS", 4)
    monkeypatch.setattr("mailerd.http.server.FIRST_REQUEST_TIMEOUT", 60.0)
    site = await build()
    _, posted = await site.post(job(), headers={"Connection": "close"})  # or this one, which is idle, were closed
    host, _, port = site.url.removeprefix("http://").partition(":")
    ask = f"GET /api/jobs/{posted['job_id']}/events HTTP/1.1\r\nHost: x\r\nX-API-Key: {site.key}\r\n\r\n"
    streams = [await asyncio.open_connection(host, int(port)) for _ in range(6)]
    for _, writer in streams:
        writer.write(ask.encode())
    _, silent = await asyncio.open_connection(host, int(port))
    await site.heard.wait_for("connection_too_slow")
    async with site.client.post(f"{site.url}/api/jobs/{posted['job_id']}/cancel") as cancelled:
        assert cancelled.status == 200
    for reader, writer in streams:
        assert await asyncio.wait_for(reader.readuntil(b"event: finished"), PATIENCE)
        writer.transport.abort()
    silent.transport.abort()


async def test_of_too_many_requests_whose_bodies_do_not_come_the_oldest_are_closed(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mailerd.http.server.MAX_CONNECTIONS", 2)
    monkeypatch.setattr("mailerd.http.server.FIRST_REQUEST_TIMEOUT", 60.0)
    site = await build()
    host, _, port = site.url.removeprefix("http://").partition(":")
    head = f"Host: x\r\nX-API-Key: {site.key}\r\nContent-Length: 9\r\n\r\n"
    begun = []
    for _ in range(7):
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(f"POST /api/jobs/send_template_emails HTTP/1.1\r\n{head}".encode())
        begun.append((reader, writer))
    assert "more than 4 requests in progress" in (await site.heard.wait_for("connection_too_slow"))["reason"]
    for reader, _ in begun[:3]:
        await is_cut(reader)
    reader, writer = begun[-1]
    writer.write(b"{}       ")
    assert b"422" in await asyncio.wait_for(reader.readline(), PATIENCE)
    for _, each in begun:
        each.transport.abort()


async def test_a_client_that_does_not_read_its_answer_is_given_up(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mailerd.http.responses.WRITE_TIMEOUT", 0.3)
    people = [{"email": f"r{n}@example.com", "name": "R" * 200} for n in range(1000)]
    _, posted = await site.post(job(*people))
    host, _, port = site.url.removeprefix("http://").partition(":")
    _, writer = await asyncio.open_connection(host, int(port), limit=1)
    ask = f"GET /api/jobs/{posted['job_id']}/recipients?limit=1000 HTTP/1.1\r\nHost: x\r\nX-API-Key: {site.key}\r\n\r\n"
    writer.write(ask.encode() * 40)  # more than the sockets' buffers hold
    told = await site.heard.wait_for("connection_too_slow")

    assert "not read within" in told["reason"]
    writer.transport.abort()
