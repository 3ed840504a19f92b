"""Every operation of the API: the server makes its routes from this list, and the OpenAPI document
is made from it.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, Literal

from pydantic import BaseModel

from mailerd.clock import ULID_PATTERN
from mailerd.core.results import MessageOutcome, Result
from mailerd.core.states import JobChange, JobStatus, State
from mailerd.core.suppression import Reason
from mailerd.core.webhooks import DeliveryStatus, EventType
from mailerd.intake import (
    recipients,
    response_models,
    search,
    senders,
    stats,
    templates_endpoint,
)
from mailerd.intake.one_message import MessageIn
from mailerd.intake.read_jobs import PersonOut
from mailerd.intake.request_models import JobChangeIn, JobIn, NothingIn, PriorityIn, RetryIn
from mailerd.intake.template_body import NamedTemplateIn
from mailerd.intake.tests_of_jobs import JobTestIn
from mailerd.mail.templates import NAME
from mailerd.model import suppressions
from mailerd.model import webhooks as webhook_models
from mailerd.operations import webhooks as requests
from mailerd.operations.inputs import EMAIL_SCHEMA
from mailerd.operations.suppressions import MailingListRequest, SuppressionsRequest
from mailerd.store.read.lookup import MAX_TEXT, SEARCHABLE
from mailerd.store.write.api_keys import Permission
from mailerd.store.write.event_feed import MAX_PAGE as MAX_FEED_PAGE
from mailerd.store.write.list_names import LIST_NAME, MAX_LIST_NAME
from mailerd.store.write.suppressions import CURSOR

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
    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
    path: str
    summary: str
    description: str = ""
    call: Permission | None = None
    """What a key must be allowed; None: nothing, or no key is needed."""
    params: tuple[Param, ...] = ()
    body: type[BaseModel] | None = None
    body_required: bool = False
    answers: tuple[type[BaseModel], ...] = ()
    """What an answer of status 200 holds; several: it holds one of them."""
    kind: str = "application/json"
    negotiates: bool = False
    """Where the client accepts `text/event-stream`, it is the stream that has a path of its own.

    The document does not say so: what a generator makes of an answer of two types fits neither.
    """
    errors: tuple[int, ...] = ()
    """The statuses of its errors, without 401, 403, 429 and 503, which everything that needs a key
    has.
    """
    any_key: bool = False
    """A key is needed, whatever it may do."""

    @property
    def needs_key(self) -> bool:
        """Whether it is served to who shows a key only."""
        return self.any_key or self.call is not None


def _text(
    name: str, most: int, description: str, *, where: Where = "query", required: bool = False
) -> Param:
    return Param(
        name, {"type": "string", "maxLength": most}, description, where=where, required=required
    )


def _matching(name: str, pattern: str, description: str, *, where: Where = "query") -> Param:
    return Param(name, {"type": "string", "pattern": pattern}, description, where=where)


def _email(name: str, description: str, *, where: Where = "query", required: bool = False) -> Param:
    return Param(
        name, {"type": "string", **EMAIL_SCHEMA}, description, where=where, required=required
    )


def _choice(name: str, among: Iterable[str], description: str) -> Param:
    return Param(name, {"type": "string", "enum": [*among]}, description)


def _moment(name: str, description: str) -> Param:
    return Param(name, {"type": "string", "format": "date-time"}, description)


def _day(name: str, description: str) -> Param:
    return Param(name, {"type": "string", "format": "date"}, description)


def _cursor(pattern: str) -> Param:
    return _matching("cursor", pattern, "`next_cursor` of the previous page")


def _page_size(default: int, most: int) -> Param:
    schema = {"type": "integer", "minimum": 1, "maximum": most, "default": default}
    return Param("limit", schema, "items per page")


def id_of(change: JobChange) -> str:
    """The id of the operation that changes a job so."""
    return "setJobPriority" if change is JobChange.PRIORITY else f"{change.value}Job"


_IDEMPOTENCY_KEY: Final = _matching(
    "Idempotency-Key",
    "^[!-~]([ -~]{0,253}[!-~])?$",
    "any ID that the client chooses; the body is compared byte for byte",
    where="header",
)
_BODY: Final = (400, 408, 413, 415, 422)
"""What is answered to a body that cannot be read."""
_RECIPIENT_STATUS: Final = _choice(
    "status", State, "recipients in this state; not together with `outcome`"
)
_OUTCOME: Final = _choice(
    "outcome",
    MessageOutcome,
    "recipients with this outcome; not together with `status` or `result`",
)
_LAST_EVENT: Final = Param(
    "Last-Event-ID", {"type": "string"}, "the ID of the last event received", where="header"
)
_AFTER: Final = _matching("after", "^[0-9]{0,18}$", "events after this ID; absent: all")
_TYPES: Final = Param(
    "types",
    {"type": "array", "items": {"type": "string", "enum": [*EventType]}},
    "only these types, separated by commas",
)
_LIST: Final = Param(
    "list",
    {"type": "string", "maxLength": MAX_LIST_NAME, "pattern": f"^$|^{LIST_NAME.pattern}$"},
    "for this list; if absent, see the description",
)
_REASON: Final = _choice("reason", Reason, "suppressions with this reason")


def _change(
    change: JobChange,
    summary: str,
    description: str,
    body: type[BaseModel],
    *,
    body_required: bool = False,
) -> Operation:
    return Operation(
        id_of(change),
        "POST",
        f"/api/jobs/{{id}}/{change.value}",
        summary,
        description,
        Permission.CONTROL,
        body=body,
        body_required=body_required,
        answers=(response_models.ActionResultOut,),
        errors=(404, 409, *_BODY),
    )


_JOBS: Final = (
    Operation(
        "createJob",
        "POST",
        "/api/jobs/send_template_emails",
        "Post a job: one message to each recipient",
        "A 200 is durable: the job and all its recipients are committed. With `Idempotency-Key` the same "
        "body gets the same response and is stored once; another body gets a 409. The key is kept for "
        "`intake.idempotency_keep` (default: 7 days).",
        Permission.SEND,
        body=JobIn,
        body_required=True,
        answers=(response_models.AcceptedOut,),
        errors=(409, *_BODY),
        params=(_IDEMPOTENCY_KEY,),
    ),
    Operation(
        "sendMessage",
        "POST",
        "/api/messages",
        "Post one message",
        "A job of one recipient. `subject`, `html` and `text` are sent as they are, braces included; or name a "
        "template. Durable, and stored once with `Idempotency-Key`, as a job.",
        Permission.SEND,
        body=MessageIn,
        body_required=True,
        answers=(response_models.AcceptedMessageOut,),
        errors=(409, *_BODY),
        params=(_IDEMPOTENCY_KEY,),
    ),
    Operation(
        "getMessage",
        "GET",
        "/api/messages/{id}",
        "One message that was posted as such, by its job's ID",
        call=Permission.READ,
        answers=(response_models.MessageOut,),
        errors=(404, 422),
    ),
    Operation(
        "dryRunJob",
        "POST",
        "/api/jobs/send_template_emails/dry_run",
        "Check a post: every message is rendered, nothing is stored",
        "The body is the same as for a post. Invalid recipients are listed, not refused. `post_refused` "
        "says whether a post of this body would get a 422, and `warnings` says why. A dry run can take "
        "60 s.",
        Permission.SEND,
        body=JobIn,
        body_required=True,
        answers=(response_models.DryRunOut,),
        errors=_BODY,
    ),
    Operation(
        "testJob",
        "POST",
        "/api/jobs/send_template_emails/test",
        "Send a test: a job as some of its recipients would get it, to yourself",
        "A job of the type `test`: a message for each address and recipient, at once, with `[Test]` before the subject "
        "and an unsubscribe link that does nothing. It gets no copies, and none of the job's metadata or tags. It "
        "counts in the sender's day, but not in statistics, nor as a bad list. `Idempotency-Key` as for a job.",
        Permission.SEND,
        body=JobTestIn,
        body_required=True,
        answers=(response_models.AcceptedOut,),
        errors=(409, *_BODY),
        params=(_IDEMPOTENCY_KEY,),
    ),
    Operation(
        "listJobs",
        "GET",
        "/api/jobs",
        "Jobs, newest first",
        call=Permission.READ,
        params=(
            _choice("status", JobStatus, "jobs with this status"),
            _email(
                "sender_email", "jobs posted with this address; an alias does not match its mailbox"
            ),
            _text("reference", 320, "jobs with this reference"),
            _matching("tag", "^$|^[A-Za-z0-9_-]{1,50}$", "jobs with this tag"),
            _moment("created_from", "accepted at this time or later"),
            _moment("created_before", "accepted before this time"),
            _cursor(f"^$|{ULID_PATTERN}"),
            _page_size(20, 100),
        ),
        answers=(response_models.JobsOut,),
        errors=(422,),
    ),
    Operation(
        "getJob",
        "GET",
        "/api/jobs/{id}",
        "One job and its counts",
        call=Permission.READ,
        answers=(response_models.JobOut,),
        errors=(404, 422),
    ),
    Operation(
        "listRecipients",
        "GET",
        "/api/jobs/{id}/recipients",
        "A job's recipients, in the order of the request",
        call=Permission.READ,
        params=(
            _RECIPIENT_STATUS,
            _email("email", "recipients with this address, in any spelling"),
            _choice(
                "result",
                Result,
                "recipients whose message has this result; not together with `outcome`",
            ),
            _OUTCOME,
            _cursor("^[0-9]{0,9}$"),
            _page_size(100, 1000),
        ),
        answers=(response_models.RecipientsOut,),
        errors=(404, 422),
    ),
    Operation(
        "findRecipients",
        "GET",
        "/api/recipients",
        "One person's messages in all jobs, newest first",
        "The address in any spelling: upper and lower case do not matter, nor do dots at gmail.com and "
        "googlemail.com. A key for certain senders gets only their messages.",
        Permission.READ,
        params=(
            _email("email", "the person's address", required=True),
            _cursor("^[0-9]{0,19}$"),
            _page_size(100, 1000),
        ),
        answers=(PersonOut,),
        errors=(422,),
    ),
    Operation(
        "getRecipient",
        "GET",
        "/api/recipients/{id}",
        "One message: its state, its history, bounces and replies",
        "`id` as in lists, events and the log. `story` is for people and says why it waits and what comes next.",
        Permission.READ,
        answers=(recipients.RecipientHistoryOut,),
        errors=(404, 422),
    ),
    Operation(
        "getRecipientMessage",
        "GET",
        "/api/recipients/{id}/message",
        "One message as it was sent, or will be; nothing is sent",
        "mailerd stores no messages: it renders this one again. The template, the variables and the files are those of "
        "the job. What is new with each message differs, and its unsubscribe link does nothing. A 409: it cannot be "
        "rendered, as when it was refused for that. A 410: its person was forgotten.",
        Permission.READ,
        answers=(recipients.MessageContentOut,),
        errors=(404, 409, 410, 422),
    ),
    Operation(
        "settleRecipient",
        "POST",
        "/api/recipients/{id}/settle",
        "Confirm an unconfirmed message as sent or not sent",
        "For a message with the status `unsure` that only a person can confirm, after checking the mailbox. A wrong "
        "`sent`: false sends it twice. A 409: its state is certain now, or there was another attempt.",
        Permission.CONTROL,
        body=recipients.SettleIn,
        body_required=True,
        answers=(recipients.SettledOut,),
        errors=(404, 409, *_BODY),
    ),
    Operation(
        "cancelRecipient",
        "POST",
        "/api/recipients/{id}/cancel",
        "Cancel one waiting message",
        "The other messages of the job are sent. A 409: it is being sent, or has ended.",
        Permission.CONTROL,
        body=NothingIn,
        answers=(recipients.CancelledOut,),
        errors=(404, 409, *_BODY),
    ),
    Operation(
        "search",
        "GET",
        "/api/search",
        "Jobs and people by a part of what you remember of them",
        "Jobs by ID, by the beginning of `reference`, by a part of the subject or of the template's name. People by "
        "the ID of a message, by the beginning of the address, by a part of the name. Subjects and names are looked "
        "for in the newest rows only; `back_to` says how far. A key for certain senders finds only theirs.",
        Permission.READ,
        params=(
            Param(
                "q",
                {"type": "string", "minLength": 1, "maxLength": MAX_TEXT, "pattern": SEARCHABLE},
                "at least 3 characters; or a number, or one character that is not ASCII",
                required=True,
            ),
            _page_size(search.DEFAULT_LIMIT, search.MAX_LIMIT),
        ),
        answers=(search.SearchOut,),
        errors=(422,),
    ),
    Operation(
        "getStats",
        "GET",
        "/api/stats",
        "Numbers of a period by day, sender, template or tag",
        "By day and by sender as messages came to their results, kept by the hour for 400 days: of mailboxes, the "
        "messages of their aliases included. By template or tag the jobs that ended in the period, by the address that "
        "they were posted with. mailerd counts no opens and no clicks. A key for certain senders gets only theirs, and "
        "a 403 by day and by sender where it names only an alias of a mailbox.",
        Permission.READ,
        params=(
            _choice("by", stats.By, "what a row stands for (default: day)"),
            _day("from", "the first day (default: 29 days before `to`)"),
            _day("to", "the last day (default: today)"),
            Param(
                "zone",
                {"type": "string", "maxLength": 64, "pattern": f"^$|{stats.ZONE.pattern}"},
                "the time zone of days, a name or an offset of whole hours (default: UTC)",
            ),
        ),
        answers=(stats.StatsOut,),
        errors=(422,),
    ),
    Operation(
        "downloadResults",
        "GET",
        "/api/jobs/{id}/results.csv",
        "All recipients as CSV",
        "Text that a spreadsheet would read as a formula starts with an apostrophe.",
        Permission.READ,
        params=(_RECIPIENT_STATUS, _OUTCOME),
        kind="text/csv",
        errors=(404, 422),
    ),
    Operation(
        "streamJobEvents",
        "GET",
        "/api/jobs/{id}/events",
        "Live progress as server-sent events",
        "The schema describes one event; comments and `retry:` lines can come between events. Each event "
        "(`progress`, finally `finished`) is the job as in `GET /api/jobs/{id}`, without its forecast. "
        "After a broken connection, send the `Last-Event-ID` that you saw: you get the current job if it "
        "has changed, or a 204 if you saw the last event.",
        Permission.READ,
        params=(_LAST_EVENT,),
        answers=(response_models.EventOut,),
        kind="text/event-stream",
        errors=(404, 422),
    ),
    Operation(
        "listEvents",
        "GET",
        "/api/events",
        "What happened: jobs, messages, bounces and replies, unsubscribes, paused senders",
        "All events in order and without gaps, oldest first. Store `next_after` and send it as `after` "
        "next time. A key for certain senders gets only their events.",
        Permission.READ,
        params=(_AFTER, _TYPES, _page_size(100, MAX_FEED_PAGE)),
        answers=(response_models.FeedOut,),
        negotiates=True,
        errors=(409, 410, 422),
    ),
    Operation(
        "streamEvents",
        "GET",
        "/api/events/stream",
        "What happens, as server-sent events",
        "The events of `GET /api/events` as they happen. The schema describes one event; comments and "
        "`retry:` lines can come between events. The ID of each event is its `id` there. After a broken "
        "connection, send the `Last-Event-ID` that you saw; it has priority over `after`.",
        Permission.READ,
        params=(_AFTER, _TYPES, _LAST_EVENT),
        answers=(response_models.FeedStreamOut,),
        kind="text/event-stream",
        errors=(409, 410, 422),
    ),
    Operation(
        "listJobActions",
        "GET",
        "/api/jobs/{id}/actions",
        "A job's activity: who requested what, and when",
        call=Permission.READ,
        answers=(response_models.ActionsOut,),
        errors=(404, 422),
    ),
    Operation(
        "changeJob",
        "PATCH",
        "/api/jobs/{id}",
        "Change a job's time, priority, reference, metadata or tags",
        "Only the given fields are changed. `send_at` can be changed until the first message is being sent; "
        "recipients with a time of their own keep it. For anything else, cancel the job and post it again.",
        Permission.CONTROL,
        body=JobChangeIn,
        body_required=True,
        answers=(response_models.JobChangedOut,),
        errors=(404, 409, *_BODY),
    ),
    _change(
        JobChange.CANCEL,
        "Cancel a job",
        "No more messages are handed to Google. Those already there are finished and recorded.",
        NothingIn,
    ),
    _change(
        JobChange.PAUSE,
        "Pause a job",
        "No more messages are handed to Google. Those already there are finished.",
        NothingIn,
    ),
    _change(
        JobChange.RESUME,
        "Resume a paused job",
        "The job continues from where it was paused.",
        NothingIn,
    ),
    _change(
        JobChange.RETRY,
        "Retry failed messages, check unsure ones now, or resend bounced ones",
        "Failed messages get all their attempts again; recipients refused when the job was posted stay "
        "failed. mailerd looks for unsure messages in the mailbox and never resends them before it "
        "knows. Of sent messages, only those that bounced with the given `kind` are sent again.",
        RetryIn,
    ),
    _change(
        JobChange.PRIORITY,
        "Change a job's priority",
        "The priority counts among the jobs of one sender.",
        PriorityIn,
        body_required=True,
    ),
)

_NAME: Final = _matching("name", f"^{NAME.pattern}$", "the template's name", where="path")
_TEMPLATE: Final = "/api/templates/{name}"
_TEMPLATES: Final = (
    Operation(
        "listTemplates",
        "GET",
        "/api/templates",
        "The named templates of the folder and of the API",
        call=Permission.READ,
        answers=(response_models.TemplatesOut,),
        errors=(422,),
    ),
    Operation(
        "getTemplate",
        "GET",
        _TEMPLATE,
        "One template: which version of it jobs get",
        call=Permission.READ,
        params=(_NAME,),
        answers=(templates_endpoint.TemplateStateOut,),
        errors=(404, 422),
    ),
    Operation(
        "saveTemplate",
        "PUT",
        _TEMPLATE,
        "Store a version of a template; it is used once it is published",
        "It is compiled, and rendered with its examples in each language; a 422 names the part and the line. Equal "
        "contents are one version, so that a repeated request changes nothing. A template has 200 versions; then the "
        "oldest one that is not published is deleted. A 409: the name is a folder's, or there are 1,000 templates.",
        Permission.TEMPLATES,
        params=(_NAME,),
        body=NamedTemplateIn,
        body_required=True,
        answers=(templates_endpoint.TemplateSavedOut,),
        errors=(409, *_BODY),
    ),
    Operation(
        "deleteTemplate",
        "DELETE",
        _TEMPLATE,
        "Archive a template",
        "Jobs can name it no more; those that were posted keep it. Storing a version under this name brings it back.",
        Permission.TEMPLATES,
        params=(_NAME,),
        answers=(templates_endpoint.TemplateArchivedOut,),
        errors=(404, 409, 422),
    ),
    Operation(
        "listTemplateVersions",
        "GET",
        f"{_TEMPLATE}/versions",
        "The versions of a template, newest first",
        call=Permission.READ,
        params=(_NAME,),
        answers=(templates_endpoint.TemplateVersionsOut,),
        errors=(404, 422),
    ),
    Operation(
        "getTemplateVersion",
        "GET",
        f"{_TEMPLATE}/versions/{{version}}",
        "One version with its sources",
        call=Permission.READ,
        params=(_NAME, _matching("version", "^[0-9a-f]{16}$", "the version", where="path")),
        answers=(templates_endpoint.TemplateContentOut,),
        errors=(404, 422),
    ),
    Operation(
        "publishTemplate",
        "POST",
        f"{_TEMPLATE}/publish",
        "Publish a version: jobs get it from now on",
        "Only if `expect` is the version that is published; otherwise a 409 `version_moved`, and nothing changes. To "
        "go back, publish an older version. Jobs that were posted keep the version that they have.",
        Permission.TEMPLATES,
        params=(_NAME,),
        body=templates_endpoint.PublishIn,
        body_required=True,
        answers=(templates_endpoint.TemplatePublishedOut,),
        errors=(404, 409, *_BODY),
    ),
    Operation(
        "renderTemplate",
        "POST",
        f"{_TEMPLATE}/render",
        "Render a template; nothing is sent",
        "`missing` names the variables that it needs besides those given. A 422 names the part and the line.",
        Permission.TEMPLATES,
        params=(_NAME,),
        body=templates_endpoint.RenderIn,
        answers=(templates_endpoint.RenderedOut,),
        errors=(404, *_BODY),
    ),
)

_SUPPRESSIONS: Final = (
    Operation(
        "listSuppressions",
        "GET",
        "/api/suppressions",
        "Suppressed addresses, oldest first",
        "A key for some senders sees what came by their messages and what it added itself; so with the CSV.",
        Permission.SUPPRESS,
        params=(
            _LIST,
            _REASON,
            _email("email", "suppressions of this address"),
            _cursor(f"^$|^{CURSOR.pattern}$"),
            _page_size(100, 1000),
        ),
        answers=(suppressions.SuppressionPage,),
        errors=(422,),
    ),
    Operation(
        "downloadSuppressions",
        "GET",
        "/api/suppressions.csv",
        "Suppressions as CSV",
        call=Permission.SUPPRESS,
        params=(_LIST, _REASON),
        kind="text/csv",
        errors=(422,),
    ),
    Operation(
        "addSuppressions",
        "POST",
        "/api/suppressions",
        "Suppress addresses",
        "All of them are added, or none. A list that does not exist is created. A repeated request "
        "changes nothing. A key for some senders adds them for lists only; without `list` it gets a 403.",
        Permission.SUPPRESS,
        body=SuppressionsRequest,
        body_required=True,
        answers=(suppressions.SuppressedAddresses,),
        errors=_BODY,
    ),
    Operation(
        "removeSuppression",
        "DELETE",
        "/api/suppressions/{email}",
        "Remove a suppression",
        "That of the list, or of all messages, as far as the key sees it. One of all messages that the person asked "
        "for is removed by a key for all senders only.",
        Permission.SUPPRESS,
        params=(_email("email", "the address, in any spelling", where="path"), _LIST),
        answers=(suppressions.RemovedSuppression,),
        errors=(404, 422),
    ),
    Operation(
        "listMailingLists",
        "GET",
        "/api/lists",
        "Mailing lists that a person can leave",
        "A list belongs to the senders of the key that created it; one of a key for all senders is everybody's. A key "
        "sees and uses those of its senders, and everybody's.",
        Permission.SUPPRESS,
        answers=(suppressions.MailingLists,),
        errors=(422,),
    ),
    Operation(
        "saveMailingList",
        "POST",
        "/api/lists",
        "Create a list, or change its title",
        "A key for some senders changes the title of a list only if it belongs to no other senders.",
        Permission.SUPPRESS,
        body=MailingListRequest,
        body_required=True,
        answers=(suppressions.MailingList,),
        errors=_BODY,
    ),
)

_WEBHOOKS: Final = (
    Operation(
        "listWebhooks",
        "GET",
        "/api/webhooks",
        "Endpoints that events are posted to, by name",
        "A key for certain senders sees only endpoints limited to these senders.",
        Permission.WEBHOOKS,
        answers=(webhook_models.WebhookList,),
        errors=(422,),
    ),
    Operation(
        "createWebhook",
        "POST",
        "/api/webhooks",
        "Add an endpoint; it receives events from now on",
        "The response contains the signing secret for verifying posts (Standard Webhooks 1.0.0). It "
        "cannot be shown again.",
        Permission.WEBHOOKS,
        body=requests.WebhookRequest,
        body_required=True,
        answers=(webhook_models.NewWebhook,),
        errors=(409, *_BODY),
    ),
    Operation(
        "getWebhook",
        "GET",
        "/api/webhooks/{id}",
        "One endpoint",
        call=Permission.WEBHOOKS,
        answers=(webhook_models.Webhook,),
        errors=(404, 422),
    ),
    Operation(
        "changeWebhook",
        "PATCH",
        "/api/webhooks/{id}",
        "Change, pause or resume an endpoint",
        "Only the given fields are changed. With `state` on, missed events are due immediately.",
        Permission.WEBHOOKS,
        body=requests.WebhookChange,
        body_required=True,
        answers=(webhook_models.Webhook,),
        errors=(404, 409, *_BODY),
    ),
    Operation(
        "deleteWebhook",
        "DELETE",
        "/api/webhooks/{id}",
        "Remove an endpoint and its waiting deliveries",
        call=Permission.WEBHOOKS,
        answers=(webhook_models.RemovedWebhook,),
        errors=(404, 422),
    ),
    Operation(
        "listWebhookDeliveries",
        "GET",
        "/api/webhooks/{id}/deliveries",
        "Deliveries and their results, newest event first",
        call=Permission.WEBHOOKS,
        params=(
            _choice("status", DeliveryStatus, "deliveries in this state"),
            _cursor("^[0-9]{0,18}$"),
            _page_size(100, 1000),
        ),
        answers=(webhook_models.DeliveryPage,),
        errors=(404, 422),
    ),
    Operation(
        "rotateWebhookSecret",
        "POST",
        "/api/webhooks/{id}/rotate",
        "Rotate the signing secret",
        "Both secrets sign until the overlap ends.",
        Permission.WEBHOOKS,
        body=requests.SecretRotation,
        answers=(webhook_models.RotatedSecret,),
        errors=(404, *_BODY),
    ),
    Operation(
        "testWebhook",
        "POST",
        "/api/webhooks/{id}/test",
        "Post a test event now",
        "Its type is `webhook.test`. It is not listed and not retried.",
        Permission.WEBHOOKS,
        answers=(webhook_models.TestedWebhook,),
        errors=(404, 422),
    ),
    Operation(
        "replayWebhook",
        "POST",
        "/api/webhooks/{id}/replay",
        "Deliver events again",
        "Events keep their IDs; events from before the endpoint was created are included. Waiting events "
        "are not duplicated.",
        Permission.WEBHOOKS,
        body=requests.EventReplay,
        body_required=True,
        answers=(webhook_models.ReplayedEvents,),
        errors=(404, *_BODY),
    ),
)

_SENDER: Final = _email("email", "the mailbox, or an alias of it", where="path")
_SENDERS: Final = (
    Operation(
        "listSenders",
        "GET",
        "/api/senders",
        "Mailboxes that messages are sent from, by address",
        "A key for certain senders gets only these. A mailbox that is authorized and was never used is one of them. "
        "Nothing is requested from Google.",
        Permission.READ,
        params=(_cursor(r"^\S{0,320}$"), _page_size(20, senders.MAX_PAGE)),
        answers=(senders.SendersOut,),
        errors=(422,),
    ),
    Operation(
        "getSender",
        "GET",
        "/api/senders/{email}",
        "One sender: what it does, and what is left of its limits",
        "`left` is a reading, not a promise: another post may use it.",
        Permission.READ,
        params=(_SENDER,),
        answers=(senders.SenderOut,),
        errors=(404, 422),
    ),
    Operation(
        "pauseSender",
        "POST",
        "/api/senders/{email}/pause",
        "Pause a sender",
        "No more messages are handed to Google, of any job or key. Those already there are finished. A longer pause "
        "that Google caused stays as it is, and `changed` is false.",
        Permission.CONTROL,
        params=(_SENDER,),
        body=senders.PauseIn,
        body_required=True,
        answers=(senders.SenderChangedOut,),
        errors=(404, *_BODY),
    ),
    Operation(
        "resumeSender",
        "POST",
        "/api/senders/{email}/resume",
        "Resume a sender",
        "Ends any pause, whatever its cause. If the cause persists, the next message pauses it again.",
        Permission.CONTROL,
        params=(_SENDER,),
        body=NothingIn,
        answers=(senders.SenderChangedOut,),
        errors=(404, *_BODY),
    ),
    Operation(
        "changeSender",
        "PATCH",
        "/api/senders/{email}",
        "Change the limits of a sender",
        "Only the given limits are changed; null uses the configured one again. Limits bind all jobs and keys, and "
        "apply from the next claim of each daemon.",
        Permission.SENDERS,
        params=(_SENDER,),
        body=senders.SenderLimitsIn,
        body_required=True,
        answers=(senders.SenderChangedOut,),
        errors=(404, *_BODY),
    ),
    Operation(
        "getKey",
        "GET",
        "/api/key",
        "The key of the request: its name, senders and permissions",
        "Every key may ask this.",
        any_key=True,
        answers=(senders.KeyOut,),
        errors=(422,),
    ),
)

OPERATIONS: Final = (
    *_JOBS,
    *_TEMPLATES,
    *_SENDERS,
    *_SUPPRESSIONS,
    *_WEBHOOKS,
    Operation(
        "getLiveness",
        "GET",
        "/health/live",
        "Whether the process is alive",
        answers=(response_models.LiveOut,),
    ),
    Operation(
        "getReadiness",
        "GET",
        "/health/ready",
        "Whether a job can be stored now",
        answers=(response_models.ReadyOut,),
    ),
)
