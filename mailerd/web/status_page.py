"""The first page: a light with its cause, the messages of the last while, and what comes next."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Final

from aiohttp import web

from mailerd.core.forecast import ForecastInputs, compute_forecast, describe, summary, waiting_reason
from mailerd.core.i18n import Language, t
from mailerd.core.situation import Facts, shortened, situation, under_way, worst
from mailerd.core.states import JobStatus, State, Tally
from mailerd.core.stats import count_note
from mailerd.errors import DatabaseError
from mailerd.store.jobs import Job, JobFilter
from mailerd.web.html import SHOWN, Chart, bars_of, said
from mailerd.web.services import TIMEOUT, ConsoleRequest
from mailerd.web.troubles import Trouble

MAX_OPEN_JOBS: Final = 6
"""Open jobs of each status that are listed."""
MAX_COUNTED: Final = 100_000
"""Messages that may be counted for the list."""
SPANS: Final = {
    "1h": (timedelta(hours=1), timedelta(minutes=1), 60, 2),
    "24h": (timedelta(hours=24), timedelta(minutes=5), 288, 30),
    "14d": (timedelta(days=14), timedelta(hours=2), 168, 120),
}
"""The spans of the chart by name: how far back it goes, how wide a bar is, how many bars there are, and for how many
seconds a reading is shared."""
_SPANS: Final = (t("1 h"), t("24 h"), t("14 d"))
OWN_SHARED: Final = 10.0
"""Seconds for which it is shared how it goes with the senders of a limited key."""
MAX_SENDERS: Final = 20
"""Senders that are listed."""
OPEN_JOBS_SHARED: Final = 3.0
"""Seconds for which the list of open jobs is shared."""


def spans_in(language: Language) -> dict[str, str]:
    """What the spans are called."""
    return {name: said(words, language) for name, words in zip(SPANS, _SPANS, strict=True)}


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
        "status.html", active="overview", light=worst(found), well=stats and under_way(stats),
        troubles=[Trouble(each, each.about not in hidden) for each in shortened(found)],
        stats=stats, note=stats and count_note(stats), chart_drawn=None if hidden else drawn, kinds=SHOWN,
        spans=spans_in(it.language), span_chosen=chosen, jobs=jobs,
        daemons=stats.daemons if stats else (), senders=stats.senders[:MAX_SENDERS] if stats else (), live=True,
        alive=sum(one.runs for one in stats.daemons) if stats else 0,
    )  # fmt: skip


_KINDS: Final = {
    Tally.SENT: t("Sent"), Tally.PUT_OFF: t("Deferred"), Tally.UNSURE: t("Unconfirmed"), Tally.BOUNCED: t("Bounced"),
    Tally.FAILED: t("Failed"),
}  # fmt: skip
"""What the kinds of the chart are called."""


async def chart_of(it: ConsoleRequest, span: str, senders: Sequence[str] | None = None) -> Chart:
    """The messages of a span of time, of these senders or of all that the key may see."""
    back, step, many, seconds = SPANS[span]
    tallies = it.services.tallies
    only = senders if senders is not None else it.key.senders
    try:
        points = await it.services.shared.get(
            (span, only if only is None else frozenset(only)), seconds,
            lambda: (tallies.hours if span == "14d" else tallies.minutes)(back, senders=only),
        )  # fmt: skip
    except DatabaseError:
        points = []
    names = {kind: said(words, it.language) for kind, words in _KINDS.items()}
    return Chart(
        said(t("Messages by time"), it.language),
        bars_of(points, now=it.services.clock.now(), step=step, many=many),
        step,
        names,
    )


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
