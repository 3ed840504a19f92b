"""Every answer of the API as a model: endpoints build it, the OpenAPI document describes it.

Measured: 1,000 recipients take 2.4 ms from rows to JSON, as much as plain dicts with the standard
library's encoder.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated, Any, Final, Literal, Self

from pydantic import Field, Json, PlainSerializer
from pydantic.json_schema import SkipJsonSchema

from mailerd.clock import ULID_PATTERN
from mailerd.core.forecast import ForecastInputs, compute_forecast, describe, waiting_reason
from mailerd.core.i18n import Text
from mailerd.core.reading import joined_causes, waits
from mailerd.core.results import MessageOutcome, Result
from mailerd.core.states import OPEN, JobChange, JobStatus, Proof, State
from mailerd.core.stats import SenderStats
from mailerd.core.webhooks import EventType
from mailerd.errors import DatabaseError
from mailerd.events.intake import IntakeEvents
from mailerd.http.responses import ErrorOut
from mailerd.locale import say
from mailerd.mail.template_library import TemplateSummary
from mailerd.model.fields import Moment, ResponseModel, Sentence, Whole
from mailerd.store.read.describe import reading_of
from mailerd.store.read.jobs import Job
from mailerd.store.write.event_feed import FeedEvent
from mailerd.store.write.job_actions import RecordedAction

KnownSenders = Callable[[str], SenderStats | None]
"""What the last look at all senders showed of a mailbox; None: nothing."""
MEASURED_FROM: Final = 10.0
"""Seconds of sending from which on messages per minute are shown: 245 in 6.6 s would be 2,226,
which is noise.
"""
_IF_ANY: Final = Field(
    exclude_if=lambda value: not value, description="as posted; only if there is any"
)


class RejectedOut(ResponseModel):
    """A recipient that gets no message."""

    index: Annotated[Whole, Field(description="its position in the request, from 0")]
    email: str
    reason: Sentence
    metadata: Annotated[dict[str, str], _IF_ANY] = Field(default_factory=dict)


class SuppressedCopyOut(ResponseModel):
    """An address that gets no copy."""

    email: str
    reason: Sentence
    messages: Annotated[Whole, Field(description="how many messages of the job name it")]


class ForecastOut(ResponseModel):
    """When the messages of a job will be sent, as far as known; empty: no forecast."""

    messages_ahead: Annotated[
        Whole, Field(description="minimum number of the sender's messages that are sent first")
    ] = 0
    per_minute: Annotated[
        float | None,
        Field(description="the rate limit; without a limit, the measured rate; null: not measured"),
    ] = None
    starts_at: Annotated[
        Moment | None, Field(description="when its next message is sent; null: unknown")
    ] = None
    done_at: Annotated[
        Moment | None, Field(description="when its last message is sent; null: unknown")
    ] = None
    cause_of_wait: Annotated[
        Sentence | None, Field(description="what delays it; null: nothing, or only sending limits")
    ] = None
    text: Annotated[Sentence, Field(description="the forecast as a sentence")] = ""

    @classmethod
    def of(cls, inputs: ForecastInputs | None) -> Self:
        """The forecast of a job; None: it has ended."""
        if inputs is None or not (inputs.messages or inputs.unresolved):
            return cls()
        it = compute_forecast(inputs)
        return cls(
            messages_ahead=it.messages_ahead,
            per_minute=None if it.per_minute is None else round(it.per_minute, 1),
            starts_at=it.starts_at,
            done_at=it.done_at,
            cause_of_wait=waiting_reason(inputs, it),
            text=describe(inputs, it),
        )


async def try_forecast[T, U](
    asked: Awaitable[T], shown: Callable[[T], U], *, job: str, events: IntakeEvents
) -> U | None:
    """A forecast as it is `shown`; None where it cannot be had: its answer is given all the
    same.
    """
    try:
        return shown(await asked)
    except DatabaseError as error:
        events.forecast_failed(job=job, cause=str(error))
    except Exception as error:  # noqa: BLE001 - for a bug in it no job is hidden, and none is a 500 that is posted again
        events.forecast_crashed(job=job, error=error)
    return None


class AcceptedOut(ResponseModel):
    """A stored job."""

    job_id: str
    status: Literal["queued"]
    total: Whole
    accepted: Whole
    rejected: Annotated[
        list[RejectedOut],
        Field(description="the first 1,000; all of them are stored as failed recipients"),
    ]
    rejected_total: Whole
    suppressed: Annotated[
        list[RejectedOut],
        Field(description="the first 1,000 suppressed recipients; they are cancelled"),
    ]
    suppressed_total: Whole
    suppressed_copies: list[SuppressedCopyOut]
    warnings: list[Sentence]
    send_at: Moment
    forecast: ForecastOut


class AcceptedMessageOut(ResponseModel):
    """One stored message."""

    job_id: str
    recipient_id: Annotated[int, Field(description="the ID of the message")]
    status: Annotated[
        Literal["queued", "suppressed"],
        Field(
            description="suppressed: the recipient is suppressed, `warnings` says why; nothing is sent"
        ),
    ]
    suppressed_copies: list[SuppressedCopyOut]
    send_at: Moment
    warnings: list[Sentence]
    forecast: ForecastOut


class TemplateVersionOut(ResponseModel):
    """A template and its version."""

    name: str
    version: str

    @classmethod
    def of(cls, name: str | None, version: str | None) -> Self | None:
        """The named template of a job; None: it has a template of its own."""
        return cls(name=name, version=version) if name and version else None


class SizesOut(ResponseModel):
    """Bytes of the messages, as sent to Google."""

    smallest: Whole
    average: Whole
    largest: Whole
    total: Whole


class SampleOut(ResponseModel):
    """A message as its recipient would read it."""

    index: Whole
    email: str
    subject: str
    html: Annotated[str | None, Field(description="null: the message is plain text")]
    text: str
    bytes: Whole
    attachments: list[str]


class DryRunOut(ResponseModel):
    """The result of a dry run; nothing was stored."""

    dry_run: Literal[True]
    status: Literal["dry_run"]
    total: Whole
    accepted: Whole
    rejected: list[RejectedOut]
    rejected_total: Whole
    suppressed: list[RejectedOut]
    suppressed_total: Whole
    suppressed_copies: list[SuppressedCopyOut]
    post_refused: Annotated[
        bool, Field(description="whether a post of this body gets a 422; `warnings` says why")
    ]
    warnings: list[Sentence]
    send_at: Annotated[
        Moment | None, Field(description="not sent before this time; null: sent immediately")
    ]
    forecast: Annotated[ForecastOut, Field(description="as if posted now")]
    template: Annotated[
        TemplateVersionOut | None,
        Field(description="the named template; null: the job has its own"),
    ]
    message_bytes: SizesOut
    samples: list[SampleOut]


class JobOut(ResponseModel):
    """A job and the counts of its recipients, as of one moment."""

    job_id: str
    type: str
    sender_email: str
    reference: str | None
    tags: list[str]
    metadata: dict[str, str]
    template: Annotated[
        TemplateVersionOut | None,
        Field(description="the named template it was posted with; null: the job has its own"),
    ]
    priority: int
    status: JobStatus
    total: Whole
    counts: Annotated[dict[State, Whole], Field(description="recipients by state")]
    bounced: Annotated[
        Whole, Field(description="of the sent messages: bounced ones, as far as inboxes are read")
    ]
    replied: Annotated[
        Whole, Field(description="of the sent messages: those with a reply from a person")
    ]
    outcomes: Annotated[
        dict[MessageOutcome, Whole],
        Field(
            description="all messages by what became of them, replies and bounces included; their sum is `total`. "
            "Empty: the job was not requested by its ID, or they could not be counted in time"
        ),
    ]
    progress: Annotated[float, Field(ge=0, le=1, description="the finished share")]
    per_minute: Annotated[
        float | None,
        Field(
            ge=0,
            description="messages sent per minute, from the first message to the end or until now; null: for less than "
            "10 s",
        ),
    ]
    created_at: Moment
    send_at: Moment
    started_at: Moment | None
    finished_at: Moment | None
    on_bounces: Annotated[Literal["pause", "go_on"], Field(description="as posted")]
    pause_cause: Annotated[
        Literal["manual", "bounces"] | None,
        Field(description="by a person, or because too many messages bounced; null: not paused"),
    ]
    cause_of_wait: Annotated[
        Sentence | None,
        Field(description="null: nothing is waiting, or only because of sending limits"),
    ]
    forecast: Annotated[
        ForecastOut, Field(description="for a job that was requested or listed; empty: no forecast")
    ]

    @classmethod
    def of(
        cls,
        job: Job,
        forecast: ForecastOut | None = None,
        *,
        outcomes: Mapping[MessageOutcome, int] | None = None,
        known: SenderStats | None = None,
    ) -> Self:
        """A job as it is stored; without a forecast there is nothing to say, or it was not asked
        for.

        `known`: of its sender, at the last look at all of them.
        """
        ended = sum(number for state, number in job.counts.items() if state not in OPEN)
        return cls(
            job_id=job.id,
            type=job.type,
            sender_email=job.sender_email,
            reference=job.reference,
            tags=list(job.tags),
            metadata=dict(job.metadata),
            template=TemplateVersionOut.of(job.template_name, job.template_version),
            priority=job.priority,
            status=job.status,
            total=job.total,
            counts=dict(job.counts),
            bounced=job.bounced,
            replied=job.replied,
            outcomes=dict(outcomes or {}),
            progress=ended / job.total if job.total else 1.0,
            per_minute=job.per_minute(least=MEASURED_FROM),
            created_at=job.created_at,
            send_at=job.send_at,
            started_at=job.started_at,
            finished_at=job.finished_at,
            on_bounces=job.on_bounces,
            pause_cause=job.own_pause,
            cause_of_wait=(forecast.cause_of_wait if forecast else None)
            or _cause_of_wait(job, known),
            forecast=forecast or ForecastOut(),
        )


def _cause_of_wait(job: Job, known: SenderStats | None) -> str | None:
    """What a forecast says, as far as the job's own row and what is `known` of its sender tell,
    without a forecast.
    """
    return None if job.finished_at else joined_causes(waits(reading_of(job, known)))


class EventOut(ResponseModel):
    """One event of a job's stream: its fields as the stream has them, `data` as JSON in one line."""

    event: Annotated[Literal["progress", "finished"], Field(description="finished: the last event")]
    id: Annotated[str, Field(description="a digest of its content; send it as `Last-Event-ID`")]
    data: Json[JobOut]


