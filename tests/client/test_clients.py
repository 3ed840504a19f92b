"""Both clients in front of a real daemon: every call, once-only posts, waiting, and errors that say what is wrong."""

import asyncio
import inspect
import json
import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, get_type_hints
from uuid import uuid4

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

import mailerd.client
from mailerd.client import ApiError, AsyncClient, Client, NoAnswerError, answers
from mailerd.intake import (
    one_message,
    read_jobs,
    recipients,
    response_models,
    search,
    senders,
    stats,
)
from mailerd.intake.request_models import JobChangeIn, JobFields, RecipientIn
from mailerd.model import suppressions, webhooks
from mailerd.operations.suppressions import SuppressionRequest
from mailerd.operations.webhooks import WebhookChange
from mailerd.store.write.api_keys import Permission
from mailerd.store.write.secrets import Secrets
from mailerd.store.write.suppressions import Suppressions
from tests.client.conftest import Place, a_job, ask
from tests.support.heard import PATIENCE
from tests.support.ports import free_port
from tests.support.proxy import Proxy


async def close(client: Any) -> None:
    if isinstance(client, AsyncClient):
        await client.close()
    else:
        client.close()


async def test_a_job_is_posted_waited_for_and_read(place: Place, kind: Any) -> None:
    client = kind(place.url, key=place.key)
    posted = await ask(client, "create_job", a_job("ada@example.org", "bob@example.org", reference="order 17"))
    assert (posted["accepted"], posted["replayed"]) == (2, False)
    job = await ask(client, "wait_until_finished", posted["job_id"], within=60)
    assert (job["status"], job["counts"]["sent"], job["reference"]) == ("completed", 2, "order 17")
    found = await ask(client, "recipients", posted["job_id"])
    assert [(each["email"], each["status"]) for each in found] == [
        ("ada@example.org", "sent"),
        ("bob@example.org", "sent"),
    ]
    assert await ask(client, "recipients", posted["job_id"], status="failed") == []
    events = await ask(client, "events", types=["job.finished"])
    assert [each["job_id"] for each in events] == [posted["job_id"]]
    assert await ask(client, "events", after=events[-1]["id"]) == []
    await close(client)


async def test_half_a_character_is_refused_by_the_api_which_names_its_field(place: Place, kind: Any) -> None:
    client = kind(place.url, key=place.key)
    with pytest.raises(ApiError, match=r"422 .*\n  reference: contains half a surrogate pair"):
        await ask(client, "create_job", a_job(reference="书\ud83d"))
    await close(client)


