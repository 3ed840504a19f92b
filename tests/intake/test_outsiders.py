"""What strangers, proxies and other tenants try: small things, each refused in one line and without a bug."""

import asyncio
import json
from typing import Any

import pytest
from aiohttp.test_utils import make_mocked_request

from mailerd.config import IntakeSettings
from mailerd.http.auth import ClientAddress, networks
from mailerd.mail.mime import Addresses
from tests.intake.site import Build, Site, job
from tests.support.heard import PATIENCE


async def raw(site: Site, sent: bytes) -> tuple[bytes, bytes]:
    """The head and the body of the answer to these bytes."""
    host, _, port = site.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(sent)
    head, _, body = (await asyncio.wait_for(reader.read(), PATIENCE)).partition(b"\r\n\r\n")
    writer.close()
    return head, body


@pytest.mark.parametrize("path", [b"/nowhere", b"/health/live", b"/api/jobs"])
async def test_an_expectation_that_is_no_text_is_refused_without_a_bug_and_with_one_short_line(
    site: Site, path: bytes
) -> None:
    head, body = await raw(site, b"GET " + path + b" HTTP/1.1\r\nHost: x\r\nExpect: \x80\r\nConnection: close\r\n\r\n")

    assert head.startswith(b"HTTP/1.1 417")
    assert json.loads(body)["error"]["code"] == "expectation_failed"
    assert not site.heard.of("connection_failed")
    assert not site.heard.of("request_failed")
    assert [name for name, _ in site.heard.events if name.startswith("request_")] == ["request_refused"]
    assert len(repr(site.heard.of("request_refused"))) < 300


async def test_a_post_with_an_expectation_that_nobody_knows_is_refused_before_its_body(site: Site) -> None:
    host, _, port = site.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(
        b"POST /api/jobs/send_template_emails HTTP/1.1\r\nHost: x\r\nExpect: a miracle\r\n"
        b"Content-Length: 100000\r\n\r\n"
    )
    head = await asyncio.wait_for(reader.readline(), PATIENCE)
    writer.close()

    assert head.startswith(b"HTTP/1.1 417")


@pytest.mark.parametrize("path", ["/nowhere", "/health/live", "/api/jobs", "/docs"])
async def test_no_answer_shows_a_version(site: Site, path: str) -> None:
    async with site.client.get(f"{site.url}{path}") as response:
        assert response.headers["Server"] == "mailerd"
    head, _ = await raw(site, b"GET / HTTP/1.1\r\nHost: x\r\nExpect: x\r\nConnection: close\r\n\r\n")
    assert b"\r\nServer: mailerd\r\n" in head + b"\r\n"


@pytest.mark.parametrize("trusted", ["10.0.0.0/8", "::ffff:10.0.0.0/104", "10.0.0.1", "::ffff:10.0.0.1"])
@pytest.mark.parametrize("peer", ["10.0.0.1", "::ffff:10.0.0.1"])
def test_an_address_that_is_mapped_into_ipv6_is_the_address_that_it_maps(trusted: str, peer: str) -> None:
    callers = ClientAddress(networks(trusted))

    for remote, forwarded, address in (
        (peer, "192.0.2.7", "192.0.2.7"),
        (peer, "::ffff:192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.9", "192.0.2.7", "192.0.2.9"),
    ):
        request = make_mocked_request("GET", "/", headers={"X-Forwarded-For": forwarded}).clone(remote=remote)
        assert callers.address(request) == address


@pytest.mark.parametrize("domain", ["example.com", "例え.jp"])
def test_a_local_part_has_sixty_four_octets_at_most(domain: str) -> None:
    addresses = Addresses()
    addresses.check(f"a@{domain}")
    assert addresses.check(f"{'a' * 64}@{domain}")
    with pytest.raises(ValueError, match=r"is too long before the @$"):
        addresses.check(f"{'a' * 65}@{domain}")


BIDI = ["\u202a", "\u202b", "\u202c", "\u202d", "\u202e", "\u2066", "\u2067", "\u2068", "\u2069"]
MARKS = ["\u200e", "\u200f", "\u061c"]


@pytest.mark.parametrize("character", [*BIDI, *MARKS])
async def test_no_name_turns_the_characters_of_a_header_round(site: Site, character: str) -> None:
    name = f"Bank{character}moc.knab"
    for body in (
        job(sender_name=name),
        job({"email": "a@example.com", "name": name}),
        job(reference=name),
    ):
        status, answer = await site.post(body)
        assert (status, f"U+{ord(character):04X}" in answer["error"]["details"][0]["message"]) == (422, True)


async def test_a_name_that_runs_from_right_to_left_may_hold_its_marks(site: Site) -> None:
    name = 'חברה בע"מ\u200f (2)'
    status, answer = await site.post(job({"email": "a@example.com", "name": name}, sender_name=name))

    assert (status, answer.get("accepted")) == (200, 1)
    status, _ = await site.post(job({"email": "a@example.com", "name": f"{name}\u202e"}))
    assert status == 422


async def test_the_job_of_another_tenant_is_not_there_at_every_path(site: Site) -> None:
    _, theirs = await site.post(job(sender_email="other@example.com"))
    mine = {"X-API-Key": await site.keys.create("mine", senders=["me@example.com"])}
    nowhere = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
    ways = [("GET", each) for each in ("", "/recipients", "/results.csv", "/events", "/actions")]
    ways += [("POST", each) for each in ("/cancel", "/pause", "/resume", "/retry", "/priority")]
    for method, way in ways:
        told: list[Any] = []
        for id_ in (theirs["job_id"], nowhere):
            body = {"priority": 1} if way == "/priority" else None
            async with site.client.request(
                method, f"{site.url}/api/jobs/{id_}{way}", headers=mine, json=body
            ) as response:
                told.append((response.status, await response.json()))
        assert told[0][0] == 404, (method, way)
        assert told[0] == told[1], (method, way)


async def test_the_stream_of_a_key_that_loses_its_sender_ends(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mailerd.intake.events_endpoint.POLL_INTERVAL", 0.05)
    site = await build(settings=IntakeSettings(port=0))
    _, posted = await site.post(job())
    mine = {"X-API-Key": await site.keys.create("mine", senders=["me@example.com"])}
    async with site.client.get(f"{site.url}/api/jobs/{posted['job_id']}/events", headers=mine) as response:
        await response.content.readuntil(b"\n\n")
        await site.rows("UPDATE api_keys SET senders = '[\"other@example.com\"]' WHERE name = 'mine'")
        rest = await asyncio.wait_for(response.content.read(), PATIENCE)
    assert rest.count(b"event:") <= 1
