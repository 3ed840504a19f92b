"""What goes to the API and comes from it, as types of plain JSON; `/docs` of a daemon explains each field."""

from datetime import datetime
from typing import Any, Literal, NotRequired, Required, TypedDict

RetryOnly = Literal["failed", "unsure", "bounced"]
"""Which messages of a job are tried again."""
BounceKind = Literal["hard", "soft", "blocked", "unknown"]
"""Why a message came back."""


class NewTemplate(TypedDict, total=False):
    """Sources in Jinja2; `html` or `text`, or both."""

    subject: Required[str]
    html: str
    text: str


class NewAttachment(TypedDict, total=False):
    """A file; `content` is base64."""

    filename: Required[str]
    content: Required[str]
    content_type: str
    content_id: str


class NewRecipient(TypedDict, total=False):
    """One message."""

    email: Required[str]
    name: str | None
    variables: dict[str, Any]
    language: str
    attachments: list[NewAttachment]
    headers: dict[str, str]
    metadata: dict[str, str]
    send_at: str | datetime


class NewJob(TypedDict, total=False):
    """What is posted; either `template` or `template_name`."""

    sender_email: Required[str]
    recipients: Required[list[NewRecipient]]
    template: NewTemplate
    template_name: str
    sender_name: str
    reply_to: str
    variables: dict[str, Any]
    attachments: list[NewAttachment]
    send_at: str | datetime
    priority: int
    reference: str
    headers: dict[str, str]
    metadata: dict[str, str]
    tags: list[str]
    list: str
    override_suppression: bool
    on_bounces: Literal["pause", "go_on"]
    on_invalid: Literal["reject", "skip"]
    allow_duplicates: bool


class Forecast(TypedDict, total=False):
    """When the messages will go; empty: there is nothing to say."""

    messages_ahead: int
    per_minute: float | None
    starts_at: str | None
    done_at: str | None
    cause_of_wait: str | None
    text: str


class Unmailed(TypedDict):
    """A recipient that gets no message."""

    index: int
    email: str
    reason: str
    metadata: NotRequired[dict[str, str]]


class AcceptedJob(TypedDict):
    """A job that is durable."""

    job_id: str
    status: str
    total: int
    accepted: int
    rejected: list[Unmailed]
    rejected_total: int
    suppressed: list[Unmailed]
    suppressed_total: int
    warnings: list[str]
    send_at: str
    forecast: Forecast
    replayed: bool
    """The job was posted before with this idempotency key, and nothing was posted now."""
    repeated: bool
    """The post was made more than once: where it is `replayed` too, an attempt before may have posted the job."""


class DryRun(TypedDict):
    """What a post would be answered; nothing is stored."""

    dry_run: bool
    status: str
    total: int
    accepted: int
    rejected: list[Unmailed]
    rejected_total: int
    suppressed: list[Unmailed]
    suppressed_total: int
    post_refused: bool
    """Whether a post is a 422; `warnings` says why."""
    warnings: list[str]
    send_at: str | None
    forecast: Forecast
    template: dict[str, str] | None
    message_bytes: dict[str, int]
    samples: list[dict[str, Any]]


class Job(TypedDict):
    """A job, and the counts of its recipients by state."""

    job_id: str
    type: str
    sender_email: str
    reference: str | None
    tags: list[str]
    metadata: dict[str, str]
    template: dict[str, str] | None
    priority: int
    status: Literal["queued", "sending", "paused", "completed", "cancelled"]
    total: int
    counts: dict[str, int]
    bounced: int
    replied: int
    progress: float
    per_minute: float | None
    created_at: str
    send_at: str
    started_at: str | None
    finished_at: str | None
    on_bounces: Literal["pause", "go_on"]
    pause_cause: Literal["manual", "bounces"] | None
    cause_of_wait: str | None
    forecast: Forecast


class ResultOfMessage(TypedDict):
    """What became of a message after it was sent; `kind`, `code` and `reason` are those of a bounce."""

    state: Literal["bounced", "unsubscribed", "replied", "other_replied", "auto_replied"]
    kind: BounceKind | None
    code: str | None
    reason: str | None
    at: str


