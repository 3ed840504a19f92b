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

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from mailerd.client import ApiError, AsyncClient, Client, NoAnswerError, answers
from mailerd.intake import response_models, senders
from mailerd.intake.request_models import JobFields, RecipientIn
from mailerd.store.secrets import Secrets
from mailerd.store.suppressions import Suppressions
from tests.client.conftest import Place, a_job, ask
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
    monkeypatch.setattr("mailerd.client.clients._PAGE", 2)
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
    assert (await ask(client, "get_job", job_id))["forecast"]["done_at"]
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
    monkeypatch.setattr("mailerd.client.clients._SENDERS_PAGE", 1)
    client, me = kind(place.url, key=place.key), "me@example.com"
    posted = await ask(client, "create_job", a_job())
    await ask(client, "wait_until_finished", posted["job_id"], within=60)
    sender = await ask(client, "get_sender", me)
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
        await ask(client, "get_sender", "nobody@example.org")
    await ask(client, "change_sender", me, per_day=None)
    for number in range(2):
        await place.database.execute(
            "INSERT INTO senders (email, created_at) VALUES (%s, UTC_TIMESTAMP(6))",
            (f"x{number}@example.com",), what="more",
        )  # fmt: skip
    assert [it["email"] for it in await ask(client, "senders")] == [me, "x0@example.com", "x1@example.com"]
    assert (await ask(client, "get_key"))["name"] == "shop"
    await close(client)


async def test_a_sender_that_google_refuses_is_paused_with_the_remedy_and_never_sending(place: Place) -> None:
    async with AsyncClient(place.url, key=place.key) as client:
        place.google.revoke("me@example.com")
        await client.create_job(a_job())
        await place.heard.wait_for("sender_paused")
        sender = await client.get_sender("me@example.com")
        assert (sender["state"], sender["signed_in"]["state"], sender["waiting"]) == ("paused", "refused", 1)
        assert sender["pause"] is not None
        assert (sender["pause"]["cause"], sender["pause"]["until"]) == ("token_refused", None)
        assert sender["pause"]["remedy"] == "mailerd auth login --sender me@example.com"
        assert "has revoked the authorization" in sender["pause"]["reason"]
        assert sender["finding"] is not None
        assert (sender["finding"]["severity"], sender["next_message_at"]) == ("red", None)


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
        await ask(client, "get_job", "x")
    await close(client)
    server.close()
    await server.wait_closed()
    assert len(asked) == 1


async def test_a_client_that_is_closed_waits_no_longer(place: Place) -> None:
    client = Client(place.url, key=place.key)
    following = asyncio.create_task(asyncio.to_thread(lambda: list(client.events(follow=3600))))
    await place.heard.wait_for("request_answered")
    client.close()
    assert await asyncio.wait_for(following, 60) == []


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
        await asyncio.wait_for(waiting, 60)


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
        (answers.RecipientsPage, response_models.RecipientsOut, set()),
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
        (answers.SendersPage, senders.SendersOut, set()),
        (answers.SenderChanged, senders.SenderChangedOut, set()),
        (answers.KeyDetails, senders.KeyOut, set()),
        (answers.NewJob, JobFields, {"recipients"}),
        (answers.NewRecipient, RecipientIn, set()),
    ],
)
def test_the_types_have_the_fields_of_the_api(ours: Any, theirs: Any, beside: set[str]) -> None:
    old = {"dry_run"} if theirs is JobFields else set()
    assert set(get_type_hints(ours)) == set(theirs.model_fields) - old | beside


async def test_the_example_for_a_shell_posts_an_order_once(place: Place) -> None:
    script = Path(__file__).parents[2] / "examples" / "post.sh"
    assert shutil.which("curl"), "the example for a shell needs curl: type apt-get install curl, as root"
    for _ in range(2):
        process = await asyncio.create_subprocess_exec(
            script, "17", "ada@example.org", stdout=asyncio.subprocess.PIPE,
            env={**os.environ, "MAILERD_URL": place.url, "MAILERD_API_KEY": place.key},
        )  # fmt: skip
        out, _ = await asyncio.wait_for(process.communicate(), 60)
        assert (process.returncode, json.loads(out)["accepted"]) == (0, 1)
    assert await place.jobs() == 1