async def test_recipients_come_over_all_pages(place: Place, kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mailerd.client.calls._PAGE", 2)
    client = kind(place.url, key=place.key)
    emails = [f"r{n}@example.org" for n in range(5)]
    posted = await ask(client, "create_job", a_job(*emails))
    assert [each["email"] for each in await ask(client, "recipients", posted["job_id"])] == emails
    await close(client)


async def test_a_job_is_steered(place: Place, kind: Any) -> None:
    client = kind(place.url, key=place.key)
    due = datetime.now(UTC) + timedelta(days=1)
    job_id = (await ask(client, "create_job", a_job(send_at=due)))["job_id"]
    assert (await ask(client, "pause_job", job_id))["job"]["status"] == "paused"
    assert (await ask(client, "resume_job", job_id))["job"]["status"] == "queued"
    assert (await ask(client, "job", job_id))["forecast"]["done_at"]
    with pytest.raises(TimeoutError):
        await ask(client, "wait_until_finished", job_id, within=0.2)
    again = [await ask(client, "retry_job", job_id, only=only) for only in ("failed", "unsure")]
    again.append(await ask(client, "retry_job", job_id, only="bounced", kind="soft"))
    assert [each["recipients"] for each in again] == [0, 0, 0]
    with pytest.raises(ApiError, match='required with "only": "bounced"'):
        await ask(client, "retry_job", job_id, only="bounced")
    assert (await ask(client, "cancel_job", job_id))["recipients"] == 1
    with pytest.raises(ApiError, match="409 conflict: this job is cancelled") as caught:
        await ask(client, "retry_job", job_id)
    assert (caught.value.status, caught.value.code) == (409, "conflict")
    assert [each["name"] for each in (await ask(client, "templates"))["templates"]] == ["welcome"]
    await close(client)


async def test_a_sender_is_seen_paused_resumed_and_limited(
    place: Place, kind: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mailerd.client.calls._SMALL_PAGE", 1)
    client, me = kind(place.url, key=place.key), "me@example.com"
    posted = await ask(client, "create_job", a_job())
    await ask(client, "wait_until_finished", posted["job_id"], within=60)
    sender = await ask(client, "sender", me)
    assert (sender["signed_in"]["state"], sender["mode"], sender["day"]["used"]) == ("ok", "draft", 1)
    paused = await ask(client, "pause_sender", me, reason="moving house", seconds=3600)
    assert (paused["changed"], paused["sender"]["pause"]["reason"]) == (True, "moving house")
    assert paused["sender"]["pause"]["until"] is not None
    assert (await ask(client, "pause_sender", me, reason="moving house"))["sender"]["pause"]["until"] is None
    assert (await ask(client, "resume_sender", me))["sender"]["pause"] is None
    changed = await ask(client, "change_sender", me, per_day=50, reserve=None)
    assert (changed["sender"]["day"]["left"], changed["sender"]["limits"]["own"]) == (49, ["per_day"])
    with pytest.raises(ApiError, match=r"422 .*\n  per_day: must be at least 0"):
        await ask(client, "change_sender", me, per_day=-1)
    with pytest.raises(ApiError, match="404 not_found: no sender has this address"):
        await ask(client, "sender", "nobody@example.org")
    await ask(client, "change_sender", me, per_day=None)
    for number in range(2):
        await place.database.execute(
            "INSERT INTO senders (email, created_at) VALUES (%s, UTC_TIMESTAMP(6))",
            (f"x{number}@example.com",), what="more",
        )  # fmt: skip
    assert [it["email"] for it in await ask(client, "senders")] == [me, "x0@example.com", "x1@example.com"]
    assert (await ask(client, "key"))["name"] == "shop"
    await close(client)


async def test_a_sender_that_google_refuses_is_paused_with_the_remedy_and_never_sending(place: Place) -> None:
    async with AsyncClient(place.url, key=place.key) as client:
        place.google.revoke("me@example.com")
        await client.create_job(a_job())
        await place.heard.wait_for("sender_paused")
        sender = await client.sender("me@example.com")
        assert (sender["state"], sender["signed_in"]["state"], sender["waiting"]) == ("paused", "refused", 1)
        assert sender["pause"] is not None
        assert (sender["pause"]["cause"], sender["pause"]["until"]) == ("token_refused", None)
        assert sender["pause"]["remedy"] == "mailerd auth login --sender me@example.com"
        assert "has revoked the authorization" in sender["pause"]["reason"]
        assert sender["finding"] is not None
        assert (sender["finding"]["severity"], sender["next_message_at"]) == ("red", None)


async def test_one_message_is_sent_in_one_line_and_once(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def send(**fields: Any) -> answers.AcceptedMessage:
        return mailerd.client.send("ada@example.org", sender="me@example.com", **fields)

    monkeypatch.delenv("MAILERD_URL", raising=False)
    monkeypatch.setenv("MAILERD_API_KEY", place.key)
    with pytest.raises(ValueError, match="the environment variable MAILERD_URL is missing"):
        send(subject="Hello", text="Hello")
    async with Proxy(place.port) as proxy, AsyncClient(place.url, key=place.key) as client:
        monkeypatch.setenv("MAILERD_URL", f"http://127.0.0.1:{proxy.port}")
        proxy.cut_after(0)
        order = {"template": "welcome", "name": "Ada", "once": "order-17", "variables": {"product": "tea"}}
        first = await asyncio.to_thread(send, **order)
        assert (first["replayed"], first["repeated"]) == (True, True)
        again = await asyncio.to_thread(send, **order)
        assert (again["recipient_id"], again["replayed"]) == (first["recipient_id"], True)
        await client.wait_until_finished(first["job_id"], within=60)
        found = await client.message(first["job_id"])
        assert (found["recipient"]["status"], found["recipient"]["name"]) == ("sent", "Ada")
        others = [await asyncio.to_thread(send, subject="{{ 1 }}", text="as it is") for _ in range(2)]
        for each in others:
            await client.wait_until_finished(each["job_id"], within=60)
    assert len(place.google.sent) == 3
    assert b"Subject: {{ 1 }}" in place.google.sent[-1].raw


async def test_a_message_is_followed_changed_found_and_cancelled(place: Place, kind: Any) -> None:
    client, due = kind(place.url, key=place.key), datetime.now(UTC) + timedelta(days=1)
    job_id = (await ask(client, "create_job", a_job("ada@example.org", "bob@example.org", send_at=due)))["job_id"]
    assert (await ask(client, "change_job", job_id, reference="order 17", tags=["tea"]))["changed"]
    assert (await ask(client, "set_priority", job_id, 5))["job"]["priority"] == 5
    assert [it["job_id"] for it in await ask(client, "jobs", tag="tea", created_before=due)] == [job_id]
    assert {it["action"] for it in (await ask(client, "actions", job_id))["actions"]} == {"change", "priority"}
    (ada,) = await ask(client, "find_recipients", "ada@example.org")
    assert (await ask(client, "cancel_recipient", ada["id"]))["changed"]
    story = await ask(client, "recipient", ada["id"])
    assert (story["status"], story["job_id"], bool(story["story"])) == ("cancelled", job_id, True)
    with pytest.raises(ApiError, match="409 conflict"):
        await ask(client, "settle", ada["id"], sent=True, attempt=1)
    found = await ask(client, "search", "order 17")
    assert [it["job_id"] for it in found["jobs"]["items"]] == [job_id]
    await ask(client, "change_job", job_id, send_at=None)
    seen = await ask(client, "watch", job_id)
    assert seen[-1]["counts"]["sent"] == 1
    assert [it["sent"] for it in (await ask(client, "stats", by="sender"))["rows"]] == [1]
    await close(client)


async def test_a_stream_that_breaks_goes_on_behind_its_last_event(
    place: Place, kind: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mailerd.intake.events_endpoint.MAX_STREAM_SECONDS", 0.0)  # each ends once it has said all
    client, seen = kind(place.url, key=place.key), list[int]()

    async def follow(client: AsyncClient) -> None:
        async for each in client.stream_events(types=["job.finished"]):
            seen.append(each["id"])
            if len(seen) == 2:
                return

    def follow_blocking(client: Client) -> None:
        for each in client.stream_events(types=["job.finished"]):
            seen.append(each["id"])
            if len(seen) == 2:
                return

    following = asyncio.create_task(
        follow(client) if isinstance(client, AsyncClient) else asyncio.to_thread(follow_blocking, client)
    )
    async with AsyncClient(place.url, key=place.key) as other:
        for _ in range(2):
            await other.wait_until_finished((await other.create_job(a_job()))["job_id"], within=60)
    await asyncio.wait_for(following, PATIENCE)
    assert len(set(seen)) == 2
    with pytest.raises(ApiError, match="409 unknown_position"):
        await ask(client, "stream_events", after=10**9)
    await close(client)


def files(folder: Path) -> set[Path]:
    return set(folder.iterdir())


async def test_results_are_a_file_once_they_are_whole(place: Place, kind: Any, tmp_path: Path) -> None:
    file, before = tmp_path / "results.csv", files(tmp_path)
    async with Proxy(place.port) as proxy:
        client = kind(f"http://127.0.0.1:{proxy.port}", key=place.key)
        due = datetime.now(UTC) + timedelta(days=1)
        emails = [f"{number}-{uuid4()}@example.org" for number in range(100)]
        job_id = (await ask(client, "create_job", a_job(*emails, send_at=due)))["job_id"]
        hurried = kind(f"http://127.0.0.1:{proxy.port}", key=place.key, patience=0)
        proxy.cut_after(1500)
        with pytest.raises(NoAnswerError):
            await ask(hurried, "results_csv", job_id, file)
        assert files(tmp_path) == before, "no part of it is left"
        proxy.cut_after(1500)
        await ask(client, "results_csv", job_id, file)
        await close(client)
        await close(hurried)
    assert len(file.read_text("utf-8-sig").splitlines()) == 101


async def test_lists_suppressions_and_webhooks_are_kept(place: Place, kind: Any, tmp_path: Path) -> None:
    client = kind(place.url, key=await place.keys.create("crm", permissions=[*Permission]))
    assert (await ask(client, "save_list", "news", title="News"))["title"] == "News"
    assert [it["name"] for it in (await ask(client, "lists"))["lists"]] == ["news"]
    assert (await ask(client, "suppress", [{"email": "ada@example.org", "list": "news"}]))["added"] == 1
    assert [it["email"] for it in await ask(client, "suppressions", list_name="news")] == ["ada@example.org"]
    await ask(client, "suppressions_csv", tmp_path / "suppressed.csv")
    assert "ada@example.org" in (tmp_path / "suppressed.csv").read_text("utf-8-sig")
    assert (await ask(client, "unsuppress", "ada@example.org", list_name="news"))["removed"]
    made = await ask(client, "create_webhook", "crm", "http://127.0.0.1:9/", types=["job.finished"])
    assert (await ask(client, "webhook", made["id"]))["name"] == "crm"
    assert (await ask(client, "change_webhook", made["id"], state="paused"))["state"] == "paused"
    assert (await ask(client, "rotate_webhook_secret", made["id"]))["secret"] != made["secret"]
    assert not (await ask(client, "test_webhook", made["id"]))["delivered"]
    assert (await ask(client, "replay_webhook", made["id"], since=datetime.now(UTC)))["events"] == 0
    assert await ask(client, "webhook_deliveries", made["id"]) == []
    assert (await ask(client, "delete_webhook", made["id"]))["removed"]
    assert (await ask(client, "webhooks"))["webhooks"] == []
    await close(client)


async def test_what_makes_a_secret_is_not_repeated(place: Place, kind: Any) -> None:
    async with Proxy(place.port) as proxy:
        key = await place.keys.create("crm", permissions=[*Permission])
        client = kind(f"http://127.0.0.1:{proxy.port}", key=key)
        proxy.cut_after(0)
        with pytest.raises(NoAnswerError):
            await ask(client, "create_webhook", "crm", "http://127.0.0.1:9/")
        (made,) = (await ask(client, "webhooks"))["webhooks"]
        proxy.cut_after(0)
        with pytest.raises(NoAnswerError):
            await ask(client, "rotate_webhook_secret", made["id"])
        await close(client)


async def test_a_dry_run_weighs_a_message_as_google_gets_it(place: Place) -> None:
    keys = await Secrets(place.database, timeout=10).keys()
    await Suppressions(place.database, key=keys.address, timeout=10).make_list("news", title="秋季通讯")
    async with AsyncClient(place.url, key=place.key) as client:
        for fields in ({}, {"list": "news"}):
            job = a_job("ada@example.org", **fields)
            weighed = (await client.dry_run(job))["samples"][0]["bytes"]
            await client.wait_until_finished((await client.create_job(job))["job_id"], within=60)
            message = place.google.sent[-1]
            own = f"<{'0' * 32}@example.com>"  # Google puts its own Message-ID there
            assert weighed == len(message.raw) - len(message.message_id) + len(own)


async def test_a_dry_run_stores_nothing(place: Place, kind: Any) -> None:
    client = kind(place.url, key=place.key)
    found = await ask(client, "dry_run", a_job("ada@example.org", "nobody"))
    assert (found["accepted"], found["rejected"][0]["email"]) == (1, "nobody")
    assert found["samples"][0]["subject"] == "Hello Ada"
    assert await place.jobs() == 0
    await close(client)


async def test_a_post_whose_answer_is_lost_is_made_again_and_stored_once(place: Place, kind: Any) -> None:
    async with Proxy(place.port) as proxy:
        client = kind(f"http://127.0.0.1:{proxy.port}", key=place.key)
        proxy.cut_after(0)
        posted = await ask(client, "create_job", a_job())
        await close(client)
    assert proxy.accepted == 2
    assert (posted["replayed"], posted["repeated"]) == (True, True)
    assert await place.jobs() == 1


async def test_what_is_deleted_by_a_call_whose_answer_is_lost_is_deleted(place: Place, kind: Any) -> None:
    key = await place.keys.create("crm", permissions=[*Permission])
    async with Proxy(place.port) as proxy:
        client = kind(f"http://127.0.0.1:{proxy.port}", key=key)
        await ask(client, "suppress", [{"email": "ada@example.org"}])
        await ask(client, "save_template", "order", {"subject": "a", "text": "b"})
        hook = await ask(client, "create_webhook", "crm", "http://127.0.0.1:9/")
        for name, which, said in (
            ("unsuppress", "ada@example.org", "removed"), ("delete_template", "order", "archived"),
            ("delete_webhook", hook["id"], "removed"),
        ):  # fmt: skip
            await ask(client, "lists")
            proxy.cut_after(0)
            assert (await ask(client, name, which))[said], name
            with pytest.raises(ApiError) as refused:
                await ask(client, name, which)
            assert refused.value.status == 404, "a first attempt that finds nothing says so"
        await close(client)


async def test_a_key_of_ones_own_holds_beyond_the_call(place: Place, kind: Any) -> None:
    client = kind(place.url, key=place.key)
    first = await ask(client, "create_job", a_job(), idempotency_key="order-17")
    again = await ask(client, "create_job", a_job(), idempotency_key="order-17")
    assert (first["job_id"], again["replayed"]) == (again["job_id"], True)
    assert (first["repeated"], again["repeated"]) == (False, False)
    with pytest.raises(ApiError, match="409 idempotency_conflict"):
        await ask(client, "create_job", a_job("bob@example.org"), idempotency_key="order-17")
    await close(client)


async def test_a_proxy_that_says_at_once_is_not_asked_without_a_rest(kind: Any) -> None:
    asked = list[str]()

    async def refuse(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.Response(status=503, headers={"Retry-After": "0"})

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", refuse)
    async with TestServer(app) as proxy:
        client = kind(str(proxy.make_url("")), key="k", patience=0.7)
        with pytest.raises(ApiError, match="503"):
            await ask(client, "templates")
        await close(client)
    assert len(asked) == 2


async def test_who_is_too_fast_waits_as_long_as_it_is_told_to(place: Place, kind: Any) -> None:
    key = await place.keys.create("slow", per_minute=60)
    client, hurried = kind(place.url, key=key), kind(place.url, key=key, patience=0)

    async def hurry() -> None:
        for _ in range(1000):
            await ask(hurried, "templates")

    again = 0
    for _ in range(20):
        with pytest.raises(ApiError, match="429 too_fast") as caught:
            await hurry()
        assert caught.value.retry_after == 1
        refused = len(place.heard.of("request_refused"))
        assert (await ask(client, "create_job", a_job()))["accepted"] == 1
        again = len(place.heard.of("request_refused")) - refused
        if again:  # else the second was over before the job came, on a machine that has other work
            break
    assert 1 <= again <= 2, "it waits, and does not hammer"
    await close(client)
    await close(hurried)


async def test_what_is_wrong_is_named_by_its_field(place: Place, kind: Any) -> None:
    client = kind(place.url, key=place.key)
    with pytest.raises(ApiError) as caught:
        await ask(client, "create_job", a_job("nobody", colour="red"))
    assert (caught.value.status, caught.value.code) == (422, "invalid_request")
    assert {each["field"] for each in caught.value.details} == {"colour", "recipients[0].email"}
    assert "\n  recipients[0].email: " in str(caught.value)
    assert caught.value.idempotency_key
    await close(client)


async def test_without_a_daemon_the_error_says_so_and_names_the_key_to_come_again_with(kind: Any) -> None:
    client = kind(f"http://127.0.0.1:{free_port()}", key="sk_live_x", patience=0.6)
    with pytest.raises(NoAnswerError, match="POST /api/jobs/send_template_emails got no response") as caught:
        await ask(client, "create_job", a_job(), idempotency_key="order-17")
    assert caught.value.idempotency_key == "order-17"
    await close(client)


async def test_an_answer_that_is_not_mailerds_is_an_error_and_no_redirect_gets_the_key(kind: Any) -> None:
    asked = list[str]()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append((await reader.readuntil(b"\r\n\r\n")).decode())
        writer.write(b"HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    client = kind(f"http://127.0.0.1:{port}", key="sk_live_x")
    with pytest.raises(ApiError, match="302 http_302: GET /api/jobs/x returned 302, and not from mailerd"):
        await ask(client, "job", "x")
    await close(client)
    server.close()
    await server.wait_closed()
    assert len(asked) == 1


async def test_a_client_that_is_closed_waits_no_longer(place: Place) -> None:
    client = Client(place.url, key=place.key)
    following = asyncio.create_task(asyncio.to_thread(lambda: list(client.events(follow=3600))))
    await place.heard.wait_for("request_answered")
    client.close()
    assert await asyncio.wait_for(following, PATIENCE) == []


async def test_who_has_seen_enough_leaves_the_events_and_an_event_loop_may_run(place: Place) -> None:
    job = await asyncio.to_thread(Client(place.url, key=place.key).create_job, a_job("a@example.org", "b@example.org"))

    async def work() -> None:
        client = Client(place.url, key=place.key)
        client.wait_until_finished(job["job_id"], within=60)
        for each in client.events(follow=3600):
            assert each["type"]
            break
        assert next(client.recipients(job["job_id"]))["email"] == "a@example.org"

    await asyncio.to_thread(asyncio.run, work())


async def test_a_daemon_that_says_nothing_ends_no_wait_later() -> None:
    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_server(say_nothing, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with AsyncClient(f"http://127.0.0.1:{port}", key="k") as client, asyncio.timeout(60):
            with pytest.raises(TimeoutError):
                await client.wait_until_finished("x", within=0.1)


def test_both_clients_have_every_call() -> None:
    ours, theirs = ({name for name in dir(kind) if not name.startswith("_")} for kind in (Client, AsyncClient))
    assert ours == theirs
    for name in ours - {"close"}:
        assert inspect.signature(getattr(Client, name)) == inspect.signature(getattr(AsyncClient, name))


def test_a_program_that_imports_the_client_imports_no_daemon() -> None:
    source = "import sys, mailerd.client; print(*sorted(it for it in sys.modules if it.startswith('mailerd.')))"
    found = subprocess.run([sys.executable, "-c", source], check=True, capture_output=True, text=True, timeout=60)
    strangers = [it for it in found.stdout.split() if not it.startswith("mailerd.client")]
    assert strangers == ["mailerd.core", "mailerd.core.i18n", "mailerd.errors"]


async def test_a_wait_for_a_job_ends_with_the_client(place: Place) -> None:
    client, tomorrow = Client(place.url, key=place.key), datetime.now(UTC) + timedelta(days=1)
    job = await asyncio.to_thread(client.create_job, a_job("ada@example.org", send_at=tomorrow))
    waiting = asyncio.create_task(asyncio.to_thread(client.wait_until_finished, job["job_id"]))
    await place.heard.wait_for("request_answered", times=2)
    client.close()
    closed = f"the client was closed before job {job['job_id']} finished: its status is queued"
    with pytest.raises(RuntimeError, match=closed):
        await asyncio.wait_for(waiting, PATIENCE)


@pytest.mark.parametrize(
    "url, key", [("127.0.0.1:5000", "k"), ("ftp://h", "k"), ("http://h", ""), ("http://h", "a\nb")]
)
def test_an_address_or_a_key_that_is_none_is_refused_at_once(url: str, key: str, kind: Any) -> None:
    with pytest.raises(ValueError, match=r"address of mailerd|API key"):
        kind(url, key=key)


@pytest.mark.parametrize(
    "ours, theirs, beside",
    [
        (answers.AcceptedJob, response_models.AcceptedOut, {"replayed", "repeated"}),
        (answers.DryRun, response_models.DryRunOut, set()),
        (answers.Job, response_models.JobOut, set()),
        (answers.Recipient, response_models.RecipientOut, set()),
        (answers.JobActionResult, response_models.ActionResultOut, set()),
        (answers.Event, response_models.FeedEventOut, set()),
        (answers.EventsPage, response_models.FeedOut, set()),
        (answers.Unmailed, response_models.RejectedOut, set()),
        (answers.NamedTemplate, response_models.TemplateOut, set()),
        (answers.Sender, senders.SenderOut, set()),
        (answers.Authorization, senders.SignedInOut, set()),
        (answers.SenderPause, senders.SenderPauseOut, set()),
        (answers.SenderFinding, senders.SenderFindingOut, set()),
        (answers.SenderLimits, senders.SenderLimitsOut, set()),
        (answers.NewSenderLimits, senders.SenderLimitsIn, set()),
        (answers.SenderDay, senders.SenderDayOut, set()),
        (answers.SenderMinute, senders.SenderMinuteOut, set()),
        (answers.SenderInbox, senders.SenderInboxOut, set()),
        (answers.SenderChanged, senders.SenderChangedOut, set()),
        (answers.KeyDetails, senders.KeyOut, set()),
        (answers.NewJob, JobFields, {"recipients"}),
        (answers.NewRecipient, RecipientIn, set()),
        (answers.NewJobFields, JobChangeIn, set()),
        (answers.JobChanged, response_models.JobChangedOut, set()),
        (answers.JobActions, response_models.ActionsOut, set()),
        (answers.JobAction, response_models.ActionOut, set()),
        (answers.NewMessage, one_message.MessageIn, set()),
        (answers.To, one_message.ToIn, set()),
        (answers.AcceptedMessage, response_models.AcceptedMessageOut, {"replayed", "repeated"}),
        (answers.OneMessage, response_models.MessageOut, set()),
        (answers.PersonsMessage, read_jobs.PersonsMessageOut, set()),
        (answers.RecipientHistory, recipients.RecipientHistoryOut, set()),
        (answers.Attempt, recipients.AttemptOut, set()),
        (answers.Notice, recipients.NoticeOut, set()),
        (answers.Settled, recipients.SettledOut, set()),
        (answers.Cancelled, recipients.CancelledOut, set()),
        (answers.SearchResult, search.SearchOut, set()),
        (answers.FoundJob, search.FoundJobOut, set()),
        (answers.Found, search.FoundPeopleOut, set()),
        (answers.Stats, stats.StatsOut, set()),
        (answers.StatsRow, stats.StatsRowOut, set()),
        (answers.NewSuppression, SuppressionRequest, set()),
        (answers.Suppression, suppressions.Suppression, set()),
        (answers.Suppressed, suppressions.SuppressedAddresses, set()),
        (answers.RemovedSuppression, suppressions.RemovedSuppression, set()),
        (answers.MailingList, suppressions.MailingList, set()),
        (answers.MailingLists, suppressions.MailingLists, set()),
        (answers.NewWebhookFields, WebhookChange, set()),
        (answers.NewWebhook, webhooks.NewWebhook, set()),
        (answers.Webhooks, webhooks.WebhookList, set()),
        (answers.WebhookDelivery, webhooks.WebhookDelivery, set()),
        (answers.RotatedSecret, webhooks.RotatedSecret, set()),
        (answers.WebhookTested, webhooks.TestedWebhook, set()),
        (answers.Replayed, webhooks.ReplayedEvents, set()),
    ],
)
def test_the_types_have_the_fields_of_the_api(ours: Any, theirs: Any, beside: set[str]) -> None:
    old = {"dry_run"} if theirs is JobFields else set()
    fields = {it.alias or name for name, it in theirs.model_fields.items() if not it.exclude}
    assert set(get_type_hints(ours)) == fields - old | beside


async def test_the_example_for_a_shell_posts_an_order_once(place: Place) -> None:
    script = Path(__file__).parents[2] / "examples" / "post.sh"
    assert shutil.which("curl"), "the example for a shell needs curl: type apt-get install curl, as root"
    for _ in range(2):
        process = await asyncio.create_subprocess_exec(
            script, "17", "ada@example.org", stdout=asyncio.subprocess.PIPE,
            env={**os.environ, "MAILERD_URL": place.url, "MAILERD_API_KEY": place.key},
        )  # fmt: skip
        out, _ = await asyncio.wait_for(process.communicate(), PATIENCE)
        assert (process.returncode, json.loads(out)["accepted"]) == (0, 1)
    assert await place.jobs() == 1