def _said(data: dict[str, Any]) -> dict[str, Any]:
    return {name: say(it) if isinstance(it, Text) else it for name, it in data.items()}


class FeedEventOut(ResponseModel):
    """An event."""

    id: Annotated[int, Field(ge=1, description="its position in the feed; positions have no gaps")]
    uid: Annotated[str, Field(pattern=f"^evt_{ULID_PATTERN[1:]}", description="its permanent ID")]
    type: EventType
    timestamp: Moment
    job_id: Annotated[
        str | None, Field(description="the job's ID; null: the event is about no job")
    ]
    sender_email: Annotated[
        str | None,
        Field(
            description="the sending mailbox or one of its aliases; null: the event is about no sender"
        ),
    ]
    data: Annotated[
        dict[str, Any],
        Field(description="IDs, states and reasons; see docs/reference/api.md"),
        PlainSerializer(_said),
    ]

    @classmethod
    def of(cls, it: FeedEvent) -> Self:
        """An event as the store has it."""
        return cls(
            id=it.position,
            uid=it.uid,
            type=it.type,
            timestamp=it.at,
            job_id=it.job_id,
            sender_email=it.sender,
            data=it.data,
        )


class FeedStreamOut(ResponseModel):
    """One event of the feed's stream: its fields as the stream has them, `data` as JSON in one line."""

    event: Annotated[EventType, Field(description="`type` of the event")]
    id: Annotated[str, Field(description="`id` of the event; send it as `Last-Event-ID`")]
    data: Json[FeedEventOut]


