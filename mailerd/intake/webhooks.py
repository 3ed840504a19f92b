"""`/api/webhooks`: endpoints that events are posted to, for applications that set themselves up.

A key for certain senders sees and changes only endpoints that are limited to some of these.
"""

import re
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Annotated, Any, Final, Literal, Self

from aiohttp import web
from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo

from mailerd.clock import ULID, Clock, read_moment
from mailerd.config.webhook_settings import WebhookSettings
from mailerd.core.i18n import t
from mailerd.core.webhooks import DeliveryStatus, EndpointState, EventType, PauseReason
from mailerd.events.intake import IntakeEvents
from mailerd.http.auth import KeyHandler, KeyShares, events_of
from mailerd.http.errors import NOTHING_CHANGED, ApiError, unstored
from mailerd.http.requests import BodyReader, Query
from mailerd.http.responses import ResponseModel, Sentence, json_response, not_found
from mailerd.intake.request_models import EMAIL_SCHEMA, RequestModel, read_model
from mailerd.intake.response_models import Moment, Whole
from mailerd.intake.strict_json import parse
from mailerd.mail.mime import mailbox
from mailerd.ops.outbound_http import OutboundHttp, post_test
from mailerd.store.api_keys import ApiKey
from mailerd.store.db.database import Database
from mailerd.store.webhooks import (
    MAX_NAME,
    MAX_PAGE,
    MAX_SENDERS,
    MAX_URL,
    NewEndpoint,
    UnknownWebhookError,
    WebhookDeliveries,
    WebhookDelivery,
    WebhookEndpoint,
    WebhookError,
    Webhooks,
    action_of,
    check_name,
    check_url,
)

# What requests and answers about webhooks hold.

MAX_OVERLAP = 30 * 86_400


def _name(value: str) -> str:
    if why := check_name(value):
        raise ValueError(why)
    return value


def _url(value: str, info: ValidationInfo[Callable[[str], str] | None]) -> str:
    if why := check_url(value):
        raise ValueError(why)
    if info.context and (why := info.context(value)):  # an example in the documents is no request
        raise ValueError(t("{why}; allowed addresses are set in [webhooks]", why=why))
    return value


Name = Annotated[
    str, Field(min_length=1, max_length=MAX_NAME, description="its name in lists and in the log"), AfterValidator(_name)
]
Url = Annotated[str, Field(min_length=1, max_length=MAX_URL, description="https://…"), AfterValidator(_url)]
Types = Annotated[
    list[Annotated[EventType, Field(strict=False)]] | None,
    Field(min_length=1, max_length=100, description="the types that it receives; null: all but recipients.sent"),
]
Senders = Annotated[
    list[Annotated[str, AfterValidator(mailbox), Field(examples=["me@example.com"], json_schema_extra=EMAIL_SCHEMA)]]
    | None,
    Field(min_length=1, max_length=MAX_SENDERS, description="the mailboxes whose events it receives; null: all"),
]


class WebhookIn(RequestModel):
    """The body of `POST /api/webhooks`."""

    name: Name
    url: Url
    types: Types = None
    senders: Senders = None


class WebhookChangeIn(RequestModel):
    """The body of `PATCH /api/webhooks/{id}`: the given fields are changed."""

    name: Name = ""
    url: Url = ""
    types: Types = None
    senders: Senders = None
    state: Annotated[Literal["on", "paused"], Field(description="on: missed events are due immediately")] = "on"


class RotateIn(RequestModel):
    """The optional body of `POST /api/webhooks/{id}/rotate`."""

    overlap: Annotated[int, Field(ge=0, le=MAX_OVERLAP, description="seconds that the old secret is used too")] = 86_400


class ReplayIn(RequestModel):
    """The body of `POST /api/webhooks/{id}/replay`."""

    since: Annotated[
        datetime,
        BeforeValidator(read_moment),
        Field(description="events from then on", examples=["2026-12-01T09:00:00Z"]),
    ]
    only: Annotated[Literal["all", "failed"], Field(description="failed: only deliveries with no more attempts")] = (
        "all"
    )


