"""Every operation of the API: the server makes its routes from this list, and the OpenAPI document is made from it."""

from typing import Final

from pydantic import BaseModel

from mailerd.clock import ULID_PATTERN
from mailerd.core.event_types import EventType
from mailerd.core.fates import Fate
from mailerd.core.states import JobChange, JobStatus, State
from mailerd.core.suppression import Reason
from mailerd.intake import recipient_models, response_models, suppression_models
from mailerd.intake.operations import Operation, Param, page_size
from mailerd.intake.read_recipients import PersonOut
from mailerd.intake.request_models import JobIn, NothingIn, PriorityIn, RetryIn
from mailerd.intake.suppressions import ListIn, SuppressionsIn
from mailerd.intake.webhook_routes import WEBHOOK_OPERATIONS
from mailerd.store.api_keys import Permission
from mailerd.store.event_feed import MAX_PAGE as MAX_FEED_PAGE
from mailerd.store.mailing_lists import MAX_LIST_NAME

_RECIPIENT_STATUS: Final = Param("status", {"type": "string", "enum": [*State]}, "recipients in this state")


def _moment(name: str, description: str) -> Param:
    return Param(name, {"type": "string", "format": "date-time"}, description)


def id_of(change: JobChange) -> str:
    """The id of the operation that changes a job so."""
    return "setJobPriority" if change is JobChange.PRIORITY else f"{change.value}Job"


def _ask(
    change: JobChange, summary: str, description: str, body: type[BaseModel], *, required: bool = False
) -> Operation:
    return Operation(
        id=id_of(change), method="POST", path=f"/api/jobs/{{id}}/{change.value}", summary=summary,
        description=description,
        call=Permission.CONTROL, body=body, body_required=required, answers=(response_models.ActionResultOut,),
        errors=(400, 404, 408, 409, 413, 415, 422),
    )  # fmt: skip


_LIST: Final = Param("list", {"type": "string", "maxLength": MAX_LIST_NAME}, "of this list; absent: see the call")
_REASON: Final = Param("reason", {"type": "string", "enum": [*Reason]}, "those for this reason")

