"""What can be done to one job: pause, resume, cancel, retry, check, another priority, another
time.
"""

from datetime import timedelta
from typing import Any, Final

from aiohttp import web

from mailerd.core.i18n import Text, t, tn
from mailerd.core.labels import label
from mailerd.core.notices import Kind
from mailerd.core.states import (
    MAX_PRIORITY,
    MIN_PRIORITY,
    ImpossibleRequestError,
    JobChange,
    JobStatus,
)
from mailerd.operations import jobs
from mailerd.store.read import describe
from mailerd.store.read.console_queries import FailureCause
from mailerd.store.read.jobs import Job
from mailerd.store.write.job_actions import BegunError
from mailerd.web.frame.forms import Form, read_form, read_local_time, read_number
from mailerd.web.frame.services import ConsoleRequest
from mailerd.web.look.job_page import find_job
from mailerd.web.look.jobs_page import NO_CHANGE
from mailerd.web.look.undo_job import undo

MAX_AHEAD: Final = timedelta(days=366)
"""How far ahead a job may be rescheduled, as in the API."""
_RETRIES: Final[dict[str, dict[str, Any]]] = {
    "retry": {},
    "retry-soft": {"bounced": (Kind.SOFT.value,)},
    "look": {"unsure": True},
}
"""The messages that a retry means, by the button that was pressed."""


async def act(it: ConsoleRequest) -> web.Response:
    """Pause, resume, cancel, retry, look for unsure messages, another priority or another time."""
    job = await find_job(it)
    form = await read_form(it.http)
    here = f"/jobs/{job.id}"
    if form.text("action") == "undo":
        return await undo(it, job, form.text("draft"))
    if form.text("action") == "reschedule":
        return it.back(here, await _reschedule(it, job, form))
    asked = await _asked(it, job, form)
    if isinstance(asked, str):
        return it.back(here, asked)
    change, options = asked
    try:
        done = await jobs.act(it.caller, job, change, **options)
    except ImpossibleRequestError as error:
        return it.back(
            here, t("Nothing was changed. Job status: {status}.", status=label(error.status))
        )
    if not done.changed:
        return it.back(here, NO_CHANGE)
    return it.back(here, _said(change, done.messages, look="unsure" in options))


async def _reschedule(it: ConsoleRequest, job: Job, form: Form) -> Text:
    """Give a job that has not begun another time, by the same way as the API; what was done."""
    try:
        at = read_local_time(form.text("at"), form.text("zone"))
    except ValueError:
        return t("Nothing was changed. Enter a date, a time and a time zone.")
    if at > it.services.clock.now() + MAX_AHEAD:
        return t("Nothing was changed. The time is more than a year ahead.")
    try:
        done = await jobs.change(it.caller, job, {"send_at": at})
    except BegunError:
        return t(
            "Nothing was changed. A job can be rescheduled only before its first message is sent."
        )
    if not done.changed:
        return NO_CHANGE
    if at <= it.services.clock.now() and done.status is not JobStatus.PAUSED:
        return t("{time} is in the past: the job is sent immediately.", time=describe.moment(at))
    return t("Job rescheduled for {time}.", time=describe.moment(at))


def _said(change: JobChange, n: int, *, look: bool) -> Text:
    """What was done to a job, of which it changed so many messages."""
    match change:
        case JobChange.PAUSE:
            return t("Job paused.")
        case JobChange.RESUME:
            return t("Job resumed.")
        case JobChange.CANCEL:
            return tn(
                "Job cancelled: {n:,} message is not sent.",
                "Job cancelled: {n:,} messages are not sent.",
                n,
            )
        case JobChange.RETRY if look:
            return tn(
                "Checking {n:,} unconfirmed message.", "Checking {n:,} unconfirmed messages.", n
            )
        case JobChange.RETRY:
            return tn("{n:,} message requeued.", "{n:,} messages requeued.", n)
        case JobChange.PRIORITY:
            return t("Priority changed.")


async def _asked(
    it: ConsoleRequest, job: Job, form: Form
) -> tuple[JobChange, dict[str, Any]] | str:
    """The change that a form asks for; or why there is none, in words."""
    match action := form.text("action"):
        case "pause" | "resume" | "cancel":
            return JobChange(action), {}
        case "retry" | "retry-soft" | "look":
            return JobChange.RETRY, _RETRIES[action]
        case "retry-cause":
            cause = await _cause(it, job, form.text("cause"))
            if cause is None:
                return t(
                    "Nothing was changed: these messages have changed since the page was loaded."
                )
            return JobChange.RETRY, {"errors": cause.errors}
        case "priority":
            try:
                number = read_number(form.text("priority"), least=MIN_PRIORITY, most=MAX_PRIORITY)
            except ValueError:
                return t("Nothing was changed. Enter a priority from -100 to 100.")
            return JobChange.PRIORITY, {"priority": number}
        case _:
            return NO_CHANGE


async def _cause(it: ConsoleRequest, job: Job, id_: str) -> FailureCause | None:
    return next(
        (cause for cause in await it.services.queries.failures(job.id) if cause.id == id_), None
    )
