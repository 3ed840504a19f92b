"""One job: what became of everybody, what failed and why, its people, a preview, and what can be
done.
"""

import re
from collections.abc import Sequence
from math import ceil
from typing import Final

from aiohttp import web

from mailerd.core.i18n import Text
from mailerd.core.results import MessageOutcome, Result
from mailerd.core.states import JobStatus, State
from mailerd.errors import DatabaseError
from mailerd.http.responses import write_results
from mailerd.mail.mime import Addresses
from mailerd.operations import jobs
from mailerd.operations.jobs import UnknownJobError
from mailerd.store.read import describe
from mailerd.store.read.console_queries import MAX_FAILURES, FailureCause
from mailerd.store.read.job_report import MAX_SEARCHED, listed
from mailerd.store.read.jobs import Job, Jobs
from mailerd.store.write.api_keys import Permission
from mailerd.store.write.job_actions import activity_of
from mailerd.web.frame.html import said
from mailerd.web.frame.services import MAX_LISTED, TIMEOUT, ConsoleRequest
from mailerd.web.look.chart_page import JOB_SPANS, chart_of_job, write_chart
from mailerd.web.look.jobs_page import progress_words
from mailerd.web.look.report import ACTIONS, bar_svg, read_parts, read_unsubscribed
from mailerd.web.look.undo_job import may_undo

FAILURES_SHARED: Final = 10.0
"""Seconds for which the failures of a job by their cause are shared."""
_TEMPLATE_MARKS: Final = re.compile(r"\{\{.{0,300}?\}\}|\{%.{0,300}?%\}")
"""What differs from message to message in a subject, as the job has it; without its bound it takes
quadratic time.
"""


async def find_job(it: ConsoleRequest) -> Job:
    """The job of the path.

    Raises:
        ApiError: 404, there is none that the key may see.
    """
    try:
        return await jobs.find(it.caller, it.http.match_info["id"])
    except UnknownJobError:
        it.missing()


async def show(it: ConsoleRequest) -> web.Response:
    """The page."""
    job = await find_job(it)
    services, query = it.services, it.http.query
    tab, text, after = (
        _tab(query.get("tab", "")),
        query.get("email", "").strip(),
        it.number("after"),
    )
    first = -1 if after is None else min(after, job.total)
    email = _address(text)
    found = await services.jobs.recipients(
        job.id,
        after=first,
        limit=MAX_LISTED + 1,
        email=email,
        **listed(tab, text="" if email else text, after=first),
    )
    more = found[MAX_LISTED - 1].index if len(found) > MAX_LISTED else None
    if more is None and text and not email and first + MAX_SEARCHED < job.total:
        more = first + MAX_SEARCHED
    asked = await activity_of(services.database, job.id, bound=TIMEOUT)
    subject, template, sender_name = await services.queries.subject(job.id)
    causes, parts = (
        await _failures(it, job) if job.counts[State.FAILED] else [],
        await read_parts(it, job),
    )
    return it.page(
        "job.html",
        active="jobs",
        job=job,
        tab=tab,
        parts=parts,
        bar=bar_svg(parts, it),
        text=text,
        unsubscribed=await read_unsubscribed(it, job),
        recipients=found[:MAX_LISTED],
        more=more,
        title=job.reference or template or _TEMPLATE_MARKS.sub("…", subject),
        subject=subject,
        template=template,
        sender_name=sender_name,
        causes=causes,
        grouped=MAX_FAILURES,
        asked=asked,
        story=await _story(it, job),
        rate=job.per_minute(least=60),
        may_control=it.may(Permission.CONTROL),
        may_send=it.may(Permission.SEND),
        changes=_possible(job),
        live=True,
        progress_words=progress_words(job),
        actions=await _actions(it, job, causes),
        chart_drawn=await chart_of_job(it, job),
        spans={name: said(words, it.language) for name, words in JOB_SPANS.items()},
        span_chosen="sending" if query.get("span") == "sending" else "all",
        undo=may_undo(it, job),
        seconds=max(0, ceil(job.starts_in)),
    )


async def _actions(
    it: ConsoleRequest, job: Job, causes: Sequence[FailureCause]
) -> dict[str, tuple[str, Text]]:
    """What can be done about the parts, where it would take a message."""
    if not it.may(Permission.CONTROL):
        return {}
    possible: set[str] = {MessageOutcome.UNSURE}
    if job.status is not JobStatus.CANCELLED:
        if any(cause.retriable for cause in causes):
            possible.add(MessageOutcome.FAILED)
        if job.bounced and await it.services.queries.has_soft_bounce(job.id):
            possible.add(MessageOutcome.BOUNCED_SOFT)
    return {part: ACTIONS[part] for part in possible}


async def _failures(it: ConsoleRequest, job: Job) -> list[FailureCause]:
    """What failed by its cause, read once a while for all who look, and anew when the number of
    failures changes.
    """
    place = ("failures", job.id, job.counts[State.FAILED])
    return await it.services.shared.get(
        place, FAILURES_SHARED, lambda: it.services.queries.failures(job.id)
    )


def _tab(text: str) -> MessageOutcome | State | Result | None:
    """The messages that are asked for: a part of the report, or those in a state or with a result;
    None: all.
    """
    kinds: tuple[type[MessageOutcome | State | Result], ...] = (MessageOutcome, State, Result)
    return next((kind(text) for kind in kinds if text in set(kind)), None)


async def _story(it: ConsoleRequest, job: Job) -> Sequence[str]:
    """Why it waits and what comes next, as `mailerd explain` says it."""
    if job.finished_at:
        return []
    try:
        inputs = (await it.services.forecasts.read_all([job.id])).get(job.id)
        daemons = await it.services.history.daemons()
    except DatabaseError:
        inputs, daemons = None, ()
    stats = it.services.stats()
    known = stats.sender(job.sender.email) if stats else None
    return describe.of_job(job, inputs, daemons=daemons, known=known)[2:]


def _possible(job: Job) -> list[str]:
    """What its status allows."""
    match job.status.value:
        case "paused":
            return ["resume", "cancel"]
        case "queued" | "sending":
            return ["pause", "cancel"]
        case _:
            return []


def _address(text: str) -> str | None:
    """The address that a text is; None: it is a part of one, or a name."""
    try:
        return Addresses().check(text)
    except ValueError:
        return None


async def results(it: ConsoleRequest) -> web.StreamResponse:
    """All recipients, or those of a tab, as CSV, as the API gives them."""
    job, tab = await find_job(it), _tab(it.http.query.get("tab", ""))
    jobs = Jobs(it.services.database, timeout=it.services.settings.database.connect_timeout)
    async with it.services.shares.downloads.place(it.key):
        return await write_results(
            it.http,
            job.id,
            jobs,
            pace=it.services.shares.rows,
            which=listed(tab),
            part=tab.value if tab else "",
        )


async def chart(it: ConsoleRequest) -> web.StreamResponse:
    """The figures of its chart as CSV.

    Raises:
        ApiError: 404, there is none; 503, its figures cannot be read.
    """
    drawn = await chart_of_job(it, await find_job(it))
    return await write_chart(it, drawn) if drawn else it.missing()
