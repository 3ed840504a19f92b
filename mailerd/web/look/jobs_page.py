"""The list of jobs: by tab, text, sender, status and time; several are paused, resumed or cancelled
at once.
"""

import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import parse_qsl, quote, unquote, urlencode

from aiohttp import web

from mailerd.clock import ULID
from mailerd.core.i18n import N_, Text, joined, t, tn
from mailerd.core.states import ImpossibleRequestError, JobChange, JobStatus, State
from mailerd.operations import jobs
from mailerd.operations.jobs import UnknownJobError
from mailerd.store.read.jobs import Job, JobFilter
from mailerd.store.read.lookup import Search
from mailerd.store.write.api_keys import Permission
from mailerd.web.frame.forms import read_day, read_form
from mailerd.web.frame.services import MAX_LISTED, TIMEOUT, ConsoleRequest

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
    "": N_("All"),
    "progress": N_("In progress"),
    "scheduled": N_("Scheduled"),
    "attention": N_("Needs attention"),
}
_SHORT_ID: Final = re.compile("[0-9A-Z]{6}")
FIELDS: Final = ("tab", "q", "sender", "status", "from", "until")
"""What an address of the list may have: the filters."""
_YEAR: Final = 365 * 86_400
_MAX_KEPT: Final = 1000
"""Characters of the filters that a browser keeps."""


async def show(it: ConsoleRequest) -> web.Response:
    """A page of the list; without a query, that of the filters which this browser had last."""
    query, kept = it.http.query, f"mailerd-jobs-{it.key.id}"
    given, before = _given(query), query.get("before", "")
    if "all" in query:
        response = it.back(_address(tab=given.get("tab", "")))
        response.del_cookie(kept, path="/jobs")
        return response
    if (
        not query
        and not it.is_refresh
        and (last := _given(dict(parse_qsl(unquote(it.http.cookies.get(kept, ""))))))
    ):
        return it.back(_address(**last))
    only, tab, may_control = (
        await _filter(it, given),
        given.get("tab", ""),
        it.may(Permission.CONTROL),
    )
    found = await it.services.jobs.newest(
        before=before if ULID.fullmatch(before) else None,
        limit=MAX_LISTED + 1,
        senders=it.key.senders,
        only=only,
        counted=MAX_COUNTED,
    )
    shown, has_more, doubts, filters = (
        found[:MAX_LISTED],
        len(found) > MAX_LISTED,
        [],
        given.keys() - {"tab"},
    )
    if tab == "attention":  # a retry may have mended what failed
        shown = [job for job in shown if _needs_attention(job) or not sum(job.counts.values())]
        if not filters:
            doubts = await it.services.queries.doubts(limit=MAX_DOUBTS + 1, senders=it.key.senders)
    matching = found
    if may_control and (has_more or before or tab == "attention"):
        matching = await _matching(it, given, limit=MAX_BULK + 1)
    response = it.page(
        "jobs.html",
        active="jobs",
        jobs=shown,
        more=found[MAX_LISTED - 1].id if has_more else "",
        given=given,
        tab=tab,
        tabs=TABS,
        filtered=filters,
        statuses=list(JobStatus),
        address=_address,
        rest=urlencode(given),
        matching=len(matching),
        newest=matching[0].id if matching else "",
        most=MAX_BULK,
        progress_words=progress_words,
        doubts=doubts[:MAX_DOUBTS],
        more_doubts=len(doubts) > MAX_DOUBTS,
        senders=[each.email for each in it.senders(it.services.stats())],
        may_control=may_control,
        live=True,
    )
    if query.keys() >= set(FIELDS[1:]):  # the form was sent, which has them all; a link has one
        last_given = quote(urlencode({name: given[name] for name in sorted(filters)}))
        last_given = last_given if len(last_given) <= _MAX_KEPT else ""
        response.set_cookie(
            kept, last_given, max_age=_YEAR, path="/jobs", httponly=True, samesite="Lax"
        )
    return response


def _address(**given: str) -> str:
    """The address of the list with these filters."""
    query = urlencode({name: value for name, value in given.items() if value})
    return f"/jobs?{query}" if query else "/jobs"


def _needs_attention(job: Job) -> bool:
    return bool(job.counts[State.FAILED] or job.counts[State.UNSURE])


async def _matching(
    it: ConsoleRequest, given: Mapping[str, str], *, limit: int = MAX_BULK
) -> list[Job]:
    """What "all" means: what the filters find, but nothing that the list does not show."""
    is_counted = given.get("tab") == "attention"
    found = await it.services.jobs.newest(
        before=None,
        limit=limit,
        senders=it.key.senders,
        only=await _filter(it, given),
        counted=MAX_COUNTED if is_counted else 0,
    )
    return [job for job in found if not is_counted or _needs_attention(job)]


def _given(fields: Mapping[str, str]) -> dict[str, str]:
    """The filters, as they stand in an address or in a form; what is empty or unknown is left
    out.
    """
    given = {name: fields[name].strip() for name in FIELDS if fields.get(name, "").strip()}
    if given.get("status") == FAILURES:
        given["tab"] = "attention"
    known: dict[str, set[str]] = {"tab": set(TABS), "status": set(JobStatus)}
    return {name: value for name, value in given.items() if value in known.get(name, {value})}


async def _filter(it: ConsoleRequest, given: Mapping[str, str]) -> JobFilter:
    """The jobs that are meant: those of a tab and of a text are found first, of which there are
    few.
    """
    queries, senders = it.services.queries, it.key.senders
    ids: set[str] | None = None
    if (tab := given.get("tab")) == "attention":
        ids = {*await queries.open_jobs("unsure", senders), *await queries.failed_jobs()}
    elif tab:
        ids = {*await queries.open_jobs("scheduled" if tab == "scheduled" else "progress", senders)}
    if text := given.get("q"):
        hits = await Search(it.services.database, timeout=TIMEOUT, senders=senders).jobs(
            text, limit=MAX_BULK
        )
        found = {job.job_id for job in hits.items}
        if _SHORT_ID.fullmatch(text.upper()):
            found |= {*await queries.jobs_ending(text.upper())}
        ids = found if ids is None else ids & found
    return JobFilter(
        ids=ids,
        status=JobStatus(given["status"]) if "status" in given else None,
        sender=given["sender"].lower() if "sender" in given else None,
        since=read_day(given.get("from", ""), it.zone),
        until=read_day(given.get("until", ""), it.zone),
    )


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
    here = _address(**given)
    change = {change.value: change for change in IN_BULK}.get(form.text("action"))
    ids = [each for each in form.all("job") if ULID.fullmatch(each)][:MAX_LISTED]
    if change is None or not (ids or form.text("all")):
        return it.back(here, t("Nothing was changed. Select at least one job."))
    # of those that the page counted: who pressed the button knows of no later one
    if newest := form.text("all"):
        ids = [job.id for job in await _matching(it, given) if job.id <= newest]
    done = messages = refused = 0
    for job_id in ids:
        try:
            job = await jobs.find(it.caller, job_id)
            result = await jobs.act(it.caller, job, change)
        except UnknownJobError:
            continue
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
