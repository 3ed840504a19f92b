"""Each operation of /openapi.json has a method of both clients, which asks for it in its own words."""

import inspect
import re
from pathlib import Path
from typing import Any, Final

from aiohttp import web
from aiohttp.test_utils import TestServer

from mailerd.client import AsyncClient, Client
from mailerd.intake.docs.api_pages import python
from mailerd.intake.routes import OPERATIONS, Operation
from tests.client.conftest import a_job, ask

WITHOUT: Final = {
    "getLiveness": "is for probes and load balancers, and needs no key",
    "getReadiness": "is for probes and load balancers, and needs no key",
}
"""Operations that no client has, and why."""
BESIDE: Final = {"close", "wait_until_finished"}
"""Methods that are made of others."""
CALLS: Final[dict[str, tuple[str, tuple[Any, ...], dict[str, Any]]]] = {
    "createJob": ("create_job", (a_job(),), {}),
    "dryRunJob": ("dry_run", (a_job(),), {}),
    "testJob": ("test_job", (a_job(), ["me@example.com"]), {"indexes": [0]}),
    "sendMessage": ("send_message", ({"sender_email": "me@example.com", "to": {"email": "a@b.example"}},), {}),
    "getMessage": ("message", ("x",), {}),
    "listJobs": ("jobs", (), {"status": "queued", "sender_email": "m", "reference": "r", "tag": "t",
                              "created_from": "f", "created_before": "b"}),
    "getJob": ("job", ("x",), {}),
    "listRecipients": ("recipients", ("x",), {"status": "sent", "email": "e", "result": "bounced",
                                              "outcome": "no_reply"}),
    "downloadResults": ("results_csv", ("x", "FILE"), {"status": "sent", "outcome": "no_reply"}),
    "listJobActions": ("actions", ("x",), {}),
    "streamJobEvents": ("watch", ("x",), {}),
    "changeJob": ("change_job", ("x",), {"priority": 5}),
    "cancelJob": ("cancel_job", ("x",), {}),
    "pauseJob": ("pause_job", ("x",), {}),
    "resumeJob": ("resume_job", ("x",), {}),
    "retryJob": ("retry_job", ("x",), {}),
    "setJobPriority": ("set_priority", ("x", 5), {}),
    "findRecipients": ("find_recipients", ("a@b.example",), {}),
    "getRecipient": ("recipient", (7,), {}),
    "getRecipientMessage": ("recipient_message", (7,), {}),
    "settleRecipient": ("settle", (7,), {"sent": True, "attempt": 1, "message_id": "m"}),
    "cancelRecipient": ("cancel_recipient", (7,), {}),
    "search": ("search", ("order",), {"limit": 5}),
    "getStats": ("stats", (), {"by": "day", "first": "2026-11-01", "last": "2026-11-30", "zone": "UTC"}),
    "listEvents": ("events", (), {"after": 7, "types": ["job.finished"]}),
    "streamEvents": ("stream_events", (), {"after": 7, "types": ["job.finished"]}),
    "listTemplates": ("templates", (), {}),
    "getTemplate": ("template", ("welcome",), {}),
    "saveTemplate": ("save_template", ("welcome", {"subject": "Hello", "text": "Hi"}), {}),
    "deleteTemplate": ("delete_template", ("welcome",), {}),
    "listTemplateVersions": ("template_versions", ("welcome",), {}),
    "getTemplateVersion": ("template_version", ("welcome", "3f6c1b2a9d40e85c"), {}),
    "publishTemplate": ("publish_template", ("welcome", "3f6c1b2a9d40e85c"), {"expect": None}),
    "renderTemplate": ("render_template", ("welcome",), {"variables": {"order": 17}, "language": "zh"}),
    "listSenders": ("senders", (), {}),
    "getSender": ("sender", ("m@b.example",), {}),
    "pauseSender": ("pause_sender", ("m@b.example",), {"reason": "r", "seconds": 60}),
    "resumeSender": ("resume_sender", ("m@b.example",), {}),
    "changeSender": ("change_sender", ("m@b.example",), {"per_day": 50}),
    "getKey": ("key", (), {}),
    "listSuppressions": ("suppressions", (), {"list_name": "news", "reason": "manual", "email": "e"}),
    "downloadSuppressions": ("suppressions_csv", ("FILE",), {"list_name": "news", "reason": "manual"}),
    "addSuppressions": ("suppress", ([{"email": "a@b.example"}],), {}),
    "removeSuppression": ("unsuppress", ("a@b.example",), {"list_name": "news"}),
    "listMailingLists": ("lists", (), {}),
    "saveMailingList": ("save_list", ("news",), {"title": "News"}),
    "listWebhooks": ("webhooks", (), {}),
    "createWebhook": ("create_webhook", ("crm", "https://crm.example/"), {"types": ["job.finished"]}),
    "getWebhook": ("webhook", ("w",), {}),
    "changeWebhook": ("change_webhook", ("w",), {"state": "paused"}),
    "deleteWebhook": ("delete_webhook", ("w",), {}),
    "listWebhookDeliveries": ("webhook_deliveries", ("w",), {"status": "failed"}),
    "rotateWebhookSecret": ("rotate_webhook_secret", ("w",), {"overlap": 60}),
    "testWebhook": ("test_webhook", ("w",), {}),
    "replayWebhook": ("replay_webhook", ("w",), {"since": "2026-12-01T09:00:00Z", "only": "failed"}),
}  # fmt: skip
"""By its operation: a method, and a call of it with all that it takes."""
LISTS: Final = ("jobs", "recipients", "events", "senders", "suppressions", "deliveries")
PAGED: Final = {"cursor", "limit"}
"""Parameters that a method gives itself."""


