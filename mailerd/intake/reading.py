"""`GET /api/jobs…`: what became of jobs and recipients."""

import re
from typing import Any, Final

from aiohttp import web

from mailerd.core.pace import FOR_EVER
from mailerd.core.states import OPEN, JobStatus, State
from mailerd.intake.answers import answer, rfc3339
from mailerd.intake.forecast import Forecast
from mailerd.intake.gate import Gate
from mailerd.intake.problems import Fault, ProblemError, invalid, not_found
from mailerd.store.jobs import Job, Jobs, Recipient
from mailerd.store.keys import Key

JOBS_A_PAGE: Final = 20
JOBS_AT_MOST: Final = 100
RECIPIENTS_A_PAGE: Final = 100
RECIPIENTS_AT_MOST: Final = 1000

_ULID: Final = re.compile(r"[0-9A-HJKMNP-TV-Z]{26}")
_NUMBER: Final = re.compile(r"[0-9]{1,9}")


class Reading:
    """The handlers that only read."""

    def __init__(self, *, gate: Gate, jobs: Jobs, forecast: Forecast) -> None:
        self._gate = gate
        self._forecast = forecast
        self._jobs = jobs

    async def job(self, request: web.Request) -> web.Response:
        """One job."""
        key = await self._gate.admit(request)
        _query(request, allowed=())
        job = await self._find(request, key)
        shown = show_job(job)
        if job.counts[State.WAITING]:
            forecast = await self._forecast.forecast(job.id, sender_email=job.sender_email, priority=job.priority)
            shown["forecast"] = dict(forecast)
            shown["cause_of_wait"] = shown["cause_of_wait"] or forecast.get("cause_of_wait")
        return answer(shown)

    async def jobs(self, request: web.Request) -> web.Response:
        """Jobs, the newest first."""
        key = await self._gate.admit(request)
        query = _query(request, allowed=("cursor", "limit"))
        limit = _limit(query, default=JOBS_A_PAGE, most=JOBS_AT_MOST)
        before = query.get("cursor")
        if before is not None and not _ULID.fullmatch(before):
            raise _bad_cursor()
        found = await self._jobs.newest(before=before, limit=limit + 1, senders=key.senders)
        page = found[:limit]
        return answer({
            "jobs": [show_job(each) for each in page],
            "next_cursor": page[-1].id if len(found) > limit else None,
        })  # fmt: skip

    async def recipients(self, request: web.Request) -> web.Response:
        """A job's recipients, in the order of the request."""
        key = await self._gate.admit(request)
        query = _query(request, allowed=("cursor", "limit", "status"))
        limit = _limit(query, default=RECIPIENTS_A_PAGE, most=RECIPIENTS_AT_MOST)
        status, cursor = query.get("status"), query.get("cursor")
        if status is not None and status not in set(State):
            raise invalid([Fault("status", f"must be one of {', '.join(State)}")])
        if cursor is not None and not _NUMBER.fullmatch(cursor):
            raise _bad_cursor()
        job = await self._find(request, key)
        found = await self._jobs.recipients(
            job.id,
            status=State(status) if status else None,
            after=-1 if cursor is None else int(cursor),
            limit=limit + 1,
        )
        page = found[:limit]
        return answer({
            "recipients": [show_recipient(each) for each in page],
            "next_cursor": str(page[-1].seq) if len(found) > limit else None,
        })  # fmt: skip

    async def _find(self, request: web.Request, key: Key) -> Job:
        job_id = request.match_info["id"]
        job = await self._jobs.job(job_id) if _ULID.fullmatch(job_id) else None
        if job is None:
            raise not_found("there is no job with this id")
        if not key.may_send(job.sender_email):
            raise ProblemError(403, "sender_not_allowed", f"the key {key.name!r} may not see jobs of this sender")
        return job


def show_job(job: Job) -> dict[str, Any]:
    """A job as the API shows it."""
    settled = sum(number for state, number in job.counts.items() if state not in OPEN)
    return {
        "job_id": job.id,
        "type": job.type,
        "sender_email": job.sender_email,
        "reference": job.reference,
        "priority": job.priority,
        "status": job.status.value,
        "total": job.total,
        "counts": {state.value: number for state, number in job.counts.items()},
        "progress": settled / job.total if job.total else 1.0,
        "created_at": rfc3339(job.created_at),
        "send_at": rfc3339(job.send_at),
        "started_at": rfc3339(job.started_at),
        "finished_at": rfc3339(job.finished_at),
        "cause_of_wait": cause_of_wait(job),
    }


def cause_of_wait(job: Job) -> str | None:
    """Why the waiting letters of a job do not go now; None when nothing waits or nothing holds them."""
    if not job.counts[State.WAITING]:
        return None
    if job.status is JobStatus.PAUSED:
        return "the job is paused"
    if job.early:
        return f"not due before {rfc3339(job.send_at)}"
    if job.paused_until is not None:
        reason = f": {job.pause_reason}" if job.pause_reason else ""
        until = "it is resumed" if job.paused_until.year == FOR_EVER.year else rfc3339(job.paused_until)
        return f"sender {job.sender_email} is paused until {until}{reason}"
    return None


def show_recipient(row: Recipient) -> dict[str, Any]:
    """A recipient as the API shows it."""
    return {
        "id": row.id,
        "email": row.email,
        "name": row.name,
        "status": row.status.value,
        "attempts": row.attempts,
        "error": row.error,
        "message_id": row.message_id,
        "due_at": rfc3339(row.due_at),
        "sent_at": rfc3339(row.sent_at),
        "updated_at": rfc3339(row.updated_at),
    }


def _query(request: web.Request, *, allowed: tuple[str, ...]) -> dict[str, str]:
    """The query's parameters; an unknown or doubled one is named, as in a body."""
    query = request.query
    faults = [Fault(name, "unknown parameter") for name in query if name not in allowed]
    faults.extend(Fault(name, "is given twice") for name in allowed if len(query.getall(name, ())) > 1)
    if faults:
        raise invalid(faults)
    return dict(query)


def _limit(query: dict[str, str], *, default: int, most: int) -> int:
    given = query.get("limit")
    if given is None:
        return default
    if not _NUMBER.fullmatch(given) or not 1 <= int(given) <= most:
        raise invalid([Fault("limit", f"must be a number from 1 to {most}")])
    return int(given)


def _bad_cursor() -> ProblemError:
    return invalid([Fault("cursor", "is not one that an answer has given as next_cursor")])
