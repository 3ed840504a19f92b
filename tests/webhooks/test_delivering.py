"""Events reach an endpoint at least once, signed, however the endpoint behaves."""

import asyncio
import base64
import hashlib
import json
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from functools import partial

import pytest
from pymysql.err import OperationalError
from yarl import URL

from mailerd.core.webhooks import EventType
from mailerd.heartbeat import Heartbeats
from mailerd.ops.metrics import Metrics
from mailerd.store.db.database import Database
from mailerd.store.write.webhooks import WebhookDeliveries, Webhooks
from mailerd.webhooks import sender, service
from tests.support.eventually import eventually
from tests.support.heard import PATIENCE, Heard
from tests.support.ports import free_port
from tests.support.proxy import Proxy
from tests.support.rows import query
from tests.webhooks.conftest import Deliver, Happen, endpoint, settings
from tests.webhooks.receiver import Behaviour, Receiver, receiving


@asynccontextmanager
async def running(it: service.WebhookService) -> AsyncIterator[None]:
    task = asyncio.create_task(it.run())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def delivered(database: Database, number: int, *, within: float = PATIENCE) -> None:
    async def all_there() -> bool:
        rows = await query(database, "SELECT COUNT(*) FROM webhook_deliveries WHERE status = 'delivered'")
        return bool(rows == [(number,)])

    await eventually(all_there, within=within)


async def test_every_event_comes_once_in_its_body_and_signed_for_the_reference_library_and_openssl(
    database: Database, receiver: Receiver, deliver: Deliver, happen: Happen
) -> None:
    await happen(3)  # before the endpoint was made
    await endpoint(database, receiver)
    uids = await happen(40)
    async with running(deliver()):
        await delivered(database, 40)
    assert receiver.taken == dict.fromkeys(uids, 1), "each was verified by the reference library when it came"
    assert receiver.most_at_once <= 4
    post = receiver.posts[0]
    body = json.loads(post.body)
    assert set(body) == {"type", "timestamp", "data"}
    assert (body["type"], body["data"]["reason"]) == ("job.paused", "größer — 原因")
    assert body["timestamp"].endswith("Z")
    assert post.headers["content-type"] == "application/json"
    assert by_openssl(receiver.secret, post.headers, post.body) == post.headers["webhook-signature"]


def by_openssl(secret: str, headers: dict[str, str], body: bytes) -> str:
    key = base64.b64decode(secret.removeprefix("whsec_"))
    assert len(key) == 32
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    made = subprocess.run(
        ["openssl", "dgst", "-sha256", "-mac", "HMAC", "-macopt", f"hexkey:{key.hex()}", "-binary"],
        input=signed, capture_output=True, check=True,
    )  # fmt: skip
    assert len(made.stdout) == hashlib.sha256().digest_size
    return f"v1,{base64.b64encode(made.stdout).decode()}"


async def test_an_endpoint_gets_the_types_and_senders_that_it_asks_for(
    database: Database, receiver: Receiver, deliver: Deliver, happen: Happen
) -> None:
    await endpoint(database, receiver, types=[EventType.JOB_FINISHED], senders=["a@example.com"])
    await happen(2, senders=["a@example.com"])
    wanted = await happen(4, type_=EventType.JOB_FINISHED, senders=["a@example.com", None, "b@example.com"])
    async with running(deliver()):
        await delivered(database, 2)
        assert {post.uid for post in receiver.posts} < set(wanted)


async def test_a_rotated_secret_signs_beside_the_new_one(
    database: Database, receiver: Receiver, deliver: Deliver, happen: Happen
) -> None:
    id_ = await endpoint(database, receiver)
    old = receiver.secret
    receiver.secret = await Webhooks(database, timeout=5).rotate(id_, overlap=timedelta(hours=1), actor="test")
    await happen(1)
    async with running(deliver()):
        await delivered(database, 1)
    post = receiver.posts[0]
    signatures = post.headers["webhook-signature"].split(" ")
    assert [by_openssl(each, post.headers, post.body) for each in (receiver.secret, old)] == signatures
    await Webhooks(database, timeout=5).rotate(id_, overlap=timedelta(), actor="test")
    assert len(await Webhooks(database, timeout=5).secrets(id_)) == 1