class Recipient(TypedDict):
    """A recipient, and where its message stands; `index`: its position in the post, from 0."""

    id: int
    index: int
    email: str
    name: str | None
    status: Literal["waiting", "sending", "sent", "failed", "unsure", "cancelled"]
    attempts: int
    error: str | None
    message_id: str | None
    proof: str | None
    due_at: str
    sent_at: str | None
    updated_at: str
    result: ResultOfMessage | None
    metadata: dict[str, str]


class RecipientsPage(TypedDict):
    """A page of recipients; `next_cursor` None: it is the last one."""

    recipients: list[Recipient]
    next_cursor: str | None


class JobActionResult(TypedDict):
    """What a request has changed; `recipients`: how many of them."""

    action: str
    changed: bool
    recipients: int
    job: Job


class Event(TypedDict):
    """Something that happened; `id` is its place in the feed, `uid` its name for ever."""

    id: int
    uid: str
    type: str
    timestamp: str
    job_id: str | None
    sender_email: str | None
    data: dict[str, Any]


class EventsPage(TypedDict):
    """A page of the feed; `next_after` is the `after` of the next one."""

    events: list[Event]
    next_after: int


class Authorization(TypedDict):
    """Of a mailbox, as Google's last response to a request for a token said."""

    state: Literal["ok", "missing", "refused", "unusable", "unknown"]
    scopes: list[str]
    checked_at: str | None


class SenderPause(TypedDict):
    """Why nothing is sent; `until` None: until it is resumed or fixed."""

    cause: str
    reason: str
    until: str | None
    remedy: str | None


class SenderFinding(TypedDict):
    """The worst that is known of a sender."""

    severity: Literal["green", "blue", "amber", "red"]
    code: str
    text: str
    remedy: str | None


class SenderLimits(TypedDict):
    """Limits; 0 means no limit. `own`: those that are the sender's own."""

    units_per_minute: int
    per_minute: int
    per_day: int
    reserve: int
    min_gap: float
    warm_up: int
    warm_up_growth: int
    own: list[str]


class NewSenderLimits(TypedDict, total=False):
    """Limits to change; None: the configured one again."""

    units_per_minute: int | None
    per_minute: int | None
    per_day: int | None
    reserve: int | None
    min_gap: float | None
    warm_up: int | None
    warm_up_growth: int | None


class SenderDay(TypedDict):
    """The last 24 hours; `limit` and `left` None: there is no limit."""

    limit: int | None
    used: int
    elsewhere: int
    left: int | None
    next_free_at: str | None


class SenderMinute(TypedDict):
    """The last 60 seconds."""

    limit: int | None
    left: int | None


class SenderInbox(TypedDict):
    """How far an inbox is read."""

    read_at: str | None
    behind_s: int | None


class Sender(TypedDict):
    """A mailbox: what it does, and what is left of its limits."""

    email: str
    aliases: list[str]
    mode: Literal["draft", "direct"] | None
    signed_in: Authorization
    state: Literal["sending", "idle", "paused"]
    pause: SenderPause | None
    finding: SenderFinding | None
    limits: SenderLimits
    day: SenderDay
    minute: SenderMinute
    waiting: int
    waiting_counted_to: int
    next_message_at: str | None
    done_at: str | None
    inbox: SenderInbox


class SendersPage(TypedDict):
    """A page of senders; `next_cursor` None: it is the last one."""

    senders: list[Sender]
    next_cursor: str | None


class SenderChanged(TypedDict):
    """Whether a request has changed anything, and the sender after it."""

    changed: bool
    sender: Sender


class KeyDetails(TypedDict):
    """What an API key may do; `senders` None: any."""

    name: str
    senders: list[str] | None
    permissions: list[str]
    per_minute: int | None


class NamedTemplate(TypedDict):
    """A template of the daemon's folder; `variables`: each that it uses, with an example."""

    name: str
    version: str
    description: str
    variables: dict[str, Any]
    language: str | None
    languages: list[str]
    pictures: list[str]


class Templates(TypedDict):
    """The named templates, and those that cannot be used."""

    templates: list[NamedTemplate]
    broken: list[dict[str, str]]
