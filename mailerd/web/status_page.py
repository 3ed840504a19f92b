"""The first page: a light with its cause, the messages of the last while, and what comes next."""

from dataclasses import replace
from typing import Final

from aiohttp import web

from mailerd.core.forecast import ForecastInputs, compute_forecast, describe, summary, waiting_reason
from mailerd.core.situation import Facts, shortened, situation, under_way, worst
from mailerd.core.states import JobStatus, State
from mailerd.core.stats import count_note
from mailerd.errors import DatabaseError
from mailerd.store.jobs import Job, JobFilter
from mailerd.web.chart_page import SPANS, chart_of, spans_in
from mailerd.web.charts import SHOWN
from mailerd.web.services import TIMEOUT, ConsoleRequest
from mailerd.web.troubles import Trouble

MAX_OPEN_JOBS: Final = 6
"""Open jobs of each status that are listed."""
MAX_COUNTED: Final = 100_000
"""Messages that may be counted for the list."""
OWN_SHARED: Final = 10.0
"""Seconds for which it is shared how it goes with the senders of a limited key."""
MAX_SENDERS: Final = 20
"""Senders that are listed."""
OPEN_JOBS_SHARED: Final = 3.0
"""Seconds for which the list of open jobs is shared."""


async def show(it: ConsoleRequest) -> web.Response:
    """The page; while the database is away it says so, and little else."""
    facts, jobs = it.services.facts(), list[tuple[Job, str, str]]()
    chosen = it.http.query.get("span", "1h")
    drawn = await chart_of(it, chosen if chosen in SPANS else "1h")
    try:
        jobs = await it.services.shared.get(("open jobs", it.key.senders), OPEN_JOBS_SHARED, lambda: _open_jobs(it))
        facts = await facts_for(it)
    except DatabaseError:
        facts = replace(facts, stats=facts.stats if it.key.senders is None else None, outage=it.services.outage(),
                        unknown_for=facts.unknown_for or 1)  # fmt: skip
    found, stats = situation(facts), facts.stats
    hidden = (
        {f"{kind} {each.email}" for each in stats.senders if each.alias for kind in ("sender", "inbox")}
        if stats
        else ()
    )
    return it.page(
        "status.html", active="status", light=worst(found), well=stats and under_way(stats),
        troubles=[Trouble(each, each.about not in hidden) for each in shortened(found)],
        stats=stats, note=stats and count_note(stats), chart_drawn=None if hidden else drawn, kinds=SHOWN,
        spans=spans_in(it.language), span_chosen=chosen, jobs=jobs,
        daemons=stats.daemons if stats else (), senders=stats.senders[:MAX_SENDERS] if stats else (), live=True,
        alive=sum(one.runs for one in stats.daemons) if stats else 0,
    )  # fmt: skip


async def _open_jobs(it: ConsoleRequest) -> list[tuple[Job, str, str]]:
    """Open jobs, why each waits, and what the next hours bring it."""
    found: list[Job] = []
    for status in (JobStatus.SENDING, JobStatus.QUEUED, JobStatus.PAUSED):
        found += await it.services.jobs.newest(
            before=None, limit=MAX_OPEN_JOBS, senders=it.key.senders, only=JobFilter(status=status),
            counted=MAX_COUNTED,
        )  # fmt: skip
    waiting = [job.id for job in found if job.counts[State.WAITING] or job.counts[State.UNSURE]]
    inputs = await it.services.forecasts.read_all(waiting) if waiting else {}
    return [(job, *_outlook(inputs[job.id])) if job.id in inputs else (job, "", "") for job in found]


def _outlook(it: ForecastInputs) -> tuple[str, str]:
    forecast = compute_forecast(it)
    cause = waiting_reason(it, forecast)
    if cause is None or forecast.until:  # then both would say the same
        return "", describe(it, forecast)
    return cause, summary(forecast, now=it.now) if it.messages else ""


async def facts_for(it: ConsoleRequest) -> Facts:
    """How it goes, as far as the key may see it.

    Raises:
        DatabaseError: it cannot be read.
    """
    facts, mine = it.services.facts(), it.key.senders
    if mine is None or facts.stats is None:
        return facts
    own = await it.services.shared.get(
        ("facts", mine), OWN_SHARED, lambda: it.services.stats_reader.read_of(mine, bound=TIMEOUT)
    )
    return replace(facts, stats=own)
