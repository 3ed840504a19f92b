"""`/api/jobs…` and `/api/recipients`: jobs, recipients and forecasts; pause, resume, cancel,
retry.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, Self

from aiohttp import web
from pydantic import Field

from mailerd.clock import ULID
from mailerd.core.i18n import t
from mailerd.core.labels import coded
from mailerd.core.results import MessageOutcome, Result
from mailerd.core.states import ImpossibleRequestError, JobChange, JobStatus, JobType, State
from mailerd.errors import DatabaseError
from mailerd.events.actions import Via
from mailerd.events.intake import IntakeEvents
from mailerd.http.auth import KeyHandler, KeyShares
from mailerd.http.errors import ApiError
from mailerd.http.requests import BodyReader, Query, job_of
from mailerd.http.responses import RowPace, json_response, not_found, page_response, write_results
from mailerd.intake.parse_job import is_past, why_past
from mailerd.intake.request_models import JobChangeIn, NothingIn, PriorityIn, RetryIn
from mailerd.intake.response_models import (
    ActionOut,
    ActionResultOut,
    ActionsOut,
    ForecastOut,
    JobChangedOut,
    JobOut,
    JobsOut,
    KnownSenders,
    MessageOut,
    RecipientOut,
    RecipientsOut,
    try_forecast,
)
from mailerd.intake.strict_json import parse
from mailerd.mail.mime import Addresses, mailbox
from mailerd.model.fields import ResponseModel
from mailerd.model.suppressions import Suppression
from mailerd.operations import jobs
from mailerd.operations.caller import Backend, Caller
from mailerd.operations.inputs import read_model
from mailerd.operations.jobs import UnknownJobError
from mailerd.store.db.database import Database
from mailerd.store.read.forecast_inputs import ForecastReader
from mailerd.store.read.job_report import JobReports, listed, outcomes
from mailerd.store.read.jobs import Job, JobFilter, Jobs
from mailerd.store.read.recipients import PersonsMessage, Recipients
from mailerd.store.write.api_keys import ApiKey, Permission
from mailerd.store.write.job_actions import BegunError, activity_of
from mailerd.store.write.suppressions import Suppressions
from mailerd.store.write.tags import check_tag

# `POST /api/jobs/{id}/cancel`, pause, resume, retry, priority; and `GET …/actions`, the record of
# these requests.

MAX_BODY: Final = 10_000
"""Bytes of a body; these bodies hold one or two fields."""

_WHY_NOT: Final = {
    JobStatus.COMPLETED: t("it has ended"),
    JobStatus.CANCELLED: t(
        "a cancelled job stays cancelled; post the remaining recipients as a new job"
    ),
}
_LOOKED_FOR: Final = t(
    "its unsure messages may have been sent and are checked automatically; use `mailerd settle` for "
    "those that only you can confirm"
)


async def _try_forecasts(
    jobs: Sequence[Job], *, forecasts: ForecastReader, events: IntakeEvents
) -> Mapping[str, ForecastOut]:
    """Forecasts of those jobs that wait for something; none when they cannot be had."""
    waiting = [job for job in jobs if job.counts[State.WAITING] or job.counts[State.UNSURE]]
    if not waiting:
        return {}
    named = f"{waiting[0].id}{f' and {len(waiting) - 1} more' if len(waiting) > 1 else ''}"
    found = await try_forecast(
        forecasts.read_all([job.id for job in waiting]),
        lambda inputs: {id_: ForecastOut.of(it) for id_, it in inputs.items()},
        job=named,
        events=events,
    )
    return found or {}


def _shown(
    job: Job,
    forecasts: Mapping[str, ForecastOut],
    known: KnownSenders,
    *,
    outcomes: Mapping[MessageOutcome, int] | None = None,
) -> JobOut:
    return JobOut.of(job, forecasts.get(job.id), outcomes=outcomes, known=known(job.sender.email))


class JobActionEndpoints:
    """The endpoints that change a job; each may be repeated without harm."""

    def __init__(
        self,
        backend: Backend,
        *,
        forecasts: ForecastReader,
        known: KnownSenders,
        events: IntakeEvents,
    ) -> None:
        self._backend = backend
        self._forecasts = forecasts
        self._known = known
        self._events = events
        self._bodies = BodyReader(max_body=MAX_BODY)

    def endpoint(self, change: JobChange) -> KeyHandler:
        """The endpoint of one change."""

        async def apply(request: web.Request, key: ApiKey) -> web.Response:
            return await self._apply(request, key, change)

        return apply

    async def _apply(self, request: web.Request, key: ApiKey, change: JobChange) -> web.Response:
        job, by = await self._find(request, key), self._by(key)
        options = await self._options(request, change, key)
        try:
            done = await jobs.act(by, job, change, **options)
        except ImpossibleRequestError as error:
            why = _LOOKED_FOR if options.get("unsure") else _WHY_NOT[error.status]
            raise ApiError(
                409,
                "conflict",
                t(
                    "this job is {status}: {why}; nothing was changed",
                    status=coded(error.status),
                    why=why,
                ),
            ) from None
        shown = await self._again(by, job)
        return json_response(
            ActionResultOut(
                action=change,
                changed=done.changed,
                recipients=done.messages,
                job=_shown(shown, {}, self._known),
            )
        )

    async def change(self, request: web.Request, key: ApiKey) -> web.Response:
        """Change what can be changed of a job."""
        job, by = await self._find(request, key), self._by(key)
        now = self._backend.clock.now()
        async with self._bodies.read(request, key) as raw:
            asked = read_model(JobChangeIn, parse(raw), context={"now": now})
        warnings = (
            [why_past(asked.send_at)] if asked.send_at and is_past(asked.send_at, now=now) else []
        )
        try:
            done = await jobs.change(by, job, asked.model_dump(exclude_unset=True))
        except BegunError as error:
            raise ApiError(409, "conflict", str(error)) from None
        if not done.changed or done.status is JobStatus.PAUSED:
            warnings = []  # it is not sent immediately
        shown = await self._again(by, job)
        forecasts = await _try_forecasts([shown], forecasts=self._forecasts, events=self._events)
        return json_response(
            JobChangedOut(
                changed=done.changed,
                job=_shown(shown, forecasts, self._known),
                warnings=warnings,
            )
        )

    async def _options(
        self, request: web.Request, change: JobChange, key: ApiKey
    ) -> dict[str, Any]:
        async with self._bodies.read(request, key) as raw:
            fields = parse(raw) if raw else {}
        match change:
            case JobChange.RETRY:
                asked = read_model(RetryIn, fields)
                return {
                    "unsure": asked.only == "unsure",
                    "bounced": (asked.kind,) if asked.kind else (),
                }
            case JobChange.PRIORITY:
                return {"priority": read_model(PriorityIn, fields).priority}
            case _:
                read_model(NothingIn, fields)
                return {}

    async def list_actions(self, request: web.Request, key: ApiKey) -> web.Response:
        """What was asked of a job, by whom and when."""
        job = await self._find(request, key)
        found = await activity_of(self._backend.database, job.id, bound=self._backend.timeout)
        return json_response(ActionsOut(actions=[ActionOut.of(it) for it in found]))

    def _by(self, key: ApiKey) -> Caller:
        return Caller(self._backend, Via.API, f"key {key.name}", key)

    async def _find(self, request: web.Request, key: ApiKey) -> Job:
        try:
            return await jobs.find(self._by(key), request.match_info["id"])
        except UnknownJobError as error:
            raise not_found(str(error)) from None

    async def _again(self, by: Caller, job: Job) -> Job:
        try:
            return await jobs.find(by, job.id)
        except UnknownJobError:
            raise not_found(t("the job was deleted in the meantime")) from None


DEFAULT_JOBS_LIMIT: Final = 20
MAX_JOBS_LIMIT: Final = 100
DEFAULT_RECIPIENTS_LIMIT: Final = 100
MAX_RECIPIENTS_LIMIT: Final = 1000
COUNT_TIMEOUT: Final = 2.0
"""Seconds to count what became of the messages of a job."""


class ReadEndpoints:
    """The endpoints that only read."""

    def __init__(
        self,
        *,
        jobs: Jobs,
        forecasts: ForecastReader,
        events: IntakeEvents,
        shares: KeyShares,
        known: KnownSenders,
    ) -> None:
        self._known = known
        self._forecasts = forecasts
        self._jobs = jobs
        self._events = events
        self._downloads, self._pace = shares.downloads, shares.rows

    async def job(self, request: web.Request, key: ApiKey) -> web.Response:
        """One job."""
        job = await job_of(request, key, self._jobs)
        forecasts = await _try_forecasts([job], forecasts=self._forecasts, events=self._events)
        try:
            found = outcomes(
                job, await JobReports(self._jobs.database, COUNT_TIMEOUT).results(job.id)
            )
        except DatabaseError:  # the rest is known
            found = {}
        return json_response(_shown(job, forecasts, self._known, outcomes=found))

    async def message(self, request: web.Request, key: ApiKey) -> web.Response:
        """One message that was posted as such."""
        job = await job_of(request, key, self._jobs)
        if job.type != JobType.MESSAGE:
            raise not_found(t("this job is no single message; see GET /api/jobs/{id}", id=job.id))
        (recipient,) = await self._jobs.recipients(job.id, status=None, after=-1, limit=1)
        forecasts = await _try_forecasts([job], forecasts=self._forecasts, events=self._events)
        return json_response(
            MessageOut(
                job=_shown(job, forecasts, self._known),
                recipient=RecipientOut.model_validate(recipient),
            )
        )

    async def jobs(self, request: web.Request, key: ApiKey) -> web.Response:
        """Jobs, the newest first."""
        with Query(
            request,
            allowed=(
                "cursor",
                "limit",
                "status",
                "sender_email",
                "reference",
                "tag",
                "created_from",
                "created_before",
            ),
        ) as given:
            size = given.limit(default=DEFAULT_JOBS_LIMIT, most=MAX_JOBS_LIMIT)
            only = JobFilter(
                status=given.choice("status", JobStatus),
                sender=given.text("sender_email", convert=mailbox),
                reference=given.text("reference"),
                tag=given.text("tag", convert=check_tag),
                since=given.moment("created_from"),
                until=given.moment("created_before"),
            )
            before = given.cursor(shape=ULID)
        found = await self._jobs.newest(
            before=before, limit=size + 1, senders=key.senders, only=only
        )
        page = found[:size]
        forecasts = await _try_forecasts(page, forecasts=self._forecasts, events=self._events)
        return json_response(
            JobsOut(
                jobs=[_shown(each, forecasts, self._known) for each in page],
                next_cursor=page[-1].id if len(found) > size else None,
            )
        )

    async def recipients(self, request: web.Request, key: ApiKey) -> web.Response:
        """A job's recipients, in the order of the request."""
        with Query(
            request, allowed=("cursor", "limit", "status", "email", "result", "outcome")
        ) as given:
            size = given.limit(default=DEFAULT_RECIPIENTS_LIMIT, most=MAX_RECIPIENTS_LIMIT)
            email, after, which = (
                given.text("email", convert=Addresses().check),
                given.cursor(),
                _which(given),
            )
        job = await job_of(request, key, self._jobs)
        first = -1 if after is None else int(after)
        found = await self._pace.read(
            lambda last, limit: self._jobs.recipients(
                job.id, email=email, after=last.index if last else first, limit=limit, **which
            ),
            most=size + 1,
        )
        page = found[:size]
        body = RecipientsOut(
            recipients=[RecipientOut.model_validate(each) for each in page],
            next_cursor=str(page[-1].index) if len(found) > size else None,
        )
        return await page_response(body, "recipients", self._pace)

    async def results(self, request: web.Request, key: ApiKey) -> web.StreamResponse:
        """A job's recipients as CSV, page by page, so that neither side holds them all in
        memory.
        """
        with Query(request, allowed=("status", "outcome")) as given:
            which = _which(given)
        job = await job_of(request, key, self._jobs)
        async with self._downloads.place(key):
            return await write_results(request, job.id, self._jobs, pace=self._pace, which=which)


