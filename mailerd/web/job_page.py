"""One job: its states, what failed and why, its recipients, a preview, and what can be done."""

import re
from collections.abc import Sequence
from typing import Any, Final

from aiohttp import web

from mailerd.core.i18n import Text, joined, t, tn
from mailerd.core.labels import label
from mailerd.core.notices import Kind
from mailerd.core.results import Result
from mailerd.core.states import MAX_PRIORITY, MIN_PRIORITY, ImpossibleRequestError, JobChange, State
from mailerd.errors import DatabaseError
from mailerd.http.responses import write_results
from mailerd.mail.mime import Addresses
from mailerd.store import describe
from mailerd.store.api_keys import Permission
from mailerd.store.console_queries import MAX_FAILURES, FailureCause
from mailerd.store.jobs import Job, Jobs
from mailerd.web.forms import Form, read_form, read_number
from mailerd.web.jobs_page import NO_CHANGE, apply
from mailerd.web.send_review_page import may_undo, undo
from mailerd.web.services import MAX_LISTED, TIMEOUT, ConsoleRequest

FAILURES_SHARED: Final = 10.0
"""Seconds for which the failures of a job by their cause are shared."""
_TEMPLATE_MARKS: Final = re.compile(r"\{\{.{0,300}?\}\}|\{%.{0,300}?%\}")
"""What differs from message to message in a subject, as the job has it; without its bound it takes quadratic time."""
_TABS: Final = (State.WAITING, State.SENDING, State.UNSURE, State.SENT, State.FAILED, State.CANCELLED)


_RETRIES: Final[dict[str, dict[str, Any]]] = {
    "retry": {}, "retry-soft": {"bounced": (Kind.SOFT.value,)}, "look": {"unsure": True},
}  # fmt: skip
"""The messages that a retry means, by the button that was pressed."""


async def find_job(it: ConsoleRequest) -> Job:
    """The job of the path.

    Raises:
        ApiError: 404, there is none that the key may see.
    """
    job = await it.services.jobs.seen_by(it.key, it.http.match_info["id"])
    if job is None:
        it.missing()
    return job


async def show(it: ConsoleRequest) -> web.Response:
    """The page."""
    job = await find_job(it)
    services, query = it.services, it.http.query
    tab = _tab(query.get("tab", ""))
    email = query.get("email", "").strip()
    after = it.number("after")
    found = await services.jobs.recipients(
        job.id, status=tab if isinstance(tab, State) else None, result=tab if isinstance(tab, Result) else None,
        after=-1 if after is None else after, limit=MAX_LISTED + 1, email=_address(email) if email else None,
    )  # fmt: skip
    asked = await services.actions.actions(job.id, within=TIMEOUT)
    subject, template, sender_name = await services.queries.subject(job.id)
    causes = await _failures(it, job) if job.counts[State.FAILED] else []
    return it.page(
        "job.html", active="jobs", job=job, tabs=_TABS, tab=tab,
        results=((Result.BOUNCED, job.bounced), (Result.REPLIED, job.replied)), email=email,
        recipients=found[:MAX_LISTED],
        title=job.reference or template or _TEMPLATE_MARKS.sub("…", subject),
        more=found[MAX_LISTED - 1].index if len(found) > MAX_LISTED else None, subject=subject, template=template,
        sender_name=sender_name, causes=causes, grouped=MAX_FAILURES,
        asked=asked, story=await _story(it, job), rate=job.per_minute(least=60),
        may_control=it.may(Permission.CONTROL), changes=_possible(job), live=True,
        undo=may_undo(it, job), seconds=max(0, int((job.send_at - services.clock.now()).total_seconds())),
        done=_done(job), soft=bool(job.bounced) and await services.queries.has_soft_bounce(job.id),
    )  # fmt: skip


async def _failures(it: ConsoleRequest, job: Job) -> list[FailureCause]:
    """What failed by its cause, read once a while for all who look, and anew when the number of failures changes."""
    place = ("failures", job.id, job.counts[State.FAILED])
    return await it.services.shared.get(place, FAILURES_SHARED, lambda: it.services.queries.failures(job.id))


