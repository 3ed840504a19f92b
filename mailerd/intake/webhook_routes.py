"""The operations of `/api/webhooks`, for the list of all operations."""

from typing import Final

from mailerd.core.webhook_retries import DeliveryStatus
from mailerd.intake import webhook_models as models
from mailerd.intake.operations import Operation, Param, page_size
from mailerd.store.api_keys import Permission

_BODY: Final = (400, 408, 413, 415, 422)

WEBHOOK_OPERATIONS: Final = (
    Operation(
        id="listWebhooks", method="GET", path="/api/webhooks", summary="Endpoints that events are posted to, by name",
        description="A key for certain senders sees those that are limited to some of these.",
        call=Permission.WEBHOOKS, answers=(models.WebhooksOut,), errors=(422,),
    ),
    Operation(
        id="createWebhook", method="POST", path="/api/webhooks",
        summary="Add an endpoint, which gets the events from now on",
        description=(
            "The answer has the secret by which the application verifies the posts (Standard Webhooks 1.0.0). It is "
            "not shown again."
        ),
        call=Permission.WEBHOOKS, body=models.WebhookIn, body_required=True, answers=(models.NewWebhookOut,),
        errors=(409, *_BODY),
    ),
    Operation(
        id="getWebhook", method="GET", path="/api/webhooks/{id}", summary="One endpoint", call=Permission.WEBHOOKS,
        answers=(models.WebhookOut,), errors=(404, 422),
    ),
    Operation(
        id="changeWebhook", method="PATCH", path="/api/webhooks/{id}", summary="Change, pause or resume an endpoint",
        description="What the body names is changed. With `state` on, all that it has missed is due at once.",
        call=Permission.WEBHOOKS, body=models.WebhookChangeIn, body_required=True, answers=(models.WebhookOut,),
        errors=(404, 409, *_BODY),
    ),
    Operation(
        id="deleteWebhook", method="DELETE", path="/api/webhooks/{id}",
        summary="Remove an endpoint, with what waits for it", call=Permission.WEBHOOKS,
        answers=(models.RemovedWebhookOut,),
        errors=(404, 422),
    ),
    Operation(
        id="listWebhookDeliveries", method="GET", path="/api/webhooks/{id}/deliveries",
        summary="What became of its deliveries, the newest event first", call=Permission.WEBHOOKS,
        params=(
            Param("status", {"type": "string", "enum": [*DeliveryStatus]}, "deliveries in this state"),
            Param("cursor", {"type": "string", "pattern": "^[0-9]{0,18}$"}, "`next_cursor` of the page before"),
            page_size(100, 1000),
        ),
        answers=(models.DeliveriesOut,), errors=(404, 422),
    ),
    Operation(
        id="rotateWebhookSecret", method="POST", path="/api/webhooks/{id}/rotate", summary="Give it a new secret",
        description="Both secrets sign until the overlap is over.", call=Permission.WEBHOOKS, body=models.RotateIn,
        answers=(models.RotatedOut,), errors=(404, *_BODY),
    ),
    Operation(
        id="testWebhook", method="POST", path="/api/webhooks/{id}/test", summary="Post a test event now",
        description="Its type is `webhook.test`. It stands in no list and is not repeated.", call=Permission.WEBHOOKS,
        answers=(models.TestedOut,), errors=(404, 422),
    ),
    Operation(
        id="replayWebhook", method="POST", path="/api/webhooks/{id}/replay", summary="Deliver events once more",
        description="With their old ids; those from before the endpoint was made too. What waits is not doubled.",
        call=Permission.WEBHOOKS, body=models.ReplayIn, body_required=True, answers=(models.ReplayedOut,),
        errors=(404, *_BODY),
    ),
)  # fmt: skip
