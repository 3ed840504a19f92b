"""The first page: how it goes with the one thing to do, four numbers, a chart, and what comes
next.
"""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Final

from aiohttp import web

from mailerd.core.forecast import (
    ForecastInputs,
    compute_forecast,
    describe,
    summary,
    waiting_reason,
)
from mailerd.core.situation import under_way
from mailerd.core.states import JobStatus, State, Tally
from mailerd.core.stats import count_note
from mailerd.errors import DatabaseError
from mailerd.store.read.jobs import Job, JobFilter
from mailerd.web.frame.services import ConsoleRequest
from mailerd.web.frame.troubles import Trouble
from mailerd.web.look.chart_page import SPANS, chart_of, spans_in
from mailerd.web.look.status_page import hidden_from, seen_facts, troubles_for

MAX_OPEN_JOBS: Final = 6
"""Open jobs of each status that are listed."""
MAX_COUNTED: Final = 100_000
"""Messages that may be counted for the list."""
MAX_SENDERS: Final = 20
"""Senders that are listed."""
MAX_REPLIES: Final = 5
OPEN_JOBS_SHARED: Final = 3.0
"""Seconds for which the list of open jobs is shared."""
DAYS_SHARED: Final = 10.0
"""Seconds for which the numbers of today and yesterday are shared."""


async def show(it: ConsoleRequest) -> web.Response:
    """The page; while the database is away it says so, and little else; before the first job, how
    to begin.
    """
    facts, jobs, days, replies = await seen_facts(it), [], {}, []
    try:
        jobs = await it.services.shared.get(
            ("open jobs", it.key.senders), OPEN_JOBS_SHARED, lambda: _open_jobs(it)
        )
        is_known = jobs or (facts.stats and facts.stats.senders)
        if not is_known and not await it.services.jobs.newest(
            before=None, limit=1, senders=it.key.senders
        ):
            return await _begin(it, troubles_for(it, facts))
        days = await _days(it)
        replies = await it.services.shared.get(
            ("replies", it.key.senders),
            DAYS_SHARED,
            lambda: it.services.queries.latest_replies(limit=MAX_REPLIES, senders=it.key.senders),
        )
    except DatabaseError:
        facts = replace(facts, outage=it.services.outage(), unknown_for=facts.unknown_for or 1)
    chosen, stats, hidden = it.http.query.get("span", "1h"), facts.stats, hidden_from(facts)
    drawn = await chart_of(it, chosen if chosen in SPANS else "1h")
    return it.page(
        "overview.html",
        active="overview",
        well=stats and under_way(stats),
        troubles=troubles_for(it, facts),
        stats=stats,
        note=stats and count_note(stats),
        days={} if hidden else days,
        replies=replies,
        chart_drawn=None if hidden else drawn,
        spans=spans_in(it.language),
        span_chosen=chosen,
        jobs=jobs,
        senders=stats.senders[:MAX_SENDERS] if stats else (),
        live=True,
    )


async def _begin(it: ConsoleRequest, found: Sequence[Trouble]) -> web.Response:
    """The three steps of an installation that has sent nothing yet; and what would keep it from
    sending.
    """
    library = it.library
    has_template = bool(await library.stored() or await asyncio.to_thread(library.names))
    return it.page(
        "begin.html",
        active="overview",
        live=True,
        troubles=found,
        authorized=bool(await asyncio.to_thread(it.services.credential_owners)),
        has_template=has_template,
    )


async def _days(it: ConsoleRequest) -> dict[str, tuple[int, int]]:
    """What was sent, what bounced and who replied, today and yesterday, in the reader's zone."""
    today, senders = it.services.clock.now().astimezone(it.zone), it.key.senders
    today = today.replace(hour=0, minute=0, second=0, microsecond=0)
    yesterday = today - timedelta(days=1)  # by the calendar: 23 or 25 hours, where clocks change
    # one that began before midnight, where a zone is half an hour off, is the new day's
    hour = timedelta(hours=1)

    async def read() -> dict[str, tuple[int, int]]:
        now, before = Counter[Tally](), Counter[Tally]()
        for each in await it.services.tallies.hours(timedelta(hours=50), senders=senders):
            if each.at > today - hour:
                now.update(each.counts)
            elif each.at > yesterday - hour:
                before.update(each.counts)
        return {
            kind.value: (now[kind], before[kind])
            for kind in (Tally.SENT, Tally.BOUNCED, Tally.REPLIED)
        }

    return await it.services.shared.get(("days", senders, today), DAYS_SHARED, read)


async def _open_jobs(it: ConsoleRequest) -> list[tuple[Job, str, str]]:
    """Open jobs, why each waits, and what the next hours bring it."""
    found: list[Job] = []
    for status in (JobStatus.SENDING, JobStatus.QUEUED, JobStatus.PAUSED):
        found += await it.services.jobs.newest(
            before=None,
            limit=MAX_OPEN_JOBS,
            senders=it.key.senders,
            only=JobFilter(status=status),
            counted=MAX_COUNTED,
        )
    waiting = [job.id for job in found if job.counts[State.WAITING] or job.counts[State.UNSURE]]
    inputs = await it.services.forecasts.read_all(waiting) if waiting else {}
    return [
        (job, *_outlook(inputs[job.id])) if job.id in inputs else (job, "", "") for job in found
    ]


def _outlook(it: ForecastInputs) -> tuple[str, str]:
    forecast = compute_forecast(it)
    cause = waiting_reason(it, forecast)
    if cause is None or forecast.until:  # then both would say the same
        return "", describe(it, forecast)
    return cause, summary(forecast, now=it.now) if it.messages else ""
