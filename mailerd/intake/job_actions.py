"""`POST /api/jobs/{id}/cancel` and its kin: what people ask of a job that runs, and `GET …/actions`: who asked."""

from collections.abc import Awaitable, Callable
from typing import Any, Final

from aiohttp import web

from mailerd.core.states import ImpossibleRequestError, JobChange, JobStatus
from mailerd.events.intake import IntakeEvents
from mailerd.intake.create_job import Wakeup
from mailerd.intake.errors import ApiError, not_found
from mailerd.intake.middleware import answer, rfc3339
from mailerd.intake.query_params import JobLookup, query
from mailerd.intake.read_jobs import show_job
from mailerd.intake.request_body import BodyReader
from mailerd.intake.request_models import NothingIn, PriorityIn, RetryIn, read_model
from mailerd.intake.strict_json import parse
from mailerd.store.api_keys import ApiKey, Permission
from mailerd.store.job_actions import JobActions
from mailerd.store.jobs import Jobs

BODY_AT_MOST: Final = 10_000
"""Bytes; these bodies are a word or two."""

_WHY_NOT: Final = {
    JobStatus.COMPLETED: "it has come to its end",
    JobStatus.CANCELLED: "it is cancelled for good: post what is left as a new job",
}
_LOOKED_FOR: Final = (
    "its unsure letters, which may have been sent, are looked for by themselves; `mailerd settle` closes those that "
    "only a person can"
)
_Asks = Callable[[web.Request], Awaitable[web.Response]]


class JobActionEndpoints:
    """The handlers that change a job; each may be repeated without harm."""

    def __init__(
        self,
        *,
        finding: JobLookup,
        jobs: Jobs,
        controls: JobActions,
        wakeup: Wakeup,
        events: IntakeEvents,
        within: float,
    ) -> None:
        self._finding = finding
        self._jobs = jobs
        self._controls = controls
        self._wakeup = wakeup
        self._events = events
        self._bodies = BodyReader(max_body=BODY_AT_MOST, within=within)

    def asks(self, change: JobChange) -> _Asks:
        """The handler of one change."""

        async def handle(request: web.Request) -> web.Response:
            return await self._ask(request, change)

        return handle

    async def _ask(self, request: web.Request, change: JobChange) -> web.Response:
        key, job = await self._finding.job(request, Permission.CONTROL)
        query(request, allowed=())
        options = await self._options(request, change, key)
        actor = f"key {key.name}"
        try:
            done = await self._controls.apply(job.id, change, actor=actor, letters=job.total, **options)
        except ImpossibleRequestError as error:
            why = _LOOKED_FOR if options.get("unsure") else _WHY_NOT[error.status]
            raise ApiError(409, "conflict", f"this job is {error.status}: {why}; nothing was changed") from None
        self._events.job_asked(
            job=job.id, action=change.value, actor=actor, letters=done.letters, status=done.status.value
        )
        if done.changed:
            self._wakeup.wake()
        shown = await self._jobs.job(job.id)
        if shown is None:
            raise not_found("the job has been deleted meanwhile")
        return answer({
            "action": change.value, "changed": done.changed, "letters": done.letters, "job": show_job(shown),
        })  # fmt: skip

    async def _options(self, request: web.Request, change: JobChange, key: ApiKey) -> dict[str, Any]:
        async with self._bodies.read(request, key) as raw:
            fields = parse(raw) if raw else {}
        match change:
            case JobChange.RETRY:
                return {"unsure": read_model(RetryIn, fields).only == "unsure"}
            case JobChange.PRIORITY:
                return {"priority": read_model(PriorityIn, fields).priority}
            case _:
                read_model(NothingIn, fields)
                return {}

    async def actions(self, request: web.Request) -> web.Response:
        """What was asked of a job, by whom and when."""
        _, job = await self._finding.job(request, Permission.READ)
        query(request, allowed=())
        return answer({
            "actions": [
                {
                    "action": it.action, "actor": it.actor, "detail": it.detail, "changed": it.changed,
                    "letters": it.letters, "at": rfc3339(it.at),
                }
                for it in await self._controls.actions(job.id)
            ]
        })  # fmt: skip