class FeedOut(ResponseModel):
    """A page of the feed, oldest event first."""

    events: list[FeedEventOut]
    next_after: Annotated[
        Whole, Field(description="`after` of the next page, even if this page is empty")
    ]


class JobsOut(ResponseModel):
    """A page of jobs, newest first."""

    jobs: list[JobOut]
    next_cursor: str | None


class JobChangedOut(ResponseModel):
    """The changed job."""

    changed: Annotated[bool, Field(description="false: nothing to change")]
    job: JobOut
    warnings: list[Sentence]


class ActionResultOut(ResponseModel):
    """The result of a request."""

    action: JobChange
    changed: Annotated[bool, Field(description="false: nothing to change")]
    recipients: Annotated[Whole, Field(description="the number of changed recipients")]
    job: JobOut


class ActionOut(ResponseModel):
    """A request in the job's activity; `settle`: a person confirmed a message as sent or not sent."""

    action: Literal["cancel", "pause", "resume", "retry", "priority", "change", "settle"]
    actor: str
    detail: str | None
    changed: bool
    recipients: Whole
    at: Moment

    @classmethod
    def of(cls, it: RecordedAction) -> Self:
        """A request as the store has it."""
        return cls.model_validate(
            {
                "action": it.action,
                "actor": it.actor,
                "detail": it.detail,
                "changed": it.changed,
                "recipients": it.messages,
                "at": it.at,
            }
        )


class ActionsOut(ResponseModel):
    """A job's activity, newest first."""

    actions: list[ActionOut]


