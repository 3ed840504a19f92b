"""`/api/webhooks`: endpoints that events are posted to, for applications that set themselves up.

A key for certain senders sees and changes only endpoints that are limited to some of these.
"""

import re
from collections.abc import Collection
from datetime import timedelta
from typing import Any, Final

from aiohttp import web

from mailerd.clock import ULID, Clock
from mailerd.config.webhook_settings import WebhookSettings
from mailerd.core.webhook_retries import DeliveryStatus, EndpointState
from mailerd.intake.auth import KeyHandler
from mailerd.intake.errors import ApiError, not_found
from mailerd.intake.http_responses import json_response
from mailerd.intake.key_shares import KeyShares
from mailerd.intake.query_params import Query
from mailerd.intake.request_body import BodyReader
from mailerd.intake.request_models import read_model
from mailerd.intake.strict_json import parse
from mailerd.intake.webhook_models import (
    DeliveriesOut,
    DeliveryOut,
    NewWebhookOut,
    RemovedWebhookOut,
    ReplayedOut,
    ReplayIn,
    RotatedOut,
    RotateIn,
    TestedOut,
    WebhookChangeIn,
    WebhookIn,
    WebhookOut,
    WebhooksOut,
)
from mailerd.ops.outbound_http import OutboundHttp
from mailerd.ops.webhook_request import post_test
from mailerd.store.api_keys import ApiKey
from mailerd.store.db.database import Database
from mailerd.store.webhook_deliveries import MAX_PAGE, WebhookDeliveries
from mailerd.store.webhooks import NewEndpoint, UnknownWebhookError, WebhookEndpoint, WebhookError, Webhooks

MAX_BODY: Final = 64 * 1024
"""Bytes: a hundred senders with long addresses."""
_CURSOR: Final = re.compile(r"[0-9]{1,18}", re.ASCII)