async def closes_in_its_head(_: Receiver, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Le")


async def closes_at_once(_: Receiver, writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


async def lies_about_its_length(_: Receiver, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 500 No\r\nContent-Length: 5000\r\n\r\nshort")


async def drips(_: Receiver, writer: asyncio.StreamWriter) -> None:
    for byte in b"HTTP/1.1 200 OK\r\nX: " + b"y" * 1000:
        writer.write(bytes([byte]))
        await writer.drain()
        await asyncio.sleep(0.05)


async def talks_without_end(_: Receiver, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 503 No\r\nTransfer-Encoding: chunked\r\n\r\n")
    with suppress(ConnectionError):
        while True:
            writer.write(b"1000\r\n" + b"x" * 4096 + b"\r\n")
            await writer.drain()


async def is_no_http(_: Receiver, writer: asyncio.StreamWriter) -> None:
    writer.write(b"220 smtp.example.com ESMTP\r\n")


async def bombs(_: Receiver, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 400 No\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\n\x1f\x8b\x08\x00")


async def redirects_to_itself(receiver: Receiver, writer: asyncio.StreamWriter) -> None:
    writer.write(f"HTTP/1.1 307 X\r\nLocation: {receiver.url}\r\nContent-Length: 0\r\n\r\n".encode())


BAD = [
    closes_in_its_head, closes_at_once, lies_about_its_length, drips, talks_without_end, is_no_http, bombs,
    redirects_to_itself,
]  # fmt: skip


@pytest.mark.parametrize("behaviour", BAD, ids=lambda it: it.__name__)
async def test_an_endpoint_that_behaves_badly_gets_its_events_when_it_behaves(
    database: Database, receiver: Receiver, deliver: Deliver, happen: Happen, heard: Heard, behaviour: Behaviour
) -> None:
    await endpoint(database, receiver)
    receiver.behaviour = behaviour
    uids = await happen(6)
    async with running(deliver(timeout=1.0)):
        await heard.wait_for("webhook_attempt_failed", times=6)
        # On a slow machine an attempt may be over before the receiver has its request.
        await eventually(lambda: asyncio.sleep(0, len(receiver.posts) >= 6))
        assert not receiver.taken
        receiver.behaviour = None
        await delivered(database, 6)
    assert set(receiver.taken) == set(uids)
    assert len({(post.uid, post.body) for post in receiver.posts}) == 6, "the same bytes at each attempt"
    assert not heard.of("webhook_crashed")


async def test_an_answer_whose_body_breaks_off_after_a_success_is_a_success(
    database: Database, receiver: Receiver, deliver: Deliver, happen: Happen, heard: Heard
) -> None:
    async def breaks_off(_: Receiver, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\nshort")

    receiver.behaviour = breaks_off
    await endpoint(database, receiver)
    await happen(1)
    async with running(deliver()):
        await delivered(database, 1)
    assert not heard.of("webhook_attempt_failed")


@pytest.mark.slow
async def test_a_receiver_that_is_down_for_long_gets_everything_soon_after_it_is_back(
    database: Database, deliver: Deliver, happen: Happen, heard: Heard
) -> None:
    port = free_port()
    async with receiving(port=port) as receiver:
        await endpoint(database, receiver)
    uids = await happen(500)
    async with running(deliver()):
        await heard.wait_for("webhook_failing")
        tried = len(heard.of("webhook_attempt_failed"))
        await heard.wait_for("webhook_attempt_failed", times=tried + 3)
        rows = await query(database, "SELECT MAX(attempts), SUM(attempts) FROM webhook_deliveries")
        assert rows[0][1] < 50, "one at a time looks whether it is back, however many wait"
        async with receiving(receiver, port=port):
            await delivered(database, 500)
            await heard.wait_for("webhook_recovered")
    assert receiver.taken == dict.fromkeys(uids, 1)


async def test_410_ends_it_and_retry_after_is_honoured(
    database: Database, receiver: Receiver, deliver: Deliver, happen: Happen, heard: Heard
) -> None:
    id_ = await endpoint(database, receiver)
    receiver.status, receiver.headers = 429, {"Retry-After": "3600"}
    await happen(1)
    async with running(deliver()):
        told = await heard.wait_for("webhook_attempt_failed")
        assert told["again_in"] >= 3600
        await query(database, "UPDATE webhooks SET retry_at = NULL")
        await query(database, "UPDATE webhook_deliveries SET due_at = UTC_TIMESTAMP(6)")
        receiver.status = 410
        await heard.wait_for("webhook_gone")
        posts = len(receiver.posts)
        await happen(5)
        receiver.status = 204
        webhooks = Webhooks(database, timeout=5)
        assert (await webhooks.find(id_)).state == "gone"
        await webhooks.change(id_, {"state": "on"}, actor="test")
        await delivered(database, 6)
    assert len(receiver.posts) == posts + 6


async def test_a_bug_in_recording_ends_no_other_delivery(
    database: Database, receiver: Receiver, deliver: Deliver, happen: Happen, heard: Heard,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    await endpoint(database, receiver)
    with monkeypatch.context() as patched:
        patched.setattr(sender, "decide", broken)
        async with running(deliver(retries=[300.0])):
            await happen(1)
            await heard.wait_for("webhook_crashed", times=2)
            patched.undo()
            await happen(2)
            await heard.wait_for("webhook_delivered", times=2)


async def test_a_bug_met_in_one_delivery_is_a_failed_attempt_with_its_wait(
    database: Database, receiver: Receiver, deliver: Deliver, happen: Happen, heard: Heard,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    async def broken(*_: object, **__: object) -> None:
        raise RecursionError("too deep")

    await endpoint(database, receiver)
    await happen(1)
    monkeypatch.setattr(sender, "post_event", broken)
    async with running(deliver(retries=[300.0])):
        assert isinstance((await heard.wait_for("webhook_crashed"))["error"], RecursionError)

        async def recorded() -> bool:
            rows = await query(
                database,
                "SELECT status, attempts, error, due_at > UTC_TIMESTAMP(6) + INTERVAL 100 SECOND, w.failures"
                " FROM webhook_deliveries d JOIN webhooks w ON w.id = d.webhook_id",
            )
            return bool(rows == [("waiting", 1, "a bug in mailerd: RecursionError; its log has the stack", 1, 1)])

        await eventually(recorded)
    assert len(heard.of("webhook_crashed")) == 1


async def test_a_database_that_does_not_answer_to_a_record_is_no_bug_and_no_failure_of_the_endpoint(
    database: Database, database_url: str, receiver: Receiver, happen: Happen, heard: Heard,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(sender, "RECORD_MARGIN", 0.5)
    url = URL(database_url)
    await endpoint(database, receiver)
    async with Proxy(url.port or 0) as proxy:

        async def taken_while_it_freezes(_: Receiver, writer: asyncio.StreamWriter) -> None:
            await proxy.black_hole()
            writer.write(b"HTTP/1.1 204 X\r\nContent-Length: 0\r\n\r\n")

        receiver.behaviour = taken_while_it_freezes
        it = service.build(settings(str(url.with_port(proxy.port))), heard, heartbeats=Heartbeats(), meter=Metrics())
        await happen(1)
        async with running(it):
            told = await heard.wait_for("webhook_step_failed")
            assert (told["what"], told["cause"]) == ("webhooks.record", "no answer of the database within 0.5 s")
            receiver.behaviour = None
            await query(database, "UPDATE webhook_deliveries SET lease_until = UTC_TIMESTAMP(6)")
            await proxy.heal()
            await delivered(database, 1)
    assert heard.of("webhook_crashed") == heard.of("webhook_attempt_failed") == []


async def test_an_endpoint_that_fails_for_too_long_is_paused_and_gets_everything_once_it_is_resumed(
    database: Database, receiver: Receiver, deliver: Deliver, happen: Happen, heard: Heard
) -> None:
    id_ = await endpoint(database, receiver)
    receiver.status = 500
    await happen(3)
    webhooks = Webhooks(database, timeout=5)
    async with running(deliver(pause_after=0.5)):
        told = await heard.wait_for("webhook_paused")
        assert told["cause"] == "it responded 500"
        found = await webhooks.find(id_)
        assert (found.state, found.pause_cause) == ("paused", "failing")
        receiver.status = 204
        await happen(4)
        posts = len(receiver.posts)
        await webhooks.change(id_, {"state": "on"}, actor="test")
        await delivered(database, 7)
    assert len(receiver.posts) >= posts + 7


async def test_one_event_that_the_endpoint_never_takes_is_given_up_and_can_be_replayed(
    database: Database, receiver: Receiver, deliver: Deliver, happen: Happen, heard: Heard
) -> None:
    async def takes_all_but_one(receiver: Receiver, writer: asyncio.StreamWriter) -> None:
        post = receiver.posts[-1]
        status = 500 if post.data["n"] == 0 else 204
        receiver.taken[post.uid] += status == 204
        writer.write(f"HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n".encode())

    id_ = await endpoint(database, receiver)
    receiver.behaviour = takes_all_but_one
    (poison,) = await happen(1)
    webhooks = Webhooks(database, timeout=5)
    async with running(deliver(retries=[0.05, 0.05])):
        taken = 0
        while not heard.of("webhook_event_given_up"):
            await happen(1)
            taken += 1
            await delivered(database, taken)
        assert heard.of("webhook_event_given_up")[0]["uid"] == poison
        assert (await webhooks.find(id_)).failing_since is None
        receiver.behaviour, receiver.taken[poison] = None, 0
        since = (await webhooks.find(id_)).created_at - timedelta(hours=1)
        again = partial(WebhookDeliveries(database, timeout=5).replay, actor="test", only_failed=True)
        assert await again(await webhooks.find(id_), since=since) == 1

        async def is_taken() -> bool:
            return receiver.taken[poison] == 1

        await eventually(is_taken)


async def test_many_slow_endpoints_of_one_owner_hold_up_no_other_owner(
    database: Database, receiver: Receiver, deliver: Deliver, happen: Happen
) -> None:
    release = asyncio.Event()

    async def hangs(_: Receiver, __: asyncio.StreamWriter) -> None:
        await release.wait()

    async with receiving() as slow:
        slow.behaviour = hangs
        for number in range(20):
            await endpoint(database, slow, f"slow {number}", owner=7)
        slow.secret = ""
        await endpoint(database, receiver, "quick", owner=8)
        await happen(1)
        async with running(deliver(timeout=60, concurrency=8)):
            await eventually(lambda: asyncio.sleep(0, slow.at_once == 4))
            for number in range(2, 12):
                await happen(1)
                await delivered(database, number, within=30)  # sooner than a slow one is given up
            assert slow.most_at_once == 4, "half of the places"
            release.set()


async def test_a_slow_endpoint_holds_up_no_other(
    database: Database, receiver: Receiver, deliver: Deliver, happen: Happen
) -> None:
    release = asyncio.Event()

    async def hangs(_: Receiver, __: asyncio.StreamWriter) -> None:
        await release.wait()

    async with receiving() as slow:
        slow.behaviour = hangs
        await endpoint(database, slow, "slow")
        await endpoint(database, receiver, "quick")
        uids = await happen(30)
        async with running(deliver(timeout=60)):
            await delivered(database, 30, within=30)  # sooner than a slow one is given up
            assert set(receiver.taken) == set(uids)
            assert slow.most_at_once <= 4
            release.set()


@pytest.mark.parametrize("errno, told", [(1040, True), (2003, False)])
async def test_webhooks_that_get_no_connection_say_so_where_the_messages_have_all_that_there_are(
    deliver: Deliver, heard: Heard, monkeypatch: pytest.MonkeyPatch, errno: int, *, told: bool
) -> None:
    it, asked = deliver(), asyncio.Event()

    async def refused() -> None:
        asked.set()
        raise OperationalError(errno, "no")

    monkeypatch.setattr(it.database.pool, "_connect", refused)
    async with running(it):
        await asked.wait()

        async def is_known() -> bool:
            return it.database.unavailable

        await eventually(is_known)
    assert bool(heard.of("database_unavailable")) == told, "the messages' connections tell of a server that is away"


async def test_a_loop_that_rests_while_no_endpoint_is_on_says_for_how_long(database_url: str, heard: Heard) -> None:
    heartbeats = Heartbeats(limit=0.5)
    it = service.build(settings(database_url), heard, heartbeats=heartbeats, meter=Metrics())
    async with running(it):

        async def rests() -> bool:
            return any(each.until > time.monotonic() + sender.IDLE_INTERVAL - 1 for each in heartbeats.all())

        await eventually(rests, within=5.0)