def _which(given: Query) -> dict[str, Any]:
    """The recipients that are asked for: by their state and result, or by both in one word."""
    status, result = given.choice("status", State), given.choice("result", Result)
    outcome = given.choice("outcome", MessageOutcome)
    if outcome and (status or result):
        given.read("outcome", _not_with_status)
    return listed(outcome) if outcome else {"status": status, "result": result}


def _not_with_status(_: str) -> None:
    raise ValueError(t('cannot be combined with "status" or "result"'))


# `GET /api/recipients?email=`: one person's messages over all jobs, and what keeps messages from
# that person.

_ROW_ID: Final = re.compile(r"[0-9]{1,19}", re.ASCII)


class PersonsMessageOut(RecipientOut):
    """A person's message, with its job."""

    job_id: str
    sender_email: str
    job_type: Annotated[JobType, Field(description="what its job was posted as; test: to look at")]


class PersonOut(ResponseModel):
    """A page of one person's messages, newest first."""

    email: Annotated[
        str, Field(description="as requested; each message shows the spelling it was posted with")
    ]
    recipients: list[PersonsMessageOut]
    suppressions: Annotated[
        list[Suppression] | None,
        Field(
            description="the person's suppressions that the key sees; null: it may see none (`suppress`)"
        ),
    ]
    next_cursor: str | None

    @classmethod
    def of(
        cls,
        email: str,
        found: Sequence[PersonsMessage],
        *,
        size: int,
        suppressions: Sequence[Suppression] | None,
    ) -> Self:
        """A page of `size` messages; one more that was found says that there is a next page."""
        page = found[:size]
        return cls(
            email=email,
            recipients=[PersonsMessageOut.model_validate(it) for it in page],
            suppressions=None if suppressions is None else list(suppressions),
            next_cursor=str(page[-1].id) if len(found) > size else None,
        )