class WebhookEndpoints:
    """The handlers. `timeout`: seconds that the database gets for an answer."""

    def __init__(
        self, settings: WebhookSettings, *, database: Database, timeout: float,
        clock: Clock, shares: KeyShares,
    ) -> None:  # fmt: skip
        self._settings = settings
        self._calls = shares.webhook_calls
        self._http = OutboundHttp(settings.network_rules)
        self._webhooks = Webhooks(database, timeout=timeout)
        self._deliveries = WebhookDeliveries(database, timeout=timeout)
        self._bodies = BodyReader(max_body=MAX_BODY)
        self._clock = clock

    def handlers(self) -> dict[str, KeyHandler]:
        """The handlers by the ids of their operations."""
        handlers: dict[str, KeyHandler] = {
            "listWebhooks": self.index, "createWebhook": self.add, "getWebhook": self.show,
            "changeWebhook": self.change, "deleteWebhook": self.remove, "listWebhookDeliveries": self.deliveries,
            "rotateWebhookSecret": self.rotate,
            "testWebhook": self.test, "replayWebhook": self.replay,
        }  # fmt: skip
        return {id_: _or_404(handler) for id_, handler in handlers.items()}

    async def index(self, request: web.Request, key: ApiKey) -> web.Response:  # noqa: ARG002 - as every endpoint
        """Every endpoint."""
        found = await self._webhooks.all(senders=key.senders)
        return json_response(WebhooksOut(webhooks=[WebhookOut.of(it) for it in found]))

    async def add(self, request: web.Request, key: ApiKey) -> web.Response:
        """Make an endpoint; the answer has its secret, once."""
        given = await self._body(request, key, WebhookIn)
        new = NewEndpoint(given.name, given.url, given.types, _senders(key, given.senders), key.id)
        try:
            made, secret = await self._webhooks.create(new)
        except WebhookError as error:
            raise ApiError(409, "conflict", f"{error}; nothing was stored") from None
        return json_response(NewWebhookOut.of(made, secret=secret))

    async def show(self, request: web.Request, key: ApiKey) -> web.Response:
        """One endpoint."""
        return json_response(WebhookOut.of(await self._of(request, key)))

    async def change(self, request: web.Request, key: ApiKey) -> web.Response:
        """Change what is given."""
        body = await self._body(request, key, WebhookChangeIn)
        it = await self._of(request, key)
        given: dict[str, Any] = body.model_dump(exclude_unset=True)
        if "senders" in given:
            given["senders"] = _senders(key, body.senders)
        if "state" in given:
            given["state"] = EndpointState(body.state)
        try:
            return json_response(WebhookOut.of(await self._webhooks.change(it.id, given)))
        except UnknownWebhookError:
            raise
        except WebhookError as error:
            raise ApiError(409, "conflict", f"{error}; nothing was changed") from None

    async def remove(self, request: web.Request, key: ApiKey) -> web.Response:
        """Remove an endpoint, with what waits for it."""
        it = await self._of(request, key)
        await self._webhooks.remove(it.id)
        return json_response(RemovedWebhookOut(removed=True))

    async def deliveries(self, request: web.Request, key: ApiKey) -> web.Response:
        """A page of deliveries, the newest event first."""
        with Query(request, allowed=("status", "cursor", "limit")) as given:
            status, most = given.choice("status", DeliveryStatus), given.limit(default=100, most=MAX_PAGE)
            before = given.cursor(shape=_CURSOR)
        it = await self._of(request, key)
        found = await self._deliveries.page(it, before=int(before) if before else None, status=status, limit=most + 1)
        page = found[:most]
        following = str(page[-1].position) if len(found) > most else None
        return json_response(DeliveriesOut(deliveries=[DeliveryOut.of(each) for each in page], next_cursor=following))

    async def rotate(self, request: web.Request, key: ApiKey) -> web.Response:
        """Give it a new secret; the old one signs as well for a while."""
        given = await self._body(request, key, RotateIn)
        it = await self._of(request, key)
        secret = await self._webhooks.rotate(it.id, overlap=timedelta(seconds=given.overlap))
        now = await self._webhooks.find(it.id)
        return json_response(RotatedOut(secret=secret, old_secret_until=now.old_until))

    async def test(self, request: web.Request, key: ApiKey) -> web.Response:
        """Post a test event now; the answer says what came of it."""
        it = await self._of(request, key)
        async with self._calls.place(key):
            attempt = await post_test(
                self._http, it.url, name=it.name, secrets=await self._webhooks.secrets(it.id),
                now=self._clock.now(), within=self._settings.timeout,
            )  # fmt: skip
        ms = attempt.took // timedelta(milliseconds=1)
        return json_response(TestedOut(delivered=attempt.succeeded, http=attempt.http, error=attempt.error, took_ms=ms))

    async def replay(self, request: web.Request, key: ApiKey) -> web.Response:
        """Deliver events once more."""
        given = await self._body(request, key, ReplayIn)
        it = await self._of(request, key)
        async with self._calls.place(key):
            events = await self._deliveries.replay(it, since=given.since, only_failed=given.only == "failed")
        return json_response(ReplayedOut(events=events))

    async def _body[M: (WebhookIn, WebhookChangeIn, RotateIn, ReplayIn)](
        self, request: web.Request, key: ApiKey, model: type[M]
    ) -> M:
        async with self._bodies.read(request, key) as raw:
            body = parse(raw) if raw or model is not RotateIn else {}
            return read_model(model, body, context=self._http.refusal)

    async def _of(self, request: web.Request, key: ApiKey) -> WebhookEndpoint:
        """The endpoint of a path, for a key that may see it."""
        if not ULID.fullmatch(request.match_info["id"]):  # a name finds it too, but not here
            raise UnknownWebhookError
        return await self._webhooks.find(request.match_info["id"], senders=key.senders)


def _or_404(handler: KeyHandler) -> KeyHandler:
    """Answer 404 where there is no such endpoint, or where it was removed while the request was carried out."""

    async def handle(request: web.Request, key: ApiKey) -> web.StreamResponse:
        try:
            return await handler(request, key)
        except UnknownWebhookError:
            raise not_found("there is no webhook with this id") from None

    return handle


def _senders(key: ApiKey, given: Collection[str] | None) -> list[str] | None:
    """The senders of an endpoint: those that are given, or all that the key may use."""
    if key.senders is None:
        return None if given is None else sorted(given)
    if given is not None and not key.senders >= set(given):
        raise ApiError(403, "sender_not_allowed", f"the key {key.name!r} may not hear of {', '.join(sorted(given))}")
    return sorted(key.senders if given is None else given)
