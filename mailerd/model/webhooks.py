"""Webhooks: an endpoint that events are posted to, and the delivery of one event to it."""

import json
from typing import Annotated, Literal

from pydantic import Field

from mailerd.core.reasons import from_row
from mailerd.core.webhooks import DeliveryStatus, EndpointState, EventType, PauseReason, standing
from mailerd.model.fields import Moment, ResponseModel, Sentence, Sql, Whole


def _types(types: str | None) -> list[EventType] | None:
    return None if types is None else [EventType(it) for it in json.loads(types)]


def _senders(senders: str | None) -> list[str] | None:
    return None if senders is None else json.loads(senders)


class Webhook(ResponseModel):
    """An endpoint; its secret is not shown."""

    id: Annotated[str, Sql("id"), Field(description="the ID of the endpoint")]
    name: Annotated[str, Sql("name"), Field(description="its name in lists and in the log")]
    url: Annotated[str, Sql("url"), Field(description="the URL for events")]
    types: Annotated[
        list[EventType] | None,
        Sql("types", read=_types),
        Field(description="the types that it receives; null: all but recipients.sent"),
    ]
    senders: Annotated[
        list[str] | None,
        Sql("senders", read=_senders),
        Field(description="the mailboxes whose events it receives; null: all"),
    ]
    state: Annotated[
        EndpointState,
        Sql("state"),
        Field(description="on, paused, or gone (it responded with 410)"),
    ]
    pause_cause: Annotated[
        PauseReason | None,
        Sql("pause_cause"),
        Field(description="manual, or failing (it failed for too long); null: not paused"),
    ]
    failures: Annotated[Whole, Sql("failures"), Field(description="consecutive failed attempts")]
    failing_since: Annotated[
        Moment | None,
        Sql("failing_since"),
        Field(description="the first of these failures; null: there are none"),
    ]
    retry_at: Annotated[
        Moment | None,
        Sql("retry_at"),
        Field(description="no attempts until then; null: attempts as they are due"),
    ]
    old_secret_until: Annotated[
        Moment | None,
        Sql("old_until"),
        Field(description="until then the old signing secret is used too; null: there was none"),
    ]
    created_at: Annotated[Moment, Sql("created_at"), Field(description="when it was created")]

    @property
    def standing(self) -> str:
        """How it stands, as in WebhookStats."""
        return standing(self.state, self.pause_cause, is_failing=self.failing_since is not None)


class NewWebhook(Webhook):
    """A new endpoint."""

    secret: Annotated[str, Field(description="the signing secret; it cannot be shown again")]


class WebhookList(ResponseModel):
    """All endpoints that the caller may see, by name."""

    webhooks: Annotated[list[Webhook], Field(description="the endpoints")]


class RotatedSecret(ResponseModel):
    """A new signing secret."""

    secret: Annotated[str, Field(description="the new signing secret; it cannot be shown again")]
    old_secret_until: Annotated[
        Moment, Field(description="until then the old signing secret is used too")
    ]


class WebhookDelivery(ResponseModel):
    """The delivery of one event to one endpoint."""

    id: Annotated[Whole, Sql("d.position"), Field(description="the event's position in the feed")]
    event: Annotated[
        str, Sql("e.uid"), Field(description="the event's `uid`, sent as the header webhook-id")
    ]
    type: Annotated[EventType, Sql("e.type"), Field(description="the type of the event")]
    status: Annotated[
        DeliveryStatus,
        Sql("d.status"),
        Field(description="waiting, sending, delivered, or failed (no more attempts)"),
    ]
    attempts: Annotated[Whole, Sql("d.attempts"), Field(description="the number of posts")]
    http: Annotated[
        Whole | None,
        Sql("d.http"),
        Field(description="the status of the last response; null: no response"),
    ]
    error: Annotated[
        Sentence | None,
        Sql("d.error", "d.error_code", "d.error_args", read=from_row),
        Field(description="why the last attempt failed; null: it did not"),
    ]
    took_ms: Annotated[
        Whole | None,
        Sql("d.took_ms"),
        Field(description="duration of the last attempt in milliseconds; null: none was made"),
    ]
    created_at: Annotated[Moment, Sql("d.created_at"), Field(description="when it was queued")]
    tried_at: Annotated[
        Moment | None,
        Sql("d.tried_at"),
        Field(description="when the event was last posted; null: not yet"),
    ]
    due_at: Annotated[
        Moment | None,
        Sql("IF(d.status = 'waiting' AND w.state = 'on', d.due_at, NULL)"),
        Field(description="when the next attempt is due; null: none"),
    ]


class DeliveryPage(ResponseModel):
    """A page of deliveries, newest event first."""

    deliveries: Annotated[list[WebhookDelivery], Field(description="the deliveries")]
    next_cursor: Annotated[
        str | None, Field(description="`cursor` of the next page; null: this is the last page")
    ]


class TestedWebhook(ResponseModel):
    """The endpoint's response to a test event."""

    delivered: Annotated[bool, Field(description="whether the delivery succeeded")]
    http: Annotated[
        Whole | None, Field(description="the status of the response; null: no response")
    ]
    error: Annotated[Sentence | None, Field(description="why it failed; null: it did not")]
    took_ms: Annotated[Whole, Field(description="milliseconds until the response")]


class RemovedWebhook(ResponseModel):
    """The endpoint was removed."""

    removed: Annotated[Literal[True], Field(description="always true")]


class ReplayedEvents(ResponseModel):
    """The number of events to deliver again."""

    events: Annotated[Whole, Field(description="the number of events")]