def test_both_clients_have_a_method_for_each_operation() -> None:
    operations = {it.id for it in OPERATIONS}
    assert CALLS.keys() == operations - WITHOUT.keys(), "an operation needs a method of both clients, and a line here"
    assert WITHOUT.keys() <= operations
    methods = {name for name, _, _ in CALLS.values()} | BESIDE
    for kind in (Client, AsyncClient):
        assert {name for name in dir(kind) if not name.startswith("_")} == methods


async def test_each_method_asks_for_its_operation_with_all_its_parameters(kind: Any, tmp_path: Path) -> None:
    asked = list[tuple[web.Request, bytes]]()

    async def answer(request: web.Request) -> web.Response:
        asked.append((request, await request.read()))
        match request.headers["Accept"]:
            case "text/event-stream":
                return web.Response(status=204)
            case "text/csv":
                return web.Response(text="id\r\n", content_type="text/csv")
            case _:
                return web.json_response({each: [] for each in LISTS} | {"next_cursor": None, "next_after": 7})

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    by_id = {it.id: it for it in OPERATIONS}
    async with TestServer(app) as server:
        client = kind(str(server.make_url("")), key="k", patience=0)
        for id_, (name, values, options) in CALLS.items():
            asked.clear()
            given = [str(tmp_path / "file") if it == "FILE" else it for it in values]
            await ask(client, name, *given, **options)
            (request, body), operation = asked[0], by_id[id_]
            assert (request.method, request.headers["Accept"]) == (operation.method, operation.kind), id_
            assert re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", operation.path), request.path), id_
            assert parameters(request, operation) == {it.name for it in operation.params if it.where == "query"}, id_
            if operation.body is not None:
                operation.body.model_validate_json(body, strict=False)
            else:
                assert body == b"", id_
        if inspect.iscoroutinefunction(client.close):
            await client.close()


def parameters(request: web.Request, operation: Operation) -> set[str]:
    """The parameters of a request, and those that a method gives where it has more to say."""
    return set(request.query) | {it.name for it in operation.params if it.name in PAGED}


def test_the_reference_shows_each_of_these_calls() -> None:
    for operation in OPERATIONS:
        if operation.id in CALLS:
            assert f"mailerd.{CALLS[operation.id][0]}(" in python(operation.id, operation.method, operation.path, {})
