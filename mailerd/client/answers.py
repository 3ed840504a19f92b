"""What goes to the API and comes from it, as types of plain JSON; `/docs` of a daemon explains each
field.
"""

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


class NewCopy(TypedDict, total=False):
    """Who gets a copy of a message."""

    email: Required[str]
    name: str | None


class NewRecipient(TypedDict, total=False):
    """One message."""

    email: Required[str]
    name: str | None
    cc: list[NewCopy]
    bcc: list[NewCopy]
    variables: dict[str, Any]
    language: str
    attachments: list[NewAttachment]
    headers: dict[str, str]
    metadata: dict[str, str]
    send_at: str | datetime


class SendOptions(TypedDict, total=False):
    """What may be said of a job and of one message."""

    sender_name: str
    reply_to: str
    cc: list[NewCopy]
    bcc: list[NewCopy]
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


class NewJob(SendOptions, total=False):
    """What is posted; either `template` or `template_name`."""

    sender_email: Required[str]
    recipients: Required[list[NewRecipient]]
    template: NewTemplate
    template_name: str
    template_version: str
    on_bounces: Literal["pause", "go_on"]
    on_invalid: Literal["reject", "skip"]
    allow_duplicates: bool


class To(TypedDict, total=False):
    """The recipient of one message; `name` is the variable `name` of a template, too."""

    email: Required[str]
    name: str | None


class MessageOptions(SendOptions, total=False):
    """What may be said of one message."""

    language: str


class NewMessage(MessageOptions, total=False):
    """One message: `subject` and `html` or `text` as they are, or a `template_name`."""

    sender_email: Required[str]
    to: Required[To]
    subject: str
    html: str
    text: str
    template_name: str
    template_version: str


class NewJobFields(TypedDict, total=False):
    """What can be changed of a job."""

    reference: str | None
    metadata: dict[str, str] | None
    tags: list[str] | None
    priority: int
    send_at: str | datetime | None


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


class SuppressedCopy(TypedDict):
    """An address that gets no copy of so many messages."""

    email: str
    reason: str
    messages: int


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
    suppressed_copies: list[SuppressedCopy]
    warnings: list[str]
    send_at: str
    forecast: Forecast
    replayed: bool
    """The job was posted before with this idempotency key, and nothing was posted now."""
    repeated: bool
    """The post was made more than once: where it is `replayed` too, an attempt before may have
    posted the job.
    """


class AcceptedMessage(TypedDict):
    """A message that is durable; `replayed` and `repeated` as of a job."""

    job_id: str
    recipient_id: int
    status: Literal["queued", "suppressed"]
    suppressed_copies: list[SuppressedCopy]
    send_at: str
    warnings: list[str]
    forecast: Forecast
    replayed: bool
    repeated: bool


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
    suppressed_copies: list[SuppressedCopy]
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
    outcomes: dict[str, int]
    """What became of all messages, for a job that is asked for by its ID; else empty."""
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
    """What became of a message after it was sent; `kind`, `code` and `reason` are those of a
    bounce.
    """

    state: Literal["bounced", "unsubscribed", "replied", "other_replied", "auto_replied"]
    kind: BounceKind | None
    code: str | None
    reason: str | None
    at: str


class Address(TypedDict):
    """Who gets a copy."""

    email: str
    name: str | None


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
    cc: list[Address]
    bcc: list[Address]


class OneMessage(TypedDict):
    """A message that was posted as such, and its job."""

    job: Job
    recipient: Recipient


class PersonsMessage(Recipient):
    """A message of a person, of one of all jobs."""

    job_id: str
    sender_email: str
    job_type: str


class Attempt(TypedDict):
    """A line of a message's log of attempts."""

    at: str
    attempt: int
    event: str
    daemon: str
    draft_id: str | None
    message_id: str | None
    error: str | None


class Notice(TypedDict):
    """Received mail about a message; `believed` False: it does not prove that it is about it."""

    kind: str
    code: str | None
    detail: str | None
    believed: bool
    at: str


class RecipientHistory(PersonsMessage):
    """A message and its history; `story` is for people, and its words may change."""

    log: list[Attempt]
    log_left_out: int
    story: list[str]
    notices: list[Notice]
    suppressed: str | None


class AttachedFile(TypedDict):
    """A file that a message carries; `content_id` None: it is attached, and its HTML does not show
    it.
    """

    filename: str
    content_type: str
    content_id: str | None
    size: int
    sha256: str


class MessageContent(TypedDict):
    """A message as its recipient reads it, rendered again; `html` None: it is plain text."""

    recipient_id: int
    job_id: str
    made: Literal["again"]
    sent_at: str | None
    subject: str
    html: str | None
    text: str
    headers: dict[str, str]
    attachments: list[AttachedFile]


class Settled(TypedDict):
    """A message that a person has confirmed."""

    recipient_id: int
    job_id: str
    status: str


class Cancelled(TypedDict):
    """A message that is cancelled; `changed` False: it was before."""

    recipient_id: int
    job_id: str
    changed: bool


class JobChanged(TypedDict):
    """Whether a request has changed anything, and the job after it."""

    changed: bool
    job: Job
    warnings: list[str]


class JobAction(TypedDict):
    """A request in a job's activity."""

    action: Literal["cancel", "pause", "resume", "retry", "priority", "change", "settle"]
    actor: str
    detail: str | None
    changed: bool
    recipients: int
    at: str


