"""The chart of messages by time, of all senders or of some: its figures, and the same as CSV."""

from collections.abc import AsyncGenerator, Sequence
from datetime import timedelta
from typing import Final
from urllib.parse import urlencode

from aiohttp import web

from mailerd.core.i18n import Language, t
from mailerd.core.states import Tally
from mailerd.errors import DatabaseError
from mailerd.http.errors import ApiError
from mailerd.http.responses import Rows, write_csv
from mailerd.web.charts import SHOWN, Chart, bars_of
from mailerd.web.html import said
from mailerd.web.services import ConsoleRequest

SPANS: Final = {
    "1h": (timedelta(hours=1), timedelta(minutes=1), 60, 2),
    "24h": (timedelta(hours=24), timedelta(minutes=5), 288, 30),
    "14d": (timedelta(days=14), timedelta(hours=2), 168, 120),
    "90d": (timedelta(days=90), timedelta(days=1), 90, 600),
}
"""The spans of the chart by name: how far back it goes, how wide a bar is, how many bars there are, and for how many
seconds a reading is shared."""
_SPANS: Final = (t("1 h"), t("24 h"), t("14 d"), t("90 d"))
_KINDS: Final = {
    Tally.SENT: t("Sent"), Tally.PUT_OFF: t("Deferred"), Tally.UNSURE: t("Unconfirmed"), Tally.BOUNCED: t("Bounced"),
    Tally.FAILED: t("Failed"),
}  # fmt: skip
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
            (span, only if only is None else frozenset(only)), seconds,
            lambda: (tallies.hours if back > _LATEST_MINUTES else tallies.minutes)(back, senders=only),
        )  # fmt: skip
    except DatabaseError:
        points, is_known = [], False
    hidden = it.http.query.get("hide", "").split(",")
    return Chart(
        said(t("Messages by time"), it.language),
        bars_of(points, now=it.services.clock.now(), step=step, many=many),
        step,
        {kind: said(words, it.language) for kind, words in _KINDS.items()},
        frozenset(kind for kind in SHOWN if kind in hidden),
        "/chart.csv?" + urlencode([("sender", sender) for sender in senders or ()]),
        is_known,
    )


async def results(it: ConsoleRequest) -> web.StreamResponse:
    """The figures of a chart as CSV: a line for each bar, its beginning in UTC.

    Raises:
        ApiError: 404, there is no such chart; 503, its figures cannot be read.
    """
    span, sender = it.http.query.get("span", ""), it.http.query.get("sender")
    if span not in SPANS or (sender is not None and not it.key.may_send(sender)):
        it.missing()
    drawn = await chart_of(it, span, None if sender is None else [sender])
    if not drawn.is_known:
        raise ApiError(503, "database_unavailable", UNKNOWN)

    async def pages() -> AsyncGenerator[Rows]:
        yield [(f"{bar.at:%Y-%m-%dT%H:%M:%SZ}", *(bar.counts.get(kind, 0) for kind in SHOWN)) for bar in drawn.bars]

    return await write_csv(it.http, pages(), columns=("time", *SHOWN), filename="messages.csv")
