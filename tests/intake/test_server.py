"""BodyReader within bounds, and a stop that drops nothing it has in hand."""

import asyncio
import json
import socket
from typing import Any

import pytest

from mailerd.config import IntakeSettings
from tests.intake.site import Build, Site, Wakeups, job, new_intake
from tests.intake.test_key_shares import Slow
from tests.support.heard import PATIENCE
from tests.support.own_time import at_this_speed, longest_stall, own_time

PATH = "/api/jobs/send_template_emails"


async def connect(site: Site) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, _, port = site.url.removeprefix("http://").partition(":")
    return await asyncio.open_connection(host, int(port))


def head(site: Site, *headers: str) -> bytes:
    return "\r\n".join([f"POST {PATH} HTTP/1.1", "Host: x", f"X-API-Key: {site.key}", *headers, "", ""]).encode()


async def answered(reader: asyncio.StreamReader) -> tuple[int, dict[str, Any]]:
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE)
    [length] = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    body = await reader.readexactly(int(length.partition(b":")[2]))
    return int(head.split()[1]), json.loads(body)


@pytest.fixture
async def small(build: Build, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.setattr("mailerd.http.requests.BODY_TIMEOUT", 1.5)
    return await build(settings=IntakeSettings(port=0, max_body=1000))


async def test_a_body_that_says_it_is_too_large_is_not_waited_for(small: Site) -> None:
    reader, writer = await connect(small)
    writer.write(head(small, "Content-Length: 1001", "Expect: 100-continue"))
    status, answer = await answered(reader)

    assert (status, answer["error"]["code"]) == (413, "too_large")
    assert "1,000 bytes" in answer["error"]["message"]
    writer.close()


async def test_a_chunked_body_is_cut_off_where_it_becomes_too_large(small: Site) -> None:
    reader, writer = await connect(small)
    writer.write(head(small, "Transfer-Encoding: chunked") + b"3e9\r\n" + b"x" * 1001 + b"\r\n")  # and no end
    status, _ = await answered(reader)

    assert status == 413
    writer.close()


async def test_a_body_that_dribbles_is_a_408_and_the_connection_ends(small: Site) -> None:
    reader, writer = await connect(small)
    writer.write(head(small, "Content-Length: 500") + b'{"a"')
    status, answer = await answered(reader)

    assert (status, answer["error"]["code"]) == (408, "timeout")
    writer.close()


async def test_a_body_that_is_cut_off_stores_nothing_and_is_no_bug(small: Site) -> None:
    _, writer = await connect(small)
    writer.write(head(small, "Content-Length: 500") + b'{"a"')
    await writer.drain()
    writer.close()
    await small.heard.wait_for("request_refused")

    assert small.heard.of("request_refused")[0]["status"] in {400, 408}
    assert not small.heard.of("request_failed")
    assert await small.stored() == (0, 0)


async def test_expect_100_is_answered_when_the_body_is_wanted(site: Site) -> None:
    body = json.dumps(job()).encode()
    reader, writer = await connect(site)
    writer.write(head(site, f"Content-Length: {len(body)}", "Expect: 100-continue"))
    assert await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE) == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(body)

    assert (await answered(reader))[0] == 200
    writer.close()


async def test_a_compressed_body_is_refused_by_name(site: Site) -> None:
    status, answer = await site.post_bytes(b"x", headers={"Content-Encoding": "gzip"})

    assert (status, answer["error"]["code"]) == (415, "unsupported_encoding")


