"""What became of everybody in a job: one bar, and for each part of it a number, a share, a list and
an action.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from markupsafe import Markup

from mailerd.core.i18n import Text, t
from mailerd.core.labels import label
from mailerd.core.results import MessageOutcome
from mailerd.core.states import State
from mailerd.errors import DatabaseError
from mailerd.locale import say
from mailerd.store.read.job_report import JobReports, outcomes
from mailerd.store.read.jobs import Job
from mailerd.web.frame.services import TIMEOUT, ConsoleRequest

SHARED: Final = 10.0
"""Seconds for which what came back of a job is shared by all who look."""
ACTIONS: Final[Mapping[str, tuple[str, Text]]] = {
    MessageOutcome.FAILED: ("retry", t("Retry failed messages")),
    MessageOutcome.BOUNCED_SOFT: ("retry-soft", t("Retry soft bounces")),
    MessageOutcome.UNSURE: ("look", t("Check unconfirmed now")),
}
"""The one thing that can be done about a part: its button."""


@dataclass(frozen=True)
class ReportPart:
    """The messages of one outcome."""

    name: str
    """The outcome: a tab of the page. "sent": what came back could not be counted in time."""
    messages: int
    share: str
    """Of all messages of the job, in per cent."""


async def read_parts(it: ConsoleRequest, job: Job) -> list[ReportPart]:
    """The parts that are not empty; together they are the whole job."""
    place, reports = (
        ("results", job.id, job.bounced, job.replied),
        JobReports(it.services.database, TIMEOUT),
    )
    names, results = {}, dict[MessageOutcome, int]()
    try:
        results = await it.services.shared.get(place, SHARED, lambda: reports.results(job.id))
    except DatabaseError:
        names = {MessageOutcome.NO_REPLY: State.SENT.value}
    return [
        ReportPart(names.get(outcome, outcome.value), number, _percent(number, job.total))
        for outcome, number in outcomes(job, results).items()
        if number
    ]


def _percent(number: int, total: int) -> str:
    share = 100 * number / max(1, total)
    return "< 0.1 %" if share < 0.1 else f"{share:.3g} %"  # noqa: PLR2004 - what is less rounds to nothing


async def read_unsubscribed(it: ConsoleRequest, job: Job) -> int:
    """How many people unsubscribed by a message of the job."""
    reports = JobReports(it.services.database, TIMEOUT)
    return await it.services.shared.get(
        ("unsubscribed", job.id), SHARED, lambda: reports.unsubscribed(job.id)
    )


def bar_svg(parts: Sequence[ReportPart], it: ConsoleRequest) -> Markup:
    """The parts side by side, each as wide as its share and with its figures as a tooltip."""
    total, left, shown = sum(part.messages for part in parts) or 1, 0.0, list[Markup]()
    figures = [
        f"{say(label(part.name), it.language)} {part.messages:,} ({part.share})" for part in parts
    ]
    for part, text in zip(parts, figures, strict=True):
        wide = 100 * part.messages / total
        shown.append(
            Markup(
                '<rect class="o-{}" x="{}" y="0" width="{}" height="6"><title>{}</title></rect>'
            ).format(part.name, f"{left:.2f}", f"{wide:.2f}", text)
        )
        left += wide
    return Markup(
        '<svg class="progress report" viewBox="0 0 100 6" preserveAspectRatio="none" role="img" aria-label="{}">'
        "{}</svg>"
    ).format(", ".join(figures), Markup("").join(shown))