def _tab(text: str) -> State | Result | None:
    """The messages that are asked for: those in a state, or with a result; None: all."""
    if text in set(State):
        return State(text)
    return Result(text) if text in (Result.BOUNCED, Result.REPLIED) else None


async def _story(it: ConsoleRequest, job: Job) -> Sequence[str]:
    """Why it waits and what comes next, as `mailerd explain` says it."""
    if job.finished_at:
        return []
    try:
        inputs = (await it.services.forecasts.read_all([job.id])).get(job.id)
        daemons = await it.services.history.daemons()
    except DatabaseError:
        inputs, daemons = None, ()
    return describe.of_job(job, inputs, daemons=daemons)[2:]


def _done(job: Job) -> Text:
    """How many have ended, and how."""
    counts = job.counts
    ended = [
        words
        for state, words in (
            (State.SENT, t("{n:,} sent", n=counts[State.SENT])),
            (State.FAILED, t("{n:,} failed", n=counts[State.FAILED])),
            (State.CANCELLED, t("{n:,} cancelled", n=counts[State.CANCELLED])),
        )
        if counts[state] or state is State.SENT
    ]
    return t("{results} (of {total:,})", results=joined(ended, ", "), total=job.total)


def _possible(job: Job) -> list[str]:
    """What its status allows."""
    match job.status.value:
        case "paused":
            return ["resume", "cancel"]
        case "queued" | "sending":
            return ["pause", "cancel"]
        case _:
            return []


def _address(text: str) -> str:
    try:
        return Addresses().check(text)
    except ValueError:
        return text


async def act(it: ConsoleRequest) -> web.Response:
    """Pause, resume, cancel, retry, look for unsure messages, or another priority."""
    job = await find_job(it)
    it.require(Permission.CONTROL)
    form = await read_form(it.http)
    here = f"/jobs/{job.id}"
    if form.text("action") == "undo":
        return await undo(it, job, form.text("draft"))
    asked = await _asked(it, job, form)
    if isinstance(asked, str):
        return it.back(here, asked)
    change, options = asked
    try:
        done = await apply(it, job, change, **options)
    except ImpossibleRequestError as error:
        return it.back(here, t("Nothing was changed. Job status: {status}.", status=label(error.status)))
    if not done.changed:
        return it.back(here, NO_CHANGE)
    return it.back(here, _said(change, done.messages, look="unsure" in options))


def _said(change: JobChange, n: int, *, look: bool) -> Text:
    """What was done to a job, of which it changed so many messages."""
    match change:
        case JobChange.PAUSE:
            return t("Job paused.")
        case JobChange.RESUME:
            return t("Job resumed.")
        case JobChange.CANCEL:
            return tn("Job cancelled: {n:,} message is not sent.", "Job cancelled: {n:,} messages are not sent.", n)
        case JobChange.RETRY if look:
            return tn("Checking {n:,} unconfirmed message.", "Checking {n:,} unconfirmed messages.", n)
        case JobChange.RETRY:
            return tn("{n:,} message requeued.", "{n:,} messages requeued.", n)
        case JobChange.PRIORITY:
            return t("Priority changed.")


async def _asked(it: ConsoleRequest, job: Job, form: Form) -> tuple[JobChange, dict[str, Any]] | str:
    """The change that a form asks for; or why there is none, in words."""
    match action := form.text("action"):
        case "pause" | "resume" | "cancel":
            return JobChange(action), {}
        case "retry" | "retry-soft" | "look":
            return JobChange.RETRY, _RETRIES[action]
        case "retry-cause":
            cause = await _cause(it, job, form.text("cause"))
            if cause is None:
                return t("Nothing was changed: these messages have changed since the page was loaded.")
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
    return next((cause for cause in await it.services.queries.failures(job.id) if cause.id == id_), None)


async def results(it: ConsoleRequest) -> web.StreamResponse:
    """All recipients as CSV, as the API gives them."""
    job = await find_job(it)
    jobs = Jobs(it.services.database, timeout=it.services.settings.database.connect_timeout)
    async with it.services.shares.downloads.place(it.key):
        return await write_results(it.http, job.id, jobs, pace=it.services.shares.rows)
