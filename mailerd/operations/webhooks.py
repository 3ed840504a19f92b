"""Webhooks: endpoints that events are posted to.

A key for certain senders sees and changes only endpoints that are limited to some of these. Each
change raises UnknownWebhookError where the caller sees no such endpoint, and WebhookError where it
cannot be changed like this.
"""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from datetime import datetime, timedelta
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo

from mailerd.clock import ULID, read_moment
from mailerd.core.i18n import t
from mailerd.core.webhooks import DeliveryStatus, EndpointState, EventType
from mailerd.http.auth import events_of
from mailerd.mail.mime import mailbox
from mailerd.model.webhooks import (
    DeliveryPage,
    NewWebhook,
    RemovedWebhook,
    ReplayedEvents,
    RotatedSecret,
    TestedWebhook,
    Webhook,
    WebhookList,
)
from mailerd.operations.caller import Caller, operation
from mailerd.operations.inputs import EMAIL_SCHEMA, RequestModel
from mailerd.ops.outbound_http import OutboundHttp, post_test
from mailerd.store.write.api_keys import Permission
from mailerd.store.write.webhooks import (
    MAX_NAME,
    MAX_SENDERS,
    MAX_URL,
    OPERATOR,
    NewEndpoint,
    UnknownWebhookError,
    WebhookDeliveries,
    WebhookError,
    Webhooks,
    action_of,
    check_name,
    check_url,
)

MAX_OVERLAP: Final = 30 * 86_400
"""The most seconds for which a secret is used beside the next one."""


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
    str,
    Field(min_length=1, max_length=MAX_NAME, description="its name in lists and in the log"),
    AfterValidator(_name),
]
Url = Annotated[
    str,
    Field(min_length=1, max_length=MAX_URL, description="https://…"),
    AfterValidator(_url),
]
Types = Annotated[
    list[Annotated[EventType, Field(strict=False)]] | None,
    Field(
        min_length=1,
        max_length=100,
        description="the types that it receives; null: all but recipients.sent",
    ),
]
Senders = Annotated[
    list[
        Annotated[
            str,
            AfterValidator(mailbox),
            Field(examples=["me@example.com"], json_schema_extra=EMAIL_SCHEMA),
        ]
    ]
    | None,
    Field(
        min_length=1,
        max_length=MAX_SENDERS,
        description="the mailboxes whose events it receives; null: all",
    ),
]


class WebhookRequest(RequestModel):
    """What a new endpoint is made of."""

    name: Name
    url: Url
    types: Types = None
    senders: Senders = None


class WebhookChange(RequestModel):
    """Changes of an endpoint: the given fields are changed."""

    name: Name = ""
    url: Url = ""
    types: Types = None
    senders: Senders = None
    state: Annotated[
        Literal["on", "paused"], Field(description="on: missed events are due immediately")
    ] = "on"


class SecretRotation(RequestModel):
    """How the signing secret is replaced."""

    overlap: Annotated[
        int, Field(ge=0, le=MAX_OVERLAP, description="seconds that the old secret is used too")
    ] = 86_400


class EventReplay(RequestModel):
    """Which events are delivered again."""

    since: Annotated[
        datetime,
        BeforeValidator(read_moment),
        Field(description="events from then on", examples=["2026-12-01T09:00:00Z"]),
    ]
    only: Annotated[
        Literal["all", "failed"], Field(description="failed: only deliveries with no more attempts")
    ] = "all"


def refusal(by: Caller) -> Callable[[str], str]:
    """Why a URL may not be requested, as the settings say; the context of the models above."""
    return OutboundHttp(by.backend.webhooks.network_rules).refusal


@operation(Permission.WEBHOOKS)
async def index(by: Caller) -> WebhookList:
    """Every endpoint that the caller sees, by name."""
    return WebhookList(webhooks=await _endpoints(by).all(senders=by.senders))


@operation(Permission.WEBHOOKS)
async def create(by: Caller, given: WebhookRequest) -> NewWebhook:
    """Make an endpoint, which receives the events from now on; the answer has its secret, once."""
    senders = events_of(by.key, given.senders) if by.key else given.senders
    new = NewEndpoint(
        given.name, given.url, given.types, senders, by.key.id if by.key else OPERATOR
    )
    made, secret = await _endpoints(by).create(new, actor=by.actor)
    _tell(by, made, "add")
    return NewWebhook(**dict(made), secret=secret)


