"""Every operation of the API: the server makes its routes from this list, and the OpenAPI document is made from it."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, Literal

from pydantic import BaseModel

from mailerd.clock import ULID_PATTERN
from mailerd.core.fates import Fate
from mailerd.core.states import JobChange, JobStatus, State
from mailerd.core.suppression import Reason
from mailerd.core.webhooks import DeliveryStatus, EventType
from mailerd.intake import response_models, suppressions, webhooks
from mailerd.intake.read_jobs import PersonOut
from mailerd.intake.request_models import JobIn, NothingIn, PriorityIn, RetryIn
from mailerd.intake.suppressions import ListIn, SuppressionsIn
from mailerd.store.api_keys import Permission
from mailerd.store.event_feed import MAX_PAGE as MAX_FEED_PAGE
from mailerd.store.list_names import MAX_LIST_NAME

Where = Literal["query", "header", "path"]


@dataclass(frozen=True)
class Param:
    """A parameter of the query or of the path, or a header."""

    name: str
    schema: dict[str, Any]
    description: str
    where: Where = "query"
    required: bool = False


@dataclass(frozen=True)
class Operation:
    """One method of one path, as /openapi.json describes it."""

    id: str
    method: Literal["GET", "POST", "PATCH", "DELETE"]
    path: str
    summary: str
    description: str = ""
    call: Permission | None = None
    """What a key must be allowed; None: no key is needed."""
    params: tuple[Param, ...] = ()
    body: type[BaseModel] | None = None
    body_required: bool = False
    answers: tuple[type[BaseModel], ...] = ()
    """What an answer of status 200 holds; several: it holds one of them."""
    kind: str = "application/json"
    stream: type[BaseModel] | None = None
    """One event of the stream that it answers with where the client accepts `text/event-stream`."""
    errors: tuple[int, ...] = ()
    """The statuses of its errors, without 401, 403, 429 and 503, which everything that needs a key has."""


def _text(name: str, most: int, description: str, *, where: Where = "query", required: bool = False) -> Param:
    return Param(name, {"type": "string", "maxLength": most}, description, where=where, required=required)


def _matching(name: str, pattern: str, description: str, *, where: Where = "query") -> Param:
    return Param(name, {"type": "string", "pattern": pattern}, description, where=where)


def _choice(name: str, among: Iterable[str], description: str) -> Param:
    return Param(name, {"type": "string", "enum": [*among]}, description)


def _moment(name: str, description: str) -> Param:
    return Param(name, {"type": "string", "format": "date-time"}, description)


def _cursor(pattern: str) -> Param:
    return _matching("cursor", pattern, "`next_cursor` of the page before")


def _page_size(default: int, most: int) -> Param:
    schema = {"type": "integer", "minimum": 1, "maximum": most, "default": default}
    return Param("limit", schema, "how many to a page")


def id_of(change: JobChange) -> str:
    """The id of the operation that changes a job so."""
    return "setJobPriority" if change is JobChange.PRIORITY else f"{change.value}Job"


_BODY: Final = (400, 408, 413, 415, 422)
"""What is answered to a body that cannot be read."""
_RECIPIENT_STATUS: Final = _choice("status", State, "recipients in this state")
_LIST: Final = _text("list", MAX_LIST_NAME, "of this list; absent: see the call")
_REASON: Final = _choice("reason", Reason, "those for this reason")


def _change(
    change: JobChange, summary: str, description: str, body: type[BaseModel], *, body_required: bool = False
) -> Operation:
    return Operation(
        id_of(change), "POST", f"/api/jobs/{{id}}/{change.value}", summary, description, Permission.CONTROL,
        body=body, body_required=body_required, answers=(response_models.ActionResultOut,), errors=(404, 409, *_BODY),
    )  # fmt: skip


_JOBS: Final = (
    Operation(
        "createJob", "POST", "/api/jobs/send_template_emails", "Post a job: one letter to each recipient",
        "A 200 is durable: the job and all its recipients are committed. With `Idempotency-Key` the same body gets "
        "the same answer and is stored once, and another body is a 409, for `intake.idempotency_keep` (7 days "
        "unless it is set).",
        Permission.SEND, body=JobIn, body_required=True, answers=(response_models.AcceptedOut,), errors=(409, *_BODY),
        params=(
            _matching(
                "Idempotency-Key", "^[!-~]([ -~]{0,253}[!-~])?$",
                "any id of the client's own; the body is compared byte for byte", where="header",
            ),
        ),
    ),
    Operation(
        "dryRunJob", "POST", "/api/jobs/send_template_emails/dry_run",
        "What a post would be answered: every letter is rendered, and nothing is stored",
        "The body is that of a post. Bad recipients are listed instead of refused; `post_refused` says whether a "
        "post of this body would be a 422, and `warnings` says why. It may take 60 s.",
        Permission.SEND, body=JobIn, body_required=True, answers=(response_models.DryRunOut,), errors=_BODY,
    ),
    Operation(
        "listJobs", "GET", "/api/jobs", "Jobs, the newest first", call=Permission.READ,
        params=(
            _choice("status", JobStatus, "jobs in this status"),
            Param("sender_email", {"type": "string"}, "jobs posted with this address; an alias is not its mailbox"),
            _text("reference", 320, "jobs with this reference of the client's own"),
            _moment("created_from", "accepted at this time or later"),
            _moment("created_before", "accepted before this time"),
            _cursor(f"^$|{ULID_PATTERN}"),
            _page_size(20, 100),
        ),
        answers=(response_models.JobsOut,), errors=(422,),
    ),
    Operation(
        "getJob", "GET", "/api/jobs/{id}", "One job and its counts", call=Permission.READ,
        answers=(response_models.JobOut,), errors=(404, 422),
    ),
    Operation(
        "listRecipients", "GET", "/api/jobs/{id}/recipients", "A job's recipients, in the order of the request",
        call=Permission.READ,
        params=(
            _RECIPIENT_STATUS,
            _text("email", 320, "recipients with this address, in any spelling"),
            _choice("fate", Fate, "recipients whose letter has this fate"),
            _cursor("^[0-9]{0,9}$"),
            _page_size(100, 1000),
        ),
        answers=(response_models.RecipientsOut,), errors=(404, 422),
    ),
    Operation(
        "findRecipients", "GET", "/api/recipients", "One person's letters over all jobs, the newest first",
        "The address in any spelling: upper or lower case and, at gmail.com and googlemail.com, its dots do "
        "not count. A key for certain senders gets their letters only.",
        Permission.READ,
        params=(
            _text("email", 320, "the person's address", required=True), _cursor("^[0-9]{0,19}$"), _page_size(100, 1000)
        ),
        answers=(PersonOut,), errors=(422,),
    ),
    Operation(
        "downloadResults", "GET", "/api/jobs/{id}/results.csv", "All recipients as CSV",
        "A text that a spreadsheet would take for a formula has an apostrophe before it.",
        Permission.READ, params=(_RECIPIENT_STATUS,), kind="text/csv", errors=(404, 422),
    ),
    Operation(
        "streamJobEvents", "GET", "/api/jobs/{id}/events", "Progress live, as server-sent events",
        "The schema is that of one event; a comment or `retry:` may stand between two. "
        "Each event (`progress`, at last `finished`) is the job as `GET /api/jobs/{id}` shows it, but for its "
        "forecast. After a broken connection come again with the `Last-Event-ID` that you saw: you get the newest "
        "picture if anything has changed, and a 204 when the end was seen.",
        Permission.READ,
        params=(Param("Last-Event-ID", {"type": "string"}, "the id of the last event seen", where="header"),),
        answers=(response_models.EventOut,), kind="text/event-stream", errors=(404, 422),
    ),
    Operation(
        "listEvents", "GET", "/api/events",
        "What happened: jobs, letters, bounces and replies, unsubscribes, pauses of senders",
        "Every event in its order and without a gap, the oldest first; keep `next_after` and come again. With "
        "`Accept: text/event-stream` it is a stream: the id of each event is its `id` here, and `Last-Event-ID` "
        "goes before `after`. A key for certain senders gets their events only.",
        Permission.READ,
        params=(
            _matching("after", "^[0-9]{0,18}$", "events behind this id; absent: all"),
            _text("types", 320, f"only these, with commas: {', '.join(EventType)}"),
            _page_size(100, MAX_FEED_PAGE),
            Param("Last-Event-ID", {"type": "string"}, "of a stream: the id of the last event seen", where="header"),
        ),
        answers=(response_models.FeedOut,), stream=response_models.FeedStreamOut, errors=(409, 410, 422),
    ),
    Operation(
        "listJobActions", "GET", "/api/jobs/{id}/actions", "Who asked what of a job, and when", call=Permission.READ,
        answers=(response_models.ActionsOut,), errors=(404, 422),
    ),
    _change(
        JobChange.CANCEL, "Cancel a job", "What waits is not sent. What is being sent is finished and recorded.",
        NothingIn,
    ),
    _change(JobChange.PAUSE, "Pause a job", "No further letter is claimed; what is being sent is finished.", NothingIn),
    _change(JobChange.RESUME, "Resume a paused job", "It goes on where it was paused.", NothingIn),
    _change(
        JobChange.RETRY, "Try failed letters anew, look for unsure ones now, or send those again that came back",
        "Failed letters start with all their attempts again; what was refused at the post stays failed. Unsure letters "
        "are looked for in the mailbox, never sent without an answer. Of what is sent, only letters that came back "
        "with the `kind` that you name are sent again.",
        RetryIn,
    ),
    _change(
        JobChange.PRIORITY, "Give a job another priority", "Among the jobs of its sender.", PriorityIn,
        body_required=True,
    ),
    Operation(
        "listTemplates", "GET", "/api/templates", "The named templates", call=Permission.READ,
        answers=(response_models.TemplatesOut,), errors=(422,),
    ),
)  # fmt: skip

_SUPPRESSIONS: Final = (
    Operation(
        "listSuppressions", "GET", "/api/suppressions", "Who gets no letters, the oldest suppression first",
        call=Permission.SUPPRESS,
        params=(
            _LIST, _REASON, _text("email", 320, "what keeps letters from this address"),
            _text("cursor", 64, "`next_cursor` of the page before"), _page_size(100, 1000),
        ),
        answers=(suppressions.SuppressionsOut,), errors=(422,),
    ),
    Operation(
        "downloadSuppressions", "GET", "/api/suppressions.csv", "All suppressions as CSV", call=Permission.SUPPRESS,
        params=(_LIST, _REASON), kind="text/csv", errors=(422,),
    ),
    Operation(
        "addSuppressions", "POST", "/api/suppressions", "Send no more letters to these addresses",
        "All of them or none. A list that is named and does not exist is made. Again, it changes nothing.",
        Permission.SUPPRESS, body=SuppressionsIn, body_required=True, answers=(suppressions.SuppressedOut,),
        errors=_BODY,
    ),
    Operation(
        "removeSuppression", "DELETE", "/api/suppressions/{email}", "End a suppression: the person gets letters again",
        call=Permission.SUPPRESS, params=(_text("email", 320, "the address, in any spelling", where="path"), _LIST),
        answers=(suppressions.RemovedOut,), errors=(404, 422),
    ),
    Operation(
        "listMailingLists", "GET", "/api/lists", "The lists that a person can leave", call=Permission.SUPPRESS,
        answers=(suppressions.ListsOut,), errors=(422,),
    ),
    Operation(
        "saveMailingList", "POST", "/api/lists", "Make a list, or give one another title", call=Permission.SUPPRESS,
        body=ListIn, body_required=True, answers=(suppressions.ListOut,), errors=_BODY,
    ),
)  # fmt: skip

_WEBHOOKS: Final = (
    Operation(
        "listWebhooks", "GET", "/api/webhooks", "Endpoints that events are posted to, by name",
        "A key for certain senders sees those that are limited to some of these.", Permission.WEBHOOKS,
        answers=(webhooks.WebhooksOut,), errors=(422,),
    ),
    Operation(
        "createWebhook", "POST", "/api/webhooks", "Add an endpoint, which gets the events from now on",
        "The answer has the secret by which the application verifies the posts (Standard Webhooks 1.0.0). It is "
        "not shown again.",
        Permission.WEBHOOKS, body=webhooks.WebhookIn, body_required=True,
        answers=(webhooks.NewWebhookOut,), errors=(409, *_BODY),
    ),
    Operation(
        "getWebhook", "GET", "/api/webhooks/{id}", "One endpoint", call=Permission.WEBHOOKS,
        answers=(webhooks.WebhookOut,), errors=(404, 422),
    ),
    Operation(
        "changeWebhook", "PATCH", "/api/webhooks/{id}", "Change, pause or resume an endpoint",
        "What the body names is changed. With `state` on, all that it has missed is due at once.",
        Permission.WEBHOOKS, body=webhooks.WebhookChangeIn, body_required=True,
        answers=(webhooks.WebhookOut,), errors=(404, 409, *_BODY),
    ),
    Operation(
        "deleteWebhook", "DELETE", "/api/webhooks/{id}", "Remove an endpoint, with what waits for it",
        call=Permission.WEBHOOKS, answers=(webhooks.RemovedWebhookOut,), errors=(404, 422),
    ),
    Operation(
        "listWebhookDeliveries", "GET", "/api/webhooks/{id}/deliveries",
        "What became of its deliveries, the newest event first", call=Permission.WEBHOOKS,
        params=(
            _choice("status", DeliveryStatus, "deliveries in this state"), _cursor("^[0-9]{0,18}$"),
            _page_size(100, 1000),
        ),
        answers=(webhooks.DeliveriesOut,), errors=(404, 422),
    ),
    Operation(
        "rotateWebhookSecret", "POST", "/api/webhooks/{id}/rotate", "Give it a new secret",
        "Both secrets sign until the overlap is over.", Permission.WEBHOOKS, body=webhooks.RotateIn,
        answers=(webhooks.RotatedOut,), errors=(404, *_BODY),
    ),
    Operation(
        "testWebhook", "POST", "/api/webhooks/{id}/test", "Post a test event now",
        "Its type is `webhook.test`. It stands in no list and is not repeated.", Permission.WEBHOOKS,
        answers=(webhooks.TestedOut,), errors=(404, 422),
    ),
    Operation(
        "replayWebhook", "POST", "/api/webhooks/{id}/replay", "Deliver events once more",
        "With their old ids; those from before the endpoint was made too. What waits is not doubled.",
        Permission.WEBHOOKS, body=webhooks.ReplayIn, body_required=True, answers=(webhooks.ReplayedOut,),
        errors=(404, *_BODY),
    ),
)  # fmt: skip

OPERATIONS: Final = (
    *_JOBS,
    *_SUPPRESSIONS,
    *_WEBHOOKS,
    Operation(
        "getLiveness", "GET", "/health/live", "Whether the process is alive", answers=(response_models.LiveOut,)
    ),
    Operation(
        "getReadiness", "GET", "/health/ready", "Whether a job could be stored now", answers=(response_models.ReadyOut,)
    ),
)  # fmt: skip
