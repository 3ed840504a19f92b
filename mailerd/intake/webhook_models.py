"""What requests and answers about webhooks hold."""

from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo

from mailerd.core.event_types import EventType
from mailerd.core.webhook_retries import DeliveryStatus, EndpointState, PauseReason
from mailerd.intake.request_models import RequestModel, read_moment
from mailerd.intake.response_models import Moment, ResponseModel, Whole
from mailerd.mail.addresses import mailbox
from mailerd.store.webhook_deliveries import WebhookDelivery
from mailerd.store.webhooks import MAX_NAME, MAX_SENDERS, MAX_URL, WebhookEndpoint, check_name, check_url

MAX_OVERLAP = 30 * 86_400


def _name(value: str) -> str:
    if why := check_name(value):
        raise ValueError(why)
    return value


def _url(value: str, info: ValidationInfo[Callable[[str], str] | None]) -> str:
    if why := check_url(value):
        raise ValueError(why)
    if info.context and (why := info.context(value)):  # an example in the documents is no request
        raise ValueError(f"{why}; the operator's [webhooks] says what is allowed")
    return value


Name = Annotated[
    str, Field(min_length=1, max_length=MAX_NAME, description="in lists and in the log"), AfterValidator(_name)
]
Url = Annotated[str, Field(min_length=1, max_length=MAX_URL, description="https://…"), AfterValidator(_url)]
Types = Annotated[
    list[Annotated[EventType, Field(strict=False)]] | None,
    Field(min_length=1, max_length=100, description="the types that it gets; null: all"),
]
Senders = Annotated[
    list[Annotated[str, Field(max_length=320, examples=["me@example.com"]), AfterValidator(mailbox)]] | None,
    Field(min_length=1, max_length=MAX_SENDERS, description="the mailboxes whose events it gets; null: all"),
]


class WebhookIn(RequestModel):
    """The body of `POST /api/webhooks`."""

    name: Name
    url: Url
    types: Types = None
    senders: Senders = None


class WebhookChangeIn(RequestModel):
    """The body of `PATCH /api/webhooks/{id}`: what is given is changed."""

    name: Name = ""
    url: Url = ""
    types: Types = None
    senders: Senders = None
    state: Annotated[Literal["on", "paused"], Field(description="on: all that it has missed is due at once")] = "on"


class RotateIn(RequestModel):
    """The body of `POST /api/webhooks/{id}/rotate`, which may be left out."""

    overlap: Annotated[
        int, Field(ge=0, le=MAX_OVERLAP, description="seconds for which the old secret signs as well")
    ] = 86_400


class ReplayIn(RequestModel):
    """The body of `POST /api/webhooks/{id}/replay`."""

    since: Annotated[
        datetime,
        BeforeValidator(read_moment),
        Field(description="the events since then", examples=["2026-12-01T09:00:00Z"]),
    ]
    only: Annotated[Literal["all", "failed"], Field(description="failed: those that were given up")] = "all"


class WebhookOut(ResponseModel):
    """An endpoint."""

    id: Annotated[str, Field(description="the id of the endpoint")]
    name: Annotated[str, Field(description="what lists and the log call it")]
    url: Annotated[str, Field(description="where events are posted to")]
    types: Annotated[list[EventType] | None, Field(description="the types that it gets; null: all")]
    senders: Annotated[list[str] | None, Field(description="the mailboxes whose events it gets; null: all")]
    state: Annotated[EndpointState, Field(description="on, paused, or gone: it answered 410")]
    pause_cause: Annotated[PauseReason | None, Field(description="manual, or failing: it failed for too long")]
    failures: Annotated[Whole, Field(description="attempts in a row that failed")]
    failing_since: Annotated[Moment | None, Field(description="the first of these failures")]
    retry_at: Annotated[Moment | None, Field(description="it rests until then")]
    old_secret_until: Annotated[Moment | None, Field(description="until then the secret before this one signs too")]
    created_at: Annotated[Moment, Field(description="when it was made")]

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
    """An endpoint that was just made."""

    secret: Annotated[str, Field(description="what signs; it is not shown again")]


class WebhooksOut(ResponseModel):
    """Every endpoint that the key may see, by name."""

    webhooks: Annotated[list[WebhookOut], Field(description="the endpoints")]


class RotatedOut(ResponseModel):
    """A new secret."""

    secret: Annotated[str, Field(description="what signs from now on; it is not shown again")]
    old_secret_until: Annotated[Moment | None, Field(description="until then the secret before this one signs too")]


class DeliveryOut(ResponseModel):
    """What became of one event at one endpoint."""

    id: Annotated[Whole, Field(description="the event's place in the feed")]
    event: Annotated[str, Field(description="its uid, the header webhook-id")]
    type: Annotated[EventType, Field(description="the type of the event")]
    status: Annotated[DeliveryStatus, Field(description="waiting, sending, delivered, or failed: given up")]
    attempts: Annotated[Whole, Field(description="how often it was posted")]
    http: Annotated[Whole | None, Field(description="the status of the last answer; null: there was none")]
    error: Annotated[str | None, Field(description="why the last attempt was no success")]
    took_ms: Annotated[Whole | None, Field(description="milliseconds of the last attempt")]
    created_at: Annotated[Moment, Field(description="when it was queued")]
    tried_at: Annotated[Moment | None, Field(description="when it was last posted")]
    due_at: Annotated[Moment | None, Field(description="when it is tried again; null: it is not")]

    @classmethod
    def of(cls, it: WebhookDelivery) -> "DeliveryOut":
        """One as the API shows it."""
        return cls(
            id=it.position, event=it.event, type=it.type, status=it.status, attempts=it.attempts, http=it.http,
            error=it.error, took_ms=it.took_ms, created_at=it.created_at, tried_at=it.tried_at, due_at=it.due_at,
        )  # fmt: skip


class DeliveriesOut(ResponseModel):
    """A page of them, the newest event first."""

    deliveries: Annotated[list[DeliveryOut], Field(description="the deliveries")]
    next_cursor: Annotated[str | None, Field(description="for the next page; null: this is the last one")]


class TestedOut(ResponseModel):
    """What the endpoint answered to a test event."""

    delivered: Annotated[bool, Field(description="whether the answer was a success")]
    http: Annotated[Whole | None, Field(description="the status of the answer; null: there was none")]
    error: Annotated[str | None, Field(description="why it was no success")]
    took_ms: Annotated[Whole, Field(description="milliseconds until the answer")]


class RemovedWebhookOut(ResponseModel):
    """The endpoint is removed."""

    removed: Annotated[Literal[True], Field(description="always true")]


class ReplayedOut(ResponseModel):
    """How many events are delivered once more."""

    events: Annotated[Whole, Field(description="how many events are due again")]
