"""The list of jobs: by tab, text, sender, status and time; several are paused, resumed or cancelled at once."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import urlencode

from aiohttp import web

from mailerd.clock import ULID
from mailerd.core.i18n import N_, Text, joined, t, tn
from mailerd.core.states import ImpossibleRequestError, JobChange, JobStatus, State
from mailerd.store.api_keys import Permission
from mailerd.store.job_actions import ActionResult
from mailerd.store.jobs import Job, JobFilter
from mailerd.store.lookup import Search
from mailerd.web.forms import read_form
from mailerd.web.services import MAX_LISTED, TIMEOUT, ConsoleRequest

NO_CHANGE: Final = t("Nothing was changed.")
MAX_COUNTED: Final = 200_000
"""Messages that may be counted for one page; the jobs that are too large show no counts."""
MAX_BULK: Final = 500
"""Jobs that one form may change."""
MAX_DOUBTS: Final = 200
FAILURES: Final = "failures"
"""What old links have for the jobs that need attention, in place of a status."""
IN_BULK: Final = (JobChange.PAUSE, JobChange.RESUME, JobChange.CANCEL)
TABS: Final = {
    "": N_("All"), "progress": N_("In progress"), "scheduled": N_("Scheduled"), "attention": N_("Needs attention"),
}  # fmt: skip
_SHORT_ID: Final = re.compile("[0-9A-Z]{6}")
FIELDS: Final = ("tab", "q", "sender", "status", "from", "until")
"""What an address of the list may have: the filters."""


async def show(it: ConsoleRequest) -> web.Response:
    """A page of the list."""
    given, before = _given(it.http.query), it.http.query.get("before", "")
    only, tab = await _filter(it, given), given.get("tab", "")
    found = await it.services.jobs.newest(
        before=before if ULID.fullmatch(before) else None, limit=MAX_LISTED + 1, senders=it.key.senders, only=only,
        counted=MAX_COUNTED,
    )  # fmt: skip
    shown, has_more, matching = found[:MAX_LISTED], len(found) > MAX_LISTED, len(found)
    if has_more and it.may(Permission.CONTROL):
        matching = len(await it.services.jobs.newest(
            before=None, limit=MAX_BULK + 1, senders=it.key.senders, only=only, counted=0
        ))  # fmt: skip
    doubts = []
    if tab == "attention":  # a retry may have mended what failed
        shown = [
            job for job in shown
            if job.counts[State.FAILED] or job.counts[State.UNSURE] or not sum(job.counts.values())
        ]  # fmt: skip
        if given.keys() == {"tab"}:
            doubts = await it.services.queries.doubts(limit=MAX_DOUBTS + 1, senders=it.key.senders)
    return it.page(
        "jobs.html", active="jobs", jobs=shown, more=found[MAX_LISTED - 1].id if has_more else "",
        given=given, tab=tab, tabs=TABS, filtered=given.keys() - {"tab"}, statuses=list(JobStatus),
        rest=urlencode(given), matching=matching, most=MAX_BULK, listed=MAX_LISTED, progress_words=progress_words,
        doubts=doubts[:MAX_DOUBTS], more_doubts=len(doubts) > MAX_DOUBTS,
        senders=[each.email for each in it.senders(it.services.stats())],
        may_control=it.may(Permission.CONTROL), live=True,
    )  # fmt: skip


def _given(fields: Mapping[str, str]) -> dict[str, str]:
    """The filters, as they stand in an address or in a form; what is empty or unknown is left out."""
    given = {name: fields[name].strip() for name in FIELDS if fields.get(name, "").strip()}
    if given.get("status") == FAILURES:
        given["tab"] = "attention"
    known: dict[str, set[str]] = {"tab": set(TABS), "status": set(JobStatus)}
    return {name: value for name, value in given.items() if value in known.get(name, {value})}


async def _filter(it: ConsoleRequest, given: Mapping[str, str]) -> JobFilter:
    """The jobs that are meant: those of a tab and of a text are found first, of which there are few."""
    queries, senders = it.services.queries, it.key.senders
    ids: set[str] | None = None
    if (tab := given.get("tab")) == "attention":
        ids = {*await queries.open_jobs("unsure", senders), *await queries.failed_jobs()}
    elif tab:
        ids = {*await queries.open_jobs("scheduled" if tab == "scheduled" else "progress", senders)}
    if text := given.get("q"):
        hits = await Search(it.services.database, timeout=TIMEOUT, senders=senders).jobs(text, limit=MAX_BULK)
        found = {job.job_id for job in hits.items}
        if _SHORT_ID.fullmatch(text.upper()):
            found |= {*await queries.jobs_ending(text.upper())}
        ids = found if ids is None else ids & found
    return JobFilter(
        ids=ids, status=JobStatus(given["status"]) if "status" in given else None,
        sender=given["sender"].lower() if "sender" in given else None, since=_day(given.get("from", "")),
        until=_day(given.get("until", "")),
    )  # fmt: skip


async def doubts(it: ConsoleRequest) -> web.Response:
    """The page that unconfirmed messages had: links of old alerts name it."""
    return it.back("/jobs?tab=attention")


def progress_words(job: Job) -> Text:
    """How many have ended, and how: "31 sent, 29 cancelled of 60"."""
    counts = job.counts
    ended = [
        words
        for state, words in (
            (State.SENT, t("{n:,} sent", n=counts[State.SENT])),
            (State.FAILED, t("{n:,} failed", n=counts[State.FAILED])),
            (State.UNSURE, t("{n:,} unconfirmed", n=counts[State.UNSURE])),
            (State.CANCELLED, t("{n:,} cancelled", n=counts[State.CANCELLED])),
        )
        if counts[state] or state is State.SENT
    ]
    return t("{results} of {total:,}", results=joined(ended, ", "), total=job.total)


async def act(it: ConsoleRequest) -> web.Response:
    """Do one thing to several jobs: to those that are ticked, or to all that the filters find."""
    form = await read_form(it.http)
    given = _given(form.texts())
    here = f"/jobs?{urlencode(given)}" if given else "/jobs"
    change = {change.value: change for change in IN_BULK}.get(form.text("action"))
    ids = [each for each in form.all("job") if ULID.fullmatch(each)][:MAX_LISTED]
    if change is None or not (ids or form.text("all")):
        return it.back(here, t("Nothing was changed. Select at least one job."))
    it.require(Permission.CONTROL)
    if form.text("all"):
        only = await _filter(it, given)
        ids = [job.id for job in await it.services.jobs.newest(
            before=None, limit=MAX_BULK, senders=it.key.senders, only=only, counted=0
        )]  # fmt: skip
    done = messages = refused = 0
    for job_id in ids:
        job = await it.services.jobs.seen_by(it.key, job_id)
        if job is None:
            continue
        try:
            result = await apply(it, job, change)
        except ImpossibleRequestError:
            refused += 1
        else:
            done, messages = done + result.changed, messages + result.messages
    said = tn("{n:,} job changed.", "{n:,} jobs changed.", done)
    if messages:
        words = tn("{n:,} message is not sent.", "{n:,} messages are not sent.", messages)
        said = t("{done} {messages}", done=said, messages=words)
    if refused:
        said = t("{done} Not changed: {refused:,}.", done=said, refused=refused)
    return it.back(here, said)


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
