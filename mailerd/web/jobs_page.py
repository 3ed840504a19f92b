"""The list of jobs: found by status, sender, reference and time; several are paused, resumed or cancelled at once."""

from datetime import UTC, datetime
from typing import Any, Final

from aiohttp import web

from mailerd.clock import ULID
from mailerd.core.i18n import t, tn
from mailerd.core.states import ImpossibleRequestError, JobChange, JobStatus, State
from mailerd.store.api_keys import Permission
from mailerd.store.job_actions import ActionResult
from mailerd.store.jobs import Job, JobFilter
from mailerd.web.forms import read_form
from mailerd.web.services import MAX_LISTED, ConsoleRequest

NO_CHANGE: Final = t("Nothing was changed.")
MAX_COUNTED: Final = 200_000
"""Messages that may be counted for one page; the jobs that are too large show no counts."""
FAILURES: Final = "failures"
"""What stands in place of a status for the jobs of which messages failed lately."""
IN_BULK: Final = (JobChange.PAUSE, JobChange.RESUME, JobChange.CANCEL)


async def show(it: ConsoleRequest) -> web.Response:
    """A page of the list."""
    query = it.http.query
    failed = await it.services.queries.failed_jobs() if query.get("status") == FAILURES else None
    only = JobFilter(
        ids=failed,
        status=JobStatus(query["status"]) if query.get("status") in set(JobStatus) else None,
        sender=query.get("sender", "").strip().lower() or None,
        reference=query.get("reference", "").strip() or None,
        since=_day(query.get("from", "")),
        until=_day(query.get("until", "")),
    )
    before = query.get("before", "")
    found = await it.services.jobs.newest(
        before=before if ULID.fullmatch(before) else None, limit=MAX_LISTED + 1, senders=it.key.senders, only=only,
        counted=MAX_COUNTED,
    )  # fmt: skip
    shown = found[:MAX_LISTED]
    if failed is not None:  # a retry may have mended it since
        shown = [job for job in shown if job.counts[State.FAILED] or not sum(job.counts.values())]
    given = {name: query[name] for name in ("status", "sender", "reference", "from", "until") if query.get(name)}
    return it.page(
        "jobs.html", active="jobs", jobs=shown,
        more=found[MAX_LISTED - 1].id if len(found) > MAX_LISTED else "",
        given=given, statuses=list(JobStatus), failures=FAILURES, may_control=it.may(Permission.CONTROL), live=True,
    )  # fmt: skip


async def act(it: ConsoleRequest) -> web.Response:
    """Do one thing to several jobs."""
    form = await read_form(it.http)
    changes = {change.value: change for change in IN_BULK}
    change = changes.get(form.text("action"))
    ids = [each for each in form.all("job") if ULID.fullmatch(each)][:MAX_LISTED]
    if change is None or not ids:
        return it.back("/jobs", t("Nothing was changed. Select at least one job."))
    it.require(Permission.CONTROL)
    done, refused = 0, 0
    for job_id in ids:
        job = await it.services.jobs.seen_by(it.key, job_id)
        if job is None:
            continue
        try:
            done += (await apply(it, job, change)).changed
        except ImpossibleRequestError:
            refused += 1
    said = tn("{n} job changed.", "{n} jobs changed.", done)
    if refused:
        said = t("{done} Not changed: {refused}.", done=said, refused=refused)
    return it.back("/jobs", said)


async def apply(it: ConsoleRequest, job: Job, change: JobChange, **options: Any) -> ActionResult:
    """Do what is asked of a job by the same way as the API, and say who asked.

    Raises:
        ImpossibleRequestError: the job's status does not allow it.
    """
    done = await it.services.actions.apply(job.id, change, actor=it.actor, messages=job.total, **options)
    it.services.events.console_job_action(
        job=job.id, action=change.value, actor=it.actor, messages=done.messages, status=done.status.value
    )
    if done.changed:
        it.services.wake()
    return done


def _day(text: str) -> datetime | None:
    try:
        return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC) if text else None
    except ValueError:
        return None