class WebhookOut(ResponseModel):
    """An endpoint."""

    id: Annotated[str, Field(description="the ID of the endpoint")]
    name: Annotated[str, Field(description="its name in lists and in the log")]
    url: Annotated[str, Field(description="the URL for events")]
    types: Annotated[
        list[EventType] | None, Field(description="the types that it receives; null: all but recipients.sent")
    ]
    senders: Annotated[list[str] | None, Field(description="the mailboxes whose events it receives; null: all")]
    state: Annotated[EndpointState, Field(description="on, paused, or gone (it responded with 410)")]
    pause_cause: Annotated[
        PauseReason | None, Field(description="manual, or failing (it failed for too long); null: not paused")
    ]
    failures: Annotated[Whole, Field(description="consecutive failed attempts")]
    failing_since: Annotated[Moment | None, Field(description="the first of these failures; null: there are none")]
    retry_at: Annotated[Moment | None, Field(description="no attempts until then; null: attempts as they are due")]
    old_secret_until: Annotated[
        Moment | None, Field(description="until then the old signing secret is used too; null: there was none")
    ]
    created_at: Annotated[Moment, Field(description="when it was created")]

    @classmethod
    def of(cls, it: WebhookEndpoint, **secret: str) -> Self:
        """One as the API shows it."""
        return cls(
            id=it.id, name=it.name, url=it.url, types=None if it.types is None else list(it.types),
            senders=None if it.senders is None else sorted(it.senders), state=it.state, pause_cause=it.pause_cause,
            failures=it.failures, failing_since=it.failing_since, retry_at=it.retry_at,
            old_secret_until=it.old_until, created_at=it.created_at, **secret,
        )  # fmt: skip


class NewWebhookOut(WebhookOut):
    """A new endpoint."""

    secret: Annotated[str, Field(description="the signing secret; it cannot be shown again")]


class WebhooksOut(ResponseModel):
    """All endpoints that the key may see, by name."""

    webhooks: Annotated[list[WebhookOut], Field(description="the endpoints")]


class RotatedOut(ResponseModel):
    """A new signing secret."""

    secret: Annotated[str, Field(description="the new signing secret; it cannot be shown again")]
    old_secret_until: Annotated[Moment, Field(description="until then the old signing secret is used too")]


class DeliveryOut(ResponseModel):
    """The delivery of one event to one endpoint."""

    id: Annotated[Whole, Field(description="the event's position in the feed")]
    event: Annotated[str, Field(description="the event's `uid`, sent as the header webhook-id")]
    type: Annotated[EventType, Field(description="the type of the event")]
    status: Annotated[DeliveryStatus, Field(description="waiting, sending, delivered, or failed (no more attempts)")]
    attempts: Annotated[Whole, Field(description="the number of posts")]
    http: Annotated[Whole | None, Field(description="the status of the last response; null: no response")]
    error: Annotated[Sentence | None, Field(description="why the last attempt failed; null: it did not")]
    took_ms: Annotated[
        Whole | None, Field(description="duration of the last attempt in milliseconds; null: none was made")
    ]
    created_at: Annotated[Moment, Field(description="when it was queued")]
    tried_at: Annotated[Moment | None, Field(description="when the event was last posted; null: not yet")]
    due_at: Annotated[Moment | None, Field(description="when the next attempt is due; null: none")]

    @classmethod
    def of(cls, it: WebhookDelivery) -> "DeliveryOut":
        """One as the API shows it."""
        return cls(
            id=it.position, event=it.event, type=it.type, status=it.status, attempts=it.attempts, http=it.http,
            error=it.error, took_ms=it.took_ms, created_at=it.created_at, tried_at=it.tried_at, due_at=it.due_at,
        )  # fmt: skip


class DeliveriesOut(ResponseModel):
    """A page of deliveries, newest event first."""

    deliveries: Annotated[list[DeliveryOut], Field(description="the deliveries")]
    next_cursor: Annotated[str | None, Field(description="`cursor` of the next page; null: this is the last page")]


class TestedOut(ResponseModel):
    """The endpoint's response to a test event."""

    delivered: Annotated[bool, Field(description="whether the delivery succeeded")]
    http: Annotated[Whole | None, Field(description="the status of the response; null: no response")]
    error: Annotated[Sentence | None, Field(description="why it failed; null: it did not")]
    took_ms: Annotated[Whole, Field(description="milliseconds until the response")]


