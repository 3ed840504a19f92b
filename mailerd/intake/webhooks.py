"""`/api/webhooks`: endpoints that events are posted to, for applications that set themselves up."""

import re
from typing import Final

from aiohttp import web

from mailerd.core.i18n import t
from mailerd.core.webhooks import DeliveryStatus
from mailerd.events.actions import Via
from mailerd.http.auth import KeyHandler
from mailerd.http.errors import NOTHING_CHANGED, ApiError
from mailerd.http.requests import BodyReader, Query
from mailerd.http.responses import json_response, not_found
from mailerd.intake.strict_json import parse
from mailerd.operations import webhooks
from mailerd.operations.caller import Backend, Caller
from mailerd.operations.inputs import RequestModel, read_model
from mailerd.store.write.api_keys import ApiKey
from mailerd.store.write.webhooks import MAX_PAGE, UnknownWebhookError, WebhookError

MAX_BODY: Final = 64 * 1024
"""Bytes: a hundred senders with long addresses."""
_CURSOR: Final = re.compile(r"[0-9]{1,18}", re.ASCII)


class WebhookEndpoints:
    """The handlers."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._bodies = BodyReader(max_body=MAX_BODY)

    def handlers(self) -> dict[str, KeyHandler]:
        """The handlers by the ids of their operations."""
        handlers: dict[str, KeyHandler] = {
            "listWebhooks": self.index,
            "createWebhook": self.create,
            "getWebhook": self.show,
            "changeWebhook": self.change,
            "deleteWebhook": self.remove,
            "listWebhookDeliveries": self.deliveries,
            "rotateWebhookSecret": self.rotate,
            "testWebhook": self.test,
            "replayWebhook": self.replay,
        }
        return {id_: _with_refusals(handler) for id_, handler in handlers.items()}

    async def index(self, request: web.Request, key: ApiKey) -> web.Response:  # noqa: ARG002 - as every endpoint
        """Every endpoint."""
        return json_response(await webhooks.index(self._by(key)))

    async def create(self, request: web.Request, key: ApiKey) -> web.Response:
        """Make an endpoint; the answer has its secret, once."""
        given = await self._body(request, key, webhooks.WebhookRequest)
        return json_response(await webhooks.create(self._by(key), given))

    async def show(self, request: web.Request, key: ApiKey) -> web.Response:
        """One endpoint."""
        return json_response(await webhooks.find(self._by(key), request.match_info["id"]))

    async def change(self, request: web.Request, key: ApiKey) -> web.Response:
        """Change what is given."""
        given = await self._body(request, key, webhooks.WebhookChange)
        return json_response(await webhooks.change(self._by(key), request.match_info["id"], given))

    async def remove(self, request: web.Request, key: ApiKey) -> web.Response:
        """Remove an endpoint, with what waits for it."""
        return json_response(await webhooks.remove(self._by(key), request.match_info["id"]))

    async def deliveries(self, request: web.Request, key: ApiKey) -> web.Response:
        """A page of deliveries, the newest event first."""
        with Query(request, allowed=("status", "cursor", "limit")) as given:
            status, most = (
                given.choice("status", DeliveryStatus),
                given.limit(default=100, most=MAX_PAGE),
            )
            before = given.cursor(shape=_CURSOR)
        page = await webhooks.deliveries(
            self._by(key),
            request.match_info["id"],
            status=status,
            before=int(before) if before else None,
            limit=most,
        )
        return json_response(page)

    async def rotate(self, request: web.Request, key: ApiKey) -> web.Response:
        """Give it a new secret; the old one signs as well for a while."""
        given = await self._body(request, key, webhooks.SecretRotation)
        return json_response(await webhooks.rotate(self._by(key), request.match_info["id"], given))

    async def test(self, request: web.Request, key: ApiKey) -> web.Response:
        """Post a test event now; the answer says what came of it."""
        return json_response(await webhooks.test(self._by(key), request.match_info["id"]))

    async def replay(self, request: web.Request, key: ApiKey) -> web.Response:
        """Deliver events once more."""
        given = await self._body(request, key, webhooks.EventReplay)
        return json_response(await webhooks.replay(self._by(key), request.match_info["id"], given))

    def _by(self, key: ApiKey) -> Caller:
        return Caller(self._backend, Via.API, f"key:{key.name}", key)

    async def _body[M: RequestModel](self, request: web.Request, key: ApiKey, model: type[M]) -> M:
        async with self._bodies.read(request, key) as raw:
            body = parse(raw) if raw or model is not webhooks.SecretRotation else {}
            return read_model(model, body, context=webhooks.refusal(self._by(key)))


def _with_refusals(handler: KeyHandler) -> KeyHandler:
    """Answer 404 where there is no such endpoint, or none any more, and 409 where it cannot be
    changed like this.
    """

    async def handle(request: web.Request, key: ApiKey) -> web.StreamResponse:
        try:
            return await handler(request, key)
        except UnknownWebhookError:
            raise not_found(t("no webhook has this ID")) from None
        except WebhookError as error:
            raise ApiError(409, "conflict", t(NOTHING_CHANGED, message=str(error))) from None

    return handle