class JobActions(TypedDict):
    """A job's activity, newest first."""

    actions: list[JobAction]


class FoundJob(TypedDict):
    """A job that was found."""

    job_id: str
    sender_email: str
    subject: str
    reference: str | None
    template_name: str | None
    status: str
    created_at: str


class Found[T](TypedDict):
    """What was found; `complete` False: there is more, see `back_to`, or use a longer text."""

    items: list[T]
    complete: bool
    back_to: str | None


class SearchResult(TypedDict):
    """Jobs, and people by their newest messages."""

    jobs: Found[FoundJob]
    people: Found[PersonsMessage]


class StatsRow(TypedDict, total=False):
    """Messages of one day, sender, template or tag; what does not go with that is absent."""

    day: str
    sender_email: str
    template_name: str
    tag: str
    jobs: int
    sent: Required[int]
    failed: Required[int]
    put_off: int
    unsure: int
    bounced: Required[int]
    replied: Required[int]


Stats = TypedDict("Stats", {"by": str, "from": str, "to": str, "zone": str, "rows": list[StatsRow]})
"""Messages of a period."""


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
    subject: str
    description: str
    variables: dict[str, Any]
    defaults: dict[str, Any]
    required: list[str]
    layout: str | None
    is_layout: bool
    language: str | None
    languages: list[str]
    pictures: list[str]


class Templates(TypedDict):
    """The named templates, and those that cannot be used."""

    templates: list[NamedTemplate]
    broken: list[dict[str, str]]


class TemplateImage(TypedDict):
    """An image of a template, in base64."""

    filename: str
    content: str


class TemplateParts(TypedDict, total=False):
    """The sources of a template in one language; `markdown` in place of `html`.

    A layout needs no subject.
    """

    subject: str
    html: str | None
    markdown: str | None
    text: str | None


class NewTemplateVersion(TemplateParts, total=False):
    """A version of a template."""

    description: str
    language: str | None
    variables: dict[str, Any] | None
    defaults: dict[str, Any] | None
    required: list[str] | None
    layout: str | None
    is_layout: bool
    inline_css: bool
    languages: dict[str, TemplateParts] | None
    images: list[TemplateImage] | None
    comment: str | None


class TemplateState(TypedDict):
    """A named template, and which version of it jobs get."""

    name: str
    source: Literal["api", "folder"]
    published: str | None
    published_by: str | None
    published_at: str | None
    created_by: str | None
    created_at: str | None
    senders: list[str] | None


class SavedTemplate(TypedDict):
    """A version that is stored; `created` False: it was there already."""

    version: str
    created: bool
    published: str | None


class PublishedTemplate(TypedDict):
    """The version that jobs get; `changed` False: they did already."""

    changed: bool
    published: str


class RenderedTemplate(TypedDict):
    """A message as its recipient would read it; None where variables are `missing`."""

    version: str
    subject: str | None
    html: str | None
    text: str | None
    missing: list[str]


class NewSuppression(TypedDict, total=False):
    """An address to suppress; without `list`: for all messages."""

    email: Required[str]
    list: str | None
    reason: str
    detail: str | None


class Suppression(TypedDict):
    """A suppressed address; `email` None: the person was deleted. `list` None: all messages."""

    email: str | None
    list: str | None
    reason: str
    source: str
    detail: str | None
    actor: str | None
    origin: str
    created_at: str


class Suppressed(TypedDict):
    """How many were to be suppressed, and how many of these suppressions are new."""

    total: int
    added: int


class Removed(TypedDict):
    """It was removed."""

    removed: Literal[True]


class RemovedSuppression(TypedDict):
    """It was removed.

    `still_suppressed`: another one still blocks these messages; None: the answer was lost.
    """

    removed: Literal[True]
    still_suppressed: bool | None


class MailingList(TypedDict):
    """A list that a person can leave."""

    name: str
    title: str | None
    created_at: str


class MailingLists(TypedDict):
    """The lists that the key may use, by name."""

    lists: list[MailingList]


class NewWebhookFields(TypedDict, total=False):
    """What can be changed of an endpoint."""

    name: str
    url: str
    types: list[str] | None
    senders: list[str] | None
    state: Literal["on", "paused"]


class Webhook(TypedDict):
    """An endpoint that events are posted to."""

    id: str
    name: str
    url: str
    types: list[str] | None
    senders: list[str] | None
    state: Literal["on", "paused", "gone"]
    pause_cause: str | None
    failures: int
    failing_since: str | None
    retry_at: str | None
    old_secret_until: str | None
    created_at: str


class NewWebhook(Webhook):
    """A new endpoint, and its signing secret, which is not shown again."""

    secret: str


class Webhooks(TypedDict):
    """The endpoints that the key may see, by name."""

    webhooks: list[Webhook]


class WebhookDelivery(TypedDict):
    """The delivery of one event to one endpoint."""

    id: int
    event: str
    type: str
    status: Literal["waiting", "sending", "delivered", "failed"]
    attempts: int
    http: int | None
    error: str | None
    took_ms: int | None
    created_at: str
    tried_at: str | None
    due_at: str | None


class RotatedSecret(TypedDict):
    """A new signing secret, which is not shown again."""

    secret: str
    old_secret_until: str


class WebhookTested(TypedDict):
    """What an endpoint responded to a test event."""

    delivered: bool
    http: int | None
    error: str | None
    took_ms: int


class Replayed(TypedDict):
    """How many events are delivered again."""

    events: int
