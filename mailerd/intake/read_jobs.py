"""`GET /api/jobs…`: jobs and recipients, as JSON and as CSV."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Final

from aiohttp import web

from mailerd.clock import ULID
from mailerd.core.fates import Fate
from mailerd.core.states import JobStatus, State
from mailerd.events.intake import IntakeEvents
from mailerd.intake.csv_response import Rows, write_csv
from mailerd.intake.forecast import ForecastService, try_forecast
from mailerd.intake.http_responses import json_response
from mailerd.intake.key_shares import KeyShares
from mailerd.intake.query_params import Query, job_of
from mailerd.intake.recipient_models import RecipientOut, RecipientsOut
from mailerd.intake.response_models import ForecastOut, JobOut, JobsOut
from mailerd.intake.row_pace import ROWS_AT_ONCE, RowPace, page_response
from mailerd.mail.addresses import Addresses, mailbox
from mailerd.store.api_keys import ApiKey
from mailerd.store.db.times import rfc3339
from mailerd.store.jobs import Job, JobFilter, Jobs
from mailerd.store.recipients import Recipient

DEFAULT_JOBS_LIMIT: Final = 20
MAX_JOBS_LIMIT: Final = 100
DEFAULT_RECIPIENTS_LIMIT: Final = 100
MAX_RECIPIENTS_LIMIT: Final = 1000

CSV_COLUMNS: Final = (
    "index", "id", "email", "name", "status", "attempts", "error", "message_id", "proof", "due_at", "sent_at",
    "updated_at", "fate", "fate_kind", "fate_code", "fate_reason", "fate_at",
)  # fmt: skip


class ReadEndpoints:
    """The endpoints that only read."""

    def __init__(
        self,
        *,
        jobs: Jobs,
        forecast: ForecastService,
        events: IntakeEvents,
        shares: KeyShares,
    ) -> None:
        self._forecast = forecast
        self._jobs = jobs
        self._events = events
        self._downloads, self._pace = shares.downloads, shares.rows

    async def job(self, request: web.Request, key: ApiKey) -> web.Response:
        """One job."""
        job = await job_of(request, key, self._jobs)
        forecasts = await self._try_forecasts([job])
        return json_response(JobOut.of(job, forecasts.get(job.id)))

    async def _try_forecasts(self, jobs: Sequence[Job]) -> Mapping[str, ForecastOut | None]:
        """Forecasts of those jobs that wait for something; none when they cannot be had."""
        waiting = [job for job in jobs if job.counts[State.WAITING] or job.counts[State.UNSURE]]
        if not waiting:
            return {}
        named = f"{waiting[0].id}{f' and {len(waiting) - 1} more' if len(waiting) > 1 else ''}"
        return await try_forecast(self._forecast.forecasts(waiting), job=named, events=self._events) or {}

    async def jobs(self, request: web.Request, key: ApiKey) -> web.Response:
        """Jobs, the newest first."""
        with Query(
            request,
            allowed=("cursor", "limit", "status", "sender_email", "reference", "created_from", "created_before"),
        ) as given:
            size = given.limit(default=DEFAULT_JOBS_LIMIT, most=MAX_JOBS_LIMIT)
            only = JobFilter(
                status=given.choice("status", JobStatus),
                sender=given.text("sender_email", convert=mailbox),
                reference=given.text("reference"),
                since=given.moment("created_from"),
                until=given.moment("created_before"),
            )
            before = given.cursor(shape=ULID)
        found = await self._jobs.newest(before=before, limit=size + 1, senders=key.senders, only=only)
        page = found[:size]
        forecasts = await self._try_forecasts(page)
        return json_response(
            JobsOut(
                jobs=[JobOut.of(each, forecasts.get(each.id)) for each in page],
                next_cursor=page[-1].id if len(found) > size else None,
            )
        )

    async def recipients(self, request: web.Request, key: ApiKey) -> web.Response:
        """A job's recipients, in the order of the request."""
        with Query(request, allowed=("cursor", "limit", "status", "email", "fate")) as given:
            size = given.limit(default=DEFAULT_RECIPIENTS_LIMIT, most=MAX_RECIPIENTS_LIMIT)
            status, email = given.choice("status", State), given.text("email", convert=Addresses().check)
            fate, after = given.choice("fate", Fate), given.cursor()
        job = await job_of(request, key, self._jobs)
        first = -1 if after is None else int(after)
        found = await self._pace.read(
            lambda last, limit: self._jobs.recipients(
                job.id, status=status, email=email, after=last.seq if last else first, limit=limit, fate=fate
            ),
            most=size + 1,
        )
        page = found[:size]
        body = RecipientsOut(
            recipients=[RecipientOut.model_validate(each) for each in page],
            next_cursor=str(page[-1].seq) if len(found) > size else None,
        )
        return await page_response(body, "recipients", self._pace)

    async def results(self, request: web.Request, key: ApiKey) -> web.StreamResponse:
        """A job's recipients as CSV, page by page, so that neither side holds them all in memory."""
        with Query(request, allowed=("status",)) as given:
            status = given.choice("status", State)
        job = await job_of(request, key, self._jobs)
        async with self._downloads.place(key):
            return await write_results(request, job.id, self._jobs, pace=self._pace, status=status)


async def write_results(
    request: web.Request, job_id: str, jobs: Jobs, *, pace: RowPace, status: State | None = None
) -> web.StreamResponse:
    """Answer with the results of a job that the caller may see."""

    async def pages() -> AsyncGenerator[Rows]:
        after = -1
        while page := await jobs.recipients(job_id, status=status, after=after, limit=ROWS_AT_ONCE):
            yield [_row(each) for each in page]
            after = page[-1].seq
            await pace.turn()

    return await write_csv(request, pages(), columns=CSV_COLUMNS, filename=f"{job_id}.csv")


def _row(row: Recipient) -> tuple[object, ...]:
    moments = (rfc3339(row.due_at), row.sent_at and rfc3339(row.sent_at), rfc3339(row.updated_at))
    known = row.fate
    fate = (known.state.value, known.kind, known.code, known.reason, rfc3339(known.at)) if known else (None,) * 5
    said = (row.error, row.message_id, row.proof)
    return row.seq, row.id, row.email, row.name, row.status.value, row.attempts, *said, *moments, *fate
