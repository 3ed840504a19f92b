"""The charts of messages by time, of all senders, of some or of one job: their figures, and the
same as CSV.
"""

from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, Final
from urllib.parse import urlencode

from aiohttp import web

from mailerd.core.i18n import Language, t
from mailerd.core.states import Tally
from mailerd.errors import DatabaseError
from mailerd.http.errors import ApiError
from mailerd.http.responses import Rows, write_csv
from mailerd.store.read.job_report import CHARTED, JobReports
from mailerd.store.read.jobs import Job
from mailerd.store.read.stats import ROWS_PER_SECOND, TallyPoint
from mailerd.web.frame.charts import Bar, Chart, bars_of
from mailerd.web.frame.html import said
from mailerd.web.frame.services import TIMEOUT, ConsoleRequest

SPANS: Final = {
    "1h": (timedelta(hours=1), timedelta(minutes=1), 60, 2),
    "24h": (timedelta(hours=24), timedelta(minutes=5), 288, 30),
    "14d": (timedelta(days=14), timedelta(hours=2), 168, 120),
    "90d": (timedelta(days=90), timedelta(days=1), 90, 600),
}
"""The spans of the chart by name: how far back it goes, how wide a bar is, how many bars there are,
and for how many seconds a reading is shared.
"""
_SPANS: Final = (t("1 h"), t("24 h"), t("14 d"), t("90 d"))
_KINDS: Final = {
    Tally.SENT: t("Sent"),
    Tally.PUT_OFF: t("Deferred"),
    Tally.UNSURE: t("Unconfirmed"),
    Tally.BOUNCED: t("Bounced"),
    Tally.FAILED: t("Failed"),
    Tally.REPLIED: t("Replied"),
}
"""What the kinds of the chart are called."""
_LATEST_MINUTES: Final = timedelta(hours=24)
"""A longer span is drawn by the hours."""
UNKNOWN: Final = t("The figures of the chart could not be read. Try again in a minute.")


def spans_in(language: Language) -> dict[str, str]:
    """What the spans are called."""
    return {name: said(words, language) for name, words in zip(SPANS, _SPANS, strict=True)}


async def chart_of(it: ConsoleRequest, span: str, senders: Sequence[str] | None = None) -> Chart:
    """The messages of a span of time, of these senders or of all that the key may see."""
    back, step, many, seconds = SPANS[span]
    tallies, is_known = it.services.tallies, True
    only = senders if senders is not None else it.key.senders
    try:
        points = await it.services.shared.get(
            (span, only if only is None else frozenset(only)),
            seconds,
            lambda: (tallies.hours if back > _LATEST_MINUTES else tallies.minutes)(
                back, senders=only
            ),
        )
    except DatabaseError:
        points, is_known = [], False
    bars = bars_of(points, now=it.services.clock.now(), step=step, many=many)
    csv = "/chart.csv?" + urlencode([("sender", sender) for sender in senders or ()])
    return _chart(it, bars, step, csv=csv, is_known=is_known)


def _chart(it: ConsoleRequest, bars: Sequence[Bar], step: timedelta, **fields: Any) -> Chart:
    hidden = it.http.query.get("hide", "").split(",")
    names = {kind: said(words, it.language) for kind, words in _KINDS.items()}
    switched_off = frozenset(kind for kind in Tally if kind in hidden)
    return Chart(
        said(t("Messages by time"), it.language), bars, step, names, switched_off, **fields
    )


JOB_SPANS: Final = {"all": t("Until the last reply"), "sending": t("While sending")}
"""The spans of a job's chart by name."""
_STEPS: Final = tuple(
    timedelta(minutes=minutes) for minutes in (1, 5, 15, 60, 240, 1440, 10_080, 40_320)
)
_MOST_BARS: Final = 120
_FEWEST_BARS: Final = 30
"""So that a job of a minute has bars and times as others have."""


async def chart_of_job(it: ConsoleRequest, job: Job) -> Chart | None:
    """What was sent, bounced, failed and replied by the time; None: nothing was sent yet.

    It begins with the job, and ends with it or with the last reply; while the job is not finished,
    now.
    """
    if job.started_at is None:
        return None
    reports, seconds, points = (
        JobReports(it.services.database, TIMEOUT),
        job.total / ROWS_PER_SECOND,
        None,
    )
    with suppress(DatabaseError):
        points = await it.services.shared.get(
            ("chart", job.id), max(_JOB_SHARED, seconds), lambda: reports.by_minute(job.id)
        )
    end = job.finished_at or it.services.clock.now()
    if it.http.query.get("span") != "sending" and job.finished_at:
        end = max([end, *(point.at for point in points or ())])
    return _chart(
        it,
        *job_bars(points or (), job.started_at, end),
        csv=f"/jobs/{job.id}/chart.csv?",
        is_known=points is not None,
        shown=CHARTED,
    )


_JOB_SHARED: Final = 1.0
"""Seconds for which the figures of a job are shared at least."""


def job_bars(
    points: Sequence[TallyPoint], begin: datetime, end: datetime
) -> tuple[list[Bar], timedelta]:
    """The bars from a beginning to an end, and how wide they are."""
    step = next((step for step in _STEPS if (end - begin) / step < _MOST_BARS), _STEPS[-1])
    many = (
        int(end.timestamp() // step.total_seconds() - begin.timestamp() // step.total_seconds()) + 1
    )
    end += step * max(0, _FEWEST_BARS - many)
    return bars_of(points, now=end, step=step, many=max(many, _FEWEST_BARS)), step


async def results(it: ConsoleRequest) -> web.StreamResponse:
    """The figures of a chart as CSV: a line for each bar, its beginning in UTC.

    Raises:
        ApiError: 404, there is no such chart; 503, its figures cannot be read.
    """
    span, sender = it.http.query.get("span", ""), it.http.query.get("sender")
    if span not in SPANS or (sender is not None and not it.key.may_send(sender)):
        it.missing()
    drawn = await chart_of(it, span, None if sender is None else [sender])
    return await write_chart(it, drawn)


async def write_chart(it: ConsoleRequest, drawn: Chart) -> web.StreamResponse:
    """The figures of this chart.

    Raises:
        ApiError: 503, they cannot be read.
    """
    if not drawn.is_known:
        raise ApiError(503, "database_unavailable", UNKNOWN)

    async def pages() -> AsyncGenerator[Rows]:
        yield [
            (f"{bar.at:%Y-%m-%dT%H:%M:%SZ}", *(bar.counts.get(kind, 0) for kind in drawn.shown))
            for bar in drawn.bars
        ]

    return await write_csv(
        it.http, pages(), columns=("time", *drawn.shown), filename="messages.csv"
    )