async def test_big_bodies_wait_for_one_another_and_small_ones_do_not(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mailerd.http.requests.LARGE_BODY", 1000)
    site = await build(settings=IntakeSettings(port=0, large_bodies_per_key=2))
    clients = []
    for _ in range(2):  # both places are taken by clients that send nothing
        reader, writer = await connect(site)
        writer.write(head(site, "Content-Length: 2000", "Expect: 100-continue"))
        await reader.readuntil(b"\r\n\r\n")
        clients.append(writer)
    big = asyncio.create_task(site.post(job({"email": "b@example.com", "name": "B", "variables": {"x": "x" * 2000}})))
    for _ in range(3):
        assert (await site.post(job()))[0] == 200
    assert not big.done()
    clients[0].close()

    assert (await big)[0] == 200
    clients[1].close()


def chunk(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


async def test_a_body_of_untold_length_takes_a_place_when_it_has_grown_big(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mailerd.http.requests.LARGE_BODY", 1000)
    site = await build(settings=IntakeSettings(port=0, large_bodies_per_key=2))
    big = json.dumps(job({"email": "b@example.com", "name": "B", "variables": {"x": "x" * 2000}})).encode()
    clients = []
    for _ in range(2):  # both places are taken
        reader, writer = await connect(site)
        writer.write(head(site, "Content-Length: 2000", "Expect: 100-continue"))
        await reader.readuntil(b"\r\n\r\n")
        clients.append(writer)
    reader, growing = await connect(site)
    growing.write(head(site, "Transfer-Encoding: chunked") + chunk(big[:1500]) + chunk(big[1500:]) + b"0\r\n\r\n")
    small_reader, small_writer = await connect(site)
    small_writer.write(head(site, "Transfer-Encoding: chunked") + chunk(json.dumps(job()).encode()) + b"0\r\n\r\n")

    assert (await answered(small_reader))[0] == 200
    assert await site.stored() == (1, 1)
    clients[0].close()  # a place comes free
    assert (await answered(reader))[0] == 200
    assert await site.stored() == (2, 2)
    for one in (clients[1], growing, small_writer):
        one.close()


async def test_every_answer_has_the_id_under_which_the_log_tells_of_it(site: Site) -> None:
    async with site.client.get(f"{site.url}/health/live?token=secret") as response:
        request_id = response.headers["X-Request-Id"]
    told = await site.heard.wait_for("probe_answered")

    assert (told["request"], told["path"], told["status"]) == (request_id, "/health/live", 200)


async def test_a_stop_lets_a_request_in_hand_end_and_takes_no_new_one(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = await build()
    entered, go_on = asyncio.Event(), asyncio.Event()
    accept = site.intake.new_jobs.accept

    async def hold(it: Any) -> Any:
        entered.set()
        await go_on.wait()
        return await accept(it)

    monkeypatch.setattr(site.intake.new_jobs, "accept", hold)
    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    serving = asyncio.create_task(site.intake.run(sockets=[listening]))
    posting = asyncio.create_task(site.client.post(f"http://127.0.0.1:{port}{PATH}", json=job()))
    await entered.wait()
    serving.cancel()
    while listening.fileno() != -1:  # noqa: ASYNC110 - a socket's end is no event
        await asyncio.sleep(0)
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)
    assert not posting.done()
    go_on.set()

    assert (await posting).status == 200
    await asyncio.wait([serving])
    assert serving.cancelled()
    assert await site.stored() == (1, 1)


async def test_a_stop_lets_a_post_end_that_is_still_being_checked(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    site, slow = await build(), Slow("test")
    monkeypatch.setattr("mailerd.intake.create_job.parse_job", slow.parse_job)
    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    serving = asyncio.create_task(site.intake.run(sockets=[listening]))
    posting = asyncio.create_task(site.client.post(f"http://127.0.0.1:{port}{PATH}", json=job()))
    await asyncio.wait_for(slow.begun.acquire(), PATIENCE)
    serving.cancel()
    while listening.fileno() != -1:  # noqa: ASYNC110 - a socket's end is no event
        await asyncio.sleep(0)
    slow.go_on()

    async with asyncio.timeout(60):
        assert (await posting).status == 200
    await asyncio.wait([serving])


async def test_a_stop_ends_by_its_bound_whatever_is_in_hand(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mailerd.http.server.GRACE", 0.2)
    site = await build()
    entered = asyncio.Event()

    async def hold(_: Any) -> Any:
        entered.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(site.intake.new_jobs, "accept", hold)
    addresses: asyncio.Queue[Any] = asyncio.Queue()
    serving = asyncio.create_task(site.intake.run(started=addresses.put_nowait))
    [(host, port)] = await addresses.get()
    posting = asyncio.create_task(site.client.post(f"http://{host}:{port}{PATH}", json=job()))
    await entered.wait()
    started = own_time()
    serving.cancel()
    await asyncio.wait([serving, posting])

    assert own_time() - started < 5
    assert posting.exception() is not None


async def test_it_serves_on_sockets_that_are_bound_already(site: Site) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        bound.listen()
        port = bound.getsockname()[1]
        intake = new_intake(site.database, site.heard, Wakeups(), patience=1)
        async with intake.serve(sockets=[bound]) as addresses:
            assert addresses == [("127.0.0.1", port)]
            async with site.client.get(f"http://127.0.0.1:{port}/health/live") as response:
                assert response.status == 200


async def test_pipelined_requests_leave_others_their_turn(site: Site) -> None:
    host, port = site.url.removeprefix("http://").split(":")
    _, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"GET /z HTTP/1.1\r\nHost: x\r\n\r\n" * 4_000)
    assert await longest_stall(1.0) < at_this_speed(0.2)
    assert (await site.get("/health/live"))[0] == 200
    writer.close()
