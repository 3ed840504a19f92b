"""`POST /api/jobs/{id}/cancel`, pause, resume, retry, priority; and `GET …/actions`, the record of these requests."""

from collections.abc import Callable
from typing import Any, Final

from aiohttp import web

from mailerd.core.states import ImpossibleRequestError, JobChange, JobStatus
from mailerd.events.intake import IntakeEvents
from mailerd.intake.auth import KeyHandler
from mailerd.intake.errors import ApiError, not_found
from mailerd.intake.http_responses import json_response
from mailerd.intake.query_params import job_of
from mailerd.intake.request_body import BodyReader
from mailerd.intake.request_models import NothingIn, PriorityIn, RetryIn, read_model
from mailerd.intake.response_models import ActionOut, ActionResultOut, ActionsOut, JobOut
from mailerd.intake.strict_json import parse
from mailerd.store.api_keys import ApiKey
from mailerd.store.job_actions import JobActions
from mailerd.store.jobs import Jobs

MAX_BODY: Final = 10_000
"""Bytes of a body; these bodies hold one or two fields."""

_WHY_NOT: Final = {
    JobStatus.COMPLETED: "it has ended",
    JobStatus.CANCELLED: "it is cancelled for good: post what is left as a new job",
}
_LOOKED_FOR: Final = (
    "its unsure letters, which may have been sent, are looked for by themselves; `mailerd settle` closes those that "
    "only a person can"
)


class JobActionEndpoints:
    """The endpoints that change a job; each may be repeated without harm."""

    def __init__(
        self,
        *,
        jobs: Jobs,
        controls: JobActions,
        wake: Callable[[], None],
        events: IntakeEvents,
    ) -> None:
        self._jobs = jobs
        self._controls = controls
        self._wake = wake
        self._events = events
        self._bodies = BodyReader(max_body=MAX_BODY)

    def endpoint(self, change: JobChange) -> KeyHandler:
        """The endpoint of one change."""

        async def apply(request: web.Request, key: ApiKey) -> web.Response:
            return await self._apply(request, key, change)

        return apply

    async def _apply(self, request: web.Request, key: ApiKey, change: JobChange) -> web.Response:
        job = await job_of(request, key, self._jobs)
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
            self._wake()
        shown = await self._jobs.job(job.id)
        if shown is None:
            raise not_found("the job has been deleted meanwhile")
        return json_response(
            ActionResultOut(action=change, changed=done.changed, letters=done.letters, job=JobOut.of(shown))
        )

    async def _options(self, request: web.Request, change: JobChange, key: ApiKey) -> dict[str, Any]:
        async with self._bodies.read(request, key) as raw:
            fields = parse(raw) if raw else {}
        match change:
            case JobChange.RETRY:
                asked = read_model(RetryIn, fields)
                return {"unsure": asked.only == "unsure", "bounced": (asked.kind,) if asked.kind else ()}
            case JobChange.PRIORITY:
                return {"priority": read_model(PriorityIn, fields).priority}
            case _:
                read_model(NothingIn, fields)
                return {}

    async def list_actions(self, request: web.Request, key: ApiKey) -> web.Response:
        """What was asked of a job, by whom and when."""
        job = await job_of(request, key, self._jobs)
        found = await self._controls.actions(job.id)
        return json_response(ActionsOut(actions=[ActionOut.model_validate(it) for it in found]))