class PersonEndpoint:
    """The handler. `timeout`: seconds that the database gets for an answer."""

    def __init__(self, *, database: Database, timeout: float, pace: RowPace) -> None:
        self._database = database
        self._pace = pace
        self._timeout = timeout

    async def messages(self, request: web.Request, key: ApiKey) -> web.Response:
        """A page of messages, the newest first; those of the key's senders only."""
        with Query(request, allowed=("email", "cursor", "limit")) as given:
            size = given.limit(default=DEFAULT_RECIPIENTS_LIMIT, most=MAX_RECIPIENTS_LIMIT)
            email, before = (
                given.required_text("email", convert=Addresses().check),
                given.cursor(shape=_ROW_ID),
            )
        recipients, first = (
            Recipients(self._database, timeout=self._timeout),
            None if before is None else int(before),
        )
        found = await self._pace.read(
            lambda last, limit: recipients.of_person(
                email, before=last.id if last else first, limit=limit, senders=key.senders
            ),
            most=size + 1,
        )
        suppressions = None
        if key.may(Permission.SUPPRESS):
            its = await Suppressions.open(self._database, timeout=self._timeout, limited_to=key)
            suppressions = await its.of(email)
        body = PersonOut.of(email, found, size=size, suppressions=suppressions)
        return await page_response(body, "recipients", self._pace)