@operation(Permission.WEBHOOKS)
async def find(by: Caller, which: str) -> Webhook:
    """The endpoint of an id; on this machine a name finds it, too."""
    if by.key and not ULID.fullmatch(which):
        raise UnknownWebhookError(t("no webhook has this ID"))
    return await _endpoints(by).find(which, senders=by.senders)


@operation(Permission.WEBHOOKS)
async def change(by: Caller, which: str, given: WebhookChange) -> Webhook:
    """Change what is given."""
    it = await find(by, which)
    fields: dict[str, Any] = given.model_dump(exclude_unset=True)
    if by.key and "senders" in fields:
        fields["senders"] = events_of(by.key, given.senders)
    if "state" in fields:
        fields["state"] = EndpointState(given.state)
    changed = await _endpoints(by).change(it.id, fields, actor=by.actor)
    _tell(by, it, action_of(fields))
    return changed


@operation(Permission.WEBHOOKS)
async def remove(by: Caller, which: str) -> RemovedWebhook:
    """Remove an endpoint, with what waits for it."""
    it = await find(by, which)
    await _endpoints(by).remove(it.id, actor=by.actor)
    _tell(by, it, "remove")
    return RemovedWebhook(removed=True)


@operation(Permission.WEBHOOKS)
async def deliveries(
    by: Caller,
    which: str,
    *,
    status: DeliveryStatus | None = None,
    before: int | None = None,
    limit: int = 100,
) -> DeliveryPage:
    """A page of its deliveries, the newest event first; those before the place `before` of the
    feed.
    """
    it = await find(by, which)
    found = await _deliveries(by).page(it.id, before=before, status=status, limit=limit + 1)
    page = found[:limit]
    return DeliveryPage(
        deliveries=page, next_cursor=str(page[-1].id) if len(found) > limit else None
    )


@operation(Permission.WEBHOOKS)
async def rotate(
    by: Caller, which: str, given: SecretRotation, *, seen: str | None = None
) -> RotatedSecret:
    """Give it a new secret; the old one signs as well for a while.

    `seen`: the end of the old secret as the caller saw it, as text; WebhookError where it is
    another one by now.
    """
    it = await find(by, which)
    if seen not in {None, str(it.old_secret_until)}:
        raise WebhookError(t("the secret was rotated in the meantime"))
    secret = await _endpoints(by).rotate(
        it.id, overlap=timedelta(seconds=given.overlap), actor=by.actor, seen=it if seen else None
    )
    _tell(by, it, "rotate")
    now = await find(by, it.id)
    return RotatedSecret.model_validate(
        {"secret": secret, "old_secret_until": now.old_secret_until}
    )


@operation(Permission.WEBHOOKS)
async def test(by: Caller, which: str) -> TestedWebhook:
    """Post a test event now; the answer says what came of it."""
    it, settings = await find(by, which), by.backend.webhooks
    async with _place(by):
        attempt = await post_test(
            OutboundHttp(settings.network_rules),
            it.url,
            name=it.name,
            secrets=await _endpoints(by).secrets(it.id),
            now=by.backend.clock.now(),
            within=settings.timeout,
        )
    took = attempt.took // timedelta(milliseconds=1)
    return TestedWebhook(
        delivered=attempt.succeeded, http=attempt.http, error=attempt.error, took_ms=took
    )


@operation(Permission.WEBHOOKS)
async def replay(by: Caller, which: str, given: EventReplay) -> ReplayedEvents:
    """Deliver events once more."""
    it = await find(by, which)
    async with _place(by):
        events = await _deliveries(by).replay(
            it, since=given.since, actor=by.actor, only_failed=given.only == "failed"
        )
    _tell(by, it, "replay")
    return ReplayedEvents(events=events)


def _endpoints(by: Caller) -> Webhooks:
    return Webhooks(by.backend.database, timeout=by.backend.timeout)


def _deliveries(by: Caller) -> WebhookDeliveries:
    return WebhookDeliveries(by.backend.database, timeout=by.backend.timeout)


def _place(by: Caller) -> AbstractAsyncContextManager[None]:
    """What posts to a stranger, or writes without a bound, is done one at a time by each key."""
    return (
        by.backend.shares.webhook_calls.place(by.key)
        if by.backend.shares and by.key
        else nullcontext()
    )


def _tell(by: Caller, it: Webhook, action: str) -> None:
    by.backend.events.webhook_action(
        webhook=it.name, action=action, actor=by.actor, via=by.via.value
    )