class TemplateOut(ResponseModel):
    """A named template."""

    name: str
    version: str
    subject: Annotated[
        str,
        Field(
            description="the source of the default subject; of the API's, its first 255 characters"
        ),
    ]
    description: str
    variables: Annotated[dict[str, Any], Field(description="each with an example")]
    layout: Annotated[str | None, Field(description="the template that it is put into; null: none")]
    is_layout: Annotated[
        bool, Field(description="whether other templates are put into it; no job can name it")
    ]
    defaults: Annotated[
        dict[str, Any], Field(description="what variables are that neither job nor recipient has")
    ]
    required: Annotated[
        list[str], Field(description="variables without which a recipient is refused")
    ]
    language: str | None
    languages: Annotated[list[str], Field(description="additional languages")]
    pictures: list[str]

    @classmethod
    def of(cls, it: TemplateSummary) -> Self:
        """A template as the library has it."""
        return cls(
            name=it.name,
            version=it.version,
            subject=it.subject,
            description=it.description,
            variables=dict(it.variables),
            defaults=dict(it.defaults),
            required=[*it.required],
            layout=it.layout,
            is_layout=it.is_layout,
            language=it.language,
            languages=[*it.languages],
            pictures=[*it.pictures],
        )


class BrokenOut(ResponseModel):
    """A template that cannot be used."""

    name: str
    error: Annotated[Sentence, Field(description="why it cannot be used")]


class TemplatesOut(ResponseModel):
    """The named templates."""

    templates: list[TemplateOut]
    broken: list[BrokenOut]
    drafts: Annotated[
        list[str], Field(description="templates of the API without a published version")
    ]


class LiveOut(ResponseModel):
    """The process is alive."""

    status: Literal["alive"]


_WHERE_THERE_ARE_SEVERAL: Final = Field(exclude_if=lambda value: value is None)
"""What is None here is not in the answer."""


class ReadyOut(ResponseModel):
    """A job can be stored now. If `database.url` names several hosts, it also names the writable one."""

    status: Literal["ready"]
    database_server: Annotated[str | SkipJsonSchema[None], _WHERE_THERE_ARE_SEVERAL] = None
    database_moved_at: Annotated[Moment | SkipJsonSchema[None], _WHERE_THERE_ARE_SEVERAL] = None


class NotReadyOut(ErrorOut):
    """No job can be stored now."""

    status: Literal["not ready"]
    reason: Sentence
    outage: Annotated[
        Literal[
            "", "away", "login", "connections", "read-only", "full", "denied", "incomplete", "stuck"
        ],
        Field(
            description="how the database cannot be used; empty: it can, and something else is wrong"
        ),
    ] = ""


# What the API says of recipients: where a message stands, and what became of it.


class ResultOut(ResponseModel):
    """The result of a sent message, as read in the sender's inbox."""

    state: Annotated[Result, Field(description="the result")]
    kind: Annotated[
        str | None, Field(description="hard, soft, blocked or unknown; null: not a bounce")
    ]
    code: Annotated[
        str | None,
        Field(
            description="the enhanced status code (RFC 3463), such as 5.1.1; null: not a bounce, or it has none"
        ),
    ]
    reason: Annotated[
        str | None, Field(description="the text of the notice; null: not a bounce, or it has none")
    ]
    at: Moment


class AddressOut(ResponseModel):
    """Who gets a copy."""

    email: Annotated[str, Field(description="the address")]
    name: Annotated[str | None, Field(description="the display name; null: none")]


class RecipientOut(ResponseModel):
    """A recipient and the state of its message."""

    id: int
    index: Annotated[Whole, Field(description="its position in the request, from 0")]
    email: str
    name: Annotated[str | None, Field(description="the display name; null: none")]
    status: State
    attempts: Whole
    error: Sentence | None
    message_id: str | None
    proof: Annotated[Proof | None, Field(description="what confirms `sent`; null if not sent")]
    due_at: Moment
    sent_at: Moment | None
    updated_at: Moment
    result: Annotated[
        ResultOut | None, Field(description="null: none yet, or the sender's inbox is not read")
    ]
    metadata: dict[str, str]
    cc: Annotated[list[AddressOut], Field(description="who gets a copy, visible to all")]
    bcc: Annotated[list[AddressOut], Field(description="who gets a blind copy")]


class MessageOut(ResponseModel):
    """One message that was posted as such, and its job."""

    job: JobOut
    recipient: Annotated[RecipientOut, Field(description="its recipient")]


class RecipientsOut(ResponseModel):
    """A page of recipients, in the order of the request."""

    recipients: list[RecipientOut]
    next_cursor: str | None