class RemovedWebhookOut(ResponseModel):
    """The endpoint was removed."""

    removed: Annotated[Literal[True], Field(description="always true")]


class ReplayedOut(ResponseModel):
    """The number of events to deliver again."""

    events: Annotated[Whole, Field(description="the number of events")]


MAX_BODY: Final = 64 * 1024
"""Bytes: a hundred senders with long addresses."""
_CURSOR: Final = re.compile(r"[0-9]{1,18}", re.ASCII)


class WebhookEndpoints:
    """The handlers. `timeout`: seconds that the database gets for an answer."""

    def __init__(
        self, settings: WebhookSettings, *, database: Database, timeout: float,
        clock: Clock, shares: KeyShares, events: IntakeEvents,
    ) -> None:  # fmt: skip
        self._settings = settings
        self._calls = shares.webhook_calls
        self._http = OutboundHttp(settings.network_rules)
        self._webhooks = Webhooks(database, timeout=timeout)
        self._deliveries = WebhookDeliveries(database, timeout=timeout)
        self._bodies = BodyReader(max_body=MAX_BODY)
        self._clock = clock
        self._events = events

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
        new = NewEndpoint(given.name, given.url, given.types, events_of(key, given.senders), key.id)
        try:
            made, secret = await self._webhooks.create(new, actor=_actor(key))
        except WebhookError as error:
            raise ApiError(409, "conflict", unstored(str(error))) from None
        self._log(key, made, "add")
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
            given["senders"] = events_of(key, body.senders)
        if "state" in given:
            given["state"] = EndpointState(body.state)
        try:
            changed = await self._webhooks.change(it.id, given, actor=_actor(key))
        except UnknownWebhookError:
            raise
        except WebhookError as error:
            raise ApiError(409, "conflict", t(NOTHING_CHANGED, message=str(error))) from None
        self._log(key, it, action_of(given))
        return json_response(WebhookOut.of(changed))

    async def remove(self, request: web.Request, key: ApiKey) -> web.Response:
        """Remove an endpoint, with what waits for it."""
        it = await self._of(request, key)
        await self._webhooks.remove(it.id, actor=_actor(key))
        self._log(key, it, "remove")
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
        secret = await self._webhooks.rotate(it.id, overlap=timedelta(seconds=given.overlap), actor=_actor(key))
        self._log(key, it, "rotate")
        now = await self._webhooks.find(it.id)
        return json_response(RotatedOut.model_validate({"secret": secret, "old_secret_until": now.old_until}))

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
            events = await self._deliveries.replay(
                it, since=given.since, actor=_actor(key), only_failed=given.only == "failed"
            )
        self._log(key, it, "replay")
        return json_response(ReplayedOut(events=events))

    async def _body[M: (WebhookIn, WebhookChangeIn, RotateIn, ReplayIn)](
        self, request: web.Request, key: ApiKey, model: type[M]
    ) -> M:
        async with self._bodies.read(request, key) as raw:
            body = parse(raw) if raw or model is not RotateIn else {}
            return read_model(model, body, context=self._http.refusal)

    def _log(self, key: ApiKey, it: WebhookEndpoint, action: str) -> None:
        self._events.webhook_action(webhook=it.name, action=action, actor=_actor(key))

    async def _of(self, request: web.Request, key: ApiKey) -> WebhookEndpoint:
        """The endpoint of a path, for a key that may see it."""
        if not ULID.fullmatch(request.match_info["id"]):  # a name finds it too, but not here
            raise UnknownWebhookError
        return await self._webhooks.find(request.match_info["id"], senders=key.senders)


def _actor(key: ApiKey) -> str:
    return f"key:{key.name}"


def _or_404(handler: KeyHandler) -> KeyHandler:
    """Answer 404 where there is no such endpoint, or where it was removed while the request was carried out."""

    async def handle(request: web.Request, key: ApiKey) -> web.StreamResponse:
        try:
            return await handler(request, key)
        except UnknownWebhookError:
            raise not_found(t("no webhook has this ID")) from None

    return handle