OPERATIONS: Final = (
    Operation(
        id="createJob",
        method="POST",
        path="/api/jobs/send_template_emails",
        summary="Post a job: one letter to each recipient",
        description=(
            "A 200 is durable: the job and all its recipients are committed. With `Idempotency-Key` the same body gets "
            "the same answer and is stored once, and another body is a 409, for `intake.idempotency_keep` (7 days "
            "unless it is set)."
        ),
        call=Permission.SEND,
        params=(
            Param(
                "Idempotency-Key",
                {"type": "string", "pattern": "^[!-~]([ -~]{0,253}[!-~])?$"},
                "any id of the client's own; the body is compared byte for byte",
                where="header",
            ),
        ),
        body=JobIn,
        body_required=True,
        answers=(response_models.AcceptedOut,),
        errors=(400, 408, 409, 413, 415, 422),
    ),
    Operation(
        id="dryRunJob",
        method="POST",
        path="/api/jobs/send_template_emails/dry_run",
        summary="What a post would be answered: every letter is rendered, and nothing is stored",
        description=(
            "The body is that of a post. Bad recipients are listed instead of refused; `post_refused` says whether a "
            "post of this body would be a 422, and `warnings` says why. It may take 60 s."
        ),
        call=Permission.SEND,
        body=JobIn,
        body_required=True,
        answers=(response_models.DryRunOut,),
        errors=(400, 408, 413, 415, 422),
    ),
    Operation(
        id="listJobs",
        method="GET",
        path="/api/jobs",
        summary="Jobs, the newest first",
        call=Permission.READ,
        params=(
            Param("status", {"type": "string", "enum": [*JobStatus]}, "jobs in this status"),
            Param("sender_email", {"type": "string"}, "jobs posted with this address; an alias is not its mailbox"),
            Param("reference", {"type": "string", "maxLength": 320}, "jobs with this reference of the client's own"),
            _moment("created_from", "accepted at this time or later"),
            _moment("created_before", "accepted before this time"),
            Param("cursor", {"type": "string", "pattern": f"^$|{ULID_PATTERN}"}, "`next_cursor` of the page before"),
            page_size(20, 100),
        ),
        answers=(response_models.JobsOut,),
        errors=(422,),
    ),
    Operation(
        id="getJob",
        method="GET",
        path="/api/jobs/{id}",
        summary="One job and its counts",
        call=Permission.READ,
        answers=(response_models.JobOut,),
        errors=(404, 422),
    ),
    Operation(
        id="listRecipients",
        method="GET",
        path="/api/jobs/{id}/recipients",
        summary="A job's recipients, in the order of the request",
        call=Permission.READ,
        params=(
            _RECIPIENT_STATUS,
            Param("email", {"type": "string", "maxLength": 320}, "recipients with this address"),
            Param("fate", {"type": "string", "enum": [*Fate]}, "recipients whose letter has this fate"),
            Param("cursor", {"type": "string", "pattern": "^[0-9]{0,9}$"}, "`next_cursor` of the page before"),
            page_size(100, 1000),
        ),
        answers=(recipient_models.RecipientsOut,),
        errors=(404, 422),
    ),
    Operation(
        id="findRecipients",
        method="GET",
        path="/api/recipients",
        summary="One person's letters over all jobs, the newest first",
        description=(
            "The address in any spelling: the case of its letters and, at gmail.com and googlemail.com, its dots do "
            "not count. A key for certain senders gets their letters only."
        ),
        call=Permission.READ,
        params=(
            Param("email", {"type": "string", "maxLength": 320}, "the person's address", required=True),
            Param("cursor", {"type": "string", "pattern": "^[0-9]{0,19}$"}, "`next_cursor` of the page before"),
            page_size(100, 1000),
        ),
        answers=(PersonOut,),
        errors=(422,),
    ),
    Operation(
        id="downloadResults",
        method="GET",
        path="/api/jobs/{id}/results.csv",
        summary="All recipients as CSV",
        description="A text that a spreadsheet would take for a formula has an apostrophe before it.",
        call=Permission.READ,
        params=(_RECIPIENT_STATUS,),
        kind="text/csv",
        errors=(404, 422),
    ),
    Operation(
        id="streamJobEvents",
        method="GET",
        path="/api/jobs/{id}/events",
        summary="Progress live, as server-sent events",
        description=(
            "The schema is that of one event; a comment or `retry:` may stand between two. "
            "Each event (`progress`, at last `finished`) is the whole job as `GET /api/jobs/{id}` shows it. After a "
            "broken connection come again with the `Last-Event-ID` that you saw: you get the newest picture if "
            "anything has changed, and a 204 when the end was seen."
        ),
        call=Permission.READ,
        params=(Param("Last-Event-ID", {"type": "string"}, "the id of the last event seen", where="header"),),
        answers=(response_models.EventOut,),
        kind="text/event-stream",
        errors=(404, 422),
    ),
    Operation(
        id="listEvents",
        method="GET",
        path="/api/events",
        summary="What happened: jobs, failed recipients, unsubscribes, pauses of senders",
        description=(
            "Every event in its order and without a gap, the oldest first; keep `next_after` and come again. With "
            "`Accept: text/event-stream` it is a stream: the id of each event is its `id` here, and `Last-Event-ID` "
            "goes before `after`. A key for certain senders gets their events only."
        ),
        call=Permission.READ,
        params=(
            Param("after", {"type": "string", "pattern": "^[0-9]{0,18}$"}, "events behind this id; absent: all"),
            Param("types", {"type": "string", "maxLength": 320}, f"only these, with commas: {', '.join(EventType)}"),
            page_size(100, MAX_FEED_PAGE),
            Param("Last-Event-ID", {"type": "string"}, "of a stream: the id of the last event seen", where="header"),
        ),
        answers=(response_models.FeedOut,),
        stream=response_models.FeedEventOut,
        errors=(409, 410, 422),
    ),
    Operation(
        id="listJobActions",
        method="GET",
        path="/api/jobs/{id}/actions",
        summary="Who asked what of a job, and when",
        call=Permission.READ,
        answers=(response_models.ActionsOut,),
        errors=(404, 422),
    ),
    _ask(
        JobChange.CANCEL,
        "Cancel a job",
        "What waits is not sent. What is being sent is finished and recorded.",
        NothingIn,
    ),
    _ask(JobChange.PAUSE, "Pause a job", "No further letter is claimed; what is being sent is finished.", NothingIn),
    _ask(JobChange.RESUME, "Resume a paused job", "It goes on where it was paused.", NothingIn),
    _ask(
        JobChange.RETRY,
        "Try failed letters anew, or look for unsure ones now",
        "Failed letters start with all their attempts again; what was refused at the post stays failed, and what is "
        "sent is never touched. Unsure letters are looked for in the mailbox, never sent without an answer.",
        RetryIn,
    ),
    _ask(JobChange.PRIORITY, "Give a job another priority", "Among the jobs of its sender.", PriorityIn, required=True),
    Operation(
        id="listTemplates",
        method="GET",
        path="/api/templates",
        summary="The named templates",
        call=Permission.READ,
        answers=(response_models.TemplatesOut,),
        errors=(422,),
    ),
    Operation(
        id="listSuppressions",
        method="GET",
        path="/api/suppressions",
        summary="Who gets no letters, the oldest suppression first",
        call=Permission.SUPPRESS,
        params=(
            _LIST,
            _REASON,
            Param("email", {"type": "string", "maxLength": 320}, "what keeps letters from this address"),
            Param("cursor", {"type": "string", "maxLength": 64}, "`next_cursor` of the page before"),
            page_size(100, 1000),
        ),
        answers=(suppression_models.SuppressionsOut,),
        errors=(422,),
    ),
    Operation(
        id="downloadSuppressions",
        method="GET",
        path="/api/suppressions.csv",
        summary="All suppressions as CSV",
        call=Permission.SUPPRESS,
        params=(_LIST, _REASON),
        kind="text/csv",
        errors=(422,),
    ),
    Operation(
        id="addSuppressions",
        method="POST",
        path="/api/suppressions",
        summary="Send no more letters to these addresses",
        description="All of them or none. A list that is named and does not exist is made. Again, it changes nothing.",
        call=Permission.SUPPRESS,
        body=SuppressionsIn,
        body_required=True,
        answers=(suppression_models.SuppressedOut,),
        errors=(400, 408, 413, 415, 422),
    ),
    Operation(
        id="removeSuppression",
        method="DELETE",
        path="/api/suppressions/{email}",
        summary="End a suppression: the person gets letters again",
        call=Permission.SUPPRESS,
        params=(
            Param("email", {"type": "string", "maxLength": 320}, "the address, in any spelling", where="path"),
            _LIST,
        ),
        answers=(suppression_models.RemovedOut,),
        errors=(404, 422),
    ),
    Operation(
        id="listMailingLists",
        method="GET",
        path="/api/lists",
        summary="The lists that a person can leave",
        call=Permission.SUPPRESS,
        answers=(suppression_models.ListsOut,),
        errors=(422,),
    ),
    Operation(
        id="saveMailingList",
        method="POST",
        path="/api/lists",
        summary="Make a list, or give one another title",
        call=Permission.SUPPRESS,
        body=ListIn,
        body_required=True,
        answers=(suppression_models.ListOut,),
        errors=(400, 408, 413, 415, 422),
    ),
    *WEBHOOK_OPERATIONS,
    Operation(
        id="getLiveness",
        method="GET",
        path="/health/live",
        summary="Whether the process is alive",
        answers=(response_models.LiveOut,),
    ),
    Operation(
        id="getReadiness",
        method="GET",
        path="/health/ready",
        summary="Whether a job could be stored now",
        answers=(response_models.ReadyOut,),
    ),
)  # fmt: skip
