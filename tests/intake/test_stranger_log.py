"""A client without a key cannot fill the log: some of its requests are told, the others by their number."""

import asyncio
import socket
from contextlib import ExitStack

import pytest

from mailerd.errors import DatabaseAwayError
from mailerd.events.intake import IntakeEvents
from mailerd.http import auth, server
from mailerd.http.auth import PER_MINUTE, TOGETHER, StrangerLog
from mailerd.store.write.api_keys import ApiKeys
from tests.intake.site import Site, job
from tests.support.heard import PATIENCE, Heard
from tests.support.ticking import Ticking

MANY = 3 * PER_MINUTE


async def test_requests_without_a_key_are_told_one_by_one_up_to_a_bound_and_then_by_their_number(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auth, "SUMMARY_INTERVAL", 0.5)
    for _ in range(MANY):
        async with site.client.get(f"{site.url}/api/jobs", headers={"X-API-Key": "sk_live_guess"}) as response:
            assert response.status in {401, 429}
    told = await site.heard.wait_for("requests_not_logged")
    logged = len(site.heard.of("request_answered"))
    assert PER_MINUTE <= logged <= PER_MINUTE + 30
    assert len(site.heard.of("request_refused")) == logged
    assert len(site.heard.of("key_refused")) <= logged
    assert (told["addresses"], told["address"]) == (1, "127.0.0.1")
    assert sum(each["count"] for each in site.heard.of("requests_not_logged")) <= MANY - logged
    assert len(site.heard.of("anonymous_answered")) == MANY - logged, "the metrics count them all the same"


async def test_bytes_that_are_no_http_are_bounded_too(site: Site) -> None:
    host, _, port = site.url.removeprefix("http://").partition(":")
    for _ in range(MANY):
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"GARBAGE\r\n\r\n")
        await asyncio.wait_for(reader.read(), PATIENCE)
        writer.close()
    assert PER_MINUTE <= len(site.heard.of("request_malformed")) <= PER_MINUTE + 30


async def test_answers_that_are_not_read_are_bounded_too(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mailerd.http.responses.WRITE_TIMEOUT", 0.3)
    host, _, port = site.url.removeprefix("http://").partition(":")
    with ExitStack() as open_:
        for _ in range(MANY):
            client = open_.enter_context(socket.create_connection((host, int(port))))
            client.sendall(b"GET /docs HTTP/1.1\r\nHost: x\r\n\r\n" * 100)  # more than the sockets' buffers hold
            await asyncio.sleep(0)
        await asyncio.sleep(3)
    assert len(site.heard.of("connection_too_slow")) <= PER_MINUTE


async def test_whoever_has_a_key_is_always_told(site: Site) -> None:
    for _ in range(MANY):
        async with site.client.get(f"{site.url}/nowhere", headers={"X-API-Key": ""}):
            pass
    before = len(site.heard.of("request_answered"))
    status, _ = await site.post(job())
    assert (status, await site.get("/api/jobs/none"))[0] == 200
    assert len(site.heard.of("request_answered")) == before + 2
    assert len(site.heard.of("job_accepted")) == 1


async def test_a_good_key_is_no_stranger_while_the_database_is_unavailable(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    await site.get("/api/jobs")

    async def nothing(*_: object) -> None:
        cause = ConnectionRefusedError(111, "Connection refused")
        raise DatabaseAwayError("keys.find", phase="connect", cause=cause, errno=2003, retry=True, in_doubt=False)

    monkeypatch.setattr(ApiKeys, "active", nothing)
    before = len(site.heard.of("request_answered"))
    for _ in range(MANY):
        assert (await site.get("/api/jobs"))[0] == 503
    logged = site.heard.of("request_answered")[before:]
    assert [each["caller"] for each in logged] == ["test"] * MANY
    async with site.client.get(f"{site.url}/api/jobs", headers={"X-API-Key": "sk_live_guess"}) as response:
        assert response.status == 503
    assert site.heard.of("request_answered")[-1]["caller"] == "anonymous"


async def test_what_was_not_logged_is_told_at_the_end_of_any_listener() -> None:
    heard = Heard()
    it = StrangerLog(events=IntakeEvents(heard), clock=Ticking())
    with server.server_log(it, name="of the test"):
        assert [it.logs("192.0.2.7") for _ in range(PER_MINUTE + 20)].count(False) == 20
    assert [each["count"] for each in heard.of("requests_not_logged")] == [20]


async def test_many_addresses_together_have_a_bound_too_and_it_fills_again() -> None:
    heard, clock = Heard(), Ticking()
    it = StrangerLog(events=IntakeEvents(heard), clock=clock)
    logged = [it.logs(f"192.0.2.{number % 250}") for number in range(2 * TOGETHER)]
    assert sum(logged) == TOGETHER
    it.log_summary()
    assert [(each["count"], each["addresses"]) for each in heard.of("requests_not_logged")] == [(TOGETHER, 250)]
    await clock.move(2)
    assert it.logs("198.51.100.7")
