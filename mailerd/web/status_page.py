"""The first page: is it well? A light with its cause, the letters of the last while, and what comes next."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from aiohttp import web

from mailerd.core.forecast import ForecastInputs, compute_forecast, describe, summary, waiting_reason
from mailerd.core.i18n import Language, t
from mailerd.core.states import JobStatus, State, Tally
from mailerd.core.stats import QueueStats
from mailerd.errors import DatabaseError
from mailerd.store.console_queries import UnsureLetter
from mailerd.store.describe import SILENT
from mailerd.store.history import DaemonInfo
from mailerd.store.inbox.mailboxes import InboxState
from mailerd.store.jobs import Job, JobFilter
from mailerd.store.stats import TallyPoint
from mailerd.web.html import SHOWN, Chart, bars_of, said
from mailerd.web.inbox_page import read_inboxes
from mailerd.web.services import ConsoleRequest
from mailerd.web.troubles import PutOff, find_troubles, worst

MAX_OPEN_JOBS: Final = 6
"""Open jobs of each status that are listed."""
MAX_COUNTED: Final = 100_000
"""Letters that may be counted for the list."""
_RECENT: Final = timedelta(minutes=10)
_KNOWN: Final = timedelta(hours=1)
"""For how long the page names a daemon that fell silent."""
MIN_PUT_OFF: Final = 3
"""So many letters, and more than came to an end, have to be put off before it is trouble: in the last minute in which
any was tried, or in the last two."""
_TRIED: Final = timedelta(minutes=5)
"""How far back tries are looked at."""
PUT_OFF_SHARED: Final = 5.0
"""Seconds for which the reason is shared."""
SPANS: Final = {
    "1h": (timedelta(hours=1), timedelta(minutes=1), 60, 2),
    "24h": (timedelta(hours=24), timedelta(minutes=5), 288, 30),
    "14d": (timedelta(days=14), timedelta(hours=2), 168, 120),
}
"""The spans of the chart by name: how far back it goes, how wide a bar is, how many bars there are, and for how many
seconds a reading is shared."""
INBOXES_SHARED: Final = 10.0
"""Seconds for which the states of the inboxes are shared."""
_SPANS: Final = (t("1 h"), t("24 h"), t("14 d"))
DOUBTS_SHARED: Final = 10.0
"""Seconds for which the doubts of a limited key are shared."""
MAX_DOUBTS: Final = 1000
"""Doubts of a limited key that are counted."""
MAX_SENDERS: Final = 20
"""Senders that are listed."""
OPEN_JOBS_SHARED: Final = 3.0
"""Seconds for which the list of open jobs is shared."""


def spans_in(language: Language) -> dict[str, str]:
    """What the spans are called."""
    return {name: said(words, language) for name, words in zip(SPANS, _SPANS, strict=True)}


async def show(it: ConsoleRequest) -> web.Response:
    """The page; while the database is away it says so, and little else."""
    services = it.services
    stats, outage = services.stats(), services.outage()
    daemons: list[DaemonInfo] = []
    recent: list[TallyPoint] = []
    put_off: PutOff | None = None
    inboxes: list[InboxState] = []
    jobs: list[tuple[Job, str, str]] = []
    doubts: list[UnsureLetter] = []
    chosen = it.http.query.get("span", "1h")
    drawn = await chart_of(it, chosen if chosen in SPANS else "1h")
    try:
        daemons = await services.history.daemons(within=_KNOWN)
        recent = await services.tallies.minutes(_RECENT, senders=it.key.senders)
        put_off = await _put_off(it, stats) if stats else None
        known = await services.shared.get("inboxes", INBOXES_SHARED, lambda: read_inboxes(it))
        inboxes = [each for each in known if it.key.may_send(each.email)]
        jobs = await services.shared.get(("open jobs", it.key.senders), OPEN_JOBS_SHARED, lambda: _open_jobs(it))
        doubts = await _own_doubts(it)
    except DatabaseError as error:
        outage = outage or str(error)
    troubles = find_troubles(it.language, outage=outage, stats=_for_key(it, stats, doubts), daemons=daemons,
                             recent=recent, put_off=put_off, inboxes=inboxes,
                             jobs=[job for job, *_ in jobs])  # fmt: skip
    return it.page(
        "status.html", active="status", troubles=troubles, light=worst(troubles), stats=stats, chart_drawn=drawn,
        kinds=SHOWN, spans=spans_in(it.language), span_chosen=chosen, daemons=daemons, jobs=jobs,
        senders=it.senders(stats)[:MAX_SENDERS], silent_after=SILENT, live=True,
        alive=sum(one.silent <= SILENT for one in daemons),
    )  # fmt: skip


async def _put_off(it: ConsoleRequest, stats: QueueStats) -> PutOff | None:
    """What holds the letters up of senders that are not paused; a pause says so itself."""
    if not stats.recipients.get(State.WAITING):
        return None
    paused = {each.email for each in stats.paused}
    going = frozenset(each.email for each in it.senders(stats) if each.email not in paused)
    senders = going if paused else it.key.senders
    points = sorted(await it.services.tallies.minutes(_TRIED, senders=senders), key=lambda point: point.at)
    found = next((tried for many in (1, 2) if (tried := _mostly_put_off(points[-many:]))), None)
    if found is None:
        return None
    cause = await it.services.shared.get(
        ("put off", senders and frozenset(senders)), PUT_OFF_SHARED, lambda: it.services.queries.put_off(senders)
    )
    return PutOff(*found, cause.text, cause.example) if cause else None


def _mostly_put_off(points: Sequence[TallyPoint]) -> tuple[int, int] | None:
    """How many letters were put off, of how many that were tried; None: it is no trouble."""
    put_off, ended = (
        sum(point.counts.get(kind, 0) for point in points for kind in kinds)
        for kinds in ((Tally.PUT_OFF,), (Tally.SENT, Tally.FAILED))
    )
    return (put_off, put_off + ended) if put_off >= MIN_PUT_OFF and put_off > ended else None


_KINDS: Final = {
    Tally.SENT: t("Sent"), Tally.PUT_OFF: t("Deferred"), Tally.UNSURE: t("Unconfirmed"), Tally.BOUNCED: t("Bounced"),
    Tally.FAILED: t("Failed"),
}  # fmt: skip
"""What the kinds of the chart are called."""


async def chart_of(it: ConsoleRequest, span: str, senders: Sequence[str] | None = None) -> Chart:
    """The letters of a span of time, of these senders or of all that the key may see."""
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
    return cause, summary(forecast, now=it.now) if it.letters else ""


async def _own_doubts(it: ConsoleRequest) -> list[UnsureLetter]:
    """Unsure letters of the senders of a limited key; those of all senders are counted already."""
    mine = it.key.senders
    if mine is None:
        return []
    return await it.services.shared.get(
        ("doubts", mine), DOUBTS_SHARED, lambda: it.services.queries.doubts(limit=MAX_DOUBTS, senders=mine)
    )


def _for_key(it: ConsoleRequest, stats: QueueStats | None, doubts: Sequence[UnsureLetter]) -> QueueStats | None:
    """What the key may see of it."""
    if stats is None or it.key.senders is None:
        return stats
    since = min((one.since for one in doubts), default=stats.at)
    return QueueStats(
        at=stats.at, senders=tuple(it.senders(stats)), recipients={State.UNSURE: len(doubts)},
        oldest_unsure=max(0.0, (stats.at - since).total_seconds()),
    )  # fmt: skip
